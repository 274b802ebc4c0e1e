"""HOT, PURE. Which server gets the next read (`routing.balance`).

Only servers that show everything committed before `after` come into question, and of those the best
rank that there is: servers of the proxy's own zone before others, servers of weight 0 last. How much
of the reads each is due, and what a statement costs it, shares.py has worked out before.

- round-robin: with each choice everybody gains a credit of what it is due; who has most is chosen,
  and pays what all have gained. So 3:1 is a a b a, never a a a b.
- least-loaded: the same among those that are less loaded than anybody would be with one statement
  more. With equal weights these are the ones with the fewest; while nothing is in flight, all.
- weighted-random: a lot for each, as large as what it is due.
- sticky: the session's last one if it is in question; else least-loaded.

Where what is in flight has a limit, whoever has reached it is out of the question as long as there is
one who has not. If all have, load counts by how much each may have in flight, so that queues are as
long as each server is fast.
"""

from collections.abc import Callable
from typing import Final, final

from mypy_extensions import i64

from pgproxy.servers.backend import Backend
from pgproxy.servers.shares import WORST_RANK

NONE: Final = -1

LEAST_LOADED: Final = 0
ROUND_ROBIN: Final = 1
WEIGHTED_RANDOM: Final = 2

_WAYS: Final = {
    "least-loaded": LEAST_LOADED,
    "sticky": LEAST_LOADED,
    "round-robin": ROUND_ROBIN,
    "weighted-random": WEIGHTED_RANDOM,
}

_ANY_LOAD: Final = float("inf")
# Is added to the load of one that has reached its limit.
_FULL: Final = 1e7


@final
class Balancer:
    """`random` gives numbers from 0 up to 1, without 1; `has_limits`: Backend.running may be full."""

    def __init__(
        self, balance: str, random: Callable[[], float], *, has_limits: bool = False
    ) -> None:
        self.is_sticky = balance == "sticky"
        self.has_limits = has_limits
        self._way: i64 = _WAYS[balance]
        self._random = random

    def choose(self, backends: list[Backend], after: float, favourite: Backend | None) -> i64:
        """Index of the one that gets the read; NONE if no one is fresh enough.

        `favourite` is the session's if it has one.
        """
        count: i64 = len(backends)
        rank: i64 = WORST_RANK + 1
        bound = 0.0  # the load of the one that would be least loaded with one statement more
        index: i64 = 0
        while index < count:
            backend = backends[index]
            if backend.fresh_as_of >= after and backend.rank <= rank:
                load = float(backend.load + 1) * backend.cost
                if self.has_limits:
                    load = _limited(load, backend)
                if backend.rank < rank or load < bound:
                    bound = load
                rank = backend.rank
            index += 1
        if rank > WORST_RANK:
            return NONE
        if (
            favourite is not None
            and favourite.rank == rank
            and favourite.fresh_as_of >= after
            and (bound >= _FULL or favourite.running.has_room)
        ):
            index = 0
            while index < count:
                if backends[index] is favourite:
                    return index
                index += 1
        if self._way == LEAST_LOADED:
            return _next(backends, after, rank, bound, has_limits=self.has_limits)
        bound = _FULL if self.has_limits and bound < _FULL else _ANY_LOAD
        if self._way == WEIGHTED_RANDOM:
            return _draw(backends, after, rank, bound, self._random())
        return _next(backends, after, rank, bound, has_limits=self.has_limits)


def _limited(load: float, backend: Backend) -> float:
    """The load of one that has a limit."""
    running = backend.running
    if running.used < running.cap:
        return load
    return _FULL + load / float(max(running.cap, 1))


def _next(
    backends: list[Backend], after: float, rank: i64, bound: float, *, has_limits: bool
) -> i64:
    """The one with the most credit of those of that rank with a load below `bound`."""
    count: i64 = len(backends)
    best: i64 = NONE
    most = 0.0
    paid = 0.0
    index: i64 = 0
    while index < count:
        backend = backends[index]
        load = float(backend.load) * backend.cost
        if has_limits:
            load = _limited(load, backend)
        if backend.rank == rank and backend.fresh_as_of >= after and load < bound:
            credit = backend.credit + backend.due
            backend.credit = credit
            paid += backend.due
            if best == NONE or credit >= most:
                best = index
                most = credit
        index += 1
    backends[best].credit = most - paid
    return best


def _draw(backends: list[Backend], after: float, rank: i64, bound: float, random: float) -> i64:
    """One of that rank; of those with a load of `_FULL` none unless that is below `bound`."""
    count: i64 = len(backends)
    lot = 0.0
    index: i64 = 0
    while index < count:
        backend = backends[index]
        if _may_be_drawn(backend, after, rank, bound):
            lot += random * backend.due
        index += 1
    last: i64 = NONE
    index = 0
    while index < count:
        backend = backends[index]
        if _may_be_drawn(backend, after, rank, bound):
            last = index
            lot -= backend.due
            if lot < 0.0:
                return index
        index += 1
    return last  # the sum's last digit


def _may_be_drawn(backend: Backend, after: float, rank: i64, bound: float) -> bool:
    if backend.rank != rank or backend.fresh_as_of < after:
        return False
    return bound > _FULL or backend.running.has_room
