"""Whatever the servers are like: who gets reads may get them, and gets its part of them.

The simulations have no clock and no chance: clients that each wait for their answer and then read
again, against servers that take so long for a read.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pgproxy.servers.backend import Backend
from pgproxy.servers.balance import NONE, Balancer
from pgproxy.servers.shares import SMALLEST_SHARE, Shares

WAYS: Final = ("least-loaded", "round-robin", "weighted-random", "sticky")
ways = st.sampled_from(WAYS)
weights = st.integers(0, 1000) | st.integers(0, 3)
moments = st.sampled_from([0.0, 1.0, 50.0, 99.0, 100.0, float("inf")]) | st.floats(0, 100)


@st.composite
def servers(draw: st.DrawFn) -> list[Backend]:
    made = []
    for number in range(draw(st.integers(1, 6))):
        backend = Backend(f"r{number}", "localhost", 5432, float(draw(weights)))
        backend.zone = draw(st.sampled_from(["", "z1", "z2"]))
        backend.fresh_as_of = draw(moments)
        backend.load = draw(st.integers(0, 5) | st.integers(0, 100_000))
        made.append(backend)
    return made


@dataclass
class Situation:
    """Servers that have served reads for a while, weighed."""

    backends: list[Backend]
    shares: Shares
    now: float


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    backends = draw(servers())
    shares = Shares(
        zone=draw(st.sampled_from(["", "z1", "z3"])),
        warm_up=draw(st.sampled_from([0.0, 1e-6, 10.0, 1e9])),
        interval=draw(st.sampled_from([0.05, 1.0, 60.0])),
        max_staleness=draw(st.sampled_from([0.0, 0.05, 10.0])),
        by_speed=draw(st.booleans()),
    )
    now = 0.0
    for _ in range(draw(st.integers(1, 4))):
        some = [backend for backend in backends if draw(st.booleans())]
        shares.follow(some, now)
        now += draw(st.sampled_from([0.0, 1e-9, 3.0, 1e6]))
        for backend in backends:
            backend.latency = draw(st.sampled_from([0.0, 1e-9, 0.001, 0.01, 1e6]))
    shares.follow(backends, now)
    for backend in backends:
        backend.latency = draw(st.sampled_from([0.0, 1e-9, 0.001, 0.01, 1e6]))
        backend.credit = draw(st.floats(-6, 6))
    now += draw(st.sampled_from([0.0, 3.0, 1e6]))
    shares.weigh(now)
    return Situation(backends, shares, now)


def fresh(backends: list[Backend], after: float) -> list[Backend]:
    return [backend for backend in backends if backend.fresh_as_of >= after]


@given(situations())
def test_nobodys_part_is_nothing(situation: Situation) -> None:
    backends = situation.backends
    for backend in backends:
        assert SMALLEST_SHARE <= backend.share <= 1
        assert 0 < backend.due <= 1
        assert 0 < backend.cost <= 1 / SMALLEST_SHARE
    assert max(backend.share for backend in backends) == 1
    assert max(backend.due for backend in backends) == 1


@given(ways, situations(), moments, st.integers(0, 2**32), st.integers(0, 5))
def test_who_is_chosen_may_be(
    way: str, situation: Situation, after: float, seed: int, favourite: int
) -> None:
    backends = situation.backends
    candidates = fresh(backends, after)
    mine = backends[favourite] if favourite < len(backends) else None
    balancer = Balancer(way, Random(seed).random)
    for _ in range(20):
        index = int(balancer.choose(backends, after, mine if balancer.is_sticky else None))
        if not candidates:
            assert index == NONE
            continue
        chosen = backends[index]
        assert chosen in candidates
        assert chosen.weight > 0 or all(each.weight == 0 for each in candidates)
        assert chosen.rank == min(each.rank for each in candidates)
        if balancer.is_sticky and mine in candidates and mine.rank == chosen.rank:
            assert chosen is mine
        mine = chosen


@given(ways, situations(), moments, st.integers(0, 5))
def test_the_own_zone_comes_first(
    way: str, situation: Situation, after: float, number: int
) -> None:
    shares, backends = situation.shares, situation.backends
    one = backends[number % len(backends)]
    one.zone = shares.zone = "z1"
    one.weight = max(1.0, one.weight)
    one.fresh_as_of = max(after, one.fresh_as_of)
    shares.weigh(situation.now + 1e10)  # all are warm
    near = [each for each in fresh(backends, after) if each.zone == "z1" and each.weight > 0]
    balancer = Balancer(way, Random(1).random)
    for _ in range(10):
        assert backends[int(balancer.choose(backends, after, None))] in near


@given(st.sampled_from(["least-loaded", "round-robin"]), situations(), moments)
def test_nobody_starves(way: str, situation: Situation, after: float) -> None:
    """While nothing is in flight everybody of the best rank has a turn, after so many as it is due."""
    backends = situation.backends
    candidates = fresh(backends, after)
    assume(candidates)
    best = [each for each in candidates if each.rank == min(one.rank for one in candidates)]
    for backend in backends:
        backend.load = 0
    turns = int((sum(each.due for each in best) + 20) / min(each.due for each in best)) + 1
    assume(turns < 20_000)
    balancer = Balancer(way, Random(1).random)
    chosen = {int(balancer.choose(backends, after, None)) for _ in range(turns)}
    assert chosen == {backends.index(each) for each in best}


@given(ways, st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 2**32))
def test_parts_follow_weights(way: str, wanted: list[int], seed: int) -> None:
    backends = [
        Backend(f"r{number}", "localhost", 5432, float(weight))
        for number, weight in enumerate(wanted)
    ]
    Shares().follow(backends, 0.0)
    balancer = Balancer(way, Random(seed).random)
    count = 4000
    chosen = Counter(int(balancer.choose(backends, 0.0, None)) for _ in range(count))
    for number, weight in enumerate(wanted):
        expected = count * weight / sum(wanted)
        # Turns are exact but for the last round; lots are off by six standard deviations at most.
        tolerance = 6 * expected**0.5 if way == "weighted-random" else len(wanted)
        assert abs(chosen[number] - expected) <= tolerance


# --- simulations


@dataclass
class Simulation:
    """`clients` that read one after another. `seconds` has what each server takes for a read."""

    balancer: Balancer
    shares: Shares
    backends: list[Backend]
    seconds: dict[str, float]
    clients: int
    at: float = 0.0

    def __post_init__(self) -> None:
        self.under_way: list[tuple[float, int, Backend, float]] = []
        self.number = 0
        self.weighed_at = self.at
        for _ in range(self.clients):
            self.read()

    def read(self) -> str:
        backends = self.shares.readers
        chosen = backends[int(self.balancer.choose(backends, 0.0, None))]
        chosen.load += 1
        seconds = self.seconds[chosen.name]
        self.number += 1
        heapq.heappush(self.under_way, (self.at + seconds, self.number, chosen, seconds))
        return chosen.name

    def run(self, seconds: float) -> Counter[str]:
        """So much later: how many reads each server got meanwhile."""
        end = self.at + seconds
        got: Counter[str] = Counter()
        while self.under_way[0][0] <= end:
            self.at, _, backend, took = heapq.heappop(self.under_way)
            while self.at - self.weighed_at >= 1:
                self.weighed_at += 1
                for each in self.backends:
                    each.fresh_as_of = self.weighed_at
                self.shares.weigh(self.weighed_at)
            backend.load -= 1
            backend.took(took)
            got[self.read()] += 1
        self.at = end
        return got


def simulation(
    seconds: dict[str, float],
    *,
    clients: int,
    warm_up: float = 0.0,
    weights: Sequence[float] = (),
    serving: Callable[[str], bool] = lambda _name: True,
) -> Simulation:
    backends = [
        Backend(name, "localhost", 5432, weights[number] if weights else 1.0)
        for number, name in enumerate(seconds)
    ]
    shares = Shares(warm_up=warm_up)
    shares.follow([each for each in backends if serving(each.name)], 0.0)
    balancer = Balancer("least-loaded", Random(1).random)
    return Simulation(balancer, shares, backends, seconds, clients)


@pytest.mark.parametrize("clients", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("others", [1, 2])
def test_a_slow_server_gets_much_less_and_is_not_forgotten(clients: int, others: int) -> None:
    names = [f"fast{number}" for number in range(others)]
    stage = simulation({"slow": 0.010} | dict.fromkeys(names, 0.001), clients=clients)
    stage.run(5)
    got = stage.run(20)
    even = got.total() / (others + 1)
    assert 0 < got["slow"] < 0.4 * even
    # It is fast again: that shows, as it is asked now and then.
    stage.seconds["slow"] = 0.001
    stage.run(30)
    got = stage.run(20)
    assert got["slow"] == pytest.approx(got.total() / (others + 1), rel=0.1)


@pytest.mark.parametrize("clients", [1, 2, 3, 4, 8, 40])
def test_clients_that_read_without_a_pause_are_spread_by_weight(clients: int) -> None:
    stage = simulation(dict.fromkeys(("a", "b"), 0.001), clients=clients, weights=(3.0, 1.0))
    got = stage.run(10)
    assert got["a"] / got.total() == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize("clients", [1, 2, 8, 20])
def test_a_server_that_comes_back_is_not_flooded(clients: int) -> None:
    stage = simulation(
        dict.fromkeys(("a", "b", "back"), 0.001),
        clients=clients,
        warm_up=10.0,
        serving=lambda name: name != "back",
    )
    stage.run(30)
    stage.shares.follow(stage.backends, stage.at)
    parts = []
    for _ in range(12):
        got = stage.run(1)
        parts.append(got["back"] / got.total())
    assert 0 < parts[0] < 0.06
    assert parts[2] < 0.15
    assert parts[-1] == pytest.approx(1 / 3, abs=0.04)
    assert all(later > earlier - 0.03 for earlier, later in pairwise(parts))


def test_a_server_that_begins_to_lag_sheds_load() -> None:
    stage = simulation(dict.fromkeys(("a", "late"), 0.001), clients=4)
    stage.run(20)
    late = stage.backends[1]
    stage.backends.remove(late)  # its freshness stays what it is
    parts = [stage.run(2) for _ in range(8)]
    shares = [got["late"] / got.total() for got in parts]
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert 0 < shares[-1] < 0.1
    assert sorted(shares, reverse=True) == pytest.approx(shares, abs=0.05)
