"""HOT. A client's server goes away in the middle: what it did goes on on another, or fails at once.

Which transactions may be run again is the journal's to say (routing/journal.py). Here is how:

1. `begin` or `leave`: the lost server is let go, a lease of another one is asked for. Whoever was
   told FATAL 57P01 waits until that server is seen to have left its role; if it stays, the end was
   meant for this client (pg_terminate_backend), and it gets the server's words.
2. `start`: on the new server the batches that the client has the answers of are sent again. The
   client's input waits; the answers are compared, not given.
3. `finish`: they were the same, so what was in flight is sent again and the relay goes on. Or `fail`:
   the client gets one error, and its transaction has failed.
"""

import time
from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE
from pgproxy.frames.read import is_shutdown
from pgproxy.protocol.states import FREE, LEASED, SETTLING, WAITING
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.front import IN_FAILED_TRANSACTION, READY
from pgproxy.routing.journal import ATTEMPTS, UNDONE, Journal
from pgproxy.servers.backend import Backend
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.group import STILL_THERE

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

DIFFERS: Final = PgError(
    "40001",
    "the transaction could not be continued on another server",
    detail=(
        "The server it ran on has gone. Its statements, run again on another, gave other results "
        "than the client has seen. Nothing of the transaction has taken effect."
    ),
    hint="Run the transaction again.",
)


@final
class Rerun:
    """One relay's."""

    def __init__(self, relay: "Relay", journal: Journal) -> None:
        self.relay = relay
        self.journal = journal
        self.is_on = False
        self._has_next = False  # the relay's next batch waits for the replies of those before
        self._lost: Backend | None = None  # is not to be trusted yet to have gone
        self._farewell = b""  # its last words, if it stays after all
        self._avoided: Backend | None = None  # a replica that was not able to do it

    @property
    def is_possible(self) -> bool:
        """Only the journal can stand against it."""
        relay = self.relay
        return (
            relay.pinning.pin is None
            and not relay.carry.is_asking
            and not relay.batch.continues
            and not relay.inflight.copying
            and not relay.inflight.skipping
        )

    def may_begin(self, end: int, *, completed: bool) -> bool:
        """Whether the client need not hear that its server is gone (as Journal.may_run_again)."""
        return self.is_possible and self.journal.may_run_again(end, completed)

    def may_hide(self, server: ServerConnection, ready_at: i64, completed: bool) -> bool:
        """Whether the ErrorResponse at hand is a FATAL 57P01 that the client need not see. What is
        in front of it in the chunk ends with a ReadyForQuery at `ready_at`, or is not the client's
        yet."""
        splitter = server.splitter
        if ready_at >= 0 and ready_at != splitter.start:
            return False  # the answer to the next batch has begun
        return is_shutdown(splitter.data[splitter.start : splitter.end]) and self.may_begin(
            UNDONE, completed=completed
        )

    def is_over(self, server: ServerConnection) -> bool:
        """Whether the ErrorResponse at hand is a FATAL 57P01 behind the answer to a COMMIT of which
        nothing but ReadyForQuery is owed."""
        relay = self.relay
        splitter = server.splitter
        if relay.pinning.pin is not None or not relay.inflight.only_ready_owed or self.is_on:
            return False
        unanswered = self.journal.unanswered
        return (
            len(unanswered) == 1
            and unanswered[0].is_end
            and is_shutdown(splitter.data[splitter.start : splitter.end])
        )

    def leave(self, server: ServerConnection) -> None:
        """The server has said goodbye."""
        relay = self.relay
        splitter = server.splitter
        self._farewell = splitter.data[splitter.start : splitter.end]
        self._lost = server.backend
        relay.server = None
        relay.group.pool_of(server).discard(server)
        self.begin()

    def may_go_elsewhere(self) -> bool:
        """Whether what is in flight, of which nothing has been run, may be sent to another server
        connection."""
        relay = self.relay
        journal = self.journal
        return (
            relay.pinning.pin is None
            and not relay.batch.continues
            and not relay.inflight.copying
            and journal.is_kept
            and len(journal.unanswered) > 0
            and journal.attempts < ATTEMPTS
        )

    def go_elsewhere(self, server: ServerConnection) -> None:
        """This one refuses the session's settings."""
        relay = self.relay
        relay.server = None
        relay.group.pool_of(server).discard(server)
        self.begin()

    def begin(self, avoided: Backend | None = None) -> None:
        """The server is gone; its connection is not the relay's any more."""
        self.abandon()
        self._avoided = avoided
        self.lease()

    def abandon(self) -> None:
        """Nothing is leased any more, and the client waits."""
        relay = self.relay
        if not self.is_on:
            self.is_on = True
            self._has_next = relay.phase == SETTLING
        self.journal.is_checking = False
        relay.notifications.interrupted()
        relay.inflight.clear()
        if relay.server_is_full:
            relay.server_is_full = False
            relay.requests.set_reading()
        relay.enter(FREE)

    def lease(self) -> None:
        """Asks for another server."""
        relay = self.relay
        lost, self._lost = self._lost, None
        avoided, self._avoided = self._avoided, None
        target: i64 = REPLICA if relay.on_replica or avoided is not None else PRIMARY
        after = relay.after = relay.writes.as_of()
        now = time.monotonic()
        relay.allowed = relay.carry.settings.allowed
        relay.is_urgent = True  # it has begun
        if lost is None or avoided is not None:
            server = relay.group.acquire(
                target, relay.profile, relay, after, now=now, avoided=avoided
            )
        else:
            server = relay.group.succeed(lost, target, relay.profile, relay, after)
        if server is None:
            relay.enter(WAITING)
        else:
            relay.take(server, now)

    def start(self, server: ServerConnection) -> None:
        """The transaction so far, once more, on `server`, which the relay has leased."""
        relay = self.relay
        journal = self.journal
        relay.enter(SETTLING)
        journal.start_checking()
        pipelined = False
        for sent in journal.history:
            relay.sending.transmit(server, sent, pipelined=pipelined)
            pipelined = True
            if not journal.check(relay.inflight.due()):
                self.differs(server)
                return
        if not pipelined:
            self.finish(server)

    def finish(self, server: ServerConnection) -> None:
        """The transaction stands where it stood; what was in flight is asked again."""
        relay = self.relay
        journal = self.journal
        if not journal.stop_checking():
            self.differs(server)
            return
        self.is_on = False
        relay.front.session.broken = relay.front.status == STATUS_FAILED
        if relay.net.cause:
            relay.net.arrived(server)
        else:
            relay.counters.reruns += 1
        if not relay.on_replica:
            relay.moving.clear()
            if any(sent.may_write for sent in [*journal.history, *journal.unanswered]):
                relay.writes.wrote()
        relay.enter(LEASED)
        pipelined = False
        for sent in journal.unanswered:
            relay.sending.transmit(server, sent, pipelined=pipelined)
            pipelined = True
            relay.sending.give_due()
        if relay.cancels.due:
            relay.cancels.send_due(server)
        if self._has_next and not relay.inflight.settled:
            relay.enter(SETTLING)
            return
        self._go_on()

    def differs(self, server: ServerConnection) -> None:
        """The new server answers otherwise."""
        relay = self.relay
        relay.server = None
        relay.group.pool_of(server).discard(server)
        relay.enter(FREE)
        self.fail(DIFFERS)

    def fail(self, error: PgError) -> None:
        """The transaction has failed, and with it all that was in flight. No server is leased."""
        relay = self.relay
        self.is_on = False
        self.journal.is_checking = False
        relay.net.cause = ""
        relay.inflight.clear()
        relay.counters.reruns_failed += 1
        if relay.cancels.due:
            relay.cancels.send_due(None)
        if error is STILL_THERE:
            relay.client.write(self._farewell)
            relay.client_gone()
            relay.client.close()
            return
        relay.moving.clear()
        self._tell(PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint))
        self.journal.clear()
        self._go_on()

    def _tell(self, failure: PgError) -> None:
        """An error to each batch in flight, or to the next statement if there is none."""
        relay = self.relay
        front = relay.front
        unanswered = self.journal.unanswered
        in_block = len(self.journal.history) > 0 or (len(unanswered) > 0 and unanswered[0].in_block)
        front.status = STATUS_FAILED if in_block else STATUS_IDLE
        front.session.broken = True
        if not unanswered:
            front.failure = failure
        ended = front.status == STATUS_IDLE or any(sent.ends for sent in unanswered)
        front.channels.lost(ended=ended)
        relay.notifications.update()
        for sent in reversed(unanswered):
            relay.batch.statements.undo([owed for owed in sent.owed if not owed.hidden])
        for sent in unanswered:
            if sent.ends:
                front.status = STATUS_IDLE
                front.session.end(committed=False)
            relay.counters.proxy_errors += 1
            relay.client.write(write.error_response(failure) + READY[int(front.status)])
            if front.status == STATUS_FAILED:
                failure = IN_FAILED_TRANSACTION

    def _go_on(self) -> None:
        relay = self.relay
        if self._has_next:
            relay.requests.next_again()
            return
        try:
            relay.requests.resume()
        except PgError as error:
            relay.fail(error)
