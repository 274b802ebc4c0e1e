"""PostgreSQL 19: the main job, and a replica that says when it has replayed (WAIT FOR LSN)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

import psycopg
import pytest

from pgproxy.config import Health
from pgproxy.embedded import Cluster, Installation
from pgproxy.topology import prober
from pgproxy.topology.freshness import UNKNOWN
from pgproxy.topology.model import Backend
from pgproxy.topology.monitor import CALM_INTERVAL, Monitor
from tests.support.place import cluster_parent
from tests.support.postgres_19 import MissingPostgresError, postgres_19
from tests.support.proxy import ProxyProcess
from tests.support.serving import (
    assert_cancels_arrive,
    assert_pgbench_adds_up,
    assert_statements_go_where_they_should,
    served,
)

ROUNDS: Final = 20
PAUSE: Final = 1.0  # seconds for which the replay stands still
NEVER: Final = 1000  # no server has that version

WAITING: Final = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'WaitForWalReplay'"
RECEIVING: Final = "SELECT pid FROM pg_stat_wal_receiver"
# In the log of a server that has log_statement = all; tabs are how it goes on in the next line.
WHOLE: Final = "FROM pg_control_system()"
POSITION: Final = "SELECT in_recovery,\n\t       CASE"
WAIT: Final = "WAIT FOR LSN"
AUTHORIZED: Final = (
    "connection authorized: user=postgres database=postgres application_name=pgproxy"
)
REFUSED: Final = "canceling statement due to statement timeout"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    try:
        with postgres_19() as found:
            yield found
    except MissingPostgresError as missing:
        pytest.fail(str(missing))


@pytest.fixture(scope="module")
def both(installation: Installation) -> Iterator[tuple[Cluster, ProxyProcess]]:
    with served(installation) as pair:
        yield pair


@pytest.fixture
def own(installation: Installation) -> Iterator[Cluster]:
    """Its servers log what they are asked."""
    with Cluster.create(
        1,
        installation=installation,
        settings={"log_statement": "all", "log_connections": "authorization"},
        directory=cluster_parent(),
    ) as cluster:
        cluster.primary.psql("CREATE TABLE t (n int)")
        cluster.wait_caught_up()
        yield cluster


class Watch:
    """A monitor, and as of when it knew the replica to be fresh."""

    def __init__(self, cluster: Cluster) -> None:
        self.primary = cluster.primary
        self.replica = cluster.replicas[0]
        self.fresh: list[float] = []
        backends = [Backend(one.name, one.host, one.port) for one in cluster.servers]
        # One whole question, and no more unless something asks for it.
        health = Health(interval=3600, timeout=30)
        self.monitor = Monitor(backends, health, lambda _topology: None, self._on_fresh)

    def _on_fresh(self, name: str, fresh: float) -> None:
        if name == self.replica.name:
            self.fresh.append(fresh)

    async def falls_behind(self) -> float:
        """Pauses the replay and writes. Returns as of when a replica has replayed that."""
        await asyncio.to_thread(self.replica.pause_replay)
        await asyncio.to_thread(self.primary.psql, "INSERT INTO t VALUES (1)")
        return time.monotonic()

    async def waits(self) -> None:
        """Has it asked once, and returns when it waits for the replay."""
        self.monitor.ask_positions()
        while not await asyncio.to_thread(self.replica.psql, WAITING):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def asks_until_fresh(self, as_of: float) -> None:
        while self.fresh[-1] < as_of:
            self.monitor.ask_positions()
            await asyncio.sleep(0.01)

    async def until_fresh(self, as_of: float) -> None:
        while self.fresh[-1] < as_of:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)

    def asked(self, what: str) -> int:
        return self.replica.log_path.read_text().count(what)


@contextlib.asynccontextmanager
async def watching(cluster: Cluster) -> AsyncIterator[Watch]:
    watch = Watch(cluster)
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.monitor.run())
        await watch.monitor.first_round.wait()
        # Before there was a primary the next question was due soon: that one is over.
        await asyncio.sleep(CALM_INTERVAL * 2)
        try:
            yield watch
        finally:
            await watch.monitor.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica waits for longer than any test takes."""
    monkeypatch.setattr(prober, "LONGEST_WAIT", 600.0)


def test_statements_go_where_they_should(both: tuple[Cluster, ProxyProcess]) -> None:
    assert_statements_go_where_they_should(*both)


def test_pgbench_adds_up(both: tuple[Cluster, ProxyProcess]) -> None:
    assert_pgbench_adds_up(*both)


async def test_cancels_arrive(both: tuple[Cluster, ProxyProcess]) -> None:
    await assert_cancels_arrive(*both)


async def test_waiting_saves_questions(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(own) as watch:

        async def questions(waits_from: int) -> tuple[int, float]:
            """The number until it is fresh, the replay being paused for a while; and the seconds."""
            monkeypatch.setattr(prober, "WAITS_FROM", waits_from)
            before = watch.asked(POSITION)
            behind = await watch.falls_behind()
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(watch.asks_until_fresh(behind))
                await asyncio.sleep(PAUSE)
                await asyncio.to_thread(watch.replica.resume_replay)
                await asking
            return watch.asked(POSITION) - before, time.monotonic() - behind

        polls, _ = await questions(NEVER)
        assert watch.asked(WAIT) == 0
        waits, seconds = await questions(19)
        print(  # noqa: T201 - what was measured
            f"questions until fresh: {polls} without WAIT FOR LSN, {waits} with it"
        )
        assert watch.asked(WAIT) >= 1
        assert waits <= seconds / prober.LONGEST_WAIT + 3
        assert waits < polls


@pytest.mark.usefixtures("patient")
async def test_the_answer_comes_with_the_replay(own: Cluster) -> None:
    async with watching(own) as watch:
        before = watch.asked(POSITION)
        behind = await watch.falls_behind()
        await watch.waits()
        assert watch.fresh[-1] < behind
        await asyncio.to_thread(watch.replica.resume_replay)
        await watch.until_fresh(behind)
        assert watch.asked(POSITION) - before == watch.asked(WAIT) == 1


@pytest.mark.usefixtures("patient")
async def test_who_waits_answers_the_whole_question(own: Cluster) -> None:
    async with watching(own) as watch:
        connections = watch.asked(AUTHORIZED)
        behind = await watch.falls_behind()
        watch.fresh.clear()
        await watch.waits()
        before = watch.asked(WHOLE)
        for _ in range(3):  # all at once: one of them interrupts
            watch.monitor.probe_now(watch.replica.name)
        while watch.asked(WHOLE) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await watch.waits()
        await asyncio.to_thread(watch.replica.resume_replay)
        await watch.until_fresh(behind)
        assert watch.asked(AUTHORIZED) == connections, "on the same connection"
        assert UNKNOWN not in watch.fresh, "nothing was forgotten"


@pytest.mark.usefixtures("patient")
async def test_closing_does_not_wait_for_the_replay(own: Cluster) -> None:
    async with watching(own) as watch:
        await watch.falls_behind()
        await watch.waits()
        async with asyncio.timeout(60):
            await watch.monitor.close()
    await asyncio.to_thread(own.replicas[0].resume_replay)


@pytest.mark.usefixtures("patient")
async def test_a_promotion_ends_the_wait_and_shows(own: Cluster) -> None:
    async with watching(own) as watch:
        # Nothing that is written from now on comes to the replica.
        await asyncio.to_thread(watch.replica.psql, "ALTER SYSTEM SET primary_conninfo = ''")
        await asyncio.to_thread(watch.replica.reload)
        while await asyncio.to_thread(watch.replica.psql, RECEIVING):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.to_thread(watch.primary.psql, "INSERT INTO t VALUES (1)")
        await watch.waits()
        await asyncio.to_thread(watch.replica.promote)
        while True:
            primary = watch.monitor.topology.primary
            if primary is not None and primary.name == watch.replica.name:
                break
            await asyncio.sleep(0.01)


async def test_a_wait_that_is_refused_is_a_question_all_the_same(own: Cluster) -> None:
    own.primary.psql("ALTER DATABASE postgres SET statement_timeout = '20ms'")
    own.wait_caught_up()
    async with watching(own) as watch:
        behind = await watch.falls_behind()
        watch.fresh.clear()
        while watch.asked(REFUSED) < 2:
            watch.monitor.ask_positions()
            await asyncio.sleep(0.01)
        assert UNKNOWN not in watch.fresh, "nothing was forgotten"
        await asyncio.to_thread(watch.replica.resume_replay)
        await watch.asks_until_fresh(behind)


def test_reads_behind_a_delayed_replica_see_what_their_session_wrote(own: Cluster) -> None:
    replica = own.replicas[0]
    replica.configure({"recovery_min_apply_delay": "50ms"})
    with (
        ProxyProcess.start(own.servers, consistency={"wait": 60}) as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as session,
    ):
        for number in range(ROUNDS):
            session.execute("INSERT INTO t VALUES (%s)", [number])
            found = session.execute("SELECT inet_server_port(), max(n) FROM t").fetchone()
            assert found == (replica.port, number)
    log = replica.log_path.read_text()
    print(  # noqa: T201 - what was measured
        f"{ROUNDS} reads: {log.count(POSITION)} positions, {log.count(WAIT)} waits"
    )
    assert log.count(WAIT) >= 1
