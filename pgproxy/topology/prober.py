"""Asks one backend, over and over, what it is.

A prober keeps one connection and asks one question each `health.interval` seconds. A server that
refuses, resets or shuts down is out at once, one that is merely silent after `health.failures`
questions in a row; one good answer brings it back. A server that lives but does not let the prober
in (its password, no free connection) keeps what it was: that is no news of the server, and other
evidence still overrules it. A connection that broke is replaced within the same question, and its
end is noticed without waiting for the next one.

While sessions wait for a replica to be fresh enough, the backend is asked for its position in
between, and for no more than that. A replica of version 19 or later is not asked over and over: it
answers when it has replayed the next position that matters (WAIT FOR LSN), or after a while.
"""

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any, Final

import asyncpg
import structlog

from pgproxy.config import Health
from pgproxy.protocol.lsn import format_lsn, parse_lsn
from pgproxy.servers.sockets import TcpOptions
from pgproxy.servers.tls import ServerTls
from pgproxy.topology.access import SecretError, connect, describe
from pgproxy.topology.model import Backend, Probe
from pgproxy.topology.rooms import ROOM

# Seconds at least between the starts of two questions to one backend, whoever wants them.
SMALLEST_GAP: Final = 0.1
# The same between two questions for its position.
POSITION_GAP: Final = 0.005
# The first version that has WAIT FOR LSN, and the seconds that it may take at most.
WAITS_FROM: Final = 19
LONGEST_WAIT: Final = 0.2

# The timeline of a primary is the one it writes WAL on: pg_control_checkpoint() shows the old one
# until the first checkpoint after a promotion. A standby's is the highest that any of three
# sources shows, none of which runs ahead: the control file's two follow with its next restart
# point, received_tli is exact but hidden from users without pg_read_all_stats (pg_monitor).
# `defaults` changes with ALTER ROLE or DATABASE … SET, and ALTER ROLE … (NO)SUPERUSER.
# OFFSET 0 has pg_is_in_recovery() evaluated once: a promotion may happen in between.
QUESTION: Final = f"""
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
            END AS follows_on,
       md5(concat_ws(' of ',
           (SELECT string_agg(setting::text, ' ' ORDER BY setdatabase, setrole)
            FROM pg_db_role_setting AS setting),
           (SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_roles WHERE rolsuper)
       )) AS defaults,
       {ROOM} AS room
FROM (SELECT pg_is_in_recovery() AS in_recovery OFFSET 0) AS state
"""  # noqa: S608 - both parts are ours

# OFFSET 0: as above.
POSITION_QUESTION: Final = """
SELECT in_recovery,
       CASE WHEN in_recovery THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_insert_lsn() END::text AS lsn
FROM (SELECT pg_is_in_recovery() AS in_recovery OFFSET 0) AS state
"""

# A TIMEOUT of 0 is none. What came of the wait, the position shows.
WAIT: Final = "WAIT FOR LSN '{}' WITH (TIMEOUT '{}ms', NO_THROW)"

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


class Prober:
    """The questions to one backend: `start`ed in a task group, until `end`."""

    def __init__(
        self,
        backend: Backend,
        health: Health,
        interval: Callable[[Backend], float],
        awaited: Callable[[str], int | None],
        report: "Callable[[Prober, Probe], None]",
        lost: "Callable[[Prober], None]",
        tcp: TcpOptions,
        tls: ServerTls,
    ) -> None:
        """`awaited` names the position that is worth waiting for on a standby; `report` is told every
        answer; `lost`, that the connection has ended."""
        self._wake: Final = asyncio.Event()  # something is wanted before its time
        self._is_wanted = False  # the whole question
        self.backend = backend
        self._task: asyncio.Task[None] | None = None
        self._health: Final = health
        self._interval: Final = interval
        self._awaited: Final = awaited
        self._waiting: asyncio.Timeout | None = None  # around WAIT FOR LSN
        self._to_report: Final = report
        self._lost: Final = lost
        self._tcp: Final = tcp
        self._tls: Final = tls
        self._connection: Any = None  # asyncpg.Connection
        self._last = Probe(False)  # what was reported
        self._failures = 0  # since the last answer

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin, unless it has begun."""
        if self._task is None:
            self._task = group.create_task(self._run())

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                started = loop.time()
                await self._ask()
                await self._rest(started)
        finally:
            self._drop()

    def ask(self) -> None:
        """The next question is wanted as soon as the smallest gap allows."""
        self._is_wanted = True
        self._wake.set()
        if self._waiting is not None:
            self._waiting.reschedule(0)  # now
            self._waiting = None

    def ask_position(self) -> None:
        """The same for no more than its position."""
        self._wake.set()

    async def _rest(self, started: float) -> None:
        """Until the next question is due or wanted; meanwhile whoever wants its position gets it."""
        loop = asyncio.get_running_loop()
        due = started + self._interval(self.backend)
        positioned = started
        while not self._is_wanted and loop.time() < due:
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                break
            self._wake.clear()
            if not self._is_wanted:
                await asyncio.sleep(positioned + POSITION_GAP - loop.time())
                positioned = loop.time()
                await self._ask_position(due)
        await asyncio.sleep(min(due, started + SMALLEST_GAP) - loop.time())
        self._is_wanted = False
        self._wake.clear()

    async def _ask_position(self, due: float) -> None:
        connection = self._connection
        if not self._last.alive or self._last.error or connection is None:
            return  # the next question will tell more
        try:
            if connection.get_server_version().major >= WAITS_FROM:
                await self._await_replay(connection, due)
                if self._is_wanted:
                    return
            asked_at = time.monotonic()
            async with asyncio.timeout(self._health.timeout):
                row = await connection.fetchrow(POSITION_QUESTION)
        except TimeoutError as error:
            self._failed(error)
            self.ask()
            return
        except Exception:  # noqa: BLE001 - a new connection will tell, as in `_answer`
            self._lost(self)
            self.ask()
            return
        if row["in_recovery"] != self._last.in_recovery or row["lsn"] is None:
            self.ask()
            return
        self._report(replace(self._last, lsn=parse_lsn(row["lsn"]), asked_at=asked_at))

    async def _await_replay(self, connection: Any, due: float) -> None:
        """Until the standby shows more of what the primary has said; not for long, and no longer than
        until the next question is due or wanted."""
        position = self._awaited(self.backend.name)
        wait = min(LONGEST_WAIT, due - asyncio.get_running_loop().time())
        milliseconds = int(wait * 1000)
        if position is None or milliseconds < 1:
            return
        try:
            async with asyncio.timeout(wait + self._health.timeout) as self._waiting:
                # Refused or interrupted (statement_timeout, a recovery conflict): it did not wait.
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute(WAIT.format(format_lsn(position), milliseconds))
        except TimeoutError:
            if not self._is_wanted:
                raise
        finally:
            self._waiting = None

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
        text = describe(error)
        if isinstance(error, TimeoutError):
            text = f"no answer within {self._health.timeout:g} s"
        self._failures += 1
        is_patient = verdict is _Verdict.UNASKED or (
            verdict is _Verdict.SILENT and self._failures < self._health.failures
        )
        if self._last.alive and is_patient:
            if self._failures == 1:
                _log.warning("probe_failed", backend=self.backend.name, reason=text)
            self._report(replace(self._last, error=text))
        else:
            self._report(Probe(False, error=text))

    def _report(self, probe: Probe) -> None:
        self._last = probe
        self._to_report(self, probe)

    async def _answer(self) -> Probe:
        if self._connection is not None:
            # Its end need not be the server's: pg_terminate_backend, a time-out on the way. A new
            # connection will tell.
            with contextlib.suppress(Exception):  # asyncpg's InternalClientError is one of many
                if not self._connection.is_closed():
                    return await self._question()
            self._lost(self)
        self._drop()
        health = self._health
        self._connection = await connect(
            self.backend.host,
            self.backend.port,
            health,
            health.database,
            _SESSION,
            self._tcp,
            self._tls,
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
            room=row["room"],
            defaults=row["defaults"] or "",
        )

    def _on_termination(self, _connection: object) -> None:
        self._lost(self)
        self.ask()

    def _drop(self) -> None:
        """Close the connection at once, without a word: the server may be hanging."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._on_termination)
            connection.terminate()


def _judge(error: Exception) -> _Verdict:
    if isinstance(error, asyncpg.PostgresError):
        code = str(error.sqlstate)
        is_gone = code in _GONE or code.startswith(_GONE_CLASS)
        return _Verdict.GONE if is_gone else _Verdict.UNASKED
    if isinstance(error, SecretError) or getattr(error, "errno", None) in _LOCAL_SHORTAGES:
        return _Verdict.UNASKED
    if isinstance(error, TimeoutError | socket.gaierror) or not isinstance(error, OSError):
        return _Verdict.SILENT
    return _Verdict.GONE
