"""What the router says about a statement: the words every other part uses for it. PURE.

A Decision is made once per statement text and shared by every session that sends it: nobody changes
one after it was made. `target` says where the statement may go, `reason` which rule of the
router said so, `detail` what in the statement made the rule fire. The rest tells the relay what the
statement does to the session: a pin is why the session must keep its server connection afterwards.
"""

from typing import Final, cast, final

from mypy_extensions import i64

from pgproxy.protocol.channels import Act
from pgproxy.protocol.named import Names, NameUse
from pgproxy.protocol.settings import Effect
from pgproxy.routing.pins import UNDONE_BY_ERROR, Pin
from pgproxy.routing.reasons import CODES, Reason
from pgproxy.telemetry.counters import Structure

# Targets.
PRIMARY: Final = 0
REPLICA: Final = 1

# Hints: PRIMARY, REPLICA or
NO_HINT: Final = -1

# Numbers of rules (routing/rules.py), which begin with 1:
NO_RULE: Final = 0  # none fits
NOT_ASKED: Final = -1  # the session has no rules for statements

# May a statement be run again where its server ended it, with an error that says that it is undone
# (routing/journal.py)?
NEVER: Final = 0
IN_BLOCK: Final = 1  # in a transaction block, which nothing in it can commit
ALONE: Final = 2  # also by itself: all that it does comes with its one commit

# What a statement does to what is known of the database's objects (catalogue.py).
RENEWS: Final = 1  # there may be more that is a read than is known
DOUBTS: Final = 2  # what is known to be a read may not be one any more

# Kinds: what the relay itself has to do. Only a statement that is alone in its text has another
# kind than PLAIN.
PLAIN: Final = 0
BEGIN: Final = 1  # BEGIN, START TRANSACTION
END: Final = 2  # COMMIT, END, ROLLBACK, ABORT; not AND CHAIN, TO SAVEPOINT, PREPARED
SET_ROUTE: Final = 3  # SET [LOCAL | SESSION] pgproxy.route, RESET pgproxy.route
SHOW_LAST_ROUTE: Final = 4  # SHOW pgproxy.last_route
SHOW_ROUTE: Final = 5  # SHOW pgproxy.route
EMPTY: Final = 6  # no statement at all: nothing, or comments
DEALLOCATE: Final = 7  # of one name or ALL, which may be the protocol's own statements
LISTEN: Final = 8
UNLISTEN: Final = 9  # of one channel or of all
SHOW_CHANNELS: Final = 10  # SELECT pg_listening_channels()
CHAIN: Final = 11  # COMMIT AND CHAIN, ROLLBACK AND CHAIN
SET_TRANSACTION: Final = 12  # SET TRANSACTION …, but for SNAPSHOT
SET_TRACE: Final = 13  # as SET_ROUTE, of pgproxy.trace
SHOW_TRACE: Final = 14
SET_MIN_LSN: Final = 15  # as SET_ROUTE, of pgproxy.min_lsn
SHOW_MIN_LSN: Final = 16
SHOW_LSN: Final = 17  # SHOW pgproxy.lsn, which the primary is asked instead
SHOW_TABLE: Final = 18  # and above: SHOW of one of OWN_TABLES, each with a number of its own

# What Pgpool-II's clients may ask on any database, by SHOW.
OWN_TABLES: Final = (
    "pool_nodes",
    "pool_processes",
    "pool_pools",
    "pool_backend_stats",
    "pool_version",
)


# The rules of the router that a hint may overrule: the client knows its functions, the router does
# not. The configuration's rules may too.
OVERRULED: Final = frozenset(
    {
        Reason.VOLATILE_FUNCTION,
        Reason.UNKNOWN_FUNCTION,
        Reason.UNKNOWN_TYPE,
        Reason.UNKNOWN_OPERATOR,
        Reason.UNKNOWN_SYNTAX,
        Reason.FOREIGN_TABLE,
        Reason.PRIMARY_FUNCTION,
        Reason.SERVER_ROLE,
        Reason.AMBIGUOUS_QUOTING,
        Reason.TOO_LONG,
        Reason.TOO_DEEP,
    }
)

# What they do is not all undone by a rollback, or their data is not kept.
_NEVER_AGAIN: Final = frozenset({Reason.COPY_IN, Reason.COPY_FILE, Reason.FUNCTION_CALL})
_AGAIN_ALONE: Final = frozenset(
    {
        Reason.READ,
        Reason.SHOW,
        Reason.EXPLAIN,
        Reason.COPY_OUT,
        Reason.EMPTY,
        Reason.BEGIN_READ_ONLY,
        Reason.WRITE,
        Reason.LOCKING_CLAUSE,
        Reason.LOCK,
        Reason.WRITING_FUNCTION,
        Reason.VOLATILE_FUNCTION,
        Reason.UNKNOWN_FUNCTION,
        Reason.UNKNOWN_TYPE,
        Reason.UNKNOWN_OPERATOR,
        Reason.PRIMARY_FUNCTION,
        Reason.SERVER_ROLE,
        Reason.TEMP_TABLE,
        Reason.UNLOGGED,
        Reason.FOREIGN_TABLE,
        Reason.TRANSACTION_CONTROL,
        Reason.SERIALIZABLE,
    }
)


def _again(reason: Reason, *, discards: bool) -> int:
    # What discards takes away what the proxy believes prepared on the server.
    if reason in _NEVER_AGAIN or discards:
        return NEVER
    return ALONE if reason in _AGAIN_ALONE else IN_BLOCK


def _learned_use(use: NameUse) -> NameUse:
    prepared = use.decision
    if not isinstance(prepared, Decision):
        return use
    return NameUse(
        int(use.kind),
        use.name,
        decision=prepared.learned(),
        runs=use.runs,
        index=int(use.index),
        sql=use.sql,
    )


@final
class Decision:
    """Where one statement text goes, and what the relay must know of it.

    target          PRIMARY or REPLICA
    reason, detail  the rule, and what in the statement made it fire: "function nextval"
    code            the reason's number: its place in REASONS
    kind            PLAIN, or what the relay itself has to do
    pin             why the session keeps its server connection if the statement succeeds, or None
    tag             for BEGIN, END, CHAIN, SET_TRANSACTION and SET of our own settings: PostgreSQL's
                    command tag
    read_only       BEGIN … READ ONLY, SET TRANSACTION READ ONLY
    argument        SET_ROUTE, SET_TRACE, SET_MIN_LSN: the value as written, in lower case; "" for
                    RESET and DEFAULT.
                    BEGIN and SET_TRANSACTION: the isolation level, "" if none is said.
                    DDL: the database in which nobody may be, if there is one
    local           SET LOCAL
    unparsed        the text was not understood: `pin` holds only if PostgreSQL accepts it
    discards        DISCARD ALL or DEALLOCATE ALL: the statements prepared on the server are gone
    changes_schema  plans from before may return other columns than those from after
    renews          RENEWS or DOUBTS: what the proxy knows of the database's objects is not all any
                    more, or not even true
    known_write     it certainly writes or locks: no hint sends it to a replica
    may_follow      a hint or a rule may send it to a replica
    hint            PRIMARY, REPLICA or NO_HINT, from a comment or a rule; `target` heeds it already
    rule            the number of the configuration's rule that fits it, NO_RULE or NOT_ASKED; `target`
                    heeds it already
    starts_transaction, ends_transaction
                    one of its statements is BEGIN …; COMMIT, ROLLBACK or PREPARE TRANSACTION
    movable         in a transaction that has only read it may run on a replica, and the transaction
                    may go on elsewhere afterwards: it leaves nothing behind but a savepoint, and what
                    it tells is neither of the transaction (now()) nor of where that runs
    again           NEVER, IN_BLOCK or ALONE: where it may be run again
    exact           made from the literals too: may stand only for exactly this text
    effects         what it may do to the session's settings, in order
    asks_sequence   it asks what the session's own last nextval was
    gives_sequence  it calls nextval or setval by name
    anywhere        it may run wherever its transaction does, on a replica too, whatever `target` is
    may_unpin       it may take away what a session is pinned for
    writes          whether it may write what a later read could miss, where `target` and `reason` do
                    not tell (-1: they do)
    uses_temporary  it makes or uses something temporary, even if that ends with its transaction
    changes_defaults
                    sessions that begin after it may have other settings than those from before
    acts            what it does to channels, savepoints and its transaction
                    (protocol/channels.py), in order
    names           what it does with names of prepared statements, or None
    structure       where the router counts texts like this one (structures.py), or None
    """

    def __init__(
        self,
        target: i64,
        reason: Reason,
        *,
        kind: i64 = PLAIN,
        pin: Pin | None = None,
        detail: str = "",
        tag: bytes = b"",
        read_only: bool = False,
        argument: str = "",
        local: bool = False,
        unparsed: bool = False,
        discards: bool = False,
        changes_schema: bool = False,
        renews: i64 = 0,
        known_write: bool = False,
        may_follow: int = -1,
        hint: i64 = NO_HINT,
        rule: i64 = NOT_ASKED,
        starts_transaction: bool = False,
        ends_transaction: bool = False,
        movable: bool = False,
        exact: bool = False,
        again: int = -1,
        effects: tuple[Effect, ...] = (),
        asks_sequence: bool = False,
        gives_sequence: bool = False,
        anywhere: bool = False,
        may_unpin: bool = False,
        uses_temporary: bool = False,
        changes_defaults: bool = False,
        writes: int = -1,
        acts: tuple[Act, ...] = (),
        names: Names | None = None,
        structure: Structure | None = None,
    ) -> None:
        self.target: i64 = target
        self.reason = reason
        self.code: i64 = CODES[reason]
        self.kind: i64 = kind
        # Whether it may write what a later read could miss. A hint may have made it a read.
        self.may_write = writes > 0
        if writes < 0:
            self.may_write = (
                reason is not Reason.TRANSACTION_CONTROL and not anywhere
                if target == PRIMARY
                else reason in (Reason.HINT, Reason.RULE)
            )
        self.pin = pin
        # If the text ends in an error, nothing is left of what the pin is for.
        self.pin_is_undone = pin in UNDONE_BY_ERROR and not ends_transaction
        self.detail = detail
        self.tag = tag
        self.read_only = read_only
        self.argument = argument
        self.local = local
        self.unparsed = unparsed
        self.discards = discards
        self.changes_schema = changes_schema
        self.renews: i64 = renews
        self.known_write = known_write
        self.may_follow = may_follow > 0
        if may_follow < 0:
            self.may_follow = (
                not (known_write or asks_sequence)
                and pin is None
                and (target == REPLICA or reason in OVERRULED)
            )
        self.hint: i64 = hint
        self.rule: i64 = rule
        self.starts_transaction = starts_transaction
        self.ends_transaction = ends_transaction
        self.movable = movable
        self.exact = exact
        self.effects = effects
        self.asks_sequence = asks_sequence
        self.gives_sequence = gives_sequence
        self.anywhere = anywhere
        self.may_unpin = may_unpin
        self.uses_temporary = uses_temporary or pin is Pin.TEMP_TABLE or reason is Reason.TEMP_TABLE
        self.changes_defaults = changes_defaults
        self.acts = acts
        self.names = names
        self.structure = structure
        self.again: i64 = again if again >= 0 else _again(reason, discards=discards)
        # Nothing about it but where it goes is of interest: one test in place of a dozen.
        self.is_plain = (
            kind == PLAIN
            and rule == NOT_ASKED
            and pin is None
            and names is None
            and not effects
            and not acts
            and not (unparsed or discards or changes_schema or changes_defaults or renews > 0)
            and not (starts_transaction or ends_transaction)
            and not (asks_sequence or gives_sequence or may_unpin or uses_temporary)
        )

    def hinted(self, hint: i64, target: i64) -> "Decision":
        """This decision under a hint, which changes the target or leaves it."""
        reason = Reason.HINT if target != self.target else self.reason
        return self._altered(target, reason, hint=hint, movable=hint != PRIMARY)

    def ruled(self, rule: i64, target: i64, detail: str, told: i64 = NO_HINT) -> "Decision":
        """This decision under a rule of the configuration, which is as a hint (`told`), and changes
        the target or leaves it."""
        reason = Reason.RULE if target != self.target else self.reason
        return self._altered(
            target,
            reason,
            hint=told,
            rule=rule,
            detail=detail if target != self.target else "",
            movable=told != PRIMARY,
        )

    def counted(self, structure: Structure | None) -> "Decision":
        """This decision for a text of that structure."""
        decision = self._altered(self.target, self.reason, structure=structure)
        names = self.names
        if names is None:
            return decision
        reads = cast(Decision, names.reads)
        return decision.naming(Names(names.uses, reads.naming(None).counted(structure)))

    def never_again(self) -> "Decision":
        """This decision for a text that acts elsewhere too, which a rollback does not undo."""
        return self._altered(self.target, self.reason, again=NEVER)

    def learned(self) -> "Decision":
        """This decision for a text that a replica has refused to run, or that prepares such a one."""
        if self.names is not None:
            uses = tuple([_learned_use(use) for use in self.names.uses])
            return self.naming(Names(uses, self.names.reads))
        found = self._altered(PRIMARY, Reason.LEARNED, movable=False)
        found.known_write = True
        found.may_follow = False
        found.may_write = True
        found.anywhere = False
        return found

    def naming(self, names: Names | None) -> "Decision":
        """This decision for a text that does so with names."""
        # What it does to names no rollback takes back.
        again = NEVER if names is not None and names.changes is not None else -1
        return self._altered(self.target, self.reason, again=again, names=names, renames=True)

    def _altered(
        self,
        target: i64,
        reason: Reason,
        *,
        hint: i64 = NO_HINT,
        rule: i64 = NOT_ASKED,
        detail: str = "",
        again: int = -1,
        names: Names | None = None,
        renames: bool = False,
        movable: bool = True,
        structure: Structure | None = None,
    ) -> "Decision":
        return Decision(
            target,
            reason,
            kind=self.kind,
            pin=self.pin,
            detail=detail or self.detail,
            tag=self.tag,
            read_only=self.read_only,
            argument=self.argument,
            local=self.local,
            unparsed=self.unparsed,
            discards=self.discards,
            changes_schema=self.changes_schema,
            renews=self.renews,
            known_write=self.known_write,
            may_follow=int(self.may_follow),
            hint=self.hint if hint == NO_HINT else hint,
            rule=self.rule if rule == NOT_ASKED else rule,
            starts_transaction=self.starts_transaction,
            ends_transaction=self.ends_transaction,
            movable=self.movable and movable,
            exact=self.exact,
            again=int(self.again) if again < 0 else again,
            effects=self.effects,
            asks_sequence=self.asks_sequence,
            gives_sequence=self.gives_sequence,
            anywhere=self.anywhere,
            may_unpin=self.may_unpin,
            uses_temporary=self.uses_temporary,
            changes_defaults=self.changes_defaults,
            # Who sends to the primary what is shown to read may know better.
            writes=int(self.may_write) if target == self.target else -1,
            acts=self.acts,
            names=names if renames else self.names,
            structure=self.structure if structure is None else structure,
        )

    def fields(self) -> tuple[object, ...]:
        """Every attribute, to compare two decisions."""
        return (
            int(self.target),
            self.reason,
            int(self.kind),
            self.pin,
            self.detail,
            self.tag,
            self.read_only,
            self.argument,
            self.local,
            self.unparsed,
            self.discards,
            self.known_write,
            int(self.hint),
            self.starts_transaction,
            self.ends_transaction,
            self.movable,
            self.exact,
            self.changes_schema,
            int(self.renews),
            int(self.again),
            tuple(effect.fields() for effect in self.effects),
            self.asks_sequence,
            self.gives_sequence,
            self.anywhere,
            self.may_unpin,
            self.uses_temporary,
            self.changes_defaults,
            self.may_write,
            self.acts,
            () if self.names is None else tuple((int(u.kind), u.name) for u in self.names.uses),
            self.may_follow,
            int(self.rule),
        )

    def __repr__(self) -> str:
        target = "REPLICA" if self.target == REPLICA else "PRIMARY"
        return f"<Decision {target} {self.reason.value} {self.detail!r} pin={self.pin}>"


def pin_among_others(decision: Decision) -> Pin | None:
    """Among other statements the proxy does not answer SET pgproxy.route: the server is set."""
    if (
        decision.kind in (SET_ROUTE, SET_TRACE, SET_MIN_LSN)
        and decision.argument
        and not decision.local
    ):
        return Pin.SET
    return decision.pin
