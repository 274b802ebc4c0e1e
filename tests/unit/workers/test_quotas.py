"""The supervisor's book: who may have how many. All together: tests/properties/test_quotas.py."""

import pytest

from pgproxy.workers.quotas import PROBE_GAP, TURN, Holding, Order, Quotas, shares

KEY = ("clients",)


def report(
    quotas: Quotas, worker: int, want: int, now: float = 0.0, **more: int
) -> list[tuple[int, str, int]]:
    word = {"cap": 10, "used": min(want, 10), "given": 0, "answers": 0} | more
    orders = quotas.report(worker, KEY, want=want, asks=int(not word["answers"]), now=now, **word)
    return [(order.worker, order.kind, order.number) for order in orders]


@pytest.mark.parametrize(
    ("cap", "wants", "found"),
    [
        (10, [3, 4], [3, 4]),
        (10, [3, 9], [3, 7]),
        (10, [9, 9], [5, 5]),
        (10, [1, 9, 9], [1, 5, 4]),
        (1, [0, 5], [0, 1]),
        (0, [2, 2], [0, 0]),
        (5, [], []),
    ],
)
def test_nobody_gets_more_while_somebody_who_has_less_wants_it(
    cap: int, wants: list[int], found: list[int]
) -> None:
    holdings = {number: Holding(want=want) for number, want in enumerate(wants)}
    assert list(shares(cap, holdings, 0.0).values()) == found


def test_who_has_the_odd_one_keeps_it() -> None:
    holdings = {1: Holding(held=1, want=9), 2: Holding(held=2, want=9)}
    assert shares(3, holdings, 100.0) == {1: 1, 2: 2}


def test_where_there_is_not_one_for_each_they_take_turns() -> None:
    holdings = {1: Holding(held=1, want=9, turn_since=50.0), 2: Holding(want=9)}
    assert shares(1, holdings, 50.0 + TURN / 2) == {1: 1, 2: 0}
    assert shares(1, holdings, 50.0 + 2 * TURN) == {1: 0, 2: 1}


def test_what_is_free_is_granted_at_once() -> None:
    quotas = Quotas()
    assert report(quotas, 1, 4) == [(1, "grant", 4)]
    assert report(quotas, 2, 6) == [(2, "grant", 6)]
    assert quotas.held(KEY) == {1: 4, 2: 6}
    assert not quotas.is_contested


def test_who_holds_more_than_others_is_recalled_and_what_he_gives_goes_on() -> None:
    quotas = Quotas()
    report(quotas, 1, 10)
    assert report(quotas, 2, 8) == [(1, "recall", 5)]
    assert quotas.is_contested
    assert quotas.held(KEY) == {1: 10, 2: 0}  # until he has given it back
    orders = report(quotas, 1, 10, given=3, answers=1)
    assert orders == [(2, "grant", 3), (1, "probe", 0), (2, "probe", 0)]
    assert quotas.held(KEY) == {1: 7, 2: 3}


def test_what_nobody_needs_any_more_is_let_be() -> None:
    quotas = Quotas()
    report(quotas, 1, 10)
    report(quotas, 2, 1)
    assert report(quotas, 2, 0, answers=0) == [(1, "lift", 0)]


def test_who_can_have_none_is_told_when_all_have_been_asked() -> None:
    quotas = Quotas()
    report(quotas, 1, 5)
    report(quotas, 2, 5)
    assert report(quotas, 1, 6, now=1.0) == [(1, "probe", 0), (2, "probe", 0)]
    assert report(quotas, 1, 6, now=1.0, answers=1) == []
    assert report(quotas, 2, 5, now=1.0, answers=1) == [(1, "dry", 1)]
    assert quotas.tick(2.0) == []  # it has been told
    assert report(quotas, 1, 7, now=2.0 + PROBE_GAP)[0][1] == "probe"


def test_a_cap_that_has_become_smaller_is_taken_from_those_who_hold_it() -> None:
    quotas = Quotas()
    report(quotas, 1, 10)
    assert report(quotas, 1, 10, cap=4) == [(1, "recall", 4)]


def test_the_rest_of_one_who_has_ended_is_free() -> None:
    quotas = Quotas()
    report(quotas, 1, 10)
    report(quotas, 2, 3)
    assert quotas.leave(1, 1.0) == [Order(2, KEY, "grant", 3)]
    assert quotas.held(KEY) == {2: 3}
    assert quotas.leave(2, 1.0) == []
    assert quotas.held(KEY) == {}
