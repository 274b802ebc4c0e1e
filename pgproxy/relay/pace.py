"""HOT. When a client's input has to wait although its session could go on with it.

A chunk may hold tens of thousands of statements. After `TURN` of them other clients have their turn;
and none is read while the client does not take its answers, while the server does not take what it
was sent, or while more than `DEPTH` messages wait for their replies. So what a client makes the proxy
hold is bounded by what it sends in one chunk.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

from pgproxy.errors import PgError
from pgproxy.protocol.states import FREE, LEASED

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

# Batches of one client in one go: a millisecond's work.
TURN: Final = 128
# Messages in flight. A server that has not been told to send its answers keeps up to 8 KB of them
# (PqSendBuffer), the smallest of which have 5 bytes: fewer than this, or both would wait.
DEPTH: Final = 4096


@final
class Pace:
    """One relay's. `soon` calls something when others have had their turn."""

    def __init__(self, relay: "Relay", soon: Callable[[Callable[[], None]], Any]) -> None:
        self._relay = relay
        self._soon = soon
        self._is_due = False

    def hold(self) -> None:
        """What of the input is not read yet waits."""
        relay = self._relay
        relay.requests.are_held = True
        relay.client.set_reading(False)
        self.wake()

    def wake(self) -> None:
        """What it waits for may have come."""
        if not self._is_due:
            self._is_due = True
            self._soon(self._go_on)

    def _go_on(self) -> None:
        self._is_due = False
        relay = self._relay
        if not relay.requests.are_held or relay.phase not in (FREE, LEASED):
            return
        if relay.client.write_paused or relay.server_is_full or len(relay.inflight) > DEPTH:
            return
        try:
            relay.requests.resume()
        except PgError as error:
            relay.fail(error)
