"""Rules of the configuration with real servers: which one runs what, and why."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess, started_proxies

pytestmark = pytest.mark.once  # nothing of the hot path that others do not test

RULES = [
    {"statement": "eine Lüge", "route": "replica"},
    {"statement": "always_primary|tenant = '42'", "route": "primary"},
    {"application_name": "picky", "statement": "picked", "route": "primary"},
    {"application_name": "report.*", "route": "replica"},
    {"application_name": "careful", "route": "primary"},
    {"statement": "too late", "route": "replica"},
]


@pytest.fixture(scope="module")
def ruled(cluster: Cluster) -> Iterator[ProxyProcess]:
    with started_proxies() as start:
        # What a rule sends to the primary may be a write, which the next read would have to see.
        off = {"read_your_writes": "off"}
        yield start(cluster.servers, routing={"rules": RULES}, consistency=off)


def connect(proxy: ProxyProcess, name: str = "", **more: Any) -> psycopg.Connection:
    return psycopg.connect(proxy.dsn(), autocommit=True, application_name=name, **more)


def route(connection: psycopg.Connection, sql: str) -> tuple[str, str, str]:
    """Where a statement went by what the proxy says: target, reason, detail."""
    connection.execute(sql)
    row = connection.execute("SHOW pgproxy.last_route").fetchone()
    assert row is not None
    return row[0], row[1], row[3]


def runs_on_replica(connection: psycopg.Connection, mark: str = "") -> bool:
    """Where it went by what the server says."""
    row = connection.execute(f"SELECT pg_is_in_recovery() /* {mark} */").fetchone()
    assert row is not None
    return bool(row[0])


def test_rules_for_texts(ruled: ProxyProcess) -> None:
    with connect(ruled) as connection:
        assert route(connection, "SELECT 1")[:2] == ("replica", "read")
        assert route(connection, "SELECT 1 AS always_primary") == (
            "primary",
            "rule",
            "rule 2: statement \"always_primary|tenant = '42'\"",
        )
        for tenant, target in (("41", "replica"), ("42", "primary"), ("43", "replica")):
            sql = f"SELECT 1 FROM (SELECT '{tenant}' AS tenant) t WHERE tenant = '{tenant}'"
            assert route(connection, sql)[0] == target
        connection.execute("CREATE TABLE IF NOT EXISTS ruled (n int)")
        assert route(connection, "INSERT INTO ruled VALUES (1) -- eine Lüge")[:2] == (
            "primary",
            "write",
        )
        connection.execute("DROP TABLE ruled")


def test_rules_for_sessions_are_as_set_would_be(ruled: ProxyProcess) -> None:
    with connect(ruled, "careful") as connection:
        assert not runs_on_replica(connection)
        assert route(connection, "SELECT 1") == (
            "primary",
            "rule",
            'rule 5: application_name "careful"',
        )
        row = connection.execute("SHOW pgproxy.route").fetchone()
        assert row == ("primary",)
        connection.execute("SET pgproxy.route = 'replica'")
        assert runs_on_replica(connection)
        assert route(connection, "SELECT random()")[0] == "replica"
        connection.execute("RESET pgproxy.route")
        assert not runs_on_replica(connection)
    with connect(ruled, "careful", options="-c pgproxy.route=auto") as connection:
        assert route(connection, "SELECT 1")[0] == "replica"


def test_a_rule_before_the_sessions_own_decides(ruled: ProxyProcess) -> None:
    with connect(ruled, "careful") as connection:
        assert runs_on_replica(connection, "eine Lüge")
        assert not runs_on_replica(connection, "too late")
    with connect(ruled, "report 1") as connection:
        assert route(connection, "SELECT pg_advisory_unlock(1)")[0] == "primary"
        assert runs_on_replica(connection, "x")
        assert not runs_on_replica(connection, "always_primary")


def test_a_change_of_the_application_name_is_heeded(ruled: ProxyProcess) -> None:
    with connect(ruled) as connection:
        connection.prepare_threshold = 0
        # Whether the server takes writes is for the primary to say, unless somebody knows better.
        sql = "SELECT %s::bool OR current_setting('transaction_read_only')::bool"

        def is_replica() -> bool:
            row = connection.execute(sql, (False,)).fetchone()
            assert row is not None
            return bool(row[0])

        assert not is_replica()
        connection.execute("SET application_name = 'report 7'")
        assert is_replica()
        connection.execute("SET application_name = 'careful'")
        assert not is_replica()
        with connection.transaction():
            connection.execute("SET LOCAL application_name = 'report 8'")
            row = connection.execute("SHOW pgproxy.route").fetchone()
            assert row == ("replica",)
        row = connection.execute("SHOW pgproxy.route").fetchone()
        assert row == ("primary",)
        connection.execute("RESET application_name")
        row = connection.execute("SHOW pgproxy.route").fetchone()
        assert row == ("auto",)


def test_no_rule_sends_a_write_to_a_replica(ruled: ProxyProcess) -> None:
    with connect(ruled, "report") as connection:
        assert route(connection, "CREATE TABLE ruled_report (n int)")[0] == "primary"
        assert route(connection, "INSERT INTO ruled_report VALUES (1)")[0] == "primary"
        assert route(connection, "CREATE TEMP TABLE mine (n int)")[0] == "primary"
        assert route(connection, "SELECT * FROM mine")[0] == "primary"
        connection.execute("DROP TABLE ruled_report, mine")


def test_sessions_of_other_rules_share_no_prepared_decision(ruled: ProxyProcess) -> None:
    sql = "SELECT pg_is_in_recovery(), %s::text AS picked"
    with connect(ruled) as plain, connect(ruled, "picky") as picky:
        for connection, on_replica in ((plain, True), (picky, False), (plain, True)) * 2:
            connection.prepare_threshold = 0
            row = connection.execute(sql, ("x",)).fetchone()
            assert row is not None
            assert row[0] is on_replica
