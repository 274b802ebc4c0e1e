"""HOT, PURE. Who is idle, leased, opening, closing; who waits. One `Ledger` for each pool, that is
for each (database, user) on one backend.

The ledger decides and keeps count; `pool.py` carries out. Operations return what is to happen now
(a slot, a waiter); what takes time is queued in `to_open` and `to_close`.

Every slot is in exactly one place:

* `idle`: logged in, clean, ready. The most recently used is taken first, so that the surplus ages.
* `leased`: works for one client, until `release`, `reset` or `discard`.
* `resetting`: a client left something behind; comes back by `release` when clean.
* `closing`: counted until the socket is gone, since PostgreSQL counts it too. One that `stays` until
  something has ended there is no room that comes.

and `opening` counts log-ins under way. Their sum never exceeds `size`, but by `reserve_size` for who
has waited longer than `reserve_timeout`; nor what the `Budget` of its backend allows.

A server connection is logged in with a `Profile`, what a session must have been begun with; a client
can only use one of its own profile. Of several the one is taken that has its settings already.
Waiters are served first come, first served within a profile, those first who are in the middle of a
transaction; a profile whose oldest waiter has
waited longer than `SWITCH_AFTER`, and longer than those of the connection's own profile, gets a
connection of another profile closed in its favour.

On a connection *spoilt* by settings that are not PostgreSQL's own (they exist there for good, and
show) only such clients can be served as have those settings too: who waits is passed over by the
spoilt ones, but gets one closed in its favour as well.
"""

from collections import deque
from typing import Final, final

from mypy_extensions import i64

from pgproxy.protocol.settings import NOTHING_SET, Settings
from pgproxy.servers.budget import SWITCH_AFTER, Budget, Sharer
from pgproxy.servers.limits import Limit
from pgproxy.servers.slots import (
    CLOSED,
    CLOSING,
    IDLE,
    LEASED,
    NEW,
    RESETTING,
    Profile,
    Slot,
    Waiter,
    serves,
)

# How many waiters are looked at to find one that a spoilt connection can serve.
LOOKED_AT: Final = 100


@final
class Ledger(Sharer):
    def __init__(
        self,
        size: int,
        *,
        idle_timeout: float = 0.0,
        lifetime: float = 0.0,
        queue: Limit | None = None,
        min_size: int = 0,
        reserve_size: int = 0,
        reserve_timeout: float = 0.0,
        guaranteed_size: int = 0,
        budget: Budget | None = None,
        database: str = "",
        user: str = "",
    ) -> None:
        """In `queue` all who wait are counted, here and elsewhere. `budget` is shared with other
        ledgers; None: no caps but the pool's own."""
        super().__init__(Budget() if budget is None else budget, database, user, guaranteed_size)
        self.whole_size: i64 = size  # over all workers, where there are several
        self.size: i64 = size
        self.is_shrinking = False  # there may be more than `size`
        self.is_warm = False  # it is to have `min_size` at least
        self.queue = Limit((), 0) if queue is None else queue
        self.min_size: i64 = min_size
        self.reserve_size: i64 = reserve_size
        self.reserve_timeout = reserve_timeout  # seconds
        self.idle_timeout = idle_timeout  # seconds; 0 = never
        self.lifetime = lifetime  # seconds; 0 = for ever
        self.idle: list[Slot] = []
        self.leased: i64 = 0
        self.resetting: i64 = 0
        self.closing: i64 = 0
        self.staying: i64 = 0  # of those
        self.opening: i64 = 0
        self.waiting: i64 = 0
        self.queues: dict[Profile, deque[Waiter]] = {}
        self.opening_for: dict[Profile, int] = {}  # `opening` by profile, without zeros
        self.to_open: list[Profile] = []
        self.to_close: list[Slot] = []
        self.closed_for_good = False
        self.is_resting = False  # a log-in has failed; the shell says when to try again

    @property
    def total(self) -> int:
        return int(len(self.idle) + self.leased + self.resetting + self.closing + self.opening)

    @property
    def in_reserve(self) -> int:
        """How many of the reserve there are."""
        return max(self.total - int(self.size), 0)

    # --- taking -------------------------------------------------------------------------------

    def acquire(
        self,
        profile: Profile,
        settings: Settings = NOTHING_SET,
        allowed: frozenset[str] | None = None,
    ) -> Slot | None:
        """An idle slot, leased from now on; None means: `enqueue`. Nobody overtakes a waiter, since
        none that is idle would do for one.

        No settings exist there but `allowed` (Waiter.allowed). Preferred is one that has `settings`.
        """
        idle = self.idle
        if idle and self.waiting == 0:
            slot = idle[-1]
            if (
                slot.profile is profile
                and slot.settings is settings
                and not slot.doomed
                and serves(slot, allowed)
            ):
                idle.pop()
                slot.place = LEASED
                self.leased += 1
                return slot
        return self._search(profile, settings, allowed)

    def _search(
        self, profile: Profile, settings: Settings, allowed: frozenset[str] | None
    ) -> Slot | None:
        found: i64 = -1
        best: i64 = -1
        index: i64 = len(self.idle) - 1
        while index >= 0:
            slot = self.idle[index]
            if slot.profile is profile and not slot.doomed and serves(slot, allowed):
                # Of those that will do, one that would not do for others.
                rank: i64 = 1000 if slot.settings is settings else len(slot.custom)
                if rank > best:
                    best = rank
                    found = index
            index -= 1
        if found < 0:
            return None
        slot = self.idle.pop(int(found))
        slot.place = LEASED
        self.leased += 1
        return slot

    def take_back(self, slot: Slot, allowed: frozenset[str] | None = None) -> bool:
        """Leases this slot, if it is idle, nobody waits and no settings exist there but `allowed`."""
        if slot.place != IDLE or slot.doomed or self.waiting or not serves(slot, allowed):
            return False
        self.idle.remove(slot)
        slot.place = LEASED
        self.leased += 1
        return True

    def enqueue(self, waiter: Waiter, profile: Profile, now: float, deadline: float) -> None:
        waiter.waiting_since = now
        waiter.homeless_since = 0.0
        waiter.deadline = deadline
        waiter.is_told = False
        queue = self._joined(waiter, profile)
        if waiter.is_urgent:
            queue.insert(_urgent(queue), waiter)
        else:
            queue.append(waiter)
        self._grow(now)

    def put_back(self, waiter: Waiter, profile: Profile, now: float) -> None:
        """It had a slot, but not the right to use it, and has it no more: it waits among those who
        wait here as long as it has waited."""
        queue = self._joined(waiter, profile)
        queue.insert(_before(queue, waiter), waiter)
        self._grow(now)

    def cancel(self, waiter: Waiter) -> None:
        """The waiter does not want it any more. Does nothing if it does not wait here."""
        profile = waiter.waits_for
        if profile is None:
            return
        queue = self.queues.get(profile)
        if queue is None or waiter not in queue:
            return
        queue.remove(waiter)
        self._left(queue, profile, waiter)

    def take_queue(self, profile: Profile) -> list[Waiter]:
        """All waiters of a profile; they do not wait any more."""
        queue = self.queues.pop(profile, None)
        if queue is None:
            return []
        self.waiting -= len(queue)
        self.queue.used -= len(queue)
        for waiter in queue:
            waiter.waits_for = None
        return list(queue)

    def resize(self, size: int, now: float) -> None:
        """How many there may be from now on. If there are more, the idle ones close now and others
        when they come back."""
        self.size = size
        surplus = self.alive() - size - self.reserve_size
        self.is_shrinking = surplus > 0
        while self.idle and surplus > 0:
            self.discard(self.idle[0])
            surplus -= 1
        self._grow(now)

    # --- giving back --------------------------------------------------------------------------

    def release(self, slot: Slot, now: float) -> Waiter | None:
        """A leased or resetting slot is clean again. Returns the waiter that has it now."""
        if slot.place == LEASED:
            self.leased -= 1
        else:
            assert slot.place == RESETTING, slot.place
            self.resetting -= 1
        return self._offer(slot, now)

    def opened(self, slot: Slot, now: float) -> Waiter | None:
        """A log-in has succeeded. Returns the waiter that has the slot now."""
        assert slot.place == NEW, slot.place
        self._opening_ends(slot.profile)
        slot.opened_at = now
        return self._offer(slot, now)

    def _offer(self, slot: Slot, now: float) -> Waiter | None:
        if slot.doomed or self.closed_for_good or self._expired(slot, now):
            self._close(slot)
            return None
        if self.is_shrinking:
            self.is_shrinking = self.alive() >= self.size + self.reserve_size
            if self.is_shrinking:
                self._close(slot)
                return None
        budget = self.budget
        if self.waiting:
            if budget.is_strained and budget.takes(self, slot.opened_at, now):
                self._close(slot)
                return None
            profile = self._next_profile(slot.profile, now)
            if profile is not slot.profile:
                self._close(slot)
                return None
            if profile in self.queues:
                waiter = self._waiter_for(slot, now)
                if waiter is not None:
                    slot.place = LEASED
                    self.leased += 1
                    return waiter
                if slot.place == CLOSING:
                    return None
        slot.place = IDLE
        slot.idle_since = now
        self.idle.append(slot)
        if budget.is_strained:
            budget.serve(now)
        return None

    def _waiter_for(self, slot: Slot, now: float) -> Waiter | None:
        """The oldest of the slot's profile that it can serve. The slot is closed if it is better
        than that, or if it can serve none, that another one be opened."""
        profile = slot.profile
        queue = self.queues[profile]
        waiter = queue[0]
        if not serves(slot, waiter.allowed):
            coming = self.closing - self.staying + self.opening
            if now - waiter.waiting_since > SWITCH_AFTER and coming < max(self.size // 4, 1):
                self._close(slot)
                return None
            left: i64 = LOOKED_AT
            for waiter in queue:
                left -= 1
                if left < 0 or serves(slot, waiter.allowed):
                    break
            else:
                if self._unmet() > 0:
                    self._close(slot)
                return None
            if left < 0:
                self._close(slot)
                return None
        if waiter is queue[0]:
            queue.popleft()
        else:
            queue.remove(waiter)
        self._left(queue, profile, waiter)
        return waiter

    def _next_profile(self, mine: Profile, now: float) -> Profile:
        """Whom a freed connection serves; another profile than its own means: close it."""
        if len(self.queues) == 1 and mine in self.queues:
            return mine
        oldest: Waiter | None = None
        uncovered: i64 = 0
        for profile in self.queues:
            waiter = self._first_uncovered(profile)
            if profile is mine or waiter is None:
                continue
            uncovered += self._uncovered(profile)
            if oldest is None or waiter.waiting_since < oldest.waiting_since:
                oldest = waiter
        if oldest is None or uncovered <= self.closing - self.staying:
            return mine  # room for the others is on its way
        assert oldest.waits_for is not None
        if mine not in self.queues:
            return oldest.waits_for
        is_older = oldest.waiting_since < self.queues[mine][0].waiting_since
        if is_older and now - oldest.waiting_since > SWITCH_AFTER:
            return oldest.waits_for
        return mine

    def reset(self, slot: Slot) -> None:
        """A leased slot has to be cleaned first."""
        assert slot.place == LEASED, slot.place
        self.leased -= 1
        self.resetting += 1
        slot.place = RESETTING

    def discard(self, slot: Slot, *, stays: bool = False) -> None:
        """A slot must not be used again, wherever it is; it is queued in `to_close`. With `stays`
        closing may take long."""
        if slot.place >= CLOSING:
            return
        self._leave(slot)
        slot.stays = stays
        self._close(slot)

    def gone(self, slot: Slot, now: float) -> None:
        """Its socket is closed, for whatever reason."""
        if slot.place == CLOSED:
            return
        if slot.place != NEW:
            self.left(slot.place == CLOSING and not slot.stays)
        self._leave(slot)
        slot.place = CLOSED
        self._room_made(now)

    def open_failed(self, profile: Profile, now: float, *, retry: bool) -> None:
        """A log-in has failed; with `retry` the next is queued at once if somebody waits."""
        self._opening_ends(profile)
        self.left(False)
        self.is_resting = not retry
        self._room_made(now)

    def retry(self, now: float) -> None:
        """Opens what waiters need, after a pause of the shell's choice."""
        self.is_resting = False
        self._grow(now)

    def warm(self, profile: Profile, now: float) -> None:
        """Opens connections up to `min_size`, where that is in nobody's way."""
        if self.closed_for_good or self.is_resting or self.waiting or self.budget.is_strained:
            return
        while self.alive() < self.min_size and self.total < self.size and self.has_room():
            self._open(profile)

    def needs(self, profile: Profile) -> bool:
        """Whether a log-in that has been queued is still of use."""
        if self.closed_for_good:
            return False
        return profile in self.queues or (not self.waiting and self.alive() <= self.min_size)

    # --- time ---------------------------------------------------------------------------------

    def expire(self, now: float) -> list[Waiter]:
        """Waiters whose deadline has passed; they do not wait any more."""
        expired: list[Waiter] = []
        for profile in list(self.queues):
            queue = self.queues[profile]
            late: list[Waiter] = []
            for waiter in queue:
                if waiter.deadline <= now:
                    late.append(waiter)
                elif not waiter.is_urgent:
                    break  # deadlines rise
            for waiter in late:
                queue.remove(waiter)
                self._left(queue, profile, waiter)
            expired += late
        return expired

    def look(self, now: float) -> None:
        """Opens what of the reserve is due by now."""
        if self.reserve_size > 0 and not self.is_resting:
            self._grow(now)

    def retire(self, now: float, keep: int = 0) -> None:
        """Closes idle slots that are too old, or more than a profile that is over has clients, or
        have been idle too long, or are of the reserve; `keep` stay for the latter two reasons."""
        for slot in list(self.idle):
            too_old = slot.doomed or self._expired(slot, now) or self._is_useless(slot)
            idle_long = self.idle_timeout > 0 and now - slot.idle_since >= self.idle_timeout
            is_spare = idle_long or self.alive() > self.size
            if too_old or (is_spare and self.alive() > keep):
                self.discard(slot)

    def _is_useless(self, slot: Slot) -> bool:
        """Whether there are fewer clients for it, and others like it, than of those."""
        profile = slot.profile
        if not profile.is_over:
            return False
        alike = [one for one in self.idle if one.profile is profile]
        return len(alike) > profile.clients

    def evict_waiters(self) -> list[Waiter]:
        """All waiters, oldest first in each profile; they do not wait here any more."""
        waiters: list[Waiter] = []
        for profile in list(self.queues):
            waiters.extend(self.take_queue(profile))
        return waiters

    def close(self) -> None:
        """No more connections: the idle ones close now, the others when they come back."""
        self.closed_for_good = True
        for slot in list(self.idle):
            self.discard(slot)

    # --- for the budget -----------------------------------------------------------------------

    def count(self) -> i64:
        return len(self.idle) + self.leased + self.resetting + self.closing + self.opening

    def alive(self) -> i64:
        return len(self.idle) + self.leased + self.resetting + self.opening + self.staying

    def wanted(self, now: float) -> i64:
        if self.closed_for_good or self.is_resting or self.waiting == 0:
            return 0
        uncovered: i64 = 0
        for profile in self.queues:
            uncovered += self._uncovered(profile)
        if uncovered == 0:
            return 0
        return max(min(uncovered, self._largest(now) - self.count()), 0)

    def hungry_since(self) -> float:
        oldest = self._oldest_uncovered()
        return 0.0 if oldest is None else oldest.waiting_since

    def open_next(self) -> None:
        oldest = self._oldest_uncovered()
        assert oldest is not None
        assert oldest.waits_for is not None
        self._open(oldest.waits_for)

    def idle_since(self, opened_before: float) -> float:
        for slot in self.idle:
            if slot.opened_at <= opened_before:
                return slot.idle_since
        return -1.0

    def evict(self, opened_before: float) -> None:
        for slot in self.idle:
            if slot.opened_at <= opened_before:
                self.discard(slot)
                return

    # --- inside -------------------------------------------------------------------------------

    def _expired(self, slot: Slot, now: float) -> bool:
        return self.lifetime > 0 and now - slot.opened_at >= self.lifetime

    def _joined(self, waiter: Waiter, profile: Profile) -> deque[Waiter]:
        """The queue in which it is to be put."""
        waiter.waits_for = profile
        self.waiting += 1
        self.queue.used += 1
        self.is_resting = False
        queue = self.queues.get(profile)
        if queue is None:
            queue = deque()
            self.queues[profile] = queue
        return queue

    def _left(self, queue: deque[Waiter], profile: Profile, waiter: Waiter) -> None:
        waiter.waits_for = None
        self.waiting -= 1
        self.queue.used -= 1
        if not queue:
            del self.queues[profile]

    def _leave(self, slot: Slot) -> None:
        place = slot.place
        if place == IDLE:
            self.idle.remove(slot)
        elif place == LEASED:
            self.leased -= 1
        elif place == RESETTING:
            self.resetting -= 1
        elif place == CLOSING:
            self.closing -= 1
            if slot.stays:
                self.staying -= 1

    def _close(self, slot: Slot) -> None:
        slot.place = CLOSING
        self.closing += 1
        if slot.stays:
            self.staying += 1
        else:
            self.leaves()
        self.to_close.append(slot)

    def _opening_ends(self, profile: Profile) -> None:
        self.opening -= 1
        left = self.opening_for[profile] - 1
        if left:
            self.opening_for[profile] = left
        else:
            del self.opening_for[profile]

    def _uncovered(self, profile: Profile) -> i64:
        """How many waiters of a profile no opening is meant for."""
        return max(len(self.queues[profile]) - self.opening_for.get(profile, 0), 0)

    def _unmet(self) -> i64:
        """How many waiters there are for whom neither an opening nor a closing is meant."""
        unmet: i64 = self.staying - self.closing
        for profile in self.queues:
            unmet += self._uncovered(profile)
        return unmet

    def _first_uncovered(self, profile: Profile) -> Waiter | None:
        queue = self.queues[profile]
        covered = self.opening_for.get(profile, 0)
        return queue[covered] if covered < len(queue) else None

    def _oldest_uncovered(self) -> Waiter | None:
        oldest: Waiter | None = None
        for profile in self.queues:
            waiter = self._first_uncovered(profile)
            if waiter is not None and (
                oldest is None or waiter.waiting_since < oldest.waiting_since
            ):
                oldest = waiter
        return oldest

    def _largest(self, now: float) -> i64:
        """How many there may be: the reserve counts if somebody has waited long enough for it."""
        if self.reserve_size > 0 and now - self.hungry_since() >= self.reserve_timeout:
            return self.size + self.reserve_size
        return self.size

    def _open(self, profile: Profile) -> None:
        self.opening += 1
        self.opening_for[profile] = self.opening_for.get(profile, 0) + 1
        self.entered()
        self.to_open.append(profile)

    def _room_made(self, now: float) -> None:
        """A connection is gone: room for another one here, or of another pool."""
        if not self.is_resting:
            self._grow(now)
        if self.budget.is_strained:
            self.budget.serve(now)

    def _grow(self, now: float) -> None:
        """Opens connections for waiters that no opening is meant for, as far as there is room.
        The longest waiting come first, whatever their profile."""
        if self.closed_for_good:
            return
        while self.wanted(now) > 0:
            if self.budget.is_strained or not self.has_room():
                self.budget.starve(self, now)
                break
            self.open_next()
        if self.idle and self.waiting:
            self._make_room()

    def _make_room(self) -> None:
        """Idle connections, which would do for nobody who waits, yield to those who do."""
        wanted = self._unmet()
        for slot in list(self.idle):
            if wanted <= 0:
                return
            self.discard(slot)
            wanted -= 1

    def check(self) -> None:
        """Asserts the invariants (for tests and debugging)."""
        assert min(self.leased, self.resetting, self.opening, self.waiting) >= 0
        assert 0 <= self.staying <= self.closing
        is_held = self.total <= self.size + self.reserve_size
        assert is_held or self.is_shrinking or self.closing, self
        assert all(slot.place == IDLE for slot in self.idle)
        assert sum(len(queue) for queue in self.queues.values()) == self.waiting
        assert all(self.queues.values()), "an empty queue is kept"
        assert sum(self.opening_for.values()) == self.opening
        assert all(self.opening_for.values()), "a profile without an opening is kept"
        served = self.opening + self.closing + self.leased + self.resetting
        if self.waiting and not self.closed_for_good:
            usable = [
                slot
                for slot in self.idle
                if any(serves(slot, waiter.allowed) for waiter in self.queues.get(slot.profile, ()))
            ]
            assert not usable, "a waiter sleeps while a connection for it is idle"
            is_partial = self.size < self.whole_size  # it may be given more
            is_awaited = served or self.total < self.size or is_partial
            assert is_awaited, "waiters, and nothing will ever wake them"

    def __repr__(self) -> str:
        return (
            f"<Ledger idle={len(self.idle)} leased={self.leased} resetting={self.resetting} "
            f"opening={self.opening} closing={self.closing} waiting={self.waiting} "
            f"size={self.size}>"
        )


def _urgent(queue: deque[Waiter]) -> int:
    """How many are before all others."""
    count = 0
    for waiter in queue:
        if not waiter.is_urgent:
            break
        count += 1
    return count


def _before(queue: deque[Waiter], waiter: Waiter) -> int:
    """How many are before this one, as they came."""
    count = 0
    for one in queue:
        if one.is_urgent == waiter.is_urgent:
            if one.waiting_since > waiter.waiting_since:
                break
        elif waiter.is_urgent:
            break
        count += 1
    return count
