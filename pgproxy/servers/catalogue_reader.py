"""Reads the catalogue of one database: a `Session` on its primary, and what that tells a `Sink`.

All that is read is one state: one transaction, of whose snapshot the fingerprint is too. Rows come
a few hundred at a time and go straight to the sink, so that the event loop never waits for long and
nothing is in memory twice.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from sys import intern
from typing import Any, Final, Protocol

import asyncpg

from pgproxy.config import Health
from pgproxy.servers import catalogue_sql as questions
from pgproxy.servers.sockets import TcpOptions
from pgproxy.servers.tls import NO_TLS, ServerTls
from pgproxy.topology.access import NO_OPTIONS, connect

# How many rows are taken in before the loop gets its turn; a definition takes the server a while.
CHUNK: Final = 256
DEFINITIONS: Final = 50

# Instead of a definition that is locked. It is no SQL, so that nobody takes it for harmless.
LOCKED: Final = "locked: the definition is not known"

# Whoever has a definition written out waits for those who alter a table in it: not for long. The
# defaults of the role, such as JIT or a time limit, are not meant for these questions.
_SETTINGS: Final = {
    "application_name": "pgproxy catalogue",
    "jit": "off",
    "lock_timeout": "50ms",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
# Seconds that the server has to take its leave.
_FAREWELL: Final = 1.0

# Where a setting has its value from if no role's and no database's hides the server's own.
_OF_THE_SERVER: Final = frozenset(
    {"default", "environment variable", "configuration file", "command line"}
)


class NotPrimaryError(Exception):
    """A standby has answered: it may not show the last change yet."""

    def __init__(self) -> None:
        super().__init__("the server is in recovery")


class Sink(Protocol):
    """What a catalogue is told; routing/catalogue.py says what it means."""

    def function(
        self, schema: str, name: str, least: int, most: int, *, volatile: bool, takes_row: bool
    ) -> None: ...
    def operator(self, schema: str, name: str, *, volatile: bool) -> None: ...
    def type(self, schema: str, name: str, definition: str) -> None: ...
    def cast(self, schema: str, name: str, detail: str) -> None: ...
    def implicit(self, detail: str, function: str) -> None: ...
    def relation(self, schema: str, name: str, kind: str, definition: str) -> None: ...
    def runs(self, kind: str, schema: str, name: str, text: str) -> None: ...
    def search_path(self, role: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read. Another `fingerprint` is another catalogue."""

    fingerprint: str
    functions: int
    objects: int  # all that the sink was told
    is_whole: bool  # no definition was locked


class Session:
    """A connection to one database for its catalogue; to be closed by `close` or `drop`."""

    def __init__(self, connection: Any, server_path: str) -> None:
        self._connection: Final = connection  # asyncpg.Connection
        self._server_path: Final = server_path  # the server's own search_path; "": it is hidden

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        health: Health,
        database: str,
        tcp: TcpOptions = NO_OPTIONS,
        tls: ServerTls = NO_TLS,
    ) -> "Session":
        """Set a time limit around it, as around what follows."""
        connection = await connect(host, port, health, database, _SETTINGS, tcp, tls)
        try:
            row = await connection.fetchrow(questions.CONFIGURED_PATH)
            await connection.execute(questions.SESSION)
        except BaseException:
            connection.terminate()
            raise
        is_seen = row["source"] in _OF_THE_SERVER
        # "" says that it is not known; a path without schemas is written as ALTER ROLE does.
        return cls(connection, (row["setting"] or '""') if is_seen else "")

    async def close(self) -> None:
        """Tell the server. What comes of it matters to nobody any more."""
        with contextlib.suppress(Exception):
            await self._connection.close(timeout=_FAREWELL)

    def drop(self) -> None:
        """At once and without a word, for the server may be hanging; or after `close`."""
        self._connection.terminate()

    async def read(
        self, sink: Sink, known: str = "", proceed: Callable[[], None] = lambda: None
    ) -> Reading | None:
        """Tell the sink all there is. None: the fingerprint is `known`, and it was told nothing.

        `proceed` is called now and then, and may raise to give up.
        """
        transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
        await transaction.start()
        try:
            return await self._read(sink, known, proceed)
        except asyncio.CancelledError:
            self.drop()  # a server that has fallen silent would not answer COMMIT either
            raise
        finally:
            # Not ROLLBACK: what a query logs by pruning pages is then not flushed before somebody
            # commits, and replicas of a quiet primary lack it (RecordTransactionAbort, xact.c).
            if not self._connection.is_closed():
                await transaction.commit()

    async def _read(self, sink: Sink, known: str, proceed: Callable[[], None]) -> Reading | None:
        state = await self._connection.fetchrow(questions.STATE)
        if state["in_recovery"]:
            raise NotPrimaryError
        fingerprint = f"{state['fingerprint']} {self._server_path}"
        if fingerprint == known:
            return None
        reader = _Reader(self._connection, sink, proceed)
        await reader.read(self._server_path)
        return Reading(fingerprint, reader.functions, reader.objects, reader.is_whole)


class _Reader:
    """One pass, within a transaction."""

    def __init__(self, connection: Any, sink: Sink, proceed: Callable[[], None]) -> None:
        self._sink: Final = sink
        self.functions = 0
        self.objects = 0
        self.is_whole = True
        self._connection: Final = connection
        self._proceed: Final = proceed
        self._names: Final[dict[int, tuple[str, str]]] = {}  # of what has a definition, by oid
        self._defined: Final[dict[str, list[int]]] = {"view": [], "policy": []}

    async def read(self, server_path: str) -> None:
        sink = self._sink
        sink.search_path("", server_path)
        await self._each(questions.SEARCH_PATHS, sink.search_path)
        await self._each(questions.FUNCTIONS, self._function)
        self.functions = self.objects
        await self._each(questions.BODIES, sink.runs)
        await self._each(questions.OPERATORS, self._operator)
        await self._each(questions.TYPES, sink.type)
        await self._each(questions.CASTS, sink.cast)
        await self._each(questions.IMPLICIT, sink.implicit)
        await self._each(questions.RELATIONS, self._relation)
        # Last, for they lock what they name.
        await self._definitions("view", questions.VIEWS)
        await self._definitions("policy", questions.POLICIES)

    async def _each(self, question: str, tell: Callable[..., None]) -> None:
        cursor = await self._connection.cursor(question)
        while rows := await cursor.fetch(CHUNK):
            self._proceed()
            for row in rows:
                tell(*row)
            self.objects += len(rows)

    def _function(
        self, schema: str, name: str, least: int, most: int, volatile: bool, takes_row: bool
    ) -> None:
        self._sink.function(
            intern(schema), name, least, most, volatile=volatile, takes_row=takes_row
        )

    def _operator(self, schema: str, name: str, volatile: bool) -> None:
        self._sink.operator(intern(schema), name, volatile=volatile)

    def _relation(self, oid: int, schema: str, name: str, kind: str) -> None:
        if kind in self._defined:
            self._defined[kind].append(oid)
            self._names[oid] = (intern(schema), name)
        else:
            self._sink.relation(intern(schema), name, kind, "")

    async def _definitions(self, kind: str, question: str) -> None:
        oids = self._defined[kind]
        for start in range(0, len(oids), DEFINITIONS):
            chunk = oids[start : start + DEFINITIONS]
            try:
                await self._define(kind, question, chunk)
            except asyncpg.LockNotAvailableError:
                for oid in chunk:
                    await self._define_alone(kind, question, oid)

    async def _define_alone(self, kind: str, question: str, oid: int) -> None:
        try:
            await self._define(kind, question, [oid])
        except asyncpg.LockNotAvailableError:
            self.is_whole = False
            self._told(kind, [(oid, LOCKED)])

    async def _define(self, kind: str, question: str, oids: list[int]) -> None:
        """In a subtransaction that is rolled back: so its locks, for which there is room for a few
        thousand only, are given back, and nobody who alters a table waits for the rest."""
        within = self._connection.transaction()
        await within.start()
        try:
            rows = await self._connection.fetch(question, oids)
        except asyncpg.PostgresError:
            await within.rollback()
            raise
        await within.rollback()
        self._proceed()
        self._told(kind, rows)

    def _told(self, kind: str, rows: Iterable[tuple[int, str | None]]) -> None:
        for oid, definition in rows:
            schema, name = self._names.pop(oid)
            self._sink.relation(schema, name, kind, definition or LOCKED)
