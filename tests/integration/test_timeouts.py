"""What [timeouts] ends, and what it leaves alone: statements, transactions, and clients that idle."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

import asyncpg
import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.fault import FaultProxy
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import wait_asleep
from tests.support.watch import descriptors, eventually, status
from tests.support.wire import Frame, Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

StartProxy = Callable[..., ProxyProcess]

LIMIT: Final = 0.4
FOREVER: Final = "SELECT pg_sleep(100)"
MANY: Final = [f"pg_class AS c{number}" for number in range(6)]
PID: Final = wire.query("/* pgproxy: primary */ SELECT pg_backend_pid()")


async def start(
    start_proxy: StartProxy, servers: Any, timeouts: dict[str, object], **sections: Any
) -> ProxyProcess:
    return await asyncio.to_thread(start_proxy, servers, timeouts=timeouts, **sections)


def told(frames: list[Frame]) -> dict[str, str]:
    """The fields of the only ErrorResponse."""
    found = [wire.fields(body) for kind, body in frames if kind == b"E"]
    assert len(found) == 1, frames
    return found[0]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A server process that does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def extended(sql: str) -> bytes:
    return wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC


def assert_query_timeout(frames: list[Frame], key: str = "timeouts.query") -> None:
    error = told(frames)
    assert (error["V"], error["C"]) == ("ERROR", "57014")
    assert error["M"] == "canceling statement due to query timeout"
    assert f"({key})" in error["D"]
    assert error["R"] == "pgproxy"


def counted(proxy: ProxyProcess, kind: str, database: str = "postgres") -> float:
    head = f'pgproxy_timeouts_total{{database="{database}",kind="{kind}"}} '
    found = [line for line in proxy.get("/metrics")[1].splitlines() if line.startswith(head)]
    return float(found[0].removeprefix(head)) if found else 0.0


# --- query


@pytest.mark.parametrize("say", [wire.query, extended], ids=["simple", "extended"])
async def test_a_statement_is_cancelled_and_the_session_goes_on(
    cluster: Cluster, start_proxy: StartProxy, say: Callable[[str], bytes]
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT}, pool={"size": 1})
    async with await Wire.connect(proxy) as client, await Wire.connect(proxy) as other:
        pid = wire.rows(await client.ask(PID))
        frames = await client.ask(say(FOREVER))
        assert_query_timeout(frames)
        assert frames[-1] == (b"Z", b"I")
        assert wire.rows(await client.ask(say("SELECT 7"))) == [[b"7"]]
        # The server connection is as good as ever, for others too.
        assert wire.rows(await other.ask(PID)) == pid
        assert counted(proxy, "query") == 1


@pytest.mark.parametrize("limits", [{}, {"max_concurrent": 1}], ids=["free", "seats"])
@pytest.mark.parametrize("kind", ["query", "transaction"])
async def test_what_a_client_that_has_gone_left_running_has_its_time(
    cluster: Cluster,
    fresh_database: str,
    start_proxy: StartProxy,
    limits: dict[str, int],
    kind: str,
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {kind: 3.0}, limits=limits)
    before = descriptors(proxy)
    client = await Wire.connect(proxy, database=fresh_database)
    # The first of them ends in time, and the others must not be forgotten for it.
    await client.send(
        *[wire.query(f"/* pgproxy: primary */ SELECT pg_sleep({s})") for s in (0.1, 600, 600)],
        wire.TERMINATE,
    )
    await asyncio.to_thread(wait_asleep, cluster, fresh_database)
    await asyncio.sleep(1)
    asleep = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{fresh_database}'"
    assert cluster.primary.psql(asleep) == "1"
    while await asyncio.to_thread(cluster.primary.psql, asleep) != "0":  # noqa: ASYNC110 - psql is asked
        await asyncio.sleep(0.05)
    await eventually(lambda: not any(pool["closing"] for pool in status(proxy)["pools"]))
    if limits:
        await eventually(lambda: status(proxy)["running"]["total"]["running"] == 0)
    await client.drop()
    await eventually(lambda: descriptors(proxy) <= before)


async def test_what_a_client_has_left_running_keeps_no_place_in_a_pool(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": 600}, pool={"size": 1})
    client = await Wire.connect(proxy, database=fresh_database)
    await client.send(wire.query(FOREVER), wire.TERMINATE)
    await asyncio.to_thread(wait_asleep, cluster, fresh_database)
    async with await Wire.connect(proxy, database=fresh_database) as other:
        assert wire.errors(await other.ask(wire.query("SELECT 1"))) == []
        assert (
            cluster.primary.psql(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%'"
                f" AND datname = '{fresh_database}'"
            )
            == "1"
        )
    async with await Wire.connect(proxy, database="pgbouncer") as console:
        servers = wire.rows(await console.ask(wire.query("SHOW SERVERS")))
        assert sorted(row[4] or b"" for row in servers) == [b"closing", b"idle"]
    await client.drop()


async def test_in_a_transaction_it_fails_that(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await start(start_proxy, cluster.servers, {"query": LIMIT})
    async with await Wire.connect(proxy) as client:
        await client.ask(wire.query("BEGIN"))
        frames = await client.ask(wire.query(FOREVER))
        assert_query_timeout(frames)
        assert frames[-1] == (b"Z", b"E")
        assert wire.errors(await client.ask(wire.query("SELECT 1"))) == ["25P02"]
        assert (await client.ask(wire.query("ROLLBACK")))[-1] == (b"Z", b"I")
        await client.ask(wire.query("BEGIN; SAVEPOINT one"))
        assert_query_timeout(await client.ask(extended(FOREVER)))
        frames = await client.ask(wire.query("ROLLBACK TO one; SELECT 5; COMMIT"))
        assert wire.rows(frames) == [[b"5"]]


async def test_in_a_pipeline_each_has_its_own_time(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": 1.0})
    short = extended("SELECT pg_sleep(0.4)")
    async with await Wire.connect(proxy) as client:
        # Together they take longer than one may.
        assert wire.errors(await client.ask(*[short] * 4, ready=4)) == []
        frames = await client.ask(short, extended(FOREVER), extended("SELECT 3"), ready=3)
        assert b"".join(kind for kind, _ in frames) == b"12DCZ12EZ12DCZ"
        assert_query_timeout(frames)
        assert wire.rows(frames)[-1] == [b"3"]


async def test_several_statements_of_one_query_are_one(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT})
    async with await Wire.connect(proxy) as client:
        frames = await client.ask(wire.query(f"SELECT 1; {FOREVER}; SELECT 3"))
        assert wire.rows(frames) == [[b"1"]]
        assert_query_timeout(frames)
        frames = await client.ask(wire.query("; ".join(["SELECT pg_sleep(0.2)"] * 5)))
        assert_query_timeout(frames)


async def test_behind_a_flush_the_rest_is_skipped_up_to_sync(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT})
    async with await Wire.connect(proxy) as client:
        await client.send(wire.parse(FOREVER), wire.bind(), wire.execute(), wire.FLUSH)
        assert_query_timeout(await client.until(b"E"))
        # It takes its time, which is not the server's.
        await asyncio.sleep(2 * LIMIT)
        assert wire.errors(await client.ask(wire.execute(), wire.SYNC)) == []
        assert wire.rows(await client.ask(extended("SELECT 2"))) == [[b"2"]]
        assert counted(proxy, "query") == 1


async def test_copies(cluster: Cluster, fresh_database: str, start_proxy: StartProxy) -> None:
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT})
    async with (
        await Wire.connect(proxy, database=fresh_database) as client,
        await Wire.connect(cluster.primary, database=fresh_database) as direct,
    ):
        frames = await client.ask(wire.query("COPY (SELECT 1 FROM pg_sleep(100)) TO STDOUT"))
        assert_query_timeout(frames)
        # The time that a client takes between its rows is its own.
        await client.send(wire.query("COPY t FROM STDIN"))
        await client.until(b"G")
        for number in range(3):
            await client.send(wire.copy_data(b"%d\n" % number))
            await asyncio.sleep(LIMIT)
        assert wire.errors(await client.ask(wire.COPY_DONE)) == []
        # What the server makes of them is the server's.
        await direct.ask(wire.query("BEGIN; LOCK t IN ACCESS EXCLUSIVE MODE"))
        await client.send(wire.query("COPY t FROM STDIN"), wire.copy_data(b"4\n"), wire.COPY_DONE)
        assert_query_timeout(await client.until(b"Z"))
        await direct.ask(wire.query("COMMIT"))
        frames = await client.ask(wire.query("SELECT count(*) FROM t"))
        assert wire.rows(frames) == [[b"3"]]


async def test_the_time_that_a_client_does_not_read_is_its_own(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": 1.0})
    async with await Wire.connect(proxy) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 60000)"))
        await asyncio.sleep(3)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        frames = await client.until(b"Z")
        assert wire.errors(frames) == []
        assert len(wire.rows(frames)) == 60000


async def test_the_wait_for_a_server_does_not_count(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(
        start_proxy, [cluster.primary], {"query": 1.0, "client_idle": 1.0}, pool={"size": 1}
    )
    async with await Wire.connect(proxy) as holder, await Wire.connect(proxy) as client:
        await holder.ask(wire.query("BEGIN; SELECT 1"))
        await client.send(wire.query("SELECT 2"))
        await asyncio.sleep(2)
        await holder.ask(wire.query("COMMIT"))
        assert wire.rows(await client.until(b"Z")) == [[b"2"]]


async def test_limits_of_databases_and_users(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    cluster.primary.psql("CREATE ROLE patient SUPERUSER LOGIN", fresh_database)
    try:
        proxy = await start(
            start_proxy,
            [cluster.primary],
            {
                "query": 30,
                "databases": {fresh_database: {"query": LIMIT, "client_idle": 40}},
                "users": {"patient": {"query": 0}},
            },
        )
        slow = wire.query("SELECT pg_sleep(1.2)")
        async with (
            await Wire.connect(proxy) as elsewhere,
            await Wire.connect(proxy, database=fresh_database) as client,
            await Wire.connect(proxy, database=fresh_database, user="patient") as patient,
        ):
            for one in (elsewhere, client, patient):
                await one.send(slow)
            assert wire.errors(await elsewhere.until(b"Z")) == []
            assert wire.errors(await patient.until(b"Z")) == []
            key = f"timeouts.databases.{fresh_database}.query"
            assert_query_timeout(await client.until(b"Z"), key)
            assert counted(proxy, "query", fresh_database) == 1
    finally:
        cluster.primary.psql("DROP ROLE patient", fresh_database)


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_pinned_sessions_keep_their_connection(
    cluster: Cluster, start_proxy: StartProxy, mode: str
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT}, pool={"mode": mode})
    async with await Wire.connect(proxy) as client:
        await client.ask(wire.query("CREATE TEMP TABLE mine AS SELECT 5 AS n"))
        for say in (wire.query, extended):
            assert_query_timeout(await client.ask(say(FOREVER)))
            assert wire.rows(await client.ask(say("SELECT n FROM mine"))) == [[b"5"]]


async def test_settings_survive_a_cancelled_statement(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """The question for them at the end of a transaction must not be hit."""
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT})
    async with await Wire.connect(proxy) as client:
        for number in range(5):
            name = f"set_{number}"
            await client.ask(wire.query("BEGIN"))
            await client.ask(wire.query(f"SELECT set_config('application_name', '{name}', false)"))
            frames = await client.ask(wire.query(f"COMMIT; {FOREVER}"))
            assert_query_timeout(frames)
            frames = await client.ask(wire.query("SELECT current_setting('application_name')"))
            assert wire.rows(frames) == [[name.encode()]]


async def test_on_a_replica_a_roaming_transaction_goes_on(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(
        start_proxy,
        cluster.servers,
        {"query": LIMIT},
        routing={"transactions": "replica-until-write"},
    )
    async with await Wire.connect(proxy) as client:
        await client.ask(wire.query("BEGIN"))
        await client.ask(wire.query("SELECT 1"))
        frames = await client.ask(wire.query("SHOW pgproxy.last_route"))
        assert wire.rows(frames)[0][0] == b"replica"
        await client.ask(wire.query("SAVEPOINT one"))
        frames = await client.ask(wire.query(f"SELECT count(*) FROM {', '.join(MANY)}"))
        assert_query_timeout(frames)
        assert frames[-1] == (b"Z", b"E")
        await client.ask(wire.query("ROLLBACK TO one"))
        assert wire.rows(await client.ask(wire.query("SELECT 1"))) == [[b"1"]]
        frames = await client.ask(wire.query("CREATE TEMP TABLE roamed (); COMMIT"))
        assert wire.errors(frames) == []


# --- a server that does not react


async def test_a_read_that_cannot_be_cancelled_is_given_up(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT}, pool={"size": 1})
    async with await Wire.connect(proxy) as client:
        pid = int(wire.rows(await client.ask(PID))[0][0] or b"")
        await client.send(wire.query(FOREVER))
        await eventually(lambda: status(proxy)["pools"][0]["leased"] == 1)
        with stopped(pid):
            frames = await client.until(b"Z")
        assert_query_timeout(frames)
        assert "was asked to" in told(frames)["D"]
        assert frames[-1] == (b"Z", b"I")
        assert wire.rows(await client.ask(PID)) != [[b"%d" % pid]]


async def test_a_write_that_cannot_be_cancelled_ends_the_session(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"query": LIMIT})
    async with await Wire.connect(proxy) as client, await Wire.connect(proxy) as other:
        pid = int(wire.rows(await client.ask(PID))[0][0] or b"")
        await client.send(wire.query("CREATE TEMP TABLE slow AS SELECT 1 AS n FROM pg_sleep(100)"))
        await eventually(lambda: status(proxy)["pools"][0]["leased"] == 1)
        with stopped(pid):
            frames = await client.until(b"")
        error = told(frames)
        assert (error["V"], error["C"]) == ("FATAL", "57014")
        assert "may yet take effect" in error["D"]
        assert wire.rows(await other.ask(wire.query("SELECT 1"))) == [[b"1"]]


# --- transaction


def assert_fatal(frames: list[Frame], sqlstate: str, message: str, key: str) -> None:
    error = told(frames)
    assert (error["V"], error["C"], error["M"]) == ("FATAL", sqlstate, message)
    assert f"({key})" in error["D"]


LONG_TRANSACTION: Final = (
    "25P04",
    "terminating connection due to transaction timeout",
    "timeouts.transaction",
)
IDLE_TRANSACTION: Final = (
    "25P03",
    "terminating connection due to idle-in-transaction timeout",
    "timeouts.idle_in_transaction",
)
IDLE_SESSION: Final = (
    "57P05",
    "terminating connection due to idle-session timeout",
    "timeouts.client_idle",
)


@pytest.mark.parametrize(
    "statements",
    [
        ["BEGIN"],
        ["BEGIN", "SELECT 1"],
        ["BEGIN; SELECT 1", FOREVER],
        ["BEGIN", FOREVER],
        [FOREVER],
        [f"BEGIN; {FOREVER}"],
    ],
)
async def test_a_transaction_that_takes_too_long_ends_the_session(
    cluster: Cluster, start_proxy: StartProxy, statements: list[str]
) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"transaction": LIMIT}, pool={"size": 1})
    async with await Wire.connect(proxy) as client, await Wire.connect(proxy) as other:
        await client.send(*map(wire.query, statements))
        assert_fatal(await client.until(b""), *LONG_TRANSACTION)
        assert wire.rows(await other.ask(wire.query("SELECT 1"))) == [[b"1"]]
        assert counted(proxy, "transaction") == 1


async def test_a_transaction_of_short_statements_has_an_end_too(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    proxy = await start(
        start_proxy,
        cluster.servers,
        {"transaction": 1.5, "query": 1.0, "idle_in_transaction": 1.0, "client_idle": 1.0},
    )
    async with await Wire.connect(proxy, database=fresh_database) as client:
        # Many that are short may take as long as they like together.
        for _ in range(4):
            await client.ask(wire.query("BEGIN"))
            await client.ask(wire.query("INSERT INTO t VALUES (1)"))
            await client.ask(wire.query("SELECT pg_sleep(0.4)"))
            assert wire.errors(await client.ask(wire.query("COMMIT"))) == []
        await client.ask(wire.query("BEGIN"))
        frames: list[Frame] = []
        while not wire.errors(frames):
            assert wire.errors(await client.ask(wire.query("INSERT INTO t VALUES (2)"))) == []
            frames = await client.ask(wire.query("SELECT pg_sleep(0.2)"))
        assert_fatal(frames, *LONG_TRANSACTION)
        assert cluster.primary.psql("SELECT sum(n) FROM t", fresh_database) == "4"


async def test_chained_transactions_are_many(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"transaction": 1.0})
    async with await Wire.connect(proxy) as client:
        for chain in ("COMMIT AND CHAIN", "SELECT 1; COMMIT AND CHAIN"):
            await client.ask(wire.query("BEGIN"))
            for _ in range(5):
                frames = await client.ask(wire.query(chain))
                assert wire.errors(frames) == []
                await asyncio.sleep(0.4)
            frames = await client.ask(wire.query("COMMIT"))
            assert frames[-1] == (b"Z", b"I")


# --- idle clients


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_idle_in_transaction(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy, mode: str
) -> None:
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    proxy = await start(
        start_proxy,
        [cluster.primary],
        {"idle_in_transaction": LIMIT},
        pool={"size": 1, "mode": mode},
    )
    async with await Wire.connect(proxy, database=fresh_database) as client:
        await client.ask(wire.query("BEGIN"))  # which no server has seen, unless in session mode
        assert_fatal(await client.until(b""), *IDLE_TRANSACTION)
    async with await Wire.connect(proxy, database=fresh_database) as client:
        frames = await client.ask(wire.query("BEGIN; INSERT INTO t VALUES (1)"), PID, ready=2)
        assert_fatal(await client.until(b""), *IDLE_TRANSACTION)
    async with await Wire.connect(proxy, database=fresh_database) as client:
        # Rolled back, and the connection serves others.
        assert wire.rows(await client.ask(PID)) == wire.rows(frames)
        assert wire.rows(await client.ask(wire.query("SELECT count(*) FROM t"))) == [[b"0"]]
        # A failed transaction is one; outside nothing ends.
        await asyncio.sleep(2 * LIMIT)
        await client.ask(wire.query("BEGIN; SELECT 1/0"))
        assert_fatal(await client.until(b""), *IDLE_TRANSACTION)
    assert counted(proxy, "idle_in_transaction", fresh_database) == 3


@pytest.mark.parametrize(
    "beginning",
    [
        [wire.query("COPY t FROM STDIN"), wire.copy_data(b"1\n")],
        [wire.parse("INSERT INTO t VALUES (1)"), wire.bind(), wire.execute(), wire.FLUSH],
        [wire.parse("SELECT 1/0"), wire.bind(), wire.execute(), wire.FLUSH],
    ],
    ids=["copy", "batch", "failed batch"],
)
async def test_a_server_that_waits_for_the_rest_is_in_a_transaction_that_idles(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy, beginning: list[bytes]
) -> None:
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    proxy = await start(
        start_proxy, [cluster.primary], {"idle_in_transaction": 1.0, "query": LIMIT}
    )
    async with await Wire.connect(proxy, database=fresh_database) as client:
        await client.send(*beginning)
        frames = await client.until(b"")
        assert_fatal([one for one in frames if b"25P03" in one[1]], *IDLE_TRANSACTION)
        await eventually(lambda: not any(pool["leased"] for pool in status(proxy)["pools"]))
        assert cluster.primary.psql("SELECT count(*) FROM t", fresh_database) == "0"


async def test_idle_clients(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await start(start_proxy, [cluster.primary], {"client_idle": 1.0})
    async with (
        await Wire.connect(proxy) as idle,
        await Wire.connect(proxy) as listens,
        await Wire.connect(proxy) as pinned,
        await Wire.connect(proxy) as half,
        await Wire.connect(proxy) as busy,
        await Wire.connect(proxy) as holds,
        await Wire.connect(proxy) as works,
    ):
        await listens.ask(wire.query("LISTEN one"))
        await pinned.ask(wire.query("CREATE TEMP TABLE mine ()"))
        await half.send(wire.query("SELECT 1")[:-3])
        await holds.ask(wire.query("BEGIN; SELECT 1"))
        await works.send(wire.query("SELECT pg_sleep(3)"))
        for _ in range(10):
            assert wire.errors(await busy.ask(wire.query("SELECT 1"))) == []
            await asyncio.sleep(0.25)
        for one in (idle, listens, pinned, half):
            assert_fatal(await one.until(b""), *IDLE_SESSION)
        assert wire.errors(await works.until(b"Z")) == []
        assert wire.errors(await holds.ask(wire.query("COMMIT"))) == []
        assert counted(proxy, "client_idle") == 4


# --- what else a client may be at


async def test_drivers_tell_their_applications(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await start(
        start_proxy,
        cluster.servers,
        {"query": 0.5, "idle_in_transaction": 1.0, "transaction": 30, "client_idle": 30},
    )
    connection = await asyncpg.connect(proxy.dsn())
    try:
        with pytest.raises(asyncpg.QueryCanceledError, match="query timeout"):
            await connection.fetch("SELECT pg_sleep($1)", 100)
        assert await connection.fetchval("SELECT $1::int", 5) == 5
        await connection.execute("BEGIN")
        assert await connection.fetchval("SELECT $1::int", 6) == 6
        await eventually(connection.is_closed)
    finally:
        connection.terminate()
    async with await psycopg.AsyncConnection.connect(proxy.dsn()) as other:
        with pytest.raises(psycopg.errors.QueryCanceled, match="query timeout"):
            await other.execute("SELECT pg_sleep(%s)", (100,), prepare=True)
        await other.rollback()
        async with other.pipeline():
            late = await other.execute("SELECT pg_sleep(%s)", (0,))
            row = await other.execute("SELECT 3")
        assert (await late.fetchone(), await row.fetchone()) == (("",), (3,))
        await asyncio.sleep(2)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await other.execute("SELECT 1")


async def test_in_a_failover_nothing_runs_out(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(
        start_proxy,
        private_cluster.servers,
        {"query": 1.0, "idle_in_transaction": 1.0, "client_idle": 1.0},
    )
    write = "CREATE TABLE written ()"
    async with await Wire.connect(proxy) as client, await Wire.connect(proxy) as blocked:
        await asyncio.to_thread(private_cluster.primary.stop, mode="immediate")
        await eventually(lambda: not any(node["role"] == "primary" for node in topology(proxy)))
        await client.send(wire.query(write))
        await blocked.send(wire.query("BEGIN"), wire.query("CREATE TABLE too ()"))
        await asyncio.sleep(2.5)
        await asyncio.to_thread(private_cluster.servers[1].promote)
        assert wire.errors(await client.until(b"Z")) == []
        frames = await blocked.until(b"Z", 2)
        assert wire.errors(frames) == []
        assert wire.errors(await blocked.ask(wire.query("COMMIT"))) == []


def topology(proxy: ProxyProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = status(proxy)["topology"]
    return found


async def test_log_ins_of_one_user(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await start(
        start_proxy,
        [cluster.primary],
        {"client_login": 60, "users": {"slow": {"client_login": LIMIT}}},
        auth={"method": "scram-sha-256", "users_file": os.devnull},
    )
    async with await Wire.open(proxy) as silent, await Wire.open(proxy) as slow:
        await slow.send(wire.startup("slow", "postgres"))
        frames = await slow.until(b"")  # it is asked for its password, and does not answer
        assert told(frames)["M"] == "canceling authentication due to timeout"
        assert counted(proxy, "client_login", "") == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * LIMIT):
                await silent.read()


async def test_a_server_that_accepts_and_says_nothing(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """The connection stands (server.connect_timeout), and the log-in does not go on."""
    async with FaultProxy(cluster.primary) as network:
        proxy = await asyncio.to_thread(
            start_proxy,
            [Behind(network.port)],
            server={"login_timeout": LIMIT},
            pool={"wait_timeout": 3},
            health={"timeout": 60, "failures": 9},
        )
        async with await Wire.connect(proxy) as client:
            await client.ask(wire.query("BEGIN; SELECT 1"))
            network.stall("to_server")
            async with await Wire.connect(proxy) as other:
                frames = await other.ask(wire.query("SELECT 1"))
            error = told(frames)
            assert error["C"] == "08001"
            assert f"no answer to the log-in in {LIMIT:g} s (server.login_timeout)" in error["M"]
            network.resume()
            assert wire.errors(await client.ask(wire.query("COMMIT"))) == []


class Behind:
    """The primary, at another port."""

    name: Final = "primary"
    host: Final = FaultProxy.host

    def __init__(self, port: int) -> None:
        self.port: Final = port


async def test_a_cancel_request_that_is_lost_hits_nobody(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """Nobody knows when it arrives: so its connection is not used again."""
    async with FaultProxy(cluster.primary) as network:
        proxy = await asyncio.to_thread(
            start_proxy,
            [Behind(network.port)],
            timeouts={"query": 1.0},
            pool={"size": 1},
            health={"timeout": 60, "failures": 9},
        )
        async with await Wire.connect(proxy) as client, await Wire.connect(proxy) as other:
            await client.send(wire.query("SELECT pg_sleep(1.5)"))
            await asyncio.to_thread(wait_asleep, cluster, "postgres")
            network.stall("to_server")
            # It ends by itself, and what comes next waits.
            assert wire.errors(await client.until(b"Z")) == []
            await other.send(wire.query("SELECT pg_sleep(0.5)"))
            await client.send(wire.query("SELECT 2"))
            await asyncio.sleep(6)  # the proxy has lost its patience
            network.resume()
            assert wire.errors(await other.until(b"Z")) == []
            assert wire.rows(await client.until(b"Z")) == [[b"2"]]


async def test_replication_and_the_console_have_no_limits(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await start(
        start_proxy,
        [cluster.primary],
        dict.fromkeys(("query", "transaction", "idle_in_transaction", "client_idle"), LIMIT),
        replication={"allow": True},
    )
    async with (
        await Wire.connect(proxy, replication="true") as walsender,
        await Wire.connect(proxy, database="pgproxy") as console,
    ):
        await asyncio.sleep(4 * LIMIT)
        assert wire.errors(await walsender.ask(wire.query("IDENTIFY_SYSTEM"))) == []
        frames = await console.ask(wire.query("SHOW CONFIG"))
        shown = {row[0]: row[1] for row in wire.rows(frames)}
        assert shown[b"timeouts.query"] == b"0.4"
        assert b"listen.tcp_user_timeout" in shown
