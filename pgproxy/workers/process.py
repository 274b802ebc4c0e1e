"""One worker as the supervisor knows it: its process and the channel to it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from pgproxy.workers.channel import Body, Channel, ChannelClosedError, OnAsked, OnTold

# Seconds that a worker has for an answer that takes it no time.
ANSWER: Final = 5.0


class Worker:
    """`id` is never used for another; `number` is its place among all."""

    def __init__(self, id: int, number: int) -> None:
        self.id: Final = id
        self.number: Final = number
        self.started_at: Final = time.monotonic()
        self.is_ready = False
        self.last: Body = {"families": [], "rows": {}, "clients": 0}  # what it said of itself
        self.answered_at = self.started_at
        self.process: subprocess.Popen[bytes]
        self.channel: Channel

    async def start(
        self,
        hello: Body,
        memory: int,
        sockets: Sequence[Sequence[socket.socket]],
        told: dict[str, OnTold],
        asked: dict[str, OnAsked],
    ) -> None:
        """Starts the process; `memory` is the descriptor of what all share."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.channel = Channel(told=told, asked=asked, on_end=lambda: None)
        with theirs:
            numbers = [[one.fileno() for one in some] for some in sockets]
            descriptors = [theirs.fileno(), memory, *[one for some in numbers for one in some]]
            listening = ";".join(",".join(map(str, some)) for some in numbers)
            # Not by uvloop, whose children begin with all signals as they are by default.
            self.process = subprocess.Popen(  # noqa: ASYNC220 - nobody is served here
                [
                    *(sys.executable, "-m", "pgproxy", "worker"),
                    *("--number", str(self.number)),
                    *("--channel", str(theirs.fileno())),
                    *("--memory", str(memory)),
                    *("--sockets", listening),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                env=_environment(),
                preexec_fn=_ignore_signals,  # noqa: PLW1509 - no thread holds a lock that it needs
            )
        await self.channel.open(ours)
        self.channel.tell("hello", **hello)

    async def wait(self) -> int:
        """Until the process has ended; returns its status, negative for a signal."""
        loop = asyncio.get_running_loop()
        has_ended = asyncio.Event()
        descriptor = os.pidfd_open(self.process.pid)
        loop.add_reader(descriptor, has_ended.set)
        try:
            await has_ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return self.process.wait()

    async def ask(self, kind: str, **body: object) -> Any:
        """Its answer, None if it has none in time."""
        try:
            async with asyncio.timeout(ANSWER):
                answer = await self.channel.ask(kind, **body)
        except (TimeoutError, ChannelClosedError):
            return None
        self.answered_at = time.monotonic()
        return answer

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()


def _environment() -> dict[str, str]:
    """Of the same modules as this process, wherever that has been started."""
    path = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _ignore_signals() -> None:
    """A terminal's Ctrl-C reaches all processes; when the workers end, the supervisor says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
