"""Gives the clients of one listening connection what has come, in its order and some at a time."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.servers.audience import Hearer

# Notifications handed to clients in one turn of the event loop.
AT_ONCE: Final = 250
# Notifications that wait to be handed out before no more are read.
HIGH_WATER: Final = 1000
LOW_WATER: Final = 100


@final
class Asked:
    """A query whose ReadyForQuery is owed."""

    def __init__(
        self, kind: int, channel: bytes, number: i64, done: Callable[[], None] | None
    ) -> None:
        self.kind = kind
        self.channel = channel
        self.number = number
        self.done = done
        self.in_turn = True  # it is answered behind what came before; else at once
        self.at = time.monotonic()
        self.error: PgError | None = None


@final
class Delivery:
    """A notification on its way to `hearers`, or the end of a query (`asked`)."""

    def __init__(
        self, channel: bytes, frame: bytes, hearers: list[Hearer], asked: Asked | None
    ) -> None:
        self.channel = channel
        self.frame = frame
        self.hearers = hearers
        self.asked = asked
        self.given: i64 = 0


@final
class HandOut:
    """`answered` is called with each query in its turn, `drained` when more may be read."""

    def __init__(
        self,
        answered: Callable[[Asked], None],
        drained: Callable[[], None],
        call_later: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self._answered = answered
        self._drained = drained
        self._call_later = call_later
        self.outgoing: deque[Delivery] = deque()
        self._is_running = False  # `_run` will be called

    @property
    def is_full(self) -> bool:
        """No more are to be read."""
        return len(self.outgoing) > HIGH_WATER

    def notification(self, channel: bytes, frame: bytes, hearers: list[Hearer]) -> None:
        """To be given to all of them."""
        self.outgoing.append(Delivery(channel, frame, hearers, None))

    def answer(self, asked: Asked) -> None:
        """To be told behind what has come before."""
        self.outgoing.append(Delivery(b"", b"", [], asked))

    def begin(self) -> None:
        """Hands out now, unless that is going on."""
        if not self._is_running:
            self._run()

    def begin_soon(self) -> None:
        """Not while somebody else is at work."""
        if self.outgoing and not self._is_running:
            self._is_running = True
            self._call_later(0.0, self._run)

    def _run(self) -> None:
        """Some at a time: everybody else waits meanwhile."""
        self._is_running = False
        left: i64 = AT_ONCE
        outgoing = self.outgoing
        while outgoing and left > 0:
            delivery = outgoing[0]
            asked = delivery.asked
            if asked is not None:
                outgoing.popleft()
                left -= 1
                self._answered(asked)
                continue
            hearers = delivery.hearers
            size: i64 = len(hearers)
            channel = delivery.channel
            frame = delivery.frame
            at: i64 = delivery.given
            end: i64 = min(size, at + left)
            left -= end - at
            delivery.given = end
            while at < end:
                hearers[at].notified(channel, frame)
                at += 1
            if end == size:
                outgoing.popleft()
        self.begin_soon()
        if len(outgoing) < LOW_WATER:
            self._drained()
