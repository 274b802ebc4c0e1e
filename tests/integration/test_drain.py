"""SIGTERM: the port first stays open, then clients go between transactions, then all that is left.

What pools make of it is in test_rolling_restart.py.
"""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Final

import pytest

from pgproxy import app
from pgproxy.config import Auth, Backend, Config, Discovery, Health, Http, Limits, Listen
from pgproxy.embedded import Cluster, Server
from tests.support import wire
from tests.support.inprocess import serving
from tests.support.proxy import HOST, ProxyProcess, config_for
from tests.support.watch import eventually, status
from tests.support.wire import Frame, Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(60)]

StartProxy = Callable[..., ProxyProcess]

SELECT: Final = wire.query("SELECT 1")
SLEEP: Final = wire.query("/* pgproxy: primary */ SELECT pg_sleep(60)")
# More than all buffers on the way to a client hold.
LARGE: Final = "SELECT repeat('x', 1000000) FROM generate_series(1, 100)"
ROW: Final = 1_000_001  # of it in a COPY, with the end of the line


def _told_to_go(frames: list[Frame]) -> bool:
    """Whether that is 57P01 and nothing else, after which the connection was closed."""
    if [kind for kind, _ in frames] != [b"E"]:
        return False
    found = wire.fields(frames[0][1])
    return found["C"] == "57P01" and found["V"] == "FATAL"


def _kinds(frames: list[Frame]) -> bytes:
    return b"".join(kind for kind, _ in frames)


def _states(proxy: ProxyProcess) -> dict[str, int]:
    found: dict[str, int] = status(proxy)["drain_clients"]
    return {state: count for state, count in found.items() if count}


async def _until_sleeping(server: Server, database: str, count: int) -> None:
    asleep = (
        "SELECT count(*) FROM pg_stat_activity"
        f" WHERE wait_event = 'PgSleep' AND datname = '{database}'"
    )
    while await asyncio.to_thread(server.psql, asleep) != str(count):  # noqa: ASYNC110 - psql is asked
        await asyncio.sleep(0.01)


async def _terminate(proxy: ProxyProcess) -> None:
    """SIGTERM, and wait until it is noticed."""
    count = len(proxy.events("draining"))
    proxy.process.send_signal(signal.SIGTERM)
    await eventually(lambda: len(proxy.events("draining")) > count)


async def _drop(*clients: Wire) -> None:
    for client in clients:
        await client.drop()


class Clients:
    """One in each state, on a proxy with four server connections."""

    idle: Wire
    transaction: Wire
    pipeline: Wire
    partial: Wire
    copying_in: Wire
    copying_out: Wire
    waiting: Wire

    @classmethod
    async def connect(cls, proxy: ProxyProcess, database: str) -> "Clients":
        found = cls()
        for name in cls.__annotations__:
            setattr(found, name, await Wire.connect(proxy, database=database))
        await found.idle.ask(SELECT)
        insert = wire.query("INSERT INTO t VALUES (1)")
        await found.transaction.ask(wire.query("BEGIN"), insert, ready=2)
        await found.pipeline.send(
            wire.parse("INSERT INTO t VALUES (2)"), wire.bind(), wire.execute(), wire.FLUSH
        )
        await found.pipeline.until(b"C")
        await found.partial.send(wire.query("INSERT INTO t VALUES (3)")[:-4])
        await found.copying_in.send(wire.query("COPY t FROM STDIN"), wire.copy_data(b"4\n"))
        await found.copying_in.until(b"G")
        await found.copying_out.send(wire.query(f"COPY ({LARGE}) TO STDOUT"))
        await found.copying_out.until(b"H")
        await found.waiting.send(wire.query("INSERT INTO t VALUES (5)"))
        await eventually(lambda: sum(pool["waiting"] for pool in status(proxy)["pools"]) == 1)
        return found

    async def drop(self) -> None:
        await _drop(*(getattr(self, name) for name in type(self).__annotations__))


@pytest.fixture
def table(cluster: Cluster, fresh_database: str) -> str:
    """The database that has a table t."""
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    cluster.wait_caught_up()
    return fresh_database


async def _nobody_is_left(cluster: Cluster, database: str) -> None:
    left = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    while await asyncio.to_thread(cluster.primary.psql, left) != "0":  # noqa: ASYNC110 - psql is asked
        await asyncio.sleep(0.01)


# --- the port stays open


async def test_before_the_port_closes_all_is_as_ever(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, cluster.servers, listen={"drain_accept_seconds": 600}
    )
    before = await Wire.connect(proxy, database=fresh_database)
    assert "pgproxy_draining 0.0" in proxy.get("/metrics")[1]
    await _terminate(proxy)
    assert proxy.get("/readyz") == (503, "draining\n")
    assert proxy.get("/livez")[0] == 200
    assert status(proxy)["draining"] is True
    after = await Wire.connect(proxy, database=fresh_database)
    for client in (before, after):
        assert _kinds(await client.ask(SELECT)) == b"TDCZ"
    # Cancel requests come on connections of their own.
    await after.send(SLEEP)
    await _until_sleeping(cluster.primary, fresh_database, 1)
    canceller = await Wire.open(proxy)
    await canceller.send(wire.cancel_request(*after.key()))
    assert wire.errors(await after.until(b"Z")) == ["57014"]
    await eventually(lambda: _states(proxy) == {"idle": 2})
    metrics = proxy.get("/metrics")[1]
    assert "pgproxy_draining 1.0" in metrics
    assert 'pgproxy_drain_clients{state="idle"} 2.0' in metrics
    # The second signal is the end of it.
    await before.send(SLEEP)
    await _until_sleeping(cluster.primary, fresh_database, 1)
    proxy.process.send_signal(signal.SIGTERM)
    for client in (before, after):
        assert _told_to_go(await client.until(b""))
    await asyncio.to_thread(proxy.wait_end)
    await _until_sleeping(cluster.primary, fresh_database, 0)
    await _drop(before, after, canceller)


async def test_whoever_is_in_the_queue_of_the_port_is_let_in() -> None:
    """The event loop does not get to accept them before the port is closed."""
    proxy = app.Proxy(_config([]), None)
    address = await proxy.listener.listen(HOST, 0)
    queued = [socket.create_connection(address) for _ in range(20)]
    for connection in queued:
        connection.sendall(wire.SSL_REQUEST)
    proxy.listener.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    loop = asyncio.get_running_loop()
    for connection in queued:
        connection.setblocking(False)
        assert await loop.sock_recv(connection, 2) == b"N"
    # And who does not say who he is gets an answer as well.
    await proxy.drain.close()
    for connection in queued:
        answer = await loop.sock_recv(connection, 4096)
        assert answer[:1] == b"E"
        assert b"C57P01\0" in answer
        assert await loop.sock_recv(connection, 1) == b""
        connection.close()
    await eventually(lambda: not proxy.listener.arriving)


async def test_whoever_is_in_that_queue_at_the_very_end_is_told() -> None:
    """Even if nobody else is there to wait for."""
    proxy = app.Proxy(_config([]), None)
    address = await proxy.listener.listen(HOST, 0)
    queued = [socket.create_connection(address) for _ in range(20)]
    await proxy.drain.close()
    for connection in queued:
        connection.settimeout(10)
        answer = connection.recv(4096)
        assert answer[:1] == b"E"
        assert b"C57P01\0" in answer
        connection.close()
    assert not proxy.listener.arriving


@pytest.mark.parametrize("left", [0, 1, 3])
async def test_the_port_closes_without_descriptors_too(left: int) -> None:
    """Those in its queue are lost; the clients that are there must not be."""
    proxy = app.Proxy(_config([]), None)
    address = await proxy.listener.listen(HOST, 0)
    queued = [socket.create_connection(address) for _ in range(5)]
    _, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.dup(0) for _ in range(left + 1)]  # the lowest that are free
    for descriptor in spare:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare), hard))
    try:
        proxy.listener.stop_accepting()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    await proxy.drain.close()
    for connection in queued:
        connection.close()
    await eventually(lambda: not proxy.listener.arriving)


@pytest.mark.parametrize("part", ["janitor", "monitor"])
async def test_it_drains_when_a_vital_part_has_failed(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = app.Proxy(_config([]), None)

    async def fail() -> None:
        await proxy.monitor.first_round.wait()
        raise LookupError(part)

    async def fail_at_once() -> None:
        raise LookupError(part)

    monkeypatch.setattr(
        getattr(proxy.servers, part),
        "run",
        fail if part == "janitor" else fail_at_once,
        raising=True,
    )
    with pytest.raises(LookupError, match=part):
        await proxy.run(None)
    assert proxy.drain.draining


# --- the window


async def test_everybody_may_finish(cluster: Cluster, table: str, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 4})
    clients = await Clients.connect(proxy, table)
    login = await Wire.open(proxy)
    first = wire.startup("postgres", table)
    await login.send(first[:20])
    await eventually(lambda: "pgproxy_clients 7.0" in proxy.get("/metrics")[1])
    await _terminate(proxy)
    # Who is half-way through the log-in gets in, and may ask something.
    await login.send(first[20:])
    assert (await login.until(b"Z"))[-1] == (b"Z", b"I")
    assert _told_to_go(await clients.idle.until(b""))
    assert _states(proxy)["transaction"] == 1
    assert _states(proxy)["active"] == 4
    assert _states(proxy)["waiting"] == 1
    assert [line for line in proxy.events("draining") if line.get("active") == 4]
    await clients.transaction.send(wire.query("COMMIT"))
    assert _kinds(await clients.transaction.until(b"")) == b"CZE"
    await clients.pipeline.send(wire.SYNC)
    assert _kinds(await clients.pipeline.until(b"")) == b"ZE"
    await clients.partial.send(wire.query("INSERT INTO t VALUES (3)")[-4:])
    assert _kinds(await clients.partial.until(b"")) == b"CZE"
    await clients.copying_in.send(wire.COPY_DONE)
    assert _kinds(await clients.copying_in.until(b"")) == b"CZE"
    frames = await clients.copying_out.until(b"")
    assert _kinds(frames) == b"d" * 100 + b"cCZE"
    assert wire.errors(frames) == ["57P01"]
    assert _kinds(await clients.waiting.until(b"")) == b"CZE"
    assert _told_to_go(await login.until(b""))
    await asyncio.to_thread(proxy.wait_end)
    assert proxy.events("cut_off") == []
    stored = cluster.primary.psql("SELECT n FROM t ORDER BY n", table)
    assert stored.split() == ["1", "2", "3", "4", "5"]
    await _nobody_is_left(cluster, table)
    await clients.drop()
    await login.drop()


async def test_session_state_stays_for_half_the_window_and_is_served(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with await Wire.connect(proxy) as pinned, await Wire.connect(proxy) as idle:
        await pinned.ask(wire.query("CREATE TEMP TABLE mine (n int)"))
        await _terminate(proxy)
        assert _told_to_go(await idle.until(b""))
        assert _states(proxy).get("pinned") == 1
        assert _kinds(await pinned.ask(wire.query("INSERT INTO mine VALUES (1)"))) == b"CZ"
        assert _told_to_go(await pinned.until(b""))
    await asyncio.to_thread(proxy.wait_end)


@pytest.mark.parametrize("transactions", [True, False])
async def test_a_client_without_a_pause_goes_too(
    cluster: Cluster, start_proxy: StartProxy, *, transactions: bool
) -> None:
    """It is refused where it begins a transaction; where it uses none, between two statements."""
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, listen={"drain_timeout": 6})
    async with await Wire.connect(proxy) as client:
        await client.ask(SELECT)
        await _terminate(proxy)
        asked = [wire.query("BEGIN"), SELECT, wire.query("COMMIT")] if transactions else [SELECT]
        while True:
            for number, message in enumerate(asked):
                frames = await client.ask(message)
                if _told_to_go(frames):
                    assert number == 0
                    break
                assert frames[-1][0] == b"Z", frames
            else:
                continue
            break
    await asyncio.to_thread(proxy.wait_end)
    assert proxy.events("cut_off") == []


# --- its end


def _nothing_is_in_the_middle_of_a_row(rest: bytes) -> None:
    """There a message would be taken for a part of the row; between two it is one."""
    while rest[:1] == b"d" and len(rest) >= 5 + ROW:
        assert rest[5 : 5 + ROW] == b"x" * (ROW - 1) + b"\n"
        rest = rest[5 + ROW :]
    if rest[:1] == b"E":
        assert b"C57P01\0" in rest
    else:
        assert rest[5:].strip(b"x") == b""


async def test_the_end_of_the_window(cluster: Cluster, table: str, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], pool={"size": 4}, listen={"drain_timeout": 0.5}
    )
    clients = await Clients.connect(proxy, table)
    silent = await Wire.open(proxy)
    await _terminate(proxy)
    assert _told_to_go(await clients.transaction.until(b""))
    _nothing_is_in_the_middle_of_a_row(await clients.copying_out.reader.read())
    for client in (
        clients.idle,
        clients.pipeline,
        clients.partial,
        clients.waiting,
        silent,
    ):
        assert _told_to_go(await client.until(b""))
    # PostgreSQL reads no cancel while it waits for copy data.
    assert wire.errors(await clients.copying_in.until(b""))[-1] == "57P01"
    await asyncio.to_thread(proxy.wait_end)
    [line] = proxy.events("cut_off")
    assert line["clients"] == 6
    assert cluster.primary.psql("SELECT n FROM t", table) == ""
    await _nobody_is_left(cluster, table)
    await clients.drop()
    await silent.drop()


async def test_a_transaction_longer_than_the_window_is_cancelled(
    cluster: Cluster, table: str, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, listen={"drain_timeout": 0.5})
    async with await Wire.connect(proxy, database=table) as client:
        await client.ask(wire.query("BEGIN"), wire.query("INSERT INTO t VALUES (1)"), ready=2)
        await client.send(wire.query("SELECT pg_sleep(60)"))
        await _until_sleeping(cluster.primary, table, 1)
        proxy.process.send_signal(signal.SIGTERM)
        frames = await client.until(b"")
        assert wire.errors(frames) == ["57014", "57P01"]
        assert _kinds(frames)[-3:] == b"EZE"
    await asyncio.to_thread(proxy.wait_end)
    assert cluster.primary.psql("SELECT n FROM t", table) == ""


async def test_what_clients_have_left_running_has_the_window(
    cluster: Cluster, table: str, start_proxy: StartProxy
) -> None:
    late = wire.query("INSERT INTO t SELECT 1 FROM (SELECT pg_sleep(3)) AS _")
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, listen={"drain_timeout": 60})
    client = await Wire.connect(proxy, database=table)
    await client.send(late, wire.TERMINATE)
    await _until_sleeping(cluster.primary, table, 1)
    proxy.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(proxy.wait_end)
    assert cluster.primary.psql("SELECT n FROM t", table) == "1"
    await client.drop()

    proxy = await asyncio.to_thread(start_proxy, cluster.servers, listen={"drain_timeout": 0.5})
    client = await Wire.connect(proxy, database=table)
    await client.send(wire.query("/* pgproxy: primary */ SELECT pg_sleep(600)"), wire.TERMINATE)
    await _until_sleeping(cluster.primary, table, 1)
    proxy.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(proxy.wait_end)
    await _nobody_is_left(cluster, table)
    await client.drop()


async def test_who_reads_nothing_is_not_waited_for_to_the_end(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """The window is longer than this test may last."""
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, listen={"drain_timeout": 600})
    async with await Wire.connect(proxy) as client:
        await client.send(wire.query(LARGE))
        await client.until(b"T")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await _terminate(proxy)
        await asyncio.to_thread(proxy.wait_end)
    [line] = proxy.events("cut_off")
    assert line["clients"] == 1


async def test_what_comes_late_does_not_eat_the_last_message(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """Bytes that nobody reads make a reset of a close, and a reset overtakes what was said."""
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with await Wire.connect(proxy) as client:
        client.writer.write(b"\xff" * 5_000_000)
        assert wire.errors(await client.until(b"")) == ["08P01"]


# --- at odd moments


def test_a_signal_before_the_port_is_open() -> None:
    """No server has answered yet, and is not waited for."""
    with socket.create_server((HOST, 0)) as mute:
        port = mute.getsockname()[1]
        backend = f'[[discovery.backends]]\nhost = "{HOST}"\nport = {port}\n'
        proxy = ProxyProcess(config_for([]) + backend)
        proxy.wait_event("http_listening")
        proxy.stop()
    assert proxy.events("listening") == []
    assert proxy.events("stopped")


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_signal_while_clients_wait_for_a_primary(
    cluster: Cluster, start_proxy: StartProxy, signals: int
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, cluster.replicas, listen={"drain_timeout": 0.5 if signals == 1 else 600}
    )
    waiting = [await Wire.connect(proxy) for _ in range(3)]
    for client in waiting:
        await client.send(wire.query("CREATE TABLE never (n int)"))
    await eventually(lambda: "pgproxy_homeless 3.0" in proxy.get("/metrics")[1])
    for _ in range(signals):
        await _terminate(proxy) if signals == 1 else proxy.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)  # two signals at a time are one
    for client in waiting:
        assert _told_to_go(await client.until(b""))
    await asyncio.to_thread(proxy.wait_end)
    await _drop(*waiting)


async def test_a_log_in_that_waits_for_its_turn_is_not_waited_for_at_the_end(
    cluster: Cluster, fresh_database: str
) -> None:
    limits = Limits(max_concurrent=1)
    async with serving({cluster.primary: "primary"}, limits=limits) as running:
        proxy = running.proxy
        await running.until(lambda: running.topology.primary is not None)
        async with await Wire.connect(running) as holder:
            assert wire.errors(await holder.ask(wire.query("BEGIN; SELECT 1"))) == []
            before = len(proxy.server_tasks)
            waiting = await Wire.open(running)
            await waiting.send(wire.startup("postgres", fresh_database))

            def asking() -> int:
                return sum(len(pool.seats.asking) for pool in proxy.cluster.pools() if pool.seats)

            await running.until(lambda: asking() == 1)
            assert len(proxy.server_tasks) == before + 1
            failed = proxy.cluster.context.counters.server_logins_failed
            proxy.cluster.close()
            await running.until(lambda: len(proxy.server_tasks) <= before)
            assert asking() == 0
            assert proxy.cluster.context.counters.server_logins_failed == failed + 1
            # It has a seat, and keeps it to the end of its transaction.
            assert wire.errors(await holder.ask(wire.query("COMMIT"))) == []
        await waiting.drop()


async def test_nothing_is_left_in_the_process(cluster: Cluster, fresh_database: str) -> None:
    """No task, no descriptor; on asyncio's own event loop."""
    tasks = asyncio.all_tasks()
    descriptors = len(os.listdir("/proc/self/fd"))
    ready: asyncio.Queue[app.Ready] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    serving = loop.create_task(app.serve(_config(cluster.servers), on_ready=ready.put_nowait))
    address = await ready.get()
    clients = [await Wire.connect(address, database=fresh_database) for _ in range(5)]
    await clients[0].ask(SELECT)
    await clients[1].ask(wire.query("BEGIN"), wire.query("SELECT 1"), ready=2)
    await clients[2].send(SLEEP)
    await _until_sleeping(cluster.primary, fresh_database, 1)
    half = await Wire.open(address)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    assert wire.errors(await clients[2].until(b"")) == ["57014", "57P01"]
    await _drop(*clients, half)
    await eventually(lambda: asyncio.all_tasks() == tasks)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def _config(servers: list[Server]) -> Config:
    return Config(
        listen=Listen(host=HOST, port=0, drain_accept_seconds=0.1, drain_timeout=0.5),
        http=Http(host=HOST, port=0),
        auth=Auth(method="trust", users_file=None),
        health=Health(interval=0.2),
        discovery=Discovery(
            backends=tuple(
                Backend(host=server.host, port=server.port, name=server.name) for server in servers
            )
        ),
    )
