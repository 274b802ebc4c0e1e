"""HOT. A transaction on a replica moves to the primary when it must, and the client cannot tell.

As long as a READ COMMITTED transaction has only read, each of its statements has had a snapshot of its
own, so it can end on the replica and begin anew elsewhere. Two kinds do:

* READ ONLY ones. They are sent to a replica for good, and move if they can when a statement is not
  one for a replica. What they do there may make them immovable (a portal that is left open).
* Those that *roam*: all others, with routing.transactions = "replica-until-write". Only what leaves
  nothing behind and does not tell where it runs (`Decision.movable`, routing/shape.py) is sent to the
  replica, so that they always can move. Savepoints are made again where the transaction goes on; one
  that has failed is made to fail there, if more than its end is asked of it.

Nothing here is on the way of a statement outside of such transactions.
"""

from typing import TYPE_CHECKING, Final, final

from pgproxy.errors import FEATURE_NOT_SUPPORTED, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED
from pgproxy.protocol.channels import COMMITS, ROLLBACK_TO, ROLLS_BACK
from pgproxy.protocol.session import AUTO, TO_PRIMARY
from pgproxy.protocol.states import FREE
from pgproxy.routing.batch import AT_READY
from pgproxy.routing.decision import CHAIN, EMPTY, END, PRIMARY, REPLICA
from pgproxy.routing.front import QUERIED
from pgproxy.routing.journal import Sent
from pgproxy.routing.shape import is_alone, leaves_nothing
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

# On a replica a transaction that roams needs no more of its BEGIN, which may say READ WRITE.
ROAMING: Final = write.query(b"BEGIN ISOLATION LEVEL READ COMMITTED")
# Fails, whatever savepoints there are.
FAILING: Final = b"\n;SELECT 1 OPERATOR(pg_catalog./) 0"
# In a transaction that has failed they are more than refused.
ENDING_FAILURE: Final = frozenset({COMMITS, ROLLS_BACK, ROLLBACK_TO})

READ_COMMITTED: Final = frozenset({"read committed", "read uncommitted"})


@final
class Moving:
    """One relay's.

    begun       the BEGIN of the transaction on a replica, while it can move; else b""
    roams       that is not READ ONLY
    is_engaged  a transaction that is not over has begun on a replica
    """

    def __init__(self, relay: "Relay", *, may_roam: bool) -> None:
        self.relay = relay
        self.begun = b""
        self.roams = False
        self.is_engaged = False
        self._begin = b""  # the BEGIN, also when it cannot move
        self._may_roam = may_roam
        self._has_queried = False
        self._turns = False  # what was sent last ends it, or a failure in it
        self._chains = False  # and begins another one

    # --- where it goes ------------------------------------------------------------------------

    def target(self) -> int:
        """Where a transaction goes that is not READ ONLY, by its first batch."""
        relay = self.relay
        if not self._may_roam or relay.front.held_for_primary or not self._is_read_committed():
            return PRIMARY
        if relay.front.session.route != AUTO:
            return PRIMARY
        return REPLICA if self._leaves_nothing() else PRIMARY

    def fits(self) -> bool:
        """Whether the batch may run where the transaction roams, whatever is still in flight."""
        relay = self.relay
        batch = relay.batch
        if self._turns and not relay.inflight.settled:
            return False  # what comes of it decides what the batch at hand does
        if relay.front.status == STATUS_FAILED:
            return self._is_refused() or self._is_control()
        if relay.front.session.route == TO_PRIMARY or relay.routers.in_doubt:
            return False
        if batch.ends:
            return self._is_control()
        return relay.writes.is_fresh() and self._leaves_nothing()

    def _leaves_nothing(self) -> bool:
        """Whether the transaction can go on elsewhere behind the batch at hand."""
        batch = self.relay.batch
        if not batch.movable or batch.pin is not None or not leaves_nothing(batch):
            return False
        return not batch.acts or self._is_control()

    def _is_control(self) -> bool:
        """Whether the batch at hand is about savepoints, or ends the transaction, and no more."""
        batch = self.relay.batch
        decision = batch.executed
        if decision is None or not decision.acts:
            return False
        return (decision.movable or decision.kind in (END, CHAIN)) and is_alone(batch)

    def _is_refused(self) -> bool:
        """Whether nothing in the batch at hand can do anything in a transaction that has failed."""
        batch = self.relay.batch
        if batch.ending != AT_READY or batch.unparsed or batch.pin is not None:
            return False
        return all(act not in ENDING_FAILURE for act, _name in batch.acts)

    def _is_read_committed(self) -> bool:
        relay = self.relay
        said = relay.front.held_isolation
        return (said or relay.carry.isolation.decode("ascii", "replace")) in READ_COMMITTED

    # --- sending ------------------------------------------------------------------------------

    def begins(self, sent: Sent) -> None:
        """The transaction whose BEGIN was held back, `sent.first`, begins with this batch: on a
        replica, or anew."""
        relay = self.relay
        front = relay.front
        held = sent.first
        past = b""
        if self.is_engaged:
            sent.first_fails = front.status == STATUS_FAILED
            past = self._past()
            sent.first = _with(held, past)
        if not relay.on_replica:
            self._clear()
            return
        self.is_engaged = True
        self.roams = (
            self._may_roam
            and front.session.route == AUTO
            and not front.is_read_only(relay.carry.read_only)
        )
        if self.roams:
            sent.first_on_replica = _with(ROAMING, past)
        self._begin = held
        self.begun = held if self.roams or self._is_read_committed() else b""

    def _past(self) -> bytes:
        """What has to be done behind BEGIN, so that the transaction stands where it stood."""
        front = self.relay.front
        past = QUERIED if self._has_queried else b""
        for name in front.channels.savepoints:
            past += b'\n;SAVEPOINT "' + name.replace(b'"', b'""') + b'"'
        return past + FAILING if front.status == STATUS_FAILED else past

    def sent(self) -> None:
        """The batch at hand is about to be sent to the replica."""
        batch = self.relay.batch
        decision = batch.executed
        self._chains = decision is not None and decision.kind == CHAIN
        if not self.roams:
            if batch.target == PRIMARY:
                self.begun = b""  # what it sets in its transaction cannot move
            return
        self._turns = any(act in ENDING_FAILURE for act, _name in batch.acts)
        if batch.decision is not None and not batch.acts and batch.decision.kind != EMPTY:
            self._has_queried = True

    # --- moving -------------------------------------------------------------------------------

    def leaves(self, server: ServerConnection) -> bool:
        """In a transaction on a replica comes a batch that does not fit there. True: it needs not be
        sent here any more. The transaction starts anew elsewhere; where that is not possible, session
        state must not be left on a replica."""
        if self.relay.server_said_goodbye:
            return False  # to the client too
        if self.roams:
            self._leave(server)
            return True
        if self._ends_here():
            return False
        relay = self.relay
        if self.begun:
            self._leave(server)
            relay.front.held_for_primary = True
            return True
        if relay.batch.pin is None:
            return False
        relay.requests.answer_error(
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

    def _ends_here(self) -> bool:
        """The transaction is over, or will be with this batch: no reason to move it."""
        relay = self.relay
        decision = relay.batch.executed
        return relay.front.status == STATUS_FAILED or (
            decision is not None and decision.ends_transaction
        )

    def anew(self) -> bytes:
        """What brings the transaction to where it stands on another server."""
        return _with(self.begun, self._past())

    def hold_again(self) -> None:
        """The replica is gone, with nothing in flight. The transaction, which can move, begins anew on
        the primary with its next batch."""
        self._let_go()
        self.relay.front.held_again()

    def _leave(self, server: ServerConnection) -> None:
        self._let_go()
        self.relay.group.pool_of(server).reset(server, transaction=True, session=False)

    def _let_go(self) -> None:
        relay = self.relay
        relay.front.held = self.begun
        self.begun = b""
        self.roams = False
        self._turns = False
        self._chains = False
        relay.journal.clear()
        relay.counters.moved_transactions += 1
        relay.enter(FREE)
        relay.server = None

    def suspended(self) -> None:
        """A portal was left open."""
        if not self.roams:  # there a batch that does so comes with the move
            self.begun = b""

    @property
    def chains(self) -> bool:
        """Whether what was sent last ends the transaction on a replica and begins another one, which
        may run elsewhere: what was set before is known there alone."""
        relay = self.relay
        return self._chains and not relay.carry.touched and relay.pinning.pin is None

    def chained(self, server: ServerConnection) -> bool:
        """All is answered, and a transaction is open. True: it is a new one, begun by AND CHAIN, which
        is held back as its predecessor was; the replica is left, since it need not be fresh enough for
        that one."""
        if not self.chains:
            return False
        relay = self.relay
        self.begun = self._begin
        moved = relay.counters.moved_transactions
        self._leave(server)
        relay.counters.moved_transactions = moved
        self._clear()
        return True

    def clear(self) -> None:
        """The transaction is over."""
        if self.is_engaged:
            self._clear()

    def _clear(self) -> None:
        self.begun = b""
        self._begin = b""
        self.roams = False
        self.is_engaged = False
        self._has_queried = False
        self._turns = False
        self._chains = False


def _with(begin: bytes, past: bytes) -> bytes:
    """A Query of both. A comment at the end of BEGIN ends with the line."""
    return write.query(begin[5:-1] + past) if past else begin
