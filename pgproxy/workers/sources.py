"""What counts against the caps that hold over all workers (claims.py)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from pgproxy.servers.backend import Backend
from pgproxy.servers.budget import Budget, Room
from pgproxy.servers.ledger import Ledger
from pgproxy.servers.limiter import Limiter
from pgproxy.servers.limits import NO_CAP, Limit
from pgproxy.servers.pool import Pool
from pgproxy.workers.claims import Claims
from pgproxy.workers.quotas import Key


class PoolSource:
    """The server connections of one database and user on one backend: `pool.size`.

    A pool may have been replaced by another, and still have connections that are about to end.
    """

    def __init__(self, key: Key, cap: int, look_at_rooms: Callable[[Pool], None]) -> None:
        self.key = key
        self.cap = cap
        self.is_impatient = False
        self._look_at_rooms: Final = look_at_rooms
        self.pool: Pool | None = None
        self._former: list[Pool] = []
        self._limit = 0

    def take(self, pool: Pool) -> None:
        """From now on this one opens connections."""
        if self.pool is pool:
            return
        if self.pool is not None:
            self._former.append(self.pool)
        self.pool = pool
        self._apply()

    def used(self) -> int:
        """Without its reserve, of which each worker has a part of its own."""
        if self.pool is None:
            return self._leaving()
        ledger = self.pool.ledger
        return max(ledger.total - int(ledger.reserve_size), 0) + self._leaving()

    def want(self) -> int:
        """Idle connections are not wanted, if somebody else has none."""
        if self.pool is None:
            return 0
        ledger = self.pool.ledger
        if ledger.closed_for_good:
            return 0
        return min(_wanted(ledger), self.cap)

    def resize(self, number: int) -> None:
        self._limit = number
        self._apply()
        if self.pool is not None and self.pool.ledger.waiting:
            self._look_at_rooms(self.pool)

    def dry(self) -> None:
        """Whoever waits goes on waiting."""

    def _leaving(self) -> int:
        self._former = [pool for pool in self._former if pool.ledger.total]
        return sum(pool.ledger.total for pool in self._former)

    def _apply(self) -> None:
        if self.pool is not None:
            self.pool.resize(max(0, self._limit - self._leaving()))


class RoomSource:
    """Server connections that a cap counts which pools of one backend share (servers/budget.py).

    A room may have been replaced by another for the same, and still have connections.
    """

    def __init__(self, key: Key) -> None:
        self.key = key
        self.is_impatient = False
        self._room: Room | None = None
        self._budget: Budget | None = None
        self._former: list[Room] = []
        self._limit = 0

    @property
    def cap(self) -> int:
        return 0 if self._room is None else int(self._room.limit.whole)

    def take(self, room: Room, budget: Budget) -> None:
        """From now on this one counts."""
        if self._room is room:
            return
        if self._room is not None:
            self._former.append(self._room)
        self._room, self._budget = room, budget
        room.limit.hold(max(0, self._limit - self._leaving()))

    def used(self) -> int:
        return (0 if self._room is None else int(self._room.limit.used)) + self._leaving()

    def want(self) -> int:
        """As of a pool, of all pools that it is shared by."""
        if self._budget is None:
            return 0
        wanted = 0
        for sharer in self._budget.sharers:
            if self._room in sharer.rooms and isinstance(sharer, Ledger):
                wanted += min(_wanted(sharer), int(sharer.whole_size + sharer.reserve_size))
        return min(wanted, self.cap)

    def resize(self, number: int) -> None:
        self._limit = number
        room, budget = self._room, self._budget
        if room is None or budget is None:
            return
        room.limit.hold(max(0, number - self._leaving()))
        budget.look()
        budget.serve(time.monotonic())
        budget.carry_out()

    def dry(self) -> None:
        """Whoever waits goes on waiting."""

    def _leaving(self) -> int:
        self._former = [room for room in self._former if room.limit.used]
        return sum(int(room.limit.used) for room in self._former)


def _wanted(ledger: Ledger) -> int:
    wanted = int(ledger.leased + ledger.resetting + max(ledger.opening, ledger.waiting))
    return max(wanted, int(ledger.min_size)) if ledger.is_warm else wanted


class SeatSource:
    """Statements and transactions in flight: of one backend, or of all.

    A backend may have been replaced by another of its name, and still be at work.
    """

    def __init__(self, limit: Limit, limiter: Limiter) -> None:
        self.key = limit.key
        self.cap = int(limit.whole)
        self.is_impatient = False
        self.limit = limit
        self.backend: Backend | None = None
        self._limiter: Final = limiter
        self._former: list[Limit] = []
        self._number = 0
        limit.hold(0)

    def take(self, backend: Backend) -> None:
        """From now on this one counts. The limiter's `serve` is to follow."""
        self.backend = backend
        if backend.running is self.limit:
            return
        former, self.limit = self.limit, backend.running
        self._former.append(former)
        former.hold(NO_CAP)  # only what has begun there comes to its end
        self.resize(self._number)

    def used(self) -> int:
        self._former = [limit for limit in self._former if limit.used]
        return int(self.limit.used) + sum(int(limit.used) for limit in self._former)

    def want(self) -> int:
        waiting = self._limiter.waiting if self.backend is None else self.backend.in_line
        return min(int(self.limit.used + waiting), self.cap)

    def resize(self, number: int) -> None:
        self._number = number
        former = self.used() - int(self.limit.used)
        before = self.limit.cap
        self.limit.hold(max(0, number - former))
        # What is given back is so in the middle of something, where nobody may be called.
        if self.limit.cap > before:
            self._limiter.serve(time.monotonic())

    def dry(self) -> None:
        """Whoever waits goes on waiting."""


class SeatQuotas:
    """Of `limits.max_concurrent` and `limits.max_concurrent_per_backend`."""

    def __init__(self, claims: Claims, limiter: Limiter) -> None:
        self._claims: Final = claims
        self._limiter: Final = limiter
        limiter.on_short = self._runs_short
        if limiter.total.whole != NO_CAP:
            self._source(limiter.total)

    def begins(self, backend: Backend) -> None:
        """It is about to be used."""
        if backend.running.whole != NO_CAP:
            self._source(backend.running).take(backend)

    def _runs_short(self, backend: Backend) -> None:
        total = self._limiter.total
        if total.whole != NO_CAP:
            self._claims.look(self._source(total))
        running = backend.running
        has_part = running.part != NO_CAP  # else there is another in its place
        if running.whole != NO_CAP and has_part:
            source = self._source(running)
            source.take(backend)
            self._claims.look(source)

    def _source(self, limit: Limit) -> SeatSource:
        source = self._claims.source(limit.key)
        if source is None:  # or it has been forgotten, for nothing was used
            source = SeatSource(limit, self._limiter)
            self._claims.add(source)
        assert isinstance(source, SeatSource)
        return source


class PoolQuotas:
    """Of all pools of this worker (servers/context.py, Quotas); `seats`, where those are limited."""

    def __init__(self, claims: Claims, seats: SeatQuotas | None = None) -> None:
        self._claims: Final = claims
        self._seats: Final = seats

    def begins(self, pool: Pool) -> None:
        self._source(pool)
        for key, room in _rooms(pool):
            self._room(key, room, pool.budget)
        if self._seats is not None:
            self._seats.begins(pool.backend)

    def runs_short(self, pool: Pool) -> None:
        self._claims.look(self._source(pool))
        self._look_at_rooms(pool)

    def _look_at_rooms(self, pool: Pool) -> None:
        for key, room in _rooms(pool):
            self._claims.look(self._room(key, room, pool.budget))

    def _source(self, pool: Pool) -> PoolSource:
        key = ("pool", pool.backend.name, pool.database, pool.user)
        source = self._claims.source(key)
        if source is None:  # or it has been forgotten, for nothing was used
            source = PoolSource(key, int(pool.ledger.whole_size), self._look_at_rooms)
            self._claims.add(source)
        assert isinstance(source, PoolSource)
        source.take(pool)
        return source

    def _room(self, key: Key, room: Room, budget: Budget) -> RoomSource:
        source = self._claims.source(key)
        if source is None:
            source = RoomSource(key)
            self._claims.add(source)
        assert isinstance(source, RoomSource)
        source.take(room, budget)
        return source


def _rooms(pool: Pool) -> list[tuple[Key, Room]]:
    """Those with a cap; what the server has room for may be learnt at any time."""
    database, user, backend = pool.ledger.rooms
    found: list[tuple[Key, Room]] = [(("backend", pool.backend.name), backend)]
    if database.limit.whole != NO_CAP:
        found.append((("database", pool.backend.name, pool.database), database))
    if user.limit.whole != NO_CAP:
        found.append((("user", pool.backend.name, pool.user), user))
    return found


class ClientSource:
    """Clients that count against a limit. Those who wait are told whether there is room."""

    def __init__(self, limit: Limit) -> None:
        self.key = limit.key
        self.cap = int(limit.whole)
        self.is_impatient = True
        self.limit: Final = limit
        self.waiting: Final[deque[asyncio.Future[bool]]] = deque()
        limit.hold(0)

    def used(self) -> int:
        return int(self.limit.used)

    def want(self) -> int:
        return int(self.limit.used) + len(self.waiting)

    def resize(self, number: int) -> None:
        self.limit.hold(number)
        self._tell(number - int(self.limit.used), there_is_room=True)

    def dry(self) -> None:
        self._tell(len(self.waiting), there_is_room=False)

    def _tell(self, number: int, *, there_is_room: bool) -> None:
        while self.waiting and number > 0:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(there_is_room)
                number -= 1


class ClientQuotas:
    """Of all caps on clients of this worker (clients/caps.py, Quotas)."""

    def __init__(self, claims: Claims) -> None:
        self._claims: Final = claims

    def limit(self, key: Key, cap: int) -> Limit:
        source = self._claims.source(key)
        if source is None:
            source = ClientSource(Limit(key, cap))
            self._claims.add(source)
        assert isinstance(source, ClientSource)
        return source.limit

    async def room(self, limit: Limit) -> None:
        if limit.whole == NO_CAP:
            return
        loop = asyncio.get_running_loop()
        while not limit.has_room:
            source = self._source(limit)
            waiter = loop.create_future()
            source.waiting.append(waiter)
            self._claims.look(source)
            try:
                if not await waiter:
                    return
            finally:
                if waiter in source.waiting:
                    source.waiting.remove(waiter)

    def _source(self, limit: Limit) -> ClientSource:
        source = self._claims.source(limit.key)
        if source is None:  # forgotten, for nothing was used
            source = ClientSource(limit)
            self._claims.add(source)
        assert isinstance(source, ClientSource)
        assert source.limit is limit
        return source
