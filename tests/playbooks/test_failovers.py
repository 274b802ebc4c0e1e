"""Servers that say goodbye, or die, at any moment, while the primary moves: every write that was
acknowledged is there once, one that failed is not there, and none is there twice."""

from collections import deque
from dataclasses import replace
from itertools import count
from random import Random
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from pgproxy.servers.connection import ServerConnection
from pgproxy.topology.model import Node, Role
from tests.playbooks.mortal import HIDDEN_WRITE, Postgres, Truth, frames
from tests.playbooks.stage import Client, Stage, error, fields
from tests.support.wire import FLUSH, SYNC, bind, close, execute, parse, query

FAREWELL: Final = error("terminating connection", "57P01", "FATAL")
CONFLICT: Final = error("terminating connection", "40001", "FATAL")
NAMES: Final = ("p", "r1", "r2")
INSERT: Final = "INSERT INTO t VALUES ($1)"
HIDDEN: Final = HIDDEN_WRITE + "$1)"


class Unit:
    """What a client sends up to one ReadyForQuery."""

    def __init__(self, texts: list[str], form: str, value: int) -> None:
        self.texts = [text.replace("$1", str(value + at)) for at, text in enumerate(texts)]
        self.form = form
        if form == "simple":
            self.sent = query("; ".join(self.texts))
            return
        self.sent = b""
        for at, text in enumerate(texts):
            run = execute() if form != "flush" else FLUSH + execute()
            if form == "again":
                values = [str(value + at).encode()] if text in (INSERT, HIDDEN) else []
                self.sent += close("S", "s") + parse(text, "s") + bind(*values, statement="s") + run
            else:
                self.sent += parse(self.texts[at]) + bind() + run
        self.sent += SYNC

    def __repr__(self) -> str:
        return f"{self.form} {self.texts}"


def value_of(text: str) -> list[int]:
    is_write = text.startswith(("INSERT", HIDDEN_WRITE))
    return [int(text.split("(")[1][:-1])] if is_write else []


class Witness:
    """What one client can say of its writes from the answers it got."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.not_there: set[int] = set()
        self.open: list[int] = []
        self.in_block = False
        self.savepoint = 0

    def hears(self, units: list[Unit], answers: list[bytes], closed: bool) -> None:
        for number, unit in enumerate(units):
            heard: list[bytes] = []
            while answers and (not heard or heard[-1][:1] != b"Z"):
                heard.append(answers.pop(0))
            if heard and heard[-1][:1] == b"Z":
                self._hears(unit, heard)
                continue
            assert closed, f"no answer to {unit}"
            tags = [frame for frame in heard if frame[:1] == b"C"]
            self._tags(unit, tags)
            if unit.form == "simple" and len(tags) == len(unit.texts) and not self.in_block:
                self._commits()
            may_have_committed = any(
                "COMMIT" in text or not self.in_block
                for one in units[number:]
                for text in one.texts
            )
            if not may_have_committed:
                self.not_there.update(self.open)
            return
        if self.in_block:
            self.not_there.update(self.open)

    def _hears(self, unit: Unit, heard: list[bytes]) -> None:
        tags = [frame for frame in heard if frame[:1] == b"C"]
        failed = any(frame[:1] == b"E" for frame in heard)
        self._tags(unit, tags)
        assert failed or len(tags) == len(unit.texts), (unit, heard)
        status = heard[-1][5]
        if failed:
            for text in unit.texts[len(tags) :]:
                self.not_there.update(value_of(text))
            if status == STATUS_IDLE:
                self._rolls_back()
            else:
                assert self.in_block, (unit, heard)
                assert status == STATUS_FAILED, (unit, heard)
            return
        assert status == (STATUS_IN_TRANSACTION if self.in_block else STATUS_IDLE), (unit, heard)
        if not self.in_block:
            self._commits()

    def _tags(self, unit: Unit, tags: list[bytes]) -> None:
        for text, frame in zip(unit.texts, tags, strict=False):
            tag = frame[5:-1].decode()
            word = text.split(maxsplit=1)[0]
            assert tag.split()[0] == word or (word, tag) == ("COMMIT", "ROLLBACK"), (unit, tags)
            if text == "ROLLBACK TO a":
                self.not_there.update(self.open[self.savepoint :])
                del self.open[self.savepoint :]
            elif word in ("COMMIT", "ROLLBACK"):
                if tag == "COMMIT":
                    self._commits()
                self._rolls_back()
                self.in_block = text.endswith("CHAIN")
            elif word == "BEGIN":
                self.in_block = True
            elif word == "SAVEPOINT":
                self.savepoint = len(self.open)
            self.open += value_of(text)

    def _commits(self) -> None:
        self.there.update(self.open)
        self.open = []

    def _rolls_back(self) -> None:
        self.not_there.update(self.open)
        self.open = []
        self.in_block = False


class MovingStage(Stage):
    """With servers that are down."""

    down: set[str] = set()  # noqa: RUF012 replaced by its world

    async def _open(self, server: ServerConnection, database: str, user: str) -> None:
        if server.backend.name in self.down:
            raise PgError("57P03", "the database system is shutting down")
        await super()._open(server, database, user)


class World(Truth):
    def __init__(self, scripts: list[list[Unit]], *, size: int, max_prepared: int) -> None:
        super().__init__()
        self.stage = MovingStage(
            size=size,
            max_prepared=max_prepared,
            replicas=2,
            routers=Routers(Memory(), FunctionLists()),
        )
        self.down: set[str] = set()
        self.fenced: set[str] = set()  # of those
        self.stage.down = self.down
        self.processes: dict[int, Postgres] = {}
        self.clients: list[tuple[Client, list[Unit], deque[int]]] = []
        for units in scripts:
            script = deque(b"".join([unit.sent for unit in units]))
            self.clients.append((self.stage.client(), units, script))

    def servers(self) -> list[Postgres]:
        for name, server in self.stage.servers.items():
            for _, transport in server.connections:
                new = Postgres(self, name, transport)
                process = self.processes.setdefault(id(transport), new)
                process.read()
                if process.last_words is not None:
                    process.messages.clear()
        return [one for one in self.processes.values() if not one.transport.closed]

    def running(self) -> list[Postgres]:
        return [one for one in self.servers() if one.last_words is None]

    def says(self, server: Postgres, data: bytes, cut: int) -> None:
        for chunk in (data[:cut], data[cut:]):
            if chunk and not server.transport.closed:
                server.transport.protocol.data_received(chunk)
                self.stage.settle()

    def answers(self, server: Postgres, number: int, cut: int) -> None:
        answer = b""
        for _ in range(min(number, len(server.messages))):
            answer += server.answer()
        self.says(server, answer, cut)

    def is_heard(self, server: Postgres, cut: int) -> None:
        """Somebody reads what a process that has ended left in its socket."""
        assert server.last_words is not None
        self.says(server, server.last_words, cut)
        if not server.transport.closed:
            server.transport.close()
        self.stage.settle()

    def fails_over(self, random: Random, to: str, words: bytes, *, frozen: bool) -> None:
        """`frozen`: nobody hears that the primary of before has gone, until it is fenced."""
        for server in self.running():
            if server.name == self.primary:
                server.dies(random, b"" if frozen else words)
        self.down.discard(to)
        if to != self.primary:
            self.down.add(self.primary)
            if frozen:
                self.fenced.add(self.primary)
        self.fenced.discard(to)
        self.primary = to

    def conflicts(self, random: Random) -> None:
        """With what a replica has to replay."""
        replicas = [one for one in self.running() if one.name != self.primary]
        if not replicas:
            return
        replica = random.choice([one for one in replicas if one.messages] or replicas)
        if random.random() < 0.3:
            replica.dies(random, CONFLICT)
        else:
            replica.conflict = "40001"

    def is_seen(self, *, handing_over: bool = False) -> None:
        """The monitor sees how things are."""
        self.fenced &= self.down
        nodes = []
        for name in NAMES:
            role = Role.NONE if name in self.down else Role.REPLICA
            if name == self.primary:
                role = Role.PRIMARY
            node = Node(name, name, 5432, 1, "", role, role is not Role.NONE, 1, None, "")
            is_fenced = name in self.fenced
            is_handing = handing_over and role is Role.PRIMARY
            nodes.append(replace(node, cut=is_fenced, handing_over=is_handing))
        self.stage.apply(*nodes)

    def sends(self, client: Client, script: "deque[int]", size: int) -> None:
        client >> bytes([script.popleft() for _ in range(min(size, len(script)))])

    def does(self, step: str, random: Random) -> None:
        cut = random.choice([0, 3, 20, 10**9])
        clients = [entry for entry in self.clients if not entry[0].own_transport.closed]
        ended = [one for one in self.servers() if one.last_words is not None]
        running = self.running()
        busy = [one for one in running if one.messages]
        if step == "answer" and busy:
            self.answers(random.choice(busy), random.randint(1, 6), cut)
        elif step in ("fatal", "crash") and running:
            random.choice(busy or running).dies(random, FAREWELL if step == "fatal" else b"")
        elif step == "conflict" and running:
            self.conflicts(random)
        elif step == "move":
            words = random.choice([FAREWELL, FAREWELL, b""])
            frozen = random.random() < 0.3
            self.fails_over(random, random.choice(NAMES), words, frozen=frozen)
        elif step == "see":
            self.is_seen(handing_over=random.random() < 0.2)
        elif step == "hear" and ended:
            self.is_heard(random.choice(ended), cut)
        elif step == "return" and self.down:
            self.down.discard(random.choice(sorted(self.down)))
        elif step == "time":
            self.stage.time_passes(5.0)
        elif clients:
            client, _, script = random.choice(clients)
            if step == "send" and script:
                self.sends(client, script, random.choice([7, 30, 100, 1000]))
            elif step == "cancel":
                client.relay.cancels.ask()
                self.stage.settle()
            elif step == "leave":
                client.leaves()

    def finish(self) -> None:
        for turn in range(300):
            busy = False
            self.is_seen()
            for client, _, script in self.clients:
                if script and not client.own_transport.closed:
                    busy = True
                    self.sends(client, script, len(script))
            for server in self.servers():
                if server.transport.closed:
                    continue
                if server.last_words is not None:
                    busy = True
                    self.is_heard(server, 10**9)
                elif server.messages:
                    busy = True
                    self.answers(server, 99, 10**9)
            self.stage.check()
            if not busy:
                self.stage.timers_fire()
                self.stage.time_passes(5.0)
                if any(one.messages for one in self.servers()):
                    continue
                if not self.waiting() or turn > 290:
                    break
                holder = next((c for c, _, _ in self.clients if c.relay.server is not None), None)
                if holder is not None and not any(s.messages for s in self.servers()):
                    self.left(holder)
        assert not self.waiting()

    def waiting(self) -> bool:
        return bool(self.stage.cluster.homeless) or any(
            pool.ledger.waiting for pool in self.stage.pools
        )

    def left(self, client: Client) -> None:
        """It has all its answers, and another one needs its connection."""
        client.leaves()

    def verify(self) -> None:
        for client, units, script in self.clients:
            witness = Witness()
            answers = frames(client.own_transport.arrived)
            for frame in answers:
                if frame[:1] == b"E":
                    told = fields(frame + write.READY_IDLE)
                    assert told["C"] not in ("XX000", "08P01"), told
            closed = client.own_transport.closed
            assert closed or not script
            witness.hears(units, answers, closed)
            for value in witness.there:
                assert self.rows.count(value) == 1, f"{value} was acknowledged: {self.rows}"
            for value in witness.not_there:
                assert value not in self.rows, f"{value} has failed"
        assert len(set(self.rows)) == len(self.rows), f"written twice: {self.rows}"
        self.stage.close()


TEXTS: Final = (
    [INSERT] * 6
    + ["BEGIN"] * 5
    + ["COMMIT"] * 4
    + ["ROLLBACK", "COMMIT AND CHAIN", "SAVEPOINT a", "ROLLBACK TO a", "SELECT 1", "SELECT n()"]
    + ["SET LOCAL search_path = a", "DEALLOCATE ALL", "fail"]
    + ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"]
)
FORMS: Final = ["simple"] * 3 + ["unnamed", "again", "flush"]
STEPS: Final = {
    "send": 10,
    "answer": 14,
    "see": 4,
    "hear": 4,
    "move": 2,
    "fatal": 1,
    "crash": 1,
    "conflict": 1,
    "return": 1,
    "time": 0.3,
    "cancel": 0.1,
    "leave": 0.1,
}


def a_script(random: Random, values: "count[int]") -> list[Unit]:
    units = []
    for _ in range(random.randint(1, 10)):
        texts = random.choices(TEXTS, k=random.choice([1, 1, 1, 2]))
        units.append(Unit(texts, random.choice(FORMS), next(values)))
    return units


def play(random: Random) -> World:
    values = count(1, 10)
    world = World(
        [a_script(random, values) for _ in range(random.randint(1, 3))],
        size=random.randint(1, 3),
        max_prepared=random.choice([1, 100]),
    )
    for _ in range(random.randint(20, 120)):
        (step,) = random.choices(list(STEPS), list(STEPS.values()))
        world.does(step, random)
        world.stage.check()
    world.finish()
    world.verify()
    return world


@settings(max_examples=300)
@given(st.integers(0, 1 << 32))
def test_no_write_is_lost_or_doubled(seed: int) -> None:
    play(Random(seed))
