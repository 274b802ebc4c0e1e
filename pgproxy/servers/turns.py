"""HOT, PURE. Who may log in to a backend now: a few at a time, the others in order of arrival.

A log-in costs PostgreSQL a process and a password exchange. When a new primary appears and
everybody comes at once, hundreds of them would each take as long as all together.
"""

from collections import deque
from collections.abc import Callable
from typing import final

from mypy_extensions import i64


@final
class Turns:
    """`limit` places; whoever has begun keeps one until `leave`."""

    def __init__(self, limit: int) -> None:
        self.limit: i64 = limit
        self.taken: i64 = 0
        self.waiting: deque[Callable[[], bool]] = deque()

    def ask(self, begin: Callable[[], bool]) -> None:
        """`begin` is called in its turn. It returns False if it is not needed any more and takes no
        place."""
        self.waiting.append(begin)
        self._next()

    def leave(self) -> None:
        self.taken -= 1
        self._next()

    def _next(self) -> None:
        # `begin` may ask again: the place is taken first.
        while self.waiting and self.taken < self.limit:
            self.taken += 1
            if not self.waiting.popleft()():
                self.taken -= 1
