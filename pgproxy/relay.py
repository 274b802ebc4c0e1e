"""HOT. The whole data path: one client, at most one leased server.

Rules of this file: one call per chunk, not per frame; bytes in hand leave unchanged, a frame is
rebuilt only to rename a statement or to inject one; no logging, no metric calls, plain integers
only; flags are computed at construction; when one side's write buffer is full, the other side is
not read.

    client_data   chunk -> batches (routing/batch.py) -> lease -> server
    server_data   chunk -> replies owed (protocol/inflight.py) -> client -> release

BEGIN is held back: it is answered at once and sent, hidden, in front of the transaction's first
statement, which shows where the transaction has to go.
"""

import time
from collections.abc import Callable
from typing import Any, Final, final

from mypy_extensions import i64

from pgproxy.errors import CONNECTION_FAILURE, FEATURE_NOT_SUPPORTED, INTERNAL_ERROR, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import (
    B_ERROR_RESPONSE,
    B_READY_FOR_QUERY,
    STATUS_FAILED,
    STATUS_IDLE,
    STATUS_IN_TRANSACTION,
)
from pgproxy.frames.splitter import NEED_DATA
from pgproxy.protocol.inflight import (
    FORWARD,
    HIDDEN_CLOSE,
    HIDDEN_QUERY,
    HIDE,
    OWED_COPY_END,
    OWED_QUERY,
    OWED_SYNC,
    Inflight,
    Owed,
)
from pgproxy.protocol.prepared import Statement, StatementRegistry
from pgproxy.protocol.session import AUTO, TO_PRIMARY, TO_REPLICA, Session
from pgproxy.protocol.states import (
    FREE,
    GONE,
    LEASE_MOVE,
    LEASED,
    PARSE,
    PHASES,
    QUERY,
    SETTLING,
    WAITING,
)
from pgproxy.routing.batch import (
    AT_READY,
    BATCH,
    CUT,
    FAILING_BIND,
    LEFT,
    MAKE,
    USE,
    USE_UNNAMED,
    BatchReader,
)
from pgproxy.routing.decision import (
    BEGIN,
    CODES,
    END,
    PLAIN,
    PRIMARY,
    REASONS,
    REPLICA,
    SET_ROUTE,
    SHOW_LAST_ROUTE,
    SHOW_ROUTE,
    Decision,
    Pin,
    Reason,
)
from pgproxy.routing.router import Router
from pgproxy.servers.cluster import PoolGroup
from pgproxy.servers.connection import Backend, Owner, ServerConnection
from pgproxy.servers.ledger import Profile, Slot
from pgproxy.telemetry.counters import Counters

# Bytes that a client may send while it waits for a lease before it is not read any more.
BACKLOG: Final = 65536

READY: Final = {
    STATUS_IDLE: write.READY_IDLE,
    STATUS_IN_TRANSACTION: write.READY_IN_TRANSACTION,
    STATUS_FAILED: write.READY_FAILED,
}

# A Query that fails, and whose error the client never sees.
FAILING_QUERY: Final = write.query(b"pgproxy refused this statement")

UNSAFE: Final = Decision(
    PRIMARY, Reason.UNSAFE_ENCODING, pin=Pin.UNPARSED, unparsed=True, known_write=True
)

# Reasons that only the relay can know.
PINNED: Final = CODES[Reason.PINNED]
IN_TRANSACTION: Final = CODES[Reason.IN_TRANSACTION]
ROUTE_SET: Final = CODES[Reason.SET_ROUTE]
CUT_BY_FLUSH: Final = CODES[Reason.FLUSH_BEFORE_SYNC]
BEHIND_WRITE: Final = CODES[Reason.BATCH_WITH_WRITE]
NO_REPLICA: Final = CODES[Reason.NO_REPLICA]
NOT_FRESH: Final = CODES[Reason.NOT_FRESH]


class Sink:
    """The client's connection, as far as the relay needs it."""

    def __init__(self) -> None:
        self.write: Any = None  # bound method: bytes -> None
        self.write_paused = False

    def set_reading(self, reading: bool) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Closes after everything written has been sent."""
        raise NotImplementedError


@final
class Watermark:
    """When the session (or any session, for read_your_writes = "global") wrote last."""

    def __init__(self) -> None:
        self.wrote_at = 0.0  # monotonic seconds at which the commit was acknowledged to us


class RelayContext:
    """What all relays share."""

    def __init__(
        self,
        *,
        router: Router,
        registry: StatementRegistry,
        counters: Counters,
        session_mode: bool,
        watermark: str,
        on_statement: Callable[[bytes, str, str, str], None] | None = None,
    ) -> None:
        self.router = router
        self.registry = registry
        self.counters = counters
        self.session_mode = session_mode
        self.shared_watermark = Watermark() if watermark == "global" else None
        self.keeps_watermark = watermark != "off"
        self.on_statement = on_statement


@final
class Relay(Owner):
    def __init__(
        self,
        context: RelayContext,
        client: Sink,
        group: PoolGroup,
        profile: Profile,
        session: Session,
        *,
        safe_encoding: bool,
    ) -> None:
        super().__init__()
        self.context = context
        self.counters = context.counters
        self.client = client
        self.group = group
        self.profile = profile
        self.session = session
        self.batch = BatchReader(context.router, context.registry)
        if not safe_encoding:
            self.batch.fixed = UNSAFE
        # The lease.
        self.phase: i64 = FREE
        self.server: ServerConnection | None = None
        self.inflight = Inflight()
        self.on_replica = False  # the lease was given for reads only
        self.leased_at = 0.0
        self.server_is_full = False
        self.backlog: list[bytes] = []
        self.backlog_size: i64 = 0
        # The session and its transaction.
        self.status: i64 = STATUS_IDLE  # as the client knows it
        self.pin: Pin | None = None
        self.pin_is_new = False  # by the statement in flight; an error takes it back
        self.held: bytes = b""  # a BEGIN that the client believes executed
        self.held_read_only = False
        self.begun = b""  # the BEGIN of the transaction on a replica, while it can still move
        self.server_said_goodbye = False
        self.writing = False  # since the last watermark something may have been written
        shared = context.shared_watermark
        self.watermark = Watermark() if shared is None else shared
        # For SHOW pgproxy.last_route.
        self.last_decision: Decision | None = None
        self.last_target: i64 = PRIMARY
        self.last_code: i64 = 0
        self.last_backend: Backend | None = None

    # --- from the client ----------------------------------------------------------------------

    def client_data(self, chunk: bytes) -> None:
        phase = self.phase
        if phase == GONE:
            return
        if phase in (WAITING, SETTLING):
            self.backlog.append(chunk)
            self.backlog_size += len(chunk)
            if self.backlog_size > BACKLOG:
                self.client.set_reading(False)
            return
        try:
            self.batch.input.feed(chunk)
            self._pump()
        except PgError as error:
            self.fail(error)

    def client_gone(self) -> None:
        """The client's connection is closed; gives back whatever is held."""
        if self.phase == GONE:
            return
        server = self.server
        if self.phase == WAITING:
            self.group.cancel_wait(self)
        self._enter(GONE)
        self.backlog.clear()
        self.profile.clients -= 1
        self.batch.forget_all()
        if server is None:
            return
        self.server = None
        pool = self.group.pool_of(server)
        clean = self.inflight.settled and not self.batch.continues
        self.inflight.clear()
        if clean and self.batch.input.pos <= self.batch.input.size:
            pool.reset(
                server,
                transaction=self.status != STATUS_IDLE,
                session=self.pin is not None,
            )
            return
        # In the middle of something: stop it, and trust the connection no more.
        pool.cancel_query(server)
        pool.discard(server)

    def client_writable(self, writable: bool) -> None:
        """The client's write buffer has room (again), or has none."""
        self.client.write_paused = not writable
        if self.server is not None:
            self.server.set_reading(writable)

    @property
    def at_rest(self) -> bool:
        """Between transactions, with nothing on its way: the client can be sent off."""
        return (
            self.status == STATUS_IDLE
            and self.phase in (FREE, LEASED)
            and self.inflight.settled
            and not self.batch.open
            and not self.batch.continues
        )

    def cancel(self) -> None:
        """The client asks to cancel what it is doing now."""
        if self.server is not None and not self.inflight.settled:
            self.group.pool_of(self.server).cancel_query(self.server)
        elif self.phase == WAITING:
            self.group.cancel_wait(self)
            self.refused(PgError("57014", "canceling statement due to user request"))

    def fail(self, error: PgError) -> None:
        """Tells the client why it is disconnected."""
        if self.phase == GONE:
            return
        self.counters.proxy_errors += 1
        fatal = PgError(
            error.sqlstate,
            error.message,
            severity="FATAL",
            detail=error.detail,
            hint=error.hint,
        )
        self.client.write(write.error_response(fatal))
        self.client_gone()
        self.client.close()

    # --- batches ------------------------------------------------------------------------------

    def _pump(self) -> None:
        batch = self.batch
        while True:
            found = batch.read()
            splitter = batch.input
            if found != BATCH:
                before: i64 = splitter.passed
                if batch.open:
                    before = batch.start
                if before > splitter.keep:
                    self._pass(before)
                if found == LEFT:
                    self.client_gone()
                    self.client.close()
                return
            if batch.start > splitter.keep:
                self._pass(batch.start)
            if not self._dispatch():
                return

    def _pass(self, end: i64) -> None:
        """Copy data, and the rest of frames too large to hold, follow what went before."""
        splitter = self.batch.input
        if self.server is not None:
            self.server.write(splitter.data[splitter.keep : end])
        splitter.keep = end

    def _dispatch(self) -> bool:
        """Sends the batch, or answers it. False: the client's input has to wait."""
        batch = self.batch
        server = self.server
        if server is not None:
            inflight = self.inflight
            if batch.continues or inflight.skipping or inflight.copying:
                self._send(server)
                return True
            kind = batch.own
            if kind != PLAIN and inflight.settled and self.status != STATUS_FAILED:
                self._answer_own(kind)
                return True
            if kind == PLAIN and self._fits():
                self._send(server)
                return True
            if not inflight.settled:
                self._enter(SETTLING)
                return False
            if kind != PLAIN or self._ends_here() or not self._leave_replica(server):
                self._send(server)
                return True
            if self.server is not None:
                return True
        elif self._answer_alone():
            return True
        return self._lease()

    def _fits(self) -> bool:
        """Whether the batch may be sent to the leased server, whatever is still in flight."""
        if not self.on_replica or self.pin is not None:
            return True
        return self._target() == REPLICA and self.batch.pin is None

    def _target(self) -> i64:
        batch = self.batch
        route = self.session.route
        if self.context.session_mode:
            return REPLICA if route == TO_REPLICA else PRIMARY
        if batch.pin is not None or batch.ending == CUT:
            return PRIMARY
        if route == TO_PRIMARY:
            return PRIMARY
        target = batch.target
        if route == TO_REPLICA and not batch.known_write:
            target = REPLICA
        if self.held and not self.held_read_only and route != TO_REPLICA:
            return PRIMARY
        return target

    def _lease(self) -> bool:
        target = self._target()
        self.on_replica = target == REPLICA and self.group.has_replicas
        server = self.group.acquire(target, self.profile, self, self.watermark.wrote_at)
        if server is None:
            self._enter(WAITING)
            return False
        self._take(server)
        return True

    def granted(self, slot: Slot) -> None:
        assert isinstance(slot, ServerConnection)
        try:
            self._take(slot)
            self._resume()
        except PgError as error:
            self.fail(error)

    def refused(self, error: PgError) -> None:
        self._enter(FREE)
        self._answer_error(error)
        try:
            self._resume()
        except PgError as fatal:
            self.fail(fatal)

    def reroute(self) -> None:
        self._enter(FREE)
        try:
            if self._lease():
                self._resume()
        except PgError as error:
            self.fail(error)

    def _take(self, server: ServerConnection) -> None:
        self._enter(LEASED)
        self.server = server
        self.server_is_full = False
        server.owner = self
        self.on_replica = self.on_replica and not server.backend.writable
        self.leased_at = time.perf_counter()
        if self.client.write_paused:
            server.set_reading(False)
        if self.context.session_mode:
            self.pin = Pin.POOL_MODE
        self._send(server)

    def _resume(self) -> None:
        """Goes on with what came in meanwhile."""
        if self.phase == GONE:
            return
        self._pump()
        while self.backlog and self.phase in (FREE, LEASED):
            chunk = self.backlog.pop(0)
            self.backlog_size -= len(chunk)
            self.batch.input.feed(chunk)
            self._pump()
        if self.phase != GONE and self.backlog_size <= BACKLOG and not self.server_is_full:
            self.client.set_reading(True)

    # --- to the server ------------------------------------------------------------------------

    def _send(self, server: ServerConnection) -> None:
        batch = self.batch
        splitter = batch.input
        inflight = self.inflight
        first = b""
        if self.held:
            first = self.held
            inflight.push(HIDDEN_QUERY)
            server.prepared.unnamed = None  # a simple Query drops it
            self.begun = first if self.on_replica and _can_move(first) else b""
            self.held = b""
        self._account(server)
        if batch.target == PRIMARY and batch.executes and self.context.keeps_watermark:
            self._note_write()
        if batch.pin is not None or batch.unparsed:
            self._set_pin()
        data = splitter.data
        if batch.simple:
            batch.unnamed = None
            server.prepared.unnamed = None
            inflight.push(OWED_QUERY)
        elif batch.edits:
            data = self._rewrite(server)
            server.write(first + data if first else data)
            self._sent()
            return
        else:
            for owed in batch.owed:
                inflight.push(owed)
            if batch.new_unnamed is not None:
                server.prepared.unnamed = batch.new_unnamed
        if batch.start > 0 or batch.end < splitter.size:
            data = data[batch.start : batch.end]
        server.write(first + data if first else data)
        self._sent()

    def _sent(self) -> None:
        batch = self.batch
        batch.continues = batch.ending == CUT
        if batch.discards and self.server is not None:
            # What the server has prepared is not known exactly any more.
            self.server.doomed = True
            if self.status == STATUS_IDLE:
                batch.forget_all()
        if not batch.simple:
            answers = self.inflight.due()
            if answers:
                self.client.write(answers)
            if self.inflight.has_void and self.server is not None:
                self._undo(self.server)
        batch.done()

    def _rewrite(self, server: ServerConnection) -> bytes:
        """The bytes of the batch for this server, with the statements it lacks prepared first."""
        batch = self.batch
        inflight = self.inflight
        data = batch.input.data
        prepared = server.prepared
        pieces: list[bytes] = []
        done = batch.start
        pushed: i64 = 0
        for edit in batch.edits:
            while pushed < edit.at:
                inflight.push(batch.owed[pushed])
                pushed += 1
            if edit.start > done:
                pieces.append(data[done : edit.start])
            done = edit.end
            kind = edit.kind
            statement = edit.statement
            if kind == MAKE:
                assert statement is not None
                pushed += 1
                if prepared.touch(statement):
                    inflight.push(
                        Owed(
                            PARSE,
                            answer=write.PARSE_COMPLETE,
                            name=batch.owed[edit.at].name,
                            statement=statement,
                        )
                    )
                    continue
                self._make_room(server, statement, pieces)
                inflight.push(batch.owed[edit.at])
            elif kind == USE:
                assert statement is not None
                if not prepared.touch(statement):
                    self._make_room(server, statement, pieces)
                    inflight.push(Owed(PARSE, hidden=True, statement=statement))
                    pieces.append(
                        write.parse(statement.server_name, statement.sql, statement.parameter_types)
                    )
            elif kind == USE_UNNAMED:
                assert statement is not None
                if prepared.unnamed is not statement:
                    prepared.unnamed = statement
                    inflight.push(Owed(PARSE, hidden=True, statement=statement))
                    pieces.append(write.parse(b"", statement.sql, statement.parameter_types))
            pieces.append(edit.frame)
        while pushed < len(batch.owed):
            inflight.push(batch.owed[pushed])
            pushed += 1
        if batch.new_unnamed is not None:
            prepared.unnamed = batch.new_unnamed
        if batch.end > done:
            pieces.append(data[done : batch.end])
        return b"".join(pieces)

    def _make_room(
        self, server: ServerConnection, statement: Statement, pieces: list[bytes]
    ) -> None:
        evicted = server.prepared.add(statement)
        if evicted:
            self.inflight.push(HIDDEN_CLOSE)
            pieces.append(write.close_statement(evicted))

    def _account(self, server: ServerConnection) -> None:
        decision = self.batch.decision
        if decision is None:
            return
        target: i64 = PRIMARY if server.backend.writable else REPLICA
        code = decision.code if decision.target == target else self._why(target)
        self.counters.routed[code * 2 + target] += 1
        self.last_decision = decision
        self.last_target = target
        self.last_code = code
        self.last_backend = server.backend
        if self.context.on_statement is not None and self.batch.executes:
            fields = self.last_route()
            self.context.on_statement(self.batch.sql(), fields[2], fields[0], fields[1])

    def _why(self, target: i64) -> i64:
        """The reason for which a statement runs elsewhere than the router alone would have it."""
        if self.pin is not None:
            return PINNED
        if self.status != STATUS_IDLE:
            return IN_TRANSACTION
        if self.session.route != AUTO:
            return ROUTE_SET
        if target == REPLICA:
            return IN_TRANSACTION
        if self.batch.ending == CUT:
            return CUT_BY_FLUSH
        if not self.inflight.settled:
            return BEHIND_WRITE
        return NOT_FRESH if self.group.has_replicas else NO_REPLICA

    def last_route(self) -> list[str]:
        """Target, reason, backend and detail of the previous statement; [] before the first."""
        decision = self.last_decision
        backend = self.last_backend
        if decision is None or backend is None:
            return []
        return [
            "primary" if self.last_target == PRIMARY else "replica",
            REASONS[int(self.last_code)].value,
            backend.name,
            decision.detail,
        ]

    def _note_write(self) -> None:
        """Anything but a known read may have written; transaction control alone has not."""
        decision = self.batch.executed
        if decision is None or decision.reason is not Reason.TRANSACTION_CONTROL:
            self.writing = True

    def _set_pin(self) -> None:
        if self.pin is not None:
            return
        self.pin = self.batch.pin if self.batch.pin is not None else Pin.UNPARSED
        # Only the sole statement in flight can be told from others when an error comes.
        self.pin_is_new = self.inflight.settled and (
            self.batch.unparsed or self.batch.decision is self.batch.executed
        )
        name = self.pin.value
        self.counters.pins[name] = self.counters.pins.get(name, 0) + 1

    # --- answered without a server ------------------------------------------------------------

    def _answer_alone(self) -> bool:
        """No server is leased: some things need none."""
        batch = self.batch
        decision = batch.executed
        if self.status == STATUS_FAILED:
            self._answer_failed_transaction(decision)
            return True
        if batch.own != PLAIN and batch.ending == AT_READY:
            self._answer_own(batch.own)
            return True
        if decision is None:
            return self._answer_bookkeeping()
        if not batch.simple:
            return False
        kind = decision.kind
        if kind == BEGIN:
            if self.held or self.context.session_mode:
                return False
            self.held = batch.raw()
            self.held_read_only = decision.read_only and decision.target == REPLICA
            self.session.begin()
            self._answer_tag(decision.tag, STATUS_IN_TRANSACTION)
            return True
        if kind == END:
            if not self.held:
                return False
            self.held = b""
            self.session.end(committed=decision.tag == b"COMMIT")
            self._answer_tag(decision.tag, STATUS_IDLE)
            return True
        return False

    def _answer_tag(self, tag: bytes, status: i64) -> None:
        self.status = status
        self.batch.unnamed = None
        self.client.write(write.command_complete(tag) + READY[int(status)])
        self.batch.done()

    def _answer_bookkeeping(self) -> bool:
        """Nothing is executed: true if there is nothing to ask a server.

        That is so for Close and Sync, and for Parse of a text that a server has accepted before:
        a driver that prepares while it holds up others (pgbench) must not wait for a lease.
        """
        batch = self.batch
        if batch.simple:
            return False
        if batch.ending == CUT:
            if len(batch.owed) == 1 and batch.owed[0] is OWED_COPY_END:
                batch.done()  # of a COPY that has failed long ago
                return True
            return False
        answers: list[bytes] = []
        for owed in batch.owed:
            statement = owed.statement
            if owed.answer:
                answers.append(owed.answer)
            elif owed.kind == PARSE and owed.name and statement is not None and statement.proven:
                answers.append(write.PARSE_COMPLETE)
            elif owed is not OWED_SYNC:
                return False
        answers.append(READY[int(self.status)])
        self.client.write(b"".join(answers))
        batch.done()
        return True

    def _answer_own(self, kind: i64) -> None:
        """SET pgproxy.route, SHOW pgproxy.route, SHOW pgproxy.last_route."""
        batch = self.batch
        decision = batch.executed if batch.executed is not None else batch.decision
        assert decision is not None
        session = self.session
        rows: list[bytes] = []
        tag = b"SHOW"
        try:
            if kind == SET_ROUTE:
                tag = b"SET" if decision.argument else b"RESET"
                if batch.executes:
                    session.set_route(
                        decision.argument,
                        local=decision.local,
                        in_transaction=self.status != STATUS_IDLE,
                    )
            elif kind == SHOW_ROUTE:
                rows = session.show_route()
            else:
                assert kind == SHOW_LAST_ROUTE, kind
                rows = session.show_last_route(self.last_route())
            answer = batch.own_answer(rows, tag, READY[int(self.status)])
        except PgError as error:
            self._answer_error(error)
            return
        self.client.write(answer)
        batch.done()

    def _answer_error(self, error: PgError) -> None:
        """An ERROR of ours in place of the batch; a transaction that has begun has failed."""
        batch = self.batch
        self.counters.proxy_errors += 1
        batch.undo(batch.owed)
        answer = write.error_response(error)
        if self.server is not None and self.status != STATUS_IDLE:
            self._fail_transaction(answer)
            return
        if self.status == STATUS_IN_TRANSACTION:
            self.status = STATUS_FAILED
            self.held = b""
        if batch.ending == AT_READY:
            answer += READY[int(self.status)]
        else:
            batch.skipping = True
        self.client.write(answer)
        batch.done()

    def _fail_transaction(self, answer: bytes) -> None:
        """The server must know as well that the transaction has failed."""
        batch = self.batch
        server = self.server
        assert server is not None
        if batch.simple:
            self.inflight.push(Owed(QUERY, error=answer))
            server.write(FAILING_QUERY)
        else:
            self.inflight.push(Owed(PARSE, error=answer))
            if batch.ending == AT_READY:
                self.inflight.push(OWED_SYNC)
                server.write(FAILING_BIND + write.SYNC)
            else:
                batch.continues = True
                server.write(FAILING_BIND + write.FLUSH)
        batch.done()

    def _answer_failed_transaction(self, decision: Decision | None) -> None:
        """The transaction failed before a server was found for it."""
        batch = self.batch
        if decision is not None and decision.kind == END and batch.simple:
            self.session.end(committed=False)
            self._answer_tag(b"ROLLBACK", STATUS_IDLE)
            return
        if decision is None and self._answer_bookkeeping():
            return
        self._answer_error(
            PgError(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            )
        )

    # --- a transaction on a replica -----------------------------------------------------------

    def _ends_here(self) -> bool:
        """The transaction is over, or will be with this batch: no reason to move it."""
        decision = self.batch.executed
        return self.status == STATUS_FAILED or (decision is not None and decision.ends_transaction)

    def _leave_replica(self, server: ServerConnection) -> bool:
        """In a transaction on a replica comes a statement that needs the primary. True: it needs
        not be sent here any more. The transaction, which only read so far, starts anew on the
        primary; where that is not possible, session state must not be left on a replica."""
        if self.begun:
            self.held = self.begun
            self.begun = b""
            self.held_read_only = False
            self.counters.moved_transactions += 1
            self._enter(FREE)
            self.server = None
            self.group.pool_of(server).reset(server, transaction=True, session=False)
            return True
        if self.batch.pin is None:
            return False
        self._answer_error(
            PgError(
                FEATURE_NOT_SUPPORTED,
                "session state cannot be changed in this transaction",
                detail=(
                    "It is READ ONLY and runs on a replica, but the session continues on the "
                    "primary. Change the state before BEGIN, or begin with a "
                    "/* pgproxy: primary */ comment."
                ),
            )
        )
        return True

    # --- from the server ----------------------------------------------------------------------

    def server_data(self, chunk: bytes) -> None:
        server = self.server
        if server is None:
            return
        splitter = server.splitter
        inflight = self.inflight
        pieces: list[bytes] | None = None
        done: i64 = 0
        ready = False
        try:
            splitter.feed(chunk)
            while True:
                kind = splitter.next()
                if kind == NEED_DATA:
                    break
                verdict = inflight.reply(kind)
                if verdict != FORWARD:
                    if pieces is None:
                        pieces = []
                    if splitter.start > done:
                        pieces.append(splitter.data[done : splitter.start])
                    done = splitter.end
                    if verdict != HIDE:
                        pieces.append(inflight.replacement)
                    elif kind == B_ERROR_RESPONSE:
                        raise self._begin_failed()
                if kind == B_READY_FOR_QUERY:
                    self.status = splitter.data[splitter.start + 5]
                    ready = True
                elif kind == B_ERROR_RESPONSE:
                    self._server_error()
                if inflight.has_void:
                    self._undo(server)
                answers = inflight.due()
                if answers:
                    if pieces is None:
                        pieces = []
                    if splitter.end > done:
                        pieces.append(splitter.data[done : splitter.end])
                    done = splitter.end
                    pieces.append(answers)
        except PgError as error:
            self._break(server, error)
            return
        passed: i64 = splitter.passed
        if pieces is None:
            if passed == splitter.size:
                if passed > 0:
                    self.client.write(splitter.data)
            elif passed > 0:
                self.client.write(splitter.data[:passed])
        else:
            if passed > done:
                pieces.append(splitter.data[done:passed])
            if pieces:
                self.client.write(b"".join(pieces))
        splitter.keep = passed
        if ready and inflight.settled:
            self._settled(server)

    def _settled(self, server: ServerConnection) -> None:
        """ReadyForQuery has come and nothing is owed any more."""
        self.pin_is_new = False
        if self.batch.continues:
            return
        if self.status == STATUS_IDLE:
            if self.writing:
                self.writing = False
                self.watermark.wrote_at = time.monotonic()
            self.begun = b""
            if self.session.is_local:
                self.session.end(committed=True)
            if self.pin is None:
                waited = self.phase == SETTLING
                self._release(server)
                if waited:
                    self._again()
                return
        if self.phase == SETTLING:
            self._enter(LEASED)
            self._again()

    def _release(self, server: ServerConnection) -> None:
        self._enter(FREE)
        self.server = None
        self.counters.transactions.observe(time.perf_counter() - self.leased_at)
        server.keeper.release(server)

    def _again(self) -> None:
        """The batch that had to wait for replies goes on."""
        try:
            if self._dispatch():
                self._resume()
        except PgError as error:
            self.fail(error)

    def server_lost(self, reason: str) -> None:
        server = self.server
        self.server = None
        if self.phase == GONE or server is None:
            return
        said_goodbye = self.server_said_goodbye
        self.inflight.clear()
        if said_goodbye:
            self.client_gone()
            self.client.close()
            return
        self.fail(
            PgError(
                CONNECTION_FAILURE,
                "the connection to the server was lost",
                detail=(
                    f"{server.backend.name}: {reason}. Whether the last statement took effect is "
                    "not known; connect again."
                ),
            )
        )

    def server_writable(self, writable: bool) -> None:
        self.server_is_full = not writable
        self.client.set_reading(writable)

    def _server_error(self) -> None:
        server = self.server
        assert server is not None
        self.counters.server_errors += 1
        splitter = server.splitter
        end = splitter.end if splitter.end < splitter.size else splitter.size
        body = splitter.data[splitter.start + 5 : end]
        if b"\x00VFATAL\x00" in body or b"\x00VPANIC\x00" in body:
            self.server_said_goodbye = True
        if self.pin_is_new:
            self.pin_is_new = False
            self.pin = None

    def _undo(self, server: ServerConnection) -> None:
        void = self.inflight.take_void()
        for owed in void:
            if owed.kind == PARSE and owed.statement is not None:
                if owed.statement.number:
                    if not owed.answer:
                        server.prepared.forget(owed.statement)
                else:
                    server.prepared.unnamed = None
        self.batch.undo([owed for owed in void if not owed.hidden])

    def _begin_failed(self) -> PgError:
        return PgError(
            INTERNAL_ERROR,
            "the transaction could not be started on the server",
            detail="The server refused BEGIN. Connect again.",
        )

    def _break(self, server: ServerConnection, error: PgError) -> None:
        """The server speaks nonsense: neither side can go on."""
        self.server = None
        self.group.pool_of(server).discard(server)
        self.fail(error)

    # --- phases -------------------------------------------------------------------------------

    def _enter(self, phase: i64) -> None:
        assert LEASE_MOVE[self.phase * PHASES + phase], (self.phase, phase)
        self.phase = phase

    def __repr__(self) -> str:
        return f"<Relay phase={self.phase} status={self.status} pin={self.pin} {self.server}>"


def _can_move(begin: bytes) -> bool:
    """Whether a transaction begun so sees each statement's own snapshot (READ COMMITTED)."""
    lowered = begin.lower()
    return b"repeatable" not in lowered and b"serializable" not in lowered
