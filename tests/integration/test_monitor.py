"""The monitor against real servers: what it sees of deaths, promotions, pauses and lock-outs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest

from pgproxy.config import Health
from pgproxy.embedded import Cluster, Server
from pgproxy.protocol.lsn import parse_lsn
from pgproxy.topology.fusion import NOT_ASKED
from pgproxy.topology.model import Backend, Node, Role, Topology
from pgproxy.topology.monitor import Monitor
from pgproxy.topology.prober import POSITION_GAP
from tests.support.fault import FaultProxy

pytestmark = pytest.mark.once

QUICK: Final = Health(interval=0.05, timeout=2)
COUNT_SESSIONS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgproxy monitor'"
)
END_SESSIONS: Final = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    " WHERE application_name = 'pgproxy monitor'"
)


class Watching:
    """A running monitor and every topology it has published."""

    def __init__(self, backends: list[Backend], health: Health) -> None:
        self.published: list[Topology] = []
        self.fresh: list[tuple[str, float]] = []
        self.monitor = Monitor(
            backends,
            health,
            self.published.append,
            lambda name, fresh: self.fresh.append((name, fresh)),
        )

    def node(self, name: str) -> Node:
        node = self.monitor.topology.node(name)
        assert node is not None
        return node

    def roles(self) -> dict[str, Role]:
        return {node.name: node.role for node in self.monitor.topology.nodes}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Positions and errors are not published: they are what there is to poll for."""
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


async def until_sessions(server: Server, count: int) -> None:
    """Wait until the server has so many sessions of monitors."""
    while int(server.psql(COUNT_SESSIONS)) != count:  # noqa: ASYNC110 - it is the server that tells
        await asyncio.sleep(0.01)


def backends_of(servers: list[Server]) -> list[Backend]:
    return [Backend(server.name, server.host, server.port) for server in servers]


def watching(
    servers: list[Server], health: Health = QUICK
) -> contextlib.AbstractAsyncContextManager[Watching]:
    return watching_backends(backends_of(servers), health)


@contextlib.asynccontextmanager
async def watching_backends(backends: list[Backend], health: Health) -> AsyncIterator[Watching]:
    watch = Watching(backends, health)
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.monitor.run())
        try:
            await watch.monitor.first_round.wait()
            yield watch
        finally:
            await watch.monitor.close()


async def test_the_first_round_finds_every_role(cluster: Cluster) -> None:
    async with watching(cluster.servers) as watch:
        assert watch.roles() == {
            "primary": Role.PRIMARY,
            "replica-1": Role.REPLICA,
            "replica-2": Role.REPLICA,
        }
        (topology,) = watch.published
        assert topology.version == 1
        assert topology.timeline == 1
        system = cluster.primary.psql("SELECT system_identifier FROM pg_control_system()")
        assert topology.system_identifier == int(system)


async def test_nothing_is_published_while_nothing_changes_but_positions(cluster: Cluster) -> None:
    async with watching(cluster.servers) as watch:
        before = watch.monitor.lsn("replica-1")
        assert before is not None
        await asyncio.to_thread(
            cluster.primary.psql, "SELECT pg_logical_emit_message(false, 'test', 'x')"
        )
        written = parse_lsn(cluster.primary.psql("SELECT pg_current_wal_insert_lsn()"))
        await watch.until(lambda: (watch.monitor.lsn("primary") or 0) >= written)
        await watch.until(lambda: (watch.monitor.lsn("replica-1") or 0) > before)
        assert len(watch.published) == 1


async def test_closing_leaves_no_connection_and_no_task(private_cluster: Cluster) -> None:
    async with watching(private_cluster.servers):
        assert int(private_cluster.primary.psql(COUNT_SESSIONS)) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for server in private_cluster.servers:
        await until_sessions(server, 0)


async def test_being_cancelled_ends_it_as_well(cluster: Cluster) -> None:
    watch = Watching(backends_of(cluster.servers), QUICK)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.monitor.run())
        await watch.monitor.first_round.wait()
        task.cancel()
    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await watch.monitor.close()


async def test_a_connection_that_is_ended_is_replaced_unnoticed(private_cluster: Cluster) -> None:
    async with watching(private_cluster.servers) as watch:
        for _ in range(3):
            await asyncio.to_thread(private_cluster.primary.psql, END_SESSIONS)
            await until_sessions(private_cluster.primary, 1)
        assert len(watch.published) == 1
        assert watch.node("primary").error == ""


async def test_paused_replay_shows_in_the_replica_s_position(private_cluster: Cluster) -> None:
    paused, running = private_cluster.replicas
    async with watching(private_cluster.servers) as watch:
        await asyncio.to_thread(paused.pause_replay)
        private_cluster.primary.psql("CREATE TABLE t AS SELECT generate_series(1, 1000)")
        written = parse_lsn(private_cluster.primary.psql("SELECT pg_current_wal_insert_lsn()"))
        await watch.until(lambda: (watch.monitor.lsn(running.name) or 0) >= written)
        shown = parse_lsn(paused.psql("SELECT pg_last_wal_replay_lsn()"))
        assert shown < written
        await watch.until(lambda: watch.monitor.lsn(paused.name) == shown)
        paused.resume_replay()
        await watch.until(lambda: (watch.monitor.lsn(paused.name) or 0) >= written)
        assert len(watch.published) == 1


@pytest.mark.parametrize("end", [Server.kill9, Server.stop])
async def test_a_dead_replica_is_out_and_back_in_when_it_lives_again(
    private_cluster: Cluster, end: Callable[[Server], None]
) -> None:
    lost = private_cluster.replicas[0]
    # The interval alone would notice it in a minute: the end of the connection tells.
    async with watching(private_cluster.servers, Health(interval=60, timeout=2)) as watch:
        await asyncio.to_thread(end, lost)
        await watch.until(lambda: watch.roles()[lost.name] is Role.NONE)
        assert not watch.node(lost.name).alive
        assert watch.node(lost.name).error
        await asyncio.to_thread(lost.start)
        watch.monitor.probe_now(lost.name)
        await watch.until(lambda: watch.roles()[lost.name] is Role.REPLICA)
        assert watch.roles()["primary"] is Role.PRIMARY


async def test_a_promotion_is_followed_and_the_old_primary_fenced(private_cluster: Cluster) -> None:
    old, (chosen, other) = private_cluster.primary, private_cluster.replicas
    async with watching(private_cluster.servers) as watch:
        await asyncio.to_thread(old.kill9)
        await watch.until(lambda: watch.monitor.topology.primary is None)
        assert watch.roles()[chosen.name] is Role.REPLICA
        await asyncio.to_thread(chosen.promote)
        await watch.until(lambda: watch.roles()[chosen.name] is Role.PRIMARY)
        assert watch.monitor.topology.timeline == 2
        # At once: once the old primary is back, it would feed this replica its own new WAL.
        await asyncio.to_thread(other.follow, chosen)
        await watch.until(lambda: watch.node(other.name).timeline == 2)

        # It comes back as it went, and takes writes; then it is even alone in that.
        await asyncio.to_thread(old.start)
        await watch.until(lambda: watch.node(old.name).alive)
        assert watch.node(old.name).is_fenced
        assert "timeline 1, and the cluster is on 2" in watch.node(old.name).error
        await asyncio.to_thread(chosen.kill9)
        await watch.until(lambda: not watch.node(chosen.name).alive)
        assert watch.monitor.topology.primary is None
        await asyncio.to_thread(chosen.start)
        await watch.until(lambda: watch.roles()[chosen.name] is Role.PRIMARY)

        await asyncio.to_thread(old.rejoin, chosen)
        await watch.until(lambda: watch.roles()[old.name] is Role.REPLICA)
        # Not once were there writes for a server that was not the newest.
        primaries = [topology.primary for topology in watch.published]
        seen = [node.name for node in primaries if node is not None]
        assert seen == sorted(seen, key=[old.name, chosen.name].index)


async def test_two_primaries_at_once_are_told_apart_by_their_timelines(
    private_cluster: Cluster,
) -> None:
    old, chosen = private_cluster.primary, private_cluster.replicas[0]
    await asyncio.to_thread(chosen.promote)
    # Right after the promotion, before any checkpoint.
    async with watching(private_cluster.servers) as watch:
        assert watch.roles()[chosen.name] is Role.PRIMARY
        assert watch.node(old.name).is_fenced
        assert len(watch.published) == 1


async def test_a_silent_server_is_out_after_so_many_questions_and_back_in(
    private_cluster: Cluster,
) -> None:
    frozen = private_cluster.replicas[0]
    health = Health(interval=0.05, timeout=0.2, failures=3)
    async with watching(private_cluster.servers, health) as watch:
        frozen.freeze()
        try:
            await watch.until(lambda: bool(watch.node(frozen.name).error))
            assert watch.roles()[frozen.name] is Role.REPLICA
            await watch.until(lambda: watch.roles()[frozen.name] is Role.NONE)
            assert watch.node(frozen.name).error == "no answer within 0.2 s"
        finally:
            frozen.thaw()
        await watch.until(lambda: watch.roles()[frozen.name] is Role.REPLICA)
        assert watch.node(frozen.name).error == ""


async def test_closing_does_not_wait_for_a_server_that_hangs(private_cluster: Cluster) -> None:
    frozen = private_cluster.replicas[0]
    async with watching(private_cluster.servers, Health(interval=0.05, timeout=3600)) as watch:
        frozen.freeze()
        watch.monitor.probe_now(frozen.name)
        # Two rounds of the others: by then the question to the frozen one is under way.
        position = watch.monitor.lsn("primary")
        private_cluster.primary.psql("CREATE TABLE t (i int)")
        await watch.until(lambda: watch.monitor.lsn("primary") != position)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    frozen.thaw()


async def test_a_server_that_locks_the_monitor_out_keeps_its_role(private_cluster: Cluster) -> None:
    primary = private_cluster.primary
    async with watching(private_cluster.servers) as watch:
        await asyncio.to_thread(primary.set_hba, ["host all all 127.0.0.1/32 reject"])
        await asyncio.to_thread(primary.psql, END_SESSIONS)
        await watch.until(lambda: "28000" in watch.node("primary").error)
        for _ in range(watch.monitor.health.failures + 1):
            watch.monitor.probe_now("primary")
            await asyncio.sleep(0.2)
        assert watch.roles()["primary"] is Role.PRIMARY
        await asyncio.to_thread(primary.kill9)
        await watch.until(lambda: watch.roles()["primary"] is Role.NONE)


async def test_a_user_without_any_rights_and_a_password_from_a_file_will_do(
    private_cluster: Cluster, tmp_path: Path
) -> None:
    private_cluster.primary.psql("CREATE ROLE watcher LOGIN PASSWORD 's3cret'")
    # A standby must be able to answer although the server's default says otherwise.
    private_cluster.primary.psql(
        "ALTER ROLE watcher SET default_transaction_isolation = 'serializable'"
    )
    private_cluster.wait_caught_up()
    await asyncio.to_thread(
        private_cluster.set_hba, ["host all watcher 127.0.0.1/32 scram-sha-256"]
    )
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    health = Health(interval=0.05, user="watcher", password_file=secret)
    async with watching(private_cluster.servers, health) as watch:
        assert set(watch.roles().values()) == {Role.NONE}
        assert "28P01" in watch.node("primary").error
        secret.write_text("s3cret\n")
        await watch.until(lambda: Role.NONE not in watch.roles().values())
        assert watch.roles()["primary"] is Role.PRIMARY
        assert watch.node("replica-1").timeline == 1


def labelled(*servers: tuple[Server, str], uid: str = "") -> list[Backend]:
    return [
        Backend(server.name, server.host, server.port, role, uid=uid, hinted=True)
        for server, role in servers
    ]


async def test_a_list_that_comes_later_and_its_labels_are_followed(
    private_cluster: Cluster,
) -> None:
    old, (chosen, other) = private_cluster.primary, private_cluster.replicas
    # The interval alone would notice nothing for a minute.
    async with watching([], Health(interval=60, timeout=2)) as watch:
        assert watch.monitor.topology.nodes == ()
        pods = labelled((old, "primary"), (chosen, "replica"), (other, "replica"))
        watch.monitor.set_backends(pods)
        await watch.until(lambda: len(watch.published) == 2)
        assert [node.role.value for node in watch.published[1].nodes] == [
            "primary",
            "replica",
            "replica",
        ]
        # A clean switchover: the old primary loses its label before the new one is promoted.
        watch.monitor.set_backends(labelled((old, "none"), (chosen, "replica"), (other, "replica")))
        assert watch.monitor.topology.primary is None
        assert not watch.node(old.name).cut
        watch.monitor.set_backends(labelled((old, "none"), (chosen, "primary"), (other, "replica")))
        assert watch.roles()[chosen.name] is Role.REPLICA
        await asyncio.to_thread(chosen.promote)
        await watch.until(lambda: watch.roles()[chosen.name] is Role.PRIMARY)
        assert watch.node(old.name).cut
        # The old pod goes, and a new one comes back under its name, as a replica.
        watch.monitor.set_backends(labelled((chosen, "primary"), (other, "replica")))
        assert set(watch.roles()) == {chosen.name, other.name}
        await until_sessions(old, 0)
        await asyncio.to_thread(old.stop)
        await asyncio.to_thread(old.rejoin, chosen)
        watch.monitor.set_backends(
            [
                *labelled((old, "replica"), uid="2"),
                *labelled((chosen, "primary"), (other, "replica")),
            ]
        )
        assert watch.node(old.name).error == NOT_ASKED
        await watch.until(lambda: watch.roles()[old.name] is Role.REPLICA)


async def test_a_new_label_has_the_server_asked_at_once(private_cluster: Cluster) -> None:
    old, (chosen, _) = private_cluster.primary, private_cluster.replicas
    async with watching([], Health(interval=60, timeout=2)) as watch:
        watch.monitor.set_backends(labelled((old, "primary"), (chosen, "replica")))
        await watch.until(lambda: len(watch.published) == 2)
        await asyncio.to_thread(chosen.promote)
        assert watch.roles()[old.name] is Role.PRIMARY
        watch.monitor.set_backends(labelled((old, "primary"), (chosen, "primary")))
        await watch.until(lambda: watch.roles()[chosen.name] is Role.PRIMARY)
        assert watch.node(old.name).is_fenced


async def test_positions_are_asked_for_in_between(cluster: Cluster) -> None:
    async with watching(cluster.servers, Health(interval=3600, timeout=10)) as watch:
        await asyncio.to_thread(cluster.primary.psql, "CREATE TABLE asked (); DROP TABLE asked")
        since = time.monotonic()
        while not {"replica-1", "replica-2"} <= {name for name, at in watch.fresh if at >= since}:
            watch.monitor.ask_positions()
            await asyncio.sleep(0.01)
        assert len(watch.published) == 1


async def test_replicas_are_asked_for_what_the_primary_has_just_said(
    private_cluster: Cluster,
) -> None:
    primary = private_cluster.primary
    servers = [primary, private_cluster.replicas[0]]
    async with watching(servers, Health(interval=3600, timeout=30)) as watch:
        await asyncio.to_thread(primary.freeze)
        since = time.monotonic()
        watch.fresh.clear()
        watch.monitor.ask_positions()
        await asyncio.sleep(POSITION_GAP * 20)
        # An answer from before may still come.
        assert not any(at >= since for _name, at in watch.fresh)
        await asyncio.to_thread(primary.thaw)
        await watch.until(lambda: any(at >= since for _name, at in watch.fresh))


async def test_however_often_it_is_wanted_the_position_is_asked_for_at_a_measured_pace(
    cluster: Cluster,
) -> None:
    async with watching([cluster.replicas[0]], Health(interval=3600, timeout=10)) as watch:
        await asyncio.sleep(POSITION_GAP * 2)
        watch.fresh.clear()
        started = time.monotonic()
        while len(watch.fresh) < 10:
            watch.monitor.ask_positions()
            await asyncio.sleep(0.001)
        assert len(watch.fresh) <= (time.monotonic() - started) / POSITION_GAP + 1


async def test_a_promotion_shows_when_the_position_is_asked_for(private_cluster: Cluster) -> None:
    replica = private_cluster.replicas[0]
    async with watching([replica], Health(interval=3600, timeout=10)) as watch:
        await asyncio.to_thread(replica.promote)
        while watch.roles() != {replica.name: Role.PRIMARY}:
            watch.monitor.ask_positions()
            await asyncio.sleep(0.01)


async def test_a_replica_whose_connection_ends_is_not_fresh_until_it_is_asked(
    private_cluster: Cluster,
) -> None:
    replica = private_cluster.replicas[0]
    async with watching([private_cluster.primary, replica]) as watch:
        await watch.until(lambda: watch.fresh[-1:] > [(replica.name, 0.0)])
        seen = len(watch.fresh)
        await asyncio.to_thread(replica.psql, END_SESSIONS)
        await watch.until(lambda: (replica.name, 0.0) in watch.fresh[seen:])
        await watch.until(lambda: watch.fresh[-1:] > [(replica.name, 0.0)])
        assert len(watch.published) == 1


async def test_a_server_that_does_not_answer_for_its_position_is_asked_more(
    cluster: Cluster,
) -> None:
    replica = cluster.replicas[0]
    async with (
        FaultProxy(replica) as network,
        watching_backends(
            [Backend("far", network.host, network.port)], Health(interval=3600, timeout=0.3)
        ) as watch,
    ):
        network.stall("to_client")
        while watch.roles() != {"far": Role.NONE}:
            watch.monitor.ask_positions()
            await asyncio.sleep(0.01)
        network.resume()
