"""Clients that write and read versions through a proxy, and note all of it in a `History`.

    async with Load(proxy, clients=50).running() as load:
        await load.reads(20_000)
    assert stale_reads(load.history, "session") == []

The table must be there: `make_table`. Four of five clients speak to the proxy frame by frame, in
both protocols and in pipelines; the others are asyncpg's. A client whose connection fails, whatever
it was told, begins a new session; what it had in flight is not in the history.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import asyncpg

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.drivers import sqlstate
from tests.support.history import History, Moment, Read, Write
from tests.support.proxy import HOST
from tests.support.wire import Frame, Wire

SHARED_KEYS: Final = 10
_FIRST_OWN_KEY: Final = 100
_ASYNCPG_EVERY: Final = 5

_READ: Final = "SELECT version, pg_is_in_recovery() FROM history WHERE key = {0}"
_WRITE: Final = "UPDATE history SET version = version + 1 WHERE key = {0} RETURNING version"

# How often a client does what, so that one in ten statements writes: of everything; or single ones.
MIXED: Final = {"read": 72, "write": 4, "pipeline": 4, "transaction": 3, "read_only": 5}
SINGLE: Final = {"read": 90, "write": 10}

_PATIENCE: Final = 90.0  # seconds for one answer


class Address(Protocol):
    """Where to connect: a proxy of either kind."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def make_table(cluster: Cluster, clients: int) -> None:
    """With a row for each key; returns when all replicas have it."""
    own = f"generate_series({_FIRST_OWN_KEY}, {_FIRST_OWN_KEY + clients - 1})"
    cluster.primary.psql(
        "CREATE TABLE history (key int PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 10);"
        f"INSERT INTO history SELECT key, 0 FROM generate_series(0, {SHARED_KEYS - 1}) AS key;"
        f"INSERT INTO history SELECT key, 0 FROM {own} AS key"
    )
    cluster.wait_caught_up()


class Load:
    """The clients and what they have seen."""

    def __init__(
        self,
        address: Address,
        clients: int,
        *,
        units: Mapping[str, int] = MIXED,
        pause: float = 0.0,
    ) -> None:
        """`pause`: seconds, on average, between two things that a client does."""
        self.history: Final = History()
        self.failures: Final[Counter[str]] = Counter()  # by SQLSTATE; "lost": without one
        self.waits: Final[list[float]] = []  # of single reads for their answers, in seconds
        self.is_over = False
        self.address: Final = address
        self.units: Final = units
        self.pause: Final = pause
        self._moments: Final = itertools.count(1)
        self._sessions: Final = itertools.count(1)
        self._clients: Final = clients
        self._wanted = 0
        self._enough: Final = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """They work within the block; each finishes what it is at."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._clients):
                kind = _AsyncpgClient if number % _ASYNCPG_EVERY == 0 else _WireClient
                tasks.create_task(kind(self, number).work())
            try:
                yield self
            finally:
                self.is_over = True

    async def reads(self, count: int) -> None:
        """Wait until there are so many in the history."""
        self._wanted = count
        self._enough.clear()
        self._look()
        await self._enough.wait()

    # --- for the clients

    def session(self) -> int:
        """A new one's number."""
        return next(self._sessions)

    def now(self) -> Moment:
        """A moment later than all before."""
        return next(self._moments)

    def saw(self, session: int, key: int, version: int, sent: Moment, *, on_replica: bool) -> None:
        """A read was answered."""
        self.history.reads.append(Read(session, key, version, sent, on_replica))
        self._look()

    def wrote(self, session: int, key: int, version: int, sent: Moment) -> None:
        """A commit was acknowledged just now."""
        self.history.writes.append(Write(session, key, version, sent, self.now()))

    def _look(self) -> None:
        if len(self.history.reads) >= self._wanted:
            self._enough.set()


class _Client:
    """One client, whatever it speaks."""

    def __init__(self, load: Load, number: int) -> None:
        self.load: Final = load
        self.session = 0
        self._own: Final = _FIRST_OWN_KEY + number
        self._random: Final = random.Random(number)
        self._last = self._own  # written
        self._units: Final[list[Callable[[], Awaitable[None]]]] = [
            getattr(self, name) for name in load.units
        ]

    async def work(self) -> None:
        """Until the load is over."""
        load = self.load
        is_connected = False
        while not load.is_over:
            try:
                async with asyncio.timeout(_PATIENCE):
                    if not is_connected:
                        self.session = load.session()
                        await self.connect()
                        is_connected = True
                    [unit] = self._random.choices(self._units, list(load.units.values()))
                    began = time.perf_counter()
                    await unit()
                    if unit == self.read:
                        load.waits.append(time.perf_counter() - began)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, _FailedError) as error:
                load.failures[sqlstate(error) or "lost"] += 1
                is_connected = False
                await self.drop()
                await asyncio.sleep(0.05)
            # Without a pause others get their turn all the same.
            await asyncio.sleep(self._random.uniform(0, 2 * load.pause))
        await self.drop()

    def key(self) -> int:
        """What to read or write next: what was written last, one's own, one of all."""
        return self._random.choice((self._last, self._own, self._random.randrange(SHARED_KEYS)))

    def writes(self) -> int:
        """What to write next."""
        self._last = self._random.choice((self._own, self._random.randrange(SHARED_KEYS)))
        return self._last

    async def connect(self) -> None:
        raise NotImplementedError

    async def drop(self) -> None:
        """Leave, as far as it has come; never fails."""
        raise NotImplementedError

    async def read(self) -> None:
        raise NotImplementedError

    async def write(self) -> None:
        raise NotImplementedError

    async def pipeline(self) -> None:
        """Without waiting for answers: a read, a write, and reads of the same and another."""
        raise NotImplementedError

    async def transaction(self) -> None:
        """Reads before and after a write."""
        raise NotImplementedError

    async def read_only(self) -> None:
        """A transaction of reads."""
        raise NotImplementedError


class _FailedError(Exception):
    """An ErrorResponse, or the end of the connection."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        found = [wire.fields(body) for kind, body in frames if kind == b"E"]
        super().__init__(found)
        self.sqlstate = found[0]["C"] if found else None


class _WireClient(_Client):
    _wire: Wire | None = None

    async def connect(self) -> None:
        self._wire = await Wire.connect(self.load.address)
        if self._wire.startup[-1:] != [(b"Z", b"I")]:
            raise _FailedError(self._wire.startup)
        # Keys are one client's in the one form and all clients' in the other.
        await self._say(
            wire.parse(_READ.format("$1"), name="read", types=[23])
            + wire.parse(_WRITE.format("$1"), name="write", types=[23])
            + wire.SYNC
        )

    async def drop(self) -> None:
        if self._wire is not None:
            await self._wire.close()
            self._wire = None

    async def read(self) -> None:
        await self._ask((_READ, self.key()))

    async def write(self) -> None:
        await self._ask((_WRITE, self.writes()))

    async def pipeline(self) -> None:
        written = self.writes()
        await self._ask(
            (_READ, self.key()), (_WRITE, written), (_READ, written), (_READ, self.key())
        )

    async def transaction(self) -> None:
        written = self.writes()
        await self._say(wire.query("BEGIN"))
        await self._ask((_READ, written))
        sent = self.load.now()
        [[version]] = wire.rows(await self._say(self._message(_WRITE, written)))
        await self._ask((_READ, written))
        await self._say(wire.query("COMMIT"))
        self.load.wrote(self.session, written, int(version or b""), sent)

    async def read_only(self) -> None:
        is_repeatable = self._random.random() < 0.2
        level = " ISOLATION LEVEL REPEATABLE READ" if is_repeatable else ""
        await self._say(wire.query(f"BEGIN READ ONLY{level}"))
        sent = self.load.now()
        for _ in range(2):
            await self._ask((_READ, self.key()), sent=sent if is_repeatable else 0)
        await self._say(wire.query("COMMIT"))

    def _message(self, sql: str, key: int) -> bytes:
        form = self._random.random()
        if form < 0.4:
            return wire.query(sql.format(key))
        name = ""
        first = b""
        if form < 0.8:
            name = "read" if sql is _READ else "write"
        else:
            first = wire.parse(sql.format("$1"), types=[23])
        return first + wire.bind(b"%d" % key, statement=name) + wire.execute() + wire.SYNC

    async def _ask(self, *statements: tuple[str, int], sent: Moment = 0) -> None:
        """Statements in one write, each a transaction unless one is open."""
        load = self.load
        moments = [sent or load.now() for _ in statements]
        connection = self._wire
        assert connection is not None
        await connection.send(*(self._message(sql, key) for sql, key in statements))
        for moment, (sql, key) in zip(moments, statements, strict=True):
            [row] = wire.rows(await self._answer(connection))
            version = int(row[0] or b"")
            if sql is _READ:
                load.saw(self.session, key, version, moment, on_replica=row[1] == b"t")
            else:
                load.wrote(self.session, key, version, moment)

    async def _say(self, message: bytes) -> list[Frame]:
        connection = self._wire
        assert connection is not None
        await connection.send(message)
        return await self._answer(connection)

    async def _answer(self, connection: Wire) -> list[Frame]:
        frames = await connection.until(b"Z")
        if not frames or frames[-1][0] != b"Z" or wire.errors(frames):
            raise _FailedError(frames)
        return frames


class _AsyncpgClient(_Client):
    _connection: Any = None

    async def connect(self) -> None:
        address = self.load.address
        self._connection = await asyncpg.connect(
            host=HOST, port=address.port, user="postgres", database="postgres", ssl=False
        )

    async def drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def read(self) -> None:
        await self._read(self.key())

    async def write(self) -> None:
        key = self.writes()
        sent = self.load.now()
        version = await self._write(key)
        self.load.wrote(self.session, key, version, sent)

    async def pipeline(self) -> None:
        """asyncpg has none: at least without a pause."""
        await self.write()
        await self._read(self._last)

    async def transaction(self) -> None:
        key = self.writes()
        async with self._connection.transaction():
            await self._read(key)
            sent = self.load.now()
            version = await self._write(key)
            await self._read(key)
        self.load.wrote(self.session, key, version, sent)

    async def read_only(self) -> None:
        async with self._connection.transaction(readonly=True):
            await self._read(self.key())
            await self._read(self.key())

    async def _read(self, key: int) -> None:
        sent = self.load.now()
        # Not fetchrow, which leaves a portal open, so that a transaction cannot leave its replica.
        [row] = await self._connection.fetch(_READ.format("$1"), key)
        self.load.saw(self.session, key, row[0], sent, on_replica=row[1])

    async def _write(self, key: int) -> int:
        return int(await self._connection.fetchval(_WRITE.format("$1"), key))
