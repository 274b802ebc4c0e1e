"""HOT, PURE. Who may log in to a backend now: a few at a time, the others in order of arrival.

A log-in costs PostgreSQL a process and a password exchange. When a new primary appears and
everybody comes at once, hundreds of them would each take as long as all together.
"""

from collections import deque
from typing import final

from mypy_extensions import i64


class Turn:
    """A log-in that waits for its turn."""

    def begin(self) -> bool:
        """It is its turn. False: it is not needed any more, and takes no place."""
        raise NotImplementedError


@final
class Turns:
    """`limit` places; whoever has begun keeps one until `leave`."""

    def __init__(self, limit: int) -> None:
        self.limit: i64 = limit
        self.taken: i64 = 0
        self.waiting: deque[Turn] = deque()

    def ask(self, turn: Turn) -> None:
        self.waiting.append(turn)
        self._next()

    def leave(self) -> None:
        self.taken -= 1
        self._next()

    def _next(self) -> None:
        # `begin` may ask again: the place is taken first.
        while self.waiting and self.taken < self.limit:
            self.taken += 1
            if not self.waiting.popleft().begin():
                self.taken -= 1
