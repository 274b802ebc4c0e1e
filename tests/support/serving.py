"""The main job in short, on whatever PostgreSQL: reads on the replica, writes on the primary."""

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import Iterator

import psycopg

from pgproxy.embedded import Cluster, Installation, Server
from pgproxy.protocol.authentication import credentials_of
from pgproxy.protocol.scram import Keyring
from pgproxy.servers.backend import Backend
from pgproxy.servers.login import ServerLogin
from pgproxy.servers.sockets import TcpOptions
from tests.support import wire
from tests.support.place import cluster_parent
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import wait_asleep
from tests.support.wire import Wire


@contextlib.contextmanager
def served(installation: Installation) -> Iterator[tuple[Cluster, ProxyProcess]]:
    """A primary and a replica made of `installation`, and a proxy in front."""
    with (
        Cluster.create(1, installation=installation, directory=cluster_parent()) as cluster,
        ProxyProcess.start(cluster.servers, pool={"size": 4}) as proxy,
    ):
        yield cluster, proxy


def assert_statements_go_where_they_should(cluster: Cluster, proxy: ProxyProcess) -> None:
    """Each server runs what is meant for it, and a session reads what it has written."""
    version = cluster.installation.version
    assert [server.in_recovery() for server in cluster.servers] == [False, True]
    port = "SELECT inet_server_port()"
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        assert connection.info.server_version // 10000 == version
        assert connection.execute(port).fetchone() == (cluster.replicas[0].port,)
        connection.execute("CREATE TABLE words (word text, server int)")
        connection.execute("INSERT INTO words VALUES (%s, inet_server_port())", ["süß"])
        expected = [("süß", cluster.primary.port)]
        assert connection.execute("SELECT * FROM words").fetchall() == expected
        cluster.wait_caught_up()
    with psycopg.connect(proxy.dsn()) as connection:
        connection.read_only = True
        assert connection.execute(port).fetchone() == (cluster.replicas[0].port,)
        assert connection.execute("SELECT * FROM words").fetchall() == expected
        connection.rollback()
        connection.read_only = False
        assert connection.execute(port).fetchone() == (cluster.primary.port,)


def assert_pgbench_adds_up(cluster: Cluster, proxy: ProxyProcess) -> None:
    """pgbench makes its tables and works 3 s through the proxy, with more clients than servers."""
    pgbench(cluster, proxy, "-i", "-q", "-s", "1")
    for protocol in ("simple", "extended", "prepared"):
        said = pgbench(cluster, proxy, "-n", "-c", "8", "-T", "1", "-M", protocol)
        assert re.search(r"number of transactions actually processed: [1-9]", said), said
        # Version 14 and older do not say.
        assert re.search(r"failed transactions: (?!0 )", said) is None, said
    sums = (
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts),"
        " (SELECT sum(tbalance) FROM pgbench_tellers),"
        " (SELECT sum(bbalance) FROM pgbench_branches),"
        " (SELECT sum(delta) FROM pgbench_history)"
    )
    cluster.wait_caught_up()
    for server in cluster.servers:
        assert len(set(server.psql(sums).split("|"))) == 1, server.psql(sums)


async def assert_cancels_arrive(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A client of either protocol cancels its statement, with the key that the server gave us."""
    for protocol, length in ((wire.PROTOCOL_3_0, 4), (wire.PROTOCOL_3_2, 32)):
        async with await Wire.connect(proxy, protocol=protocol) as client:
            assert len(client.key()[1]) == length
            await client.send(wire.query("SELECT pg_sleep(50)"))
            await asyncio.to_thread(wait_asleep, cluster, "postgres")
            async with await Wire.open(proxy) as canceller:
                await canceller.send(wire.cancel_request(*client.key()))
                assert await canceller.until(b"") == []
            assert wire.errors(await client.until(b"Z")) == ["57014"]
            # Who is back from the cancel may go on: it hits nothing any more.
            assert wire.errors(await client.ask(wire.query("SELECT pg_sleep(0.01)"))) == []


def backend_of(server: Server) -> Backend:
    """A server as the proxy knows it."""
    return Backend(server.name, server.host, server.port, 1.0)


async def secret_of_a_log_in(backend: Backend) -> bytes:
    """What the proxy is given to cancel with."""
    login = ServerLogin(
        Keyring(),
        lambda user: credentials_of(None),
        connect_timeout=3.0,
        login_timeout=15.0,
        tcp=TcpOptions(),
    )
    exchange, greeting = await login.open_alone(backend, "postgres", [(b"database", b"postgres")])
    exchange.close()
    return greeting.secret


def pgbench(cluster: Cluster, proxy: ProxyProcess, *arguments: str) -> str:
    """The installation's own pgbench through the proxy; what it printed. It must succeed."""
    done = subprocess.run(
        [cluster.installation.tool("pgbench"), *arguments, proxy.dsn()],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        env=without_libpq_settings(),
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def without_libpq_settings() -> dict[str, str]:
    """The environment without PGHOST, PGOPTIONS and the like of whoever runs the tests."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") or name.startswith("PGPROXY_")
    }
