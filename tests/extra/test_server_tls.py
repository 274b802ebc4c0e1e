"""TLS between the proxy and servers, which takes Debian's PostgreSQL: the embedded one has none."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from pgproxy.embedded import Cluster, Server
from tests.extra.system import system_installation
from tests.support import wire
from tests.support.authority import Authority
from tests.support.place import cluster_parent
from tests.support.proxy import HOST, ProxyProcess
from tests.support.watch import eventually, status

pytestmark = [pytest.mark.extra, pytest.mark.timeout(90)]

EVERYBODY: Final = ("host all all 127.0.0.1/32 trust",)
ENCRYPTED: Final = ("hostssl all all 127.0.0.1/32 trust",)
PLAIN: Final = ("hostnossl all all 127.0.0.1/32 trust",)
BY_CERTIFICATE: Final = ("hostssl all all 127.0.0.1/32 cert",)
REPLICATION: Final = "host replication all 127.0.0.1/32 trust"
# Of the connections over TCP: how many are encrypted, how many are not.
COUNTS: Final = """
    SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl)
    FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL
    AND backend_type = 'client backend'"""
STUBBORN: Final = """
    DO $$ DECLARE until timestamptz := clock_timestamp() + interval '4 s'; BEGIN
    WHILE clock_timestamp() < until LOOP
        BEGIN PERFORM pg_sleep(0.2); EXCEPTION WHEN query_canceled THEN NULL; END;
    END LOOP; END $$"""
AT_WORK: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE state = 'active' AND client_addr IS NOT NULL AND query LIKE '%query_canceled%'"""
NAME: Final = "main-rw.databases.svc"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def cluster(authority: Authority) -> Iterator[Cluster]:
    """A primary and a replica that speak TLS."""
    with Cluster.create(
        1, installation=system_installation(), directory=cluster_parent()
    ) as cluster:
        certificate, key = authority.issue("server", HOST, NAME)
        for server in cluster.servers:
            for name, file in (("server.crt", certificate), ("server.key", key)):
                _give(server, name, file)
            _give(server, "root.crt", authority.file)
            server.psql("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
            server.psql("ALTER SYSTEM SET ssl = on")
            server.reload()
            assert server.psql("SHOW ssl") == "on"
        yield cluster


def _give(server: Server, name: str, file: Path) -> None:
    path = server.data_dir / name
    shutil.copyfile(file, path)
    path.chmod(0o600)
    owner = server.data_dir.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


@pytest.fixture(autouse=True)
def let_in(cluster: Cluster) -> None:
    set_hba(cluster, EVERYBODY)


def set_hba(cluster: Cluster, lines: Sequence[str]) -> None:
    for server in cluster.servers:
        server.set_hba([REPLICATION, *lines])


def started(cluster: Cluster, **server: Any) -> ProxyProcess:
    return ProxyProcess.start(cluster.servers, server=server)


def untrusting(cluster: Cluster, **server: Any) -> ProxyProcess:
    """One that finds no server it may use."""
    return ProxyProcess.start(cluster.servers, wait_ready=False, server=server)


def reason(proxy: ProxyProcess, name: str) -> str:
    """Why it does not use the server of that name."""
    proxy.wait_event("backend_role")
    [line] = [line for line in proxy.events("backend_role") if line["backend"] == name]
    return str(line["reason"])


def counts(server: Server) -> tuple[int, int]:
    encrypted, plain = server.psql(COUNTS).split("|")
    return int(encrypted), int(plain)


def use(proxy: ProxyProcess) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as client:
        assert client.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        client.execute("CREATE TABLE written (n int)")
        client.execute("DROP TABLE written")


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
def test_all_connections_are_encrypted(cluster: Cluster, authority: Authority, mode: str) -> None:
    """Those of the pools, the monitor and the catalogue's reader."""
    set_hba(cluster, ENCRYPTED)
    files = {"tls_ca_file": str(authority.file)} if mode.startswith("verify") else {}
    with started(cluster, tls_mode=mode, **files) as proxy:
        use(proxy)
        for server in cluster.servers:
            encrypted, plain = counts(server)
            assert encrypted >= 2
            assert plain == 0
        with psycopg.connect(proxy.dsn("pgproxy"), autocommit=True) as console:
            cursor = console.execute("SHOW SERVERS")
            assert cursor.description is not None
            at = [column.name for column in cursor.description].index("tls")
            rows = cursor.fetchall()
            assert rows
            assert all(str(row[at]).startswith("TLSv1.3/") for row in rows)


@pytest.mark.parametrize(
    ("mode", "lines", "is_encrypted"),
    [
        ("disable", EVERYBODY, False),
        ("allow", EVERYBODY, False),
        ("allow", ENCRYPTED, True),
        ("prefer", PLAIN, False),
    ],
)
def test_what_the_server_insists_on(
    cluster: Cluster, mode: str, lines: Sequence[str], is_encrypted: bool
) -> None:
    set_hba(cluster, lines)
    with started(cluster, tls_mode=mode) as proxy:
        use(proxy)
        assert [number > 0 for number in counts(cluster.primary)] == [
            is_encrypted,
            not is_encrypted,
        ]


@pytest.mark.parametrize(
    ("mode", "lines", "words"),
    [
        ("disable", ENCRYPTED, "no encryption"),
        ("require", PLAIN, "SSL"),
    ],
)
def test_what_the_server_does_not_let_in(
    cluster: Cluster, mode: str, lines: Sequence[str], words: str
) -> None:
    with started(cluster, tls_mode=mode) as proxy:
        set_hba(cluster, lines)
        with pytest.raises(psycopg.OperationalError, match=words) as caught:
            psycopg.connect(proxy.dsn())
        assert "pg_hba.conf" in str(caught.value)


def test_a_server_without_tls(cluster: Cluster) -> None:
    cluster.primary.psql("ALTER SYSTEM SET ssl = off")
    cluster.primary.reload()
    try:
        with started(cluster, tls_mode="prefer") as proxy:
            use(proxy)
            assert counts(cluster.primary)[0] == 0
        with untrusting(cluster, tls_mode="require") as proxy:
            assert "rejected SSL upgrade" in reason(proxy, "primary")
    finally:
        cluster.primary.psql("ALTER SYSTEM SET ssl = on")
        cluster.primary.reload()


def test_a_server_whose_certificate_is_by_somebody_else(cluster: Cluster, tmp_path: Path) -> None:
    """It is not used: neither asked what it is, nor sent a password."""
    other = Authority(tmp_path)
    with untrusting(cluster, tls_mode="verify-ca", tls_ca_file=str(other.file)) as proxy:
        assert "certificate verify failed" in reason(proxy, "primary")
        assert counts(cluster.primary) == (0, 0)
        assert not any(node["alive"] for node in status(proxy)["topology"])


def test_the_name_in_a_servers_certificate(cluster: Cluster, authority: Authority) -> None:
    """A pod is connected to by its address; its certificate has the names of Services."""
    files = {"tls_mode": "verify-full", "tls_ca_file": str(authority.file)}
    with started(cluster, **files, tls_server_name=NAME) as proxy:
        use(proxy)
    with untrusting(cluster, **files, tls_server_name="another.databases.svc") as proxy:
        assert "another.databases.svc" in reason(proxy, "primary")


def test_a_certificate_of_ours_in_place_of_a_password(
    cluster: Cluster, authority: Authority
) -> None:
    set_hba(cluster, BY_CERTIFICATE)
    certificate, key = authority.issue("postgres")
    with started(
        cluster,
        tls_mode="verify-full",
        tls_ca_file=str(authority.file),
        tls_cert_file=str(certificate),
        tls_key_file=str(key),
    ) as proxy:
        use(proxy)


def test_a_cancel_request_is_heard(cluster: Cluster) -> None:
    set_hba(cluster, ENCRYPTED)
    with (
        started(cluster, tls_mode="require") as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as client,
    ):
        timer = threading.Timer(1.0, client.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("SELECT pg_sleep(60)")
        timer.join()


def test_what_a_client_has_left_running_keeps_its_seat(cluster: Cluster) -> None:
    """It cannot be cancelled, and another has to wait until it has ended."""
    section = {"max_concurrent": 1}
    with (
        ProxyProcess.start(
            cluster.servers, server={"tls_mode": "require"}, limits=section
        ) as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as other,
    ):
        other.execute("/* pgproxy: primary */ SELECT 1")
        leaver = socket.create_connection((HOST, proxy.port))
        leaver.sendall(wire.startup("postgres", "postgres"))
        while not leaver.recv(1 << 16).endswith(b"Z\0\0\0\5I"):
            pass
        leaver.sendall(wire.query(STUBBORN))
        while cluster.primary.psql(AT_WORK) != "1":
            time.sleep(0.05)
        leaver.close()
        waiting = threading.Thread(target=other.execute, args=("/* pgproxy: primary */ SELECT 1",))
        waiting.start()
        while waiting.is_alive():
            assert int(cluster.primary.psql(AT_WORK)) <= 1
            waiting.join(0.1)
        assert cluster.primary.psql(AT_WORK) == "0"


async def test_listen_and_large_results(cluster: Cluster) -> None:
    set_hba(cluster, ENCRYPTED)
    with started(cluster, tls_mode="require") as proxy:
        async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as client:
            await client.execute("LISTEN heard")
            await client.execute("NOTIFY heard, 'word'")
            notices = client.notifies(timeout=20, stop_after=1)
            assert [notice.payload async for notice in notices] == ["word"]
            cursor = await client.execute("SELECT repeat('x', 20000) FROM generate_series(1, 2000)")
            assert {len(row[0]) for row in await cursor.fetchall()} == {20000}
            question = "COPY (SELECT generate_series(1, 100000)) TO STDOUT"
            async with client.cursor().copy(question) as copy:
                assert len([row async for row in copy.rows()]) == 100_000
        await eventually(lambda: status(proxy)["clients"] == 0)
