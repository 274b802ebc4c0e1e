"""HOT. Why a session keeps its server connection beyond the transaction, and how that ends.

A statement pins when it is sent. What it has done is gone again with an error (`refused`), by DISCARD
ALL, or by a statement of another session's words; so after some statements the server is asked what
is left (`question`).
"""

from typing import TYPE_CHECKING, Final, final

from pgproxy.frames import write
from pgproxy.protocol.settings import UNNAMED, read_row
from pgproxy.routing.pins import NEVER_UNDONE, Pin
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

# Whether there is still something that the session is pinned for, in the order of SEEN_AGAIN.
# Whatever lives in a schema depends on it (of most of them there is an index on nothing else).
LEFT_BEHIND: Final = write.query(
    # Of whatever kind an object is, it depends on its schema.
    b"SELECT EXISTS (SELECT FROM pg_catalog.pg_depend"
    b" WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
    b" AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()),"
    b" EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable),"
    b" EXISTS (SELECT FROM pg_catalog.pg_locks"
    b" WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
    b" AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()),"
    b" EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"
)
SEEN_AGAIN: Final = (Pin.TEMP_TABLE, Pin.HOLD_CURSOR, Pin.ADVISORY_LOCK, Pin.LISTEN)
# DISCARD ALL takes back all but these.
NOT_DISCARDED: Final = NEVER_UNDONE | {Pin.POOL_MODE}

SYNTAX_ERROR: Final = b"\x00C42601\x00"


@final
class Pinning:
    """One relay's."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.pin: Pin | None = None  # the one that is told, of `pins`; None: it is not pinned
        self.pins: set[Pin] = set()
        self.may_end = False  # a statement may have taken away what they are for
        self._new: Pin | None = None  # by the statement in flight; an error takes it back
        self._in_question: set[Pin] = set()  # what the open question is about

    # --- to the server ------------------------------------------------------------------------

    def forget_last(self) -> None:
        """An error to come may be another statement's than the last that has pinned."""
        self._new = None

    def sent(self) -> None:
        """The batch at hand pins, and is being sent."""
        relay = self.relay
        batch = relay.batch
        pin = batch.pin if batch.pin is not None else Pin.UNPARSED
        is_pinned = pin in self.pins
        self.add(pin)
        if is_pinned:
            return
        server = relay.server
        if pin is Pin.UNPARSED and server is not None and UNNAMED in server.custom:
            return  # which a refusal of the text does not take back
        # Only the client's sole statement in flight can be told from others when an error comes.
        executed = batch.executed
        if (
            not relay.inflight.owes_client
            and executed is not None
            and executed is batch.decision
            and (executed.pin_is_undone or executed.unparsed)
        ):
            self._new = pin

    def add(self, pin: Pin) -> None:
        """The session keeps its server connection. What the server is being asked about the time
        before says nothing of this."""
        self.pins.add(pin)
        self._in_question.discard(pin)
        relay = self.relay
        if pin is Pin.TEMP_TABLE:
            relay.carry.set_scope()
        if self.pin is None:
            self.pin = pin
            relay.counters.pins[pin.value] = relay.counters.pins.get(pin.value, 0) + 1

    def add_pool_mode(self) -> None:
        """Which is no finding, and not counted."""
        self.pins.add(Pin.POOL_MODE)
        self.pin = Pin.POOL_MODE

    def question(self) -> bytes:
        """Between transactions: what the server has to be asked, b"" if nothing."""
        if self.pin is None or not self.may_end:
            return b""
        self.may_end = False
        if not self.pins <= set(SEEN_AGAIN):
            return b""
        self._in_question = set(SEEN_AGAIN)
        return LEFT_BEHIND

    # --- from the server ----------------------------------------------------------------------

    def refused(self, body: bytes, server: ServerConnection) -> None:
        """An ErrorResponse has come."""
        if self.pin is not None:
            self.may_end = True
        pin, self._new = self._new, None
        if pin is None:
            return
        # Of a text that was not understood only this error says that none of it was run.
        if pin is Pin.UNPARSED:
            if SYNTAX_ERROR not in body:
                return
            server.custom.discard(UNNAMED)
        self.pins.discard(pin)
        self._choose()
        if not self.pins:  # else it may listen by a text that was known for another pin
            relay = self.relay
            relay.batch.shares_listening = relay.listening is not None

    def answered(self, row: bytes) -> None:
        """The answer to the question has come."""
        try:
            values = read_row(row, "")
        except ValueError:
            return
        for pin, value in zip(SEEN_AGAIN, values, strict=False):
            if value == "t":
                self.keep(pin)  # a batch with several of them was known for one alone
            elif pin in self._in_question:
                self.pins.discard(pin)
            else:  # a text of several statements has one pin only
                self.pins.add(pin)
        self._unpin()

    def keep(self, pin: Pin) -> None:
        """It is so from before what is in flight, which may fail."""
        self.pins.add(pin)
        if self._new is pin:
            self._new = None

    def discarded(self) -> None:
        """DISCARD ALL was run."""
        self.pins &= NOT_DISCARDED
        self._unpin()

    def _unpin(self) -> None:
        self._choose()
        relay = self.relay
        relay.batch.shares_listening = relay.listening is not None and Pin.LISTEN not in self.pins

    def _choose(self) -> None:
        """The one that is told, of those that are left."""
        if self.pin is not None and self.pin not in self.pins:
            self.pin = next(iter(self.pins), None)
        relay = self.relay
        server = relay.server
        if server is not None and UNNAMED in server.custom:
            server.doomed = True  # no other session can have it
        relay.carry.set_scope()
