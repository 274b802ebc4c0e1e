"""PURE. The supervisor's book of caps that hold over all workers together.

Of each cap every worker holds a *quota*, and their sum never exceeds the cap: what a worker is
granted counts as held when the grant is sent, what it gives back when that has arrived.

A worker that wants more than it holds says so. What is free it gets at once. Otherwise the others are
asked what they want by now (`probe`), what each may have is worked out anew (`shares`), and who holds
more is told so (`recall`); it gives back what it does not use, and the rest as it becomes unused. Who
cannot be given anything, all others having been asked, is told that too (`dry`).

Where a cap is smaller than the number of those who want some of it, they take turns.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Key = tuple[str, ...]
Kind = Literal["grant", "recall", "lift", "probe", "dry"]
# Of what a worker wants: the others have to be asked yet, have been asked, or it was told what came of
# it.
Stage = Literal["new", "weighed", "answered"]

# Seconds that one keeps what others wait for, where there is not enough for all.
TURN: Final = 0.1
# Seconds between questions what all want.
PROBE_GAP: Final = 0.02


@dataclass(frozen=True)
class Order:
    """To be sent to a worker. `number`: how many it is granted, or may keep when recalled; of `dry`
    which of its requests is answered."""

    worker: int
    key: Key
    kind: Kind
    number: int = 0


@dataclass
class Holding:
    """What one worker has of one cap. Its last word: how many it uses, and how many it wants."""

    held: int = 0
    cap: int = 0  # as it knows it
    used: int = 0
    want: int = 0
    told: int | None = None  # how many it may keep, where it was told to give some back
    unanswered: int = 0  # questions
    turn_since: float = float("-inf")  # when it was given something last
    short_since: float | None = None  # when it began to want more than it holds
    stage: Stage = "answered"
    asks: int = 0  # how often somebody had come who waits, and how often when the others were asked
    weighed: int = 0

    @property
    def is_short(self) -> bool:
        return self.want > self.held


@dataclass
class Quota:
    """One cap."""

    key: Key
    cap: int
    holdings: dict[int, Holding] = field(default_factory=dict)
    probed_at: float = float("-inf")
    # Not the same for all caps: whoever needs some of two gets both at some time, instead of handing on
    # the one in the moment in which the other comes.
    turn: float = TURN

    @property
    def free(self) -> int:
        return self.cap - sum(holding.held for holding in self.holdings.values())

    @property
    def is_contested(self) -> bool:
        return any(holding.is_short for holding in self.holdings.values())

    def balance(self, now: float) -> Iterator[Order]:
        """What follows from what is known."""
        entries = self.holdings
        for holding in entries.values():
            if not holding.is_short:
                holding.short_since = None
            elif holding.short_since is None:
                holding.short_since = now
        may_have = shares(self.cap, entries, now, self.turn)
        yield from self._grant(may_have, now)
        is_needed = any(may_have[worker] > entries[worker].held for worker in entries)
        if is_needed or self.free < 0:
            yield from self._recall(may_have)
        else:
            yield from self._lift()
        if any(holding.unanswered for holding in entries.values()):
            return
        if self._is_to_be_probed(now):
            yield from self._probe(now)
            return
        for worker, holding in entries.items():
            if holding.is_short and holding.stage == "weighed":
                holding.stage = "answered"
                yield Order(worker, self.key, "dry", holding.weighed)

    def _grant(self, may_have: Mapping[int, int], now: float) -> Iterator[Order]:
        free = self.free
        for worker in sorted(self.holdings, key=lambda worker: _patience(self.holdings[worker])):
            holding = self.holdings[worker]
            number = min(free, may_have[worker] - holding.held)
            if number <= 0:
                continue
            free -= number
            holding.held += number
            holding.told = None
            holding.turn_since = now
            holding.short_since = now if holding.is_short else None
            yield Order(worker, self.key, "grant", number)

    def _recall(self, may_have: Mapping[int, int]) -> Iterator[Order]:
        for worker, holding in self.holdings.items():
            number = may_have[worker]
            if number < holding.held and holding.told != number:
                holding.told = number
                holding.unanswered += 1
                yield Order(worker, self.key, "recall", number)

    def _lift(self) -> Iterator[Order]:
        """Nobody needs what was recalled."""
        for worker, holding in self.holdings.items():
            if holding.told is not None:
                holding.told = None
                yield Order(worker, self.key, "lift")

    def _is_to_be_probed(self, now: float) -> bool:
        is_due = now - self.probed_at >= PROBE_GAP
        return is_due and any(
            holding.is_short and holding.stage == "new" for holding in self.holdings.values()
        )

    def _probe(self, now: float) -> Iterator[Order]:
        self.probed_at = now
        for worker, holding in self.holdings.items():
            if holding.stage == "new":
                holding.stage = "weighed"
                holding.weighed = holding.asks
            holding.unanswered += 1
            yield Order(worker, self.key, "probe")


class Quotas:
    """All caps, and the workers by their numbers (never used again for another)."""

    def __init__(self) -> None:
        self._quotas: dict[Key, Quota] = {}

    def report(
        self,
        worker: int,
        key: Key,
        *,
        cap: int,
        used: int,
        want: int,
        given: int,
        answers: int,
        asks: int,
        now: float,
    ) -> list[Order]:
        """A worker's word on one cap (0: it does not know any more): what it gives back with it, how
        many questions it answers, and how often somebody has come who waits, if just now."""
        quota = self._quotas.get(key)
        if quota is None:
            turn = TURN * (1 + zlib.crc32(".".join(key).encode("utf-8", "replace")) % 8 / 8)
            quota = self._quotas[key] = Quota(key, cap, turn=turn)
        holding = quota.holdings.setdefault(worker, Holding())
        holding.cap = cap or holding.cap
        # A cap that is learnt is not known to all at once.
        caps = [one.cap for one in quota.holdings.values() if one.cap]
        quota.cap = min(caps, default=quota.cap)
        holding.held -= given
        holding.unanswered -= answers
        if asks:
            holding.stage = "new"
            holding.asks = asks
        holding.used, holding.want = used, want
        if holding.told is not None and holding.held <= holding.told:
            holding.told = None
        orders = list(quota.balance(now))
        self._tidy(quota)
        return orders

    def leave(self, worker: int, now: float) -> list[Order]:
        """A worker is gone, with all that it used."""
        orders: list[Order] = []
        for quota in list(self._quotas.values()):
            if quota.holdings.pop(worker, None) is not None:
                orders += quota.balance(now)
                self._tidy(quota)
        return orders

    def tick(self, now: float) -> list[Order]:
        """To be called every few hundredths of a second while `is_contested`."""
        return [
            order
            for quota in self._quotas.values()
            if quota.is_contested
            for order in quota.balance(now)
        ]

    @property
    def is_contested(self) -> bool:
        """Whether somebody wants more than it holds."""
        return any(quota.is_contested for quota in self._quotas.values())

    def held(self, key: Key) -> dict[int, int]:
        """By worker."""
        quota = self._quotas.get(key)
        if quota is None:
            return {}
        return {worker: holding.held for worker, holding in quota.holdings.items()}

    def _tidy(self, quota: Quota) -> None:
        for worker, holding in list(quota.holdings.items()):
            if not (holding.held or holding.want or holding.unanswered):
                del quota.holdings[worker]
        if not quota.holdings:
            del self._quotas[quota.key]


def shares(
    cap: int, holdings: Mapping[int, Holding], now: float, turn: float = TURN
) -> dict[int, int]:
    """How many each may have: what it wants, or as many as everybody else who wants more."""
    wants = {worker: max(holding.want, 0) for worker, holding in holdings.items()}
    level = _level(cap, list(wants.values()))
    found = {worker: min(want, level) for worker, want in wants.items()}
    rest = cap - sum(found.values())
    hungry = [worker for worker, want in wants.items() if want > level]
    if level > 0:
        # Who has one more keeps it: nobody goes without.
        hungry.sort(key=lambda worker: (-holdings[worker].held, worker))
    else:
        hungry.sort(key=lambda worker: _place(holdings[worker], now, turn))
    for worker in hungry[:rest]:
        found[worker] += 1
    return found


def _level(cap: int, wants: Sequence[int]) -> int:
    """The largest number of which everybody can have as many as that, or as it wants."""
    left = cap
    for position, want in enumerate(sorted(wants)):
        share = left // (len(wants) - position)
        if want > share:
            return share
        left -= want
    return max(wants, default=0)


def _place(holding: Holding, now: float, turn: float) -> tuple[int, float]:
    """Who takes turns, in their order."""
    if holding.held and now - holding.turn_since < turn:
        return (0, holding.turn_since)
    if not holding.held:
        return (1, holding.turn_since)  # who had it longest ago
    return (2, holding.turn_since)


def _patience(holding: Holding) -> tuple[int, float]:
    return (holding.held, float("inf") if holding.short_since is None else holding.short_since)
