"""Whatever happens when: nobody is ended early, nor much later than the rounds are apart."""

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.relay.deadlines import (
    CLIENT_IDLE,
    CLIENT_IS_LATE,
    CLIENT_IS_LATE_IN_TRANSACTION,
    IDLE_IN_TRANSACTION,
    NOBODY,
    QUERY,
    RESTING,
    STATEMENT_IS_LATE,
    TRANSACTION,
    TRANSACTION_IS_LATE,
    WORKING,
    Deadlines,
    TimeLimits,
)

ROUND = 0.25
LATENESS = ROUND + 1e-6

seconds = st.integers(0, 40).map(lambda quarters: quarters / 4)
limits = st.fixed_dictionaries(
    dict.fromkeys((QUERY, TRANSACTION, IDLE_IN_TRANSACTION, CLIENT_IDLE), seconds)
)
# How long each statement waits for its client, how long it runs, and what it leaves open.
statements = st.lists(st.tuples(seconds, seconds, st.booleans()), min_size=1, max_size=8)


@given(limits, statements)
def test_each_is_ended_in_its_time(
    configured: dict[str, float], script: list[tuple[float, float, bool]]
) -> None:
    allowed = TimeLimits(configured, {})
    deadlines = Deadlines(allowed, 0.0)
    now = 0.0
    in_block = False
    began = 0.0  # the transaction that is open, by the test's own count
    for idle, work, leaves_open in script:
        for at, lasts in ((RESTING, idle), (WORKING, work)):
            since = now
            if at == WORKING:
                deadlines.heard_at = deadlines.turn_at = now
                if not in_block:
                    began = deadlines.began_at = now
            is_open = in_block or at == WORKING
            ends = {TRANSACTION_IS_LATE: began + allowed.transaction} if is_open else {}
            if at == WORKING:
                ends[STATEMENT_IS_LATE] = since + allowed.query
            elif in_block:
                ends[CLIENT_IS_LATE_IN_TRANSACTION] = since + allowed.idle_in_transaction
            else:
                ends[CLIENT_IS_LATE] = since + allowed.client_idle
            stop = now + lasts
            while now < stop:
                now += ROUND
                if now < deadlines.due_at:
                    continue
                late = deadlines.look(now, at, in_block=in_block)
                if late != NOBODY:
                    assert ends[late] <= now <= ends[late] + LATENESS
                    return
            assert min(ends.values()) >= now - LATENESS
        in_block = leaves_open
        deadlines.ready(now, is_idle=not in_block)
