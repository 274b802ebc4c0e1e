"""Replication connections through the proxy, with PostgreSQL's own programs and psycopg2.

A base backup and a standby that streams, pg_receivewal, pg_recvlogical, a logical consumer: all on
the port that applications use. Then who is refused, how they are cancelled, and how they end.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import psycopg2
import psycopg2.extras
import pytest

from pgproxy.embedded import Cluster, Server
from tests.support import wire
from tests.support.fault import FaultProxy
from tests.support.inprocess import InProcess, serving
from tests.support.place import cluster_parent
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import wait_asleep
from tests.support.watch import eventually
from tests.support.wire import Address, Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

StartProxy = Callable[..., ProxyProcess]

HBA: Final = (
    "host all all 127.0.0.1/32 trust",
    "host replication all 127.0.0.1/32 trust",
)
SENDERS: Final = "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}'"


@pytest.fixture(scope="module")
def logical() -> Iterator[Cluster]:
    """A primary and two replicas whose WAL can be decoded."""
    settings = {"wal_level": "logical", "wal_sender_timeout": "10s"}
    with Cluster.create(2, settings=settings, hba=HBA, directory=cluster_parent()) as cluster:
        cluster.primary.psql("CREATE ROLE plain LOGIN; CREATE ROLE other LOGIN REPLICATION")
        cluster.wait_caught_up()
        yield cluster


@pytest.fixture
def through(logical: Cluster, start_proxy: StartProxy) -> ProxyProcess:
    return start_proxy(logical.servers, replication={"allow": True}, listen={"drain_timeout": 1})


def conninfo(address: Address, **more: str) -> str:
    pairs = {"host": address.host, "port": str(address.port), "user": "postgres", **more}
    return " ".join(f"{name}='{value}'" for name, value in pairs.items())


@contextlib.contextmanager
def running(cluster: Cluster, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the installation, ended by SIGINT as the manual says."""
    process = cluster.spawn(command, subprocess.PIPE)
    try:
        yield process
        process.send_signal(signal.SIGINT)
    except BaseException:
        process.kill()
        raise
    finally:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output.decode()


def until(condition: Callable[[], bool]) -> None:
    asyncio.run(eventually(condition))


def gauge(proxy: ProxyProcess, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = [line for line in proxy.get("/metrics")[1].splitlines() if line.startswith(name)]
    assert lines, name
    return sum(float(line.rpartition(" ")[2]) for line in lines)


# --- physical


def backup(cluster: Cluster, address: Address, name: str, *more: str, **options: str) -> Server:
    """A server that is a copy of the one behind `address`; not started."""
    server = Server(cluster, name)
    source = conninfo(address, application_name=name, **options)
    cluster.run_tool(
        *("pg_basebackup", "-D", str(server.data_dir), "-d", source, "-R", "--no-sync"),
        *("--checkpoint=fast", *more),
    )
    server.settings.update(cluster.primary.settings)
    server.settings["primary_conninfo"] = source
    return server


def test_a_standby_is_made_and_streams_through_the_proxy(
    logical: Cluster, through: ProxyProcess
) -> None:
    primary = logical.primary
    primary.psql(
        "CREATE TABLE big AS SELECT n, repeat('x', 500) t FROM generate_series(1, 40000) n"
    )
    # The WAL comes by a second connection.
    standby = backup(logical, through, "through", "--wal-method=stream")
    standby.start()
    try:
        until(lambda: primary.psql(SENDERS.format("through")) == "1")
        assert gauge(through, "pgproxy_replication_clients{") == 1
        assert standby.in_recovery()
        primary.psql("INSERT INTO big SELECT n, 'more' FROM generate_series(1, 100000) n")
        standby.wait_replayed(primary.psql("SELECT pg_current_wal_lsn()"))
        assert standby.psql("SELECT count(*) FROM big") == "140000"
        # It goes through the proxy and nowhere else.
        (port,) = primary.psql(
            "SELECT client_port FROM pg_stat_replication WHERE application_name = 'through'"
        ).splitlines()
        assert int(port) in proxy_ports(through)
        assert gauge(through, "pgproxy_replication_opened_total") == 3
        assert len(through.events("replication_begins")) == 3
        assert len(through.events("replication_ends")) == 2
    finally:
        standby.stop("immediate")
        primary.psql("DROP TABLE big")
    until(lambda: gauge(through, "pgproxy_replication_clients{") == 0)


def proxy_ports(proxy: ProxyProcess) -> set[int]:
    import psutil

    connections = psutil.Process(proxy.process.pid).net_connections("tcp")
    return {connection.laddr.port for connection in connections}


def test_a_named_replica_is_copied(logical: Cluster, through: ProxyProcess) -> None:
    standby = backup(logical, through, "cascade", options="-c pgproxy.backend=replica-2")
    standby.start()
    try:
        upstream = logical.server("replica-2")
        until(lambda: upstream.psql(SENDERS.format("cascade")) == "1")
        logical.primary.psql("CREATE TABLE far (n int); DROP TABLE far")
        standby.wait_replayed(logical.primary.psql("SELECT pg_current_wal_lsn()"))
    finally:
        standby.stop("immediate")


def test_pg_receivewal(logical: Cluster, through: ProxyProcess) -> None:
    primary = logical.primary
    archive = logical.directory / "data" / "archive"
    archive.mkdir()
    archive.chmod(0o777)
    source = conninfo(through)
    logical.run_tool("pg_receivewal", "-D", str(archive), "-d", source, "--slot=w", "--create-slot")
    received = "SELECT pg_wal_lsn_diff(flush_lsn, '{}') >= 0 FROM pg_stat_replication"
    received += " WHERE application_name = 'pg_receivewal'"
    with running(
        logical, "pg_receivewal", "-D", str(archive), "-d", source, "--slot=w", "--synchronous"
    ):
        until(lambda: primary.psql(SENDERS.format("pg_receivewal")) == "1")
        # Several segments.
        for _ in range(3):
            primary.psql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 1000000))")
            primary.psql("SELECT pg_switch_wal()")
        position = primary.psql("SELECT pg_current_wal_flush_lsn()")
        until(lambda: primary.psql(received.format(position)) == "t")
    logical.run_tool("pg_receivewal", "-d", source, "--slot=w", "--drop-slot")
    # What came is what is there.
    segments = sorted(path for path in archive.iterdir() if path.suffix != ".partial")
    assert len(segments) >= 3
    for path in segments:
        assert path.read_bytes() == (primary.data_dir / "pg_wal" / path.name).read_bytes()


# --- logical


def test_pg_recvlogical(logical: Cluster, through: ProxyProcess) -> None:
    primary = logical.primary
    primary.psql("CREATE TABLE heard (t text); CREATE PUBLICATION all_heard FOR TABLE heard")
    output = logical.directory / "data" / "decoded"
    source = conninfo(through, dbname="postgres")
    slot = ("-d", source, "--slot=l")
    logical.run_tool("pg_recvlogical", *slot, "--create-slot", "-P", "pgoutput")
    with running(
        logical,
        *("pg_recvlogical", *slot, "--start", "-f", str(output), "--fsync-interval=1"),
        *("-o", "proto_version=1", "-o", "publication_names=all_heard"),
    ):
        primary.psql("INSERT INTO heard SELECT 'word ' || n FROM generate_series(1, 3000) n")
        until(lambda: output.exists() and b"word 3000" in output.read_bytes())
    logical.run_tool("pg_recvlogical", *slot, "--drop-slot")
    decoded = output.read_bytes()
    assert all(b"word %d\n" % n in decoded for n in range(1, 3001))
    primary.psql("DROP PUBLICATION all_heard; DROP TABLE heard")


def consumer(address: Address, **more: str) -> Any:
    return psycopg2.connect(
        conninfo(address, dbname="postgres", **more),
        connection_factory=psycopg2.extras.LogicalReplicationConnection,
    )


def test_a_consumer_in_psycopg2(logical: Cluster, through: ProxyProcess) -> None:
    primary = logical.primary
    primary.psql("CREATE TABLE fed (n int, t text); CREATE PUBLICATION feed FOR TABLE fed")
    connection = consumer(through)
    cursor = connection.cursor()
    cursor.create_replication_slot("feed", output_plugin="pgoutput")
    cursor.start_replication(
        "feed", options={"proto_version": "1", "publication_names": "feed"}, status_interval=1
    )
    values = [f"{n} " + "z" * 10_000 for n in range(500)]
    with psycopg.connect(through.dsn(), autocommit=True) as writer:
        for n, value in enumerate(values):
            writer.execute("INSERT INTO fed VALUES (%s, %s)", (n, value))
    inserted: list[bytes] = []
    while len(inserted) < len(values):
        message = cursor.read_message()
        if message is None:
            continue
        if message.payload[:1] == b"I":
            inserted.append(message.payload)
        cursor.send_feedback(flush_lsn=message.data_start)
    for payload, value in zip(inserted, values, strict=True):
        assert value.encode() in payload
    connection.close()
    idle = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'feed' AND NOT active"
    until(lambda: primary.psql(idle) == "1")
    # Another one goes on behind what the first has confirmed.
    with contextlib.closing(consumer(through)) as again:
        cursor = again.cursor()
        cursor.drop_replication_slot("feed")
    primary.psql("DROP PUBLICATION feed; DROP TABLE fed")


# --- the same as direct


async def test_the_server_s_own_words_reach_the_client(
    logical: Cluster, through: ProxyProcess
) -> None:
    asked = (
        "SHOW wal_segment_size",
        "SELECT 1/0",
        "IDENTIFY_SYSTEM NOW",
        "READ_REPLICATION_SLOT missing",
        "SELECT current_setting('application_name'), current_setting('work_mem')",
    )
    told = []
    for address in (logical.primary, through):
        async with await Wire.connect(
            address,
            replication="database",
            application_name="told",
            options=r"-c work_mem=3MB -c pgproxy.backend=primary",
        ) as client:
            settings = client.parameters()
            told.append((settings, [await client.ask(wire.query(sql)) for sql in asked]))
    assert told[1] == told[0]


@pytest.mark.parametrize("protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
async def test_a_cancel_reaches_the_server(
    logical: Cluster, through: ProxyProcess, protocol: int
) -> None:
    async with await Wire.connect(through, replication="database", protocol=protocol) as client:
        await client.send(wire.query("SELECT pg_sleep(50)"))
        await asyncio.to_thread(wait_asleep, logical, "postgres")
        pid, secret = client.key()
        assert len(secret) == (4 if protocol == wire.PROTOCOL_3_0 else 32)
        for key in ((pid, b"no" * (len(secret) // 2)), (pid, secret)):
            async with await Wire.open(through) as canceller:
                await canceller.send(wire.cancel_request(*key))
                assert await canceller.until(b"") == []
        assert wire.errors(await client.until(b"Z")) == ["57014"]
        assert wire.rows(await client.ask(wire.query("SELECT 1"))) == [[b"1"]]


# --- who does not read, who leaves


async def test_neither_side_piles_up_in_the_proxy(logical: Cluster, through: ProxyProcess) -> None:
    size = 64 << 20
    async with await Wire.connect(through, replication="database") as client:
        before = through.rss_bytes()
        await client.send(wire.query(f"SELECT repeat('x', {size})"))
        await asyncio.to_thread(
            until,
            lambda: (
                logical.primary.psql(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE backend_type = 'walsender' AND wait_event = 'ClientWrite'"
                )
                == "1"
            ),
        )
        assert through.rss_bytes() - before < size // 4
        (row,) = wire.rows(await client.until(b"Z"))
        assert row == [b"x" * size]
    # The other way: the server sleeps and does not read.
    async with await Wire.connect(through, replication="database") as client:
        await client.send(wire.query("SELECT pg_sleep(50)"))
        await asyncio.to_thread(wait_asleep, logical, "postgres")
        before = through.rss_bytes()
        text = "y" * size
        sending = asyncio.get_running_loop().create_task(
            client.send(wire.query(f"SELECT length('{text}')"))
        )
        done, _ = await asyncio.wait([sending], timeout=1)
        assert not done
        assert through.rss_bytes() - before < size // 4
        async with await Wire.open(through) as canceller:
            await canceller.send(wire.cancel_request(*client.key()))
        await sending
        frames = await client.until(b"Z", 2)
        assert wire.errors(frames) == ["57014"]
        assert wire.rows(frames) == [[str(size).encode()]]


async def test_a_client_that_closes_its_half_gets_its_answer(
    logical: Cluster, through: ProxyProcess
) -> None:
    client = await Wire.connect(through, replication="database")
    await client.send(wire.query("SELECT pg_sleep(0.2), 'heard'"))
    client.writer.write_eof()
    frames = await client.until(b"Z")
    assert wire.rows(frames) == [[b"", b"heard"]]
    assert await client.until(b"") == []
    await client.drop()
    await asyncio.to_thread(until, lambda: gauge(through, "pgproxy_replication_clients{") == 0)


async def test_who_vanishes_is_not_kept(logical: Cluster, through: ProxyProcess) -> None:
    senders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"
    async with FaultProxy(through) as network:
        before = logical.primary.psql(senders)
        client = await Wire.connect(network, replication="true")
        assert wire.errors(await client.ask(wire.query("IDENTIFY_SYSTEM"))) == []
        network.reset()
        await asyncio.to_thread(until, lambda: logical.primary.psql(senders) == before)
        await client.drop()
    await asyncio.to_thread(until, lambda: gauge(through, "pgproxy_replication_clients{") == 0)


async def test_a_server_that_says_goodbye_is_heard(logical: Cluster, through: ProxyProcess) -> None:
    async with await Wire.connect(through, replication="database") as client:
        [[pid]] = wire.rows(await client.ask(wire.query("SELECT pg_backend_pid()")))
        assert pid is not None
        logical.primary.psql(f"SELECT pg_terminate_backend({pid.decode()})")
        assert wire.errors(await client.until(b"")) == ["57P01"]


# --- who is refused


async def refusal(address: Address, **parameters: str) -> dict[str, str]:
    async with await Wire.connect(address, **parameters) as client:  # type: ignore[arg-type]
        kind, body = client.startup[-1]
        assert kind == b"E", client.startup
        told = wire.fields(body)
        assert told["S"] == "FATAL"
        return told


async def test_who_is_refused_is_told_what_to_set(
    logical: Cluster, start_proxy: StartProxy
) -> None:
    off = await asyncio.to_thread(start_proxy, logical.servers)
    told = await refusal(off, replication="true")
    assert (told["C"], told["R"]) == ("0A000", "pgproxy")
    assert "replication.allow" in told["D"]

    rules = {"allow": True, "users": ["postgres", "plain"], "max_connections": 2}
    on = await asyncio.to_thread(start_proxy, logical.servers, replication=rules)
    told = await refusal(on, replication="true", user="other")
    assert (told["C"], told["R"]) == ("28000", "pgproxy")
    assert "replication.users" in told["D"]
    # The server has the last word.
    direct = await refusal(logical.primary, replication="true", user="plain")
    told = await refusal(on, replication="true", user="plain")
    assert [told[field] for field in "CMD"] == [direct[field] for field in "CMD"]
    told = await refusal(on, replication="true", options="-c pgproxy.backend=nobody")
    assert told["C"] == "22023"
    assert "primary, replica-1, replica-2" in told["D"]
    clients = [await Wire.connect(on, replication="true") for _ in range(2)]
    told = await refusal(on, replication="true")
    assert told["C"] == "53300"
    assert "replication.max_connections is 2" in told["D"]
    # Ordinary clients are as before, and a place is free again.
    async with await Wire.connect(on, user="other") as client:
        assert wire.rows(await client.ask(wire.query("SELECT 1"))) == [[b"1"]]
    await clients[0].close()
    await asyncio.to_thread(until, lambda: gauge(on, "pgproxy_replication_clients{") == 1)
    clients[0] = await Wire.connect(on, replication="true")
    assert clients[0].startup[-1] == (b"Z", b"I")
    for client in clients:
        await client.close()


async def test_the_cap_holds_over_all_workers(logical: Cluster, start_proxy: StartProxy) -> None:
    most = 3
    proxy = await asyncio.to_thread(
        start_proxy,
        logical.servers,
        timeout=90,
        listen={"workers": 2, "drain_timeout": 1},
        replication={"allow": True, "max_connections": most},
    )
    inside: list[Wire] = []

    async def storm() -> None:
        """Many at once, at any worker."""
        for client in await asyncio.gather(
            *[Wire.connect(proxy, replication="true") for _ in range(12)]
        ):
            if client.startup[-1] == (b"Z", b"I"):
                inside.append(client)
                continue
            [told] = [wire.fields(body) for kind, body in client.startup if kind == b"E"]
            assert told["C"] == "53300"
            assert f"replication.max_connections is {most}" in told["D"]
            await client.drop()

    for _ in range(3):
        await storm()
        assert len(inside) == most
        assert gauge(proxy, "pgproxy_replication_clients{") == most
        await inside.pop(0).close()
        await asyncio.to_thread(
            until, lambda: gauge(proxy, "pgproxy_replication_clients{") == most - 1
        )
    for client in inside:
        await client.close()


async def test_the_configured_backend_and_passwords(
    logical: Cluster, start_proxy: StartProxy, tmp_path: Path
) -> None:
    users = tmp_path / "users.txt"
    users.write_text('"postgres" "secret"\n')
    proxy = await asyncio.to_thread(
        start_proxy,
        logical.servers,
        auth={"method": "scram-sha-256", "users_file": str(users)},
        replication={"allow": True, "backend": "replica-1"},
    )

    def port(**more: str) -> int:
        with contextlib.closing(consumer(proxy, **more)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT inet_server_port()")
            return int(cursor.fetchone()[0])

    assert port(password="secret") == logical.server("replica-1").port
    chosen = "-c pgproxy.backend=primary"
    assert port(password="secret", options=chosen) == logical.primary.port
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        port(password="wrong")


# --- roles that change, and the end


async def follower(proxy: InProcess, **parameters: str) -> Wire:
    client = await Wire.connect(proxy, replication="true", **parameters)  # type: ignore[arg-type]
    assert client.startup[-1] == (b"Z", b"I"), client.startup
    return client


async def test_connections_to_a_primary_end_with_its_role(private_cluster: Cluster) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    async with serving(
        {old: "primary", new: "replica", other: "replica"}, replication=True
    ) as proxy:
        first = await follower(proxy)
        named = await follower(proxy, options=f"-c pgproxy.backend={old.name}")
        elsewhere = await follower(proxy, options=f"-c pgproxy.backend={other.name}")
        # A split brain: the old primary goes on, and is fenced.
        proxy.label(**{new.name: "primary"})
        await asyncio.to_thread(new.promote)
        await proxy.until(lambda: proxy.node(old.name).is_fenced)
        for client in (first, named):
            with contextlib.suppress(ConnectionResetError):
                assert await client.until(b"") == []
        assert proxy.proxy.counters.replication_cut == 2
        told = await refusal(proxy, replication="true", options=f"-c pgproxy.backend={old.name}")
        assert told["C"] == "57P03"
        await proxy.until_primary(new.name)
        second = await follower(proxy)
        [[_, timeline, *_]] = wire.rows(await second.ask(wire.query("IDENTIFY_SYSTEM")))
        assert timeline == b"2"
        # Who reads from the other replica goes on, until that is gone.
        assert wire.errors(await elsewhere.ask(wire.query("IDENTIFY_SYSTEM"))) == []
        proxy.set_backends([one for one in proxy.backends if one.name != other.name])
        with contextlib.suppress(ConnectionResetError):
            assert await elsewhere.until(b"") == []
        assert len(proxy.proxy.clients.passthroughs) == 1
        for client in (first, named, elsewhere, second):
            await client.drop()


async def test_without_a_primary_there_is_none_to_be_had(private_cluster: Cluster) -> None:
    old, replica = private_cluster.primary, private_cluster.replicas[0]
    async with serving({old: "primary", replica: "replica"}, replication=True) as proxy:
        client = await follower(proxy)
        # A planned switchover: the standbys still get the last of its WAL.
        proxy.label(**{old.name: "none"})
        await proxy.until(lambda: proxy.topology.primary is None)
        assert (await refusal(proxy, replication="true"))["C"] == "57P03"
        assert wire.errors(await client.ask(wire.query("IDENTIFY_SYSTEM"))) == []
        await asyncio.to_thread(old.stop)
        assert wire.errors(await client.until(b"")) == ["57P01"]
        await client.drop()
        await proxy.until(lambda: len(proxy.proxy.clients.passthroughs) == 0)
        assert proxy.proxy.counters.replication_cut == 0


async def test_a_drain_waits_for_them_to_the_end_of_its_window(
    logical: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, logical.servers, replication={"allow": True}, listen={"drain_timeout": 2}
    )
    client = await Wire.connect(proxy, replication="true")
    os.kill(proxy.process.pid, signal.SIGTERM)
    await asyncio.to_thread(
        until, lambda: 'pgproxy_drain_clients{state="active"} 1.0' in proxy.get("/metrics")[1]
    )
    assert wire.errors(await client.ask(wire.query("IDENTIFY_SYSTEM"))) == []
    assert await client.until(b"") == []
    await client.drop()
    await asyncio.to_thread(proxy.wait_end)
    assert proxy.events("cut_off")[0]["clients"] == 1
