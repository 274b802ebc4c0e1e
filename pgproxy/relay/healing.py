"""HOT. `cached plan must not change result type`: a statement is prepared anew, its batch run again.

PostgreSQL says so (0A000, raised by RevalidateCachedQuery) of a statement whose table has other
columns by now. The client need not hear of it if nothing of its batch was run or told, no
transaction block is open, and it does not hold an older description of the columns: else it would
take the new rows for the old ones, so then it gets the error, which tells its driver to prepare
again.

The error and its ReadyForQuery are hidden; what is left of the batch, from the message that failed
on, is sent again to the same server, which by then prepares the statement anew.
"""

from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.errors import FEATURE_NOT_SUPPORTED, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import F_DESCRIBE, STATUS_IDLE, TARGET_STATEMENT
from pgproxy.protocol.named import STAND_IN
from pgproxy.protocol.states import CLOSE, DESCRIBE, LEASED, PARSE, SETTLING
from pgproxy.routing.edits import USE, Edit
from pgproxy.routing.journal import Sent
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

CHANGED: Final = b"\x00RRevalidateCachedQuery\x00"
# A Bind asks for as many columns as the client knows of, and there are others. On a connection that
# has prepared the statement before they came, the server would have refused the statement.
OTHER_COLUMNS: Final = b"\x00RPortalSetResultFormat\x00"
OUTDATED: Final = write.error_response(
    PgError(
        FEATURE_NOT_SUPPORTED,
        "cached plan must not change result type",
        routine="RevalidateCachedQuery",
    )
)
# Statements of one batch that may have changed.
ATTEMPTS: Final = 5


@final
class Healing:
    """One relay's."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.is_on = False  # the error was hidden, and the server has not said ReadyForQuery
        self.is_due = False  # it has
        self.hides_parameters = False  # the next ParameterDescription has been told
        self._of: Sent | None = None  # the batch that the attempts were for
        self._attempts: i64 = 0
        self._index: i64 = 0  # of the message that failed

    def begins(self, server: ServerConnection, frame: bytes, *, told: bool) -> bool:
        """Whether this ErrorResponse is hidden. `told`: something of the answer has been given."""
        relay = self.relay
        unanswered = relay.journal.unanswered
        if CHANGED not in frame or len(unanswered) != 1 or relay.journal.history:
            return False
        sent = unanswered[0]
        if sent.in_block or sent.first or relay.front.status != STATUS_IDLE:
            return False
        if relay.batch.continues or relay.rerun.is_on or relay.phase not in (LEASED, SETTLING):
            return False
        if sent is not self._of:
            self._of = sent
            self._attempts = 0
        self._attempts += 1
        if self._attempts > ATTEMPTS or (told and sent.simple):
            return False
        if not (self._is_named(server, sent) if sent.simple else self._is_used(server, sent)):
            return False
        self.is_on = True
        relay.front.session.broken = False
        relay.counters.healed += 1
        if relay.phase == LEASED:
            relay.enter(SETTLING)
            relay.named.unread = True
        return True

    def _is_named(self, server: ServerConnection, sent: Sent) -> bool:
        """Whether it is an EXECUTE; then its names will be made anew."""
        if not sent.needs or sent.changes is not None:
            return False
        for name in sent.needs:
            server.prepared.named[name] = STAND_IN
        return True

    def _is_used(self, server: ServerConnection, sent: Sent) -> bool:
        """Whether the batch can be run again from the message that failed on; then its statement
        will be made anew."""
        void = [owed for owed in self.relay.inflight.void if not owed.hidden]
        index = len(sent.owed) - 1 - len(void)
        if any(owed.kind not in (PARSE, CLOSE) for owed in sent.owed[:index]):
            return False  # something was run before
        edit = next((edit for edit in sent.edits if edit.at == index and edit.kind == USE), None)
        if edit is None or edit.statement is None:
            return False
        statement = edit.statement
        is_describe = sent.owed[index].kind == DESCRIBE
        name = _name_in(sent.data, edit.start + 5)
        is_told = any(owed.kind == DESCRIBE for owed in sent.owed[index:]) or any(
            owed.statement is statement for owed in sent.owed[:index]
        )
        if not is_told and name in self.relay.batch.statements.described:
            return False
        server.prepared.drop(statement)
        # The types of its parameters were told before it failed.
        self.hides_parameters = is_describe
        self._index = index
        return True

    def is_outdated(self) -> bool:
        """Whether the client knows a statement's columns from before the schema has changed."""
        batch = self.relay.batch
        is_current = self.relay.context.registry.is_current
        return any(
            name in batch.statements.described and not is_current(statement)
            for name, statement in batch.statements.named.items()
        )

    def resend(self, server: ServerConnection) -> None:
        """The server is ready."""
        sent = self._of
        self.is_due = False
        assert sent is not None
        relay = self.relay
        if sent.simple:
            relay.sending.transmit(server, sent, pipelined=False)
            return
        index = self._index
        whole = (sent.start, sent.owed, sent.edits)
        sent.owed = sent.owed[int(index) :]
        sent.edits = [
            Edit(int(edit.kind), edit.start, edit.end, edit.at - index, edit.statement, edit.frame)
            for edit in sent.edits
            if edit.at >= index
        ]
        sent.start = sent.edits[0].start
        relay.sending.transmit(server, sent, pipelined=False)
        sent.start, sent.owed, sent.edits = whole
        relay.sending.give_due()


def _name_in(data: bytes, start: i64) -> bytes:
    """The statement that a Bind or Describe is about: behind a portal's name, or the letter S."""
    begun: i64 = data.find(b"\x00", int(start)) + 1
    if data[start] == TARGET_STATEMENT and data[start - 5] == F_DESCRIBE:
        begun = start + 1
    return data[begun : data.find(b"\x00", int(begun))]
