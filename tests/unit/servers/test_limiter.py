"""The limiter: who gets the next seat."""

from collections import Counter
from itertools import pairwise
from typing import Final

import pytest

from pgproxy.servers.backend import Backend
from pgproxy.servers.limiter import (
    DEEPEST_DEBT,
    IN_LINE,
    SEATED,
    STANDING,
    Limiter,
    Seat,
    Tenant,
)


class Chair(Seat):
    """Notes when it was its turn."""

    def __init__(self, backend: Backend, tenant: Tenant, served: "list[Chair]") -> None:
        super().__init__(backend, tenant)
        self.served: Final = served

    def granted(self) -> None:
        assert self.state == SEATED
        self.served.append(self)


class Hall:
    """A limiter, two backends, and a clock."""

    def __init__(self, total: int, per_backend: int = 0) -> None:
        self.limiter: Final = Limiter(total)
        self.backends: Final = [
            Backend(name, "h", 1, 1.0, max_concurrent=per_backend) for name in "ab"
        ]
        self.served: Final[list[Chair]] = []
        self.now = 100.0

    def ask(self, tenant: Tenant, backend: int = 0, *, urgent: bool = False) -> Chair:
        chair = Chair(self.backends[backend], tenant, self.served)
        if not self.limiter.take(chair, self.now):
            self.limiter.wait(chair, urgent=urgent)
        self.limiter.check()
        return chair

    def end(self, chair: Chair) -> None:
        self.limiter.leave(chair, self.now)
        self.limiter.serve(self.now)
        self.limiter.check()

    def work(self, seconds: dict[Tenant, float], turns: int) -> Counter[Tenant]:
        """How often each is served by one seat if three of each always want it."""
        running = self.ask(next(iter(seconds)))
        for tenant in [*seconds] * 3:
            self.ask(tenant)
        counts: Counter[Tenant] = Counter()
        for _ in range(turns):
            tenant = running.tenant
            self.now += seconds[tenant]
            counts[tenant] += 1
            self.limiter.leave(running, self.now)
            self.ask(tenant)
            self.limiter.serve(self.now)
            self.limiter.check()
            running = self.served[-1]
        return counts


def tenants(*weights: float) -> list[Tenant]:
    return [Tenant("d", name, weight) for name, weight in zip("abc", weights, strict=False)]


def test_within_the_caps_nobody_waits() -> None:
    hall = Hall(3, per_backend=2)
    [one] = tenants(1)
    states = [hall.ask(one, backend).state for backend in (0, 0, 0, 1, 1)]
    assert states == [SEATED, SEATED, IN_LINE, SEATED, IN_LINE]
    assert hall.limiter.total.used == 3
    assert [backend.running.used for backend in hall.backends] == [2, 1]
    assert one.seated == 3


def test_a_full_backend_is_in_nobodys_way() -> None:
    hall = Hall(0, per_backend=1)
    one, other = tenants(1, 1)
    first = hall.ask(one)
    late = [hall.ask(one), hall.ask(one, 1), hall.ask(one, 1)]
    assert [chair.state for chair in late] == [IN_LINE, SEATED, IN_LINE]
    hall.end(late[1])
    assert hall.served == [late[2]]
    assert hall.ask(other, 1).state == IN_LINE
    hall.end(first)
    assert hall.served == [late[2], late[0]]


def test_a_tenant_is_served_in_order_whatever_the_backend() -> None:
    hall = Hall(1)
    [one] = tenants(1)
    running = hall.ask(one)
    line = [hall.ask(one, backend) for backend in (1, 0, 1, 0)]
    for chair in line:
        hall.end(running)
        assert hall.served[-1] is chair
        running = chair


def test_turns_are_taken_however_many_wait() -> None:
    hall = Hall(1)
    many, few = tenants(1, 1)
    running = hall.ask(many)
    for _ in range(20):
        hall.ask(many)
    for _ in range(3):
        hall.ask(few)
    for _ in range(6):
        hall.now += 0.01
        hall.end(running)
        running = hall.served[-1]
    assert [chair.tenant.user for chair in hall.served].count("b") == 3


def test_shares_are_of_time_not_of_turns() -> None:
    hall = Hall(1)
    slow, fast = tenants(1, 1)
    counts = hall.work({slow: 0.1, fast: 0.01}, 2000)
    assert counts[slow] * 0.1 == pytest.approx(counts[fast] * 0.01, rel=0.1)


@pytest.mark.parametrize("weights", [(1, 3, 1), (2, 1, 5), (0.5, 0.5, 1)])
def test_weights(weights: tuple[float, ...]) -> None:
    hall = Hall(1)
    all_of = tenants(*weights)
    seconds = dict(zip(all_of, (0.02, 0.01, 0.005), strict=True))
    counts = hall.work(seconds, 5000)
    times = [counts[tenant] * seconds[tenant] for tenant in all_of]
    for time, weight in zip(times, weights, strict=True):
        assert time / sum(times) == pytest.approx(weight / sum(weights), rel=0.05)


def test_nobody_has_a_long_burst_because_another_is_slow() -> None:
    hall = Hall(1)
    slow, one, other = tenants(1, 1, 1)
    hall.work({slow: 1.0, one: 0.001, other: 0.001}, 4000)
    quick = [chair.tenant for chair in hall.served[1000:] if chair.tenant is not slow]
    same = sum(before is after for before, after in pairwise(quick))
    assert same < len(quick) / 10


def test_debts_are_bounded() -> None:
    """Somebody forgets to commit for an hour; then it waits for seconds, not for another hour."""
    hall = Hall(1)
    idle, busy = tenants(1, 1)
    running = hall.ask(busy)
    forgotten = hall.ask(idle)
    for _ in range(3):
        hall.ask(busy)
    hall.end(running)
    while hall.served[-1] is not forgotten:
        hall.end(hall.served[-1])
    hall.now += 3600
    hall.ask(idle)
    hall.end(forgotten)
    began = hall.now
    while hall.served[-1].tenant is busy:
        hall.now += 0.01
        hall.ask(busy)
        hall.end(hall.served[-1])
    assert DEEPEST_DEBT / 2 < hall.now - began < DEEPEST_DEBT + 0.1


def test_debts_are_forgotten_when_nobody_waits() -> None:
    hall = Hall(1)
    one, other = tenants(1, 1)
    running = hall.ask(other)
    slow = hall.ask(one)
    hall.end(running)
    hall.now += 100
    hall.end(slow)
    assert one.credit < 0
    running = hall.ask(other)
    waiting = hall.ask(one)
    assert one.credit == 0
    hall.end(running)
    assert waiting.state == SEATED


def test_the_urgent_are_first_and_in_their_order() -> None:
    hall = Hall(1)
    one, other = tenants(1, 1)
    running = hall.ask(one)
    ordinary = hall.ask(other)
    urgent = [hall.ask(one, urgent=True), hall.ask(other, urgent=True)]
    hall.end(running)
    hall.end(urgent[0])
    hall.end(urgent[1])
    assert hall.served == [*urgent, ordinary]


def test_an_urgent_one_whose_backend_is_full_holds_up_nobody() -> None:
    hall = Hall(2, per_backend=1)
    [one] = tenants(1)
    hall.ask(one)
    other = hall.ask(one, 1)
    hall.ask(one, urgent=True)
    waiting = hall.ask(one, 1)
    hall.end(other)
    assert hall.served == [waiting]


@pytest.mark.parametrize("urgent", [False, True])
def test_who_does_not_want_it_any_more_is_passed_over(urgent: bool) -> None:
    hall = Hall(1)
    one, other = tenants(1, 1)
    running = hall.ask(one)
    gone = hall.ask(other, urgent=urgent)
    stays = hall.ask(one, urgent=urgent)
    hall.limiter.cancel(gone)
    hall.limiter.check()
    assert gone.state == STANDING
    hall.end(running)
    assert hall.served == [stays]
    assert hall.limiter.waiting == 0


def test_a_cap_may_change() -> None:
    hall = Hall(0, per_backend=2)
    [one] = tenants(1)
    chairs = [hall.ask(one) for _ in range(5)]
    running = hall.backends[0].running
    running.cap = 1
    hall.end(chairs[0])
    assert hall.served == []
    hall.end(chairs[1])
    assert hall.served == [chairs[2]]
    running.cap = 3
    hall.limiter.serve(hall.now)
    hall.limiter.check()
    assert hall.served == chairs[2:]
    hall.limiter.total.cap = 1
    assert hall.ask(one, 1).state == IN_LINE


def test_a_server_that_is_away_does_not_count() -> None:
    hall = Hall(2)
    [one] = tenants(1)
    hangs = [hall.ask(one), hall.ask(one)]
    waits = [hall.ask(one, 1) for _ in range(3)]
    limiter = hall.limiter
    limiter.note_away(hall.backends[0], is_away=True)
    limiter.serve(hall.now)
    limiter.check()
    assert hall.served == waits[:2]
    hall.end(hangs[0])
    assert hall.served == waits[:2]
    limiter.note_away(hall.backends[0], is_away=False)
    limiter.serve(hall.now)
    assert limiter.total.used == 3
    hall.end(waits[0])
    assert hall.served == waits[:2]
    hall.end(hangs[1])
    assert hall.served == waits
    limiter.check()


def test_nobody_overtakes_while_seats_are_being_given() -> None:
    hall = Hall(2)
    [one] = tenants(1)
    chairs = [hall.ask(one), hall.ask(one)]

    class Greedy(Chair):
        def granted(self) -> None:
            super().granted()
            hall.ask(one)  # the other seat is free, but the next in line's

    greedy = Greedy(hall.backends[0], one, hall.served)
    hall.limiter.wait(greedy)
    waiting = hall.ask(one)
    for chair in chairs:
        hall.limiter.leave(chair, hall.now)
    hall.limiter.serve(hall.now)
    assert hall.served == [greedy, waiting]


def test_who_has_to_wait_is_told_of_and_counted_at_its_backend() -> None:
    hall = Hall(1)
    told: list[Backend] = []
    hall.limiter.on_short = told.append
    tenant = Tenant("d", "u")
    first = hall.ask(tenant)
    assert told == []
    second, third = hall.ask(tenant, 1), hall.ask(tenant, 1, urgent=True)
    assert told == [hall.backends[1]] * 2
    assert [backend.in_line for backend in hall.backends] == [0, 2]
    hall.limiter.cancel(second)
    hall.end(first)
    assert hall.served == [third]
    assert [backend.in_line for backend in hall.backends] == [0, 0]
