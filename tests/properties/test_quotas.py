"""Caps over several workers: their sum is never exceeded, and whoever wants some gets some.

Workers and the supervisor send each other messages that take any time, but stay in order on their
way. Workers begin and end uses, and die.
"""

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.workers.claims import Claims
from pgproxy.workers.quotas import TURN, Order, Quotas

KEY = ("pool", "primary", "shop", "alice")
STEP = 0.01


class Users:
    """What a cap counts: some in use, some waiting."""

    def __init__(self, cap: int, key: tuple[str, ...] = KEY) -> None:
        self.key = key
        self.cap = cap
        self.is_impatient = True
        self.active = 0
        self.waiting: deque[float] = deque()
        self.limit = 0
        self.served = 0
        self.refused = 0

    def used(self) -> int:
        return self.active

    def want(self) -> int:
        return self.active + len(self.waiting)

    def resize(self, number: int) -> None:
        self.limit = number
        self.serve()

    def dry(self) -> None:
        self.refused += 1

    def serve(self) -> None:
        while self.waiting and self.active < self.limit:
            self.waiting.popleft()
            self.active += 1
            self.served += 1


class Worker:
    def __init__(self, number: int, cap: int) -> None:
        self.number = number
        self.to_supervisor: deque[dict[str, Any]] = deque()
        self.to_worker: deque[Order] = deque()
        self.users = Users(cap)
        self.claims = Claims(self.to_supervisor.append)

    def look(self) -> None:
        if self.claims.source(KEY) is None:
            self.claims.add(self.users)
        self.claims.look(self.users)


class World:
    def __init__(self, workers: int, cap: int) -> None:
        self.cap = cap
        self.now = 0.0
        self.quotas = Quotas()
        self.workers = {number: Worker(number, cap) for number in range(workers)}
        self.dead: list[Worker] = []
        self.last = workers

    def carry(self, orders: list[Order]) -> None:
        for order in orders:
            if order.worker in self.workers:
                self.workers[order.worker].to_worker.append(order)

    def deliver_up(self, worker: Worker) -> None:
        if worker.to_supervisor:
            word = worker.to_supervisor.popleft()
            self.carry(
                self.quotas.report(worker.number, tuple(word.pop("key")), now=self.now, **word)
            )

    def deliver_down(self, worker: Worker) -> None:
        if worker.to_worker:
            order = worker.to_worker.popleft()
            worker.claims.order(order.key, order.kind, order.number)

    def want(self, worker: Worker) -> None:
        worker.users.waiting.append(self.now)
        worker.users.serve()
        worker.look()

    def release(self, worker: Worker) -> None:
        if worker.users.active:
            worker.users.active -= 1
            worker.users.serve()
            worker.look()

    def give_up(self, worker: Worker) -> None:
        if worker.users.waiting:
            worker.users.waiting.pop()
            worker.look()

    def kill(self, worker: Worker) -> None:
        """Its process has ended: what it had sent may have arrived, or not."""
        del self.workers[worker.number]
        self.carry(self.quotas.leave(worker.number, self.now))
        self.workers[self.last] = Worker(self.last, self.cap)
        self.last += 1

    def pass_time(self) -> None:
        self.now += STEP
        self.carry(self.quotas.tick(self.now))
        for worker in self.workers.values():
            worker.claims.pay()

    def check(self) -> None:
        used = sum(worker.users.active for worker in self.workers.values())
        assert used <= self.cap, f"{used} of {self.cap}"
        held = self.quotas.held(KEY)
        assert sum(held.values()) <= self.cap
        for worker in self.workers.values():
            bound = worker.claims.held().get(KEY, 0)
            assert worker.users.active <= bound <= held.get(worker.number, 0)

    def settle(self) -> None:
        """All messages arrive."""
        for _ in range(1000):
            busy = False
            for worker in list(self.workers.values()):
                busy = busy or bool(worker.to_supervisor or worker.to_worker)
                self.deliver_up(worker)
                self.deliver_down(worker)
                self.check()
            if not busy:
                return
        raise AssertionError("messages without end")


ACTIONS = ("want", "want", "want", "release", "release", "give_up", "up", "up", "down", "down")


@given(
    st.integers(1, 5),
    st.integers(1, 8),
    st.lists(
        st.tuples(st.sampled_from([*ACTIONS, "time", "tick", "kill"]), st.integers(0, 4)),
        max_size=200,
    ),
)
def test_the_sum_never_exceeds_the_cap_and_all_are_served(
    workers: int, cap: int, actions: list[tuple[str, int]]
) -> None:
    world = World(workers, cap)
    for action, which in actions:
        living = list(world.workers.values())
        worker = living[which % len(living)]
        match action:
            case "up":
                world.deliver_up(worker)
            case "down":
                world.deliver_down(worker)
            case "time":
                world.pass_time()
            case "tick":
                worker.claims.tick()
            case _:
                getattr(world, action)(worker)
        world.check()
    for _ in range(1000):
        world.pass_time()
        world.settle()
        for worker in world.workers.values():
            world.release(worker)
        world.settle()
        if not any(worker.users.want() for worker in world.workers.values()):
            break
    else:
        raise AssertionError("somebody waits for ever")
    for _ in range(3):
        for worker in world.workers.values():
            worker.claims.tick()
        world.settle()
    assert world.quotas.held(KEY) == {}, "what nobody uses has come back"
    assert all(worker.claims.held() == {} for worker in world.workers.values())


@pytest.mark.parametrize(("workers", "cap"), [(4, 1), (4, 2), (4, 3), (3, 20)])
def test_those_who_always_want_more_are_served_alike(workers: int, cap: int) -> None:
    world = World(workers, cap)
    order = random.Random(4)
    for round_number in range(2000):
        world.pass_time()
        for worker in order.sample(list(world.workers.values()), workers):
            while len(worker.users.waiting) < 5 * cap:
                world.want(worker)
            if round_number % 2:
                for _ in range(cap):
                    world.release(worker)
            world.deliver_up(worker)
            world.deliver_down(worker)
            world.check()
    served = [worker.users.served for worker in world.workers.values()]
    assert min(served) > 0.7 * max(served), served


def test_the_only_one_travels_to_who_has_it_not() -> None:
    """One that is never idle goes on after a turn, for another who waits."""
    world = World(2, 1)
    first, second = world.workers.values()
    world.want(first)
    world.settle()
    assert first.users.active == 1
    world.want(second)
    for _ in range(round(2 * TURN / STEP) + 3):
        world.want(first)
        world.release(first)
        world.settle()
        world.pass_time()
    world.release(first)
    world.settle()
    assert (first.users.active, second.users.active) == (0, 1)


def test_who_cannot_have_any_is_told_once_all_others_were_asked() -> None:
    world = World(2, 3)
    first, second = world.workers.values()
    for _ in range(3):
        world.want(first)
    world.settle()
    assert first.users.active == 3
    for _ in range(2):  # not known to the supervisor
        world.release(first)
    world.want(second)
    world.settle()
    assert (second.users.active, second.users.refused) == (1, 0)
    world.want(first)
    world.want(second)
    world.settle()
    for _ in range(5):
        world.pass_time()
        world.settle()
    assert first.users.active + second.users.active == 3
    assert second.users.refused + first.users.refused == 1
