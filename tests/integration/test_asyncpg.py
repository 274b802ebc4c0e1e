"""asyncpg at its usual work: through the proxy it gets what PostgreSQL gives it directly.

Each job is done twice, over a direct connection and through the proxy, and returns what it saw.
What a job has written it reads only where replicas cannot lag: in its transaction, or by RETURNING.
"""

import asyncio
import datetime
import decimal
import io
import ipaddress
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import asyncpg
import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import cancel_asleep

Connection = Any  # asyncpg's own, which has no types
Job = Callable[[Connection], Awaitable[object]]

SCHEMA: Final = """
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, price numeric);
INSERT INTO items SELECT n, 'item ' || n, n * 1.25 FROM generate_series(1, 500) n;
CREATE TABLE sink (n int, s text, at timestamptz);
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TYPE pair AS (a int, b text);
"""


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[str]:
    """Its `sink` is left empty by every test."""
    name = "work_of_asyncpg"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    cluster.primary.psql(SCHEMA, name)
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def single(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start([cluster.primary], pool={"size": 1}) as proxy:
        yield proxy


@pytest.fixture(params=["cached", "uncached", "one connection"])
async def both(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    database: str,
    proxy: ProxyProcess,
    single: ProxyProcess,
) -> Callable[[Job], Awaitable[None]]:
    """Does a job on a direct connection and through the proxy, and compares what it returned."""
    options: dict[str, Any] = {"statement_cache_size": 0 if request.param == "uncached" else 100}
    through = single if request.param == "one connection" else proxy

    async def compare(job: Job) -> None:
        results = []
        for address in (cluster.primary, through):
            connection = await asyncpg.connect(address.dsn(database), **options)
            try:
                results.append(await job(connection))
            finally:
                await connection.close()
        assert results[1] == results[0]
        assert results[0] is not None

    return compare


async def failure(awaited: Awaitable[object]) -> tuple[str | None, str, object]:
    """How it failed, in PostgreSQL's words."""
    try:
        await awaited
    except asyncpg.PostgresError as error:
        return error.sqlstate, str(error), error.as_dict().get("position")
    raise AssertionError("it did not fail")


async def test_queries_and_statements(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        seen: list[object] = [
            [tuple(row) for row in await connection.fetch("SELECT * FROM items ORDER BY id")],
            await connection.fetchval("SELECT $1::int + 1", 41),
            await connection.fetchrow("SELECT * FROM items WHERE id = $1", 7),
            await connection.fetchrow("SELECT * FROM items WHERE id = -1"),
            await connection.execute("SELECT 1; SELECT 2"),
            await connection.execute("INSERT INTO sink (n) VALUES ($1)", 1),
            await connection.execute("UPDATE sink SET n = n + 1"),
            await connection.execute("DELETE FROM sink"),
        ]
        statement = await connection.prepare("SELECT name, price FROM items WHERE id = ANY($1)")
        seen += [statement.get_parameters(), statement.get_attributes(), statement.get_statusmsg()]
        for ids in ([1, 2], [], [3, 1000]):
            seen.append([tuple(row) for row in await statement.fetch(ids)])
        seen.append(statement.get_statusmsg())
        return seen

    await both(job)


async def test_executemany(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        rows = [(n, f"row {n}" if n % 3 else None) for n in range(2000)]
        async with connection.transaction():
            await connection.executemany("INSERT INTO sink (n, s) VALUES ($1, $2)", rows)
            seen = await connection.fetch("SELECT n, s FROM sink ORDER BY n")
            assert [tuple(row) for row in seen] == rows
        # It is one transaction by itself: one wrong row, and none is there.
        bad = [*rows[:100], (1, "x" * 10), ("wrong", "type")]
        with pytest.raises(asyncpg.DataError):
            await connection.executemany("INSERT INTO sink (n, s) VALUES ($1, $2)", bad)
        division = [(n,) for n in (5, 1, 0, 2)]
        failed = await failure(
            connection.executemany("INSERT INTO sink VALUES (10 / $1::int)", division)
        )
        async with connection.transaction():
            count = await connection.fetchval(
                "DELETE FROM sink RETURNING (SELECT count(*) FROM sink)"
            )
        return [len(seen), failed, count]

    await both(job)


async def test_types(both: Callable[[Job], Awaitable[None]]) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    values: list[tuple[str, object]] = [
        ("int2", -5),
        ("int8", 2**62),
        ("float8", 1.5),
        ("numeric", decimal.Decimal("12345678901234567890.0987654321")),
        ("bool", True),
        ("text", "süß € 🐘"),
        ("text", None),
        ("bytea", bytes(range(256))),
        ("date", datetime.date(2024, 2, 29)),
        ("time", datetime.time(12, 34, 56, 789)),
        ("timestamp", datetime.datetime(2024, 2, 29, 12, 34, 56, 789)),
        ("timestamptz", datetime.datetime(2024, 2, 29, 12, 34, 56, tzinfo=zone)),
        ("interval", datetime.timedelta(days=3, seconds=7)),
        ("uuid", uuid.UUID(int=7)),
        ("inet", ipaddress.ip_interface("10.0.0.1/8")),
        ("json", json.dumps({"a": [1, None]})),
        ("jsonb", json.dumps({"b": 1})),
        ("int[]", [1, None, 3]),
        ("text[]", [["a", "b"], ["c", 'd "e"']]),
        ("numeric[]", [decimal.Decimal("1.10")]),
        ("int4range", asyncpg.Range(1, 5)),
        ("point", asyncpg.Point(1, 2)),
        ("mood", "glad"),
        ("mood[]", ["sad", "glad"]),
        ("pair", (1, "x")),
    ]

    async def job(connection: Connection) -> object:
        return [
            (name, await connection.fetchval(f"SELECT $1::{name}", value)) for name, value in values
        ]

    await both(job)


async def test_cursors(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        seen: list[object] = []
        for read_only in (True, False):
            async with connection.transaction(readonly=read_only):
                # Two at once, each with rows in hand; and others in between.
                async for row in connection.cursor("SELECT id FROM items ORDER BY id", prefetch=30):
                    if row["id"] % 100 == 0:
                        name = "SELECT name FROM items WHERE id = $1"
                        seen += [await connection.fetchval(name, row["id"])]
                cursor = await connection.cursor(
                    "SELECT id FROM items WHERE id > $1 ORDER BY id", 10
                )
                seen.append([tuple(row) for row in await cursor.fetch(5)])
                seen.append(await cursor.forward(10))
                seen.append(await cursor.fetchrow())
                seen.append(len(await cursor.fetch(1000)))
        return seen

    await both(job)


async def test_copy(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
        records = [(n, "x" * (n % 50), now) for n in range(5000)]
        seen: list[object] = []
        async with connection.transaction():
            seen.append(await connection.copy_records_to_table("sink", records=records))
            csv = io.BytesIO(b'1,"a,b",\n2,,2024-01-01\n')
            seen.append(await connection.copy_to_table("sink", source=csv, format="csv"))
            out = io.BytesIO()
            seen.append(await connection.copy_from_table("sink", output=out, format="csv"))
            seen.append(sorted(out.getvalue().splitlines()))
        out = io.BytesIO()
        query = "SELECT * FROM items WHERE id <= $1 ORDER BY id"
        seen.append(await connection.copy_from_query(query, 400, output=out, format="binary"))
        seen.append(out.getvalue())
        bad = connection.copy_records_to_table("items", records=[(1, "again", None)])
        seen.append(await failure(bad))
        seen.append(await failure(connection.copy_from_query("SELECT 1/0", output=io.BytesIO())))
        seen.append(await connection.execute("DELETE FROM sink"))
        return seen

    await both(job)


async def test_transactions(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        seen: list[object] = []
        for isolation in ("read_committed", "repeatable_read", "serializable"):
            for read_only in (False, True):
                async with connection.transaction(isolation=isolation, readonly=read_only):
                    seen.append(await connection.fetchval("SHOW transaction_isolation"))
                    seen.append(await connection.fetchval("SHOW transaction_read_only"))
                    if read_only:
                        async with connection.transaction():
                            seen.append(await connection.fetchval("SELECT count(*) FROM items"))
                        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                            async with connection.transaction():
                                await connection.execute("DELETE FROM items")
                        seen.append(await connection.fetchval("SELECT count(*) FROM items"))
        async with connection.transaction():
            await connection.execute("INSERT INTO sink VALUES (1)")
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO sink VALUES (2), (1 / 0)")
            seen.append(await connection.fetchval("SELECT array_agg(n) FROM sink"))
            await connection.execute("DELETE FROM sink")
        transaction = connection.transaction()
        await transaction.start()
        seen.append(await failure(connection.execute("INSERT INTO items VALUES (1, 'again', 0)")))
        seen.append(await failure(connection.fetchval("SELECT 1")))
        await transaction.rollback()
        seen.append(await connection.fetchval("SELECT 'after'"))
        return seen

    await both(job)


async def test_errors(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        seen: list[object] = []
        for sql in (
            "SELEC 1",
            "SELECT * FROM missing",
            "SELECT 1/0",
            "SELECT nothing(1)",
            "SELECT 'x'::int",
        ):
            seen.append(await failure(connection.fetch(sql)))
            seen.append(await failure(connection.execute(sql)))
            seen.append(await connection.fetchval("SELECT 1"))
        return seen

    await both(job)


async def test_a_cancelled_task_and_a_timeout(
    cluster: Cluster, database: str, both: Callable[[Job], Awaitable[None]]
) -> None:
    async def job(connection: Connection) -> object:
        seen: list[object] = []
        for sql in ("SELECT pg_sleep(60)", "SELECT pg_sleep(60) FROM items FOR UPDATE"):
            for call in (connection.fetch, connection.execute):
                async with asyncio.TaskGroup() as tasks:
                    task = tasks.create_task(call(sql))
                    await cancel_asleep(cluster, database, task)
                assert task.cancelled()
                seen.append(await connection.fetchval("SELECT $1::int", 5))
        async with connection.transaction():
            with pytest.raises(TimeoutError):
                async with connection.transaction():
                    await connection.execute("SELECT pg_sleep(60)", timeout=0.5)
            seen.append(await connection.fetchval("SELECT 'the transaction goes on'"))
        return seen

    await both(job)


async def test_notices_and_notifications(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        heard: asyncio.Queue[object] = asyncio.Queue()
        seen: list[object] = []
        connection.add_log_listener(lambda _, notice: heard.put_nowait(notice.as_dict()))
        await connection.execute("DO $$ BEGIN RAISE NOTICE 'hear'; RAISE WARNING 'hear!'; END $$")
        seen += [await heard.get(), await heard.get()]
        await connection.add_listener("news", lambda _c, _p, *what: heard.put_nowait(what))
        await connection.execute("NOTIFY news, 'one'")
        await connection.execute("SELECT pg_notify('news', $1)", "two")
        seen += [await heard.get(), await heard.get()]
        await connection.reset()
        await connection.execute("NOTIFY news, 'unheard'")
        await connection.fetchval("SELECT 1")
        seen.append(heard.qsize())
        return seen

    await both(job)


async def test_large_values(both: Callable[[Job], Awaitable[None]]) -> None:
    async def job(connection: Connection) -> object:
        value = "ä" * 5_000_000
        assert await connection.fetchval("SELECT $1::text", value) == value
        data = bytes(range(256)) * 40_000
        async with connection.transaction():
            assert await connection.fetchval("SELECT $1::bytea", data) == data
        return await connection.fetchval("SELECT length(repeat('x', 10000000))")

    await both(job)


@pytest.mark.parametrize("cache", [0, 100])
async def test_a_pool_resets_its_connections(
    cluster: Cluster, database: str, proxy: ProxyProcess, cache: int
) -> None:
    async def work(dsn: str) -> object:
        async with asyncpg.create_pool(
            dsn, min_size=3, max_size=8, statement_cache_size=cache
        ) as pool:

            async def one(number: int) -> object:
                async with pool.acquire() as connection:
                    # Left behind on purpose; the pool's reset query takes it away.
                    if number % 5 == 0:
                        await connection.execute("SET work_mem = '1MB'")
                    if number % 7 == 0:
                        await connection.execute("CREATE TEMP TABLE IF NOT EXISTS mine (n int)")
                    async with connection.transaction():
                        name = await connection.fetchval(
                            "SELECT name FROM items WHERE id = $1", number
                        )
                    return name, await connection.fetchval(
                        "SELECT sum(id) FROM items WHERE id < $1", number
                    )

            results = await asyncio.gather(*(one(number) for number in range(1, 120)))
            async with pool.acquire() as connection:
                return results, await connection.fetchval("SHOW work_mem")

    assert await work(proxy.dsn(database)) == await work(cluster.primary.dsn(database))


async def test_columns_added_to_a_table_that_is_in_the_cache(
    cluster: Cluster, database: str, single: ProxyProcess
) -> None:
    """PostgreSQL refuses the old plan, and asyncpg prepares the text again: it must get a new one."""

    async def work(dsn: str) -> object:
        connection = await asyncpg.connect(dsn)
        try:
            seen = [await connection.fetchrow("SELECT * FROM items WHERE id = 1")]
            await connection.execute("ALTER TABLE items ADD COLUMN more int DEFAULT 5")
            cluster.wait_caught_up()
            seen.append(await connection.fetchrow("SELECT * FROM items WHERE id = 1"))
            await connection.execute("ALTER TABLE items DROP COLUMN more")
            cluster.wait_caught_up()
            seen.append(await connection.fetchrow("SELECT * FROM items WHERE id = 1"))
            return [tuple(row.items()) for row in seen]
        finally:
            await connection.close()

    assert await work(single.dsn(database)) == await work(cluster.primary.dsn(database))
