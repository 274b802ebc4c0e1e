"""Proxies come, go and are slow to close what is in use, and never have more connections than there
are, but for the one that everybody has.

What one knows of the others is what they said up to an interval ago. Who comes is heard of by the
others within an interval, too.
"""

import random
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.peers.division import Division
from pgproxy.peers.word import Word

INTERVAL: Final = 10  # in steps of time
DELAY: Final = 3 * INTERVAL
SERVER: Final = "s"


class Proxy:
    """Its connections: those in use close one by one, and it opens more at any time."""

    def __init__(self, name: str, budget: int, now: int) -> None:
        self.name = name
        self.began = now
        self.used = 0
        self.division = Division(name, 4, budget, DELAY)
        self.known: dict[str, Word | None] = {}
        self.heard: dict[str, int] = {}  # when it hears of each other one

    @property
    def share(self) -> int:
        return self.division.shares.get(SERVER, 1)

    @property
    def held(self) -> int:
        return max(self.share, self.used)

    def ask(self, others: dict[str, "Proxy"], now: int) -> None:
        self.known = {
            name: Word(name, 0, 4, {SERVER: one.held})
            for name, one in others.items()
            if one is not self and now >= self.heard[name]
        }

    def live(self, chance: random.Random, now: int) -> None:
        self.division.look({SERVER: 0}, self.known, now)
        if self.used < self.share:
            self.used = chance.randint(self.used, self.share)
        elif chance.random() < 0.3:
            self.used = max(self.used - 1, 0)


@given(st.integers(1, 40), st.integers(0, 1 << 32))
def test_there_are_never_more_than_there_may_be(budget: int, seed: int) -> None:
    chance = random.Random(seed)
    proxies: dict[str, Proxy] = {}
    count = 0
    for now in range(150):
        if not proxies or (len(proxies) < 6 and chance.random() < 0.03):
            count += 1
            new = Proxy(f"{chance.randrange(100)}-{count}", budget, now)
            for name, one in proxies.items():
                new.heard[name] = now
                one.heard[new.name] = now + chance.randrange(INTERVAL)
            proxies[new.name] = new
        if len(proxies) > 1 and chance.random() < 0.02:
            del proxies[chance.choice(list(proxies))]
        for one in proxies.values():
            if one.began == now or chance.random() < 2 / INTERVAL or now % INTERVAL == 0:
                one.ask(proxies, now)
            one.live(chance, now)
        held = [one.held for one in proxies.values()]
        assert sum(held) <= budget + sum(number == 1 for number in held), (now, held)
    for now in range(150, 250):  # all at rest
        for one in proxies.values():
            one.ask(proxies, now)
            one.live(chance, now)
    held = [one.held for one in proxies.values()]
    assert sum(held) == max(budget, len(held))
