"""The admin console: sessions with the virtual databases `pgproxy` and `pgbouncer`.

PgBouncer's console in both protocols. A session is a coroutine over its connection (exchange.py),
from log-in to its end; what a SHOW tells comes from `tables`, what the other commands do is in
admin.py. Sessions of the console are no clients: they have no place in `listen.max_clients`, hold
up no drain and go when the proxy does.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

import pgproxy
from pgproxy.clients.admin import KILLED, Admin, Patient
from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.farewell import Farewell
from pgproxy.clients.listener import GOING_AWAY
from pgproxy.errors import (
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    INTERNAL_ERROR,
    INVALID_AUTHORIZATION,
    PROTOCOL_VIOLATION,
    SUCCESS,
    TOO_MANY_CONNECTIONS,
    UNDEFINED_PREPARED_STATEMENT,
    PgError,
)
from pgproxy.frames import codes, read, write
from pgproxy.frames.table import TEXT, Columns, Value
from pgproxy.protocol.commands import SESSION_SETTINGS, Command, parse, split, unknown
from pgproxy.protocol.startup import StartupMessage
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.login import read_frame

_log = structlog.stdlib.get_logger()

# The largest message: no command is as long.
MAX_MESSAGE: Final = 65536
# Sessions at the same time.
MAX_SESSIONS: Final = 100

# Rows until clients have their turn again: a millisecond's work.
AT_ONCE: Final = 50

# What a user may do here.
NOTHING: Final = 0
SHOW: Final = 1
EVERYTHING: Final = 2

READY: Final = {
    codes.STATUS_IDLE: write.READY_IDLE,
    codes.STATUS_IN_TRANSACTION: write.READY_IN_TRANSACTION,
    codes.STATUS_FAILED: write.READY_FAILED,
}
FAILED: Final = PgError(
    "25P02", "current transaction is aborted, commands ignored until end of transaction block"
)

HELP: Final = """
	SHOW CLIENTS|SERVERS|POOLS|DATABASES|USERS|SOCKETS|ACTIVE_SOCKETS
	SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS|LISTS|MEM|STATE|CONFIG|VERSION
	SHOW PEERS|PEER_POOLS|DNS_HOSTS|DNS_ZONES
	SHOW QUERIES|REASONS
	SHOW POOL_NODES|POOL_PROCESSES|POOL_POOLS|POOL_BACKEND_STATS|POOL_VERSION
	PAUSE [<db>]
	RESUME [<db>]
	RECONNECT [<db>]
	WAIT_CLOSE [<db>]
	KILL [<db>]
	KILL_CLIENT <id>
	DISABLE <db>
	ENABLE <db>
	RELOAD
	SHUTDOWN"""


class Tables(Protocol):
    """telemetry/tables.py"""

    def rows(self, name: str) -> Iterator[list[Value]]: ...


class Elsewhere(Protocol):
    """The other processes of this proxy, if it is made of several (workers/member.py)."""

    async def join_rows(self, name: str, rows: list[list[Value]]) -> list[list[Value]]:
        """The rows of all, of which these are ours."""

    async def run_command(self, command: Command, patient: Patient) -> list[PgError]:
        """As `Admin.run`, everywhere."""


class Access:
    """Who may do what here."""

    def __init__(
        self, admin_users: Sequence[str], stats_users: Sequence[str], *, trusts_all: bool
    ) -> None:
        self._admins: Final = frozenset(admin_users)
        self._watchers: Final = frozenset(stats_users)
        # Who may call himself anything could call himself one of those, too.
        self._everybody: Final = (
            SHOW if trusts_all and not admin_users and not stats_users else NOTHING
        )

    def of(self, user: str) -> int:
        """NOTHING, SHOW or EVERYTHING."""
        if user in self._admins:
            return EVERYTHING
        return SHOW if user in self._watchers else self._everybody


class Console:
    """All sessions. `tables` and `admin` are handed in later, for they know the sessions too."""

    def __init__(self, access: Access, keys: CancelKeys, columns: Mapping[str, Columns]) -> None:
        self.access: Final = access
        self.keys: Final = keys
        self.columns: Final = columns
        self.sessions: Final[set[Session]] = set()
        self.tables: Tables
        self.admin: Admin
        self.elsewhere: Elsewhere | None = None

    def let_in(self, user: str) -> None:
        """Raises `PgError` FATAL for one who has nothing to do here."""
        if self.access.of(user) == NOTHING:
            raise PgError(
                INVALID_AUTHORIZATION,
                f'user "{user}" may not use the admin console',
                severity="FATAL",
                detail="auth.admin_users and auth.stats_users name those who may.",
            )
        if len(self.sessions) >= MAX_SESSIONS:
            raise PgError(
                TOO_MANY_CONNECTIONS,
                "too many sessions of the admin console",
                severity="FATAL",
                detail=f"There may be {MAX_SESSIONS} at the same time.",
            )

    async def serve(self, exchange: Exchange, message: StartupMessage) -> None:
        """One session, from the log-in's end to its own."""
        session = Session(self, exchange, message)
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)
            self.keys.remove(session)

    async def rows(self, name: str) -> list[list[Value]]:
        """What a SHOW tells of this process."""
        rows = []
        for row in self.tables.rows(name):
            rows.append(row)
            if len(rows) % AT_ONCE == 0:
                await asyncio.sleep(0)
        return rows

    async def show(self, name: str) -> list[list[Value]]:
        """What a SHOW tells."""
        rows = await self.rows(name)
        return rows if self.elsewhere is None else await self.elsewhere.join_rows(name, rows)

    async def run(self, command: Command, patient: Patient) -> list[PgError]:
        """As `Admin.run`."""
        _log.info("console_command", command=command.tag, argument=command.argument)
        if self.elsewhere is not None:
            return await self.elsewhere.run_command(command, patient)
        return await self.admin.run(command, patient)

    def kill(self, number: int) -> bool:
        """Ends the session of that id, if there is one."""
        for session in self.sessions:
            if session.pid == number:
                session.kill()
                return True
        return False


class _Statement:
    """A prepared statement: one command, or none at all."""

    def __init__(self, command: Command | None, columns: Columns | None) -> None:
        self.command: Final = command
        self.columns: Final = columns


class _Portal:
    def __init__(self, statement: _Statement, formats: list[int]) -> None:
        self.statement: Final = statement
        self.formats: Final = formats
        self.rows: list[list[Value]] | None = None  # what is still to be sent, once it has run


class Session:
    def __init__(self, console: Console, exchange: Exchange, message: StartupMessage) -> None:
        self.user: Final = message.user
        self.database: Final = message.database
        self.application_name = ""
        self.pid = 0
        self.secret = b""
        self.connected_at: Final = time.monotonic()
        self._console: Final = console
        self._exchange: Final = exchange
        self._message: Final = message
        self._may_command: Final = console.access.of(message.user) == EVERYTHING
        self._status = codes.STATUS_IDLE
        self._skipping = False  # after an error in the extended protocol, up to Sync
        self._statements: dict[bytes, _Statement] = {}
        self._portals: dict[bytes, _Portal] = {}
        self._cancelled = False
        self._killed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def transport(self) -> Any:
        """For its addresses."""
        return self._exchange.transport

    def cancel(self, done: Callable[[], None]) -> None:
        """A CancelRequest: what waits does not any more."""
        self._cancelled = True
        done()

    def kill(self) -> None:
        """KILL_CLIENT."""
        self._killed = True
        if self._task is not None:
            self._task.cancel()

    def check(self) -> None:
        """Raises what ends a wait."""
        if self._exchange.is_closed:
            raise ConnectionError("the console's user has left")
        if self._cancelled:
            raise PgError("57014", "canceling statement due to user request")

    async def run(self) -> None:
        """Serves until one side leaves."""
        self._task = asyncio.current_task()
        exchange = self._exchange
        try:
            exchange.write(self._welcome())
            while True:
                await exchange.drained()
                kind, body = await read_frame(exchange, MAX_MESSAGE)
                if kind == codes.F_TERMINATE:
                    exchange.close()
                    return
                await self._receive(kind, body)
        except PgError as error:
            self._leave(error)
        except ConnectionError:
            exchange.close()
        except asyncio.CancelledError:
            self._leave(KILLED if self._killed else GOING_AWAY)
            if not self._killed:
                raise
        except Exception:  # noqa: BLE001 - our own bug must not leave anybody without an answer
            _log.exception("console_failed")
            self._leave(PgError(INTERNAL_ERROR, "internal error", severity="FATAL"))

    def _leave(self, error: PgError) -> None:
        if self._exchange.is_closed:
            self._exchange.close()
            return
        self._exchange.write(write.error_response(error))
        Farewell(self._exchange.transport)

    def _welcome(self) -> bytes:
        settings = {
            # Drivers choose what they send by it; a version of its own would be one of the stone
            # age.
            "server_version": f"18.0 (pgproxy {pgproxy.__version__})",
            "server_encoding": "UTF8",
            "client_encoding": "UTF8",
            "DateStyle": SESSION_SETTINGS["datestyle"],
            "IntervalStyle": SESSION_SETTINGS["intervalstyle"],
            "TimeZone": SESSION_SETTINGS["timezone"],
            "integer_datetimes": "on",
            "standard_conforming_strings": "on",
            "is_superuser": "off",
        }
        for name, value in self._message.settings:
            if name == b"application_name":
                self.application_name = value.decode("utf-8", "replace")
        pid, secret = self._console.keys.add(self, self._message.version)
        parts = [
            write.parameter_status(name.encode(), value.encode())
            for name, value in settings.items()
        ]
        return b"".join([*parts, write.backend_key_data(pid, secret), write.READY_IDLE])

    # --- messages -----------------------------------------------------------------------------

    async def _receive(self, kind: int, body: bytes) -> None:
        self._cancelled = False
        if kind == codes.F_SYNC:
            self._skipping = False
            if self._status == codes.STATUS_IDLE:
                self._portals.clear()
            self._ready()
            return
        if self._skipping:
            return
        try:
            if kind == codes.F_QUERY:
                await self._query(body)
            elif kind == codes.F_PARSE:
                self._parse(body)
            elif kind == codes.F_BIND:
                self._bind(body)
            elif kind == codes.F_DESCRIBE:
                self._describe(body)
            elif kind == codes.F_EXECUTE:
                await self._execute(body)
            elif kind == codes.F_CLOSE:
                self._close(body)
            elif kind != codes.F_FLUSH:
                raise _unexpected(kind)
        except PgError as error:
            if error.severity == "FATAL":
                raise
            self._refuse(error, is_simple=kind == codes.F_QUERY)

    def _refuse(self, error: PgError, *, is_simple: bool) -> None:
        if self._status == codes.STATUS_IN_TRANSACTION:
            self._status = codes.STATUS_FAILED
        self._exchange.write(write.error_response(error))
        if is_simple:
            self._ready()
        else:
            self._skipping = True

    def _ready(self) -> None:
        self._exchange.write(READY[self._status])

    async def _query(self, body: bytes) -> None:
        statements = split(_text(read.query_text(body)))
        if not statements:
            self._exchange.write(write.EMPTY_QUERY_RESPONSE)
        for statement in statements:
            command = parse(statement)
            columns = self._columns(command)
            rows = await self._run(command)
            if columns is not None:
                self._exchange.write(columns.description())
                await self._send(columns, rows, [])
            self._exchange.write(write.command_complete(command.tag.encode()))
        self._ready()

    def _parse(self, body: bytes) -> None:
        name, sql, _types = read.parse_message(body)
        statements = split(_text(sql))
        if len(statements) > 1:
            raise PgError("42601", "cannot insert multiple commands into a prepared statement")
        if name and name in self._statements:
            raise PgError("42P05", f'prepared statement "{_text(name)}" already exists')
        command = parse(statements[0]) if statements else None
        columns = None if command is None else self._columns(command)
        self._statements[name] = _Statement(command, columns)
        self._exchange.write(write.PARSE_COMPLETE)

    def _bind(self, body: bytes) -> None:
        portal, name, offset = read.bind_names(body)
        statement = self._statement(name)
        count = read.int16(body, offset)
        offset += 2 + 2 * count
        if read.int16(body, offset) != 0:
            raise PgError(PROTOCOL_VIOLATION, "the admin console has no parameters")
        offset += 2
        formats = [
            read.int16(body, offset + 2 * number)
            for number in range(1, read.int16(body, offset) + 1)
        ]
        if any(form not in (0, 1) for form in formats):
            raise PgError(PROTOCOL_VIOLATION, "invalid format code")
        self._portals[portal] = _Portal(statement, formats)
        self._exchange.write(write.BIND_COMPLETE)

    def _describe(self, body: bytes) -> None:
        kind, name = read.describe_target(body)
        formats: list[int] = []
        if kind == codes.TARGET_STATEMENT:
            statement = self._statement(name)
            self._exchange.write(write.NO_PARAMETERS)
        else:
            portal = self._portal(name)
            statement, formats = portal.statement, portal.formats
        columns = statement.columns
        self._exchange.write(write.NO_DATA if columns is None else columns.description(formats))

    async def _execute(self, body: bytes) -> None:
        name, limit = read.execute_target(body)
        portal = self._portal(name)
        command, columns = portal.statement.command, portal.statement.columns
        if command is None:
            self._exchange.write(write.EMPTY_QUERY_RESPONSE)
            return
        if portal.rows is None:
            portal.rows = await self._run(command)
        rows = portal.rows if limit <= 0 else portal.rows[:limit]
        portal.rows = portal.rows[len(rows) :]
        if columns is not None:
            await self._send(columns, rows, portal.formats)
        if limit > 0 and len(rows) == limit:
            self._exchange.write(write.PORTAL_SUSPENDED)
        else:
            self._exchange.write(write.command_complete(command.tag.encode()))

    async def _send(
        self, columns: Columns, rows: list[list[Value]], formats: Sequence[int]
    ) -> None:
        for start in range(0, len(rows), AT_ONCE):
            part = [columns.row(row, formats) for row in rows[start : start + AT_ONCE]]
            self._exchange.write(b"".join(part))
            await self._exchange.drained()
            await asyncio.sleep(0)

    def _close(self, body: bytes) -> None:
        kind, name = read.close_target(body)
        if kind == codes.TARGET_STATEMENT:
            self._statements.pop(name, None)
        else:
            self._portals.pop(name, None)
        self._exchange.write(write.CLOSE_COMPLETE)

    def _statement(self, name: bytes) -> _Statement:
        found = self._statements.get(name)
        if found is None:
            raise PgError(
                UNDEFINED_PREPARED_STATEMENT, f'prepared statement "{_text(name)}" does not exist'
            )
        return found

    def _portal(self, name: bytes) -> _Portal:
        found = self._portals.get(name)
        if found is None:
            raise PgError("34000", f'portal "{_text(name)}" does not exist')
        return found

    # --- commands -----------------------------------------------------------------------------

    def _columns(self, command: Command) -> Columns | None:
        """What its rows look like; None for a command without any. Raises `PgError`."""
        if command.word != "show" or command.argument == "help":
            return None
        known = self._console.columns.get(command.argument)
        if known is not None:
            return known
        if command.argument in SESSION_SETTINGS:
            return Columns([(command.argument, TEXT)])
        if command.argument == "fds":
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                "SHOW FDS is not supported",
                detail="It is for handing sockets to another process, which this proxy does not do.",
            )
        raise unknown(f"SHOW {command.argument}")

    async def _run(self, command: Command) -> list[list[Value]]:
        """Does what it says; returns its rows. Raises `PgError`."""
        word = command.word
        if word == "end":
            self._status = codes.STATUS_IDLE
            return []
        if self._status == codes.STATUS_FAILED:
            raise FAILED
        if word == "begin":
            self._status = codes.STATUS_IN_TRANSACTION
        elif word == "show":
            return await self._show(command.argument)
        elif word == "set":
            self._set(command.argument)
        elif word != "ignored":
            if not self._may_command:
                raise PgError(
                    INSUFFICIENT_PRIVILEGE,
                    f"permission denied for {command.tag}",
                    detail="auth.admin_users names those who may; you may only SHOW.",
                )
            for notice in await self._console.run(command, self):
                self._exchange.write(write.notice_response(notice))
        return []

    async def _show(self, name: str) -> list[list[Value]]:
        if name == "help":
            notice = PgError(SUCCESS, "Console usage", severity="NOTICE", detail=HELP)
            self._exchange.write(write.notice_response(notice))
            return []
        if name in self._console.columns:
            return await self._console.show(name)
        return [[SESSION_SETTINGS[name]]]

    def _set(self, name: str) -> None:
        if name not in SESSION_SETTINGS:
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f"{name} cannot be set here",
                detail="The configuration of a running proxy does not change.",
                hint="Change the file or the environment, and restart.",
            )


def _unexpected(kind: int) -> PgError:
    return PgError(PROTOCOL_VIOLATION, f"invalid message type {kind}", severity="FATAL")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
