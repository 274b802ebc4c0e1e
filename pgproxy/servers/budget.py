"""HOT, PURE. Caps that the pools of one backend share: how many server connections there are of all
of them, of one database, of one user. One `Budget` for each backend.

A pool asks before it opens, and tells when a connection is gone: each `Room` counts the connections
of all its pools, those being opened, reset or closed included, for PostgreSQL counts them too.

A pool whose waiters need a connection that a shared cap forbids is *hungry*. As long as there is one,
no pool opens anything but in its turn: the one with the fewest connections is next, of several the
one whose waiter is the oldest. What the hungry get:

* Idle connections of other pools in the same room are closed for them: of the pool with the largest
  surplus above its guaranteed size the one that has been idle longest. Connections within the
  guarantee are closed only for a pool that has none at all. One that has been idle for less than
  `SWITCH_AFTER` is closed only for a poorer pool: its clients may just be between two statements.
* A connection that comes back to a pool with waiters of its own stays there, unless a poorer pool has
  waited longer than `SWITCH_AFTER`.

Poorer is a pool that would still have fewer connections than the giver then, or as many, so that the
hungry come to equal shares and stay there; and one that has none, so that with fewer places than pools
each gets its turn.

Neither happens to a connection younger than `SWITCH_AFTER`: a log-in costs more than a statement, so
each turn lasts. Where two rooms are full at once, what the first of the hungry has waited for in the
one is kept for it until the other one has a place too.

What is decided for other pools than the one that asks is queued with them, and they are in
`changed`; `carry_out` has the shell see to it.
"""

from collections.abc import Callable
from typing import Final, final

from mypy_extensions import i64

from pgproxy.servers.limits import NO_CAP, Limit
from pgproxy.servers.sizes import PoolSizes, room_for_pools

# Seconds. Below it a returning connection goes to the oldest waiter of its own kind, even if another
# kind has an older one: reopening costs milliseconds, handing over microseconds.
SWITCH_AFTER: Final = 0.1

# Pools named to who has waited in vain.
NAMED: Final = 3

LEARNED: Final = ("max_connections",)
PORTION: Final = ("pool", "cluster_budget")
ANY_TIME: Final = float("inf")


@final
class Room:
    """A limit, and how many of those counted there are `leaving`: they make room soon."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.leaving: i64 = 0
        self.promised: i64 = 0  # places, in one pass over the hungry
        self.is_barren = False  # in this pass nobody was found who could leave

    @property
    def free(self) -> i64:
        return self.limit.cap - self.limit.used - self.promised

    @property
    def coming(self) -> i64:
        return self.limit.cap - self.limit.used - self.promised + self.leaving


class Sharer:
    """A pool's ledger, as far as the budget needs to know it."""

    def __init__(self, budget: "Budget", database: str, user: str, guaranteed: i64) -> None:
        self.budget = budget
        self.database = database
        self.user = user
        self.guaranteed: i64 = guaranteed
        self.rooms: list[Room] = budget.enter(self)
        self.rank: tuple[int, float] = (0, 0.0)
        self.carry_out: Callable[[], None] | None = None  # the shell's

    def count(self) -> i64:
        """Connections, whatever they do."""
        raise NotImplementedError

    def alive(self) -> i64:
        """Those that are not closing, or not soon."""
        raise NotImplementedError

    def wanted(self, now: float) -> i64:
        """How many it would open if there were room for them."""
        raise NotImplementedError

    def hungry_since(self) -> float:
        """The arrival of its oldest waiter whom no opening is meant for."""
        raise NotImplementedError

    def open_next(self) -> None:
        """Begins one log-in."""
        raise NotImplementedError

    def idle_since(self, opened_before: float) -> float:
        """Since when its oldest idle connection of those opened before then idles; -1: there is
        none."""
        raise NotImplementedError

    def evict(self, opened_before: float) -> None:
        """Closes that one."""
        raise NotImplementedError

    # --- what it tells its budget -------------------------------------------------------------

    def entered(self) -> None:
        """One is being opened."""
        for room in self.rooms:
            room.limit.used += 1

    def leaves(self) -> None:
        """One is being closed."""
        for room in self.rooms:
            room.leaving += 1

    def left(self, was_leaving: bool) -> None:
        """One is gone."""
        for room in self.rooms:
            room.limit.used -= 1
            if was_leaving:
                room.leaving -= 1

    def has_room(self) -> bool:
        return self.budget.full_room(self) is None


@final
class Budget:
    """`is_strained`: somebody is hungry, or there are more connections than there may be (`is_over`).
    Both may be true for too long, until the next `serve`."""

    def __init__(self, sizes: PoolSizes | None = None) -> None:
        self.sizes = PoolSizes(1) if sizes is None else sizes
        key = ("pool", "max_backend_connections")
        self.connections = Room(Limit(key, self.sizes.max_backend))
        self.databases: dict[str, Room] = {}
        self.users: dict[str, Room] = {}
        self.sharers: list[Sharer] = []
        self.hungry: list[Sharer] = []
        self.changed: list[Sharer] = []
        self.is_strained = False
        self.is_over = False
        self.evictions: i64 = 0  # connections closed for another pool
        self.beside: i64 = 0  # connections that listen; one is provided for
        self.learned: i64 = 0  # what the server has for us; 0: not known
        self.portion: i64 = 0  # what of it is this proxy's; 0: all

    def enter(self, sharer: Sharer) -> list[Room]:
        """The rooms that its connections are counted in, the narrowest first."""
        database = self.databases.get(sharer.database)
        if database is None:
            key, cap = self.sizes.of_database(sharer.database)
            database = Room(Limit(key, cap))
            self.databases[sharer.database] = database
        user = self.users.get(sharer.user)
        if user is None:
            key, cap = self.sizes.of_user(sharer.user)
            user = Room(Limit(key, cap))
            self.users[sharer.user] = user
        self.sharers.append(sharer)
        return [database, user, self.connections]

    def leave(self, sharer: Sharer) -> None:
        """It is empty, and will stay so."""
        self.sharers.remove(sharer)
        if sharer in self.hungry:
            self.hungry.remove(sharer)
        if not any(one.database == sharer.database for one in self.sharers):
            del self.databases[sharer.database]
        if not any(one.user == sharer.user for one in self.sharers):
            del self.users[sharer.user]

    @property
    def cap(self) -> int:
        """Of all connections of the pools; 0: none."""
        cap = int(self.connections.limit.whole)
        return 0 if cap == NO_CAP else cap

    # --- how many there may be ----------------------------------------------------------------

    def learn(self, room: int) -> None:
        """The server has that many places for ordinary users; 0: that is not known."""
        self.learned = room
        self._cap()

    def divide(self, portion: int) -> None:
        """So many are for this proxy, whose pools share them with what it opens beside; 0: there is
        no other one."""
        self.portion = portion
        self._cap()

    def open_beside(self, more: int) -> None:
        """So many more connections are open there that belong to no pool (or fewer: negative)."""
        self.beside += more
        self._cap()

    def _cap(self) -> None:
        limit = self.connections.limit
        cap: i64 = self.sizes.max_backend or NO_CAP
        limit.key = ("pool", "max_backend_connections")
        extra: i64 = max(self.beside - 1, 0)
        if self.learned > 0:
            room: i64 = room_for_pools(int(self.learned - extra))
            if room < cap:
                cap = room
                limit.key = LEARNED
        if self.portion > 0 and max(self.portion - extra, 1) < cap:
            cap = max(self.portion - extra, 1)
            limit.key = PORTION
        limit.whole = cap
        limit.bind(cap)
        self.look()

    def look(self) -> None:
        """A cap may have changed; the next `serve` sees to it."""
        self.is_over = True
        self.is_strained = True

    # --- the hungry ---------------------------------------------------------------------------

    def starve(self, sharer: Sharer, now: float) -> None:
        """It wants more connections than it may open now."""
        self.is_strained = True
        if sharer not in self.hungry:
            self.hungry.append(sharer)
        self.serve(now)

    def serve(self, now: float) -> None:
        """One pass over the hungry: they open what there is room for, and others make room."""
        hungry: list[Sharer] = []
        for sharer in self.hungry:
            if sharer.wanted(now) > 0:
                sharer.rank = (int(sharer.alive()), sharer.hungry_since())
                for room in sharer.rooms:
                    room.promised = 0
                    room.is_barren = False
                hungry.append(sharer)
        if len(hungry) > 1:
            hungry.sort(key=_by_rank)
        if self.is_over:
            self.is_over = self._trim()
        may_claim = True
        for sharer in hungry:
            claims = may_claim and now - sharer.hungry_since() > SWITCH_AFTER
            self._serve(sharer, now, claims)
            if claims:
                may_claim = False
        self.hungry = [sharer for sharer in hungry if sharer.wanted(now) > 0]
        self.is_strained = self.is_over or len(self.hungry) > 0

    def _serve(self, sharer: Sharer, now: float, claims: bool) -> None:
        """With `claims` the places that it must wait for are kept for it."""
        wanted = sharer.wanted(now)
        while wanted > 0:
            if self._is_free_for(sharer):
                if sharer.wanted(now) <= 0:
                    return
                sharer.open_next()
                self._change(sharer)
            elif self._make_room(sharer, now):
                for room in sharer.rooms:
                    room.promised += 1
            else:
                if claims:
                    for room in sharer.rooms:
                        room.promised += 1
                return
            wanted -= 1

    def _is_free_for(self, sharer: Sharer) -> bool:
        return all(room.free > 0 for room in sharer.rooms)

    def _make_room(self, sharer: Sharer, now: float) -> bool:
        """Whether in each of its rooms a place is free, comes, or is made free by an eviction. Who is
        to go is known for all rooms before anybody goes."""
        victims: list[Sharer] = []
        for room in sharer.rooms:
            if room.coming > 0 or any(room in victim.rooms for victim in victims):
                continue
            victim = self._victim(sharer, room, now)
            if victim is None:
                return False
            victims.append(victim)
        for victim in victims:
            victim.evict(now - SWITCH_AFTER)
            self.evictions += 1
            self._change(victim)
        return True

    def _victim(self, sharer: Sharer, room: Room, now: float) -> Sharer | None:
        """Whose idle connection is to go, in that room; with nobody there, this is not looked for
        again in this pass."""
        if room.is_barren:
            return None
        opened_before = now - SWITCH_AFTER  # and idle since before, if it is to be long
        takes_all = sharer.alive() == 0
        is_barren = True
        found: Sharer | None = None
        most: i64 = 0
        longest = 0.0
        for one in self.sharers:
            if one is sharer or room not in one.rooms:
                continue
            since = one.idle_since(opened_before)
            if since < 0:
                continue
            is_barren = False
            if since > opened_before and not _is_poorer(sharer, one.alive()):
                continue
            surplus: i64 = one.alive() - one.guaranteed
            if surplus <= 0 and not takes_all:
                continue
            if found is None or surplus > most or (surplus == most and since < longest):
                found = one
                most = surplus
                longest = since
        room.is_barren = is_barren
        return found

    def takes(self, giver: Sharer, opened_at: float, now: float) -> bool:
        """Whether a connection that comes back to a pool with waiters is to be closed: for another
        pool, or because there are too many."""
        if self.is_over:
            for room in giver.rooms:
                if room.limit.used - room.leaving > room.limit.cap:
                    return True
        if now - opened_at < SWITCH_AFTER:
            return False
        alive: i64 = giver.alive() + 1  # with this one, which is in nobody's books now
        first: Sharer | None = None
        for sharer in self.hungry:
            waited = now - sharer.hungry_since()
            if sharer is giver or waited <= SWITCH_AFTER or sharer.wanted(now) <= 0:
                continue
            if first is None:
                first = sharer
            if _is_poorer(sharer, alive) and _helps(giver, sharer, sharer is first):
                self.evictions += 1
                return True
        return False

    def _trim(self) -> bool:
        """Closes idle connections where there are more than there may be. Whether there still are."""
        is_over = self._trim_room(self.connections)
        for name in self.databases:
            is_over = self._trim_room(self.databases[name]) or is_over
        for name in self.users:
            is_over = self._trim_room(self.users[name]) or is_over
        return is_over

    def _trim_room(self, room: Room) -> bool:
        limit = room.limit
        while limit.used - room.leaving > limit.cap:
            found: Sharer | None = None
            most: i64 = 0
            for one in self.sharers:
                if room in one.rooms and one.idle_since(ANY_TIME) >= 0:
                    surplus: i64 = one.alive() - one.guaranteed
                    if found is None or surplus > most:
                        found = one
                        most = surplus
            if found is None:
                return True
            found.evict(ANY_TIME)
            self._change(found)
        return False

    # --- for the shell ------------------------------------------------------------------------

    def _change(self, sharer: Sharer) -> None:
        if sharer not in self.changed:
            self.changed.append(sharer)

    def carry_out(self) -> None:
        """What was decided for pools in passing."""
        while self.changed:
            carry_out = self.changed.pop(0).carry_out
            if carry_out is not None:
                carry_out()

    def full_room(self, sharer: Sharer) -> Room | None:
        """The cap that keeps a pool from opening another one."""
        for room in sharer.rooms:
            if not room.limit.has_room:
                return room
        return None

    def holders(self, room: Room) -> str:
        """Whose pools have most of the connections in a room."""
        sharers = [one for one in self.sharers if room in one.rooms and one.count() > 0]
        sharers.sort(key=_by_count)
        told = [
            f'{one.count()} of database "{one.database}", user "{one.user}"'
            for one in sharers[:NAMED]
        ]
        return ", ".join(told)

    def check(self, now: float) -> None:
        """Asserts the invariants (for tests and debugging)."""
        for room in [self.connections, *self.databases.values(), *self.users.values()]:
            inside = [one for one in self.sharers if room in one.rooms]
            assert room.limit.used == sum([one.count() for one in inside]), room.limit
            assert room.leaving == sum([one.count() - one.alive() for one in inside]), room.limit
        for sharer in self.sharers:
            if sharer.wanted(now) > sharer.count() - sharer.alive():
                assert sharer in self.hungry, "it wants connections, and nobody knows"
        assert self.is_strained or not self.hungry


@final
class Place:
    """Of one connection beside the pools, until it leaves."""

    def __init__(self, budget: Budget) -> None:
        self._budget: Budget | None = budget
        budget.open_beside(1)

    def leave(self) -> None:
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.open_beside(-1)


def _by_rank(sharer: Sharer) -> tuple[int, float]:
    return sharer.rank


def _by_count(sharer: Sharer) -> int:
    return -int(sharer.count())


def _is_poorer(sharer: Sharer, giver_has: i64) -> bool:
    has = sharer.alive()
    return has == 0 or has + 1 < giver_has


def _helps(giver: Sharer, sharer: Sharer, is_first: bool) -> bool:
    """Whether a place of the giver's is what the hungry one lacks: in every room that is full and
    where nothing comes; for the first of the hungry one of them will do, which is kept for it."""
    helps = False
    for room in sharer.rooms:
        if room.limit.used - room.leaving < room.limit.cap:
            continue
        if room in giver.rooms:
            helps = True
        elif not is_first:
            return False
    return helps
