"""Limits that are learnt (`limits.adaptive`), before real servers that become slow."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.stutter import Stutter

pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]

StartProxy = Callable[..., ProxyProcess]

CAP: Final = 8
FLOOR: Final = 2
LIMITS: Final = {"max_concurrent_per_backend": CAP, "adaptive": True, "adaptive_floor": FLOOR}


def metric(proxy: ProxyProcess, name: str, backend: str) -> float:
    found = re.search(
        rf'^{name}\{{backend="{backend}"\}} (\S+)$', proxy.get("/metrics")[1], re.MULTILINE
    )
    assert found is not None, name
    return float(found[1])


async def until_limit(proxy: ProxyProcess, backend: str, limit: int) -> None:
    name = "pgproxy_backend_running_limit"
    while await asyncio.to_thread(metric, proxy, name, backend) != limit:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def load(
    proxy: ProxyProcess, statement: Callable[[int], str], *, clients: int, database: str
) -> AsyncIterator[list[int]]:
    """So many clients that ask without a pause; the list has one element: how many answers."""
    answers = [0]
    ending = False

    async def client(number: int) -> None:
        dsn = proxy.dsn(database)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as session:
            while not ending:
                await session.execute(statement(number))
                answers[0] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
        try:
            yield answers
        finally:
            ending = True


async def learnt(answers: list[int]) -> None:
    """Until it is known what is usual: statements of some seconds."""
    await asyncio.sleep(4)
    while answers[0] < 500:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def test_a_replica_that_becomes_slow_gets_less_until_it_is_well(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, limits=LIMITS)
    slow, other = cluster.replicas
    reads = load(proxy, lambda _: "SELECT pg_sleep(0.02)", clients=12, database="postgres")
    async with reads as answers:
        await learnt(answers)
        with Stutter(slow):
            await until_limit(proxy, slow.name, FLOOR)
            slowdown = await asyncio.to_thread(metric, proxy, "pgproxy_backend_slowdown", slow.name)
            assert slowdown > 1.5
            shares = [
                await asyncio.to_thread(metric, proxy, "pgproxy_backend_share", one.name)
                for one in (slow, other)
            ]
            assert shares[0] < 0.3 * shares[1]
        await until_limit(proxy, slow.name, CAP)


async def test_a_storm_of_locks_gives_the_primary_less_until_it_is_over(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    """Writes of rows of their own are quick; then all want one that somebody else has."""
    cluster.primary.psql(
        "CREATE TABLE stock (id int PRIMARY KEY, n int);"
        "INSERT INTO stock SELECT i, 0 FROM generate_series(0, 99) i",
        db=fresh_database,
    )
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, limits=LIMITS)
    storm = asyncio.Event()
    name = cluster.primary.name

    def statement(number: int) -> str:
        wanted = 0 if storm.is_set() else number
        return f"UPDATE stock SET n = n + 1 WHERE id = {wanted}"

    async def hold(over: asyncio.Event) -> None:
        dsn = cluster.primary.dsn(fresh_database)
        async with await psycopg.AsyncConnection.connect(dsn) as holder:
            while not over.is_set():
                await holder.execute("SELECT FROM stock WHERE id = 0 FOR UPDATE")
                await asyncio.sleep(0.2)
                await holder.commit()

    async with load(proxy, statement, clients=12, database=fresh_database) as answers:
        await learnt(answers)
        over = asyncio.Event()
        storm.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(hold(over))
            try:
                await until_limit(proxy, name, FLOOR)
            finally:
                over.set()
        storm.clear()
        await until_limit(proxy, name, CAP)


async def test_a_long_statement_among_short_ones_shrinks_nothing(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    """Although it looks like all the others, but for a number."""
    proxy = await asyncio.to_thread(start_proxy, [cluster.primary], limits=LIMITS)
    limits: set[float] = set()
    reads = load(proxy, lambda _: "SELECT pg_sleep(0.02)", clients=12, database="postgres")
    async with reads as answers:
        await learnt(answers)
        async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as one:
            long = asyncio.ensure_future(  # noqa: TID251 - awaited below
                one.execute("SELECT pg_sleep(6)")
            )
            while not long.done():
                limits.add(
                    await asyncio.to_thread(
                        metric, proxy, "pgproxy_backend_running_limit", cluster.primary.name
                    )
                )
                await asyncio.sleep(0.2)
            await long
    assert min(limits) > FLOOR
