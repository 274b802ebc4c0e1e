from random import Random

import pytest

from pgproxy.servers.backend import Backend
from pgproxy.servers.balance import NONE, Balancer
from pgproxy.servers.shares import Shares

WAYS = ("least-loaded", "round-robin", "weighted-random", "sticky")


def backends(*loads: int, weights: tuple[float, ...] = ()) -> list[Backend]:
    made = []
    for number, load in enumerate(loads):
        backend = Backend(f"r{number}", "localhost", 5432, weights[number] if weights else 1.0)
        backend.load = load
        made.append(backend)
    Shares().follow(made, 0.0)
    return made


def balancer(way: str = "least-loaded") -> Balancer:
    return Balancer(way, Random(1).random)


def choices(way: str, among: list[Backend], count: int) -> list[int]:
    chooser = balancer(way)
    return [int(chooser.choose(among, 0.0, None)) for _ in range(count)]


@pytest.mark.parametrize("way", WAYS)
def test_nobody_is_chosen_from_nobody(way: str) -> None:
    assert balancer(way).choose([], 0.0, None) == NONE


def test_the_least_loaded_is_chosen_whoever_has_the_turn() -> None:
    assert choices("least-loaded", backends(3, 1, 2), 5) == [1] * 5


@pytest.mark.parametrize("way", ["least-loaded", "round-robin", "sticky"])
def test_equals_take_turns(way: str) -> None:
    assert choices(way, backends(1, 1, 1), 6) == [2, 1, 0, 2, 1, 0]


def test_a_heavier_one_takes_more() -> None:
    both = backends(0, 0, weights=(1.0, 3.0))
    chooser = balancer()
    for _ in range(40):
        both[int(chooser.choose(both, 0.0, None))].load += 1
    assert [int(backend.load) for backend in both] == [10, 30]


@pytest.mark.parametrize("way", ["least-loaded", "round-robin"])
def test_a_heavier_one_takes_more_while_nothing_is_in_flight(way: str) -> None:
    chosen = choices(way, backends(0, 0, weights=(3.0, 1.0)), 8)
    assert (chosen[:4].count(0), chosen[4:].count(0)) == (3, 3)


def test_round_robin_does_not_look_at_the_load() -> None:
    assert choices("round-robin", backends(50, 0), 4) == [1, 0, 1, 0]


def test_lots_are_as_large_as_weights() -> None:
    numbers = iter([0.0, 0.2499, 0.25, 0.9999])
    both = backends(9, 0, weights=(1.0, 3.0))
    chooser = Balancer("weighted-random", lambda: next(numbers))
    assert [chooser.choose(both, 0.0, None) for _ in range(4)] == [0, 0, 1, 1]


def test_a_lot_too_many_is_the_last_ones() -> None:
    both = backends(0, 0)
    assert Balancer("weighted-random", lambda: 1.0).choose(both, 0.0, None) == 1


@pytest.mark.parametrize("way", WAYS)
def test_weight_zero_is_the_last_resort(way: str) -> None:
    both = backends(0, 50, weights=(0.0, 1.0))
    assert choices(way, both, 5) == [1] * 5
    assert choices(way, both[:1], 5) == [0] * 5


@pytest.mark.parametrize("way", WAYS)
def test_only_who_shows_the_last_write_is_chosen(way: str) -> None:
    three = backends(0, 5, 9)
    for backend, seen in zip(three, (10.0, 20.0, 30.0), strict=True):
        backend.fresh_as_of = seen
    chooser = balancer(way)
    assert {int(chooser.choose(three, 10.1, three[0])) for _ in range(50)} <= {1, 2}
    assert [chooser.choose(three, 30.0, three[0]) for _ in range(5)] == [2] * 5
    assert chooser.choose(three, 31.0, three[0]) == NONE


def test_a_session_stays_where_it_is() -> None:
    three = backends(0, 0, 7)
    chooser = balancer("sticky")
    assert [chooser.choose(three, 0.0, three[2]) for _ in range(5)] == [2] * 5
    assert chooser.choose(three[:2], 0.0, three[2]) == 1  # it serves no more


def test_a_session_leaves_for_a_better_rank() -> None:
    both = backends(0, 0, weights=(0.0, 1.0))
    assert balancer("sticky").choose(both, 0.0, both[0]) == 1


def limited(*loads: int, full: tuple[int, ...], caps: tuple[int, ...]) -> list[Backend]:
    """With as many in flight on the `full` ones as there may be."""
    made = backends(*loads)
    for number, backend in enumerate(made):
        backend.running.cap = caps[number]
        backend.running.used = caps[number] if number in full else 0
    return made


@pytest.mark.parametrize("way", WAYS)
def test_one_that_has_reached_its_limit_gets_nothing_while_others_have_not(way: str) -> None:
    among = limited(0, 5, 9, full=(0,), caps=(1, 9, 10))
    chooser = Balancer(way, Random(1).random, has_limits=True)
    chosen = [int(chooser.choose(among, 0.0, among[0])) for _ in range(20)]
    assert 0 not in chosen
    if way in ("round-robin", "weighted-random"):
        assert {1, 2} == set(chosen)
    else:
        assert {1} == set(chosen)


@pytest.mark.parametrize("way", WAYS)
def test_if_all_have_one_is_chosen_all_the_same(way: str) -> None:
    among = limited(9, 9, 9, full=(0, 1, 2), caps=(2, 8, 2))
    chooser = Balancer(way, Random(1).random, has_limits=True)
    chosen = {int(chooser.choose(among, 0.0, None)) for _ in range(20)}
    # Where four times as many run, a queue as long is a fourth of the wait.
    assert chosen == ({0, 1, 2} if way in ("round-robin", "weighted-random") else {1})


def test_queues_are_as_long_as_each_server_is_fast() -> None:
    among = limited(2, 8, full=(0, 1), caps=(2, 8))
    chooser = Balancer("least-loaded", Random(1).random, has_limits=True)
    for _ in range(100):
        among[chooser.choose(among, 0.0, None)].load += 1
    assert abs(among[1].load - 4 * among[0].load) <= 4


def test_a_session_stays_on_its_replica_if_all_are_full() -> None:
    among = limited(2, 2, full=(0, 1), caps=(2, 8))
    chooser = Balancer("sticky", Random(1).random, has_limits=True)
    assert chooser.choose(among, 0.0, among[0]) == 0
