"""Proxies are replaced one after the other under load, and no transaction fails.

What the clients do is what a connection pool of an application does: they keep connections, and
begin a transaction anew if its *first* statement was answered by nothing but the end of the
connection (57P01, where the driver tells). That is safe, since such a statement was never given to
a server, and each transaction's trace is counted in the end. Any other error is a failed
transaction, and so is any error once something was answered: also one after COMMIT.
"""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import asyncpg
import psycopg
import pytest

from pgproxy.embedded import Cluster
from pgproxy.embedded.server import environment
from tests.support.peers import Siblings
from tests.support.proxy import ProxyProcess
from tests.support.service import Service

pytestmark = [pytest.mark.once, pytest.mark.timeout(150)]

Restart = Callable[[], Awaitable[None]]

CLIENTS: Final = (
    16  # a busy machine has fewer of them answer late, which the proxies take for idleness
)
PROXIES: Final = 3
ROUNDS: Final = 1
# Server connections of all proxies, of which there are four for a while: fewer than clients.
BUDGET: Final = 14
ACCEPT: Final = 0.5  # seconds; the service needs a tenth of that to notice
# A twelfth of it is what a client without a pause has for a transaction and what its pool asks behind
# that, before any moment will do to see it off. On a busy machine both together take a second or two.
WINDOW: Final = 40.0
PAUSE: Final = 1.5  # seconds between the transactions of a client that is not in a hurry
TABLES: Final = "CREATE TABLE done (id int PRIMARY KEY); CREATE TABLE two (id int)"


class Book:
    """What the clients have seen."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.begun_anew = 0
        self.failed: list[str] = []
        self.is_over = False
        self._last = 0

    def number(self) -> int:
        """Of a new transaction."""
        self._last += 1
        return self._last

    async def more(self, count: int) -> None:
        """Waits until that many more transactions have been acknowledged."""
        wanted = len(self.acknowledged) + count
        while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - the clients only count
            await asyncio.sleep(0.01)


class Asyncpg:
    """asyncpg's own pool; it notices by itself when an unused connection is closed."""

    def __init__(self, book: Book, service: Service, database: str) -> None:
        self._book: Final = book
        self._pool: Final = asyncpg.create_pool(
            host=service.host,
            port=service.port,
            user="postgres",
            database=database,
            min_size=1,
            max_size=1,
        )

    async def __aenter__(self) -> "Asyncpg":
        await self._pool
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def transact(self, number: int) -> bool:
        """False: it has to begin anew."""
        answered = False
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                answered = True  # BEGIN was
                await connection.execute("INSERT INTO done VALUES ($1)", number)
                sql = "SELECT id FROM done WHERE id = $1"
                assert await connection.fetchval(sql, number) == number
                await connection.execute("INSERT INTO two VALUES ($1)", number)
        except (asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError) as error:
            if not answered and "due to administrator command" in str(error):
                return False
            self._book.failed.append(repr(error))
        except asyncpg.InternalClientError as error:
            # Between the farewell, which asyncpg reads at once, and the end of the connection it
            # refuses by itself to send anything.
            if not answered and "another operation (2) is in progress" in str(error):
                return False
            self._book.failed.append(repr(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it should not be
            self._book.failed.append(repr(error))
        else:
            self._book.acknowledged.append(number)
        return True


class Psycopg:
    """libpq writes before it reads, so what was closed meanwhile shows with the next statement."""

    def __init__(self, book: Book, service: Service, database: str) -> None:
        self._book: Final = book
        self._where: Final = (
            f"host={service.host} port={service.port} user=postgres dbname={database}"
        )
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def __aenter__(self) -> "Psycopg":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def transact(self, number: int) -> bool:
        """False: it has to begin anew."""
        answered = False
        try:
            connection = self._connection
            if connection is None or connection.closed:
                connection = await psycopg.AsyncConnection.connect(
                    self._where, prepare_threshold=0, autocommit=True
                )
                self._connection = connection
            async with connection.transaction():
                answered = True  # BEGIN was
                await connection.execute("INSERT INTO done VALUES (%s)", [number])
                sql = "SELECT id FROM done WHERE id = %s"
                cursor = await connection.execute(sql, [number])
                assert await cursor.fetchone() == (number,)
                await connection.execute("INSERT INTO two VALUES (%s)", [number])
        except psycopg.OperationalError as error:
            # libpq drops a farewell that it reads together with the answer before it.
            was_told = error.sqlstate == "57P01" or "closed the connection" in str(error)
            if not answered and was_told:
                return False
            self._book.failed.append(repr(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it should not be
            self._book.failed.append(repr(error))
        else:
            self._book.acknowledged.append(number)
        return True


@contextlib.asynccontextmanager
async def _load(
    driver: type[Asyncpg | Psycopg], service: Service, database: str
) -> AsyncIterator[Book]:
    """Most clients make no pause, some do."""
    book = Book()

    async def work(pause: float) -> None:
        async with driver(book, service, database) as client:
            while not book.is_over:
                number = book.number()
                while not await client.transact(number):
                    book.begun_anew += 1
                await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(work(0.0 if number % 4 else PAUSE))
        yield book
        book.is_over = True


@contextlib.asynccontextmanager
async def _proxies(cluster: Cluster, service: Service) -> AsyncIterator[Restart]:
    """Three proxies behind a service, that divide what the servers take; what it gives replaces all,
    one after the other, as a Deployment does with maxSurge 1 and maxUnavailable 0."""
    siblings = Siblings(
        cluster.servers,
        PROXIES + 1,
        listen={"drain_accept_seconds": ACCEPT, "drain_timeout": WINDOW},
        pool={"size": 8, "cluster_budget": True, "max_backend_connections": BUDGET},
    )

    async def start(place: int) -> ProxyProcess:
        proxy = await asyncio.to_thread(siblings.start, place)
        service.add(proxy)
        return proxy

    with siblings:
        running = {place: await start(place) for place in range(PROXIES)}
        free = PROXIES

        async def restart() -> None:
            nonlocal free
            for place, old in list(running.items()):
                running[free] = await start(free)
                await asyncio.to_thread(siblings.stop, place)
                service.remove(running.pop(place))
                assert old.events("cut_off") == []
                free = place

        yield restart


@pytest.mark.parametrize("driver", [Asyncpg, Psycopg])
async def test_no_transaction_fails(
    cluster: Cluster,
    fresh_database: str,
    driver: type[Asyncpg | Psycopg],
) -> None:
    """Its statements are prepared ones; each proxy has more clients than server connections."""
    cluster.primary.psql(TABLES, fresh_database)
    cluster.wait_caught_up()
    async with (
        Service() as service,
        _proxies(cluster, service) as restart,
        _load(driver, service, fresh_database) as book,
    ):
        for _ in range(ROUNDS):
            await book.more(100)
            await restart()
        await book.more(100)
    assert book.failed == []
    # Clients without a pause cannot be seen off unnoticed, so it was tried for.
    assert book.begun_anew > 0
    # Each exactly once: what was begun anew had left nothing behind.
    for table in ("done", "two"):
        stored = cluster.primary.psql(f"SELECT id FROM {table} ORDER BY id", fresh_database)
        assert sorted(book.acknowledged) == [int(line) for line in stored.split()]


async def test_pgbench_that_connects_for_each_transaction(
    cluster: Cluster, fresh_database: str
) -> None:
    """It gives up at the first connection that it is refused."""
    tool = str(cluster.installation.tool("pgbench"))

    def run(port: int, *arguments: str) -> str:
        where = ["-h", cluster.primary.host, "-p", str(port), "-U", "postgres", fresh_database]
        done = subprocess.run(
            [tool, *arguments, *where],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not re.search(r"error|fatal|aborted", done.stderr, re.IGNORECASE), done.stderr
        return done.stdout

    await asyncio.to_thread(run, cluster.primary.port, "-i", "-q")
    cluster.wait_caught_up()
    options = ["-n", "-C", "-M", "prepared", "-c", "8", "-T", "12"]
    async with (
        Service() as service,
        _proxies(cluster, service) as restart,
        asyncio.TaskGroup() as tasks,
    ):
        bench = tasks.create_task(asyncio.to_thread(run, service.port, *options))
        restarts = 0
        while not bench.done():
            await restart()
            restarts += 1
        assert restarts >= 1
        output = bench.result()
    assert re.search(r"^number of failed transactions: 0 ", output, re.MULTILINE), output
    count = re.search(r"^number of transactions actually processed: (\d+)", output, re.MULTILINE)
    assert count is not None
    stored = cluster.primary.psql("SELECT count(*) FROM pgbench_history", fresh_database)
    assert stored == count[1]
