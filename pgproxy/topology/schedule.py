"""PURE. What the API server is asked next, and when: after success, failure, silence, nonsense.

The reflector (kubernetes.py) asks `next_request`, carries it out, and says by `after` how it
ended. What follows is client-go's way where that has proven itself:

- LIST gives a resource version, WATCH goes on from it. The version is opaque: never compared but
  for equality, never made up.
- A watch that ends by itself (each has a time limit) is begun anew from the same version.
- What the API server has forgotten (410), and what was not understood, is listed anew. So it is
  after the server was away, or did not know our token or we not its certificate: it may have come
  back with another history, in which our version means another moment, and a watch from there
  would not tell what is different.
- Any other failure keeps the version and waits: 0.8 s, doubled each time, times 1 to 2 by chance,
  so that many replicas do not come back in one moment. After 60 s of watching, all told, the
  waiting begins anew.
- Every few minutes the pods are listed although nothing is wrong, and that list is believed: after
  etcd was restored from a backup the versions go back, and a watch from the future is silent.

Whatever the API server does, no more than two requests begin in any second.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, final


@final
@dataclass(frozen=True)
class Timing:
    """Seconds. Ranges are drawn from by chance."""

    watch: tuple[int, int] = (25, 35)  # `timeoutSeconds`: the server ends the watch then
    grace: float = 5.0  # after that it is dead: no end was seen where one was due
    answer: float = 15.0  # for a LIST, from the connection to the last byte
    smallest_gap: float = 1.0  # from the beginning of a watch to that of the next
    first_wait: float = 0.8
    longest_wait: float = 15.0  # before chance, which at most doubles it
    healthy: float = 60.0
    repair: tuple[float, float] = (300.0, 600.0)
    look_again: float = 5.0  # from one list to the next while there is no primary
    debounce: float = 0.03  # a failover is two or three changes of pods


class Verb(Enum):
    LIST = "list"
    WATCH = "watch"


class Outcome(Enum):
    """How a request ended; the value is the metric's label."""

    OK = "ok"  # listed; the watch ended by itself
    GONE = "gone"  # 410, or the reasons Expired and Gone: the version is too old
    GARBLED = "garbled"  # not what an API server says
    UNAUTHORIZED = "unauthorized"  # 401
    FORBIDDEN = "forbidden"  # 403
    THROTTLED = "throttled"  # 429
    REJECTED = "rejected"  # any other 3xx or 4xx
    ERROR = "error"  # 5xx, or another error within a watch
    UNREACHABLE = "unreachable"  # refused, reset, no such host
    SILENT = "silent"  # nothing in time
    TLS = "tls"  # its certificate, or ours
    CREDENTIALS = "credentials"  # ours cannot be had


# After these the client is made anew: the token, the authority's certificate or the address may
# have been replaced in their files.
RENEWS: Final = frozenset(
    {Outcome.UNAUTHORIZED, Outcome.TLS, Outcome.UNREACHABLE, Outcome.CREDENTIALS}
)
# A token and a certificate are replaced before the old ones end: the new ones are tried at once.
_RETRIED_AT_ONCE: Final = frozenset({Outcome.UNAUTHORIZED, Outcome.TLS})
# Seconds: a Retry-After is honoured up to here.
_LONGEST_RETRY_AFTER: Final = 60.0
# After these the version is of no use.
_FORGOTTEN: Final = frozenset({Outcome.GONE, Outcome.GARBLED})
# After these the history may be another one.
_DOUBTED: Final = frozenset({Outcome.UNREACHABLE, Outcome.UNAUTHORIZED, Outcome.TLS})
# So many watches in a row that the server answers with such an error, and the version is suspect.
_SUSPECT: Final = frozenset({Outcome.REJECTED, Outcome.ERROR})
_SUSPICION: Final = 3

# "No more than `_BURST` requests begin within `_WINDOW` seconds."
_BURST: Final = 2
_WINDOW: Final = 1.0


@final
@dataclass(frozen=True)
class Request:
    """What to do at `at` (monotonic seconds), with a client that is made anew if `renew`."""

    verb: Verb
    at: float
    renew: bool = False
    resource_version: str = ""
    timeout_seconds: int = 0  # of a watch
    reason: str = ""  # of a list: start, repair, error, no_primary, or an outcome's value


@final
class RateLimit:
    """When a request may begin. Holds for every window, not for an average."""

    def __init__(self) -> None:
        self._begun: Final[deque[float]] = deque(maxlen=_BURST)

    def earliest(self, now: float) -> float:
        if len(self._begun) < _BURST:
            return now
        return max(now, self._begun[0] + _WINDOW)

    def begin(self, now: float) -> None:
        self._begun.append(now)


@final
class Schedule:
    """`chance` gives numbers from 0 up to 1, evenly."""

    def __init__(self, chance: Callable[[], float], timing: Timing) -> None:
        self.resource_version = ""  # the watch moves it with each event
        self.failures = 0  # in a row, as far as waiting goes
        self._chance: Final = chance
        self._timing: Final = timing
        self._list_reason = "start"
        self._not_before = 0.0
        self._repair_at = 0.0
        self._healthy = 0.0  # seconds watched since the waiting last began anew
        self._suspicion = 0
        self._renew = False
        self._has_renewed = False  # and nothing has worked since

    def next_request(self, now: float) -> Request:
        at = max(now, self._not_before)
        renew, self._renew = self._renew, False
        if not self.resource_version:
            return Request(Verb.LIST, at, renew, reason=self._list_reason)
        if at >= self._repair_at:
            return Request(Verb.LIST, at, renew, reason="repair")
        low, high = self._timing.watch
        seconds = min(low + int(self._chance() * (high - low + 1)), high)
        return Request(Verb.WATCH, at, renew, self.resource_version, seconds)

    def list_now(self, now: float, reason: str) -> None:
        """Somebody cannot wait for the watch to end."""
        self._relist(reason)
        self._not_before = now

    def after_list(
        self, now: float, outcome: Outcome, *, resource_version: str = "", retry_after: float = 0.0
    ) -> None:
        """`resource_version` is the list's, with outcome OK."""
        if outcome is Outcome.OK:
            self.resource_version = resource_version
            self._repair_at = now + self._between(self._timing.repair)
            self._not_before = now
            self._has_renewed = False
            self._suspicion = 0
            return
        # A repair that fails leaves the watch as it was, and is tried again soon.
        self._repair_at = now + self._timing.healthy
        self._fail(now, outcome, retry_after)

    def after_watch(
        self,
        now: float,
        outcome: Outcome,
        *,
        began: float,
        watched: float = 0.0,
        retry_after: float = 0.0,
    ) -> None:
        """`began` is when, `watched` how long the server's stream was open (0: it did not come)."""
        if watched > 0:
            self._has_renewed = False
            self._healthy += watched
            if self._healthy >= self._timing.healthy:
                self.failures, self._healthy = 0, 0.0
        if outcome is Outcome.OK:
            self._suspicion = 0
            self._not_before = began + self._timing.smallest_gap
            return
        self._suspicion = self._suspicion + 1 if outcome in _SUSPECT else 0
        if outcome in _FORGOTTEN or outcome in _DOUBTED or self._suspicion >= _SUSPICION:
            self._relist("error" if outcome in _SUSPECT else outcome.value)
        self._fail(now, outcome, retry_after)

    def _relist(self, reason: str) -> None:
        self.resource_version = ""
        self._list_reason = reason
        self._suspicion = 0

    def _fail(self, now: float, outcome: Outcome, retry_after: float) -> None:
        self._renew = outcome in RENEWS
        if outcome in _RETRIED_AT_ONCE and not self._has_renewed:
            self._has_renewed = True
            self._not_before = now
            return
        timing = self._timing
        wait = min(timing.first_wait * 2.0 ** min(self.failures, 30), timing.longest_wait)
        self.failures += 1
        asked_for = min(retry_after, _LONGEST_RETRY_AFTER)
        self._not_before = now + max(wait * (1.0 + self._chance()), asked_for)

    def _between(self, bounds: tuple[float, float]) -> float:
        low, high = bounds
        return low + (high - low) * self._chance()
