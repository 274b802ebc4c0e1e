"""What the system has to give: its PostgreSQL, and other programs, or the test fails."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from pgproxy.embedded import EmbeddedError, Installation, find_installation
from tests.support.cache import locked, run

DEBIAN: Final = Path("/usr/lib/postgresql")


def system_installation() -> Installation:
    """PGPROXY_SYSTEM_PG_BIN, or the newest of Debian's."""
    if named := os.environ.get("PGPROXY_SYSTEM_PG_BIN"):
        bin_dir = Path(named)
    else:
        found = [path.parent for path in DEBIAN.glob("*/bin/postgres")]
        if not found:
            pytest.fail(f"no PostgreSQL server in {DEBIAN}: apt-get install postgresql-15")
        bin_dir = max(found, key=lambda path: int(path.parent.name))
    try:
        return find_installation(bin_dir=bin_dir)
    except EmbeddedError as error:
        pytest.fail(str(error))


def program(name: str, package: str) -> str:
    """The path of a program, which a Debian package gives."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: apt-get install {package}")
    return found


def prepared(language: str, *commands: list[str], also: Path | None = None) -> Path:
    """A copy of drivers/<language> outside the tree, in which `commands` have been run.

    They get the drivers from their registry. Run anew only when something there has changed, or
    in the file `also`.
    """
    source = Path(__file__).parent / "drivers" / language
    files = sorted(
        path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    digest = hashlib.sha256(repr(commands).encode())
    if also is not None:
        digest.update(also.read_bytes())
    for path in files:
        digest.update(f"{path.relative_to(source)} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    with locked(language) as caches:
        ready = caches / f"{language}-{digest.hexdigest()[:16]}"
        if not ready.exists():
            for old in caches.glob(f"{language}-*"):
                shutil.rmtree(old)
            making = caches / f"{language}-making"
            shutil.copytree(source, making)
            for command in commands:
                run(command, cwd=making, timeout=500)
            making.rename(ready)
    return ready
