"""Peers that go without a word, and what the sockets are told so that this is noticed.

A peer vanishes with its network: it lives in a network namespace of its own, whose only link is taken
down. That takes root, and `ip`.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]
import pytest

from pgproxy.app import Proxy, Ready
from pgproxy.config import Auth, Backend, Config, Discovery, Health, Http, Listen, Server
from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.proxy import HOST, ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

StartProxy = Callable[..., ProxyProcess]

NAMES: Final = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def _options_to(port: int) -> list[list[int]]:
    """Those of all connections of this process to a server."""
    found = []
    for one in psutil.Process().net_connections("tcp"):
        if one.raddr and one.raddr.port == port:
            with socket.socket(fileno=os.dup(one.fd)) as sock:
                found.append(
                    [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, n)) for n in NAMES]
                )
    return found


def _options(transport: asyncio.BaseTransport) -> list[int]:
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    return [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]


async def test_the_sockets_of_both_sides_have_the_options(cluster: Cluster) -> None:
    primary = cluster.primary
    proxy = Proxy(
        Config(
            listen=Listen(
                host=HOST,
                port=0,
                tcp_keepalive_idle=11,
                tcp_keepalive_interval=12,
                tcp_keepalive_count=13,
                tcp_user_timeout=1.4,
                drain_accept_seconds=0,
            ),
            server=Server(
                tcp_keepalive_idle=21,
                tcp_keepalive_interval=22,
                tcp_keepalive_count=23,
                tcp_user_timeout=2.4,
            ),
            http=Http(host=HOST, port=0),
            auth=Auth(method="trust", users_file=None),
            health=Health(interval=0.2),
            discovery=Discovery(
                backends=(Backend(host=primary.host, port=primary.port, name="primary"),)
            ),
        ),
        None,
    )
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(proxy.run(ready.set_result))
        async with await Wire.connect(await ready) as client:
            assert wire.errors(await client.ask(wire.query("BEGIN; SELECT 1"))) == []
            [one] = proxy.listener.clients
            assert _options(one.transport) == [11, 12, 13, 1400]
            assert one.relay is not None
            assert one.relay.server is not None
            assert _options(one.relay.server.transport) == [21, 22, 23, 2400]
            # So have the monitor's, and the reader's of the catalogue.
            await eventually(lambda: _options_to(primary.port) == [[21, 22, 23, 2400]] * 3)
        running.cancel()


needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip(8)"
)


class Island:
    """A network namespace with one link to here."""

    def __init__(self) -> None:
        token = secrets.token_hex(3)
        self.name: Final = f"pgproxy-{token}"
        self.link: Final = f"pg{token}"
        subnet = secrets.randbelow(250) + 1
        self.here: Final = f"10.213.{subnet}.1"
        self.there: Final = f"10.213.{subnet}.2"

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def rise(self) -> None:
        self.ip("netns", "add", self.name)
        self.ip("link", "add", self.link, "type", "veth", "peer", "eth0", "netns", self.name)
        self.ip("addr", "add", f"{self.here}/24", "dev", self.link)
        self.ip("link", "set", self.link, "up")
        self.ip("-n", self.name, "addr", "add", f"{self.there}/24", "dev", "eth0")
        self.ip("-n", self.name, "link", "set", "eth0", "up")

    def vanish(self) -> None:
        """Nothing that is sent there arrives, and nothing comes back."""
        self.ip("-n", self.name, "link", "set", "eth0", "down")

    def sink(self) -> None:
        for words in (("link", "del", self.link), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.ip(*words)


@pytest.fixture
def island() -> Iterator[Island]:
    one = Island()
    try:
        one.rise()
    except subprocess.CalledProcessError as error:
        one.sink()
        pytest.skip(f"no network namespace to be had: {error.stderr.decode().strip()}")
    yield one
    one.sink()


ESTABLISHED: Final = "01"

CLIENT: Final = r"""
import socket, sys, time
host, port, login, question = sys.argv[1], int(sys.argv[2]), *map(bytes.fromhex, sys.argv[3:])
sock = socket.create_connection((host, port))
sock.sendall(login)
sock.recv(65536)
sock.sendall(question)
print("asked", flush=True)
answer = b""
while not answer.endswith(b"Z\0\0\0\5T"):
    answer += sock.recv(65536)
print("answered", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def castaway(
    island: Island, proxy: ProxyProcess, question: bytes
) -> Iterator[subprocess.Popen[bytes]]:
    """A client on the island that asks once, says when it is in a transaction block, and stays."""
    login = wire.startup("postgres", "postgres")
    words = [island.here, str(proxy.port), login.hex(), question.hex()]
    process = subprocess.Popen(
        ["ip", "netns", "exec", island.name, sys.executable, "-c", CLIENT, *words],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _is_acknowledged(port: int) -> bool:
    """Whether all that was sent on connections to this port of ours has been, by the kernel's table
    (proc_net_tcp.txt: local address, remote address, state, transmit queue)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return all(
        int(queues.partition(":")[0], 16) == 0
        for _, local, _, state, queues, *_ in rows
        if local.endswith(f":{port:04X}") and state == ESTABLISHED
    )


@needs_namespaces
@pytest.mark.parametrize(
    ("listen", "question", "is_answered_first"),
    [
        (
            {"tcp_keepalive_idle": 1, "tcp_keepalive_interval": 1, "tcp_keepalive_count": 2},
            "BEGIN; SELECT 1",
            True,
        ),
        # What is sent and not acknowledged keeps the probes away.
        (
            {"tcp_keepalive_idle": 600, "tcp_user_timeout": 2},
            "BEGIN; SELECT pg_sleep(1.5); SELECT 1",
            False,
        ),
    ],
    ids=["silent", "asked for an acknowledgement"],
)
async def test_a_client_that_vanishes_gives_its_connection_back(
    cluster: Cluster,
    start_proxy: StartProxy,
    island: Island,
    listen: dict[str, object],
    question: str,
    is_answered_first: bool,
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], listen={"host": "0.0.0.0", **listen}, pool={"size": 1}
    )
    with castaway(island, proxy, wire.query(question)) as client:
        await eventually(lambda: status(proxy)["pools"][0]["leased"] == 1)
        if is_answered_first:
            assert await asyncio.to_thread(client.stdout.readline) == b"answered\n"
            await eventually(lambda: _is_acknowledged(proxy.port))
        island.vanish()
        await eventually(lambda: status(proxy)["clients"] == 0)
        async with await Wire.connect(proxy) as other:
            assert wire.rows(await other.ask(wire.query("SELECT 2"))) == [[b"2"]]


async def test_a_server_that_does_not_read_is_not_taken_for_gone(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """COPY waits for a lock, longer than TCP_USER_TIMEOUT."""
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], server={"tcp_user_timeout": 2.0}
    )
    async with await Wire.connect(proxy) as locker, await Wire.connect(proxy) as copier:
        await locker.ask(wire.query("CREATE TABLE filled (line text)"))
        try:
            await locker.ask(wire.query("BEGIN; LOCK TABLE filled"))
            await copier.send(wire.query("COPY filled FROM STDIN"))
            lines = wire.copy_data(b"x" * 8000 + b"\n") * 5000 + wire.message(b"c")
            async with asyncio.TaskGroup() as group:
                group.create_task(copier.send(lines))
                await asyncio.sleep(6)
                assert wire.errors(await locker.ask(wire.query("COMMIT"))) == []
            assert wire.errors(await copier.until(b"Z")) == []
            assert wire.rows(await locker.ask(wire.query("SELECT count(*) FROM filled"))) == [
                [b"5000"]
            ]
        finally:
            await locker.ask(wire.query("ROLLBACK; DROP TABLE filled"))
