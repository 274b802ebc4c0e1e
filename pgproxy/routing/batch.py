"""HOT, PURE. A batch, and what its statements do together.

A *batch* is what must run on one server as a whole: one Query or FunctionCall, or extended-query
messages up to their Sync. It is *cut* when it cannot be read to its end before something has to be
sent: the client asks for an answer with Flush, a frame is too large to hold, copy data is expected
or too much has gathered. The rest of a cut batch follows to the same server.
"""

import re
from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.frames import write
from pgproxy.frames.read import bind_parameter
from pgproxy.frames.splitter import Splitter
from pgproxy.protocol.channels import Act
from pgproxy.protocol.inflight import Owed
from pgproxy.protocol.prepared import Statement
from pgproxy.protocol.session import AUTO, TO_PRIMARY, TO_REPLICA
from pgproxy.protocol.settings import (
    TEMPORARY,
    UNNAMED,
    Effect,
    is_custom,
    names_set,
    setting_name,
)
from pgproxy.protocol.states import BIND, EXECUTE, QUERY, SYNC
from pgproxy.routing.clientstatements import ClientStatements
from pgproxy.routing.decision import (
    ALONE,
    NO_RULE,
    NOT_ASKED,
    PLAIN,
    PRIMARY,
    REPLICA,
    SHOW_LSN,
    Decision,
    pin_among_others,
)
from pgproxy.routing.edits import Edit
from pgproxy.routing.needs import Needs
from pgproxy.routing.own import CHANNEL_KINDS, LSN_QUESTION, own_kind
from pgproxy.routing.pins import COMPUTED, NEVER_SEEN, Pin, lasting_pin

# How a batch ends.
AT_READY: Final = 0  # ReadyForQuery will follow
CUT: Final = 1  # more of it will come

# A text that sets something has one of these, in whatever encoding: an escape may spell any word.
SETTING_WORDS: Final = re.compile(rb"set|execute|u&|\\", re.IGNORECASE)


@final
class Batch:
    """The one that is read, or was read last, of one client with these `statements`.

    Its bytes are those of `input.data` from `start` to `end`, sent unchanged but for the `edits`,
    which are frames that depend on what the chosen server has prepared. `owed` are the replies that
    the server will owe for it.
    """

    def __init__(self, input: Splitter, statements: ClientStatements) -> None:
        self.input: Final = input
        self.statements: Final = statements
        self.needs: Final = Needs(statements)
        self.shares_listening = False  # LISTEN is the proxy's to answer (servers/listening.py)
        self.continues = False  # the first part of this batch has been sent
        self.skipping = False  # after an error of ours: the rest of it, up to Sync, is dropped
        # Its messages.
        self.open = False  # `start` is the beginning of a batch whose end has not come
        self.simple = False  # one Query frame
        self.start: i64 = 0
        self.end: i64 = 0
        self.ending: i64 = AT_READY
        self.owed: list[Owed] = []
        self.edits: list[Edit] = []
        self.has_error = False  # it has a message that fails by our doing
        self.has_unnamed = False  # it has parsed an unnamed statement
        self.new_unnamed: Statement | None = None  # parsed in it
        self._unnamed_before: Statement | None = None
        self.doubting: Final[list[bytes]] = []  # names of statements that it makes or closes
        # What the router says of all its statements together.
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

    # --- its bytes ----------------------------------------------------------------------------

    def sql(self) -> bytes:
        """The text of the statement that is executed (the last one, if there are several)."""
        if self.simple:
            return self.input.data[self.start + 5 : self.end - 1]
        return b"" if self.executed_statement is None else self.executed_statement.sql

    def raw(self) -> bytes:
        return self.input.data[self.start : self.end]

    def unread(self) -> None:
        """The batch is read again, when what is in front of it is answered."""
        if not self.simple:
            self.statements.undo(self.owed)
            self.statements.unnamed = self._unnamed_before
            self.doubting.clear()
        self.open = False
        self.input.rewind(int(self.start))

    def done(self) -> None:
        """The batch has been sent or answered; its bytes are not needed any more."""
        self.input.keep = self.end
        self.open = False
        if self.doubting:
            self.statements.in_doubt.update(self.doubting)
            self.doubting.clear()

    # --- simple protocol ----------------------------------------------------------------------

    def take_query(self) -> None:
        """The Query shown is the batch. Raises `PgError` FATAL (08P01)."""
        splitter = self.input
        statements = self.statements
        self.simple = True
        self.ending = AT_READY
        if self.owed:
            self.owed = []
        start = splitter.start + 5
        if splitter.end <= start:
            raise PgError(PROTOCOL_VIOLATION, "invalid string in message", severity="FATAL")
        if splitter.end <= splitter.size:
            self.end = splitter.end
            decision = statements.router.decide(splitter.data[start : splitter.end - 1])
        else:
            self.end = splitter.size
            decision = statements.router.decide_beginning(splitter.data[start:])
        if statements.fixed is not None:
            decision = statements.fixed
        self.executes = True
        if self.needs.waits:
            self.needs.clear()
        if not decision.is_plain:
            self._take_special(decision)
            return
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

    def _take_special(self, decision: Decision) -> None:
        self.is_plain = False
        statements = self.statements
        if decision.kind == SHOW_LSN and statements.fixed is None:
            self.input.replace(write.query(LSN_QUESTION))
            self.end = self.input.end
        self.own = own_kind(decision, statements.named, shares_listening=self.shares_listening)
        parts: list[Decision] = []
        if decision.names is not None:
            self.needs.of_query(decision.names)
            parts = statements.parts_of(decision)
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
            self.note(part)
            self.note_executed(part)
        if self.effects and any(effect.parameter for effect in self.effects):
            self.pin = Pin.SET_CONFIG  # named by an argument of EXECUTE

    # --- extended protocol --------------------------------------------------------------------

    def begin(self) -> None:
        """What is shown is the first message of a batch, or of the rest of one."""
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
        if self.needs.waits:
            self.needs.clear()
        self.has_unnamed = False
        self.has_error = False
        self._unnamed_before = self.statements.unnamed

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

    def complete(self, owed: Owed | None) -> None:
        """It ends with the message shown, for which `owed` is owed; None: it is cut there."""
        splitter = self.input
        if owed is not None:
            self.owed.append(owed)
            self.ending = AT_READY
            if self.has_error:
                self.own = PLAIN
        else:
            self.ending = CUT
        self.end = splitter.end if splitter.end < splitter.size else splitter.size
        if self.own != PLAIN and self.own in CHANNEL_KINDS and not self._executes_each():
            self.own = PLAIN

    def _executes_each(self) -> bool:
        """Whether each statement that is bound is executed once, and the batch is not cut behind
        one: only then is what the proxy does at once all that the batch does."""
        kinds = [owed.kind for owed in self.owed]
        executed = kinds.count(EXECUTE)
        whole = kinds[-1] == SYNC or executed == 0
        return whole and executed == kinds.count(BIND) and QUERY not in kinds

    def cut(self, end: i64) -> None:
        """The rest of it comes later."""
        self.ending = CUT
        self.end = end

    # --- what its statements do ---------------------------------------------------------------

    def note(self, decision: Decision) -> None:
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
        kind = own_kind(decision, self.statements.named, shares_listening=self.shares_listening)
        self.own = kind if first or kind == self.own else PLAIN

    def _note_rule(self, decision: Decision) -> None:
        self.is_plain = False
        if decision.rule == NO_RULE:
            self.is_unruled = True
            return
        self.is_ruled = True
        if decision.target == PRIMARY:
            self.ruled_to_primary = True

    def note_executed(self, decision: Decision) -> None:
        """This statement is bound, or executed at once."""
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

    def name_settings(self, name_end: i64) -> None:
        """Which settings a statement sets that has their names from the Bind shown, whose
        parameters are behind `name_end`. A session that sets what nobody can name keeps its
        connection."""
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

    def under_rules(self, route: i64) -> i64:
        """The route for this batch in a session that has `route` of a rule, where rules before that
        one fit its statements."""
        if route == TO_REPLICA:
            return TO_PRIMARY if self.ruled_to_primary else route
        return route if self.is_unruled else AUTO

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
