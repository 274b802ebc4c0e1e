"""HOT. What a client's texts do with names of prepared statements, and when that is known.

Nothing of a client is read while what it has sent may still change what names mean, and a batch
that uses names is sent when everything before it is answered: then its names can be brought in line
on the server (protocol/leadin.py) and nothing about them is guessed.
"""

import re
from typing import TYPE_CHECKING, Final, final

from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED
from pgproxy.protocol.inflight import OWED_ATTEMPT, OWED_BEGIN, Owed
from pgproxy.protocol.leadin import lead_in
from pgproxy.protocol.named import DEALLOCATES, STAND_IN
from pgproxy.protocol.states import EXECUTE, LEASED, PARSE, SETTLING
from pgproxy.routing.clientstatements import undefined_statement
from pgproxy.routing.front import IN_FAILED_TRANSACTION
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

_ROLLBACK: Final = write.query(b"ROLLBACK")
_BEGIN_AND_FAIL: Final = write.query(b"BEGIN") + write.query(
    b"pgproxy fails this transaction again"
)
_ABORTED: Final = write.error_response(IN_FAILED_TRANSACTION)
# A text whose first statement ends the transaction.
_ENDS: Final = re.compile(
    rb"\s*(rollback|abort|commit|end)(\s+(work|transaction))?\s*;", re.IGNORECASE
)

# What a text gets whose name could not be brought in line.
_UNDEFINED: Final = b"\x00C26000\x00"
_IN_FAILED: Final = b"\x00C25P02\x00"


@final
class Named:
    """One relay's."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.unread = False  # the client's input waits, and no batch of it has been read
        self.failure = b""  # why a name could not be brought in line: an ErrorResponse
        self._failed = b""  # that name, quoted

    def must_wait(self) -> bool:
        """Names are being changed: whether the client's next message must wait for the outcome."""
        relay = self.relay
        if relay.inflight.copying:
            return False  # the change comes about behind the copy
        self._wait()
        return True

    def must_wait_for_answers(self) -> bool:
        """Whether the batch at hand, which uses names, must wait, and be read again then."""
        relay = self.relay
        inflight = relay.inflight
        if relay.server is None or inflight.skipping or inflight.copying:
            return False
        if inflight.settled or (relay.batch.continues and len(inflight) == 0):
            return False
        relay.batch.unread()
        self._wait()
        return True

    def _wait(self) -> None:
        relay = self.relay
        server = relay.server
        if relay.batch.continues and server is not None:
            server.write(write.FLUSH)
        self.unread = True
        relay.enter(SETTLING)

    def go_on(self) -> None:
        """Something was answered, but not everything."""
        relay = self.relay
        inflight = relay.inflight
        if relay.phase != SETTLING:
            return
        if inflight.copying or (relay.batch.continues and len(inflight) == 0):
            relay.enter(LEASED)
            relay.requests.next_again()

    def refuses(self) -> bool:
        """Whether the batch is refused for a name of ours in it."""
        relay = self.relay
        reserved = relay.batch.needs.reserved
        if not reserved or relay.front.status == STATUS_FAILED:
            return False
        relay.requests.answer_error(undefined_statement(reserved))
        return True

    def before(self, *, begins: bool) -> None:
        """The batch at hand, which uses names, is about to be sent; `begins`: behind a BEGIN that was
        held back, in front of which names can be brought in line."""
        relay = self.relay
        batch = relay.batch
        self.failure = b""
        if relay.inflight.skipping:
            batch.needs.by_name = {}  # nothing of it will run
            return
        if batch.simple:
            batch.needs.find()
        if relay.front.status != STATUS_FAILED or begins:
            return
        if batch.needs.by_name:
            if not batch.simple and not batch.ends:
                self.failure = _ABORTED
            elif not batch.simple or _ENDS.match(batch.sql()):
                self._end_transaction()
        batch.needs.by_name = {}  # nothing of it will run, or what it needs is there

    def _end_transaction(self) -> None:
        """The transaction has failed, and the batch at hand ends it and uses names behind that. It
        ends here a little earlier, and one in its place fails that the batch can end."""
        relay = self.relay
        server = relay.server
        assert server is not None
        relay.journal.give_up()
        inflight = relay.inflight
        inflight.push(OWED_ATTEMPT)
        lead = lead_in(relay.batch.needs.by_name, server.prepared, inflight, inside=False)
        inflight.push(OWED_BEGIN)
        inflight.push(OWED_ATTEMPT)
        server.prepared.unnamed = None
        server.write(_ROLLBACK + lead + _BEGIN_AND_FAIL)

    def done(self, server: ServerConnection) -> None:
        """The server has changed what names mean."""
        relay = self.relay
        prepared = server.prepared
        for use in relay.inflight.names_done:
            statement = relay.batch.statements.name_done(use)
            if statement is not None:
                prepared.named[use.name] = statement
            elif use.kind == DEALLOCATES:
                prepared.named.pop(use.name, None)
            else:
                prepared.discard_all()
        relay.inflight.names_done.clear()

    def was_not_done(self, owed: Owed, server: ServerConnection) -> None:
        """A hidden message for a name has failed, or was ignored after one that has."""
        if owed.kind == EXECUTE and owed.statement is STAND_IN:
            server.doomed = True  # a DEALLOCATE: who knows what is there
            server.prepared.named[owed.name] = STAND_IN
        elif owed.kind in (EXECUTE, PARSE) and owed.name:
            server.prepared.named.pop(owed.name, None)

    def has_failed(self, frame: bytes) -> None:
        """The first of the hidden messages for names to fail has failed so."""
        void = self.relay.inflight.void
        if not self.failure and void:
            self.failure = frame
            self._failed = b'"' + void[0].name + b'"'

    def instead(self, frame: bytes) -> bytes:
        """The ErrorResponse that the client gets for this one of its server."""
        failure = self.failure
        if _UNDEFINED in frame:
            if failure is not _ABORTED and self._failed not in frame:
                return frame
        elif _IN_FAILED not in frame:
            return frame
        self.failure = b""
        return failure
