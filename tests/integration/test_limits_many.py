"""Thousands of clients and few seats: no server has more at work than there are, one user's crowd does
not crowd out another's few, and who is refused hears of it in time.

What is measured is logged: see it with `pytest --log-cli-level=INFO`.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Final

import pytest

from pgproxy.embedded import Cluster, Server
from tests.support.descriptors import descriptors_for
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire, errors, fields, query, rows

pytestmark = pytest.mark.once

LOG: Final = logging.getLogger(__name__)
MOST: Final = 5000
SEATS: Final = 8
AT_ONCE: Final = 200  # connections being made: no more than a listen queue holds anywhere
SERVICE: Final = 0.01  # seconds

StartProxy = Callable[..., ProxyProcess]

# Since when each session of a client's has been at work, and when it was looked: not before it is read.
BUSY: Final = (
    "SELECT extract(epoch FROM statement_timestamp()), extract(epoch FROM state_change)"
    " FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'"
    " AND datname = '{}' AND application_name = ''"
)
TIMED: Final = query(
    "/* pgproxy: primary */ SELECT extract(epoch FROM clock_timestamp() - statement_timestamp())"
    f" FROM pg_sleep({SERVICE})"
)


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    with descriptors_for(MOST):
        yield


class Sampler:
    """Looks at all servers again and again: how many sessions were at work at one moment."""

    def __init__(self, servers: list[Server], database: str) -> None:
        self.samples = 0
        self.most = 0
        self.most_of_one: Final = {server.name: 0 for server in servers}
        self._servers: Final = servers
        self._question: Final = query(BUSY.format(database))
        # A row of its own even where nobody is busy, for the moment of the look.
        self._moment: Final = query("SELECT extract(epoch FROM clock_timestamp())")

    async def run(self) -> None:
        """Until it is cancelled."""
        async with AsyncExitStack() as ends:
            wires = [
                await ends.enter_async_context(
                    await Wire.connect(server, application_name="sampler")
                )
                for server in self._servers
            ]
            while True:
                await self._look(wires)
                await asyncio.sleep(0.005)

    async def _look(self, wires: list[Wire]) -> None:
        moment = float((await wires[0].ask(self._moment))[1][1][6:])
        looks = [
            rows(frames) for frames in await asyncio.gather(*[w.ask(self._question) for w in wires])
        ]
        # Busy when looked at, and so since before the moment: at work at the moment.
        busy = [sum(float(since or b"") <= moment for _, since in look) for look in looks]
        self.samples += 1
        self.most = max(self.most, sum(busy))
        for server, look in zip(self._servers, looks, strict=True):
            self.most_of_one[server.name] = max(self.most_of_one[server.name], len(look))


def metric(proxy: ProxyProcess, name: str) -> float:
    """The sum of all its values."""
    text = proxy.get("/metrics")[1]
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M))


async def connected(
    proxy: ProxyProcess, database: str, clients: int, ends: AsyncExitStack, user: str = "postgres"
) -> list[Wire]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def connect() -> Wire:
        async with turn:
            wire = await Wire.connect(proxy, database=database, user=user)
        ends.callback(wire.writer.transport.abort)
        assert wire.startup[-1] == (b"Z", b"I"), wire.startup
        return wire

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(connect()) for _ in range(clients)]
    return [task.result() for task in tasks]


class Crowd:
    """Clients that read, write and transact; some go in the middle of it."""

    def __init__(self) -> None:
        self.finished = 0
        self.killed = 0
        self.written = 0
        self.transactions = 0
        self.seconds = 0.0  # from question to answer

    async def live(self, wire: Wire, dice: random.Random) -> None:
        kind = dice.randrange(10)
        if kind == 0:
            await wire.send(query("SELECT pg_sleep(0.05) FROM t FOR UPDATE LIMIT 1"))
            await asyncio.sleep(dice.random() * 3)
            wire.writer.transport.abort()
            self.killed += 1
            return
        if kind == 1:
            await wire.send(query("BEGIN"), query("INSERT INTO t VALUES (0)"))
            await asyncio.sleep(dice.random() * 3)
            wire.writer.transport.abort()
            self.killed += 1
            return
        for _ in range(3):
            await self._act(wire, dice)
        self.finished += 1

    async def _act(self, wire: Wire, dice: random.Random) -> None:
        began = time.monotonic()
        kind = dice.randrange(3)
        if kind == 0:
            frames = await wire.ask(query("SELECT count(*), pg_sleep(0.005) FROM t WHERE n < 0"))
        elif kind == 1:
            frames = await wire.ask(query("INSERT INTO t VALUES (1)"))
            self.written += 1
        else:
            frames = []
            for text in ("BEGIN", "SELECT 1", "INSERT INTO t VALUES (2)", "COMMIT"):
                frames += await wire.ask(query(text))
            self.written += 1
        assert errors(frames) == []
        self.transactions += 1
        self.seconds += time.monotonic() - began


@pytest.mark.timeout(900)
@pytest.mark.parametrize("clients", [500, pytest.param(MOST, marks=pytest.mark.extra)])
async def test_no_server_has_more_at_work(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy, clients: int
) -> None:
    cluster.primary.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (0)", fresh_database)
    cluster.wait_caught_up()
    proxy = start_proxy(
        cluster.servers,
        pool={"size": 10, "wait_timeout": 600},
        limits={"max_concurrent": SEATS},
        listen={"max_clients": clients + 100},
    )
    sampler = Sampler(cluster.servers, fresh_database)
    crowd = Crowd()
    dice = random.Random(clients)
    async with AsyncExitStack() as ends:
        wires = await connected(proxy, fresh_database, clients, ends)
        waits_before = metric(proxy, "pgproxy_wait_seconds_count")
        sum_before = metric(proxy, "pgproxy_wait_seconds_sum")
        leases_before = metric(proxy, "pgproxy_leases_total")
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(sampler.run())
            began = time.monotonic()
            async with asyncio.TaskGroup() as lives:
                for wire in wires:
                    lives.create_task(crowd.live(wire, random.Random(dice.random())))
            took = time.monotonic() - began
            await eventually(lambda: not status(proxy)["running"]["total"]["running"])
            watch.cancel()
    assert sampler.samples > 20
    assert sampler.most <= SEATS
    assert max(sampler.most_of_one.values()) <= SEATS
    assert sampler.most >= SEATS - 1  # it was put to the test
    assert all(sampler.most_of_one.values())
    assert crowd.finished == clients - crowd.killed
    written = cluster.primary.psql("SELECT count(*) FROM t WHERE n > 0", fresh_database)
    assert int(written) == crowd.written
    waits = metric(proxy, "pgproxy_wait_seconds_count") - waits_before
    waited = metric(proxy, "pgproxy_wait_seconds_sum") - sum_before
    leases = metric(proxy, "pgproxy_leases_total") - leases_before
    LOG.info(
        "%d clients, %.1f s: at most %d at work in %d samples (%s); %d leases, %d waits of %.1f s in"
        " all; %d transactions took %.1f s for their clients; %d killed",
        *(clients, took, sampler.most, sampler.samples, sampler.most_of_one),
        *(leases, waits, waited, crowd.transactions, crowd.seconds, crowd.killed),
    )
    # Whoever was given a connection had waited for it, but for the last ones.
    assert crowd.transactions <= leases <= crowd.transactions + crowd.killed
    assert leases - clients <= waits <= leases
    assert waited <= crowd.seconds + 3 * crowd.killed
    limits = status(proxy)["running"]
    assert limits["waiting"] == 0
    assert all(limits[name]["running"] == 0 for name in (*sampler.most_of_one, "total"))
    assert metric(proxy, "pgproxy_queue_length") == 0


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def jain(shares: list[float]) -> float:
    """1 if all are equal, 1/n if one has all (Jain, Chiu and Hawe, 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


@pytest.fixture
def roles(cluster: Cluster) -> Iterator[None]:
    cluster.primary.psql("CREATE ROLE few LOGIN; CREATE ROLE crowd LOGIN")
    yield
    cluster.primary.psql("DROP ROLE few; DROP ROLE crowd")


class Turns:
    """How many statements have been served, whoever's they were: a clock that a busy machine does
    not hold up."""

    def __init__(self) -> None:
        self.count = 0


class User:
    """Some clients of one user, who ask without a pause."""

    def __init__(self, wires: list[Wire], turns: Turns) -> None:
        self.wires: Final = wires
        self.waits: list[float] = []  # in seconds
        self.turns: list[float] = []  # the same, by the other clock
        self._clock: Final = turns
        self.served = 0
        self.seat_time = 0.0

    async def work(self, until: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            for wire in self.wires:
                group.create_task(self._work(wire, until))

    async def _work(self, wire: Wire, until: Callable[[], bool]) -> None:
        while not until():
            began, turn = time.monotonic(), self._clock.count
            [[served]] = rows(await wire.ask(TIMED))
            seconds = float(served or b"")
            self._clock.count += 1
            self.turns.append(self._clock.count - turn)
            self.waits.append(time.monotonic() - began - seconds)
            self.served += 1
            self.seat_time += seconds


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("roles")
async def test_a_crowd_does_not_crowd_out_a_few(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(
        [cluster.primary],
        pool={"size": 20, "wait_timeout": 600},
        limits={"max_concurrent": 1},
    )
    async with AsyncExitStack() as ends:
        turns = Turns()
        few = User(await connected(proxy, fresh_database, 5, ends, "few"), turns)
        crowd = User(await connected(proxy, fresh_database, 500, ends, "crowd"), turns)
        await few.work(lambda: few.served >= 50)
        few.waits.clear()
        few.turns.clear()
        await few.work(lambda: few.served >= 350)
        alone, turns_alone = few.waits, few.turns
        few.waits, few.turns, few.served, few.seat_time = [], [], 0, 0.0
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.work(over.is_set))
            await eventually(lambda: crowd.served >= 50)
            crowd.served, crowd.seat_time = 0, 0.0
            await few.work(lambda: few.served >= 400)
            times = [few.seat_time, crowd.seat_time]
            counts = [float(few.served), float(crowd.served)]
            over.set()
    ratio = percentile(few.waits, 0.99) / percentile(alone, 0.99)
    ratio_of_turns = percentile(few.turns, 0.99) / percentile(turns_alone, 0.99)
    LOG.info(
        "few: p50 %.1f ms, p99 %.1f ms alone; p50 %.1f ms, p99 %.1f ms (%.2f times) beside a crowd;"
        " Jain's index of seat time %.3f (%s), of counts %.3f (%s); in turns %.2f times",
        *(percentile(alone, 0.5) * 1e3, percentile(alone, 0.99) * 1e3),
        *(percentile(few.waits, 0.5) * 1e3, percentile(few.waits, 0.99) * 1e3, ratio),
        *(jain(times), times, jain(counts), counts, ratio_of_turns),
    )
    assert ratio_of_turns < 3
    assert jain(times) > 0.95


@pytest.mark.timeout(300)
async def test_refusals_come_in_time(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    timeout = 1.0
    proxy = start_proxy(
        cluster.servers,
        pool={"size": 10, "wait_timeout": timeout},
        limits={"max_concurrent_per_backend": 4, "queue_size": 400},
    )
    write = query("/* pgproxy: primary */ SELECT 1")
    late: list[float] = []
    slow: list[float] = []

    async def ask(wire: Wire) -> None:
        await asyncio.sleep(random.random())
        began = time.monotonic()
        frames = await wire.ask(write)
        took = time.monotonic() - began
        assert [kind for kind, _ in frames] == [b"E", b"Z"]
        told = fields(frames[0][1])
        assert told["C"] == "53300"
        assert "limits.max_concurrent_per_backend" in told["H"]
        if "queue_size" in told["D"]:
            slow.append(took)
        else:
            assert "pool.wait_timeout" in told["D"]
            late.append(took - timeout)

    async with AsyncExitStack() as ends:
        holders = await connected(proxy, fresh_database, 4, ends)
        for wire in holders:
            assert errors(await wire.ask(query("BEGIN; SELECT 1 FOR UPDATE"))) == []
        readers = await connected(proxy, fresh_database, 40, ends)
        clients = await connected(proxy, fresh_database, 500, ends)
        over = asyncio.Event()

        async def read(wire: Wire) -> None:
            while not over.is_set():
                await wire.ask(query("SELECT 1"))

        async with asyncio.TaskGroup() as load:
            for wire in readers:
                load.create_task(read(wire))
            for _ in range(3):
                async with asyncio.TaskGroup() as group:
                    for wire in clients:
                        group.create_task(ask(wire))
            over.set()
        for wire in holders:
            assert errors(await wire.ask(query("COMMIT"))) == []
        for wire in clients[:20]:
            assert errors(await wire.ask(write)) == []
    LOG.info(
        "%d refused at once: p50 %.1f ms, p99 %.1f ms; %d waited too long, told p50 %.1f ms, p99"
        " %.1f ms, at most %.1f ms after they were due",
        *(len(slow), percentile(slow, 0.5) * 1e3, percentile(slow, 0.99) * 1e3),
        *(len(late), percentile(late, 0.5) * 1e3, percentile(late, 0.99) * 1e3, max(late) * 1e3),
    )
    assert min(late) > -0.01
