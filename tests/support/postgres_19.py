"""PostgreSQL 19 for the tests, from Debian's packages, without root and beside the machine's own.

PGPROXY_PG19_BIN names the directory of its programs. Without it apt fetches the server and the
libraries it needs (40 MB; from experimental as long as sid has none), checks their signatures, and
they are unpacked below `$XDG_CACHE_HOME/pgproxy-tests`: once, in seconds. The programs run with the
packages' own loader and libraries, so that no version of the machine's matters.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pgproxy.embedded import Installation, find_installation
from tests.support.cache import CommandError, locked, run

VERSION: Final = 19
MIRROR: Final = "http://deb.debian.org/debian"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TOOLS: Final = {"apt-get": "apt", "dpkg-deb": "dpkg"}
# What no server needs to run by hand; perl and debconf come with them.
_LEFT_OUT: Final = (
    "debconf locales postgresql-client-common postgresql-common sensible-utils ssl-cert tzdata"
)
_UNUSED: Final = ("etc", "usr/share/doc", "usr/share/locale", "usr/share/man")

# Found from where it stands: the tree may be copied.
_STARTER: Final = """#!/bin/sh
tree=${0%/*}/../../../../..
exec "$tree"/LOADER --library-path "$tree"/LIBRARIES --argv0 "$0" "${0%/*}"/../programs/NAME "$@"
"""


class MissingPostgresError(Exception):
    """PostgreSQL 19 is not to be had; says what to do."""


@contextlib.contextmanager
def postgres_19() -> Iterator[Installation]:
    """Its programs, for the user that PostgreSQL runs as. Raises MissingPostgresError."""
    if named := os.environ.get("PGPROXY_PG19_BIN"):
        yield find_installation(VERSION, bin_dir=Path(named))
        return
    tree = _installed()
    with tempfile.TemporaryDirectory(prefix="pgproxy-postgres-19-") as name:
        if os.geteuid() == 0:  # the cache may be below a home that only root enters
            Path(name).chmod(0o755)
            tree = shutil.copytree(tree, Path(name) / "tree", symlinks=True)
        yield find_installation(VERSION, bin_dir=_bin(tree))


def _bin(tree: Path) -> Path:
    return tree / f"usr/lib/postgresql/{VERSION}/bin"


def _installed() -> Path:
    with locked(f"postgres-{VERSION}") as caches:
        ready = caches / f"postgres-{VERSION}"
        if not ready.exists():
            with tempfile.TemporaryDirectory(prefix=f"{ready.name}-making-", dir=caches) as name:
                making = Path(name)
                tree = making / "tree"
                tree.mkdir(mode=0o755)
                for package in _fetched(making):
                    _run(["dpkg-deb", "--extract", str(package), str(tree)])
                for unused in _UNUSED:
                    shutil.rmtree(tree / unused, ignore_errors=True)
                _make_starters(tree)
                tree.rename(ready)
    return ready


def _fetched(directory: Path) -> list[Path]:
    """The packages, by an apt that has its own lists and knows of nothing that is installed here."""
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise _missing(f"{tool} is missing: install {package} (Debian and its derivatives)")
    if not KEYRING.exists():
        raise _missing(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
    for folder in ("state/lists/partial", "cache/archives/partial", "none"):
        (directory / folder).mkdir(parents=True)
    suites = ("sid", "experimental")
    sources = [f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n" for suite in suites]
    (directory / "sources.list").write_text("".join(sources))
    present = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: foreign\n"
        "Version: 9999\nMaintainer: none\nDescription: none\n\n"
        for name in _LEFT_OUT.split()
    ]
    (directory / "status").write_text("".join(present))
    settings = {
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": directory / "none",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": directory / "none",
        "Dir::State": directory / "state",
        "Dir::State::Status": directory / "status",
        "Dir::Cache": directory / "cache",
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",  # a mirror that is late is good enough
        "Acquire::Retries": 3,
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in settings.items())]
    _run([*apt, "update"])
    wanted = ["--target-release=experimental", f"postgresql-{VERSION}"]
    _run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *wanted])
    return sorted((directory / "cache/archives").glob("*.deb"))


def _make_starters(tree: Path) -> None:
    bin_dir = _bin(tree)
    programs = bin_dir.with_name("programs")
    bin_dir.rename(programs)
    bin_dir.mkdir(mode=0o755)
    loader = next(tree.glob("usr/lib/*/ld-linux-*.so.*")).relative_to(tree)
    text = _STARTER.replace("LOADER", str(loader)).replace("LIBRARIES", str(loader.parent))
    for program in programs.iterdir():
        starter = bin_dir / program.name
        starter.write_text(text.replace("NAME", program.name))
        starter.chmod(0o755)


def _run(command: list[str]) -> None:
    try:
        run(command)
    except CommandError as error:
        raise _missing(str(error)) from error


def _missing(why: str) -> MissingPostgresError:
    return MissingPostgresError(
        f"{why}\nOr name a directory with PostgreSQL {VERSION}'s programs in PGPROXY_PG19_BIN."
    )
