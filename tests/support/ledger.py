"""A mixed load that keeps books: which writes were acknowledged, which failed, and how.

    load = Load(proxy.dsn(), clients=32)
    load.start()                      # in a thread of its own, until
    ...
    books = load.stop()
    assert books.failures == []
    assert books.audit(rows_of_the_primary) == Audit()

Every row written has a number of its own. A unit of work (a statement, or a transaction with
several) is *acknowledged* when the client has been told of its end, or has *failed* with one
error, whereupon the client logs in anew and goes on with another unit.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.drivers import (
    AsyncpgExtended,
    AsyncpgSimple,
    PsycopgExtended,
    PsycopgSimple,
    Session,
    detail,
    sqlstate,
)

TABLE: Final = "CREATE TABLE ledger (id bigint, client int, written timestamptz DEFAULT now())"
INDEX: Final = "CREATE INDEX ON ledger (id)"  # not unique: a doubled write shall be seen
ROWS: Final = "SELECT id FROM ledger"

_INSERT: Final = "INSERT INTO ledger (id, client) VALUES ({0}, {1}) RETURNING id"
_FIND: Final = "SELECT id FROM ledger WHERE id = {0}"
_READ: Final = "SELECT id FROM ledger WHERE client = {0} ORDER BY id LIMIT 3"
_PATIENCE: Final = 60.0  # seconds for one statement
_PAUSE: Final = 0.004  # seconds: the load shall not be the machine's limit


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit of work that ended in an error. Times are of time.monotonic()."""

    client: str
    statement: str  # the one that failed; "connect" for a log-in
    rows: tuple[int, ...]  # what the unit would have written
    began: float
    failed: float
    sqlstate: str | None
    message: str
    detail: str | None
    at_commit: bool  # only then may its rows be there all the same


@dataclass(frozen=True, slots=True)
class Done:
    """A unit of work that was acknowledged."""

    client: str
    rows: tuple[int, ...]
    began: float
    acknowledged: float


@dataclass(frozen=True, slots=True)
class Audit:
    """What is wrong between books and table; all empty if nothing is."""

    lost: tuple[int, ...] = ()  # acknowledged, not there
    doubled: tuple[int, ...] = ()
    unexplained: tuple[int, ...] = ()  # there, though its unit failed before its commit was sent


@dataclass(slots=True)
class Books:
    """All that the clients were told."""

    done: list[Done] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def audit(self, present: Iterable[int]) -> Audit:
        """Compare with the numbers in the table."""
        counts = Counter(present)
        acknowledged = {row for done in self.done for row in done.rows}
        open_ended = {row for one in self.failures if one.at_commit for row in one.rows}
        return Audit(
            lost=tuple(sorted(acknowledged - counts.keys())),
            doubled=tuple(sorted(row for row, count in counts.items() if count > 1)),
            unexplained=tuple(sorted(counts.keys() - acknowledged - open_ended)),
        )

    def writes(self) -> list[float]:
        """When each write was acknowledged, in order."""
        return sorted(done.acknowledged for done in self.done if done.rows)

    def longest_write_outage(self) -> float:
        """The longest time in which no write was acknowledged, in seconds."""
        return _longest_gap(self.writes())

    def longest_read_outage(self) -> float:
        """The longest time in which no read was answered, in seconds."""
        reads = (done for done in self.done if done.client.startswith("read"))
        return _longest_gap(sorted(done.acknowledged for done in reads))

    def first_write_after(self, moment: float) -> float:
        """Seconds from `moment` to the first acknowledgement of a write that began whenever."""
        return min((at - moment for at in self.writes() if at > moment), default=float("inf"))

    def longest_wait(self, client: str) -> float:
        """The longest time that a unit of the clients of that kind took, in seconds."""
        waits = (one.acknowledged - one.began for one in self.done if one.client.startswith(client))
        return max(waits, default=0)


def _longest_gap(moments: Sequence[float]) -> float:
    return max((after - before for before, after in itertools.pairwise(moments)), default=0)


class _Client:
    """One client, of one kind of driver and one kind of work."""

    def __init__(self, load: "Load", number: int, kind: str, driver: type[Session]) -> None:
        self.name: Final = f"{kind}-{driver.__name__}-{number}"
        self._load: Final = load
        self._number: Final = number
        self._driver: Final = driver
        self._dsn: Final = load.read_dsn if kind == "read" else load.dsn
        self._unit: Final[Callable[[Session], Awaitable[None]]] = getattr(self, f"_{kind}")
        self._rows: list[int] = []
        self._statement = ""
        self._at_commit = False

    async def work(self, stopped: asyncio.Event) -> None:
        session: Session | None = None
        while not stopped.is_set():
            pause = self._load.pause
            began = time.monotonic()
            self._rows, self._statement, self._at_commit = [], "connect", False
            try:
                if session is None:
                    async with asyncio.timeout(_PATIENCE):
                        session = await self._driver.connect(self._dsn)
                else:
                    await self._unit(session)
            except Exception as error:  # noqa: BLE001 - whatever a driver makes of it
                self._load.books.failures.append(self._failure(began, error))
                if session is not None:
                    await session.close()
                    session = None
                pause = self._load.pause_after_failure
            else:
                if self._statement != "connect":
                    now = time.monotonic()
                    self._load.books.done.append(Done(self.name, tuple(self._rows), began, now))
            await asyncio.sleep(pause)
        if session is not None:
            await session.close()

    def _failure(self, began: float, error: Exception) -> Failure:
        return Failure(
            client=self.name,
            statement=self._statement,
            rows=tuple(self._rows),
            began=began,
            failed=time.monotonic(),
            sqlstate=sqlstate(error),
            message=f"{type(error).__name__}: {error}",
            detail=detail(error),
            at_commit=self._at_commit,
        )

    # --- the kinds of work

    async def _insert(self, session: Session) -> None:
        self._at_commit = True
        await self._write(session)

    async def _transaction(self, session: Session) -> None:
        await self._say(session, "BEGIN")
        first = await self._write(session)
        found = await self._say(session, _FIND, first)
        assert found == 1, f"the transaction does not see its own row {first}"
        await self._write(session)
        self._at_commit = True
        await self._say(session, "COMMIT")

    async def _rollback(self, session: Session) -> None:
        await self._say(session, "BEGIN")
        await self._write(session)
        await self._say(session, "ROLLBACK")
        self._rows = []

    async def _read(self, session: Session) -> None:
        await self._say(session, _READ, self._number)

    async def _idle(self, session: Session) -> None:
        """Logged in before, asks at the end again."""
        await self._load.over.wait()
        await self._say(session, "SELECT 1")

    async def _write(self, session: Session) -> int:
        row = next(self._load.numbers)
        self._rows.append(row)
        touched = await self._say(session, _INSERT, row, self._number)
        assert touched == 1, f"INSERT of {row} touched {touched} rows"
        return row

    async def _say(self, session: Session, statement: str, *numbers: int) -> int:
        self._statement = statement
        async with asyncio.timeout(_PATIENCE):
            return await session.run(statement, *numbers)


# What 32 clients are, in turns: reads, writes, transactions of each protocol and driver.
_DRIVERS: Final = (AsyncpgSimple, AsyncpgExtended, PsycopgSimple, PsycopgExtended)
_KINDS: Final = (
    "insert",
    "transaction",
    "transaction",
    "read",
    "idle",
    "insert",
    "read",
    "rollback",
)


class Load:
    """The clients, in a thread and an event loop of their own."""

    def __init__(
        self,
        dsn: str,
        clients: int = 32,
        *,
        read_dsn: str | None = None,
        kinds: Sequence[str] = _KINDS,
        first: int = 1,
        pause: float = _PAUSE,
        pause_after_failure: float = _PAUSE,
    ) -> None:
        """`kinds` are handed out in turns, for each driver in turns.

        Reads go to `read_dsn` where replicas have an address of their own. `first` is the number of
        the first row. The pauses, in seconds, are between a client's units of work.
        """
        self.dsn: Final = dsn
        self.read_dsn: Final = dsn if read_dsn is None else read_dsn
        self.pause: Final = pause
        self.pause_after_failure: Final = pause_after_failure
        self.books: Final = Books()
        self.numbers: Final = itertools.count(first)
        self.over = asyncio.Event()
        self._clients: Final = [
            _Client(self, number, kinds[number // len(_DRIVERS) % len(kinds)], _DRIVERS[number % 4])
            for number in range(clients)
        ]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: Final = threading.Event()
        self._errors: Final[list[BaseException]] = []
        self._thread: Final = threading.Thread(target=self._run, name="load")

    def start(self, writes: int = 100) -> None:
        """Return once so many writes were acknowledged. The table has to be there."""
        self._thread.start()
        self._running.wait()
        self.wait_writes(writes)

    def clients(self) -> list[str]:
        """Their names."""
        return [client.name for client in self._clients]

    def wait_writes(self, more: int, timeout: float = 60) -> None:
        """Wait until so many further writes were acknowledged. Raises `TimeoutError`."""
        deadline = time.monotonic() + timeout
        wanted = len(self.books.writes()) + more
        while len(self.books.writes()) < wanted:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise TimeoutError(f"no {more} further writes: {self.books.failures[-5:]}")
            time.sleep(0.02)

    def stop(self) -> Books:
        """End it: every client finishes the unit it is at, the idle ones ask once more."""
        if self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self.over.set)
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        return self.books

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 - told to who stops it
            self._errors.append(error)
        finally:
            self._running.set()

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running.set()
        async with asyncio.TaskGroup() as tasks:
            for client in self._clients:
                tasks.create_task(client.work(self.over))
