"""Processes that the tests start: that they end, and whether they have."""

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil  # type: ignore[import-untyped]

_LEASH: Final = """
import contextlib, os, shutil, signal, sys, time
sys.stdin.read()
directory, *pids = sys.argv[1:]
for pid in pids:
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid), signal.SIGKILL)
for _ in range(300):  # servers that keep their data there may still be about to end
    shutil.rmtree(directory, ignore_errors=True)
    if not os.path.exists(directory):
        break
    time.sleep(0.1)
"""


class Closing:
    """A context manager whose end is `close`."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Leash:
    """Kills processes and removes a directory if the test run itself dies, even by kill -9."""

    def __init__(self, directory: Path, *pids: int) -> None:
        self._process: Final = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LEASH, directory, *map(str, pids)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def release(self) -> None:
        """Do nothing from now on."""
        self._process.kill()
        self._process.communicate()


def existing(pids: Iterable[int]) -> list[psutil.Process]:
    """The processes with these ids, but for those that have ended meanwhile."""
    wanted = set(pids)
    return [process for process in psutil.process_iter() if process.pid in wanted]


def running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended.

    A zombie has: it may stay one for good where the first process reaps no orphans, as in a
    container without an init.
    """
    return [process for process in processes if _is_running(process)]


def wait_ended(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until all have ended; returns those that still run after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    left = running(processes)
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = running(left)
    return left


def command_lines() -> list[str]:
    """Of every running process that we may look at."""
    listed = psutil.process_iter(["cmdline"])
    return [" ".join(process.info["cmdline"] or ()) for process in listed]


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
