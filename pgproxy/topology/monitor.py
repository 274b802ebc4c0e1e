"""Asks every backend, over and over, what it is, and publishes the topology that follows.

One task per backend keeps one connection and asks one question each `health.interval` seconds.
A server that refuses, resets or shuts down is out at once, one that is merely silent after
`health.failures` questions in a row; one good answer brings it back. A server that lives but does
not let the monitor in (its password, no free connection) keeps what it was: that is no news of
the server, and other evidence still overrules it. A connection that broke is replaced within the same question, and its end is noticed without
waiting for the next one. Nothing is published until every backend was asked once, so that an old
primary is never taken for the primary because it answered first.

`on_change` is called in the event loop with each topology that differs for routing, the first
one included, and must not block or raise; `on_fresh` with each replica's name and the time as of
which it is fresh (freshness.py). Positions do not count as a difference: read them from
`Monitor.topology`.
"""

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Final

import asyncpg
import structlog

from pgproxy.config import Health
from pgproxy.topology.freshness import Freshness
from pgproxy.topology.fusion import fuse
from pgproxy.topology.model import Backend, Node, Probe, Role, Topology, diff, parse_lsn

# Seconds between two questions while there is no primary: its successor is to be seen soon.
EAGER_INTERVAL: Final = 0.25
# Seconds at least between the starts of two questions to one backend, whoever wants them.
SMALLEST_GAP: Final = 0.1

# The timeline of a primary is the one it writes WAL on: pg_control_checkpoint() shows the old one
# until the first checkpoint after a promotion. A standby's is the highest that any of three
# sources shows, none of which runs ahead: the control file's two follow with its next restart
# point, received_tli is exact but hidden from users without pg_read_all_stats (pg_monitor).
# OFFSET 0 has pg_is_in_recovery() evaluated once: a promotion may happen in between.
QUESTION: Final = """
SELECT in_recovery,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       CASE WHEN in_recovery THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_insert_lsn() END::text AS lsn,
       CASE WHEN NOT in_recovery
            THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
            END AS writes_on,
       CASE WHEN in_recovery
            THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()),
                          (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
                          (SELECT received_tli FROM pg_stat_wal_receiver))
            END AS follows_on
FROM (SELECT pg_is_in_recovery() AS in_recovery OFFSET 0) AS state
"""

# What the connection must not inherit from the role or the server: a standby refuses
# transactions that are serializable by default.
_SESSION: Final = {
    "application_name": "pgproxy monitor",
    "default_transaction_isolation": "read committed",
}

# Shortages of this machine; they say nothing about the server.
_LOCAL_SHORTAGES: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
# Classes and codes of Appendix A by which a server says that it is not there for anybody.
_GONE_CLASS: Final = "08"  # connection exception
_GONE: Final = frozenset({"57P01", "57P02", "57P03"})  # shutting down, crashed, starting up

_log: Final = structlog.stdlib.get_logger()


class _Verdict(Enum):
    """What a question without an answer shows."""

    GONE = "gone"  # the server serves nobody
    SILENT = "silent"  # perhaps
    UNASKED = "unasked"  # the monitor cannot ask; the server may be well


class Monitor:
    """The monitor of a fixed list of backends; `run` it as a task, `close` ends that task."""

    def __init__(
        self,
        backends: Sequence[Backend],
        health: Health,
        on_change: Callable[[Topology], None],
        on_fresh: Callable[[str, float], None] = lambda _name, _fresh: None,
    ) -> None:
        self.first_round: Final = asyncio.Event()  # every backend was asked once
        self._backends: Final = tuple(backends)
        self._health: Final = health
        self._on_change: Final = on_change
        self._on_fresh: Final = on_fresh
        self._freshness: Final = Freshness()
        self._topology = Topology(0, ())
        self._probes: Final[dict[str, Probe]] = {}
        self._watches: Final = {backend.name: _Watch(backend, self) for backend in backends}
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._stopped: Final = asyncio.Event()
        self._is_closing = False

    @property
    def topology(self) -> Topology:
        """The newest topology, positions included; without nodes before the first round."""
        return self._topology

    @property
    def health(self) -> Health:
        return self._health

    def lsn(self, name: str) -> int | None:
        """The newest position of that backend: replayed, or inserted on a primary."""
        node = self._topology.node(name)
        return node.replay_lsn if node is not None else None

    def probe_now(self, name: str) -> None:
        """Ask that backend as soon as the smallest gap allows; an unknown name is ignored."""
        watch = self._watches.get(name)
        if watch is not None:
            watch.wake.set()

    async def run(self) -> None:
        """Watch until `close` (then it returns) or until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for watch in self._watches.values():
                    if not self._is_closing:
                        self._tasks.append(group.create_task(watch.run()))
                if not self._watches:
                    self._conclude()
        finally:
            self._stopped.set()

    async def close(self) -> None:
        """End every question and connection; returns when `run` has, if it was ever started."""
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await self._stopped.wait()

    def interval(self) -> float:
        """Seconds until a backend is asked again."""
        if self._topology.primary is None:
            return min(self._health.interval, EAGER_INTERVAL)
        return self._health.interval

    def report(self, name: str, probe: Probe) -> None:
        """Take a backend's new state from its watch."""
        self._probes[name] = probe
        self._note_position(name, probe)
        if len(self._probes) == len(self._backends):
            self._conclude()

    def probe_all(self) -> None:
        """Ask every backend as soon as the smallest gap allows."""
        for watch in self._watches.values():
            watch.wake.set()

    def _note_position(self, name: str, probe: Probe) -> None:
        if not probe.alive or probe.error or probe.lsn is None:
            return
        primary = self._topology.primary
        if primary is not None and primary.name == name:
            if not probe.in_recovery:
                self._freshness.primary_at(probe.asked_at, probe.lsn)
        elif probe.in_recovery:
            self._on_fresh(name, self._freshness.replica_at(name, probe.lsn))

    def _conclude(self) -> None:
        is_first = not self.first_round.is_set()
        old = self._topology
        new = fuse(self._backends, self._probes, None if is_first else old)
        self._topology = new
        if is_first:
            self.first_round.set()
        elif new.version == old.version:
            return
        _log_changes(old, new)
        if old.timeline != new.timeline:
            self._freshness.reset()
        if old.primary is not None and new.primary is None:
            for watch in self._watches.values():
                watch.wake.set()
        self._on_change(new)


class _Watch:
    """The questions to one backend."""

    def __init__(self, backend: Backend, monitor: Monitor) -> None:
        self.wake: Final = asyncio.Event()  # a question is wanted before its time
        self._backend: Final = backend
        self._monitor: Final = monitor
        self._health: Final = monitor.health
        self._connection: Any = None  # asyncpg.Connection
        self._last = Probe(False)  # what was reported
        self._failures = 0  # since the last answer

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                started = loop.time()
                await self._ask()
                await self._rest(started)
        finally:
            self._drop()

    async def _rest(self, started: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(started + self._monitor.interval()):
                await self.wake.wait()
        except TimeoutError:
            pass
        else:
            await asyncio.sleep(started + SMALLEST_GAP - loop.time())
        self.wake.clear()

    async def _ask(self) -> None:
        """One question, on the kept connection if it holds, and what follows from the answer."""
        try:
            async with asyncio.timeout(self._health.timeout):
                probe = await self._answer()
        except Exception as error:  # noqa: BLE001 - nothing that a peer sends may end the watch
            self._failed(error)
        else:
            self._failures = 0
            self._report(probe)

    def _failed(self, error: Exception) -> None:
        self._drop()
        verdict = _judge(error)
        text = _describe(error)
        if isinstance(error, TimeoutError):
            text = f"no answer within {self._health.timeout:g} s"
        self._failures += 1
        is_patient = verdict is _Verdict.UNASKED or (
            verdict is _Verdict.SILENT and self._failures < self._health.failures
        )
        if self._last.alive and is_patient:
            if self._failures == 1:
                _log.warning("probe_failed", backend=self._backend.name, reason=text)
            self._report(replace(self._last, error=text))
        else:
            self._report(Probe(False, error=text))

    def _report(self, probe: Probe) -> None:
        self._last = probe
        self._monitor.report(self._backend.name, probe)

    async def _answer(self) -> Probe:
        if self._connection is not None and not self._connection.is_closed():
            try:
                return await self._question()
            except Exception:  # noqa: BLE001 - asyncpg's InternalClientError is one of many
                # Its end need not be the server's: pg_terminate_backend, a time-out on the way.
                # A new connection will tell.
                self._drop()
        self._drop()
        self._connection = await asyncpg.connect(
            host=self._backend.host,
            port=self._backend.port,
            user=self._health.user,
            # Never None: asyncpg would look for PGPASSWORD and ~/.pgpass.
            password=_password(self._health),
            database=self._health.database,
            ssl=False,
            target_session_attrs="any",
            statement_cache_size=0,
            server_settings=_SESSION,
        )
        self._connection.add_termination_listener(self._on_termination)
        return await self._question()

    async def _question(self) -> Probe:
        asked_at = time.monotonic()
        row = await self._connection.fetchrow(QUESTION)
        in_recovery = bool(row["in_recovery"])
        timeline = row["follows_on"] if in_recovery else int(row["writes_on"], 16)
        return Probe(
            alive=True,
            in_recovery=in_recovery,
            timeline=timeline,
            lsn=parse_lsn(row["lsn"]) if row["lsn"] is not None else None,
            system_identifier=row["system_identifier"],
            asked_at=asked_at,
        )

    def _on_termination(self, _connection: object) -> None:
        self.wake.set()

    def _drop(self) -> None:
        """Close the connection at once, without a word: the server may be hanging."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._on_termination)
            connection.terminate()


class _SecretError(Exception):
    """The monitor's own password is not to be had."""


def _password(health: Health) -> str:
    """Read anew for every connection, so that a rotated secret takes effect."""
    if health.password_file is None:
        return health.password.get_secret_value()
    try:
        return health.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _SecretError(f"health.password_file: {error}") from error


def _judge(error: Exception) -> _Verdict:
    if isinstance(error, asyncpg.PostgresError):
        code = str(error.sqlstate)
        is_gone = code in _GONE or code.startswith(_GONE_CLASS)
        return _Verdict.GONE if is_gone else _Verdict.UNASKED
    if isinstance(error, _SecretError) or getattr(error, "errno", None) in _LOCAL_SHORTAGES:
        return _Verdict.UNASKED
    if isinstance(error, TimeoutError | socket.gaierror) or not isinstance(error, OSError):
        return _Verdict.SILENT
    return _Verdict.GONE


def _describe(error: Exception) -> str:
    text = str(error) or type(error).__name__
    sqlstate = getattr(error, "sqlstate", None)
    return f"{text} (SQLSTATE {sqlstate})" if sqlstate else text


def _log_changes(old: Topology, new: Topology) -> None:
    changes = diff(old, new)
    steps: list[tuple[Node | None, Node]] = [(None, node) for node in changes.added]
    steps += changes.changed
    for before, node in steps:
        is_bad = node.role is Role.NONE
        (_log.warning if is_bad else _log.info)(
            "backend_role",
            backend=node.name,
            role=node.role.value,
            was=before.role.value if before is not None else "",
            timeline=node.timeline,
            reason=node.error,
        )
