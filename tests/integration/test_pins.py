"""When a session stops being pinned: not before everything that it is pinned for is gone."""

import asyncio
from collections.abc import Iterator

import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import Wire, errors, query, rows

ROUNDS = 100


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> Iterator[ProxyProcess]:
    """Its reads go to a replica at once, where nothing of a session is."""
    with ProxyProcess.start(cluster.servers, consistency={"read_your_writes": "off"}) as started:
        yield started


@pytest.mark.parametrize(
    ("make", "look", "drop"),
    [
        ("CREATE TEMP TABLE mine ()", "SELECT FROM mine", "DROP TABLE mine"),
        ("CREATE TEMP VIEW mine AS VALUES (1)", "SELECT FROM mine", "DROP VIEW mine"),
        (
            "DECLARE mine CURSOR WITH HOLD FOR VALUES (1)",
            "SELECT 1 / count(*) FROM pg_cursors",
            "CLOSE mine",
        ),
        (
            "SELECT pg_advisory_lock(5)",
            "SELECT 1 / count(*) FROM pg_locks WHERE locktype = 'advisory'",
            "SELECT pg_advisory_unlock(5)",
        ),
    ],
)
async def test_what_is_made_again_at_once_pins_again(
    proxy: ProxyProcess, make: str, look: str, drop: str
) -> None:
    """The server has not yet said that the former one is gone when the next one is made."""
    async with await Wire.connect(proxy) as wire:
        for _ in range(ROUNDS):
            for sql in (make, look, drop):
                assert errors(await wire.ask(query(sql))) == []


@pytest.mark.parametrize(
    ("make", "drop"),
    [
        ("CREATE TEMP SEQUENCE mine", "DROP SEQUENCE mine"),
        ("CREATE DOMAIN pg_temp.mine AS int", "DROP DOMAIN pg_temp.mine"),
        ("CREATE TYPE pg_temp.mine AS (n int)", "DROP TYPE pg_temp.mine"),
        ("CREATE FUNCTION pg_temp.mine() RETURNS int RETURN 1", "DROP FUNCTION pg_temp.mine"),
        ("CREATE STATISTICS pg_temp.mine ON oid, relname FROM its", "DROP STATISTICS pg_temp.mine"),
        ("CREATE COLLATION pg_temp.mine (locale = 'C')", "DROP COLLATION pg_temp.mine"),
    ],
)
async def test_temporary_objects_of_every_kind_are_seen(
    cluster: Cluster, fresh_database: str, proxy: ProxyProcess, make: str, drop: str
) -> None:
    cluster.primary.psql("CREATE TABLE its (oid oid, relname name)", fresh_database)
    cluster.wait_caught_up()
    async with await Wire.connect(proxy, database=fresh_database) as wire:
        assert errors(await wire.ask(query(make))) == []
        for _ in range(10):  # each has the server asked
            assert errors(await wire.ask(query("SELECT 1 / 0"))) == ["22012"]
        on_replica = query("SELECT pg_is_in_recovery()")
        assert rows(await wire.ask(on_replica)) == [[b"f"]]
        assert errors(await wire.ask(query(drop))) == []
        async with asyncio.timeout(20):
            while rows(await wire.ask(on_replica)) != [[b"t"]]:
                pass


async def test_two_pins_of_one_text(proxy: ProxyProcess) -> None:
    async with await Wire.connect(proxy) as wire:
        await wire.ask(query("SELECT pg_advisory_lock(5); CREATE TEMP TABLE mine ()"))
        await wire.ask(query("SELECT pg_advisory_unlock(5)"))
        for _ in range(ROUNDS):  # the answer to what is left comes during one of them
            assert errors(await wire.ask(query("SELECT FROM mine"))) == []
        await wire.ask(query("DROP TABLE mine"))
        on_replica = [[b"t"]]
        async with asyncio.timeout(20):
            while rows(await wire.ask(query("SELECT pg_is_in_recovery()"))) != on_replica:
                pass
