"""The catalogue of metrics, and how the families of one of them are made.

`CATALOGUE` is the whole list: name, kind, labels, meaning. Label values are bounded: backends,
databases, users and reasons; of what clients make up, the few structures of statements that are
heaviest.
"""

from collections.abc import Mapping
from typing import Final

from mypy_extensions import i64
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from pgproxy.telemetry.counters import BUCKETS, Histogram

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


def help_of(name: str) -> str:
    """What it means. Raises KeyError."""
    return _row(name)[3]


def labels_of(name: str) -> list[str]:
    """Those of one that has some. Raises KeyError."""
    return _row(name)[2].split(", ")


def gauge(name: str, value: float) -> Metric:
    """One without labels."""
    return GaugeMetricFamily(name, help_of(name), value=value)


def labelled_gauge(name: str, labels: list[str]) -> GaugeMetricFamily:
    """One to be filled."""
    return GaugeMetricFamily(name, help_of(name), labels=labels)


def counter(name: str, value: i64) -> Metric:
    """One without labels."""
    return CounterMetricFamily(name.removesuffix("_total"), help_of(name), value=int(value))


def labelled_counter(name: str, labels: list[str]) -> CounterMetricFamily:
    """One to be filled."""
    return CounterMetricFamily(name.removesuffix("_total"), help_of(name), labels=labels)


def counters(name: str, label: str, counts: Mapping[str, int]) -> Metric:
    """One with the counts of each value of a label."""
    found = labelled_counter(name, [label])
    for value, count in counts.items():
        found.add_metric([value], count)
    return found


def histogram(name: str, counted: Histogram) -> Metric:
    """One without labels."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], counted.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, help_of(name), buckets=buckets, sum_value=counted.total)


def _row(name: str) -> tuple[str, str, str, str]:
    for row in CATALOGUE:
        if row[0] == name:
            return row
    raise KeyError(name)
