"""File descriptors run out: clients wait in the kernel's queue, what watches goes on."""

import asyncio
import resource
from collections.abc import Callable
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import descriptors, eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.timeout(120), pytest.mark.once]

StartProxy = Callable[..., ProxyProcess]

CLIENTS: Final = 300


def _allow(proxy: ProxyProcess, count: int) -> None:
    """That many descriptors, from now on."""
    hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (count, hard))


async def test_clients_wait_in_the_kernels_queue_while_there_are_no_descriptors(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    console = await asyncio.to_thread(psycopg.connect, proxy.dsn("pgproxy"), autocommit=True)
    served = await Wire.connect(proxy)
    await served.ask(wire.query("SELECT 1"))
    _allow(proxy, 160)
    waiting = {asyncio.ensure_future(Wire.connect(proxy)) for _ in range(CLIENTS)}  # noqa: TID251
    clients: list[Wire] = []
    try:
        await asyncio.to_thread(proxy.wait_event, "accepting_paused")
        # Some are let in, and the others are not sent away.
        await eventually(lambda: status(proxy)["clients"] > 50)
        before = proxy.cpu_seconds()
        await asyncio.sleep(2)
        used = proxy.cpu_seconds() - before
        print(f"idle without descriptors: {used / 2:.1%} of a processor")  # noqa: T201
        assert descriptors(proxy) < 160 - 30  # servers and catalogues may take some of the reserve
        assert len(proxy.events("accepting_paused")) < 30
        let_in = {one for one in waiting if one.done()}
        assert 50 < len(let_in) < CLIENTS
        assert all(one.result().startup[-1] == (b"Z", b"I") for one in let_in)
        # Probes, scrapes, the console and those who are there go on.
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await asyncio.to_thread(proxy.get, path))[0] == 200
        assert len(console.execute("SHOW CLIENTS").fetchall()) > 50
        assert wire.rows(await served.ask(wire.query("SELECT 2"))) == [[b"2"]]
        # As descriptors get free, all get in.
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                client = one.result()
                assert client.startup[-1] == (b"Z", b"I")
                clients.append(client)
                await client.close()
        assert len(clients) == CLIENTS
        print(f"{len(proxy.events('accepting_paused'))} lines in the log")  # noqa: T201
    finally:
        for one in waiting:
            one.cancel()
        await served.drop()
        console.close()
    await eventually(lambda: status(proxy)["clients"] == 0)


async def test_a_server_connection_without_a_descriptor_fails_with_words(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, cluster.servers, pool={"wait_timeout": 0.5, "size": 5}
    )
    clients = [await Wire.connect(proxy, database=fresh_database) for _ in range(5)]
    try:
        await clients[0].ask(wire.query("BEGIN; SELECT 1"))
        usual = resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE)[0]
        _allow(proxy, descriptors(proxy) + 2)
        answers = [await client.ask(wire.query("BEGIN; SELECT 2")) for client in clients[1:]]
        answer = answers[-1]  # the others may have found connections that were open
        [error] = [wire.fields(body) for kind, body in answer if kind == b"E"]
        assert error["C"] == "08001"
        assert "no file descriptor left" in error["M"]
        _allow(proxy, usual)  # or the next question may find no descriptor either
        # Which is nobody's fault but the proxy's: servers keep their roles.
        assert (await asyncio.to_thread(proxy.get, "/readyz"))[0] == 200
        assert [node["alive"] for node in status(proxy)["topology"]] == [True] * 3
        assert wire.errors(await clients[0].ask(wire.query("COMMIT"))) == []
        assert wire.errors(await clients[-1].ask(wire.query("SELECT 2"))) == []
    finally:
        for client in clients:
            await client.drop()
