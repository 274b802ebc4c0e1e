"""HOT. One client's connection after log-in: an asyncio protocol around its relay.

It does not derive from asyncio.Protocol: a class compiled by mypyc cannot, and uvloop asks only
for the methods.
"""

import fcntl
import termios
import time
from collections.abc import Callable
from typing import Any, final

from pgproxy.relay.relay import Relay, Sink


@final
class ClientConnection(Sink):
    """`on_lost` is called once, when the connection is gone. `see_off` closes the transport so that
    what was written arrives (clients/farewell.py), and calls what it is given once it is closed."""

    def __init__(
        self,
        transport: Any,
        user: str,
        database: str,
        on_lost: "Callable[[ClientConnection], None]",
        see_off: "Callable[[Any, Callable[[], None]], object] | None" = None,
    ) -> None:
        super().__init__()
        self.transport = transport
        self.write = transport.write
        self.user = user
        self.database = database
        self.on_lost = on_lost
        self.see_off = see_off
        self.relay: Relay | None = None
        self.secret = b""
        self.connected_at = time.monotonic()
        self._reading = True

    def connection_made(self, transport: Any) -> None:
        pass  # log-in has made it long ago

    def data_received(self, chunk: bytes) -> None:
        relay = self.relay
        if relay is not None:
            relay.requests.read(chunk)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: object) -> None:
        self.write = _write_nowhere
        relay = self.relay
        if relay is not None:
            relay.client_gone()
        self.on_lost(self)

    def pause_writing(self) -> None:
        if self.relay is not None:
            self.relay.client_writable(False)

    def resume_writing(self) -> None:
        if self.relay is not None:
            self.relay.client_writable(True)

    def set_reading(self, reading: bool) -> None:
        if reading == self._reading or self.transport.is_closing():
            return
        self._reading = reading
        if reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    @property
    def has_unread(self) -> bool:
        """Bytes have arrived that the event loop has not read yet."""
        if self.transport.is_closing():
            return False
        number = self.transport.get_extra_info("socket").fileno()
        answer: bytes = fcntl.ioctl(number, termios.FIONREAD, b"\0\0\0\0")
        return any(answer)

    def cancel(self, done: Callable[[], None]) -> None:
        """A CancelRequest has come for it; `done` is called once that has had its effect."""
        if self.relay is None:
            done()
        else:
            self.relay.cancels.ask(done)

    def close(self) -> None:
        if self.see_off is None or self.transport.is_closing():
            self.transport.close()
            return
        self.write = _write_nowhere
        self.see_off(self.transport, self._left)

    def abort(self) -> None:
        self.transport.abort()

    def _left(self) -> None:
        self.connection_lost(None)


def _write_nowhere(data: bytes) -> None:
    """The write method of a connection that is gone."""
