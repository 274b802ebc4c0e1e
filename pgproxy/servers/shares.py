"""PURE. How much of the reads each server is to get, worked out before anybody asks.

A server's weight is multiplied with its *share*, 1 for the best of all: less for one that is new
among others (warm-up), lags behind the time of the probes or has a limit that slowness has shrunk
(adaptive.py). What it is *due* is less again for one that answers slowly; that counts where nobody is
busy, since otherwise what is in flight tells.
Nobody's is ever nothing: who gets no reads could never show that it has become better.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.servers.backend import Backend

# The least that is left of a weight, and of what is due for slowness.
SMALLEST_SHARE: Final = 0.05
SLOWEST: Final = 0.1
# A server of the own zone that is warmer than this takes all reads; until then the other zones'
# help it.
WARM_ENOUGH: Final = 0.5
# Intervals of the monitor by which a server that shows everything may seem to lag: its own last
# answer, the primary's before that, and the position of the one before that.
NOISE: Final = 3
# Seconds of lag beyond that at which the smallest share is left, without consistency.max_staleness.
LONG_LAG: Final = 10.0

FAR: Final = 1
SPARE: Final = 2  # of weight 0
WORST_RANK: Final = FAR + SPARE


@final
class Shares:
    """`interval` is the monitor's; times are seconds, 0 of `warm_up` is none."""

    def __init__(
        self,
        *,
        zone: str = "",
        warm_up: float = 0.0,
        interval: float = 1.0,
        max_staleness: float = 0.0,
        by_speed: bool = True,
    ) -> None:
        self.zone = zone
        self.warm_up = warm_up
        self.noise = interval * NOISE
        self.long_lag = max_staleness if max_staleness > 0 else LONG_LAG
        self.by_speed = by_speed
        self.readers: list[Backend] = []

    def follow(self, readers: list[Backend], now: float) -> None:
        """These may serve reads from now on. Who was not among them is new."""
        for backend in self.readers:
            if backend not in readers:
                backend.share = 1.0
        for backend in readers:
            if backend not in self.readers:
                backend.reads_since = now
                backend.latency = 0.0
                backend.credit = 0.0
        self.readers = list(readers)
        self.weigh(now)

    def weigh(self, now: float) -> None:
        """Takes up what has changed with time: warmth, lag, speed."""
        readers = self.readers
        if not readers:
            return
        warmth = relative([self._warmth(backend, now) for backend in readers])
        freshness = relative([self._freshness(backend, now) for backend in readers])
        shares = relative(
            [
                max(SMALLEST_SHARE, warm * fresh) * backend.room
                for warm, fresh, backend in zip(warmth, freshness, readers, strict=True)
            ]
        )
        self._rank(warmth)
        fastest = min([backend.latency for backend in readers if backend.latency > 0], default=0.0)
        dues = []
        for backend, share in zip(readers, shares, strict=True):
            backend.share = share
            pull = share * (backend.weight if backend.weight > 0 else 1.0)
            backend.cost = 1.0 / pull
            dues.append(pull * self._speed(backend, fastest))
        # Credits of before stay comparable: nobody ever gains more than 1 at a time.
        for backend, due in zip(readers, relative(dues), strict=True):
            backend.due = due

    def _warmth(self, backend: Backend, now: float) -> float:
        if self.warm_up <= 0:
            return 1.0
        return min(1.0, max(SMALLEST_SHARE, (now - backend.reads_since) / self.warm_up))

    def _freshness(self, backend: Backend, now: float) -> float:
        lag = now - backend.fresh_as_of - self.noise
        return 1.0 if lag <= 0 else max(SMALLEST_SHARE, 1.0 - lag / self.long_lag)

    def _speed(self, backend: Backend, fastest: float) -> float:
        if not self.by_speed or backend.latency <= 0 or backend.room < 1.0:
            return 1.0  # or it is in the share already
        return max(SLOWEST, fastest / backend.latency)

    def _rank(self, warmth: list[float]) -> None:
        is_served_near = False
        for backend, warm in zip(self.readers, warmth, strict=True):
            if self._is_near(backend) and backend.weight > 0 and warm >= WARM_ENOUGH:
                is_served_near = True
        for backend in self.readers:
            rank: i64 = 0 if backend.weight > 0 else SPARE
            if not (is_served_near and self._is_near(backend)):
                rank += FAR
            backend.rank = rank

    def _is_near(self, backend: Backend) -> bool:
        return self.zone != "" and backend.zone == self.zone


def relative(values: list[float]) -> list[float]:
    """The same, with 1 for the largest; all are above 0."""
    largest = max(values)
    return [value / largest for value in values]
