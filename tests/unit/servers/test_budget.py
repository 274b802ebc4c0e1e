"""Caps that pools share, one promise after the other, and what comes of them under load;
tests/properties/test_budget.py mixes all in any order."""

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from pgproxy.servers.budget import SWITCH_AFTER, Budget, Place
from pgproxy.servers.ledger import Ledger
from pgproxy.servers.sizes import BESIDE, PoolSizes
from pgproxy.servers.slots import CLOSING, LEASED, Profile, Slot, Waiter

A: Final = Profile([])
FOREVER: Final = 1e9
OLD: Final = 2 * SWITCH_AFTER


class Stage:
    """The pools of one backend. Log-ins and ends of connections take no time unless they are
    `held`."""

    def __init__(self, sizes: PoolSizes) -> None:
        self.now = 100.0
        self.budget = Budget(sizes)
        self.sizes = sizes
        self.served: list[str] = []
        self.openings = 0
        self.slots: dict[Ledger, list[Slot]] = {}
        self.held = False

    def pool(self, database: str = "d", user: str = "u") -> Ledger:
        sizes = self.sizes.of(database, user)
        ledger = Ledger(
            sizes.size,
            min_size=sizes.min_size,
            reserve_size=sizes.reserve_size,
            reserve_timeout=1.0,
            guaranteed_size=sizes.guaranteed_size,
            budget=self.budget,
            database=database,
            user=user,
        )
        self.slots[ledger] = []
        return ledger

    def ask(self, ledger: Ledger, count: int = 1) -> None:
        for _ in range(count):
            if ledger.acquire(A) is None:
                ledger.enqueue(Waiter(), A, self.now, FOREVER)
            self.settle()

    def give_back(self, ledger: Ledger, count: int = 1) -> None:
        for _ in range(count):
            ledger.release(self.at(ledger, LEASED)[0], self.now)
            self.settle()

    def at(self, ledger: Ledger, place: int) -> list[Slot]:
        return [slot for slot in self.slots[ledger] if slot.place == place]

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for ledger in self.slots:
            if ledger.waiting:
                ledger.look(self.now)
        self.budget.serve(self.now)
        self.settle()

    def settle(self) -> None:
        self.budget.changed.clear()
        again = not self.held
        while again:
            again = False
            for ledger in self.slots:
                while ledger.to_open:
                    slot = Slot(ledger.to_open.pop(0))
                    self.slots[ledger].append(slot)
                    self.openings += 1
                    ledger.opened(slot, self.now)
                    again = True
                while ledger.to_close:
                    ledger.gone(ledger.to_close.pop(), self.now)
                    again = True
            self.budget.changed.clear()
        self.budget.check(self.now)
        for ledger in self.slots:
            ledger.check()


def test_a_connection_that_is_long_in_closing_is_no_room_that_comes() -> None:
    stage = Stage(PoolSizes(5, max_backend=2))
    left, other, late = (stage.pool(user=user) for user in ("left", "other", "late"))
    stage.ask(left)
    stage.ask(other)
    stage.give_back(other)
    stage.wait(OLD)
    [slot] = stage.at(left, LEASED)
    left.discard(slot, stays=True)
    left.to_close.clear()
    stage.ask(late)
    assert len(stage.at(late, LEASED)) == 1
    left.gone(slot, stage.now)
    stage.settle()
    assert stage.budget.connections.limit.used == 1
    assert stage.budget.connections.leaving == 0


def test_connections_of_all_pools_count() -> None:
    stage = Stage(PoolSizes(5, max_backend=3))
    one, other = stage.pool("d", "u"), stage.pool("e", "v")
    stage.ask(one, 2)
    stage.ask(other, 2)
    assert (one.total, other.total, other.waiting) == (2, 1, 1)
    assert stage.budget.connections.limit.used == 3


@pytest.mark.parametrize(
    "sizes",
    [
        PoolSizes(5, max_database=2),
        PoolSizes(5, databases={"d": {"max_connections": 2}}),
    ],
)
def test_a_database_and_a_user_have_caps_of_their_own(sizes: PoolSizes) -> None:
    stage = Stage(sizes)
    one, other, elsewhere = stage.pool("d", "u"), stage.pool("d", "v"), stage.pool("e", "u")
    stage.ask(one, 2)
    stage.ask(other)
    stage.ask(elsewhere)
    assert (one.total, other.total, elsewhere.total) == (2, 0, 1)
    room = stage.budget.full_room(other)
    assert room is stage.budget.databases["d"]
    assert stage.budget.holders(room) == '2 of database "d", user "u"'


def test_a_connection_counts_until_it_is_gone() -> None:
    stage = Stage(PoolSizes(5, max_user=1))
    one, other = stage.pool("d", "u"), stage.pool("e", "u")
    stage.ask(one)
    stage.give_back(one)
    stage.now += OLD
    stage.held = True
    stage.ask(other)
    assert len(stage.at(one, CLOSING)) == 1
    assert other.total == 0
    stage.held = False
    stage.settle()
    assert (one.total, other.leased) == (0, 1)


def test_an_idle_connection_yields_to_another_pool() -> None:
    stage = Stage(PoolSizes(5, max_backend=2))
    noisy, small = stage.pool("d", "noisy"), stage.pool("d", "small")
    stage.ask(noisy, 2)
    stage.give_back(noisy, 2)
    stage.now += OLD
    stage.ask(small)
    assert (noisy.total, small.leased) == (1, 1)
    assert stage.budget.evictions == 1


def test_a_young_connection_does_its_turn_first() -> None:
    stage = Stage(PoolSizes(5, max_backend=1))
    one, other = stage.pool("d", "u"), stage.pool("d", "v")
    stage.ask(one)
    stage.give_back(one)
    stage.ask(other)
    assert (len(one.idle), other.waiting) == (1, 1)
    stage.wait(SWITCH_AFTER + 0.01)
    assert (one.total, other.leased) == (0, 1)


def test_the_largest_surplus_yields_first_and_what_is_guaranteed_last() -> None:
    sizes = PoolSizes(5, max_backend=6, databases={"e": {"guaranteed_size": 2}})
    stage = Stage(sizes)
    first, kept, small = stage.pool("d", "u"), stage.pool("e", "u"), stage.pool("f", "u")
    for pool, count in ((first, 3), (kept, 3)):
        stage.ask(pool, count)
        stage.give_back(pool, count)
    stage.now += OLD
    stage.ask(small, 5)
    assert (first.total, kept.total, small.total) == (0, 2, 4)
    stage.give_back(small, 5)
    # Within the guarantee only who has nothing at all gets any.
    stage.now += OLD
    needy = stage.pool("g", "u")
    stage.ask(small, 4)
    stage.ask(needy, 2)
    assert (kept.total, needy.total) == (1, 1)


def test_a_connection_that_comes_back_goes_to_who_is_hungry_if_its_pool_has_no_waiter() -> None:
    stage = Stage(PoolSizes(5, max_backend=1))
    one, other = stage.pool("d", "u"), stage.pool("d", "v")
    stage.ask(one)
    stage.now += OLD
    stage.ask(other)
    assert other.total == 0
    stage.give_back(one)
    assert (one.total, other.leased) == (0, 1)


def test_it_stays_where_others_wait_too_unless_the_hungry_one_has_fewer_for_long() -> None:
    stage = Stage(PoolSizes(5, max_backend=3))
    one, other = stage.pool("d", "u"), stage.pool("d", "v")
    stage.ask(one, 9)
    stage.now += OLD
    stage.ask(other, 9)
    stage.give_back(one)
    assert (one.total, other.total) == (3, 0)
    stage.wait(SWITCH_AFTER + 0.01)
    stage.give_back(one)
    assert (one.total, other.total) == (2, 1)
    # Two and one is as equal as it gets.
    stage.wait(OLD)
    for _ in range(3):
        stage.give_back(one)
    assert (one.total, other.total) == (2, 1)


def test_two_caps_at_once_are_waited_for_together() -> None:
    """The places come one after the other, and others want each of them meanwhile."""
    stage = Stage(PoolSizes(5, max_database=1, max_user=1))
    same_database, same_user = stage.pool("d", "v"), stage.pool("e", "u")
    stage.ask(same_database, 2)
    stage.ask(same_user, 2)
    both = stage.pool("d", "u")
    stage.ask(both)
    stage.wait(OLD)
    stage.give_back(same_database)
    assert both.total == 0
    stage.give_back(same_user)
    stage.wait(0.01)
    assert both.leased == 1


def test_nothing_is_evicted_where_that_alone_would_not_help() -> None:
    stage = Stage(PoolSizes(5, max_database=1, max_user=1))
    idle, at_work = stage.pool("d", "v"), stage.pool("e", "u")
    stage.ask(idle)
    stage.ask(at_work)
    stage.give_back(idle)
    stage.wait(OLD)
    stage.ask(stage.pool("d", "u"))
    assert len(idle.idle) == 1


def test_the_reserve_is_for_who_has_waited_and_goes_again() -> None:
    stage = Stage(PoolSizes(1, reserve_size=1))
    pool = stage.pool()
    stage.ask(pool, 3)
    stage.wait(0.9)
    assert pool.total == 1
    stage.wait(0.2)
    assert (pool.total, pool.in_reserve, pool.waiting) == (2, 1, 1)
    stage.give_back(pool, 3)
    assert len(pool.idle) == 2
    pool.retire(stage.now)
    stage.settle()
    assert (pool.total, pool.in_reserve) == (1, 0)


def test_a_pool_is_warmed_where_that_is_in_nobodys_way() -> None:
    stage = Stage(PoolSizes(5, 2, max_backend=3))
    one, other = stage.pool("d", "u"), stage.pool("d", "v")
    one.warm(A, stage.now)
    stage.settle()
    other.warm(A, stage.now)
    stage.settle()
    assert (len(one.idle), len(other.idle)) == (2, 1)
    one.warm(A, stage.now)
    assert not one.to_open


def test_a_log_in_whose_waiter_has_left_goes_on_if_it_warms() -> None:
    stage = Stage(PoolSizes(5, 1))
    pool = stage.pool()
    stage.held = True
    stage.ask(pool, 2)
    pool.evict_waiters()
    assert not pool.needs(A)
    pool.open_failed(pool.to_open.pop(), stage.now, retry=True)
    assert pool.needs(A)
    pool.close()
    assert not pool.needs(A)


def test_nothing_is_warmed_while_somebody_waits() -> None:
    stage = Stage(PoolSizes(2, 2))
    pool = stage.pool()
    stage.held = True
    stage.ask(pool)
    pool.open_failed(pool.to_open.pop(), stage.now, retry=False)
    pool.warm(A, stage.now)
    assert not pool.to_open
    pool.retry(stage.now)
    assert pool.to_open == [A]


def test_what_the_server_has_room_for_is_a_cap() -> None:
    stage = Stage(PoolSizes(5, max_backend=4))
    budget = stage.budget
    assert budget.cap == 4
    budget.learn(BESIDE + 3)
    assert (budget.cap, budget.connections.limit.key) == (3, ("max_connections",))
    listening = [Place(budget) for _ in range(3)]
    assert budget.cap == 1  # one of them was provided for
    for place in listening:
        place.leave()
        place.leave()
    assert budget.cap == 3
    budget.learn(1)
    assert budget.cap == 1
    budget.learn(0)
    assert (budget.cap, budget.connections.limit.key[1]) == (4, "max_backend_connections")


def test_what_is_this_proxys_of_it_is_a_cap() -> None:
    """With what it opens beside its pools."""
    stage = Stage(PoolSizes(5, max_backend=6))
    budget = stage.budget
    budget.learn(BESIDE + 5)
    budget.divide(4)
    assert (budget.cap, budget.connections.limit.key) == (4, ("pool", "cluster_budget"))
    listening = [Place(budget) for _ in range(3)]
    assert budget.cap == 2
    budget.divide(1)
    assert budget.cap == 1
    for place in listening:
        place.leave()
    budget.divide(6)
    assert (budget.cap, budget.connections.limit.key) == (5, ("max_connections",))
    budget.divide(0)
    assert (budget.cap, budget.connections.limit.key) == (5, ("max_connections",))


def test_what_is_beyond_a_smaller_cap_is_closed_as_it_comes_back() -> None:
    stage = Stage(PoolSizes(5))
    pool = stage.pool()
    stage.ask(pool, 4)
    stage.give_back(pool)
    stage.budget.learn(BESIDE + 1)
    stage.wait(0)
    assert (pool.total, pool.leased) == (3, 3)
    stage.ask(pool)
    stage.give_back(pool)
    assert (pool.leased, pool.waiting) == (2, 1)
    stage.give_back(pool)
    assert (pool.leased, pool.waiting) == (1, 1)
    stage.give_back(pool)
    assert (pool.leased, pool.waiting) == (1, 0)


def test_a_pool_that_rests_after_a_failure_takes_nothing() -> None:
    stage = Stage(PoolSizes(5, max_backend=1))
    ill, well = stage.pool("d", "u"), stage.pool("d", "v")
    stage.held = True
    stage.ask(ill)
    stage.ask(well)
    assert well.to_open == []
    ill.open_failed(ill.to_open.pop(), stage.now, retry=False)
    assert well.to_open == [A]
    assert ill.to_open == []


def test_who_leaves_is_forgotten() -> None:
    stage = Stage(PoolSizes(5, max_backend=1))
    one, other = stage.pool("d", "u"), stage.pool("d", "v")
    stage.ask(one)
    stage.ask(other)
    other.evict_waiters()
    stage.budget.leave(other)
    assert stage.budget.hungry == []
    assert sorted(stage.budget.users) == ["u"]
    assert sorted(stage.budget.databases) == ["d"]


# --- under load


class Load:
    """Clients that ask again as soon as they have been served (or after `think`), in simulated time.
    Log-ins take 5 ms, ends 1 ms."""

    def __init__(
        self,
        sizes: PoolSizes,
        clients: dict[str, int],
        think: float = 0.0,
        statement: float = 0.002,
    ) -> None:
        self.stage = Stage(sizes)
        self.think = think
        self.statement = statement
        self.budget = self.stage.budget
        self.pools = {user: self.stage.pool("d", user) for user in clients}
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.number = 0
        self.served: Counter[str] = Counter()
        self.longest: Counter[str] = Counter()  # waits, in microseconds
        self.opened: Counter[str] = Counter()
        for user, count in clients.items():
            for _ in range(count):
                self.at(0.001 * self.number, lambda user=user: self.ask(user))  # type: ignore[misc]
        self.at(0, self.tick)

    @property
    def now(self) -> float:
        return self.stage.now

    def at(self, delay: float, what: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + delay, self.number, what))

    def tick(self) -> None:
        if self.budget.is_strained:
            self.budget.serve(self.now)
        self.carry_out()
        self.at(0.025, self.tick)

    def ask(self, user: str) -> None:
        pool = self.pools[user]
        slot = pool.acquire(A)
        if slot is None:
            pool.enqueue(Waiter(), A, self.now, FOREVER)
        else:
            self.serve(user, slot, 0.0)
        self.carry_out()

    def serve(self, user: str, slot: Slot, waited: float) -> None:
        self.served[user] += 1
        self.longest[user] = max(self.longest[user], round(waited * 1e6))
        self.at(self.statement, lambda: self.release(user, slot))

    def granted(self, user: str, slot: Slot, waiter: Waiter | None) -> None:
        if waiter is not None:
            self.serve(user, slot, self.now - waiter.waiting_since)
        self.carry_out()

    def release(self, user: str, slot: Slot) -> None:
        self.granted(user, slot, self.pools[user].release(slot, self.now))
        if self.think:
            self.at(self.think, lambda: self.ask(user))
        else:
            self.ask(user)

    def log_in(self, user: str, profile: Profile) -> None:
        slot = Slot(profile)
        self.opened[user] += 1
        self.granted(user, slot, self.pools[user].opened(slot, self.now))

    def end(self, user: str, slot: Slot) -> None:
        self.pools[user].gone(slot, self.now)
        self.carry_out()

    def carry_out(self) -> None:
        self.budget.changed.clear()
        for user, pool in self.pools.items():
            for profile in pool.to_open:
                self.at(0.005, lambda user=user, profile=profile: self.log_in(user, profile))  # type: ignore[misc]
            for slot in pool.to_close:
                self.at(0.001, lambda user=user, slot=slot: self.end(user, slot))  # type: ignore[misc]
            pool.to_open.clear()
            pool.to_close.clear()
        limit = self.budget.connections.limit
        assert limit.used <= limit.cap

    def run(self, seconds: float) -> None:
        self.served.clear()
        self.longest.clear()
        self.opened.clear()
        end = self.now + seconds
        while self.events[0][0] < end:
            self.stage.now, _, what = heapq.heappop(self.events)
            what()
        self.stage.now = end


def test_a_small_pool_beside_a_noisy_one() -> None:
    load = Load(PoolSizes(20, max_backend=8), {"noisy": 200, "small": 1})
    load.run(5)
    assert load.longest["small"] < 300_000
    assert load.served["small"] > 500
    load.run(5)
    assert load.opened.total() < 3, "they should have settled"


def test_the_hungry_come_to_equal_shares_and_stay_there() -> None:
    load = Load(PoolSizes(20, max_backend=9), {"a": 100, "b": 50, "c": 30}, statement=0.02)
    load.run(3)
    assert sorted(int(pool.alive()) for pool in load.pools.values()) == [3, 3, 3]
    load.run(3)
    assert load.opened.total() == 0
    uneven = Load(PoolSizes(20, max_backend=9), {"a": 100, "b": 50}, statement=0.02)
    uneven.run(3)
    assert sorted(int(pool.alive()) for pool in uneven.pools.values()) == [4, 5]
    uneven.run(3)
    assert uneven.opened.total() == 0


def test_with_fewer_places_than_pools_each_gets_its_turn() -> None:
    load = Load(PoolSizes(5, max_backend=2), dict.fromkeys("abcde", 3))
    load.run(2)
    load.run(10)
    assert max(load.served.values()) < 2 * min(load.served.values()), load.served
    # A turn lasts SWITCH_AFTER at least, on each place.
    assert load.opened.total() <= 2 * 10 / SWITCH_AFTER
    assert max(load.longest.values()) < 2e6


def test_pools_that_take_turns_by_the_statement_do_not_thrash() -> None:
    load = Load(PoolSizes(5, max_backend=1), {"a": 1, "b": 1}, think=0.003)
    load.run(1)
    load.run(10)
    assert load.opened.total() <= 10 / SWITCH_AFTER
    assert max(load.served.values()) < 2 * min(load.served.values()), load.served
