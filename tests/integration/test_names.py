"""Names of prepared statements, in SQL and in the protocol: each client has its own, as on a
connection of its own, while a few server connections serve all."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Final

import asyncpg
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    SYNC,
    Address,
    Frame,
    Wire,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
)

pytestmark = pytest.mark.once

DATABASE: Final = "names"
SCHEMA: Final = """
    CREATE TABLE items (n int PRIMARY KEY, name text);
    INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 5) n;
    CREATE TABLE sink (n int);
    CREATE TABLE heap (n int);
    CREATE TABLE fragile (n int);
"""


@pytest.fixture(scope="module", autouse=True)
def database(cluster: Cluster) -> Iterator[None]:
    cluster.primary.psql(f"CREATE DATABASE {DATABASE}")
    cluster.primary.psql(SCHEMA, DATABASE)
    cluster.wait_caught_up()
    yield
    cluster.primary.psql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture(scope="module")
def narrow(cluster: Cluster) -> Iterator[ProxyProcess]:
    """Two connections to each server, with few names on each."""
    with ProxyProcess.start(
        cluster.servers, pool={"size": 2, "max_prepared_statements": 4}
    ) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def single(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start([cluster.primary], pool={"size": 1}) as proxy:
        yield proxy


def run(sql: str) -> bytes:
    return parse(sql) + bind() + execute()


def masked(frame: Frame) -> Frame:
    """Without where in the source an error was raised, and where in which text; and without the
    oids of tables, which each run makes anew."""
    kind, body = frame
    if kind == b"T":
        return kind, _without_tables(body)
    if kind == b"E":
        return kind, b"\0".join(field for field in body.split(b"\0") if field[:1] not in b"FLRP")
    return frame


def _without_tables(body: bytes) -> bytes:
    """A RowDescription without the oids of tables that are not PostgreSQL's own."""
    at = 2
    while at < len(body):
        at = body.index(b"\0", at) + 1
        if int.from_bytes(body[at : at + 4], "big") >= 16384:
            body = body[:at] + bytes(4) + body[at + 4 :]
        at += 18
    return body


# --- one client's script, direct and through the proxy, with another client's in between -----------

SCRIPTS: Final = {
    "the life of a name": [
        query("PREPARE a AS SELECT 1 AS x"),
        query("PREPARE a AS SELECT 2"),
        query("EXECUTE a"),
        query("DEALLOCATE a"),
        query("EXECUTE a"),
        query("DEALLOCATE a"),
        query("PREPARE a(int) AS SELECT $1 + 1"),
        query("EXECUTE a(1)"),
        query("EXECUTE a(2, 3)"),
        query("EXECUTE a('x')"),
        query("DEALLOCATE PREPARE a"),
    ],
    "several statements": [
        query("PREPARE a AS SELECT 1; EXECUTE a; PREPARE b AS SELECT 2; EXECUTE b; EXECUTE a"),
        query("EXECUTE a; DEALLOCATE a; EXECUTE b; EXECUTE a; DEALLOCATE b"),
        query("EXECUTE b"),
        query("PREPARE a AS SELECT 3; SELECT 1/0; PREPARE c AS SELECT 4"),
        query("EXECUTE a"),
        query("EXECUTE c"),
        query("DEALLOCATE ALL; PREPARE a AS SELECT 5; PREPARE b AS SELECT 6"),
        query("EXECUTE a; EXECUTE b"),
        query("DEALLOCATE b; PREPARE b AS SELECT 7; EXECUTE b"),
        query("DEALLOCATE nobody; DEALLOCATE a"),
        query("EXECUTE a"),
    ],
    "in transactions": [
        query("BEGIN"),
        query("PREPARE a AS SELECT 1"),
        query("ROLLBACK"),
        query("EXECUTE a"),
        query("BEGIN READ ONLY"),
        query("EXECUTE a"),
        query("PREPARE b AS SELECT 2"),
        query("EXECUTE b"),
        query("COMMIT"),
        query("BEGIN"),
        query("EXECUTE b"),
        query("SELECT 1/0"),
        query("EXECUTE b"),
        query("DEALLOCATE b"),
        query("PREPARE c AS SELECT 3"),
        query("ROLLBACK"),
        query("EXECUTE b"),
        query("EXECUTE c"),
        query("BEGIN; PREPARE c AS SELECT 3; COMMIT; EXECUTE c"),
        query("BEGIN ISOLATION LEVEL REPEATABLE READ"),
        query("EXECUTE c; DEALLOCATE c"),
        query("COMMIT"),
    ],
    "what is executed": [
        query("PREPARE w(int) AS INSERT INTO sink VALUES ($1) RETURNING n"),
        query("EXECUTE w(1)"),
        query("EXPLAIN (COSTS OFF) EXECUTE w(2)"),
        query("CREATE TEMP TABLE made ON COMMIT DROP AS EXECUTE w(3)"),
        query("PREPARE r(int) AS SELECT name FROM items WHERE n = $1"),
        query("EXECUTE r(2)"),
        query("EXPLAIN (COSTS OFF) EXECUTE r(2)"),
        query("BEGIN; CREATE TABLE copied AS EXECUTE r(3); SELECT * FROM copied; ROLLBACK"),
        query("EXECUTE r(length('abc'))"),
        query("DELETE FROM sink"),
        query("DEALLOCATE ALL"),
        query("EXECUTE r(1)"),
        query("PREPARE nothing AS SELECT FROM nowhere"),
        query("EXECUTE nothing"),
    ],
    "names of SQL in the protocol": [
        query("PREPARE a(int) AS SELECT $1 AS x"),
        describe("S", "a") + SYNC,
        bind(b"1", statement="a") + describe("P") + execute() + SYNC,
        parse("SELECT 2", "a") + SYNC,
        bind(b"3", statement="a") + execute() + SYNC,
        close("S", "a") + SYNC,
        bind(b"4", statement="a") + execute() + SYNC,
        query("EXECUTE a(5)"),
        query("PREPARE a(int) AS SELECT $1 AS x"),
        close("S", "a") + parse("SELECT 6", "a") + bind(statement="a") + execute() + SYNC,
        bind(statement="a") + execute() + SYNC,
        query("EXECUTE a"),
    ],
    "names of the protocol in SQL": [
        parse("SELECT $1 AS x", "a", [23]) + SYNC,
        query("EXECUTE a(1)"),
        query("PREPARE a AS SELECT 2"),
        bind(b"3", statement="a") + execute() + SYNC,
        query("DEALLOCATE a"),
        bind(b"4", statement="a") + execute() + SYNC,
        query("EXECUTE a(5)"),
        parse("SELECT 6", "a") + parse("SELECT 7", "b") + SYNC,
        query("EXECUTE a; DEALLOCATE a; EXECUTE b; SELECT 8"),
        bind(statement="a") + SYNC,
        bind(statement="b") + execute() + SYNC,
        query("DISCARD ALL"),
        query("EXECUTE b"),
        bind(statement="b") + execute() + SYNC,
    ],
    "in the extended protocol": [
        run("PREPARE a AS SELECT 1") + run("EXECUTE a") + SYNC,
        run("EXECUTE a") + run("DEALLOCATE a") + run("PREPARE a AS SELECT 2") + run("EXECUTE a")
        + SYNC,
        bind(statement="a") + execute() + close("S", "a") + run("EXECUTE a") + SYNC,
        run("PREPARE a AS SELECT 3") + run("EXECUTE a") + SYNC,
        parse("EXECUTE a") + describe("S") + bind() + describe("P") + execute() + SYNC,
        parse("EXECUTE a", "twice") + SYNC,
        bind(statement="twice") + execute() + SYNC,
        describe("S", "twice") + SYNC,
        run("DEALLOCATE a") + SYNC,
        bind(statement="twice") + execute() + SYNC,
        run("SELECT 1/0") + run("PREPARE b AS SELECT 4") + SYNC,
        run("EXECUTE b") + SYNC,
        run("PREPARE b AS SELECT 5") + run("SELECT 1/0") + SYNC,
        run("EXECUTE b") + SYNC,
        run("DEALLOCATE ALL") + parse("SELECT 6", "b") + bind(statement="b") + execute() + SYNC,
        bind(statement="b") + execute() + run("DISCARD ALL") + SYNC,
        run("DISCARD ALL") + parse("SELECT 7", "b") + bind(statement="b") + execute() + SYNC,
        bind(statement="b") + execute() + SYNC,
        run("DISCARD PLANS") + bind(statement="b") + execute() + SYNC,
    ],
    "portals": [
        query("PREPARE a AS SELECT n FROM items ORDER BY n"),
        query("BEGIN"),
        parse("EXECUTE a", "e") + bind(statement="e", portal="p") + SYNC,
        execute("p", 2) + SYNC,
        query("EXECUTE a"),
        execute("p", 2) + SYNC,
        parse("PREPARE b AS SELECT 1", "m") + bind(statement="m", portal="q") + SYNC,
        query("DEALLOCATE a"),
        execute("q") + SYNC,
        query("EXECUTE b"),
        run("SELECT 5") + bind(statement="e") + SYNC,
        execute() + SYNC,
        query("ROLLBACK"),
        query("EXECUTE b"),
    ],
    "a copy among them": [
        query("PREPARE a AS SELECT 1; COPY sink FROM STDIN; DEALLOCATE a")
        + b"d\0\0\0\x06" + b"7\n" + b"c\0\0\0\4",
        query("EXECUTE a"),
        query("PREPARE a AS SELECT count(*) FROM sink"),
        query("EXECUTE a"),
        query("DELETE FROM sink"),
    ],
    "tables that go": [
        query("CREATE TABLE gone (n int)"),
        query("PREPARE g AS SELECT * FROM gone"),
        query("EXECUTE g"),
        query("DROP TABLE gone"),
        query("EXECUTE g"),
        query("BEGIN"),
        query("EXECUTE g"),
        query("EXECUTE g"),
        query("ROLLBACK"),
        query("DEALLOCATE g"),
        query("EXECUTE g"),
    ],
}  # fmt: skip

NOISE: Final = [
    query("DEALLOCATE ALL"),
    query("PREPARE a AS SELECT 'not yours'"),
    query("PREPARE b AS SELECT 'nor this'"),
    query("PREPARE c AS SELECT 'and this'; PREPARE r AS SELECT 9; PREPARE w AS SELECT 10"),
    parse("SELECT 'a protocol''s'", "g") + SYNC,
    query("EXECUTE a; EXECUTE g"),
]


async def noise(proxy: Address, stop: asyncio.Event) -> None:
    async with await Wire.connect(proxy, database=DATABASE) as client:
        while not stop.is_set():
            for step in NOISE:
                await client.ask(step)


async def play(address: Address, steps: list[bytes]) -> list[list[Frame]]:
    async with await Wire.connect(address, database=DATABASE) as client:
        answers = [[masked(frame) for frame in await client.ask(step)] for step in steps]
        answers.append(await client.ask(query("SELECT 'the end'")))
        return answers


@pytest.mark.parametrize("name", SCRIPTS)
async def test_as_on_a_connection_of_its_own(
    name: str, cluster: Cluster, narrow: ProxyProcess
) -> None:
    direct = await play(cluster.primary, SCRIPTS[name])
    cluster.wait_caught_up()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(noise(narrow, stop))
        try:
            for _ in range(3):
                through = await play(narrow, SCRIPTS[name])
                for step, is_, should in zip(SCRIPTS[name], through, direct, strict=False):
                    assert is_ == should, step
        finally:
            stop.set()
    narrow.check()


@pytest.mark.parametrize("name", SCRIPTS)
async def test_all_at_once(name: str, cluster: Cluster, single: ProxyProcess) -> None:
    """The whole script in one write."""
    steps = SCRIPTS[name]

    async def tell(address: Address) -> list[Frame]:
        async with await Wire.connect(address, database=DATABASE) as client:
            return [masked(frame) for frame in await client.ask(*steps, ready=len(steps))]

    direct = await tell(cluster.primary)
    async with await Wire.connect(single, database=DATABASE) as other:
        await other.ask(*NOISE, ready=len(NOISE))
    assert await tell(single) == direct
    single.check()


# --- drivers that mix both levels ----------------------------------------------------------------


async def test_asyncpg(narrow: ProxyProcess) -> None:
    async def work(number: int) -> None:
        connection = await asyncpg.connect(narrow.dsn(DATABASE), statement_cache_size=0)
        try:
            for turn in range(5):
                text = f"PREPARE mine(int) AS SELECT $1 + {number}"
                assert await connection.execute(text) == "PREPARE"
                with pytest.raises(asyncpg.DuplicatePreparedStatementError):
                    await connection.execute(text)
                assert await connection.fetchval("EXECUTE mine(1)") == 1 + number
                assert await connection.fetchval("SELECT $1::int", turn) == turn
                await connection.execute("DEALLOCATE mine" if turn % 2 else "DISCARD ALL")
                with pytest.raises(asyncpg.InvalidSQLStatementNameError):
                    await connection.fetchval("EXECUTE mine(1)")
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(work(number))
    narrow.check()


async def test_psycopg(narrow: ProxyProcess) -> None:
    async def work(number: int) -> None:
        async with await psycopg.AsyncConnection.connect(
            narrow.dsn(DATABASE), autocommit=True, prepare_threshold=None
        ) as connection:
            for turn in range(5):
                await connection.execute(f"PREPARE mine AS SELECT {number}")
                async with connection.pipeline():
                    one = await connection.execute("EXECUTE mine")
                    other = await connection.execute("SELECT %s::int", [turn])
                    await connection.execute("DEALLOCATE ALL")
                    await connection.execute("PREPARE mine AS SELECT 'anew'")
                    last = await connection.execute("EXECUTE mine")
                assert await one.fetchone() == (number,)
                assert await other.fetchone() == (turn,)
                assert await last.fetchone() == ("anew",)
                await connection.execute("DEALLOCATE ALL")
                with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                    await connection.execute("EXECUTE mine")

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(work(number))
    narrow.check()


# --- any client, any order -----------------------------------------------------------------------

names = st.sampled_from(["a", "b"])
texts = st.sampled_from(
    [
        "SELECT 1",
        "SELECT 2 AS two",
        "SELECT name FROM items WHERE n = 3",
        "INSERT INTO heap VALUES (1)",
        "SELECT FROM nowhere",
    ]
)
statements = st.one_of(
    st.builds("PREPARE {} AS {}".format, names, texts),
    st.builds("PREPARE {} AS {}".format, names, texts),
    st.builds("EXECUTE {}".format, names),
    st.builds("EXECUTE {}".format, names),
    st.builds("EXPLAIN (COSTS OFF) EXECUTE {}".format, names),
    st.builds("DEALLOCATE {}".format, names),
    st.sampled_from(["DEALLOCATE ALL", "DISCARD ALL", "DISCARD PLANS"]),
    st.sampled_from(["SELECT 1/0", "SELECT 7", "BEGIN", "BEGIN READ ONLY", "COMMIT", "ROLLBACK"]),
)
messages = st.one_of(
    st.builds(run, statements),
    st.builds(parse, texts, names),
    st.builds(lambda name: bind(statement=name) + execute(), names),
    st.builds(lambda name: bind(statement=name) + describe("P") + execute(), names),
    st.builds(lambda name: describe("S", name), names),
    st.builds(lambda name: close("S", name), names),
    st.builds(lambda name: close("S", name) + parse("SELECT 8", name), names),
)
steps = st.one_of(
    st.builds(lambda texts: query("; ".join(texts)), st.lists(statements, min_size=1, max_size=3)),
    st.builds(query, statements),
    st.builds(lambda inside: b"".join(inside) + SYNC, st.lists(messages, min_size=1, max_size=4)),
)
turns = st.tuples(st.integers(0, 2), st.lists(steps, min_size=1, max_size=2))


async def compare(direct: Address, proxy: Address, dialogue: list[tuple[int, list[bytes]]]) -> None:
    async with AsyncExitStack() as stack:
        pairs = [
            (
                await stack.enter_async_context(await Wire.connect(direct, database=DATABASE)),
                await stack.enter_async_context(await Wire.connect(proxy, database=DATABASE)),
            )
            for _ in range(3)
        ]
        for number, asked in dialogue:
            one, other = pairs[number]
            should = [masked(frame) for frame in await one.ask(*asked, ready=len(asked))]
            async with asyncio.timeout(20):
                is_ = [masked(frame) for frame in await other.ask(*asked, ready=len(asked))]
            assert is_ == should, (number, asked)


@settings(max_examples=40)
@given(st.lists(turns, min_size=1, max_size=12))
def test_any_dialogue_is_as_with_connections_of_their_own(
    cluster: Cluster, single_each: ProxyProcess, dialogue: list[tuple[int, list[bytes]]]
) -> None:
    # Who is in a transaction holds its connection: nobody may wait for it for ever.
    asyncio.run(compare(cluster.primary, single_each, dialogue))
    single_each.check()


@pytest.fixture(scope="module")
def single_each(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(
        cluster.servers, pool={"size": 3, "max_prepared_statements": 2}
    ) as proxy:
        yield proxy
