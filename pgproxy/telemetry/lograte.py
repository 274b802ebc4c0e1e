"""PURE. How many lines of one kind the log gets in a period, and how many are left out."""

from typing import Final

# The level, the event, and which server it is about: errors of each stay visible.
Kind = tuple[int, str, str]

# Kinds that are told apart in one period; what is beyond is one kind of each level.
MAX_KINDS: Final = 1000
OTHERS: Final = "other_events"


class LogRate:
    """At most `lines` of each kind in every `period` seconds."""

    def __init__(self, lines: int, period: float) -> None:
        self.period: Final = period
        self.end = 0.0  # of the period
        self._lines: Final = lines
        self._counts: dict[Kind, int] = {}

    def admit(self, kind: Kind, now: float) -> bool:
        """Whether a line of that kind may be written. What the last period has left out is lost if
        it was not asked for (`left_out`)."""
        if now >= self.end:
            self.end = now + self.period
            self._counts.clear()
        counts = self._counts
        if kind not in counts and len(counts) >= MAX_KINDS:
            kind = (kind[0], OTHERS, "")
        counts[kind] = counts.get(kind, 0) + 1
        return counts[kind] <= self._lines

    def left_out(self, now: float) -> dict[Kind, int]:
        """How many lines of each kind the period has left out, once it is over; told once."""
        if now < self.end:
            return {}
        found = {
            kind: count - self._lines for kind, count in self._counts.items() if count > self._lines
        }
        self._counts.clear()
        return found
