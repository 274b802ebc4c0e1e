"""`pgproxy serve` as a process: its start, its log, its signals; and that it forgets its clients."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from pgproxy import app
from pgproxy.clients.connection import ClientConnection
from pgproxy.config import Auth, Backend, Config, Discovery, Health, Http, Listen, Timeouts
from pgproxy.embedded import Cluster
from pgproxy.relay.relay import Relay
from tests.support import wire
from tests.support.proxy import HOST, ProxyProcess, config_for
from tests.support.watch import bystander, eventually, has_a_reader, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(60)]

StartProxy = Callable[..., ProxyProcess]


def _serve(config: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `pgproxy serve` to an end that it must come to by itself."""
    path = directory / "pgproxy.toml"
    path.write_text(config)
    return subprocess.run(
        [sys.executable, "-m", "pgproxy", "serve", "--config", path],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=30,
    )


def test_a_faulty_configuration_is_told_line_by_line(cluster: Cluster, tmp_path: Path) -> None:
    config = config_for(cluster.servers, pool={"size": 0, "sise": 5}, nowhere={"x": 1})
    done = _serve(config, tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for key in ("pool.size", "pool.sise", "nowhere"):
        assert sum(key in line for line in done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("section", ["listen", "http"])
def test_a_port_that_is_taken(cluster: Cluster, tmp_path: Path, section: str) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = _serve(config_for(cluster.servers, **{section: {"port": port}}), tmp_path)
    assert done.returncode not in (0, 2)
    assert "Traceback" not in done.stderr
    assert str(port) in done.stderr


def test_the_environment_wins_over_the_file(cluster: Cluster, tmp_path: Path) -> None:
    done = _serve(config_for(cluster.servers), tmp_path, PGPROXY_POOL__SIZE="none")
    assert done.returncode == 2
    assert "PGPROXY_POOL__SIZE" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_well(
    cluster: Cluster, start_proxy: StartProxy, number: signal.Signals
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with await Wire.connect(proxy) as client:
        await client.ask(wire.query("SELECT 1"))
        proxy.process.send_signal(number)
        frames = await client.until(b"")
        assert wire.errors(frames) == ["57P01"]
    await asyncio.to_thread(proxy.process.wait)
    assert proxy.process.returncode == 0
    await asyncio.to_thread(proxy.stop)


async def test_a_signal_before_it_serves(cluster: Cluster, tmp_path: Path) -> None:
    """It must not be the kernel that ends it: it would not end the first process of a container.
    A pipe that nobody writes to holds the start up where the users are read."""
    pipe = tmp_path / "users.txt"
    os.mkfifo(pipe)
    auth = {"method": "scram-sha-256", "users_file": str(pipe)}
    proxy = ProxyProcess(config_for(cluster.servers, auth=auth))
    try:
        await eventually(lambda: has_a_reader(pipe))
        proxy.terminate()
        await asyncio.to_thread(proxy.wait_end)
    finally:
        if proxy.process.returncode is None:
            proxy.kill9()


async def test_a_signal_while_clients_log_in(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    silent = [await Wire.open(proxy) for _ in range(5)]
    await silent[0].send(wire.startup("postgres", "postgres")[:10])
    await asyncio.to_thread(proxy.stop)
    for connection in silent:
        assert all(kind == b"E" for kind, _ in await _rest(connection))
        await connection.drop()


async def _rest(connection: Wire) -> list[wire.Frame]:
    try:
        return await connection.until(b"")
    except ConnectionError:
        return []


async def test_each_line_of_the_log_is_json(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with bystander(proxy), await Wire.open(proxy) as garbage:
        await garbage.send(b"\xff" * 32)
        await garbage.until(b"")
    await asyncio.to_thread(proxy.stop)
    lines = [json.loads(line) for line in proxy.stderr.splitlines()]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    events = [line["event"] for line in lines]
    assert events.index("listening") < events.index("draining") < events.index("stopped")


def test_it_is_one_process(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = start_proxy(cluster.servers)
    assert psutil.Process(proxy.process.pid).children(recursive=True) == []


async def test_the_state_of_clients_that_have_left_is_forgotten(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """Statements, parameters, pools of many clients: nothing grows with those that were."""
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 2})
    for number in range(60):
        async with await Wire.connect(proxy, application_name=f"client {number}") as client:
            await client.ask(
                wire.parse(f"SELECT {number}", name=f"statement {number}"),
                *(wire.bind(statement=f"statement {number}"), wire.execute(), wire.SYNC),
            )
    await eventually(lambda: status(proxy)["clients"] == 0)
    assert "pgproxy_prepared_statements 0.0" in proxy.get("/metrics")[1]
    [pool] = status(proxy)["pools"]
    assert pool["idle"] <= 2


async def test_no_task_and_no_object_of_a_client_outlives_it(cluster: Cluster) -> None:
    """In this process, where they can be counted, and on asyncio's own event loop."""
    config = Config(
        listen=Listen(host=HOST, port=0, drain_accept_seconds=0),
        http=Http(host=HOST, port=0),
        auth=Auth(method="trust", users_file=None),
        health=Health(interval=0.2),
        timeouts=Timeouts(client_login=0.3),
        discovery=Discovery(
            backends=tuple(
                Backend(host=server.host, port=server.port, name=server.name)
                for server in cluster.servers
            )
        ),
    )
    ready: asyncio.Queue[app.Ready] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(app.serve(config, on_ready=ready.put_nowait))
        address = await ready.get()
        others = _alive()  # other tests of this process may have kept theirs
        async with bystander(address):
            assert _alive() == others + 2
        before = len(asyncio.all_tasks())
        for number in range(60):
            connection = await Wire.open(address)
            if number % 4:
                await connection.send(wire.startup("postgres", "postgres"))
            if number % 4 > 1:
                await connection.until(b"Z")
                await connection.send(
                    wire.query("BEGIN; SELECT 1; SELECT pg_sleep(60)"), b"Q\0\0\0\1"
                )
            if number % 3:
                await connection.drop()
            else:
                connection.writer.transport.abort()
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
        await eventually(lambda: _alive() <= others)
        serving.cancel()


def _alive() -> int:
    gc.collect()
    return sum(isinstance(one, ClientConnection | Relay) for one in gc.get_objects())
