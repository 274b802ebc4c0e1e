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
from typing import Any, Final, final

from mypy_extensions import i64

from pgproxy.errors import CONNECTION_FAILURE, FEATURE_NOT_SUPPORTED, INTERNAL_ERROR, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import (
    B_COMMAND_COMPLETE,
    B_DATA_ROW,
    B_ERROR_RESPONSE,
    B_NOTICE_RESPONSE,
    B_PARAMETER_DESCRIPTION,
    B_PARAMETER_STATUS,
    B_PORTAL_SUSPENDED,
    B_READY_FOR_QUERY,
    STATUS_FAILED,
    STATUS_IDLE,
    STATUS_IN_TRANSACTION,
)
from pgproxy.frames.read import is_fatal
from pgproxy.frames.splitter import NEED_DATA, Splitter
from pgproxy.protocol.channels import HAS_SET
from pgproxy.protocol.inflight import (
    ASK,
    FORWARD,
    HELD_BEGIN,
    HIDE,
    LINE_UP,
    OWED_ATTEMPT,
    OWED_BEGIN,
    OWED_COPY_END,
    OWED_QUERY,
    OWED_ROWS,
    OWED_SET_BACK,
    OWED_SYNC,
    REPLACE,
    RESTORE,
    Inflight,
    Owed,
)
from pgproxy.protocol.leadin import lead_in
from pgproxy.protocol.prepared import SERVER_PREFIX
from pgproxy.protocol.session import AUTO, NOT_KNOWN, TO_PRIMARY, TO_REPLICA, Session
from pgproxy.protocol.settings import TEMP_BUFFERS, TEMPORARY, UNNAMED, Origin
from pgproxy.protocol.states import (
    CLOSE,
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
from pgproxy.relay.board import Board
from pgproxy.relay.cancels import Cancels
from pgproxy.relay.carry import Carry
from pgproxy.relay.context import RelayContext, Watermark
from pgproxy.relay.deadlines import NEVER
from pgproxy.relay.healing import CHANGED, OTHER_COLUMNS, OUTDATED, Healing
from pgproxy.relay.moving import Moving
from pgproxy.relay.named import Named
from pgproxy.relay.net import Net
from pgproxy.relay.notifications import Notifications
from pgproxy.relay.overdue import Overdue
from pgproxy.relay.pace import TURN, Pace
from pgproxy.relay.rerun import Rerun
from pgproxy.relay.sequences import Sequences
from pgproxy.relay.trace import trace
from pgproxy.routing.batch import (
    AT_READY,
    BATCH,
    CUT,
    FAILING_BIND,
    LEFT,
    PAUSE,
    BatchReader,
)
from pgproxy.routing.decision import (
    DEALLOCATE,
    DOUBTS,
    LISTEN,
    NO_HINT,
    PLAIN,
    PRIMARY,
    REPLICA,
    UNLISTEN,
    Decision,
)
from pgproxy.routing.front import Front
from pgproxy.routing.journal import CUT_OFF, UNKNOWN, Journal, Sent
from pgproxy.routing.pins import NEVER_UNDONE, Pin
from pgproxy.routing.reasons import CODES, Reason
from pgproxy.routing.rewrite import rewrite
from pgproxy.routing.rules import Rules
from pgproxy.servers.connection import Owner, ServerConnection
from pgproxy.servers.group import PoolGroup
from pgproxy.servers.leftovers import CANCEL_AGAIN
from pgproxy.servers.modes import SESSION, STATEMENT
from pgproxy.servers.slots import Profile, Slot
from pgproxy.telemetry.counters import Structure

# Bytes that a client may send while it waits for a lease before it is not read any more.
BACKLOG: Final = 65536
# What a chunk costs beside its bytes.
CHUNK: Final = 64

# A Query that fails, and whose error the client never sees.
FAILING_QUERY: Final = write.query(b"pgproxy refused this statement")

# Answered, whatever it is that was answered before.
NOTHING_MORE: Final = write.query(b"")

UNSAFE: Final = Decision(
    PRIMARY, Reason.UNSAFE_ENCODING, pin=Pin.UNPARSED, unparsed=True, known_write=True
)

PARAMETER_STATUS: Final = bytes([B_PARAMETER_STATUS])

# Reasons that only the relay can know.
PINNED: Final = CODES[Reason.PINNED]
DDL: Final = CODES[Reason.DDL]
IN_TRANSACTION: Final = CODES[Reason.IN_TRANSACTION]
ROUTE_SET: Final = CODES[Reason.SET_ROUTE]
RULE: Final = CODES[Reason.RULE]
CUT_BY_FLUSH: Final = CODES[Reason.FLUSH_BEFORE_SYNC]
BEHIND_WRITE: Final = CODES[Reason.BATCH_WITH_WRITE]
NO_REPLICA: Final = CODES[Reason.NO_REPLICA]
SERIALIZABLE: Final = CODES[Reason.SERIALIZABLE]
NOT_FRESH: Final = CODES[Reason.NOT_FRESH]
SCHEMA_CHANGED: Final = CODES[Reason.SCHEMA_CHANGED]
READ_FROM_PRIMARY: Final = CODES[Reason.READ_FROM_PRIMARY]


class Sink:
    """The client's connection, as far as the relay needs it."""

    def __init__(self) -> None:
        self.write: Any = None  # bound method: bytes -> None
        self.write_paused = False
        self.pid: i64 = 0  # the process id it was told

    def set_reading(self, reading: bool) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Closes after everything written has been sent."""
        raise NotImplementedError


@final
class Relay(Owner):
    def __init__(
        self,
        context: RelayContext,
        client: Sink,
        group: PoolGroup,
        profile: Profile,
        origin: Origin,
        session: Session,
    ) -> None:
        super().__init__()
        self.context = context
        self.counters = context.counters
        self.traffic = context.counters.traffic(group.database)
        self.client = client
        self.group = group
        self.profile = profile
        mode = context.modes.of(group.database, group.user)
        self.session_mode = mode == SESSION
        self.statement_mode = mode == STATEMENT
        if context.on_statement is not None:
            session.observe()
        self.front = Front(
            session,
            holds_begin=not self.session_mode,
            holds_extended=context.until_write,
            tables=context.tables,
        )
        self.routers = context.routers.of(group.database)
        self.generation: i64 = 0  # of the routers when `batch.router` was chosen
        self.batch = BatchReader(self.routers.any_path(), context.registry, self.traffic)
        self.changed_schema = False  # in the open transaction
        self.has_told_board = False
        self.renews: i64 = 0  # what that does to what is known of the database's objects
        self.changes_defaults = False  # a statement in flight: sessions to come begin otherwise
        self.has_chores = False  # either
        self.rules: Rules = ()  # those of the configuration that hold for its texts
        self.carry = Carry(self, profile, origin, context.settings)
        self.read_encoding()
        self.read_rules()
        # The lease.
        self.phase: i64 = FREE
        self.server: ServerConnection | None = None
        self.inflight = Inflight()
        self.on_replica = False  # the lease was given for reads only
        self.is_timed = False  # the lease is for something outside of a transaction
        self.is_read = False  # it is for reads, wherever they run
        self.is_unused = True  # the lease has not run anything
        self.sole: Structure | None = None  # of the only batch that the lease has run
        self.server_is_full = False
        self.release_is_late = False  # but for the rest of a frame of copy data
        self.has_refused = False  # a batch, since one was sent: the rest of it goes nowhere either
        self.preface = b""  # hidden messages that go in front of the next batch
        self.preface_owed: list[Owed] = []
        self.cancels = Cancels(self)
        self.backlog: list[bytes] = []  # short: it is bounded, and most clients never have any
        self.backlog_size: i64 = 0
        self.is_held = False  # input that was not put into the backlog waits too
        self.pace = Pace(self, context.soon)
        # The session and its transaction.
        self.pin: Pin | None = None  # one of carry.pins
        self.sequences = Sequences(self)
        self.new_pin: Pin | None = None  # by the statement in flight; an error takes it back
        self.moving = Moving(self, may_roam=context.until_write)
        self.server_said_goodbye = False
        self.journal = Journal(context.rerun_limit)
        self.rerun = Rerun(self, self.journal)
        self.listening = None if self.session_mode else context.listening
        self.notifications = Notifications(self, self.front.channels, self.listening)
        self.batch.shares_listening = self.listening is not None
        self.named = Named(self)
        self.healing = Healing(self)
        self.net = Net(self, is_on=context.safety_net)
        self.writing = False  # since the last watermark something may have been written
        self.writing_for_all = False  # the same, where all sessions must see it
        shared = context.shared_watermark
        self.watermark = Watermark() if shared is None else shared
        self.reads_board = shared is not None and context.board is not None
        self.after = 0.0  # what was committed before then the lease must show
        limits = context.time_limits.of(group.database, group.user)
        self.overdue = Overdue(self, limits) if limits.has_any else None

    # --- from the client ----------------------------------------------------------------------

    def client_data(self, chunk: bytes) -> None:
        phase = self.phase
        if phase == GONE:
            return
        self.traffic.received += len(chunk)
        if self.overdue is not None:
            self.overdue.heard()
        if self.context.board is not None:
            self._look_at_board(self.context.board)
        if self.generation != self.routers.generation:
            self.carry.set_router()
        if phase in (WAITING, SETTLING) or self.is_held:
            self.backlog.append(chunk)
            self.backlog_size += len(chunk) + CHUNK
            if self.backlog_size > BACKLOG:
                self.client.set_reading(False)
            return
        try:
            self.batch.feed(chunk)
            self._pump()
        except PgError as error:
            self.fail(error)

    def client_gone(self, *, said_goodbye: bool = False) -> None:
        """The client's connection is closed; gives back whatever is held.

        After Terminate what it sent before is still run, as PostgreSQL would.
        """
        if self.phase == GONE:
            return
        self.notifications.gone()
        server = self.server
        if self.phase == WAITING:
            self.group.cancel_wait(self)
        self.enter(GONE)
        self.backlog.clear()
        self.group.left(self.profile)
        self.batch.forget_all()
        if self.context.board is not None:
            self._tell_board(self.context.board)
        if self.renews > 0:
            self._schema_changed()  # or not: that is not known any more
        if server is None:
            return
        self.server = None
        pool = self.group.pool_of(server)
        if self.sequences.holds:
            self.sequences.end_hold(server)
            pool.release(server)
            return
        asked = self.inflight.only_questions
        clean = (self.inflight.settled or asked > 0) and not self.batch.continues
        if self.inflight.doubtful:
            clean = False
        is_dirty = self.pin is not None or asked > 0 or len(self.carry.touched) > 0
        self.inflight.clear()
        if clean and self.batch.input.pos <= self.batch.input.size:
            pool.reset(
                server,
                transaction=self.front.status != STATUS_IDLE,
                session=is_dirty,
                owed=asked,
            )
            return
        # In the middle of something: trust the connection no more, and stop it, now or in its time.
        now = time.monotonic()
        if said_goodbye:
            until = NEVER if self.overdue is None else self.overdue.ends_at()
        else:
            until = now + CANCEL_AGAIN
            pool.cancel_query(server)
        lingers = said_goodbye
        if self.writing_for_all:
            # It may be committing: only its end, which is waited for, is known to be behind that.
            self.note_writes()
            server.on_end = self.note_writes
            # In the middle of a frame Terminate would be taken for a part of that.
            lingers = not self.batch.input.passing
        pool.hang_up(server, at_work=not lingers, until=until)

    def note_writes(self) -> None:
        """Whatever was sent to be written has been by now, if ever."""
        now = time.monotonic()
        self.watermark.wrote_at = now
        if self.context.board is not None:
            self.context.board.note_writes(now)

    def client_writable(self, writable: bool) -> None:
        """The client's write buffer has room (again), or has none."""
        self.client.write_paused = not writable
        if self.server is not None:
            self.server.set_reading(writable)
        if self.overdue is not None:
            self.overdue.restarts()
        if writable and self.notifications.has_news:
            self.notifications.deliver()
        # PostgreSQL does not read a client either that does not take its answers.
        self.read_client()

    @property
    def at_rest(self) -> bool:
        """Between transactions, with nothing on its way: the client can be sent off."""
        return (
            self.front.status == STATUS_IDLE
            and self.phase in (FREE, LEASED)
            and self.inflight.settled
            and not self.batch.open
            and not self.batch.continues
            and not self.is_held
        )

    @property
    def runs_alone(self) -> Structure | None:
        return None if not self.is_timed or self.inflight.settled else self.sole

    def fail(self, error: PgError) -> None:
        """Tells the client why it is disconnected, unless it is in the middle of a frame, where a
        message of ours would be taken for a part of that."""
        if self.phase == GONE:
            return
        if self.server is None or not self.server.splitter.passing:
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
        turn: i64 = TURN
        while True:
            if self.inflight.naming and self.named.must_wait():
                return
            found = batch.read()
            splitter = batch.input
            if found != BATCH:
                before: i64 = splitter.passed
                if batch.open:
                    before = batch.start
                elif found == LEFT:
                    before = splitter.start  # Terminate is for us
                if before > splitter.keep:
                    self._pass(before)
                    if self.release_is_late and not splitter.passing:
                        self._release_late()
                if found == LEFT:
                    self.client_gone(said_goodbye=True)
                    self.client.close()
                elif found == PAUSE:
                    self.pace.hold()
                elif self.notifications.has_news:
                    self.notifications.deliver()
                return
            if batch.start > splitter.keep:
                self._pass(batch.start)
                if self.release_is_late:
                    self._release_late()
            if not self._dispatch():
                return
            turn -= 1
            if turn == 0 or self.client.write_paused:
                self.pace.hold()
                return

    def _pass(self, end: i64) -> None:
        """Copy data, and the rest of frames too large to hold, follow what went before; also Flush
        behind a whole batch."""
        splitter = self.batch.input
        data = splitter.data[splitter.keep : end]
        if data != write.FLUSH:
            self.journal.give_up()  # copy data is not kept
        if self.server is not None and not self.has_refused:
            self.server.write(data)
        splitter.keep = end

    def _dispatch(self) -> bool:
        """Sends the batch, or answers it. False: the client's input has to wait."""
        batch = self.batch
        server = self.server
        if batch.is_named and (self.named.must_wait_for_answers() or self.named.refuses()):
            return self.phase != SETTLING
        if self.sequences.holds:
            server = self.sequences.stop_holding()
        if server is not None:
            inflight = self.inflight
            if batch.continues or inflight.skipping or inflight.copying:
                self._send(server)
                return True
            if self.overdue is not None and self.overdue.holds(server):
                self.enter(SETTLING)
                return False
            if len(self.carry.lent) > 0 and not inflight.settled:
                self.enter(SETTLING)
                return False
            if self.statement_mode and batch.starts:
                return self._refuse_block()
            kind = batch.own
            if kind != PLAIN and (
                batch.ending == CUT
                or (kind == DEALLOCATE and self.pin is not None)
                or self.server_said_goodbye
            ):
                kind = PLAIN  # a part of more; names that nobody here may have seen; too late
            if kind != PLAIN and inflight.settled and self.front.status != STATUS_FAILED:
                self._answer(own=True)
                return not self.notifications.waits
            if server.needs_seat:
                if self._is_sync_alone():
                    self.client.write(write.READY_IDLE)
                    batch.done()
                    return True
                if not self._sits_again(server):
                    return False
            if kind == PLAIN and self._fits():
                self._send(server)
                return True
            if not inflight.settled:
                self.enter(SETTLING)
                return False
            if kind != PLAIN or not self.moving.leaves(server):
                self._send(server)
                return True
            if self.server is not None:
                return True
        elif self.statement_mode and batch.starts:
            return self._refuse_block()
        elif self._answer(own=False):
            return not self.notifications.waits
        return self._lease()

    def _answer(self, *, own: bool) -> bool:
        """Answers the batch without a server; False: it needs one."""
        try:
            answer = self.front.answer_own(self.batch) if own else self.front.answer(self.batch)
        except PgError as error:
            self.answer_error(error)
            return True
        if answer is None:
            return False
        notifications = self.notifications
        batch = self.batch
        if batch.own in (LISTEN, UNLISTEN) and batch.executes:
            notifications.answer(batch.acts, answer)
            return True
        if batch.ends:
            notifications.update()
            self.moving.clear()
            if self.overdue is not None:
                self.overdue.chains()
        if answer:
            self.client.write(answer)
        self.batch.done()
        return True

    def _refuse_block(self) -> bool:
        """BEGIN in statement mode; behind the answers that are still to come."""
        if self.server is not None and not self.inflight.settled:
            self.enter(SETTLING)
            return False
        self.answer_error(self._no_blocks())
        return True

    def _no_blocks(self) -> PgError:
        group = self.group
        origin = self.context.modes.origin(group.database, group.user)
        return PgError(
            FEATURE_NOT_SUPPORTED,
            "transaction blocks are not allowed in statement pooling mode",
            detail=f'{origin} is "statement".',
            hint="Several statements in one Query are one transaction, and allowed.",
        )

    def _fits(self) -> bool:
        """Whether the batch may be sent to the leased server, whatever is still in flight."""
        if not self.on_replica or self.pin is not None:
            return True
        if self.moving.roams:
            return self.moving.fits()
        batch = self.batch
        if (
            batch.anywhere
            and batch.target == PRIMARY
            and batch.ending != CUT
            and self.front.status != STATUS_IDLE
        ):
            return batch.pin is None
        return self._target() == REPLICA and batch.pin is None and self.is_fresh()

    def is_fresh(self) -> bool:
        """Whether the leased replica shows what others have written since it was leased, and is no
        staler by now than it may be."""
        server = self.server
        if server is None:
            return True
        oldest = self.group.cluster.oldest(self.as_of(), time.monotonic())
        return server.backend.fresh_as_of >= oldest

    def as_of(self) -> float:
        """What was committed before then the session's reads must see."""
        after = self.watermark.wrote_at
        if self.reads_board and self.context.board is not None:
            after = max(after, self.context.board.wrote_at)
        session = self.front.session
        if session.shown_as_of > after:
            if session.shown_as_of == NOT_KNOWN:
                freshness = self.group.cluster.freshness
                session.shown_as_of = freshness.written_at(session.min_lsn)
            if session.shown_as_of > after:
                return session.shown_as_of
        return after

    def _target(self) -> i64:
        batch = self.batch
        route = self.front.session.route
        if self.carry.isolation == b"serializable":
            return PRIMARY  # which a standby refuses
        if self.session_mode:
            return REPLICA if route == TO_REPLICA else PRIMARY
        if batch.pin is not None or batch.ending == CUT:
            return PRIMARY
        if route != AUTO and batch.is_ruled and self.front.session.by_rule:
            route = batch.under_rules(route)
        if route == TO_PRIMARY:
            return PRIMARY
        target = batch.target
        if self.routers.in_doubt and target == REPLICA and self._is_routers_word():
            return PRIMARY
        if route == TO_REPLICA and not batch.known_write:
            target = REPLICA
        front = self.front
        if len(front.held) == 0:
            return target
        if front.is_read_only(self.carry.read_only):
            return REPLICA if batch.anywhere else target
        if route == TO_REPLICA and not front.held_needs_primary:
            return target
        return self.moving.target()

    def _is_routers_word(self) -> bool:
        """Whether neither client nor rule, but the router alone, sends the batch to a replica."""
        decision = self.batch.decision
        return (
            decision is not None
            and decision.hint == NO_HINT
            and self.front.session.route == AUTO
            and not self.front.is_read_only(self.carry.read_only)
        )

    def _lease(self) -> bool:
        target = self._target()
        self.on_replica = target == REPLICA
        carry = self.carry
        self.allowed = carry.allowed(self.batch) if self.batch.effects else carry.settings.allowed
        self.is_urgent = self.moving.is_engaged  # a transaction that has begun elsewhere
        if self.batch.asks_sequence and self.sequences.take_back():
            return self.phase == LEASED
        now = time.monotonic()
        self.after = self.as_of()
        server = self.group.acquire(target, self.profile, self, self.after, carry.settings, now)
        if server is None:
            self.enter(WAITING)
            return False
        self.take(server, now)
        return True

    def _is_sync_alone(self) -> bool:
        """Nothing is to be run: the batch may end one that was refused."""
        owed = self.batch.owed
        return len(owed) == 1 and owed[0] is OWED_SYNC

    def _sits_again(self, server: ServerConnection) -> bool:
        """Whether the session, which keeps its connection, may go on there; else it will be called."""
        # Whoever waits for the locks it holds has a seat.
        self.is_urgent = Pin.ADVISORY_LOCK in self.carry.pins
        if self.group.pool_of(server).sits_again(server, self):
            return True
        self.enter(WAITING)
        return False

    def granted(self, slot: Slot) -> None:
        assert isinstance(slot, ServerConnection)
        resumes = not self.rerun.is_on  # which goes on by itself
        now = time.monotonic()
        self.traffic.waited += now - self.waiting_since
        if slot is self.server:
            self._goes_on(slot, now)
            return
        if self.on_replica and slot.backend.fresh_as_of < self.group.cluster.oldest(
            self.after, now
        ):
            self.group.give_back(slot)  # started anew, from an older state, or not heard of since
            self.is_admitted = True
            self.reroute()
            self.is_admitted = False
            return
        try:
            self.take(slot, now)
            if resumes:
                self.resume()
        except PgError as error:
            self.fail(error)

    def _goes_on(self, server: ServerConnection, now: float) -> None:
        """With the connection that it has kept."""
        self.counters.waits.observe(now - self.waiting_since)
        self.enter(LEASED)
        if self.overdue is not None:
            self.overdue.taken(now)
        try:
            self._send(server)
            self.resume()
        except PgError as error:
            self.fail(error)

    def refused(self, error: PgError) -> None:
        server = self.server  # if it has kept one
        self.enter(FREE if server is None else LEASED)
        if self.rerun.is_on:
            self.rerun.fail(error)
            return
        # A log-in to a server that failed was FATAL there; this client's session goes on.
        self.answer_error(
            PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint)
        )
        if server is not None and self.pin is None:
            self.sole = None  # the wait is no part of it
            self.release(server)
        try:
            self.resume()
        except PgError as fatal:
            self.fail(fatal)

    def tell(self, notice: PgError) -> None:
        if self.client.write_paused or self.rerun.is_on:
            return
        if self.server is None or not self.server.splitter.passing:
            self.client.write(write.notice_response(notice))

    def reroute(self) -> None:
        self.enter(FREE)
        if self.rerun.is_on:
            self.rerun.lease()
            return
        try:
            if self._lease():
                self.resume()
        except PgError as error:
            self.fail(error)

    def take(self, server: ServerConnection, now: float) -> None:
        self.enter(LEASED)
        self.server = server
        self.server_is_full = server.write_paused
        self.server_said_goodbye = False
        server.owner = self
        self.traffic.leases += 1
        if self.overdue is not None:
            self.overdue.taken(now)
        self.is_timed = self.front.status == STATUS_IDLE
        self.is_read = self.on_replica
        self.on_replica = self.on_replica and not server.backend.writable
        self.leased_at = now
        self.is_unused = True
        self.sole = None
        if self.client.write_paused:
            server.set_reading(False)
        if self.server_is_full:
            self.read_client()
        if self.session_mode:
            self.pin = Pin.POOL_MODE
            self.carry.pinned(Pin.POOL_MODE)
        carry = self.carry
        if server.settings is not carry.settings:
            carry.lease(server)
        elif server.backend.writable and server.reported is not carry.reported:
            told = carry.tell(server)
            if told:
                self.client.write(told)
        if self.rerun.is_on:
            self.rerun.start(server)
        else:
            self._send(server)

    def resume(self) -> None:
        """Goes on with what came in meanwhile."""
        if self.phase == GONE:
            return
        if self.overdue is not None and not self.is_held:
            self.overdue.restarts()
        self.is_held = False
        self._pump()
        while self.backlog and self.phase in (FREE, LEASED) and not self.is_held:
            chunk = self.backlog.pop(0)
            self.backlog_size -= len(chunk) + CHUNK
            self.batch.feed(chunk)
            self._pump()
        if self.phase != GONE:
            self.read_client()

    def read_client(self) -> None:
        """Reads the client, unless what it sends or is sent would pile up here."""
        self.client.set_reading(
            not self.server_is_full
            and not self.client.write_paused
            and self.backlog_size <= BACKLOG
            and not self.is_held
        )
        if self.is_held:
            self.pace.wake()

    # --- to the server ------------------------------------------------------------------------

    def _send(self, server: ServerConnection) -> None:
        batch = self.batch
        front = self.front
        if self.has_refused:
            self.has_refused = False
        pipelined = not self.inflight.settled
        if not pipelined and batch.in_doubt:
            batch.in_doubt.clear()
        first = b""
        if len(front.held) > 0:
            first = front.held
            front.held = b""
        in_block = front.status == STATUS_IN_TRANSACTION and not pipelined
        if batch.is_named:
            self.named.before(begins=len(first) > 0)
        if self.overdue is not None and batch.ends:
            self.overdue.chains()
        sent = Sent(batch, first, in_block, may_fail=pipelined or front.status == STATUS_FAILED)
        if len(first) > 0 and (self.on_replica or self.moving.is_engaged):
            self.moving.begins(sent)
        if self.moving.is_engaged:
            self.moving.sent()
        journal = self.journal
        if batch.ending == CUT:
            journal.give_up()
        elif journal.is_kept:
            journal.sent(sent)
        elif not pipelined and self.moving.begun:
            journal.take_up()
            journal.sent(sent)
        self._account(server, pipelined=pipelined)
        self.new_pin = None  # an error may be this batch's
        if batch.asks_sequence and not batch.continues:
            self.sequences.hide(server)
        if batch.may_write and not self.on_replica:
            self.sequences.sent(batch)
            self._is_writing()
        if batch.simple:
            batch.unnamed = None
        if not batch.effects and self.carry.touched:
            self.carry.followed(batch, server)
        if batch.is_plain:
            self.transmit(server, sent, pipelined=pipelined)
            self._sent()
            return
        after = self._note_special(server)
        self.transmit(server, sent, pipelined=pipelined)
        if after:
            self.journal.give_up()
            self.inflight.push(OWED_SET_BACK)
            server.write(after)
        self._sent()

    def _note_special(self, server: ServerConnection) -> bytes:
        """The batch at hand is about to be sent and does more than to read or write. Returns what
        is to follow it."""
        batch = self.batch
        if batch.acts:
            self.notifications.sent(batch.acts, server)
        if batch.pin is not None or batch.unparsed:
            if batch.pin in NEVER_UNDONE:
                server.doomed = True
            self._set_pin()
        if batch.may_unpin:
            self.carry.may_unpin = True
        if batch.changes_defaults:
            self.changes_defaults = self.has_chores = True
        if not batch.effects:
            return b""
        alone = self.front.status == STATUS_IDLE and not self.inflight.owes_client
        return self.carry.sent(batch, server, alone=alone)

    def wrote(self) -> None:
        """What was taken for a read is sent to the primary, where it may write."""
        self.sequences.wrote()
        self._is_writing()

    def _is_writing(self) -> None:
        if self.context.keeps_watermark:
            self.writing = True
            self.writing_for_all = self.context.shared_watermark is not None

    def send_preface(self, server: ServerConnection) -> None:
        """Sends what would go in front of the next batch by itself."""
        preface, self.preface = self.preface, b""
        if preface:
            for owed in self.preface_owed:
                self.inflight.push(owed)
            self.preface_owed = []
            server.prepared.unnamed = None
            server.write(preface)

    def transmit(self, server: ServerConnection, sent: Sent, *, pipelined: bool) -> None:
        inflight = self.inflight
        if sent.may_write and not self.on_replica:
            self.sequences.used(server)
        if sent.custom:
            server.custom.update(sent.custom)
            if TEMPORARY in sent.custom and TEMP_BUFFERS in self.carry.settings.values:
                server.doomed = True  # it cannot be set back
        first = sent.first
        preface = self.preface
        if len(preface) > 0:
            self.preface = b""
            for owed in self.preface_owed:
                inflight.push(owed)
            self.preface_owed = []
            server.prepared.unnamed = None  # a simple Query drops it
        if sent.needs is not None:
            preface += lead_in(sent.needs, server.prepared, inflight, inside=sent.inside)
        if len(first) > 0:
            if len(sent.first_on_replica) > 0 and not server.backend.writable:
                first = sent.first_on_replica
            inflight.push(OWED_ATTEMPT if sent.first_fails else OWED_BEGIN)
            server.prepared.unnamed = None
        if len(preface) > 0:
            first = preface + first
        if sent.edits:
            data = rewrite(sent, server.prepared, inflight, pipelined=pipelined)
        else:
            data = sent.raw()
            if sent.simple:
                server.prepared.unnamed = None
                inflight.push(
                    OWED_QUERY if sent.changes is None else Owed(QUERY, names=sent.changes)
                )
            else:
                for owed in sent.owed:
                    inflight.push(owed)
                if sent.new_unnamed is not None:
                    server.prepared.unnamed = sent.new_unnamed
        server.write(first + data if len(first) > 0 else data)

    def _sent(self) -> None:
        batch = self.batch
        if batch.changes_schema and batch.executes:
            self.context.registry.retire()
            self.changed_schema = self.has_chores = True
            self.carry.set_scope()
        if batch.renews > self.renews and batch.executes:
            self.renews = batch.renews
            self.has_chores = True
        if batch.ending == CUT and batch.owed and batch.owed[-1] is OWED_COPY_END:
            # The end of a COPY by Query is the end of all; one by Execute waits for its Sync.
            if len(self.inflight) > 0:
                batch.continues = not self.inflight.in_query
            if self.overdue is not None:
                self.overdue.restarts()
        else:
            batch.continues = batch.ending == CUT
        if not batch.simple:
            self.give_due()
            if self.inflight.has_void and self.server is not None:
                self._undo(self.server)
        batch.done()

    def give_due(self) -> None:
        """Answers of ours whose turn has come. Where the server has to answer as well, they go in
        front of that (`server_data`), and are one write with it."""
        if self.inflight.ends_with_server:
            return
        answers = self.inflight.due()
        if answers:
            self.client.write(answers)
            self.journal.is_partial = True
            self.journal.given(answers)

    def _account(self, server: ServerConnection, *, pipelined: bool) -> None:
        decision = self.batch.decision
        if decision is None:
            return
        target: i64 = PRIMARY if server.backend.writable else REPLICA
        code = (
            decision.code if decision.target == target else self._why(target, pipelined=pipelined)
        )
        self.counters.routed[code * 2 + target] += 1
        if decision.code == DDL and decision.argument and self.batch.executes:
            self.group.cluster.desert(decision.argument)
            if self.listening is not None:
                self.listening.desert(decision.argument)
            self.context.on_desert(decision.argument)
        last = self.front.last_route
        last.decision = decision
        last.target = target
        last.code = code
        last.backend = server.backend.name
        if not self.batch.executes:
            return
        structure = decision.structure
        if structure is not None:
            if target == PRIMARY:
                structure.primary += 1
            else:
                structure.replica += 1
        self.sole = structure if self.is_unused else None
        self.is_unused = False
        if self.front.session.watched:
            self._tell_of_it(pipelined=pipelined)

    def _tell_of_it(self, *, pipelined: bool) -> None:
        on_statement = self.context.on_statement
        if on_statement is not None:
            fields = self.front.last_route.fields()
            on_statement(self.batch.sql(), fields[2], fields[0], fields[1])
        if self.front.session.trace:
            trace(self, pipelined=pipelined)

    def _why(self, target: i64, *, pipelined: bool) -> i64:
        """The reason for which a statement runs elsewhere than the router alone would have it."""
        if self.pin is not None:
            return PINNED
        if self.front.status != STATUS_IDLE:
            return IN_TRANSACTION
        if self.carry.isolation == b"serializable":
            return SERIALIZABLE
        session = self.front.session
        if session.route != AUTO:
            if not session.by_rule:
                return ROUTE_SET
            self.front.last_route.rule = session.rule_detail
            return RULE
        if target == REPLICA:
            return IN_TRANSACTION
        if self.batch.ending == CUT:
            return CUT_BY_FLUSH
        if pipelined:
            return BEHIND_WRITE
        if self.routers.in_doubt:
            return SCHEMA_CHANGED
        group = self.group
        if group.cluster.settings.reads.always_from_primary:
            return READ_FROM_PRIMARY
        return NOT_FRESH if group.has_replicas else NO_REPLICA

    def _set_pin(self) -> None:
        pin = self.batch.pin if self.batch.pin is not None else Pin.UNPARSED
        is_pinned = pin in self.carry.pins
        self.pin_to_server(pin)
        if is_pinned:
            return
        server = self.server
        if pin is Pin.UNPARSED and server is not None and UNNAMED in server.custom:
            return  # which a refusal of the text does not take back
        # Only the client's sole statement in flight can be told from others when an error comes.
        executed = self.batch.executed
        if (
            not self.inflight.owes_client
            and executed is not None
            and executed is self.batch.decision
            and (executed.pin_is_undone or executed.unparsed)
        ):
            self.new_pin = pin

    def pin_to_server(self, pin: Pin) -> None:
        """The session keeps its server connection."""
        self.carry.pinned(pin)
        if pin is Pin.TEMP_TABLE:
            self.carry.set_scope()
        if self.pin is None:
            self.pin = pin
            self.counters.pins[pin.value] = self.counters.pins.get(pin.value, 0) + 1

    def reset_own(self) -> None:
        """RESET ALL is being sent: it is for the proxy's own settings too."""
        if self.front.status == STATUS_FAILED:
            return
        in_transaction = self.front.status != STATUS_IDLE
        self.front.session.reset_all(in_transaction=in_transaction)
        if in_transaction:
            self.front.channels.act((HAS_SET,))

    def read_rules(self) -> None:
        """What the configuration's rules say of the session, whose application_name may have
        changed."""
        context = self.context
        if not context.rules.rules:
            return
        name = self.carry.reported.get(b"application_name", b"").decode("utf-8", "replace")
        group = self.group
        rule, for_texts = context.rules.for_session(group.database, group.user, name)
        if rule is None:
            self.front.session.ruled(AUTO, "")
        else:
            self.front.session.ruled(int(rule.route), rule.detail)
        self.rules = for_texts
        self.carry.set_router()

    def read_encoding(self) -> None:
        """The client's encoding is another one: can its texts be read?"""
        self.batch.fixed = None if self.carry.safe_encoding else UNSAFE

    def answer_error(self, error: PgError) -> None:
        """An ERROR of ours in place of the batch; a transaction that has begun has failed."""
        batch = self.batch
        self.counters.proxy_errors += 1
        self.has_refused = not self.inflight.copying  # those data are of what runs
        batch.undo(batch.owed)
        if batch.ends:
            self.notifications.update()
        if self.server is not None and self.front.status != STATUS_IDLE:
            self._fail_transaction(write.error_response(error))
            return
        self.moving.clear()
        self.client.write(self.front.refuse(batch, error))
        batch.done()

    def _fail_transaction(self, answer: bytes) -> None:
        """The server must know as well that the transaction has failed."""
        batch = self.batch
        server = self.server
        assert server is not None
        self.journal.give_up()
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

    # --- from the server ----------------------------------------------------------------------

    def server_data(self, chunk: bytes) -> None:
        server = self.server
        if server is None:
            return
        notifications = self.notifications
        if notifications.holds and self.pin is None:
            server.doomed = True  # all that it may say now is that it goes away
            return
        if self.overdue is not None and self.overdue.is_all_that_keeps(server):
            server.doomed = True
            return
        splitter = server.splitter
        inflight = self.inflight
        batch = self.batch
        journal = self.journal
        pieces: list[bytes] | None = None
        done: i64 = 0
        ready = False
        ready_at: i64 = -1  # the end of the last ReadyForQuery for the client
        ready_done: i64 = 0  # what `done` and the number of pieces were then
        ready_pieces: i64 = 0
        completed = False  # a CommandComplete has come since
        traffic = self.traffic
        traffic.sent += len(chunk)
        try:
            splitter.feed(chunk)
            answers = inflight.due()
            if len(answers) > 0:
                pieces = [answers]
            while True:
                kind = splitter.next()
                if kind == NEED_DATA:
                    break
                if kind == B_ERROR_RESPONSE and self.sequences.holds:
                    # It goes away, and nobody works on it.
                    server.doomed = True
                    self.let_go()
                    return
                if kind == B_ERROR_RESPONSE and self.phase == WAITING and self.pin is None:
                    server.doomed = True
                    self._waits_elsewhere(server)
                    return
                if ready and kind == B_ERROR_RESPONSE and self._is_done_with_server():
                    # The server is going away, which is no longer this client's affair.
                    server.doomed = True
                    if pieces is None:
                        pieces = []
                    if splitter.start > done:
                        pieces.append(splitter.data[done : splitter.start])
                    done = splitter.end
                    continue
                if kind == B_ERROR_RESPONSE and self.rerun.is_over(server):
                    # It has done all it was asked but say so.
                    server.doomed = True
                    inflight.clear()
                    if notifications.busy:
                        self.front.channels.ready(STATUS_IDLE, int(self.front.status))
                        notifications.update()
                    self.front.status = STATUS_IDLE
                    ready = True
                    if pieces is None:
                        pieces = []
                    pieces.append(splitter.data[done : splitter.start])
                    pieces.append(write.READY_IDLE)
                    done = ready_done = ready_at = splitter.end
                    ready_pieces = len(pieces)
                    continue
                if kind == B_ERROR_RESPONSE and self.on_replica and self.net.is_on:
                    is_told = journal.is_partial and ready_at < 0
                    if self.net.catches_end(server, told=is_told, completed=completed):
                        self._give_answers(splitter, pieces, ready_pieces, ready_done, ready_at)
                        self.net.go_on(server, ended=True)
                        return
                elif kind == B_ERROR_RESPONSE and self.rerun.may_hide(server, ready_at, completed):
                    self._give_answers(splitter, pieces, ready_pieces, ready_done, ready_at)
                    self.rerun.leave(server)
                    return
                verdict = inflight.reply(kind)
                if kind == B_PARAMETER_STATUS:
                    name, value = server.note_status()
                    verdict = HIDE
                    # While they are being restored, settings pass through what is not the session's.
                    if inflight.role != RESTORE and not journal.is_checking:
                        inflight.replacement = self.carry.news(name, value)
                        verdict = REPLACE
                if kind == B_PARAMETER_DESCRIPTION and self.healing.hides_parameters:
                    self.healing.hides_parameters = False
                    verdict = HIDE
                if verdict != FORWARD:
                    if pieces is None:
                        pieces = []
                    if splitter.start > done:
                        pieces.append(splitter.data[done : splitter.start])
                    done = splitter.end
                    if verdict != HIDE:
                        pieces.append(inflight.replacement)
                    elif kind == B_ERROR_RESPONSE:
                        frame = splitter.data[splitter.start : splitter.end]
                        if inflight.role == LINE_UP:
                            self.named.has_failed(frame)
                        if inflight.role == RESTORE:
                            if self.rerun.may_go_elsewhere():
                                self.rerun.go_elsewhere(server)
                                return
                            raise self.carry.refused(frame)
                        if b"\x00VFATAL\x00" in frame:
                            pieces.append(frame)
                        elif inflight.role <= HELD_BEGIN:
                            if journal.is_checking:
                                self.rerun.differs(server)
                                return
                            raise self._begin_failed()
                    elif kind == B_DATA_ROW:
                        self.carry.row(splitter.data[splitter.start + 5 : splitter.end])
                if kind == B_READY_FOR_QUERY and self.healing.is_on and verdict == FORWARD:
                    self.healing.is_on = False
                    self.healing.is_due = True
                    if pieces is None:
                        pieces = []
                    pieces.append(splitter.data[done : splitter.start])
                    done = splitter.end
                elif kind == B_READY_FOR_QUERY:
                    before = self.front.status
                    ready = True
                    if verdict != FORWARD:
                        told = self.carry.ready(server, int(inflight.role))
                        if told:
                            assert pieces is not None
                            pieces.append(told)
                    else:
                        if len(self.carry.lent) > 0:
                            self.carry.answered()
                        if len(self.carry.resetting) > 0:
                            if pieces is None:
                                pieces = []
                            pieces.append(splitter.data[done : splitter.start])
                            pieces.append(self.carry.back_to_base())
                            done = splitter.start
                        self.front.status = splitter.data[splitter.start + 5]
                        ready_at = splitter.end
                        completed = False
                        traffic.queries += 1
                        if self.front.status == STATUS_IDLE:
                            traffic.transactions += 1
                            if self.carry.touched:
                                journal.give_up()  # what is set now, no other server knows
                        journal.ready(self.front.status)
                        if self.overdue is not None:
                            self.overdue.ready()
                        if len(self.named.failure) > 0:
                            self.named.failure = b""
                        if notifications.busy and not journal.is_checking:
                            news = notifications.ready(before)
                            if news or notifications.holds:
                                if pieces is None:
                                    pieces = []
                                pieces.append(splitter.data[done : splitter.start])
                                pieces.append(news)
                                done = splitter.end if notifications.holds else splitter.start
                        ready_done = done
                        ready_pieces = 0 if pieces is None else len(pieces)
                elif kind == B_COMMAND_COMPLETE:
                    completed = verdict == FORWARD
                    if inflight.names_done:
                        self.named.done(server)
                elif kind == B_ERROR_RESPONSE:
                    if (
                        self.on_replica
                        and verdict == FORWARD
                        and self.net.catches(server, told=journal.is_partial and ready_at < 0)
                    ):
                        self._give_answers(splitter, pieces, ready_pieces, ready_done, ready_at)
                        self.net.go_on(server, ended=False)
                        return
                    if verdict == FORWARD or inflight.role < ASK:
                        self._server_error()
                    if verdict == FORWARD and splitter.end <= splitter.size:
                        frame = splitter.data[splitter.start : splitter.end]
                        if self.overdue is not None and self.overdue.replaces(frame):
                            if pieces is None:
                                pieces = []
                            pieces.append(splitter.data[done : splitter.start])
                            pieces.append(self.overdue.instead())
                            done = splitter.end
                        elif CHANGED in frame and self.healing.begins(
                            server, frame, told=journal.is_partial or done < splitter.start
                        ):
                            if pieces is None:
                                pieces = []
                            pieces.append(splitter.data[done : splitter.start])
                            done = splitter.end
                        elif self.named.failure:
                            if pieces is None:
                                pieces = []
                            pieces.append(splitter.data[done : splitter.start])
                            pieces.append(self.named.instead(frame))
                            done = splitter.end
                        elif OTHER_COLUMNS in frame and self.healing.is_outdated():
                            if pieces is None:
                                pieces = []
                            pieces.append(splitter.data[done : splitter.start])
                            pieces.append(OUTDATED)
                            done = splitter.end
                        elif SERVER_PREFIX in frame:
                            if pieces is None:
                                pieces = []
                            pieces.append(splitter.data[done : splitter.start])
                            pieces.append(batch.in_clients_words(frame, inflight.void))
                            done = splitter.end
                elif kind == B_PORTAL_SUSPENDED:
                    self.moving.suspended()
                elif (
                    kind == B_NOTICE_RESPONSE
                    and self.on_replica
                    and self.net.catches_farewell(server, told=journal.is_partial and ready_at < 0)
                ):
                    self._give_answers(splitter, pieces, ready_pieces, ready_done, ready_at)
                    self.net.go_on(server, ended=True)
                    return
                if inflight.has_void:
                    self._undo(server)
                answers = inflight.due()
                if len(answers) > 0:
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
        data = self.pieces_until(splitter, pieces, done, passed)
        splitter.keep = passed
        if journal.is_checking:
            if not journal.check(data):
                self.rerun.differs(server)
            elif inflight.settled:
                self.rerun.finish(server)
            return
        self.forward(data, ready_at, passed)
        if self.cancels.due:
            self.cancels.send_due(server)
        if self.healing.is_due:
            self.healing.resend(server)
        elif ready and inflight.settled:
            if notifications.holds:
                notifications.hold()
            else:
                self.settled(server)
        if notifications.has_news:
            notifications.deliver()
        if self.named.unread:
            self.named.go_on()
        if self.is_held:
            self.pace.wake()

    def pieces_until(
        self, splitter: Splitter, pieces: list[bytes] | None, done: i64, end: i64
    ) -> bytes:
        """What of the chunk up to `end` is the client's."""
        if pieces is None:
            return splitter.data if end == splitter.size else splitter.data[:end]
        if end > done:
            pieces.append(splitter.data[done:end])
        return b"".join(pieces)

    def _give_answers(
        self,
        splitter: Splitter,
        pieces: list[bytes] | None,
        ready_pieces: i64,
        ready_done: i64,
        ready_at: i64,
    ) -> None:
        """Gives the client the whole answers in a chunk, and not the beginning of the next one, but for
        ParameterStatus."""
        if self.journal.is_checking:
            return
        whole = [] if pieces is None else pieces[: int(ready_pieces)]
        if ready_at >= 0:
            whole.append(splitter.data[ready_done:ready_at])
            self.forward(b"".join(whole), ready_at, ready_at)
        if pieces is not None:
            # Noted as told, these would not come again.
            news = [piece for piece in pieces[int(ready_pieces) :] if piece[:1] == PARAMETER_STATUS]
            if news:
                self.client.write(b"".join(news))

    def forward(self, data: bytes, ready_at: i64, end: i64) -> None:
        """Gives the client what came up to `end`, the last ReadyForQuery in it ending at
        `ready_at`."""
        journal = self.journal
        if self.writing_for_all and self._may_tell_commit():
            self.note_writes()
        if self.has_chores and self.context.board is not None and self._may_tell_commit():
            self._tell_board(self.context.board)
        if len(data) > 0:
            self.client.write(data)
        if ready_at >= 0:
            journal.is_partial = end > ready_at
            if self.front.status == STATUS_IDLE:
                if not self.inflight.settled:
                    journal.committed()
                return
        elif self.inflight.settled:
            return  # a notice that answers nothing, such as that the server is about to end
        elif data:
            journal.is_partial = True
        journal.given(data)

    def _may_tell_commit(self) -> bool:
        """A commit may be among what is told, long before the last answer."""
        return self.front.status == STATUS_IDLE or self.batch.continues or not self.inflight.settled

    def _is_done_with_server(self) -> bool:
        """It will be released as soon as what has come is read."""
        if not self.inflight.settled or self.batch.continues:
            return False
        if self.front.status == STATUS_IDLE:
            return self.pin is None
        return self.front.status == STATUS_IN_TRANSACTION and self.moving.chains

    def settled(self, server: ServerConnection) -> None:
        """ReadyForQuery has come and nothing is owed any more."""
        self.new_pin = None
        if self.batch.continues:
            return
        if self.overdue is not None and self.overdue.postpones(server):
            return
        waited = self.phase == SETTLING
        if self.front.status == STATUS_IDLE:
            if self.inflight.doubtful and self._asks_for_more(server):
                return
            self.journal.clear()
            if self.writing:
                self.writing = self.writing_for_all = False
                self.note_writes()
            if self.moving.is_engaged:
                self.moving.clear()
            if self.front.session.touched:
                self._session_ends_transaction()
            if self.has_chores:
                self._do_chores()
            carry = self.carry
            if (carry.touched or carry.may_unpin) and carry.settled(server):
                return
            if self.pin is None:
                if not waited and self.sequences.begins_hold(server):
                    self._stand_up(server)
                    return
                if not waited and self.batch.input.passing:
                    # A copy has failed; the next client's bytes must not be read as copy data.
                    self.release_is_late = True
                    self._stand_up(server)
                    return
                self.release(server)
                if waited:
                    self.next_again()
                return
            self._stand_up(server)
        elif self.statement_mode:
            self.fail(self._no_blocks())  # begun by a text that was not understood
            return
        elif self.front.status == STATUS_IN_TRANSACTION:
            self.front.session.broken = False  # a savepoint has saved it
            if self.moving.is_engaged and self.moving.chained(server):
                if waited:
                    self.next_again()
                return
        if waited:
            self.enter(LEASED)
            self.next_again()

    def _stand_up(self, server: ServerConnection) -> None:
        """Nothing runs on the connection that is kept."""
        if server.seat is not None:
            self.group.pool_of(server).stand_up(server)

    def _do_chores(self) -> None:
        """A transaction is over that has changed more than data, or was about to."""
        self.has_chores = False
        if self.context.board is not None and not self.has_told_board:
            self._tell_board(self.context.board)
        self.has_told_board = False
        if self.changes_defaults:
            self.changes_defaults = False
            self.group.cluster.renew()
            self.context.on_defaults_change()
        if self.changed_schema:
            # Whoever has prepared a text meanwhile may have seen either schema.
            self.changed_schema = False
            self.context.registry.retire()
            self.carry.set_scope()
        if self.renews > 0:
            self._schema_changed()

    def _schema_changed(self) -> None:
        """What is known of the database's objects is to be read again."""
        if self.renews == DOUBTS:
            self.routers.doubt()
        self.renews = 0
        self.context.on_schema_change(self.group.database)

    def _tell_board(self, board: Board) -> None:
        """Perhaps a change of the schema is committed: other workers' clients may know by what
        is given to this one."""
        self.has_told_board = True
        now = time.monotonic()
        if self.changed_schema:
            board.note_schema(now)
        if self.renews > 0:
            board.note_objects(self.routers.place, now, in_doubt=self.renews == DOUBTS)

    def _look_at_board(self, board: Board) -> None:
        """What clients have changed of the schema, those of other workers too."""
        if board.schema_at != self.context.schema_at:
            self.context.schema_at = board.schema_at
            self.context.registry.retire()
        routers = self.routers
        at = board.changed_at(routers.place)
        if at == routers.changed_at:
            return
        routers.changed_at = at
        doubted_at = board.doubted_at(routers.place)
        if doubted_at != routers.doubted_at:
            routers.doubted_at = doubted_at
            routers.doubt()
        self.context.on_schema_change(self.group.database)

    def _asks_for_more(self, server: ServerConnection) -> bool:
        """A copy has failed, and one more ReadyForQuery may come of it, which the next client must
        not get: it comes before the answer to an empty query, or not at all."""
        if self.batch.input.passing:  # in the middle of copy data nothing can be asked
            server.doomed = True
            self.inflight.doubtful = 0
            return False
        server.prepared.unnamed = None
        self.inflight.push(OWED_ROWS)
        server.write(NOTHING_MORE)
        return True

    def let_go(self) -> None:
        server = self.server
        if server is not None and self.sequences.holds:
            self.sequences.end_hold(server)
            self.sole = None
            self.release(server)

    def _waits_elsewhere(self, server: ServerConnection) -> None:
        """The connection that it has kept goes away, and nobody works on it."""
        self.group.cancel_wait(self)
        self.server = None
        self.group.pool_of(server).release(server)
        self.reroute()

    def _session_ends_transaction(self) -> None:
        session = self.front.session
        decision = self.front.last_route.decision
        rolled_back = decision is not None and decision.tag == b"ROLLBACK"
        session.end(committed=not rolled_back and not session.broken)

    def forget_transaction(self) -> None:
        """It has ended, and its server is gone."""
        self.moving.clear()
        if self.writing:
            self.writing = self.writing_for_all = False
            self.note_writes()
        if self.front.session.touched:
            self._session_ends_transaction()

    def _release_late(self) -> None:
        server = self.server
        self.release_is_late = False
        if server is not None:
            self.release(server)

    def release(self, server: ServerConnection) -> None:
        self.enter(FREE)
        self.server = None
        if self.server_is_full:
            # Of a copy that has failed; the server reads and ignores it.
            self.server_is_full = False
            self.read_client()
        now = time.monotonic()
        seconds = now - self.leased_at
        self.counters.transactions.observe(seconds)
        self.traffic.busy += seconds
        sole = self.sole
        if self.is_timed:
            backend = server.backend
            if self.is_read:
                backend.took(seconds)
            adaptive = backend.adaptive
            if adaptive is not None and sole is not None:
                adaptive.answered(sole, self.leased_at, now)
        if sole is not None:
            sole.timed += 1
            sole.seconds += seconds
        if not server.settings.may_idle:
            self.group.pool_of(server).reset(server, transaction=False, session=True)
            return
        server.keeper.release(server)

    def next_again(self) -> None:
        """The batch that had to wait for replies goes on."""
        try:
            if self.named.unread:
                self.named.unread = False
                self.resume()
            elif self._dispatch():
                self.resume()
        except PgError as error:
            self.fail(error)

    def server_lost(self, reason: str) -> None:
        server = self.server
        self.server = None
        if self.phase == GONE or server is None:
            return
        if self.sequences.holds:
            self.sequences.end_hold(server)
            self.enter(FREE)
            return
        if self.phase == WAITING and self.pin is None:
            self.group.cancel_wait(self)
            self.reroute()  # what it has kept it for was not sent
            return
        if self.overdue is not None and self.overdue.is_all_that_keeps(server):
            self.overdue.server_lost()
            return
        if self.writing:
            self.note_writes()  # whether it was done is not known
        said_goodbye = self.server_said_goodbye
        if self.on_replica and self.net.is_on:
            if not said_goodbye and self.net.is_survived(server):
                return
        elif not said_goodbye and self.rerun.may_begin(
            CUT_OFF if server.cut_because else UNKNOWN, completed=False
        ):
            if not server.cut_because:
                self.group.pool_of(server).drain()  # those that are idle may be dead as well
            self.rerun.begin()
            return
        if self.notifications.holds and self.pin is None and not self.carry.touched:
            self.notifications.server_lost()
            return
        outcome = self._outcome()
        self.inflight.clear()
        if said_goodbye or server.splitter.passing:
            # It has had the server's own words; or is in the middle of a row, where none may stand.
            self.client_gone()
            self.client.close()
            return
        self.fail(
            PgError(
                CONNECTION_FAILURE,
                "the connection to the server was lost",
                detail=f"{server.backend.name}: {reason}. {outcome} Connect again.",
            )
        )

    def _outcome(self) -> str:
        """What has become of the last statement, where the server is lost."""
        if self.phase == WAITING:
            return "The last statement was not sent to it."
        inflight = self.inflight
        is_answered = not (inflight.owes_client or inflight.skipping or inflight.copying)
        if is_answered and not self.batch.continues and not self.rerun.is_on:
            return "No statement was running."
        return "Whether the last statement took effect is not known."

    def server_writable(self, writable: bool) -> None:
        self.server_is_full = not writable
        if self.overdue is not None:
            self.overdue.restarts()
        self.read_client()

    def _server_error(self) -> None:
        server = self.server
        assert server is not None
        self.counters.server_errors += 1
        self.is_timed = False  # who fails fast is not fast
        self.front.session.broken = True
        self.carry.failed = True
        if self.pin is not None:
            self.carry.may_unpin = True
        if not self.journal.is_checking:
            self.front.channels.failed()
        splitter = server.splitter
        end = splitter.end if splitter.end < splitter.size else splitter.size
        body = splitter.data[splitter.start + 5 : end]
        if is_fatal(body):
            self.server_said_goodbye = True
        if CHANGED in body:
            self.context.registry.retire()  # whoever changed the schema did not do it through us
        if self.new_pin is not None:
            pin, self.new_pin = self.new_pin, None
            # Of a text that was not understood only this error says that none of it was run.
            if pin is not Pin.UNPARSED:
                self.carry.not_pinned(pin)
            elif b"\x00C42601\x00" in body:
                server.custom.discard(UNNAMED)
                self.carry.not_pinned(pin)

    def _undo(self, server: ServerConnection) -> None:
        void = self.inflight.take_void()
        self.undo_there(server, void)
        if not self.journal.is_checking and not self.healing.is_on:
            self.batch.undo([owed for owed in void if not owed.hidden])

    def undo_there(self, server: ServerConnection, void: list[Owed]) -> None:
        """The server has not done what these messages told it."""
        for owed in reversed(void):
            if owed.role >= LINE_UP:
                self.named.was_not_done(owed, server)
            elif owed.kind == PARSE and owed.statement is not None:
                if owed.statement.number:
                    if not owed.answer:
                        server.prepared.forget(owed.statement)
                else:
                    server.prepared.unnamed = None
            elif owed.kind == CLOSE and owed.hidden:
                if owed.statement is None:
                    server.prepared.restore(owed.name)
                else:
                    server.prepared.doubt(owed.statement)

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

    def enter(self, phase: i64) -> None:
        assert LEASE_MOVE[self.phase * PHASES + phase], (self.phase, phase)
        self.phase = phase
        if phase == GONE and self.cancels.due:
            self.cancels.send_due(None)

    def __repr__(self) -> str:
        return f"<Relay phase={self.phase} status={self.front.status} pin={self.pin} {self.server}>"
