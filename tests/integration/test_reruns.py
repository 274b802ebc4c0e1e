"""Transactions of real servers that go away in the middle, run again on the next one."""

import asyncio
import contextlib
import os
import signal
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster, Server
from tests.support.inprocess import InProcess, serving

pytestmark = [pytest.mark.once, pytest.mark.timeout(90)]

CLIENTS: Final = 12
AT_REST: Final = (
    "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'"
    " AND application_name <> 'pgproxy catalogue'"
)


async def ask(server: Server, sql: str) -> str:
    return await asyncio.to_thread(server.psql, sql)


async def connect(proxy: InProcess) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True)


async def make_table(cluster: Cluster) -> None:
    await ask(cluster.primary, "CREATE TABLE t (n int)")
    await asyncio.to_thread(cluster.wait_caught_up)


async def test_the_crash_of_one_process_ends_no_transaction_at_rest(
    private_cluster: Cluster,
) -> None:
    """PostgreSQL ends all the others with a warning and starts again."""
    server = private_cluster.primary
    await make_table(private_cluster)
    async with serving({server: "primary"}) as proxy:
        idle = [await connect(proxy) for _ in range(6)]
        client = await connect(proxy)
        for one in [*idle, client]:
            await one.execute("BEGIN")
            await one.execute("INSERT INTO t VALUES (1)")
        for one in idle[1:]:
            await one.execute("ROLLBACK")
        assert len((await ask(server, AT_REST)).split()) == 2
        other = await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True)
        os.kill(other.info.backend_pid, signal.SIGKILL)
        await proxy.until(lambda: proxy.proxy.counters.reruns == 2)
        await client.execute("INSERT INTO t VALUES (2)")
        await client.execute("COMMIT")
        await idle[0].execute("ROLLBACK")
        assert await ask(server, "SELECT string_agg(n::text, ',' ORDER BY n) FROM t") == "1,2"
        for one in [*idle, client, other]:
            await one.close()


async def test_a_session_that_is_terminated_hears_of_it(private_cluster: Cluster) -> None:
    server = private_cluster.primary
    await make_table(private_cluster)
    async with serving({server: "primary"}) as proxy:
        client = await connect(proxy)
        await client.execute("BEGIN")
        await client.execute("INSERT INTO t VALUES (1)")
        (pid,) = (await ask(server, AT_REST)).split()
        await ask(server, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(psycopg.errors.AdminShutdown):
            await client.execute("COMMIT")
        await client.close()
        assert await ask(server, "SELECT count(*) FROM t") == "0"
        assert proxy.proxy.counters.reruns == 0


class Books:
    def __init__(self) -> None:
        self.last = 0
        self.there: set[int] = set()
        self.unknown: set[int] = set()
        self.failures: list[tuple[str | None, str]] = []

    def next(self) -> int:
        self.last += 1
        return self.last


async def works(proxy: InProcess, books: Books, kind: int, stop: asyncio.Event) -> None:
    """Transactions in forms in which two of them touch each other."""
    while not stop.is_set():
        with contextlib.suppress(psycopg.OperationalError):
            client = await connect(proxy)
            async with client:
                while not stop.is_set():
                    await one_turn(client, books, kind)


async def one_turn(client: psycopg.AsyncConnection, books: Books, kind: int) -> None:
    open_: set[int] = set()
    sure: set[int] = set()
    try:
        if kind == 0:  # chained
            await client.execute("BEGIN")
            for _ in range(3):
                open_ = {books.next()}
                await client.execute("INSERT INTO t VALUES (%s)", tuple(open_))
                await client.execute("COMMIT AND CHAIN")
                sure |= open_
                open_ = set()
            await client.execute("ROLLBACK")
        elif kind == 1:  # the end of one and the beginning of another in one chunk
            async with client.pipeline():
                open_ = {books.next(), books.next()}
                first, second = sorted(open_)
                await client.execute("BEGIN")
                await client.execute("INSERT INTO t VALUES (%s)", (first,))
                await client.execute("COMMIT")
                await client.execute("BEGIN")
                await client.execute("INSERT INTO t VALUES (%s)", (second,))
            await asyncio.sleep(0.002)
            await client.execute("COMMIT")
        elif kind == 2:  # prepared by name
            open_ = {books.next()}
            await client.execute("BEGIN")
            await client.execute("INSERT INTO t VALUES (%s)", tuple(open_), prepare=True)
            await asyncio.sleep(0.002)
            await client.execute("COMMIT")
        else:
            open_ = {books.next()}
            await client.execute(f"INSERT INTO t VALUES ({min(open_)})")
        sure |= open_
    except psycopg.Error as error:
        books.failures.append((error.sqlstate, str(error)))
        books.unknown |= open_
        if client.closed:
            raise psycopg.OperationalError from error
        await client.execute("ROLLBACK")
    finally:
        books.there |= sure


async def test_fast_shutdowns_under_transactions_that_touch(private_cluster: Cluster) -> None:
    old, (new, other) = private_cluster.primary, private_cluster.replicas
    await make_table(private_cluster)
    async with serving({old: "primary", new: "replica", other: "replica"}) as proxy:
        books = Books()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(works(proxy, books, number % 4, stop))
            for leader, heir in ((old, new), (new, old)):
                begun = len(books.there)
                while len(books.there) < begun + 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(leader.stop)
                await asyncio.to_thread(heir.promote)
                proxy.label(**{heir.name: "primary", leader.name: "replica"})
                begun = len(books.there)
                while len(books.there) < begun + 50:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(leader.rejoin, heir)
            stop.set()
        found = [int(row) for row in (await ask(old, "SELECT n FROM t")).split()]
        # None: libpq takes a FATAL that comes while nothing is asked for a notice.
        codes = {code for code, _ in books.failures}
        assert codes <= {"57P01", "40001", None}, books.failures
        assert sorted(set(found)) == sorted(found), "written twice"
        assert not books.there - set(found), "lost"
        assert not set(found) - books.there - books.unknown, "more than was asked for"
        assert proxy.proxy.counters.reruns > 0
