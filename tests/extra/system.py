"""What the system has to give: its PostgreSQL, and other programs, or the test fails."""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from pgproxy.embedded import EmbeddedError, Installation, find_installation

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
