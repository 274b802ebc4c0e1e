"""Keeps the catalogues of the databases that clients use: reads them, and again when they change.

Whoever routes by them is told by `on_loaded(database, catalogue)`, with None where there is none: it
cannot be read, or nobody uses the database any more. After each `changed` it is called once more in
any case, with a catalogue that was read as a whole after that, or with None.

A connection is there for one reading only: what idles in a database is in the way of DROP DATABASE.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from pgproxy.config import Config, Health
from pgproxy.routing.catalogue import Catalogue
from pgproxy.servers.catalogue_reader import Reading, Session
from pgproxy.servers.sockets import TcpOptions
from pgproxy.servers.tls import NO_TLS, ServerTls
from pgproxy.topology.access import NO_OPTIONS, describe
from pgproxy.topology.model import Node

# Seconds at least from the end of one reading to the next, or as long as the last one took:
# a migration commits hundreds of changes one by one.
SMALLEST_PAUSE: Final = 0.05
# Readings at once, each of another database.
AT_ONCE: Final = 2
# Seconds for one reading without the log-in, which has `health.timeout`.
LONGEST: Final = 60.0
# Seconds after which one that could not be had is tried again: the first, doubled up to the last.
FIRST_RETRY: Final = 0.5
LAST_RETRY: Final = 30.0
# Seconds for which a catalogue serves on while it cannot be looked at again.
PATIENCE: Final = 30.0
# Seconds between looks whether anybody uses the database still, where there is no interval.
REVIEW: Final = 60.0
# Seconds after which definitions that were locked are asked for again.
LOCK_RETRY: Final = 5.0

LOADED: Final = "loaded"
UNCHANGED: Final = "unchanged"
FAILED: Final = "failed"
OVERTAKEN: Final = "overtaken"
RESULTS: Final = (LOADED, UNCHANGED, FAILED, OVERTAKEN)

_log: Final = structlog.stdlib.get_logger()


class _NoPrimaryError(Exception):
    def __init__(self) -> None:
        super().__init__("there is no primary")


class _OvertakenError(Exception):
    """What is being read has changed meanwhile, or is another server's."""


class Watched:
    """What is known of one database. Times are monotonic."""

    def __init__(self, database: str) -> None:
        self.database: Final = database
        self.catalogue: Catalogue | None = None
        self.functions = 0
        self.is_whole = True
        self.seconds = 0.0  # that the last reading took
        self.seen_at = 0.0  # when it was last known to be as it is
        self.failures = 0  # in a row
        self.wake: Final = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.changes = 0  # of which we were told, and which of them the last answer knew
        self.answered = 0
        self.fingerprint = ""  # "": there is nothing to compare with
        self.origin: object = None  # whose catalogue it is
        self.asked: object = None  # who is being asked, and for how long at most
        self.limit: asyncio.Timeout | None = None
        self.failing_since = 0.0
        self.reason = ""  # why it failed, as it was logged

    @property
    def is_in_doubt(self) -> bool:
        return self.changes != self.answered

    def age(self) -> float:
        """Seconds since the catalogue was last known to be right."""
        return time.monotonic() - self.seen_at


class Catalogues:
    """The catalogues; `run` it as a task, `close` ends that task.

    `primary` names the server to read from; `interval` 0 is never, but for changes; `is_used` says
    whether a database has clients. `on_loaded` is called in the event loop and must not raise.
    """

    def __init__(
        self,
        health: Health,
        interval: float,
        *,
        primary: Callable[[], Node | None],
        is_used: Callable[[str], bool],
        on_loaded: Callable[[str, Catalogue | None], None],
        tcp: TcpOptions = NO_OPTIONS,
        tls: ServerTls = NO_TLS,
    ) -> None:
        self.results: Final[Counter[str]] = Counter()
        self.databases: Final[dict[str, Watched]] = {}
        self._health: Final = health
        self._tcp: Final = tcp
        self._tls: Final = tls
        self._interval: Final = interval
        self._primary: Final = primary
        self._is_used: Final = is_used
        self._on_loaded: Final = on_loaded
        self._slots: Final = asyncio.Semaphore(AT_ONCE)
        self._group: asyncio.TaskGroup | None = None  # while it runs
        self._closing: Final = asyncio.Event()
        self._stopped: Final = asyncio.Event()

    def want(self, database: str) -> None:
        """A client of it is there. Where there is a catalogue already it is told at once."""
        watched = self.databases.get(database)
        if watched is None:
            self.databases[database] = Watched(database)
            self._start()
        elif watched.catalogue is not None and not watched.is_in_doubt:
            self._on_loaded(database, watched.catalogue)

    def changed(self, database: str) -> None:
        """DDL has been committed there."""
        if database not in self.databases:
            self.want(database)
        watched = self.databases[database]
        watched.changes += 1
        watched.wake.set()

    def topology_changed(self) -> None:
        """Another server may be the primary: its catalogue may be another one."""
        origin = _origin(self._primary())
        for watched in self.databases.values():
            limit = watched.limit
            if limit is not None:
                if watched.asked != origin:
                    watched.limit = None
                    with contextlib.suppress(RuntimeError):  # it has run out by itself
                        limit.reschedule(asyncio.get_running_loop().time())
            elif origin is not None and (watched.origin != origin or watched.failures):
                watched.wake.set()

    async def run(self) -> None:
        """Keep them until `close` (then it returns) or until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    self._start()
                    await self._closing.wait()
                finally:
                    self._group = None
                    for watched in self.databases.values():
                        if watched.task is not None:
                            watched.task.cancel()
        finally:
            self._stopped.set()

    async def close(self) -> None:
        """End every reading; returns when `run` has, if it was ever started."""
        is_running = self._group is not None
        self._closing.set()
        if is_running:
            await self._stopped.wait()

    def _start(self) -> None:
        if self._group is not None and not self._closing.is_set():
            for watched in self.databases.values():
                if watched.task is None:
                    watched.task = self._group.create_task(self._watch(watched))

    async def _watch(self, watched: Watched) -> None:
        while watched.is_in_doubt or self._is_used(watched.database):
            watched.wake.clear()
            await self._look(watched)
            await self._rest(watched)
        del self.databases[watched.database]
        self._on_loaded(watched.database, None)

    async def _rest(self, watched: Watched) -> None:
        """Until the next look is due; less if it is wanted, or if nobody is there any more."""
        loop = asyncio.get_running_loop()
        pause_ends = loop.time() + max(SMALLEST_PAUSE, watched.seconds)
        while True:
            seconds = self._interval
            if watched.failures:
                seconds = min(FIRST_RETRY * 2.0 ** min(watched.failures - 1, 10), LAST_RETRY)
            elif not watched.is_whole:
                seconds = LOCK_RETRY
            try:
                async with asyncio.timeout(seconds or REVIEW):
                    await watched.wake.wait()
                    break
            except TimeoutError:
                if seconds or not self._is_used(watched.database):
                    break
        await asyncio.sleep(pause_ends - loop.time())

    async def _look(self, watched: Watched) -> None:
        try:
            async with self._slots:
                await self._read(watched)
        except _OvertakenError:
            self.results[OVERTAKEN] += 1
            watched.wake.set()
        except Exception as error:  # noqa: BLE001 - nothing that a server sends may end the watch
            self._failed(watched, error)

    async def _read(self, watched: Watched) -> None:
        began = time.monotonic()
        primary = self._primary()
        if primary is None:
            raise _NoPrimaryError
        origin = _origin(primary)
        async with asyncio.timeout(self._health.timeout):
            session = await Session.open(
                primary.host,
                primary.port,
                self._health,
                watched.database,
                self._tcp,
                self._tls,
            )
        changes = watched.changes

        def proceed() -> None:
            if watched.changes != changes:
                watched.seconds = max(watched.seconds, time.monotonic() - began)
                raise _OvertakenError
            if _origin(self._primary()) != origin:
                raise _OvertakenError

        catalogue = Catalogue()
        known = watched.fingerprint if watched.origin == origin else ""
        watched.asked = origin
        try:
            async with asyncio.timeout(LONGEST) as watched.limit:
                reading = await session.read(catalogue, known, proceed)
            watched.limit = None
            await session.close()
        except TimeoutError:
            proceed()
            raise
        finally:
            watched.limit = None
            session.drop()
        proceed()
        watched.seconds = time.monotonic() - began
        watched.seen_at = began
        watched.origin = origin
        self._succeeded(watched, catalogue, reading)

    def _succeeded(self, watched: Watched, catalogue: Catalogue, reading: Reading | None) -> None:
        is_news = watched.catalogue is None or watched.failures > 0
        is_awaited = watched.is_in_doubt
        watched.failures = 0
        watched.reason = ""
        watched.answered = watched.changes
        if reading is None:
            self.results[UNCHANGED] += 1
        else:
            self.results[LOADED] += 1
            watched.catalogue = catalogue
            watched.functions = reading.functions
            watched.is_whole = reading.is_whole
            watched.fingerprint = reading.fingerprint if reading.is_whole else ""
            (_log.info if is_news else _log.debug)(
                "catalogue_loaded",
                database=watched.database,
                functions=reading.functions,
                objects=reading.objects,
                seconds=round(watched.seconds, 3),
            )
        if reading is not None or is_awaited:
            self._on_loaded(watched.database, watched.catalogue)

    def _failed(self, watched: Watched, error: Exception) -> None:
        self.results[FAILED] += 1
        now = time.monotonic()
        if not watched.failures:
            watched.failing_since = now
        watched.failures += 1
        reason = "no answer in time" if isinstance(error, TimeoutError) else describe(error)
        if watched.reason != reason:
            watched.reason = reason
            _log.warning("catalogue_failed", database=watched.database, reason=reason)
        is_out_of_date = now - watched.failing_since >= PATIENCE
        if watched.is_in_doubt or (watched.catalogue is not None and is_out_of_date):
            watched.catalogue = None
            watched.functions = 0
            watched.fingerprint = ""
            watched.answered = watched.changes
            self._on_loaded(watched.database, None)
        elif watched.catalogue is None and watched.failures == 1:
            self._on_loaded(watched.database, None)


async def load_once(config: Config, database: str) -> Catalogue | None:
    """The catalogue as the first configured server that is a primary has it now; None: there is
    none, or it does not let us in."""
    for backend in config.discovery.backends:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(config.health.timeout):
                session = await Session.open(backend.host, backend.port, config.health, database)
            catalogue = Catalogue()
            try:
                async with asyncio.timeout(LONGEST):
                    await session.read(catalogue)
                await session.close()
            finally:
                session.drop()
            return catalogue
    return None


def _origin(primary: Node | None) -> object:
    """What another catalogue may come with; None without a primary."""
    return None if primary is None else (primary.identity, primary.timeline)
