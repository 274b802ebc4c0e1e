"""Caps on server connections that pools share, as pg_stat_activity shows them."""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from click.testing import CliRunner

from pgproxy.cli import cli
from pgproxy.embedded import Cluster, Server
from tests.support import wire
from tests.support.place import cluster_parent
from tests.support.proxy import ProxyProcess, config_for
from tests.support.watch import eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

StartProxy = Callable[..., ProxyProcess]

USERS: Final = ("one", "two", "three")
# What the proxy opens beside its pools has names of its own.
ACTIVITY: Final = """
SELECT usename::text, datname::text FROM pg_stat_activity
WHERE backend_type = 'client backend' AND usename <> 'postgres' AND datname IS NOT NULL
"""


@dataclass
class Away:
    """A server that does not answer."""

    name: str
    host: str
    port: int


@pytest.fixture
def names(cluster: Cluster, fresh_database: str) -> Iterator[tuple[list[str], list[str]]]:
    """Users and databases of the shared cluster, for one test."""
    mark = secrets.token_hex(4)
    users = [f"{name}_{mark}" for name in USERS]
    other = f"other_{mark}"
    for user in users:
        cluster.primary.psql(f"CREATE ROLE {user} LOGIN")
    cluster.primary.psql(f"CREATE DATABASE {other}")
    cluster.wait_caught_up()
    yield users, [fresh_database, other]
    cluster.primary.psql(f"DROP DATABASE {other} WITH (FORCE)")
    for user in users:
        cluster.primary.psql(f"DROP ROLE {user}")


class Watch:
    """The largest numbers of connections that a server has had at once."""

    def __init__(self) -> None:
        self.users: Counter[str] = Counter()
        self.databases: Counter[str] = Counter()
        self.total = 0
        self.looks = 0

    def look(self, rows: list[asyncpg.Record]) -> None:
        self.looks += 1
        self.total = max(self.total, len(rows))
        self.users |= Counter(row[0] for row in rows)
        self.databases |= Counter(row[1] for row in rows)


@contextlib.asynccontextmanager
async def watching(server: Server) -> AsyncIterator[Watch]:
    watch = Watch()
    connection = await asyncpg.connect(server.dsn())

    async def run() -> None:
        while True:
            watch.look(await connection.fetch(ACTIVITY))
            await asyncio.sleep(0.005)

    task = asyncio.get_running_loop().create_task(run())
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await connection.close()


async def storm(
    proxy: ProxyProcess, users: list[str], databases: list[str], *, clients: int, turns: int
) -> None:
    """Every client asks so many times, with pauses, on the primary and on whatever serves reads; some
    leave in the middle of a statement."""

    async def work(number: int) -> None:
        dice = random.Random(number)
        user, database = users[number % len(users)], databases[number % len(databases)]
        async with await Wire.connect(proxy, user=user, database=database) as client:
            for turn in range(turns):
                if turn > 3 and dice.random() < 0.1:
                    await client.send(wire.query("/* pgproxy: primary */ SELECT pg_sleep(60)"))
                    await asyncio.sleep(dice.choice([0, 0.05]))
                    await client.drop()  # in the middle of that
                    return
                seconds = dice.choice([0, 0, 0.005, 0.02])
                hint = dice.choice(["/* pgproxy: primary */ ", ""])
                frames = await client.ask(wire.query(f"{hint}SELECT pg_sleep({seconds})"))
                assert wire.errors(frames) == []
                await asyncio.sleep(dice.choice([0, 0, 0.01, 0.05]))

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(work(number))


async def test_no_cap_is_ever_exceeded(
    cluster: Cluster, names: tuple[list[str], list[str]], start_proxy: StartProxy
) -> None:
    users, databases = names
    proxy = await asyncio.to_thread(
        start_proxy,
        cluster.servers,
        pool={
            "size": 5,
            "max_backend_connections": 7,
            "max_database_connections": 5,
            "max_user_connections": 4,
        },
        **{f"pool.users.{users[2]}": {"max_connections": 1}},
    )
    async with contextlib.AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(watching(one)) for one in cluster.servers]
        await storm(proxy, users, databases, clients=60, turns=12)
    for watch in watches:
        assert watch.looks > 20
        assert watch.total <= 7
        assert max(watch.databases.values()) <= 5
        assert max(watch.users.values()) <= 4
        assert watch.users[users[2]] <= 1
    assert watches[0].total == 7, "nothing was asked of it"


async def test_a_small_user_gets_its_connection_from_a_noisy_one(
    cluster: Cluster, names: tuple[list[str], list[str]], start_proxy: StartProxy
) -> None:
    (noisy, small, _), (database, other) = names
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], pool={"size": 4, "max_backend_connections": 4}
    )
    stopped = asyncio.Event()

    async def make_noise() -> None:
        async with await Wire.connect(proxy, user=noisy, database=database) as client:
            while not stopped.is_set():
                await client.ask(wire.query("SELECT pg_sleep(0.02)"))

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(make_noise())
        await eventually(lambda: sum(one["leased"] for one in status(proxy)["pools"]) == 4)
        async with await Wire.connect(proxy, user=small, database=other) as client:
            assert wire.errors(await client.ask(wire.query("SELECT 1"))) == []
            [told] = status(proxy)["backends"]
            assert (told["connections"], told["max_connections"]) == (4, 4)
            assert told["evictions"] > 0
        stopped.set()


async def test_who_waits_in_vain_is_told_whose_connections_they_are(
    cluster: Cluster, names: tuple[list[str], list[str]], start_proxy: StartProxy
) -> None:
    (holder, other, _), (database, _) = names
    proxy = await asyncio.to_thread(
        start_proxy,
        [cluster.primary],
        pool={"size": 4, "max_database_connections": 1, "wait_timeout": 0.3},
    )
    async with (
        await Wire.connect(proxy, user=holder, database=database) as one,
        await Wire.connect(proxy, user=other, database=database) as two,
    ):
        await one.ask(wire.query("BEGIN; SELECT 1"))
        frames = await two.ask(wire.query("SELECT 1"))
        assert wire.errors(frames) == ["53300"]
        told = wire.fields(frames[0][1])
        assert "pool.max_database_connections" in told["D"]
        assert f'database "{database}" on {cluster.primary.name}' in told["D"]
        assert f'1 of database "{database}", user "{holder}"' in told["H"]
        await one.ask(wire.query("COMMIT"))
        assert wire.errors(await two.ask(wire.query("SELECT 1"))) == []


async def test_the_reserve_opens_for_who_has_waited(
    cluster: Cluster, names: tuple[list[str], list[str]], start_proxy: StartProxy
) -> None:
    (user, *_), (database, _) = names
    proxy = await asyncio.to_thread(
        start_proxy,
        [cluster.primary],
        pool={"size": 1, "reserve_size": 1, "reserve_timeout": 0.3},
    )

    def pool() -> dict[str, int]:
        [found] = status(proxy)["pools"]
        told: dict[str, int] = found
        return told

    async with (
        await Wire.connect(proxy, user=user, database=database) as one,
        await Wire.connect(proxy, user=user, database=database) as two,
    ):
        await one.ask(wire.query("BEGIN; SELECT 1"))
        assert wire.errors(await two.ask(wire.query("SELECT 1"))) == []
        assert (pool()["size"], pool()["reserve"]) == (1, 1)
        await one.ask(wire.query("COMMIT"))
        await eventually(lambda: (pool()["idle"], pool()["reserve"]) == (1, 0))


async def test_pools_are_warm_while_there_are_clients_and_after_a_promotion(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    cluster = private_cluster
    proxy = await asyncio.to_thread(
        start_proxy, cluster.servers, pool={"min_size": 3, "idle_timeout": 0.5}
    )

    def idle() -> dict[str, int]:
        return {one["backend"]: one["idle"] for one in status(proxy)["pools"]}

    old, new, other = cluster.servers
    async with await Wire.connect(proxy):
        # It has asked nothing.
        await eventually(lambda: idle() == {old.name: 3, new.name: 3, other.name: 3})
        await asyncio.to_thread(old.stop)
        await asyncio.to_thread(new.promote)
        await eventually(lambda: idle()[new.name] == 3 and idle()[old.name] == 0)
        told = status(proxy)["topology"]
        assert {one["role"] for one in told if one["name"] == new.name} == {"primary"}
    await eventually(lambda: not any(idle().values()))


async def test_a_server_takes_fewer_connections_than_the_pools_may_open(
    start_proxy: StartProxy,
) -> None:
    """Nobody sees `too many clients`, and there is room for a superuser."""
    with Cluster.create(0, max_connections=20, directory=cluster_parent()) as cluster:
        primary = cluster.primary
        users = list(USERS)
        for user in users:
            primary.psql(f"CREATE ROLE {user} LOGIN")
        proxy = await asyncio.to_thread(start_proxy, cluster.servers, pool={"size": 100})
        [warning] = proxy.events("server_too_small")
        assert warning["backend"] == primary.name
        assert "pool.size = 100" in warning["reason"]
        async with watching(primary) as watch:
            await storm(proxy, users, ["postgres"], clients=90, turns=8)
            assert primary.psql("SELECT 1") == "1"
        # 20 less 3 for superusers, and what the proxy needs for itself.
        assert watch.total == 13
        assert "too many clients" not in proxy.stderr
        _, metrics = await asyncio.to_thread(proxy.get, "/metrics")
        assert "pgproxy_server_logins_failed_total 0.0" in metrics
        assert f'pgproxy_backend_max_connections{{backend="{primary.name}"}} 13.0' in metrics


async def test_a_connection_left_at_work_counts_until_its_server_process_has_ended(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], pool={"size": 1})
    one = await Wire.connect(proxy)
    async with await Wire.connect(proxy) as other:
        [[pid]] = wire.rows(await one.ask(wire.query("BEGIN; SELECT pg_backend_pid()")))
        await one.send(wire.query("SELECT pg_sleep(60)"))
        async with asyncio.TaskGroup() as group:
            os.kill(int(pid or b""), signal.SIGSTOP)
            try:
                await one.drop()
                asked = group.create_task(other.ask(wire.query("SELECT 1")))
                done, _ = await asyncio.wait([asked], timeout=0.5)
                assert not done
            finally:
                os.kill(int(pid or b""), signal.SIGCONT)
        assert wire.errors(asked.result()) == []


async def test_the_console_shows_sizes_and_caps(
    cluster: Cluster, names: tuple[list[str], list[str]], start_proxy: StartProxy
) -> None:
    (user, other, _), (database, _) = names
    proxy = await asyncio.to_thread(
        start_proxy,
        [cluster.primary],
        pool={"size": 6, "min_size": 1, "reserve_size": 2, "max_user_connections": 9},
        **{
            f"pool.databases.{database}": {"size": 5, "max_connections": 8},
            f"pool.users.{user}": {"size": 4},
        },
    )

    async def shown(what: str, name: str) -> list[bytes | None]:
        async with await Wire.connect(proxy, database="pgproxy") as console:
            rows = wire.rows(await console.ask(wire.query(f"SHOW {what}")))
        [found] = [row for row in rows if row[0] == name.encode()]
        return found

    async with await Wire.connect(proxy, user=user, database=database) as client:
        assert wire.errors(await client.ask(wire.query("BEGIN; SELECT 1"))) == []
        row = await shown("DATABASES", database)
        assert row[5:8] == [b"5", b"1", b"2"]
        assert (row[11], row[12]) == (b"8", b"1")
        row = await shown("USERS", user)
        assert (row[1], row[4], row[5]) == (b"4", b"9", b"1")
    async with await Wire.connect(proxy, user=other, database=database):
        assert (await shown("USERS", other))[1:3] == [b"", b""]


async def test_check_compares_the_sizes_with_the_servers(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "pgproxy.toml"

    async def check(servers: list[Server], **pool: int) -> list[str]:
        path.write_text(config_for(servers, pool=pool))
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["check", "--config", str(path)])
        assert result.exit_code == 0, result.output
        return [line for line in result.stdout.splitlines() if line.startswith("# ")]

    primary, replica, _ = cluster.servers
    lines = await check([primary], size=1000, reserve_size=1)
    [warning] = [line for line in lines if line.startswith("# warning")]
    assert warning.startswith(f"# warning: {primary.name}: pool.size = 1001 could take more than")
    assert not any(line.startswith("# warning") for line in await check([primary, replica]))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        away = Away("away", "127.0.0.1", deaf.getsockname()[1])
        lines = await check([away, primary])  # type: ignore[list-item]
    assert any("away was not asked how many connections it takes" in line for line in lines)
