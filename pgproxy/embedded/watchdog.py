"""The process that removes a cluster when its owner has closed it, or has died in whatever way.

`pgproxy.embedded` starts this file by its path: python -I -S FILE DIRECTORY..., with the
reading end of a pipe as standard input. No import of pgproxy, and only of what starts quickly.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_POLL: Final = 0.01  # seconds
_GRACE: Final = 5.0  # seconds for an immediate shutdown; the postmaster itself waits that long
_PATIENCE: Final = 60.0  # seconds after which a directory that cannot be deleted is left


def _watch(directory: Path, *others: Path) -> None:
    """Sleep until the owner of the cluster has closed its end of the pipe, then remove it all."""
    # What is meant for the owner may reach us too; we go when the owner has gone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 64):
        pass
    remove(directory, *others)


def remove(directory: Path, *others: Path) -> None:
    """Stop every server of the cluster in `directory`, then delete that and the `others`."""
    start = time.monotonic()
    for pid in _members(directory):
        kill(pid, signal.SIGQUIT)  # immediate shutdown
        kill(pid, signal.SIGCONT)
    while remaining := _members(directory):
        if time.monotonic() > start + _GRACE:
            for pid in remaining:
                kill(pid, signal.SIGKILL)
        time.sleep(_POLL)
    for data_dir in directory.glob("data/*"):
        release_shared_memory(data_dir)
    # Repeated, because a program started in the owner's last moment may still add files; not for
    # ever, because a file system may refuse.
    left = [directory, *others]
    while left and time.monotonic() < start + _PATIENCE:
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        left = [path for path in left if path.exists()]


def _members(directory: Path) -> list[int]:
    """The processes that belong to the cluster: found by their command lines.

    Not by their working directory: root in a container may not ask for another user's.
    """
    title = re.compile(rf"postgres: [\w-]+@{re.escape(directory.name)}: ")
    program = re.compile(rf"/(postgres|initdb|pg_basebackup) -D {re.escape(str(directory))}/")
    return [pid for pid, line in processes() if title.match(line) or program.search(line)]


def processes() -> Iterator[tuple[int, str]]:
    """Every process's id and command line, its arguments joined and ended by a blank."""
    if not os.path.isdir("/proc/self"):
        listed = subprocess.run(
            ["/bin/ps", "-A", "-ww", "-o", "pid=,args="],
            check=False,
            capture_output=True,
            text=True,
        )
        for line in listed.stdout.splitlines():
            pid, _, arguments = line.strip().partition(" ")
            yield int(pid), f"{arguments.strip()} "
        return
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                yield int(entry), file.read().decode(errors="replace").replace("\0", " ")


def has_ended(pid: int) -> bool:
    """Whether there is no such process any more, or only a zombie that nobody has reaped yet.

    A dying process has no command line long before it has given back what it holds.
    """
    try:
        if not os.path.isdir("/proc/self"):
            os.kill(pid, 0)
            return False
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def release_shared_memory(data_dir: Path) -> None:
    """Give back the System V segment of a server that was killed and could not do it itself."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        # Line 7 of postmaster.pid: the segment's key and its id. 0 is IPC_RMID.
        segment = (data_dir / "postmaster.pid").read_text().splitlines()[6].split()[1]
        ctypes.CDLL(None).shmctl(int(segment), 0, None)


def kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    _watch(*map(Path, sys.argv[1:]))
