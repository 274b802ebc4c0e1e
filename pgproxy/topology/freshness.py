"""PURE. As of when is what a replica shows? The watermark behind read-your-writes.

The primary is asked, at time t0, for its insert position L. Whatever was committed before t0 lies
before L. So once a replica has replayed L, everything committed before t0 is visible on it: it is
*fresh as of* t0. A session that wrote at time w may read there if `fresh_as_of >= w`: one
comparison of two numbers, and no question to any server on the way of a query.

Times are monotonic seconds of one process. Positions of different timelines do not compare, so a
promotion starts all over.
"""

from collections import deque
from typing import Final, final

# Positions of the primary that are remembered: at one a second, a replica may lag two minutes
# before its freshness is told less exactly than it could be.
SAMPLES: Final = 128
# Bytes: XLOG_BLCKSZ, and SizeOfXLogShortPHD and SizeOfXLogLongPHD (the first page of a segment).
WAL_PAGE: Final = 8192
PAGE_HEADERS: Final = (24, 40)


@final
class Freshness:
    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()  # (time, position), both rising
        self._fresh: dict[str, float] = {}

    def primary_at(self, asked_at: float, position: int) -> None:
        """The primary said that it had written up to `position`, when asked at `asked_at`."""
        # At the end of a page the insert position stands behind the next page's header already,
        # where nothing is written yet: a standby that has replayed all never gets there.
        if position % WAL_PAGE in PAGE_HEADERS:
            position -= position % WAL_PAGE
        samples = self._samples
        if samples and asked_at <= samples[-1][0]:
            return
        while samples and position < samples[-1][1]:
            samples.pop()  # restored from a copy: what was written up to there is gone
        if len(samples) == SAMPLES:
            samples.popleft()
        samples.append((asked_at, position))

    def replica_at(self, name: str, position: int) -> float:
        """A replica has replayed up to `position`. Returns as of when it is fresh; 0: unknown."""
        fresh = self._fresh.get(name, 0.0)
        for asked_at, written in reversed(self._samples):
            if written <= position:
                fresh = max(fresh, asked_at)
                break
        self._fresh[name] = fresh
        return fresh

    def forget(self, name: str) -> None:
        """Another server has that name from now on, or none."""
        self._fresh.pop(name, None)

    def reset(self) -> None:
        """Another timeline: nothing is known any more."""
        self._samples.clear()
        self._fresh.clear()
