"""HOT. Carries out what one ledger decides: connects, resets, closes, wakes waiters.

One `Pool` is one (database, user) on one backend. Waiters are called back, not awaited: between a
connection becoming free and its next owner having it there is no moment at which either could be
cancelled.
"""

import time
from collections.abc import Callable
from typing import final

from pgproxy.errors import ADMIN_SHUTDOWN, PgError
from pgproxy.protocol.settings import NOTHING_SET, UNNAMED, Settings
from pgproxy.servers.backend import Backend
from pgproxy.servers.connection import Keeper, Owner, ServerConnection
from pgproxy.servers.context import PoolContext
from pgproxy.servers.holds import Holds
from pgproxy.servers.ledger import Ledger
from pgproxy.servers.leftovers import CANCEL_AGAIN, Leftovers
from pgproxy.servers.limiter import IN_LINE, Tenant
from pgproxy.servers.openings import Openings
from pgproxy.servers.reset import Reset
from pgproxy.servers.seats import Seats
from pgproxy.servers.shortage import Shortage
from pgproxy.servers.slots import IDLE, LEASED, RESETTING, Profile, Waiter, serves
from pgproxy.servers.words import notice, queue_is_full


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
        self.holds = Holds(self)
        self.openings = Openings(self)
        self.shortage = Shortage(self)
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
        self.carry_out()
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
                self.carry_out()
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
        limit, cap = self.shortage.limit()
        size = int(queue.limit.cap)
        queue.turn_away(waiter, queue_is_full(size, limit, cap, self.context.holders()))
        return True

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
                self.grant(waiter, server)
            elif self.ledger.to_close or self.budget.changed:
                self.carry_out()
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
            self.grant(waiter, server)
        self.carry_out()
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
        self.carry_out()

    def farewell_is_over(self, server: ServerConnection) -> None:
        if server not in self.leftovers:
            server.close()
            return
        # Nobody knows when it ends; it has its place no longer than one that is closed.
        self.ledger.gone(server, time.monotonic())
        self.carry_out()

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

    # --- questions of its own -----------------------------------------------------------------

    @property
    def serves_clients(self) -> bool:
        return True

    def may_ask(self, server: ServerConnection, call: "Callable[[PgError | None], None]") -> bool:
        seats = self.seats
        if seats is None or seats.take(server):
            return True
        if self.ledger.closed_for_good:
            raise _closed()
        seats.wait_to_ask(server, call)
        return False

    def has_asked(self, server: ServerConnection) -> None:
        if self.seats is not None:
            self.seats.cancel(server)
            self.stand_up(server)

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
        self.carry_out()
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
        self.grant(waiter, other)

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
                if self.shortage.is_of_seats:
                    self.context.counters.seat_timeouts += 1
                error = self.shortage.timeout() if error is None else error
                waiter.refused(error)
            self.ledger.look(now)
            self.carry_out()
        if self.seats is not None and self.seats.waiting:
            for waiter in self.seats.late(now):
                if waiter.held is not None:
                    error = self.shortage.seat_timeout()
                    self.cancel_wait(waiter)
                    self.context.counters.wait_timeouts += 1
                    self.context.counters.seat_timeouts += 1
                    waiter.refused(error)

    def tell_waiters(self, waited_since: float, now: float) -> None:
        """A notice to those who have waited since then and have had none."""
        what = self.shortage.what()
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

    def _tell(self, waiter: Waiter, what: str, place: int, count: int, now: float) -> None:
        waiter.is_told = True
        waiter.tell(notice(what, place + 1, count, now - waiter.waiting_since))

    def retire(self, now: float, *, keeps_warm: bool) -> None:
        self.ledger.is_warm = keeps_warm
        self.ledger.retire(now, keep=int(self.ledger.min_size) if keeps_warm else 0)
        self.carry_out()

    def warm(self, profile: Profile, now: float) -> None:
        """Opens what is missing to its smallest size."""
        if now >= self.openings.cold_until:
            self.ledger.warm(profile, now)
            self.carry_out()
            if self.context.quotas is not None and self.ledger.alive() < self.ledger.min_size:
                self.context.quotas.runs_short(self)

    def resize(self, size: int) -> None:
        """How many connections there may be from now on."""
        self.ledger.resize(size, time.monotonic())
        self.carry_out()

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
        self.openings.outdate()
        for server in self.servers:
            server.doomed = True
        if self.seats is not None:
            for server in self.seats.unkept():
                self.discard(server, at_work=False)
        self.ledger.retire(time.monotonic())
        self.carry_out()

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
        if self.seats is not None:
            self.seats.refuse_to_ask(_closed())
        self.carry_out()

    # --- for its parts ------------------------------------------------------------------------

    def grant(self, waiter: Waiter, server: ServerConnection) -> None:
        """A connection for one who has waited; it may have to wait for the seat as well."""
        if self.seats is not None and not self.seats.take(server):
            self.seats.wait(server, waiter)
            return
        self._hand_over(waiter, server)

    def carry_out(self) -> None:
        """What the ledger has decided, and in passing for others."""
        self._carry_out_own()
        if self.budget.changed:
            self.budget.carry_out()

    # --- inside -------------------------------------------------------------------------------

    def _hand_over(self, waiter: Waiter, server: ServerConnection) -> None:
        self.backend.leases += 1
        self.context.counters.waits.observe(time.monotonic() - waiter.waiting_since)
        waiter.granted(server)

    def _carry_out_own(self) -> None:
        ledger = self.ledger
        while ledger.to_close:
            slot = ledger.to_close.pop()
            assert isinstance(slot, ServerConnection)
            slot.leave(self.context.call_later)
            if slot.lingers and slot.at_work and slot not in self.leftovers:
                self.leftovers.add(slot, time.monotonic() + CANCEL_AGAIN)
        while ledger.to_open:
            self.openings.ask(ledger.to_open.pop(0))


def _closed() -> PgError:
    """What a log-in is told that would have to wait when the proxy ends."""
    return PgError(ADMIN_SHUTDOWN, "the proxy is shutting down", severity="FATAL")
