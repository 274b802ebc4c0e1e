"""HOT. What a session takes along from one server connection to the next: its settings.

Nothing here is on the way of a statement that has nothing to do with them. Otherwise:

1. `lease`: the connection just leased has other settings; what brings it to the session's goes in
   front of the next batch (protocol/settings.py).
2. `sent`: a statement may change settings. What it does is up to the server.
3. `settled`: the transaction is over, so the server is asked what it has made of them. The client has
   its answer by then; only the connection is released that much later.

ParameterStatus is compared with what the client was told last: it hears of a change of its own
values, and of no other.
"""

from typing import TYPE_CHECKING, Final, final

from pgproxy.errors import FEATURE_NOT_SUPPORTED, PgError
from pgproxy.frames import write
from pgproxy.frames.read import error_fields
from pgproxy.protocol.inflight import (
    ASK,
    OWED_ATTEMPT,
    OWED_RESTORE,
    OWED_ROWS,
    OWED_SET_BACK,
    RESTORE,
    SET_BACK,
)
from pgproxy.protocol.settings import (
    AUTHORITY,
    NOTHING_SET,
    TEMP_BUFFERS,
    TEMPORARY,
    Origin,
    Settings,
    SettingsTable,
    answers,
    ask,
    changed,
    is_custom,
    is_too_much,
    parse_bool,
    read_row,
    reset,
    restore,
    set_back,
)
from pgproxy.protocol.states import BIND, EXECUTE, QUERY
from pgproxy.routing.batch import AT_READY, Batch
from pgproxy.routing.pins import Pin
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.slots import Profile

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

# What a server tells of itself, not of the session.
OF_THE_SERVER: Final = frozenset(
    {b"in_hot_standby", b"integer_datetimes", b"server_encoding", b"server_version"}
)
# Encodings in which a multi-byte character may contain an ASCII byte, so that text cannot be read
# byte by byte ("Character Set Support" in the manual: those not allowed on the server).
UNSAFE_ENCODINGS: Final = frozenset(
    {b"SJIS", b"SHIFT_JIS_2004", b"BIG5", b"GBK", b"GB18030", b"UHC", b"JOHAB"}
)
ISOLATION: Final = "default_transaction_isolation"
SEARCH_PATH: Final = "search_path"
# What decides which objects a name stands for: "$user" in a search_path is the current role.
NAMING: Final = frozenset({SEARCH_PATH, *AUTHORITY})
READ_ONLY: Final = "default_transaction_read_only"

NO_NAMES: Final[frozenset[str]] = frozenset()

# What a question is about.
NOTHING: Final = 0
SETTINGS: Final = 1
PINS: Final = 2


@final
class Carry:
    """One relay's.

    settings  the session's, as far as it is known; those in `touched` may have changed since
    touched   names of settings -> whether the last that was done to it is a reset
    """

    def __init__(
        self, relay: "Relay", profile: Profile, origin: Origin, table: SettingsTable
    ) -> None:
        self.relay = relay
        self.settings = origin.base
        self.reported = origin.reported  # what the client was told. A change makes a new one
        self.isolation = b""  # of transactions that do not say theirs
        self.read_only = False  # transactions that do not say otherwise
        self.touched: dict[str, bool] = {}
        self.resetting = NO_NAMES  # settings that the last batch sets back to their first values
        # Settings that exist on the connection for another session's sake, and that the first batch
        # is to set. If that fails, the session does not have them, and nothing more may run there.
        self.lent = NO_NAMES
        self.failed = False  # a statement since `touched` is not empty
        self.is_certain = False  # what is touched was touched by one statement by itself
        self._profile = profile
        self._base = origin.base
        self._origin = origin
        self._table = table
        self._discards = False  # that is DISCARD ALL
        self._values: dict[str, str] = {}  # what it is known to have set
        self._question = NOTHING
        self._asked: list[str] = []
        self._are_set = True  # nothing has failed, so that all that is asked for was set
        self._due: list[str] = []  # of those set back, what has to follow yet
        self._row = b""
        self._settle(origin.base)

    @property
    def is_asking(self) -> bool:
        """Whether the settings are known again only when the server has answered."""
        return self._question != NOTHING

    @property
    def safe_encoding(self) -> bool:
        """Whether the session's texts can be read byte by byte."""
        return self.reported.get(b"client_encoding", b"") not in UNSAFE_ENCODINGS

    # --- to the server ------------------------------------------------------------------------

    def lease(self, server: ServerConnection) -> None:
        """A server connection whose settings are not the session's has been leased."""
        as_superuser = server.profile.is_superuser
        message, first = restore(server.settings, self.settings, as_superuser=as_superuser)
        server.settings = self.settings
        if not message:
            return
        server.custom.update(self.settings.custom)
        relay = self.relay
        relay.sending.preface = first + message
        relay.sending.preface_owed = [OWED_ATTEMPT, OWED_RESTORE] if first else [OWED_RESTORE]
        server.show_rows()

    def allowed(self, batch: Batch) -> frozenset[str]:
        """The settings not PostgreSQL's own that may exist where the batch runs: those that the
        session has set, or sets before anything else can look. Others are another session's, and
        would be seen: the text of a row security policy asks for them, and no statement shows
        that."""
        allowed = self.settings.allowed
        if not batch.effects:
            return allowed
        names = [name for effect in batch.effects for name in effect.names]
        if TEMP_BUFFERS in names:
            allowed -= {TEMPORARY}
        return allowed.union(filter(is_custom, names)) if _sets_surely(batch) else allowed

    def sent(self, batch: Batch, server: ServerConnection, *, alone: bool) -> bytes:
        """The batch at hand, which may change settings, is being sent; `alone`: not in a
        transaction block, and nothing else is in flight. Returns what is to follow it."""
        alone = alone and (batch.simple or _executes_once(batch))
        if self.touched:
            self.followed(batch, server)
        else:
            self.failed = False
            self._discards = False
            self._values.clear()
            self.lent = NO_NAMES
            if server.custom and _sets_surely(batch):
                to_be_set = [name for effect in batch.effects for name in effect.names]
                there = frozenset(server.custom.intersection(to_be_set))
                self.lent = there - self.settings.custom
            self.is_certain = alone and batch.ending == AT_READY and not batch.ends
        set_back_names: list[str] = []
        for effect in batch.effects:
            names = list(effect.names)
            if effect.all:
                self.relay.requests.reset_own()
                self._discards = AUTHORITY[0] in names
                known = [*self.settings.values, *self.touched, *self._asked]
                names += [name for name in known if name not in AUTHORITY]
            for name in names:
                self.touched.pop(name, None)
                self.touched[name] = effect.resets
                if effect.value is not None and not effect.local:
                    self._values[name] = effect.value
                else:
                    self._values.pop(name, None)
            if effect.resets and not effect.local:
                set_back_names += names
            if not NAMING.isdisjoint(names):
                self.set_router()
        self.resetting = frozenset([name for name in set_back_names if name in self._base.values])
        if self.is_certain or batch.ending != AT_READY:
            self._due += [name for name in set_back_names if name in self.resetting]
            return b""
        after = set_back(set_back_names, self._base)
        if after:
            server.show_rows()
        return after

    def followed(self, batch: Batch, server: ServerConnection) -> None:
        """The batch at hand is being sent before it is known what those before it have set."""
        self.is_certain = False  # an error to come may be of this batch
        self.resetting = NO_NAMES
        if self._due and not batch.continues:
            relay = self.relay
            message = set_back(self._due, self._base)
            self._due = []
            server.show_rows()
            relay.sending.preface += message
            relay.sending.preface_owed.append(OWED_SET_BACK)
            relay.journal.give_up()

    # --- from the server ----------------------------------------------------------------------

    def answered(self) -> None:
        """ReadyForQuery to the batch that was to set what is `lent` has come."""
        if not self.failed:
            self.lent = NO_NAMES

    def settled(self, server: ServerConnection) -> bool:
        """No transaction is open and nothing is owed. True: now something is."""
        pinning = self.relay.pinning
        if self.touched:
            self._take_over(server)
        elif question := pinning.question():
            self._ask(server, PINS, question)
        if (
            self._question == NOTHING
            and pinning.pin is not None
            and server.settings is not self.settings
        ):
            # RESET has gone back to what the server begins with, not the session.
            self.lease(server)
            self.relay.sending.send_preface(server)
        return self._question != NOTHING or not self.relay.inflight.settled

    def row(self, body: bytes) -> None:
        """The answer to the question."""
        self._row = body

    def ready(self, server: ServerConnection, role: int) -> bytes:
        """ReadyForQuery to a message of ours has come. Returns what the client is to be told."""
        if role == RESTORE:
            server.rows_shown()
            return self.tell(server)
        if role == SET_BACK:
            server.rows_shown()
        if role == ASK and self._question != NOTHING:
            question, self._question = self._question, NOTHING
            row, self._row = self._row, b""
            server.rows_shown()
            if question == PINS:
                self.relay.pinning.answered(row)
            else:
                self._see_settings(server, row)
        return b""

    def tell(self, server: ServerConnection) -> bytes:
        """ParameterStatus of what changed by itself (a reload), as the primary has it."""
        if not server.backend.writable or server.reported is self.reported:
            return b""
        told = [self.news(name, value) for name, value in server.reported.items()]
        if server.reported == self.reported:
            self.reported = server.reported  # next time they are seen to be the same
        return b"".join(told)

    def news(self, name: bytes, value: bytes) -> bytes:
        """What the client has to be told of a ParameterStatus: b"", or that; takes note of it."""
        if name in OF_THE_SERVER:
            return b""
        if self._is_resetting(name):
            value = self._origin.reported.get(name, value)  # it will have that again
        if self.reported.get(name) == value:
            return b""
        reported = self.reported.copy()
        reported[name] = value
        self.reported = reported
        if name == b"client_encoding":
            self.relay.read_encoding()
        elif name == b"application_name":
            self.relay.read_rules()
        return write.parameter_status(name, value)

    def back_to_base(self) -> bytes:
        """What the client is to be told of settings that it has just set back: a server that does
        not know the session's first values need not see a change."""
        if self.failed:
            return b""
        told = [
            self.news(name, value)
            for name, value in self._origin.reported.items()
            if self._is_resetting(name)
        ]
        return b"".join(told)

    def _is_resetting(self, name: bytes) -> bool:
        """Whether the last batch sets back what has this name in ParameterStatus."""
        if not self.resetting:
            return False
        if name == b"is_superuser":
            return not self.resetting.isdisjoint(AUTHORITY)
        return name.decode("ascii", "replace").lower() in self.resetting

    def refused(self, frame: bytes) -> PgError:
        """The session's settings could not be restored; nothing behind them has been run."""
        fields = error_fields(frame[5:])
        return PgError(
            fields.get("C", "XX000"),
            "the settings of the session could not be restored on another server connection",
            detail=f"The server says: {fields.get('M', '')}. The statement was not run.",
            hint="Connect again.",
        )

    # --- inside -------------------------------------------------------------------------------

    def _take_over(self, server: ServerConnection) -> None:
        touched = list(self.touched.items())
        self.touched.clear()
        self.resetting = NO_NAMES
        names = [name for name, _ in touched]
        if self.is_certain:
            if self.failed:
                self._due.clear()
                # A setting of the user's own that was made before the error exists all the same.
                made = [name for name in names if is_custom(name) and name not in self.lent]
                if made:
                    self._asked = made
                    self._ask(server, SETTINGS, ask(made, are_set=True))
                else:
                    self.lent = NO_NAMES
                return
            if self._discards:
                self.relay.pinning.discarded()
            # What a setting that is not PostgreSQL's own is set back to is not known here.
            resets = [name for name, is_reset in touched if is_reset and not is_custom(name)]
            resets += [name for name, is_reset in touched if is_reset and name in self._base.values]
            names = [name for name in names if name not in resets and name not in self._values]
            if self._values:
                known: dict[str, str | None] = {**self._values}
                server.settings = self._table.get(changed(server.settings, known))
                self._settle(self._table.get(changed(self.settings, known)))
            if resets:
                # With a question they are set back at once, in front of it.
                there = self._base if names else NOTHING_SET
                server.settings = self._table.get(reset(server.settings, resets, there))
                self._settle(self._table.get(reset(self.settings, resets, self._base)))
            if not names:
                self._due.clear()  # they are in front of the next batch
        if names:
            self._asked = names
            self._set_back(server)
            in_block = ISOLATION in names or ISOLATION in self.settings.values
            question = ask(names, are_set=self.is_certain, in_block=in_block)
            self._ask(server, SETTINGS, question)

    def _set_back(self, server: ServerConnection) -> None:
        due, self._due = self._due, []
        message = set_back(due, self._base)
        if message:
            server.show_rows()
            self.relay.inflight.push(OWED_SET_BACK)
            server.write(message)

    def _ask(self, server: ServerConnection, question: int, message: bytes) -> None:
        self._question = question
        self._are_set = not self.failed
        self._row = b""
        server.prepared.unnamed = None
        server.show_rows()
        self.relay.inflight.push(OWED_ROWS)
        server.write(message)

    def _see_settings(self, server: ServerConnection, row: bytes) -> None:
        encoding = server.reported.get(b"client_encoding", b"").decode("ascii", "replace")
        asked, self._asked = self._asked, []
        try:
            found = answers(asked, read_row(row, encoding) if row else [])
        except ValueError:  # refused, or not in that encoding
            self._keep(server)
            return
        found.update(dict.fromkeys(self.lent.intersection(found)))
        self.lent = NO_NAMES
        server.settings = self._table.get(changed(server.settings, found, are_set=self._are_set))
        mine = changed(self.settings, found, are_set=self._are_set)
        self._settle(self._table.get(mine))
        if is_too_much(mine):
            self._keep(server)

    def _keep(self, server: ServerConnection) -> None:
        """What the session has set cannot be taken along."""
        if server.backend.writable:
            self.relay.pinning.add(Pin.SET)
            self.relay.pinning.keep(Pin.SET)
        else:
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                "the settings of the session cannot be taken to the primary",
                detail="They were made in a READ ONLY transaction on a replica. Make them before.",
            )

    def _settle(self, settings: Settings) -> None:
        self.settings = settings
        self.set_scope()
        self.set_router()
        own = settings.values.get(ISOLATION)
        # Names of values count in any case, as settings of an enumeration do.
        self.isolation = self._profile.isolation if own is None else own.lower().encode()
        own = settings.values.get(READ_ONLY)
        self.read_only = self._profile.read_only if own is None else is_on(own)

    def set_router(self) -> None:
        """Which router decides: that of what names stand for in this session."""
        relay = self.relay
        routers = relay.routers
        relay.generation = routers.generation
        if not (NAMING.isdisjoint(self.touched) and NAMING.isdisjoint(self._asked)):
            relay.batch.statements.router = routers.any_path().under(relay.rules)
            return
        values = self.settings.values
        session, role = AUTHORITY
        user = values.get(role, "none")
        if user == "none":
            user = values.get(session, relay.group.user)
        path = values.get(SEARCH_PATH)
        if path is None and b"search_path" in self.reported:  # from PostgreSQL 18 on
            path = self.reported[b"search_path"].decode("utf-8", "replace")
        relay.batch.statements.router = routers.choose(path, user).under(relay.rules)

    def set_scope(self) -> None:
        """Which statements may be shared with other sessions: those whose texts mean the same."""
        relay = self.relay
        if relay.changes.schema or Pin.TEMP_TABLE in relay.pinning.pins:
            # What it has made nobody else sees, or may never see.
            relay.batch.statements.scope = b"\0%d" % id(relay)
        else:
            relay.batch.statements.scope = self.settings.scope


def is_on(value: str) -> bool:
    """Whether the value of a Boolean setting, as written, is true."""
    return bool(parse_bool(value.strip().lower()))


def _sets_surely(batch: Batch) -> bool:
    """Whether it is one statement that does what its effects say, or fails and does nothing."""
    if batch.needs.waits or not all(effect.surely for effect in batch.effects):
        return False
    return batch.simple or _executes_once(batch)


def _executes_once(batch: Batch) -> bool:
    """Whether the batch is one statement, executed once. Of several, one may not be executed at
    all, or take back what DISCARD ALL has done in front of it."""
    kinds = [owed.kind for owed in batch.owed]
    return kinds.count(BIND) == 1 and kinds.count(EXECUTE) == 1 and QUERY not in kinds
