"""HOT, PURE. How many statements a server may have in flight, learnt from how long they take there.

The law is that of Gradient2 (Netflix, concurrency-limits, Gradient2Limit.java):

    limit = limit * gradient + sqrt(limit)        gradient = TOLERANCE / slowdown, 1 at most

A server that is as quick as usual gets more until the cap is reached; one that is not comes to rest
where what it loses is what it gains, at 1 / (1 - gradient)^2, or at the floor. What is taken is taken
of twice what is in flight if that is less than the limit (as in RFC 5681, 3.1, the window shrinks from
the flight size), and nothing while no more is in flight than the floor, which stays in any case. What
is given is given whether it is used or not: reads follow the limits (shares.py), and would never come
back to a server that had to have them first. The cap is a bound that the operator thought right.

Gradient2 compares a short average of latencies with a long one, which is for calls that are all
alike. Here the slowdown is the time that statements have spent in the server, by the time that the
same statements usually spend there. That is Little's law: a server with a tenth of its capacity
holds statements ten times as long, whether it does so to all of them or stands still nine tenths of
the time. A long statement counts with the seat that it has, not as an answer that is late; what is
in flight counts as far as it has come, so a server that says nothing is seen as well.
"""

from math import sqrt
from typing import Final, final

from mypy_extensions import i64

from pgproxy.telemetry.counters import Structure

# So many times as long as usual statements may take before the limit shrinks.
TOLERANCE: Final = 1.5
# The most of a limit that one look takes away is what is beyond this part.
SMALLEST_GRADIENT: Final = 0.25
# Seconds between two looks; what was seen at the last one counts half.
WINDOW: Final = 0.25
KEPT: Final = 0.5
# However slow a server is, some reads have to show whether it still is.
SMALLEST_ROOM: Final = 0.02
# A slowdown is never called greater: a server that stands still has no other.
GREATEST: Final = 1000.0
# Statements of one structure, and seconds, after which is known what is usual: the first answers are
# those of the quick ones. So many seconds are learnt from whatever they bring.
KNOWN: Final = 32
KNOWN_AFTER: Final = 2.0
LEARNS: Final = 10.0
# Seconds in which the usual follows what is seen: while the server is as quick as usual, while it is
# not, and while it alone is not. What stays ten times as slow is the new usual after the last two.
FOLLOWS: Final = 600.0
FOLLOWS_SLOW: Final = 900.0
FOLLOWS_ALONE: Final = 14_400.0
# Seconds whose statements are taken up together: the first answer after a halt would otherwise stand
# for all the time of it.
TOGETHER: Final = 1.0
# Structures that are remembered. To make room, the half that was not seen for longest is forgotten.
MOST_STRUCTURES: Final = 2000


@final
class Usual:
    """How long statements of one structure take on one server: a mean, first of all that there
    were, then one that forgets."""

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self.is_known = False
        self.at = now  # what is known now was taken up then
        self._met_at = now
        self._samples: i64 = 0
        self._fresh: i64 = 0  # not taken up yet
        self._fresh_seconds = 0.0

    def learn(self, seconds: float, now: float, follows: float = FOLLOWS) -> None:
        self._fresh += 1
        self._fresh_seconds += seconds
        passed = now - self.at
        if passed < TOGETHER:
            return
        age = now - self._met_at
        self._samples += self._fresh
        weight = min(1.0 / KNOWN, passed / follows)
        if follows == FOLLOWS or age < LEARNS or self._samples <= KNOWN:
            weight = max(weight, float(self._fresh) / float(self._samples))
        self.seconds += (self._fresh_seconds / float(self._fresh) - self.seconds) * weight
        self.is_known = self._samples >= KNOWN and age >= KNOWN_AFTER
        self.at = now
        self._fresh = 0
        self._fresh_seconds = 0.0


@final
class AdaptiveLimit:
    """Of one server. Times are seconds of one monotonic clock.

    `answered` for each statement that ran alone and in no transaction; `used` as often as somebody
    looks; and when it `is_due`, `in_flight` for each of those statements that has no answer yet,
    and `judge`.
    """

    def __init__(self, floor: int, ceiling: int, now: float) -> None:
        self.ceiling = ceiling
        self.floor = min(floor, ceiling)
        self.slowdown = 1.0
        self.others_are_well = False  # those that are asked the same
        self._limit = float(ceiling)
        self._usuals: dict[Structure, Usual] = {}
        self._judged_at = now
        self._most_used: i64 = 0  # since then
        self._spent = 0.0
        self._expected = 0.0
        self._has_news = False  # one of both has grown since then

    @property
    def cap(self) -> int:
        return int(self._limit)

    @property
    def has_shrunk(self) -> bool:
        return self.cap < self.ceiling

    @property
    def room(self) -> float:
        """What is left of what the server can do, as far as its limit has shrunk; else 1."""
        if not self.has_shrunk:
            return 1.0
        room = self._limit / float(self.ceiling) / max(1.0, self.slowdown)
        return max(SMALLEST_ROOM, room)

    @property
    def is_well(self) -> bool:
        return self.slowdown <= TOLERANCE

    def answered(self, structure: Structure, since: float, now: float) -> None:
        usual = self._usuals.get(structure)
        if usual is None:
            usual = self._meet(structure, now)
        if usual.is_known:
            seen = max(0.0, self._judged_at - since)
            self._spent += now - since - seen
            self._expected += max(0.0, usual.seconds - seen)
            self._has_news = True
        usual.learn(now - since, now, self._follows())

    def in_flight(self, structure: Structure, since: float, now: float) -> None:
        usual = self._usuals.get(structure)
        if usual is None or not usual.is_known:
            return
        seen = max(0.0, self._judged_at - since)
        self._spent += now - since - seen
        self._expected += max(0.0, min(now - since, usual.seconds) - seen)
        self._has_news = True

    def use(self, used: i64) -> None:
        """So many are in flight, in transactions or not."""
        self._most_used = max(self._most_used, used)

    def is_due(self, now: float) -> bool:
        return now - self._judged_at >= WINDOW

    def judge(self, now: float) -> int:
        """The cap from now on."""
        self._judged_at = now
        used, self._most_used = self._most_used, 0
        spent, self._spent = self._spent, self._spent * KEPT
        expected, self._expected = self._expected, self._expected * KEPT
        has_news, self._has_news = self._has_news, False
        if has_news and spent > 0.0:
            self.slowdown = min(GREATEST, spent / max(expected, spent / GREATEST))
        elif used > 0:
            self.slowdown = 1.0  # or not: who knows nothing against a server lets it work
        else:
            return self.cap
        if self.is_well:
            self._limit = self._within(next_limit(self._limit, self.slowdown))
        elif used >= min(self.floor + 1, self.cap):
            base = min(self._limit, 2.0 * float(used))
            self._limit = self._within(next_limit(base, self.slowdown))
        return self.cap

    def _follows(self) -> float:
        if self.is_well:
            return FOLLOWS
        return FOLLOWS_ALONE if self.others_are_well else FOLLOWS_SLOW

    def _within(self, limit: float) -> float:
        return max(float(self.floor), min(float(self.ceiling), limit))

    def _meet(self, structure: Structure, now: float) -> Usual:
        if len(self._usuals) >= MOST_STRUCTURES:
            ranked = sorted(self._usuals.items(), key=_by_age)
            self._usuals = dict(ranked[len(ranked) // 2 :])
        usual = self._usuals[structure] = Usual(now)
        return usual

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.cap} of {self.floor} to {self.ceiling}>"


def next_limit(limit: float, slowdown: float) -> float:
    gradient = max(SMALLEST_GRADIENT, TOLERANCE / max(TOLERANCE, slowdown))
    return limit * gradient + sqrt(limit)


def _by_age(entry: tuple[Structure, Usual]) -> float:
    return entry[1].at
