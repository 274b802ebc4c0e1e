"""Properties of the caps that pools share: whatever happens in whatever order, no cap is exceeded at
any step, and nobody waits for ever."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgproxy.servers.budget import SWITCH_AFTER, Budget, Room
from pgproxy.servers.ledger import Ledger
from pgproxy.servers.sizes import PoolSizes
from pgproxy.servers.slots import CLOSED, CLOSING, IDLE, LEASED, RESETTING, Profile, Slot, Waiter

PROFILES: Final = [Profile([(b"application_name", name)]) for name in (b"a", b"b")]
NAMES: Final = [(database, user) for database in ("d", "e") for user in ("u", "v", "w")]
FOREVER: Final = 1e9

pools = st.integers(0, len(NAMES) - 1)


class BudgetMachine(RuleBasedStateMachine):
    """Plays the shell of several pools on one backend, and keeps its own books."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.slots: list[tuple[Ledger, Slot]] = []  # every one that was opened and is not gone
        self.logging_in: list[tuple[Ledger, Profile]] = []
        self.waiting: list[tuple[Ledger, Waiter]] = []
        self.lowered = False  # a cap has been lowered, perhaps below what there is

    @initialize(
        size=st.integers(1, 4),
        backend=st.integers(0, 5),
        database=st.integers(0, 3),
        user=st.integers(0, 3),
        own=st.integers(1, 3),
        reserve=st.integers(0, 2),
        min_size=st.integers(0, 2),
        guaranteed=st.integers(0, 2),
    )
    def begin(
        self,
        size: int,
        backend: int,
        database: int,
        user: int,
        own: int,
        reserve: int,
        min_size: int,
        guaranteed: int,
    ) -> None:
        sizes = PoolSizes(
            size,
            min_size,
            reserve,
            guaranteed,
            max_backend=backend,
            max_database=database,
            max_user=user,
            users={"w": {"max_connections": own, "min_size": 0}},
        )
        self.budget = Budget(sizes)
        self.ledgers = []
        for database_name, user_name in NAMES:
            one = sizes.of(database_name, user_name)
            self.ledgers.append(
                Ledger(
                    one.size,
                    min_size=one.min_size,
                    reserve_size=one.reserve_size,
                    reserve_timeout=1.0,
                    guaranteed_size=one.guaranteed_size,
                    budget=self.budget,
                    database=database_name,
                    user=user_name,
                )
            )

    # --- what the shell does

    def carry_out(self, asked: Ledger) -> None:
        for ledger in [asked, *self.budget.changed]:
            assert isinstance(ledger, Ledger)
            ledger.to_close.clear()
            self.logging_in += [(ledger, profile) for profile in ledger.to_open]
            ledger.to_open.clear()
        self.budget.changed.clear()
        for ledger in self.ledgers:
            assert not ledger.to_close, "closed for another, and nobody is told"
            assert not ledger.to_open, "to be opened, and nobody is told"

    def granted(self, waiter: Waiter | None) -> None:
        if waiter is not None:
            self.waiting = [entry for entry in self.waiting if entry[1] is not waiter]

    def at(self, *places: int) -> list[tuple[Ledger, Slot]]:
        return [entry for entry in self.slots if entry[1].place in places]

    def log_in(self, ledger: Ledger, profile: Profile) -> None:
        slot = Slot(profile)
        self.slots.append((ledger, slot))
        self.granted(ledger.opened(slot, self.now))
        self.carry_out(ledger)

    def give_back(self, ledger: Ledger, slot: Slot) -> None:
        self.granted(ledger.release(slot, self.now))
        self.carry_out(ledger)

    def lose(self, ledger: Ledger, slot: Slot) -> None:
        ledger.gone(slot, self.now)
        assert slot.place == CLOSED
        self.slots = [entry for entry in self.slots if entry[1] is not slot]
        self.carry_out(ledger)

    def tick(self, seconds: float) -> None:
        """As Cluster.tick and, once a second, Cluster.retire."""
        self.now += seconds
        for ledger in self.ledgers:
            late = ledger.expire(self.now)
            self.waiting = [entry for entry in self.waiting if entry[1] not in late]
            if ledger.waiting:
                ledger.look(self.now)
            self.carry_out(ledger)
        if self.budget.is_strained:
            self.budget.serve(self.now)
        self.carry_out(self.ledgers[0])

    # --- clients

    @rule(pool=pools, profile=st.sampled_from(PROFILES), patience=st.sampled_from([0.5, FOREVER]))
    def acquire(self, pool: int, profile: Profile, patience: float) -> None:
        ledger = self.ledgers[pool]
        if ledger.acquire(profile) is not None:
            return
        waiter = Waiter()
        self.waiting.append((ledger, waiter))
        ledger.enqueue(waiter, profile, self.now, self.now + patience)
        self.carry_out(ledger)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ledger, waiter = data.draw(st.sampled_from(self.waiting))
        ledger.cancel(waiter)
        self.granted(waiter)

    @precondition(lambda self: self.at(LEASED, RESETTING))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.give_back(*data.draw(st.sampled_from(self.at(LEASED, RESETTING))))

    @precondition(lambda self: self.at(LEASED))
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        ledger, slot = data.draw(st.sampled_from(self.at(LEASED)))
        ledger.reset(slot)

    # --- servers

    @precondition(lambda self: self.logging_in)
    @rule(data=st.data())
    def opened(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.logging_in) - 1))
        self.log_in(*self.logging_in.pop(index))

    @precondition(lambda self: self.logging_in)
    @rule(data=st.data(), retry=st.booleans())
    def open_failed(self, data: st.DataObject, retry: bool) -> None:
        index = data.draw(st.integers(0, len(self.logging_in) - 1))
        ledger, profile = self.logging_in.pop(index)
        ledger.open_failed(profile, self.now, retry=retry)
        self.carry_out(ledger)

    @rule(pool=pools)
    def retry(self, pool: int) -> None:
        self.ledgers[pool].retry(self.now)
        self.carry_out(self.ledgers[pool])

    @precondition(lambda self: self.at(CLOSING))
    @rule(data=st.data())
    def closed(self, data: st.DataObject) -> None:
        self.lose(*data.draw(st.sampled_from(self.at(CLOSING))))

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        self.lose(*data.draw(st.sampled_from(self.slots)))

    @precondition(lambda self: self.at(IDLE, LEASED, RESETTING))
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        ledger, slot = data.draw(st.sampled_from(self.at(IDLE, LEASED, RESETTING)))
        ledger.discard(slot)
        self.carry_out(ledger)

    # --- time and the operator

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.5]))
    def wait(self, seconds: float) -> None:
        self.tick(seconds)

    @rule(pool=pools)
    def sweep(self, pool: int) -> None:
        ledger = self.ledgers[pool]
        ledger.retire(self.now, keep=int(ledger.min_size))
        before = len(self.waiting)
        ledger.warm(PROFILES[0], self.now)
        assert not ledger.to_open or before == 0 or not ledger.waiting
        self.carry_out(ledger)

    @rule(room=st.integers(4, 12))
    def learn(self, room: int) -> None:
        before = self.budget.connections.limit.cap
        self.budget.learn(room)
        self.lowered = self.lowered or self.budget.connections.limit.cap < before
        self.tick(0.0)

    @rule(portion=st.integers(0, 12))
    def divide(self, portion: int) -> None:
        before = self.budget.connections.limit.cap
        self.budget.divide(portion)
        self.lowered = self.lowered or self.budget.connections.limit.cap < before
        self.tick(0.0)

    # --- what must always hold

    def rooms(self) -> list[Room]:
        budget = self.budget
        return [budget.connections, *budget.databases.values(), *budget.users.values()]

    @invariant()
    def no_cap_is_exceeded(self) -> None:
        if not hasattr(self, "budget"):
            return
        for room in self.rooms():
            counted = sum(room in ledger.rooms for ledger, _ in self.slots)
            counted += sum(room in ledger.rooms for ledger, _ in self.logging_in)
            assert room.limit.used == counted
            if room is not self.budget.connections or not self.lowered:
                assert counted <= room.limit.cap, room.limit
        for ledger in self.ledgers:
            ledger.check()
        self.budget.check(self.now)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """What can be done for the hungry at this moment has been done, at the latest with a tick."""
        if not hasattr(self, "budget"):
            return
        self.tick(0.0)
        hungry = self.budget.hungry
        if len(hungry) != 1:
            return  # places may be kept for the first of several
        (one,) = hungry
        full = [room for room in one.rooms if not room.limit.has_room]
        assert full, "there is room, and it does not open"
        if len(full) > 1 or full[0].leaving:
            return
        for ledger in self.ledgers:
            if ledger is one or full[0] not in ledger.rooms:
                continue
            old = [slot for slot in ledger.idle if slot.opened_at <= self.now - SWITCH_AFTER]
            spare = ledger.alive() > ledger.guaranteed or one.alive() == 0
            assert not (old and spare), "an idle connection could make room"

    def teardown(self) -> None:
        """Everybody gives back what he has, time passes, and then everybody who waits is served."""
        if not hasattr(self, "budget"):
            return
        for ledger in self.ledgers:
            ledger.retry(self.now)
            self.carry_out(ledger)
        for _ in range(60 + 4 * len(self.waiting)):
            for entry in list(self.logging_in):
                self.logging_in.remove(entry)
                self.log_in(*entry)
            for ledger, slot in self.at(CLOSING):
                self.lose(ledger, slot)
            for ledger, slot in self.at(LEASED, RESETTING):
                if slot.place in (LEASED, RESETTING):
                    self.give_back(ledger, slot)
            self.tick(0.15)
            if not self.waiting:
                break
        assert not self.waiting, "a waiter was never served"
        for ledger in self.ledgers:
            ledger.close()
            self.carry_out(ledger)
        for ledger, slot in list(self.slots):
            self.lose(ledger, slot)
        for ledger, profile in list(self.logging_in):
            ledger.open_failed(profile, self.now, retry=False)
        self.logging_in.clear()
        assert [room.limit.used for room in self.rooms()] == [0] * len(self.rooms())
        assert [room.leaving for room in self.rooms()] == [0] * len(self.rooms())


BudgetMachine.TestCase.settings = settings(stateful_step_count=50)
TestBudget = BudgetMachine.TestCase
