"""HOT, PURE. A number that must not be exceeded: how many there may be of something, and how many
there are."""

from typing import Final, final

from mypy_extensions import i64

NO_CAP: Final = 1 << 31


@final
class Limit:
    """`key` names what is counted, `cap` how many there may be (0: any number)."""

    def __init__(self, key: tuple[str, ...], cap: int) -> None:
        self.key = key
        self.cap: i64 = cap or NO_CAP
        self.used: i64 = 0

    @property
    def has_room(self) -> bool:
        return self.used < self.cap

    @property
    def shown(self) -> int:
        """The cap as configurations and metrics have it."""
        return 0 if self.cap >= NO_CAP else int(self.cap)

    def __repr__(self) -> str:
        return f"<Limit {'.'.join(self.key)} {self.used}/{self.cap}>"
