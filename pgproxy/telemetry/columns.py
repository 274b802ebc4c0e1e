"""PURE. The columns of everything that SHOW tells in the admin console.

Names, order and types are PgBouncer's (1.25) and Pgpool-II's (4.7), whose dashboards and exporters
read them; columns of our own come after theirs.
"""

from typing import Final

from pgproxy.frames.table import INT4, INT8, NUMERIC, TEXT, Columns
from pgproxy.telemetry.averages import COUNTS


def _columns(names: str, type: int = TEXT) -> list[tuple[str, int]]:
    return [(name, type) for name in names.split()]


_SOCKET: Final = [
    *_columns("type user database replication state addr"),
    ("port", INT4),
    ("local_addr", TEXT),
    ("local_port", INT4),
    *_columns("connect_time request_time"),
    *_columns("wait wait_us close_needed", INT4),
    *_columns("ptr link"),
    ("remote_pid", INT4),
    *_columns("tls application_name"),
    ("prepared_statements", INT4),
    ("id", INT8),
]
_SOCKETS: Final = Columns(
    [
        *_SOCKET,
        *_columns("recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail", INT4),
    ]
)

# What PgBouncer calls a number in SHOW STATS where its own name for it is another.
_IN_STATS: Final = {"total_client_bytes": "total_received", "total_server_bytes": "total_sent"} | {
    "avg_client_bytes": "avg_recv",
    "avg_server_bytes": "avg_sent",
}
_IN_TOTALS: Final = {"client_bytes": "bytes_received", "server_bytes": "bytes_sent"}
# Those that SHOW STATS_AVERAGES does not leave without their prefix.
_PREFIXED: Final = COUNTS[-4:]


def _stats() -> Columns:
    names = [f"{kind}_{count}" for kind in ("total", "avg") for count in COUNTS]
    numbers = [(_IN_STATS.get(name, name), NUMERIC) for name in names]
    return Columns([("database", TEXT), *numbers])


def _stats_of_one_kind(prefix: str) -> Columns:
    names = [prefix + name if name in _PREFIXED else _IN_TOTALS.get(name, name) for name in COUNTS]
    return Columns([("database", TEXT), *[(name, NUMERIC) for name in names]])


PGBOUNCER: Final = {
    "clients": Columns([*_SOCKET, *_columns("pin backend wait_reason")]),
    "servers": Columns([*_SOCKET, ("backend", TEXT)]),
    "sockets": _SOCKETS,
    "active_sockets": _SOCKETS,
    "pools": Columns(
        [
            *_columns("database user"),
            *_columns(
                "cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active"
                " sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait"
                " maxwait_us",
                INT4,
            ),
            *_columns("pool_mode load_balance_hosts"),
        ]
    ),
    "peer_pools": Columns(
        _columns(
            "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login", INT4
        )
    ),
    "databases": Columns(
        [
            *_columns("name host"),
            ("port", INT4),
            *_columns("database force_user"),
            *_columns("pool_size min_pool_size reserve_pool_size server_lifetime", INT4),
            *_columns("pool_mode load_balance_hosts"),
            *_columns(
                "max_connections current_connections max_client_connections"
                " current_client_connections paused disabled",
                INT4,
            ),
        ]
    ),
    "users": Columns(
        [
            *_columns("name pool_size reserve_pool_size pool_mode"),
            *_columns(
                "max_user_connections current_connections max_user_client_connections"
                " current_client_connections",
                INT4,
            ),
        ]
    ),
    "stats": _stats(),
    "stats_totals": _stats_of_one_kind(""),
    "stats_averages": _stats_of_one_kind("avg_"),
    "totals": Columns([("name", TEXT), ("value", NUMERIC)]),
    "lists": Columns([("list", TEXT), ("items", INT4)]),
    "config": Columns(_columns("key value default changeable")),
    "mem": Columns([("name", TEXT), *_columns("size used free memtotal", INT4)]),
    "state": Columns(_columns("key value")),
    "version": Columns(_columns("version")),
    "peers": Columns(
        [
            *[("peer_id", INT4), ("host", TEXT)],
            *_columns("port pool_size", INT4),
            *_columns("name state"),
        ]
    ),
    "dns_hosts": Columns([("hostname", TEXT), ("ttl", INT8), ("addrs", TEXT)]),
    "dns_zones": Columns([("zonename", TEXT), ("serial", INT8), ("count", INT4)]),
}

# Only here.
OWN: Final = {
    "queries": Columns(
        [
            *_columns("id query"),
            *_columns("calls primary replica timed_calls total_time avg_time", INT8),
            ("reason", TEXT),
        ]
    ),
    "reasons": Columns([("reason", TEXT), *_columns("primary replica", INT8), ("meaning", TEXT)]),
}

# Answered on any database, and there by the names that the grammar makes small.
PGPOOL: Final = {
    "pool_nodes": Columns(
        _columns(
            "node_id hostname port status pg_status lb_weight role pg_role select_cnt"
            " load_balance_node replication_delay replication_state replication_sync_state"
            " last_status_change"
        )
    ),
    "pool_processes": Columns(
        _columns(
            "pool_pid start_time client_connection_count database username"
            " backend_connection_time pool_counter status"
        )
    ),
    "pool_pools": Columns(
        _columns(
            "pool_pid start_time client_connection_count pool_id backend_id database username"
            " backend_connection_time client_connection_time client_disconnection_time"
            " client_idle_duration majorversion minorversion pool_counter pool_backendpid"
            " pool_connected status load_balance_node client_host client_port statement"
        )
    ),
    "pool_backend_stats": Columns(
        _columns(
            "node_id hostname port status role select_cnt insert_cnt update_cnt delete_cnt"
            " ddl_cnt other_cnt panic_cnt fatal_cnt error_cnt"
        )
    ),
    "pool_version": Columns(_columns("pool_version")),
}

COLUMNS: Final = PGBOUNCER | OWN | PGPOOL
