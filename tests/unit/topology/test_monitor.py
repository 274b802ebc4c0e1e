"""The monitor before servers that are no PostgreSQL; tests/integration has the real ones."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from pgproxy.config import Health
from pgproxy.topology import prober as module
from pgproxy.topology.fusion import NOT_ASKED
from pgproxy.topology.model import Backend, Probe, Role, Topology
from pgproxy.topology.monitor import CALM_INTERVAL, EAGER_INTERVAL, Monitor
from pgproxy.topology.prober import SMALLEST_GAP

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST: Final = "127.0.0.1"


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """A server of that behaviour; yields its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def running(
    ports: list[int], health: Health
) -> AsyncIterator[tuple[Monitor, list[Topology]]]:
    published: list[Topology] = []
    backends = [Backend(f"server-{number}", HOST, port) for number, port in enumerate(ports)]
    monitor = Monitor(backends, health, published.append)
    async with asyncio.TaskGroup() as group:
        group.create_task(monitor.run())
        try:
            await monitor.first_round.wait()
            yield monitor, published
        finally:
            await monitor.close()


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the other side goes
    while await reader.read(1000):
        pass


async def close_at_once(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


async def answer_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(os.urandom(1000))
    await writer.drain()


async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def test_without_backends_there_is_an_empty_topology_at_once() -> None:
    async with running([], Health()) as (monitor, published):
        assert [topology.nodes for topology in published] == [()]
        assert monitor.topology.primary is None


async def test_a_port_where_nobody_listens_is_a_dead_server_that_says_so() -> None:
    async with running([free_port()], Health()) as (monitor, published):
        (node,) = monitor.topology.nodes
        assert (node.role, node.alive) == (Role.NONE, False)
        assert "Connect call failed" in node.error
        assert len(published) == 1


@pytest.mark.parametrize("behaviour", [hang, close_at_once, answer_garbage, answer_http])
async def test_a_server_that_is_no_postgresql_is_dead_and_harms_nobody(behaviour: Handler) -> None:
    async with (
        listening(behaviour) as port,
        running([port, free_port()], Health(interval=0.05, timeout=0.1)) as (monitor, published),
    ):
        started = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < started + 0.5:
            monitor.probe_now("server-0")
            await asyncio.sleep(0.01)
        assert [node.alive for node in monitor.topology.nodes] == [False, False]
        assert all(node.error for node in monitor.topology.nodes)
        assert len(published) == 1


async def test_nothing_is_published_before_every_backend_was_asked() -> None:
    release = asyncio.Event()
    asked = asyncio.Event()

    async def wait(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        asked.set()
        await release.wait()

    published: list[Topology] = []
    async with listening(wait) as port, asyncio.TaskGroup() as group:
        backends = [Backend("slow", HOST, port), Backend("dead", HOST, free_port())]
        monitor = Monitor(backends, Health(timeout=3600), published.append)
        group.create_task(monitor.run())
        await asked.wait()
        monitor.probe_now("dead")
        await asyncio.sleep(2 * SMALLEST_GAP)
        assert not monitor.first_round.is_set()
        assert not published
        release.set()
        await monitor.first_round.wait()
        assert len(published) == 1
        await monitor.close()


async def test_whoever_asks_for_questions_the_server_is_not_flooded() -> None:
    questions = 0

    async def count(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal questions
        questions += 1

    loop = asyncio.get_running_loop()
    async with listening(count) as port, running([port], Health(interval=60)) as (monitor, _):
        started = loop.time()
        while questions < 5:
            monitor.probe_now("server-0")
            monitor.probe_now("nobody")
            await asyncio.sleep(0.001)
        # Never more than this, however slow the machine; and it did ask.
        assert questions <= 2 + (loop.time() - started) / SMALLEST_GAP


async def test_closing_before_it_ran_and_closing_twice_are_harmless() -> None:
    monitor = Monitor([Backend("a", HOST, 1)], Health(), lambda _: None)
    await monitor.close()
    await monitor.run()
    await monitor.close()
    assert not monitor.first_round.is_set()


async def test_a_password_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    health = Health(password_file=tmp_path / "nothing")
    async with listening(hang) as port, running([port], health) as (monitor, _):
        assert "health.password_file" in monitor.topology.nodes[0].error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "gone"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "gone"),
        (OSError(errno.EHOSTUNREACH, "no route"), "gone"),
        (OSError("Multiple exceptions: [Errno 111] ..., [Errno 111] ..."), "gone"),
        (asyncpg.CannotConnectNowError("starting up"), "gone"),
        (asyncpg.AdminShutdownError("bye"), "gone"),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle"), "gone"),
        (TimeoutError(), "silent"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "silent"),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "silent"),
        (asyncpg.InternalClientError("cannot switch to state 11"), "silent"),
        (OSError(errno.EMFILE, "too many open files"), "unasked"),
        (asyncpg.TooManyConnectionsError("sorry"), "unasked"),
        (asyncpg.InvalidPasswordError("no"), "unasked"),
        (asyncpg.InsufficientPrivilegeError("pg_control_system"), "unasked"),
    ],
)
def test_what_an_error_shows_of_the_server(error: Exception, verdict: str) -> None:
    assert module._judge(error).value == verdict


async def test_positions_of_another_cluster_are_not_compared_with_those_so_far() -> None:
    """A database made anew begins at a low position, on the same timeline as the one before."""

    def primary(system: int, asked_at: float, lsn: int) -> Probe:
        return Probe(True, False, 1, lsn, system, asked_at=asked_at)

    def replica(system: int, lsn: int) -> Probe:
        return Probe(True, True, 1, lsn, system)

    fresh: list[float] = []
    backends = [Backend("a", HOST, 1), Backend("b", HOST, 2)]
    monitor = Monitor(backends, Health(), lambda _: None, lambda _name, time: fresh.append(time))
    a, b = monitor._probers.values()
    async with asyncio.TaskGroup() as group:
        monitor._group = group  # nobody asks: the answers are these
        for prober, probe in (
            (a, primary(7, 1.0, 900_000)),
            (b, replica(7, 900_000)),
            (a, primary(7, 2.0, 900_000)),
            (b, replica(8, 1000)),
            (a, primary(8, 3.0, 1000)),
            (a, primary(8, 4.0, 1000)),
            (b, replica(8, 1000)),
        ):
            monitor.report(prober, probe)
    assert monitor.topology.system_identifier == 8
    assert fresh[-1] == 4.0


async def test_a_replica_that_has_not_followed_a_promotion_is_not_fresh() -> None:
    """It may have replayed more than the new primary has written, and something else."""

    def primary(timeline: int, asked_at: float, lsn: int) -> Probe:
        return Probe(True, False, timeline, lsn, 7, asked_at=asked_at)

    def replica(timeline: int, lsn: int) -> Probe:
        return Probe(True, True, timeline, lsn, 7)

    fresh: list[tuple[str, float]] = []
    backends = [Backend(name, HOST, number) for number, name in enumerate("abc", 1)]
    monitor = Monitor(
        backends, Health(), lambda _: None, lambda name, time: fresh.append((name, time))
    )
    a, b, c = monitor._probers.values()
    async with asyncio.TaskGroup() as group:
        monitor._group = group  # nobody asks: the answers are these
        for prober, probe in (
            (b, replica(1, 400)),
            (c, replica(1, 500)),
            (a, primary(1, 1.0, 400)),
        ):
            monitor.report(prober, probe)
        assert {("b", 1.0), ("c", 1.0)} <= set(fresh)
        monitor.report(a, Probe(False))
        fresh.clear()
        monitor.report(b, primary(2, 2.0, 450))
        monitor.report(c, replica(1, 500))
        monitor.report(b, primary(2, 3.0, 460))
        monitor.report(c, replica(1, 500))
        assert {time for name, time in fresh if name == "c"} == {0.0}
        monitor.report(c, replica(2, 455))
        assert fresh[-1] == ("c", 2.0)
        monitor.report(b, primary(2, 4.0, 455))
        assert fresh[-1] == ("c", 4.0)
    assert monitor.freshness.asked_at == 4.0


# The list changes


@contextlib.asynccontextmanager
async def monitoring(
    backends: list[Backend] | None, health: Health
) -> AsyncIterator[tuple[Monitor, asyncio.Queue[Topology]]]:
    """A running monitor and what it publishes."""
    published: asyncio.Queue[Topology] = asyncio.Queue()
    monitor = Monitor(backends, health, published.put_nowait)
    async with asyncio.TaskGroup() as group:
        group.create_task(monitor.run())
        await asyncio.sleep(0)
        try:
            yield monitor, published
        finally:
            await monitor.close()


def refusing(name: str, **more: Any) -> Backend:
    return Backend(name, HOST, free_port(), **more)


def told(topology: Topology) -> dict[str, str]:
    return {node.name: node.error for node in topology.nodes}


async def test_before_discovery_has_spoken_nothing_is_published() -> None:
    async with monitoring(None, Health()) as (monitor, published):
        assert not monitor.first_round.is_set()
        monitor.set_backends(())
        assert published.get_nowait().nodes == ()
        assert monitor.first_round.is_set()


async def test_the_first_list_is_awaited_as_a_whole_and_later_ones_hold_nobody_up() -> None:
    async with (
        listening(hang) as port,
        monitoring(None, Health(timeout=0.5)) as (
            monitor,
            published,
        ),
    ):
        silent = Backend("silent", HOST, port)
        monitor.set_backends((refusing("a"), silent))
        first = await published.get()
        assert NOT_ASKED not in told(first).values()
        monitor.set_backends((refusing("a"), Backend("late", HOST, port)))
        second = published.get_nowait()
        assert told(second) == {"a": NOT_ASKED, "late": NOT_ASKED}


async def test_a_list_after_an_empty_one_is_a_first_list() -> None:
    async with monitoring([], Health()) as (monitor, published):
        assert (await published.get()).nodes == ()
        monitor.set_backends((refusing("a"), refusing("b")))
        assert published.empty()
        assert NOT_ASKED not in told(await published.get()).values()


async def test_who_leaves_the_list_before_it_was_asked_holds_nobody_up() -> None:
    async with (
        listening(hang) as port,
        monitoring(None, Health(timeout=3600)) as (
            monitor,
            published,
        ),
    ):
        one = refusing("a")
        monitor.set_backends((one, Backend("silent", HOST, port)))
        while "a" not in monitor._probes:  # noqa: ASYNC110 - nothing is published on purpose
            await asyncio.sleep(0.01)
        assert published.empty()
        monitor.set_backends((one,))
        assert list(told(published.get_nowait())) == ["a"]


async def test_the_connection_to_a_removed_server_is_ended() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def remember(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        while await reader.read(1000):
            pass
        left.set()

    async with listening(remember) as port, monitoring(None, Health(timeout=3600)) as (monitor, _):
        monitor.set_backends((Backend("a", HOST, port),))
        await arrived.wait()
        monitor.set_backends(())
        await left.wait()


@pytest.mark.parametrize("change", [{"uid": "2"}, {"port": 1}, {"host": "127.0.0.2"}])
async def test_another_server_under_the_same_name_is_asked_anew(change: dict[str, Any]) -> None:
    one = refusing("a", uid="1")
    async with monitoring([one], Health()) as (monitor, published):
        await published.get()
        monitor.freshness.primary_at(1.0, 100)
        assert monitor.freshness.replica_at("a", 100) == 1.0
        monitor.set_backends((replace(one, **change),))
        assert monitor.freshness.replica_at("a", 0) == 0.0
        assert told(published.get_nowait()) == {"a": NOT_ASKED}


async def test_a_new_label_forgets_nothing() -> None:
    one = refusing("a", role="replica", hinted=True)
    async with monitoring([one], Health()) as (monitor, published):
        error = told(await published.get())["a"]
        monitor.set_backends((replace(one, role="primary"),))
        assert told(monitor.topology) == {"a": error}
        assert error != NOT_ASKED


async def test_who_may_become_the_primary_is_asked_eagerly_while_there_is_none() -> None:
    async with monitoring([], Health(interval=5)) as (monitor, _):
        for role, seconds in (
            ("auto", EAGER_INTERVAL),
            ("primary", EAGER_INTERVAL),
            ("replica", CALM_INTERVAL),
            ("none", CALM_INTERVAL),
        ):
            assert monitor.interval(Backend("a", HOST, role=role)) == seconds
        assert monitor.is_urgent
        monitor._headless_since = -1e9
        assert not monitor.is_urgent
        assert monitor.interval(Backend("a", HOST)) == CALM_INTERVAL


async def test_what_room_a_server_has_is_told_when_it_is_known_and_when_it_changes() -> None:
    told: list[tuple[str, int]] = []
    monitor = Monitor(
        [Backend("a", HOST, 1)],
        Health(),
        lambda _: None,
        on_room=lambda name, room: told.append((name, room)),
    )
    (prober,) = monitor._probers.values()
    for probe in (
        Probe(False, error="away"),
        Probe(True, room=97),
        Probe(True, room=97),
        Probe(True, room=0, error="no news"),
        Probe(True, room=47),
    ):
        monitor.report(prober, probe)
    assert told == [("a", 97), ("a", 47)]
