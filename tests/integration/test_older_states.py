"""Replicas that show less than they seem to: one that starts anew from an older state, one that has
replayed what the new primary never had.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

from pgproxy.embedded import Cluster, Server
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

StartProxy = Callable[..., ProxyProcess]

READ: Final = wire.query("SELECT n, pg_is_in_recovery() FROM t")
WRITE: Final = wire.query("UPDATE t SET n = n + 1 RETURNING n")


async def ask(server: Server, sql: str) -> str:
    return await asyncio.to_thread(server.psql, sql)


def role(proxy: ProxyProcess, server: Server) -> str:
    """As the proxy sees it."""
    [node] = [node for node in status(proxy)["topology"] if node["name"] == server.name]
    return str(node["role"])


async def number(session: Wire, statement: bytes) -> tuple[int, bool]:
    """What the session is shown, and whether by a replica."""
    frames = await session.ask(statement)
    assert wire.errors(frames) == []
    [row] = wire.rows(frames)
    assert row[0] is not None
    return int(row[0]), row[-1] == b"t"


async def until_replica(session: Wire, expected: int) -> None:
    """Wait until a replica serves the session."""
    while True:
        shown, on_replica = await number(session, READ)
        assert shown == expected
        if on_replica:
            return
        await asyncio.sleep(0.02)


async def test_a_replica_that_starts_anew_from_an_older_state(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    primary, (replica, other) = private_cluster.primary, private_cluster.replicas
    await ask(primary, "CREATE TABLE t AS SELECT 0 AS n; CHECKPOINT")
    await asyncio.to_thread(private_cluster.wait_caught_up)
    await asyncio.to_thread(other.stop)
    await ask(replica, "CHECKPOINT")  # where it starts again
    proxy = await asyncio.to_thread(start_proxy, private_cluster.servers)
    async with await Wire.connect(proxy) as session:
        written, _ = await number(session, WRITE)
        await until_replica(session, written)
        await asyncio.to_thread(replica.kill9)
        await eventually(lambda: role(proxy, replica) == "none")
        replica.settings |= {"recovery_target": "immediate", "recovery_target_action": "pause"}
        await asyncio.to_thread(replica.start)
        assert await ask(replica, "SELECT n FROM t") == "0"
        await eventually(lambda: role(proxy, replica) == "replica")
        for _ in range(20):
            assert await number(session, READ) == (written, False)
        await ask(replica, "SELECT pg_wal_replay_resume()")


async def test_a_replica_with_more_of_the_old_timeline_than_the_new_primary(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    await ask(old, "CREATE TABLE t AS SELECT 0 AS n; CREATE TABLE lost (s text)")
    await asyncio.to_thread(private_cluster.wait_caught_up)
    await asyncio.to_thread(new.stop)
    await ask(old, "INSERT INTO lost SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
    await asyncio.to_thread(private_cluster.wait_caught_up)
    await asyncio.to_thread(old.kill9)
    await asyncio.to_thread(new.start)
    await asyncio.to_thread(new.promote)
    proxy = await asyncio.to_thread(start_proxy, [new, other])
    assert (role(proxy, new), role(proxy, other)) == ("primary", "replica")
    async with await Wire.connect(proxy) as session:
        written, _ = await number(session, WRITE)
        assert await ask(other, "SELECT n FROM t") == "0"
        for _ in range(40):
            assert await number(session, READ) == (written, False)
            await asyncio.sleep(0.02)
        behind = "SELECT pg_current_wal_lsn() < '{}'::pg_lsn".format(
            await ask(other, "SELECT pg_last_wal_replay_lsn()")
        )
        assert await ask(new, behind) == "t"  # so positions alone would not have told
