"""The structures of statements that are counted: in the console, in metrics and in /status."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import dict_row

from pgproxy.embedded import Cluster
from pgproxy.routing.reasons import SENTENCES
from tests.support.proxy import ProxyProcess, started_proxies

pytestmark = pytest.mark.once  # nothing of the hot path that others do not test

SECRET = "hunter2-7654321"


@pytest.fixture
def fresh(cluster: Cluster) -> Iterator[ProxyProcess]:
    """A proxy that has counted nothing, with few series."""
    with started_proxies() as start:
        yield start(cluster.servers, routing={"top_queries": 4})


def shown(proxy: ProxyProcess, what: str = "QUERIES") -> list[dict[str, Any]]:
    with psycopg.connect(proxy.dsn("pgproxy"), autocommit=True, row_factory=dict_row) as console:
        return console.execute(f"SHOW {what}").fetchall()  # type: ignore[call-overload, no-any-return]


def by_text(proxy: ProxyProcess) -> dict[str, dict[str, Any]]:
    return {row["query"]: row for row in shown(proxy)}


def test_calls_and_their_time_are_counted_by_structure_and_target(fresh: ProxyProcess) -> None:
    with psycopg.connect(fresh.dsn(), autocommit=True) as connection:
        connection.prepare_threshold = None
        for number in range(5):
            connection.execute(f"SELECT {number} AS n")
        connection.execute("SELECT pg_sleep(0.2)")
        connection.prepare_threshold = 0
        for number in range(3):
            connection.execute("SELECT %s::int AS prepared", (number,))
        with connection.transaction():
            connection.execute("SELECT 7 AS n")
    found = by_text(fresh)
    numbers = found["SELECT ? AS n"]
    assert (numbers["calls"], numbers["primary"], numbers["replica"]) == (6, 1, 5)
    assert (numbers["timed_calls"], numbers["reason"]) == (5, "read")  # not in a transaction
    assert numbers["avg_time"] == numbers["total_time"] // 5 > 0
    sleep = found["SELECT pg_sleep(?)"]
    assert sleep["total_time"] >= 200_000
    assert found["SELECT $1::int AS prepared"]["calls"] == 3
    assert shown(fresh)[0]["query"] == "SELECT pg_sleep(?)"
    assert found["COMMIT"]["timed_calls"] == 0


def test_the_prepared_statements_of_sql_are_counted(fresh: ProxyProcess) -> None:
    with psycopg.connect(fresh.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE counted (n int)")
        connection.execute("PREPARE w AS INSERT INTO counted VALUES ($1)")
        connection.execute("PREPARE r AS SELECT $1::int")
        for number in range(4):
            connection.execute(f"EXECUTE w({number})")
            connection.execute(f"EXECUTE r({number})")
        connection.execute("DROP TABLE counted")
    found = by_text(fresh)
    assert (found["EXECUTE w(?)"]["calls"], found["EXECUTE w(?)"]["replica"]) == (4, 0)
    assert found["EXECUTE r(?)"]["calls"] == 4


def test_asyncpg_and_its_pipelines(fresh: ProxyProcess) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(fresh.dsn())
        try:
            for number in range(4):
                await connection.fetchval("SELECT $1::int AS piped", number)
        finally:
            await connection.close()

    asyncio.run(work())
    assert by_text(fresh)["SELECT $1::int AS piped"]["calls"] == 4


def test_no_value_of_a_client_is_told_anywhere(fresh: ProxyProcess) -> None:
    with psycopg.connect(fresh.dsn(), autocommit=True) as connection:
        for sql in (
            f"SELECT '{SECRET}' AS a, 7654321",
            f"SELECT E'{SECRET}'",
            f"SELECT $x${SECRET}$x$",
            f"/* {SECRET} */ SELECT 1",
            f"SELECT 1 -- {SECRET}",
            f"SET app.password = '{SECRET}'",
            f"NOTIFY c, '{SECRET}'",
            f"SELECT '{SECRET}",
            f"{SECRET} is my password",
            f"SELECT '{SECRET}{'x' * 40_000}'",
        ):
            try:
                connection.execute(sql)  # type: ignore[call-overload]
            except psycopg.Error:
                continue
    told = [json.dumps(shown(fresh)), fresh.get("/metrics")[1], fresh.get("/status")[1]]
    assert "(not parsed)" in told[0]
    for text in told:
        assert "SELECT" in text
        assert "hunter" not in text
        assert "7654321" not in text


def test_metrics_and_status_have_few_of_them(fresh: ProxyProcess) -> None:
    with psycopg.connect(fresh.dsn(), autocommit=True) as connection:
        for number in range(20):
            connection.execute(f"SELECT 1 AS name_{number}")
        for _ in range(5):
            connection.execute("SELECT 2 AS often")
    families = {
        family.name: family.samples
        for family in text_string_to_metric_families(fresh.get("/metrics")[1])
    }
    calls = {
        (sample.labels["query"], sample.labels["target"]): sample.value
        for sample in families["pgproxy_queries"]
    }
    assert len(calls) == 8
    assert calls["SELECT ? AS often", "replica"] == 5
    assert len(families["pgproxy_query_seconds"]) == 4
    assert families["pgproxy_query_structures"][0].value == 21
    status = json.loads(fresh.get("/status")[1])["queries"]
    assert len(status) == 4
    (often,) = [one for one in status if one["query"] == "SELECT ? AS often"]
    assert (often["replica"], often["timed"]) == (5, 5)
    ids = {sample.labels["id"] for sample in families["pgproxy_queries"]}
    assert ids == {one["id"] for one in status}


def test_reasons_are_told_with_what_they_mean(fresh: ProxyProcess) -> None:
    with psycopg.connect(fresh.dsn(), autocommit=True) as connection:
        connection.execute("SELECT 1")
        connection.execute("SET pgproxy.route = 'primary'")
        connection.execute("SELECT 1")
    rows = {row["reason"]: row for row in shown(fresh, "REASONS")}
    assert {name: row["meaning"] for name, row in rows.items()} == {
        reason.value: sentence for reason, sentence in SENTENCES.items()
    }
    counts = {name: (row["primary"], row["replica"]) for name, row in rows.items()}
    assert counts["read"] == (0, 1), counts
    assert (rows["set_route"]["primary"], rows["set_route"]["replica"]) == (1, 0)
