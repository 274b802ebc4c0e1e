"""PURE. How long what may take, and whose time is up.

query                one batch on its server, up to ReadyForQuery; in a pipeline from its turn on
transaction          from its BEGIN, or its only statement, to its end
idle_in_transaction  the client says nothing, and a transaction waits for it
client_idle          the client says nothing, outside of transactions

A client's limit is its user's; if that has none of its own, its database's; if neither has, the one for
all. The times are noted when something happens, by who has them at hand (overdue.py); `look` compares
them now and then, and says before when it need not be asked again.
"""

from collections.abc import Mapping
from typing import Final, final

from mypy_extensions import i64

# The name of each limit, in the configuration and in metrics.
QUERY: Final = "query"
TRANSACTION: Final = "transaction"
IDLE_IN_TRANSACTION: Final = "idle_in_transaction"
CLIENT_IDLE: Final = "client_idle"
CLIENT_LOGIN: Final = "client_login"
KINDS: Final = (QUERY, TRANSACTION, IDLE_IN_TRANSACTION, CLIENT_IDLE, CLIENT_LOGIN)

# What a client is at.
RESTING: Final = 0  # nothing is in flight: what comes next is up to the client
WORKING: Final = 1  # its server works for it
SENDING: Final = 2  # its server waits for it: for the rest of a batch, or of a COPY
READING: Final = 3  # its server waits for it to take what it has been answered
QUEUED: Final = 4  # it waits for the proxy: for a server, say

# Whose time is up.
NOBODY: Final = 0
STATEMENT_IS_LATE: Final = 1
CANCEL_IS_LATE: Final = 2  # the statement is still there, so long after it was to be cancelled
TRANSACTION_IS_LATE: Final = 3
CLIENT_IS_LATE_IN_TRANSACTION: Final = 4
CLIENT_IS_LATE: Final = 5

# Seconds that a server has to end a statement after it has been asked to.
GRACE: Final = 5.0

NEVER: Final = float("inf")


@final
class TimeLimits:
    """Of one client, in seconds; NEVER: no limit. `keys` says where each is configured."""

    def __init__(self, seconds: Mapping[str, float], keys: Mapping[str, str]) -> None:
        self.query = seconds.get(QUERY, 0.0) or NEVER
        self.transaction = seconds.get(TRANSACTION, 0.0) or NEVER
        self.idle_in_transaction = seconds.get(IDLE_IN_TRANSACTION, 0.0) or NEVER
        self.client_idle = seconds.get(CLIENT_IDLE, 0.0) or NEVER
        self.client_login = seconds.get(CLIENT_LOGIN, 0.0) or NEVER
        self.shortest = min(
            self.query, self.transaction, self.idle_in_transaction, self.client_idle
        )
        self._seconds: Final = seconds
        self._keys: Final = keys

    @property
    def has_any(self) -> bool:
        """For a client that is logged in."""
        return self.shortest < NEVER

    def named(self, kind: str) -> str:
        """A limit and its key, for people."""
        return f"{self._seconds[kind]:g} s ({self._keys[kind]})"


@final
class TimeLimitTable:
    """The limits of all clients. A limit that an entry does not have is None there, or missing."""

    def __init__(
        self,
        default: Mapping[str, float] | None = None,
        databases: Mapping[str, Mapping[str, float | None]] | None = None,
        users: Mapping[str, Mapping[str, float | None]] | None = None,
    ) -> None:
        self._default: Final[Mapping[str, float]] = {} if default is None else default
        self._databases: Final[Mapping[str, Mapping[str, float | None]]] = (
            {} if databases is None else databases
        )
        self._users: Final[Mapping[str, Mapping[str, float | None]]] = (
            {} if users is None else users
        )
        self._known: Final[dict[tuple[str, str], TimeLimits]] = {}
        self.shortest = self._shortest()

    def of(self, database: str, user: str) -> TimeLimits:
        """Those of such a client."""
        names = (
            database if database in self._databases else "",
            user if user in self._users else "",
        )
        found = self._known.get(names)
        if found is None:
            found = self._known[names] = self._make(database, user)
        return found

    def _make(self, database: str, user: str) -> TimeLimits:
        seconds = dict(self._default)
        keys = {kind: f"timeouts.{kind}" for kind in KINDS}
        for table, entries, name in (
            ("databases", self._databases, database),
            ("users", self._users, user),
        ):
            for kind, value in entries.get(name, {}).items():
                if value is not None:
                    seconds[kind] = value
                    keys[kind] = f"timeouts.{table}.{name}.{kind}"
        return TimeLimits(seconds, keys)

    def _shortest(self) -> float:
        """The shortest that any client may have, log-ins aside."""
        tables = [self._default, *self._databases.values(), *self._users.values()]
        found = [table.get(kind) for table in tables for kind in KINDS if kind != CLIENT_LOGIN]
        return min([seconds for seconds in found if seconds], default=NEVER)


@final
class Deadlines:
    """One client's. Times are seconds of one monotonic clock."""

    def __init__(self, limits: TimeLimits, now: float) -> None:
        self.limits = limits
        self.heard_at = now  # when the client said something last
        self.turn_at = now  # since when what is in flight is worked on, or nothing is
        self.began_at = now  # the transaction, if one is open; not before, if none is
        self.struck_at = 0.0  # when what is worked on was to be cancelled; 0: it was not
        self.due_at = now + limits.shortest  # nobody's time is up before

    def ready(self, now: float, *, is_idle: bool) -> None:
        """What was worked on is answered; `is_idle`: no transaction is open."""
        self.turn_at = now
        self.struck_at = 0.0
        if is_idle:
            self.began_at = now

    def look(self, now: float, at: i64, *, in_block: bool) -> i64:
        """Whose time is up, of a client that is `at` something."""
        limits = self.limits
        # Whatever begins after now has its whole time.
        due = now + limits.shortest
        is_open = in_block or at in (WORKING, SENDING, READING)
        if is_open:
            ends = self.began_at + limits.transaction
            if ends <= now:
                return TRANSACTION_IS_LATE
            due = min(due, ends)
        if at == WORKING:
            if self.struck_at > 0:
                ends = self.struck_at + GRACE
                if ends <= now:
                    return CANCEL_IS_LATE
            else:
                ends = self.turn_at + limits.query
                if ends <= now:
                    return STATEMENT_IS_LATE
            due = min(due, ends)
        elif at in (RESTING, SENDING):
            since = max(self.heard_at, self.turn_at)
            ends = since + (limits.idle_in_transaction if is_open else limits.client_idle)
            if ends <= now:
                return CLIENT_IS_LATE_IN_TRANSACTION if is_open else CLIENT_IS_LATE
            due = min(due, ends)
        self.due_at = due
        return NOBODY
