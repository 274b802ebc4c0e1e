"""Our own cancel keys: which client a CancelRequest means."""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from pgproxy.clients.connection import ClientConnection
from pgproxy.frames.codes import PROTOCOL_3_2

if TYPE_CHECKING:
    from pgproxy.clients.console import Session
    from pgproxy.clients.passthrough import Passthrough

# Bytes of the secret: protocol 3.0 has room for 4, 3.2 for up to 256 (PostgreSQL 18 uses 32).
SHORT_SECRET: Final = 4
LONG_SECRET: Final = 32
# Process ids are positive 32-bit integers; of those of several workers the upper bits are the worker.
BITS: Final = 31
WORKER_BITS: Final = 7


Cancellable: TypeAlias = "ClientConnection | Session | Passthrough"


class CancelKeys:
    """`elsewhere` cancels what a client of another worker is doing; without it there are none."""

    def __init__(
        self, worker: int = 0, elsewhere: Callable[[int, bytes], Awaitable[None]] | None = None
    ) -> None:
        self._clients: dict[int, Cancellable] = {}
        self._elsewhere: Final = elsewhere
        bits = BITS if elsewhere is None else BITS - WORKER_BITS
        self._first: Final = worker << bits
        self._mask: Final = (1 << bits) - 1
        self._last = secrets.randbelow(self._mask)

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, client: Cancellable, version: int) -> tuple[int, bytes]:
        """A new key for a client that speaks this protocol version: process id and secret."""
        while True:
            self._last = (self._last + 1) & self._mask or 1
            pid = self._first | self._last
            if pid not in self._clients:
                break
        size = LONG_SECRET if version >= PROTOCOL_3_2 else SHORT_SECRET
        client.pid = pid
        client.secret = secrets.token_bytes(size)
        self._clients[pid] = client
        return pid, client.secret

    def remove(self, client: Cancellable) -> None:
        self._clients.pop(int(client.pid), None)

    async def cancel(self, pid: int, secret: bytes) -> None:
        """Cancels what that client is doing; an unknown key does nothing, as in PostgreSQL.

        Returns when the server has acted on it. Clients wait for the end of the connection that
        brought the request before they send their next statement, which must not be hit.
        """
        if self._elsewhere is not None and pid & ~self._mask != self._first:
            await self._elsewhere(pid, secret)
            return
        client = self._clients.get(pid)
        if client is None or not hmac.compare_digest(client.secret, secret):
            return
        acted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if not acted.done():
                acted.set_result(None)

        client.cancel(done)
        await acted


def worker_of(pid: int) -> int:
    """Which worker's client has that process id, where there are several."""
    return pid >> (BITS - WORKER_BITS)
