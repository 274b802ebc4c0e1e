"""A client's request to cancel hits what the client is doing, and nothing else.

What the server works on may be a statement of the proxy's own, or one that is run again: then the
request waits for the client's. How it is kept from the next owner of the connection: servers/pool.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, final

from pgproxy.errors import PgError
from pgproxy.protocol.states import WAITING
from pgproxy.routing.journal import Sent
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay


@final
class Cancels:
    """One relay's. In `due` are those for when the client's statement runs."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.due: list[Callable[[], None]] = []
        self.meant: Sent | None = None  # the batch that the last one was sent for, if that is kept

    def ask(self, done: Callable[[], None] | None = None) -> None:
        """The client asks to cancel what it is doing now. `done` is called once that can hit
        nothing else of it."""
        relay = self.relay
        server = relay.server
        if relay.rerun.is_on and not relay.journal.unanswered:
            pass  # it is doing nothing, as far as it knows
        elif relay.notifications.cancel():
            pass
        elif server is not None and relay.inflight.owes_client:
            if self._must_wait:
                # A Query of ours waits for nobody: the client's own is next.
                self.due.append(_nothing if done is None else done)
            else:
                self.meant = relay.journal.oldest
                relay.group.pool_of(server).cancel_query(server, done)
            return
        elif relay.phase == WAITING:
            relay.group.cancel_wait(relay)
            relay.refused(PgError("57014", "canceling statement due to user request"))
        if done is not None:
            done()

    def send_due(self, server: ServerConnection | None) -> None:
        """Sends those that had to wait, if the client's statement runs now; if there is none (any
        more), they are over."""
        relay = self.relay
        settled = server is None or relay.inflight.settled
        if not settled and self._must_wait:
            return
        due, self.due = self.due, []
        for done in due:
            if server is None or settled:
                done()
            else:
                relay.group.pool_of(server).cancel_query(server, done)

    @property
    def _must_wait(self) -> bool:
        """It would hit what the client has not asked."""
        return self.relay.journal.is_checking or self.relay.inflight.hides_query


def _nothing() -> None:
    """Nobody wants to know."""
