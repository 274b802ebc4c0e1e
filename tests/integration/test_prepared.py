"""Prepared statements outlive the server connection they were made on, and clients share them."""

import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    SYNC,
    Frame,
    Wire,
    bind,
    close,
    describe,
    errors,
    execute,
    fields,
    parse,
    query,
    replies,
    rows,
)

LIMIT: Final = 5  # statements that a server connection keeps


@pytest.fixture(scope="module")
def single(cluster: Cluster) -> Iterator[ProxyProcess]:
    """One connection, to the primary alone."""
    pool = {"size": 1, "max_prepared_statements": LIMIT}
    with ProxyProcess.start([cluster.primary], pool=pool) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def wide(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers, pool={"size": 3}) as proxy:
        yield proxy


@pytest.fixture
def database(cluster: Cluster, fresh_database: str) -> str:
    cluster.primary.psql(
        "CREATE TABLE items AS SELECT n, 'item ' || n AS name FROM generate_series(1, 9) n",
        fresh_database,
    )
    cluster.wait_caught_up()
    return fresh_database


def use(name: str, *values: bytes) -> bytes:
    return bind(*values, statement=name) + execute()


def kinds(frames: list[Frame]) -> str:
    return b"".join(kind for kind, _ in frames).decode()


async def prepared_there(client: Wire) -> list[list[bytes | None]]:
    """What the server connection that answers has prepared."""
    found = await client.ask(
        query("SELECT name, statement FROM pg_prepared_statements ORDER BY 2, 1")
    )
    return rows(found)


async def test_two_clients_share_one_statement(single: ProxyProcess, database: str) -> None:
    text = "SELECT $1::int + 1"
    async with (
        await Wire.connect(single, database=database) as one,
        await Wire.connect(single, database=database) as other,
    ):
        assert kinds(await one.ask(parse(text, name="mine"), SYNC)) == "1Z"
        assert kinds(await other.ask(parse(text, name="ours"), SYNC)) == "1Z"
        for _ in range(3):
            assert rows(await one.ask(use("mine", b"1"), SYNC)) == [[b"2"]]
            assert rows(await other.ask(use("ours", b"2"), SYNC)) == [[b"3"]]
        assert [found[1] for found in await prepared_there(one)] == [text.encode()]
        # A name is its client's own.
        assert errors(await one.ask(use("ours", b"1"), SYNC)) == ["26000"]
        assert kinds(await one.ask(close("S", "mine"), SYNC)) == "3Z"
        assert errors(await one.ask(use("mine", b"1"), SYNC)) == ["26000"]
        assert rows(await other.ask(use("ours", b"4"), SYNC)) == [[b"5"]]


async def test_the_same_name_for_different_texts(single: ProxyProcess, database: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(await Wire.connect(single, database=database))
            for _ in range(4)
        ]
        for number, client in enumerate(clients):
            await client.ask(parse(f"SELECT {number}, $1::text", name="s"), SYNC)
        for _ in range(2):
            for number, client in enumerate(clients):
                frames = await client.ask(use("s", b"x"), SYNC)
                assert rows(frames) == [[b"%d" % number, b"x"]]
                frames = await client.ask(describe("S", "s"), SYNC)
                assert kinds(frames) == "tTZ"


async def test_equal_texts_with_other_types_are_different(
    single: ProxyProcess, database: str
) -> None:
    async with await Wire.connect(single, database=database) as client:
        await client.ask(parse("SELECT pg_typeof($1)", name="a", types=[23]), SYNC)
        await client.ask(parse("SELECT pg_typeof($1)", name="b", types=[25]), SYNC)
        assert rows(await client.ask(use("a", b"1"), SYNC)) == [[b"integer"]]
        assert rows(await client.ask(use("b", b"1"), SYNC)) == [[b"text"]]


async def test_more_statements_than_a_connection_keeps(single: ProxyProcess, database: str) -> None:
    count = 3 * LIMIT
    async with await Wire.connect(single, database=database) as client:
        for number in range(count):
            await client.ask(parse(f"SELECT {number}", name=f"s{number}"), SYNC)
        for number in (*range(count), *reversed(range(count)), 0, 7, 0, 7):
            assert rows(await client.ask(use(f"s{number}"), SYNC)) == [[b"%d" % number]]
            assert len(await prepared_there(client)) <= LIMIT
        # More in one batch than it keeps at all, and each of them twice.
        batch = b"".join(use(f"s{number}") for number in (*range(count), *range(count)))
        found = rows(await client.ask(batch, SYNC))
        assert found == [[b"%d" % number] for number in (*range(count), *range(count))]
        assert len(await prepared_there(client)) <= LIMIT


async def test_statements_work_on_every_connection(wide: ProxyProcess, database: str) -> None:
    """Wherever a client lands, on the primary or a replica, its statements are there."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(await Wire.connect(wide, database=database))
            for _ in range(6)
        ]
        for client in clients:
            await client.ask(parse("SELECT name FROM items WHERE n = $1", name="read"), SYNC)
            await client.ask(parse("DELETE FROM items WHERE n = $1", name="write"), SYNC)
        blockers = clients[:2]
        for client in blockers:  # so that the others get other connections
            await client.ask(query("BEGIN"))
            assert rows(await client.ask(use("read", b"3"), SYNC)) == [[b"item 3"]]
        for _ in range(3):
            for client in clients[2:]:
                assert rows(await client.ask(use("read", b"4"), SYNC)) == [[b"item 4"]]
                assert kinds(await client.ask(use("write", b"1000"), SYNC)) == "2CZ"
        for client in blockers:
            assert kinds(await client.ask(query("ROLLBACK"))) == "CZ"


@pytest.mark.parametrize("sql", ["DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE PREPARE ALL"])
@pytest.mark.parametrize("extended", [False, True])
async def test_a_client_that_discards_all_discards_its_own(
    cluster: Cluster, single: ProxyProcess, database: str, sql: str, extended: bool
) -> None:
    discard = parse(sql) + bind() + execute() + SYNC if extended else query(sql)

    async def tell(address: Cluster | ProxyProcess) -> list[Frame]:
        async with await Wire.connect(address, database=database) as client:  # type: ignore[arg-type]
            frames = await client.ask(parse("SELECT 'mine'", name="s"), SYNC)
            frames += await client.ask(use("s"), SYNC)
            frames += await client.ask(discard)
            frames += await client.ask(use("s"), SYNC)
            frames += await client.ask(parse("SELECT 'mine anew'", name="s"), SYNC)
            frames += await client.ask(use("s"), SYNC)
            return frames

    async with await Wire.connect(single, database=database) as other:
        await other.ask(parse("SELECT 'mine'", name="theirs"), SYNC)
        through = await tell(single)
        assert rows(await other.ask(use("theirs"), SYNC)) == [[b"mine"]]
    direct = await tell(cluster.primary)
    assert kinds(through) == kinds(direct)
    assert rows(through) == rows(direct)
    assert errors(through) == errors(direct) == ["26000"]


async def test_a_changed_table(cluster: Cluster, single: ProxyProcess, database: str) -> None:
    """PostgreSQL refuses a plan that would return other columns. Where the client is told of the
    columns anew, the proxy prepares it again instead."""
    text = "SELECT * FROM items WHERE n = 1"

    async def columns(client: Wire, name: str) -> int | str:
        frames = await client.ask(bind(statement=name), describe("P"), execute(), SYNC)
        found = errors(frames)
        return found[0] if found else len(rows(frames)[0])

    async def tell(address: ProxyProcess | Cluster) -> list[int | str]:
        async with (
            await Wire.connect(address, database=database) as early,  # type: ignore[arg-type]
            await Wire.connect(address, database=database) as late,  # type: ignore[arg-type]
        ):
            await early.ask(parse(text, name="before"), SYNC)
            seen = [await columns(early, "before")]
            await early.ask(query("ALTER TABLE items ADD COLUMN more int"))
            cluster.wait_caught_up()
            await late.ask(parse(text, name="after"), SYNC)
            seen += [await columns(late, "after"), await columns(early, "before")]
            await early.ask(close("S", "before"), parse(text, name="before"), SYNC)
            seen.append(await columns(early, "before"))
            await early.ask(query("ALTER TABLE items DROP COLUMN more"))
            cluster.wait_caught_up()
            return seen

    assert await tell(cluster.primary) == [2, 3, "0A000", 3]
    assert await tell(single) == [2, 3, 3, 3]


async def test_a_table_changed_behind_the_proxys_back(
    cluster: Cluster, single: ProxyProcess, database: str
) -> None:
    text = "SELECT * FROM items WHERE n = 1"
    more = parse(text) + bind() + describe("P") + execute()
    async with (
        await Wire.connect(single, database=database) as client,
        await Wire.connect(single, database=database) as other,
    ):
        await client.ask(parse(text, name="s"), SYNC)
        await client.ask(parse(text, name="told"), describe("S", "told"), SYNC)
        await other.ask(more, SYNC)
        await other.ask(more, SYNC)
        await client.ask(query(f"PREPARE q AS {text}"))
        await client.ask(query("EXECUTE q"))
        cluster.primary.psql("ALTER TABLE items ADD COLUMN more int", database)
        # Who was never told of the columns, or is told again, sees the new ones.
        frames = await client.ask(use("s"), SYNC)
        assert (kinds(frames), len(rows(frames)[0])) == ("2DCZ", 3)
        frames = await client.ask(query("EXECUTE q"))
        assert (kinds(frames), len(rows(frames)[0])) == ("TDCZ", 3)
        for _ in range(2):
            frames = await other.ask(more, SYNC)
            assert (kinds(frames), len(rows(frames)[0])) == ("12TDCZ", 3)
        cluster.primary.psql("ALTER TABLE items ADD COLUMN even_more int", database)
        frames = await client.ask(
            parse("SELECT 1") + close("S", "nobody") + bind(statement="s") + describe("P"),
            execute(),
            use("s"),
            SYNC,
        )
        assert kinds(frames) == "132TDC2DCZ"
        assert [len(row) for row in rows(frames)] == [4, 4]


async def test_who_holds_an_older_description_is_told(
    cluster: Cluster, single: ProxyProcess, database: str
) -> None:
    async with await Wire.connect(single, database=database) as client:
        text = "SELECT * FROM items WHERE n = 1"
        await client.ask(parse(text, name="told"), describe("S", "told"), SYNC)
        cluster.primary.psql("ALTER TABLE items ADD COLUMN more int", database)
        for _ in range(2):
            assert errors(await client.ask(use("told"), SYNC)) == ["0A000"]
        frames = await client.ask(describe("S", "told"), use("told"), SYNC)
        assert kinds(frames) == "tT2DCZ"
        await client.ask(query("BEGIN"))
        assert kinds(await client.ask(use("told"), SYNC)) == "2DCZ"
        cluster.primary.psql("CREATE VIEW other AS SELECT 1", database)
        await client.ask(query("COMMIT"))


async def test_in_a_transaction_a_changed_table_is_an_error(
    cluster: Cluster, single: ProxyProcess, database: str
) -> None:
    async with await Wire.connect(single, database=database) as client:
        await client.ask(parse("SELECT * FROM items WHERE n = 1", name="s"), SYNC)
        cluster.primary.psql("ALTER TABLE items ADD COLUMN more int", database)
        await client.ask(query("BEGIN"))
        assert errors(await client.ask(use("s"), SYNC)) == ["0A000"]
        await client.ask(query("ROLLBACK"))
        assert kinds(await client.ask(use("s"), SYNC)) == "2DCZ"


async def test_nor_does_it_matter_where_it_is_prepared(
    cluster: Cluster, proxy: ProxyProcess, database: str
) -> None:
    """On the primary it is prepared after the change, so that Bind asks for too few columns."""
    text = "SELECT * FROM items WHERE n = 1"
    cluster.wait_caught_up()
    for address in (cluster.primary, proxy):
        async with await Wire.connect(address, database=database) as client:
            await client.ask(parse(text, name="s"), describe("S", "s"), SYNC)
            await client.ask(query("BEGIN"))
            await client.ask(query("ALTER TABLE items ADD COLUMN more int"))
            old = bind(statement="s", result_formats=[1, 0]) + execute()
            frames = await client.ask(old, SYNC)
            told = fields(frames[0][1])
            assert (told["C"], told["R"]) == ("0A000", "RevalidateCachedQuery")
            assert told["M"] == "cached plan must not change result type"
            await client.ask(query("ROLLBACK"))


async def test_an_unnamed_statement_that_comes_again(
    cluster: Cluster, single: ProxyProcess, database: str
) -> None:
    text = "SELECT $1::int + 100"

    def ask(value: bytes) -> bytes:
        return parse(text) + describe("S") + bind(value) + describe("P") + execute()

    script = [
        *(ask(b"%d" % number) + SYNC for number in range(4)),
        ask(b"no number") + SYNC,
        bind(b"7") + execute() + SYNC,
        parse("SELECT 'another'") + bind() + execute() + ask(b"1") + bind(b"2") + execute() + SYNC,
        query("SELECT 1"),
        bind(b"7") + execute() + SYNC,
        ask(b"1") + close("S") + bind(b"2") + SYNC,
        query("BEGIN"),
        query("SELECT 1/0"),
        ask(b"1") + SYNC,
        parse(text) + SYNC,
        query("ROLLBACK"),
        parse("SELECT 1/0") + bind() + execute() + ask(b"3") + SYNC,
        bind() + execute() + SYNC,
        bind(b"1", b"2") + SYNC,
        ask(b"4") + SYNC + bind(b"5") + execute() + SYNC + ask(b"6") + SYNC,
    ]

    def masked(frames: list[Frame]) -> list[Frame]:
        return [
            (kind, repr(sorted(fields(body).items() - _places(body))).encode())
            if kind == b"E"
            else (kind, body)
            for kind, body in frames
        ]

    def _places(body: bytes) -> set[tuple[str, str]]:
        return {field for field in fields(body).items() if field[0] in "FLR"}

    async def tell(address: Cluster | ProxyProcess) -> list[list[Frame]]:
        async with await Wire.connect(address, database=database) as client:  # type: ignore[arg-type]
            return [
                masked(await client.ask(step, ready=3 if step is script[-1] else 1))
                for step in script
            ]

    direct = await tell(cluster.primary)
    for _ in range(2):
        for step, is_, should in zip(script, await tell(single), direct, strict=True):
            assert is_ == should, step
    async with await Wire.connect(single, database=database) as client:
        assert [text.encode()] in [found[1:] for found in await prepared_there(client)]


async def test_an_error_is_in_the_clients_words(single: ProxyProcess, database: str) -> None:
    name = 'a "quoted" name'
    async with await Wire.connect(single, database=database) as client:
        await client.ask(parse("SELECT $1::int", name=name), SYNC)
        frames = await client.ask(use(name), SYNC)
        message = next(fields(body)["M"] for kind, body in frames if kind == b"E")
        assert name in message
        assert "pgproxy" not in message


async def test_what_failed_to_be_prepared_can_be_prepared_again(
    cluster: Cluster, single: ProxyProcess, database: str
) -> None:
    async with await Wire.connect(single, database=database) as client:
        assert errors(await client.ask(parse("SELECT * FROM later", name="s"), SYNC)) == ["42P01"]
        assert errors(await client.ask(use("s"), SYNC)) == ["26000"]
        await client.ask(query("CREATE TABLE later AS SELECT 1 AS a"))
        assert kinds(await client.ask(parse("SELECT * FROM later", name="s"), SYNC)) == "1Z"
        assert rows(await client.ask(use("s"), SYNC)) == [[b"1"]]
        # Gone again: the error comes where PostgreSQL has it, and the statement revives.
        await client.ask(query("ALTER TABLE later RENAME TO hidden"))
        assert errors(await client.ask(use("s"), SYNC)) == ["42P01"]
        await client.ask(query("ALTER TABLE hidden RENAME TO later"))
        assert rows(await client.ask(use("s"), SYNC)) == [[b"1"]]


async def test_statements_are_forgotten_with_their_client(
    start_proxy: Callable[..., ProxyProcess], cluster: Cluster, database: str
) -> None:
    proxy = start_proxy([cluster.primary])

    def known() -> float:
        found = re.search(
            r"^pgproxy_prepared_statements (\S+)", proxy.get("/metrics")[1], re.MULTILINE
        )
        assert found
        return float(found[1])

    async with await Wire.connect(proxy, database=database) as client:
        for number in range(30):
            await client.ask(parse(f"SELECT {number}", name=f"s{number}"), SYNC)
        assert known() == 30
        await client.ask(*(close("S", f"s{number}") for number in range(10)), SYNC)
        assert known() == 20
    while known():
        pass
    assert rows(await replies(proxy, query("SELECT 1"), database=database)) == [[b"1"]]
