"""When catalogues are read: for the first client, after changes, at the interval, from a new primary."""

import asyncio
import contextlib
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

import asyncpg
import pytest
import structlog

from pgproxy.config import Backend, Config, Discovery, Health
from pgproxy.embedded import Cluster, Server
from pgproxy.routing.catalogue import Catalogue
from pgproxy.servers import catalogues as module
from pgproxy.servers.catalogue_reader import CHUNK
from pgproxy.servers.catalogues import FAILED, LOADED, OVERTAKEN, UNCHANGED, Catalogues, load_once
from pgproxy.topology.model import Node, Role
from tests.support.catalogue import HEALTH, session_of
from tests.support.fault import FaultProxy

pytestmark = pytest.mark.once

MANY: Final = 50_000
# Ten of them make a function of a usual length.
BODY: Final = "IF $1 > 0 THEN RETURN (SELECT count(*) FROM public.t WHERE a = $1); END IF; "


def node_of(server: Server, timeline: int = 1) -> Node:
    return Node(
        server.name, server.host, server.port, 1, "", Role.PRIMARY, True, timeline, None, ""
    )


class Kept:
    """Running catalogues and all that they have told."""

    def __init__(self, primary: Node | None, interval: float, health: Health) -> None:
        self.primary = primary
        self.used: set[str] | None = None  # all
        self.told: list[tuple[str, Catalogue | None]] = []
        self._news: Final = asyncio.Event()
        self.catalogues: Final = Catalogues(
            health,
            interval,
            primary=lambda: self.primary,
            is_used=lambda database: self.used is None or database in self.used,
            on_loaded=self._on_loaded,
        )
        self.results: Final = self.catalogues.results

    async def next(self) -> Catalogue | None:
        """What is told next; `told` is empty afterwards."""
        while not self.told:
            self._news.clear()
            await self._news.wait()
        assert len(self.told) == 1
        return self.told.pop()[1]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Readings of which nobody is told only count."""
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)

    def _on_loaded(self, database: str, catalogue: Catalogue | None) -> None:
        self.told.append((database, catalogue))
        self._news.set()


@contextlib.asynccontextmanager
async def kept(
    primary: Server | None, interval: float = 0, health: Health = HEALTH
) -> AsyncIterator[Kept]:
    keep = Kept(None if primary is None else node_of(primary), interval, health)
    async with asyncio.TaskGroup() as group:
        group.create_task(keep.catalogues.run())
        try:
            yield keep
        finally:
            await keep.catalogues.close()


def functions_of(catalogue: Catalogue | None) -> set[str]:
    assert catalogue is not None
    return set(catalogue.functions.get("public", {}))


def create(server: Server, database: str, name: str) -> None:
    server.psql(f"CREATE FUNCTION {name}() RETURNS int LANGUAGE sql AS 'SELECT 1'", database)


async def test_a_database_that_is_wanted_is_read_once(
    cluster: Cluster, fresh_database: str
) -> None:
    create(cluster.primary, fresh_database, "f")
    async with kept(cluster.primary) as keep:
        keep.catalogues.want(fresh_database)
        keep.catalogues.want(fresh_database)
        catalogue = await keep.next()
        assert functions_of(catalogue) == {"f"}
        keep.catalogues.want(fresh_database)
        assert await keep.next() is catalogue
        await asyncio.sleep(0.2)
        assert keep.results == {LOADED: 1}
        (watched,) = keep.catalogues.databases.values()
        assert (watched.database, watched.functions) == (fresh_database, 1)


async def test_what_is_wanted_before_it_runs_is_read(cluster: Cluster) -> None:
    keep = Kept(node_of(cluster.primary), 0, HEALTH)
    keep.catalogues.want("postgres")
    async with asyncio.TaskGroup() as group:
        group.create_task(keep.catalogues.run())
        assert functions_of(await keep.next()) == set()
        await keep.catalogues.close()


async def test_a_change_is_read_at_once(cluster: Cluster, fresh_database: str) -> None:
    async with kept(cluster.primary) as keep:
        keep.catalogues.want(fresh_database)
        await keep.next()
        for number in range(3):
            create(cluster.primary, fresh_database, f"f{number}")
            keep.catalogues.changed(fresh_database)
            assert f"f{number}" in functions_of(await keep.next())
        assert keep.results[LOADED] == 4


async def test_a_change_that_is_none_is_answered_with_what_there_was(
    cluster: Cluster, fresh_database: str
) -> None:
    async with kept(cluster.primary) as keep:
        keep.catalogues.want(fresh_database)
        catalogue = await keep.next()
        keep.catalogues.changed(fresh_database)
        assert await keep.next() is catalogue
        assert keep.results == {LOADED: 1, UNCHANGED: 1}


async def test_many_changes_are_read_together(cluster: Cluster, fresh_database: str) -> None:
    names = {f"f{number}" for number in range(20)}
    async with kept(cluster.primary) as keep:
        keep.catalogues.want(fresh_database)
        await keep.next()
        for name in names:
            await asyncio.to_thread(create, cluster.primary, fresh_database, name)
            keep.catalogues.changed(fresh_database)
        await keep.until(lambda: bool(keep.told) and functions_of(keep.told[-1][1]) == names)
        keep.told.clear()
        for _ in range(10):
            keep.catalogues.changed(fresh_database)
        assert functions_of(await keep.next()) == names


async def test_between_two_readings_there_is_a_pause(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALLEST_PAUSE", 1000.0)
    async with kept(cluster.primary) as keep:
        keep.catalogues.want("postgres")
        await keep.next()
        keep.catalogues.changed("postgres")
        await asyncio.sleep(0.3)
        assert keep.results == {LOADED: 1}


async def test_a_lock_on_what_is_read_ends_the_reading(
    cluster: Cluster, fresh_database: str
) -> None:
    """VACUUM FULL of a system catalogue takes such a lock."""
    blocker = await asyncpg.connect(cluster.primary.dsn(fresh_database))
    try:
        async with kept(cluster.primary) as keep:
            async with blocker.transaction():
                await blocker.execute("LOCK pg_cast IN ACCESS EXCLUSIVE MODE")
                keep.catalogues.want(fresh_database)
                assert await keep.next() is None
            assert await keep.next() is not None
    finally:
        await blocker.close()


async def test_a_server_that_hangs_is_not_waited_for(cluster: Cluster) -> None:
    server = cluster.primary
    async with kept(server, health=Health(timeout=0.5)) as keep:
        server.freeze()
        try:
            keep.catalogues.want("postgres")
            assert await keep.next() is None
        finally:
            server.thaw()
        assert await keep.next() is not None


async def test_a_reading_that_a_change_overtakes_is_not_told(
    cluster: Cluster, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cluster.primary
    async with kept(server) as keep:
        real = module.Session

        class Overtaken(real):
            """When the first one has been read the schema changes again."""

            async def read(self, *arguments: object) -> object:
                monkeypatch.setattr(module, "Session", real)
                reading = await super().read(*arguments)
                create(server, fresh_database, "late")
                keep.catalogues.changed(fresh_database)
                return reading

        monkeypatch.setattr(module, "Session", Overtaken)
        keep.catalogues.changed(fresh_database)
        assert functions_of(await keep.next()) == {"late"}
        assert keep.results == {OVERTAKEN: 1, LOADED: 1}


async def test_a_former_primary_that_hangs_is_left(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary = node_of(cluster.primary)
    reading = asyncio.Event()
    real = module.Session

    class Hanging(real):
        async def read(self, *_arguments: object) -> None:
            reading.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(module, "Session", Hanging)
    async with kept(cluster.primary) as keep:
        keep.catalogues.want("postgres")
        await reading.wait()
        keep.catalogues.topology_changed()
        await asyncio.sleep(0.1)
        assert not keep.results
        monkeypatch.setattr(module, "Session", real)
        keep.primary = replace(primary, timeline=2)
        keep.catalogues.topology_changed()
        assert await keep.next() is not None
        assert keep.results == {OVERTAKEN: 1, LOADED: 1}


async def test_the_interval_finds_what_did_not_pass_by(
    cluster: Cluster, fresh_database: str
) -> None:
    async with kept(cluster.primary, interval=0.05) as keep:
        keep.catalogues.want(fresh_database)
        await keep.next()
        await keep.until(lambda: keep.results[UNCHANGED] >= 3)
        assert not keep.told
        assert keep.results[LOADED] == 1
        create(cluster.primary, fresh_database, "f")
        assert functions_of(await keep.next()) == {"f"}
        assert keep.results[LOADED] == 2


async def test_without_a_log_in_there_is_none_until_there_is_one(
    cluster: Cluster, fresh_database: str
) -> None:
    server = cluster.primary
    server.psql("CREATE ROLE locked_out")
    try:
        async with kept(server, health=Health(user="locked_out", timeout=30)) as keep:
            with structlog.testing.capture_logs() as logs:
                keep.catalogues.want(fresh_database)
                assert await keep.next() is None
                await keep.until(lambda: keep.results[FAILED] >= 2)
                assert not keep.told
                keep.catalogues.changed(fresh_database)
                assert await keep.next() is None
                server.psql("ALTER ROLE locked_out LOGIN")
                keep.catalogues.changed(fresh_database)
                assert functions_of(await keep.next()) == set()
            warnings = [log for log in logs if log["event"] == "catalogue_failed"]
            assert len(warnings) == 1
            assert warnings[0]["database"] == fresh_database
            assert "not permitted to log in" in warnings[0]["reason"]
            assert [log["event"] for log in logs][-1] == "catalogue_loaded"
            # One that worked serves on for a while.
            server.psql("ALTER ROLE locked_out NOLOGIN")
            failed = keep.results[FAILED]
            keep.primary = node_of(server, timeline=2)
            keep.catalogues.topology_changed()
            await keep.until(lambda: keep.results[FAILED] > failed)
            assert not keep.told
    finally:
        server.psql("DROP ROLE locked_out")


async def test_one_that_cannot_be_looked_at_any_more_serves_for_a_while_only(
    cluster: Cluster, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    async with kept(cluster.primary, interval=0.05) as keep:
        keep.catalogues.want(fresh_database)
        assert await keep.next() is not None
        keep.primary = None
        assert await keep.next() is None
        assert keep.results[FAILED] > 1
        keep.primary = node_of(cluster.primary)
        keep.catalogues.topology_changed()
        assert await keep.next() is not None


async def test_a_database_that_does_not_exist(cluster: Cluster) -> None:
    async with kept(cluster.primary) as keep:
        keep.catalogues.want("nowhere")
        assert await keep.next() is None


async def test_the_first_time_without_a_primary(cluster: Cluster) -> None:
    async with kept(None) as keep:
        keep.catalogues.want("postgres")
        assert await keep.next() is None
        keep.primary = node_of(cluster.primary)
        keep.catalogues.topology_changed()
        assert await keep.next() is not None


async def test_a_standby_is_not_believed(cluster: Cluster) -> None:
    async with kept(cluster.replicas[0]) as keep:
        keep.catalogues.want("postgres")
        assert await keep.next() is None
        assert keep.results == {FAILED: 1}


async def test_a_new_primary_is_asked(private_cluster: Cluster) -> None:
    old, new = private_cluster.primary, private_cluster.replicas[0]
    async with kept(old) as keep:
        keep.catalogues.want("postgres")
        assert functions_of(await keep.next()) == set()
        await asyncio.to_thread(old.kill9)
        await asyncio.to_thread(new.promote)
        await asyncio.to_thread(create, new, "postgres", "f")
        keep.catalogues.topology_changed()  # nothing of it concerns the primary
        await asyncio.sleep(0.2)
        assert not keep.told
        keep.primary = None
        keep.catalogues.topology_changed()
        keep.primary = node_of(new, timeline=2)
        keep.catalogues.topology_changed()
        assert functions_of(await keep.next()) == {"f"}
        # As known as it is, it is another one's.
        keep.primary = replace(keep.primary, timeline=3)
        keep.catalogues.topology_changed()
        await keep.next()
        assert keep.results[LOADED] == 3


@pytest.mark.parametrize("interval", [0.0, 0.05])
async def test_a_database_without_clients_is_forgotten(
    cluster: Cluster, interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REVIEW", 0.05)
    async with kept(cluster.primary, interval) as keep:
        keep.catalogues.want("postgres")
        keep.catalogues.want("template1")
        await keep.until(lambda: len(keep.told) == 2)
        keep.told.clear()
        keep.used = {"template1"}
        assert await keep.next() is None
        assert list(keep.catalogues.databases) == ["template1"]
        keep.catalogues.changed("postgres")  # whoever was told of it waits for an answer
        await keep.until(lambda: len(keep.told) == 2)
        assert [database for database, _ in keep.told] == ["postgres", "postgres"]


async def test_no_connection_stays(cluster: Cluster, fresh_database: str) -> None:
    async with kept(cluster.primary) as keep:
        keep.catalogues.want(fresh_database)
        await keep.next()
        cluster.primary.psql(f"ALTER DATABASE {fresh_database} RENAME TO renamed")
        cluster.primary.psql(f"ALTER DATABASE renamed RENAME TO {fresh_database}")


async def test_closing_in_the_middle_ends_the_reading(
    cluster: Cluster, fresh_database: str
) -> None:
    async with kept(cluster.primary) as keep:
        keep.catalogues.want(fresh_database)
        await asyncio.sleep(0)
    assert not keep.told


async def test_loading_once(cluster: Cluster, fresh_database: str) -> None:
    create(cluster.primary, fresh_database, "f")

    def config(servers: list[Server]) -> Config:
        backends = tuple(Backend(host=server.host, port=server.port) for server in servers)
        return Config(discovery=Discovery(backends=backends), health=HEALTH)

    everybody = config([*cluster.replicas, cluster.primary])
    assert functions_of(await load_once(everybody, fresh_database)) == {"f"}
    assert await load_once(everybody, "nowhere") is None
    assert await load_once(config(cluster.replicas), fresh_database) is None
    assert await load_once(config([]), fresh_database) is None


@pytest.mark.timeout(300)
async def test_fifty_thousand_functions_hold_nobody_up(
    cluster: Cluster, fresh_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loop gets its turn between any two chunks, and a chunk is bounded."""
    server = cluster.primary
    await asyncio.to_thread(
        server.psql,
        "SET check_function_bodies = off; DO $$BEGIN FOR n IN 1.."
        f"{MANY} LOOP EXECUTE format('CREATE FUNCTION function_with_number_%s(int)"
        " RETURNS int LANGUAGE plpgsql STABLE AS %L', n,"
        f" 'BEGIN {BODY * 10} RETURN 1; END'); END LOOP; END$$",
        fresh_database,
        timeout=300,
    )
    loop = asyncio.get_running_loop()
    chunks = 0
    turned = True
    rows = 0

    def turn() -> None:
        nonlocal turned
        turned = True

    def proceed() -> None:
        nonlocal chunks, turned, rows
        assert turned
        turned = False
        loop.call_soon(turn)
        now = catalogue.count
        assert now - rows <= CHUNK
        chunks, rows = chunks + 1, now

    gaps = []

    async def tick() -> None:
        while True:
            began = loop.time()
            await asyncio.sleep(0.005)
            gaps.append(loop.time() - began)

    catalogue = Catalogue()
    async with session_of(server, fresh_database) as session:
        ticker = loop.create_task(tick())
        began = loop.time()
        reading = await session.read(catalogue, proceed=proceed)
        seconds = loop.time() - began
        ticker.cancel()
        assert reading is not None
        began = loop.time()
        assert await session.read(Catalogue(), reading.fingerprint) is None
        again = loop.time() - began
        small = Catalogue()
        tracemalloc.start()
        await session.read(small)
        memory, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert reading.functions == MANY
    assert len(catalogue.functions["public"]) == MANY
    assert chunks >= MANY // CHUNK
    with capsys.disabled():
        print(  # noqa: T201 - what was measured
            f"\n{MANY} functions: {seconds:.2f} s, {chunks} chunks, {len(gaps)} ticks of 5 ms,"
            f" the longest {max(gaps) * 1000:.1f} ms; unchanged {again * 1000:.0f} ms;"
            f" {memory / MANY:.0f} bytes for each"
        )


async def test_a_reading_can_be_ended_though_the_server_has_fallen_silent(cluster: Cluster) -> None:
    """In the middle of its transaction: COMMIT would not be answered either."""
    async with FaultProxy(cluster.primary) as network, session_of(network, "postgres") as session:
        behind_begin = network.forwarded["to_server"] + 200
        reading = asyncio.get_running_loop().create_task(session.read(Catalogue()))
        await network.wait_forwarded(behind_begin, "to_server")
        network.stall("to_client")
        await asyncio.sleep(0.1)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait({reading}, timeout=10)
        assert reading.cancelled()


async def test_what_a_reading_prunes_is_flushed(cluster: Cluster, fresh_database: str) -> None:
    """Or the replicas of a quiet primary seem late until somebody commits (15 s at most)."""
    server = cluster.primary
    for number in range(20):
        create(server, fresh_database, f"f{number}")
    server.psql("CHECKPOINT", fresh_database)
    async with session_of(server, fresh_database) as session:
        assert await session.read(Catalogue()) is not None
        deadline = time.monotonic() + 8
        unflushed = "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()"
        while server.psql(f"BEGIN; {unflushed}; ROLLBACK") != "0":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
