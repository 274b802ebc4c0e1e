"""A decision under a hint, and in a log."""

from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason


def test_a_hint_changes_the_target_and_its_reason_and_nothing_else() -> None:
    decision = Decision(
        PRIMARY, Reason.UNKNOWN_FUNCTION, pin=Pin.SET, detail="function f", tag=b"x",
        read_only=True, argument="a", local=True, unparsed=True, discards=True, known_write=True,
        starts_transaction=True, ends_transaction=True, movable=True, exact=True, kind=3,
    )  # fmt: skip
    followed = decision.hinted(REPLICA, REPLICA)
    assert (followed.target, followed.reason, followed.hint) == (REPLICA, Reason.HINT, REPLICA)
    kept = decision.hinted(REPLICA, PRIMARY)
    assert (kept.target, kept.reason, kept.hint) == (PRIMARY, Reason.UNKNOWN_FUNCTION, REPLICA)
    changed = {0, 1, 12}
    for index, value in enumerate(decision.fields()):
        if index not in changed:
            assert followed.fields()[index] == kept.fields()[index] == value


def test_a_decision_can_be_read_in_a_log() -> None:
    text = repr(Decision(REPLICA, Reason.READ, detail="x"))
    assert text == "<Decision REPLICA read 'x' pin=None>"
