from pgproxy.servers.balance import NONE, least_loaded
from pgproxy.servers.connection import Backend


def backends(*loads: int, weights: tuple[float, ...] = ()) -> list[Backend]:
    made = []
    for number, load in enumerate(loads):
        backend = Backend(f"r{number}", "localhost", 5432, weights[number] if weights else 1.0)
        backend.load = load
        made.append(backend)
    return made


def test_nobody_is_chosen_from_nobody() -> None:
    assert least_loaded([], 1, 0.0) == NONE


def test_the_least_loaded_is_chosen_whoever_has_the_turn() -> None:
    for turn in range(5):
        assert least_loaded(backends(3, 1, 2), turn, 0.0) == 1


def test_equals_take_turns() -> None:
    assert [least_loaded(backends(1, 1, 1), turn, 0.0) for turn in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_heavier_one_takes_more() -> None:
    chosen = [0, 0]
    both = backends(0, 0, weights=(1.0, 3.0))
    for turn in range(40):
        index = int(least_loaded(both, turn, 0.0))
        both[index].load += 1
        chosen[index] += 1
    assert chosen == [10, 30]


def test_weight_zero_is_the_last_resort() -> None:
    both = backends(0, 50, weights=(0.0, 1.0))
    assert least_loaded(both, 0, 0.0) == 1
    assert least_loaded(both[:1], 0, 0.0) == 0


def test_only_who_shows_the_last_write_is_chosen() -> None:
    three = backends(0, 5, 9)
    for backend, seen in zip(three, (10.0, 20.0, 30.0), strict=True):
        backend.fresh_as_of = seen
    assert least_loaded(three, 0, 10.0) == 0
    assert least_loaded(three, 0, 10.1) == 1
    assert least_loaded(three, 0, 30.0) == 2
    assert least_loaded(three, 0, 31.0) == NONE
