"""No read is older than it may be: replicas that do not replay, and every way to write."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import pytest

from pgproxy.embedded import Cluster, Server
from tests.support.fault import FaultProxy
from tests.support.place import cluster_parent
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    Address,
    Wire,
    bind,
    copy_data,
    describe,
    errors,
    execute,
    fields,
    function_call,
    message,
    parse,
    query,
    rows,
)

pytestmark = pytest.mark.once

StartProxy = Callable[..., ProxyProcess]

SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")

SCHEMA: Final = """
CREATE TABLE kept (note text);
CREATE TABLE several (a int, b int);
CREATE FUNCTION keep(note text) RETURNS int LANGUAGE plpgsql AS
    'BEGIN INSERT INTO kept VALUES (note); RETURN 1; END';
CREATE FUNCTION keep_too(note text) RETURNS int VOLATILE LANGUAGE sql AS
    'INSERT INTO kept VALUES (note) RETURNING 1';
CREATE PROCEDURE keep_for_good(note text) LANGUAGE plpgsql AS
    'BEGIN INSERT INTO kept VALUES (note); COMMIT; PERFORM 1; END';
"""


@pytest.fixture(scope="module")
def lagging() -> Iterator[Cluster]:
    """One primary, and one replica that the tests stop from replaying."""
    with Cluster.create(
        1, settings={"max_prepared_transactions": "10"}, directory=cluster_parent()
    ) as own:
        own.primary.psql(SCHEMA)
        own.wait_caught_up()
        yield own


@pytest.fixture(scope="module")
def proxies(lagging: Cluster) -> Iterator[dict[str, ProxyProcess]]:
    """By the value of consistency.read_your_writes."""
    with (
        ProxyProcess.start(lagging.servers, consistency=mode("session")) as session,
        ProxyProcess.start(lagging.servers, consistency=mode("global")) as shared,
        ProxyProcess.start(lagging.servers, consistency=mode("off")) as off,
    ):
        yield {"session": session, "global": shared, "off": off}


def mode(read_your_writes: str) -> dict[str, object]:
    return {"read_your_writes": read_your_writes, "max_staleness": 0}


@pytest.fixture(autouse=True)
def replaying(lagging: Cluster) -> Iterator[None]:
    yield
    lagging.replicas[0].resume_replay()
    lagging.wait_caught_up()


async def target(wire: Wire) -> str:
    """Where the last statement went."""
    (row,) = rows(await wire.ask(query("SHOW pgproxy.last_route")))
    assert row[0] is not None
    return row[0].decode()


async def value(wire: Wire, sql: str) -> str:
    frames = await wire.ask(query(sql))
    assert not errors(frames)
    (row,) = rows(frames)
    assert row[0] is not None
    return row[0].decode()


async def until(condition: Callable[[], bool]) -> None:
    """Nothing tells when it holds."""
    while not await asyncio.to_thread(condition):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def until_fresh(address: Address) -> None:
    """Until reads go to the replica, of a session that must see all that was written so far."""
    async with await Wire.connect(address) as wire:
        await wire.ask(query("CREATE TEMP TABLE t (); DROP TABLE t"))
        while True:
            await wire.ask(query("SELECT count(*) FROM kept"))
            if await target(wire) == "replica":
                return
            await asyncio.sleep(0.01)


async def stop_replay(cluster: Cluster, address: Address) -> None:
    """The replica is fresh as of now, and replays nothing from now on."""
    cluster.replicas[0].resume_replay()
    await asyncio.to_thread(cluster.wait_caught_up)
    await until_fresh(address)
    await asyncio.to_thread(cluster.replicas[0].pause_replay)


# Every kind of write

Write = Callable[[Wire, str], Awaitable[object]]
KEPT: Final = "SELECT count(*) FROM kept WHERE note = '{}'"
MADE: Final = "SELECT count(*) FROM pg_class WHERE relname = '{}'"


def simply(*texts: str) -> Write:
    """These Queries, one after the other."""

    async def write(wire: Wire, note: str) -> None:
        for text in texts:
            assert not errors(await wire.ask(query(text.format(note)))), text

    return write


def extended(*texts: str, ready: int | None = None, between: bytes = SYNC) -> Write:
    """These, executed in one write, each followed by `between`."""

    async def write(wire: Wire, note: str) -> None:
        sent = [
            parse(text.format(note)) + bind() + describe("P") + execute() + between
            for text in texts
        ]
        syncs = len(texts) if ready is None else ready
        tail = b"" if between == SYNC else SYNC
        assert not errors(await wire.ask(*sent, tail, ready=syncs))

    return write


async def copies(wire: Wire, note: str) -> None:
    await wire.send(query("COPY kept FROM STDIN"))
    await wire.until(b"G")
    frames = await wire.ask(copy_data(note.encode() + b"\n"), message(b"c"))
    assert not errors(frames)


async def copies_extended(wire: Wire, note: str) -> None:
    copy = parse("COPY kept FROM STDIN") + bind() + execute() + SYNC
    frames = await wire.ask(copy, copy_data(note.encode() + b"\n"), message(b"c"), SYNC)
    assert not errors(frames)


async def calls_function(wire: Wire, note: str) -> None:
    oid = await value(wire, "/* pgproxy: primary */ SELECT 'keep'::regproc::oid")
    assert not errors(await wire.ask(function_call(int(oid), note.encode())))


async def commits_in_a_flushed_batch(wire: Wire, note: str) -> None:
    """The COMMIT is answered, and the batch has not ended."""
    insert = parse(f"INSERT INTO kept VALUES ('{note}')") + bind() + execute()
    commit = parse("COMMIT") + bind() + execute()
    await wire.ask(query("BEGIN"))
    await wire.send(insert + commit + FLUSH)
    await wire.until(b"C", 2)


async def goes_on_after_its_commit(wire: Wire, note: str) -> None:
    """Several statements in one Query: those before COMMIT are done before the answer's end."""
    await wire.send(query(f"INSERT INTO kept VALUES ('{note}'); COMMIT; SELECT pg_sleep(0.5)"))
    await wire.until(b"C", 2)


async def pipelines_a_slow_one(wire: Wire, note: str) -> None:
    """The first Sync is answered, and the second statement runs on."""
    insert = parse(f"INSERT INTO kept VALUES ('{note}')") + bind() + execute() + SYNC
    slow = parse("SELECT keep('no'), pg_sleep(0.5)") + bind() + execute() + SYNC
    await wire.send(insert + slow)
    await wire.until(b"Z")


async def commits_prepared_by_another(wire: Wire, note: str) -> None:
    simple = simply("COMMIT PREPARED '{}'")
    await simple(wire, note)


INSERT: Final = "INSERT INTO kept VALUES ('{}')"

WRITES: Final[dict[str, tuple[Write, str]]] = {
    "autocommit": (simply(INSERT), KEPT),
    "extended": (extended(INSERT), KEPT),
    "a pipeline of several Syncs": (
        extended("SELECT 1", INSERT, "SELECT 2", "SELECT count(*) FROM kept"),
        KEPT,
    ),
    "a batch of several statements": (
        extended("SELECT 1", INSERT, "SELECT 2", ready=1, between=b""),
        KEPT,
    ),
    "a batch cut by Flush": (extended("SELECT 1", INSERT, ready=1, between=FLUSH), KEPT),
    "a transaction": (simply("BEGIN", INSERT, "SELECT 1", "COMMIT"), KEPT),
    "an extended transaction": (extended("BEGIN", INSERT, "COMMIT"), KEPT),
    "a subtransaction": (
        simply("BEGIN", "SAVEPOINT s", INSERT, "RELEASE s", "COMMIT"),
        KEPT,
    ),
    "several statements": (simply("SELECT 1; " + INSERT + "; SELECT 2"), KEPT),
    "a transaction in one text": (simply("BEGIN; " + INSERT + "; COMMIT"), KEPT),
    "COMMIT AND CHAIN": (simply("BEGIN", INSERT, "COMMIT AND CHAIN", "COMMIT"), KEPT),
    "WITH": (
        simply("WITH new AS (" + INSERT + " RETURNING note) SELECT * FROM new"),
        KEPT,
    ),
    "a function": (simply("SELECT keep('{}')"), KEPT),
    "a function in FROM": (extended("SELECT * FROM keep_too('{}')"), KEPT),
    "a function that the session calls a read": (
        simply("SET pgproxy.route = 'auto'", "/* pgproxy: primary */ SELECT keep('{}')"),
        KEPT,
    ),
    "a function of a cursor": (
        simply("BEGIN", "DECLARE c CURSOR FOR SELECT keep('{}')", "FETCH c", "COMMIT"),
        KEPT,
    ),
    "EXPLAIN ANALYZE": (simply("EXPLAIN ANALYZE " + INSERT), KEPT),
    "PREPARE and EXECUTE": (
        simply("PREPARE p AS INSERT INTO kept VALUES ($1)", "EXECUTE p ('{}')"),
        KEPT,
    ),
    "DO": (simply("DO 'BEGIN INSERT INTO kept VALUES (''{}''); END'"), KEPT),
    "CALL": (simply("CALL keep_for_good('{}')"), KEPT),
    "COPY": (copies, KEPT),
    "COPY, extended": (copies_extended, KEPT),
    "FunctionCall": (calls_function, KEPT),
    "DDL": (simply('CREATE TABLE "{}" ()'), MADE),
    "SELECT INTO": (simply('SELECT 1 AS a INTO "{}"'), MADE),
    "CREATE TABLE AS": (extended('CREATE TABLE "{}" AS SELECT 1 AS a'), MADE),
    "COMMIT PREPARED": (
        simply("BEGIN", INSERT, "PREPARE TRANSACTION '{}'", "COMMIT PREPARED '{}'"),
        KEPT,
    ),
    "COMMIT PREPARED of another's": (commits_prepared_by_another, KEPT),
    "a route that does not hold for writes": (
        simply("SET pgproxy.route = 'replica'", INSERT),
        KEPT,
    ),
}

# Seen by others before the session that wrote has its whole answer.
UNENDED: Final[dict[str, tuple[Write, str]]] = {
    "COMMIT in a batch that goes on": (commits_in_a_flushed_batch, KEPT),
    "COMMIT in a text that goes on": (goes_on_after_its_commit, KEPT),
    "a pipeline that goes on": (pipelines_a_slow_one, KEPT),
}


async def written_and_read(
    cluster: Cluster, proxy: ProxyProcess, kind: str, *, by_another: bool
) -> str:
    """What a read after that write sees: "1" or, stale, "0"."""
    write, seen = (WRITES | UNENDED)[kind]
    note = re.sub(r"\W", "_", f"{kind} {proxy.port}")
    if kind == "COMMIT PREPARED of another's":
        cluster.primary.psql(f"BEGIN; {INSERT.format(note)}; PREPARE TRANSACTION '{note}'")
    await stop_replay(cluster, proxy)
    async with await Wire.connect(proxy) as wire, await Wire.connect(proxy) as other:
        await write(wire, note)
        return await value(other if by_another else wire, seen.format(note))


@pytest.mark.parametrize("kind", WRITES)
async def test_a_session_sees_what_it_wrote(
    kind: str, lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    assert await written_and_read(lagging, proxies["session"], kind, by_another=False) == "1"


@pytest.mark.parametrize("kind", WRITES | UNENDED)
async def test_all_sessions_see_what_one_wrote(
    kind: str, lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    assert await written_and_read(lagging, proxies["global"], kind, by_another=True) == "1"


@pytest.mark.parametrize("kind", WRITES)
async def test_without_the_watermark_a_read_is_stale(
    kind: str, lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    if kind == "FunctionCall":
        pytest.skip("it keeps the session on the primary")
    assert await written_and_read(lagging, proxies["off"], kind, by_another=False) == "0"


async def test_a_write_that_fails_harms_nobody(
    lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    async with await Wire.connect(proxies["session"]) as wire:
        for text in ("BEGIN", INSERT.format("fails"), "SELECT 1 / 0", "COMMIT"):
            await wire.ask(query(text))
        assert await value(wire, KEPT.format("fails")) == "0"
        await until_fresh(proxies["session"])
        while await target(wire) != "replica":
            assert await value(wire, KEPT.format("fails")) == "0"


# Writes whose answer nobody gets


async def test_a_write_whose_answer_is_lost_is_seen_by_all(
    lagging: Cluster, start_proxy: StartProxy
) -> None:
    primary, replica = lagging.primary, lagging.replicas[0]
    async with FaultProxy(primary) as network:
        proxy = start_proxy([Behind(network, primary), replica], consistency=mode("global"))
        await stop_replay(lagging, proxy)
        async with await Wire.connect(proxy) as wire, await Wire.connect(proxy) as other:
            await wire.ask(query("BEGIN; " + INSERT.format("lost")))
            network.stall("to_client")
            await wire.send(query("COMMIT"))
            await until(lambda: primary.psql(KEPT.format("lost")) == "1")
            network.reset()
            assert errors(await wire.until(b"Z")) == ["08006"]
            network.resume()
            assert await value(other, KEPT.format("lost")) == "1"


async def test_a_write_that_outlives_its_client_is_seen_by_all(
    lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    """It writes because it is cancelled, which the proxy has done when the client is gone."""
    proxy = proxies["global"]
    await stop_replay(lagging, proxy)
    wire = await Wire.connect(proxy)
    await wire.send(
        query(
            "DO $$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN"
            " PERFORM pg_sleep(0.3); INSERT INTO kept VALUES ('orphan'); END $$"
        )
    )
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%' AND state = 'active'"
    await until(lambda: lagging.primary.psql(asleep) == "1")
    await wire.drop()
    await until(lambda: lagging.primary.psql(KEPT.format("orphan")) == "1")
    await until(lambda: closing(proxy) == 0)
    async with await Wire.connect(proxy) as other:
        assert await value(other, KEPT.format("orphan")) == "1"


def closing(proxy: ProxyProcess) -> float:
    return sum(metric(proxy, 'pgproxy_servers{backend="primary"', 'state="closing"'))


def metric(proxy: ProxyProcess, beginning: str, also: str = "") -> list[float]:
    """The values of all series that begin so."""
    lines = proxy.get("/metrics")[1].splitlines()
    return [
        float(line.split()[-1]) for line in lines if line.startswith(beginning) and also in line
    ]


class Behind:
    """A server behind a network with faults."""

    def __init__(self, network: FaultProxy, server: Server) -> None:
        self.name = server.name
        self.host = network.host
        self.port = network.port


async def test_who_is_notified_finds_what_has_changed(
    lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    proxy = proxies["session"]
    async with await Wire.connect(proxy) as wire, await Wire.connect(proxy) as other:
        await other.ask(query("LISTEN news"))
        await stop_replay(lagging, proxy)
        await wire.ask(query(INSERT.format("news") + "; NOTIFY news"))
        await other.until(b"A")
        assert await value(other, KEPT.format("news")) == "1"


# max_staleness


async def test_a_replica_that_is_too_far_behind_serves_nobody(
    lagging: Cluster, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(
        lagging.servers, consistency={"read_your_writes": "off", "max_staleness": 1}
    )
    await stop_replay(lagging, proxy)
    async with await Wire.connect(proxy) as wire:
        await wire.ask(query(INSERT.format("far behind")))
        while await value(wire, KEPT.format("far behind")) == "0":
            assert await target(wire) == "replica"
            await asyncio.sleep(0.05)
        assert await target(wire) == "primary"
        (row,) = rows(await wire.ask(query("SHOW pgproxy.last_route")))
        assert row[1] == b"not_fresh"
        (behind,) = metric(proxy, "pgproxy_backend_staleness_seconds")
        assert behind >= 1
        lagging.replicas[0].resume_replay()
        while await target(wire) != "replica":
            assert await value(wire, KEPT.format("far behind")) == "1"


async def test_without_a_primary_reads_go_on(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    """What is not written any more does not grow stale."""
    proxy = start_proxy(private_cluster.servers, consistency={"max_staleness": 0.5})
    async with await Wire.connect(proxy) as wire:
        await asyncio.to_thread(private_cluster.primary.stop)
        await asyncio.sleep(1.5)
        for _ in range(20):
            assert await value(wire, "SELECT 1") == "1"
            assert await target(wire) == "replica"


# Waiting


async def test_a_read_waits_for_a_fresh_replica(lagging: Cluster, start_proxy: StartProxy) -> None:
    proxy = start_proxy(lagging.servers, consistency={"wait": 60})
    await stop_replay(lagging, proxy)
    before = waits(proxy)
    async with await Wire.connect(proxy) as wire:
        await wire.ask(query(INSERT.format("waits")))
        await wire.send(query(KEPT.format("waits")))
        await until(lambda: metric(proxy, "pgproxy_homeless") == [1])
        await asyncio.to_thread(lagging.replicas[0].resume_replay)
        (row,) = rows(await wire.until(b"Z"))
        assert row == [b"1"]
        assert await target(wire) == "replica"
        after = waits(proxy)
        assert after["replica"] > before["replica"]
        assert (after["primary"], after["refused"]) == (before["primary"], 0)


async def test_a_read_that_has_waited_in_vain_goes_to_the_primary(
    lagging: Cluster, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(lagging.servers, consistency={"wait": 0.3})
    await stop_replay(lagging, proxy)
    async with await Wire.connect(proxy) as wire:
        await wire.ask(query(INSERT.format("in vain")))
        assert await value(wire, KEPT.format("in vain")) == "1"
        assert await target(wire) == "primary"
        assert waits(proxy)["primary"] >= 1
        gone = await Wire.connect(proxy)
        await gone.ask(query(INSERT.format("gone")))
        await gone.send(query(KEPT.format("gone")))
        await gone.drop()


def waits(proxy: ProxyProcess) -> dict[str, float]:
    """Of reads for a fresh replica, by how they ended."""
    ends = ("replica", "primary", "refused", "left")
    return {end: metric(proxy, f'pgproxy_fresh_waits_total{{end="{end}"}}')[0] for end in ends}


# routing.read_from_primary


async def test_reads_that_must_not_go_to_the_primary_wait_or_are_refused(
    lagging: Cluster, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(
        lagging.servers,
        routing={"read_from_primary": "never"},
        health={"failover_wait": 0.5},
    )
    await stop_replay(lagging, proxy)
    async with await Wire.connect(proxy) as wire:
        await wire.ask(query(INSERT.format("never")))
        frames = await wire.ask(query(KEPT.format("never")))
        assert errors(frames) == ["57P03"]
        told = fields(next(body for kind, body in frames if kind == b"E"))
        assert "routing.read_from_primary" in told["D"]
        assert told["H"]
        assert await value(wire, "/* pgproxy: primary */ " + KEPT.format("never")) == "1"
        await wire.ask(query("BEGIN"))
        assert await value(wire, KEPT.format("never")) == "1"
        await wire.ask(query("COMMIT"))
        await wire.ask(query("SET pgproxy.route = 'primary'"))
        assert await value(wire, KEPT.format("never")) == "1"
        await wire.ask(query("RESET pgproxy.route"))
        assert waits(proxy)["refused"] >= 1
        lagging.replicas[0].resume_replay()
        await asyncio.to_thread(lagging.wait_caught_up)
        assert await value(wire, KEPT.format("never")) == "1"
        assert await target(wire) == "replica"


async def test_without_replicas_reads_that_must_not_go_to_the_primary_are_refused(
    lagging: Cluster, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(
        [lagging.primary],
        routing={"read_from_primary": "never"},
        health={"failover_wait": 0.2},
    )
    async with await Wire.connect(proxy) as wire:
        assert errors(await wire.ask(query("SELECT 1"))) == ["57P03"]
        assert not errors(await wire.ask(query(INSERT.format("none"))))


async def test_the_primary_may_serve_reads_like_a_replica(
    lagging: Cluster, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(lagging.servers, routing={"read_from_primary": "always"})
    await until_fresh(proxy)
    async with await Wire.connect(proxy) as wire:
        seen: set[tuple[bytes | None, ...]] = set()
        while not {(b"replica", b"read"), (b"primary", b"read_from_primary")} <= seen:
            assert await value(wire, "SELECT 1") == "1"
            (row,) = rows(await wire.ask(query("SHOW pgproxy.last_route")))
            seen.add((row[0], row[1]))
        await stop_replay(lagging, proxy)
        await wire.ask(query(INSERT.format("always")))
        for _ in range(20):
            assert await value(wire, KEPT.format("always")) == "1"


# The position, carried to another proxy


async def test_the_position_is_carried_to_another_proxy(
    lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    here, there = proxies["session"], proxies["off"]
    await stop_replay(lagging, here)
    async with await Wire.connect(here) as wire:
        await wire.ask(query(INSERT.format("carried")))
        frames = await wire.ask(query("SHOW pgproxy.lsn"))
        (row,) = rows(frames)
        assert row[0] is not None
        token = row[0].decode()
        assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", token)
        assert next(body for kind, body in frames if kind == b"T")[2:].startswith(b"pgproxy.lsn\0")
        told = await wire.ask(
            parse("SHOW pgproxy.lsn", "s") + bind(statement="s") + describe("P") + execute() + SYNC
        )
        assert not errors(told)
        assert len(rows(told)) == 1
        told = await wire.ask(parse("SHOW pgproxy.lsn") + bind() + execute() + SYNC)
        assert len(rows(told)) == 1
    seen = KEPT.format("carried")
    async with await Wire.connect(there) as wire:
        assert await value(wire, seen) == "0"
        assert await value(wire, "SHOW pgproxy.min_lsn") == "0/0"
        assert not errors(await wire.ask(query(f"SET pgproxy.min_lsn = '{token}'")))
        assert await value(wire, "SHOW pgproxy.min_lsn") == token
        assert await value(wire, seen) == "1"
        assert await target(wire) == "primary"
        await wire.ask(query("RESET pgproxy.min_lsn"))
        assert await value(wire, seen) == "0"
        await wire.ask(query("BEGIN"))
        await wire.ask(query(f"SET LOCAL pgproxy.min_lsn = '{token}'"))
        await wire.ask(query("COMMIT"))
        assert await value(wire, seen) == "0"
    options = f"-c pgproxy.min_lsn={token}"
    async with await Wire.connect(there, options=options) as wire:
        assert await value(wire, seen) == "1"
        lagging.replicas[0].resume_replay()
        while await target(wire) != "replica":
            assert await value(wire, seen) == "1"


async def test_a_position_that_nobody_has_written_sends_reads_to_the_primary(
    lagging: Cluster, proxies: dict[str, ProxyProcess]
) -> None:
    proxy = proxies["session"]
    await until_fresh(proxy)
    for token in ("FFFFFFFF/FFFFFFFF", "7FFFFFFF/FFFFFFFF", "ABC/0"):
        async with await Wire.connect(proxy) as wire:
            await wire.ask(query(f"SET pgproxy.min_lsn = '{token}'"))
            for _ in range(5):
                await value(wire, "SELECT count(*) FROM kept")
                assert await target(wire) == "primary"
            await wire.ask(query("SET pgproxy.min_lsn = '0/1'"))
            await value(wire, "SELECT count(*) FROM kept")
            assert await target(wire) == "replica"


@pytest.mark.parametrize("token", ["nonsense", "0", "1/2/3"])
async def test_what_is_no_position_is_refused(token: str, proxies: dict[str, ProxyProcess]) -> None:
    proxy = proxies["session"]
    async with await Wire.connect(proxy) as wire:
        frames = await wire.ask(query(f"SET pgproxy.min_lsn = '{token}'"))
        assert errors(frames) == ["22023"]
        assert fields(next(body for kind, body in frames if kind == b"E"))["H"]
        assert await value(wire, "SELECT 1") == "1"
    async with await Wire.connect(proxy, options=f"-c pgproxy.min_lsn={token}") as wire:
        assert errors(wire.startup) == ["22023"]


# Another timeline


async def test_after_a_failover_no_replica_counts_as_fresh_that_has_not_shown_it(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    old.psql("CREATE TABLE kept (note text)")
    private_cluster.wait_caught_up()
    proxy = start_proxy(private_cluster.servers)
    async with await Wire.connect(proxy) as wire, await Wire.connect(proxy) as writer:
        await asyncio.to_thread(other.pause_replay)
        await wire.ask(query(INSERT.format("before")))
        position = await value(wire, "SHOW pgproxy.lsn")
        await asyncio.to_thread(new.wait_replayed, position)
        # What comes now only `other` has, which is ahead of the new timeline's beginning.
        await asyncio.to_thread(new.stop)
        await asyncio.to_thread(other.resume_replay)
        filler = "INSERT INTO kept SELECT 'old' FROM generate_series(1, 10000)"
        old.psql(filler)
        await asyncio.to_thread(other.wait_replayed, old.psql("SELECT pg_current_wal_insert_lsn()"))
        await asyncio.to_thread(old.kill9)
        await asyncio.to_thread(new.start)
        await asyncio.to_thread(new.promote)
        assert not errors(await writer.ask(query(INSERT.format("after"))))
        for _ in range(100):
            assert await value(writer, KEPT.format("after")) == "1"
            assert await value(wire, KEPT.format("before")) == "1"
            assert await target(wire) == "primary"
            await asyncio.sleep(0.01)
        await asyncio.to_thread(other.stop)
        await asyncio.to_thread(other.rejoin, new)
        while await target(writer) != "replica":
            assert await value(writer, KEPT.format("after")) == "1"
            await asyncio.sleep(0.01)
        while await target(wire) != "replica":
            assert await value(wire, KEPT.format("before")) == "1"
