"""HOT. Which backend has which role, and who waits while there is none.

A topology snapshot goes in by `apply`; the pools, of which each (database, user) has a group
(group.py), follow the difference.
"""

import time
from collections.abc import Callable
from typing import final

from pgproxy.routing.decision import REPLICA
from pgproxy.servers.backend import Backend
from pgproxy.servers.balance import Balancer
from pgproxy.servers.gate import Gate, paused_error
from pgproxy.servers.group import STILL_THERE, Homeless, PoolGroup
from pgproxy.servers.ledger import Waiter
from pgproxy.servers.pool import Pool, PoolContext, no_primary_error
from pgproxy.servers.shares import Shares
from pgproxy.topology.model import Node, Role, Topology, is_one_history

# What the owner of a connection is told when it is cut.
DEPOSED = "it is not the primary any more"
RESTARTED = "it has become a replica"

NEVER = float("inf")
ALWAYS_FRESH = float("inf")  # the primary

# Seconds in which nothing new begins on a primary that is about to be stopped, so that what runs
# there can end; if it goes on as primary, it was not meant so.
HOLD = 1.0


class PoolSettings:
    def __init__(
        self,
        *,
        size: int,
        min_size: int,
        idle_timeout: float,
        lifetime: float,
        failover_wait: float,
        switchover_grace: float = 10.0,
        max_logins: int = 8,
    ) -> None:
        self.size = size
        self.min_size = min_size
        self.idle_timeout = idle_timeout
        self.lifetime = lifetime
        self.failover_wait = failover_wait
        self.switchover_grace = switchover_grace
        self.max_logins = max_logins


@final
class Cluster:
    def __init__(
        self, context: PoolContext, settings: PoolSettings, balancer: Balancer, shares: Shares
    ) -> None:
        self.context = context
        self.settings = settings
        self.balancer = balancer
        self.shares = shares
        self.backends: dict[str, Backend] = {}
        self.primary: Backend | None = None
        self.replicas: list[Backend] = []
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
        self.wants_fresher = False  # a read went to the primary for want of a fresh replica

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
                known.fresh_as_of = 0.0
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
            self._end_connections(node, was_writable)
        for group in self.groups.values():
            group.rebuild()
        self._move_waiters(fit)
        for group in self.groups.values():
            for name in anew:
                group.pools[name].try_again()
        self._house()

    def _take_over(self, before: Topology | None, topology: Topology) -> None:
        backends: dict[str, Backend] = {}
        for node in topology.nodes:
            known = before.node(node.name) if before is not None else None
            if known is not None and known.identity == node.identity:
                backend = self.backends[node.name]
            else:
                self.deposed.pop(node.name, None)
                backend = Backend(
                    node.name, node.host, node.port, float(node.weight), self.settings.max_logins
                )
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
                backend.fresh_as_of = 0.0
        self.shares.follow(self.replicas, time.monotonic())

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
        patience = self.settings.failover_wait
        if entry.is_paused:
            patience = self.context.wait_timeout
        entry.deadline = since + patience
        self.homeless.append(entry)

    def renew(self) -> None:
        """The defaults of roles or databases have changed."""
        for group in self.groups.values():
            group.renew()

    def fresh(self, name: str, fresh_as_of: float) -> None:
        """A replica has been seen to show everything committed before that time."""
        backend = self.backends.get(name)
        if backend is None:
            return
        backend.fresh_as_of = fresh_as_of
        if self.homeless:
            self._house()

    def serves(self, backend: Backend) -> bool:
        """It has a role."""
        return backend is self.primary or backend in self.replicas

    def leave(self, waiter: Waiter) -> None:
        self.homeless = [entry for entry in self.homeless if entry.waiter is not waiter]

    def tick(self, now: float) -> None:
        """Refuses those who have waited too long."""
        for group in self.groups.values():
            for pool in group.pools.values():
                pool.tick(now)
        for name, end in list(self.deposed.items()):
            if end <= now:
                del self.deposed[name]
            if end != NEVER:
                self._cut(name, DEPOSED, at_rest=end > now)
        if self.is_holding and self._held_until <= now:
            self.is_holding = False
            self._house()
        if not self.homeless:
            return
        patient = [entry for entry in self.homeless if entry.lost and entry.patience <= now]
        for entry in patient:
            self.leave(entry.waiter)
            entry.waiter.refused(STILL_THERE)
        late = [entry for entry in self.homeless if entry.deadline <= now]
        if late:
            self.homeless = [entry for entry in self.homeless if entry.deadline > now]
            for entry in late:
                if entry.is_paused:
                    self.context.counters.wait_timeouts += 1
                    entry.waiter.refused(
                        paused_error(entry.group.database, self.context.wait_timeout)
                    )
                    continue
                self.context.counters.failover_timeouts += 1
                entry.waiter.refused(no_primary_error(self.settings.failover_wait))

    def retire(self, now: float) -> None:
        """Closes what has been idle too long, and forgets groups that nobody uses: whoever may
        log in may try any name."""
        for key, group in list(self.groups.items()):
            for pool in group.pools.values():
                pool.retire(now, self.settings.min_size)
            if group.is_unused:
                del self.groups[key]

    def close(self) -> None:
        for group in self.groups.values():
            for pool in group.pools.values():
                pool.close()

    def pools(self) -> list[Pool]:
        return [pool for group in self.groups.values() for pool in group.pools.values()]

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
                if name not in fit and pool.ledger.waiting > 0:
                    waiters += pool.evict_waiters()
        self._reroute(waiters)

    def _reroute(self, waiters: list[Waiter]) -> None:
        waiters.sort(key=_by_arrival)
        for waiter in waiters:
            since = waiter.homeless_since
            self._rerouted, self._rerouted_since = waiter, since
            waiter.reroute()
            self._rerouted = None
            if waiter.waits_for is not None:
                waiter.homeless_since = since

    def _house(self) -> None:
        entries = self.homeless
        self.homeless = []
        for entry in entries:
            if entry.lost is not None:
                if self.serves(entry.lost):
                    self.homeless.append(entry)
                    continue
                entry.lost = None
            if entry.group.is_paused:
                self.homeless.append(entry)
                continue
            can_read = entry.target == REPLICA and any(
                backend.fresh_as_of >= entry.after for backend in self.replicas
            )
            if not can_read and (self.primary is None or self.is_holding):
                self.homeless.append(entry)
                continue
            waiter = entry.waiter
            since = waiter.homeless_since
            if not entry.is_paused:
                self.context.counters.failover_waits.observe(time.monotonic() - since)
            server = entry.group.acquire(entry.target, entry.profile, waiter, entry.after)
            if server is not None:
                waiter.granted(server)
            elif waiter.waits_for is not None:
                waiter.homeless_since = since


def _by_arrival(waiter: Waiter) -> float:
    return waiter.waiting_since
