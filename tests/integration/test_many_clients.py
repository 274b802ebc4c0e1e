"""Many more clients than server connections: all are served, and who is killed leaves nothing."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support.descriptors import descriptors_for
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    FLUSH,
    SYNC,
    Wire,
    bind,
    copy_data,
    describe,
    errors,
    execute,
    parse,
    query,
    rows,
)

pytestmark = pytest.mark.once

CLIENTS: Final = 2000
SIZE: Final = 20
AT_ONCE: Final = 200  # connections being made: no more than a listen queue holds anywhere


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    with descriptors_for(CLIENTS):
        yield


@pytest.fixture
def database(cluster: Cluster, fresh_database: str) -> str:
    cluster.primary.psql("CREATE TABLE sink (n int, s text)", fresh_database)
    cluster.wait_caught_up()
    return fresh_database


@pytest.fixture(scope="module")
def narrow(cluster: Cluster) -> Iterator[ProxyProcess]:
    """Two connections to each server."""
    with ProxyProcess.start(cluster.servers, pool={"size": 2}) as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: ProxyProcess, database: str, count: int) -> AsyncIterator[list[Wire]]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def connect() -> Wire:
        async with turn:
            return await Wire.connect(proxy, database=database)

    clients = await asyncio.gather(*(connect() for _ in range(count)))
    try:
        yield clients
    finally:
        await asyncio.gather(*(client.close() for client in clients))


def gauge(metrics: str, name: str, labels: str = "") -> float:
    """The sum over all of a metric's values whose labels contain that text."""
    values = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", metrics, re.MULTILINE)
    assert values, f"no {name} in the metrics"
    return sum(float(value) for found, value in values if labels in found)


async def wait_until_nothing_is_held(proxy: ProxyProcess) -> None:
    """No client is left, none waits, and every server connection is idle again."""
    while True:
        _, metrics = await asyncio.to_thread(proxy.get, "/metrics")
        held = {
            "clients": gauge(metrics, "pgproxy_clients"),
            "waiting": gauge(metrics, "pgproxy_waiting") + gauge(metrics, "pgproxy_homeless"),
            "load": gauge(metrics, "pgproxy_backend_load"),
            **{
                state: gauge(metrics, "pgproxy_servers", f'state="{state}"')
                for state in ("leased", "resetting", "opening", "closing")
            },
        }
        if not any(held.values()):
            return


async def wait_until_servers_rest(cluster: Cluster, database: str) -> None:
    """No session of that database is in a transaction or at work, on any server."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND state <> 'idle' AND pid <> pg_backend_pid()"
    )
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    for server in cluster.servers:
        for sql in (busy, locks):
            while await asyncio.to_thread(server.psql, sql) != "0":
                pass


async def test_two_thousand_clients_on_twenty_connections(
    cluster: Cluster, database: str, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy([cluster.primary], pool={"size": SIZE})

    async def work(client: Wire, number: int) -> None:
        assert rows(await client.ask(query(f"SELECT {number}"))) == [[b"%d" % number]]
        frames = await client.ask(
            query("BEGIN"), query(f"INSERT INTO sink VALUES ({number}, 'w')"), ready=2
        )
        assert errors(frames) == []
        frames = await client.ask(
            query(f"SELECT n FROM sink WHERE n = {number}"), query("COMMIT"), ready=2
        )
        assert rows(frames) == [[b"%d" % number]]
        name = f"s{number}"
        frames = await client.ask(
            parse("SELECT $1::int", name=name),
            bind(b"%d" % number, statement=name),
            execute(),
            SYNC,
        )
        assert rows(frames) == [[b"%d" % number]]

    async with connected(proxy, database, CLIENTS) as clients:
        _, metrics = await asyncio.to_thread(proxy.get, "/metrics")
        assert gauge(metrics, "pgproxy_clients") == CLIENTS
        await asyncio.gather(*(work(client, number) for number, client in enumerate(clients)))
        # Nobody is disadvantaged for having waited: once more, all of them.
        await asyncio.gather(
            *(work(client, CLIENTS + number) for number, client in enumerate(clients))
        )
        sessions = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
        assert 0 < int(await asyncio.to_thread(cluster.primary.psql, sessions)) <= SIZE
    count = await asyncio.to_thread(cluster.primary.psql, "SELECT count(*) FROM sink", database)
    assert int(count) == 2 * CLIENTS
    await wait_until_nothing_is_held(proxy)


# What a client may be in the middle of. PostgreSQL ignores a cancel that comes before the statement,
# so who is killed while sending one may leave it at work: it is short, then.
SITUATIONS: Final[dict[str, list[bytes]]] = {
    "a query": [query("SELECT pg_sleep(2)")],
    "a read on a replica": [query("SELECT count(*) FROM generate_series(1, 5000000)")],
    "an idle transaction": [query("BEGIN") + query("INSERT INTO sink VALUES (1, 'open')")],
    "a transaction that only began": [query("BEGIN")],
    "a read only transaction": [query("BEGIN READ ONLY"), query("SELECT 1")],
    "a failed transaction": [query("BEGIN"), query("SELECT 1/0"), query("SELECT 1")],
    "a copy in": [query("COPY sink FROM STDIN"), copy_data(b"1\tx\n") * 100, b"d\0\0"],
    "a copy out": [
        query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 50000)) TO STDOUT")
    ],
    "a large result": [query("SELECT repeat('x', 1000) FROM generate_series(1, 50000)")],
    "a batch": [parse("SELECT pg_sleep(2)") + bind() + describe("P") + execute(), SYNC],
    "a batch without its end": [parse("SELECT 1") + bind() + execute() + FLUSH],
    "a copy in a batch": [
        parse("COPY sink FROM STDIN") + bind() + execute() + FLUSH,
        copy_data(b"1"),
    ],
    "a suspended portal": [
        query("BEGIN"),
        parse("SELECT generate_series(1, 1000)") + bind(portal="p") + execute("p", 10) + SYNC,
    ],
    "a pinned session": [query("SET work_mem = '1MB'"), query("CREATE TEMP TABLE mine (n int)")],
    "a pinned session at work": [query("CREATE TEMP TABLE own ()"), query("SELECT pg_sleep(2)")],
    "a listener": [query("LISTEN news"), query("NOTIFY news"), query("NOTIFY news")],
    "a listener in a transaction": [query("BEGIN"), query("LISTEN news"), query("SELECT 1")],
    "a wait for a lock": [query("SELECT pg_advisory_lock(7)"), query("SELECT pg_sleep(2)")],
    "half a message": [query("SELECT 1")[:7]],
    "half a large message": [query("SELECT '" + "x" * 3_000_000)[:2_000_000]],
    "a long pipeline": [
        query("SELECT 1") * 500 + (parse("SELECT 2") + bind() + execute() + SYNC) * 500
    ],
    "nothing": [],
}


@pytest.mark.parametrize("name", SITUATIONS)
async def test_a_client_killed_in_the_middle_of(
    cluster: Cluster, database: str, narrow: ProxyProcess, name: str
) -> None:
    """Two connections, and clients killed there four times: then both are there for others."""
    for moment in range(4):
        client = await Wire.connect(narrow, database=database)
        for messages in SITUATIONS[name]:
            await client.send(messages)
            if moment % 2:
                await heard(client)
        client.writer.transport.abort()
        await client.drop()
    await wait_until_nothing_is_held(narrow)
    await wait_until_servers_rest(cluster, database)
    await all_connections_work(narrow, database, 2)
    narrow.check()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_killed_at_random_moments(
    cluster: Cluster, database: str, start_proxy: Callable[..., ProxyProcess], seed: int
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": SIZE})
    dice = random.Random(seed)

    async def live_and_die(life: random.Random) -> None:
        client = await Wire.connect(proxy, database=database)
        for messages in SITUATIONS[life.choice([*SITUATIONS])]:
            await client.send(messages)
            if life.random() < 0.3:
                await heard(client)
        await asyncio.sleep(life.random() * 0.3)
        if life.random() < 0.7:
            client.writer.transport.abort()
        await client.drop()

    for _ in range(2):
        lives = (random.Random(dice.random()) for _ in range(300))
        await asyncio.gather(*(live_and_die(life) for life in lives))
    await wait_until_nothing_is_held(proxy)
    await wait_until_servers_rest(cluster, database)
    await all_connections_work(proxy, database, SIZE)
    # What was open when its client died was rolled back.
    count = await asyncio.to_thread(cluster.primary.psql, "SELECT count(*) FROM sink", database)
    assert count == "0"


async def heard(client: Wire) -> None:
    """Wait for the answer's first bytes, but not for ever: perhaps none come."""
    try:
        async with asyncio.timeout(0.1):
            await client.reader.read(5)
    except TimeoutError:
        pass


async def all_connections_work(proxy: ProxyProcess, database: str, size: int) -> None:
    """As many transactions as the pool is large run at once, on clean connections."""
    state = query(
        "SELECT current_setting('work_mem'), count(*) FROM pg_class"
        " WHERE relname = 'mine' AND pg_table_is_visible(oid)"
    )
    async with connected(proxy, database, size) as clients:
        for client in clients:
            await client.ask(query("BEGIN"))
            frames = await client.ask(query("CREATE TABLE IF NOT EXISTS sink ()"), state)
            assert errors(frames) == []
        for client in clients:
            frames = await client.until(b"Z")
            assert rows(frames) == [[b"4MB", b"0"]]
            assert errors(await client.ask(query("ROLLBACK"))) == []
