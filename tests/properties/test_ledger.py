"""Properties of the ledger: whatever happens in whatever order, nothing is lost or used twice."""

from collections import deque
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from pgproxy.servers.ledger import Ledger
from pgproxy.servers.slots import CLOSED, CLOSING, IDLE, LEASED, RESETTING, Profile, Slot, Waiter

PROFILES: Final = [Profile([(b"application_name", name)]) for name in (b"a", b"b", b"c")]

profiles = st.sampled_from(PROFILES)
# Settings that are not PostgreSQL's own, which a client has made.
customs = st.sampled_from([frozenset(), frozenset({"app.a"}), frozenset({"app.a", "app.b"}), None])


def fits(slot: Slot, custom: frozenset[str] | None) -> bool:
    return custom is None or slot.custom <= custom


class LedgerMachine(RuleBasedStateMachine):
    """Plays the pool: carries out what the ledger decides, in any order, and keeps its own books."""

    waiters: "Bundle[Waiter]" = Bundle("waiters")  # also those that do not wait any more

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.queues: dict[Profile, deque[Waiter]] = {profile: deque() for profile in PROFILES}
        self.slots: list[Slot] = []  # every one that was opened and is not gone
        self.logging_in: list[Profile] = []
        self.pauses = False  # a log-in failed and the shell will ask again later

    @initialize(
        size=st.integers(1, 4),
        lifetime=st.sampled_from([0.0, 5.0]),
        idle=st.sampled_from([0.0, 3.0]),
    )
    def begin(self, size: int, lifetime: float, idle: float) -> None:
        self.ledger = Ledger(size, idle_timeout=idle, lifetime=lifetime)

    # --- what the shell does with the ledger's answers

    def carry_out(self) -> None:
        for slot in self.ledger.to_close:
            assert slot.place == CLOSING
            assert slot in self.slots
        self.ledger.to_close.clear()
        self.logging_in.extend(self.ledger.to_open)
        self.ledger.to_open.clear()

    def granted(self, slot: Slot, waiter: Waiter | None) -> None:
        if waiter is None:
            assert slot.place in (IDLE, CLOSING)
            return
        assert slot.place == LEASED
        queue = self.queues[slot.profile]
        served = next(waiter for waiter in queue if fits(slot, waiter.allowed))
        assert waiter is served, "not first come, first served"
        queue.remove(waiter)
        assert waiter.waits_for is None
        self.spoil(slot, waiter.allowed)

    def spoil(self, slot: Slot, custom: frozenset[str] | None) -> None:
        """The client makes its settings there."""
        slot.custom.update(custom or ())

    def at(self, *places: int) -> list[Slot]:
        return [slot for slot in self.slots if slot.place in places]

    def pick(self, data: st.DataObject, *places: int) -> Slot:
        return data.draw(st.sampled_from(self.at(*places)), "slot")

    def remove(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            assert waiter.waits_for is None
            next(queue for queue in self.queues.values() if waiter in queue).remove(waiter)

    # --- clients

    @rule(
        target=waiters,
        profile=profiles,
        patience=st.sampled_from([0.5, 2.0, 100.0]),
        custom=customs,
        urgent=st.booleans(),
    )
    def acquire(
        self, profile: Profile, patience: float, custom: frozenset[str] | None, urgent: bool
    ) -> object:
        before = self.at(IDLE)
        slot = self.ledger.acquire(profile, allowed=custom)
        if slot is None:
            waiter = Waiter()
            waiter.allowed = custom
            waiter.is_urgent = urgent
            self.join(profile, waiter, at_front=urgent)
            self.ledger.enqueue(waiter, profile, self.now, self.now + patience)
            self.carry_out()
            return waiter
        assert slot in before
        assert slot.profile is profile
        assert slot.place == LEASED
        assert not slot.doomed
        overtaken = [one for one in self.queues[profile] if fits(slot, one.allowed)]
        assert not overtaken, "overtook one who waits"
        assert fits(slot, custom), "another's settings exist there"
        self.spoil(slot, custom)
        return multiple()

    def join(self, profile: Profile, waiter: Waiter, *, at_front: bool) -> None:
        """In front of all but the urgent ones, or at the end."""
        queue = self.queues[profile]
        urgent = 0
        while urgent < len(queue) and queue[urgent].is_urgent:
            urgent += 1
        queue.insert(urgent if at_front else len(queue), waiter)

    @precondition(lambda self: self.at(LEASED))
    @rule(target=waiters, data=st.data(), kept=st.booleans(), waited=st.sampled_from([0.0, 0.5]))
    def put_back(self, data: st.DataObject, kept: bool, waited: float) -> Waiter:
        """One who has a slot, and may not use it yet, loses it: to another one, or altogether."""
        slot = self.pick(data, LEASED)
        waiter = Waiter()
        waiter.waiting_since = self.now - waited
        waiter.deadline = self.now + 1.0
        if not kept:
            self.ledger.discard(slot)
        queue = self.queues[slot.profile]
        before = [one for one in queue if one.is_urgent or one.waiting_since <= self.now - waited]
        queue.insert(len(before), waiter)
        self.ledger.put_back(waiter, slot.profile, self.now)
        self.carry_out()
        return waiter

    @rule(waiter=waiters)
    def cancel(self, waiter: Waiter) -> None:
        # Also after it was granted, refused or cancelled: then it must be without effect.
        for queue in self.queues.values():
            if waiter in queue:
                queue.remove(waiter)
        self.ledger.cancel(waiter)
        assert waiter.waits_for is None

    @precondition(lambda self: self.at(LEASED, RESETTING))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        slot = self.pick(data, LEASED, RESETTING)
        self.granted(slot, self.ledger.release(slot, self.now))
        self.carry_out()

    @precondition(lambda self: self.at(LEASED))
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        self.ledger.reset(self.pick(data, LEASED))

    # --- servers

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        slot = self.pick(data, IDLE, LEASED, RESETTING, CLOSING)
        self.ledger.discard(slot)
        assert slot.place == CLOSING
        self.carry_out()

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        slot = self.pick(data, IDLE, LEASED, RESETTING, CLOSING)
        self.ledger.gone(slot, self.now)
        assert slot.place == CLOSED
        self.slots.remove(slot)
        self.ledger.gone(slot, self.now)  # it may be told twice
        self.carry_out()

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def doom(self, data: st.DataObject) -> None:
        self.pick(data, IDLE, LEASED, RESETTING, CLOSING).doomed = True
        self.ledger.retire(self.now)  # as Pool.drop_idle does
        self.carry_out()

    @precondition(lambda self: self.logging_in)
    @rule(data=st.data())
    def opened(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.logging_in) - 1))
        slot = Slot(self.logging_in.pop(index))
        self.slots.append(slot)
        self.granted(slot, self.ledger.opened(slot, self.now))
        self.carry_out()

    @precondition(lambda self: self.logging_in)
    @rule(data=st.data(), retry=st.booleans())
    def open_failed(self, data: st.DataObject, retry: bool) -> None:
        index = data.draw(st.integers(0, len(self.logging_in) - 1))
        self.ledger.open_failed(self.logging_in.pop(index), self.now, retry=retry)
        self.pauses = self.pauses or not retry
        self.carry_out()

    @rule()
    def retry(self) -> None:
        self.pauses = False
        self.ledger.retry(self.now)
        self.carry_out()

    # --- time and the operator

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        late = {
            waiter
            for queue in self.queues.values()
            for waiter in queue
            if waiter.deadline <= self.now
        }
        expired = self.ledger.expire(self.now)
        # Deadlines of one profile rise in practice; here one behind a patient one may be kept.
        assert set(expired) <= late
        self.remove(expired)

    @rule(keep=st.integers(0, 3))
    def retire(self, keep: int) -> None:
        alive = [slot for slot in self.slots if slot.place != CLOSING]
        too_old = [
            slot
            for slot in alive
            if slot.doomed
            or (self.ledger.lifetime and self.now - slot.opened_at >= self.ledger.lifetime)
        ]
        self.ledger.retire(self.now, keep)
        left = [slot for slot in self.slots if slot.place != CLOSING]
        assert len(left) + len(self.logging_in) >= min(keep, len(alive) - len(too_old))
        self.carry_out()

    @rule()
    def evict_waiters(self) -> None:
        evicted = self.ledger.evict_waiters()
        assert sorted(map(id, evicted)) == sorted(
            id(waiter) for queue in self.queues.values() for waiter in queue
        )
        self.remove(evicted)

    @rule(profile=profiles)
    def take_queue(self, profile: Profile) -> None:
        assert self.ledger.take_queue(profile) == list(self.queues[profile])
        self.queues[profile].clear()

    @precondition(lambda self: len(self.slots) > 2)
    @rule()
    def close(self) -> None:
        self.ledger.close()
        self.carry_out()
        assert not self.at(IDLE)

    # --- what must always hold

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "ledger"):
            return
        ledger = self.ledger
        ledger.check()
        assert len(set(ledger.idle)) == len(ledger.idle)
        assert set(ledger.idle) == set(self.at(IDLE))
        assert ledger.leased == len(self.at(LEASED))
        assert ledger.queue.used == ledger.waiting
        assert ledger.resetting == len(self.at(RESETTING))
        assert ledger.closing == len(self.at(CLOSING))
        assert ledger.opening == len(self.logging_in)
        assert ledger.total == len(self.slots) + len(self.logging_in) <= ledger.size
        assert {profile: list(queue) for profile, queue in self.queues.items() if queue} == {
            profile: list(queue) for profile, queue in ledger.queues.items()
        }

    @invariant()
    def nobody_sleeps_in_vain(self) -> None:
        if not hasattr(self, "ledger") or self.ledger.closed_for_good:
            return
        ledger = self.ledger
        for profile, queue in self.queues.items():
            # Enough log-ins for it are under way, or there is no room for another.
            has_openings = self.logging_in.count(profile) >= len(queue)
            assert has_openings or ledger.total == ledger.size or self.pauses, ledger
        uncovered = sum(
            max(len(queue) - self.logging_in.count(profile), 0)
            for profile, queue in self.queues.items()
        )
        if uncovered > ledger.closing and not self.pauses:
            assert not ledger.idle, "an idle connection that serves nobody does not make room"

    def teardown(self) -> None:
        """Whatever the state is, all comes to an end."""
        if not hasattr(self, "ledger"):
            return
        ledger = self.ledger
        for _ in range(50 + 4 * int(ledger.waiting)):
            if self.pauses:
                self.retry()
            for profile in list(self.logging_in):
                self.logging_in.remove(profile)
                slot = Slot(profile)
                self.slots.append(slot)
                self.granted(slot, ledger.opened(slot, self.now))
                self.carry_out()
            for slot in self.at(CLOSING):
                ledger.gone(slot, self.now)
                self.slots.remove(slot)
                self.carry_out()
            for slot in self.at(LEASED, RESETTING):
                self.granted(slot, ledger.release(slot, self.now))
                self.carry_out()
        assert ledger.waiting == 0 or ledger.closed_for_good, "a waiter was never served"
        ledger.evict_waiters()
        ledger.close()
        self.carry_out()
        for slot in list(self.slots):
            ledger.gone(slot, self.now)
        self.carry_out()
        assert ledger.total == 0
        assert (ledger.leased, ledger.resetting, ledger.closing, ledger.opening) == (0, 0, 0, 0)
        assert not ledger.idle
        assert not ledger.queues


LedgerMachine.TestCase.settings = settings(stateful_step_count=60)
TestLedger = LedgerMachine.TestCase
