"""PURE. What a server takes is divided among several proxies: which part is this one's.

Every proxy works out its own part, from the same list of all in the same order, so that the parts of
those who agree on the list never come to more than there is. While they do not agree yet, two rules
keep the sum down:

* A part shrinks at once.
* A part grows only when for `delay` seconds nobody has come or gone, and only as far as the others do
  not hold by their own word what would be its own: what those leave that hold more than theirs is
  divided among the rest.

So who comes has one connection until the others have made room, and what one held that is gone is
divided only once everybody knows. Everybody has one at least, also where there are more proxies than
connections.
"""

from collections.abc import Collection, Mapping
from typing import Final, final

from pgproxy.peers.word import Word

LEAST: Final = 1


def part(budget: int, names: Collection[str], own: str) -> int:
    """That of `own`, which is one of `names`: the remainder goes to the first of them in their
    order."""
    each, rest = divmod(budget, len(names))
    return max(each + (sorted(names).index(own) < rest), LEAST)


@final
class Division:
    """`cap` is what is configured for all proxies together, 0 if only the servers' own limits count.
    `own` and `beside` are as this proxy's word has them."""

    def __init__(self, own: str, beside: int, cap: int, delay: float) -> None:
        self._own: Final = own
        self._beside: Final = beside
        self._cap: Final = cap
        self._delay: Final = delay
        self._names: frozenset[str] = frozenset()
        self._since = 0.0  # when somebody came or went
        self.is_settled = False  # what it found of the others at its start is taken account of
        self.shares: dict[str, int] = {}
        self.budgets: dict[str, int] = {}

    def look(
        self, rooms: Mapping[str, int], others: Mapping[str, Word | None], now: float
    ) -> dict[str, int]:
        """The parts of all servers in `rooms`, which says how many connections of ordinary users each
        takes (0: not known yet)."""
        names = frozenset({*others, self._own})
        if names != self._names:
            self._names = names
            self._since = now
        may_grow = now - self._since >= self._delay
        self.is_settled = self.is_settled or may_grow
        beside = self._beside + sum(
            self._beside if word is None else word.beside for word in others.values()
        )
        self.budgets = {name: self._budget(room, beside) for name, room in rooms.items()}
        self.shares = {
            name: self._share(name, budget, others, may_grow=may_grow)
            for name, budget in self.budgets.items()
        }
        return self.shares

    @property
    def proxies(self) -> int:
        return len(self._names)

    def _budget(self, room: int, beside: int) -> int:
        """What the pools of all proxies may have; 0: not known."""
        if room == 0:
            return self._cap
        left = max(room - beside, LEAST)
        return min(left, self._cap) if self._cap else left

    def _share(
        self, name: str, budget: int, others: Mapping[str, Word | None], *, may_grow: bool
    ) -> int:
        current = self.shares.get(name, LEAST)
        if budget == 0:
            return current
        fair = part(budget, self._names, self._own)
        if fair <= current or not may_grow:
            return min(fair, current)
        held = {
            other: part(budget, self._names, other) if word is None else word.held.get(name, 0)
            for other, word in others.items()
        }
        return max(current, _left(budget, held, self._own))


def _left(budget: int, held: Mapping[str, int], own: str) -> int:
    """The part of `own` of what those leave that hold more than their parts."""
    names = {*held, own}
    while True:
        over = {name for name in names - {own} if held[name] > part(budget, names, name)}
        if not over:
            return part(budget, names, own)
        names -= over
        budget -= sum(held[name] for name in over)
