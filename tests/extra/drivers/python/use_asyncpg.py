"""asyncpg at its usual work. Argument before the usual ones: the size of its cache of statements."""

import asyncio
import contextlib
import functools
import io
import re
import sys

import asyncpg
from common import COPIED, REPORTED, REPORTING, SLEEP, SLEEPING, URL, main, scripts

CACHE = int(sys.argv[-3])


@contextlib.asynccontextmanager
async def connected(**options):
    connection = await asyncpg.connect(URL, statement_cache_size=CACHE, **options)
    try:
        yield connection
    finally:
        await connection.close(timeout=20)


def on_a_connection(section):
    @functools.wraps(section)
    async def run():
        async with connected() as connection:
            return await section(connection)

    return run


async def outcome(awaited):
    try:
        got = await awaited
    except asyncpg.PostgresError as error:
        # The driver counts its statements, of all connections together.
        message = re.sub(r"__asyncpg_stmt_\w+__", "__asyncpg_stmt__", error.args[0])
        return [error.sqlstate, message, error.as_dict().get("position")]
    except (asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return type(error).__name__
    return [list(row.values()) for row in got] if isinstance(got, list) else got


@on_a_connection
async def simple(c):
    return [
        await outcome(c.execute("SELECT 1; SELECT 2")),
        await outcome(c.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")),
        await outcome(c.fetch("SELECT 1 AS one, NULL, 'süß'")),
        await outcome(c.fetch("SELECT * FROM items ORDER BY id")),
        await outcome(c.fetchval("SELECT $1::int + $2", 1, 2)),
        await outcome(c.fetch("SELECT $1::text, $2::bool, $3::jsonb", None, True, '{"a": 1}')),
        await outcome(c.fetch("SELECT 'a'::mood, ARRAY['b', 'a']::mood[], (1, 'a')::pair")),
    ]


@on_a_connection
async def prepared(c):
    got = []
    for round_ in range(3):
        add = await c.prepare("INSERT INTO items VALUES ($1, $2) RETURNING id")
        pick = await c.prepare("SELECT name FROM items WHERE id = $1", name="pick")
        got += [[one.name for one in pick.get_parameters()], pick.get_attributes()[0].name]
        for n in range(100 + 10 * round_, 105 + 10 * round_):
            got += [await outcome(add.fetch(n, f"prepared {n}")), await outcome(pick.fetch(n))]
        got.append(await outcome(add.fetch(100, "twice")))
        # One name space for both: it is there.
        got.append(await outcome(c.execute("PREPARE pick AS SELECT 1")))
        got.append(await outcome(c.execute("EXECUTE pick (100)")))
        got.append(await outcome(c.execute("PREPARE mine (int) AS SELECT $1 + 1")))
        got.append(await outcome(c.fetch("EXECUTE mine (1)")))
        if round_ == 1:
            await c.execute("DEALLOCATE pick")
        elif round_ == 2:
            await c.execute("DEALLOCATE ALL")
        failed = await outcome(pick.fetch(100))
        got.append(failed[:1] if round_ == 2 else failed)
        got.append(await outcome(c.execute("DEALLOCATE mine")))
        if round_ < 2:
            del add, pick
            await c.execute("SELECT 'the driver closes them'")
            await c.reset()
    return got


@on_a_connection
async def transaction(c):
    count = "SELECT count(*) FROM items WHERE name = 'transaction'"
    got = []
    for commit in (False, True):
        outer = c.transaction()
        await outer.start()
        await c.execute("INSERT INTO items VALUES ($1, 'transaction')", 200)
        inner = c.transaction()
        await inner.start()
        got.append(await outcome(c.fetch("SELECT 1 / $1::int", 0)))
        got.append(await outcome(c.fetch("SELECT $1::int", 1)))
        await inner.rollback()
        got.append(await outcome(c.fetch(count)))
        async with c.transaction():
            await c.execute("INSERT INTO items VALUES ($1, 'transaction')", 201)
        await (outer.commit() if commit else outer.rollback())
        got.append(await outcome(c.fetch(count)))
    for options in (
        {"isolation": "serializable", "readonly": True, "deferrable": True},
        {"isolation": "repeatable_read"},
        {"readonly": True},
    ):
        reading = c.transaction(**options)
        await reading.start()
        got.append(await outcome(c.fetch("SHOW transaction_isolation")))
        got.append(await outcome(c.fetch(count)))
        got.append(await outcome(c.execute("DELETE FROM items WHERE id = -1")))
        await reading.rollback()
    got.append(await outcome(c.fetch(count)))
    return got


@on_a_connection
async def pipeline(c):
    rows = [(n, "many") for n in range(300, 800)]
    got = [await outcome(c.executemany("INSERT INTO items VALUES ($1, $2)", rows))]
    bad = [*((n, "bad") for n in range(900, 1000)), (300, "twice")]
    got.append(await outcome(c.executemany("INSERT INTO items VALUES ($1, $2)", bad)))
    got.append(await outcome(c.fetchmany("SELECT $1::int * 2", [(1,), (2,), (3,)])))
    got.append(await outcome(c.fetch("SELECT name, count(*) FROM items GROUP BY 1 ORDER BY 1")))
    await c.execute("DELETE FROM items WHERE id >= 300")
    return got


@on_a_connection
async def cursor(c):
    got = []
    async with c.transaction():
        async for row in c.cursor("SELECT n FROM generate_series(1, $1::int) n", 25, prefetch=10):
            got.append(row[0])
            if row[0] == 12:
                got.append(await outcome(c.fetchval("SELECT 'between'")))
        by_hand = await c.cursor("SELECT n FROM generate_series(1, 30) n")
        got += [await outcome(by_hand.fetch(5)), await by_hand.forward(10)]
        got.append(await outcome(by_hand.fetchrow()) is not None)
    got.append(await outcome(by_hand.fetch(5)))
    return got


@on_a_connection
async def copy(c):
    got, out = [], io.BytesIO()
    got.append(await outcome(c.copy_to_table("items", source=io.BytesIO(COPIED.encode()))))
    query = "SELECT * FROM items WHERE id >= $1 ORDER BY id"
    got += [
        await outcome(c.copy_from_query(query, 1000, output=out)),
        out.getvalue().decode() == COPIED,
    ]
    await c.execute("DELETE FROM items WHERE id >= 1000")
    records = [(n, f"record {n}") for n in range(1000, 3000)]
    got.append(await outcome(c.copy_records_to_table("items", records=records)))
    got.append(
        await outcome(c.copy_records_to_table("items", records=[(5000, "x"), (1000, "twice")]))
    )
    got.append(await outcome(c.copy_to_table("items", source=io.BytesIO(b"nonsense\n"))))
    got.append(await outcome(c.copy_from_table("nowhere", output=out)))

    async def broken():
        yield b"6000\tnever\n"
        raise OSError("the source is gone")

    got.append(await outcome(c.copy_to_table("items", source=broken())))
    got.append(await outcome(c.fetchval("SELECT count(*) FROM items WHERE id >= 1000")))
    got.append(await outcome(c.execute("DELETE FROM items WHERE id >= 1000")))
    return got


@on_a_connection
async def errors(c):
    got = []
    for _ in range(3):
        got.append(await outcome(c.fetch("SELECT 1 / $1::int", 0)))
        got.append(await outcome(c.fetch("SELEC")))
        got.append(await outcome(c.fetch("SELECT * FROM nowhere WHERE x = $1", 1)))
        got.append(await outcome(c.execute("INSERT INTO items VALUES ($1, 'twice')", 1)))
        got.append(await outcome(c.execute("SELECT 1; SELECT 1 / 0; SELECT 3")))
    got.append(await outcome(c.fetchval("SELECT 'after'")))
    return got


@on_a_connection
async def notifications(c):
    heard: asyncio.Queue = asyncio.Queue()
    async with connected() as listener:
        await listener.add_listener("news", lambda *said: heard.put_nowait(said[2:]))
        await c.execute("SELECT pg_notify('news', $1)", "hello")
        got = [await heard.get()]
        lost = c.transaction()
        await lost.start()
        await c.execute("NOTIFY news, 'never'")
        await lost.rollback()
        await c.execute("NOTIFY news, 'last'")
        got.append(await heard.get())
        async with listener.transaction():
            await listener.execute("NOTIFY news, 'to myself'")
        got.append(await heard.get())
        await listener.reset()
        return got


@on_a_connection
async def cancel(c):
    got = []
    async with connected() as other:
        for _ in range(3):
            asked = asyncio.ensure_future(c.execute(SLEEP))
            while not await other.fetchval(SLEEPING):
                pass
            asked.cancel()  # asyncpg then asks the server to cancel
            with contextlib.suppress(asyncio.CancelledError):
                await asked
            got.append(await outcome(c.fetchval("SELECT 'after'")))
            got.append(await other.fetchval(SLEEPING))
    return got


async def timeouts():
    got = []
    async with connected(command_timeout=0.5) as c:
        got.append(await outcome(c.execute("SELECT pg_sleep(600)")))
        got.append(await outcome(c.fetch("SELECT pg_sleep(600)", timeout=0.4)))
        got.append(await outcome(c.fetchval("SELECT 'after'", timeout=20)))
        async with c.transaction(), c.transaction():
            got.append(await outcome(c.fetchval("SELECT 'inside'", timeout=20)))
    settings = {"statement_timeout": "500", "application_name": "asyncpg", "app.who": "me"}
    async with connected(server_settings=settings) as c:
        got.append(await outcome(c.fetch("SELECT pg_sleep(600)")))
        for name in settings:
            got.append(await outcome(c.fetchval(f"SHOW {name}")))
        await c.execute(
            "SET statement_timeout = '1min'; SET application_name = 'x'; SET app.who = 'x'"
        )
        await c.reset()
        for name in settings:
            got.append(await outcome(c.fetchval(f"SHOW {name}")))
    return got


async def reconnect():
    got = []
    async with connected() as c:
        got.append(await outcome(c.execute("SELECT pg_terminate_backend(pg_backend_pid())")))
        got += [c.is_closed(), await outcome(c.fetch("SELECT 1"))]
    async with connected() as c, connected() as other:
        await c.execute("BEGIN; INSERT INTO items VALUES (250, 'lost')")
        pid = await c.fetchval("SELECT pg_backend_pid()")
        got.append(await outcome(other.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)))
        got.append(isinstance(await outcome(c.fetch("SELECT 1")), list | str))
    pool = await asyncpg.create_pool(URL, min_size=1, max_size=1, statement_cache_size=CACHE)
    async with pool:
        for _ in range(3):
            got.append(await outcome(pool.fetch("SELECT count(*) FROM items WHERE id = $1", 250)))
            got.append(await outcome(pool.execute("SELECT pg_terminate_backend(pg_backend_pid())")))
    return got


async def reported():
    got = []
    for script in REPORTING:
        async with connected() as c:
            await c.execute(script)
            settings = c.get_settings()
            got.append([script, *(getattr(settings, name, None) for name in REPORTED)])
    return got


@on_a_connection
async def large(c):
    text = "0123456789" * 300000
    return [await c.fetchval("SELECT $1::text || 'x'", text) == text + "x"]


@on_a_connection
async def concurrent(c):
    await c.execute("CREATE TABLE counter AS SELECT 0 AS n")
    async with asyncpg.create_pool(URL, max_size=10, statement_cache_size=CACHE) as pool:

        async def step(n):
            async with pool.acquire() as own:
                ends = own.transaction()
                await ends.start()
                await own.execute("UPDATE counter SET n = n + $1", n)
                await (ends.rollback() if n % 5 == 0 else ends.commit())
                return await own.fetchval("SELECT $1::int", n) == n

        right = await asyncio.gather(*(step(n) for n in range(200)))
    return [all(right), await c.fetchval("SELECT n FROM counter")]


def session(script, simply):
    async def play():
        async with connected() as c:
            ask = c.execute if simply else c.fetch
            return [[sql, await outcome(ask(sql))] for sql in script]

    return play


async def set_up():
    async with connected() as c:
        await c.execute(
            "CREATE TABLE items (id int PRIMARY KEY, name text);"
            " CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TYPE pair AS (n int, m mood)"
        )


sections = {
    one.__name__: one
    for one in (
        *(simple, prepared, transaction, pipeline, cursor, copy, errors, notifications, cancel),
        *(timeouts, reconnect, reported, large, concurrent),
    )
}
for name, script in scripts():
    sections[f"{name} simple"] = session(script, True)
    sections[f"{name} extended"] = session(script, False)
asyncio.run(set_up())
main(sections)
