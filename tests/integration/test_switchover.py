"""Pods change their labels and servers their roles, in every order: what clients see, and what the
servers have been given to write.
"""

import asyncio
from dataclasses import replace
from typing import Any, Final

import asyncpg
import psycopg
import pytest

from pgproxy.embedded import Cluster, Server
from pgproxy.topology.model import Role
from tests.support.inprocess import InProcess, pods, serving
from tests.support.ledger import INDEX, ROWS, TABLE, Audit, Load

pytestmark = [pytest.mark.once, pytest.mark.timeout(90)]

# Those of the proxy that work for clients.
SESSIONS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND application_name <> 'pgproxy monitor' AND pid <> pg_backend_pid()"
)


async def ask(server: Server, sql: str) -> str:
    return await asyncio.to_thread(server.psql, sql)


async def until_sessions(server: Server, count: int) -> None:
    """Wait until so many connections of clients are open."""
    while int(await ask(server, SESSIONS)) != count:  # noqa: ASYNC110 - the server is asked
        await asyncio.sleep(0.01)


async def make_tables(cluster: Cluster) -> None:
    await ask(cluster.primary, f"{TABLE}; {INDEX}; CREATE TABLE t (n int)")
    await asyncio.to_thread(cluster.wait_caught_up)


async def rows(server: Server) -> list[int]:
    return [int(row) for row in (await ask(server, ROWS)).split()]


async def connect(proxy: InProcess) -> Any:
    return await asyncpg.connect(proxy.dsn(), statement_cache_size=0)


async def where(proxy: InProcess) -> int:
    """The port of the server that a new session reads from."""
    async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as reader:
        row = await (await reader.execute("SELECT inet_server_port()")).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_planned_switchover_under_load_fails_no_transaction(
    private_cluster: Cluster,
) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    await make_tables(private_cluster)
    async with serving({old: "primary", new: "replica", other: "replica"}) as proxy:
        load = Load(proxy.dsn(), clients=32)
        await asyncio.to_thread(load.start)
        long = await connect(proxy)
        await long.execute("BEGIN; INSERT INTO t VALUES (1)")

        # The label leaves the old primary, which goes on taking writes until it is shut down.
        proxy.label(**{old.name: "none"})
        await until_sessions(old, 1)
        await long.execute("INSERT INTO t VALUES (2); COMMIT")
        await until_sessions(old, 0)
        assert proxy.proxy.cluster.homeless
        assert not old.in_recovery()
        await asyncio.to_thread(old.stop)  # new and other receive the last of its WAL
        await asyncio.to_thread(new.promote)
        assert proxy.node(new.name).role is not Role.PRIMARY
        proxy.label(**{new.name: "primary"})
        await asyncio.to_thread(load.wait_writes, 50)

        await asyncio.to_thread(other.follow, new)
        await asyncio.to_thread(old.rejoin, new)
        proxy.label(**{old.name: "replica"})
        await proxy.until(lambda: proxy.node(old.name).role is Role.REPLICA)
        await asyncio.to_thread(load.wait_writes, 50)
        books = await asyncio.to_thread(load.stop)
        await long.execute("INSERT INTO t VALUES (3)")
        assert books.failures == []
        assert books.audit(await rows(new)) == Audit()
        assert await ask(new, "SELECT string_agg(n::text, ',' ORDER BY n) FROM t") == "1,2,3"
        assert proxy.proxy.counters.servers_cut == 0
        await long.close()


async def test_the_label_that_comes_before_the_promotion_sends_no_write_to_a_standby(
    private_cluster: Cluster,
) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    await make_tables(private_cluster)
    async with serving({old: "primary", new: "replica", other: "replica"}) as proxy:
        load = Load(proxy.dsn(), clients=16, kinds=("insert", "transaction", "read"))
        await asyncio.to_thread(load.start)
        # Two labelled primaries, then one that is still a standby: it serves reads.
        proxy.label(**{new.name: "primary"})
        await asyncio.to_thread(load.wait_writes, 50)
        proxy.label(**{old.name: "replica"})
        await until_sessions(old, 0)
        assert proxy.node(new.name).role is Role.REPLICA
        await asyncio.to_thread(old.stop)
        await asyncio.to_thread(new.promote)
        await asyncio.to_thread(load.wait_writes, 50)
        books = await asyncio.to_thread(load.stop)
        assert books.failures == []
        assert books.audit(await rows(new)) == Audit()


async def test_the_grace_of_a_planned_switchover_ends(private_cluster: Cluster) -> None:
    old, (new, _) = private_cluster.primary, private_cluster.replicas
    await make_tables(private_cluster)
    async with serving(
        {old: "primary", new: "replica"}, switchover_grace=0.5, failover_wait=0.5
    ) as proxy:
        late = await connect(proxy)
        await late.execute("BEGIN; INSERT INTO t VALUES (1)")
        proxy.label(**{old.name: "none"})
        await until_sessions(old, 0)
        with pytest.raises(asyncpg.CannotConnectNowError):
            await late.execute("COMMIT")
        assert await ask(old, "SELECT count(*) FROM t") == "0"
        assert proxy.proxy.counters.servers_cut == 1


async def test_a_split_brain_gives_the_old_primary_no_write_after_the_new_timeline_was_seen(
    private_cluster: Cluster,
) -> None:
    old, (new, _) = private_cluster.primary, private_cluster.replicas
    await make_tables(private_cluster)
    async with serving({old: "primary", new: "replica"}) as proxy:
        load = Load(proxy.dsn(), clients=16, kinds=("insert", "transaction"))
        await asyncio.to_thread(load.start)
        victim = await connect(proxy)
        await victim.execute("BEGIN; INSERT INTO t VALUES (1)")
        proxy.label(**{new.name: "primary"})
        # The old primary goes on, reachable and labelled.
        await asyncio.to_thread(new.promote)
        await proxy.until_primary(new.name)
        assert proxy.node(old.name).is_fenced
        # What a server had been sent before may still be carried out.
        await until_sessions(old, 0)
        before = set(await rows(old))
        await asyncio.to_thread(load.wait_writes, 200)
        books = await asyncio.to_thread(load.stop)
        assert set(await rows(old)) == before
        # Its transaction has been run again where it counts.
        await victim.execute("COMMIT")
        await victim.close()
        assert await ask(old, "SELECT count(*) FROM t") == "0"
        assert await ask(new, "SELECT count(*) FROM t") == "1"
        assert books.audit(before | set(await rows(new))) == Audit()


async def test_a_timeline_that_only_another_replica_shows_fences_the_old_primary(
    private_cluster: Cluster,
) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    await make_tables(private_cluster)
    # The server that is promoted is not in the list at all.
    async with serving({old: "primary", other: "replica"}, failover_wait=0.5) as proxy:
        writer = await connect(proxy)
        await writer.execute("INSERT INTO t VALUES (1)")
        await asyncio.to_thread(new.promote)
        await asyncio.to_thread(other.follow, new)
        await proxy.until(lambda: proxy.node(old.name).is_fenced)
        await until_sessions(old, 0)
        with pytest.raises(asyncpg.CannotConnectNowError):
            await writer.execute("INSERT INTO t VALUES (2)")
        assert await ask(old, "SELECT count(*) FROM t") == "1"
        assert await where(proxy) == other.port
        proxy.set_backends(pods({old: "primary", new: "primary", other: "replica"}))
        await proxy.until_primary(new.name)
        await writer.execute("INSERT INTO t VALUES (3)")
        assert await ask(new, "SELECT max(n) FROM t") == "3"
        await writer.close()


async def test_a_primary_that_comes_back_with_its_old_label_gets_nothing(
    private_cluster: Cluster,
) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    await make_tables(private_cluster)
    async with serving({old: "primary", new: "replica", other: "replica"}) as proxy:
        load = Load(proxy.dsn(), clients=16, kinds=("insert", "transaction", "read"))
        await asyncio.to_thread(load.start)
        await asyncio.to_thread(old.kill9)
        await asyncio.to_thread(new.promote)
        proxy.label(**{new.name: "primary"})
        await proxy.until_primary(new.name)
        await asyncio.to_thread(load.wait_writes, 50)
        # Nobody could take its label away.
        await asyncio.to_thread(old.start)
        await proxy.until(lambda: proxy.node(old.name).is_fenced)
        before = await rows(old)
        await asyncio.to_thread(load.wait_writes, 100)
        # The new primary leaves, and the old one is alone.
        proxy.set_backends(pods({old: "primary", other: "replica"}))
        assert proxy.topology.primary is None
        proxy.set_backends(pods({old: "primary", new: "primary", other: "replica"}))
        await asyncio.to_thread(load.wait_writes, 50)
        books = await asyncio.to_thread(load.stop)
        assert await rows(old) == before
        audit = books.audit(await rows(new))
        assert (audit.doubled, audit.unexplained) == ((), ())


async def test_another_pod_under_the_same_name_is_asked_and_connected_to_anew(
    private_cluster: Cluster,
) -> None:
    primary, (first, second) = private_cluster.primary, private_cluster.replicas
    await make_tables(private_cluster)
    async with serving({primary: "primary", first: "replica"}) as proxy:
        assert await where(proxy) == first.port
        one, pod = proxy.backends
        proxy.set_backends([one, replace(pod, port=second.port, uid="another")])
        assert proxy.node(pod.name).role is Role.NONE
        await proxy.until(lambda: proxy.node(pod.name).role is Role.REPLICA)
        assert await where(proxy) == second.port
        await until_sessions(first, 0)
        assert len(proxy.proxy.cluster.backends) == 2
        assert len(proxy.proxy.cluster.pools()) == 2


async def test_without_a_single_pod_clients_wait_and_are_told(private_cluster: Cluster) -> None:
    primary = private_cluster.primary
    await make_tables(private_cluster)
    async with serving({primary: "primary"}, failover_wait=1) as proxy:
        client = await connect(proxy)
        await client.execute("INSERT INTO t VALUES (1)")
        proxy.set_backends([])
        for sql in ("SELECT 1", "INSERT INTO t VALUES (2)"):
            with pytest.raises(asyncpg.CannotConnectNowError, match="no primary server"):
                await client.execute(sql)
        waiting = asyncio.get_running_loop().create_task(client.execute("INSERT INTO t VALUES (3)"))
        await proxy.until(lambda: len(proxy.proxy.cluster.homeless) == 1)
        proxy.set_backends(pods({primary: "primary"}))
        await waiting
        assert await ask(primary, "SELECT count(*) FROM t") == "2"
        await client.close()
