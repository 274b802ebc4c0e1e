"""The columns, as dashboards and exporters of PgBouncer and Pgpool-II expect them.

The lists are those of PgBouncer's sources (src/admin.c, src/stats.c), in their order.
"""

import pytest

from pgproxy.frames.table import INT4, INT8, NUMERIC, TEXT
from pgproxy.routing.decision import OWN_TABLES
from pgproxy.telemetry.columns import COLUMNS, OWN, PGPOOL

SOCKET = (
    "type user database replication state addr port local_addr local_port connect_time"
    " request_time wait wait_us close_needed ptr link remote_pid tls application_name"
    " prepared_statements id"
)
DEBUG = " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail"
PGBOUNCER = {
    "clients": SOCKET,
    "servers": SOCKET,
    "sockets": SOCKET + DEBUG,
    "active_sockets": SOCKET + DEBUG,
    "pools": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req"
    " sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait"
    " maxwait_us pool_mode load_balance_hosts",
    "peer_pools": "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
    "databases": "name host port database force_user pool_size min_pool_size reserve_pool_size"
    " server_lifetime pool_mode load_balance_hosts max_connections current_connections"
    " max_client_connections current_client_connections paused disabled",
    "users": "name pool_size reserve_pool_size pool_mode max_user_connections current_connections"
    " max_user_client_connections current_client_connections",
    "stats": "database total_server_assignment_count total_xact_count total_query_count"
    " total_received total_sent total_xact_time total_query_time total_wait_time"
    " total_client_parse_count total_server_parse_count total_bind_count"
    " total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv"
    " avg_sent avg_xact_time avg_query_time avg_wait_time avg_client_parse_count"
    " avg_server_parse_count avg_bind_count avg_client_login_count",
    "stats_totals": "database server_assignment_count xact_count query_count bytes_received"
    " bytes_sent xact_time query_time wait_time client_parse_count server_parse_count bind_count"
    " client_login_count",
    "stats_averages": "database server_assignment_count xact_count query_count bytes_received"
    " bytes_sent xact_time query_time wait_time avg_client_parse_count avg_server_parse_count"
    " avg_bind_count avg_client_login_count",
    "totals": "name value",
    "lists": "list items",
    "config": "key value default changeable",
    "mem": "name size used free memtotal",
    "state": "key value",
    "version": "version",
    "peers": "peer_id host port pool_size",
    "dns_hosts": "hostname ttl addrs",
    "dns_zones": "zonename serial count",
}
OURS = {
    "clients": ["pin", "backend", "wait_reason"],
    "servers": ["backend"],
    "peers": ["name", "state"],
}


@pytest.mark.parametrize("table", PGBOUNCER)
def test_pgbouncers_columns_come_first_and_in_its_order(table: str) -> None:
    assert COLUMNS[table].names == [*PGBOUNCER[table].split(), *OURS.get(table, [])]


def test_there_is_no_other_table() -> None:
    assert set(COLUMNS) == set(PGBOUNCER) | set(PGPOOL) | set(OWN)


def test_pgpools_tables_are_those_that_any_database_answers() -> None:
    assert set(PGPOOL) == set(OWN_TABLES)


@pytest.mark.parametrize("table", PGPOOL)
def test_pgpools_columns_are_texts(table: str) -> None:
    # Whoever asks for binary gets the same bytes: what answers there knows no other type.
    assert set(COLUMNS[table].types) == {TEXT}


@pytest.mark.parametrize(
    ("table", "column", "oid"),
    [
        ("clients", "port", INT4),
        ("clients", "wait", INT4),
        ("clients", "connect_time", TEXT),
        ("clients", "id", INT8),
        ("pools", "maxwait", INT4),
        ("pools", "pool_mode", TEXT),
        ("stats", "total_xact_count", NUMERIC),
        ("stats_totals", "query_time", NUMERIC),
        ("totals", "value", NUMERIC),
        ("users", "pool_size", TEXT),
        ("users", "current_connections", INT4),
        ("databases", "paused", INT4),
        ("dns_zones", "serial", INT8),
        ("dns_zones", "count", INT4),
    ],
)
def test_types_are_pgbouncers(table: str, column: str, oid: int) -> None:
    columns = COLUMNS[table]
    assert columns.types[columns.names.index(column)] == oid
