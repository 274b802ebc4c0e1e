"""HOT. One client, and at most one server connection that is leased to it.

What the client says comes by requests.py and sending.py, what the server says by answers.py; here is
what both share: the lease, and its phases (protocol/states.py). Whatever else a session has, or needs
now and then, has a file beside this one.

Rules of the data path: one call per chunk, not per frame; bytes in hand leave unchanged; no logging,
no metric calls, plain integers only; flags are computed at construction; when one side's write buffer
is full, the other side is not read; nothing is awaited.

BEGIN is held back: it is answered at once and sent, hidden, in front of the transaction's first
statement, which shows where the transaction has to go.
"""

import time
from typing import Any, Final, final

from mypy_extensions import i64

from pgproxy.errors import CONNECTION_FAILURE, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.protocol.inflight import OWED_ROWS, Inflight
from pgproxy.protocol.session import AUTO, Session
from pgproxy.protocol.settings import Origin
from pgproxy.protocol.states import FREE, GONE, LEASE_MOVE, LEASED, PHASES, SETTLING, WAITING
from pgproxy.relay.accounts import Accounts
from pgproxy.relay.answers import Answers
from pgproxy.relay.cancels import Cancels
from pgproxy.relay.carry import Carry
from pgproxy.relay.changes import Changes
from pgproxy.relay.context import RelayContext
from pgproxy.relay.deadlines import NEVER
from pgproxy.relay.healing import Healing
from pgproxy.relay.moving import Moving
from pgproxy.relay.named import Named
from pgproxy.relay.net import Net
from pgproxy.relay.notifications import Notifications
from pgproxy.relay.overdue import Overdue
from pgproxy.relay.pace import Pace
from pgproxy.relay.pinning import Pinning
from pgproxy.relay.requests import Requests
from pgproxy.relay.rerun import Rerun
from pgproxy.relay.sending import Sending
from pgproxy.relay.sequences import Sequences
from pgproxy.relay.target import target
from pgproxy.relay.writes import Writes
from pgproxy.routing.batchreader import BatchReader
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.front import Front
from pgproxy.routing.journal import CUT_OFF, UNKNOWN, Journal
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason
from pgproxy.routing.rules import Rules
from pgproxy.servers.connection import Owner, ServerConnection
from pgproxy.servers.group import PoolGroup
from pgproxy.servers.leftovers import CANCEL_AGAIN
from pgproxy.servers.modes import SESSION, STATEMENT
from pgproxy.servers.slots import Profile, Slot
from pgproxy.telemetry.counters import Structure

# Answered, whatever it is that was answered before.
NOTHING_MORE: Final = write.query(b"")

UNSAFE: Final = Decision(
    PRIMARY, Reason.UNSAFE_ENCODING, pin=Pin.UNPARSED, unparsed=True, known_write=True
)


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
        self.generation: i64 = 0  # of the routers when `batch.statements.router` was chosen
        self.reader = BatchReader(self.routers.any_path(), context.registry, self.traffic)
        self.batch = self.reader.batch
        self.changes = Changes(self)
        self.pinning = Pinning(self)
        self.rules: Rules = ()  # those of the configuration that hold for its texts
        self.carry = Carry(self, profile, origin, context.settings)
        self.read_encoding()
        self.read_rules()
        # The lease.
        self.phase: i64 = FREE
        self.server: ServerConnection | None = None
        self.inflight = Inflight()
        self.on_replica = False  # the lease was given for reads only
        self.accounts = Accounts(self)
        self.server_is_full = False
        self.release_is_late = False  # but for the rest of a frame of copy data
        self.cancels = Cancels(self)
        self.requests = Requests(self)
        self.sending = Sending(self)
        self.answers = Answers(self)
        self.pace = Pace(self, context.soon)
        # The session and its transaction.
        self.sequences = Sequences(self)
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
        self.writes = Writes(self, context)
        self.after = 0.0  # what was committed before then the lease must show
        limits = context.time_limits.of(group.database, group.user)
        self.overdue = Overdue(self, limits) if limits.has_any else None

    # --- from the client ----------------------------------------------------------------------

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
        self.requests.clear()
        self.group.left(self.profile)
        self.batch.statements.forget_all()
        self.changes.gone()
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
        is_dirty = self.pinning.pin is not None or asked > 0 or len(self.carry.touched) > 0
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
        if self.writes.are_for_all:
            # It may be committing: only its end, which is waited for, is known to be behind that.
            self.writes.note()
            server.on_end = self.writes.note
            # In the middle of a frame Terminate would be taken for a part of that.
            lingers = not self.batch.input.passing
        pool.hang_up(server, at_work=not lingers, until=until)

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
        self.requests.set_reading()

    @property
    def at_rest(self) -> bool:
        """Between transactions, with nothing on its way: the client can be sent off."""
        return (
            self.front.status == STATUS_IDLE
            and self.phase in (FREE, LEASED)
            and self.inflight.settled
            and not self.batch.open
            and not self.batch.continues
            and not self.requests.are_held
        )

    @property
    def runs_alone(self) -> Structure | None:
        return None if not self.accounts.is_timed or self.inflight.settled else self.accounts.sole

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

    def lease(self) -> bool:
        """For the batch at hand. False: the client's input has to wait."""
        where = target(self)
        self.on_replica = where == REPLICA
        carry = self.carry
        self.allowed = carry.allowed(self.batch) if self.batch.effects else carry.settings.allowed
        self.is_urgent = self.moving.is_engaged  # a transaction that has begun elsewhere
        if self.batch.asks_sequence and self.sequences.take_back():
            return self.phase == LEASED
        now = time.monotonic()
        self.after = self.writes.as_of()
        server = self.group.acquire(where, self.profile, self, self.after, carry.settings, now)
        if server is None:
            self.enter(WAITING)
            return False
        self.take(server, now)
        return True

    def sits_again(self, server: ServerConnection) -> bool:
        """Whether the session, which keeps its connection, may go on there; else it will be called."""
        # Whoever waits for the locks it holds has a seat.
        self.is_urgent = Pin.ADVISORY_LOCK in self.pinning.pins
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
                self.requests.resume()
        except PgError as error:
            self.fail(error)

    def _goes_on(self, server: ServerConnection, now: float) -> None:
        """With the connection that it has kept."""
        self.counters.waits.observe(now - self.waiting_since)
        self.enter(LEASED)
        if self.overdue is not None:
            self.overdue.taken(now)
        try:
            self.sending.send(server)
            self.requests.resume()
        except PgError as error:
            self.fail(error)

    def refused(self, error: PgError) -> None:
        server = self.server  # if it has kept one
        self.enter(FREE if server is None else LEASED)
        if self.rerun.is_on:
            self.rerun.fail(error)
            return
        # A log-in to a server that failed was FATAL there; this client's session goes on.
        self.requests.answer_error(
            PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint)
        )
        if server is not None and self.pinning.pin is None:
            self.accounts.sole = None  # the wait is no part of it
            self.release(server)
        try:
            self.requests.resume()
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
            if self.lease():
                self.requests.resume()
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
        self.leased_at = now
        self.accounts.leased(for_reads=self.on_replica)
        self.on_replica = self.on_replica and not server.backend.writable
        if self.client.write_paused:
            server.set_reading(False)
        if self.server_is_full:
            self.requests.set_reading()
        if self.session_mode:
            self.pinning.add_pool_mode()
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
            self.sending.send(server)

    # --- to the server ------------------------------------------------------------------------

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
        self.batch.statements.fixed = None if self.carry.safe_encoding else UNSAFE

    # --- from the server ----------------------------------------------------------------------

    def server_data(self, chunk: bytes) -> None:
        server = self.server
        if server is None:
            return
        if self.notifications.holds and self.pinning.pin is None:
            server.doomed = True  # all that it may say now is that it goes away
            return
        if self.overdue is not None and self.overdue.is_all_that_keeps(server):
            server.doomed = True
            return
        self.traffic.sent += len(chunk)
        self.answers.read(server, chunk)

    def settled(self, server: ServerConnection) -> None:
        """ReadyForQuery has come and nothing is owed any more."""
        self.pinning.forget_last()
        if self.batch.continues:
            return
        if self.overdue is not None and self.overdue.postpones(server):
            return
        waited = self.phase == SETTLING
        if self.front.status == STATUS_IDLE:
            if self.inflight.doubtful and self._asks_for_more(server):
                return
            self.journal.clear()
            self.writes.end()
            if self.moving.is_engaged:
                self.moving.clear()
            if self.front.session.touched:
                self._session_ends_transaction()
            if self.changes.are_any:
                self.changes.over()
            carry = self.carry
            if (carry.touched or self.pinning.may_end) and carry.settled(server):
                return
            if self.pinning.pin is None:
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
                    self.requests.next_again()
                return
            self._stand_up(server)
        elif self.statement_mode:
            self.fail(self.requests.no_blocks())  # begun by a text that was not understood
            return
        elif self.front.status == STATUS_IN_TRANSACTION:
            self.front.session.broken = False  # a savepoint has saved it
            if self.moving.is_engaged and self.moving.chained(server):
                if waited:
                    self.requests.next_again()
                return
        if waited:
            self.enter(LEASED)
            self.requests.next_again()

    def _stand_up(self, server: ServerConnection) -> None:
        """Nothing runs on the connection that is kept."""
        if server.seat is not None:
            self.group.pool_of(server).stand_up(server)

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
            self.accounts.sole = None
            self.release(server)

    def waits_elsewhere(self, server: ServerConnection) -> None:
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
        self.writes.end()
        if self.front.session.touched:
            self._session_ends_transaction()

    def release_late(self) -> None:
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
            self.requests.set_reading()
        self.accounts.released(server)
        if not server.settings.may_idle:
            self.group.pool_of(server).reset(server, transaction=False, session=True)
            return
        server.keeper.release(server)

    def server_lost(self, reason: str) -> None:
        server = self.server
        self.server = None
        if self.phase == GONE or server is None:
            return
        if self.sequences.holds:
            self.sequences.end_hold(server)
            self.enter(FREE)
            return
        if self.phase == WAITING and self.pinning.pin is None:
            self.group.cancel_wait(self)
            self.reroute()  # what it has kept it for was not sent
            return
        if self.overdue is not None and self.overdue.is_all_that_keeps(server):
            self.overdue.server_lost()
            return
        if self.writes.are_open:
            self.writes.note()  # whether it was done is not known
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
        if self.notifications.holds and self.pinning.pin is None and not self.carry.touched:
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
        self.requests.set_reading()

    # --- phases -------------------------------------------------------------------------------

    def enter(self, phase: i64) -> None:
        assert LEASE_MOVE[self.phase * PHASES + phase], (self.phase, phase)
        self.phase = phase
        if phase == GONE and self.cancels.due:
            self.cancels.send_due(None)

    def __repr__(self) -> str:
        return f"<Relay phase={self.phase} status={self.front.status} pin={self.pinning.pin} {self.server}>"
