"""Keeps the limits of all servers at what is learnt of them (adaptive.py), and the reads that each gets
at what its limit allows: `limits.adaptive`."""

from collections.abc import Callable
from typing import final

from pgproxy.servers.adaptive import AdaptiveLimit
from pgproxy.servers.backend import Backend
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.slots import LEASED


@final
class Adaptation:
    """`serve` is told the time when there is more room than before."""

    def __init__(
        self, cluster: Cluster, *, floor: int, ceiling: int, serve: Callable[[float], None]
    ) -> None:
        self._cluster = cluster
        self._floor = floor
        self._ceiling = ceiling
        self._serve = serve

    def tick(self, now: float) -> None:
        due: list[Backend] = []
        for backend in self._cluster.backends.values():
            adaptive = backend.adaptive
            if adaptive is None:
                adaptive = backend.adaptive = AdaptiveLimit(self._floor, self._ceiling, now)
                backend.running.bind(adaptive.cap)
            adaptive.use(backend.running.used)
            if adaptive.is_due(now):
                due.append(backend)
        if due:
            self._judge(due, now)

    def _judge(self, due: list[Backend], now: float) -> None:
        self._count_in_flight(due, now)
        has_grown = has_changed = False
        for backend in due:
            adaptive = backend.adaptive
            assert adaptive is not None
            cap, room = adaptive.judge(now), adaptive.room
            has_grown |= cap > backend.running.bound
            has_changed |= room != backend.room
            backend.running.bind(cap)
            backend.room = room
        if has_changed:
            self._cluster.shares.weigh(now)
        self._compare()
        if has_grown:
            self._serve(now)

    def _compare(self) -> None:
        """Tells each server that gets reads whether another one of them is as quick as usual."""
        limits = [reader.adaptive for reader in self._cluster.readers]
        known = [limit for limit in limits if limit is not None]
        well = sum([limit.is_well for limit in known])
        for limit in known:
            limit.others_are_well = well > limit.is_well

    def _count_in_flight(self, due: list[Backend], now: float) -> None:
        for pool in self._cluster.pools():
            adaptive = pool.backend.adaptive
            if adaptive is None or pool.backend not in due:
                continue
            for server in pool.servers:
                owner = server.owner
                if server.place != LEASED or owner is None:
                    continue
                structure = owner.runs_alone
                if structure is not None:
                    adaptive.in_flight(structure, owner.leased_at, now)
