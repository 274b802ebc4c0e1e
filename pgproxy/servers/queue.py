"""HOT. All who wait for a server connection or a seat, whatever the pool: `limits.queue_size`.

Whoever comes when it is full is refused, in the next turn of the event loop: a client that sends many
statements at once then hears of each in its turn, and stands in nobody's way.
"""

from collections.abc import Callable
from typing import Any, final

from pgproxy.errors import PgError
from pgproxy.servers.limits import Limit
from pgproxy.servers.slots import Waiter


@final
class Queue:
    def __init__(self, size: int, call_later: Callable[[float, Callable[[], None]], Any]) -> None:
        self.limit = Limit(("limits", "queue_size"), size)
        self._call_later = call_later
        self._turned_away: dict[Waiter, PgError] = {}
        self._refusing: dict[Waiter, PgError] = {}

    def admits(self, waiter: Waiter) -> bool:
        """Those who wait already, or are in the middle of a transaction, go on waiting."""
        return self.limit.has_room or waiter.is_urgent or waiter.is_admitted

    def turn_away(self, waiter: Waiter, error: PgError) -> None:
        if not self._turned_away:
            self._call_later(0.0, self._refuse)
        self._turned_away[waiter] = error

    def forget(self, waiter: Waiter) -> bool:
        """It is gone. False: it was not about to be refused."""
        return (
            self._turned_away.pop(waiter, None) is not None
            or self._refusing.pop(waiter, None) is not None
        )

    def _refuse(self) -> None:
        # Who is refused may ask again at once, for the next turn.
        self._refusing, self._turned_away = self._turned_away, {}
        for waiter in list(self._refusing):
            error = self._refusing.pop(waiter, None)
            if error is not None:
                waiter.refused(error)
