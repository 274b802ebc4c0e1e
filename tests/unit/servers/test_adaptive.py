"""The limit that is learnt, with a server whose capacity is known (tests/support/queueing.py)."""

from collections.abc import Callable
from random import Random
from statistics import mean

import pytest

from pgproxy.servers.adaptive import (
    FOLLOWS_ALONE,
    FOLLOWS_SLOW,
    GREATEST,
    KNOWN,
    KNOWN_AFTER,
    MOST_STRUCTURES,
    TOLERANCE,
    WINDOW,
    AdaptiveLimit,
    Usual,
    next_limit,
)
from pgproxy.telemetry.counters import Structure
from tests.support.queueing import Point, Simulation, Work

FLOOR, CEILING = 2, 16
SHORT, LONG = Structure("1", "SELECT short"), Structure("2", "SELECT long")
START = 1000.0


def fixed(seconds: float) -> Work:
    return lambda _: (SHORT, seconds)


def exponential(seconds: float) -> Work:
    return lambda random: (SHORT, random.expovariate(1 / seconds))


def lognormal(seconds: float) -> Work:
    return lambda random: (SHORT, seconds * random.lognormvariate(0.0, 1.5))


def mixed(part: float, seconds: float, long: float, of: Structure = SHORT) -> Work:
    """Statements of which some take long."""

    def work(random: Random) -> tuple[Structure, float]:
        return (of, long) if random.random() < part else (SHORT, seconds)

    return work


def tenth(_: float) -> float:
    return 0.1


def stopped(now: float) -> float:
    return 0.0 if now < 30.0 else 1.0


def whole(_: float) -> float:
    return 1.0


def stutters(period: float) -> Callable[[float], float]:
    """Stands still for nine tenths of each period."""
    return lambda now: 0.0 if now % period < 0.9 * period else 1.0


def server(work: Work, *, clients: int = 64, processors: int = CEILING) -> Simulation:
    return Simulation(AdaptiveLimit(FLOOR, CEILING, 0.0), work, clients, processors)


def caps(points: list[Point]) -> list[int]:
    return [point.cap for point in points]


# --- a server that becomes slow and recovers


@pytest.mark.parametrize(
    ("work", "slow"),
    [
        (fixed(0.005), tenth),
        (fixed(0.005), stutters(0.1)),
        (fixed(0.001), stutters(0.2)),
        (fixed(0.001), stutters(2.0)),
        (exponential(0.003), tenth),
        (lognormal(0.003), tenth),
        (mixed(0.1, 0.001, 0.1), tenth),
        (fixed(0.005), stopped),
    ],
    ids=[
        "slow",
        "stutters",
        "stutters longer than a statement",
        "stutters longer than it is looked at",
        "exponential",
        "lognormal",
        "long ones and short ones",
        "stopped",
    ],
)
def test_a_tenth_of_the_capacity_shrinks_it_to_the_floor_and_recovery_grows_it_back(
    work: Work, slow: Callable[[float], float]
) -> None:
    simulation = server(work)
    assert set(caps(simulation.run(10.0))) == {CEILING}
    simulation.speed = slow
    simulation.run(3.0)
    assert mean(caps(simulation.run(17.0))) < FLOOR + 1
    simulation.speed = whole
    simulation.run(8.0)
    assert set(caps(simulation.run(5.0))) == {CEILING}


def test_a_large_limit_shrinks_and_recovers_as_soon() -> None:
    simulation = Simulation(AdaptiveLimit(FLOOR, 200, 0.0), fixed(0.005), 400, 200)
    simulation.run(5.0)
    simulation.speed = tenth
    assert caps(simulation.run(5.0))[-1] == FLOOR
    simulation.speed = whole
    assert caps(simulation.run(10.0))[-1] == 200


def test_who_is_a_little_slower_keeps_more() -> None:
    rests = []
    for part in (1.0, 0.7, 0.45, 0.33, 0.1):
        simulation = server(fixed(0.005))
        simulation.run(10.0)
        simulation.speed = lambda _, part=part: part
        simulation.run(10.0)
        rests.append(mean(caps(simulation.run(10.0))))
    assert rests == sorted(rests, reverse=True)
    assert rests[:2] == [CEILING, CEILING]
    assert FLOOR < rests[3] < rests[2] < CEILING


def test_where_statements_queue_for_processors_the_limit_is_where_they_do_not_queue_for_long() -> (
    None
):
    simulation = server(exponential(0.002), clients=2, processors=2)
    simulation.run(20.0)  # a quiet night
    busy = server(exponential(0.002), processors=2)
    busy.limit, busy.now = simulation.limit, simulation.now
    busy._next_tick = simulation._next_tick
    busy._free = [busy.now] * 2
    before = busy.answers
    points = busy.run(20.0)
    assert 2 <= mean(caps(points[20:])) < 12
    assert busy.answers - before > 0.95 * 20.0 * 2 / 0.002  # and nothing is lost by it


# --- statements that are long, and not slow


def test_long_statements_of_another_structure_do_not_shrink_it() -> None:
    simulation = server(fixed(0.001))
    simulation.run(5.0)
    simulation.work = mixed(0.001, 0.001, 10.0, of=LONG)
    assert min(caps(simulation.run(30.0))) == CEILING


def test_one_that_takes_ten_seconds_does_not_shrink_it_though_all_looked_like_it() -> None:
    simulation = server(fixed(0.001))
    simulation.run(5.0)
    once = iter([10.0])
    simulation.work = lambda _: (SHORT, next(once, 0.001))
    assert min(caps(simulation.run(15.0))) == CEILING


@pytest.mark.parametrize(
    "work",
    [exponential(0.003), lognormal(0.003), mixed(0.1, 0.001, 0.1), mixed(0.01, 0.001, 1.0)],
    ids=["exponential", "lognormal", "a tenth 100 times", "a hundredth 1000 times"],
)
@pytest.mark.parametrize("seed", range(2))
def test_noise_does_not_shrink_it(work: Work, seed: int) -> None:
    simulation = server(work)
    simulation._random.seed(seed)
    assert mean(caps(simulation.run(30.0))) > 0.95 * CEILING


# --- what is usual


@pytest.mark.parametrize("follows", [FOLLOWS_SLOW, FOLLOWS_ALONE])
def test_what_stays_slow_is_usual_in_the_end(follows: float) -> None:
    usual = Usual(START)
    now = START
    while now < START + 60:
        now += 0.5
        usual.learn(0.01, now)
    assert usual.is_known
    assert usual.seconds == pytest.approx(0.01)
    begun = now
    while usual.seconds * TOLERANCE < 0.1:
        now += 0.5
        usual.learn(0.1, now, follows)
    assert 0.9 * follows < now - begun < 1.1 * follows


def test_who_alone_is_slow_waits_longer_until_that_is_usual() -> None:
    learnt = []
    for others_are_well in (False, True):
        limit = AdaptiveLimit(FLOOR, CEILING, START)
        known(limit, SHORT, 0.01, START)
        [usual] = limit._usuals.values()
        limit.slowdown, limit.others_are_well = 10.0, others_are_well
        for second in range(20, 320):
            limit.answered(SHORT, START + second - 0.1, START + second)
        learnt.append(usual.seconds)
    assert learnt[0] > 2 * learnt[1] > 0.02


def test_nothing_is_known_at_first() -> None:
    usual = Usual(START)
    for _ in range(10 * KNOWN):
        usual.learn(0.01, START + KNOWN_AFTER / 2)
    assert not usual.is_known
    rare = Usual(START)
    for second in range(KNOWN - 1):
        rare.learn(0.01, START + 1.0 + second)
    assert not rare.is_known
    rare.learn(0.01, START + KNOWN)
    assert rare.is_known


def test_a_halt_stands_for_no_more_than_its_statements() -> None:
    usual = Usual(START)
    now = START
    for _ in range(20_000):
        now += 0.001
        usual.learn(0.001, now)
    now += 5.0
    for _ in range(16):
        usual.learn(5.0, now)
    for _ in range(1500):
        now += 0.001
        usual.learn(0.001, now)
    assert usual.seconds < 0.006


def known(limit: AdaptiveLimit, structure: Structure, seconds: float, now: float) -> None:
    for step in range(KNOWN + 1):
        at = now + step * (KNOWN_AFTER + 0.1) / KNOWN
        limit.answered(structure, at - seconds, at)


def test_the_structures_that_were_not_seen_for_longest_are_forgotten() -> None:
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    structures = [Structure(str(number), "") for number in range(MOST_STRUCTURES + 1)]
    for number, structure in enumerate(structures):
        limit.answered(structure, START, START + 1.0 + number)
    assert structures[0] not in limit._usuals
    assert structures[-2] in limit._usuals
    assert structures[-1] in limit._usuals
    assert len(limit._usuals) == MOST_STRUCTURES // 2 + 1


# --- single looks


def look(limit: AdaptiveLimit, now: float, *, used: int = CEILING) -> int:
    limit.use(used)
    assert limit.is_due(now)
    return limit.judge(now)


def stalled(limit: AdaptiveLimit, since: float, now: float, *, used: int = CEILING) -> int:
    for _ in range(used):
        limit.in_flight(SHORT, since, now)
    return look(limit, now, used=used)


def test_it_is_looked_at_now_and_then() -> None:
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    assert not limit.is_due(START + 0.9 * WINDOW)
    assert limit.is_due(START + WINDOW)
    limit.judge(START + WINDOW)
    assert not limit.is_due(START + 1.9 * WINDOW)


def test_nothing_is_taken_while_no_more_is_in_flight_than_the_floor() -> None:
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    known(limit, SHORT, 0.001, START)
    assert stalled(limit, START + 5.0, START + 10.0, used=FLOOR) == CEILING
    assert limit.slowdown == pytest.approx(GREATEST)
    assert not limit.is_well
    assert stalled(limit, START + 5.0, START + 11.0, used=FLOOR + 1) < CEILING


def test_what_is_taken_is_taken_of_twice_what_is_in_flight() -> None:
    few, many = AdaptiveLimit(FLOOR, 100, START), AdaptiveLimit(FLOOR, 100, START)
    known(few, SHORT, 0.001, START)
    known(many, SHORT, 0.001, START)
    assert stalled(few, START + 5.0, START + 10.0, used=8) == int(next_limit(16.0, GREATEST))
    assert stalled(many, START + 5.0, START + 10.0, used=80) == int(next_limit(100.0, GREATEST))


def test_who_has_lost_some_for_a_moment_gets_it_back_whether_it_is_used_or_not() -> None:
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    known(limit, SHORT, 0.001, START)
    now = START + 10.0
    look(limit, now)
    now += WINDOW
    assert stalled(limit, START + 5.0, now, used=3) < 6
    for _ in range(20):
        now += WINDOW
        limit.answered(SHORT, now - 0.001, now)
        look(limit, now, used=1)
    assert limit.cap == CEILING


def test_who_is_not_heard_of_is_let_work() -> None:
    """Transactions alone, after a time in which it was slow."""
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    known(limit, SHORT, 0.001, START)
    now = START + 10.0
    for _ in range(20):
        now += WINDOW
        stalled(limit, START + 5.0, now)
    assert limit.cap == FLOOR
    slowdown = limit.slowdown
    for _ in range(20):
        now += WINDOW
        assert look(limit, now, used=0) == FLOOR  # of who does nothing nothing is learnt
    assert limit.slowdown == slowdown
    for _ in range(20):
        now += WINDOW
        look(limit, now, used=limit.cap)
    assert limit.cap == CEILING
    assert limit.slowdown == 1.0


def test_statements_that_take_no_time_are_not_slow() -> None:
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    known(limit, SHORT, 0.0, START)
    limit.answered(SHORT, START + 5.0, START + 5.0)
    assert look(limit, START + 5.0) == CEILING
    assert limit.slowdown == 1.0


def test_what_is_not_known_says_nothing() -> None:
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    now = START + 10.0
    for _ in range(20):
        now += WINDOW
        assert stalled(limit, START, now) == CEILING


def test_a_statement_counts_once_in_each_look() -> None:
    """In flight at three looks, and twice as long as usual in the end: in all, that is 2."""
    limit = AdaptiveLimit(FLOOR, CEILING, START)
    known(limit, LONG, 1.0, START)
    look(limit, START + 10.0)
    now = START + 20.0
    look(limit, now)
    spent = expected = 0.0
    since = now + 0.1
    for _ in range(3):
        now += 0.5
        limit._spent = limit._expected = 0.0
        limit.in_flight(LONG, since, now)
        spent, expected = spent + limit._spent, expected + limit._expected
        look(limit, now)
    limit._spent = limit._expected = 0.0
    limit.answered(LONG, since, since + 2.0)
    assert spent + limit._spent == pytest.approx(2.0)
    assert expected + limit._expected == pytest.approx(1.0)


def test_a_floor_above_the_ceiling_is_the_ceiling() -> None:
    limit = AdaptiveLimit(5, 3, START)
    assert (limit.floor, limit.cap) == (3, 3)
    assert "3 of 3 to 3" in repr(limit)


def test_the_law() -> None:
    assert next_limit(16.0, 1.0) == 20.0
    assert next_limit(16.0, TOLERANCE) == 20.0
    assert next_limit(16.0, 2 * TOLERANCE) == 12.0
    assert next_limit(16.0, GREATEST) == 8.0
    assert next_limit(4.0, 2 * TOLERANCE) == pytest.approx(4.0)  # at rest: 1 / (1 - 1/2)^2
