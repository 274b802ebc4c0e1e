"""Real replicas that refuse, conflict and die: the client gets the answer all the same."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

import asyncpg
import psycopg
import pytest

from pgproxy.config import Routing
from pgproxy.embedded import Cluster, Server
from pgproxy.topology.freshness import UNKNOWN
from tests.support import wire
from tests.support.inprocess import InProcess, serving
from tests.support.place import cluster_parent
from tests.support.wire import Wire, errors, query

pytestmark = pytest.mark.timeout(120)

# PostgreSQL lets a function that says it is STABLE call one that writes.
SCHEMA: Final = """
CREATE TABLE t (n int);
INSERT INTO t SELECT generate_series(1, 5);
CREATE TABLE kept (n int);
INSERT INTO kept VALUES (7);
CREATE TABLE written (n int);
CREATE UNLOGGED TABLE unlogged (n int);
INSERT INTO unlogged VALUES (8);
CREATE FUNCTION writes(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS
    'BEGIN INSERT INTO written VALUES (n); RETURN n; END';
CREATE FUNCTION liar(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN writes(n); END';
CREATE FUNCTION slow_liar(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    'BEGIN PERFORM writes(n); PERFORM pg_sleep(60); RETURN n; END';
CREATE FUNCTION talking_liar(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    'BEGIN RAISE NOTICE ''soon''; PERFORM pg_sleep(1); RETURN writes(n); END';
"""
LIAR: Final = "/* pgproxy: replica */ SELECT liar({})"
SLEEPS: Final = "SELECT count(*) FROM t, pg_sleep({})"
ASLEEP: Final = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
WRITTEN: Final = "SELECT coalesce(string_agg(n::text, ',' ORDER BY n), '') FROM written"


@pytest.fixture(scope="module")
def strict_cluster() -> Iterator[Cluster]:
    """Replicas that let no read stand in the way of what they have to replay."""
    settings = {"max_standby_streaming_delay": "0", "hot_standby_feedback": "off"}
    with Cluster.create(2, settings=settings, directory=cluster_parent()) as cluster:
        yield cluster


@pytest.fixture
def database(strict_cluster: Cluster) -> Iterator[str]:
    name = "net"
    strict_cluster.primary.psql(f"CREATE DATABASE {name}")
    strict_cluster.primary.psql(SCHEMA, db=name)
    strict_cluster.wait_caught_up()
    yield name
    strict_cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def serve(cluster: Cluster, *, safety_net: bool = True) -> AsyncIterator[InProcess]:
    """A proxy that knows the replicas, and that they show all that is committed."""
    roles = dict.fromkeys(cluster.replicas, "replica") | {cluster.primary: "primary"}
    async with serving(roles, routing=Routing(safety_net=safety_net)) as proxy:
        await proxy.until(lambda: len(proxy.proxy.cluster.replicas) == len(cluster.replicas))
        await proxy.until(
            lambda: all(one.fresh_as_of > UNKNOWN for one in proxy.proxy.cluster.replicas)
        )
        yield proxy


async def ask(server: Server, sql: str, database: str = "postgres") -> str:
    return await asyncio.to_thread(server.psql, sql, database)


async def connect(proxy: InProcess, database: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(proxy.dsn(database), autocommit=True)


async def one(connection: psycopg.AsyncConnection, sql: str) -> object:
    row = await (await connection.execute(sql)).fetchone()
    assert row is not None
    return row[0]


async def error_of(statement: Awaitable[object]) -> psycopg.Error:
    """What it fails with."""
    with pytest.raises(psycopg.Error) as caught:
        await statement
    return caught.value


async def route(connection: psycopg.AsyncConnection) -> tuple[str, ...]:
    """Target and reason of the last statement."""
    row = await (await connection.execute("SHOW pgproxy.last_route")).fetchone()
    assert row is not None
    return tuple(row[:2])


async def asleep(cluster: Cluster) -> tuple[Server, int]:
    """Who sleeps, and where; waits until somebody does."""
    while True:
        for server in cluster.servers:
            if server.is_running and (pids := (await ask(server, ASLEEP)).split()):
                return server, int(pids[0])


def retries(proxy: InProcess) -> dict[str, int]:
    counts = proxy.proxy.counters.replica_retries
    return {cause: count for cause, count in counts.items() if count}


async def vacuum(cluster: Cluster, database: str, is_over: Callable[[], bool]) -> None:
    """What the oldest reads on a replica still see goes away, once nobody sees it on the primary."""
    while not is_over():
        await ask(cluster.primary, "UPDATE t SET n = n + 10", database)
        await ask(cluster.primary, "VACUUM t", database)


class TestRefused:
    async def test_a_function_that_writes(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            assert await one(client, LIAR.format(1)) == 1
            assert await route(client) == ("primary", "learned")
            assert await one(client, LIAR.format(1)) == 1
            other = await connect(proxy, database)
            assert await one(other, LIAR.format(1)) == 1
            assert await route(other) == ("primary", "learned")
            assert retries(proxy) == {"read_only": 1}
            for connection in (client, other):
                await connection.close()
        assert await ask(strict_cluster.primary, WRITTEN, database) == "1,1,1"

    async def test_an_unlogged_table(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            for _ in range(3):
                assert await one(client, "SELECT n FROM unlogged") == 8
                assert (await route(client))[0] == "primary"
            # For all that is known the last one has written: until the replicas show that, too.
            assert await one(client, "SELECT n FROM kept") == 7
            while await route(client) == ("primary", "not_fresh"):
                assert await one(client, "SELECT n FROM kept") == 7
            assert await route(client) == ("replica", "read")
            await client.close()

    @pytest.mark.parametrize("prepare", [False, True])
    async def test_with_parameters(
        self, strict_cluster: Cluster, database: str, prepare: bool
    ) -> None:
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            for value in (1, 2, 3):
                cursor = await client.execute(LIAR.format("%s"), (value,), prepare=prepare)
                assert await cursor.fetchone() == (value,)
            await client.close()
            assert retries(proxy) == {"read_only": 1}
        assert await ask(strict_cluster.primary, WRITTEN, database) == "1,2,3"

    async def test_asyncpg(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy:
            client = await asyncpg.connect(proxy.dsn(database))
            for value in (1, 2, 3):
                assert await client.fetchval(LIAR.format("$1"), value) == value
            async with client.transaction(readonly=True):
                assert await client.fetchval("SELECT n FROM unlogged") == 8
            await client.close()
        assert await ask(strict_cluster.primary, WRITTEN, database) == "1,2,3"

    async def test_a_pipeline(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            async with client.pipeline():
                cursors = [
                    await client.execute(sql)
                    for sql in ("SELECT n FROM kept", LIAR.format(2), "SELECT 3", "SELECT 4")
                ]
            assert [await cursor.fetchone() for cursor in cursors] == [(7,), (2,), (3,), (4,)]
            await client.close()
        assert await ask(strict_cluster.primary, WRITTEN, database) == "2"

    async def test_batches_in_flight(self, strict_cluster: Cluster, database: str) -> None:
        """Each with its own ReadyForQuery."""
        async with (
            serve(strict_cluster) as proxy,
            await Wire.connect(proxy, user="postgres", database=database) as client,
        ):
            batches = [query("SELECT n FROM kept"), query(LIAR.format(5)), query("SELECT 6")]
            await client.send(b"".join(batches))
            found = []
            for _ in batches:
                frames = await client.until(b"Z")
                assert errors(frames) == []
                found += wire.rows(frames)
            assert found == [[b"7"], [b"5"], [b"6"]]
        assert await ask(strict_cluster.primary, WRITTEN, database) == "5"

    async def test_something_has_gone_out(self, strict_cluster: Cluster, database: str) -> None:
        sql = LIAR.format(1).replace("liar", "talking_liar")
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await client.execute(sql)
            assert await one(client, sql) == 1
            assert await route(client) == ("primary", "learned")
            assert retries(proxy) == {}
            await client.close()

    async def test_what_it_has_written_is_read(
        self, strict_cluster: Cluster, database: str
    ) -> None:
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            for replica in strict_cluster.replicas:
                await asyncio.to_thread(replica.pause_replay)
            try:
                await one(client, LIAR.format(1))
                assert await one(client, WRITTEN) == "1"
                assert await route(client) == ("primary", "not_fresh")
            finally:
                for replica in strict_cluster.replicas:
                    await asyncio.to_thread(replica.resume_replay)
            await client.close()

    async def test_a_read_only_transaction(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            await client.execute("BEGIN READ ONLY")
            # For all that is known the last one has written: until the replicas show that, too.
            assert await one(client, "SELECT n FROM kept") == 7
            while await route(client) == ("primary", "not_fresh"):
                assert await one(client, "SELECT n FROM kept") == 7
            assert await route(client) == ("replica", "read")
            assert await one(client, "SELECT n FROM unlogged") == 8
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await client.execute(LIAR.format(1))
            await client.execute("ROLLBACK")
            assert proxy.proxy.counters.moved_transactions == 1
            await client.close()
        assert await ask(strict_cluster.primary, WRITTEN, database) == ""

    async def test_the_net_is_off(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster, safety_net=False) as proxy:
            client = await connect(proxy, database)
            for _ in range(2):
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    await client.execute(LIAR.format(1))
            await client.close()

    async def test_a_cancel(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy, asyncio.TaskGroup() as group:
            client = await connect(proxy, database)
            sql = LIAR.format(1).replace("liar", "slow_liar")
            task = group.create_task(error_of(client.execute(sql)))
            server, _ = await asleep(strict_cluster)
            assert server is strict_cluster.primary
            await client.cancel_safe()
            assert isinstance(await task, psycopg.errors.QueryCanceled)
            assert await one(client, "SELECT n FROM kept") == 7
            await client.close()
        assert await ask(strict_cluster.primary, WRITTEN, database) == ""


class TestConflict:
    @pytest.mark.parametrize("begin", ["", "BEGIN READ ONLY"])
    async def test_vacuum_during_a_read(
        self, strict_cluster: Cluster, database: str, begin: str
    ) -> None:
        async with serve(strict_cluster) as proxy, asyncio.TaskGroup() as group:
            client = await connect(proxy, database)
            if begin:
                await client.execute(begin)
                assert await one(client, "SELECT n FROM kept") == 7
            read = group.create_task(one(client, SLEEPS.format(8)))
            server, _ = await asleep(strict_cluster)
            assert server in strict_cluster.replicas
            await vacuum(strict_cluster, database, lambda: "conflict" in retries(proxy))
            assert await read == 5
            if begin:
                assert await one(client, "SELECT n FROM kept") == 7
                await client.execute("COMMIT")
            await client.close()

    async def test_prepared(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy, asyncio.TaskGroup() as group:
            client = await asyncpg.connect(proxy.dsn(database))
            statement = await client.prepare(SLEEPS.format("$1"))
            assert await statement.fetchval(0) == 5  # behind a Flush, and so on the primary
            read = group.create_task(statement.fetchval(8))
            await asleep(strict_cluster)
            await vacuum(strict_cluster, database, lambda: "conflict" in retries(proxy))
            assert await read == 5
            await client.close()

    async def test_between_two_statements(self, strict_cluster: Cluster, database: str) -> None:
        """A snapshot is held: PostgreSQL ends the session. Its reads are the same elsewhere."""
        async with serve(strict_cluster) as proxy:
            client = await connect(proxy, database)
            await client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            assert await one(client, "SELECT n FROM kept") == 7
            await vacuum(strict_cluster, database, lambda: "conflict" in retries(proxy))
            assert await one(client, "SELECT n FROM kept") == 7
            await client.execute("COMMIT")
            await client.close()

    async def test_the_net_is_off(self, strict_cluster: Cluster, database: str) -> None:
        async with (
            serve(strict_cluster, safety_net=False) as proxy,
            asyncio.TaskGroup() as group,
        ):
            client = await connect(proxy, database)
            read = group.create_task(error_of(one(client, SLEEPS.format(30))))
            await asleep(strict_cluster)
            await vacuum(strict_cluster, database, read.done)
            assert isinstance(await read, psycopg.errors.SerializationFailure)
            await client.close()


class TestLost:
    async def test_the_process_is_killed(self, strict_cluster: Cluster, database: str) -> None:
        """PostgreSQL ends all other processes with a warning."""
        async with serve(strict_cluster) as proxy, asyncio.TaskGroup() as group:
            clients = [await connect(proxy, database) for _ in range(4)]
            reads = [group.create_task(one(client, SLEEPS.format(2))) for client in clients]
            await proxy.until(lambda: sum(b.load for b in proxy.proxy.cluster.replicas) == 4)
            server, pid = await asleep(strict_cluster)
            assert server in strict_cluster.replicas
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.gather(*reads) == [5] * 4
            assert retries(proxy)["lost"] > 0
            for client in clients:
                await client.close()
        await asyncio.to_thread(strict_cluster.wait_streaming)

    async def test_the_server_is_killed(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy, asyncio.TaskGroup() as group:
            client = await asyncpg.connect(proxy.dsn(database))
            statement = await client.prepare(SLEEPS.format("$1"))
            assert await statement.fetchval(0) == 5  # behind a Flush, and so on the primary
            read = group.create_task(statement.fetchval(2))
            server, _ = await asleep(strict_cluster)
            assert server in strict_cluster.replicas
            await asyncio.to_thread(server.kill9)
            try:
                assert await read == 5
                assert retries(proxy) == {"lost": 1}
                assert await client.fetchval("SELECT n FROM kept") == 7
            finally:
                await asyncio.to_thread(server.start)
            await client.close()
        await asyncio.to_thread(strict_cluster.wait_streaming)

    async def test_an_administrator_ends_it(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy, asyncio.TaskGroup() as group:
            client = await connect(proxy, database)
            await client.execute("BEGIN READ ONLY")
            read = group.create_task(one(client, SLEEPS.format(2)))
            server, pid = await asleep(strict_cluster)
            await ask(server, f"SELECT pg_terminate_backend({pid})")
            assert await read == 5
            await client.execute("COMMIT")
            await client.close()

    async def test_twice(self, strict_cluster: Cluster, database: str) -> None:
        async with serve(strict_cluster) as proxy, asyncio.TaskGroup() as group:
            client = await connect(proxy, database)
            read = group.create_task(error_of(one(client, SLEEPS.format(60))))
            for _ in range(2):
                server, pid = await asleep(strict_cluster)
                await ask(server, f"SELECT pg_terminate_backend({pid})")
                while (await ask(server, ASLEEP)).split() == [str(pid)]:
                    pass
            assert isinstance(await read, psycopg.OperationalError)
            assert retries(proxy) == {"lost": 1}
            await client.close()
