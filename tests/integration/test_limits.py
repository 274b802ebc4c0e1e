"""Limits: how many clients, how many server connections, how long one waits and one lives."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Frame, Wire

pytestmark = pytest.mark.timeout(60)

StartProxy = Callable[..., ProxyProcess]

PID: Final = wire.query("SELECT pg_backend_pid()")


def _extended(sql: str) -> list[bytes]:
    return [wire.parse(sql), wire.bind(), wire.execute(), wire.SYNC]


def _pool(proxy: ProxyProcess) -> dict[str, int]:
    [pool] = status(proxy)["pools"]
    found: dict[str, int] = pool
    return found


def _refusal(frames: list[Frame], ready: bytes) -> dict[str, str]:
    """The one ERROR that answers instead of a result."""
    assert [kind for kind, _ in frames] == [b"E", b"Z"], frames
    assert frames[-1][1] == ready
    found = wire.fields(frames[0][1])
    assert found["V"] == "ERROR"
    assert found["R"] == "pgproxy"
    return found


async def test_too_many_clients(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, listen={"max_clients": 3})
    clients = [await Wire.connect(proxy) for _ in range(3)]
    try:
        async with await Wire.connect(proxy) as refused:
            assert [kind for kind, _ in refused.startup] == [b"E"]
            told = wire.fields(refused.startup[0][1])
        assert (told["V"], told["C"]) == ("FATAL", "53300")
        assert told["M"] == "sorry, too many clients already"
        assert "max_clients" in told["D"]
        # Whoever wants to cancel is no client.
        await clients[0].send(wire.query("/* pgproxy: primary */ SELECT pg_sleep(60)"))
        await eventually(lambda: any(pool["leased"] for pool in status(proxy)["pools"]))
        async with await Wire.open(proxy) as canceller:
            await canceller.send(wire.cancel_request(*clients[0].key()))
            assert await canceller.until(b"") == []
        assert wire.errors(await clients[0].until(b"Z")) == ["57014"]
        await clients.pop().close()
        await eventually(lambda: status(proxy)["clients"] == 2)
        clients.append(await Wire.connect(proxy))
        assert wire.errors(await clients[-1].ask(PID)) == []
    finally:
        for client in clients:
            await client.drop()


async def test_many_clients_share_few_server_connections(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 3})
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    pids: set[bytes | None] = set()

    async def work() -> None:
        async with await Wire.connect(proxy, database=fresh_database) as client:
            for number in range(5):
                answer = await client.ask(
                    *(wire.query("BEGIN"), PID, wire.query(f"INSERT INTO t VALUES ({number})")),
                    *_extended("UPDATE t SET n = n + 1 WHERE n < 0"),
                    wire.query("COMMIT"),
                    ready=5,
                )
                assert wire.errors(answer) == []
                pids.add(wire.rows(answer)[0][0])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(40):
            tasks.create_task(work())
    assert len(pids) <= 3
    assert cluster.primary.psql("SELECT count(*) FROM t", fresh_database) == "200"


@pytest.mark.parametrize("protocol", ["simple", "extended"])
async def test_a_wait_for_a_connection_ends_at_wait_timeout(
    cluster: Cluster, start_proxy: StartProxy, protocol: str
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], pool={"size": 1, "wait_timeout": 0.3}
    )
    question = [wire.query("SELECT 2")] if protocol == "simple" else _extended("SELECT 2")
    async with await Wire.connect(proxy) as holder, await Wire.connect(proxy) as client:
        await holder.ask(wire.query("BEGIN; SELECT 1"))
        told = _refusal(await client.ask(*question), b"I")
        assert told["C"] == "53300"
        assert "wait_timeout" in told["D"]
        assert "pool.size" in told["H"]
        assert "pgproxy_wait_timeouts_total 1.0" in proxy.get("/metrics")[1]
        assert _pool(proxy)["waiting"] == 0
        # Of several messages in one write each has its own answer.
        frames = await client.ask(*question, *question, ready=2)
        assert b"".join(kind for kind, _ in frames) == b"EZEZ"
        await holder.ask(wire.query("COMMIT"))
        assert wire.rows(await client.ask(*question)) == [[b"2"]]


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
async def test_in_a_transaction_block_a_refused_wait_fails_the_transaction(
    cluster: Cluster, start_proxy: StartProxy, protocol: str, end: str
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], pool={"size": 1, "wait_timeout": 0.3}
    )

    def say(sql: str) -> list[bytes]:
        return [wire.query(sql)] if protocol == "simple" else _extended(sql)

    async with await Wire.connect(proxy) as holder, await Wire.connect(proxy) as client:
        await holder.ask(wire.query("BEGIN; SELECT 1"))
        assert (await client.ask(wire.query("BEGIN")))[-1] == (b"Z", b"T")
        assert _refusal(await client.ask(*say("SELECT 2")), b"E")["C"] == "53300"
        # It goes on as every failed transaction of PostgreSQL, also when there is room again.
        assert _refusal(await client.ask(*say("SELECT 3")), b"E")["C"] == "25P02"
        await holder.ask(wire.query("COMMIT"))
        assert _refusal(await client.ask(*say("SELECT 3")), b"E")["C"] == "25P02"
        frames = await client.ask(*say(end))
        assert frames[-2:] == [(b"C", b"ROLLBACK\0"), (b"Z", b"I")]
        assert wire.rows(await client.ask(*say("SELECT 4"))) == [[b"4"]]


async def test_those_who_wait_are_served_in_turn(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 1})
    served: list[int] = []

    async def wait(client: Wire, number: int) -> None:
        assert wire.errors(await client.until(b"Z")) == []
        served.append(number)

    holder = await Wire.connect(proxy)
    clients = [await Wire.connect(proxy) for _ in range(8)]
    try:
        await holder.ask(wire.query("BEGIN; SELECT 1"))
        async with asyncio.TaskGroup() as tasks:
            for number, client in enumerate(clients):
                await client.send(wire.query("SELECT pg_sleep(0.02)"))
                await eventually(lambda number=number: _pool(proxy)["waiting"] == number + 1)  # type: ignore[misc]
                tasks.create_task(wait(client, number))
            await holder.ask(wire.query("COMMIT"))
    finally:
        for client in [holder, *clients]:
            await client.drop()
    assert served == sorted(served)


async def test_connections_that_idle_too_long_are_closed(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"idle_timeout": 0.2})
    async with await Wire.connect(proxy) as client:
        pid = wire.rows(await client.ask(PID))
        await eventually(lambda: _pool(proxy)["idle"] == 0)
        assert wire.rows(await client.ask(PID)) != pid


async def test_a_pool_keeps_its_smallest_size(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], pool={"idle_timeout": 0.2, "min_size": 2}
    )
    clients = [await Wire.connect(proxy) for _ in range(5)]
    try:
        for client in clients:
            await client.ask(wire.query("BEGIN; SELECT 1"))
        assert _pool(proxy)["leased"] == 5
        for client in clients:
            await client.ask(wire.query("COMMIT"))
        await eventually(lambda: _pool(proxy)["idle"] == 2)
        pids = {row for client in clients for [row] in wire.rows(await client.ask(PID))}
        await asyncio.sleep(1.5)  # longer than it takes the janitor to look again
        assert _pool(proxy)["idle"] == 2
        assert {row for client in clients for [row] in wire.rows(await client.ask(PID))} <= pids
    finally:
        for client in clients:
            await client.drop()


async def test_what_is_kept_warm_has_the_defaults_of_those_who_come(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"min_size": 3})
    pids_of = (
        "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity"
        f" WHERE datname = '{fresh_database}' AND application_name = ''"
    )

    async def pids(but: set[str], count: int) -> set[str]:
        while True:
            found = set((await asyncio.to_thread(cluster.primary.psql, pids_of)).split()) - but
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)

    async with await Wire.connect(proxy, database=fresh_database) as old:
        before = await pids(set(), 3)
        await old.ask(wire.query(f"ALTER DATABASE {fresh_database} SET work_mem = '7MB'"))
        async with await Wire.connect(proxy, database=fresh_database) as new:
            assert wire.rows(await new.ask(wire.query("SHOW work_mem"))) == [[b"7MB"]]
            # Each has one that it may use, the others are for those who come.
            await pids(before, 2)
            assert wire.rows(await old.ask(wire.query("SHOW work_mem"))) == [[b"4MB"]]
            await old.close()
            await pids(before, 3)
            assert await pids(set(), 3) & before == set()


async def test_connections_that_are_too_old_are_closed_between_transactions(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], pool={"lifetime": 0.5, "size": 1}
    )
    async with await Wire.connect(proxy) as client:
        [[old]] = wire.rows(await client.ask(PID))
        frames = await client.ask(wire.query("BEGIN; SELECT pg_backend_pid()"))
        began = wire.rows(frames)
        # Older than its lifetime, it stays for as long as a transaction needs it.
        await client.ask(wire.query("SELECT pg_sleep(0.7)"))
        assert wire.rows(await client.ask(PID)) == began
        await client.ask(wire.query("COMMIT"))
        assert wire.rows(await client.ask(PID)) != began
        await eventually(lambda: _pool(proxy)["idle"] == 0)  # and unused ones go by themselves
        assert wire.rows(await client.ask(PID)) != [[old]]


async def test_a_connection_counts_until_its_server_process_has_ended(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    """Else the server would have more of them than the pool's size, and might refuse one."""
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, pool={"size": 1})
    async with (
        await Wire.connect(proxy, database=fresh_database) as one,
        await Wire.connect(proxy, database=fresh_database) as other,
    ):
        spoilt = wire.query("SET app.who = 'one'; /* pgproxy: primary */ SELECT pg_backend_pid()")
        pid = int(wire.rows(await one.ask(spoilt))[0][0] or b"")
        async with asyncio.TaskGroup() as group:
            os.kill(pid, signal.SIGSTOP)
            try:
                said = wire.query("/* pgproxy: primary */ SELECT 1")
                asked = group.create_task(other.ask(said))
                done, _ = await asyncio.wait([asked], timeout=0.5)
                assert not done
            finally:
                os.kill(pid, signal.SIGCONT)
        assert wire.errors(asked.result()) == []
