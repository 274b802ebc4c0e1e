"""PURE. Which client of a draining proxy goes when.

A drain has three parts. While the port still accepts, nobody goes: the proxy is not known to be
leaving everywhere yet. In the window that follows each client goes between two of its transactions,
from its own moment on: in the first half whoever leaves nothing behind, in the second those with
session state. At the end of the window what still runs is cancelled, and whoever is left is cut off.

Times are seconds of one monotonic clock.
"""

from enum import Enum
from typing import Final, final

# Seconds between two departures, on average, until that fills half the window: each client that
# goes logs in somewhere else, and a log-in by SCRAM costs a proxy milliseconds.
SPACING: Final = 0.01
# Seconds. Who has asked nothing for so long will hardly be asking something right now, on its way
# to us while our farewell is on its way there. Not at once after an answer: pools ask a last thing
# before they take a connection back (asyncpg does), and drivers in that moment lose the farewell
# (libpq takes it for a notice) or trip over it.
QUIET: Final = 0.5
# The same, once such a pause has not been made for ...
SHORT_QUIET: Final = 0.1
# ... this part of the window. After the next, transactions are refused; after the third, any
# moment between two statements is taken.
SHORT_QUIET_AFTER: Final = 1 / 24
REFUSE_AFTER: Final = 1 / 12
ANY_AFTER: Final = 1 / 6
# Seconds in which a client takes nothing of what waits for it, after which it counts as gone.
STALLED: Final = 10.0
# Seconds that a log-in may still take once the port is closed.
LOGIN_GRACE: Final = 2.0
# Seconds from the cancel requests at the end of the window to the end of all patience.
CANCEL_WAIT: Final = 5.0


class State(Enum):
    """Where a client stands; the values are those of the metric's label."""

    IDLE = "idle"  # between transactions: it may go
    PINNED = "pinned"  # the same, but it has session state
    TRANSACTION = "transaction"  # in a transaction, and it is the client's turn
    ACTIVE = "active"  # a statement is under way, or half sent, or its answer not taken yet
    WAITING = "waiting"  # for a server connection
    LEAVING = "leaving"  # has been told, and closes its end


class Verdict(Enum):
    STAY = 0
    GO = 1  # between transactions
    CANCEL = 2  # cancel what it runs
    CUT = 3  # whatever it is doing


@final
class Departure:
    """When one client may go, and what was seen of it."""

    def __init__(self, due: float, due_pinned: float) -> None:
        self.due: Final = due
        self.due_pinned: Final = due_pinned
        self.cancelled = False
        self._unsent = 0
        self._unsent_since = 0.0

    def due_in(self, state: State) -> float:
        """From when on it may go."""
        return self.due_pinned if state is State.PINNED else self.due

    def is_stalled(self, unsent: int, now: float) -> bool:
        """Whether it has taken nothing for too long; `unsent` bytes wait for it now."""
        if unsent == 0 or unsent != self._unsent:
            self._unsent = unsent
            self._unsent_since = now
            return False
        return now - self._unsent_since >= STALLED


@final
class Schedule:
    """The times of one drain that begins at `now`."""

    def __init__(self, now: float, *, accept: float, window: float) -> None:
        self.closes_at: Final = now + accept  # the port
        self.turns_away_at: Final = self.closes_at + min(LOGIN_GRACE, window)  # log-ins
        self.ends_at: Final = self.closes_at + window
        self.gives_up_at: Final = self.ends_at + CANCEL_WAIT
        self._window: Final = window
        self._half: Final = window / 2

    def departure(self, fraction: float, clients: int) -> Departure:
        """For one of `clients` that are there when the port closes; `fraction` is random in
        [0, 1) and spreads them."""
        later = fraction * min(self._half, clients * SPACING)
        return Departure(self.closes_at + later, self.closes_at + self._half + later / 2)

    def latecomer(self, now: float) -> Departure:
        """For one that has only just logged in, surely not to do nothing."""
        return Departure(now + QUIET, max(now + QUIET, self.closes_at + self._half))

    def verdict(
        self, departure: Departure, state: State, now: float, *, quiet: float, unsent: int
    ) -> Verdict:
        """`quiet` seconds ago it last asked something, `unsent` bytes of answers wait for it."""
        if state is State.LEAVING or now < self.closes_at:
            return Verdict.STAY
        if now >= self.gives_up_at:
            return Verdict.CUT
        is_at_rest = state in (State.IDLE, State.PINNED) and unsent == 0
        if now < self.ends_at:
            late = now - departure.due_in(state)
            may_go = is_at_rest and late >= 0 and quiet >= self._quiet(late)
            return Verdict.GO if may_go else Verdict.STAY
        if is_at_rest:
            return Verdict.GO
        # Who does not read cannot be told how a cancelled statement ends.
        if state is State.ACTIVE and unsent == 0:
            return Verdict.STAY if departure.cancelled else Verdict.CANCEL
        return Verdict.CUT

    def refuses(self, departure: Departure, state: State, now: float, *, begins: bool) -> bool:
        """Whether a client that asks something now is seen off instead: it has made no pause in
        which it could have gone. BEGIN (`begins`) is refused first: whoever sends that has surely
        nothing to lose yet. Later whatever it asks, for looking at it now and then may never meet
        it between two statements."""
        after = REFUSE_AFTER if begins else ANY_AFTER
        is_late = now >= departure.due_in(state) + self._window * after
        return state in (State.IDLE, State.PINNED) and is_late

    def _quiet(self, late: float) -> float:
        """The pause that is asked of one who should have gone `late` seconds ago."""
        if late < self._window * SHORT_QUIET_AFTER:
            return QUIET
        return SHORT_QUIET if late < self._window * ANY_AFTER else 0.0
