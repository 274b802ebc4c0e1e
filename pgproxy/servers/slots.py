"""HOT, PURE. What a ledger keeps the books of: places for server connections, and who waits for one."""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.protocol.settings import NOTHING_SET, Origin, Settings
from pgproxy.servers.backend import Backend

# The places.
NEW: Final = 0
IDLE: Final = 1
LEASED: Final = 2
RESETTING: Final = 3
CLOSING: Final = 4
CLOSED: Final = 5


@final
class Profile:
    """What a session must have been begun with, since it cannot be set later: `parameters`, which
    few sessions have any of, and the defaults of role and database, which may have been altered
    since. Compared by identity: the owner keeps one object for each.

    reported   what a server reports at a log-in without settings
    isolation  default_transaction_isolation of such a session
    read_only  default_transaction_read_only
    origins    what is known of sessions that begin with these settings
    is_over    no session will begin with it any more
    """

    def __init__(self, parameters: list[tuple[bytes, bytes]]) -> None:
        self.parameters = parameters
        self.reported: dict[bytes, bytes] = {}
        self.isolation = b""
        self.read_only = False
        self.origins: dict[Settings, Origin] = {}
        self.clients: i64 = 0
        self.is_over = False

    @property
    def is_superuser(self) -> bool:
        """Whether the user who logs in is one."""
        return self.reported.get(b"is_superuser") == b"on"

    def __repr__(self) -> str:
        return f"<Profile {self.parameters}>"


class Slot:
    """A place for one server connection in one ledger."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.settings = NOTHING_SET  # of the session that it served last
        # Settings not PostgreSQL's own that exist here, perhaps: nothing takes them away again.
        self.custom: set[str] = set()
        self.place: i64 = NEW
        self.opened_at = 0.0
        self.idle_since = 0.0
        self.doomed = False  # close it instead of using it again
        self.stays = False  # there, and nobody knows how long closing takes


class Waiter:
    """One who wants a slot. `granted` is called by the pool, never by the ledger."""

    def __init__(self) -> None:
        self.waits_for: Profile | None = None
        self.held: Slot | None = None  # it has this one, and waits for the right to use it
        self.is_urgent = False  # goes before others
        self.is_admitted = False  # has waited already, elsewhere
        self.is_told = False  # that it waits
        self.waiting_since = 0.0
        self.deadline = 0.0
        self.homeless_since = 0.0  # when it began to wait for a server to appear; 0: it has not
        # What may exist where it is served (Settings.allowed). None: anything.
        self.allowed: frozenset[str] | None = None
        # The server that its session stays on for reads, with routing.balance = "sticky".
        self.reads_from: Backend | None = None

    @property
    def is_waiting(self) -> bool:
        """For a server connection, or for the right to use one."""
        return self.waits_for is not None or self.held is not None

    def granted(self, slot: Slot) -> None:
        raise NotImplementedError

    def refused(self, error: PgError) -> None:
        raise NotImplementedError

    def as_of(self) -> float:
        """What was committed before then a read must see; infinite while that is not known."""
        return 0.0

    def reroute(self) -> None:
        """The pool it waited in has lost its backend; ask again."""
        raise NotImplementedError

    def tell(self, notice: PgError) -> None:
        """It has waited for a while."""


def serves(slot: Slot, allowed: frozenset[str] | None) -> bool:
    """Whether no settings exist there that a client would see and has not made (Waiter.allowed)."""
    return len(slot.custom) == 0 or allowed is None or slot.custom <= allowed
