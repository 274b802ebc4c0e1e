"""Clients that send without end and do not read: what the proxy holds for them is bounded, and others
are served meanwhile."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.flood import floods, pipeline, pour, raw_client, reset
from tests.support.proxy import ProxyProcess
from tests.support.watch import PeakMemory, bystander, eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.timeout(120), pytest.mark.once]

StartProxy = Callable[..., ProxyProcess]

FLOODERS: Final = 6
# Bytes that one of them may make the proxy hold: a chunk of 256 KB, the backlog, two write buffers,
# and what the statements of a turn make of that.
EACH: Final = 4 << 20
SECONDS: Final = 3.0

FLOODS: Final = {
    "empty": wire.query(""),
    "begin": wire.query("BEGIN") + wire.query("COMMIT"),
    "set_route": wire.query("SET pgproxy.route = 'primary'"),
    "last_route": wire.query("SHOW pgproxy.last_route"),
    "pool_nodes": wire.query("SHOW POOL_NODES"),
    "pool_processes": wire.query("SHOW POOL_PROCESSES"),
    "own_errors": wire.query("SET pgproxy.route = 'nowhere'"),
    "listen": wire.query("LISTEN flood") + wire.query("UNLISTEN flood"),
    "errors": wire.query("SELECT 1/0"),
    "not_understood": wire.query("flood"),
    "reads": wire.query("SELECT 1"),
    "writes": wire.query("/* pgproxy: primary */ SELECT 1"),
    "settings": wire.query("SET work_mem = '1MB'") + wire.query("RESET ALL"),
    "notify": wire.query("NOTIFY flood, 'x'"),
    "large": wire.query("SELECT repeat('x', 1000000)"),
    "parse": wire.parse("SELECT 1") + wire.describe("S") + wire.FLUSH,
    "named": wire.parse("SELECT 1", name="a") + wire.close("S", "a") + wire.FLUSH,
    "no_sync": wire.parse("SELECT 1") + wire.bind() + wire.execute(),
    "batches": wire.parse("SELECT 1") + wire.bind() + wire.execute() + wire.SYNC,
    "syncs": wire.SYNC,
    "flushes": wire.FLUSH,
    "copy_data": wire.copy_data(b"x" * 100),
    "prepare": wire.query("PREPARE a AS SELECT 1") + wire.query("DEALLOCATE a"),
}


@pytest.fixture(scope="module")
def flooded(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers, pool={"size": 10}) as proxy:
        yield proxy


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_bounded_and_others_go_on(flooded: ProxyProcess, name: str) -> None:
    async with bystander(flooded) as other:
        with PeakMemory(flooded) as memory:
            async with floods(flooded, FLOODS[name], clients=FLOODERS, seconds=SECONDS) as poured:
                await other.served(10)
    flooded.check()
    print(  # noqa: T201
        f"{name}: {sum(poured) >> 10} KB sent, {memory.growth >> 10} KB held,"
        f" {other.answers} answers to others"
    )
    assert memory.growth < FLOODERS * EACH
    await eventually(lambda: status(flooded)["clients"] == 0)


@pytest.mark.parametrize("name", ["empty", "set_route", "reads"])
async def test_a_client_that_pipelines_does_not_hold_up_others(
    flooded: ProxyProcess, name: str
) -> None:
    """A loop that goes on as long as there is something to read would serve one other for each chunk
    of 256 KB, some 7,000 of these statements."""
    count = 40_000
    async with bystander(flooded) as other, await Wire.connect(flooded) as client:
        before = other.answers
        await pipeline(client, FLOODS[name], count, 1)
        served = other.answers - before
    print(f"{name}: {count} statements of one client, {served} of another meanwhile")  # noqa: T201
    assert served * 4000 > count


async def test_a_console_user_that_does_not_read_is_not_answered_on_and_on(
    flooded: ProxyProcess,
) -> None:
    client = await raw_client(flooded, database="pgproxy")
    async with bystander(flooded) as other:
        with PeakMemory(flooded) as memory:
            sent = await pour(client, wire.query("SHOW CONFIG"), SECONDS)
            await other.served(4)
        reset(client)
    print(f"{sent >> 10} KB sent, {memory.growth >> 10} KB held")  # noqa: T201
    assert memory.growth < EACH


async def test_log_ins_that_come_to_nothing_are_ended_and_hold_up_nobody(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """Nothing said, half a packet, SSLRequest and nothing more, no password."""
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, timeouts={"client_login": 10})
    packet = wire.startup("postgres", "postgres", application_name="x" * 9000)
    beginnings = [b"", packet[:2], packet[:-900], wire.SSL_REQUEST, wire.SSL_REQUEST * 2]
    with PeakMemory(proxy) as memory:
        async with bystander(proxy) as other:
            strangers = [await Wire.open(proxy) for _ in range(400)]
            for number, stranger in enumerate(strangers):
                await stranger.send(beginnings[number % len(beginnings)])
            await eventually(lambda: _arriving(proxy) > 100)
            await other.served(10)
            # A byte now and then is no progress.
            while _arriving(proxy):
                strangers[2].writer.write(b"\0")
                await asyncio.sleep(0.1)
        ends = [await stranger.reader.read() for stranger in strangers]
    for stranger in strangers:
        await stranger.drop()
    print(f"{memory.growth >> 10} KB held")  # noqa: T201
    assert memory.growth < 400 * 50_000
    assert sum(b"C57014\0" in end for end in ends) >= 300


def _arriving(proxy: ProxyProcess) -> int:
    with psycopg.connect(proxy.dsn("pgproxy"), autocommit=True) as console:
        counts = dict(console.execute("SHOW LISTS").fetchall())
    return int(counts["login_clients"])


async def test_a_statement_that_comes_in_tiny_pieces_costs_little(flooded: ProxyProcess) -> None:
    async with await Wire.connect(flooded) as client:
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        statement = wire.query(f"SELECT '{'x' * 50_000}'")
        with PeakMemory(flooded) as memory:
            for at in range(0, len(statement), 2):
                client.writer.write(statement[at : at + 2])
                await asyncio.sleep(0)
            assert wire.errors(await client.until(b"Z")) == []
    print(f"{memory.growth >> 10} KB held")  # noqa: T201
    assert memory.growth < 8 << 20
