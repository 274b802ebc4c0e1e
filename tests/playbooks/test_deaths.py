"""Any dialogue, ended anywhere: nothing stays leased, and nobody gets another one's state."""

from collections import deque
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION
from tests.playbooks.stage import COPY_IN, ROW, Client, Stage, Transport, error, letters
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    parse,
    query,
)

TAGS: Final = {
    STATUS_IDLE: write.READY_IDLE,
    STATUS_IN_TRANSACTION: write.READY_IN_TRANSACTION,
    STATUS_FAILED: write.READY_FAILED,
}


class Postgres:
    """One server process: answers what it is sent, and notices what could never be right."""

    def __init__(self, transport: Transport, *, is_standby: bool) -> None:
        self.transport = transport
        self.is_standby = is_standby
        self.unread = b""
        self.messages: deque[tuple[str, bytes]] = deque()
        self.status = STATUS_IDLE
        self.ignoring = False
        self.copying = ""  # the kind of the message that began it
        self.prepared: dict[bytes, bytes] = {}
        self.portal = b""

    def read(self) -> None:
        self.unread += self.transport.take()
        while len(self.unread) >= 5:
            end = 1 + int.from_bytes(self.unread[1:5], "big")
            if len(self.unread) < end:
                return
            self.messages.append((chr(self.unread[0]), self.unread[5:end]))
            self.unread = self.unread[end:]

    @property
    def is_clean(self) -> bool:
        """Ready for anybody: asked nothing, in no transaction, in no copy. Flush has no answer."""
        return (
            all(kind == "H" for kind, _ in self.messages)
            and not self.unread
            and self.status == STATUS_IDLE
            and not self.ignoring
            and not self.copying
        )

    def answer(self) -> bytes:
        """To the oldest message."""
        kind, body = self.messages.popleft()
        if self.copying:
            return self._in_copy(kind)
        if self.ignoring and kind != "S":
            return b""
        if kind == "S":
            self.ignoring = False
            return TAGS[self.status]
        if kind == "Q":
            self.prepared.pop(b"", None)
            answer = self._run(body[:-1], kind)
            return answer if self.copying else answer + TAGS[self.status]
        if kind in "dcfH":
            return b""
        answer = self._extended(kind, body)
        self.ignoring = answer[:1] == b"E"
        return answer

    def _extended(self, kind: str, body: bytes) -> bytes:
        if kind == "P":
            name, text, _ = body.split(b"\0", 2)
            self.prepared.pop(b"", None)
            if b"broken" in text:
                return self._fail("42601")
            assert name not in self.prepared, "prepared twice"
            self.prepared[name] = text
            return write.PARSE_COMPLETE
        if kind == "B":
            name = body.split(b"\0", 2)[1]
            if name not in self.prepared:
                return self._fail("26000")
            self.portal = self.prepared[name]
            return write.BIND_COMPLETE
        if kind == "D":
            return write.NO_PARAMETERS + write.NO_DATA if body[:1] == b"S" else write.NO_DATA
        if kind == "C":
            self.prepared.pop(body[1:-1], None)
            return write.CLOSE_COMPLETE
        assert kind == "E", kind
        return self._run(self.portal, kind)

    def _run(self, text: bytes, kind: str) -> bytes:
        word = text.split()[0].decode()
        if word in ("COMMIT", "ROLLBACK"):
            failed = self.status == STATUS_FAILED
            self.status = STATUS_IDLE
            return write.command_complete(b"ROLLBACK" if failed else word.encode())
        if self.status == STATUS_FAILED:
            return self._fail("25P02")
        if self.is_standby and word in ("INSERT", "COPY"):
            return self._fail("25006")
        if "fail" in text.decode() or word == "pgproxy":
            return self._fail("42P01")
        if word == "BEGIN":
            self.status = STATUS_IN_TRANSACTION
        if word == "DISCARD":
            self.prepared.clear()
        if word == "COPY":
            self.copying = kind
            return COPY_IN
        return ROW if word == "SELECT" else write.command_complete(word.encode())

    def _in_copy(self, kind: str) -> bytes:
        assert kind in "dcfSH", f"{kind} in copy-in mode"
        if kind in "dSH":
            return b""
        by_query = self.copying == "Q"
        self.copying = ""
        answer = self._fail("57014") if kind == "f" else write.command_complete(b"COPY 1")
        if by_query:
            return answer + TAGS[self.status]
        self.ignoring = kind == "f"
        return answer

    def _fail(self, sqlstate: str) -> bytes:
        if self.status == STATUS_IN_TRANSACTION:
            self.status = STATUS_FAILED
        return error("no", sqlstate)


TEXTS: Final = [
    "SELECT 1",
    "SELECT fail",
    "INSERT INTO t VALUES (1)",
    "INSERT INTO fail VALUES (1)",
    "BEGIN",
    "BEGIN READ ONLY",
    "COMMIT",
    "ROLLBACK",
    "SET work_mem = 1",
    "SET pgproxy.route = 'replica'",
    "SHOW pgproxy.route",
    "SELECT broken FROM",
]
COPY: Final = "COPY t FROM STDIN"
# By a name that nothing else executes: whoever begins a copy must send its data.
PREPARED_COPY: Final = close("S", "c") + parse(COPY, "c") + bind(statement="c") + execute()
texts = st.sampled_from(TEXTS)
names = st.sampled_from(["a", "b"])
copy_ends = st.sampled_from([COPY_DONE, copy_fail("no")])

parts = st.one_of(
    texts.map(lambda text: parse(text) + bind() + execute()),
    st.builds(lambda name, text: close("S", name) + parse(text, name), names, texts),
    st.builds(lambda name: bind(statement=name) + execute(), names),
    st.builds(lambda name: describe("S", name), names),
    st.just(bind() + execute()),
    st.just(FLUSH),
    copy_ends.map(lambda end: PREPARED_COPY + copy_data(b"1\n") + end),
)
dialogues = st.lists(
    st.one_of(
        texts.map(query),
        texts.map(query),
        st.lists(parts, max_size=4).map(lambda inside: b"".join(inside) + SYNC),
        copy_ends.map(lambda end: query(COPY) + copy_data(b"1\n2\n") + end),
    ),
    max_size=6,
).map(b"".join)


class World:
    def __init__(self, scripts: list[bytes], *, size: int, max_prepared: int) -> None:
        self.stage = Stage(size=size, max_prepared=max_prepared)
        self.clients = [(self.stage.client(), deque(script)) for script in scripts]
        self.expected = {
            id(client): letters(script).count("Q") + letters(script).count("S")
            for (client, _), script in zip(self.clients, scripts, strict=True)
        }
        self.processes: dict[int, Postgres] = {}
        self.received = dict.fromkeys(self.expected, b"")

    def alive(self) -> list[tuple[Client, "deque[int]"]]:
        return [entry for entry in self.clients if not entry[0].own_transport.closed]

    def servers(self) -> list[Postgres]:
        for name, server in self.stage.servers.items():
            for _, transport in server.connections:
                new = Postgres(transport, is_standby=name != "p")
                self.processes.setdefault(id(transport), new).read()
        return [one for one in self.processes.values() if not one.transport.closed]

    def send(self, client: Client, script: "deque[int]", size: int) -> None:
        client >> bytes([script.popleft() for _ in range(min(size, len(script)))])

    def answer(self, server: Postgres, count: int, cut: int) -> None:
        answer = b""
        for _ in range(min(count, len(server.messages))):
            answer += server.answer()
        for chunk in (answer[:cut], answer[cut:]):
            if chunk and not server.transport.closed:
                server.transport.protocol.data_received(chunk)
                self.stage.settle()

    def check(self) -> None:
        self.stage.check()
        servers = {id(one.transport): one for one in self.servers()}
        for pool in self.stage.pools:
            for slot in pool.ledger.idle:
                process = servers[id(slot.transport)]  # type: ignore[attr-defined]
                assert process.is_clean, "one who has not finished was released"

    def finish(self) -> None:
        """Those who are alive get all their answers."""
        for _ in range(500):
            busy = False
            for client, script in self.alive():
                if script:
                    busy = True
                    self.send(client, script, len(script))
            for server in self.servers():
                if server.messages:
                    busy = True
                    self.answer(server, 99, 10**9)
            self.check()
            # What is kept by a pin or in a transaction is let go of by those who are done.
            if not busy:
                waiting = any(pool.ledger.waiting for pool in self.stage.pools)
                if not waiting:
                    break
                holder = next(
                    client
                    for client, script in self.alive()
                    if client.relay.server is not None and not script
                )
                self.expect_all_answered(holder)
                holder >> TERMINATE
        for client, _ in self.alive():
            self.expect_all_answered(client)
        self.stage.close()

    def expect_all_answered(self, client: Client) -> None:
        answers = letters(client.take())
        assert answers.count("Z") == self.expected[id(client)], answers


@settings(max_examples=200)
@given(st.data())
def test_whoever_dies_whenever(data: st.DataObject) -> None:
    world = World(
        data.draw(st.lists(dialogues, min_size=1, max_size=3), "scripts"),
        size=data.draw(st.integers(1, 2), "size"),
        max_prepared=data.draw(st.sampled_from([1, 100]), "max_prepared"),
    )
    for _ in range(data.draw(st.integers(0, 40), "steps")):
        alive, servers = world.alive(), world.servers()
        step = data.draw(st.sampled_from(["send"] * 5 + ["answer"] * 5 + ["die", "lose", "cancel"]))
        if step == "answer" and servers:
            server = data.draw(st.sampled_from(servers))
            world.answer(server, data.draw(st.integers(1, 5)), data.draw(st.integers(0, 30)))
        elif step == "lose" and servers:
            data.draw(st.sampled_from(servers)).transport.close()
            world.stage.settle()
        elif alive:
            client, script = data.draw(st.sampled_from(alive))
            if step == "send" and script:
                world.send(client, script, data.draw(st.sampled_from([1, 7, 30, 100, 1000])))
            elif step == "die":
                client.leaves()
            elif step == "cancel":
                client.relay.cancels.ask()
                world.stage.settle()
        world.check()
    world.finish()
