"""psycopg 3 at its usual work, with and without asyncio: the proxy changes nothing it sees.

Each job is done twice, over a direct connection and through the proxy, and returns what it saw.
What a job has written it reads only where replicas cannot lag: in its transaction, or by RETURNING.
"""

import asyncio
import datetime
import decimal
import ipaddress
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import pytest
from psycopg import AsyncConnection, Connection, IsolationLevel, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import WhenAsleep, cancel_asleep

Job = Callable[[Connection[Any]], object]

SCHEMA: Final = """
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, price numeric);
INSERT INTO items SELECT n, 'item ' || n, n * 1.25 FROM generate_series(1, 500) n;
CREATE TABLE sink (n int, s text, at timestamptz);
"""


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[str]:
    """Its `sink` is left empty by every test."""
    name = "work_of_psycopg"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    cluster.primary.psql(SCHEMA, name)
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


# When a statement is prepared: never, at once, after its first use.
@pytest.fixture(params=[None, 0, 1], ids=["unprepared", "prepared", "prepared later"])
def both(
    request: pytest.FixtureRequest, cluster: Cluster, database: str, proxy: ProxyProcess
) -> Callable[[Job], None]:
    """Does a job on a direct connection and through the proxy, and compares what it returned."""

    def compare(job: Job) -> None:
        results = []
        for address in (cluster.primary, proxy):
            with psycopg.connect(address.dsn(database), autocommit=True) as connection:
                connection.prepare_threshold = request.param
                results.append(job(connection))
        assert results[1] == results[0]
        assert results[0] is not None

    return compare


def failure(call: Callable[[], object]) -> tuple[str | None, str]:
    """How it failed, in PostgreSQL's words."""
    with pytest.raises(psycopg.Error) as caught:
        call()
    return caught.value.sqlstate, str(caught.value)


def test_queries(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        for number in range(6):  # past every threshold
            row = connection.execute("SELECT * FROM items WHERE id = %s", (number,)).fetchone()
            seen.append(row)
        seen.append(connection.execute("SELECT * FROM items ORDER BY id").fetchall())
        cursor = connection.cursor(row_factory=dict_row, binary=True)
        seen.append(cursor.execute("SELECT * FROM items WHERE id < 5 ORDER BY id").fetchall())
        seen.append([column.name for column in cursor.description or ()])
        cursor = connection.cursor()
        cursor.execute("SELECT 1; SELECT 2; SELECT 3", prepare=False)
        seen.append([list(result) for result in cursor.results()])
        rows = [(n, f"row {n}") for n in range(500)]
        cursor.executemany(
            "INSERT INTO sink (n, s) VALUES (%s, %s) RETURNING n", rows, returning=True
        )
        seen.append([result.fetchall() for result in cursor.results()])
        name = sql.Identifier("sink")
        seen.append(connection.execute(sql.SQL("DELETE FROM {} ").format(name)).rowcount)
        seen.append(connection.execute("SHOW TimeZone").fetchall())
        return seen

    both(job)


def test_errors(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        for text in ("SELEC 1", "SELECT * FROM missing", "SELECT 1/0", "SELECT 'x'::int"):
            seen += [failure(lambda text=text: connection.execute(text)) for _ in range(3)]
            seen.append(connection.execute("SELECT %s::int", (5,)).fetchall())
        wrong = "INSERT INTO items VALUES (%s, %s, 0)"
        for _ in range(3):
            seen.append(failure(lambda: connection.execute(wrong, (1, "again"))))
            seen.append(failure(lambda: connection.execute(wrong, (9999, None))))
        return seen

    both(job)


def test_adapters(both: Callable[[Job], None]) -> None:
    values: list[tuple[str, object]] = [
        ("int8", 2**62),
        ("numeric", decimal.Decimal("12345678901234567890.0987654321")),
        ("float8", 1.5),
        ("bool", True),
        ("text", "süß € 🐘"),
        ("text", None),
        ("bytea", bytes(range(256))),
        ("date", datetime.date(2024, 2, 29)),
        ("timestamptz", datetime.datetime(2024, 2, 29, 12, 34, 56, tzinfo=datetime.UTC)),
        ("interval", datetime.timedelta(days=3, seconds=7)),
        ("uuid", uuid.UUID(int=7)),
        ("inet", ipaddress.ip_interface("10.0.0.1/8")),
        ("jsonb", Jsonb({"b": [1, None]})),
        ("int[]", [1, None, 3]),
        ("text[]", [["a", "b"], ["c", 'd "e"']]),
        ("int4range", Range(1, 5)),
    ]

    def job(connection: Connection[Any]) -> object:
        return [
            connection.execute(f"SELECT %{code}::{name}", (value,), binary=binary).fetchone()
            for name, value in values
            for code in "stb"
            for binary in (False, True)
        ]

    both(job)


def test_server_side_cursors(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        for read_only in (False, True):
            connection.read_only = read_only
            with connection.transaction(), connection.cursor("c", scrollable=True) as cursor:
                cursor.execute("SELECT id, name FROM items WHERE id > %s ORDER BY id", (10,))
                seen.append(cursor.fetchmany(5))
                seen.append(connection.execute("SELECT 'between'").fetchone())
                cursor.scroll(100)
                seen.append(cursor.fetchone())
                cursor.scroll(-3)
                cursor.itersize = 50
                seen.append(list(cursor))
        connection.read_only = None
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT id FROM items ORDER BY id")
            seen.append(cursor.fetchmany(3))
            seen.append(connection.execute("SELECT count(*) FROM items").fetchall())
            seen.append(cursor.fetchmany(3))
        for read in (1, 7):
            with connection.cursor() as cursor:
                seen.append(list(cursor.stream("SELECT * FROM items ORDER BY id", size=read)))
        return seen

    both(job)


def test_copy(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        cursor = connection.cursor()
        at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
        with connection.transaction():
            with cursor.copy("COPY sink FROM STDIN") as copy:
                for number in range(3000):
                    copy.write_row((number, "text\t\\\n", at if number % 2 else None))
            seen.append(cursor.statusmessage)
            with cursor.copy("COPY sink FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int4", "text", "timestamptz"])
                for number in range(3000, 6000):
                    copy.write_row((number, "x" * 100, at))
            seen.append(cursor.statusmessage)
            for form in ("text", "csv", "binary"):
                query = f"COPY (SELECT * FROM sink ORDER BY n) TO STDOUT (FORMAT {form})"
                with cursor.copy(query) as copy:
                    seen.append(b"".join(copy))
            with cursor.copy(
                "COPY (SELECT n, s FROM sink WHERE n < %s ORDER BY n) TO STDOUT", (9,)
            ) as copy:
                seen.append(list(copy.rows()))
        with cursor.copy("COPY (SELECT * FROM items ORDER BY id) TO STDOUT") as copy:
            seen.append(b"".join(copy))

        def break_off() -> None:
            with cursor.copy("COPY sink FROM STDIN") as copy:
                copy.write("1\tone\n")
                copy.write("no number\ttwo\n")

        seen.append(failure(break_off))
        with (
            pytest.raises(ZeroDivisionError),
            cursor.copy("COPY sink FROM STDIN") as copy,
        ):
            copy.write(f"{1 // 0}")
        seen.append(connection.execute("DELETE FROM sink").rowcount)
        return seen

    both(job)


def test_pipeline_mode(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        with connection.pipeline() as pipeline:
            cursors = [
                connection.execute("SELECT %s::int, repeat('x', %s)", (n, n)) for n in range(300)
            ]
            pipeline.sync()
            insert = connection.execute("INSERT INTO sink VALUES (1) RETURNING n")
            found = connection.execute("DELETE FROM sink RETURNING n")
            pipeline.sync()
            seen += [cursor.fetchall() for cursor in cursors]
            seen += [insert.fetchall(), found.fetchall()]
        # An error aborts what follows up to the next sync. Which call raises it is a matter of time.
        firsts = []
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:  # noqa: PT012
            firsts.append(connection.execute("SELECT 1"))
            connection.execute("SELECT 1 / %s", (0,))
            connection.execute("INSERT INTO sink VALUES (2)")
            pipeline.sync()
        seen += [firsts[0].fetchall(), connection.execute("SELECT 'after'").fetchall()]
        with connection.pipeline(), connection.transaction():
            cursors = [connection.execute("INSERT INTO sink VALUES (%s)", (n,)) for n in range(50)]
            count = connection.execute("SELECT count(*) FROM sink")
            connection.execute("DELETE FROM sink")
            seen.append(count.fetchone())
        return seen

    both(job)


def test_transactions(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        for level in (None, *IsolationLevel):
            for read_only in (None, False, True):
                connection.isolation_level, connection.read_only = level, read_only
                with connection.transaction():
                    seen += [
                        connection.execute(f"SHOW transaction_{name}").fetchone()
                        for name in ("isolation", "read_only", "deferrable")
                    ]
                    seen.append(connection.execute("SELECT count(*) FROM items").fetchone())
        connection.isolation_level = connection.read_only = None
        with connection.transaction():
            connection.execute("INSERT INTO sink VALUES (1)")
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction("inner"):
                connection.execute("INSERT INTO sink VALUES (2), (1/0)")
            with connection.transaction() as inner:
                connection.execute("INSERT INTO sink VALUES (3)")
                raise psycopg.Rollback(inner)
            seen.append(connection.execute("SELECT n FROM sink").fetchall())
            connection.execute("DELETE FROM sink")
        connection.autocommit = False
        connection.execute("INSERT INTO sink VALUES (4)")
        seen.append(connection.info.transaction_status)
        seen.append(failure(lambda: connection.execute("SELECT 1/0")))
        seen.append(failure(lambda: connection.execute("SELECT 1")))
        seen.append(connection.info.transaction_status)
        connection.rollback()
        seen.append(connection.execute("SELECT count(*) FROM items").fetchone())
        connection.commit()
        seen.append(connection.info.transaction_status)
        return seen

    both(job)


def test_two_phases(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        connection.autocommit = False
        xid = connection.xid(1, "global", "branch")
        connection.tpc_begin(xid)
        connection.execute("INSERT INTO sink VALUES (1)")
        seen = failure(connection.tpc_prepare)  # max_prepared_transactions is 0
        connection.close()
        return seen

    both(job)


def test_cancel(cluster: Cluster, database: str, both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        for text in ("SELECT pg_sleep(50)", "SELECT pg_sleep(50) FROM items FOR UPDATE"):
            for cancel in (connection.cancel, connection.cancel_safe):
                with WhenAsleep(cluster, database, cancel):
                    seen.append(failure(lambda text=text: connection.execute(text)))
                seen.append(connection.execute("SELECT 'on'").fetchone())
        return seen

    both(job)


def test_notices_and_notifications(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        connection.add_notice_handler(lambda notice: seen.append(notice.message_primary))
        connection.execute("DO $$ BEGIN RAISE NOTICE 'hear'; RAISE WARNING 'hear!'; END $$")
        connection.execute("LISTEN news")
        connection.execute("NOTIFY news, 'one'")
        connection.execute("SELECT pg_notify('news', 'two')")
        seen += [(notify.channel, notify.payload) for notify in connection.notifies(stop_after=2)]
        connection.execute("UNLISTEN *")
        return seen

    both(job)


def test_session_state(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        seen: list[object] = []
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        seen.append(connection.info.parameter_status("TimeZone"))
        connection.execute("SELECT set_config('search_path', 'pg_catalog', false)")
        seen.append(failure(lambda: connection.execute("SELECT * FROM items")))
        connection.execute("RESET search_path")
        connection.execute("CREATE TEMP TABLE mine AS SELECT 1 AS a")
        seen.append(connection.execute("SELECT * FROM mine JOIN items ON a = id").fetchall())
        seen.append(connection.info.encoding)
        return seen

    both(job)


def test_large_values(both: Callable[[Job], None]) -> None:
    def job(connection: Connection[Any]) -> object:
        text = "ä" * 5_000_000
        data = bytes(range(256)) * 40_000
        row = connection.execute("SELECT %s, %b", (text, data)).fetchone()
        assert row == (text, data)
        row = connection.execute("SELECT %s", (text,), binary=True).fetchone()
        assert row == (text,)
        with connection.transaction():
            connection.execute("INSERT INTO sink (s) VALUES (%s)", (text,))
            assert connection.execute("DELETE FROM sink RETURNING s").fetchone() == (text,)
        return "done"

    both(job)


# --- with asyncio


async def test_many_async_connections(cluster: Cluster, database: str, proxy: ProxyProcess) -> None:
    async def work(dsn: str) -> object:
        async def one(number: int) -> object:
            async with await AsyncConnection.connect(dsn) as connection:
                connection.prepare_threshold = number % 3
                seen: list[object] = []
                for n in range(5):
                    cursor = await connection.execute(
                        "SELECT name FROM items WHERE id = %s", (number + n,)
                    )
                    seen.append(await cursor.fetchall())
                await connection.commit()
                async with connection.pipeline():
                    cursors = [
                        await connection.execute("SELECT %s::int", (n,)) for n in range(number)
                    ]
                    seen.append([await cursor.fetchone() for cursor in cursors])
                async with connection.cursor("c") as named:
                    await named.execute("SELECT id FROM items ORDER BY id")
                    seen.append(await named.fetchmany(number))
                async with connection.cursor() as copying:
                    async with copying.copy("COPY sink FROM STDIN") as copy:
                        await copy.write_row((number, "x", None))
                    seen.append(copying.statusmessage)
                    count = "SELECT n FROM sink WHERE n = %s"
                    seen.append(await (await copying.execute(count, (number,))).fetchall())
                await connection.rollback()
                return seen

        return await asyncio.gather(*(one(number) for number in range(40)))

    assert await work(proxy.dsn(database)) == await work(cluster.primary.dsn(database))


async def test_a_cancelled_task(cluster: Cluster, database: str, proxy: ProxyProcess) -> None:
    async def work(dsn: str) -> object:
        async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(connection.execute("SELECT pg_sleep(50)"))
                await cancel_asleep(cluster, database, task)
            assert task.cancelled()
            cursor = await connection.execute("SELECT 'on'")
            return await cursor.fetchall()

    assert await work(proxy.dsn(database)) == await work(cluster.primary.dsn(database))
