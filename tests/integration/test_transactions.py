"""routing.transactions = "replica-until-write" with real servers: where transactions are read from."""

from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import SYNC, Wire, bind, errors, execute, parse, query, rows

BEGIN = query("BEGIN")
READ = query("SELECT count(*) FROM moving")
WRITE = query("INSERT INTO moving VALUES (1)")


@pytest.fixture(scope="module")
def roaming(cluster: Cluster) -> Iterator[ProxyProcess]:
    cluster.primary.psql("CREATE TABLE moving (n int)")
    cluster.wait_caught_up()
    with ProxyProcess.start(
        cluster.servers, routing={"transactions": "replica-until-write"}
    ) as proxy:
        yield proxy
    cluster.primary.psql("DROP TABLE moving")


@pytest.fixture
async def client(cluster: Cluster, roaming: ProxyProcess) -> AsyncIterator[Wire]:
    cluster.primary.psql("TRUNCATE moving")
    cluster.wait_caught_up()
    async with await Wire.connect(roaming) as client:
        yield client


async def route(client: Wire) -> tuple[str, str]:
    """Where the last statement went, and why."""
    row = rows(await client.ask(query("SHOW pgproxy.last_route")))[0]
    assert row[0] is not None
    assert row[1] is not None
    return row[0].decode(), row[1].decode()


async def told(client: Wire, statement: bytes) -> object:
    """The one value that it gives."""
    frames = await client.ask(statement)
    assert not errors(frames), frames
    return rows(frames)[0][0]


async def test_reads_before_the_first_write(client: Wire) -> None:
    await client.ask(BEGIN)
    await client.ask(query("SAVEPOINT a"))
    assert await route(client) == ("replica", "in_transaction")
    assert await told(client, READ) == b"0"
    assert await route(client) == ("replica", "read")
    await client.ask(WRITE)
    assert await route(client) == ("primary", "write")
    assert await told(client, READ) == b"1"
    assert await route(client) == ("primary", "in_transaction")
    assert not errors(await client.ask(query("ROLLBACK TO a")))
    assert await told(client, READ) == b"0"
    await client.ask(query("COMMIT"))
    await client.drop()


async def test_in_the_extended_protocol(client: Wire) -> None:
    for text in ("BEGIN", "SELECT count(*) FROM moving"):
        assert not errors(await client.ask(parse(text) + bind() + execute() + SYNC))
    assert await route(client) == ("replica", "read")
    write = parse("INSERT INTO moving VALUES ($1::int)") + bind(b"1") + execute() + SYNC
    assert not errors(await client.ask(write))
    assert await route(client) == ("primary", "write")
    await client.ask(query("ROLLBACK"))
    await client.drop()


@pytest.mark.parametrize(
    "setting",
    [
        "SET default_transaction_read_only = on",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    ],
)
async def test_read_only_by_default(client: Wire, setting: str) -> None:
    await client.ask(query(setting))
    await client.ask(BEGIN)
    assert await told(client, READ) == b"0"
    assert await route(client) == ("replica", "read")
    assert errors(await client.ask(WRITE)) == ["25006"]
    await client.ask(query("ROLLBACK"))
    await client.ask(query("BEGIN READ WRITE"))
    assert not errors(await client.ask(WRITE))
    await client.ask(query("ROLLBACK"))
    await client.drop()


async def test_defaults_of_a_role(
    cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    """In either mode: who is READ ONLY by default reads on replicas."""
    cluster.primary.psql(
        "CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on"
    )
    try:
        cluster.wait_caught_up()
        client = await Wire.connect(start_proxy(cluster.servers), user="reader")
        await client.ask(BEGIN)
        await client.ask(query("SELECT 1"))
        assert await route(client) == ("replica", "read")
        await client.ask(query("ROLLBACK"))
        await client.ask(BEGIN)
        await client.ask(query("SET TRANSACTION READ WRITE"))
        await client.ask(query("SELECT 1"))
        assert (await route(client))[0] == "primary"
        await client.drop()
    finally:
        cluster.primary.psql("DROP ROLE reader")


async def test_an_own_commit_is_seen_at_once(client: Wire) -> None:
    for number in range(1, 20):
        assert not errors(await client.ask(WRITE))
        await client.ask(BEGIN)
        assert await told(client, READ) == b"%d" % number
        await client.ask(query("COMMIT"))
    await client.drop()


def test_psycopg_in_its_usual_way(cluster: Cluster, roaming: ProxyProcess) -> None:
    cluster.primary.psql("TRUNCATE moving")
    cluster.wait_caught_up()
    with psycopg.connect(roaming.dsn()) as connection:
        assert connection.execute("SELECT count(*) FROM moving").fetchone() == (0,)
        last = connection.execute("SHOW pgproxy.last_route").fetchone()
        assert last is not None
        assert last[0] == "replica"
        with connection.transaction():
            connection.execute("SELECT n FROM moving")
            connection.execute("INSERT INTO moving VALUES (7)")
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("SELECT 1 / 0")
        assert connection.execute("SELECT n FROM moving").fetchall() == [(7,)]
    assert cluster.primary.psql("SELECT n FROM moving") == "7"
