"""HOT. The pools of one (database, user): which backend gets the lease that a client asks for.

What role which backend has is the cluster's to say (cluster.py); what to do while there is none, too.
"""

import time
from typing import TYPE_CHECKING, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.protocol.settings import NOTHING_SET, Settings
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.servers.backend import Backend
from pgproxy.servers.balance import NONE
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.ledger import Ledger
from pgproxy.servers.limiter import Tenant
from pgproxy.servers.pool import Pool
from pgproxy.servers.slots import LEASED, Profile, Slot, Waiter

if TYPE_CHECKING:
    from pgproxy.servers.cluster import Cluster

# Profiles kept per group; beyond it, unused ones are forgotten.
MAX_PROFILES = 256

# Seconds in which a server that has ended a connection by itself must have left its role, or the
# end was meant for that connection alone (pg_terminate_backend).
PATIENCE = 0.5
STILL_THERE = PgError("57P01", "terminating connection due to administrator command")

# What the owner of a connection is told when it is cut.
REMOVED = "it does not belong to the cluster any more"


@final
class Homeless:
    """A waiter for whom there is no backend at all."""

    def __init__(
        self, waiter: Waiter, group: "PoolGroup", target: int, profile: Profile, after: float
    ) -> None:
        self.waiter = waiter
        self.group = group
        self.target = target
        self.profile = profile
        self.after = after
        self.deadline = 0.0
        self.lost: Backend | None = None  # waits for this one to leave its role
        self.patience = 0.0  # until then
        self.is_paused = False  # it waits because its database is paused
        self.for_replica = False  # it waits for a replica that is fresh enough, and for that alone


@final
class PoolGroup:
    """The pools of one (database, user)."""

    def __init__(self, cluster: "Cluster", database: str, user: str) -> None:
        self.cluster = cluster
        self.balancer = cluster.balancer
        self.database = database
        self.user = user
        self.tenant = Tenant(database, user, cluster.settings.weight(database, user))
        self.pools: dict[str, Pool] = {}
        self.primary: Pool | None = None
        self.replicas: list[Pool] = []
        # Those that serve reads, in one order: the replicas, and the primary perhaps.
        self.readers: list[Pool] = []
        self.reader_backends: list[Backend] = []
        self.profiles: dict[tuple[tuple[bytes, bytes], ...], Profile] = {}
        self.clients: i64 = 0
        self.asks_sequences = False  # sessions have been seen to ask for their own last nextval
        self.is_paused = False  # the operator holds back whatever would begin
        self._stranded: list[Waiter] = []  # their pool has been closed

    def acquire(
        self,
        target: i64,
        profile: Profile,
        waiter: Waiter,
        after: float = 0.0,
        settings: Settings = NOTHING_SET,
        now: float = 0.0,
        avoided: Backend | None = None,
    ) -> ServerConnection | None:
        """A server connection for the target role, leased; None: the waiter will be called. Which
        one is preferred: Ledger.acquire.

        Reads go to a replica that shows everything committed before `after`, and is not staler at
        `now` than it may be; what else the cluster's rules for reads say. To the one that is to be
        `avoided` only if there is nothing else, the primary included. Without any server, the waiter
        waits for one to appear, `failover_wait` seconds at most.
        """
        if self.is_paused:
            self.cluster.shelter(Homeless(waiter, self, int(target), profile, after))
            return None
        if target == REPLICA:
            readers, backends = self.readers, self.reader_backends
            if avoided is not None:
                readers = [pool for pool in readers if pool.backend is not avoided]
                backends = [pool.backend for pool in readers]
            oldest = self.cluster.oldest(after, now)
            chosen = self.balancer.choose(backends, oldest, waiter.reads_from)
            if chosen != NONE:
                if self.balancer.is_sticky and avoided is None:
                    waiter.reads_from = backends[chosen]
                reader = readers[chosen]
                if reader is self.primary:
                    self._note_lag(oldest)
                return reader.acquire(profile, waiter, settings)
            if avoided is not None:
                if self.may_read_from_primary:
                    return self.acquire_primary(PRIMARY, profile, waiter, after, settings)
                return self.acquire(target, profile, waiter, after, settings, now)
            if self._waits_for_replica():
                entry = Homeless(waiter, self, int(target), profile, after)
                entry.for_replica = True
                self.cluster.shelter(entry)
                return None
        return self.acquire_primary(target, profile, waiter, after, settings)

    def acquire_primary(
        self, target: i64, profile: Profile, waiter: Waiter, after: float, settings: Settings
    ) -> ServerConnection | None:
        """As `acquire`, where no replica will do."""
        if self.primary is not None and not self.cluster.is_holding:
            return self.primary.acquire(profile, waiter, settings)
        self.cluster.shelter(Homeless(waiter, self, int(target), profile, after))
        return None

    def _note_lag(self, oldest: float) -> None:
        """The primary serves a read, perhaps because it alone is fresh enough."""
        if any(backend.fresh_as_of < oldest for backend in self.cluster.replicas):
            self.cluster.wants_fresher = True

    def _waits_for_replica(self) -> bool:
        rules = self.cluster.settings.reads
        if self.replicas:
            self.cluster.wants_fresher = True
            return rules.never_from_primary or rules.wait > 0
        return rules.never_from_primary

    def succeed(
        self, lost: Backend, target: i64, profile: Profile, waiter: Waiter, after: float
    ) -> ServerConnection | None:
        """As `acquire`, for one whose server has just said goodbye: waits until that server is
        seen to have left its role. If it stays, the waiter is refused with `STILL_THERE`."""
        cluster = self.cluster
        if not cluster.serves(lost):
            return self.acquire(target, profile, waiter, after, now=time.monotonic())
        entry = Homeless(waiter, self, int(target), profile, after)
        entry.lost = lost
        entry.patience = time.monotonic() + PATIENCE
        cluster.shelter(entry)
        cluster.context.unreachable(lost.name)
        return None

    @property
    def may_read_from_primary(self) -> bool:
        return self.primary is not None and not self.cluster.settings.reads.never_from_primary

    @property
    def has_replicas(self) -> bool:
        return len(self.replicas) > 0

    @property
    def is_unused(self) -> bool:
        return self.clients == 0 and not any(
            pool.ledger.total or pool.waiting or len(pool.leftovers) for pool in self.pools.values()
        )

    @property
    def leased(self) -> int:
        return sum([int(pool.ledger.leased) for pool in self.pools.values()])

    def cancel_wait(self, waiter: Waiter) -> None:
        held = waiter.held
        if held is not None:
            assert isinstance(held, ServerConnection)
            self.pool_of(held).cancel_wait(waiter)
            return
        if self.cluster.context.queue.forget(waiter):
            return
        for pool in self.pools.values():
            if pool.cancel_wait(waiter):
                return
        self.cluster.leave(waiter)

    def give_back(self, slot: Slot) -> None:
        """Releases a connection that was not used.

        Not at once: the next waiter may be such a one as well, and a thousand of them would give it
        to each other deeper than the stack is.
        """
        assert isinstance(slot, ServerConnection)
        server = slot

        def release() -> None:
            if server.place == LEASED:  # it may have been lost meanwhile
                self.pool_of(server).release(server)

        self.cluster.context.call_later(0.0, release)

    def profile(self, parameters: list[tuple[bytes, bytes]]) -> Profile:
        """The one object for sessions begun with these parameters, with one client more."""
        key = tuple(sorted(parameters))
        found = self.profiles.get(key)
        if found is None:
            if len(self.profiles) >= MAX_PROFILES:
                self._forget_profiles()
            found = Profile(list(key))
            self.profiles[key] = found
        found.clients += 1
        self.clients += 1
        return found

    def left(self, profile: Profile) -> None:
        """A client of it is gone."""
        profile.clients -= 1
        self.clients -= 1

    def renew(self) -> None:
        """Sessions that begin from now on may have other defaults than those that are here: they
        get connections of their own."""
        for key, profile in list(self.profiles.items()):
            profile.is_over = True
            if profile.clients > 0:
                self.profiles[key] = Profile(list(key))  # others like them will come
            else:
                del self.profiles[key]

    def pool_of(self, server: ServerConnection) -> Pool:
        keeper = server.keeper
        assert isinstance(keeper, Pool)
        return keeper

    def rebuild(self) -> None:
        """Takes up the backends and the roles of the topology. A pool without its backend ends: it
        is known to its connections alone, and goes with the last of them."""
        cluster = self.cluster
        for name, known in list(self.pools.items()):
            if cluster.backends.get(name) is not known.backend:
                self._stranded += known.evict_waiters()
                known.close()
                known.cut(REMOVED)
                del self.pools[name]
        for name, backend in cluster.backends.items():
            if name not in self.pools:
                settings = cluster.settings
                sizes = settings.sizes.of(self.database, self.user)
                ledger = Ledger(
                    sizes.size,
                    idle_timeout=settings.idle_timeout,
                    lifetime=settings.lifetime,
                    queue=cluster.context.queue.limit,
                    min_size=sizes.min_size,
                    reserve_size=sizes.reserve_size,
                    reserve_timeout=settings.reserve_timeout,
                    guaranteed_size=sizes.guaranteed_size,
                    budget=backend.budget,
                    database=self.database,
                    user=self.user,
                )
                self.pools[name] = Pool(
                    cluster.context, backend, self.database, self.user, ledger, self.tenant
                )
        primary = cluster.primary
        self.primary = None if primary is None else self.pools[primary.name]
        self.replicas = [self.pools[backend.name] for backend in cluster.replicas]
        self.reader_backends = cluster.readers
        self.readers = [self.pools[backend.name] for backend in cluster.readers]

    def sweep(self, now: float) -> None:
        """Closes what has been idle too long, and keeps the rest at its smallest size as long as
        there are clients."""
        has_clients = self.clients > 0
        for pool in self.pools.values():
            pool.retire(now, keeps_warm=has_clients)
        if not has_clients or self.is_paused:
            return
        usual = max(self.profiles.values(), key=_clients, default=None)
        if usual is None:
            return
        for pool in self.replicas:
            pool.warm(usual, now)
        if self.primary is not None:
            self.primary.warm(usual, now)

    def end(self) -> None:
        """Nobody uses it, and nobody will."""
        for pool in self.pools.values():
            pool.budget.leave(pool.ledger)

    def take_stranded(self) -> list[Waiter]:
        """Those who waited for a pool that `rebuild` has ended."""
        stranded, self._stranded = self._stranded, []
        return stranded

    def _forget_profiles(self) -> None:
        for key, profile in list(self.profiles.items()):
            if profile.clients == 0:
                profile.is_over = True
                del self.profiles[key]


def _clients(profile: Profile) -> int:
    return int(profile.clients)
