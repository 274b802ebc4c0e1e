from pgproxy.errors import PgError
from pgproxy.servers.audience import Audience, Hearer, Wait, Waits

FOR_EVER = float("inf")


def test_who_listens_to_what() -> None:
    audience = Audience()
    one, other = Hearer("one"), Hearer("other")
    audience.join(one, [b"a", b"b", b"a"])
    audience.join(other, [b"b"])
    assert audience.of(b"a") == [one]
    assert audience.of(b"b") == [one, other]
    assert audience.of(b"c") is None
    assert audience.hearers == {one: {b"a", b"b"}, other: {b"b"}}


def test_a_channel_is_left_when_its_last_hearer_leaves_it() -> None:
    audience = Audience()
    one, other = Hearer("one"), Hearer("other")
    audience.join(one, [b"a", b"b"])
    audience.join(other, [b"b"])
    assert audience.keep(one, {b"b", b"c"}) == [b"a"]
    assert audience.keep(one, set()) == []
    assert set(audience.hearers) == {other}
    assert audience.keep(one, set()) == []
    assert audience.keep(other, set()) == [b"b"]
    assert not audience.hearers
    assert not audience.channels


def test_who_is_being_told_is_not_changed_by_who_comes_or_goes() -> None:
    audience = Audience()
    one, other = Hearer("one"), Hearer("other")
    audience.join(one, [b"a"])
    told = audience.of(b"a")
    audience.join(other, [b"a"])
    assert told == [one]
    now = audience.of(b"a")
    audience.keep(one, set())
    assert now == [one, other]
    assert audience.of(b"a") == [other]


class Told:
    """What somebody who waits has been told."""

    def __init__(self, waits: Waits, *channels: bytes, deadline: float = FOR_EVER) -> None:
        self.ends: list[PgError | None] = []
        self.hearer = Hearer("u")
        self.wait = Wait(self.hearer, set(channels), self.ends.append, deadline)
        waits.add(self.wait)


def test_who_waits_is_told_when_the_last_of_its_channels_is_listened_to() -> None:
    waits = Waits()
    both, one = Told(waits, b"a", b"b"), Told(waits, b"a")
    waits.told(b"a", None)
    assert (both.ends, one.ends) == ([], [None])
    waits.told(b"a", None)
    waits.told(b"b", None)
    assert (both.ends, one.ends) == ([None], [None])
    assert waits.take(FOR_EVER) == []


def test_an_error_for_one_channel_is_the_end_of_the_wait() -> None:
    waits = Waits()
    both = Told(waits, b"a", b"b")
    error = PgError("42501", "no")
    waits.told(b"b", error)
    waits.told(b"a", None)
    assert both.ends == [error]


def test_who_has_left_is_not_told() -> None:
    waits = Waits()
    left = Told(waits, b"a")
    waits.leave(left.hearer)
    waits.leave(left.hearer)
    waits.told(b"a", None)
    assert left.ends == []


def test_who_waits_anew_is_told_of_that_alone() -> None:
    waits = Waits()
    before = Told(waits, b"a")
    ends: list[PgError | None] = []
    waits.leave(before.hearer)
    waits.add(Wait(before.hearer, {b"b"}, ends.append, FOR_EVER))
    waits.told(b"a", None)
    assert (before.ends, ends) == ([], [])
    waits.told(b"b", None)
    assert ends == [None]


def test_those_whose_time_is_up_wait_no_more() -> None:
    waits = Waits()
    soon, later = Told(waits, b"a", deadline=1), Told(waits, b"a", deadline=2)
    assert waits.take(1) == [soon.wait]
    waits.told(b"a", None)
    assert (soon.ends, later.ends) == ([], [None])


def test_when_the_connection_is_lost_what_was_listened_to_is_missing_again() -> None:
    waits = Waits()
    both = Told(waits, b"a", b"b")
    waits.told(b"a", None)
    waits.begin_again()
    waits.told(b"b", None)
    assert both.ends == []
    waits.told(b"a", None)
    assert both.ends == [None]
