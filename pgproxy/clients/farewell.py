"""Closes a connection in such a way that what was last written arrives.

A socket that is closed while bytes lie in it unread answers with a reset, and a reset may overtake
the error message that the peer has not read yet. So only the way to the peer is closed, and what
still comes is read and dropped until the peer closes its end, or `LINGER` has passed.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from pgproxy.servers.secured import is_encrypted

# Seconds that a peer has to close its end.
LINGER: Final = 1.0


class Farewell(asyncio.Protocol):
    """Takes over a transport after the last write. `on_lost` is called once it is closed."""

    def __init__(
        self, transport: asyncio.Transport, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self._on_lost = on_lost
        self._timer = asyncio.get_running_loop().call_later(LINGER, transport.abort)
        transport.set_protocol(self)
        if transport.is_closing():
            return
        transport.resume_reading()  # or its end would never be seen
        if is_encrypted(transport):  # TLS has an end of its own, which is waited for
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # it has been reset
            transport.abort()

    def data_received(self, _data: bytes) -> None:
        """Not served any more."""

    def connection_lost(self, _error: Exception | None) -> None:
        self._timer.cancel()
        self._on_lost()
