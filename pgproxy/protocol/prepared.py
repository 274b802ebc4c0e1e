"""PURE. Prepared statements that outlive the server connection they were made on.

A client's Parse names a statement in the client's own name space. Server connections are shared,
so there the statement has a name of ours, equal for equal texts: two clients that prepare the same
text share one plan on each server. A `Statement` is that shared thing; the client maps its names
to statements, a server connection knows which statements it has prepared.

The unnamed statement belongs to one client and is parsed anew where a Bind finds another one.
"""

import re
from typing import Final, final

from mypy_extensions import i64

# Clients' own names never reach a server, except names of statements that do not exist, so that
# the error message is PostgreSQL's. Those must not hit one of ours by accident.
SERVER_PREFIX: Final = b"pgproxy_"

# Of unnamed statements: texts that are remembered to have been seen, in each of two generations;
# those that were seen again, and have names on the servers; and the longest of them.
SEEN: Final = 4096
REPEATED: Final = 1000
LONGEST_REPEATED: Final = 16384


_MOMENT: Final = re.compile(rb"'[^']*\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)


@final
class Statement:
    """A text with its parameter types. `decision` is what the router said of it (opaque here)."""

    def __init__(
        self,
        number: int,
        sql: bytes,
        parameter_types: bytes,
        decision: object,
        scope: bytes = b"",
    ) -> None:
        self.number: i64 = number  # 0 for an unnamed statement
        self.server_name = SERVER_PREFIX + str(number).encode() if number else b""
        self.sql = sql
        self.parameter_types = parameter_types
        self.decision = decision
        self.epoch: i64 = 0  # of the router that decided (opaque here); 0: another may have
        self.scope = scope  # what of the session decides the meaning of the text
        self.by_sql = not parameter_types and number > 0  # `sql` is a PREPARE
        self.users: i64 = 0  # client names that mean this statement
        self.proven = False  # some server has accepted it
        self.answered: object = None  # rewrite's note on it, made once (protocol/inflight.py)

    def __repr__(self) -> str:
        return f"<Statement {self.number} users={self.users} {self.sql[:60]!r}>"


@final
class Making:
    """A Parse on its way to a server, which may fail or be ignored after an error before it."""

    def __init__(self, statement: Statement, *, hidden: bool) -> None:
        self.statement = statement
        self.hidden = hidden  # the client did not send it
        self.answered = False  # by ParseComplete
        self.void = False

    def __repr__(self) -> str:
        return f"<Making {self.statement} hidden={self.hidden} answered={self.answered}>"


def is_of_the_moment(sql: bytes) -> bool:
    """Whether a constant in the text may be what a clock says when it is parsed ("Special Values" of
    the date and time types): who parses it later means another one."""
    return _MOMENT.search(sql) is not None


@final
class StatementRegistry:
    """All named statements of the proxy's clients, each text once."""

    def __init__(self) -> None:
        self._by_text: dict[tuple[bytes, bytes, bytes], Statement] = {}
        self._last = 0
        self._repeated: dict[tuple[bytes, bytes, bytes], Statement] = {}
        self._seen: set[int] = set()
        self._seen_before: set[int] = set()

    def __len__(self) -> int:
        return len(self._by_text)

    def acquire(
        self,
        sql: bytes,
        parameter_types: bytes,
        decision: object,
        scope: bytes = b"",
        *,
        is_shared: bool = True,
    ) -> Statement:
        """The statement of this text, with one user more. One that SQL prepares has no parameter
        types, not even their number. One that is not shared is new."""
        if not is_shared or is_of_the_moment(sql):
            scope += b"\x01%d" % self._last
        key = (sql, parameter_types, scope)
        statement = self._by_text.get(key)
        if statement is None:
            self._last += 1
            statement = Statement(self._last, sql, parameter_types, decision, scope)
            self._by_text[key] = statement
        statement.users += 1
        return statement

    def is_current(self, statement: Statement) -> bool:
        """Whether who prepares the text now gets this one."""
        key = (statement.sql, statement.parameter_types, statement.scope)
        return self._by_text.get(key) is statement

    def release(self, statement: Statement) -> None:
        """One user less; without users the text is forgotten. Numbers are never used again."""
        statement.users -= 1
        # One that was forgotten and retained may have a successor of the same text.
        if statement.users == 0 and self.is_current(statement):
            del self._by_text[statement.sql, statement.parameter_types, statement.scope]

    def retire(self) -> None:
        """The schema has changed: a text prepared from now on must not get a plan from before,
        which PostgreSQL refuses when it would return other columns. Names in use keep theirs."""
        self._by_text.clear()
        self._repeated.clear()

    def repeated(self, sql: bytes, parameter_types: bytes, scope: bytes) -> Statement | None:
        """The statement that serves an unnamed one of this text, if there is one."""
        return self._repeated.get((sql, parameter_types, scope))

    def is_seen_again(self, sql: bytes, parameter_types: bytes, scope: bytes) -> bool:
        """Whether an unnamed statement of this text has been here lately; notes that it has."""
        if len(sql) > LONGEST_REPEATED or is_of_the_moment(sql):
            return False
        key = hash((sql, parameter_types, scope))
        if key in self._seen or key in self._seen_before:
            return True
        if len(self._seen) >= SEEN:
            self._seen_before = self._seen
            self._seen = set()
        self._seen.add(key)
        return False

    def repeat(
        self, sql: bytes, parameter_types: bytes, decision: object, scope: bytes
    ) -> Statement:
        """From now on this statement serves unnamed ones of its text."""
        if len(self._repeated) >= REPEATED:
            del self._repeated[next(iter(self._repeated))]
        self._last += 1
        statement = Statement(self._last, sql, parameter_types, decision, scope)
        self._repeated[sql, parameter_types, scope] = statement
        return statement

    def retain(self, statement: Statement) -> None:
        """Undoes a `release`, also of the last user."""
        statement.users += 1
        if statement.users == 1:
            key = (statement.sql, statement.parameter_types, statement.scope)
            self._by_text.setdefault(key, statement)


@final
class PreparedOnServer:
    """The statements one server connection has prepared, at most `limit`, the least recently used
    leave first."""

    def __init__(self, limit: int) -> None:
        self.limit: i64 = limit
        self.named: dict[bytes, Statement] = {}  # under clients' own names, last used last
        self.unnamed: Statement | None = None
        self.unnamed_making: Making | None = None  # our own last Parse of an unnamed statement
        self._used: dict[int, int] = {}  # number -> tick of its last use
        self._making: dict[int, Making] = {}  # number -> the newest Parse, if not known to be done
        self._closing: set[int] = set()  # numbers to be closed by what is not answered yet
        self._doubted: set[int] = set()  # numbers that may or may not be here
        self._tick: i64 = 0

    def __len__(self) -> int:
        return len(self._used)

    def touch(self, statement: Statement) -> bool:
        """Whether it is prepared here; notes the use."""
        number = int(statement.number)
        used = self._used
        if number not in used:
            return False
        self._tick += 1
        used[number] = int(self._tick)
        return True

    def add(self, statement: Statement) -> bytes:
        """Notes that it is being prepared here. Returns the server-side name to close first, or
        b"" while there is room."""
        evicted = b""
        if len(self._used) >= self.limit:
            oldest = min(self._used, key=self._used.__getitem__)
            del self._used[oldest]
            self._making.pop(oldest, None)
            self._closing.add(oldest)
            evicted = SERVER_PREFIX + str(oldest).encode()
        self._tick += 1
        self._used[statement.number] = self._tick
        return evicted

    def make(self, statement: Statement, *, hidden: bool) -> Making:
        """Notes that a Parse of it is being sent."""
        making = Making(statement, hidden=hidden)
        if statement.number:
            self._making[int(statement.number)] = making
        else:
            self.unnamed_making = making
        return making

    def pending(self, statement: Statement) -> Making | None:
        """The newest Parse of it, while it is not answered."""
        number = int(statement.number)
        if number and not self._making:
            return None
        making = self._making.get(number) if number else self.unnamed_making
        if making is None or making.statement is not statement:
            return None
        if making.answered:
            self._making.pop(number, None)
            return None
        return making

    def restore(self, name: bytes) -> None:
        """A statement that `add` named for closing was not closed: the server ignored that."""
        self._tick += 1
        self._used[int(name[len(SERVER_PREFIX) :])] = self._tick

    def doubt(self, statement: Statement) -> None:
        """It was to be closed in case it is here, and the server ignored that."""
        self._doubted.add(int(statement.number))

    def drop(self, statement: Statement) -> None:
        """It is here and of no use any more: it is closed before it is prepared anew."""
        number = int(statement.number)
        self._used.pop(number, None)
        self._making.pop(number, None)
        self._doubted.add(number)

    def is_certain(self, statement: Statement) -> bool:
        """Whether one that is to be prepared need not be closed first; else that will be done."""
        number = int(statement.number)
        if number not in self._closing and number not in self._doubted:
            return True
        self._doubted.discard(number)
        return False

    def discard_all(self) -> None:
        """DEALLOCATE ALL was executed, with nothing sent behind it. The unnamed one stays."""
        self.named.clear()
        self._used.clear()
        self._making.clear()
        self._closing.clear()
        self._doubted.clear()

    def settle(self) -> None:
        """The server has answered everything that it was sent."""
        if self._closing:
            self._closing.clear()
        if self._making:
            self._making.clear()
        self.unnamed_making = None

    def forget(self, statement: Statement) -> None:
        """It was not prepared after all; unless a later Parse of it is still on its way."""
        number = int(statement.number)
        making = self._making.get(number)
        if making is not None and not making.void:
            return
        self._making.pop(number, None)
        self._used.pop(number, None)
