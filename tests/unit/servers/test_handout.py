"""Notifications themselves need clients: tests/integration/test_listening.py."""

from collections.abc import Callable

from pgproxy.servers.handout import AT_ONCE, HIGH_WATER, LOW_WATER, Asked, HandOut


class Stage:
    """A hand-out, and what has come of it, in order."""

    def __init__(self) -> None:
        self.told: list[Asked] = []
        self.later: list[Callable[[], None]] = []
        self.drained = 0
        self.hand_out = HandOut(
            self.told.append, self._drained, lambda _seconds, call: self.later.append(call)
        )

    def _drained(self) -> None:
        self.drained += 1

    def answer(self, count: int) -> list[Asked]:
        """So many queries that have been answered."""
        queries = [Asked(0, b"", 0, None) for _ in range(count)]
        for query in queries:
            self.hand_out.answer(query)
        return queries


def test_what_has_come_is_told_in_order_and_at_once() -> None:
    stage = Stage()
    queries = stage.answer(3)
    stage.hand_out.begin()
    assert stage.told == queries
    assert stage.later == []
    assert stage.drained == 1


def test_everybody_else_has_a_turn_in_between() -> None:
    stage = Stage()
    queries = stage.answer(2 * AT_ONCE + 1)
    stage.hand_out.begin()
    assert stage.told == queries[:AT_ONCE]
    stage.hand_out.begin()  # more has come from the server meanwhile
    stage.hand_out.begin_soon()
    assert stage.told == queries[:AT_ONCE]
    for total in (2 * AT_ONCE, 2 * AT_ONCE + 1):
        [go_on] = stage.later
        stage.later.clear()
        go_on()
        assert stage.told == queries[:total]
    assert stage.later == []


def test_it_can_be_told_later() -> None:
    stage = Stage()
    stage.hand_out.begin_soon()
    assert stage.later == []
    queries = stage.answer(1)
    stage.hand_out.begin_soon()
    assert stage.told == []
    [go_on] = stage.later
    go_on()
    assert stage.told == queries


def test_no_more_is_read_until_most_has_been_told() -> None:
    stage = Stage()
    stage.answer(HIGH_WATER)
    assert not stage.hand_out.is_full
    stage.answer(1)
    assert stage.hand_out.is_full
    stage.hand_out.begin()
    assert stage.drained == 0
    while stage.drained == 0:
        stage.later.pop()()
    assert HIGH_WATER + 1 - len(stage.told) < LOW_WATER
