"""A pool as it must not be: one server connection for each user, handed on as it is left.

It stands in for the proxy where a test shows that the comparison finds what leaks.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Self

from tests.support import wire
from tests.support.wire import Address, Wire


class CarelessPool:
    """An async context manager; `host` and `port` are where it listens."""

    def __init__(self, server: Address) -> None:
        self.host: Final = "127.0.0.1"
        self.port = 0
        self._server: Final = server
        self._connections: Final[dict[str, Wire]] = {}

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, self.host, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        for connection in self._connections.values():
            await connection.close()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Wire(reader, writer)
        size = int.from_bytes(await reader.readexactly(4))
        words = (await reader.readexactly(size - 4))[4:-2].decode().split("\0")
        told = dict(zip(words[::2], words[1::2], strict=True))
        if told["user"] not in self._connections:
            self._connections[told["user"]] = await Wire.connect(self._server, **told)  # type: ignore[arg-type]
        server = self._connections[told["user"]]
        await client.send(*(wire.message(kind, body) for kind, body in server.startup))
        async with asyncio.TaskGroup() as group:
            answers = group.create_task(self._answer(server, client))
            with contextlib.suppress(asyncio.IncompleteReadError):
                while (frame := await client.read())[0] != b"X":
                    await server.send(wire.message(*frame))
            answers.cancel()
        await client.drop()

    async def _answer(self, server: Wire, client: Wire) -> None:
        while True:
            await client.send(wire.message(*await server.read()))
