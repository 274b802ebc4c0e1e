"""HOT. Carries out what one ledger decides: connects, resets, closes, wakes waiters.

One `Pool` is one (database, user) on one backend. Waiters are called back, not awaited: between a
connection becoming free and its next owner having it there is no moment at which either could be
cancelled.
"""

import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, final

from mypy_extensions import i64

from pgproxy.errors import CANNOT_CONNECT_NOW, TOO_MANY_CONNECTIONS, PgError
from pgproxy.protocol.settings import NOTHING_SET, UNNAMED, Settings
from pgproxy.servers.backend import Backend
from pgproxy.servers.budget import LEARNED, PORTION, Room
from pgproxy.servers.connection import Keeper, Owner, ServerConnection
from pgproxy.servers.ledger import (
    IDLE,
    LEASED,
    RESETTING,
    Ledger,
    Profile,
    Waiter,
    serves,
)
from pgproxy.servers.leftovers import CANCEL_AGAIN, Leftovers
from pgproxy.servers.limiter import IN_LINE, Limiter, Tenant
from pgproxy.servers.queue import Queue
from pgproxy.servers.reset import Reset
from pgproxy.servers.seats import Seats
from pgproxy.servers.words import limit_of_seats, notice, queue_is_full, seat_timeout
from pgproxy.telemetry.counters import Counters

# A connection that its session only holds: seconds that others wait for it at least, and at most
# twice; and after how many times that it is let go of although nobody waits.
HOLD = 0.05
LONGEST_HOLD = 20
# Seconds between attempts to reach a backend, doubled with each failure.
RETRY_FIRST = 0.1
RETRY_LAST = 2.0
# Seconds before a pool is warmed again after a log-in was refused for good.
COLD = 30.0

# Conditions that another attempt may find gone: too many connections, starting up, shutting down,
# and whatever TCP says. Anything else (no such database, wrong password) will not heal by waiting.
TRANSIENT = ("53", "57P", "08")


@final
class Clock:
    """Monotonic seconds, coarse: the janitor advances it. Good enough for idle times."""

    def __init__(self) -> None:
        self.now = time.monotonic()


class Opener(Protocol):
    """Connects and logs in (servers/login.py). Raises `PgError`."""

    def __call__(
        self, server: ServerConnection, database: str, user: str
    ) -> Coroutine[Any, Any, None]: ...


class Canceller(Protocol):
    """Has a server cancel a query, and waits until it has acted on that (servers/login.py). False:
    whether it has is not known."""

    def __call__(self, backend: Backend, pid: int, secret: bytes) -> Coroutine[Any, Any, bool]: ...


class Quotas(Protocol):
    """The pools' part of the caps that hold over several processes (workers/sources.py)."""

    def begins(self, pool: "Pool") -> None:
        """It is new, and may open no connection yet."""

    def runs_short(self, pool: "Pool") -> None:
        """Somebody waits for a connection."""


class PoolContext:
    """What all pools share: settings and the ways out of the pure world."""

    def __init__(
        self,
        *,
        open_server: Opener,
        send_cancel: Canceller,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        call_later: Callable[[float, Callable[[], None]], Any],
        unreachable: Callable[[str], None],
        counters: Counters,
        clock: Clock,
        wait_timeout: float,
        max_prepared: int,
        limiter: Limiter | None = None,
        queue_size: int = 0,
        notice_after: float = 0.0,
        quotas: Quotas | None = None,
    ) -> None:
        self.open_server = open_server
        self.send_cancel = send_cancel
        self.spawn = spawn
        self.call_later = call_later
        self.unreachable = unreachable  # told a backend's name when connecting to it failed
        self.counters = counters
        self.clock = clock
        self.wait_timeout = wait_timeout
        self.max_prepared = max_prepared
        self.limiter = limiter
        self.queue = Queue(queue_size, call_later)
        self.notice_after = notice_after  # seconds; 0 = never
        self.holders: Callable[[], str] = str  # who has most of what is limited
        self.quotas = quotas


@final
class Pool(Keeper):
    def __init__(
        self,
        context: PoolContext,
        backend: Backend,
        database: str,
        user: str,
        ledger: Ledger,
        tenant: Tenant | None = None,
    ) -> None:
        """`tenant` is whose seats its connections need, where seats are limited."""
        self.context = context
        self.clock = context.clock
        self.backend = backend
        self.database = database
        self.user = user
        self.ledger = ledger
        self.budget = ledger.budget
        ledger.carry_out = self._carry_out_own
        self.servers: set[ServerConnection] = set()
        self.holders: dict[Owner, int] = {}  # who only hold theirs, since how many times HOLD
        self._is_ageing = False
        self.last_error: PgError | None = None  # why the backend could not be reached last time
        self._retry_pause = RETRY_FIRST
        self._pausing = False
        self._cold_until = 0.0  # it is not warmed before
        self._drained: i64 = 0  # times; a log-in that began before is of no use after
        self.leftovers = Leftovers(self.cancel_query)
        self.seats: Seats | None = None
        if context.limiter is not None:
            assert tenant is not None
            self.seats = Seats(context.limiter, tenant, context.queue.limit, self._hand_over)
        if context.quotas is not None:
            context.quotas.begins(self)

    @property
    def waiting(self) -> int:
        """Clients, for a connection or its seat."""
        return int(self.ledger.waiting) + self.waiting_for_seats

    @property
    def waiting_for_seats(self) -> int:
        return 0 if self.seats is None else len(self.seats.waiting)

    @property
    def _is_short_of_seats(self) -> bool:
        """Who waits for a connection does so because those who have one wait for a seat, or because
        the one that is being opened does."""
        seats = self.seats
        return seats is not None and (len(seats.waiting) > 0 or seats.asking > 0)

    # --- leases -------------------------------------------------------------------------------

    def acquire(
        self,
        profile: Profile,
        waiter: Waiter,
        settings: Settings = NOTHING_SET,
    ) -> ServerConnection | None:
        """An idle connection, leased; or None, and the waiter is called back."""
        slot = self.ledger.acquire(profile, settings, waiter.allowed)
        backend = self.backend
        if slot is not None:
            backend.load += 1
            assert isinstance(slot, ServerConnection)
            if self.seats is not None:
                return slot if self.sits(slot, waiter) else None
            backend.leases += 1
            return slot
        if self.seats is not None and waiter.is_urgent:
            server = self._take_over(profile, waiter)
            if server is not None:
                return server if self.sits(server, waiter) else None
        if self._turns_away(waiter):
            return None
        backend.load += 1
        now = time.monotonic()
        self.ledger.enqueue(waiter, profile, now, now + self.context.wait_timeout)
        self._carry_out()
        if self.context.quotas is not None:
            self.context.quotas.runs_short(self)
        return None

    def take_back(self, server: ServerConnection, waiter: Waiter) -> bool:
        """Leases this connection, if it is idle and serves the one who would wait. `sits` is to
        follow."""
        if not self.ledger.take_back(server, waiter.allowed):
            return False
        self.backend.load += 1
        return True

    def sits(self, server: ServerConnection, waiter: Waiter) -> bool:
        """Whether the waiter, for whom it is leased, may use it now; else it will be called."""
        seats = self.seats
        if seats is None or seats.take(server):
            self.backend.leases += 1
            return True
        if self._turns_away(waiter):
            self.release(server)
            return False
        self._begins_to_wait(waiter)
        seats.wait(server, waiter)
        return False

    def sits_again(self, server: ServerConnection, owner: Owner) -> bool:
        """As `acquire`, for the owner of a connection who has stood up (`stand_up`)."""
        seats = self.seats
        assert seats is not None
        if seats.take(server):
            return True
        if not self._turns_away(owner):
            self._begins_to_wait(owner)
            seats.wait(server, owner, is_kept=True)
        return False

    def stand_up(self, server: ServerConnection) -> None:
        """Its owner keeps the connection, with nothing to do for it."""
        if self.seats is not None:
            self.seats.leave(server)
            self.seats.serve()

    # --- questions of its own -----------------------------------------------------------------

    @property
    def serves_clients(self) -> bool:
        return True

    def may_ask(self, server: ServerConnection, call: Callable[[], None]) -> bool:
        seats = self.seats
        if seats is None or seats.take(server):
            return True
        seats.wait_to_ask(server, call)
        return False

    def has_asked(self, server: ServerConnection) -> None:
        if self.seats is not None:
            self.seats.cancel(server)
            self.stand_up(server)

    def _take_over(self, profile: Profile, waiter: Waiter) -> ServerConnection | None:
        """A connection of one who waits for its seat, for one who is urgent. Else the seat, when it is
        that one's turn, might go to what has not begun yet."""
        assert self.seats is not None
        for server in reversed(self.seats.unkept()):
            seat = server.seat
            assert seat is not None
            if server.profile is profile and not seat.is_urgent and serves(server, waiter.allowed):
                other = self.seats.cancel(server)
                assert other is not None
                self._put_back(other, server)
                self._carry_out()
                return server
        return None

    def _begins_to_wait(self, waiter: Waiter) -> None:
        now = time.monotonic()
        waiter.waiting_since = now
        waiter.homeless_since = 0.0
        waiter.deadline = now + self.context.wait_timeout
        waiter.is_told = False

    def _turns_away(self, waiter: Waiter) -> bool:
        """Whether it would have to wait, and too many do; it will be refused."""
        queue = self.context.queue
        if queue.admits(waiter):
            return False
        self.context.counters.queue_refusals += 1
        limit, cap = self._limit()
        size = int(queue.limit.cap)
        queue.turn_away(waiter, queue_is_full(size, limit, cap, self.context.holders()))
        return True

    def _limit(self) -> tuple[str, int]:
        """What those wait for who wait here."""
        limiter = self.context.limiter
        if limiter is not None and not limiter.has_room(self.backend):
            return limit_of_seats(limiter, self.backend)
        room = self._full_room()
        if room is None:
            return "pool.size", int(self.ledger.whole_size)
        if room.limit.key == LEARNED:
            return f"what {self.backend.name} has room for (its max_connections)", room.limit.shown
        return ".".join(room.limit.key), room.limit.shown

    @property
    def wait_reason(self) -> str:
        """Why those wait who have no connection, in a word."""
        ledger = self.ledger
        if self.last_error is not None:
            return "unreachable"
        if self._is_short_of_seats:
            return "no_seat"
        if ledger.opening >= ledger.waiting:
            return "login"
        room = self._full_room()
        if room is None:
            return "pool_full"
        if room is self.budget.connections:
            return "backend_full"
        return "database_full" if room is self.budget.databases[self.database] else "user_full"

    def _full_room(self) -> Room | None:
        """The cap that is in the way and is not the pool's own."""
        if self.ledger.total >= self.ledger.size:
            return None
        return self.budget.full_room(self.ledger)

    def hold(self, owner: Owner) -> None:
        """The owner has finished and keeps its connection, until its `let_go` is called."""
        self.holders[owner] = 0
        self._age_later()

    def _age_later(self) -> None:
        if self.holders and not self._is_ageing:
            self._is_ageing = True
            self.context.call_later(HOLD, self._age)

    def _age(self) -> None:
        self._is_ageing = False
        for owner, age in list(self.holders.items()):
            if owner not in self.holders:
                continue
            is_wanted = self.ledger.waiting > 0 or self.budget.is_strained
            if age >= LONGEST_HOLD or (age > 0 and is_wanted):
                del self.holders[owner]
                owner.let_go()
            else:
                self.holders[owner] = age + 1
        self._age_later()

    def cancel_wait(self, waiter: Waiter) -> bool:
        held = waiter.held
        if held is not None:
            assert isinstance(held, ServerConnection)
            assert self.seats is not None
            if self.seats.cancel(held) is not None:
                self.release(held)
            return True
        before = self.ledger.waiting
        self.ledger.cancel(waiter)
        if self.ledger.waiting == before:
            return False
        self.backend.load -= 1
        return True

    def release(self, server: ServerConnection) -> None:
        """The owner has finished: the connection is idle, nothing is owed, nothing is pinned."""
        server.owner = None
        if self.seats is not None:
            self.seats.leave(server)
        if server.cancels:
            server.release_pending = True  # a cancel must not hit the next owner's query
        else:
            if not server.reading:
                server.set_reading(True)
            self.backend.load -= 1
            waiter = self.ledger.release(server, self.clock.now)
            if waiter is not None:
                self._grant(waiter, server)
            elif self.ledger.to_close or self.budget.changed:
                self._carry_out()
        if self.seats is not None:
            self.seats.serve()

    def reset(
        self, server: ServerConnection, *, transaction: bool, session: bool, owed: int = 0
    ) -> None:
        """The owner left a transaction open and/or session state behind: clean it or close it.
        `owed` questions of its own are still to be answered."""
        if not (transaction or session or owed):
            self.release(server)
            return
        server.owner = None
        if server.cancels or server.doomed or UNNAMED in server.custom:
            self.discard(server)
            return
        server.set_reading(True)
        self.backend.load -= 1
        self.ledger.reset(server)
        reset = Reset(self, server, transaction=transaction, session=session, owed=owed)
        seats = self.seats
        if seats is None or not server.needs_seat or seats.take(server):
            reset.begin()
        else:
            seats.wait_to_clean(server, reset)

    def cleaned(self, server: ServerConnection) -> None:
        """A reset has succeeded."""
        server.owner = None
        if self.seats is not None:
            self.seats.leave(server)
        waiter = self.ledger.release(server, self.clock.now)
        if waiter is not None:
            self._grant(waiter, server)
        self._carry_out()
        if self.seats is not None:
            self.seats.serve()

    def hang_up(self, server: ServerConnection, *, at_work: bool, until: float) -> None:
        """Its owner has gone in the middle of something, which is to be cancelled then (monotonic
        seconds). It counts until the server has noticed, where that is soon."""
        server.hangs_up = True
        self.leftovers.add(server, until)
        has_seat = self.seats is not None and not server.needs_seat
        stays = has_seat and until > time.monotonic() + CANCEL_AGAIN
        self.discard(server, at_work=at_work, stays=stays)

    def discard(
        self, server: ServerConnection, *, at_work: bool = True, stays: bool = False
    ) -> None:
        """The connection is in a state nobody knows: close it, at once unless it is to finish, which
        may take long if it `stays`."""
        server.owner = None
        server.at_work = at_work
        if server.place == LEASED:
            self.backend.load -= 1
        waiter = None if self.seats is None else self.seats.cancel(server)
        self.ledger.discard(server, stays=stays)
        if waiter is not None:
            self._put_back(waiter, server)
        self._carry_out()

    def farewell_is_over(self, server: ServerConnection) -> None:
        if server not in self.leftovers:
            server.close()
            return
        # Nobody knows when it ends; it has its place no longer than one that is closed.
        self.ledger.gone(server, time.monotonic())
        self._carry_out()

    def cancel_query(
        self, server: ServerConnection, done: Callable[[], None] | None = None
    ) -> None:
        """Asks the backend to cancel what the connection is doing for its present owner. `done` is
        called once that can hit nothing that the owner has yet to send."""
        server.cancels += 1
        self.context.counters.cancels += 1
        self.context.spawn(self._cancel(server, done))

    async def _cancel(self, server: ServerConnection, done: Callable[[], None] | None) -> None:
        is_over = False
        try:
            is_over = await self.context.send_cancel(server.backend, server.pid, server.secret)
        finally:
            if not is_over:
                server.doomed = True  # or it might hit the next owner's query
                server.may_be_hit = True
            server.cancels -= 1
            if server.cancels == 0 and server.release_pending:
                server.release_pending = False
                if server.place == LEASED:
                    self.release(server)
            if done is not None:
                done()

    # --- events -------------------------------------------------------------------------------

    def connection_lost(self, server: ServerConnection) -> None:
        if server.place == LEASED:
            self.backend.load -= 1
        self.servers.discard(server)
        self.leftovers.gone(server)
        waiter = None if self.seats is None else self.seats.cancel(server)
        if waiter is None and (server.owner is not None or server.place in (LEASED, RESETTING)):
            self.context.counters.servers_lost += 1
        self.ledger.gone(server, time.monotonic())
        if waiter is not None:
            self._put_back(waiter, server)
        self._carry_out()
        if self.seats is not None:
            self.seats.leave(server)
            self.seats.serve()

    def _put_back(self, waiter: Waiter, server: ServerConnection) -> None:
        """It had this connection, which it has no more, and was waiting for its seat."""
        self.backend.load += 1
        other = self.ledger.acquire(server.profile, NOTHING_SET, waiter.allowed)
        if other is None:
            self.ledger.put_back(waiter, server.profile, time.monotonic())
            return
        assert isinstance(other, ServerConnection)
        self._grant(waiter, other)

    def idle_data(self, server: ServerConnection) -> None:
        if server in self.servers:  # else its log-in is about to end, and finds it doomed
            self.discard(server)

    def tick(self, now: float) -> None:
        """Refuses the waiters whose time is up, opens what of the reserve is due for others, and
        cancels what clients have left."""
        if len(self.leftovers) > 0:
            self.leftovers.tick(now)
        if self.ledger.waiting > 0:
            error = None
            for waiter in self.ledger.expire(now):
                self.backend.load -= 1
                self.context.counters.wait_timeouts += 1
                if self._is_short_of_seats:
                    self.context.counters.seat_timeouts += 1
                error = self._timeout_error() if error is None else error
                waiter.refused(error)
            self.ledger.look(now)
            self._carry_out()
        if self.seats is not None and self.seats.waiting:
            for waiter in self.seats.late(now):
                if waiter.held is not None:
                    error = self._seat_timeout_error()
                    self.cancel_wait(waiter)
                    self.context.counters.wait_timeouts += 1
                    self.context.counters.seat_timeouts += 1
                    waiter.refused(error)

    def tell_waiters(self, waited_since: float, now: float) -> None:
        """A notice to those who have waited since then and have had none."""
        what = self._what_is_short()
        for queue in self.ledger.queues.values():
            for place, waiter in enumerate(queue):
                if waiter.waiting_since > waited_since:
                    if waiter.is_urgent:
                        continue  # it is before those who came earlier
                    break
                if not waiter.is_told:
                    self._tell(waiter, what, place, len(queue), now)
        if self.seats is not None:
            for place, waiter in enumerate(self.seats.waiting):
                if waiter.waiting_since <= waited_since and not waiter.is_told:
                    self._tell(waiter, what, place, len(self.seats.waiting), now)

    def _what_is_short(self) -> str:
        """What those wait for who wait here."""
        seats = self.seats
        if seats is None or not self._is_short_of_seats:
            return (
                f'a server connection for database "{self.database}", user "{self.user}"'
                f" on {self.backend.name}"
            )
        limit, cap = limit_of_seats(seats.limiter, self.backend)
        return f"a place to run, of which there are {cap} ({limit})"

    def _tell(self, waiter: Waiter, what: str, place: int, count: int, now: float) -> None:
        waiter.is_told = True
        waiter.tell(notice(what, place + 1, count, now - waiter.waiting_since))

    def retire(self, now: float, *, keeps_warm: bool) -> None:
        self.ledger.is_warm = keeps_warm
        self.ledger.retire(now, keep=int(self.ledger.min_size) if keeps_warm else 0)
        self._carry_out()

    def warm(self, profile: Profile, now: float) -> None:
        """Opens what is missing to its smallest size."""
        if now >= self._cold_until:
            self.ledger.warm(profile, now)
            self._carry_out()
            if self.context.quotas is not None and self.ledger.alive() < self.ledger.min_size:
                self.context.quotas.runs_short(self)

    def resize(self, size: int) -> None:
        """How many connections there may be from now on."""
        self.ledger.resize(size, time.monotonic())
        self._carry_out()

    def evict_waiters(self) -> list[Waiter]:
        waiters = self.ledger.evict_waiters()
        self.backend.load -= len(waiters)
        if self.seats is not None:
            for server in self.seats.unkept():
                waiter = self.seats.cancel(server)
                if waiter is not None:
                    waiters.append(waiter)
                    self.release(server)
        return waiters

    def drain(self) -> None:
        """The backend has lost its role: idle connections are not trusted any more, those at work
        are closed when they come back."""
        self._drained += 1
        for server in self.servers:
            server.doomed = True
        if self.seats is not None:
            for server in self.seats.unkept():
                self.discard(server, at_work=False)
        self.ledger.retire(time.monotonic())
        self._carry_out()

    def cut(self, reason: str, *, at_rest: bool = False) -> None:
        """Ends every connection now, also in the middle of a transaction; nothing more is sent on
        them, and their owners are told `reason`. With `at_rest` only those that are leased to
        somebody who is between transactions."""
        for server in list(self.servers):
            owner = server.owner
            waits = server.seat is not None and server.seat.state == IN_LINE
            if server.place == IDLE or (
                at_rest
                and not waits
                and (server.place != LEASED or owner is None or not owner.at_rest)
            ):
                continue
            if server.place in (LEASED, RESETTING) and not server.cut_because:
                self.context.counters.servers_cut += 1
            server.cut(reason)
        if not at_rest:
            self.drain()

    def close(self) -> None:
        """Nothing new begins; what clients have left running is not waited for any more."""
        self.leftovers.end()
        self.leftovers.tick(time.monotonic())
        self.ledger.close()
        self._carry_out()

    # --- inside -------------------------------------------------------------------------------

    def _grant(self, waiter: Waiter, server: ServerConnection) -> None:
        """A connection for one who has waited; it may have to wait for the seat as well."""
        if self.seats is not None and not self.seats.take(server):
            self.seats.wait(server, waiter)
            return
        self._hand_over(waiter, server)

    def _hand_over(self, waiter: Waiter, server: ServerConnection) -> None:
        self.backend.leases += 1
        self.context.counters.waits.observe(time.monotonic() - waiter.waiting_since)
        waiter.granted(server)

    def _carry_out(self) -> None:
        self._carry_out_own()
        if self.budget.changed:
            self.budget.carry_out()

    def _carry_out_own(self) -> None:
        ledger = self.ledger
        while ledger.to_close:
            slot = ledger.to_close.pop()
            assert isinstance(slot, ServerConnection)
            slot.leave(self.context.call_later)
            if slot.lingers and slot.at_work and slot not in self.leftovers:
                self.leftovers.add(slot, time.monotonic() + CANCEL_AGAIN)
        while ledger.to_open:
            self.backend.logins.ask(_Opening(self, ledger.to_open.pop(0)).begin)

    def may_open(self, profile: Profile) -> bool:
        """Its turn to log in has come; False if nobody waits for the connection any more."""
        ledger = self.ledger
        is_wanted = ledger.needs(profile)
        if is_wanted and not self._pausing:
            self.context.spawn(self._open_in_turn(profile, self._drained))
            return True
        ledger.open_failed(profile, time.monotonic(), retry=not is_wanted)
        self._carry_out()
        return False

    def try_again(self) -> None:
        """There is news of the backend: whatever log-ins wait for, they need not any more."""
        self._retry_pause = RETRY_FIRST
        self._retry()

    async def _open_in_turn(self, profile: Profile, drained: i64) -> None:
        try:
            await self._open(profile, drained)
        finally:
            self.backend.logins.leave()

    async def _open(self, profile: Profile, drained: i64) -> None:
        server = ServerConnection(profile, self.backend, self, self.context.max_prepared)
        if self.seats is not None:
            self.seats.furnish(server)
        try:
            await self.context.open_server(server, self.database, self.user)
        except PgError as error:
            self.context.counters.server_logins_failed += 1
            self._open_failed(profile, error)
            return
        except BaseException:
            self.ledger.open_failed(profile, time.monotonic(), retry=False)
            raise
        self._retry_pause = RETRY_FIRST
        self.last_error = None
        self.servers.add(server)
        server.doomed = server.doomed or drained != self._drained
        self.context.counters.servers_opened += 1
        waiter = self.ledger.opened(server, time.monotonic())
        if waiter is not None:
            self._grant(waiter, server)
        self._carry_out()

    def _open_failed(self, profile: Profile, error: PgError) -> None:
        now = time.monotonic()
        if error.sqlstate.startswith(TRANSIENT):
            self.ledger.open_failed(profile, now, retry=False)
            self.context.unreachable(self.backend.name)
            self.last_error = error
            if not self._pausing:
                self._pausing = True
                self.context.call_later(self._retry_pause, self._retry)
                self._retry_pause = min(self._retry_pause * 2, RETRY_LAST)
            self._carry_out()
            return
        self._cold_until = now + COLD
        self.ledger.open_failed(profile, now, retry=False)
        for waiter in self.ledger.take_queue(profile):
            self.backend.load -= 1
            waiter.refused(error)
        self.ledger.retry(now)
        self._carry_out()

    def _retry(self) -> None:
        self._pausing = False
        self.ledger.retry(time.monotonic())
        self._carry_out()

    def _seat_timeout_error(self) -> PgError:
        assert self.context.limiter is not None
        limit, cap = limit_of_seats(self.context.limiter, self.backend)
        return seat_timeout(self.context.wait_timeout, limit, cap, self.context.holders())

    def _timeout_error(self) -> PgError:
        ledger = self.ledger
        if self.last_error is not None:
            return PgError(
                self.last_error.sqlstate,
                f"cannot connect to {self.backend.name}: {self.last_error.message}",
                detail=f"Tried for {self.context.wait_timeout:g} s (pool.wait_timeout).",
            )
        if self._is_short_of_seats:
            return self._seat_timeout_error()
        room = self._full_room()
        if room is not None:
            return self._budget_error(room)
        return PgError(
            TOO_MANY_CONNECTIONS,
            "no server connection became free in time",
            detail=(
                f'All {ledger.whole_size} connections of database "{self.database}", user '
                f'"{self.user}" on {self.backend.name} were in use for '
                f"{self.context.wait_timeout:g} s (pool.wait_timeout)."
            ),
            hint="Raise pool.size, or look for transactions that stay open.",
        )

    def _budget_error(self, room: Room) -> PgError:
        """A cap that it shares with other pools was in the way."""
        key = ".".join(room.limit.key)
        what = f"server connections to {self.backend.name} ({key})"
        advice = f"Raise {key}"
        if room.limit.key == LEARNED:
            what = (
                f"connections that {self.backend.name} has for the proxy (its max_connections, less "
                "what is reserved and what the proxy needs beside its pools)"
            )
            advice = "Raise max_connections there"
        elif room.limit.key == PORTION:
            what = f"connections to {self.backend.name} that are this proxy's ({key})"
            advice = "Raise max_connections there and pool.max_backend_connections, if that is set"
        elif room is not self.budget.connections:
            is_database = room is self.budget.databases[self.database]
            owner = f'database "{self.database}"' if is_database else f'user "{self.user}"'
            what = f"connections of {owner} on {self.backend.name} ({key})"
        return PgError(
            TOO_MANY_CONNECTIONS,
            "no server connection became free in time",
            detail=(
                f"All {room.limit.used} {what} were in use for {self.context.wait_timeout:g} s "
                "(pool.wait_timeout)."
            ),
            hint=(
                f"Held by: {self.budget.holders(room)}. {advice}, or look for transactions that stay "
                "open there."
            ),
        )


@final
class _Opening:
    """A connection that a pool wants to open, in its turn."""

    def __init__(self, pool: Pool, profile: Profile) -> None:
        self.pool = pool
        self.profile = profile

    def begin(self) -> bool:
        return self.pool.may_open(self.profile)


def no_primary_error(seconds: float) -> PgError:
    return PgError(
        CANNOT_CONNECT_NOW,
        "no primary server is available",
        detail=f"None appeared within {seconds:g} s (health.failover_wait). Try again.",
    )
