"""What the HTTP port tells of this process besides its metrics: /status, and whether it is ready."""

from collections.abc import Callable
from typing import Final

import pgproxy
from pgproxy import _compiled
from pgproxy.clients.drain import Drain
from pgproxy.clients.listener import Listener
from pgproxy.clients.passthrough import Passthroughs
from pgproxy.peers.peers import Peers
from pgproxy.routing.reasons import REASONS
from pgproxy.routing.structures import Structures
from pgproxy.servers.cluster import Cluster
from pgproxy.telemetry.counters import Counters
from pgproxy.topology.monitor import Monitor
from pgproxy.topology.source import Source

Table = dict[str, object]


class Status:
    """`has_seen_backend` says whether a server has answered since the start."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        listener: Listener,
        passthroughs: Passthroughs,
        drain: Drain,
        discovery: Source,
        monitor: Monitor,
        has_seen_backend: Callable[[], bool],
        peers: Peers | None,
        counters: Counters,
        structures: Structures,
        top_queries: int,
    ) -> None:
        self._cluster: Final = cluster
        self._listener: Final = listener
        self._passthroughs: Final = passthroughs
        self._drain: Final = drain
        self._discovery: Final = discovery
        self._monitor: Final = monitor
        self._has_seen_backend: Final = has_seen_backend
        self._peers: Final = peers
        self._counters: Final = counters
        self._structures: Final = structures
        self._top_queries: Final = top_queries

    def why_not_started(self) -> str | None:
        """For /startupz; None once it has."""
        return None if self._discovery.synced.is_set() else self._discovery.awaited

    def why_not_ready(self) -> str | None:
        """For /readyz; None while it is."""
        if self._drain.draining:
            return "draining"
        if not self._has_seen_backend():
            return "no backend has answered yet"
        return None if self._peers is None else self._peers.why_not_ready

    def tell(self) -> Table:
        """For /status; of several workers statuses.py makes one of them."""
        return {
            "version": pgproxy.__version__,
            "mode": _compiled.mode(),
            "clients": len(self._listener.clients),
            "replication_clients": len(self._passthroughs),
            "draining": self._drain.draining,
            "drain_clients": self._drain.counts(),
            "drain_forced": self._drain.forced,
            "discovery": self._discovery.status(),
            "topology": self._topology(),
            "backends": self._backends(),
            "pools": self._pools(),
            "running": self._running(),
            "peers": {} if self._peers is None else self._peers.status(),
            "statements": self._statements(),
            "queries": self._queries(),
        }

    def _topology(self) -> list[Table]:
        if self._cluster.topology is None:
            return []
        return [
            {
                "name": node.name,
                "host": node.host,
                "port": node.port,
                "role": node.role.value,
                "alive": node.alive,
                "timeline": node.timeline,
                "replay_lsn": node.replay_lsn,
                "error": node.error,
                "zone": node.zone,
                "weight": node.weight,
            }
            for node in self._monitor.topology.nodes
        ]

    def _backends(self) -> list[Table]:
        return [
            {
                "name": backend.name,
                "connections": int(backend.budget.connections.limit.used),
                "max_connections": backend.budget.cap,
                "hungry": len(backend.budget.hungry),
                "evictions": int(backend.budget.evictions),
            }
            for backend in self._cluster.backends.values()
        ]

    def _pools(self) -> list[Table]:
        return [
            {
                "backend": pool.backend.name,
                "database": pool.database,
                "user": pool.user,
                "idle": len(pool.ledger.idle),
                "leased": int(pool.ledger.leased),
                "resetting": int(pool.ledger.resetting),
                "opening": int(pool.ledger.opening),
                "closing": int(pool.ledger.closing),
                "waiting": pool.waiting,
                "size": int(pool.ledger.whole_size),
                "reserve": pool.ledger.in_reserve,
            }
            for pool in self._cluster.pools()
        ]

    def _running(self) -> Table:
        """Statements and transactions in flight, where there is a limit; `limit` 0: none."""
        cluster = self._cluster
        limiter = cluster.context.limiter
        if limiter is None:
            return {}
        limits = {"total": limiter.total}
        limits |= {name: backend.running for name, backend in cluster.backends.items()}
        return {
            "waiting": int(limiter.waiting),
            **{
                name: {"running": int(limit.used), "limit": limit.shown}
                for name, limit in limits.items()
            },
            "slowdown": {
                name: backend.adaptive.slowdown
                for name, backend in cluster.backends.items()
                if backend.adaptive is not None
            },
        }

    def _statements(self) -> Table:
        routed = self._counters.routed
        return {
            f"{target} {reason.value}": routed[code * 2 + number]
            for code, reason in enumerate(REASONS)
            for number, target in ((0, "primary"), (1, "replica"))
            if routed[code * 2 + number]
        }

    def _queries(self) -> list[Table]:
        return [
            {
                "id": one.id,
                "query": one.text,
                "primary": int(one.primary),
                "replica": int(one.replica),
                "timed": int(one.timed),
                "seconds": one.seconds,
                "reason": one.reason,
            }
            for one in self._structures.heaviest(self._top_queries)
        ]
