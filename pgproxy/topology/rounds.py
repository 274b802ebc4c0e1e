"""What the sources of backends have in common: work that goes on until it is ended, rounds of questions
for those that nobody tells anything, when there was an answer, and who is told of a new list."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from pgproxy.topology.model import Backend

Ask = Callable[[], Awaitable[float]]
"""One round; it returns the seconds until the next one is due."""


class Work:
    """`run` it as a task, `close` ends that task."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work: Final = work
        self._stopped: Final = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    async def run(self) -> None:
        """Until `close` (then it returns) or until it is cancelled; raises what the work raises."""
        try:
            async with asyncio.TaskGroup() as group:
                if not self._is_closing:
                    self._task = group.create_task(self._work())
        finally:
            self._stopped.set()

    async def close(self) -> None:
        """End it; returns when `run` has, if it was ever started."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            await self._stopped.wait()


class Rounds(Work):
    def __init__(self, ask: Ask, smallest_gap: float) -> None:
        """`smallest_gap`: seconds from the beginning of a round to that of a hurried one."""
        super().__init__(self._go_round)
        self._ask: Final = ask
        self._smallest_gap: Final = smallest_gap
        self._hurried: Final = asyncio.Event()

    def hurry(self) -> None:
        """The next round is due at once."""
        self._hurried.set()

    async def _go_round(self) -> None:
        while True:
            began = time.monotonic()
            pause = await self._ask()
            # Whoever was in a hurry during the round has to be told something newer.
            gap = self._smallest_gap - (time.monotonic() - began)
            await asyncio.sleep(max(0.0, min(gap, pause)))
            try:
                async with asyncio.timeout(max(0.0, pause - max(0.0, gap))):
                    await self._hurried.wait()
            except TimeoutError:
                pass
            self._hurried.clear()


class Contact:
    """When somebody who is asked last said anything."""

    def __init__(self) -> None:
        self._created: Final = time.monotonic()
        self._at = 0.0  # 0: never

    def made(self) -> None:
        """Just now."""
        self._at = time.monotonic()

    def age(self) -> float:
        """Seconds since then; since the start if never."""
        return time.monotonic() - (self._at or self._created)

    def seconds(self) -> float | None:
        """The same for /status; None if never."""
        return round(self.age(), 3) if self._at else None


class Publisher:
    """Tells of each list that differs from the one before. `synced` is set with the first."""

    def __init__(self, on_backends: Callable[[tuple[Backend, ...]], None]) -> None:
        self.synced: Final = asyncio.Event()
        self.backends: tuple[Backend, ...] = ()
        self._on_backends: Final = on_backends

    def publish(self, backends: tuple[Backend, ...]) -> None:
        is_first = not self.synced.is_set()
        self.synced.set()
        if backends != self.backends or is_first:
            self.backends = backends
            self._on_backends(backends)
