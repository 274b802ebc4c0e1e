"""Our own cancel keys: which client a CancelRequest means."""

import asyncio
import hmac
import secrets
from typing import TYPE_CHECKING, Final, TypeAlias

from pgproxy.clients.connection import ClientConnection
from pgproxy.frames.codes import PROTOCOL_3_2

if TYPE_CHECKING:
    from pgproxy.clients.console import Session
    from pgproxy.clients.passthrough import Passthrough

# Bytes of the secret: protocol 3.0 has room for 4, 3.2 for up to 256 (PostgreSQL 18 uses 32).
SHORT_SECRET: Final = 4
LONG_SECRET: Final = 32


Cancellable: TypeAlias = "ClientConnection | Session | Passthrough"


class CancelKeys:
    def __init__(self) -> None:
        self._clients: dict[int, Cancellable] = {}
        self._last = secrets.randbelow(1 << 30)

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, client: Cancellable, version: int) -> tuple[int, bytes]:
        """A new key for a client that speaks this protocol version: process id and secret."""
        while True:
            self._last = (self._last + 1) & 0x7FFFFFFF or 1
            if self._last not in self._clients:
                break
        size = LONG_SECRET if version >= PROTOCOL_3_2 else SHORT_SECRET
        client.pid = self._last
        client.secret = secrets.token_bytes(size)
        self._clients[self._last] = client
        return self._last, client.secret

    def remove(self, client: Cancellable) -> None:
        self._clients.pop(int(client.pid), None)

    async def cancel(self, pid: int, secret: bytes) -> None:
        """Cancels what that client is doing; an unknown key does nothing, as in PostgreSQL.

        Returns when the server has acted on it. Clients wait for the end of the connection that
        brought the request before they send their next statement, which must not be hit.
        """
        client = self._clients.get(pid)
        if client is None or not hmac.compare_digest(client.secret, secret):
            return
        acted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if not acted.done():
                acted.set_result(None)

        client.cancel(done)
        await acted
