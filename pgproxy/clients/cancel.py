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
# Process ids are positive 32-bit integers. Where there are several proxies of one service the upper
# bits are the proxy's instance, where there are several workers those below are the worker. Two
# proxies may be of the same instance: then the secret tells whose client it is.
BITS: Final = 31
INSTANCE_BITS: Final = 8
WORKER_BITS: Final = 7


Cancellable: TypeAlias = "ClientConnection | Session | Passthrough"


class CancelKeys:
    """`worker` None: it is the only one; `instance` None: there is no other proxy. `elsewhere` cancels
    what a client of another worker or proxy is doing."""

    def __init__(
        self,
        worker: int | None = None,
        elsewhere: Callable[[int, bytes], Awaitable[None]] | None = None,
        instance: int | None = None,
    ) -> None:
        self._clients: dict[int, Cancellable] = {}
        self._elsewhere: Final = elsewhere
        self._has_peers: Final = instance is not None
        bits = BITS
        first = 0
        if instance is not None:
            bits -= INSTANCE_BITS
            first = instance << bits
        if worker is not None:
            bits -= WORKER_BITS
            first |= worker << bits
        self._first: Final = first
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
        is_own = pid & ~self._mask == self._first
        if is_own and (await self.cancel_here(pid, secret) or not self._has_peers):
            return
        if self._elsewhere is not None:
            await self._elsewhere(pid, secret)

    async def cancel_here(self, pid: int, secret: bytes) -> bool:
        """The same, and whether there is such a client here; nobody else is asked."""
        client = self._clients.get(pid)
        if client is None or not hmac.compare_digest(client.secret, secret):
            return False
        acted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if not acted.done():
                acted.set_result(None)

        client.cancel(done)
        await acted
        return True


def worker_of(pid: int, *, has_peers: bool = False) -> int:
    """Which worker's client has that process id, where there are several (and several proxies)."""
    if has_peers:
        pid = (pid & (1 << BITS - INSTANCE_BITS) - 1) << INSTANCE_BITS
    return pid >> (BITS - WORKER_BITS)


def instance_of(pid: int) -> int:
    """Which proxy's client has that process id, where there are several."""
    return pid >> (BITS - INSTANCE_BITS)
