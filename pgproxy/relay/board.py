"""HOT. What the workers of one proxy tell each other at once, through memory that they share.

A process writes into it before a client hears of a commit, so that what another client does next, with
whatever worker, finds it there. Everything is a time of the monotonic clock, which all processes of a
machine have in common; one aligned number of eight bytes is read and written as a whole.
"""

import time
from typing import Any, Final, final

from mypy_extensions import i64

from pgproxy.routing.routers import PLACES

SIZE_OF_NUMBER: Final = 8


@final
class Board:
    """`memory` is of `board_size(workers)` bytes, all zero at first; `worker` is the number of the
    process, the first being 0."""

    def __init__(self, memory: Any, worker: int, workers: int) -> None:
        cells = memoryview(memory)[: board_size(workers)].cast("d")
        self._worker: i64 = worker
        self._writes = cells[:workers]
        self._changes = cells[workers : workers + PLACES]
        self._doubts = cells[workers + PLACES : workers + 2 * PLACES]
        self._schema = cells[workers + 2 * PLACES :]

    def note_writes(self, now: float) -> None:
        """What was sent from here to be written has been by now."""
        self._writes[self._worker] = now

    @property
    def wrote_at(self) -> float:
        """When the last commit was acknowledged to any worker."""
        latest: float = max(self._writes)
        return latest

    def note_schema(self, now: float) -> None:
        """Plans from before may return other columns than those from after."""
        self._schema[0] = now

    @property
    def schema_at(self) -> float:
        at: float = self._schema[0]
        return at

    def note_objects(self, place: i64, now: float, *, in_doubt: bool) -> None:
        """What decides in a database where a read may run has changed; `in_doubt`: a read may not be
        one any more."""
        if in_doubt:
            self._doubts[place] = now
        self._changes[place] = now

    def changed_at(self, place: i64) -> float:
        at: float = self._changes[place]
        return at

    def doubted_at(self, place: i64) -> float:
        at: float = self._doubts[place]
        return at

    def lost(self, worker: int, until: float) -> None:
        """A worker has ended in the middle of whatever it did. `until` then what it had sent is
        expected to have been done, if ever."""
        self._writes[worker] = until
        now = time.monotonic()
        for place in range(PLACES):
            self.note_objects(place, now, in_doubt=True)
        self.note_schema(now)


def board_size(workers: int) -> int:
    return (workers + 2 * PLACES + 1) * SIZE_OF_NUMBER
