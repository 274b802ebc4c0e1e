"""A worker's part of the caps. All together: tests/properties/test_quotas.py."""

from typing import Any

import pytest

from pgproxy.workers.claims import Claims

KEY = ("pool", "primary", "shop", "alice")


class Source:
    def __init__(self, *, is_impatient: bool = False) -> None:
        self.key = KEY
        self.cap = 10
        self.is_impatient = is_impatient
        self.uses = 0
        self.wants = 0
        self.limit = 0
        self.dried = 0

    def used(self) -> int:
        return self.uses

    def want(self) -> int:
        return self.wants

    def resize(self, number: int) -> None:
        self.limit = number

    def dry(self) -> None:
        self.dried += 1


class Stage:
    def __init__(self, **options: bool) -> None:
        self.sent: list[dict[str, Any]] = []
        self.source = Source(**options)
        self.claims = Claims(self.sent.append)
        self.claims.add(self.source)

    def look(self, *, uses: int, wants: int) -> list[dict[str, Any]]:
        self.source.uses, self.source.wants = uses, wants
        self.claims.look(self.source)
        return self.said()

    def order(self, kind: str, number: int = 0) -> list[dict[str, Any]]:
        self.claims.order(KEY, kind, number)
        return self.said()

    def said(self) -> list[dict[str, Any]]:
        said, self.sent[:] = self.sent[:], []
        return said


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_it_asks_for_what_it_has_no_room_for_and_once(stage: Stage) -> None:
    [word] = stage.look(uses=0, wants=3)
    assert (word["want"], word["used"], word["given"], word["asks"]) == (3, 0, 0, 1)
    assert stage.look(uses=0, wants=3) == []
    assert stage.order("grant", 3) == []
    assert stage.source.limit == 3
    assert stage.claims.held() == {KEY: 3}
    assert stage.look(uses=3, wants=3) == []
    assert stage.look(uses=3, wants=4)[0]["want"] == 4


def test_what_is_recalled_is_given_back_as_it_becomes_unused(stage: Stage) -> None:
    stage.look(uses=0, wants=5)
    stage.order("grant", 5)
    stage.look(uses=4, wants=5)
    [word] = stage.order("recall", 2)
    assert (word["given"], word["answers"]) == (1, 1)
    assert stage.source.limit == 2  # no new ones, although four are there
    assert stage.claims.owes
    [word] = stage.look(uses=3, wants=3)
    assert (word["given"], word["answers"]) == (1, 0)
    stage.source.uses = stage.source.wants = 1
    stage.claims.pay()
    assert stage.said()[0]["given"] == 1
    assert not stage.claims.owes
    assert stage.claims.held() == {KEY: 2}


def test_what_is_not_needed_after_all_may_be_used_again(stage: Stage) -> None:
    stage.look(uses=0, wants=5)
    stage.order("grant", 5)
    stage.look(uses=5, wants=5)
    stage.order("recall", 2)
    stage.order("lift")
    assert stage.source.limit == 5
    assert not stage.claims.owes


def test_what_was_not_used_for_a_while_is_given_back(stage: Stage) -> None:
    stage.look(uses=0, wants=5)
    stage.order("grant", 5)
    stage.look(uses=5, wants=5)
    stage.claims.tick()
    stage.look(uses=2, wants=1)
    stage.claims.tick()
    assert stage.said() == []  # there were five in this second
    stage.claims.tick()
    [word] = stage.said()
    assert (word["given"], word["want"]) == (3, 1)
    stage.look(uses=0, wants=0)
    stage.claims.tick()
    stage.claims.tick()
    assert stage.claims.held() == {}


def test_one_who_waits_impatiently_is_told_of_each_time() -> None:
    stage = Stage(is_impatient=True)
    assert stage.look(uses=0, wants=1)[0]["asks"]
    stage.look(uses=0, wants=0)
    assert stage.look(uses=0, wants=1)[0]["asks"] == 2
    stage.order("dry", 1)  # an answer to one who has left
    assert stage.source.dried == 0
    stage.order("dry", 2)
    assert stage.source.dried == 1


def test_a_question_is_answered_with_what_is_wanted_by_now(stage: Stage) -> None:
    stage.look(uses=0, wants=5)
    stage.order("grant", 5)
    stage.look(uses=1, wants=1)
    [word] = stage.order("probe")
    assert (word["want"], word["given"], word["answers"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("kind", "given", "answers"),
    [("grant", 4, 0), ("recall", 0, 1), ("probe", 0, 1)],
)
def test_what_comes_for_one_that_has_ended_is_sent_back(
    stage: Stage, kind: str, given: int, answers: int
) -> None:
    stage.claims.tick()
    [word] = stage.order(kind, 4)
    assert (word["cap"], word["given"], word["answers"]) == (0, given, answers)
    assert stage.order("dry") == []
