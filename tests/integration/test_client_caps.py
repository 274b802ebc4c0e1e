"""Caps on clients: of each database and of each user, also while a storm of them logs in."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from pgproxy.clients.connection import ClientConnection
from pgproxy.embedded import Cluster
from pgproxy.servers.exchange import Exchange
from tests.support import wire
from tests.support.inprocess import serving
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(90)]

StartProxy = Callable[..., ProxyProcess]


def _refusal(client: Wire) -> dict[str, str]:
    kind, body = client.startup[-1]
    assert kind == b"E", client.startup
    found = wire.fields(body)
    assert (found["V"], found["C"], found["R"]) == ("FATAL", "53300", "pgproxy")
    assert found["H"]
    return found


def _show(proxy: ProxyProcess, name: str) -> dict[str, dict[str, Any]]:
    with psycopg.connect(proxy.dsn("pgproxy"), autocommit=True, row_factory=dict_row) as console:
        return {row["name"]: row for row in console.execute(f"SHOW {name}").fetchall()}  # type: ignore[arg-type]


async def test_each_cap_has_its_words(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    limits = {
        "max_clients_per_database": 3,
        "max_clients_per_user": 2,
        "databases": {fresh_database: {"max_clients": 1}},
    }
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, limits=limits)
    cluster.primary.psql("CREATE ROLE capped LOGIN")
    clients = [await Wire.connect(proxy) for _ in range(2)]
    try:
        async with await Wire.connect(proxy) as third:
            told = _refusal(third)
        assert told["M"] == 'too many connections for role "postgres"'
        assert told["D"].startswith("limits.max_clients_per_user is 2,")
        clients.append(await Wire.connect(proxy, user="capped"))
        async with await Wire.connect(proxy, user="capped") as fourth:
            told = _refusal(fourth)
        assert told["M"] == 'too many connections for database "postgres"'
        assert told["D"].startswith("limits.max_clients_per_database is 3,")
        clients.append(await Wire.connect(proxy, user="capped", database=fresh_database))
        async with await Wire.connect(proxy, user="capped", database=fresh_database) as fifth:
            assert _refusal(fifth)["D"].startswith(
                f"limits.databases.{fresh_database}.max_clients is 1,"
            )
        # The console's users are no clients, and are told how many there are and may be.
        databases = await asyncio.to_thread(_show, proxy, "DATABASES")
        shown = [
            (
                databases[name]["max_client_connections"],
                databases[name]["current_client_connections"],
            )
            for name in ("postgres", fresh_database)
        ]
        assert shown == [(3, 3), (1, 1)]
        users = await asyncio.to_thread(_show, proxy, "USERS")
        shown = [
            (users[name]["max_user_client_connections"], users[name]["current_client_connections"])
            for name in ("postgres", "capped")
        ]
        assert shown == [(2, 2), (2, 2)]
        metrics = await asyncio.to_thread(proxy.get, "/metrics")
        assert 'pgproxy_clients_refused_total{cap="database"} 2.0' in metrics[1]
        assert 'pgproxy_clients_refused_total{cap="user"} 1.0' in metrics[1]
        # Whoever goes makes room.
        await clients.pop(0).close()
        await eventually(lambda: status(proxy)["clients"] == 3)
        clients.append(await Wire.connect(proxy))
        assert wire.rows(await clients[-1].ask(wire.query("SELECT 1"))) == [[b"1"]]
    finally:
        for client in clients:
            await client.drop()
        await eventually(lambda: status(proxy)["clients"] == 0)
        await asyncio.to_thread(proxy.stop)
        cluster.primary.psql("DROP ROLE capped")


async def test_a_storm_of_log_ins_never_exceeds_a_cap(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """Who is still logging in counts: all of these wait at once for the first server connection."""
    proxy = await asyncio.to_thread(
        start_proxy,
        cluster.servers,
        limits={"max_clients_per_user": 10},
        listen={"max_clients": 30},
    )
    peak = 0
    at_work = True

    async def sample() -> None:
        nonlocal peak
        while at_work:
            peak = max(peak, int((await asyncio.to_thread(status, proxy))["clients"]))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sample())
        storm = [tasks.create_task(Wire.connect(proxy)) for _ in range(200)]
        await asyncio.wait(storm)
        at_work = False
    clients = [one.result() for one in storm]
    admitted = [client for client in clients if client.startup[-1][0] == b"Z"]
    refused = [_refusal(client)["D"].split()[0] for client in clients if client not in admitted]
    try:
        assert (len(admitted), len(refused)) == (10, 190)
        assert peak <= 10
        assert set(refused) <= {"limits.max_clients_per_user", "listen.max_clients"}
        for client in admitted:
            assert wire.rows(await client.ask(wire.query("SELECT 1"))) == [[b"1"]]
    finally:
        for client in clients:
            await client.drop()
    await eventually(lambda: status(proxy)["clients"] == 0)


async def test_a_bug_in_a_clients_first_statement_leaves_nothing_behind(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over = Exchange.hand_over

    def fails(self: Exchange, receiver: object) -> None:
        hand_over(self, receiver)
        assert not isinstance(receiver, ClientConnection), "a bug"

    async with serving({cluster.primary: "primary"}) as proxy:
        with monkeypatch.context() as patches:
            patches.setattr(Exchange, "hand_over", fails)
            client = await Wire.connect(proxy)
            assert [kind for kind, _ in await client.until(b"")] == [b"E"]
            await client.drop()
        listener = proxy.proxy.listener
        await proxy.until(lambda: not listener.clients and listener.caps.total.used == 0)
        assert listener.caps.users.entries == 0


async def test_a_stranger_takes_no_place_of_a_user(
    cluster: Cluster, start_proxy: StartProxy, bare_directory: Any
) -> None:
    users = bare_directory / "users.txt"
    users.write_text('"postgres" "secret"\n')
    proxy = await asyncio.to_thread(
        start_proxy,
        cluster.servers,
        auth={"method": "md5", "users_file": str(users)},
        limits={"max_clients_per_user": 1},
    )
    stranger = await Wire.open(proxy)
    await stranger.send(wire.startup("postgres", "postgres"))
    assert (await stranger.read())[0] == b"R"  # and gives no password
    try:
        with psycopg.connect(proxy.dsn(), password="secret") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
                psycopg.connect(proxy.dsn(), password="secret")
    finally:
        await stranger.drop()
