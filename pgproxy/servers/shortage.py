"""HOT. What those wait for who wait in one pool, and what they are told (words.py)."""

from typing import TYPE_CHECKING, final

from pgproxy.errors import PgError
from pgproxy.servers.budget import LEARNED, Room
from pgproxy.servers.words import (
    limit_of_seats,
    pool_timeout,
    room_timeout,
    seat_timeout,
    unreachable,
)

if TYPE_CHECKING:
    from pgproxy.servers.pool import Pool


@final
class Shortage:
    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    @property
    def is_of_seats(self) -> bool:
        """Who waits for a connection does so because those who have one wait for a seat, or because
        the one that is being opened does."""
        seats = self.pool.seats
        return seats is not None and (len(seats.waiting) > 0 or len(seats.asking) > 0)

    @property
    def reason(self) -> str:
        """Why those wait who have no connection, in a word."""
        pool = self.pool
        ledger = pool.ledger
        if pool.openings.last_error is not None:
            return "unreachable"
        if self.is_of_seats:
            return "no_seat"
        if ledger.opening >= ledger.waiting:
            return "login"
        room = self._full_room()
        if room is None:
            return "pool_full"
        if room is pool.budget.connections:
            return "backend_full"
        return "database_full" if room is pool.budget.databases[pool.database] else "user_full"

    def limit(self) -> tuple[str, int]:
        """What one waits for who would have to wait from now on."""
        pool = self.pool
        limiter = pool.context.limiter
        if limiter is not None and not limiter.has_room(pool.backend):
            return limit_of_seats(limiter, pool.backend)
        room = self._full_room()
        if room is None:
            return "pool.size", int(pool.ledger.whole_size)
        if room.limit.key == LEARNED:
            return f"what {pool.backend.name} has room for (its max_connections)", room.limit.shown
        return ".".join(room.limit.key), room.limit.shown

    def what(self) -> str:
        """The same for people."""
        pool = self.pool
        seats = pool.seats
        if seats is None or not self.is_of_seats:
            return (
                f'a server connection for database "{pool.database}", user "{pool.user}"'
                f" on {pool.backend.name}"
            )
        limit, cap = limit_of_seats(seats.limiter, pool.backend)
        return f"a place to run, of which there are {cap} ({limit})"

    def timeout(self) -> PgError:
        """For one who has waited too long for a connection."""
        pool = self.pool
        waited = pool.context.wait_timeout
        name = pool.backend.name
        if pool.openings.last_error is not None:
            return unreachable(name, pool.openings.last_error, waited)
        if self.is_of_seats:
            return self.seat_timeout()
        room = self._full_room()
        if room is None:
            size = int(pool.ledger.whole_size)
            return pool_timeout(size, pool.database, pool.user, name, waited)
        whose = ""
        if room is not pool.budget.connections:
            is_database = room is pool.budget.databases[pool.database]
            whose = f'database "{pool.database}"' if is_database else f'user "{pool.user}"'
        return room_timeout(room, whose, name, waited, pool.budget.holders(room))

    def seat_timeout(self) -> PgError:
        """For one who has waited too long for a seat."""
        context = self.pool.context
        assert context.limiter is not None
        limit, cap = limit_of_seats(context.limiter, self.pool.backend)
        return seat_timeout(context.wait_timeout, limit, cap, context.holders())

    def _full_room(self) -> Room | None:
        """The cap that is in the way and is not the pool's own."""
        ledger = self.pool.ledger
        if ledger.total >= ledger.size:
            return None
        return self.pool.budget.full_room(ledger)
