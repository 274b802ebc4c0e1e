"""Random histories of transactions that begin on a replica, in a simulated world.

Three clients, each with a table of its own, say what Hypothesis draws; the replicas lag. Every client
gets the answers that a single server would give, every acknowledged write is there once, no replica
is asked to write, and what is read before a transaction's first write is read on a replica.
"""

import re
import time
from dataclasses import dataclass, field
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.routing.decision import REPLICA
from tests.playbooks.stage import Client, Stage, Transport, error
from tests.support.wire import query

BEGINS: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "BEGIN READ WRITE, ISOLATION LEVEL READ COMMITTED",
)
CLIENTS: Final = 3


@dataclass
class Truth:
    """What has been committed, in order: (client, number)."""

    rows: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Process:
    """A server process that knows as much SQL as is said here. `seen`: rows of a standby."""

    truth: Truth
    seen: list[tuple[int, int]] | None = None
    status: int = STATUS_IDLE
    pending: list[tuple[int, int]] = field(default_factory=list)
    savepoints: list[tuple[str, int]] = field(default_factory=list)
    written: int = 0  # statements that were asked to write
    selected: int = 0

    def answer(self, text: str) -> bytes:
        """To one Query."""
        answers = b""
        for statement in filter(None, map(str.strip, text.split(";"))):
            answer = self._execute(statement)
            answers += answer
            if answer[:1] == b"E":
                if self.status == STATUS_IDLE:
                    self.pending.clear()
                else:
                    self.status = STATUS_FAILED
                break
        if self.status == STATUS_IDLE:
            self._commit()
        return answers + write.ready_for_query(self.status)

    def _execute(self, statement: str) -> bytes:
        word = statement.split(maxsplit=1)[0].upper()
        if self.status == STATUS_FAILED and word not in ("COMMIT", "ROLLBACK"):
            return error("aborted", "25P02")
        if word == "BEGIN":
            if "READ WRITE" in statement and self.seen is not None:
                return error("cannot set transaction read-write mode during recovery", "0A000")
            self.status = STATUS_IN_TRANSACTION
            return write.command_complete(b"BEGIN")
        if word == "SELECT":
            return self._select(statement)
        if word == "INSERT":
            self.written += 1
            if self.seen is not None:
                return error("cannot execute INSERT in a read-only transaction", "25006")
            client, number = map(int, re.findall(r"\d+", statement))
            self.pending.append((client, number))
            return write.command_complete(b"INSERT 0 1")
        return self._end(word, statement) or self._savepoint(
            word, statement.rsplit(maxsplit=1)[-1].strip('"')
        )

    def _select(self, statement: str) -> bytes:
        if "/" in statement:
            return error("division by zero", "22012")
        if "false" in statement:
            return write.row_description([b"n"]) + write.command_complete(b"SELECT 0")
        self.selected += 1
        client = int(re.findall(r"\d+", statement)[0])
        rows = (self.truth.rows if self.seen is None else self.seen) + self.pending
        numbers = [b"%d" % number for owner, number in rows if owner == client]
        return (
            write.row_description([b"n"])
            + b"".join(write.data_row([number]) for number in numbers)
            + write.command_complete(b"SELECT %d" % len(numbers))
        )

    def _end(self, word: str, statement: str) -> bytes:
        if word not in ("COMMIT", "ROLLBACK") or " TO " in statement:
            return b""
        commits = word == "COMMIT" and self.status != STATUS_FAILED
        if not commits:
            self.pending.clear()
        self._commit()
        self.status = STATUS_IN_TRANSACTION if "CHAIN" in statement else STATUS_IDLE
        return write.command_complete(b"COMMIT" if commits else b"ROLLBACK")

    def _commit(self) -> None:
        self.truth.rows += self.pending
        self.pending.clear()
        self.savepoints.clear()

    def _savepoint(self, word: str, name: str) -> bytes:
        if word == "SAVEPOINT":
            self.savepoints.append((name, len(self.pending)))
            return write.command_complete(b"SAVEPOINT")
        names = [one for one, _ in self.savepoints]
        if name not in names:
            return error(f'savepoint "{name}" does not exist', "3B001")
        at = len(names) - 1 - names[::-1].index(name)
        if word == "RELEASE":
            del self.savepoints[at:]
            return write.command_complete(b"RELEASE")
        del self.pending[self.savepoints[at][1] :]
        del self.savepoints[at + 1 :]
        self.status = STATUS_IN_TRANSACTION
        return write.command_complete(b"ROLLBACK")


class World:
    """The stage with such servers, and for each client one that it would have for itself."""

    def __init__(self) -> None:
        self.stage = Stage(replicas=2, size=CLIENTS, until_write=True, watermark="session")
        self.truth = Truth()
        self.seen: dict[str, list[tuple[int, int]]] = {"r1": [], "r2": []}
        self.processes: dict[Transport, Process] = {}
        self.clients = [self.stage.client() for _ in range(CLIENTS)]
        self.alone = [Process(Truth()) for _ in range(CLIENTS)]
        self.owed = [b""] * CLIENTS

    def replay(self, name: str) -> None:
        """The replica catches up."""
        self.seen[name][:] = self.truth.rows
        self.stage.cluster.fresh(name, time.monotonic())

    def say(self, number: int, *statements: str) -> None:
        client = self.clients[number]
        client >> b"".join(query(statement) for statement in statements)
        self.owed[number] += b"".join(map(self.alone[number].answer, statements))

    def work(self) -> None:
        """All servers answer all they are asked."""
        worked = True
        while worked:
            worked = False
            for name, server in self.stage.servers.items():
                for _, transport in server.connections:
                    asked = transport.take()
                    if not asked or transport.closed:
                        continue
                    worked = True
                    process = self.processes.setdefault(
                        transport, Process(self.truth, self.seen.get(name))
                    )
                    transport.protocol.data_received(b"".join(map(process.answer, _texts(asked))))
                    self.stage.settle()

    def check(self) -> None:
        for number, client in enumerate(self.clients):
            expected, self.owed[number] = self.owed[number], b""
            client << expected
        self.stage.check()

    def on_replicas(self) -> list[Process]:
        return [process for process in self.processes.values() if process.seen is not None]


def _texts(asked: bytes) -> list[str]:
    found = []
    while asked:
        end = 1 + int.from_bytes(asked[1:5], "big")
        assert asked[:1] == b"Q"
        found.append(asked[5 : end - 1].decode())
        asked = asked[end:]
    return found


READS: Final = ("SELECT n FROM t{c}", "SELECT n FROM t{c}", "SELECT n FROM t{c}")
WRITES: Final = ("INSERT INTO t{c} VALUES ({n})",)
ENDS: Final = ("COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN")
OTHERS: Final = (
    *("SAVEPOINT a", "SAVEPOINT b", "RELEASE a", "ROLLBACK TO a", "ROLLBACK TO a", "ROLLBACK TO b"),
    *("SELECT 1/0", "SELECT 1/0"),
    "ROLLBACK TO a; INSERT INTO t{c} VALUES ({n})",
    "ROLLBACK; INSERT INTO t{c} VALUES ({n})",
    "COMMIT; INSERT INTO t{c} VALUES ({n})",
    "SAVEPOINT a; SELECT 1/0",
)
# What is drawn together is told apart from a wrong answer more often than what is drawn alone.
PARTS: Final = st.one_of(
    *(
        st.sampled_from(texts).map(lambda text: (text,))
        for texts in (READS, OTHERS, READS + WRITES)
    ),
    st.just(("SAVEPOINT a", READS[0])),
    st.just((WRITES[0], "ROLLBACK TO a", READS[0])),
    st.just((READS[0], "SELECT 1/0", "COMMIT; INSERT INTO t{c} VALUES ({n})")),
)


@st.composite
def transactions(draw: st.DrawFn) -> list[str]:
    parts = draw(st.lists(PARTS, max_size=6))
    inner = [text for part in parts for text in part]
    return [draw(st.sampled_from(BEGINS)), *inner, draw(st.sampled_from(ENDS)), "ROLLBACK"]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[str], str]]:
    """Who says what in one write, and which replica catches up then."""
    texts = [
        [text for _ in range(draw(st.integers(1, 3))) for text in draw(transactions())]
        for _ in range(CLIENTS)
    ]
    steps = []
    number = 0
    while any(texts):
        client = draw(st.sampled_from([c for c in range(CLIENTS) if texts[c]]))
        taken = draw(st.integers(1, 3))
        now, texts[client] = texts[client][:taken], texts[client][taken:]
        number += 1
        told = [text.format(c=client, n=number * 10 + at) for at, text in enumerate(now)]
        steps.append((client, told, draw(st.sampled_from(["", "", "r1", "r2"]))))
    return steps


@given(history=histories())
def test_as_a_single_server(history: list[tuple[int, list[str], str]]) -> None:
    world = World()
    world.replay("r1")
    for number, statements, replica in history:
        world.say(number, *_without_warnings(world.alone[number], statements))
        world.work()
        world.check()
        if replica:
            world.replay(replica)
    for number, alone in enumerate(world.alone):
        assert [row for row in world.truth.rows if row[0] == number] == alone.truth.rows
    assert not any(process.written for process in world.on_replicas())
    world.stage.close()


def _without_warnings(alone: Process, statements: list[str]) -> list[str]:
    """Without what is refused or warned of outside of a transaction, and BEGIN inside."""
    kept = []
    is_open = alone.status != STATUS_IDLE
    for statement in statements:
        if statement.startswith("BEGIN") == is_open and not statement.startswith(("SEL", "INS")):
            continue
        kept.append(statement)
        if statement.startswith("BEGIN"):
            is_open = True
        elif statement.startswith(("COMMIT", "ROLLBACK")) and " TO " not in statement:
            is_open = "CHAIN" in statement
    return kept


@given(reads=st.integers(1, 5), saved=st.booleans(), begin=st.sampled_from(BEGINS))
def test_reads_before_the_first_write_are_the_replicas(
    reads: int, begin: str, *, saved: bool
) -> None:
    world = World()
    world.replay("r1")
    client: Client = world.clients[0]
    world.say(0, begin)
    for _ in range(reads):
        world.say(0, *(["SAVEPOINT a"] if saved else []), "SELECT n FROM t0")
        world.work()
        world.check()
        assert client.relay.front.last_route.target == REPLICA
    world.say(0, "INSERT INTO t0 VALUES (1)", "SELECT n FROM t0", "COMMIT")
    world.work()
    world.check()
    assert sum(process.selected for process in world.on_replicas()) == reads
    world.say(0, begin, "SELECT n FROM t0", "COMMIT")  # the replicas do not show its write yet
    world.work()
    world.check()
    assert sum(process.selected for process in world.on_replicas()) == reads
    world.replay("r2")
    world.say(0, begin, "SELECT n FROM t0", "COMMIT")
    world.work()
    world.check()
    assert sum(process.selected for process in world.on_replicas()) == reads + 1
    world.stage.close()
