"""HOT, PURE. A number that must not be exceeded: how many there may be of something, and how many
there are."""

from typing import Final, final

from mypy_extensions import i64

NO_CAP: Final = 1 << 31


@final
class Limit:
    """`key` names what is counted, `cap` how many there may be (0: any number). Where several processes
    have a part of it each, `whole` is what was configured, and `cap` not more than the part; nor than
    the bound that was learnt."""

    def __init__(self, key: tuple[str, ...], cap: int) -> None:
        self.key = key
        self.cap: i64 = cap or NO_CAP
        self.whole: i64 = self.cap
        self.bound: i64 = self.cap
        self.part: i64 = NO_CAP
        self.used: i64 = 0

    def hold(self, part: i64) -> None:
        """This process's part, from now on."""
        self.part = part
        self.cap = min(part, self.bound)

    def bind(self, bound: i64) -> None:
        """How many there may be, less than what was configured."""
        self.bound = bound
        self.cap = min(self.part, bound)

    @property
    def has_room(self) -> bool:
        return self.used < self.cap

    @property
    def shown(self) -> int:
        """The cap as configurations and metrics have it."""
        cap = self.cap if self.part >= NO_CAP else self.whole
        return 0 if cap >= NO_CAP else int(cap)

    def __repr__(self) -> str:
        return f"<Limit {'.'.join(self.key)} {self.used}/{self.cap}>"
