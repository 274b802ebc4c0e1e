"""HOT. A client's time limits: when things happen is noted, and what is overdue is ended.

A statement that takes too long is cancelled as if its client had asked for that, and the client gets
an error of ours in place of the server's. But a client that cancels waits for the end of its request
before it goes on; here it has no part in that. So until the request can hit nothing more, what the
client sends next waits (`holds`), and so do the questions that the proxy has at the end of a
transaction (`postpones`). What was sent behind the statement before it was cancelled cannot be called
back: if the statement ends by itself in that moment, it may be the one that is hit.

Everything else that is overdue ends the session, as in PostgreSQL: an open transaction is rolled back.
"""

import time
from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_IDLE
from pgproxy.frames.read import is_fatal, sqlstate
from pgproxy.protocol.states import FREE, GONE, LEASED, SETTLING, WAITING
from pgproxy.relay.deadlines import (
    CANCEL_IS_LATE,
    CLIENT_IDLE,
    CLIENT_IS_LATE,
    CLIENT_IS_LATE_IN_TRANSACTION,
    GRACE,
    IDLE_IN_TRANSACTION,
    NOBODY,
    QUERY,
    QUEUED,
    READING,
    RESTING,
    SENDING,
    STATEMENT_IS_LATE,
    TRANSACTION,
    TRANSACTION_IS_LATE,
    WORKING,
    Deadlines,
    TimeLimits,
)
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

CANCELED: Final = "57014"
CANCELED_CODE: Final = b"57014"
# What PostgreSQL ends a session with (idle_session_timeout and its like).
IDLE_SESSION: Final = "57P05"
IDLE_TRANSACTION: Final = "25P03"
LONG_TRANSACTION: Final = "25P04"


@final
class Overdue:
    """One relay's."""

    def __init__(self, relay: "Relay", limits: TimeLimits) -> None:
        self.relay = relay
        self.limits = limits
        self.deadlines = Deadlines(limits, time.monotonic())
        self._requests: i64 = 0  # to cancel, that have not had their effect yet
        self._server: ServerConnection | None = None  # which they are for
        self._struck: ServerConnection | None = None  # the last of those
        self._unseen: i64 = 0  # requests whose error has not come
        self._is_held = False  # the relay's next batch waits for that
        self._is_postponed = False  # so does the end of its transaction

    # --- what happens -------------------------------------------------------------------------

    def heard(self) -> None:
        """The client has sent something."""
        relay = self.relay
        deadlines = self.deadlines
        now = time.monotonic()
        deadlines.heard_at = now
        if len(relay.inflight) == 0:
            deadlines.turn_at = now
            if relay.front.status == STATUS_IDLE and not relay.batch.continues:
                deadlines.began_at = now

    def taken(self, now: float) -> None:
        """A server is leased."""
        self._unseen = 0
        self.deadlines.turn_at = now
        if self.relay.front.status == STATUS_IDLE:
            self.deadlines.began_at = now

    def ready(self) -> None:
        """ReadyForQuery has come."""
        self.deadlines.ready(time.monotonic(), is_idle=self.relay.front.status == STATUS_IDLE)

    def restarts(self) -> None:
        """What is in flight was held up, and not by its server."""
        self.deadlines.turn_at = time.monotonic()

    def chains(self) -> None:
        """A transaction is being ended; another may begin in the same batch."""
        self.deadlines.began_at = time.monotonic()

    def ends_at(self) -> float:
        """When the time of what is in flight is up, in monotonic seconds."""
        deadlines = self.deadlines
        limits = self.limits
        return min(
            deadlines.turn_at + limits.query,
            deadlines.began_at + limits.transaction,
        )

    # --- whose time is up ---------------------------------------------------------------------

    def look(self, now: float) -> i64:
        relay = self.relay
        if relay.phase == GONE:
            return NOBODY
        if self.deadlines.struck_at > 0 and relay.server is not self._struck:
            self.deadlines.struck_at = 0.0  # it is run again elsewhere
        return self.deadlines.look(now, self._at(), in_block=relay.front.status != STATUS_IDLE)

    def _at(self) -> i64:
        relay = self.relay
        inflight = relay.inflight
        notifications = relay.notifications
        if (
            relay.phase == WAITING
            or relay.rerun.is_on
            or relay.journal.is_checking
            or notifications.waits
            or notifications.holds
        ):
            return QUEUED
        is_answered = len(inflight) == 0 and not relay.batch.continues
        if relay.client.write_paused and not (is_answered and relay.front.status == STATUS_IDLE):
            return READING
        if relay.requests.are_held and is_answered:
            return QUEUED  # it has said more, which is not read before it has taken its answers
        if relay.server is None:
            return RESTING
        if inflight.owes_client:
            return SENDING if inflight.copying and not relay.server_is_full else WORKING
        if len(inflight) > 0:
            return QUEUED  # a question of ours
        if relay.batch.continues or inflight.skipping:
            return SENDING
        return QUEUED if relay.phase == SETTLING else RESTING

    def strike(self, late: i64, now: float) -> None:
        """Ends what `look` has found to be overdue."""
        relay = self.relay
        if late == STATEMENT_IS_LATE:
            self._count(QUERY)
            self._cancel(now)
        elif late == CANCEL_IS_LATE:
            self._give_up(f"The server has not ended it within {GRACE:g} s after it was asked to.")
        elif late == CLIENT_IS_LATE:
            self._count(CLIENT_IDLE)
            relay.fail(
                PgError(
                    IDLE_SESSION,
                    "terminating connection due to idle-session timeout",
                    detail=f"The session was idle for {self.limits.named(CLIENT_IDLE)}.",
                )
            )
        elif late == CLIENT_IS_LATE_IN_TRANSACTION:
            self._count(IDLE_IN_TRANSACTION)
            relay.fail(
                PgError(
                    IDLE_TRANSACTION,
                    "terminating connection due to idle-in-transaction timeout",
                    detail=(
                        "The transaction waited for its client for "
                        f"{self.limits.named(IDLE_IN_TRANSACTION)}, and is rolled back."
                    ),
                )
            )
        elif late == TRANSACTION_IS_LATE:
            self._count(TRANSACTION)
            relay.fail(
                PgError(
                    LONG_TRANSACTION,
                    "terminating connection due to transaction timeout",
                    detail=(
                        f"The transaction was open for {self.limits.named(TRANSACTION)}. "
                        "What it has not committed is rolled back."
                    ),
                )
            )

    def _count(self, kind: str) -> None:
        timeouts = self.relay.traffic.timeouts
        timeouts[kind] = timeouts.get(kind, 0) + 1

    # --- a statement that is cancelled --------------------------------------------------------

    def _cancel(self, now: float) -> None:
        relay = self.relay
        self.deadlines.struck_at = now
        if relay.server is not self._server:
            self._is_held = self._is_postponed = False  # they went with that one
        self._server = self._struck = relay.server
        self._requests += 1
        self._unseen += 1
        relay.cancels.ask(self._acted)

    def holds(self, server: ServerConnection) -> bool:
        """Whether a new batch must not be sent to this server yet, where it might be hit."""
        if self._requests == 0 or server is not self._server:
            return False
        self._is_held = True
        return True

    def postpones(self, server: ServerConnection) -> bool:
        """Whether what follows the end of the answers has to wait for the same reason."""
        if self._requests == 0 or server is not self._server:
            self._unseen = 0
            return False
        self._is_postponed = True
        if self.relay.front.status == STATUS_IDLE:
            self.relay.journal.clear()  # it is done, and not to be done again elsewhere
        return True

    def is_all_that_keeps(self, server: ServerConnection) -> bool:
        """Whether nothing is left to be done there, and it is kept for such a request alone."""
        relay = self.relay
        return (
            self._is_postponed
            and server is self._server
            and relay.front.status == STATUS_IDLE
            and relay.pinning.pin is None
            and not relay.carry.touched
            and not relay.inflight.doubtful
        )

    def server_lost(self) -> None:
        """Such a one is gone: the session goes on with another."""
        relay = self.relay
        waited = relay.phase == SETTLING
        relay.enter(FREE)
        relay.inflight.clear()
        relay.forget_transaction()
        if waited:
            relay.requests.next_again()

    def _acted(self) -> None:
        """A request can hit nothing any more that is sent from now on; or it is not known."""
        self._requests -= 1
        if self._requests > 0:
            return
        server, self._server = self._server, None
        is_held, self._is_held = self._is_held, False
        is_postponed, self._is_postponed = self._is_postponed, False
        relay = self.relay
        if relay.phase == GONE or server is None or relay.server is not server:
            return
        leaves_it = is_postponed and relay.front.status == STATUS_IDLE and relay.pinning.pin is None
        if server.may_be_hit and not leaves_it:
            self._give_up("Whether the server has acted on the request to cancel it is not known.")
        elif is_postponed:
            relay.settled(server)
        elif is_held and not relay.inflight.settled:  # else it is about to go on by itself
            relay.enter(LEASED)
            relay.requests.next_again()

    def replaces(self, frame: bytes) -> bool:
        """Whether the ErrorResponse at hand comes of a request of ours."""
        return self._unseen > 0 and sqlstate(frame) == CANCELED_CODE and not is_fatal(frame)

    def instead(self) -> bytes:
        """What the client gets in place of that."""
        self._unseen -= 1
        return write.error_response(self._error())

    def why(self, otherwise: PgError) -> PgError:
        """What the client is told of a statement that is cancelled, by whom need not be known."""
        return self._error() if self.deadlines.struck_at > 0 else otherwise

    def _error(self) -> PgError:
        limit = self.limits.named(QUERY)
        if self.deadlines.struck_at > 0:
            detail = f"The statement took longer than {limit}."
        else:
            detail = f"It was sent together with one that took longer than {limit}."
        return PgError(CANCELED, "canceling statement due to query timeout", detail=detail)

    def _give_up(self, why: str) -> None:
        """The statement has not ended, or what was to end it may still hit another one."""
        relay = self.relay
        server = relay.server
        detail = f"The statement took longer than {self.limits.named(QUERY)}. {why}"
        if server is not None and self._can_go_on():
            relay.server = None
            relay.group.pool_of(server).discard(server)
            relay.rerun.abandon()
            relay.rerun.fail(
                PgError(CANCELED, "canceling statement due to query timeout", detail=detail)
            )
            return
        if not relay.inflight.settled:
            detail += " It may yet take effect."
        relay.fail(PgError(CANCELED, "terminating connection due to query timeout", detail=detail))

    def _can_go_on(self) -> bool:
        """Whether the session can do without its server: nothing is in flight but reads outside of a
        transaction, of which the client has no part of an answer."""
        relay = self.relay
        journal = relay.journal
        unanswered = journal.unanswered
        return (
            relay.front.status == STATUS_IDLE
            and relay.rerun.is_possible
            and journal.is_kept
            and not journal.is_partial
            and not relay.healing.is_on
            and len(unanswered) > 0
            and not any(sent.may_write for sent in unanswered)
        )
