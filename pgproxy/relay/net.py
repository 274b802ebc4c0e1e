"""HOT. The safety net: what a replica was not able to do for a client is done again elsewhere.

* It refuses: 25006 says that the statement writes, 0A000 and 55000 are also what a standby says of
  what it has not got (unlogged tables, functions of the primary). The primary is asked, once, and
  its answer is the client's. The text of a 25006 is remembered as a write.
* A recovery conflict: PostgreSQL cancels the statement, or ends the session, because the replica
  has to replay what takes its rows away (40001, 40P01; 57P04 if that is the database). Another
  replica is asked, the second time the primary, if that may serve reads.
* It is lost, in the middle of a read, which may be what broke it: another is asked once.

Nobody can have seen anything of it, since nothing that runs on a replica takes effect, and nothing of
its answer may have gone to the client; if something has, the client gets the error. A transaction in
which each statement has its own snapshot goes on on the primary, without what it has read already
(moving.py); any other is run again from its beginning, and fails if its answers have changed
(rerun.py). What is in flight behind the statement is taken along: the order of answers stays.

SQLSTATEs count, not messages, which are in the server's language. 57014 is not among them: it is a
client's own cancel, or a timeout.
"""

from typing import TYPE_CHECKING, Final, final

from pgproxy.errors import PgError
from pgproxy.frames.codes import STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.frames.read import is_fatal, is_shutdown, sqlstate
from pgproxy.protocol.prepared import Statement
from pgproxy.protocol.states import BIND, LEASED, PARSE
from pgproxy.relay.healing import CHANGED
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.edits import MAKE
from pgproxy.routing.journal import ATTEMPTS, Sent
from pgproxy.routing.reasons import CODES, Reason
from pgproxy.servers.backend import Backend
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

# Causes, as they are counted.
READ_ONLY: Final = "read_only"
CONFLICT: Final = "conflict"
LOST: Final = "lost"

WRITES: Final = b"25006"
REFUSALS: Final = {
    WRITES: READ_ONLY,
    b"0A000": READ_ONLY,
    b"55000": READ_ONLY,
    b"40001": CONFLICT,
    b"40P01": CONFLICT,
}
ENDS: Final = {b"40001": CONFLICT, b"57P04": CONFLICT, b"57P01": LOST, b"57P02": LOST}
# What quickdie() of PostgreSQL warns of, in a crash and in an immediate shutdown: it is the last word.
FAREWELLS: Final = frozenset({b"57P01", b"57P02"})

LEARNED: Final = CODES[Reason.LEARNED]
RETRIED: Final = CODES[Reason.RETRIED]

CANCELED: Final = PgError("57014", "canceling statement due to user request")


@final
class Net:
    """One relay's."""

    def __init__(self, relay: "Relay", *, is_on: bool) -> None:
        self.relay = relay
        self.is_on = is_on
        self.cause = ""  # of what is about to be run again; "" if nothing is
        self._caught = ""  # what it will be
        self._writes = False  # it was refused for writing
        self._moves = False  # the transaction need not be run again from its beginning
        self._survivor: Sent | None = None  # the statement with which a replica was lost

    # --- what a replica has said ---------------------------------------------------------------

    def catches(self, server: ServerConnection, *, told: bool) -> bool:
        """Whether the client need not hear of the ERROR at hand; `told`: it has been given a part of
        the answer. True: `go_on`."""
        if not self.is_on:
            return False
        frame = _frame(server)
        state = sqlstate(frame)
        if is_fatal(frame) or CHANGED in frame or self.relay.journal.is_checking:
            return False
        self._writes = state == WRITES
        if self._writes:
            self._learn()
        return self._may(REFUSALS.get(state, ""), told=told)

    def catches_end(self, server: ServerConnection, *, told: bool, completed: bool) -> bool:
        """The same for a FATAL error; `completed`: behind a CommandComplete."""
        frame = _frame(server)
        if not is_fatal(frame):
            return False
        self._writes = False
        is_undone = is_shutdown(frame) and not completed
        return self._may(ENDS.get(sqlstate(frame), ""), told=told, is_undone=is_undone)

    def catches_farewell(self, server: ServerConnection, *, told: bool) -> bool:
        """The same for a warning."""
        splitter = server.splitter
        if not self.is_on or splitter.end > splitter.size:
            return False
        self._writes = False
        return sqlstate(_frame(server)) in FAREWELLS and self._may(LOST, told=told)

    def go_on(self, server: ServerConnection, *, ended: bool) -> None:
        """The error was caught; what came before it has been given."""
        relay = self.relay
        inflight = relay.inflight
        splitter = server.splitter
        pool = relay.group.pool_of(server)
        is_cancelled = self._is_cancelled(server)
        relay.server = None
        if ended or inflight.readies() != 1:
            pool.discard(server)
        else:
            relay.answers.undo_there(server, inflight.take_void())
            splitter.keep = splitter.end
            in_block = relay.front.status != STATUS_IDLE
            pool.reset(server, transaction=in_block, session=False, owed=1)
            if server.owner is not None:
                server.data_received(b"")  # the rest of what has come
        self._go_elsewhere(server.backend, is_cancelled=is_cancelled)

    def is_survived(self, server: ServerConnection) -> bool:
        """The connection is gone without a word. Whether the client need not hear of it."""
        relay = self.relay
        self._writes = False
        if not self._may(LOST, told=relay.journal.is_partial):
            return False
        if not server.cut_because:
            relay.group.pool_of(server).drain()  # those that are idle may be dead as well
            relay.group.cluster.context.unreachable(server.backend.name)
        self._go_elsewhere(server.backend, is_cancelled=self._is_cancelled(server))
        return True

    def _may(self, cause: str, *, told: bool, is_undone: bool = False) -> bool:
        relay = self.relay
        if (
            not cause
            or told
            or not relay.rerun.is_possible
            or relay.healing.is_on
            or relay.healing.is_due
            or relay.notifications.holds
        ):
            return False
        self._caught = cause
        journal = relay.journal
        status = relay.front.status
        has_primary = relay.group.primary is not None
        can_move = (
            len(relay.moving.begun) > 0
            and status == STATUS_IN_TRANSACTION
            and (has_primary or cause == READ_ONLY)
        )
        self._moves = can_move and relay.inflight.settled and relay.phase == LEASED
        if self._moves:
            return True
        if not journal.is_kept or journal.attempts >= ATTEMPTS:
            return False
        unanswered = journal.unanswered
        history = [] if status == STATUS_IDLE else journal.history
        is_begun = len(history) > 0 or journal.is_headless
        if cause == LOST and unanswered:
            if unanswered[0] is self._survivor:
                return False
            # It may have become the primary, unseen yet.
            if not is_undone and any(sent.may_write for sent in unanswered):
                return False
        if cause == READ_ONLY and not self._writes and not has_primary:
            return False  # the error may as well be the primary's
        self._moves = can_move and is_begun and len(unanswered) > 0
        if not self._moves and (journal.is_headless or (is_begun and cause == READ_ONLY)):
            return False  # its snapshot is not to be had elsewhere
        return is_begun or len(unanswered) > 0

    # --- elsewhere -----------------------------------------------------------------------------

    def _go_elsewhere(self, backend: Backend, *, is_cancelled: bool) -> None:
        relay = self.relay
        journal = relay.journal
        rerun = relay.rerun
        unanswered = journal.unanswered
        cause = self._caught
        relay.counters.replica_retries[cause] += 1
        relay.named.failure = b""
        self._survivor = unanswered[0] if unanswered and cause == LOST else None
        if self._moves and not unanswered:
            relay.moving.hold_again()
            return
        self.cause = cause
        stays = cause != READ_ONLY and not self._moves
        if journal.attempts > 0 and relay.group.may_read_from_primary:
            stays = False
        if self._moves:
            journal.moved(relay.moving.anew())
            relay.counters.moved_transactions += 1
        if not stays:
            relay.on_replica = False
            relay.moving.clear()
        if is_cancelled:
            rerun.abandon()
            rerun.fail(CANCELED if relay.overdue is None else relay.overdue.why(CANCELED))
            return
        rerun.begin(backend if stays else None)

    def _is_cancelled(self, server: ServerConnection) -> bool:
        """The client has asked this server to cancel the statement."""
        oldest = self.relay.journal.oldest
        return oldest is not None and (server.cancels > 0 or self.relay.cancels.meant is oldest)

    def arrived(self, server: ServerConnection) -> None:
        """What was in flight is about to be sent to this server."""
        relay = self.relay
        self.cause = ""
        unanswered = relay.journal.unanswered
        if not unanswered:
            return
        if self._writes:
            unanswered[0].may_write = True
        last = relay.front.last_route
        last.backend = server.backend.name
        last.target = PRIMARY if server.backend.writable else REPLICA
        if server.backend.writable:
            last.code = LEARNED if self._writes and len(unanswered) == 1 else RETRIED

    # --- what it teaches -----------------------------------------------------------------------

    def _learn(self) -> None:
        """The statement that has failed writes."""
        relay = self.relay
        sent = relay.journal.oldest
        if sent is None:
            return  # it is not kept
        router = relay.batch.statements.router
        statements = self._statements(sent)
        if sent.simple and not statements:
            router.learn(sent.data[sent.start + 5 : sent.end - 1])
        for statement in statements:
            router.learn(statement.sql)

    def _statements(self, sent: Sent) -> list[Statement]:
        """The prepared statement that the message which has failed was about; several, if a text
        runs several."""
        needed = () if sent.needs is None else sent.needs.values()
        named = [need.statement for need in needed if need.statement is not None and need.exact]
        if sent.simple:
            return named
        void = [owed for owed in self.relay.inflight.void if not owed.hidden]
        at = len(sent.owed) - 1 - len(void)
        while at > 0 and sent.owed[at].kind not in (BIND, PARSE):
            at -= 1
        for edit in sent.edits:
            if edit.at == at and edit.kind != MAKE and edit.statement is not None:
                return [edit.statement]
        while at >= 0:
            statement = sent.owed[at].statement
            if sent.owed[at].kind == PARSE and statement is not None:
                return [statement]
            at -= 1
        return named


def _frame(server: ServerConnection) -> bytes:
    """The one at hand."""
    splitter = server.splitter
    return splitter.data[splitter.start : splitter.end]
