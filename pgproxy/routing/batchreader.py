"""HOT, PURE. From a client's frames to batches: where each begins and ends.

`BatchReader.read` consumes frames until its `batch` is complete. What that is says
routing/batch.py; what each message adds to it, routing/messages.py.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.frames.codes import (
    F_BIND,
    F_CLOSE,
    F_COPY_DONE,
    F_COPY_FAIL,
    F_DESCRIBE,
    F_EXECUTE,
    F_FLUSH,
    F_FUNCTION_CALL,
    F_PARSE,
    F_QUERY,
    F_SYNC,
)
from pgproxy.frames.splitter import NEED_DATA, Splitter, wants
from pgproxy.protocol.inflight import OWED_COPY_END, OWED_EXECUTE, OWED_FUNCTION_CALL, OWED_SYNC
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.routing.batch import Batch
from pgproxy.routing.clientstatements import ClientStatements
from pgproxy.routing.fastpath import CALLS, OTHER_CALL
from pgproxy.routing.messages import Messages
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Router
from pgproxy.telemetry.counters import Traffic

# Copy data passes; a frame whose length alone matters is still wanted whole, being tiny.
CLIENT_FRAMES: Final = wants(pass_by=b"d", header=b"HSXcf", body=b"BDECF", text=b"QP")

# Bytes of one frame that are held until it is complete; what is beyond passes through.
HELD_FRAME: Final = 65536
# The same for the text of statements: only what is read whole is known not to change the session.
HELD_TEXT: Final = 1 << 20
# The largest length word of a message that carries no text or values: PQ_SMALL_MESSAGE_LIMIT. What
# is read here and sent on rebuilt must be whole, or the rest of it would pass for messages.
SMALL_MESSAGE: Final = 10000
LARGE_MESSAGES: Final = (F_QUERY, F_PARSE, F_BIND, F_FUNCTION_CALL)
# Bytes of a batch that are held while its Sync has not come.
HELD_BATCH: Final = 65536

# What `read` found.
NOTHING: Final = 0  # more bytes are needed
BATCH: Final = 1
LEFT: Final = 2  # the client said Terminate
PAUSE: Final = 3  # no batch ends in the next `AT_ONCE` messages
AT_ONCE: Final = 1000


@final
class BatchReader:
    """Reads one client's messages. `statements` are the client's."""

    def __init__(
        self, router: Router, registry: StatementRegistry, traffic: Traffic | None = None
    ) -> None:
        self.input: Final = Splitter(CLIENT_FRAMES, HELD_FRAME, HELD_TEXT)
        self.statements: Final = ClientStatements(router, registry)
        self.batch: Final = Batch(self.input, self.statements)
        self._messages: Final = Messages(
            self.input, self.statements, self.batch, Traffic() if traffic is None else traffic
        )

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; not while a batch is complete and not `done`."""
        splitter = self.input
        dropped = splitter.keep
        splitter.feed(chunk)
        batch = self.batch
        if batch.open and dropped > 0:
            # What was sent before this batch is not in `input.data` any more.
            batch.start -= dropped
            for edit in batch.edits:
                edit.start -= dropped
                edit.end -= dropped

    def read(self) -> i64:
        """NOTHING, BATCH, LEFT or PAUSE. Raises `PgError` FATAL (08P01) for what is not the
        protocol."""
        splitter = self.input
        batch = self.batch
        left: i64 = AT_ONCE
        while True:
            if left == 0:
                return self._pause()
            left -= 1
            kind = splitter.next()
            if kind == NEED_DATA:
                return self._at_end_of_data()
            if splitter.end - splitter.start > SMALL_MESSAGE and kind not in LARGE_MESSAGES:
                raise PgError(PROTOCOL_VIOLATION, "invalid message length", severity="FATAL")
            if not batch.open:
                batch.start = splitter.start
                if kind == F_QUERY and not batch.skipping:
                    batch.take_query()
                    return BATCH
            if batch.skipping:
                if kind == F_SYNC:
                    batch.skipping = False
                    batch.begin()
                    batch.complete(OWED_SYNC)
                    return BATCH
                if kind == ord("X"):
                    return LEFT
                splitter.keep = splitter.passed
                continue
            found = self._extended(kind)
            if found != NOTHING:
                return found

    def _at_end_of_data(self) -> i64:
        splitter = self.input
        batch = self.batch
        if not batch.open:
            return NOTHING
        passed: i64 = splitter.passed
        if passed > batch.start and (batch.continues or splitter.held > HELD_BATCH):
            batch.cut(passed)
            return BATCH
        return NOTHING

    def _pause(self) -> i64:
        batch = self.batch
        if not batch.open or self.input.passed - batch.start <= HELD_BATCH:
            return PAUSE
        batch.cut(self.input.passed)
        return BATCH

    def _cut_before(self) -> i64:
        """The message shown belongs to another batch."""
        splitter = self.input
        splitter.rewind(int(splitter.start))
        self.batch.cut(splitter.start)
        return BATCH

    def _extended(self, kind: i64) -> i64:
        splitter = self.input
        batch = self.batch
        if kind == ord("X"):
            return LEFT
        if not batch.open:
            if kind == F_FLUSH and not batch.continues:
                return NOTHING  # nothing to flush: it passes, behind copy data if there is any
            batch.begin()
        if batch.needs.is_over and kind not in (F_SYNC, F_FLUSH):
            return self._cut_before()
        if kind == F_PARSE:
            self._messages.parse()
        elif kind == F_BIND:
            self._messages.bind()
        elif kind == F_EXECUTE:
            if self.statements.portals:
                self._messages.execute()
            else:
                batch.owed.append(OWED_EXECUTE)
            batch.executes = True
            if batch.executed is not None and batch.executed.reason is Reason.COPY_IN:
                batch.complete(None)
                return BATCH
        elif kind == F_SYNC:
            batch.complete(OWED_SYNC)
            return BATCH
        elif kind == F_DESCRIBE:
            self._messages.describe()
        elif kind == F_CLOSE:
            self._messages.close()
        elif kind == F_FLUSH:
            batch.complete(None)
            return BATCH
        elif kind in (F_COPY_DONE, F_COPY_FAIL):
            batch.owed.append(OWED_COPY_END)
            if len(batch.owed) == 1:
                batch.complete(None)
                return BATCH
        elif kind == F_QUERY:
            return BATCH if self._messages.query() else self._cut_before()
        else:
            assert kind == F_FUNCTION_CALL, kind
            body = splitter.start + 5
            function = int.from_bytes(splitter.data[body : body + 4], "big")
            called = CALLS.get(function, OTHER_CALL)
            batch.note(called)
            batch.note_executed(called)
            batch.executes = True
            batch.complete(OWED_FUNCTION_CALL)
            return BATCH
        if splitter.end > splitter.size:
            batch.complete(None)
            return BATCH
        return NOTHING
