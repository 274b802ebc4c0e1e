"""HOT. Where the batch at hand has to run: what the router, the client, the rules, the session's
settings and its open transaction say together.
"""

from typing import TYPE_CHECKING

from mypy_extensions import i64

from pgproxy.frames.codes import STATUS_IDLE
from pgproxy.protocol.session import AUTO, TO_PRIMARY, TO_REPLICA
from pgproxy.routing.batch import CUT
from pgproxy.routing.decision import NO_HINT, PRIMARY, REPLICA

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay


def target(relay: "Relay") -> i64:
    """PRIMARY or REPLICA."""
    batch = relay.batch
    route = relay.front.session.route
    if relay.carry.isolation == b"serializable":
        return PRIMARY  # which a standby refuses
    if relay.session_mode:
        return REPLICA if route == TO_REPLICA else PRIMARY
    if batch.pin is not None or batch.ending == CUT:
        return PRIMARY
    if route != AUTO and batch.is_ruled and relay.front.session.by_rule:
        route = batch.under_rules(route)
    if route == TO_PRIMARY:
        return PRIMARY
    target = batch.target
    if relay.routers.in_doubt and target == REPLICA and _is_routers_word(relay):
        return PRIMARY
    if route == TO_REPLICA and not batch.known_write:
        target = REPLICA
    front = relay.front
    if len(front.held) == 0:
        return target
    if front.is_read_only(relay.carry.read_only):
        return REPLICA if batch.anywhere else target
    if route == TO_REPLICA and not front.held_needs_primary:
        return target
    return relay.moving.target()


def _is_routers_word(relay: "Relay") -> bool:
    """Whether neither client nor rule, but the router alone, sends the batch to a replica."""
    decision = relay.batch.decision
    return (
        decision is not None
        and decision.hint == NO_HINT
        and relay.front.session.route == AUTO
        and not relay.front.is_read_only(relay.carry.read_only)
    )


def fits(relay: "Relay") -> bool:
    """Whether the batch may be sent to the leased server, whatever is still in flight."""
    if not relay.on_replica or relay.pinning.pin is not None:
        return True
    if relay.moving.roams:
        return relay.moving.fits()
    batch = relay.batch
    if (
        batch.anywhere
        and batch.target == PRIMARY
        and batch.ending != CUT
        and relay.front.status != STATUS_IDLE
    ):
        return batch.pin is None
    return target(relay) == REPLICA and batch.pin is None and relay.writes.is_fresh()
