"""HOT. Where each statement went, and why; what it took there. Read by metrics, `SHOW QUERIES`, the
trace and the adaptive limits.
"""

import time
from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.frames.codes import STATUS_IDLE
from pgproxy.protocol.session import AUTO
from pgproxy.relay.trace import trace
from pgproxy.routing.batch import CUT
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.reasons import CODES, Reason
from pgproxy.servers.connection import ServerConnection
from pgproxy.telemetry.counters import Structure

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

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


@final
class Accounts:
    """One relay's: of its lease."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.is_timed = False  # the lease is for something outside of a transaction
        self.sole: Structure | None = None  # of the only batch that it has run
        self._is_read = False  # it is for reads, wherever they run
        self._is_unused = True  # it has not run anything

    def leased(self, *, for_reads: bool) -> None:
        self.is_timed = self.relay.front.status == STATUS_IDLE
        self.sole = None
        self._is_read = for_reads
        self._is_unused = True

    def released(self, server: ServerConnection) -> None:
        relay = self.relay
        now = time.monotonic()
        seconds = now - relay.leased_at
        relay.counters.transactions.observe(seconds)
        relay.traffic.busy += seconds
        sole = self.sole
        if self.is_timed:
            backend = server.backend
            if self._is_read:
                backend.took(seconds)
            adaptive = backend.adaptive
            if adaptive is not None and sole is not None:
                adaptive.answered(sole, relay.leased_at, now)
        if sole is not None:
            sole.timed += 1
            sole.seconds += seconds

    def sent(self, server: ServerConnection, *, pipelined: bool) -> None:
        """The batch at hand is about to be sent there."""
        relay = self.relay
        decision = relay.batch.decision
        if decision is None:
            return
        target: i64 = PRIMARY if server.backend.writable else REPLICA
        code = (
            decision.code if decision.target == target else self._why(target, pipelined=pipelined)
        )
        relay.counters.routed[code * 2 + target] += 1
        if decision.code == DDL and decision.argument and relay.batch.executes:
            relay.group.cluster.desert(decision.argument)
            if relay.listening is not None:
                relay.listening.desert(decision.argument)
            relay.context.on_desert(decision.argument)
        last = relay.front.last_route
        last.decision = decision
        last.target = target
        last.code = code
        last.backend = server.backend.name
        if not relay.batch.executes:
            return
        structure = decision.structure
        if structure is not None:
            if target == PRIMARY:
                structure.primary += 1
            else:
                structure.replica += 1
        self.sole = structure if self._is_unused else None
        self._is_unused = False
        if relay.front.session.watched:
            self._tell_of_it(pipelined=pipelined)

    def _tell_of_it(self, *, pipelined: bool) -> None:
        relay = self.relay
        on_statement = relay.context.on_statement
        if on_statement is not None:
            fields = relay.front.last_route.fields()
            on_statement(relay.batch.sql(), fields[2], fields[0], fields[1])
        if relay.front.session.trace:
            trace(relay, pipelined=pipelined)

    def _why(self, target: i64, *, pipelined: bool) -> i64:
        """The reason for which a statement runs elsewhere than the router alone would have it."""
        relay = self.relay
        if relay.pinning.pin is not None:
            return PINNED
        if relay.front.status != STATUS_IDLE:
            return IN_TRANSACTION
        if relay.carry.isolation == b"serializable":
            return SERIALIZABLE
        session = relay.front.session
        if session.route != AUTO:
            if not session.by_rule:
                return ROUTE_SET
            relay.front.last_route.rule = session.rule_detail
            return RULE
        if target == REPLICA:
            return IN_TRANSACTION
        if relay.batch.ending == CUT:
            return CUT_BY_FLUSH
        if pipelined:
            return BEHIND_WRITE
        if relay.routers.in_doubt:
            return SCHEMA_CHANGED
        group = relay.group
        if group.cluster.settings.reads.always_from_primary:
            return READ_FROM_PRIMARY
        return NOT_FRESH if group.has_replicas else NO_REPLICA
