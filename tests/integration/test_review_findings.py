"""Defects that a hostile reading of the data path found, each shown as a client meets it."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from pgproxy.embedded import Cluster
from tests.support.fault import FaultProxy
from tests.support.proxy import ProxyProcess, config_for
from tests.support.wire import (
    FLUSH,
    SYNC,
    TERMINATE,
    Frame,
    Wire,
    bind,
    describe,
    errors,
    execute,
    message,
    parse,
    query,
    rows,
    startup,
)

# What a connection's former client may have left to the next.
LEFTOVERS: Final = """
    SELECT current_setting('work_mem'),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
           (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
           to_regclass('pg_temp.left_over')
"""
NOTHING: Final = [[b"4MB", b"0", b"0", None]]


@pytest.fixture(scope="module")
def small_proxy(cluster: Cluster) -> Iterator[ProxyProcess]:
    """A proxy with two connections to each server: one may be pinned."""
    with ProxyProcess.start(cluster.servers, pool={"size": 2, "wait_timeout": 10.0}) as small:
        yield small


def extended(sql: str) -> bytes:
    """Parse, Bind, Execute and Sync of one statement."""
    return parse(sql) + bind() + execute() + SYNC


# --- session state that the next client saw


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(
            [query("SET work_mem = '7MB'"), query("SELECT 1/0")], id="error of the next Query"
        ),
        pytest.param(
            [extended("SET work_mem = '7MB'"), extended("SELECT 1/0")], id="error of the next Sync"
        ),
        pytest.param([query("SET work_mem = '7MB'; COMMIT; SELECT 1/0")], id="error after COMMIT"),
        pytest.param([query("SELECT pg_advisory_lock(7); SELECT 1/0")], id="lock, then an error"),
        pytest.param(
            [query("SELECT pg_advisory_lock(7), 1/(random() * 0)::int")], id="lock and error"
        ),
        pytest.param([query("SET work_mem = '7MB'; SELECT pg_advisory_lock(7); SELECT 1/0")]),
        pytest.param([query("PREPARE left_over AS SELECT 1; SELECT 1/0")], id="PREPARE"),
        pytest.param([query("SELECT 1 AS a INTO pg_temp.left_over")], id="SELECT INTO pg_temp"),
        pytest.param(
            [query("UPDATE pg_settings SET setting = '7168' WHERE name = 'work_mem'")],
            id="UPDATE pg_settings",
        ),
    ],
)
async def test_session_state_stays_with_its_client(
    messages: list[bytes], small_proxy: ProxyProcess
) -> None:
    async with (
        await Wire.connect(small_proxy) as one,
        await Wire.connect(small_proxy) as other,
    ):
        await one.ask(*messages, ready=len(messages))
        assert rows(await other.ask(query("/* pgproxy: primary */" + LEFTOVERS))) == NOTHING


async def test_what_nothing_undoes_ends_with_the_connection(
    cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": 1})
    numbers = []
    for _ in range(2):
        async with await Wire.connect(proxy) as wire:
            await wire.ask(query("SET work_mem = '5MB'"))
            assert errors(await wire.ask(query("SELECT setseed(0.5)"))) == []
        async with await Wire.connect(proxy) as wire:
            numbers += rows(await wire.ask(query("/* pgproxy: primary */ SELECT random()")))
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize("sql", ["SET work_mem = 'much'", "SELEC 1", "LISTEN a; SELECT 1/0"])
async def test_a_pin_that_an_error_undoes_ends_with_it(sql: str, small_proxy: ProxyProcess) -> None:
    failing = [await Wire.connect(small_proxy) for _ in range(3)]
    for wire in failing:  # two connections would not do if each kept one
        assert len(errors(await wire.ask(query(sql)))) == 1
    for wire in failing:
        assert errors(await wire.ask(query("CREATE TEMP TABLE t () ON COMMIT DROP"))) == []
        await wire.close()


# --- messages that held others


@pytest.mark.parametrize("kind", [b"D", b"C"], ids=["Describe", "Close"])
async def test_no_message_hides_in_a_long_one(kind: bytes, small_proxy: ProxyProcess) -> None:
    hidden = query("SELECT pg_advisory_lock(8)")
    long = message(kind, b"Sone\0" + hidden + bytes(70_000))
    async with await Wire.connect(small_proxy) as wire:
        await wire.ask(parse("SELECT 1", "one"), SYNC)
        await wire.send(long[:-1000])  # the rest of it would pass as it comes
        found: list[Frame] = []
        with contextlib.suppress(ConnectionError):  # what was not read makes the close a reset
            found = await wire.until(b"Z")
        assert not rows(found)
        assert set(errors(found)) <= {"08P01"}
    async with await Wire.connect(small_proxy) as wire:
        assert rows(await wire.ask(query("/* pgproxy: primary */" + LEFTOVERS))) == NOTHING


async def test_a_large_bind_of_a_missing_statement_is_an_error_and_no_more(
    small_proxy: ProxyProcess,
) -> None:
    values = b"x" * 300_000
    async with await Wire.connect(small_proxy) as wire:
        for statement in ("", "missing", "pgproxy_0"):
            found = await wire.ask(bind(values, statement=statement), execute(), SYNC)
            assert errors(found) == ["26000"]
        assert rows(await wire.ask(parse("SELECT 5"), describe("S"), bind(), execute(), SYNC)) == [
            [b"5"]
        ]


async def test_an_encoding_that_cannot_be_read_is_not_read_for_another_client(
    small_proxy: ProxyProcess,
) -> None:
    sql = "SELECT pg_is_in_recovery(), 'as two encodings'"
    async with (
        await Wire.connect(small_proxy) as one,
        await Wire.connect(small_proxy, client_encoding="SJIS") as other,
    ):
        for wire, on_a_replica in ((one, b"t"), (other, b"f")):
            found = await wire.ask(parse(sql, "a"), bind(statement="a"), execute(), SYNC)
            assert rows(found)[0][0] == on_a_replica


@pytest.mark.parametrize("options", ["", "--client-encoding=sjis"], ids=["role", "options"])
async def test_an_encoding_that_the_client_did_not_name_counts_as_well(
    options: str, cluster: Cluster, small_proxy: ProxyProcess
) -> None:
    # A name of its own each: sessions of before would still have the defaults of before.
    role = "options_in_sjis" if options else "writes_sjis"
    cluster.primary.psql(f"CREATE ROLE {role} LOGIN")
    try:
        if not options:
            cluster.primary.psql(f"ALTER ROLE {role} SET client_encoding = 'SJIS'")
        cluster.wait_caught_up()
        async with await Wire.connect(small_proxy, user=role, options=options) as wire:
            assert wire.parameters()["client_encoding"] == "SJIS"
            assert rows(await wire.ask(query("SELECT pg_is_in_recovery()"))) == [[b"f"]]
    finally:
        cluster.primary.psql(f"DROP ROLE {role}")


# --- reads that were older than the session's own writes


@pytest.fixture
def stopped_replay(cluster: Cluster, fresh_database: str) -> Iterator[str]:
    """A database with an empty table t; what is written to it stays unknown to the replicas."""
    cluster.primary.psql("CREATE TABLE t (value int)", db=fresh_database)
    cluster.wait_caught_up()
    for replica in cluster.replicas:
        replica.pause_replay()
    yield fresh_database
    for replica in cluster.replicas:
        replica.resume_replay()


def statement(sql: str) -> bytes:
    """Parse, Bind and Execute."""
    return parse(sql) + bind() + execute()


INSERT: Final = "INSERT INTO t VALUES (1)"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [query("BEGIN"), statement(INSERT) + statement("COMMIT") + SYNC], id="with COMMIT"
        ),
        pytest.param(
            [statement("BEGIN") + statement(INSERT) + statement("COMMIT") + SYNC],
            id="between BEGIN and COMMIT",
        ),
        pytest.param(
            [
                query("BEGIN"),
                parse(INSERT) + bind(portal="later") + SYNC,
                execute("later") + SYNC,
                query("COMMIT"),
            ],
            id="by a portal of an earlier batch",
        ),
    ],
)
async def test_a_write_among_other_statements_is_read_back(
    steps: list[bytes], stopped_replay: str, small_proxy: ProxyProcess
) -> None:
    async with await Wire.connect(small_proxy, database=stopped_replay) as wire:
        for step in steps:
            assert errors(await wire.ask(step)) == []
        assert rows(await wire.ask(query("SELECT count(*) FROM t"))) == [[b"1"]]


async def test_a_write_after_a_flush_is_read_back(
    stopped_replay: str, small_proxy: ProxyProcess
) -> None:
    async with await Wire.connect(small_proxy, database=stopped_replay) as wire:
        await wire.send(parse(INSERT), bind(), describe("P"), FLUSH)
        await wire.until(b"n")
        await wire.ask(execute(), SYNC)
        assert rows(await wire.ask(query("SELECT count(*) FROM t"))) == [[b"1"]]


# --- what a server has prepared, and what the proxy believes it has


def prepared(sql: str, name: str) -> bytes:
    """Parse, Bind, Execute and Sync of a named statement."""
    return parse(sql, name) + use(name)


def use(name: str) -> bytes:
    """Bind, Execute and Sync of a named statement."""
    return bind(statement=name) + execute() + SYNC


@pytest.mark.parametrize(
    ("before", "discard"),
    [
        pytest.param("SET work_mem = '5MB'", "DISCARD ALL", id="DISCARD ALL of a pinned session"),
        pytest.param("BEGIN", "DEALLOCATE ALL", id="DEALLOCATE ALL in a transaction"),
    ],
)
async def test_a_statement_may_be_prepared_again_after_all_were_discarded(
    before: str, discard: str, small_proxy: ProxyProcess
) -> None:
    async with (
        await Wire.connect(small_proxy) as other,
        await Wire.connect(small_proxy) as wire,
    ):
        await other.ask(prepared("SELECT 11", "shared"))  # so that its number lives on
        assert errors(await wire.ask(query(before))) == []
        assert errors(await wire.ask(prepared("SELECT 11", "mine"))) == []
        assert errors(await wire.ask(query(discard))) == []
        assert rows(await wire.ask(prepared("SELECT 11", "mine"))) == [[b"11"]]


async def test_a_statement_that_was_to_make_room_is_still_there_after_an_error(
    cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": 1, "max_prepared_statements": 3})
    async with await Wire.connect(proxy, options="-c pgproxy.route=primary") as wire:
        for number in range(3):
            assert errors(await wire.ask(prepared(f"SELECT {number}", f"old {number}"))) == []
        failing = parse("SELECT 1/0") + bind() + execute()
        newer = parse("SELECT 3", "new 3") + parse("SELECT 4", "new 4") + SYNC
        assert errors(await wire.ask(failing + newer)) == ["22012"]
        for number in range(3):
            assert rows(await wire.ask(use(f"old {number}"))) == [[b"%d" % number]]


async def test_deallocate_ends_a_statement_of_the_protocol(small_proxy: ProxyProcess) -> None:
    # PHP's PDO ends all its statements so, and psycopg with an older libpq.
    async with await Wire.connect(small_proxy) as wire:
        for _ in range(2):
            assert rows(await wire.ask(prepared("SELECT 12", "pdo_stmt_1"))) == [[b"12"]]
            assert (
                errors(await wire.ask(query("BEGIN"), query("SELECT 1 FOR UPDATE"), ready=2)) == []
            )
            found = await wire.ask(query("DEALLOCATE pdo_stmt_1"))
            assert found == [(b"C", b"DEALLOCATE\0"), (b"Z", b"T")]
            assert errors(await wire.ask(query("COMMIT"))) == []
            assert errors(await wire.ask(use("pdo_stmt_1"))) == ["26000"]
        assert rows(await wire.ask(prepared("SELECT 12", "pdo_stmt_1"))) == [[b"12"]]
        assert (
            errors(await wire.ask(parse("DEALLOCATE pdo_stmt_1") + bind() + execute() + SYNC)) == []
        )
        assert errors(await wire.ask(query("DEALLOCATE pdo_stmt_1"))) == ["26000"]


@pytest.mark.parametrize("mode", ["READ WRITE", "ISOLATION LEVEL SERIALIZABLE"])
async def test_a_transaction_that_no_standby_begins_runs_on_the_primary(
    mode: str, small_proxy: ProxyProcess
) -> None:
    async with await Wire.connect(small_proxy, options="-c pgproxy.route=replica") as wire:
        assert errors(await wire.ask(query(f"BEGIN {mode}"))) == []
        assert rows(await wire.ask(query("SELECT pg_is_in_recovery()"))) == [[b"f"]]


async def test_a_transaction_on_a_replica_does_not_leave_an_open_portal(
    small_proxy: ProxyProcess,
) -> None:
    async with await Wire.connect(small_proxy) as wire:
        await wire.ask(query("BEGIN READ ONLY"))
        opened = parse("SELECT generate_series(1, 4)") + bind(portal="cursor")
        assert rows(await wire.ask(opened + execute("cursor", 2) + SYNC)) == [[b"1"], [b"2"]]
        assert errors(await wire.ask(query("SAVEPOINT a"))) == []
        assert rows(await wire.ask(execute("cursor", 2) + SYNC)) == [[b"3"], [b"4"]]


# --- the last words of a client


async def test_what_was_sent_before_terminate_is_run(
    cluster: Cluster, fresh_database: str, small_proxy: ProxyProcess
) -> None:
    cluster.primary.psql("CREATE TABLE t (value int)", db=fresh_database)
    wire = await Wire.connect(small_proxy, database=fresh_database)
    await wire.send(query("INSERT INTO t SELECT 1 FROM pg_sleep(0.2)"), TERMINATE)
    await wire.drop()
    count = "SELECT count(*) FROM t"
    while cluster.primary.psql(count, db=fresh_database) != "1":  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.05)


# --- many clients that wait for their first server


async def test_a_crowd_that_waited_for_a_server_is_let_in_and_none_is_kept(
    cluster: Cluster,
) -> None:
    async with FaultProxy(cluster.primary) as network:
        config = config_for(
            cluster.servers, pool={"size": 2}, health={"user": "postgres", "timeout": 60.0}
        ).replace(f"port = {cluster.primary.port}\n", f"port = {network.port}\n")
        with ProxyProcess(config) as proxy:
            proxy.port = await asyncio.to_thread(lambda: proxy.wait_event("listening")["port"])
            proxy.http_port = proxy.wait_event("http_listening")["port"]
            network.stall("to_client")
            crowd = [await Wire.open(proxy) for _ in range(1000)]
            for wire in crowd:
                await wire.send(startup("postgres", "postgres"))
            while await waiting(proxy) < len(crowd):  # noqa: ASYNC110 - it tells when asked
                await asyncio.sleep(0.05)
            leavers, stayers = crowd[:10], crowd[10:]
            for wire in leavers:
                await wire.drop()
            network.resume("to_client")
            for wire in stayers:
                assert (await wire.until(b"Z"))[-1:] == [(b"Z", b"I")]
            assert rows(await stayers[-1].ask(query("/* pgproxy: primary */ SELECT 1"))) == [[b"1"]]
            while (await status(proxy))["clients"] != len(stayers):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            for wire in stayers:
                await wire.drop()


async def status(proxy: ProxyProcess) -> dict[str, Any]:
    """What /status says."""
    return json.loads((await asyncio.to_thread(proxy.get, "/status"))[1])  # type: ignore[no-any-return]


async def waiting(proxy: ProxyProcess) -> int:
    """How many wait for a server connection."""
    return sum(pool["waiting"] for pool in (await status(proxy))["pools"])
