"""HOT, PURE. The queue of replies a server still owes, in order.

The relay pushes an `Owed` for every message it sends to a server; `reply` is told each reply's
type and says what becomes of it. This is what makes pipelining, the rewriting of prepared
statements and the release of a connection correct:

* `HIDE`: the reply answers a message of ours (a held-back BEGIN, a re-Parse), not the client's;
* an entry with `answer` was never sent: its answer is ours and is due when it becomes the oldest;
* after an error in the extended protocol the server ignores everything up to Sync; the entries it
  ignores are void and come back by `take_void`, so that what they announced can be undone;
* in copy-in mode the server ignores Sync and Flush ("COPY Operations" in the manual), so no
  ReadyForQuery is owed for those. But if the copy fails, nobody knows which of them the server had
  read by then; the others it answers. They are `doubtful` until anything else is answered.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.frames.codes import B_COMMAND_COMPLETE, B_ERROR_RESPONSE, B_READY_FOR_QUERY
from pgproxy.protocol.named import NameUse
from pgproxy.protocol.prepared import Making, Statement
from pgproxy.protocol.states import (
    ANSWERED,
    ASYNCHRONOUS,
    BIND,
    CLOSE,
    COPY_END,
    COPY_IN,
    DESCRIBE,
    EXECUTE,
    FAILED,
    FUNCTION_CALL,
    PARSE,
    QUERY,
    READY,
    REPLY_EFFECT,
    STAYS,
    SYNC,
)

# What the relay does with a reply.
FORWARD: Final = 0
HIDE: Final = 1
REPLACE: Final = 2  # send `replacement` instead

# What a hidden message is for, which says what its failure means.
NO_ROLE: Final = 0
HELD_BEGIN: Final = 1  # the client believes that it has succeeded
RESTORE: Final = 2  # brings the session's settings to this server; what follows depends on it
ASK: Final = 3  # its rows are for the proxy
SET_BACK: Final = 4  # gives settings the values that they had when the session began
ATTEMPT: Final = 5  # may fail
LINE_UP: Final = 6  # brings a name in line (protocol/leadin.py), with a Sync of its own
LINE_UP_INSIDE: Final = 7  # the same without: its failure is the client's


@final
class Owed:
    """One message that awaits its answer. Immutable but for `making`; entries without names are
    shared."""

    def __init__(
        self,
        kind: int,
        *,
        hidden: bool = False,
        role: int = NO_ROLE,
        answer: bytes = b"",
        error: bytes = b"",
        name: bytes = b"",
        statement: Statement | None = None,
        previous: Statement | None = None,
        making: Making | None = None,
        names: tuple[NameUse, ...] | None = None,
    ) -> None:
        self.kind: i64 = kind
        self.hidden = hidden  # the client did not send it
        self.role: i64 = role  # of a hidden one
        self.answer = answer  # not sent to the server; this is the reply
        self.is_answered = len(answer) > 0
        self.error = error  # sent so that it fails; this replaces the server's ErrorResponse
        self.name = name  # of the client's statement that it makes or closes
        self.statement = statement  # that it makes or closes
        self.previous = previous  # the unnamed statement it took the place of
        self.making = making  # of a Parse that was sent for a shared statement
        self.names = names  # what the text does to names of statements

    def __repr__(self) -> str:
        return f"<Owed {self.kind}{' hidden' if self.hidden else ''} {self.name!r}>"


OWED_BIND: Final = Owed(BIND)
OWED_DESCRIBE: Final = Owed(DESCRIBE)
OWED_EXECUTE: Final = Owed(EXECUTE)
OWED_CLOSE: Final = Owed(CLOSE)
OWED_SYNC: Final = Owed(SYNC)
OWED_QUERY: Final = Owed(QUERY)
OWED_FUNCTION_CALL: Final = Owed(FUNCTION_CALL)
OWED_COPY_END: Final = Owed(COPY_END)
OWED_BEGIN: Final = Owed(QUERY, hidden=True, role=HELD_BEGIN)
OWED_RESTORE: Final = Owed(QUERY, hidden=True, role=RESTORE)
OWED_ROWS: Final = Owed(QUERY, hidden=True, role=ASK)
OWED_SET_BACK: Final = Owed(QUERY, hidden=True, role=SET_BACK)
OWED_ATTEMPT: Final = Owed(QUERY, hidden=True, role=ATTEMPT)


@final
class Inflight:
    """Replies owed by one server to one client. Starts and ends empty with every lease."""

    def __init__(self) -> None:
        self._queue: list[Owed] = []
        self._head: i64 = 0
        self._void: list[Owed] = []
        self.skipping = False  # the server ignores everything up to a Sync it has not got yet
        self.copying = False  # the server is in copy-in mode and CopyDone/CopyFail is not sent
        self.doubtful: i64 = 0  # Syncs during a copy that has failed: they may yet be answered
        self._ignored: i64 = 0  # Syncs during the copy that goes on
        self._query_failed = False  # that copy was of a Query, which has its own ReadyForQuery
        self.replacement = b""
        self.role: i64 = NO_ROLE  # of the message that the last reply answered
        self.naming: i64 = 0  # messages owed that change names
        self.names_done: list[
            NameUse
        ] = []  # changes that have come about; who reads them clears it
        self._completed: i64 = 0  # statements of the oldest Query, if that changes names

    def __len__(self) -> int:
        return len(self._queue) - int(self._head)

    @property
    def settled(self) -> bool:
        """Nothing is owed and the next message starts afresh."""
        return self._head == len(self._queue) and not self.skipping and not self.copying

    @property
    def owes_client(self) -> bool:
        """Something that is owed is for the client."""
        index = self._head
        size: i64 = len(self._queue)
        while index < size:
            if not self._queue[index].hidden:
                return True
            index += 1
        return False

    @property
    def only_questions(self) -> int:
        """How many questions of ours are owed, if nothing else is; else 0."""
        queue = self._queue
        for owed in queue[int(self._head) :]:
            if owed.role != ASK:
                return 0
        return len(self)

    @property
    def hides_query(self) -> bool:
        """What the server works on is a Query that the client has not sent."""
        head = self._head
        if head == len(self._queue):
            return False
        oldest = self._queue[head]
        return oldest.hidden and oldest.kind == QUERY

    @property
    def only_ready_owed(self) -> bool:
        """Everything up to one Sync, the last, is answered."""
        head = self._head
        return head == len(self._queue) - 1 and self._queue[head].kind == SYNC

    @property
    def ends_with_server(self) -> bool:
        """The newest message owed is one that the server answers."""
        size: i64 = len(self._queue)
        if self._head == size:
            return False
        newest = self._queue[size - 1]
        return not newest.is_answered and newest.kind != COPY_END

    def readies(self) -> int:
        """How many ReadyForQuery the client is still to be given."""
        found = 0
        index = self._head
        size: i64 = len(self._queue)
        while index < size:
            owed = self._queue[index]
            if owed.kind in (SYNC, QUERY, FUNCTION_CALL) and not owed.hidden:
                found += 1
            index += 1
        return found

    @property
    def in_query(self) -> bool:
        """The newest message owed, ends of copies aside, is a Query."""
        index: i64 = len(self._queue) - 1
        while index > self._head and self._queue[index].kind == COPY_END:
            index -= 1
        return index >= self._head and self._queue[index].kind == QUERY

    def push(self, owed: Owed) -> None:
        """A message was sent (or, with `answer`, is answered by us in its turn)."""
        kind = owed.kind
        if self.skipping:
            if kind != SYNC:
                self._void.append(owed)
                return
            self.skipping = False
        elif kind == COPY_END:
            if self.copying:
                self.copying = False
                return
            # Perhaps sent before the server said CopyInResponse; if it never does, the server
            # ignores it, and so do we once it is the oldest.
            if self._head == len(self._queue):
                return
        elif self.copying:
            if kind == SYNC:
                self._ignored += 1
            self._void.append(owed)
            return
        if owed.names is not None:
            self.naming += 1
        self._queue.append(owed)

    def reply(self, reply: i64) -> i64:
        """Takes note of a reply. Returns FORWARD, HIDE or REPLACE.

        Raises `PgError` (08P01) for a reply that answers nothing.
        """
        head = self._head
        if self.doubtful and self._answers_doubtful(reply):
            self.role = NO_ROLE
            return FORWARD
        if head == len(self._queue):
            self.role = NO_ROLE
            if reply in ASYNCHRONOUS or reply == B_ERROR_RESPONSE:
                return FORWARD
            raise self._out_of_order(reply)
        owed = self._queue[head]
        self.role = owed.role
        effect: i64 = REPLY_EFFECT[owed.kind * 256 + reply]
        if effect in (ANSWERED, READY):
            if owed.kind == PARSE and owed.statement is not None:
                owed.statement.proven = True
                if owed.making is not None:
                    owed.making.answered = True
            if owed.names is not None:
                self.naming -= 1
                self._completed = 0
                if reply == B_COMMAND_COMPLETE:
                    self.names_done.extend(owed.names)
            if self._ignored or self._query_failed:
                self._ignored = 0
                self._query_failed = False
            self._pop()
        elif effect == STAYS:
            if reply == B_ERROR_RESPONSE:
                self._copy_failed()
                self._query_failed = self.doubtful > 0
                if owed.error:
                    self.replacement = owed.error
                    return REPLACE
            elif reply == B_COMMAND_COMPLETE and owed.names is not None:
                for use in owed.names:
                    if use.index == self._completed:
                        self.names_done.append(use)
                self._completed += 1
        elif effect == FAILED:
            self._fail(owed)
            if owed.error:
                self.replacement = owed.error
                return REPLACE
            if owed.role == LINE_UP:
                return HIDE
            # The client must learn that its statement could not be prepared again.
            return FORWARD
        elif effect == COPY_IN:
            self._begin_copy()
        else:
            raise self._out_of_order(reply)
        return HIDE if owed.hidden and reply not in ASYNCHRONOUS else FORWARD

    def due(self) -> bytes:
        """Answers of ours whose turn has come. To be asked after every push and every reply."""
        head = self._head
        queue = self._queue
        if head == len(queue):
            return b""
        oldest = queue[head]
        if not oldest.is_answered and oldest.kind != COPY_END:
            return b""
        if oldest.is_answered and head + 1 < len(queue):
            second = queue[head + 1]
            if not second.is_answered and second.kind != COPY_END:
                self._pop()
                return oldest.answer
        answers: list[bytes] = []
        while self._head < len(self._queue):
            oldest = self._queue[self._head]
            if oldest.is_answered:
                answers.append(oldest.answer)
            elif oldest.kind != COPY_END:
                break
            self._pop()
        return b"".join(answers)

    def take_void(self) -> list[Owed]:
        """Messages the server ignored or refused, oldest first; each is returned once."""
        void = self._void
        if void:
            self._void = []
            for owed in void:
                if owed.making is not None:
                    owed.making.void = True
        return void

    @property
    def void(self) -> list[Owed]:
        """What `take_void` will return."""
        return self._void

    @property
    def has_void(self) -> bool:
        return len(self._void) > 0

    def clear(self) -> None:
        """The server is gone."""
        self._queue.clear()
        self._head = 0
        self._void.clear()
        self.skipping = False
        self.copying = False
        self.naming = 0
        self._completed = 0
        self.names_done.clear()
        self.doubtful = 0
        self._ignored = 0
        self._query_failed = False

    def _answers_doubtful(self, reply: i64) -> bool:
        """Whether a reply is the ReadyForQuery of a doubtful Sync. Where it may as well be that of
        a message known to be owed one, it is: there is only so much of them in all."""
        if reply != B_READY_FOR_QUERY:
            if reply not in ASYNCHRONOUS:
                self.doubtful = 0  # the server has come to what was sent after them
            return False
        head = self._head
        if head < len(self._queue):
            kind = self._queue[head].kind
            if kind == SYNC or (kind == QUERY and self._query_failed):
                return False
        self.doubtful -= 1
        self.skipping = False
        return True

    def _copy_failed(self) -> None:
        self.copying = False
        self.doubtful += self._ignored
        self._ignored = 0

    def _pop(self) -> None:
        self._head += 1
        if self._head == len(self._queue):
            self._queue.clear()
            self._head = 0
        elif self._head >= 512:
            del self._queue[: int(self._head)]
            self._head = 0

    def _fail(self, owed: Owed) -> None:
        # exec_* functions of PostgreSQL set ignore_till_sync: Sync itself still answers.
        self._copy_failed()
        queue = self._queue
        index = self._head + 1
        size: i64 = len(queue)
        if owed.kind == PARSE and not owed.name:
            # exec_parse_message drops the old unnamed statement before anything can fail.
            owed = Owed(PARSE, statement=owed.statement, making=owed.making)
        self._void.append(owed)
        while index < size and queue[index].kind != SYNC:
            self._void.append(queue[index])
            index += 1
        self._head = index
        if index == size:
            queue.clear()
            self._head = 0
            self.skipping = True
        if self.naming:
            self._count_naming()

    def _count_naming(self) -> None:
        self.naming = 0
        for owed in self._queue[int(self._head) :]:
            if owed.names is not None:
                self.naming += 1

    def _begin_copy(self) -> None:
        # What stands between here and the end of the copy is read in copy-in mode and ignored.
        queue = self._queue
        first = self._head + 1
        index = first
        size: i64 = len(queue)
        while index < size and queue[index].kind != COPY_END:
            if queue[index].kind == SYNC:
                self._ignored += 1
            self._void.append(queue[index])
            index += 1
        self.copying = index == size
        del queue[int(first) : int(index) + 1]
        if self.naming:
            self._count_naming()

    def _out_of_order(self, reply: i64) -> PgError:
        return PgError(
            PROTOCOL_VIOLATION,
            f"the server sent message type {int(reply)} out of order",
            severity="FATAL",
            detail="The server connection is closed. Please report this as a defect of pgproxy.",
        )
