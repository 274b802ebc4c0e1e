"""A TCP proxy with faults to order, in the test's own event loop.

    async with FaultProxy(server) as network:
        async with await Wire.connect(network) as wire:
            network.stall("to_client")

It stands before a server (what the proxy under test dials) or before the proxy (what a client
dials). Faults concern every open connection and those to come, until they are taken back.
"""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Final, Literal, Self

from tests.support.wire import Address

Direction = Literal["to_server", "to_client"]
BOTH: Final[tuple[Direction, ...]] = ("to_server", "to_client")


class FaultProxy:
    """Forwards every connection to `target`; an async context manager."""

    host: Final = "127.0.0.1"

    def __init__(self, target: Address) -> None:
        self.port = 0
        self.chunk = 65536
        """Bytes forwarded at a time: a small number cuts frames to pieces."""
        self.delay: dict[Direction, float] = {"to_server": 0.0, "to_client": 0.0}
        """Seconds before each such piece."""
        self.forwarded: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        """Bytes so far, over all connections."""
        self._target = target
        self._open: Final[dict[Direction, asyncio.Event]] = {way: asyncio.Event() for way in BOTH}
        self._progress: Final = asyncio.Event()
        self._reset_at: Final[dict[Direction, int]] = {}
        self._expected: Final[list[tuple[bytes, Direction, asyncio.Event]]] = []
        self._links: Final[set[_Link]] = set()
        self._handlers: Final[set[asyncio.Task[None]]] = set()
        self._server: asyncio.Server | None = None
        self.resume()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def stall(self, *ways: Direction) -> None:
        """Forward nothing more (default: in both directions); the connections stay open."""
        for way in ways or BOTH:
            self._open[way].clear()

    def resume(self, *ways: Direction) -> None:
        """Forward again what was stalled."""
        for way in ways or BOTH:
            self._open[way].set()

    def half_close(self, way: Direction) -> None:
        """Tell one side that no more comes (more is dropped); the other direction goes on."""
        for link in self._links:
            link.half_closed.add(way)
            link.writers[way].write_eof()

    async def wait_forwarded(self, size: int, way: Direction) -> None:
        """Wait until `size` bytes in all have gone that way."""
        while self.forwarded[way] < size:
            self._progress.clear()
            await self._progress.wait()

    def expect(self, text: bytes, way: Direction) -> asyncio.Event:
        """Set once these bytes have gone that way, on whatever connection, in one piece."""
        event = asyncio.Event()
        self._expected.append((text, way, event))
        return event

    def reset(self) -> None:
        """Reset (RST) every connection on both sides."""
        for link in self._links:
            link.reset()

    def reset_after(self, size: int, way: Direction) -> None:
        """Reset a connection as soon as `size` more bytes have gone that way: in mid-frame."""
        self._reset_at[way] = self.forwarded[way] + size

    async def refuse(self) -> None:
        """Refuse new connections; the open ones stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Take new connections (again, on the same port)."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        writers = [client_writer]
        try:
            server_reader, server_writer = await asyncio.open_connection(
                self._target.host, self._target.port
            )
            writers.append(server_writer)
            link = _Link(to_server=server_writer, to_client=client_writer)
            self._links.add(link)
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(client_reader, link, "to_server"))
                    pumps.create_task(self._pump(server_reader, link, "to_client"))
            finally:
                self._links.discard(link)
        except* (OSError, asyncio.CancelledError):
            pass  # one side went away, by our doing or its own, or the test is over
        finally:
            for writer in writers:
                writer.transport.abort()
            self._handlers.discard(handler)

    async def _pump(self, reader: asyncio.StreamReader, link: "_Link", way: Direction) -> None:
        writer = link.writers[way]
        while True:
            await self._open[way].wait()
            data = await reader.read(self.chunk)
            await asyncio.sleep(self.delay[way])
            await self._open[way].wait()  # it may have been stalled in the meantime
            if not data:
                break
            if way in link.half_closed:
                continue
            limit = self._reset_at.get(way)
            resetting = limit is not None and self.forwarded[way] + len(data) >= limit
            if limit is not None and resetting:
                data = data[: limit - self.forwarded[way]]
                del self._reset_at[way]
            writer.write(data)
            await writer.drain()
            self.forwarded[way] += len(data)
            self._progress.set()
            for text, expected, event in self._expected:
                if expected == way and text in data:
                    event.set()
            if resetting:
                link.reset()
                return
        if way not in link.half_closed:
            with contextlib.suppress(OSError):
                writer.write_eof()


class _Link:
    """The two sockets of a connection, each named after where it leads."""

    def __init__(self, *, to_server: asyncio.StreamWriter, to_client: asyncio.StreamWriter) -> None:
        self.writers: Final[dict[Direction, asyncio.StreamWriter]] = {
            "to_server": to_server,
            "to_client": to_client,
        }
        self.half_closed: Final[set[Direction]] = set()

    def reset(self) -> None:
        for writer in self.writers.values():
            # A close with a linger time of zero is a RST.
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
