"""HOT. currval() and lastval(): what a session's own nextval() gave is known to one connection only.

It is asked where the session wrote last (`take_back`), if nobody else has written there since; else
it is to be an error, not another session's number (`hide`). That nobody has is made likely: where
such questions come at all, a session that has written keeps its connection for a moment, until its
next statement is done or others have waited for a while (servers/holds.py).
"""

import time
from typing import TYPE_CHECKING, Final, final

from pgproxy.frames import write
from pgproxy.protocol.inflight import OWED_ATTEMPT
from pgproxy.protocol.states import WAITING
from pgproxy.routing.batch import Batch
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

DISCARD_SEQUENCES: Final = write.query(b"DISCARD SEQUENCES")


@final
class Sequences:
    """One relay's."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.holds = False  # the lease goes on although nothing needs it
        self._wrote_on: ServerConnection | None = None  # where its own sequences are known
        self._wrote = False  # the transaction may have
        self._called_nextval = False  # it has, by that name

    def sent(self, batch: Batch) -> None:
        """A batch that may write is about to be sent."""
        self._wrote = True
        if batch.gives_sequence:
            self._called_nextval = True

    def wrote(self) -> None:
        """What was sent for a read may write after all."""
        self._wrote = True

    def used(self, server: ServerConnection) -> None:
        """It is sent to this one, the second time perhaps."""
        server.writer = self.relay
        self._wrote_on = server

    def take_back(self) -> bool:
        """A batch that asks needs a lease. True: it has been sent to where the answer is known, or
        waits for its seat there."""
        relay = self.relay
        relay.group.asks_sequences = True
        server = self._wrote_on
        if server is None or server.writer is not relay or not server.backend.writable:
            return False
        pool = relay.group.pool_of(server)
        if not pool.take_back(server, relay):
            return False
        if pool.sits(server, relay):
            relay.take(server, time.monotonic())
        else:
            relay.enter(WAITING)
        return True

    def hide(self, server: ServerConnection) -> None:
        """A batch that asks is about to be sent: what other sessions have got there is not its own."""
        relay = self.relay
        writer = server.writer
        if writer is not relay and writer is not None:
            server.writer = None
            relay.sending.preface += DISCARD_SEQUENCES
            relay.sending.preface_owed.append(OWED_ATTEMPT)

    # --- the hold -----------------------------------------------------------------------------

    def begins_hold(self, server: ServerConnection) -> bool:
        """The transaction is over. Whether the lease goes on for a moment, until the next statement
        is done: it has written, and the next statement may ask what a sequence gave."""
        relay = self.relay
        may_ask = relay.group.asks_sequences or self._called_nextval
        self.holds = may_ask and self._wrote and server.writer is relay
        self._wrote = False
        self._called_nextval = False
        if self.holds:
            relay.group.pool_of(server).holds.begin(relay)
        return self.holds

    def stop_holding(self) -> ServerConnection | None:
        """The statement that was waited for has come: whether it is one that asks."""
        relay = self.relay
        server = relay.server
        assert server is not None
        if relay.batch.asks_sequence or relay.front.held:
            self.end_hold(server)
            return server
        relay.let_go()
        return None

    def end_hold(self, server: ServerConnection) -> None:
        """The connection is used again, or given back by the caller."""
        self.holds = False
        self.relay.group.pool_of(server).holds.end(self.relay)
