import pytest

from pgproxy.servers.backend import Backend
from pgproxy.servers.shares import (
    FAR,
    LONG_LAG,
    SLOWEST,
    SMALLEST_SHARE,
    SPARE,
    Shares,
    relative,
)

NOW = 1000.0


def backend(name: str, *, weight: float = 1.0, zone: str = "", fresh_as_of: float = NOW) -> Backend:
    made = Backend(name, "localhost", 5432, weight)
    made.zone = zone
    made.fresh_as_of = fresh_as_of
    return made


def ranks(*backends: Backend) -> list[int]:
    return [int(each.rank) for each in backends]


def test_nobody_is_weighed() -> None:
    Shares().follow([], NOW)


def test_weights_are_costs_and_dues() -> None:
    light, heavy, spare = backend("a"), backend("b", weight=4.0), backend("c", weight=0.0)
    Shares().follow([light, heavy, spare], NOW)
    assert [each.share for each in (light, heavy, spare)] == [1.0, 1.0, 1.0]
    assert [each.cost for each in (light, heavy, spare)] == [1.0, 0.25, 1.0]
    assert [each.due for each in (light, heavy, spare)] == [0.25, 1.0, 0.25]
    assert ranks(light, heavy, spare) == [FAR, FAR, SPARE + FAR]


# --- warm-up


def test_who_is_new_begins_small_and_grows() -> None:
    shares = Shares(warm_up=10.0)
    old, new = backend("old", fresh_as_of=NOW + 100), backend("new", fresh_as_of=NOW + 100)
    shares.follow([old], NOW)
    shares.follow([old, new], NOW + 50)
    seen = []
    for seconds in (0.0, 0.1, 2.5, 5.0, 10.0, 11.0):
        shares.weigh(NOW + 50 + seconds)
        assert old.share == 1.0
        seen.append(new.share)
    assert seen == [SMALLEST_SHARE, SMALLEST_SHARE, 0.25, 0.5, 1.0, 1.0]


def test_if_all_are_new_all_are_equal() -> None:
    shares = Shares(warm_up=10.0)
    first, second = backend("a", fresh_as_of=NOW + 100), backend("b", fresh_as_of=NOW + 100)
    shares.follow([first, second], NOW)
    assert (first.share, second.share) == (1.0, 1.0)
    shares.follow([], NOW + 20)
    shares.follow([first], NOW + 30.0)  # one a moment before the other
    shares.follow([first, second], NOW + 30.25)
    assert (first.share, second.share) == (1.0, 1.0)
    shares.weigh(NOW + 35)
    assert second.share == pytest.approx(0.95)


def test_without_warm_up_who_is_new_is_like_the_others() -> None:
    shares = Shares()
    old, new = backend("old"), backend("new")
    shares.follow([old], NOW - 50)
    shares.follow([old, new], NOW)
    assert new.share == 1.0


def test_who_comes_back_is_new_and_measured_anew() -> None:
    shares = Shares(warm_up=10.0)
    stays, comes = backend("a", fresh_as_of=NOW + 100), backend("b", fresh_as_of=NOW + 100)
    shares.follow([stays, comes], NOW)
    comes.latency, comes.credit = 0.5, -1.0
    shares.follow([stays], NOW + 20)
    shares.follow([stays, comes], NOW + 40)
    assert (comes.share, comes.latency, comes.credit) == (SMALLEST_SHARE, 0.0, 0.0)


def test_who_serves_no_reads_any_more_has_no_share_to_tell() -> None:
    shares = Shares(warm_up=10.0)
    stays, goes = backend("a"), backend("b")
    shares.follow([stays], NOW)
    shares.follow([stays, goes], NOW + 20)
    assert goes.share < 1.0
    shares.follow([stays], NOW + 21)
    assert goes.share == 1.0


# --- lag


def test_who_lags_sheds_load() -> None:
    shares = Shares(interval=1.0, max_staleness=20.0)
    good, late = backend("good"), backend("late")
    shares.follow([good, late], NOW)
    seen = []
    for lag in (0.0, 3.0, 8.0, 13.0, 23.0, 100.0):
        late.fresh_as_of = NOW - lag
        shares.weigh(NOW)
        assert good.share == 1.0
        seen.append(late.share)
    assert seen == [1.0, 1.0, 0.75, 0.5, SMALLEST_SHARE, SMALLEST_SHARE]


def test_without_max_staleness_there_is_a_limit_too() -> None:
    shares = Shares(interval=1.0)
    good, late = backend("good"), backend("late", fresh_as_of=NOW - 3 - LONG_LAG / 2)
    shares.follow([good, late], NOW)
    assert late.share == 0.5


def test_if_nobody_is_known_to_be_fresh_all_are_equal() -> None:
    first, second = backend("a", fresh_as_of=0.0), backend("b", fresh_as_of=0.0)
    Shares().follow([first, second], NOW)
    assert (first.share, second.share) == (1.0, 1.0)


def test_if_all_seem_to_lag_warm_up_goes_on() -> None:
    """The primary is away, and nobody can be seen to be fresh."""
    shares = Shares(warm_up=10.0)
    old, new = backend("old", fresh_as_of=0.0), backend("new", fresh_as_of=0.0)
    shares.follow([old], NOW)
    shares.follow([old, new], NOW + 100)
    assert (old.share, new.share) == (1.0, SMALLEST_SHARE)
    shares.weigh(NOW + 105)
    assert (old.share, new.share) == (1.0, 0.5)


def test_the_primary_never_lags() -> None:
    primary, replica = backend("p", fresh_as_of=float("inf")), backend("r", fresh_as_of=0.0)
    Shares().follow([primary, replica], NOW)
    assert (primary.share, replica.share) == (1.0, SMALLEST_SHARE)


def test_late_and_new_is_never_nothing() -> None:
    shares = Shares(warm_up=10.0)
    good, bad = backend("good"), backend("bad", fresh_as_of=0.0)
    shares.follow([good], NOW - 100)
    shares.follow([good, bad], NOW)
    assert bad.share == SMALLEST_SHARE


# --- speed


def test_the_slow_one_is_due_less() -> None:
    shares = Shares()
    fast, slow, unknown, dead_slow = (backend(name) for name in "abcd")
    shares.follow([fast, slow, unknown, dead_slow], NOW)
    fast.latency, slow.latency, dead_slow.latency = 0.001, 0.004, 10.0
    shares.weigh(NOW)
    assert [each.due for each in (fast, slow, unknown, dead_slow)] == [1.0, 0.25, 1.0, SLOWEST]
    assert [each.cost for each in (fast, slow, unknown, dead_slow)] == [1.0] * 4


def test_speed_may_not_matter() -> None:
    shares = Shares(by_speed=False)
    fast, slow = backend("a"), backend("b")
    shares.follow([fast, slow], NOW)
    fast.latency, slow.latency = 0.001, 1.0
    shares.weigh(NOW)
    assert (fast.due, slow.due) == (1.0, 1.0)


# --- zones


def test_the_own_zone_comes_first_and_weight_zero_last() -> None:
    near, far = backend("near", zone="z1"), backend("far", zone="z2")
    spare_near = backend("spare near", weight=0.0, zone="z1")
    spare_far = backend("spare far", weight=0.0)
    Shares(zone="z1").follow([far, spare_near, near, spare_far], NOW)
    assert ranks(near, far, spare_near, spare_far) == [0, FAR, SPARE, SPARE + FAR]


def test_without_a_zone_there_is_no_difference() -> None:
    one, other = backend("a", zone="z1"), backend("b")
    Shares().follow([one, other], NOW)
    assert ranks(one, other) == [FAR, FAR]


def test_one_of_no_zone_is_not_of_the_proxys_own() -> None:
    near, nowhere = backend("near", zone="z1"), backend("nowhere")
    Shares(zone="z1").follow([near, nowhere], NOW)
    assert ranks(near, nowhere) == [0, FAR]


def test_the_only_one_of_the_own_zone_is_warmed_up_with_the_others_help() -> None:
    shares = Shares(zone="z1", warm_up=10.0)
    near, far = backend("near", zone="z1"), backend("far", zone="z2")
    shares.follow([far], NOW)
    shares.follow([far, near], NOW + 50)
    assert ranks(near, far) == [FAR, FAR]
    assert near.share < far.share
    shares.weigh(NOW + 54.9)
    assert ranks(near, far) == [FAR, FAR]
    shares.weigh(NOW + 55)
    assert ranks(near, far) == [0, FAR]


def test_a_new_one_beside_a_warm_one_of_its_zone_needs_no_other_zones() -> None:
    shares = Shares(zone="z1", warm_up=10.0)
    warm, new = backend("warm", zone="z1"), backend("new", zone="z1")
    far = backend("far", zone="z2")
    shares.follow([warm, far], NOW)
    shares.follow([warm, new, far], NOW + 50)
    assert ranks(warm, new, far) == [0, 0, FAR]


def test_relative_to_the_largest() -> None:
    assert relative([2.0, 4.0, 1.0]) == [0.5, 1.0, 0.25]


# --- room


def test_who_has_less_room_gets_less_and_its_slowness_counts_once() -> None:
    slow, quick = backend("slow"), backend("quick")
    slow.room = 0.03
    slow.latency, quick.latency = 0.010, 0.001
    shares = Shares()
    shares.readers = [slow, quick]
    shares.weigh(NOW)
    assert (slow.share, quick.share) == (0.03, 1.0)
    assert (slow.due, quick.due) == (0.03, 1.0)
    slow.room = 1.0
    shares.weigh(NOW)
    assert (slow.share, slow.due) == (1.0, SLOWEST)
