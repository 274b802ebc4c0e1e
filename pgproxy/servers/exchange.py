"""Reads a connection by `await`, for as long as it logs in; then the transport is handed on.

Log-in is a conversation of a few small frames, so it is written as a coroutine. What follows is
not, and gets a protocol of its own (`hand_over`).
"""

import asyncio
import ssl
from typing import Any, Protocol

from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.servers.secured import Secured, is_encrypted
from pgproxy.servers.tls import why

# Bytes that may lie unread before the peer is not read any more.
HIGH_WATER = 65536
# Seconds that the end of TLS may take: a client may be slow to take its last words; a server that does not
# answer goodbye holds a descriptor for nothing.
CLIENTS_GOODBYE = 60.0
SERVERS_GOODBYE = 5.0


class Receiver(Protocol):
    """What takes over a transport."""

    def data_received(self, chunk: bytes) -> None: ...

    def connection_lost(self, error: object) -> None: ...


class Exchange(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._closed_in_order = False
        self._why: Exception | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None  # the peer does not take what is written

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    @property
    def is_connected(self) -> bool:
        """It has, or has had, a transport."""
        return self._transport is not None

    @property
    def is_encrypted(self) -> bool:
        """It has TLS."""
        return is_encrypted(self.transport)

    @property
    def is_closed(self) -> bool:
        """The peer has left. Who takes over the transport then may never hear of it."""
        return self._closed or self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > max(HIGH_WATER, self._wanted) and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._closed = self._closed_in_order = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._why = exc
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    async def drained(self) -> None:
        """Waits until the peer has taken most of what was written, or has left."""
        if self._drained is not None:
            await self._drained

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises ConnectionError when the peer leaves before."""
        while len(self._buffer) < size:
            if self._closed:
                if isinstance(self._why, ssl.SSLError):  # the peer's word on our certificate
                    raise ConnectionError(why(self._why))
                raise ConnectionError("the connection was closed")
            self._wanted = size
            if self._paused:
                self._paused = False
                self.transport.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def offer_tls(self, context: ssl.SSLContext) -> None:
        """The peer has asked for TLS: yes. Raises OSError if it comes to nothing, `PgError` if there
        is more from the peer, which a third party may have put there (CVE-2021-23214)."""
        self._refuse_surplus("received unencrypted data after SSL request")
        self.write(b"S")
        await self._start_tls(
            context, server_side=True, host=None, shutdown_timeout=CLIENTS_GOODBYE
        )

    async def take_tls(self, context: ssl.SSLContext, host: str) -> None:
        """The peer has said yes. Raises as `offer_tls` (CVE-2021-23222)."""
        self._refuse_surplus("received unencrypted data after SSL response")
        await self._start_tls(
            context, server_side=False, host=host, shutdown_timeout=SERVERS_GOODBYE
        )

    def _refuse_surplus(self, message: str) -> None:
        if self._buffer:
            raise PgError(
                PROTOCOL_VIOLATION,
                message,
                severity="FATAL",
                detail="This could be either a client software bug or evidence of an attempted "
                "man-in-the-middle attack.",
            )

    async def _start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        host: str | None,
        shutdown_timeout: float,
    ) -> None:
        secured = Secured(self.transport, self)
        await secured.start(
            context, server_side=server_side, host=host, shutdown_timeout=shutdown_timeout
        )
        self._transport = secured

    async def ended(self) -> bool:
        """Waits for the peer to close. False: the connection broke, or it said something first."""
        try:
            await self.read(1)
        except ConnectionError:
            return self._closed_in_order
        return False

    def write(self, data: bytes) -> None:
        if not self._closed:
            self.transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def hand_over(self, receiver: Any) -> None:
        """Gives the transport to its next protocol, with what has been read too much."""
        transport = self.transport
        transport.set_protocol(receiver)
        if self._paused:
            self._paused = False
            transport.resume_reading()
        if self._closed:
            transport.close()
        if self._buffer:
            surplus = bytes(self._buffer)
            self._buffer.clear()
            receiver.data_received(surplus)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
