"""A connection with TLS, to be used like one without.

It stands between asyncio's transport for TLS and who uses that, on both sides, for uvloop's differs from
a plain one in what counts here:

* The loss of a connection is told later, to whoever was the protocol when it was lost. Who has taken the
  transport over meanwhile would never hear of it; so there is one protocol, this one, for ever.
* While reading is paused it goes on reading the socket, up to 256 KB, and drops that when the peer closes.
  So it is given no room.
* What the socket has not taken yet is not counted as unsent.
* There is no end of one way only. PostgreSQL sees one at work all the same, below TLS (`write_eof`).
"""

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Any, Final, cast

# Bytes that may wait to be sent, as with a plain transport.
HIGH_WATER: Final = 65536


class Secured(asyncio.Transport, asyncio.Protocol):
    """`plain` is the connection as it was; `protocol` is who used it, and goes on to."""

    def __init__(self, plain: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._plain: Final = plain
        self._socket: Final = cast(socket.socket, plain.get_extra_info("socket"))
        self._protocol: Any = protocol
        self._transport: asyncio.Transport = plain

    async def start(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        host: str | None,
        shutdown_timeout: float,
    ) -> None:
        """The handshake. `shutdown_timeout` is in seconds: what the peer has to take what is left, and
        to say goodbye. Raises OSError."""
        transport = await asyncio.get_running_loop().start_tls(
            self._plain,
            self,
            context,
            server_side=server_side,
            server_hostname=host,
            ssl_shutdown_timeout=shutdown_timeout,
        )
        if transport is None:
            raise ConnectionError("the connection was closed during the TLS handshake")
        cast(Any, transport).set_read_buffer_limits(1, 0)
        transport.set_write_buffer_limits(HIGH_WATER)
        self._transport = transport
        self.write = transport.write  # type: ignore[method-assign]

    # --- as a transport -----------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":  # it is forgotten there when the connection is lost
            return self._socket
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        if self._transport.is_closing():
            return 0
        return self._transport.get_write_buffer_size() + self._plain.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Not in the middle of what is to be sent."""
        return not self.is_closing() and self.get_write_buffer_size() == 0

    def write_eof(self) -> None:
        """Ends the way to the peer without the words that TLS has for it: nothing can be written any
        more, not even those. What comes from the peer is read."""
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(self._socket.fileno())) as twin,
        ):
            twin.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # --- as a protocol ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool:
        """The other way ends too, whatever the protocol says."""
        self._protocol.eof_received()
        return False

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)


def is_encrypted(transport: asyncio.BaseTransport) -> bool:
    """Whether it has TLS."""
    return isinstance(transport, Secured)
