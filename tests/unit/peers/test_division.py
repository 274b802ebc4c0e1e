"""Parts of what a server takes, of several proxies: by themselves, and as they come and go."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.peers.division import Division, part
from pgproxy.peers.word import Word

DELAY = 3.0


def division(cap: int = 12, beside: int = 4) -> Division:
    return Division("b", beside, cap, DELAY)


def others(**held: int) -> dict[str, Word | None]:
    return {name: Word(name, 0, 4, {"s": count}) for name, count in held.items()}


def share(one: Division, now: float, room: int = 0, **held: int) -> int:
    return one.look({"s": room}, others(**held), now)["s"]


@given(st.integers(1, 1000), st.sets(st.text(min_size=1), min_size=1, max_size=30))
def test_the_parts_are_the_whole(budget: int, names: set[str]) -> None:
    parts = [part(budget, names, name) for name in sorted(names)]
    assert sum(parts) == max(budget, len(names))
    assert max(parts) - min(parts) <= 1
    assert parts == sorted(parts, reverse=True)


def test_at_the_beginning_there_is_one_until_the_others_are_known_for_a_while() -> None:
    one = division()
    assert share(one, 10.0) == 1
    assert not one.is_settled
    assert share(one, 12.9) == 1
    assert share(one, 13.0) == 12
    assert one.is_settled


def test_a_part_shrinks_at_once_and_grows_later() -> None:
    one = division()
    share(one, 0.0)
    assert share(one, 3.0) == 12
    assert share(one, 4.0, a=1) == 6
    assert share(one, 5.0, a=1, c=1) == 4
    assert share(one, 6.0, a=4) == 4  # one has gone
    assert share(one, 8.9, a=4) == 4
    assert share(one, 9.0, a=4) == 6


def test_it_grows_to_no_more_than_the_others_have_left() -> None:
    one = division()
    share(one, 0.0, a=12)
    assert share(one, 3.0, a=12) == 1
    assert share(one, 3.1, a=9) == 3
    assert share(one, 3.2, a=11) == 3  # and what it has it keeps
    assert share(one, 3.3, a=6) == 6
    assert share(one, 3.4, a=0) == 6


def test_who_never_said_anything_holds_its_part() -> None:
    one = division()
    found: Mapping[str, Word | None] = {"10.0.0.1:9930": None, "c": Word("c", 0, 4, {"s": 4})}
    one.look({"s": 0}, found, 0.0)
    assert one.look({"s": 0}, found, 3.0) == {"s": 4}


def test_another_process_in_the_place_of_one_is_another_one() -> None:
    one = division()
    share(one, 0.0, a=6)
    assert share(one, 3.0, a=6) == 6
    assert share(one, 4.0, c=1) == 6
    assert one.proxies == 2


@pytest.mark.parametrize(
    ("cap", "room", "budget"),
    [
        (0, 100, 92),  # both have four beside their pools
        (50, 100, 50),
        (95, 100, 92),
        (50, 0, 50),  # not known yet
        (0, 5, 1),
    ],
)
def test_what_there_is_to_divide(cap: int, room: int, budget: int) -> None:
    one = division(cap)
    share(one, 0.0, room, a=0)
    assert one.budgets == {"s": budget}
    assert share(one, 3.0, room, a=0) == max(budget // 2, 1)


def test_while_nothing_is_known_there_is_one() -> None:
    one = division(cap=0)
    share(one, 0.0)
    assert share(one, 3.0) == 1
    assert share(one, 4.0, room=24) == 20


def test_everybody_has_one_if_there_are_too_few() -> None:
    one = division(cap=2)
    found = {"a": 1, "c": 1, "d": 1}
    share(one, 0.0, **found)
    assert share(one, 3.0, **found) == 1
    assert (one.budgets["s"], one.proxies) == (2, 4)
