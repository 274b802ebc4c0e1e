"""Who may go when: the whole table of states and moments."""

from typing import Final

import pytest

from pgproxy.clients.departure import (
    ANY_AFTER,
    CANCEL_WAIT,
    QUIET,
    REFUSE_AFTER,
    SHORT_QUIET,
    SHORT_QUIET_AFTER,
    SPACING,
    STALLED,
    Schedule,
    State,
    Verdict,
)

ACCEPT: Final = 10.0
WINDOW: Final = 60.0
START: Final = 1000.0
CLOSED: Final = START + ACCEPT
HALF: Final = CLOSED + WINDOW / 2
END: Final = CLOSED + WINDOW
AT_REST: Final = {State.IDLE, State.PINNED}


def schedule() -> Schedule:
    return Schedule(START, accept=ACCEPT, window=WINDOW)


def verdict(
    state: State, now: float, *, fraction: float = 0.0, quiet: float = 9.0, unsent: int = 0
) -> Verdict:
    plan = schedule()
    departure = plan.departure(fraction, clients=100_000)
    return plan.verdict(departure, state, now, quiet=quiet, unsent=unsent)


@pytest.mark.parametrize("state", State)
def test_nobody_goes_while_the_port_accepts(state: State) -> None:
    for now in (START, CLOSED - 0.001):
        assert verdict(state, now) is Verdict.STAY


def test_who_is_between_transactions_goes_from_its_moment_on() -> None:
    # Half way through the half of the window.
    moment = CLOSED + WINDOW / 4
    assert verdict(State.IDLE, moment - 0.001, fraction=0.5) is Verdict.STAY
    assert verdict(State.IDLE, moment, fraction=0.5) is Verdict.GO


def test_session_state_stays_for_the_second_half() -> None:
    assert verdict(State.PINNED, HALF - 0.001) is Verdict.STAY
    assert verdict(State.PINNED, HALF) is Verdict.GO
    # They are spread over half of it, so that there is time for those who make no pause.
    assert verdict(State.PINNED, HALF + WINDOW / 8 - 0.001, fraction=0.5) is Verdict.STAY
    assert verdict(State.PINNED, HALF + WINDOW / 8, fraction=0.5) is Verdict.GO


@pytest.mark.parametrize("state", set(State) - AT_REST)
def test_nobody_is_disturbed_within_the_window(state: State) -> None:
    for now in (CLOSED, HALF, END - 0.001):
        assert verdict(state, now) is Verdict.STAY


@pytest.mark.parametrize("state", AT_REST)
def test_what_was_answered_must_have_been_taken(state: State) -> None:
    assert verdict(state, END - 0.001, unsent=1) is Verdict.STAY
    assert verdict(state, END - 0.001) is Verdict.GO


@pytest.mark.parametrize(("state", "due"), [(State.IDLE, CLOSED), (State.PINNED, HALF)])
def test_the_pause_that_is_waited_for_gets_shorter(state: State, due: float) -> None:
    for late, pause in (
        (0.0, QUIET),
        (WINDOW * SHORT_QUIET_AFTER - 0.001, QUIET),
        (WINDOW * SHORT_QUIET_AFTER, SHORT_QUIET),
        (WINDOW * ANY_AFTER - 0.001, SHORT_QUIET),
        (WINDOW * ANY_AFTER, 0.0),
    ):
        assert verdict(state, due + late, quiet=pause) is Verdict.GO
        if pause:
            assert verdict(state, due + late, quiet=pause - 0.001) is Verdict.STAY


@pytest.mark.parametrize(("state", "due"), [(State.IDLE, CLOSED), (State.PINNED, HALF)])
@pytest.mark.parametrize(("begins", "after"), [(True, REFUSE_AFTER), (False, ANY_AFTER)])
def test_who_makes_no_pause_is_refused_a_transaction_and_then_anything(
    state: State, due: float, begins: bool, after: float
) -> None:
    plan = schedule()
    departure = plan.departure(0.0, clients=1)
    moment = due + WINDOW * after
    assert not plan.refuses(departure, state, moment - 0.001, begins=begins)
    assert plan.refuses(departure, state, moment, begins=begins)
    for other in set(State) - AT_REST:
        assert not plan.refuses(departure, other, END, begins=begins)


def test_there_is_time_for_those_who_make_no_pause() -> None:
    last = schedule().departure(0.999, clients=100_000).due_pinned
    assert last + WINDOW * ANY_AFTER < END


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.IDLE, Verdict.GO),
        (State.PINNED, Verdict.GO),
        (State.TRANSACTION, Verdict.CUT),
        (State.ACTIVE, Verdict.CANCEL),
        (State.WAITING, Verdict.CUT),
        (State.LEAVING, Verdict.STAY),
    ],
)
def test_the_end_of_the_window(state: State, expected: Verdict) -> None:
    # However little time ago it asked something.
    for now in (END, END + CANCEL_WAIT - 0.001):
        assert verdict(state, now, quiet=0.0) is expected


def test_who_does_not_read_is_not_waited_for_at_the_end() -> None:
    for state in set(State) - {State.LEAVING}:
        assert verdict(state, END, unsent=1) is Verdict.CUT


def test_a_cancel_is_sent_once_and_waited_for() -> None:
    plan = schedule()
    departure = plan.departure(0.0, clients=1)

    def now_at(seconds: float) -> Verdict:
        return plan.verdict(departure, State.ACTIVE, END + seconds, quiet=0.0, unsent=0)

    assert now_at(0) is Verdict.CANCEL
    departure.cancelled = True
    assert now_at(0.1) is Verdict.STAY
    assert now_at(CANCEL_WAIT - 0.001) is Verdict.STAY
    assert now_at(CANCEL_WAIT) is Verdict.CUT


@pytest.mark.parametrize("state", set(State) - {State.LEAVING})
def test_all_patience_ends(state: State) -> None:
    assert verdict(state, END + CANCEL_WAIT, quiet=0.0) is Verdict.CUT


def test_few_clients_do_not_take_half_the_window() -> None:
    one = schedule().departure(0.999, clients=1)
    assert one.due - CLOSED < SPACING
    assert one.due_pinned - HALF < SPACING
    many = schedule().departure(0.999, clients=100_000)
    assert HALF - 0.1 < many.due < HALF
    assert HALF + WINDOW / 4 - 0.1 < many.due_pinned < HALF + WINDOW / 4


def test_a_latecomer_may_ask_something_first() -> None:
    plan = schedule()
    early = plan.latecomer(CLOSED + 1)
    assert early.due == CLOSED + 1 + QUIET
    assert early.due_pinned == HALF
    assert plan.latecomer(END - 1).due_pinned == END - 1 + QUIET


def test_log_ins_end_before_the_window_does() -> None:
    assert CLOSED < schedule().turns_away_at < HALF
    assert Schedule(START, accept=ACCEPT, window=0.5).turns_away_at == CLOSED + 0.5


def test_no_window_at_all() -> None:
    plan = Schedule(START, accept=0.0, window=0.0)
    departure = plan.departure(0.999, clients=1000)
    assert plan.verdict(departure, State.PINNED, START, quiet=9.0, unsent=0) is Verdict.GO
    assert plan.verdict(departure, State.ACTIVE, START, quiet=9.0, unsent=0) is Verdict.CANCEL


def test_a_client_is_stalled_that_takes_nothing_for_too_long() -> None:
    departure = schedule().departure(0.0, clients=1)
    assert not departure.is_stalled(500, START)
    assert not departure.is_stalled(500, START + STALLED - 0.001)
    assert departure.is_stalled(500, START + STALLED)


def test_any_byte_that_is_taken_is_a_sign_of_life() -> None:
    departure = schedule().departure(0.0, clients=1)
    assert not departure.is_stalled(500, START)
    assert not departure.is_stalled(499, START + STALLED)
    assert not departure.is_stalled(499, START + 2 * STALLED - 0.001)
    assert departure.is_stalled(499, START + 2 * STALLED)
    assert not departure.is_stalled(0, START + 3 * STALLED)
    assert not departure.is_stalled(0, START + 9 * STALLED)
