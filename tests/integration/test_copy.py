"""COPY through the proxy: the same bytes, the right server, and the connection given back."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Address,
    Wire,
    bind,
    copy_data,
    copy_fail,
    errors,
    execute,
    fields,
    parse,
    query,
    rows,
)

ROWS: Final = 100_000  # about 10 MB


@pytest.fixture(scope="module")
def single(cluster: Cluster) -> Iterator[ProxyProcess]:
    """One connection to each server."""
    with ProxyProcess.start(cluster.servers, pool={"size": 1}) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def created(cluster: Cluster) -> Iterator[str]:
    name = "copies"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    cluster.primary.psql("CREATE TABLE sink (n int, s text)", name)
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(cluster: Cluster, created: str) -> str:
    """On the primary its `sink` is empty."""
    cluster.primary.psql("TRUNCATE sink", created)
    return created


def unnamed(sql: str) -> bytes:
    return parse(sql) + bind() + execute()


async def copied_out(address: Address, database: str, message: bytes) -> tuple[int, str, bytes]:
    """Size and hash of all copy data, and the command tag."""
    digest = hashlib.sha256()
    size = 0
    async with await Wire.connect(address, database=database) as client:
        await client.send(message)
        while True:
            kind, body = await client.read()
            if kind == b"d":
                digest.update(body)
                size += len(body)
            elif kind == b"C":
                tag = body
            elif kind == b"Z":
                return size, digest.hexdigest(), tag


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
async def test_out_and_in_again(
    cluster: Cluster, proxy: ProxyProcess, database: str, form: str, extended: bool
) -> None:
    def message(sql: str) -> bytes:
        return unnamed(sql) + SYNC if extended else query(sql)

    source = (
        f"COPY (SELECT n, repeat(md5(n::text), 3) FROM generate_series(1, {ROWS}) n)"
        f" TO STDOUT (FORMAT {form})"
    )
    through = await copied_out(proxy, database, message(source))
    assert through == await copied_out(cluster.primary, database, message(source))
    assert through[0] > 90 * ROWS

    async with (
        await Wire.connect(cluster.primary, database=database) as giver,
        await Wire.connect(proxy, database=database) as taker,
    ):
        await giver.send(message(source))
        into = f"COPY sink FROM STDIN (FORMAT {form})"
        await taker.send(unnamed(into) + FLUSH if extended else query(into))
        await taker.until(b"G")
        while (frame := await giver.read())[0] != b"Z":
            if frame[0] == b"d":
                await taker.send(copy_data(frame[1]))
        frames = await taker.ask(COPY_DONE, SYNC if extended else b"")
        assert frames[0] == (b"C", b"COPY %d\0" % ROWS)
    back = f"COPY (SELECT * FROM sink ORDER BY n) TO STDOUT (FORMAT {form})"
    assert await copied_out(cluster.primary, database, message(back)) == through


ENDINGS: Final[dict[str, list[bytes]]] = {
    "done": [query("COPY sink FROM STDIN"), copy_data(b"1\ta\n"), COPY_DONE],
    "failed": [query("COPY sink FROM STDIN"), copy_data(b"1\ta\n"), copy_fail("no more")],
    "wrong data": [query("COPY sink FROM STDIN"), copy_data(b"wrong\n"), COPY_DONE],
    "no such table": [query("COPY missing FROM STDIN"), copy_data(b"1\ta\n"), COPY_DONE],
    "done, extended": [unnamed("COPY sink FROM STDIN"), copy_data(b"1\ta\n"), COPY_DONE, SYNC],
    "failed, extended": [unnamed("COPY sink FROM STDIN"), copy_fail("no"), SYNC],
    "wrong data, extended": [unnamed("COPY sink FROM STDIN"), copy_data(b"x\n"), COPY_DONE, SYNC],
    "no such table, extended": [unnamed("COPY missing FROM STDIN"), COPY_DONE, SYNC],
    "flushed, extended": [
        unnamed("COPY sink FROM STDIN") + FLUSH,
        copy_data(b"1\ta\n"),
        COPY_DONE + FLUSH,
        SYNC,
    ],
    "out": [query("COPY (SELECT 1) TO STDOUT")],
    "out, extended": [unnamed("COPY (SELECT 1) TO STDOUT"), SYNC],
    "out with an error": [query("COPY (SELECT 1/0) TO STDOUT")],
}


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "one by one"])
@pytest.mark.parametrize("name", ENDINGS)
async def test_the_connection_is_given_back(
    single: ProxyProcess, database: str, name: str, together: bool
) -> None:
    """The next client is served although the first stays: on the primary, and on both replicas."""
    messages = [b"".join(ENDINGS[name])] if together else ENDINGS[name]
    async with (
        await Wire.connect(single, database=database) as first,
        await Wire.connect(single, database=database) as second,
    ):
        for _ in range(3):
            for message in messages:
                await first.send(message)
                await asyncio.sleep(0)
            await first.until(b"Z")
            frames = await second.ask(query("INSERT INTO sink VALUES (2, 'b') RETURNING n"))
            assert rows(frames) == [[b"2"]]
            for _ in range(2):
                assert rows(await second.ask(query("SELECT 3"))) == [[b"3"]]
        assert rows(await first.ask(query("SELECT 4"))) == [[b"4"]]
    single.check()


async def test_an_error_stops_a_copy_that_is_still_being_sent(
    single: ProxyProcess, database: str
) -> None:
    """What comes after the error is thrown away, however much it is."""
    async with await Wire.connect(single, database=database) as client:
        await client.send(query("COPY sink FROM STDIN"))
        await client.until(b"G")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                client.send(copy_data(b"wrong\n"), *[copy_data(b"x" * 8000)] * 1000, COPY_DONE)
            )
            frames = await client.until(b"Z")
        assert errors(frames) == ["22P02"]
        assert rows(await client.ask(query("DELETE FROM sink RETURNING n"))) == []


async def test_where_copies_run(proxy: ProxyProcess, database: str) -> None:
    async def target(client: Wire, *messages: bytes) -> bytes | None:
        await client.ask(*messages)
        return rows(await client.ask(query("SHOW pgproxy.last_route")))[0][0]

    async with await Wire.connect(proxy, database=database) as client:
        assert await target(client, query("COPY sink TO STDOUT")) == b"replica"
        assert await target(client, query("COPY (SELECT * FROM sink) TO STDOUT")) == b"replica"
        assert await target(client, query("COPY sink FROM STDIN"), COPY_DONE) == b"primary"
        changing = query("COPY (DELETE FROM sink RETURNING n) TO STDOUT")
        assert await target(client, changing) == b"primary"


async def test_a_reader_that_stops_reading_holds_up_nobody_else(
    single: ProxyProcess, database: str
) -> None:
    """The proxy reads no further than it can pass on, so its memory stays as it is."""
    async with await Wire.connect(single, database=database) as slow:
        before = single.rss_bytes()
        sql = "COPY (SELECT repeat('x', 10000) FROM generate_series(1, 20000)) TO STDOUT"
        await slow.send(query(sql))
        assert (await slow.read())[0] == b"H"
        async with await Wire.connect(single, database=database) as other:
            for number in range(50):
                assert rows(
                    await other.ask(query(f"INSERT INTO sink VALUES ({number}) RETURNING n"))
                )
                assert rows(await other.ask(query(f"SELECT {number}"))) == [[b"%d" % number]]
        assert single.rss_bytes() - before < 30 << 20
        size = 0
        while (frame := await slow.read())[0] == b"d":
            size += len(frame[1])
        assert size == 20000 * 10001
        assert [frame[0], (await slow.read())[0], (await slow.read())[0]] == [b"c", b"C", b"Z"]


async def test_copy_fail_is_told_in_the_clients_words(single: ProxyProcess, database: str) -> None:
    async with await Wire.connect(single, database=database) as client:
        await client.send(query("COPY sink FROM STDIN"))
        await client.until(b"G")
        frames = await client.ask(copy_fail("süß"))
        message = next(fields(body)["M"] for kind, body in frames if kind == b"E")
        assert message == "COPY from stdin failed: süß"


async def test_a_copy_ends_whose_client_is_lost_in_the_middle_of_a_message(
    cluster: Cluster, database: str, start_proxy: Callable[..., ProxyProcess]
) -> None:
    """Also where its end, which may be a commit, is waited for."""
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], consistency={"read_your_writes": "global"}
    )
    client = await Wire.connect(proxy, database=database)
    await client.send(query("COPY sink FROM STDIN"))
    await client.until(b"G")
    await client.send(copy_data(b"1\tone\n" * 100)[:50])
    await client.drop()
    copies = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY sink%'"
        f" AND datname = '{database}'"
    )
    async with asyncio.timeout(30):
        while await asyncio.to_thread(cluster.primary.psql, copies) != "0":  # noqa: ASYNC110 - psql is asked
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("seconds", [0, 0.3], ids=["at once", "when all is sent"])
@pytest.mark.parametrize("begin", ["", "BEGIN"])
async def test_a_copy_that_fails_before_it_reads_is_answered_twice(
    cluster: Cluster, single: ProxyProcess, database: str, seconds: float, begin: str
) -> None:
    """libpq sends a Sync behind Execute and another one behind CopyDone. Usually the server reads
    the first during the copy and ignores it; here it answers it. The next client must not be given
    that."""
    cluster.primary.psql(
        f"""
        CREATE TABLE closed (n int);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep({seconds}); RAISE 'closed'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON closed EXECUTE FUNCTION refuse();
        """,
        database,
    )
    try:
        async with (
            await Wire.connect(single, database=database) as first,
            await Wire.connect(single, database=database) as second,
        ):
            for _ in range(3):
                if begin:
                    await first.ask(query(begin))
                await first.send(unnamed("COPY closed FROM STDIN") + SYNC)
                await first.until(b"G")
                await first.send(copy_data(b"1\n") + COPY_DONE + SYNC)
                await second.send(query("/* pgproxy: primary */ SELECT 2"))
                frames = await first.until(b"Z", 2)
                assert errors(frames) == ["P0001"]
                if begin:
                    await first.ask(query("ROLLBACK"))
                assert rows(await second.until(b"Z")) == [[b"2"]]
                assert rows(await second.ask(query("SELECT 3"))) == [[b"3"]]
                assert rows(await first.ask(query("SELECT 4"))) == [[b"4"]]
        single.check()
    finally:
        cluster.primary.psql("DROP TABLE closed; DROP FUNCTION refuse", database)
