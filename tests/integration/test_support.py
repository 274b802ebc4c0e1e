"""The tests' own tools do what they say, shown against PostgreSQL itself."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.fault import Direction, FaultProxy
from tests.support.processes import wait_ended
from tests.support.proxy import ProxyError, ProxyProcess, config_for
from tests.support.wire import Wire, replies

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]

# --- wire


async def test_a_simple_query_is_answered_frame_by_frame(cluster: Cluster) -> None:
    frames = await replies(cluster.primary, wire.query("SELECT 1, NULL, 'x'"))
    assert [kind for kind, _ in frames] == [b"T", b"D", b"C", b"Z"]
    assert wire.rows(frames) == [[b"1", None, b"x"]]


async def test_the_extended_protocol_in_one_write(cluster: Cluster) -> None:
    frames = await replies(
        cluster.primary,
        wire.parse("SELECT generate_series(1, $1::int)", name="s", types=[23]),
        wire.bind(b"\0\0\0\x03", portal="p", statement="s", formats=[1], result_formats=[1]),
        wire.describe("P", "p"),
        wire.execute("p", 2),
        wire.FLUSH,
        wire.execute("p"),
        wire.close("S", "s"),
        wire.SYNC,
        wire.parse("SELECT nonsense"),
        wire.SYNC,
        ready=2,
    )
    assert b"".join(kind for kind, _ in frames) == b"12TDDsDC3ZEZ"
    assert wire.rows(frames)[-1] == [b"\0\0\0\x03"]
    assert wire.errors(frames) == ["42703"]


async def test_copy_and_function_call(cluster: Cluster, fresh_database: str) -> None:
    address = cluster.primary
    async with await Wire.connect(address, database=fresh_database) as connection:
        await connection.ask(wire.query("CREATE TABLE t (n int)"))
        await connection.send(wire.query("COPY t FROM STDIN"))
        assert (await connection.until(b"G"))[-1][0] == b"G"
        done = await connection.ask(wire.copy_data(b"1\n2\n"), wire.COPY_DONE)
        assert done[0] == (b"C", b"COPY 2\0")
        failed = await connection.ask(wire.query("COPY t FROM STDIN"), wire.copy_fail("enough"))
        assert wire.errors(failed) == ["57014"]
        called = await connection.ask(wire.function_call(1598))  # random()
        assert [kind for kind, _ in called] == [b"V", b"Z"]


async def test_start_up_key_and_cancel(cluster: Cluster) -> None:
    async with await Wire.connect(cluster.primary, application_name="me") as connection:
        assert connection.parameters()["application_name"] == "me"
        pid, secret = connection.key()
        await connection.send(wire.query("SELECT pg_sleep(60)"))
        # PostgreSQL ignores a cancel that comes before the statement.
        sleeps = wire.query(
            f"SELECT FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
        )
        async with await Wire.connect(cluster.primary) as observer:
            while not wire.rows(await observer.ask(sleeps)):
                pass
        async with await Wire.open(cluster.primary) as other:
            await other.send(wire.cancel_request(pid, secret))
            assert await other.until(b"Z") == []
        assert wire.errors(await connection.until(b"Z")) == ["57014"]


async def test_the_end_of_the_stream_ends_the_answer(cluster: Cluster) -> None:
    async with await Wire.connect(cluster.primary, database="missing") as connection:
        frames = connection.startup
    assert wire.errors(frames) == ["3D000"]
    assert frames[-1][0] == b"E"


async def test_requests_for_encryption_are_declined(cluster: Cluster) -> None:
    async with await Wire.open(cluster.primary) as connection:
        for request in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            await connection.send(request)
            assert await connection.reader.readexactly(1) == b"N"


# --- fault


async def test_bytes_pass_unchanged_in_pieces_of_any_size(cluster: Cluster) -> None:
    sql = wire.query("SELECT repeat('x', 5000)")
    async with FaultProxy(cluster.primary) as network:
        network.chunk = 7
        assert await replies(network, sql) == await replies(cluster.primary, sql)
        assert network.forwarded["to_client"] > 5000


@pytest.mark.parametrize("way", ["to_server", "to_client"])
async def test_a_stalled_direction_delivers_when_it_is_resumed(
    cluster: Cluster, way: Direction
) -> None:
    async with (
        FaultProxy(cluster.primary) as network,
        await Wire.connect(network) as connection,
    ):
        network.stall(way)
        await connection.send(wire.query("SELECT 1"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.read()
        network.resume()
        assert wire.rows(await connection.until(b"Z")) == [[b"1"]]


async def test_a_delay_reaches_the_other_side_late(cluster: Cluster) -> None:
    async with (
        FaultProxy(cluster.primary) as network,
        await Wire.connect(network) as connection,
    ):
        loop = asyncio.get_running_loop()
        network.delay["to_client"] = 0.1
        start = loop.time()
        await connection.ask(wire.query("SELECT 1"))
        assert loop.time() - start >= 0.1


async def test_a_half_closed_connection_still_carries_the_other_way(cluster: Cluster) -> None:
    async with (
        FaultProxy(cluster.primary) as network,
        await Wire.connect(network) as connection,
    ):
        network.stall("to_client")
        sent = network.forwarded["to_server"]
        await connection.send(question := wire.query("SELECT 1"))
        await network.wait_forwarded(sent + len(question), "to_server")
        network.half_close("to_server")
        network.resume()
        assert wire.rows(await connection.until(b"Z")) == [[b"1"]]
        assert await connection.until(b"Z") == []  # PostgreSQL takes it as the end


async def test_a_reset_reaches_the_client_as_one(cluster: Cluster) -> None:
    async with FaultProxy(cluster.primary) as network:
        connection = await Wire.connect(network)
        assert network.connections == 1
        network.reset()
        with pytest.raises(ConnectionResetError):
            await connection.read()
        await connection.drop()


async def test_a_reset_in_the_middle_of_a_frame(cluster: Cluster) -> None:
    async with FaultProxy(cluster.primary) as network:
        connection = await Wire.connect(network)
        network.reset_after(10, "to_client")
        await connection.send(wire.query("SELECT 1"))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await connection.until(b"Z")
        assert await replies(network, wire.query("SELECT 1"))  # the next one is not reset
        await connection.drop()


async def test_a_refusing_network_can_accept_again_on_its_port(cluster: Cluster) -> None:
    async with FaultProxy(cluster.primary) as network:
        port = network.port
        await network.refuse()
        with pytest.raises(ConnectionRefusedError):
            await Wire.open(network)
        await network.accept()
        assert network.port == port
        assert await replies(network, wire.query("SELECT 1"))


# --- proxy


def test_a_proxy_that_does_not_start_shows_what_it_said() -> None:
    with pytest.raises(ProxyError, match="size"):
        ProxyProcess.start([], pool={"size": "many"})


async def test_the_same_bytes_as_direct_is_one_line(cluster: Cluster, proxy: ProxyProcess) -> None:
    sql = wire.query("SELECT 1 AS one; SELECT nonsense")
    assert await replies(proxy, sql) == await replies(cluster.primary, sql)


def test_a_proxy_tells_what_it_costs_and_ends_when_asked(
    cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": 2})
    with psycopg.connect(proxy.dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert proxy.cpu_seconds() > 0
    assert proxy.rss_bytes() > 1 << 20
    status, body = proxy.get("/metrics")
    assert (status, "pgproxy_" in body) == (200, True)
    proxy.stop()
    assert proxy.process.returncode == 0
    assert proxy.events("stopped")


def test_a_killed_proxy_is_gone(cluster: Cluster, start_proxy: Callable[..., ProxyProcess]) -> None:
    proxy = start_proxy(cluster.servers)
    proxy.kill9()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(proxy.dsn())


def test_a_proxy_does_not_outlive_a_killed_test_run() -> None:
    script = """
import os, signal
from tests.support.proxy import ProxyProcess, config_for
proxy = ProxyProcess(config_for([]))
print(proxy.process.pid, proxy._leash._process.pid, proxy.config_path.parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        proxy, leash, directory = run.stdout.readline().split()
    started = [one for one in psutil.process_iter() if str(one.pid) in (proxy, leash)]
    assert not wait_ended(started, timeout=30)
    assert not Path(directory).exists()


def test_the_configuration_names_the_servers(cluster: Cluster, tmp_path: Path) -> None:
    from pgproxy.config import load

    path = tmp_path / "pgproxy.toml"
    path.write_text(config_for(cluster.servers, pool={"size": 5}, listen={"max_clients": 7}))
    config = load(path, {})
    assert (config.pool.size, config.listen.max_clients, config.listen.port) == (5, 7, 0)
    assert [backend.port for backend in config.discovery.backends] == [
        server.port for server in cluster.servers
    ]
