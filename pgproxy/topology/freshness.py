"""PURE. As of when is what a replica shows? The watermark behind read-your-writes.

The primary is asked, at time t0, for its insert position L. Whatever was committed before t0 lies
before L. So once a replica has replayed L, everything committed before t0 is visible on it: it is
*fresh as of* t0. A session that wrote at time w may read there if `fresh_as_of >= w`: one
comparison of two numbers, and no question to any server on the way of a query.

Times are monotonic seconds of one process. Positions of different timelines do not compare, so a
promotion starts all over.
"""

from typing import Final, final

# Positions of the primary that are remembered, at most; of the older half every second one is
# forgotten then: how fresh a replica is that lags far behind is told less exactly, and never better
# than it is.
SAMPLES: Final = 256
# Bytes: XLOG_BLCKSZ, and SizeOfXLogShortPHD and SizeOfXLogLongPHD (the first page of a segment).
WAL_PAGE: Final = 8192
PAGE_HEADERS: Final = (24, 40)

UNKNOWN: Final = 0.0  # as of when a replica is fresh
NEVER: Final = float("inf")


def end_of_records(position: int) -> int:
    """Up to where a standby has replayed when it has replayed all before this insert position."""
    # At the end of a page the insert position stands behind the next page's header already,
    # where nothing is written yet: a standby that has replayed all never gets there.
    if position % WAL_PAGE in PAGE_HEADERS:
        return position - position % WAL_PAGE
    return position


@final
class Freshness:
    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []  # (time, position), both rising
        self._replayed: dict[str, int] = {}
        self._fresh: dict[str, float] = {}

    def primary_at(self, asked_at: float, position: int) -> None:
        """The primary said that it had written up to `position`, when asked at `asked_at`."""
        position = end_of_records(position)
        samples = self._samples
        if samples and asked_at <= samples[-1][0]:
            return
        while samples and position < samples[-1][1]:
            samples.pop()  # restored from a copy: what was written up to there is gone
        if len(samples) == SAMPLES:
            del samples[: SAMPLES // 2 : 2]
        samples.append((asked_at, position))

    def replica_at(self, name: str, position: int) -> float:
        """A replica has replayed up to `position`. Returns as of when it is fresh."""
        if position < self._replayed.get(name, 0):
            self._fresh.pop(name, None)  # it was started anew, from an older state
        self._replayed[name] = position
        return self.fresh_as_of(name)

    def fresh_as_of(self, name: str) -> float:
        """As of when that replica is fresh, by what it has replayed; or UNKNOWN."""
        position = self._replayed.get(name)
        if position is None:
            return UNKNOWN
        fresh = self._fresh.get(name, UNKNOWN)
        for asked_at, written in reversed(self._samples):
            if written <= position:
                fresh = max(fresh, asked_at)
                break
        self._fresh[name] = fresh
        return fresh

    def awaited(self, name: str) -> int | None:
        """The next position at which that replica is fresher than it is known to be; None if it has
        replayed all that the primary has said, or where it is is not known."""
        # Not the newest: who wants no more than what was written before the oldest of them would
        # wait for the others too.
        replayed = self._replayed.get(name)
        if replayed is None:
            return None
        found: int | None = None
        for _asked_at, written in reversed(self._samples):
            if written <= replayed:
                break
            found = written
        return found

    def written_at(self, position: int) -> float:
        """As of when a replica must be fresh to have replayed up to `position` for certain; NEVER
        as long as the primary has not been seen to be there."""
        position = end_of_records(position)
        found = NEVER
        for asked_at, written in reversed(self._samples):
            if written < position:
                break
            found = asked_at
        return found

    @property
    def asked_at(self) -> float:
        """When the primary last said where it was; UNKNOWN on a timeline where it has not yet."""
        return self._samples[-1][0] if self._samples else UNKNOWN

    def forget(self, name: str) -> None:
        """Another server has that name from now on, or none, or it may be starting anew."""
        self._replayed.pop(name, None)
        self._fresh.pop(name, None)

    def reset(self) -> None:
        """Another timeline: nothing is known any more."""
        self._samples.clear()
        self._replayed.clear()
        self._fresh.clear()
