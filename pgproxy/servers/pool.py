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
from pgproxy.frames import write
from pgproxy.frames.codes import (
    B_ERROR_RESPONSE,
    B_PARAMETER_STATUS,
    B_READY_FOR_QUERY,
    STATUS_IDLE,
)
from pgproxy.frames.splitter import NEED_DATA
from pgproxy.protocol.prepared import PreparedOnServer
from pgproxy.protocol.settings import NOTHING_SET, Settings
from pgproxy.servers.backend import Backend
from pgproxy.servers.connection import Keeper, Owner, ServerConnection
from pgproxy.servers.ledger import CLOSED, IDLE, LEASED, RESETTING, Ledger, Profile, Waiter
from pgproxy.telemetry.counters import Counters

# Seconds to clean a connection before it is closed instead.
RESET_TIMEOUT = 5.0
# A connection that its session only holds: seconds that others wait for it at least, and at most
# twice; and after how many times that it is let go of although nobody waits.
HOLD = 0.05
LONGEST_HOLD = 20
# Seconds between attempts to reach a backend, doubled with each failure.
RETRY_FIRST = 0.1
RETRY_LAST = 2.0

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


@final
class Pool(Keeper):
    def __init__(
        self, context: PoolContext, backend: Backend, database: str, user: str, ledger: Ledger
    ) -> None:
        self.context = context
        self.clock = context.clock
        self.backend = backend
        self.database = database
        self.user = user
        self.ledger = ledger
        self.servers: set[ServerConnection] = set()
        self.holders: dict[Owner, int] = {}  # who only hold theirs, since how many times HOLD
        self._is_ageing = False
        self.last_error: PgError | None = None  # why the backend could not be reached last time
        self._retry_pause = RETRY_FIRST
        self._pausing = False
        self._drained: i64 = 0  # times; a log-in that began before is of no use after

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
        backend.load += 1
        if slot is not None:
            backend.leases += 1
            assert isinstance(slot, ServerConnection)
            return slot
        now = time.monotonic()
        self.ledger.enqueue(waiter, profile, now, now + self.context.wait_timeout)
        self._carry_out()
        return None

    def take_back(self, server: ServerConnection, waiter: Waiter) -> bool:
        """Leases this connection, if it is idle and serves the one who would wait."""
        if not self.ledger.take_back(server, waiter.allowed):
            return False
        self.backend.load += 1
        self.backend.leases += 1
        return True

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
            if age >= LONGEST_HOLD or (age > 0 and self.ledger.waiting):
                del self.holders[owner]
                owner.let_go()
            else:
                self.holders[owner] = age + 1
        self._age_later()

    def cancel_wait(self, waiter: Waiter) -> bool:
        before = self.ledger.waiting
        self.ledger.cancel(waiter)
        if self.ledger.waiting == before:
            return False
        self.backend.load -= 1
        return True

    def release(self, server: ServerConnection) -> None:
        """The owner has finished: the connection is idle, nothing is owed, nothing is pinned."""
        server.owner = None
        if server.cancels:
            server.release_pending = True  # a cancel must not hit the next owner's query
            return
        if not server.reading:
            server.set_reading(True)
        self.backend.load -= 1
        waiter = self.ledger.release(server, self.clock.now)
        if waiter is not None:
            self._grant(waiter, server)
        elif self.ledger.to_close:
            self._carry_out()

    def reset(
        self, server: ServerConnection, *, transaction: bool, session: bool, owed: int = 0
    ) -> None:
        """The owner left a transaction open and/or session state behind: clean it or close it.
        `owed` questions of its own are still to be answered."""
        server.owner = None
        if server.cancels or server.doomed:
            self.discard(server)
            return
        server.set_reading(True)
        self.backend.load -= 1
        self.ledger.reset(server)
        _Reset(self, server, transaction=transaction, session=session, owed=owed)

    def cleaned(self, server: ServerConnection) -> None:
        """A reset has succeeded."""
        server.owner = None
        waiter = self.ledger.release(server, self.clock.now)
        if waiter is not None:
            self._grant(waiter, server)
        self._carry_out()

    def discard(self, server: ServerConnection, *, at_work: bool = True) -> None:
        """The connection is in a state nobody knows: close it, at once unless it is to finish."""
        server.owner = None
        server.at_work = at_work
        if server.place == LEASED:
            self.backend.load -= 1
        self.ledger.discard(server)
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
        if server.owner is not None or server.place in (LEASED, RESETTING):
            self.context.counters.servers_lost += 1
        self.ledger.gone(server, time.monotonic())
        self._carry_out()

    def idle_data(self, server: ServerConnection) -> None:
        if server in self.servers:  # else its log-in is about to end, and finds it doomed
            self.discard(server)

    def tick(self, now: float) -> None:
        """Refuses the waiters whose time is up."""
        if self.ledger.waiting == 0:
            return
        for waiter in self.ledger.expire(now):
            self.backend.load -= 1
            self.context.counters.wait_timeouts += 1
            waiter.refused(self._timeout_error())

    def retire(self, now: float, min_size: int) -> None:
        self.ledger.retire(now, keep=min_size)
        self._carry_out()

    def evict_waiters(self) -> list[Waiter]:
        waiters = self.ledger.evict_waiters()
        self.backend.load -= len(waiters)
        return waiters

    def drain(self) -> None:
        """The backend has lost its role: idle connections are not trusted any more, those at work
        are closed when they come back."""
        self._drained += 1
        for server in self.servers:
            server.doomed = True
        self.ledger.retire(time.monotonic())
        self._carry_out()

    def cut(self, reason: str, *, at_rest: bool = False) -> None:
        """Ends every connection now, also in the middle of a transaction; nothing more is sent on
        them, and their owners are told `reason`. With `at_rest` only those that are leased to
        somebody who is between transactions."""
        for server in list(self.servers):
            owner = server.owner
            if server.place in (IDLE, CLOSED) or (
                at_rest and (server.place != LEASED or owner is None or not owner.at_rest)
            ):
                continue
            if server.place in (LEASED, RESETTING) and not server.cut_because:
                self.context.counters.servers_cut += 1
            server.cut(reason)
        if not at_rest:
            self.drain()

    def close(self) -> None:
        self.ledger.close()
        self._carry_out()

    # --- inside -------------------------------------------------------------------------------

    def _grant(self, waiter: Waiter, server: ServerConnection) -> None:
        self.backend.leases += 1
        self.context.counters.waits.observe(time.monotonic() - waiter.waiting_since)
        waiter.granted(server)

    def _carry_out(self) -> None:
        ledger = self.ledger
        while ledger.to_close:
            slot = ledger.to_close.pop()
            assert isinstance(slot, ServerConnection)
            slot.leave(self.context.call_later)
        while ledger.to_open:
            self.backend.logins.ask(_Opening(self, ledger.to_open.pop(0)).begin)

    def may_open(self, profile: Profile) -> bool:
        """Its turn to log in has come; False if nobody waits for the connection any more."""
        ledger = self.ledger
        is_wanted = profile in ledger.queues and not ledger.closed_for_good
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
            return
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

    def _timeout_error(self) -> PgError:
        ledger = self.ledger
        if self.last_error is not None:
            return PgError(
                self.last_error.sqlstate,
                f"cannot connect to {self.backend.name}: {self.last_error.message}",
                detail=f"Tried for {self.context.wait_timeout:g} s (pool.wait_timeout).",
            )
        return PgError(
            TOO_MANY_CONNECTIONS,
            "no server connection became free in time",
            detail=(
                f'All {ledger.size} connections of database "{self.database}", user '
                f'"{self.user}" on {self.backend.name} were in use for '
                f"{self.context.wait_timeout:g} s (pool.wait_timeout)."
            ),
            hint="Raise pool.size, or look for transactions that stay open.",
        )


@final
class _Opening:
    """A connection that a pool wants to open, in its turn."""

    def __init__(self, pool: Pool, profile: Profile) -> None:
        self.pool = pool
        self.profile = profile

    def begin(self) -> bool:
        return self.pool.may_open(self.profile)


@final
class _Reset(Owner):
    """Owns a connection while ROLLBACK and DISCARD ALL clean it."""

    def __init__(
        self, pool: Pool, server: ServerConnection, *, transaction: bool, session: bool, owed: int
    ) -> None:
        super().__init__()
        self.pool = pool
        self.server = server
        self.awaited: i64 = owed
        self.failed = False
        self.timer: Any = pool.context.call_later(RESET_TIMEOUT, self._too_late)
        server.owner = self
        # DISCARD ALL cannot run in a transaction block, so these are two messages.
        messages = b""
        if transaction:
            messages += write.query(b"ROLLBACK")
            self.awaited += 1
        if session:
            messages += write.query(b"DISCARD ALL")
            self.awaited += 1
            server.prepared = PreparedOnServer(pool.context.max_prepared)
            server.settings = NOTHING_SET
        server.prepared.unnamed = None
        server.write(messages)

    def server_data(self, chunk: bytes) -> None:
        splitter = self.server.splitter
        try:
            splitter.feed(chunk)
            kind = splitter.next()
            while kind != NEED_DATA:
                if kind == B_ERROR_RESPONSE:
                    self.failed = True
                elif kind == B_PARAMETER_STATUS:
                    self.server.note_status()
                elif kind == B_READY_FOR_QUERY:
                    self.awaited -= 1
                    if splitter.data[splitter.start + 5] != STATUS_IDLE and self.awaited == 0:
                        self.failed = True
                kind = splitter.next()
            splitter.keep = splitter.passed
        except PgError:
            self.failed = True
            self.awaited = 0
        if self.awaited > 0:
            return
        self.timer.cancel()
        while self.server.hidden_rows > 0:  # questions of its last owner
            self.server.rows_shown()
        if self.failed:
            self.pool.discard(self.server)
            return
        self.pool.cleaned(self.server)

    def server_lost(self, reason: str) -> None:
        self.timer.cancel()

    def server_writable(self, writable: bool) -> None:
        pass

    def _too_late(self) -> None:
        self.pool.discard(self.server)


def no_primary_error(seconds: float) -> PgError:
    return PgError(
        CANNOT_CONNECT_NOW,
        "no primary server is available",
        detail=f"None appeared within {seconds:g} s (health.failover_wait). Try again.",
    )
