"""Servers that die, connections that are cut, cancels: who notices what, and who nothing at all."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import pytest

from pgproxy.embedded import Cluster, Server
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Address, Frame, Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(90)]

StartProxy = Callable[..., ProxyProcess]

WHICH: Final = wire.query("SELECT inet_server_port()")
INSERT: Final = wire.query("INSERT INTO t VALUES (inet_server_port()) RETURNING n")
# The connection was lost; or a process of the server still said that the others are gone.
CUT: Final = {"08006", "57P01"}
SLEEP: Final = wire.query("/* pgproxy: primary */ SELECT pg_sleep(60)")


def _value(frames: list[Frame]) -> str:
    """The only value of an answer without errors."""
    assert wire.errors(frames) == [], frames
    [[value]] = wire.rows(frames)
    assert value is not None
    return value.decode()


def _fatal(frames: list[Frame]) -> dict[str, str]:
    """The one error of an answer after which the connection was closed."""
    assert [kind for kind, _ in frames] == [b"E"], frames
    found = wire.fields(frames[0][1])
    assert found["V"] == "FATAL"
    return found


async def _call(server: Server, sql: str) -> str:
    return await asyncio.to_thread(server.psql, sql)


async def _sleeping(server: Server) -> int:
    count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    return int(await _call(server, count))


async def _until_sleeping(server: Server, count: int) -> None:
    while await _sleeping(server) != count:  # noqa: ASYNC110 - psql is asked
        await asyncio.sleep(0.01)


def _roles(proxy: ProxyProcess) -> dict[str, str]:
    return {node["name"]: node["role"] for node in status(proxy)["topology"] if node["alive"]}


def _states(proxy: ProxyProcess, state: str) -> int:
    return sum(pool[state] for pool in status(proxy)["pools"])


# --- servers die


class _Reader:
    """A client that reads without a pause, and connects again when it is thrown out."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self.ports: list[str] = []
        self.errors: list[str] = []
        self._proxy: Final = proxy

    async def run(self) -> None:
        while True:
            async with await Wire.connect(self._proxy) as connection:
                assert connection.startup[-1][0] == b"Z", connection.startup
                while True:
                    frames = await connection.ask(WHICH)
                    if frames[-1][0] != b"Z":
                        self.errors.append(_fatal(frames)["C"])
                        break
                    self.ports.append(_value(frames))


async def test_a_replica_is_killed_under_load_and_comes_back(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, private_cluster.servers)
    victim, survivor = private_cluster.replicas
    readers = [_Reader(proxy) for _ in range(8)]

    def seen(server: Server) -> bool:
        return all(str(server.port) in reader.ports for reader in readers)

    def forget() -> None:
        for reader in readers:
            reader.ports.clear()

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(reader.run()) for reader in readers]
        await eventually(lambda: seen(victim) and seen(survivor))
        await asyncio.to_thread(victim.kill9)
        await eventually(lambda: victim.name not in _roles(proxy))
        forget()
        await eventually(lambda: seen(survivor))
        # Who was at work there was told so once; nobody else noticed.
        for reader in readers:
            assert str(victim.port) not in reader.ports
            assert not reader.errors or (len(reader.errors) == 1 and reader.errors[0] in CUT)
            reader.errors.clear()
        await asyncio.to_thread(victim.start)
        forget()
        await eventually(lambda: seen(victim) and seen(survivor))
        assert not any(reader.errors for reader in readers)
        for task in running:
            task.cancel()


async def test_a_primary_is_killed_and_a_replica_promoted(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    old.psql("CREATE TABLE t (n int)")
    private_cluster.wait_caught_up()
    proxy = await asyncio.to_thread(start_proxy, private_cluster.servers)
    async with (
        await Wire.connect(proxy) as idle,
        await Wire.connect(proxy) as writer,
        await Wire.connect(proxy) as extended,
        await Wire.connect(proxy) as unseen,
        await Wire.connect(proxy) as seen,
        await Wire.connect(proxy) as busy,
        await Wire.connect(proxy) as reader,
    ):
        assert _value(await idle.ask(INSERT)) == str(old.port)
        await extended.ask(wire.parse("INSERT INTO t VALUES (7)", name="mine"), wire.SYNC)
        await unseen.ask(wire.query("BEGIN"), wire.query("INSERT INTO t VALUES (8)"), ready=2)
        await seen.ask(wire.query("BEGIN"), INSERT, ready=2)
        await busy.send(SLEEP)
        await _until_sleeping(old, 1)
        await asyncio.to_thread(old.kill9)
        # Nobody knows what became of a statement in flight.
        assert _fatal(await busy.until(b"Z"))["C"] in CUT
        await eventually(lambda: old.name not in _roles(proxy))
        # Reads go on, writes wait.
        assert _value(await reader.ask(WHICH)) in {str(new.port), str(other.port)}
        await writer.send(INSERT)
        await extended.send(wire.bind(statement="mine"), wire.execute(), wire.SYNC)
        await eventually(lambda: "pgproxy_homeless 4.0" in proxy.get("/metrics")[1])
        assert _value(await reader.ask(WHICH)) in {str(new.port), str(other.port)}
        await asyncio.to_thread(new.promote)
        assert _value(await writer.until(b"Z")) == str(new.port)
        assert wire.errors(await extended.until(b"Z")) == []
        assert _value(await idle.ask(INSERT)) == str(new.port)
        # A transaction goes on where its statements have given the same answers. This one has seen
        # on which server it was.
        assert wire.errors(await unseen.ask(wire.query("COMMIT"))) == []
        frames = await seen.ask(wire.query("COMMIT"))
        assert (wire.errors(frames), frames[-1]) == (["40001"], (b"Z", b"I"))
        assert new.psql("SELECT count(*) FROM t WHERE n = 8") == "1"
        # The old primary comes back and believes it still is one.
        await asyncio.to_thread(old.start)
        known = len(old.psql("SELECT n FROM t").splitlines())
        await eventually(
            lambda: any(node["name"] == old.name and node["alive"] for node in _nodes(proxy))
        )
        for _ in range(20):
            assert _value(await idle.ask(INSERT)) == str(new.port)
            assert _value(await reader.ask(WHICH)) != str(old.port)
        assert len(old.psql("SELECT n FROM t").splitlines()) == known
        assert _roles(proxy)[new.name] == "primary"
        assert _roles(proxy)[old.name] == "none"


def _nodes(proxy: ProxyProcess) -> list[dict[str, object]]:
    nodes: list[dict[str, object]] = status(proxy)["topology"]
    return nodes


async def test_no_new_primary_in_time(private_cluster: Cluster, start_proxy: StartProxy) -> None:
    primary = private_cluster.primary
    primary.psql("CREATE TABLE t (n int)")
    private_cluster.wait_caught_up()
    proxy = await asyncio.to_thread(
        start_proxy, private_cluster.servers, health={"failover_wait": 0.5}
    )
    async with await Wire.connect(proxy) as writer:
        await writer.ask(INSERT)
        await asyncio.to_thread(primary.kill9)
        await eventually(lambda: primary.name not in _roles(proxy))
        frames = await writer.ask(INSERT)
        assert wire.errors(frames) == ["57P03"]
        assert "failover_wait" in wire.fields(frames[0][1])["D"]
        assert frames[-1] == (b"Z", b"I")
        await asyncio.to_thread(primary.start)
        await eventually(lambda: _roles(proxy).get(primary.name) == "primary")
        assert _value(await writer.ask(INSERT)) == str(primary.port)


async def test_without_replicas_the_primary_reads(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, private_cluster.servers)
    async with await Wire.connect(proxy) as reader:
        assert _value(await reader.ask(WHICH)) != str(private_cluster.primary.port)
        for replica in private_cluster.replicas:
            await asyncio.to_thread(replica.stop, "fast")
        await eventually(lambda: list(_roles(proxy)) == [private_cluster.primary.name])
        assert _value(await reader.ask(WHICH)) == str(private_cluster.primary.port)


async def test_no_backend_at_the_start(private_cluster: Cluster, start_proxy: StartProxy) -> None:
    for server in private_cluster.servers:
        await asyncio.to_thread(server.kill9)
    proxy = await asyncio.to_thread(
        start_proxy, private_cluster.servers, wait_ready=False, health={"failover_wait": 0.5}
    )
    assert proxy.get("/readyz")[0] == 503
    assert proxy.get("/livez")[0] == 200
    async with await Wire.connect(proxy) as refused:
        assert refused.startup[0] == (b"R", bytes(4))
        assert _fatal(refused.startup[1:])["C"] == "57P03"
    await asyncio.to_thread(private_cluster.primary.start)
    await eventually(lambda: proxy.get("/readyz")[0] == 200)
    async with await Wire.connect(proxy) as served:
        assert _value(await served.ask(WHICH)) == str(private_cluster.primary.port)


# --- single connections are cut


async def test_an_idle_server_connection_is_terminated(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 1})
    async with await Wire.connect(proxy) as client:
        pid = _value(await client.ask(wire.query("SELECT pg_backend_pid()")))
        await _call(cluster.primary, f"SELECT pg_terminate_backend({pid}, 10000)")
        await eventually(lambda: _states(proxy, "idle") == 0)
        assert _value(await client.ask(wire.query("SELECT pg_backend_pid()"))) != pid


@pytest.mark.parametrize("doing", ["a query", "a transaction"])
async def test_a_server_connection_in_use_is_terminated(
    cluster: Cluster, start_proxy: StartProxy, doing: str
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 1})
    async with await Wire.connect(proxy) as client, await Wire.connect(proxy) as other:
        frames = await client.ask(wire.query("BEGIN; SELECT pg_backend_pid()"))
        pid = _value(frames)
        if doing == "a query":
            await client.send(SLEEP)
            await _until_sleeping(cluster.primary, 1)
        await _call(cluster.primary, f"SELECT pg_terminate_backend({pid}, 10000)")
        frames = [frame for frame in await client.until(b"E") if frame[0] != b"T"]
        assert _fatal(frames)["C"] == "57P01"
        assert await client.until(b"") == []
        assert _value(await other.ask(wire.query("SELECT 1"))) == "1"


async def test_clients_that_are_killed_leave_nothing_behind(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, pool={"size": 4})
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    script = f"""
import socket, struct, sys
def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body
sockets = []
for number in range(40):
    one = socket.create_connection(("{proxy.host}", {proxy.port}))
    body = struct.pack("!i", 196608) + b"user\\0postgres\\0database\\0{fresh_database}\\0\\0"
    one.sendall(struct.pack("!i", len(body) + 4) + body)
    while not one.recv(65536).endswith(b"Z\\0\\0\\0\\5I"):
        pass
    one.sendall(
        [
            message(b"Q", b"BEGIN; INSERT INTO t VALUES (1)\\0"),
            message(b"Q", b"/* pgproxy: primary */ SELECT pg_sleep(60)\\0"),
            message(b"Q", b"SELECT repeat('x', 50000000)\\0"),
            message(b"Q", b"COPY t FROM STDIN\\0") + message(b"d", b"1\\n") + b"d\\0\\0\\1\\0half",
            message(b"P", b"\\0SELECT 1\\0\\0\\0"),
            message(b"Q", b"LISTEN x\\0"),
        ][number % 6]
    )
    sockets.append(one)
print("ready", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        await eventually(lambda: _states(proxy, "leased") >= 4)
        process.kill()
    await eventually(lambda: status(proxy)["clients"] == 0)
    for state in ("leased", "waiting", "resetting", "opening"):
        await eventually(lambda state=state: _states(proxy, state) == 0)  # type: ignore[misc]
    await _until_sleeping(cluster.primary, 0)
    async with await Wire.connect(proxy, database=fresh_database) as client:
        for _ in range(8):
            assert _value(await client.ask(wire.query("SELECT count(*) FROM t"))) == "0"
            assert wire.errors(await client.ask(wire.query("INSERT INTO t SELECT 1 LIMIT 0"))) == []


# --- cancel


async def _cancel(address: Address, pid: int, secret: bytes) -> None:
    async with await Wire.open(address) as connection:
        await connection.send(wire.cancel_request(pid, secret))
        assert await connection.until(b"") == []  # no answer, as in PostgreSQL


async def test_a_cancel_stops_its_own_query_only(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with await Wire.connect(proxy) as mine, await Wire.connect(proxy) as other:
        await mine.send(SLEEP)
        await other.send(SLEEP)
        await _until_sleeping(cluster.primary, 2)
        pid, secret = mine.key()
        wrong = bytes(255 - byte for byte in secret)
        await _cancel(proxy, pid, wrong)
        await _cancel(proxy, pid, secret[:-1] or b"x")
        await _cancel(proxy, pid + 1000, secret)
        assert await _sleeping(cluster.primary) == 2
        await _cancel(proxy, pid, secret)
        assert wire.errors(await mine.until(b"Z")) == ["57014"]
        assert await _sleeping(cluster.primary) == 1
        # Idle now: a late cancel hits nobody, neither this client nor who has the connection next.
        await _cancel(proxy, pid, secret)
        for _ in range(50):
            assert _value(await mine.ask(wire.query("SELECT 1"))) == "1"
        await _cancel(proxy, *other.key())
        assert wire.errors(await other.until(b"Z")) == ["57014"]


async def test_a_cancel_with_the_long_key_of_protocol_3_2(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with await Wire.connect(proxy, protocol=wire.PROTOCOL_3_2) as mine:
        assert len(mine.key()[1]) == 32
        await mine.send(SLEEP)
        await _until_sleeping(cluster.primary, 1)
        await _cancel(proxy, *mine.key())
        assert wire.errors(await mine.until(b"Z")) == ["57014"]


async def test_a_cancel_while_waiting_for_a_connection(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 1})
    async with await Wire.connect(proxy) as holder, await Wire.connect(proxy) as waiting:
        await holder.ask(wire.query("BEGIN; SELECT 1"))
        await waiting.send(wire.query("SELECT 2"))
        await eventually(lambda: _states(proxy, "waiting") == 1)
        await _cancel(proxy, *waiting.key())
        frames = await waiting.until(b"Z")
        assert wire.errors(frames) == ["57014"]
        assert frames[-1] == (b"Z", b"I")
        assert _states(proxy, "waiting") == 0
        await holder.ask(wire.query("COMMIT"))
        assert _value(await waiting.ask(wire.query("SELECT 2"))) == "2"


# --- the proxy goes


async def test_the_proxy_is_told_to_stop(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    connected = [await Wire.connect(proxy, database=fresh_database) for _ in range(5)]
    idle, pinned, begun, held, busy = connected
    await idle.ask(wire.query("SELECT 1"))
    await pinned.ask(wire.query("CREATE TEMP TABLE mine (n int)"))
    await begun.ask(wire.query("BEGIN"), wire.query("INSERT INTO t VALUES (1)"), ready=2)
    await held.ask(wire.query("BEGIN"))
    await busy.send(wire.query("INSERT INTO t SELECT 2 FROM pg_sleep(0.5)"))
    await _until_sleeping(cluster.primary, 1)
    proxy.process.send_signal(signal.SIGTERM)
    # Who is between transactions is sent off, also with a connection of his own.
    for client in (idle, pinned):
        assert _fatal(await client.until(b""))["C"] == "57P01"
    # Nobody else comes in.
    with pytest.raises(OSError):  # refused, or reset
        await (await Wire.open(proxy)).reader.readexactly(1)
    # Who is in a transaction ends it in peace.
    assert wire.errors(await begun.ask(wire.query("INSERT INTO t VALUES (3)"))) == []
    assert [kind for kind, _ in await begun.ask(wire.query("COMMIT"))] == [b"C", b"Z"]
    assert [kind for kind, _ in await busy.until(b"Z")] == [b"C", b"Z"]
    frames = await held.ask(wire.query("INSERT INTO t VALUES (4)"), wire.query("COMMIT"), ready=2)
    assert wire.errors(frames) == []
    for client in (begun, busy, held):
        assert _fatal(await client.until(b""))["C"] == "57P01"
    await asyncio.to_thread(proxy.wait_end)
    stored = cluster.primary.psql("SELECT n FROM t ORDER BY n", fresh_database)
    assert stored.split() == ["1", "2", "3", "4"]
    left = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{fresh_database}'"
    while await _call(cluster.primary, left) != "0":  # noqa: ASYNC110 - psql is asked
        await asyncio.sleep(0.01)
    for client in connected:
        await client.drop()


async def test_the_proxy_is_told_to_stop_before_any_backend_answers(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    for server in private_cluster.servers:
        await asyncio.to_thread(server.kill9)
    proxy = await asyncio.to_thread(start_proxy, private_cluster.servers, wait_ready=False)
    async with await Wire.open(proxy) as waiting:
        await waiting.send(wire.startup("postgres", "postgres"))
        await eventually(lambda: "pgproxy_homeless 1.0" in proxy.get("/metrics")[1])
        await asyncio.to_thread(proxy.stop)
