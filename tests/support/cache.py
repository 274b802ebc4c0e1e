"""What tests fetch or build once and keep from run to run, below `$XDG_CACHE_HOME/pgproxy-tests`."""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path


class CommandError(Exception):
    """A command has failed; the message has what it printed at the end."""


def caches() -> Path:
    """The folder, which may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pgproxy-tests"


@contextlib.contextmanager
def locked(name: str) -> Iterator[Path]:
    """The folder, while nobody else is at what has that name in it."""
    folder = caches()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def run(command: Sequence[str | Path], *, cwd: Path | None = None, timeout: float = 300) -> None:
    """Raises `CommandError`."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if done.returncode != 0:
        raise CommandError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-5000:]}")
