"""The admin console with real clients: psql, psycopg and asyncpg, on a proxy with real servers."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import psycopg
import psycopg2
import pytest
from psycopg.rows import dict_row

from pgproxy.embedded import Cluster
from pgproxy.telemetry.columns import COLUMNS
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(60)]

StartProxy = Callable[..., ProxyProcess]
Row = dict[str, Any]

ON_PRIMARY: Final = "/* pgproxy: primary */ SELECT pg_backend_pid()"
NUMBERS: Final = ("int4", "int8", "numeric")


@pytest.fixture(scope="module")
def guarded(cluster: Cluster) -> Iterator[ProxyProcess]:
    """A proxy with one administrator and one who may look."""
    with ProxyProcess.start(
        cluster.servers, auth={"admin_users": ["postgres"], "stats_users": ["watcher"]}
    ) as proxy:
        yield proxy
        proxy.check()


def console(proxy: ProxyProcess, **options: Any) -> "psycopg.Connection[Row]":
    return psycopg.connect(
        proxy.dsn(options.pop("db", "pgbouncer"), **options), autocommit=True, row_factory=dict_row
    )


def show(connection: "psycopg.Connection[Row]", what: str) -> list[Row]:
    return connection.execute(f"SHOW {what}").fetchall()  # type: ignore[call-overload, no-any-return]


def ids(connection: "psycopg.Connection[Row]", database: str) -> list[int]:
    return [row["id"] for row in show(connection, "CLIENTS") if row["database"] == database]


async def held(admin: Wire, command: str) -> None:
    """Gives a command that waits, and comes back when it does."""
    await admin.send(wire.query(command))
    await admin.send(wire.query("SHOW VERSION"))  # its answer comes behind


# --- what it tells


@pytest.mark.parametrize("database", ["pgproxy", "pgbouncer"])
@pytest.mark.parametrize("table", COLUMNS)
def test_every_table_is_told_in_every_way(guarded: ProxyProcess, table: str, database: str) -> None:
    with console(guarded, db=database) as connection, psycopg.connect(guarded.dsn()) as client:
        client.execute("SELECT 1")  # so that there is something to tell
        simple = connection.execute(f"SHOW {table}")  # type: ignore[call-overload]
        assert simple.description is not None
        names = [column.name for column in simple.description]
        assert names == COLUMNS[table].names
        prepared = connection.execute(f"SHOW {table}", prepare=True)  # type: ignore[call-overload]
        assert prepared.description is not None
        assert [column.name for column in prepared.description] == names
        kinds = [column.type_code for column in simple.description]
        assert kinds == COLUMNS[table].types
        with connection.cursor(binary=True) as cursor:
            rows = cursor.execute(f"SHOW {table}").fetchall()  # type: ignore[call-overload]
        assert len(rows) == len(simple.fetchall()) == len(prepared.fetchall())


async def test_asyncpg_reads_every_table(guarded: ProxyProcess) -> None:
    connection = await asyncpg.connect(guarded.dsn("pgbouncer"))
    try:
        for table in COLUMNS:
            statement = await connection.prepare(f"SHOW {table}")
            assert [one.name for one in statement.get_attributes()] == COLUMNS[table].names
            assert len(await statement.fetch()) == len(await connection.fetch(f"SHOW {table}"))
        assert (await connection.fetchval("SHOW VERSION")).startswith("pgproxy ")
        # One row at a time, by a portal that is suspended.
        assert (await connection.fetchrow("SHOW LISTS"))["list"] == "databases"
        clients = [row for row in await connection.fetch("SHOW CLIENTS") if row["type"] == "C"]
        assert "pgbouncer" in {row["database"] for row in clients}
        async with connection.transaction():
            await connection.execute("SHOW STATS")
    finally:
        await connection.close()


def test_psycopg2_reads_it_too(guarded: ProxyProcess) -> None:
    connection = psycopg2.connect(guarded.dsn("pgbouncer"))
    try:
        with connection.cursor() as cursor:  # in a transaction, as it always is
            cursor.execute("SHOW LISTS")
            assert dict(cursor.fetchall())["peers"] == 0
        connection.commit()
    finally:
        connection.close()


def psql(proxy: ProxyProcess, *commands: str, user: str = "postgres") -> Any:
    path = shutil.which("psql")
    if path is None:
        pytest.skip("no psql here")
    arguments = [
        path,
        "-XAtq",
        "-h",
        proxy.host,
        "-p",
        str(proxy.port),
        "-U",
        user,
        "-d",
        "pgproxy",
    ]
    for command in commands:
        arguments += ["-c", command]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)


def test_psql(guarded: ProxyProcess) -> None:
    done = psql(guarded, "SHOW VERSION; SHOW STATE", "SHOW HELP")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("pgproxy ")
    assert "active|yes" in done.stdout
    assert "KILL_CLIENT <id>" in done.stderr  # a notice, as PgBouncer's
    wrong = psql(guarded, "SELECT 1")
    assert 'ERROR:  invalid command "SELECT 1"' in wrong.stderr
    assert "HINT:  use SHOW HELP" in wrong.stderr


def test_clients_and_servers_name_each_other_and_the_pin(
    guarded: ProxyProcess, fresh_database: str
) -> None:
    name = f"{guarded.dsn(fresh_database)}?application_name=made%20a%20table"
    with (
        console(guarded) as connection,
        psycopg.connect(name, autocommit=True) as pinned,
        psycopg.connect(guarded.dsn(fresh_database), autocommit=True) as free,
    ):
        pinned.execute("CREATE TEMP TABLE t (a int)")
        free.execute("SELECT 1")
        pid = pinned.execute(ON_PRIMARY).fetchone()
        assert pid is not None
        clients = {
            row["application_name"]: row
            for row in show(connection, "CLIENTS")
            if row["database"] == fresh_database
        }
        assert (clients["made a table"]["pin"], clients[""]["pin"]) == ("temp_table", "")
        assert (clients["made a table"]["state"], clients[""]["state"]) == ("active", "idle")
        assert (clients["made a table"]["backend"], clients[""]["backend"]) == ("primary", "")
        assert clients["made a table"]["id"] == pinned.info.backend_pid
        server = next(
            row
            for row in show(connection, "SERVERS")
            if row["ptr"] == clients["made a table"]["link"]
        )
        assert server["link"] == clients["made a table"]["ptr"]
        assert (server["remote_pid"], server["backend"]) == (pid[0], "primary")
        assert (server["application_name"], server["state"]) == ("made a table", "active")
        (pool,) = [row for row in show(connection, "POOLS") if row["database"] == fresh_database]
        assert (pool["cl_active"], pool["cl_waiting"], pool["sv_active"]) == (2, 0, 1)
        servers = [row for row in show(connection, "SERVERS") if row["database"] == fresh_database]
        assert pool["sv_idle"] == [row["state"] for row in servers].count("idle") > 0


def test_statistics_count_what_was_done(guarded: ProxyProcess, fresh_database: str) -> None:
    with (
        console(guarded) as connection,
        psycopg.connect(guarded.dsn(fresh_database), autocommit=True) as client,
    ):
        for _ in range(3):
            client.execute("SELECT 1")
        with client.transaction():
            client.execute("CREATE TABLE t (a int)")
            client.execute("INSERT INTO t VALUES (%s)", [1])
        (stats,) = [row for row in show(connection, "STATS") if row["database"] == fresh_database]
        assert (stats["total_xact_count"], stats["total_client_login_count"]) == (4, 1)
        assert stats["total_query_count"] == 6  # BEGIN is the proxy's own answer
        assert stats["total_server_assignment_count"] == 4
        assert (stats["total_client_parse_count"], stats["total_bind_count"]) == (1, 1)
        assert stats["total_received"] > 0 < stats["total_sent"]
        assert stats["total_xact_time"] > 0
        assert stats["total_query_time"] is stats["total_server_parse_count"] is None
        totals = {row["name"]: row["value"] for row in show(connection, "TOTALS")}
        assert totals["total_xact_count"] >= 4


def test_the_configuration_is_shown_without_secrets(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(cluster.servers, health={"password": "hunter2"}, pool={"size": 7})
    with console(proxy) as connection:
        rows = {row["key"]: row for row in show(connection, "CONFIG")}
    assert (rows["pool.size"]["value"], rows["pool.size"]["default"]) == ("7", "20")
    assert rows["pool.size"]["changeable"] == "no"
    assert "hunter2" not in str(rows)


# --- Pgpool's


def test_pool_nodes_on_any_database(guarded: ProxyProcess) -> None:
    with psycopg.connect(guarded.dsn(), row_factory=dict_row) as client:
        nodes = client.execute("SHOW POOL_NODES").fetchall()
        assert [(node["role"], node["status"]) for node in nodes] == [
            ("primary", "up"),
            ("standby", "up"),
            ("standby", "up"),
        ]
        assert nodes[0]["replication_delay"] == "0"
        assert nodes[0]["select_cnt"] is None  # not counted
        # A replica that is new, or was late a moment ago, has less.
        while any(node["lb_weight"] != "0.333333" for node in nodes):
            time.sleep(0.05)
            nodes = client.execute("SHOW POOL_NODES").fetchall()
        # It took no server: in the same transaction as the rest, which goes on.
        assert client.execute("SELECT 1 AS one").fetchone() == {"one": 1}
        version = client.execute("SHOW pool_version", prepare=True).fetchone()
        assert version is not None
        assert version["pool_version"].startswith("pgproxy ")
        processes = client.execute("SHOW POOL_PROCESSES").fetchall()
        mine = [row for row in processes if row["pool_pid"] == str(client.info.backend_pid)]
        assert mine[0]["status"] == "Execute command"  # this one


async def test_two_of_them_in_one_batch_get_their_own_answers(guarded: ProxyProcess) -> None:
    async with await Wire.connect(guarded) as client:
        frames = await client.ask(
            wire.parse("SHOW POOL_VERSION", name="a"),
            wire.parse("SHOW POOL_VERSION", name="b"),
            wire.bind(statement="a"),
            wire.execute(),
            wire.bind(statement="b"),
            wire.execute(),
            wire.SYNC,
        )
        assert b"".join(kind for kind, _ in frames) == b"112DC2DCZ"
        # Different ones can only be answered one by one: PostgreSQL says what it thinks of them.
        frames = await client.ask(
            wire.parse("SHOW POOL_VERSION"),
            wire.bind(),
            wire.execute(),
            wire.parse("SHOW POOL_NODES"),
            wire.bind(),
            wire.execute(),
            wire.SYNC,
        )
        assert wire.errors(frames) == ["42704"]


# --- who may what


def test_who_may_only_look(guarded: ProxyProcess) -> None:
    with console(guarded, user="watcher") as connection:
        assert show(connection, "POOLS") is not None
        for command in ("RELOAD", "PAUSE", "SHUTDOWN", "KILL_CLIENT 1", "DISABLE x"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                connection.execute(command)  # type: ignore[call-overload]
        assert show(connection, "VERSION")


def test_everybody_else_stays_outside(guarded: ProxyProcess) -> None:
    with pytest.raises(psycopg.OperationalError, match="may not use the admin console"):
        console(guarded, user="somebody")


def test_with_trust_and_nobody_named_everybody_may_look(proxy: ProxyProcess) -> None:
    with console(proxy, user="somebody") as connection:
        assert show(connection, "STATE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("RELOAD")


def test_without_trust_nobody_may_who_is_not_named(
    cluster: Cluster, start_proxy: StartProxy, tmp_path: Path
) -> None:
    users = tmp_path / "users.txt"
    users.write_text('"postgres" "secret"\n"boss" "mine"\n')
    proxy = start_proxy(
        cluster.servers,
        auth={"method": "scram-sha-256", "users_file": str(users), "admin_users": ["boss"]},
    )
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(proxy.dsn("pgbouncer", "boss"), password="wrong")
    with pytest.raises(psycopg.OperationalError, match="may not use the admin console"):
        psycopg.connect(proxy.dsn("pgbouncer", "postgres"), password="secret")
    with psycopg.connect(
        proxy.dsn("pgbouncer", "boss"), password="mine", autocommit=True
    ) as connection:
        assert connection.execute("SHOW VERSION").fetchone() is not None
        # RELOAD reads the users file, and says what is wrong with it.
        users.write_text('"postgres" "secret"\n"boss" "mine"\n"new" "one"\n')
        connection.execute("RELOAD")
        names = [row[0] for row in connection.execute("SHOW USERS").fetchall()]
        assert names == ["boss", "new", "postgres"]
        users.write_text('"postgres')
        for _ in range(2):
            with pytest.raises(psycopg.errors.ConfigFileError, match="list of users"):
                connection.execute("RELOAD")
        assert len(connection.execute("SHOW USERS").fetchall()) == 3


def test_the_console_opens_when_there_are_too_many_clients(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(cluster.servers, listen={"max_clients": 1})
    with psycopg.connect(proxy.dsn()), console(proxy) as connection:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(proxy.dsn())
        lists = {row["list"]: row["items"] for row in show(connection, "LISTS")}
        assert lists["used_clients"] == 1


# --- what is refused


@pytest.mark.parametrize(
    ("command", "sqlstate"),
    [
        ("SELECT 1", "42601"),
        ("SHOW", "42601"),
        ("SHOW NOTHING", "42601"),
        ("SHOW FDS", "0A000"),
        ("SUSPEND", "0A000"),
        ("SET pool_mode = 'session'", "0A000"),
        ("PAUSE pgbouncer", "0A000"),
        ("RESUME", "55000"),
        ("RESUME nobody", "55000"),
        ("KILL_CLIENT 0", "42704"),
        ("KILL_CLIENT x", "42704"),
        ("SHUTDOWN NOW", "42601"),
    ],
)
def test_what_it_refuses(guarded: ProxyProcess, command: str, sqlstate: str) -> None:
    with console(guarded) as connection:
        for prepare in (False, True):
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(command, prepare=prepare)  # type: ignore[call-overload]
            assert refused.value.sqlstate == sqlstate
            if sqlstate == "42601":
                assert refused.value.diag.message_hint == "use SHOW HELP"
        assert show(connection, "VERSION")  # it goes on


def test_what_drivers_send_of_themselves(guarded: ProxyProcess) -> None:
    with console(guarded) as connection:
        connection.execute("SET extra_float_digits = 3")
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.execute("DISCARD ALL")
        assert show(connection, "transaction_isolation") == [
            {"transaction_isolation": "read committed"}
        ]
        assert connection.execute("").rowcount == -1


def test_a_transaction_that_failed_has_failed(guarded: ProxyProcess) -> None:
    with console(guarded) as connection:
        connection.autocommit = False
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SHOW VERSION")
        connection.rollback()
        assert show(connection, "VERSION")


async def test_messages_that_make_no_sense(guarded: ProxyProcess) -> None:
    for message, expected in (
        (wire.bind(statement="none"), "26000"),
        (wire.execute("none"), "34000"),
        (wire.parse("SHOW STATS; SHOW POOLS"), "42601"),
        (wire.parse("SHOW STATS") + wire.bind(b"1"), "08P01"),
    ):
        async with await Wire.connect(guarded, database="pgproxy") as client:
            frames = await client.ask(message, wire.SYNC)
            assert wire.errors(frames) == [expected]
            assert frames[-1] == (b"Z", b"I")
            frames = await client.ask(wire.query("SHOW VERSION"))
            assert b"".join(kind for kind, _ in frames) == b"TDCZ"
    async with await Wire.connect(guarded, database="pgproxy") as client:
        await client.send(b"?\0\0\0\4")
        assert wire.errors(await client.until(b"")) == ["08P01"]
    async with await Wire.connect(guarded, database="pgproxy") as client:
        await client.send(b"Q\x7f\0\0\0")
        assert wire.errors(await client.until(b"")) == ["08P01"]


# --- commands


async def test_pause_waits_for_transactions_and_holds_what_comes(
    guarded: ProxyProcess, fresh_database: str
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        await Wire.connect(guarded, database="pgbouncer") as admin,
        await Wire.connect(guarded, database="pgbouncer") as other,
        await Wire.connect(guarded, database=fresh_database) as busy,
        await Wire.connect(guarded, database=fresh_database) as late,
    ):
        await busy.ask(wire.query("CREATE TABLE t (a int)"))
        await late.ask(wire.query("SELECT 1"))
        await busy.ask(wire.query("BEGIN"))
        await busy.ask(wire.query("INSERT INTO t VALUES (1)"))

        paused = loop.create_task(admin.ask(wire.query(f"PAUSE {fresh_database}")))
        await eventually(lambda: database(guarded, fresh_database)["paused"] == 1)
        asked = loop.create_task(late.ask(wire.query("SELECT count(*) FROM t")))
        await eventually(lambda: waiting(guarded, fresh_database) == ["paused"])
        assert not paused.done()  # the transaction still runs, and is served
        assert wire.errors(await busy.ask(wire.query("INSERT INTO t VALUES (2)"))) == []
        # Of another database nothing is held.
        async with await Wire.connect(guarded) as stranger:
            assert wire.rows(await stranger.ask(wire.query("SELECT 1"))) == [[b"1"]]

        await busy.ask(wire.query("COMMIT"))
        assert [kind for kind, _ in await paused] == [b"C", b"Z"]
        assert not asked.done()
        assert database(guarded, fresh_database)["current_connections"] == 0
        frames = await admin.ask(wire.query(f"PAUSE {fresh_database}"))
        assert wire.errors(frames) == ["55000"]  # already

        await other.ask(wire.query(f"RESUME {fresh_database}"))
        assert wire.rows(await asked) == [[b"2"]]
        assert waiting(guarded, fresh_database) == []


def rows_of(proxy: ProxyProcess, what: str) -> list[Row]:
    with console(proxy, user="watcher") as connection:
        return show(connection, what)


def database(proxy: ProxyProcess, name: str) -> Row:
    (row,) = [row for row in rows_of(proxy, "DATABASES") if row["name"] == name]
    return row


def waiting(proxy: ProxyProcess, name: str) -> list[str]:
    return [
        row["wait_reason"]
        for row in rows_of(proxy, "CLIENTS")
        if row["database"] == name and row["state"] == "waiting"
    ]


async def test_a_pause_that_is_given_up_holds_nobody(
    guarded: ProxyProcess, fresh_database: str
) -> None:
    async with await Wire.connect(guarded, database=fresh_database) as busy:
        await busy.ask(wire.query("BEGIN"), wire.query("SELECT 1 FOR UPDATE"))
        # Cancelled, as by Ctrl-C in psql.
        async with await Wire.connect(guarded, database="pgbouncer") as admin:
            await admin.send(wire.query(f"PAUSE {fresh_database}"))
            await eventually(lambda: database(guarded, fresh_database)["paused"] == 1)
            async with await Wire.open(guarded) as canceller:
                await canceller.send(wire.cancel_request(*admin.key()))
                assert await canceller.until(b"") == []
            assert wire.errors(await admin.until(b"Z")) == ["57014"]
            assert database(guarded, fresh_database)["paused"] == 0
            assert [kind for kind, _ in await admin.ask(wire.query("RELOAD"))] == [b"N", b"C", b"Z"]
        # Its console gone.
        async with await Wire.connect(guarded, database="pgbouncer") as admin:
            await admin.send(wire.query(f"PAUSE {fresh_database}"))
            await eventually(lambda: database(guarded, fresh_database)["paused"] == 1)
        await eventually(lambda: database(guarded, fresh_database)["paused"] == 0)
        # Another console says RESUME.
        async with await Wire.connect(guarded, database="pgbouncer") as admin:
            await admin.send(wire.query(f"PAUSE {fresh_database}"))
            await eventually(lambda: database(guarded, fresh_database)["paused"] == 1)
            with console(guarded) as other:
                other.execute(f"RESUME {fresh_database}")  # type: ignore[call-overload]
            assert wire.errors(await admin.until(b"Z")) == ["57014"]


async def test_all_is_paused_and_who_waits_too_long_is_told(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, cluster.servers, auth={"admin_users": ["postgres"]}, pool={"wait_timeout": 0.3}
    )
    async with await Wire.connect(proxy) as client:
        await client.ask(wire.query("SELECT 1"))
        async with await Wire.connect(proxy, database="pgproxy") as admin:
            assert [kind for kind, _ in await admin.ask(wire.query("PAUSE"))] == [b"C", b"Z"]
            state = wire.rows(await admin.ask(wire.query("SHOW STATE")))
            assert [b"paused", b"yes"] in state
            frames = await client.ask(wire.query("SELECT 1"))
            told = wire.fields(frames[0][1])
            assert (told["C"], told["M"]) == ("57P03", 'database "postgres" is paused')
            assert wire.errors(await admin.ask(wire.query("RESUME postgres"))) == ["55000"]
            await admin.ask(wire.query("RESUME"))
        assert wire.rows(await client.ask(wire.query("SELECT 1"))) == [[b"1"]]


def test_kill_client(guarded: ProxyProcess, fresh_database: str) -> None:
    with (
        console(guarded) as connection,
        psycopg.connect(guarded.dsn(fresh_database), autocommit=True) as victim,
        psycopg.connect(guarded.dsn(fresh_database), autocommit=True) as spared,
    ):
        victim.execute("CREATE TEMP TABLE t (a int)")
        number = victim.info.backend_pid
        assert sorted(ids(connection, fresh_database)) == sorted([number, spared.info.backend_pid])
        connection.execute(f"KILL_CLIENT {number}")  # type: ignore[call-overload]
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            victim.execute("SELECT 1")
        while number in ids(connection, fresh_database):
            pass
        assert ids(connection, fresh_database) == [spared.info.backend_pid]
        assert spared.execute("SELECT 1").fetchone() == (1,)


def test_kill_client_ends_a_session_of_the_console(guarded: ProxyProcess) -> None:
    with console(guarded) as connection, console(guarded, user="watcher") as other:
        number = other.info.backend_pid
        connection.execute(f"KILL_CLIENT {number}")  # type: ignore[call-overload]
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            show(other, "VERSION")
        assert number not in ids(connection, "pgbouncer")


async def test_kill_drops_clients_and_holds_new_ones(
    guarded: ProxyProcess, fresh_database: str
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        await Wire.connect(guarded, database="pgbouncer") as admin,
        await Wire.connect(guarded, database=fresh_database) as idle,
        await Wire.connect(guarded, database=fresh_database) as busy,
    ):
        await idle.ask(wire.query("SELECT 1"))
        await busy.send(wire.query("SELECT pg_sleep(60)"))
        await eventually(lambda: pool(guarded, fresh_database)["sv_active"] == 1)
        assert wire.errors(await admin.ask(wire.query(f"KILL {fresh_database}"))) == []
        assert wire.errors(await idle.until(b"")) == ["57P01"]
        assert wire.errors(await busy.until(b"")) == ["57P01"]
        new = loop.create_task(Wire.connect(guarded, database=fresh_database))
        client = None
        try:
            await eventually(lambda: database(guarded, fresh_database)["current_connections"] == 0)
            await admin.ask(wire.query(f"RESUME {fresh_database}"))
            client = await new
            assert wire.rows(await client.ask(wire.query("SELECT 1"))) == [[b"1"]]
        finally:
            if client is not None:
                await client.close()


def pool(proxy: ProxyProcess, name: str) -> Row:
    (row,) = [row for row in rows_of(proxy, "POOLS") if row["database"] == name]
    return row


async def test_reconnect_and_wait_close(guarded: ProxyProcess, fresh_database: str) -> None:
    loop = asyncio.get_running_loop()
    async with (
        await Wire.connect(guarded, database="pgbouncer") as admin,
        await Wire.connect(guarded, database=fresh_database) as busy,
        await Wire.connect(guarded, database=fresh_database) as idle,
    ):
        old = wire.rows(await idle.ask(wire.query(ON_PRIMARY)))
        await busy.ask(wire.query("BEGIN"), wire.query(ON_PRIMARY))
        await busy.ask(wire.query("SELECT 1"))
        await admin.ask(wire.query(f"RECONNECT {fresh_database}"))
        closing = loop.create_task(admin.ask(wire.query(f"WAIT_CLOSE {fresh_database}")))
        marked = [row["close_needed"] for row in rows_of(guarded, "SERVERS") if row["database"] == fresh_database and row["state"] == "active"]  # fmt: skip
        assert marked == [1]
        # Others get new connections meanwhile.
        assert wire.rows(await idle.ask(wire.query(ON_PRIMARY))) != old
        assert not closing.done()
        await busy.ask(wire.query("COMMIT"))
        assert [kind for kind, _ in await closing] == [b"C", b"Z"]


def test_disable_and_enable(guarded: ProxyProcess, fresh_database: str) -> None:
    with (
        console(guarded) as connection,
        psycopg.connect(guarded.dsn(fresh_database), autocommit=True) as old,
    ):
        connection.execute(f"DISABLE {fresh_database}")  # type: ignore[call-overload]
        with pytest.raises(psycopg.OperationalError, match="is disabled"):
            psycopg.connect(guarded.dsn(fresh_database))
        assert old.execute("SELECT 1").fetchone() == (1,)
        assert database(guarded, fresh_database)["disabled"] == 1
        connection.execute(f"ENABLE {fresh_database}")  # type: ignore[call-overload]
        with psycopg.connect(guarded.dsn(fresh_database)) as new:
            assert new.execute("SELECT 1").fetchone() == (1,)


# --- the drain


async def test_shutdown_drains_and_the_console_stays_to_the_end(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(
        start_proxy, cluster.servers, auth={"admin_users": ["postgres"]}
    )
    async with (
        await Wire.connect(proxy, database="pgbouncer") as admin,
        await Wire.connect(proxy) as client,
    ):
        await client.ask(wire.query("BEGIN"))
        await client.ask(wire.query("SELECT 1"))
        assert [kind for kind, _ in await admin.ask(wire.query("SHUTDOWN"))] == [b"C", b"Z"]
        await eventually(lambda: status(proxy)["draining"])
        state = wire.rows(await admin.ask(wire.query("SHOW STATE")))
        assert [b"draining", b"yes"] in state
        assert wire.errors(await admin.ask(wire.query("SHUTDOWN"))) == ["55000"]
        assert wire.errors(await admin.ask(wire.query("PAUSE"))) == ["55000"]
        frames = await admin.ask(wire.parse("SHOW CLIENTS"), wire.bind(), wire.execute(), wire.SYNC)
        assert {row[2] for row in wire.rows(frames)} == {b"postgres", b"pgbouncer"}
        await client.ask(wire.query("COMMIT"))
        assert wire.errors(await client.until(b"")) == ["57P01"]
        assert wire.errors(await admin.until(b"")) == ["57P01"]
    await asyncio.to_thread(proxy.wait_end)


async def test_sessions_of_the_console_hold_up_no_drain(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with await Wire.connect(proxy, database="pgbouncer") as admin:
        proxy.process.send_signal(signal.SIGTERM)
        assert wire.errors(await admin.until(b"")) == ["57P01"]
        await asyncio.to_thread(proxy.wait_end)


# --- pool.mode


def test_modes_by_database_and_by_user(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    cluster.primary.psql("CREATE ROLE one_by_one LOGIN")
    cluster.wait_caught_up()
    try:
        proxy = start_proxy(
            cluster.servers,
            **{
                f"pool.databases.{fresh_database}": {"mode": "session"},
                "pool.users.one_by_one": {"mode": "statement"},
            },
        )
        with (
            console(proxy) as connection,
            psycopg.connect(proxy.dsn(fresh_database), autocommit=True) as session,
            psycopg.connect(proxy.dsn(), autocommit=True) as transaction,
            psycopg.connect(proxy.dsn(fresh_database, "one_by_one"), autocommit=True) as statement,
        ):
            for client in (session, transaction, statement):
                client.execute("SELECT 1")
            pins = {row["id"]: row["pin"] for row in show(connection, "CLIENTS")}
            assert pins[session.info.backend_pid] == "pool_mode"
            assert pins[transaction.info.backend_pid] == pins[statement.info.backend_pid] == ""
            with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
                statement.execute("BEGIN")
            assert refused.value.diag.message_detail == (
                'pool.users.one_by_one.mode is "statement".'
            )
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                statement.execute("BEGIN", prepare=True)
            statement.execute("SELECT 1; SELECT 2")
            session.execute("BEGIN")
            session.execute("COMMIT")
            modes = {
                (row["database"], row["user"]): row["pool_mode"]
                for row in show(connection, "POOLS")
            }
            assert modes == {
                (fresh_database, "postgres"): "session",
                ("postgres", "postgres"): "transaction",
                (fresh_database, "one_by_one"): "statement",
            }
            databases = {row["name"]: row["pool_mode"] for row in show(connection, "DATABASES")}
            assert databases == {fresh_database: "session", "postgres": "transaction"}
            users = {row["name"]: row["pool_mode"] for row in show(connection, "USERS")}
            assert users == {"one_by_one": "statement", "postgres": None}
        proxy.stop()
    finally:
        cluster.primary.psql("DROP ROLE one_by_one")
