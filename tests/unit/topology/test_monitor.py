"""The monitor before servers that are no PostgreSQL; tests/integration has the real ones."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from pgproxy.config import Health
from pgproxy.topology import monitor as module
from pgproxy.topology.model import Backend, Role, Topology
from pgproxy.topology.monitor import SMALLEST_GAP, Monitor

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
