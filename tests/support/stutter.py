"""A server that is slow: it stands still for a part of every period (SIGSTOP, SIGCONT)."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from pgproxy.embedded import Server


class Stutter:
    """Within the block all processes of the server stand still for `part` of each `period` seconds.

    A statement that would end within the rest of a period takes a whole one.
    """

    def __init__(self, server: Server, *, period: float = 0.2, part: float = 0.9) -> None:
        self._server: Final = server
        self._period: Final = period
        self._part: Final = part
        self._ending: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            pids: set[int] = set()
            while not self._ending.is_set():
                begin = time.monotonic()
                _send(pids, signal.SIGSTOP)
                # While it stands still: to look takes time, and who stands starts no further ones.
                pids = {self._server.pid, *self._server.pids()}
                _send(pids, signal.SIGSTOP)
                self._ending.wait(begin + self._part * self._period - time.monotonic())
                _send(pids, signal.SIGCONT)
                self._ending.wait((1 - self._part) * self._period)
        finally:
            self._server.thaw()


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
