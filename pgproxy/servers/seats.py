"""HOT. The seats of one pool's server connections (limiter.py), and who waits for one with the
connection in hand:

* who has just been given it by the pool;
* who has kept it (its session is pinned) and stood up between its transactions;
* the pool itself, which has to clean what such a session has left behind, or to ask on a connection
  that is new what it makes of its sessions.

PostgreSQL must never have more at work for clients than there are seats. So a connection that is
given up in the middle of something keeps its seat until the server has ended it.
"""

import time
from collections.abc import Callable
from typing import final

from pgproxy.errors import PgError
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.limiter import IN_LINE, SEATED, Limiter, Seat, Tenant
from pgproxy.servers.limits import Limit
from pgproxy.servers.slots import Slot, Waiter


@final
class ServerSeat(Seat):
    def __init__(self, seats: "Seats", server: ServerConnection) -> None:
        super().__init__(server.backend, seats.tenant)
        self.seats = seats
        self.server = server
        self.waiter: Waiter | None = None
        self.is_kept = False  # the connection is that one's, seat or not

    def granted(self) -> None:
        self.seats.granted(self)


@final
class _Asker(Waiter):
    def __init__(self, call: "Callable[[PgError | None], None]") -> None:
        super().__init__()
        self._call = call

    def granted(self, slot: Slot) -> None:
        self._call(None)

    def refused(self, error: PgError) -> None:
        self._call(error)


@final
class Seats:
    """`hand_over` gives a connection to who waited for it; `queue` counts all who wait."""

    def __init__(
        self,
        limiter: Limiter,
        tenant: Tenant,
        queue: Limit,
        hand_over: Callable[[Waiter, ServerConnection], None],
    ) -> None:
        self.limiter = limiter
        self.tenant = tenant
        self.queue = queue
        self.waiting: dict[Waiter, ServerSeat] = {}  # clients, in the order in which they came
        self.asking: set[ServerSeat] = (
            set()
        )  # of connections that are being opened; they wait as well
        self._hand_over = hand_over

    def furnish(self, server: ServerConnection) -> None:
        """A connection is about to be opened."""
        server.seat = ServerSeat(self, server)
        server.needs_seat = True

    def take(self, server: ServerConnection) -> bool:
        """Whether there is room at once; else: `wait`."""
        if not self.limiter.take(_seat(server), time.monotonic()):
            return False
        server.needs_seat = False
        return True

    def wait(self, server: ServerConnection, waiter: Waiter, *, is_kept: bool = False) -> None:
        seat = _seat(server)
        seat.waiter = waiter
        seat.is_kept = is_kept
        waiter.held = server
        self.waiting[waiter] = seat
        self.queue.used += 1
        self.limiter.wait(seat, urgent=waiter.is_urgent)

    def wait_to_clean(self, server: ServerConnection, cleaner: Waiter) -> None:
        """For the pool's own work: it is short, and somebody may wait for the connection."""
        seat = _seat(server)
        seat.waiter = cleaner
        seat.is_kept = True
        self.limiter.wait(seat, urgent=True)

    def wait_to_ask(
        self, server: ServerConnection, call: "Callable[[PgError | None], None]"
    ) -> None:
        self.asking.add(_seat(server))
        self.wait_to_clean(server, _Asker(call))

    def refuse_to_ask(self, error: PgError) -> None:
        """It will be nobody's turn any more of those who wait to ask."""
        for seat in list(self.asking):
            self.limiter.cancel(seat)
            self._forget(seat).refused(error)

    def granted(self, seat: ServerSeat) -> None:
        server = seat.server
        server.needs_seat = False
        waiter = self._forget(seat)
        if seat.is_kept:
            waiter.granted(server)
        else:
            self._hand_over(waiter, server)

    def cancel(self, server: ServerConnection) -> Waiter | None:
        """Nobody waits with it any more. Returns who did and has no connection now."""
        seat = _seat(server)
        if seat.state != IN_LINE:
            return None
        self.limiter.cancel(seat)
        waiter = self._forget(seat)
        return None if seat.is_kept else waiter

    def leave(self, server: ServerConnection) -> None:
        """It works for nobody. `serve` is to follow."""
        seat = _seat(server)
        if seat.state == SEATED:
            self.limiter.leave(seat, time.monotonic())
            server.needs_seat = True

    def serve(self) -> None:
        self.limiter.serve(time.monotonic())

    def late(self, now: float) -> list[Waiter]:
        """Those whose deadline has passed."""
        return [waiter for waiter in self.waiting if waiter.deadline <= now]

    def unkept(self) -> list[ServerConnection]:
        """Connections that those who wait have not used yet."""
        return [seat.server for seat in self.waiting.values() if not seat.is_kept]

    def _forget(self, seat: ServerSeat) -> Waiter:
        waiter, seat.waiter = seat.waiter, None
        assert waiter is not None
        if self.waiting.pop(waiter, None) is not None:
            self.queue.used -= 1
            waiter.held = None
        else:
            self.asking.discard(seat)
        return waiter


def _seat(server: ServerConnection) -> ServerSeat:
    seat = server.seat
    assert isinstance(seat, ServerSeat)
    return seat
