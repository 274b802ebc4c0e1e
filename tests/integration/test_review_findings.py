"""Defects that a hostile reading of the data path found, each shown as a client meets it."""

from collections.abc import Iterator
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    SYNC,
    Wire,
    bind,
    errors,
    execute,
    parse,
    query,
    rows,
)

# What a connection's former client may have left to the next.
LEFTOVERS: Final = """
    SELECT current_setting('work_mem'),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
           (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
           to_regclass('pg_temp.left_over')
"""
NOTHING: Final = [[b"4MB", b"0", b"0", None]]


@pytest.fixture(scope="module")
def small_proxy(cluster: Cluster) -> Iterator[ProxyProcess]:
    """A proxy with two connections to each server: one may be pinned."""
    with ProxyProcess.start(cluster.servers, pool={"size": 2, "wait_timeout": 10.0}) as small:
        yield small


def extended(sql: str) -> bytes:
    """Parse, Bind, Execute and Sync of one statement."""
    return parse(sql) + bind() + execute() + SYNC


# --- session state that the next client saw


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(
            [query("SET work_mem = '7MB'"), query("SELECT 1/0")], id="error of the next Query"
        ),
        pytest.param(
            [extended("SET work_mem = '7MB'"), extended("SELECT 1/0")], id="error of the next Sync"
        ),
        pytest.param([query("SET work_mem = '7MB'; COMMIT; SELECT 1/0")], id="error after COMMIT"),
        pytest.param([query("SELECT pg_advisory_lock(7); SELECT 1/0")], id="lock, then an error"),
        pytest.param(
            [query("SELECT pg_advisory_lock(7), 1/(random() * 0)::int")], id="lock and error"
        ),
        pytest.param([query("SET work_mem = '7MB'; SELECT pg_advisory_lock(7); SELECT 1/0")]),
        pytest.param([query("PREPARE left_over AS SELECT 1; SELECT 1/0")], id="PREPARE"),
        pytest.param([query("SELECT 1 AS a INTO pg_temp.left_over")], id="SELECT INTO pg_temp"),
        pytest.param(
            [query("UPDATE pg_settings SET setting = '7168' WHERE name = 'work_mem'")],
            id="UPDATE pg_settings",
        ),
    ],
)
async def test_session_state_stays_with_its_client(
    messages: list[bytes], small_proxy: ProxyProcess
) -> None:
    async with (
        await Wire.connect(small_proxy) as one,
        await Wire.connect(small_proxy) as other,
    ):
        await one.ask(*messages, ready=len(messages))
        assert rows(await other.ask(query("/* pgproxy: primary */" + LEFTOVERS))) == NOTHING


@pytest.mark.parametrize("sql", ["SET work_mem = 'much'", "SELEC 1", "LISTEN a; SELECT 1/0"])
async def test_a_pin_that_an_error_undoes_ends_with_it(sql: str, small_proxy: ProxyProcess) -> None:
    failing = [await Wire.connect(small_proxy) for _ in range(3)]
    for wire in failing:  # two connections would not do if each kept one
        assert len(errors(await wire.ask(query(sql)))) == 1
    for wire in failing:
        assert errors(await wire.ask(query("CREATE TEMP TABLE t () ON COMMIT DROP"))) == []
        await wire.close()
