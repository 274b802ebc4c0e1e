"""TLS between clients and the proxy, with libpq (psycopg), asyncpg and bytes by hand."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import psycopg
import pytest

from pgproxy.config import Listen
from pgproxy.embedded import Cluster
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.tls import ClientTls
from tests.support import wire
from tests.support.authority import Authority
from tests.support.proxy import HOST, ProxyProcess, config_for
from tests.support.watch import PeakMemory, bystander, eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(60)]

StartProxy = Callable[..., ProxyProcess]

ROWS: Final = 20_000
ASLEEP: Final = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def listen(authority: Authority) -> dict[str, object]:
    certificate, key = authority.issue("proxy", HOST)
    return {"tls_cert_file": str(certificate), "tls_key_file": str(key)}


@pytest.fixture(scope="module")
def proxy(cluster: Cluster, listen: dict[str, object]) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers, listen=listen) as one:
        yield one


@pytest.fixture(scope="module")
def plain_proxy(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers) as one:
        yield one


@pytest.fixture(scope="module")
def strict_proxy(cluster: Cluster, listen: dict[str, object]) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers, listen={**listen, "tls_mode": "require"}) as one:
        yield one


@pytest.fixture(scope="module")
def verifying_proxy(
    cluster: Cluster, listen: dict[str, object], authority: Authority
) -> Iterator[ProxyProcess]:
    section = {**listen, "tls_mode": "verify-full", "tls_ca_file": str(authority.file)}
    with ProxyProcess.start(cluster.servers, listen=section, auth={"method": "cert"}) as one:
        yield one


def connect(proxy: ProxyProcess, **options: Any) -> "psycopg.Connection[Any]":
    return psycopg.connect(proxy.dsn(), autocommit=True, **options)


def client_context(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


# --- who gets it


@pytest.mark.parametrize("sslmode", ["prefer", "require", "verify-ca", "verify-full"])
def test_clients_that_ask_get_it(proxy: ProxyProcess, authority: Authority, sslmode: str) -> None:
    with connect(proxy, sslmode=sslmode, sslrootcert=str(authority.file)) as client:
        assert client.pgconn.ssl_in_use
        assert client.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("sslmode", ["disable", "allow"])
def test_clients_that_do_not_ask_need_not_have_it(proxy: ProxyProcess, sslmode: str) -> None:
    with connect(proxy, sslmode=sslmode) as client:
        assert not client.pgconn.ssl_in_use


def test_without_a_certificate_there_is_none(plain_proxy: ProxyProcess) -> None:
    with connect(plain_proxy, sslmode="prefer") as client:
        assert not client.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        connect(plain_proxy, sslmode="require")


def test_with_mode_disable_there_is_none(
    cluster: Cluster, start_proxy: StartProxy, listen: dict[str, object]
) -> None:
    proxy = start_proxy([cluster.primary], listen={**listen, "tls_mode": "disable"})
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        connect(proxy, sslmode="require")


async def test_with_mode_require_who_has_none_is_told_so(strict_proxy: ProxyProcess) -> None:
    with pytest.raises(psycopg.OperationalError, match="not encrypted") as caught:
        await asyncio.to_thread(connect, strict_proxy, sslmode="disable")
    assert "listen.tls_mode" in str(caught.value)
    async with await Wire.connect(strict_proxy) as client:
        [error] = wire.errors(client.startup)
        assert error == "28000"
    with connect(strict_proxy, sslmode="allow") as client_that_comes_again:
        assert client_that_comes_again.pgconn.ssl_in_use


def test_a_certificate_by_another_authority_is_not_believed(
    proxy: ProxyProcess, folder: Path
) -> None:
    other = Authority(folder, "other")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect(proxy, sslmode="verify-ca", sslrootcert=str(other.file))
    proxy.check()


# --- certificates of clients


def test_the_name_in_the_certificate_is_the_users(
    verifying_proxy: ProxyProcess, authority: Authority
) -> None:
    certificate, key = authority.issue("postgres")
    named = {"sslcert": str(certificate), "sslkey": str(key), "sslmode": "require"}
    with connect(verifying_proxy, **named) as client:
        assert client.execute("SELECT current_user").fetchone() == ("postgres",)
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        connect(verifying_proxy, user="somebody", **named)


@pytest.mark.parametrize("has_one", [False, True])
def test_without_a_certificate_that_can_be_verified_nobody_gets_in(
    verifying_proxy: ProxyProcess, folder: Path, has_one: bool
) -> None:
    named = {}
    if has_one:
        stranger = Authority(folder, "stranger")
        certificate, key = stranger.issue("postgres")
        named = {"sslcert": str(certificate), "sslkey": str(key)}
    with pytest.raises(psycopg.OperationalError):
        connect(verifying_proxy, sslmode="require", **named)
    with pytest.raises(psycopg.OperationalError, match="not encrypted"):
        connect(verifying_proxy, sslmode="disable", **named)


# --- what goes over it


async def test_what_clients_do_works_over_it(
    cluster: Cluster, strict_proxy: ProxyProcess, authority: Authority, fresh_database: str
) -> None:
    context = client_context(authority)
    pool = await asyncpg.create_pool(
        host=HOST,
        port=strict_proxy.port,
        user="postgres",
        database=fresh_database,
        ssl=context,
        min_size=8,
        max_size=8,
    )
    async with pool:
        await pool.execute("CREATE TABLE many (n int, s text)")
        rows = [(n, "x" * (n % 500)) for n in range(ROWS)]
        async with pool.acquire() as client:
            await client.copy_records_to_table("many", records=rows)
            [count] = await client.fetchrow("SELECT count(*) FROM many")
            assert count == ROWS
            found = await client.fetch("SELECT n, s FROM many ORDER BY n")
            assert [tuple(row) for row in found] == rows
            large = await client.fetchval("SELECT repeat('y', 5000000)")
            assert large == "y" * 5_000_000
        results = await asyncio.gather(
            *(pool.fetchval("SELECT sum($1::int + n) FROM many", n) for n in range(200))
        )
        total = sum(range(ROWS))
        assert results == [total + n * ROWS for n in range(200)]


async def test_a_cancel_request_over_it_is_heard(
    cluster: Cluster, strict_proxy: ProxyProcess
) -> None:
    with connect(strict_proxy, sslmode="require") as client:
        async with asyncio.TaskGroup() as tasks:
            sleeping = tasks.create_task(asyncio.to_thread(_sleep, client))
            await eventually(lambda: cluster.primary.psql(ASLEEP) == "1")
            await asyncio.to_thread(client.cancel_safe, timeout=20)
        assert sleeping.result() == "57014"
        assert client.execute("SELECT 1").fetchone() == (1,)


def _sleep(client: "psycopg.Connection[Any]") -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        client.execute("/* pgproxy: primary */ SELECT pg_sleep(50)")
    return caught.value.sqlstate


def test_the_console_shows_it(strict_proxy: ProxyProcess) -> None:
    with (
        connect(strict_proxy, sslmode="require"),
        psycopg.connect(strict_proxy.dsn("pgproxy"), autocommit=True, sslmode="require") as console,
    ):
        cursor = console.execute("SHOW CLIENTS")
        assert cursor.description is not None
        at = [column.name for column in cursor.description].index("tls")
        assert {str(row[at])[:9] for row in cursor.fetchall()} == {"TLSv1.3/T"}


def test_a_client_is_seen_off_with_words(
    cluster: Cluster, start_proxy: StartProxy, listen: dict[str, object]
) -> None:
    proxy = start_proxy([cluster.primary], listen={**listen, "drain_timeout": 0.5})
    with connect(proxy, sslmode="require") as client:
        client.execute("SELECT 1")
        proxy.stop()
        with pytest.raises(psycopg.OperationalError) as caught:
            client.execute("SELECT 2")
    assert caught.value.sqlstate == "57P01"


async def test_who_does_not_read_is_not_written_to_without_end(
    strict_proxy: ProxyProcess, authority: Authority
) -> None:
    """The answers of some 400 MB wait where they are, and others go on."""
    reader, writer = await _secured(strict_proxy, client_context(authority))
    writer.write(wire.startup("postgres", "postgres"))
    while not (await reader.read(1 << 16)).endswith(b"Z\0\0\0\5I"):
        pass
    with PeakMemory(strict_proxy) as memory:
        writer.write(wire.query("SELECT repeat('x', 10000) FROM generate_series(1, 40000)"))
        await asyncio.sleep(2)
    print(f"{memory.growth >> 10} KB held")  # noqa: T201
    assert memory.growth < 16 << 20
    writer.transport.abort()
    with connect(strict_proxy, sslmode="require") as other:
        assert other.execute("SELECT 1").fetchone() == (1,)


async def test_what_was_sent_before_goodbye_is_run(
    cluster: Cluster, strict_proxy: ProxyProcess, authority: Authority, fresh_database: str
) -> None:
    """All of it, as by PostgreSQL, though reading pauses while it is run."""
    cluster.primary.psql("CREATE TABLE told (n int)", fresh_database)
    count = 3000
    told = [f"INSERT INTO told VALUES ({n}) /*{'x' * 300}*/" for n in range(count)]
    text = b"".join(map(wire.query, told)) + wire.message(b"X")
    await asyncio.to_thread(
        _say_and_leave, strict_proxy, client_context(authority), fresh_database, text
    )
    await eventually(
        lambda: cluster.primary.psql("SELECT count(*) FROM told", fresh_database) == str(count)
    )


def _say_and_leave(
    proxy: ProxyProcess, context: ssl.SSLContext, database: str, text: bytes
) -> None:
    """Says goodbye, ends its way, and reads on."""
    client = _secure(socket.socket(), proxy.port, context)
    client.sendall(wire.startup("postgres", database))
    while not client.recv(1 << 16).endswith(b"Z\0\0\0\5I"):
        pass
    client.sendall(text)
    client.settimeout(0.001)
    with contextlib.suppress(OSError):
        client.unwrap()  # the other side's goodbye is far away
    with socket.socket(fileno=client.detach()) as below:
        below.settimeout(None)
        below.shutdown(socket.SHUT_WR)
        while below.recv(1 << 16):
            pass


async def test_what_the_socket_has_not_taken_is_not_sent_yet(
    listen: dict[str, object], authority: Authority
) -> None:
    """A drain sees off who has taken all."""
    tls = ClientTls(Listen.model_validate(listen))
    loop = asyncio.get_running_loop()
    secured: asyncio.Future[asyncio.Transport] = loop.create_future()

    async def secure(exchange: Exchange) -> None:
        assert await exchange.read(len(wire.SSL_REQUEST)) == wire.SSL_REQUEST
        assert tls.context is not None
        await exchange.offer_tls(tls.context)
        sock = exchange.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        secured.set_result(exchange.transport)

    exchange = Exchange()
    server = await loop.create_server(lambda: exchange, HOST, 0)
    async with server, asyncio.TaskGroup() as tasks:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = server.sockets[0].getsockname()[1]
        client = tasks.create_task(
            asyncio.to_thread(_secure, plain, port, client_context(authority))
        )
        await eventually(lambda: exchange.is_connected)
        tasks.create_task(secure(exchange))
        transport = await secured
        size = 7 * 8192
        for _ in range(7):
            transport.write(b"x" * 8192)
        await asyncio.sleep(0.1)
        assert size / 2 < transport.get_write_buffer_size() < 2 * size
        assert not transport.can_write_eof()
        got = asyncio.to_thread(_read, await client, size)
        assert await got == b"x" * size
        await eventually(lambda: transport.get_write_buffer_size() == 0)
        transport.abort()


def _secure(plain: socket.socket, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain.connect((HOST, port))
    plain.sendall(wire.SSL_REQUEST)
    assert plain.recv(1) == b"S"
    return context.wrap_socket(plain, server_hostname=HOST)


def _read(client: ssl.SSLSocket, size: int) -> bytes:
    with client:
        got = b""
        while len(got) < size:
            got += client.recv(1 << 16)
        return got


async def test_clients_that_leave_while_they_log_in_leave_nothing(
    cluster: Cluster, start_proxy: StartProxy, listen: dict[str, object], authority: Authority
) -> None:
    """They wait for a server when their connection ends, without a word."""
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], listen=listen)
    context = client_context(authority)
    for round_ in range(6):
        async with asyncio.TaskGroup() as tasks:
            for number in range(30):
                tasks.create_task(
                    asyncio.to_thread(_leave_early, proxy, context, 1000 + round_ * 30 + number)
                )
    await eventually(lambda: status(proxy)["clients"] == 0)
    await asyncio.to_thread(proxy.stop)


def _leave_early(proxy: ProxyProcess, context: ssl.SSLContext, number: int) -> None:
    client = _secure(socket.socket(), proxy.port, context)
    # Each asks for something else, so each has to wait for what a server says to it.
    client.sendall(wire.startup("postgres", "postgres", work_mem=f"{number}kB"))
    time.sleep(number % 10 / 2000)
    os.close(client.detach())


async def _secured(
    proxy: ProxyProcess, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(wire.SSL_REQUEST)
    assert await reader.readexactly(1) == b"S"
    await writer.start_tls(context, server_hostname=HOST)
    return reader, writer


# --- what goes wrong


async def test_what_was_sent_behind_the_request_is_nobodys(proxy: ProxyProcess) -> None:
    """Whoever sits on the wire could have put it there (CVE-2021-23214)."""
    async with await Wire.open(proxy) as client:
        await client.send(wire.SSL_REQUEST + wire.startup("postgres", "postgres"))
        answer = await client.until(b"E")
        assert wire.errors(answer) == ["08P01"]
        assert "unencrypted data" in wire.fields(answer[-1][1])["M"]


async def test_tls_is_asked_for_once(proxy: ProxyProcess, authority: Authority) -> None:
    reader, writer = await _secured(proxy, client_context(authority))
    writer.write(wire.SSL_REQUEST)
    assert b"C08P01\0" in await reader.read()
    writer.close()


async def test_handshakes_that_come_to_nothing_hold_up_nobody(
    cluster: Cluster, start_proxy: StartProxy, listen: dict[str, object]
) -> None:
    """Some say nothing, some leave, some speak something else."""
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], listen=listen, timeouts={"client_login": 1}
    )
    async with bystander(proxy) as other:
        strangers = [await Wire.open(proxy) for _ in range(60)]
        for stranger in strangers:
            await stranger.send(wire.SSL_REQUEST)
            assert await stranger.reader.readexactly(1) == b"S"
        for stranger in strangers[:20]:
            await stranger.send(b"this is no ClientHello" * 20)
        for stranger in strangers[20:40]:
            await stranger.drop()
        for stranger in (*strangers[:20], *strangers[40:]):
            await stranger.reader.read()  # until it is closed
            await stranger.drop()
        await other.served(10)
    await eventually(lambda: len(proxy.events("tls_handshake_failed")) >= 1)
    await eventually(lambda: status(proxy)["clients"] == 0)


async def test_renewed_files_are_used_and_unusable_ones_are_not(
    cluster: Cluster, start_proxy: StartProxy, tmp_path: Path
) -> None:
    first = Authority(tmp_path, "first")
    certificate, key = first.issue("proxy", HOST)
    proxy = await asyncio.to_thread(
        start_proxy,
        [cluster.primary],
        listen={"tls_cert_file": str(certificate), "tls_key_file": str(key)},
    )
    _, before = await _secured(proxy, client_context(first))
    second = Authority(tmp_path, "second")
    second.issue("proxy", HOST)
    _, after = await _secured(proxy, client_context(second))
    # Those of before go on as they are.
    before.write(wire.startup("postgres", "postgres"))
    await before.drain()
    certificate.write_text("half of a certificate")
    _, still = await _secured(proxy, client_context(second))
    line = await asyncio.to_thread(proxy.wait_event, "tls_files_unusable")
    assert str(certificate) in line["error"]
    second.issue("proxy", HOST)
    _, again = await _secured(proxy, client_context(second))
    for writer in (before, after, still, again):
        writer.close()


@pytest.mark.parametrize("command", ["serve", "check"])
def test_files_that_are_of_no_use_are_told_at_the_start(
    cluster: Cluster, authority: Authority, tmp_path: Path, command: str
) -> None:
    certificate, _ = authority.issue("proxy", HOST)
    _, key = Authority(tmp_path).issue("another")
    config = tmp_path / "pgproxy.toml"
    files = {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
    config.write_text(config_for(cluster.servers, listen=files))
    ended = subprocess.run(
        [sys.executable, "-m", "pgproxy", command, "--config", config],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert "listen.tls_cert_file" in ended.stderr
    assert "KEY_VALUES_MISMATCH" in ended.stderr
