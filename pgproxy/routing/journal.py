"""HOT, PURE. What a client has done since its last commit, so that it can be done again elsewhere.

When a server goes away in the middle of a transaction, nothing of the transaction took effect. If
another server gives the same answers to the same statements, the client need not hear of it: then
no observer can tell that the transaction did not run there from the beginning. So the batches and
the answers of the open transaction are kept, within a limit, and compared byte for byte when it is
run again. (Oracle calls the idea Application Continuity.)

What was in flight is run again only if the server itself said that it was undone: FATAL 57P01,
which PostgreSQL does not send once a commit has begun (HOLD_INTERRUPTS in CommitTransaction; a
commit that waits for a synchronous standby ends with a WARNING instead), or if nothing in flight
could commit and we closed the connection ourselves. Whatever else ends a connection may be the
statement's own doing.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.frames.codes import B_PARAMETER_STATUS, STATUS_IDLE
from pgproxy.protocol.inflight import Owed
from pgproxy.protocol.states import BIND, EXECUTE
from pgproxy.routing.batch import Batch
from pgproxy.routing.decision import ALONE, END, IN_BLOCK, NEVER
from pgproxy.routing.edits import Edit

# Attempts to find a server that lives long enough.
ATTEMPTS: Final = 3

# Why a server that was lost does not answer any more.
UNKNOWN: Final = 0
UNDONE: Final = 1  # it said so: what was in flight has not taken effect
CUT_OFF: Final = 2  # we have closed the connection

_NO_EDITS: Final[list[Edit]] = []


@final
class Sent:
    """One batch as it was sent. `first` is the held-back BEGIN in front of it, if any; `in_block`:
    it was certain to run inside a transaction block."""

    def __init__(
        self, batch: Batch, first: bytes, in_block: bool, *, may_fail: bool = False
    ) -> None:
        self.data = batch.input.data
        self.start = batch.start
        self.end = batch.end
        self.simple = batch.simple
        self.owed = batch.owed
        self.edits = batch.edits if batch.edits and not batch.simple else _NO_EDITS
        self.new_unnamed = batch.new_unnamed
        self.first = first
        self.first_on_replica = b""  # what is sent there in place of it, if that is not the same
        self.first_fails = False  # behind BEGIN: the transaction had failed before it moved
        self.in_block = in_block
        self.may_fail = may_fail  # what was sent before may make it fail as a whole
        self.ends = batch.ends  # it has a COMMIT or ROLLBACK
        executed = batch.executed
        # It is a COMMIT or ROLLBACK alone, which is sure to be executed when it is answered.
        self.is_end = executed is not None and executed.kind == END and _executes_once(batch.owed)
        self.again = batch.again
        # What must be on the server under clients' own names first; None: it names nothing.
        self.needs = batch.needs.by_name if batch.needs.waits else None
        self.inside = batch.continues  # an earlier part of the batch has been sent
        names = batch.needs.names if batch.needs.waits and batch.simple else None
        self.changes = None if names is None else names.changes
        self.may_write = batch.may_write
        # What exists for good where it was run, perhaps (Slot.custom).
        self.custom = () if batch.is_plain else batch.custom()

    def raw(self) -> bytes:
        """The client's bytes."""
        if self.start == 0 and self.end == len(self.data):
            return self.data
        return self.data[self.start : self.end]

    @property
    def may_run_again(self) -> bool:
        return self.again >= (IN_BLOCK if self.in_block and not self.ends else ALONE)


def _executes_once(owed: list[Owed]) -> bool:
    kinds = [one.kind for one in owed]
    return kinds.count(BIND) == 1 and kinds.count(EXECUTE) == 1


@final
class Journal:
    """One client's. `limit`: bytes of one transaction, both directions; 0 keeps none."""

    def __init__(self, limit: int) -> None:
        self.limit: i64 = limit
        self.is_kept = limit > 0  # and not given up in this transaction
        self.is_headless = False  # what the transaction began with is not kept
        self.is_partial = False  # since the last ReadyForQuery the client has been given something
        self.is_checking = False  # the answers that come are compared, not given
        self.attempts: i64 = 0
        self._entries: list[Sent] = []
        self._answered: i64 = 0  # of them: the client has their ReadyForQuery
        self._is_behind_commit = False  # of them: one ended its transaction
        self._given: list[bytes] = []
        self._size: i64 = 0
        self._expected = b""
        self._checked: i64 = 0

    # --- keeping ------------------------------------------------------------------------------

    def sent(self, entry: Sent) -> None:
        """It has been sent; to be called while `is_kept`."""
        # The whole chunk is kept for the batch's sake, once for all its batches.
        if not self._entries or self._entries[-1].data is not entry.data:
            self._size += len(entry.data)
        if self._size > self.limit or entry.again == NEVER:
            self.give_up()
            return
        self._entries.append(entry)

    def ready(self, status: i64) -> None:
        """The client is told ReadyForQuery with this status."""
        if self.is_checking or not self.is_kept:
            return
        if self._answered == len(self._entries):
            self.give_up()  # of what is not in here
            return
        ended = self._entries[self._answered].ends or self._is_behind_commit
        self._answered += 1
        if status == STATUS_IDLE:
            self._is_behind_commit = True
        elif ended:
            # COMMIT AND CHAIN, or COMMIT and BEGIN with answers in one chunk: what is kept is
            # committed, a part of it at least.
            self.give_up()

    def given(self, data: bytes) -> None:
        """The client was given this, and the transaction goes on."""
        if not self.is_kept:
            return
        self._size += len(data)
        if self._size > self.limit:
            self.give_up()
            return
        self._given.append(data)

    def committed(self) -> None:
        """No transaction is open behind the last ReadyForQuery, but batches are in flight."""
        if not self.is_kept:
            return
        del self._entries[: int(self._answered)]
        self._answered = 0
        self._is_behind_commit = False
        self._given.clear()
        self.is_headless = False
        if self.is_partial:
            self.give_up()

    def moved(self, begin: bytes) -> None:
        """The transaction goes on on another server, where `begin` opens it: what the client has the
        answers of need not be done again."""
        del self._entries[: int(self._answered)]
        self._answered = 0
        self._given.clear()
        self.is_headless = False
        oldest = self._entries[0]
        oldest.first = begin
        oldest.in_block = True

    def clear(self) -> None:
        """No transaction is open and nothing is in flight."""
        self._entries.clear()
        self._answered = 0
        self._is_behind_commit = False
        self._size = 0
        self.is_kept = self.limit > 0
        self.is_headless = False
        self.is_partial = False
        self.attempts = 0
        if self._given:
            self._given.clear()

    def give_up(self) -> None:
        """This transaction cannot be run again."""
        self.is_kept = False
        self._entries.clear()
        self._given.clear()

    def take_up(self) -> None:
        """Nothing is in flight in a transaction that was given up, and need not be run again from
        its beginning: what follows can be kept."""
        self.is_kept = self.limit > 0
        self.is_headless = True
        self._answered = 0
        self._is_behind_commit = False
        self._size = 0

    # --- running again ------------------------------------------------------------------------

    @property
    def history(self) -> list[Sent]:
        """Batches whose answers the client has."""
        return self._entries[: int(self._answered)]

    @property
    def oldest(self) -> Sent | None:
        """Of those in flight."""
        at = self._answered
        return self._entries[at] if at < len(self._entries) else None

    @property
    def unanswered(self) -> list[Sent]:
        return self._entries[int(self._answered) :]

    def may_run_again(self, end: int, completed: bool) -> bool:
        """Whether the client need not be told that its server has gone.

        `end` is UNKNOWN, UNDONE or CUT_OFF; `completed`: since the last ReadyForQuery a
        CommandComplete has come, of which the client does not know yet.
        """
        if not self.is_kept or not self._entries or self.attempts >= ATTEMPTS or self.is_headless:
            return False
        unanswered = self.unanswered
        if not unanswered or self.is_checking:
            return True
        if self.is_partial or end == UNKNOWN:
            return False
        oldest = unanswered[0]
        if completed and (oldest.ends or (oldest.simple and not oldest.in_block)):
            return False  # it says that the commit is done
        for entry in unanswered:
            if not entry.may_run_again:
                return False
            if end == CUT_OFF and (not entry.in_block or entry.ends):
                return False
        return True

    def start_checking(self) -> None:
        """The history is sent again: its answers must be those that the client has."""
        self.attempts += 1
        self.is_checking = True
        self._expected = _without_settings(b"".join(self._given))
        self._checked = 0

    def check(self, answer: bytes) -> bool:
        """Whether the answers are the same so far."""
        end = self._checked + len(answer)
        same = self._expected[self._checked : end] == answer
        self._checked = end
        return same

    def stop_checking(self) -> bool:
        """Everything has been answered again: whether it is the same."""
        self.is_checking = False
        same = self._checked == len(self._expected)
        self._expected = b""
        return same


def _without_settings(frames: bytes) -> bytes:
    """Without ParameterStatus: a server also reports settings of its own (in_hot_standby)."""
    pieces: list[bytes] = []
    done = 0
    start = 0
    while start + 5 <= len(frames):
        end = start + 1 + int.from_bytes(frames[start + 1 : start + 5], "big")
        if frames[start] == B_PARAMETER_STATUS:
            pieces.append(frames[done:start])
            done = end
        start = end
    pieces.append(frames[done:])
    return b"".join(pieces)
