"""Processes that the tests start: that they end, and whether they have."""

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

_LEASH: Final = """
import contextlib, os, shutil, signal, sys
sys.stdin.read()
with contextlib.suppress(ProcessLookupError):
    os.kill(int(sys.argv[1]), signal.SIGKILL)
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


class Leash:
    """Kills a process and removes a directory if the test run itself dies, even by kill -9."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._process: Final = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LEASH, str(pid), directory],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def release(self) -> None:
        """Do nothing from now on: before the process is waited for, whose id is then free."""
        self._process.kill()
        self._process.communicate()


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
