"""Whatever is told to it: a limit that is learnt stays within its bounds, and more slowness never
makes it larger."""

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.servers.adaptive import GREATEST, WINDOW, AdaptiveLimit, next_limit
from pgproxy.telemetry.counters import Structure

STRUCTURES = [Structure(str(number), "") for number in range(3)]

structures = st.sampled_from(STRUCTURES)
durations = st.sampled_from([0.0, 1e-6, 0.001, 1.0, 3600.0]) | st.floats(0.0, 100.0)
slownesses = st.floats(0.0, GREATEST)
limits = st.floats(1.0, 10_000.0)

steps = st.one_of(
    st.tuples(st.just("answered"), structures, durations),
    st.tuples(st.just("in_flight"), structures, durations),
    st.tuples(st.just("use"), st.integers(0, 1000), durations),
    st.tuples(st.just("judge"), st.none(), durations),
)


@given(st.integers(1, 50), st.integers(1, 500), st.lists(steps, max_size=200))
def test_it_stays_within_its_bounds(floor: int, ceiling: int, told: list[tuple]) -> None:
    now = 1000.0
    limit = AdaptiveLimit(floor, ceiling, now)
    for what, argument, seconds in told:
        now += min(seconds, 10.0)
        if what == "answered":
            limit.answered(argument, now - seconds, now)
        elif what == "in_flight":
            limit.in_flight(argument, now - seconds, now)
        elif what == "use":
            limit.use(argument)
        else:
            now += WINDOW
            before, in_flight = limit.cap, limit._most_used
            assert limit.judge(now) == limit.cap
            assert limit.cap >= before or (
                not limit.is_well and in_flight >= min(limit.floor + 1, before)
            )
        assert 1 <= limit.floor <= limit.cap <= limit.ceiling
        assert 0.0 <= limit.slowdown <= GREATEST


@given(limits, slownesses, slownesses)
def test_more_slowness_never_makes_it_larger(limit: float, one: float, other: float) -> None:
    assert next_limit(limit, max(one, other)) <= next_limit(limit, min(one, other))


@given(limits, limits, slownesses)
def test_a_larger_limit_never_becomes_a_smaller_one(
    one: float, other: float, slowdown: float
) -> None:
    assert next_limit(max(one, other), slowdown) >= next_limit(min(one, other), slowdown)


@given(st.floats(0.02, 1.0), st.lists(st.floats(1.0, 100.0), min_size=2, max_size=2))
def test_of_two_servers_the_slower_one_never_has_more(usual: float, factors: list[float]) -> None:
    caps = []
    for factor in sorted(factors):
        limit = AdaptiveLimit(2, 64, 0.0)
        now = 0.0
        while now < 5.0:
            now += usual / 10
            limit.answered(STRUCTURES[0], now - usual, now)
        limit.judge(now)
        for _ in range(20):
            end = now + WINDOW
            while now < end:
                now += usual * factor / 10
                limit.answered(STRUCTURES[0], now - usual * factor, now)
            limit.use(64)
            limit.judge(now)
        caps.append(limit.cap)
    assert caps[0] >= caps[1]
