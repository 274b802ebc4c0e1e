"""HOT, PURE. One client's statements: how its texts are decided, and which of them it has prepared.

Its names change when a message that makes or closes one is read, which is before a server has seen
it; `undo` takes back what a server never accepted. What a server connection has prepared is in
protocol/prepared.py.
"""

from typing import Final, final

from pgproxy.errors import UNDEFINED_PREPARED_STATEMENT, PgError
from pgproxy.frames import write
from pgproxy.protocol.inflight import Owed
from pgproxy.protocol.named import DEALLOCATES, PREPARES, Names, NameUse
from pgproxy.protocol.prepared import Statement, StatementRegistry
from pgproxy.protocol.states import CLOSE, PARSE
from pgproxy.routing.decision import PLAIN, Decision
from pgproxy.routing.lexer import first_word
from pgproxy.routing.naming import decided, decisions_of
from pgproxy.routing.router import Router

# The number of an unnamed statement whose text was too large to keep.
LOST: Final = -1

# The first words of what PostgreSQL plans; SELECT INTO and COPY are not told apart, and work too.
PLANNED: Final = frozenset(
    {"select", "with", "values", "table", "insert", "update", "delete", "merge"}
)


@final
class ClientStatements:
    """`named` maps the client's names; `unnamed` is its unnamed statement."""

    def __init__(self, router: Router, registry: StatementRegistry) -> None:
        self.router = router
        self.registry: Final = registry
        self.scope = b""  # what of the session decides the meaning of its texts
        self.fixed: Decision | None = None  # used instead of the router's (unsafe encodings)
        self.named: Final[dict[bytes, Statement]] = {}
        self.unnamed: Statement | None = None
        self.described: Final[set[bytes]] = set()  # names of those whose columns the client knows
        self.bound: bytes | None = None  # the name of the one bound last
        self.portals: Final[dict[bytes, Names]] = {}  # of statements that name others
        # Names that what is sent and unanswered makes or closes.
        self.in_doubt: Final[set[bytes]] = set()

    def decision_of(self, statement: Statement) -> Decision:
        """The decision for a statement, which clients of other encodings may have named too."""
        return decided(statement, self.router) if self.fixed is None else self.fixed

    def parts_of(self, decision: Decision) -> list[Decision]:
        """The decisions that are heeded for a statement of this one."""
        return (
            [decision]
            if decision.names is None
            else decisions_of(decision, self.named, self.router)
        )

    def prepare(self, name: bytes, sql: bytes, types: bytes, decision: Decision) -> Statement:
        """Parse makes a statement of this name, which is free."""
        statement = self.registry.acquire(
            sql, types, decision, self.scope, is_shared=decision.names is None
        )
        self.named[name] = statement
        if self.described:
            self.described.discard(name)
        return statement

    def close(self, name: bytes) -> Statement | None:
        """Close, or the like, takes the name away. Returns what had it."""
        statement = self.named.pop(name, None)
        if statement is not None:
            self.registry.release(statement)
        return statement

    def repeated(self, sql: bytes, types: bytes, decision: Decision) -> Statement | None:
        """The statement that serves an unnamed one of this text, if that has come before."""
        if self.fixed is not None:
            return None
        registry = self.registry
        statement = registry.repeated(sql, types, self.scope)
        if statement is None:
            if not registry.is_seen_again(sql, types, self.scope) or not is_plain(sql, decision):
                return None
            statement = registry.repeat(sql, types, decision, self.scope)
        if self.described:
            self.described.discard(b"")
        return statement

    def bind(self, portal: bytes, names: Names | None) -> None:
        """Bind makes a portal of a statement that names others, or one in its place."""
        if names is not None:
            self.portals[portal] = names
        else:
            self.portals.pop(portal, None)

    def name_done(self, use: NameUse) -> Statement | None:
        """A server has done so to the client's names. Returns what was prepared."""
        if use.kind not in (PREPARES, DEALLOCATES):
            self.forget_names()
            return None
        self.close(use.name)
        if use.kind == DEALLOCATES:
            return None
        statement = self.registry.acquire(use.sql, b"", use.decision, self.scope)
        self.named[use.name] = statement
        return statement

    def undo(self, void: list[Owed]) -> None:
        """What these messages announced did not happen (oldest first)."""
        for owed in reversed(void):
            statement = owed.statement
            if owed.kind == PARSE and statement is not None:
                if owed.name:
                    if self.named.get(owed.name) is statement:
                        del self.named[owed.name]
                        self.registry.release(statement)
                elif self.unnamed is statement:
                    self.unnamed = owed.previous
            elif owed.kind == CLOSE and statement is not None and owed.name not in self.named:
                self.named[owed.name] = statement
                self.registry.retain(statement)

    def forget_names(self) -> None:
        """The client has discarded all that has a name."""
        for statement in self.named.values():
            self.registry.release(statement)
        self.named.clear()
        self.described.clear()

    def forget_all(self) -> None:
        """The client is gone."""
        self.forget_names()
        self.unnamed = None

    def in_clients_words(self, frame: bytes, void: list[Owed]) -> bytes:
        """An ErrorResponse with the client's names of statements in place of ours; `void`: what
        the server has not done after all."""
        if void and void[0].previous is not None and void[0].name:
            frame = _renamed(frame, void[0].previous, void[0].name)  # the name is taken
        for owed in void:
            if owed.statement is not None and not owed.hidden:
                frame = _renamed(frame, owed.statement, owed.name)
        for name, statement in self.named.items():
            frame = _renamed(frame, statement, name)
        if self.unnamed is not None:
            frame = _renamed(frame, self.unnamed, b"")
        return frame[:1] + write.int32(len(frame) - 1) + frame[5:]


def is_plain(sql: bytes, decision: Decision) -> bool:
    """Whether a text is one that PostgreSQL plans."""
    return (
        decision.kind == PLAIN
        and not decision.unparsed
        and decision.pin is None
        and first_word(sql) in PLANNED
    )


def _renamed(frame: bytes, statement: Statement, name: bytes) -> bytes:
    if not statement.server_name:
        return frame
    return frame.replace(b'"' + statement.server_name + b'"', b'"' + name + b'"')


def undefined_statement(name: bytes) -> PgError:
    """PostgreSQL's error for a statement that does not exist."""
    return PgError(
        UNDEFINED_PREPARED_STATEMENT,
        f'prepared statement "{name.decode(errors="replace")}" does not exist',
        routine="FetchPreparedStatement",  # then postgres.js prepares it again
    )
