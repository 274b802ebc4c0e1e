"""Which hot path runs, compiled or interpreted: a compiled file never shadows edited source.

The build (setup.py) leaves a manifest beside the compiled files: the SHA-256 of every source they
were made from. `install()`, called once when `pgproxy` is imported and before any of its modules,
compares. Where every source is still the one that was compiled it does nothing, and Python loads
the compiled files as usual. Otherwise, or with PGPROXY_INTERPRETED=1, *all* of pgproxy is loaded
from source: compiled modules hold each other's layout, so there is no sound mixture.

A stale build is told in one line on stderr (not by `warnings`, which a program may turn into
errors); a missing build is not, since running interpreted is then what was asked for.
`mode()` says which it is. The module imports little: every start waits for it.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Final

# The compiled group is one shared library; each module's own file only points into it.
GROUP: Final = "pgproxy._native"
# One manifest for each Python the tree was built for, named like that Python's compiled files.
_ABI: Final = EXTENSION_SUFFIXES[0].removesuffix(".so")
MANIFEST: Final = f"_native{_ABI}.manifest"
# First words of a manifest's lines. A source is either compiled itself, or was only read: mypyc
# copies the constants of a module it does not compile into those it does.
COMPILED: Final = "compiled"
READ: Final = "read"
NOT_COMPILED: Final = "not-compiled"


def digest(path: str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class SourceOnly:
    """A finder for sys.meta_path: as Python's own, but a source where that would take a .so.

    `reason` says why the compiled files are not wanted.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("pgproxy."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
            return spec
        module = fullname.rpartition(".")[2]
        source = os.path.join(os.path.dirname(str(spec.origin)), f"{module}.py")
        if not os.path.exists(source):
            raise ModuleNotFoundError(
                f"{fullname} is left over as a compiled file, its source is gone: {spec.origin}",
                name=fullname,
            )
        return spec_from_file_location(fullname, source)


def install() -> None:
    """Make sure that what `import pgproxy.…` runs is the source that lies there."""
    if os.environ.get("PGPROXY_INTERPRETED", "0") not in ("", "0"):
        sys.meta_path.insert(0, SourceOnly("PGPROXY_INTERPRETED is set"))
        return
    package = os.path.dirname(os.path.abspath(__file__))
    reason, is_stale = _why_interpreted(package)
    if not reason:
        return
    if is_stale:
        sys.stderr.write(
            f"pgproxy: {reason}; running interpreted until `make build`"
            " (or installing it again) compiles it\n"
        )
    sys.meta_path.insert(0, SourceOnly(reason))


def mode() -> str:
    """`compiled`, or `interpreted (why)`."""
    for finder in sys.meta_path:
        if isinstance(finder, SourceOnly):
            return f"interpreted ({finder.reason})"
    return "compiled"


def _why_interpreted(package: str) -> tuple[str, bool]:
    """Why the compiled files cannot be used, "" if they can, and whether they are out of date."""
    try:
        with open(os.path.join(package, MANIFEST), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        # A build that was interrupted has removed the manifest first.
        if os.path.exists(os.path.join(package, f"_native__mypyc{EXTENSION_SUFFIXES[0]}")):
            return "the compiled files have no manifest", True
        return "not compiled", False

    for line in lines:
        kind, value, name = line.split(" ", 2)
        if kind == NOT_COMPILED:
            return f"not compiled: {name}", False
        source = os.path.join(package, name)
        try:
            if digest(source) != value:
                return f"{name} has changed since it was compiled", True
        except FileNotFoundError:
            return f"{name} was compiled and is gone", True
        if kind == COMPILED:
            compiled = source.removesuffix(".py") + EXTENSION_SUFFIXES[0]
            if not os.path.exists(compiled):
                return f"the compiled file of {name} is missing", True
    return "", False
