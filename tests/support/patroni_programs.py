"""Patroni itself, from PyPI by version and hash: installed once, in a cache outside the tree."""

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tests.support.cache import CommandError, locked, run

REQUIREMENTS: Final = Path(__file__).parents[2] / "requirements" / "patroni.txt"


class PatroniError(Exception):
    """Patroni or what it needs is missing, did not start, or refused; the message says why."""


def installed_packages() -> Path:
    """The directory that holds Patroni and what it imports, to be put into PYTHONPATH.

    Raises `PatroniError` with pip's words if they cannot be had.
    """
    wanted = REQUIREMENTS.read_bytes() + sys.implementation.cache_tag.encode()
    with locked("patroni") as caches:
        ready = caches / f"patroni-{hashlib.sha256(wanted).hexdigest()[:16]}"
        if ready.exists():
            return ready
        for old in caches.glob("patroni-*"):
            shutil.rmtree(old)
        making = caches / "patroni-making"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        try:
            run([*pip, "--require-hashes", "--target", making, "--requirement", REQUIREMENTS])
        except CommandError as error:
            raise PatroniError(f"pip could not install Patroni: {error}") from error
        making.rename(ready)
    return ready


def packages_for_others(target: Path) -> Path:
    """A copy of them at `target` that an unprivileged user can read: the cache may be root's own."""
    shutil.copytree(installed_packages(), target, symlinks=True)
    for directory, _, files in os.walk(target):
        os.chmod(directory, 0o755)
        for file in files:
            os.chmod(Path(directory, file), 0o644)
    return target


def python_for_others() -> str:
    """The Python we run by, by a path that an unprivileged user may use too.

    Raises `PatroniError` if that user may not: PostgreSQL, which Patroni starts, refuses to be
    root, so neither can be Patroni.
    """
    python = Path(sys.executable).resolve()
    shut = [str(way) for way in (python, *python.parents) if not way.stat().st_mode & 0o001]
    if os.geteuid() == 0 and shut:
        raise PatroniError(
            f"Patroni shall run unprivileged, and {shut[-1]} is root's own: make .venv from a Python"
            " that everybody may run (apt-get install python3; PYTHON=/usr/bin/python3), or do not"
            " be root"
        )
    return str(python)
