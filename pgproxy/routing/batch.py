"""HOT, PURE. From a client's frames to a batch with a decision.

A *batch* is what must run on one server as a whole: one Query or FunctionCall, or extended-query
messages up to their Sync. It is *cut* when it cannot be read to its end before something has to be
sent: the client asks for an answer with Flush, a frame is too large to hold, copy data is expected
or too much has gathered. The rest of a cut batch follows to the same server.

`BatchReader.read` consumes frames until a batch is complete and leaves behind

* `start`, `end`: the bytes of the batch in `input.data`, sent unchanged but for the edits;
* `owed`: the replies that the server will owe for it;
* `edits`: the frames that depend on what the chosen server has prepared;
* `target`, `decision`, `pin` and flags: what the router says of all its statements together.

Client statement names change at once, when read; `undo` takes back what a server never accepted.
"""

import re
from typing import Final, cast, final

from mypy_extensions import i64

from pgproxy.errors import (
    PROTOCOL_VIOLATION,
    UNDEFINED_PREPARED_STATEMENT,
    PgError,
)
from pgproxy.frames import write
from pgproxy.frames.codes import (
    F_BIND,
    F_CLOSE,
    F_COPY_DONE,
    F_COPY_FAIL,
    F_DESCRIBE,
    F_EXECUTE,
    F_FLUSH,
    F_FUNCTION_CALL,
    F_PARSE,
    F_QUERY,
    F_SYNC,
    TARGET_STATEMENT,
)
from pgproxy.frames.read import bind_parameter
from pgproxy.frames.splitter import NEED_DATA, Splitter, wants
from pgproxy.protocol.channels import Act
from pgproxy.protocol.inflight import (
    OWED_BIND,
    OWED_CLOSE,
    OWED_COPY_END,
    OWED_DESCRIBE,
    OWED_EXECUTE,
    OWED_FUNCTION_CALL,
    OWED_QUERY,
    OWED_SYNC,
    Owed,
)
from pgproxy.protocol.named import (
    DEALLOCATES,
    PREPARES,
    Names,
    NameUse,
    Need,
    add_need,
    add_needs,
)
from pgproxy.protocol.prepared import SERVER_PREFIX, Statement, StatementRegistry
from pgproxy.protocol.session import AUTO, TO_PRIMARY, TO_REPLICA
from pgproxy.protocol.settings import (
    TEMPORARY,
    UNNAMED,
    Effect,
    is_custom,
    names_set,
    setting_name,
)
from pgproxy.protocol.states import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE, QUERY, SYNC
from pgproxy.routing.decision import (
    ALONE,
    DEALLOCATE,
    LISTEN,
    NEVER,
    NO_RULE,
    NOT_ASKED,
    PLAIN,
    PRIMARY,
    REPLICA,
    SET_MIN_LSN,
    SET_ROUTE,
    SET_TRACE,
    SHOW_CHANNELS,
    SHOW_LAST_ROUTE,
    SHOW_LSN,
    SHOW_MIN_LSN,
    SHOW_ROUTE,
    SHOW_TABLE,
    SHOW_TRACE,
    UNLISTEN,
    Decision,
    pin_among_others,
)
from pgproxy.routing.lexer import first_word
from pgproxy.routing.naming import decided, decisions_of
from pgproxy.routing.pins import COMPUTED, NEVER_SEEN, Pin, lasting_pin
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Router
from pgproxy.telemetry.counters import Traffic

# Copy data passes; a frame whose length alone matters is still wanted whole, being tiny.
CLIENT_FRAMES: Final = wants(pass_by=b"d", header=b"HSXcf", body=b"BDECF", text=b"QP")

# Bytes of one frame that are held until it is complete; what is beyond passes through.
HELD_FRAME: Final = 65536
# The same for the text of statements: only what is read whole is known not to change the session.
HELD_TEXT: Final = 1 << 20
# The largest length word of a message that carries no text or values: PQ_SMALL_MESSAGE_LIMIT. What
# is read here and sent on rebuilt must be whole, or the rest of it would pass for messages.
SMALL_MESSAGE: Final = 10000
LARGE_MESSAGES: Final = (F_QUERY, F_PARSE, F_BIND, F_FUNCTION_CALL)
# Bytes of a batch that are held while its Sync has not come.
HELD_BATCH: Final = 65536

# What `read` found.
NOTHING: Final = 0  # more bytes are needed
BATCH: Final = 1
LEFT: Final = 2  # the client said Terminate
PAUSE: Final = 3  # no batch ends in the next `AT_ONCE` messages
AT_ONCE: Final = 1000

# The number of an unnamed statement whose text was too large to keep.
LOST: Final = -1

# A text that sets something has one of these, in whatever encoding: an escape may spell any word.
SETTING_WORDS: Final = re.compile(rb"set|execute|u&|\\", re.IGNORECASE)

# How a batch ends.
AT_READY: Final = 0  # ReadyForQuery will follow
CUT: Final = 1  # more of it will come

# Why a frame may have to be altered.
MAKE: Final = 0  # named Parse: rename, or leave out where the server has it
USE: Final = 1  # Bind or Describe of a named statement: rename, prepare it first where missing
USE_UNNAMED: Final = 2  # of an unnamed statement that an earlier batch parsed
SUBSTITUTE: Final = 3  # send other bytes

# The first words of what PostgreSQL plans; SELECT INTO and COPY are not told apart, and work too.
PLANNED: Final = frozenset(
    {"select", "with", "values", "table", "insert", "update", "delete", "merge"}
)

# What the proxy answers itself.
OWN_KINDS: Final = (
    SET_ROUTE, SHOW_LAST_ROUTE, SHOW_ROUTE, SET_TRACE, SHOW_TRACE, SET_MIN_LSN, SHOW_MIN_LSN,
)  # fmt: skip
# And what it answers where listening is shared.
CHANNEL_KINDS: Final = (LISTEN, UNLISTEN, SHOW_CHANNELS)

# What the primary is asked where a client says SHOW pgproxy.lsn.
LSN_QUESTION: Final = b'SELECT pg_catalog.pg_current_wal_insert_lsn()::text AS "pgproxy.lsn"'

# FunctionCall names its function by OID: those of large objects, for which libpq and pgjdbc use it,
# leave nothing in the session. Any other may be set_config().
LARGE_OBJECT_FUNCTIONS: Final = frozenset(
    (715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172)
)
FUNCTION_CALL_DECISION: Final = Decision(PRIMARY, Reason.FUNCTION_CALL, known_write=True)
OTHER_FUNCTION_CALL: Final = Decision(
    PRIMARY, Reason.FUNCTION_CALL, pin=Pin.UNPARSED, known_write=True
)

_NO_NEEDS: Final[dict[bytes, Need]] = {}  # never changed

# A Bind that always fails: numbered names only are ever prepared.
FAILING_BIND: Final = write.frame(F_BIND, b"\x00" + SERVER_PREFIX + b"\x00" + b"\x00" * 6)


@final
class Edit:
    def __init__(
        self, kind: int, start: i64, end: i64, at: i64, statement: Statement | None, frame: bytes
    ) -> None:
        self.kind: i64 = kind
        self.start = start
        self.end = end
        self.at = at  # index in `owed` of the frame's own entry
        self.statement = statement
        self.frame = frame  # what is sent instead


@final
class BatchReader:
    """Reads one client's messages. `statements` maps the client's names."""

    def __init__(
        self, router: Router, registry: StatementRegistry, traffic: Traffic | None = None
    ) -> None:
        self.traffic = Traffic() if traffic is None else traffic
        self.input = Splitter(CLIENT_FRAMES, HELD_FRAME, HELD_TEXT)
        self.router = router
        self.registry = registry
        self.statements: dict[bytes, Statement] = {}
        self.unnamed: Statement | None = None
        self.scope = b""  # what of the session decides the meaning of its texts
        self.fixed: Decision | None = None  # used instead of the router's (unsafe encodings)
        self.shares_listening = False  # LISTEN is the proxy's to answer (servers/listening.py)
        self.skipping = False  # after an error of ours: drop everything up to Sync
        self.continues = False  # the first part of this batch has been sent
        # The batch.
        self.start: i64 = 0
        self.end: i64 = 0
        self.ending: i64 = AT_READY
        self.simple = False  # one Query frame
        self.owed: list[Owed] = []
        self.edits: list[Edit] = []
        self.target: i64 = REPLICA
        self.decision: Decision | None = None  # the one that decided
        # All statements are plain (Decision): what stands here between this and `own` is as it was
        # made, `known_write`, `may_write`, `again`, `anywhere` and `movable` apart.
        self.is_plain = True
        self.pin: Pin | None = None
        self.unparsed = False
        self.known_write = False
        self.discards = False
        self.changes_schema = False
        self.renews: i64 = 0  # what it does to what is known of the database's objects
        self.executes = False
        self.may_write = False  # a statement bound here may, when it is executed
        self.again: i64 = ALONE  # NEVER, IN_BLOCK or ALONE: where it may be run again
        self.starts = False  # it has a BEGIN
        self.ends = False  # it has a COMMIT or ROLLBACK
        self.acts: tuple[Act, ...] = ()  # of all statements bound
        self.executed: Decision | None = None  # of the last statement bound
        self.executed_statement: Statement | None = None
        self.effects: tuple[Effect, ...] = ()  # on the session's settings
        self.asks_sequence = False  # what the session's own nextval gave
        self.gives_sequence = False  # it calls nextval
        self.anywhere = False  # it fits wherever its transaction runs
        self.movable = True  # all its statements are (Decision)
        self.may_unpin = False
        self.uses_temporary = False
        self.changes_defaults = False
        self.is_ruled = False  # a rule of the configuration fits one of its statements
        self.is_unruled = False  # and not another one
        self.ruled_to_primary = False
        self.own: i64 = PLAIN  # the kind, if all statements are ones the proxy answers itself
        self.new_unnamed: Statement | None = None  # parsed in this batch
        self.open = False  # `start` is the beginning of a batch whose end has not come
        # What it does with clients' own names of statements on the server (protocol/named.py).
        self.is_named = False  # anything
        self.names: Names | None = None  # if it is one Query
        self.needs: dict[bytes, Need] = _NO_NEEDS
        self.reserved = b""  # a name of ours that its text names
        self.described: set[bytes] = set()  # names of statements whose columns it knows
        self._bound: bytes | None = None  # the name of the statement bound last
        self.in_doubt: set[bytes] = set()  # names that what is sent and unanswered makes or closes
        self._doubting: list[bytes] = []  # the same of this batch
        self._must_end = False  # what names mean has changed: what follows is another batch
        self.may_know_more = False  # the server may have names of a text that was not understood
        self._has_error = False  # the batch has a message that fails by our doing
        self._has_unnamed = False  # the batch has parsed an unnamed statement
        self._portals: dict[bytes, Names] = {}  # those of statements that name others
        self._unnamed_before: Statement | None = None

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; not while a batch is complete and not `done`."""
        splitter = self.input
        dropped = splitter.keep
        splitter.feed(chunk)
        if self.open and dropped > 0:
            # What was sent before this batch is not in `input.data` any more.
            self.start -= dropped
            for edit in self.edits:
                edit.start -= dropped
                edit.end -= dropped

    def read(self) -> i64:
        """NOTHING, BATCH, LEFT or PAUSE. Raises `PgError` FATAL (08P01) for what is not the
        protocol."""
        splitter = self.input
        left: i64 = AT_ONCE
        while True:
            if left == 0:
                return self._pause()
            left -= 1
            kind = splitter.next()
            if kind == NEED_DATA:
                return self._at_end_of_data()
            if splitter.end - splitter.start > SMALL_MESSAGE and kind not in LARGE_MESSAGES:
                raise PgError(PROTOCOL_VIOLATION, "invalid message length", severity="FATAL")
            if not self.open:
                self.start = splitter.start
                if kind == F_QUERY and not self.skipping:
                    return self._query()
            if self.skipping:
                if kind == F_SYNC:
                    self.skipping = False
                    self._begin()
                    return self._complete(OWED_SYNC)
                if kind == ord("X"):
                    return LEFT
                splitter.keep = splitter.passed
                continue
            found = self._extended(kind)
            if found != NOTHING:
                return found

    def sql(self) -> bytes:
        """The text of the statement that is executed (the last one, if there are several)."""
        if self.simple:
            return self.input.data[self.start + 5 : self.end - 1]
        return b"" if self.executed_statement is None else self.executed_statement.sql

    def custom(self) -> tuple[str, ...]:
        """Settings not PostgreSQL's own that exist, perhaps, where the batch has been run."""
        found = [name for effect in self.effects for name in effect.names if is_custom(name)]
        if self.uses_temporary:
            found.append(TEMPORARY)
        if self._sets_what_it_likes():
            found.append(UNNAMED)
        return tuple(found)

    def _sets_what_it_likes(self) -> bool:
        """Whether it may set settings that `effects` does not name."""
        pin = self.pin
        if pin is None and not self.unparsed:
            return False
        if pin in COMPUTED:
            return True
        if pin not in NEVER_SEEN and not self.unparsed:
            return False
        splitter = self.input
        is_whole = self.simple and splitter.end <= splitter.size
        return not is_whole or SETTING_WORDS.search(self.sql()) is not None

    def name_done(self, use: NameUse) -> Statement | None:
        """A server has done so to the client's names. Returns what was prepared."""
        name = use.name
        if use.kind not in (PREPARES, DEALLOCATES):
            self.forget_names()
            return None
        statement = self.statements.pop(name, None)
        if statement is not None:
            self.registry.release(statement)
        if use.kind == DEALLOCATES:
            return None
        statement = self.registry.acquire(use.sql, b"", use.decision, self.scope)
        self.statements[name] = statement
        return statement

    def find_needs(self) -> None:
        """What the Query needs, now that everything before it is answered."""
        self.needs = {}
        if self.names is not None:
            add_needs(self.needs, self.names.uses, self.statements)

    def unread(self) -> None:
        """The batch is read again, when what is in front of it is answered."""
        if not self.simple:
            self.undo(self.owed)
            self.unnamed = self._unnamed_before
            self._doubting.clear()
        self.open = False
        self.input.rewind(int(self.start))

    def raw(self) -> bytes:
        return self.input.data[self.start : self.end]

    def own_answer(self, rows: list[bytes], tag: bytes, ready: bytes) -> bytes:
        """The answers to all messages of this batch, if each statement of it yields `rows`
        (RowDescription and DataRows; empty for a command) and `tag`."""
        complete = write.command_complete(tag)
        if self.simple:
            return b"".join(rows) + complete + ready
        description = rows[0] if rows else write.NO_DATA
        answers: list[bytes] = []
        data = self.input.data
        position = self.start
        for owed in self.owed:
            if owed.kind == PARSE:
                answers.append(write.PARSE_COMPLETE)
            elif owed.kind == BIND:
                answers.append(write.BIND_COMPLETE)
            elif owed.kind == CLOSE:
                answers.append(write.CLOSE_COMPLETE)
            elif owed.kind == EXECUTE:
                answers.extend(rows[1:])
                answers.append(complete)
            elif owed.kind == DESCRIBE:
                if data[position + 5] == TARGET_STATEMENT:
                    answers.append(write.NO_PARAMETERS)
                answers.append(description)
            else:
                answers.append(ready)
            position += 1 + int.from_bytes(data[int(position) + 1 : int(position) + 5], "big")
        return b"".join(answers)

    def done(self) -> None:
        """The batch has been sent or answered; its bytes are not needed any more."""
        self.input.keep = self.end
        self.open = False
        if self._doubting:
            self.in_doubt.update(self._doubting)
            self._doubting.clear()

    # --- simple protocol ----------------------------------------------------------------------

    def _query(self) -> i64:
        splitter = self.input
        self.simple = True
        self.ending = AT_READY
        if self.owed:
            self.owed = []
        start = splitter.start + 5
        if splitter.end <= start:
            raise PgError(PROTOCOL_VIOLATION, "invalid string in message", severity="FATAL")
        if splitter.end <= splitter.size:
            self.end = splitter.end
            decision = self.router.decide(splitter.data[start : splitter.end - 1])
        else:
            self.end = splitter.size
            decision = self.router.decide_beginning(splitter.data[start:])
        if self.fixed is not None:
            decision = self.fixed
        self.executes = True
        self.is_named = False
        if not decision.is_plain:
            self._special_query(decision)
            return BATCH
        if not self.is_plain:
            self._make_plain()
        self.own = PLAIN
        self.decision = decision
        self.executed = decision
        self.target = decision.target
        self.known_write = decision.known_write
        self.may_write = decision.may_write
        self.again = decision.again
        self.anywhere = decision.anywhere
        self.movable = decision.movable
        return BATCH

    def _special_query(self, decision: Decision) -> None:
        self.is_plain = False
        if decision.kind == SHOW_LSN and self.fixed is None:
            self.input.replace(write.query(LSN_QUESTION))
            self.end = self.input.end
        self.own = self._own_kind(decision)
        parts: list[Decision] = []
        if decision.names is not None:
            parts = self._named_query(decision.names, decision)
            decision = parts[0]
        self.decision = decision
        self.executed = decision
        self.target = decision.target
        self.pin = decision.pin
        self.unparsed = decision.unparsed
        self.known_write = decision.known_write
        self.discards = decision.discards
        self.changes_schema = decision.changes_schema
        self.renews = decision.renews
        self.may_write = decision.may_write
        self.again = decision.again
        self.starts = decision.starts_transaction
        self.ends = decision.ends_transaction
        self.effects = decision.effects
        self.asks_sequence = decision.asks_sequence
        self.gives_sequence = decision.gives_sequence
        self.anywhere = decision.anywhere
        self.movable = decision.movable
        self.may_unpin = decision.may_unpin
        self.uses_temporary = decision.uses_temporary
        self.changes_defaults = decision.changes_defaults
        self.acts = decision.acts
        self.is_ruled = self.is_unruled = self.ruled_to_primary = False
        if decision.rule != NOT_ASKED:
            self._note_rule(decision)
        for part in parts[1:]:
            self._note(part)
            self._note_executed(part)
        if self.effects and any(effect.parameter for effect in self.effects):
            self.pin = Pin.SET_CONFIG  # named by an argument of EXECUTE

    def _named_query(self, names: Names, decision: Decision) -> list[Decision]:
        self.is_named = True
        self.names = names
        self.needs = _NO_NEEDS
        self.reserved = names.reserved
        return decisions_of(decision, self.statements, self.router)

    # --- extended protocol --------------------------------------------------------------------

    def _begin(self) -> None:
        self.open = True
        self.simple = False
        self.owed = []
        if self.edits:
            self.edits = []
        self.target = REPLICA
        self.decision = None
        self.executed = None
        self.executed_statement = None
        self.own = PLAIN
        self.known_write = False
        self.executes = False
        self.may_write = False
        self.again = ALONE
        self.anywhere = True
        self.movable = True
        if not self.is_plain:
            self._make_plain()
        if not self.continues:
            self.new_unnamed = None
        if self.is_named:
            self.is_named = False
            self.names = None
            self.needs = _NO_NEEDS
            self.reserved = b""
        self._must_end = False
        self._has_unnamed = False
        self._has_error = False
        self._unnamed_before = self.unnamed

    def _make_plain(self) -> None:
        self.is_plain = True
        self.pin = None
        self.unparsed = False
        self.discards = False
        self.changes_schema = False
        self.renews = 0
        self.starts = False
        self.ends = False
        self.is_ruled = False
        self.is_unruled = False
        self.ruled_to_primary = False
        self.effects = ()
        self.asks_sequence = False
        self.gives_sequence = False
        self.may_unpin = False
        self.uses_temporary = False
        self.changes_defaults = False
        self.acts = ()

    def _complete(self, owed: Owed | None) -> i64:
        splitter = self.input
        if owed is not None:
            self.owed.append(owed)
            self.ending = AT_READY
            if self._has_error:
                self.own = PLAIN
        else:
            self.ending = CUT
        self.end = splitter.end if splitter.end < splitter.size else splitter.size
        if self.own != PLAIN and self.own in CHANNEL_KINDS and not self._executes_each():
            self.own = PLAIN
        return BATCH

    def _executes_each(self) -> bool:
        """Whether each statement that is bound is executed once, and the batch is not cut behind
        one: only then is what the proxy does at once all that the batch does."""
        kinds = [owed.kind for owed in self.owed]
        executed = kinds.count(EXECUTE)
        whole = kinds[-1] == SYNC or executed == 0
        return whole and executed == kinds.count(BIND) and QUERY not in kinds

    def _at_end_of_data(self) -> i64:
        splitter = self.input
        if not self.open:
            return NOTHING
        passed: i64 = splitter.passed
        if passed > self.start and (self.continues or splitter.held > HELD_BATCH):
            self.ending = CUT
            self.end = passed
            return BATCH
        return NOTHING

    def _pause(self) -> i64:
        if not self.open or self.input.passed - self.start <= HELD_BATCH:
            return PAUSE
        self.ending = CUT
        self.end = self.input.passed
        return BATCH

    def _extended(self, kind: i64) -> i64:
        splitter = self.input
        if kind == ord("X"):
            return LEFT
        if not self.open:
            if kind == F_FLUSH and not self.continues:
                return NOTHING  # nothing to flush: it passes, behind copy data if there is any
            self._begin()
        if self._must_end and kind not in (F_SYNC, F_FLUSH):
            splitter.rewind(int(splitter.start))
            self.ending = CUT
            self.end = splitter.start
            return BATCH
        if kind == F_PARSE:
            self._parse()
        elif kind == F_BIND:
            self._bind()
        elif kind == F_EXECUTE:
            self.owed.append(self._owed_execute() if self._portals else OWED_EXECUTE)
            self.executes = True
            if self.executed is not None and self.executed.reason is Reason.COPY_IN:
                return self._complete(None)
        elif kind == F_SYNC:
            return self._complete(OWED_SYNC)
        elif kind == F_DESCRIBE:
            self._describe()
        elif kind == F_CLOSE:
            self._close()
        elif kind == F_FLUSH:
            return self._complete(None)
        elif kind in (F_COPY_DONE, F_COPY_FAIL):
            self.owed.append(OWED_COPY_END)
            if len(self.owed) == 1:
                return self._complete(None)
        elif kind == F_QUERY:
            # A Query where Sync should stand: PostgreSQL runs it as part of the same transaction.
            start = splitter.start + 5
            if splitter.end <= start:
                raise PgError(PROTOCOL_VIOLATION, "invalid string in message", severity="FATAL")
            if splitter.end <= splitter.size:
                decision = self.router.decide(splitter.data[start : splitter.end - 1])
            else:
                decision = self.router.decide_beginning(splitter.data[start:])
            if self.fixed is not None:
                decision = self.fixed
            if decision.names is not None and self.owed:
                # What it needs must come where no transaction of the batch can fail it.
                splitter.rewind(int(splitter.start))
                self.ending = CUT
                self.end = splitter.start
                return BATCH
            owed = OWED_QUERY
            if decision.names is not None:
                self._use_names(decision.names)
                self.reserved = decision.names.reserved
                owed = Owed(QUERY, names=decision.names.changes)
            for part in self._parts_of(decision):
                self._note(part)
                self._note_executed(part)
            self.again = NEVER  # it commits what is in front of it before it says so
            self.executes = True
            self.unnamed = None
            return self._complete(owed)
        else:
            assert kind == F_FUNCTION_CALL, kind
            body = splitter.start + 5
            function = int.from_bytes(splitter.data[body : body + 4], "big")
            called = OTHER_FUNCTION_CALL
            if function in LARGE_OBJECT_FUNCTIONS:
                called = FUNCTION_CALL_DECISION
            self._note(called)
            self._note_executed(called)
            self.executes = True
            return self._complete(OWED_FUNCTION_CALL)
        if splitter.end > splitter.size:
            return self._complete(None)
        return NOTHING

    def _note(self, decision: Decision) -> None:
        """Where this statement must run, all must."""
        first = self.decision is None
        if first or (decision.target == PRIMARY and self.target == REPLICA):
            self.decision = decision
        if decision.target == PRIMARY:
            self.target = PRIMARY
            if not decision.anywhere:
                self.anywhere = False
        if not decision.movable:
            self.movable = False
        if decision.is_plain:
            self.own = PLAIN
            return
        if decision.starts_transaction:
            self.starts = True
            self.is_plain = False
        if decision.rule != NOT_ASKED:
            self._note_rule(decision)
        kind = self._own_kind(decision)
        self.own = kind if first or kind == self.own else PLAIN

    def _note_rule(self, decision: Decision) -> None:
        self.is_plain = False
        if decision.rule == NO_RULE:
            self.is_unruled = True
            return
        self.is_ruled = True
        if decision.target == PRIMARY:
            self.ruled_to_primary = True

    def under_rules(self, route: i64) -> i64:
        """The route for this batch in a session that has `route` of a rule, where rules before that
        one fit its statements."""
        if route == TO_REPLICA:
            return TO_PRIMARY if self.ruled_to_primary else route
        return route if self.is_unruled else AUTO

    def _own_kind(self, decision: Decision) -> i64:
        kind = decision.kind
        if kind in OWN_KINDS or kind >= SHOW_TABLE:
            return kind
        if kind in CHANNEL_KINDS and self.shares_listening:
            return kind
        # No server knows a statement by the name that its client gave it to the protocol.
        if kind == DEALLOCATE and decision.names is not None:
            name = decision.names.uses[0].name
            if not name and not any(one.by_sql for one in self.statements.values()):
                return kind
            statement = self.statements.get(name)
            if statement is not None and not statement.by_sql:
                return kind
        return PLAIN

    # --- names in SQL -------------------------------------------------------------------------

    def _parts_of(self, decision: Decision) -> list[Decision]:
        """The decisions that are heeded for a statement of this one."""
        return (
            [decision]
            if decision.names is None
            else decisions_of(decision, self.statements, self.router)
        )

    def _use_names(self, names: Names) -> None:
        """The message at hand runs or describes a text that names statements."""
        self._wait()
        add_needs(self.needs, names.uses, self.statements)

    def _look_at(self, name: bytes) -> None:
        """What the name means may hang on what is not answered yet: then the batch waits."""
        if self.in_doubt and name in self.in_doubt:
            self._wait()

    def _wait(self) -> None:
        if not self.is_named:
            self.is_named = True
            self.needs = {}

    def _need(self, name: bytes, statement: Statement | None, *, exact: bool) -> None:
        """The message at hand is about a statement that has this name on the server too."""
        self._wait()
        add_need(self.needs, Need(name, statement, exact=exact))

    def _owed_execute(self) -> Owed:
        start = self.input.start + 5
        names = self._portals.get(self.input.data[start : self._string_end(start)])
        if names is None:
            return OWED_EXECUTE
        self._use_names(names)
        if names.changes is None:
            return OWED_EXECUTE
        self._must_end = True
        return Owed(EXECUTE, names=names.changes)

    def _note_portal(self, portal_end: i64, names: Names | None) -> None:
        """Bind makes a portal of a statement that names others, or one in its place."""
        portal = self.input.data[self.input.start + 5 : portal_end]
        if names is not None:
            self._portals[portal] = names
        else:
            self._portals.pop(portal, None)

    def _note_executed(self, decision: Decision) -> None:
        self.executed = decision
        if decision.known_write:
            self.known_write = True
        if decision.may_write:
            self.may_write = True
        self.again = min(self.again, decision.again)
        if decision.is_plain:
            return
        self.is_plain = False
        pin = pin_among_others(decision)
        if pin is not None:
            self.pin = pin if self.pin is None else lasting_pin([self.pin, pin])
        if decision.unparsed:
            self.unparsed = True
        if decision.ends_transaction:
            self.ends = True
        if decision.acts:
            self.acts += decision.acts
        if decision.discards:
            self.discards = True
        if decision.changes_schema:
            self.changes_schema = True
        self.renews = max(self.renews, decision.renews)
        if decision.may_unpin:
            self.may_unpin = True
        if decision.uses_temporary:
            self.uses_temporary = True
        if decision.changes_defaults:
            self.changes_defaults = True
        if decision.effects:
            self.effects += decision.effects
        if decision.asks_sequence:
            self.asks_sequence = True
        if decision.gives_sequence:
            self.gives_sequence = True

    def _parse(self) -> None:
        self.traffic.parses += 1
        splitter = self.input
        data = splitter.data
        body = splitter.start + 5
        end = splitter.end
        if end > splitter.size:
            self._large_parse()
            return
        name_end = self._string_end(body)
        sql_end = self._string_end(name_end + 1)
        sql = data[name_end + 1 : sql_end]
        decision = self.router.decide(sql) if self.fixed is None else self.fixed
        if decision.kind == SHOW_LSN:
            sql = LSN_QUESTION
            splitter.replace(write.parse(data[body:name_end], sql, data[sql_end + 1 : end]))
            data = splitter.data
            end = splitter.end
            sql_end = name_end + 1 + len(sql)
        if decision.names is None:
            self._note(decision)
        else:
            for part in decisions_of(decision, self.statements, self.router):
                self._note(part)
            if not decision.names.reserved:
                self._use_names(decision.names)  # an EXECUTE returns what it does when parsed
        types = data[sql_end + 1 : end]
        if name_end == body:
            self._has_unnamed = True
            if self._is_repeated(sql, types, decision):
                return
            statement = Statement(0, sql, types, decision)
            self.owed.append(Owed(PARSE, statement=statement, previous=self.unnamed))
            self.unnamed = statement
            self.new_unnamed = statement
            return
        name = data[body:name_end]
        self._look_at(name)
        self._doubting.append(name)
        taken = self.statements.get(name)
        if taken is not None and taken.by_sql:
            self._need(name, taken, exact=False)
            self.owed.append(Owed(PARSE, name=name))
            return
        if taken is not None:
            # Of all that may be wrong with it the server says what comes first: under the name
            # that it has for the statement in the way.
            place: i64 = len(self.owed)
            self.owed.append(Owed(PARSE, name=name, previous=taken))
            again = write.parse(taken.server_name, sql, types)
            self.edits.append(Edit(USE, splitter.start, end, place, taken, again))
            return
        statement = self.registry.acquire(
            sql, types, decision, self.scope, is_shared=decision.names is None
        )
        self.statements[name] = statement
        if name in self.needs:
            self._must_end = True
        if self.described:
            self.described.discard(name)
        at: i64 = len(self.owed)
        self.owed.append(Owed(PARSE, name=name, statement=statement))
        frame = write.parse(statement.server_name, sql, types)
        self.edits.append(Edit(MAKE, splitter.start, end, at, statement, frame))

    def _is_repeated(self, sql: bytes, types: bytes, decision: Decision) -> bool:
        """Whether an unnamed statement has come before and is served by one that has a name."""
        if self.fixed is not None:
            return False
        registry = self.registry
        statement = registry.repeated(sql, types, self.scope)
        if statement is None:
            if not registry.is_seen_again(sql, types, self.scope) or not is_plain(sql, decision):
                return False
            statement = registry.repeat(sql, types, decision, self.scope)
        splitter = self.input
        at: i64 = len(self.owed)
        self.owed.append(Owed(PARSE, statement=statement, previous=self.unnamed))
        # Most servers have it: its Parse is written only where it is missing.
        self.edits.append(Edit(MAKE, splitter.start, splitter.end, at, statement, b""))
        self.unnamed = statement
        if self.described:
            self.described.discard(b"")
        return True

    def _large_parse(self) -> None:
        # Too large to hold, so also too large to prepare again elsewhere: it passes through as the
        # unnamed statement, if it is that.
        splitter = self.input
        data = splitter.data
        body = splitter.start + 5
        if data[body] != 0:
            raise PgError(
                "54000",
                "a named prepared statement is too large",
                severity="FATAL",
                detail=f"The proxy keeps texts of up to {HELD_TEXT} bytes; use the unnamed one.",
            )
        decision = self.router.decide_beginning(data[body + 1 :])
        if self.fixed is not None:
            decision = self.fixed
        self._note(decision)
        self._note_executed(decision)
        self._has_unnamed = True
        self.unnamed = Statement(LOST, b"", b"", decision)
        self.new_unnamed = self.unnamed
        self.owed.append(Owed(PARSE, statement=self.unnamed))

    def _bind(self) -> None:
        self.traffic.binds += 1
        splitter = self.input
        data = splitter.data
        start = splitter.start
        portal_end = self._string_end(start + 5)
        name_end = self._string_end(portal_end + 1)
        if name_end == portal_end + 1:
            self._use_unnamed(BIND, OWED_BIND)
            if self.effects:
                self._name_settings(name_end)
            return
        name = data[portal_end + 1 : name_end]
        self._look_at(name)
        statement = self.statements.get(name)
        if statement is None:
            self._undefined(BIND, OWED_BIND, name)
            return
        decision = self._of(statement)
        if decision.names is not None or self._portals:
            if not self._bind_names(decision, portal_end):
                return
        else:
            self._note(decision)
            self._note_executed(decision)
        if self.effects:
            self._name_settings(name_end)
        self.executed_statement = statement
        self._bound = name
        if statement.by_sql:
            self._need(name, statement, exact=True)
            self.owed.append(OWED_BIND)
            return
        shown = splitter.end if splitter.end < splitter.size else splitter.size
        frame = self._bind_of(statement.server_name, portal_end, name_end)
        at: i64 = len(self.owed)
        self.owed.append(OWED_BIND)
        self.edits.append(Edit(USE, start, shown, at, statement, frame))

    def _name_settings(self, name_end: i64) -> None:
        """Which settings a statement sets that has their names from the Bind at hand. A session
        that sets what nobody can name keeps its connection."""
        splitter = self.input
        for place, effect in enumerate(self.effects):
            if effect.parameter == 0:
                continue
            name: bytes | None = None
            if splitter.end <= splitter.size:
                body = splitter.data[name_end + 1 : splitter.end]
                name = bind_parameter(body, effect.parameter - 1)
            if name is None or not name.isascii():
                self.pin = Pin.SET_CONFIG
                continue
            names = names_set(setting_name(name.decode("ascii")))
            named = Effect(names, local=effect.local, surely=effect.surely)
            self.effects = (*self.effects[:place], named, *self.effects[place + 1 :])

    def _bind_names(self, decision: Decision, portal_end: i64) -> bool:
        """Bind of a statement that may name others. False: the client gets an error instead."""
        names = decision.names
        self._note_portal(portal_end, names)
        for part in self._parts_of(decision):
            self._note(part)
            self._note_executed(part)
        if names is None:
            return True
        if names.reserved:
            self._fail(BIND, undefined_statement(names.reserved))
            return False
        self._use_names(names)
        return True

    def _bind_of(self, name: bytes, portal_end: i64, name_end: i64) -> bytes:
        """The Bind at hand, as far as it has come, of another statement."""
        splitter = self.input
        data = splitter.data
        start = splitter.start
        shown = splitter.end if splitter.end < splitter.size else splitter.size
        length = splitter.end - start - 1 + len(name) - (name_end - portal_end - 1)
        return b"".join(
            (
                b"B",
                write.int32(int(length)),
                data[start + 5 : portal_end + 1],
                name,
                data[name_end:shown],
            )
        )

    def _describe(self) -> None:
        splitter = self.input
        data = splitter.data
        start = splitter.start
        if self._named() != TARGET_STATEMENT:
            self.owed.append(OWED_DESCRIBE)
            if self._bound is not None:
                self.described.add(self._bound)
            return
        name_end = self._string_end(start + 6)
        if name_end == start + 6:
            self._use_unnamed(DESCRIBE, OWED_DESCRIBE)
            return
        name = data[start + 6 : name_end]
        self._look_at(name)
        statement = self.statements.get(name)
        if statement is None:
            self._undefined(DESCRIBE, OWED_DESCRIBE, name)
            return
        decision = self._of(statement)
        for part in self._parts_of(decision):
            self._note(part)
        if decision.names is not None and not decision.names.reserved:
            self._use_names(decision.names)
        self.described.add(name)
        if statement.by_sql:
            self._need(name, statement, exact=True)
            self.owed.append(OWED_DESCRIBE)
            return
        at: i64 = len(self.owed)
        self.owed.append(OWED_DESCRIBE)
        frame = write.describe_statement(statement.server_name)
        self.edits.append(Edit(USE, start, splitter.end, at, statement, frame))

    def _close(self) -> None:
        splitter = self.input
        data = splitter.data
        start = splitter.start
        if self._named() != TARGET_STATEMENT:
            self.owed.append(OWED_CLOSE)
            return
        name = data[start + 6 : self._string_end(start + 6)]
        if name:
            self._look_at(name)
            self._doubting.append(name)
        else:
            self.unnamed = None
        statement = self.statements.pop(name, None)
        if statement is not None:
            self.registry.release(statement)
            if name in self.needs:
                self._must_end = True
        at: i64 = len(self.owed)
        # Closing a statement that does not exist is no error either.
        self.owed.append(Owed(CLOSE, answer=write.CLOSE_COMPLETE, name=name, statement=statement))
        self.edits.append(Edit(SUBSTITUTE, start, splitter.end, at, None, b""))

    def _use_unnamed(self, kind: int, owed: Owed) -> None:
        statement = self.unnamed
        if statement is None or (statement.number == LOST and statement is not self.new_unnamed):
            self._fail(
                kind,
                PgError(UNDEFINED_PREPARED_STATEMENT, "unnamed prepared statement does not exist"),
            )
            return
        decision = cast(Decision, statement.decision)
        if statement.number != LOST and self.fixed is None:
            decision = decided(statement, self.router)
        if decision.names is not None or self._portals:
            if not self._use_unnamed_names(kind, decision):
                return
        else:
            self._note(decision)
            if kind == BIND:
                self._note_executed(decision)
        if kind == BIND:
            self.executed_statement = statement
        if not self._has_unnamed:
            self._wait()
        at: i64 = len(self.owed)
        if statement.number > 0:
            self._use_repeated(kind, statement)
        elif statement is not self.new_unnamed:
            self.edits.append(
                Edit(USE_UNNAMED, self.input.start, self.input.start, at, statement, b"")
            )
        self.owed.append(owed)

    def _use_repeated(self, kind: int, statement: Statement) -> None:
        if kind == BIND:
            self._bound = b""
        else:
            self.described.add(b"")
        splitter = self.input
        start = splitter.start
        end = splitter.end if splitter.end < splitter.size else splitter.size
        if kind == BIND:
            portal_end = self._string_end(start + 5)
            frame = self._bind_of(statement.server_name, portal_end, portal_end + 1)
        else:
            frame = write.describe_statement(statement.server_name)
        at: i64 = len(self.owed)
        self.edits.append(Edit(USE, start, end, at, statement, frame))

    def _use_unnamed_names(self, kind: int, decision: Decision) -> bool:
        if kind == BIND:
            return self._bind_names(decision, self._string_end(self.input.start + 5))
        for part in self._parts_of(decision):
            self._note(part)
        if decision.names is not None and not decision.names.reserved:
            self._use_names(decision.names)
        return True

    def _undefined(self, kind: int, owed: Owed, name: bytes) -> None:
        if self.may_know_more and not name.startswith(SERVER_PREFIX):
            self._need(name, None, exact=True)
            self.owed.append(owed)
            return
        self._fail(kind, undefined_statement(name))

    def _fail(self, kind: int, error: PgError) -> None:
        """An error that only we can see must also be one for the server, or its transaction
        would go on: it gets a message that fails, and the client gets this error for it."""
        self._has_error = True
        at: i64 = len(self.owed)
        self.owed.append(Owed(kind, error=write.error_response(error)))
        splitter = self.input
        start = splitter.start
        shown = splitter.end if splitter.end < splitter.size else splitter.size
        frame = FAILING_BIND
        if kind == BIND:
            # The rest of it may still be on its way, so the frame keeps its length.
            portal_end = self._string_end(start + 5)
            frame = self._bind_of(SERVER_PREFIX, portal_end, self._string_end(portal_end + 1))
        self.edits.append(Edit(SUBSTITUTE, start, shown, at, None, frame))

    def _of(self, statement: Statement) -> Decision:
        """The decision for a statement, which clients of other encodings may have named too."""
        return decided(statement, self.router) if self.fixed is None else self.fixed

    def _named(self) -> i64:
        """What a Describe or Close names: a statement or a portal."""
        splitter = self.input
        if splitter.end < splitter.start + 6:
            raise PgError(PROTOCOL_VIOLATION, "no data left in message", severity="FATAL")
        return splitter.data[splitter.start + 5]

    def _string_end(self, start: i64) -> i64:
        splitter = self.input
        limit = splitter.end if splitter.end < splitter.size else splitter.size
        data = splitter.data
        if start < limit and data[start] == 0:
            return start
        end: i64 = data.find(b"\x00", int(start), int(limit))
        if end < 0:
            raise PgError(PROTOCOL_VIOLATION, "invalid string in message", severity="FATAL")
        return end

    def in_clients_words(self, frame: bytes, void: list[Owed]) -> bytes:
        """An ErrorResponse with the client's names of statements in place of ours; `void`: what
        the server has not done after all."""
        if void and void[0].previous is not None and void[0].name:
            frame = _renamed(frame, void[0].previous, void[0].name)  # the name is taken
        for owed in void:
            if owed.statement is not None and not owed.hidden:
                frame = _renamed(frame, owed.statement, owed.name)
        for name, statement in self.statements.items():
            frame = _renamed(frame, statement, name)
        if self.unnamed is not None:
            frame = _renamed(frame, self.unnamed, b"")
        return frame[:1] + write.int32(len(frame) - 1) + frame[5:]

    # --- taking back --------------------------------------------------------------------------

    def undo(self, void: list[Owed]) -> None:
        """What these messages announced did not happen (oldest first)."""
        for owed in reversed(void):
            statement = owed.statement
            if owed.kind == PARSE and statement is not None:
                if owed.name:
                    if self.statements.get(owed.name) is statement:
                        del self.statements[owed.name]
                        self.registry.release(statement)
                elif self.unnamed is statement:
                    self.unnamed = owed.previous
            elif owed.kind == CLOSE and statement is not None and owed.name not in self.statements:
                self.statements[owed.name] = statement
                self.registry.retain(statement)

    def forget_names(self) -> None:
        """The client has discarded all that has a name."""
        for statement in self.statements.values():
            self.registry.release(statement)
        self.statements.clear()
        self.described.clear()

    def forget_all(self) -> None:
        """The client is gone."""
        self.forget_names()
        self.unnamed = None


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
