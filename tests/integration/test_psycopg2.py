"""psycopg2 at its usual work: through the proxy it gets what PostgreSQL gives it directly.

Each job is done twice, over a direct connection and through the proxy, and returns what it saw.
What a job has written it reads only where replicas cannot lag: in its transaction, or by RETURNING.
"""

import datetime
import decimal
import io
import select
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import WhenAsleep

pytestmark = pytest.mark.once

Connection = Any  # psycopg2 has no types
Job = Callable[[Connection], object]

SCHEMA: Final = """
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, price numeric);
INSERT INTO items SELECT n, 'item ' || n, n * 1.25 FROM generate_series(1, 500) n;
CREATE TABLE sink (n int, s text, at timestamptz);
"""


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[str]:
    """Its `sink` is left empty by every test."""
    name = "work_of_psycopg2"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    cluster.primary.psql(SCHEMA, name)
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=[False, True], ids=["transactions", "autocommit"])
def both(
    request: pytest.FixtureRequest, cluster: Cluster, database: str, proxy: ProxyProcess
) -> Callable[[Job], None]:
    """Does a job on a direct connection and through the proxy, and compares what it returned."""

    def compare(job: Job) -> None:
        results = []
        for address in (cluster.primary, proxy):
            connection = psycopg2.connect(address.dsn(database))
            try:
                connection.autocommit = request.param
                results.append(job(connection))
            finally:
                connection.close()
        assert results[1] == results[0]
        assert results[0] is not None

    return compare


def ask(connection: Connection, sql: str, values: object = None) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else (cursor.statusmessage, cursor.rowcount)


def failure(call: Callable[[], object]) -> tuple[str | None, str]:
    """How it failed, in PostgreSQL's words."""
    with pytest.raises(psycopg2.Error) as caught:
        call()
    return caught.value.pgcode, str(caught.value)


def test_queries(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        seen = [
            ask(connection, "SELECT * FROM items ORDER BY id"),
            ask(connection, "SELECT * FROM items WHERE id = %s", (7,)),
            ask(connection, "SELECT 1; SELECT 2"),
            ask(connection, "INSERT INTO sink VALUES (1, %s, now()) RETURNING n, s", ("it's",)),
            ask(connection, "UPDATE sink SET n = 2"),
            ask(connection, "DELETE FROM sink"),
            ask(connection, "SHOW search_path"),
        ]
        with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute("SELECT * FROM items WHERE id IN %s ORDER BY id", ((1, 2, 3),))
            seen.append(cursor.fetchall())
            rows = [(n, f"row {n}", None) for n in range(300)]
            psycopg2.extras.execute_values(cursor, "INSERT INTO sink VALUES %s", rows, page_size=70)
            psycopg2.extras.execute_batch(cursor, "INSERT INTO sink VALUES (%s, %s, %s)", rows)
            cursor.execute("DELETE FROM sink RETURNING n")
            seen.append(sorted(row["n"] for row in cursor.fetchall()))
        connection.commit()
        return seen

    both(job)


def test_adapters(both: Callable[[Job], None]) -> None:
    values: list[tuple[str, object]] = [
        ("int8", 2**62),
        ("numeric", decimal.Decimal("12345678901234567890.0987654321")),
        ("bool", True),
        ("text", "süß € 🐘 'quoted' \\"),
        ("bytea", psycopg2.Binary(bytes(range(256)))),
        ("date", datetime.date(2024, 2, 29)),
        ("timestamptz", datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)),
        ("interval", datetime.timedelta(days=3, seconds=7)),
        ("jsonb", psycopg2.extras.Json({"b": [1, None]})),
        ("int[]", [1, None, 3]),
        ("int4range", psycopg2.extras.NumericRange(1, 5)),
    ]

    def job(connection: Connection) -> object:
        rows = []
        for name, value in values:
            [[found]] = ask(connection, f"SELECT %s::{name}", (value,))  # type: ignore[misc]
            rows.append(bytes(found) if isinstance(found, memoryview) else found)
        return rows

    both(job)


def test_errors_and_transactions(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        seen: list[object] = []
        for sql in (
            "SELEC 1",
            "SELECT * FROM missing",
            "SELECT 1/0",
            "INSERT INTO items VALUES (1, 'again', 0)",
        ):
            seen.append(failure(lambda sql=sql: ask(connection, sql)))
            seen.append(connection.info.transaction_status)
            if not connection.autocommit:
                seen.append(failure(lambda: ask(connection, "SELECT 1")))
            connection.rollback()
            seen.append(ask(connection, "SELECT 'on'"))
        connection.commit()
        with connection:
            ask(connection, "INSERT INTO sink VALUES (1)")
        with pytest.raises(psycopg2.errors.DivisionByZero), connection:
            ask(connection, "INSERT INTO sink VALUES (2), (1/0)")
        seen.append(ask(connection, "DELETE FROM sink RETURNING n"))
        connection.commit()
        return seen

    both(job)


def test_set_session(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        seen: list[object] = []
        for isolation in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "DEFAULT"):
            for read_only in (True, False, "DEFAULT"):
                connection.set_session(isolation, readonly=read_only, deferrable="DEFAULT")
                seen += [
                    ask(connection, "SHOW transaction_isolation"),
                    ask(connection, "SHOW transaction_read_only"),
                    ask(connection, "SELECT count(*) FROM items"),
                ]
                if read_only is True:
                    seen.append(failure(lambda: ask(connection, "DELETE FROM items")))
                connection.rollback()
        connection.set_client_encoding("LATIN1")
        seen += [connection.encoding, ask(connection, "SELECT 'ü' || %s", ("é",))]
        connection.commit()
        return seen

    both(job)


def test_named_cursors(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        seen: list[object] = []
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT id FROM items ORDER BY id")
            seen.append(cursor.fetchmany(5))
            connection.commit()
            seen += [ask(connection, "SELECT 'between'"), cursor.fetchmany(5)]
        connection.commit()
        connection.autocommit = False
        with connection.cursor("scrolled", scrollable=True) as cursor:
            cursor.itersize = 30
            cursor.execute("SELECT * FROM items WHERE id > %s ORDER BY id", (10,))
            seen.append(cursor.fetchone())
            cursor.scroll(100)
            seen.append(cursor.fetchmany(3))
            cursor.scroll(5, mode="absolute")
            seen.append(list(cursor))
        connection.commit()
        return seen

    both(job)


def test_copy(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        seen: list[object] = []
        connection.autocommit = False
        with connection.cursor() as cursor:
            data = "".join(f"{n}\ttext {n}\t\\N\n" for n in range(20000))
            cursor.copy_from(io.StringIO(data), "sink")
            seen.append(cursor.rowcount)
            out = io.StringIO()
            cursor.copy_to(out, "sink")
            # In any order: rows may fill the places that an earlier, rolled-back COPY has left.
            assert sorted(out.getvalue().splitlines()) == sorted(data.splitlines())
            cursor.copy_expert("COPY sink FROM STDIN (FORMAT csv)", io.StringIO('1,"a,b",\n'))
            binary = io.BytesIO()
            cursor.copy_expert(
                "COPY (SELECT * FROM sink ORDER BY 1, 2) TO STDOUT (FORMAT binary)", binary
            )
            seen.append(binary.getvalue())
            seen.append(failure(lambda: cursor.copy_from(io.StringIO("x\ty\n"), "sink")))
        connection.rollback()
        connection.autocommit = True
        with connection.cursor() as cursor:
            out = io.StringIO()
            cursor.copy_expert("COPY (SELECT * FROM items ORDER BY id) TO STDOUT", out)
            seen.append(out.getvalue())
            seen.append(failure(lambda: cursor.copy_from(io.StringIO("x\ty\tz\n"), "sink")))
            # Longer than a buffer: the error comes while the driver still sends.
            seen.append(failure(lambda: cursor.copy_from(io.StringIO("x\n" * 500_000), "sink")))
        return seen

    both(job)


def test_cancel(cluster: Cluster, database: str, both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        seen: list[object] = []
        for sql in ("SELECT pg_sleep(50)", "SELECT pg_sleep(50) FROM items FOR UPDATE"):
            with WhenAsleep(cluster, database, connection.cancel):
                seen.append(failure(lambda sql=sql: ask(connection, sql)))
            connection.rollback()
            seen.append(ask(connection, "SELECT 'on'"))
        return seen

    both(job)


def test_large_objects(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        connection.autocommit = False
        seen: list[object] = []
        data = bytes(range(256)) * 1000
        with connection:
            large = connection.lobject(0, "wb")
            seen.append(large.write(data))
            large.close()
        with connection:
            large = connection.lobject(large.oid, "rwb")
            seen += [large.read(100), large.seek(-10, 2), large.read(), large.tell()]
            large.truncate(50)
            large.seek(0)
            seen.append(large.read())
        with connection:
            large.unlink()
            oid = large.oid
            seen.append(failure(lambda: connection.lobject(oid))[0])
        return seen

    both(job)


def test_notifications(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        connection.autocommit = True
        ask(connection, "LISTEN news")
        ask(connection, "NOTIFY news, 'one'")
        ask(connection, "SELECT pg_notify('news', 'two')")
        while len(connection.notifies) < 2:
            select.select([connection], [], [])
            connection.poll()
        ask(connection, "DO $$ BEGIN RAISE NOTICE 'hear'; END $$")
        return [(one.channel, one.payload) for one in connection.notifies], connection.notices

    both(job)


def test_large_values(both: Callable[[Job], None]) -> None:
    def job(connection: Connection) -> object:
        text = "ä" * 5_000_000
        assert ask(connection, "SELECT %s", (text,)) == [(text,)]
        assert ask(connection, "INSERT INTO sink (s) VALUES (%s) RETURNING s", (text,)) == [(text,)]
        ask(connection, "DELETE FROM sink")
        return ask(connection, "SELECT length(repeat('x', 10000000))")

    both(job)
