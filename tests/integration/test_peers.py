"""Several proxies behind one address: a cancel request that comes to another one than the client's."""

import asyncio
import contextlib
import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import asyncpg
import psycopg
import psycopg.rows
import pytest
import pytest_asyncio

from pgproxy.embedded import Cluster
from tests.fakes.kube_api import FakeKubeApi
from tests.support import wire
from tests.support.kube import write_kubeconfig
from tests.support.peers import Siblings, states
from tests.support.proxy import HOST, ProxyProcess
from tests.support.service import Service
from tests.support.watch import bystander, eventually, status
from tests.support.wire import PROTOCOL_3_0, PROTOCOL_3_2, Wire
from tests.support.workers import metric

pytestmark = [pytest.mark.once, pytest.mark.timeout(150)]

COUNT: Final = 3
ASLEEP: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = $1"
)
SLEEP: Final = wire.query("/* pgproxy: primary */ SELECT pg_sleep(600)")


@pytest.fixture(scope="module")
def siblings(cluster: Cluster) -> Iterator[Siblings]:
    """Three, the last of which has two workers; a fourth is on the list, and not there."""
    with Siblings(cluster.servers, COUNT + 1) as found:
        for place in range(COUNT):
            found.start(place, listen={"workers": 2 if place == COUNT - 1 else 1})
        for proxy in found.running.values():
            while states(proxy) != ["ended", "self", "up", "up"]:
                pass
        yield found
        for proxy in found.running.values():
            proxy.check()


class Watcher:
    """Counts those who sleep in the test's database."""

    def __init__(self, connection: Any, database: str) -> None:
        self._connection: Final = connection
        self._database: Final = database

    async def sleeping(self) -> int:
        return int(await self._connection.fetchval(ASLEEP, self._database))

    async def until_sleeping(self, count: int) -> None:
        while await self.sleeping() != count:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def watcher(cluster: Cluster, fresh_database: str) -> AsyncIterator[Watcher]:
    server = cluster.primary
    connection: Any = await asyncpg.connect(
        host=server.host, port=server.port, user="postgres", database="postgres"
    )
    yield Watcher(connection, fresh_database)
    await connection.close()


async def _cancel(at: ProxyProcess, pid: int, secret: bytes) -> None:
    """Returns when the proxy has closed the connection, as drivers do."""
    async with await Wire.open(at) as canceller:
        await canceller.send(wire.cancel_request(pid, secret))
        assert await canceller.reader.read() == b""


@contextlib.asynccontextmanager
async def _load(proxies: list[ProxyProcess]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for proxy in proxies:
            for _ in range(3):
                await stack.enter_async_context(bystander(proxy))
        yield


@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2])
async def test_a_cancel_request_reaches_the_client_through_every_proxy(
    watcher: Watcher, fresh_database: str, siblings: Siblings, protocol: int
) -> None:
    """Under load, and nobody else is hit."""
    proxies = list(siblings.running.values())
    rounds = 3
    async with _load(proxies), contextlib.AsyncExitStack() as stack:
        sleepers = []
        for proxy in proxies:
            for _ in range(2 * len(proxies)):
                one = await Wire.connect(proxy, database=fresh_database, protocol=protocol)
                await stack.enter_async_context(one)
                sleepers.append(one)
        for _ in range(rounds):
            for one in sleepers:
                await one.send(SLEEP)
            await watcher.until_sleeping(len(sleepers))
            left = len(sleepers)
            for one, at in zip(sleepers, cycle(proxies), strict=False):
                pid, secret = one.key()
                await _cancel(at, pid, bytes(len(secret)))  # that is nobody's
                await _cancel(at, pid, secret)
                left -= 1
                assert wire.errors(await one.until(b"Z")) == ["57014"]
                assert await watcher.sleeping() == left
        # When the canceller's connection has ended, nothing can hit what the client does next.
        for one, at in zip(sleepers, cycle(proxies), strict=False):
            await _cancel(at, *one.key())
            assert wire.errors(await one.ask(wire.query("SELECT 1"))) == []
    delivered = [
        line
        for proxy in proxies
        for line in proxy.get("/metrics")[1].splitlines()
        if line.startswith('pgproxy_peer_cancels_total{result="delivered"}')
    ]
    assert len(delivered) == COUNT
    assert all(float(line.split()[-1]) > 0 for line in delivered)


async def test_a_driver_that_cancels_by_the_service(
    watcher: Watcher, fresh_database: str, siblings: Siblings
) -> None:
    """Its next connection comes to another proxy."""
    async with Service() as service:
        for proxy in siblings.running.values():
            service.add(proxy)
        where = f"host={HOST} port={service.port} user=postgres dbname={fresh_database}"
        async with await psycopg.AsyncConnection.connect(where, autocommit=True) as connection:
            for _ in range(2 * COUNT):
                async with asyncio.TaskGroup() as tasks:
                    asleep = tasks.create_task(_is_cancelled(connection))
                    await watcher.until_sleeping(1)
                    await connection.cancel_safe()
                    assert await asleep


async def _is_cancelled(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> bool:
    try:
        await connection.execute("/* pgproxy: primary */ SELECT pg_sleep(600)")
    except psycopg.errors.QueryCanceled:
        return True
    return False


async def test_a_flood_of_cancel_requests_is_not_passed_on(
    watcher: Watcher, fresh_database: str, siblings: Siblings
) -> None:
    """Process ids at random, most of which begin as nobody's here; a true one comes through."""
    first, second, _ = siblings.running.values()
    before = {name: metric(second, name) for name in ("pgproxy_clients_logged_in_total",)}
    known = {one["id"]: one for one in status(first)["peers"]["proxies"]}
    instances = {json.loads(p.get("/peer")[1])["instance"] for p in siblings.running.values()}
    assert len(known) == COUNT + 1
    strangers = [number for number in range(256) if number not in instances]
    async with (
        bystander(first),
        await Wire.connect(second, database=fresh_database) as victim,
        asyncio.TaskGroup() as tasks,
    ):
        await victim.send(SLEEP)
        await watcher.until_sleeping(1)
        floods = [
            tasks.create_task(_cancel(first, strangers[number % 200] << 23 | number, b"none"))
            for number in range(1500)
        ]
        await _cancel(first, *victim.key())
        assert wire.errors(await victim.until(b"Z")) == ["57014"]
        await asyncio.gather(*floods)
    results = status(first)["peers"]["cancels"]
    assert results["unknown"] >= len(floods)
    assert before == {name: metric(second, name) - 1 for name in before}


async def test_what_is_no_cancel_request_is_refused(siblings: Siblings) -> None:
    proxy = siblings.running[0]

    def post(body: bytes) -> tuple[int, str]:
        url = f"http://{HOST}:{proxy.http_port}/peer/cancel"
        try:
            with urllib.request.urlopen(url, data=body, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""

    for body in (b"", b"[]", b'{"pid": "1", "secret": "00"}', b"x" * 5000):
        assert (await asyncio.to_thread(post, body))[0] == 400, body
    nobody = json.dumps({"pid": 1, "secret": "00"}).encode()
    assert await asyncio.to_thread(post, nobody) == (200, '{"found": false}')


async def test_the_console_tells_who_there_is(siblings: Siblings) -> None:
    for proxy in siblings.running.values():
        with psycopg.connect(
            proxy.dsn("pgproxy"), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as console:
            rows = console.execute("SHOW PEERS").fetchall()
            assert sorted(row["port"] for row in rows) == sorted(siblings.http_ports)
            assert sorted(row["state"] for row in rows) == ["ended", "self", "up", "up"]
            lists = console.execute("SHOW LISTS").fetchall()
            assert {row["list"]: row["items"] for row in lists}["peers"] == COUNT + 1
        text = proxy.get("/metrics")[1]
        assert 'pgproxy_peers{state="up"} 3.0' in text
        assert 'pgproxy_peers{state="ended"} 1.0' in text


async def test_one_that_has_closed_its_port_is_reached(
    cluster: Cluster, watcher: Watcher, fresh_database: str
) -> None:
    """It drains, and its last client is at work."""
    with Siblings(cluster.servers, 2, listen={"drain_timeout": 600}) as siblings:
        leaving, other = siblings.start(0), siblings.start(1)
        async with await Wire.connect(leaving, database=fresh_database) as client:
            await client.send(SLEEP)
            await watcher.until_sleeping(1)
            await eventually(lambda: states(other) == ["self", "up"])
            leaving.process.send_signal(signal.SIGTERM)
            await eventually(lambda: _is_closed(leaving))
            await eventually(lambda: '"draining": true' in other.get("/status")[1])
            await _cancel(other, *client.key())
            assert wire.errors(await client.until(b"Z"))[0] == "57014"
        await asyncio.to_thread(leaving.wait_end)
        del siblings.running[0]
        await eventually(lambda: states(other) == ["ended", "self"])


def _is_closed(proxy: ProxyProcess) -> bool:
    try:
        socket.create_connection((proxy.host, proxy.port)).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_one_that_was_started_anew_is_known_at_once(
    cluster: Cluster, watcher: Watcher, fresh_database: str
) -> None:
    """Although it is another one at the same address, and was not asked since."""
    with Siblings(cluster.servers, 2, peers={"interval": 1.5}) as siblings:
        other = siblings.start(0)
        for _ in range(2):
            new = siblings.start(1)
            async with await Wire.connect(new, database=fresh_database) as client:
                await client.send(SLEEP)
                await watcher.until_sleeping(1)
                await _cancel(other, *client.key())
                assert wire.errors(await client.until(b"Z")) == ["57014"]
            siblings.running.pop(1).kill9()


async def test_pods_are_found_by_the_watch(
    cluster: Cluster, watcher: Watcher, fresh_database: str, tmp_path: Path
) -> None:
    """A pod that is being terminated is one still."""
    async with FakeKubeApi() as api:
        kubeconfig = str(await write_kubeconfig(api, tmp_path))
        peers = {
            "static": [],
            "selector": "app=pgproxy",
            "namespace": api.namespace,
            "port": "http",
        }
        with Siblings(
            cluster.servers,
            2,
            peers=peers,
            **{"discovery.kubernetes": {"kubeconfig": kubeconfig}},
        ) as siblings:
            proxies = [await asyncio.to_thread(siblings.start, place) for place in range(2)]
            assert states(proxies[0]) == []
            for place, proxy in enumerate(proxies):
                await api.create_pod(
                    f"pgproxy-{place}",
                    {"app": "pgproxy"},
                    ip=HOST,
                    port=proxy.http_port,
                    port_name="http",
                    ready=False,
                )
            for proxy in proxies:
                await _until_states(proxy, ["self", "up"])
            await api.terminate_pod("pgproxy-0")
            async with await Wire.connect(proxies[0], database=fresh_database) as client:
                await client.send(SLEEP)
                await watcher.until_sleeping(1)
                await _cancel(proxies[1], *client.key())
                assert wire.errors(await client.until(b"Z")) == ["57014"]
            # Out of the list, but there.
            await api.delete_pod("pgproxy-0")
            await asyncio.sleep(1)
            await _until_states(proxies[1], ["self", "up"])
            await asyncio.to_thread(siblings.stop, 0)
            await _until_states(proxies[1], ["self"])
            await asyncio.to_thread(siblings.stop, 1)


async def _until_states(proxy: ProxyProcess, wanted: list[str]) -> None:
    """With the loop free to be the API server."""
    while await asyncio.to_thread(states, proxy) != wanted:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)


async def test_an_address_may_stand_for_a_name(cluster: Cluster) -> None:
    with Siblings(cluster.servers, 1) as siblings:
        name = f"{HOST}:{siblings.http_ports[0]}"
        proxy = siblings.start(0, peers={"static": [], "dns": name})
        await eventually(lambda: "self" in states(proxy))
        assert set(states(proxy)) <= {"self", "ended"}
