"""HOT. The log-ins of one pool: each in its turn, and anew after a pause while its backend cannot be
reached."""

import time
from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.slots import Profile

if TYPE_CHECKING:
    from pgproxy.servers.pool import Pool

# Seconds between attempts to reach a backend, doubled with each failure.
RETRY_FIRST: Final = 0.1
RETRY_LAST: Final = 2.0
# Seconds before a pool is warmed again after a log-in was refused for good.
COLD: Final = 30.0

# Conditions that another attempt may find gone: too many connections, starting up, shutting down,
# and whatever TCP says. Anything else (no such database, wrong password) will not heal by waiting.
TRANSIENT: Final = ("53", "57P", "08")


@final
class Openings:
    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.last_error: PgError | None = None  # why the backend could not be reached last time
        self.cold_until = 0.0  # the pool is not warmed before
        self._retry_pause = RETRY_FIRST
        self._is_pausing = False
        self._outdated: i64 = 0  # times; a log-in that began before is of no use after

    def ask(self, profile: Profile) -> None:
        """The ledger wants one."""
        self.pool.backend.logins.ask(_Opening(self, profile).begin)

    def may_begin(self, profile: Profile) -> bool:
        """Its turn to log in has come; False if nobody waits for the connection any more."""
        pool = self.pool
        is_wanted = pool.ledger.needs(profile)
        if is_wanted and not self._is_pausing:
            pool.context.spawn(self._open_in_turn(profile, self._outdated))
            return True
        pool.ledger.open_failed(profile, time.monotonic(), retry=not is_wanted)
        pool.carry_out()
        return False

    def outdate(self) -> None:
        """Those that have begun are of no use."""
        self._outdated += 1

    def try_again(self) -> None:
        """There is news of the backend: whatever log-ins wait for, they need not any more."""
        self._retry_pause = RETRY_FIRST
        self._retry()

    async def _open_in_turn(self, profile: Profile, outdated: i64) -> None:
        try:
            await self._open(profile, outdated)
        finally:
            self.pool.backend.logins.leave()

    async def _open(self, profile: Profile, outdated: i64) -> None:
        pool = self.pool
        context = pool.context
        server = ServerConnection(profile, pool.backend, pool, context.max_prepared)
        if pool.seats is not None:
            pool.seats.furnish(server)
        try:
            await context.open_server(server, pool.database, pool.user)
        except PgError as error:
            context.counters.server_logins_failed += 1
            self._failed(profile, error)
            return
        except BaseException:
            pool.ledger.open_failed(profile, time.monotonic(), retry=False)
            raise
        self._retry_pause = RETRY_FIRST
        self.last_error = None
        pool.servers.add(server)
        server.doomed = server.doomed or outdated != self._outdated
        context.counters.servers_opened += 1
        waiter = pool.ledger.opened(server, time.monotonic())
        if waiter is not None:
            pool.grant(waiter, server)
        pool.carry_out()

    def _failed(self, profile: Profile, error: PgError) -> None:
        pool = self.pool
        now = time.monotonic()
        if error.sqlstate.startswith(TRANSIENT):
            pool.ledger.open_failed(profile, now, retry=False)
            pool.context.unreachable(pool.backend.name)
            self.last_error = error
            if not self._is_pausing:
                self._is_pausing = True
                pool.context.call_later(self._retry_pause, self._retry)
                self._retry_pause = min(self._retry_pause * 2, RETRY_LAST)
            pool.carry_out()
            return
        self.cold_until = now + COLD
        pool.ledger.open_failed(profile, now, retry=False)
        for waiter in pool.ledger.take_queue(profile):
            pool.backend.load -= 1
            waiter.refused(error)
        pool.ledger.retry(now)
        pool.carry_out()

    def _retry(self) -> None:
        self._is_pausing = False
        self.pool.ledger.retry(time.monotonic())
        self.pool.carry_out()


@final
class _Opening:
    """A connection that a pool wants to open, in its turn."""

    def __init__(self, openings: Openings, profile: Profile) -> None:
        self.openings = openings
        self.profile = profile

    def begin(self) -> bool:
        return self.openings.may_begin(self.profile)
