"""The metrics of servers: pools, limits, backends, what names them and what is known of databases."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import Metric

from pgproxy.servers.backend import Backend
from pgproxy.servers.catalogues import RESULTS, Catalogues
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.listening import Listening
from pgproxy.telemetry.catalogue import (
    counter,
    counters,
    gauge,
    labelled_counter,
    labelled_gauge,
    labels_of,
)
from pgproxy.telemetry.counters import Counters
from pgproxy.topology.freshness import UNKNOWN


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


def pool_families(cluster: Cluster) -> Iterator[Metric]:
    """Connections and waiters of each pool."""
    servers = labelled_gauge("pgproxy_servers", ["backend", "database", "user", "state"])
    waiting = labelled_gauge("pgproxy_waiting", ["backend", "database", "user"])
    seats = labelled_gauge("pgproxy_waiting_for_seat", ["backend", "database", "user"])
    size = labelled_gauge("pgproxy_pool_size", ["backend", "database", "user"])
    reserve = labelled_gauge("pgproxy_pool_reserve_used", ["backend", "database", "user"])
    for pool in cluster.pools():
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
    yield gauge("pgproxy_homeless", len(cluster.homeless))


def limit_families(cluster: Cluster, counted: Counters) -> Iterator[Metric]:
    """Who is in flight, who waits for it, and who was refused."""
    context = cluster.context
    running = labelled_gauge("pgproxy_running", [])
    limit = labelled_gauge("pgproxy_running_limit", [])
    on_backend = labelled_gauge("pgproxy_backend_running", ["backend"])
    limits = labelled_gauge("pgproxy_backend_running_limit", ["backend"])
    if context.limiter is not None:  # else nobody counts them
        total = context.limiter.total
        running.add_metric([], int(total.used))
        limit.add_metric([], total.shown)
        for backend in cluster.backends.values():
            on_backend.add_metric([backend.name], int(backend.running.used))
            limits.add_metric([backend.name], backend.running.shown)
    yield from (running, limit, on_backend, limits)
    queue = context.queue.limit
    yield gauge("pgproxy_queue_length", int(queue.used))
    yield gauge("pgproxy_queue_limit", queue.shown)
    causes = {
        "queue_full": int(counted.queue_refusals),
        "no_connection": int(counted.wait_timeouts - counted.seat_timeouts),
        "no_seat": int(counted.seat_timeouts),
    }
    yield counters("pgproxy_queue_refusals_total", "cause", causes)


def backend_families(cluster: Cluster) -> Iterator[Metric]:
    """What is known of each server, and how much it gets to do."""
    up = labelled_gauge("pgproxy_backend_up", ["backend"])
    role = labelled_gauge("pgproxy_backend_role", ["backend", "role"])
    fenced = labelled_gauge("pgproxy_backend_fenced", ["backend"])
    lsn = labelled_gauge("pgproxy_backend_replay_lsn", ["backend"])
    topology = cluster.topology
    for node in topology.nodes if topology is not None else ():
        up.add_metric([node.name], 1 if node.alive else 0)
        for name in ("primary", "replica", "none"):
            role.add_metric([node.name, name], 1 if node.role.value == name else 0)
        fenced.add_metric([node.name], 1 if node.is_fenced else 0)
        if node.replay_lsn is not None:
            lsn.add_metric([node.name], node.replay_lsn)
    staleness = labelled_gauge("pgproxy_backend_staleness_seconds", ["backend"])
    now = time.monotonic()
    for backend in cluster.replicas:
        fresh = backend.fresh_as_of
        staleness.add_metric([backend.name], now - fresh if fresh > UNKNOWN else float("inf"))
    load = labelled_gauge("pgproxy_backend_load", ["backend"])
    weight = labelled_gauge("pgproxy_backend_weight", ["backend"])
    share = labelled_gauge("pgproxy_backend_share", ["backend"])
    latency = labelled_gauge("pgproxy_backend_latency_seconds", ["backend"])
    slowdown = labelled_gauge("pgproxy_backend_slowdown", ["backend"])
    leases = labelled_counter("pgproxy_leases_total", ["backend"])
    for backend in cluster.backends.values():
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


def budget_families(cluster: Cluster) -> Iterator[Metric]:
    """Connections of all pools to each server, under a shared cap."""
    used = labelled_gauge("pgproxy_backend_connections", ["backend"])
    caps = labelled_gauge("pgproxy_backend_max_connections", ["backend"])
    hungry = labelled_gauge("pgproxy_backend_hungry_pools", ["backend"])
    evictions = labelled_counter("pgproxy_evictions_total", ["backend"])
    for backend in cluster.backends.values():
        budget = backend.budget
        used.add_metric([backend.name], int(budget.connections.limit.used))
        if budget.cap:
            caps.add_metric([backend.name], budget.cap)
        hungry.add_metric([backend.name], len(budget.hungry))
        evictions.add_metric([backend.name], int(budget.evictions))
    yield from (used, caps, hungry, evictions)


def listening_families(listening: Listening) -> Iterator[Metric]:
    """Who listens, and what was heard."""
    connections = labelled_gauge("pgproxy_listening_connections", ["backend", "database"])
    listeners = labelled_gauge("pgproxy_listeners", ["database"])
    channels = labelled_gauge("pgproxy_listened_channels", ["database"])
    databases: dict[str, tuple[int, int]] = {}
    servers: dict[tuple[str, str], int] = {}
    for shared in listening.all():
        name = shared.database
        clients, names = databases.get(name, (0, 0))
        audience = shared.audience
        databases[name] = (clients + len(audience.hearers), names + len(audience.channels))
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
    yield counter("pgproxy_listening_lost_total", listening.losses)
    notifications = labelled_counter("pgproxy_notifications_total", ["direction"])
    notifications.add_metric(["received"], int(listening.notifications))
    notifications.add_metric(["given"], int(listening.delivered))
    yield notifications
    yield counter("pgproxy_notification_overflows_total", listening.overflows)


def replication_families(
    cluster: Cluster, replication: Collection[Carried], counted: Counters
) -> Iterator[Metric]:
    """Replication connections passed through."""
    found = Counter(one.backend.name for one in replication)
    clients = labelled_gauge("pgproxy_replication_clients", ["backend"])
    for name in cluster.backends:
        clients.add_metric([name], found[name])
    yield clients
    yield counter("pgproxy_replication_opened_total", counted.replication_total)
    yield counter("pgproxy_replication_cut_total", counted.replication_cut)


def discovery_families(discovery: Discovery) -> Iterator[Metric]:
    """What names the servers."""
    yield gauge("pgproxy_topology_age_seconds", discovery.age())
    backends = labelled_gauge("pgproxy_discovered_backends", ["role"])
    for role in ("auto", "primary", "replica", "none"):
        count = sum([backend.role == role for backend in discovery.backends])
        backends.add_metric([role], count)
    yield backends
    for name, counts in discovery.counts().items():
        family = labelled_counter(name, labels_of(name))
        for values, count in counts:
            family.add_metric(list(values), count)
        yield family


def database_families(catalogues: Catalogues) -> Iterator[Metric]:
    """The catalogue of each database."""
    loads = labelled_counter("pgproxy_catalogue_loads_total", ["result"])
    for result in RESULTS:
        loads.add_metric([result], catalogues.results[result])
    seconds = labelled_gauge("pgproxy_catalogue_load_seconds", ["database"])
    age = labelled_gauge("pgproxy_catalogue_age_seconds", ["database"])
    functions = labelled_gauge("pgproxy_catalogue_functions", ["database"])
    for database, watched in catalogues.databases.items():
        if watched.catalogue is not None:
            seconds.add_metric([database], watched.seconds)
            age.add_metric([database], watched.age())
            functions.add_metric([database], watched.functions)
    yield from (loads, seconds, age, functions)
