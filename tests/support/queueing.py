"""A server with a number of processors and a speed, and clients that ask it within a limit that is
learnt: the whole in simulated time."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from pgproxy.servers.adaptive import AdaptiveLimit
from pgproxy.telemetry.counters import Structure

TICK = 0.025

# The structure of the next statement and the seconds that it takes alone.
Work = Callable[[Random], tuple[Structure, float]]


@dataclass
class Point:
    """What was at one look."""

    at: float
    cap: int
    slowdown: float
    answers: int


@dataclass
class Simulation:
    """`clients` ask again as soon as they have an answer. Each of `processors` works off one
    statement after the other, in the order of their arrival; `speed` is theirs at a moment."""

    limit: AdaptiveLimit
    work: Work
    clients: int
    processors: int = 4
    speed: Callable[[float], float] = lambda _: 1.0
    seed: int = 1
    now: float = 0.0
    answers: int = 0
    history: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._waiting = deque(range(self.clients))
        self._running: dict[int, tuple[Structure, float]] = {}
        self._free = [0.0] * self.processors
        self._ends: list[tuple[float, int]] = []
        self._next_tick = TICK

    def run(self, seconds: float) -> list[Point]:
        """Goes on for so long, and says what was at each look."""
        begun, end = len(self.history), self.now + seconds
        while True:
            while self._waiting and len(self._running) < self.limit.cap:
                self._begin(self._waiting.popleft())
            is_tick = not self._ends or self._ends[0][0] > self._next_tick
            at = self._next_tick if is_tick else self._ends[0][0]
            if at > end:
                self.now = end
                return self.history[begun:]
            self.now = at
            if is_tick:
                self._tick()
            else:
                self._answer(heapq.heappop(self._ends)[1])

    def _begin(self, client: int) -> None:
        structure, seconds = self.work(self._random)
        self._running[client] = structure, self.now
        start = max(self.now, heapq.heappop(self._free))
        done = self._worked_off(start, seconds)
        heapq.heappush(self._free, done)
        heapq.heappush(self._ends, (done, client))

    def _worked_off(self, start: float, seconds: float) -> float:
        """When that much work is done, the speed being what it is within each millisecond."""
        step = 0.001
        while True:
            speed = self.speed(start)
            if speed == 1.0 or seconds <= step * speed:
                return start + seconds / max(speed, 1e-9)
            seconds -= step * speed
            start += step

    def _answer(self, client: int) -> None:
        structure, since = self._running.pop(client)
        self.limit.answered(structure, since, self.now)
        self.answers += 1
        self._waiting.append(client)

    def _tick(self) -> None:
        self._next_tick += TICK
        self.limit.use(len(self._running))
        if not self.limit.is_due(self.now):
            return
        for structure, since in self._running.values():
            self.limit.in_flight(structure, since, self.now)
        cap = self.limit.judge(self.now)
        self.history.append(Point(self.now, cap, self.limit.slowdown, self.answers))
