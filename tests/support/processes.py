"""Whether processes have ended, whoever their parent is."""

import time
from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]


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
