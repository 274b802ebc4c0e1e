"""What is scraped: everything is read when somebody does, nothing is counted here (catalogue.py)."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pgproxy.relay.deadlines import CLIENT_LOGIN
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.reasons import REASONS
from pgproxy.routing.router import Memory
from pgproxy.routing.structures import Structures, shortened
from pgproxy.servers.catalogues import Catalogues
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.listening import Listening
from pgproxy.telemetry.catalogue import (
    counter,
    counters,
    gauge,
    help_of,
    histogram,
    labelled_counter,
    labelled_gauge,
)
from pgproxy.telemetry.counters import ENDS, Counters
from pgproxy.telemetry.server_metrics import (
    Carried,
    Discovery,
    backend_families,
    budget_families,
    database_families,
    discovery_families,
    limit_families,
    listening_families,
    pool_families,
    replication_families,
)

# Characters of a statement's structure in a label.
LABEL_LENGTH: Final = 80

TARGETS: Final = {PRIMARY: "primary", REPLICA: "replica"}


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
        counted = self._counters
        yield InfoMetricFamily(
            "pgproxy_build",
            help_of("pgproxy_build"),
            {"version": self._version, "mode": self._mode},
        )
        yield gauge("pgproxy_clients", len(self._clients))
        yield counter("pgproxy_clients_logged_in_total", counted.clients_total)
        yield counters("pgproxy_clients_refused_total", "cap", counted.clients_refused)
        yield counter("pgproxy_client_logins_failed_total", counted.logins_failed)
        yield from pool_families(self._cluster)
        yield from limit_families(self._cluster, counted)
        yield from backend_families(self._cluster)
        yield from budget_families(self._cluster)
        yield from self._statements()
        yield histogram("pgproxy_transactions_seconds", counted.transactions)
        yield histogram("pgproxy_wait_seconds", counted.waits)
        yield counter("pgproxy_wait_timeouts_total", counted.wait_timeouts)
        yield self._timeouts()
        yield histogram("pgproxy_failover_wait_seconds", counted.failover_waits)
        yield counter("pgproxy_failover_timeouts_total", counted.failover_timeouts)
        yield histogram("pgproxy_fresh_wait_seconds", counted.fresh_waits.seconds)
        waits = labelled_counter("pgproxy_fresh_waits_total", ["end"])
        for end, count in zip(ENDS, counted.fresh_waits.ends, strict=True):
            waits.add_metric([end], count)
        yield waits
        yield counter("pgproxy_moved_transactions_total", counted.moved_transactions)
        yield counter("pgproxy_reruns_total", counted.reruns)
        yield counter("pgproxy_reruns_failed_total", counted.reruns_failed)
        yield counters("pgproxy_replica_retries_total", "cause", counted.replica_retries)
        yield from listening_families(self._listening)
        yield counter("pgproxy_plans_remade_total", counted.healed)
        yield counter("pgproxy_servers_opened_total", counted.servers_opened)
        yield counter("pgproxy_servers_lost_total", counted.servers_lost)
        yield counter("pgproxy_servers_cut_total", counted.servers_cut)
        yield counter("pgproxy_server_logins_failed_total", counted.server_logins_failed)
        yield counter("pgproxy_cancels_total", counted.cancels)
        yield from replication_families(self._cluster, self._replication, counted)
        yield gauge("pgproxy_prepared_statements", len(self._prepared))
        if self._discovery is not None:
            yield from discovery_families(self._discovery)
        if self._catalogues is not None:
            yield from database_families(self._catalogues)
        yield from self._queries()
        if self._peers is not None:
            yield from peer_families(self._peers)
        yield from self._departures()

    def _timeouts(self) -> Metric:
        counted = self._counters
        timeouts = labelled_counter("pgproxy_timeouts_total", ["database", "kind"])
        timeouts.add_metric(["", CLIENT_LOGIN], int(counted.login_timeouts))
        for database, traffic in counted.databases.items():
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
            counts[name] = labelled_counter(f"{name}_total", labels)
        for one in self._structures.heaviest(self._top_queries):
            known = [shortened(one.text, LABEL_LENGTH), one.id]
            for target, count in (("primary", one.primary), ("replica", one.replica)):
                counts["pgproxy_queries"].add_metric([*known, target], int(count))
            counts["pgproxy_query_seconds"].add_metric(known, one.seconds)
            counts["pgproxy_query_timed"].add_metric(known, int(one.timed))
        yield from counts.values()
        yield gauge("pgproxy_query_structures", len(self._structures))

    def _departures(self) -> Iterator[Metric]:
        drain = self._drain
        yield gauge("pgproxy_draining", 1 if drain.draining else 0)
        clients = labelled_gauge("pgproxy_drain_clients", ["state"])
        for state, count in drain.counts().items():
            clients.add_metric([state], count)
        yield clients
        yield counter("pgproxy_drain_forced_total", drain.forced)

    def _statements(self) -> Iterator[Metric]:
        counted = self._counters
        statements = labelled_counter("pgproxy_statements_total", ["target", "reason"])
        for code, reason in enumerate(REASONS):
            for target, name in TARGETS.items():
                count = counted.routed[code * 2 + target]
                if count:
                    statements.add_metric([name, reason.value], count)
        yield statements
        errors = labelled_counter("pgproxy_errors_total", ["source"])
        errors.add_metric(["server"], int(counted.server_errors))
        errors.add_metric(["proxy"], int(counted.proxy_errors))
        yield errors
        yield counters("pgproxy_pins_total", "reason", counted.pins)
        lookups = labelled_counter("pgproxy_router_lookups_total", ["result"])
        lookups.add_metric(["exact"], int(self._decisions.hits))
        lookups.add_metric(["key"], int(self._decisions.key_hits))
        lookups.add_metric(["parsed"], int(self._decisions.misses))
        yield lookups


def peer_families(peers: Proxies) -> Iterator[Metric]:
    """What is known of the other proxies."""
    states = labelled_gauge("pgproxy_peers", ["state"])
    for state, count in peers.states().items():
        states.add_metric([state], count)
    shares = labelled_gauge("pgproxy_backend_connections_share", ["backend"])
    for backend, share in peers.shares.items():
        shares.add_metric([backend], share)
    yield from (states, shares)
    yield counters("pgproxy_peer_cancels_total", "result", peers.cancels)


def own_families(*, workers: int, restarts: int, clients: Mapping[int, int]) -> Iterator[Metric]:
    """What a supervisor of several workers knows; `clients` by their numbers."""
    yield gauge("pgproxy_workers", workers)
    yield counter("pgproxy_worker_restarts_total", restarts)
    each = labelled_gauge("pgproxy_worker_clients", ["worker"])
    for number, count in clients.items():
        each.add_metric([str(number)], count)
    yield each


def make_registry(collector: ProxyCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
