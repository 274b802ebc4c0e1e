"""Through a running proxy: what a database holds decides, from the moment it is there."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from click.testing import CliRunner

from pgproxy.cli import cli
from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.once  # nothing of the hot path that others do not test

StartProxy = Callable[..., ProxyProcess]

SCHEMA: Final = """
CREATE TABLE t (a int, b text);
INSERT INTO t VALUES (1, 'x');
CREATE TABLE log (a int);
CREATE FUNCTION reads(a int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION writes(a int) RETURNS int LANGUAGE sql AS 'INSERT INTO public.log VALUES ($1); SELECT $1';
CREATE VIEW harmless AS SELECT a, reads(a) FROM t;
CREATE VIEW logging AS SELECT a, writes(a) FROM t;
CREATE UNLOGGED TABLE quick (a int);
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE SCHEMA tenant;
CREATE FUNCTION tenant.reads(a int) RETURNS int LANGUAGE sql AS 'SELECT public.writes($1)';
"""

REPLICA: Final = ("replica", "read")
VOLATILE: Final = ("primary", "volatile_function")


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[str]:
    name = "catalogue"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    with psycopg.connect(cluster.primary.dsn(db=name), autocommit=True) as connection:
        connection.execute(SCHEMA)
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


class Client:
    """A session through the proxy, and where its statements went."""

    def __init__(self, connection: "psycopg.AsyncConnection[tuple[object, ...]]") -> None:
        self.connection = connection

    async def route(self, sql: str) -> tuple[str, str]:
        """Target and reason of a statement that is run."""
        await self.connection.execute(sql)
        return await self.last()

    async def last(self) -> tuple[str, str]:
        cursor = await self.connection.execute("SHOW pgproxy.last_route")
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0]), str(row[1])

    async def comes_to(self, sql: str, expected: tuple[str, str]) -> None:
        """Runs it until it goes there; pytest's timeout ends it."""
        while await self.route(sql) != expected:  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.01)


@pytest.fixture
async def client(cluster: Cluster, database: str, start_proxy: StartProxy) -> AsyncIterator[Client]:
    proxy = start_proxy(
        cluster.servers,
        routing={"catalogue_interval": 0.5},
        consistency={"read_your_writes": "off"},
    )
    connection = await psycopg.AsyncConnection.connect(
        proxy.dsn(db=database), autocommit=True, prepare_threshold=None
    )
    async with connection:
        found = Client(connection)
        await found.comes_to("SELECT reads(1)", REPLICA)
        yield found


async def test_what_is_read_from_the_database_decides(client: Client) -> None:
    assert await client.route("SELECT reads(1)") == REPLICA
    assert await client.route("SELECT writes(1)") == VOLATILE
    assert await client.route("SELECT * FROM harmless") == REPLICA
    assert await client.route("SELECT * FROM logging") == VOLATILE
    assert await client.route("TABLE quick") == ("primary", "unlogged")
    assert await client.route("SELECT 'happy'::mood") == REPLICA
    assert await client.route("EXPLAIN ANALYZE SELECT * FROM logging") == VOLATILE


async def test_names_are_those_of_the_sessions_search_path(client: Client) -> None:
    await client.connection.execute("SET search_path = tenant, public")
    assert await client.route("SELECT reads(1)") == VOLATILE
    assert await client.route("SELECT public.reads(1)") == REPLICA
    await client.connection.execute("RESET search_path")
    assert await client.route("SELECT reads(1)") == REPLICA
    await client.connection.execute("SELECT set_config('search_path', 'tenant', false)")
    assert await client.route("SELECT reads(1)") == VOLATILE
    await client.connection.execute("DISCARD ALL")
    assert await client.route("SELECT reads(1)") == REPLICA


async def test_a_search_path_set_in_the_open_transaction_counts_when_it_ends(
    client: Client,
) -> None:
    connection = client.connection
    await connection.execute("BEGIN")
    await connection.execute("SET search_path = tenant")
    await connection.execute("ROLLBACK")
    # While the server is being asked what the transaction has left, any path may be right.
    await client.comes_to("SELECT reads(1)", REPLICA)
    await connection.execute("BEGIN")
    await connection.execute("SET search_path = tenant")
    await connection.execute("COMMIT")
    assert await client.route("SELECT reads(1)") == VOLATILE


async def test_a_default_search_path_of_the_database_counts(
    cluster: Cluster, database: str, client: Client, start_proxy: StartProxy
) -> None:
    cluster.primary.psql(f"ALTER DATABASE {database} SET search_path = tenant, public")
    try:
        proxy = start_proxy(cluster.servers)
        async with await psycopg.AsyncConnection.connect(
            proxy.dsn(db=database), autocommit=True
        ) as connection:
            other = Client(connection)

            await other.comes_to("SELECT public.reads(1)", REPLICA)
            assert await other.route("SELECT reads(1)") == VOLATILE
    finally:
        cluster.primary.psql(f"ALTER DATABASE {database} RESET search_path")


async def test_a_change_through_the_proxy_counts_at_once(client: Client) -> None:
    connection = client.connection
    for _ in range(3):
        await connection.execute(
            "CREATE OR REPLACE FUNCTION changing() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'"
        )

        await client.comes_to("SELECT changing()", REPLICA)
        await connection.execute(
            "CREATE OR REPLACE FUNCTION changing() RETURNS int VOLATILE LANGUAGE sql"
            " AS 'SELECT writes(1)'"
        )
        assert (await client.route("SELECT changing()"))[0] == "primary"
        await connection.execute("CREATE OR REPLACE VIEW viewed AS SELECT 1 AS a")

        await client.comes_to("SELECT * FROM viewed", REPLICA)
        await connection.execute("CREATE OR REPLACE VIEW viewed AS SELECT writes(1) AS a")
        assert (await client.route("SELECT * FROM viewed"))[0] == "primary"

        await client.comes_to("SELECT * FROM viewed", VOLATILE)


async def test_a_change_that_is_rolled_back_changes_nothing(client: Client) -> None:
    connection = client.connection
    await connection.execute("BEGIN")
    await connection.execute("ALTER FUNCTION reads(int) VOLATILE")
    await connection.execute("ROLLBACK")
    await client.comes_to("SELECT reads(1)", REPLICA)


async def test_a_change_that_nobody_told_is_found(
    cluster: Cluster, database: str, client: Client
) -> None:
    with psycopg.connect(cluster.primary.dsn(db=database), autocommit=True) as other:
        other.execute("CREATE FUNCTION found() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'")
    cluster.wait_caught_up()

    await client.comes_to("SELECT found()", REPLICA)


async def test_prepared_statements_are_decided_anew(client: Client) -> None:
    connection = client.connection
    await connection.execute(
        "CREATE OR REPLACE FUNCTION turning() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'"
    )

    await client.comes_to("SELECT turning()", REPLICA)
    await connection.execute("PREPARE by_sql AS SELECT turning()")
    assert (await client.route("EXECUTE by_sql"))[0] == "replica"
    await connection.execute("SELECT turning() + 0", prepare=True)
    assert (await client.last())[0] == "replica"
    await connection.execute("ALTER FUNCTION turning() VOLATILE")

    await client.comes_to("SELECT turning()", VOLATILE)
    assert (await client.route("EXECUTE by_sql"))[0] == "primary"
    await connection.execute("SELECT turning() + 0", prepare=True)
    assert await client.last() == VOLATILE


async def test_a_prepared_statement_means_what_the_search_path_says_when_it_is_executed(
    client: Client,
) -> None:
    connection = client.connection
    for path, expected in [("public", "replica"), ("tenant", "primary"), ("public", "replica")]:
        await connection.execute(f"SET search_path = {path}")
        await connection.execute("SELECT reads(2)", prepare=True)
        assert (await client.last())[0] == expected, path


async def test_functions_of_the_users_lists(
    cluster: Cluster, database: str, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(
        cluster.servers,
        routing={"read_functions": ["tenant\\.rea.*"], "write_functions": ["reads"]},
    )
    async with await psycopg.AsyncConnection.connect(
        proxy.dsn(db=database), autocommit=True
    ) as connection:
        client = Client(connection)
        await client.route("SELECT reads(1)")
        assert (await client.last()) == ("primary", "writing_function")


def test_the_command_line_explains_with_the_catalogue_of_the_database(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    config = tmp_path / "pgproxy.toml"
    backends = [
        f'[[discovery.backends]]\nhost = "{server.host}"\nport = {server.port}\n'
        for server in reversed(cluster.servers)  # the primary is not the first
    ]
    config.write_text('[auth]\nmethod = "trust"\nusers_file = ""\n' + "".join(backends))

    def explained(*arguments: str) -> dict[str, object]:
        options = ["route", "--config", str(config), "--json", *arguments]
        found: dict[str, object] = json.loads(CliRunner().invoke(cli, options).stdout)
        return found

    of_database = ("--database", database)
    told = explained(*of_database, "SELECT * FROM logging")
    assert (told["target"], told["catalogue"]) == ("primary", database)
    assert told["detail"] == "view public.logging: function public.writes"
    assert explained(*of_database, "SELECT reads(1)")["target"] == "replica"
    in_tenant = (*of_database, "--search-path", "tenant")
    assert explained(*in_tenant, "SELECT reads(1)")["target"] == "primary"
    assert explained("--database", "nobody_has_made_it", "SELECT reads(1)")["catalogue"] is None
