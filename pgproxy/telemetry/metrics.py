"""The catalogue of metrics. Everything is read when somebody scrapes; nothing is counted here.

`CATALOGUE` is the whole list: name, kind, labels, meaning. Label values are bounded: backends,
databases, users and reasons; of what clients make up, the few structures of statements that are
heaviest.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Final, Protocol

from mypy_extensions import i64
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pgproxy.relay.deadlines import CLIENT_LOGIN
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.reasons import REASONS
from pgproxy.routing.router import Memory
from pgproxy.routing.structures import Structures, shortened
from pgproxy.servers.backend import Backend
from pgproxy.servers.catalogues import RESULTS, Catalogues
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.listening import Listening
from pgproxy.telemetry.counters import BUCKETS, ENDS, Counters, Histogram
from pgproxy.topology.freshness import UNKNOWN

# Characters of a statement's structure in a label.
LABEL_LENGTH: Final = 80

TARGETS: Final = {PRIMARY: "primary", REPLICA: "replica"}

CATALOGUE: Final = (
    ("pgproxy_build", "info", "version, mode", "Version, and whether the hot path is compiled."),
    ("pgproxy_clients", "gauge", "", "Clients that are logged in."),
    ("pgproxy_clients_logged_in_total", "counter", "", "Clients that have logged in."),
    ("pgproxy_clients_refused_total", "counter", "cap", "Refused because there were too many."),
    ("pgproxy_client_logins_failed_total", "counter", "", "Log-ins of clients that failed."),
    ("pgproxy_servers", "gauge", "backend, database, user, state", "Server connections."),
    (
        "pgproxy_waiting",
        "gauge",
        "backend, database, user",
        "Clients that wait for one, or a seat.",
    ),
    ("pgproxy_waiting_for_seat", "gauge", "backend, database, user", "Those that wait for a seat."),
    ("pgproxy_pool_size", "gauge", "backend, database, user", "Largest number of connections."),
    ("pgproxy_pool_reserve_used", "gauge", "backend, database, user", "Those beyond that."),
    ("pgproxy_running", "gauge", "", "Statements and transactions in flight (seats taken)."),
    ("pgproxy_running_limit", "gauge", "", "How many there may be, limits.max_concurrent; 0: any."),
    ("pgproxy_backend_running", "gauge", "backend", "The same on one backend."),
    ("pgproxy_backend_running_limit", "gauge", "backend", "How many there may be now; 0: any."),
    ("pgproxy_queue_length", "gauge", "", "Clients that wait for a connection or a seat."),
    ("pgproxy_queue_limit", "gauge", "", "How many may, limits.queue_size; 0: any number."),
    (
        "pgproxy_queue_refusals_total",
        "counter",
        "cause",
        "Refused: queue full, or waited too long.",
    ),
    ("pgproxy_homeless", "gauge", "", "Clients that wait for a (fresh) server, or in a PAUSE."),
    ("pgproxy_backend_up", "gauge", "backend", "1 if the backend answers the monitor."),
    ("pgproxy_backend_role", "gauge", "backend, role", "1 for the backend's present role."),
    ("pgproxy_backend_fenced", "gauge", "backend", "1 if it takes writes and must get none."),
    ("pgproxy_backend_replay_lsn", "gauge", "backend", "Position replayed or written, bytes."),
    (
        "pgproxy_backend_staleness_seconds",
        "gauge",
        "backend",
        "How far a replica may be behind, at most; infinite while it is not known.",
    ),
    ("pgproxy_backend_connections", "gauge", "backend", "Server connections of all pools."),
    ("pgproxy_backend_max_connections", "gauge", "backend", "How many there may be, if capped."),
    (
        "pgproxy_backend_hungry_pools",
        "gauge",
        "backend",
        "Pools that wait because of a shared cap.",
    ),
    (
        "pgproxy_evictions_total",
        "counter",
        "backend",
        "Connections closed so that another pool, under the same cap, could open one.",
    ),
    ("pgproxy_backend_load", "gauge", "backend", "Leased connections and waiters."),
    ("pgproxy_backend_weight", "gauge", "backend", "Its weight as configured, or as its pod says."),
    (
        "pgproxy_backend_share",
        "gauge",
        "backend",
        "Multiplies the weight: less while new, late or slow.",
    ),
    ("pgproxy_backend_latency_seconds", "gauge", "backend", "How long reads take, moving average."),
    (
        "pgproxy_backend_slowdown",
        "gauge",
        "backend",
        "How long statements take, relative to what they usually take there.",
    ),
    ("pgproxy_leases_total", "counter", "backend", "Times a server connection was leased."),
    ("pgproxy_statements_total", "counter", "target, reason", "Routing decisions carried out."),
    ("pgproxy_transactions_seconds", "histogram", "", "How long connections were leased."),
    ("pgproxy_wait_seconds", "histogram", "", "How long clients waited until they could run."),
    ("pgproxy_wait_timeouts_total", "counter", "", "Waits that ended at pool.wait_timeout."),
    (
        "pgproxy_timeouts_total",
        "counter",
        "database, kind",
        "What [timeouts] has ended, by its key; log-ins without a database.",
    ),
    ("pgproxy_failover_wait_seconds", "histogram", "", "How long clients waited for a server."),
    ("pgproxy_failover_timeouts_total", "counter", "", "Those that health.failover_wait ended."),
    ("pgproxy_fresh_wait_seconds", "histogram", "", "How long reads waited for a fresh replica."),
    ("pgproxy_fresh_waits_total", "counter", "end", "Those waits, by how they ended."),
    ("pgproxy_errors_total", "counter", "source", "ErrorResponses of servers and of the proxy."),
    ("pgproxy_pins_total", "counter", "reason", "Sessions that had to keep their connection."),
    ("pgproxy_moved_transactions_total", "counter", "", "Moved from a replica to the primary."),
    ("pgproxy_reruns_total", "counter", "", "Run again on another server, unnoticed."),
    ("pgproxy_reruns_failed_total", "counter", "", "Could not be: other answers, or no server."),
    ("pgproxy_replica_retries_total", "counter", "cause", "Run again: a replica could not do it."),
    ("pgproxy_listening_connections", "gauge", "backend, database", "Shared by all who listen."),
    ("pgproxy_listeners", "gauge", "database", "Clients that listen on those."),
    ("pgproxy_listened_channels", "gauge", "database", "Different channels they listen to."),
    (
        "pgproxy_listening_lost_total",
        "counter",
        "",
        "Such connections lost: what came then is too.",
    ),
    ("pgproxy_notifications_total", "counter", "direction", "Received, and given to clients."),
    ("pgproxy_notification_overflows_total", "counter", "", "Clients cut off: theirs piled up."),
    ("pgproxy_plans_remade_total", "counter", "", "Statements made anew: a table had changed."),
    ("pgproxy_servers_opened_total", "counter", "", "Server connections opened."),
    ("pgproxy_servers_lost_total", "counter", "", "Server connections lost while at work."),
    ("pgproxy_servers_cut_total", "counter", "", "Server connections at work cut by the proxy."),
    ("pgproxy_server_logins_failed_total", "counter", "", "Log-ins to servers that failed."),
    ("pgproxy_cancels_total", "counter", "", "Cancel requests passed on."),
    ("pgproxy_replication_clients", "gauge", "backend", "Replication connections passed through."),
    ("pgproxy_replication_opened_total", "counter", "", "Replication connections since start."),
    ("pgproxy_replication_cut_total", "counter", "", "Those ended because of their server's role."),
    ("pgproxy_prepared_statements", "gauge", "", "Distinct prepared texts of all clients."),
    (
        "pgproxy_topology_age_seconds",
        "gauge",
        "",
        "Since discovery's source last said anything; the last topology stays meanwhile.",
    ),
    ("pgproxy_discovered_backends", "gauge", "role", "Named by discovery, by what they are for."),
    (
        "pgproxy_kubernetes_requests_total",
        "counter",
        "verb, outcome",
        "Requests to the API server that have ended.",
    ),
    ("pgproxy_kubernetes_events_total", "counter", "type", "Events of its watches."),
    ("pgproxy_kubernetes_relists_total", "counter", "reason", "Why the pods were listed."),
    (
        "pgproxy_patroni_requests_total",
        "counter",
        "outcome",
        "Requests to Patroni's members that have ended.",
    ),
    (
        "pgproxy_dns_lookups_total",
        "counter",
        "type, outcome",
        "Questions to nameservers that have ended.",
    ),
    ("pgproxy_router_lookups_total", "counter", "result", "How routing decisions were found."),
    ("pgproxy_catalogue_loads_total", "counter", "result", "Looks at databases' catalogues."),
    (
        "pgproxy_catalogue_load_seconds",
        "gauge",
        "database",
        "How long the last look took.",
    ),
    (
        "pgproxy_catalogue_age_seconds",
        "gauge",
        "database",
        "Since the catalogue was last seen to be right.",
    ),
    ("pgproxy_catalogue_functions", "gauge", "database", "Functions in it, overloads counted."),
    ("pgproxy_queries_total", "counter", "query, id, target", "Batches of the top structures."),
    ("pgproxy_query_seconds_total", "counter", "query, id", "How long they had a server."),
    ("pgproxy_query_timed_total", "counter", "query, id", "Those that this was measured of."),
    ("pgproxy_query_structures", "gauge", "", "Structures of statements that are known."),
    ("pgproxy_peers", "gauge", "state", "Proxies of the same service as [peers] finds them."),
    (
        "pgproxy_backend_connections_share",
        "gauge",
        "backend",
        "Server connections that are this proxy's, of all proxies' (pool.cluster_budget).",
    ),
    (
        "pgproxy_peer_cancels_total",
        "counter",
        "result",
        "Cancel requests for clients of other proxies.",
    ),
    ("pgproxy_draining", "gauge", "", "1 once the proxy has been told to stop."),
    ("pgproxy_drain_clients", "gauge", "state", "Clients that a drain still has to see off."),
    ("pgproxy_drain_forced_total", "counter", "", "Clients that a drain has cut off."),
    ("pgproxy_workers", "gauge", "", "Processes that serve clients, if listen.workers is above 1."),
    ("pgproxy_worker_restarts_total", "counter", "", "Those that had to be replaced."),
    ("pgproxy_worker_clients", "gauge", "worker", "Clients that each of them has."),
)


class Discovered(Protocol):
    """What discovery has named."""

    @property
    def role(self) -> str:
        """`auto`, `primary`, `replica` or `none`."""


class Discovery(Protocol):
    """What names the backends."""

    @property
    def backends(self) -> Sequence[Discovered]:
        """The last list."""

    def age(self) -> float:
        """Seconds since whoever is asked last said anything."""

    def counts(self) -> Mapping[str, Iterable[tuple[tuple[str, ...], int]]]:
        """Its own counters by name: values of the labels that the catalogue has, and counts."""


class Carried(Protocol):
    """One replication connection (clients/passthrough.py)."""

    @property
    def backend(self) -> Backend: ...


class Draining(Protocol):
    """What clients/drain.py knows."""

    forced: int

    @property
    def draining(self) -> bool: ...

    def counts(self) -> dict[str, int]: ...


class Proxies(Protocol):
    """What is known of the other proxies (peers/peers.py)."""

    @property
    def shares(self) -> Mapping[str, int]:
        """By server."""

    @property
    def cancels(self) -> Mapping[str, int]:
        """By result."""

    def states(self) -> Mapping[str, int]:
        """How many there are in each."""


class ProxyCollector(Collector):
    """Reads the proxy's plain integers. `clients` and `prepared` are asked for their length.

    Without `discovery` its metrics have no values; so it is with `catalogues` and `peers`.
    """

    def __init__(
        self,
        counters: Counters,
        cluster: Cluster,
        decisions: Memory,
        *,
        clients: Sized,
        replication: Collection[Carried],
        prepared: Sized,
        listening: Listening,
        drain: Draining,
        structures: Structures,
        top_queries: int,
        version: str,
        mode: str,
        discovery: Discovery | None = None,
        catalogues: Catalogues | None = None,
        peers: Proxies | None = None,
    ) -> None:
        self._counters = counters
        self._cluster = cluster
        self._decisions = decisions
        self._clients = clients
        self._replication = replication
        self._prepared = prepared
        self._listening = listening
        self._drain = drain
        self._structures = structures
        self._top_queries = top_queries
        self._version = version
        self._mode = mode
        self._discovery = discovery
        self._catalogues = catalogues
        self._peers = peers

    def describe(self) -> Iterable[Metric]:
        return []  # values are not there yet when the collector is registered

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        yield InfoMetricFamily(
            "pgproxy_build", _help("pgproxy_build"), {"version": self._version, "mode": self._mode}
        )
        yield _gauge("pgproxy_clients", len(self._clients))
        yield _counter("pgproxy_clients_logged_in_total", counters.clients_total)
        yield _counters("pgproxy_clients_refused_total", "cap", counters.clients_refused)
        yield _counter("pgproxy_client_logins_failed_total", counters.logins_failed)
        yield from self._pools()
        yield from self._limits()
        yield from self._backends()
        yield from self._budgets()
        yield from self._statements()
        yield _histogram("pgproxy_transactions_seconds", counters.transactions)
        yield _histogram("pgproxy_wait_seconds", counters.waits)
        yield _counter("pgproxy_wait_timeouts_total", counters.wait_timeouts)
        yield self._timeouts()
        yield _histogram("pgproxy_failover_wait_seconds", counters.failover_waits)
        yield _counter("pgproxy_failover_timeouts_total", counters.failover_timeouts)
        yield _histogram("pgproxy_fresh_wait_seconds", counters.fresh_waits.seconds)
        waits = CounterMetricFamily(
            "pgproxy_fresh_waits", _help("pgproxy_fresh_waits_total"), labels=["end"]
        )
        for end, count in zip(ENDS, counters.fresh_waits.ends, strict=True):
            waits.add_metric([end], count)
        yield waits
        yield _counter("pgproxy_moved_transactions_total", counters.moved_transactions)
        yield _counter("pgproxy_reruns_total", counters.reruns)
        yield _counter("pgproxy_reruns_failed_total", counters.reruns_failed)
        yield _counters("pgproxy_replica_retries_total", "cause", counters.replica_retries)
        yield from self._listeners()
        yield _counter("pgproxy_plans_remade_total", counters.healed)
        yield _counter("pgproxy_servers_opened_total", counters.servers_opened)
        yield _counter("pgproxy_servers_lost_total", counters.servers_lost)
        yield _counter("pgproxy_servers_cut_total", counters.servers_cut)
        yield _counter("pgproxy_server_logins_failed_total", counters.server_logins_failed)
        yield _counter("pgproxy_cancels_total", counters.cancels)
        yield from self._passthroughs()
        yield _gauge("pgproxy_prepared_statements", len(self._prepared))
        if self._discovery is not None:
            yield from _discovery(self._discovery)
        if self._catalogues is not None:
            yield from _databases(self._catalogues)
        yield from self._queries()
        if self._peers is not None:
            yield from peer_families(self._peers)
        yield from self._departures()

    def _timeouts(self) -> Metric:
        counters = self._counters
        timeouts = CounterMetricFamily(
            "pgproxy_timeouts", _help("pgproxy_timeouts_total"), labels=["database", "kind"]
        )
        timeouts.add_metric(["", CLIENT_LOGIN], int(counters.login_timeouts))
        for database, traffic in counters.databases.items():
            for kind, count in traffic.timeouts.items():
                timeouts.add_metric([database, kind], count)
        return timeouts

    def _queries(self) -> Iterator[Metric]:
        counts: dict[str, CounterMetricFamily] = {}
        for name, labels in (
            ("pgproxy_queries", ["query", "id", "target"]),
            ("pgproxy_query_seconds", ["query", "id"]),
            ("pgproxy_query_timed", ["query", "id"]),
        ):
            counts[name] = CounterMetricFamily(name, _help(f"{name}_total"), labels=labels)
        for one in self._structures.heaviest(self._top_queries):
            known = [shortened(one.text, LABEL_LENGTH), one.id]
            for target, count in (("primary", one.primary), ("replica", one.replica)):
                counts["pgproxy_queries"].add_metric([*known, target], int(count))
            counts["pgproxy_query_seconds"].add_metric(known, one.seconds)
            counts["pgproxy_query_timed"].add_metric(known, int(one.timed))
        yield from counts.values()
        yield _gauge("pgproxy_query_structures", len(self._structures))

    def _passthroughs(self) -> Iterator[Metric]:
        found = Counter(one.backend.name for one in self._replication)
        clients = _labelled_gauge("pgproxy_replication_clients", ["backend"])
        for name in self._cluster.backends:
            clients.add_metric([name], found[name])
        yield clients
        counters = self._counters
        yield _counter("pgproxy_replication_opened_total", counters.replication_total)
        yield _counter("pgproxy_replication_cut_total", counters.replication_cut)

    def _listeners(self) -> Iterator[Metric]:
        listening = self._listening
        connections = _labelled_gauge("pgproxy_listening_connections", ["backend", "database"])
        listeners = _labelled_gauge("pgproxy_listeners", ["database"])
        channels = _labelled_gauge("pgproxy_listened_channels", ["database"])
        databases: dict[str, tuple[int, int]] = {}
        servers: dict[tuple[str, str], int] = {}
        for shared in listening.all():
            name = shared.database
            clients, names = databases.get(name, (0, 0))
            databases[name] = (clients + len(shared.hearers), names + len(shared.audience))
            if shared.server is not None:
                key = (shared.server.backend.name, name)
                servers[key] = servers.get(key, 0) + 1
        for labels, count in servers.items():
            connections.add_metric(list(labels), count)
        for name, (clients, names) in databases.items():
            listeners.add_metric([name], clients)
            channels.add_metric([name], names)
        yield connections
        yield listeners
        yield channels
        yield _counter("pgproxy_listening_lost_total", listening.losses)
        notifications = CounterMetricFamily(
            "pgproxy_notifications", _help("pgproxy_notifications_total"), labels=["direction"]
        )
        notifications.add_metric(["received"], int(listening.notifications))
        notifications.add_metric(["given"], int(listening.delivered))
        yield notifications
        yield _counter("pgproxy_notification_overflows_total", listening.overflows)

    def _departures(self) -> Iterator[Metric]:
        drain = self._drain
        yield _gauge("pgproxy_draining", 1 if drain.draining else 0)
        clients = _labelled_gauge("pgproxy_drain_clients", ["state"])
        for state, count in drain.counts().items():
            clients.add_metric([state], count)
        yield clients
        yield _counter("pgproxy_drain_forced_total", drain.forced)

    def _pools(self) -> Iterator[Metric]:
        servers = _labelled_gauge("pgproxy_servers", ["backend", "database", "user", "state"])
        waiting = _labelled_gauge("pgproxy_waiting", ["backend", "database", "user"])
        seats = _labelled_gauge("pgproxy_waiting_for_seat", ["backend", "database", "user"])
        size = _labelled_gauge("pgproxy_pool_size", ["backend", "database", "user"])
        reserve = _labelled_gauge("pgproxy_pool_reserve_used", ["backend", "database", "user"])
        for pool in self._cluster.pools():
            labels = [pool.backend.name, pool.database, pool.user]
            ledger = pool.ledger
            for state, count in (
                ("idle", len(ledger.idle)),
                ("leased", ledger.leased),
                ("resetting", ledger.resetting),
                ("opening", ledger.opening),
                ("closing", ledger.closing),
            ):
                servers.add_metric([*labels, state], int(count))
            waiting.add_metric(labels, pool.waiting)
            seats.add_metric(labels, pool.waiting_for_seats)
            size.add_metric(labels, int(ledger.whole_size))
            reserve.add_metric(labels, ledger.in_reserve)
        yield servers
        yield waiting
        yield seats
        yield size
        yield reserve
        yield _gauge("pgproxy_homeless", len(self._cluster.homeless))

    def _limits(self) -> Iterator[Metric]:
        context = self._cluster.context
        running = _labelled_gauge("pgproxy_running", [])
        limit = _labelled_gauge("pgproxy_running_limit", [])
        on_backend = _labelled_gauge("pgproxy_backend_running", ["backend"])
        limits = _labelled_gauge("pgproxy_backend_running_limit", ["backend"])
        if context.limiter is not None:  # else nobody counts them
            total = context.limiter.total
            running.add_metric([], int(total.used))
            limit.add_metric([], total.shown)
            for backend in self._cluster.backends.values():
                on_backend.add_metric([backend.name], int(backend.running.used))
                limits.add_metric([backend.name], backend.running.shown)
        yield from (running, limit, on_backend, limits)
        queue = context.queue.limit
        yield _gauge("pgproxy_queue_length", int(queue.used))
        yield _gauge("pgproxy_queue_limit", queue.shown)
        counters = self._counters
        causes = {
            "queue_full": int(counters.queue_refusals),
            "no_connection": int(counters.wait_timeouts - counters.seat_timeouts),
            "no_seat": int(counters.seat_timeouts),
        }
        yield _counters("pgproxy_queue_refusals_total", "cause", causes)

    def _backends(self) -> Iterator[Metric]:
        up = _labelled_gauge("pgproxy_backend_up", ["backend"])
        role = _labelled_gauge("pgproxy_backend_role", ["backend", "role"])
        fenced = _labelled_gauge("pgproxy_backend_fenced", ["backend"])
        lsn = _labelled_gauge("pgproxy_backend_replay_lsn", ["backend"])
        topology = self._cluster.topology
        for node in topology.nodes if topology is not None else ():
            up.add_metric([node.name], 1 if node.alive else 0)
            for name in ("primary", "replica", "none"):
                role.add_metric([node.name, name], 1 if node.role.value == name else 0)
            fenced.add_metric([node.name], 1 if node.is_fenced else 0)
            if node.replay_lsn is not None:
                lsn.add_metric([node.name], node.replay_lsn)
        staleness = _labelled_gauge("pgproxy_backend_staleness_seconds", ["backend"])
        now = time.monotonic()
        for backend in self._cluster.replicas:
            fresh = backend.fresh_as_of
            staleness.add_metric([backend.name], now - fresh if fresh > UNKNOWN else float("inf"))
        load = _labelled_gauge("pgproxy_backend_load", ["backend"])
        weight = _labelled_gauge("pgproxy_backend_weight", ["backend"])
        share = _labelled_gauge("pgproxy_backend_share", ["backend"])
        latency = _labelled_gauge("pgproxy_backend_latency_seconds", ["backend"])
        slowdown = _labelled_gauge("pgproxy_backend_slowdown", ["backend"])
        leases = CounterMetricFamily(
            "pgproxy_leases", _help("pgproxy_leases_total"), labels=["backend"]
        )
        for backend in self._cluster.backends.values():
            load.add_metric([backend.name], int(backend.load))
            weight.add_metric([backend.name], backend.weight)
            share.add_metric([backend.name], backend.share)
            if backend.latency > 0:
                latency.add_metric([backend.name], backend.latency)
            if backend.adaptive is not None:
                slowdown.add_metric([backend.name], backend.adaptive.slowdown)
            leases.add_metric([backend.name], int(backend.leases))
        yield up
        yield role
        yield fenced
        yield lsn
        yield staleness
        yield load
        yield weight
        yield share
        yield latency
        yield slowdown
        yield leases

    def _budgets(self) -> Iterator[Metric]:
        used = _labelled_gauge("pgproxy_backend_connections", ["backend"])
        caps = _labelled_gauge("pgproxy_backend_max_connections", ["backend"])
        hungry = _labelled_gauge("pgproxy_backend_hungry_pools", ["backend"])
        evictions = CounterMetricFamily(
            "pgproxy_evictions", _help("pgproxy_evictions_total"), labels=["backend"]
        )
        for backend in self._cluster.backends.values():
            budget = backend.budget
            used.add_metric([backend.name], int(budget.connections.limit.used))
            if budget.cap:
                caps.add_metric([backend.name], budget.cap)
            hungry.add_metric([backend.name], len(budget.hungry))
            evictions.add_metric([backend.name], int(budget.evictions))
        yield from (used, caps, hungry, evictions)

    def _statements(self) -> Iterator[Metric]:
        counters = self._counters
        statements = CounterMetricFamily(
            "pgproxy_statements", _help("pgproxy_statements_total"), labels=["target", "reason"]
        )
        for code, reason in enumerate(REASONS):
            for target, name in TARGETS.items():
                count = counters.routed[code * 2 + target]
                if count:
                    statements.add_metric([name, reason.value], count)
        yield statements
        errors = CounterMetricFamily(
            "pgproxy_errors", _help("pgproxy_errors_total"), labels=["source"]
        )
        errors.add_metric(["server"], int(counters.server_errors))
        errors.add_metric(["proxy"], int(counters.proxy_errors))
        yield errors
        yield _counters("pgproxy_pins_total", "reason", counters.pins)
        lookups = CounterMetricFamily(
            "pgproxy_router_lookups", _help("pgproxy_router_lookups_total"), labels=["result"]
        )
        lookups.add_metric(["exact"], int(self._decisions.hits))
        lookups.add_metric(["key"], int(self._decisions.key_hits))
        lookups.add_metric(["parsed"], int(self._decisions.misses))
        yield lookups


def _discovery(discovery: Discovery) -> Iterator[Metric]:
    yield _gauge("pgproxy_topology_age_seconds", discovery.age())
    backends = _labelled_gauge("pgproxy_discovered_backends", ["role"])
    for role in ("auto", "primary", "replica", "none"):
        count = sum([backend.role == role for backend in discovery.backends])
        backends.add_metric([role], count)
    yield backends
    for name, counts in discovery.counts().items():
        family = CounterMetricFamily(name.removesuffix("_total"), _help(name), labels=_labels(name))
        for values, count in counts:
            family.add_metric(list(values), count)
        yield family


def peer_families(peers: Proxies) -> Iterator[Metric]:
    """What is known of the other proxies."""
    states = _labelled_gauge("pgproxy_peers", ["state"])
    for state, count in peers.states().items():
        states.add_metric([state], count)
    shares = _labelled_gauge("pgproxy_backend_connections_share", ["backend"])
    for backend, share in peers.shares.items():
        shares.add_metric([backend], share)
    yield from (states, shares)
    yield _counters("pgproxy_peer_cancels_total", "result", peers.cancels)


def own_families(*, workers: int, restarts: int, clients: Mapping[int, int]) -> Iterator[Metric]:
    """What a supervisor of several workers knows; `clients` by their numbers."""
    yield _gauge("pgproxy_workers", workers)
    yield _counter("pgproxy_worker_restarts_total", restarts)
    each = _labelled_gauge("pgproxy_worker_clients", ["worker"])
    for number, count in clients.items():
        each.add_metric([str(number)], count)
    yield each


def make_registry(collector: ProxyCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _help(name: str) -> str:
    for row in CATALOGUE:
        if row[0] == name:
            return row[3]
    raise KeyError(name)


def _labels(name: str) -> list[str]:
    for row in CATALOGUE:
        if row[0] == name:
            return row[2].split(", ")
    raise KeyError(name)


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, _help(name), value=value)


def _labelled_gauge(name: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, _help(name), labels=labels)


def _counter(name: str, value: i64) -> Metric:
    return CounterMetricFamily(name.removesuffix("_total"), _help(name), value=int(value))


def _counters(name: str, label: str, counts: Mapping[str, int]) -> Metric:
    found = CounterMetricFamily(name.removesuffix("_total"), _help(name), labels=[label])
    for value, count in counts.items():
        found.add_metric([value], count)
    return found


def _histogram(name: str, histogram: Histogram) -> Metric:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, _help(name), buckets=buckets, sum_value=histogram.total)


def _databases(catalogues: Catalogues) -> Iterator[Metric]:
    loads = CounterMetricFamily(
        "pgproxy_catalogue_loads", _help("pgproxy_catalogue_loads_total"), labels=["result"]
    )
    for result in RESULTS:
        loads.add_metric([result], catalogues.results[result])
    seconds = _labelled_gauge("pgproxy_catalogue_load_seconds", ["database"])
    age = _labelled_gauge("pgproxy_catalogue_age_seconds", ["database"])
    functions = _labelled_gauge("pgproxy_catalogue_functions", ["database"])
    for database, watched in catalogues.databases.items():
        if watched.catalogue is not None:
            seconds.add_metric([database], watched.seconds)
            age.add_metric([database], watched.age())
            functions.add_metric([database], watched.functions)
    yield from (loads, seconds, age, functions)
