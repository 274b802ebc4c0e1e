"""Databases that PostgreSQL drops, renames or copies only when nobody is connected to them."""

import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import SYNC, Wire, bind, errors, execute, parse, query

pytestmark = pytest.mark.once

REFUSED = "55006"


async def visit(proxy: ProxyProcess, database: str) -> None:
    """A session that is gone afterwards; the proxy's connections for it stay."""
    async with await Wire.connect(proxy, database=database) as wire:
        for sql in ("CREATE TABLE IF NOT EXISTS t ()", "SELECT FROM t", "LISTEN news"):
            assert errors(await wire.ask(query(sql))) == []


@pytest.mark.parametrize("is_simple", [True, False])
@pytest.mark.parametrize(
    "sql",
    [
        "DROP DATABASE {0}",
        "DROP DATABASE IF EXISTS {0}",
        "ALTER DATABASE {0} RENAME TO {0}_other",
        "CREATE DATABASE {0}_other TEMPLATE {0}",
    ],
)
async def test_nobody_is_left_in_it(
    cluster: Cluster, shared_proxy: ProxyProcess, fresh_database: str, sql: str, is_simple: bool
) -> None:
    sql = sql.format(fresh_database)
    await visit(shared_proxy, fresh_database)
    try:
        async with await Wire.connect(shared_proxy) as wire:
            said = query(sql) if is_simple else parse(sql) + bind() + execute() + SYNC
            assert errors(await wire.ask(said)) == []
    finally:
        for name in (fresh_database, f"{fresh_database}_other"):
            cluster.primary.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cluster.primary.psql(f"CREATE DATABASE {fresh_database}")  # the fixture drops it


async def test_somebody_is(shared_proxy: ProxyProcess, fresh_database: str) -> None:
    async with (
        await Wire.connect(shared_proxy, database=fresh_database) as one,
        await Wire.connect(shared_proxy) as other,
    ):
        assert errors(await one.ask(query("CREATE TABLE t ()"))) == []
        drop = query(f"DROP DATABASE {fresh_database}")
        assert errors(await other.ask(drop)) == [REFUSED]
        assert errors(await one.ask(query("DROP TABLE t"))) == []
