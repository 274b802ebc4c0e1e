"""A limit and what it counts."""

from pgproxy.servers.limits import Limit


def test_there_is_room_below_the_cap() -> None:
    limit = Limit(("limits", "some"), 2)
    limit.used = 1
    assert limit.has_room
    limit.used = 2
    assert not limit.has_room
    limit.cap = 3
    assert limit.has_room
    limit.used = 4  # the cap was lowered meanwhile, perhaps
    assert not limit.has_room
    assert repr(limit) == "<Limit limits.some 4/3>"


def test_without_a_cap_there_is_always_room() -> None:
    limit = Limit(("limits", "some"), 0)
    limit.used = 1_000_000
    assert limit.has_room


def test_a_part_is_never_more_than_the_whole() -> None:
    limit = Limit(("a",), 5)
    limit.hold(2)
    assert (limit.cap, limit.whole) == (2, 5)
    limit.hold(9)
    assert limit.cap == 5
    limit.hold(0)
    assert not limit.has_room
