"""HOT. Which backend has which role, and who waits while there is none.

A topology snapshot goes in by `apply`; the pools, of which each (database, user) has a group
(group.py), follow the difference.
"""

import time
from asyncio import BaseTransport
from collections.abc import Callable, Mapping
from typing import final

from pgproxy.protocol.settings import NOTHING_SET
from pgproxy.routing.decision import REPLICA
from pgproxy.servers.backend import Backend
from pgproxy.servers.balance import Balancer
from pgproxy.servers.context import PoolContext
from pgproxy.servers.gate import Gate, paused_error
from pgproxy.servers.group import STILL_THERE, Homeless, PoolGroup
from pgproxy.servers.pool import Pool
from pgproxy.servers.reads import ReadRules, no_replica_error, position_gap
from pgproxy.servers.shares import Shares
from pgproxy.servers.sizes import PoolSizes
from pgproxy.servers.slots import Waiter
from pgproxy.servers.words import holders, no_primary_error
from pgproxy.telemetry.counters import LEFT, REFUSED, TO_PRIMARY, TO_REPLICA
from pgproxy.topology.freshness import NEVER, UNKNOWN, Freshness
from pgproxy.topology.model import Node, Role, Topology, is_one_history

# What the owner of a connection is told when it is cut.
DEPOSED = "it is not the primary any more"
RESTARTED = "it has become a replica"

ALWAYS_FRESH = float("inf")  # the primary

# Seconds in which nothing new begins on a primary that is about to be stopped, so that what runs
# there can end; if it goes on as primary, it was not meant so.
HOLD = 1.0


class PoolSettings:
    def __init__(
        self,
        *,
        sizes: PoolSizes,
        idle_timeout: float,
        lifetime: float,
        failover_wait: float,
        switchover_grace: float = 10.0,
        max_logins: int = 8,
        reads: ReadRules | None = None,
        max_concurrent_per_backend: int = 0,
        weight: Callable[[str, str], float] = lambda _database, _user: 1.0,
        reserve_timeout: float = 5.0,
        is_divided: bool = False,
    ) -> None:
        self.sizes = sizes
        self.reserve_timeout = reserve_timeout
        self.idle_timeout = idle_timeout
        self.lifetime = lifetime
        self.failover_wait = failover_wait
        self.switchover_grace = switchover_grace
        self.max_logins = max_logins
        self.reads = ReadRules() if reads is None else reads
        self.max_concurrent_per_backend = max_concurrent_per_backend
        self.is_divided = is_divided  # what a backend takes, among several proxies
        self.weight = weight  # of a database and user, where they compete


@final
class Cluster:
    def __init__(
        self,
        context: PoolContext,
        settings: PoolSettings,
        balancer: Balancer,
        shares: Shares,
        freshness: Freshness | None = None,
    ) -> None:
        """`freshness` is the monitor's, to be read only."""
        self.context = context
        self.settings = settings
        self.balancer = balancer
        self.shares = shares
        self.max_staleness = settings.reads.max_staleness
        self.freshness = Freshness() if freshness is None else freshness
        self.backends: dict[str, Backend] = {}
        self.rooms: dict[str, int] = {}  # places that each server has for ordinary users
        self.portions: dict[str, int] = {}  # of that, this proxy's where they are divided
        self.primary: Backend | None = None
        self.replicas: list[Backend] = []
        self.readers: list[Backend] = []  # the replicas, and the primary if it serves reads too
        self.groups: dict[tuple[str, str], PoolGroup] = {}
        self.homeless: list[Homeless] = []
        self.topology: Topology | None = None
        # Former primaries that may still take writes, and when what still runs there is cut: a
        # monotonic time, or NEVER while it is not known whether they do.
        self.deposed: dict[str, float] = {}
        self.is_holding = False  # the primary is handing over
        self._held_until = 0.0
        self._rerouted: Waiter | None = None  # is about to ask again, having waited since
        self._rerouted_since = 0.0
        self.gate = Gate()
        # Told the name of a server and the reason when all connections to it end now.
        self.on_cut: Callable[[str, str], None] | None = None
        self.wants_fresher = False  # a read has found a replica not fresh enough, or waits for one
        self._asked_at = 0.0  # the last time that `wants_positions` said so
        self._holders = ""
        self._holders_at = 0.0
        context.holders = self._busiest

    def group(self, database: str, user: str) -> PoolGroup:
        found = self.groups.get((database, user))
        if found is None:
            found = PoolGroup(self, database, user)
            found.is_paused = self.gate.holds(database)
            self.groups[(database, user)] = found
            found.rebuild()
        return found

    def apply(self, topology: Topology) -> None:
        """Takes over a new snapshot: roles first, then those who waited on the wrong backend."""
        if self.topology is not None and not is_one_history(self.topology, topology):
            for known in self.backends.values():
                known.fresh_as_of = UNKNOWN
        before, self.topology = self.topology, topology
        self._take_over(before, topology)
        fit: set[str] = set()  # backends whose waiters may stay
        anew: list[str] = []
        for node in topology.nodes:
            backend = self.backends[node.name]
            was_writable = backend.writable
            backend.writable = backend is self.primary
            if was_writable == backend.writable and node.role is not Role.NONE:
                if not (backend.writable and self.is_holding):
                    fit.add(node.name)
            else:
                anew.append(node.name)
            if self.context.limiter is not None:
                self.context.limiter.note_away(backend, not node.alive)
            self._end_connections(node, was_writable)
        for group in self.groups.values():
            group.rebuild()
        self._move_waiters(fit)
        for group in self.groups.values():
            for name in anew:
                group.pools[name].openings.try_again()
        self._house()
        if self.context.limiter is not None:
            self.context.limiter.serve(time.monotonic())

    def _take_over(self, before: Topology | None, topology: Topology) -> None:
        backends: dict[str, Backend] = {}
        for node in topology.nodes:
            known = before.node(node.name) if before is not None else None
            if known is not None and known.identity == node.identity:
                backend = self.backends[node.name]
            else:
                self.deposed.pop(node.name, None)
                settings = self.settings
                backend = Backend(
                    node.name,
                    node.host,
                    node.port,
                    float(node.weight),
                    settings.max_logins,
                    settings.max_concurrent_per_backend,
                    settings.sizes,
                )
                backend.budget.learn(self.rooms.get(node.name, 0))
                backend.budget.divide(self._portion(node.name))
            backend.weight = float(node.weight)
            backend.zone = node.zone
            backends[node.name] = backend
        self.backends = backends
        self.deposed = {name: end for name, end in self.deposed.items() if name in backends}
        primary = topology.primary
        self.primary = backends[primary.name] if primary is not None else None
        self._hold(primary is not None and primary.handing_over)
        self.replicas = [backends[node.name] for node in topology.replicas]
        for backend in backends.values():
            if backend is self.primary:
                backend.fresh_as_of = ALWAYS_FRESH
            elif backend.fresh_as_of == ALWAYS_FRESH:
                backend.fresh_as_of = UNKNOWN
        self._choose_readers()

    def _choose_readers(self) -> None:
        self.readers = self.replicas
        reads_primary = self.settings.reads.always_from_primary and not self.is_holding
        if reads_primary and self.primary is not None:
            self.readers = [*self.replicas, self.primary]
        self.shares.follow(self.readers, time.monotonic())

    def _hold(self, is_handing_over: bool) -> None:
        """Only the beginning counts: who goes on handing over does not."""
        if not is_handing_over:
            self.is_holding = False
            self._held_until = 0.0
        elif self._held_until == 0.0:
            self.is_holding = True
            self._held_until = time.monotonic() + HOLD

    def _end_connections(self, node: Node, was_writable: bool) -> None:
        """What becomes of the connections to a server in its new role."""
        name = node.name
        if node.role is Role.PRIMARY:
            # What was leased for reads before its promotion will do for writes too.
            self.deposed.pop(name, None)
        elif node.role is Role.REPLICA or node.cut:
            if node.cut or was_writable or name in self.deposed:
                # To become a replica it was started anew: the connections of before are dead,
                # although nobody may have told us.
                self.deposed.pop(name, None)
                self._cut(name, DEPOSED if node.cut else RESTARTED)
        else:
            if was_writable:
                self.deposed[name] = NEVER
            if was_writable or not node.alive or node.wrote_on == 0:
                self._drain(name)
            if node.alive and self.deposed.get(name) == NEVER:
                self.deposed[name] = time.monotonic() + self.settings.switchover_grace
                self._cut(name, DEPOSED, at_rest=True)

    def shelter(self, entry: Homeless) -> None:
        waiter = entry.waiter
        now = since = time.monotonic()
        if waiter is self._rerouted and self._rerouted_since > 0:
            since = self._rerouted_since
        waiter.waiting_since = now
        waiter.homeless_since = since
        entry.is_paused = entry.group.is_paused
        if entry.target == REPLICA and self.settings.reads.never_from_primary:
            entry.for_replica = True
        patience = self.settings.failover_wait
        if entry.is_paused:
            patience = self.context.wait_timeout
        elif entry.for_replica and not self.settings.reads.never_from_primary:
            patience = self.settings.reads.wait
        entry.deadline = since + patience
        self.homeless.append(entry)

    def oldest(self, after: float, now: float) -> float:
        """As of when a replica must be fresh for a read at `now` that must see what was committed
        before `after`.

        While there is no primary nobody writes, and replicas are as stale as they were when it was
        heard of last.
        """
        if self.primary is None and now > self.freshness.asked_at:
            now = self.freshness.asked_at
        oldest = now - self.max_staleness
        return oldest if oldest > after else after

    def learn_room(self, name: str, room: int) -> None:
        """So many connections of ordinary users a server takes."""
        self.rooms[name] = room
        backend = self.backends.get(name)
        if backend is not None:
            backend.budget.learn(room)

    def take_portions(self, portions: Mapping[str, int]) -> None:
        """So many connections to each server are this proxy's, from now on: idle ones beyond that are
        closed at once, the others when they come back."""
        self.portions = dict(portions)
        now = time.monotonic()
        for name, backend in self.backends.items():
            backend.budget.divide(self._portion(name))
            backend.budget.serve(now)
            backend.budget.carry_out()

    def held(self) -> dict[str, int]:
        """How many each server's pools may have, or still have."""
        return {
            name: max(self._portion(name), int(backend.budget.connections.limit.used))
            for name, backend in self.backends.items()
        }

    def _portion(self, name: str) -> int:
        """One until it is known."""
        return self.portions.get(name, 1) if self.settings.is_divided else 0

    def renew(self) -> None:
        """The defaults of roles or databases have changed."""
        for group in self.groups.values():
            group.renew()

    def fresh(self, name: str, fresh_as_of: float) -> None:
        """A replica has been seen to show everything committed before that time."""
        backend = self.backends.get(name)
        if backend is None or backend.writable:
            return
        backend.fresh_as_of = fresh_as_of
        if self.homeless:
            self._house()

    def wants_positions(self, now: float) -> bool:
        """Whether the backends are to be asked for their positions out of turn."""
        if not self.wants_fresher:
            return False
        freshest = max([backend.fresh_as_of for backend in self.replicas], default=UNKNOWN)
        if now - self._asked_at < position_gap(now - freshest):
            return False
        self.wants_fresher = False
        self._asked_at = now
        return True

    def serves(self, backend: Backend) -> bool:
        """It has a role."""
        return backend is self.primary or backend in self.replicas

    def leave(self, waiter: Waiter) -> None:
        for entry in self.homeless:
            if entry.waiter is waiter and entry.for_replica:
                waited = time.monotonic() - waiter.homeless_since
                self.context.counters.fresh_waits.ended(LEFT, waited)
        self.homeless = [entry for entry in self.homeless if entry.waiter is not waiter]

    def tick(self, now: float) -> None:
        """Refuses those who have waited too long."""
        for group in self.groups.values():
            for pool in group.pools.values():
                pool.tick(now)
        self._serve_hungry(now)
        for name, end in list(self.deposed.items()):
            if end <= now:
                del self.deposed[name]
            if end != NEVER:
                self._cut(name, DEPOSED, at_rest=end > now)
        if self.is_holding and self._held_until <= now:
            self.is_holding = False
            self._choose_readers()
            for group in self.groups.values():
                group.rebuild()
            self._house()
        notice_after = self.context.notice_after
        if notice_after > 0 and self.context.queue.limit.used > 0:
            for group in self.groups.values():
                for pool in group.pools.values():
                    pool.tell_waiters(now - notice_after, now)
        if not self.homeless:
            return
        if any(entry.for_replica for entry in self.homeless):
            self.wants_fresher = True
        patient = [entry for entry in self.homeless if entry.lost and entry.patience <= now]
        for entry in patient:
            self.leave(entry.waiter)
            entry.waiter.refused(STILL_THERE)
        late = [entry for entry in self.homeless if entry.deadline <= now]
        if late:
            self.homeless = [entry for entry in self.homeless if entry.deadline > now]
            for entry in late:
                self._too_late(entry, now)

    def _serve_hungry(self, now: float) -> None:
        for backend in self.backends.values():
            budget = backend.budget
            if budget.is_strained:
                budget.serve(now)
                budget.carry_out()

    def _too_late(self, entry: Homeless, now: float) -> None:
        counters = self.context.counters
        if entry.is_paused:
            counters.wait_timeouts += 1
            entry.waiter.refused(paused_error(entry.group.database, self.context.wait_timeout))
            return
        patience = self.settings.failover_wait
        if not entry.for_replica:
            counters.failover_timeouts += 1
            entry.waiter.refused(no_primary_error(patience))
            return
        waited = now - entry.waiter.homeless_since
        if self.settings.reads.never_from_primary:
            counters.fresh_waits.ended(REFUSED, waited)
            entry.waiter.refused(no_replica_error(patience))
            return
        if entry.group.is_paused:
            self.shelter(entry)
            return
        counters.fresh_waits.ended(TO_PRIMARY, waited)
        self._go_on(entry, from_primary=True)

    def retire(self, now: float) -> None:
        """Closes what has been idle too long, fills what is too small, and forgets groups that
        nobody uses: whoever may log in may try any name."""
        for backend in self.backends.values():
            backend.budget.look()  # caps may have been changed
        self._serve_hungry(now)
        for key, group in list(self.groups.items()):
            group.sweep(now)
            if group.is_unused:
                group.end()
                del self.groups[key]

    def close(self) -> None:
        for group in self.groups.values():
            for pool in group.pools.values():
                pool.close()

    @property
    def left_running(self) -> int:
        """Connections whose clients have gone in the middle of something."""
        return sum([len(pool.leftovers) for pool in self.pools()])

    def pools(self) -> list[Pool]:
        return [pool for group in self.groups.values() for pool in group.pools.values()]

    def busy_transports(self) -> list[BaseTransport]:
        """Of the connections whose servers may have something to take."""
        return [
            server.transport
            for pool in self.pools()
            for server in pool.servers
            if server.owner is not None and not server.owner.at_rest
        ]

    def pause(self, database: str) -> None:
        """Nothing new begins, for a database or for all (""), until `resume`. Idle connections
        close, the others when they come back."""
        self.gate.pause(database)
        waiters: list[Waiter] = []
        for group in self.groups_of(database):
            group.is_paused = True
            for pool in group.pools.values():
                waiters += pool.evict_waiters()
                pool.drain()
        self._reroute(waiters)

    def desert(self, database: str) -> None:
        """Leaves a database that is about to be dropped, renamed or copied, where no client needs
        it. PostgreSQL waits some seconds for those who are leaving."""
        groups = self.groups_of(database)
        if any(group.clients for group in groups):
            return
        for group in groups:
            for pool in group.pools.values():
                pool.drain()

    def resume(self, database: str) -> None:
        """What `pause` has held back goes on; without a database all that is paused."""
        self.gate.resume(database)
        for group in self.groups.values():
            group.is_paused = self.gate.holds(group.database)
        self._house()

    def has_clients(self, database: str) -> bool:
        return any(group.clients for group in self.groups_of(database))

    def groups_of(self, database: str) -> list[PoolGroup]:
        """Of all databases, if none is named."""
        return [
            group for group in self.groups.values() if not database or group.database == database
        ]

    def _drain(self, name: str) -> None:
        for group in self.groups.values():
            if name in group.pools:
                group.pools[name].drain()

    def _cut(self, name: str, reason: str, *, at_rest: bool = False) -> None:
        for group in self.groups.values():
            if name in group.pools:
                group.pools[name].cut(reason, at_rest=at_rest)
        if not at_rest and self.on_cut is not None:
            self.on_cut(name, reason)

    def _move_waiters(self, fit: set[str]) -> None:
        """Those who wait for a backend that cannot serve them try again elsewhere, in order."""
        waiters: list[Waiter] = []
        for group in self.groups.values():
            waiters += group.take_stranded()
            for name, pool in group.pools.items():
                if name not in fit and pool.waiting > 0:
                    waiters += pool.evict_waiters()
        self._reroute(waiters)

    def _reroute(self, waiters: list[Waiter]) -> None:
        waiters.sort(key=_by_arrival)
        for waiter in waiters:
            since = waiter.homeless_since
            self._rerouted, self._rerouted_since = waiter, since
            waiter.is_admitted = True
            waiter.reroute()
            waiter.is_admitted = False
            self._rerouted = None
            if waiter.is_waiting:
                waiter.homeless_since = since

    def _house(self) -> None:
        entries = self.homeless
        self.homeless = []
        now = time.monotonic()
        for entry in entries:
            if entry.lost is not None:
                if self.serves(entry.lost):
                    self.homeless.append(entry)
                    continue
                entry.lost = None
            is_shown = entry.target == REPLICA and self._is_shown(entry, now)
            if entry.group.is_paused:
                self.homeless.append(entry)
                continue
            if entry.is_paused and not is_shown:
                entry.for_replica = False
                self._go_on(entry, from_primary=False)  # what it waits for, it does from now on
                continue
            if not (is_shown or self._may_be_primary(entry)):
                self.homeless.append(entry)
                continue
            waited = now - entry.waiter.homeless_since
            counters = self.context.counters
            if entry.for_replica:
                counters.fresh_waits.ended(TO_REPLICA if is_shown else TO_PRIMARY, waited)
            elif not entry.is_paused:
                counters.failover_waits.observe(waited)
            self._go_on(entry, from_primary=not is_shown)

    def _is_shown(self, entry: Homeless, now: float) -> bool:
        """Whether there is a server on which a read would be as fresh as this one must be."""
        if entry.after == NEVER:
            entry.after = entry.waiter.as_of()  # which may be known by now
        oldest = self.oldest(entry.after, now)
        return any(backend.fresh_as_of >= oldest for backend in self.readers)

    def _may_be_primary(self, entry: Homeless) -> bool:
        if entry.for_replica and (self.replicas or self.settings.reads.never_from_primary):
            return False
        return self.primary is not None and not self.is_holding

    def _go_on(self, entry: Homeless, *, from_primary: bool) -> None:
        waiter = entry.waiter
        since = waiter.homeless_since
        if entry.for_replica:
            self._rerouted, self._rerouted_since = waiter, since
        waiter.is_admitted = True
        server = (
            entry.group.acquire_primary(
                entry.target, entry.profile, waiter, entry.after, NOTHING_SET
            )
            if from_primary
            else entry.group.acquire(
                entry.target, entry.profile, waiter, entry.after, now=time.monotonic()
            )
        )
        self._rerouted = None
        waiter.is_admitted = False
        if server is not None:
            waiter.granted(server)
        elif waiter.is_waiting:
            waiter.homeless_since = since

    def _busiest(self) -> str:
        """Who has most of what is limited. Asked for each who is refused, told as of lately."""
        now = self.context.clock.now
        if now != self._holders_at:
            self._holders_at = now
            are_seats = self.context.limiter is not None
            self._holders = holders(
                [
                    (
                        group.database,
                        group.user,
                        int(group.tenant.seated) if are_seats else group.leased,
                    )
                    for group in self.groups.values()
                ]
            )
        return self._holders


def _by_arrival(waiter: Waiter) -> float:
    return waiter.waiting_since
