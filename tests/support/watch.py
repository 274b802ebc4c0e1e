"""What goes on beside a test: a well-behaved client that must be served throughout, and what the
proxy's process holds.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.wire import Address, Wire

_ODD: Final = 7919  # numbers that no other client of the tests asks for


class Bystander:
    """Asks the simple and the extended way in turns, without a pause, and checks every answer."""

    def __init__(self) -> None:
        self.answers = 0
        self._news: Final = asyncio.Event()

    async def served(self, more: int) -> None:
        """Wait until it has been given `more` further answers."""
        wanted = self.answers + more
        while self.answers < wanted:
            self._news.clear()
            await self._news.wait()

    async def run(self, address: Address) -> None:
        """Ask until cancelled. Raises AssertionError for any other answer than its own."""
        async with await Wire.connect(address) as connection:
            assert connection.startup[-1] == (b"Z", b"I"), connection.startup
            await connection.ask(
                wire.parse("SELECT $1::text || 'bystander'", name="mine"), wire.SYNC
            )
            while True:
                number = b"%d" % (_ODD * (self.answers + 1))
                if self.answers % 2:
                    frames = await connection.ask(wire.query(f"SELECT {number.decode()}"))
                    expected, kinds = number, b"TDCZ"
                else:
                    frames = await connection.ask(
                        wire.bind(number, statement="mine"), wire.execute(), wire.SYNC
                    )
                    expected, kinds = number + b"bystander", b"2DCZ"
                assert b"".join(kind for kind, _ in frames) == kinds, frames
                assert wire.rows(frames) == [[expected]], frames
                assert frames[-1] == (b"Z", b"I"), frames
                self.answers += 1
                self._news.set()
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def bystander(address: Address) -> AsyncIterator[Bystander]:
    """A well-behaved client, served before, throughout and after the block, or that fails."""
    async with asyncio.TaskGroup() as tasks:
        one = Bystander()
        running = tasks.create_task(one.run(address))
        await one.served(2)
        yield one
        await one.served(4)
        running.cancel()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells us; pytest's timeout ends it."""
    while not condition():  # noqa: ASYNC110 - the condition lies in another process
        await asyncio.sleep(0.01)


def has_a_reader(pipe: Path) -> bool:
    """Whether a process has opened, or waits to open, a named pipe for reading."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:  # ENXIO
        return False
    return True


def descriptors(proxy: ProxyProcess) -> int:
    """How many file descriptors the proxy has open."""
    return len(os.listdir(f"/proc/{proxy.process.pid}/fd"))


def status(proxy: ProxyProcess) -> dict[str, Any]:
    """What it says at /status."""
    return cast(dict[str, Any], json.loads(proxy.get("/status")[1]))


class PeakMemory:
    """The most memory the proxy holds at any moment within a `with` block, by the kernel's count.

    with PeakMemory(proxy) as memory:
        ...
    assert memory.growth < 30 << 20  # bytes
    """

    def __init__(self, proxy: ProxyProcess) -> None:
        self._directory: Final = Path(f"/proc/{proxy.process.pid}")
        self._before = 0
        self._peak = 0

    def __enter__(self) -> Self:
        (self._directory / "clear_refs").write_text("5")  # the peak counts from now on
        self._before = self._kilobytes("VmRSS")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._peak = self._kilobytes("VmHWM")

    @property
    def growth(self) -> int:
        """Bytes from the beginning to the peak."""
        return (self._peak - self._before) * 1024

    def _kilobytes(self, field: str) -> int:
        for line in (self._directory / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
        raise KeyError(field)
