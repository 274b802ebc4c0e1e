"""Compiles the hot path with mypyc; where that cannot be done the same files run interpreted.

Which modules: `[tool.pgproxy.compile]` in pyproject.toml. Everything else about the project is in
pyproject.toml too. PGPROXY_COMPILE=0 does not compile; PGPROXY_COMPILE=require makes a failed
compile a failed build; by default the build goes on and says why it is interpreted.

The manifest is what `pgproxy/_compiled.py` checks at every start: it is removed before the first
compiled file changes and written after the last, from hashes taken before the sources were read.
"""

import ast
import os
import runpy
import shlex
import shutil
import sys
import sysconfig
import time
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

ROOT = Path(__file__).resolve().parent
GUARD = runpy.run_path(str(ROOT / "pgproxy" / "_compiled.py"))
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


class CannotCompileError(Exception):
    """Why the hot path stays interpreted."""


def sources() -> list[str]:
    """The files to compile, relative to the root."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["tool"]["pgproxy"]["compile"]
    found = {
        str(path.relative_to(ROOT)) for pattern in wanted["modules"] for path in ROOT.glob(pattern)
    }
    return sorted(
        path for path in found - set(wanted["interpreted"]) if not path.endswith("/__init__.py")
    )


def imported_from(path: str) -> set[str]:
    """The pgproxy files that a file imports, relative to the root."""
    names: set[str] = set()
    try:
        tree = ast.parse((ROOT / path).read_bytes(), path)
    except SyntaxError as error:
        raise CannotCompileError(f"{path}, line {error.lineno}: {error.msg}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    places = [name.replace(".", "/") for name in names if name.startswith("pgproxy.")]
    files = [f"{place}{end}" for place in places for end in (".py", "/__init__.py")]
    return {file for file in files if (ROOT / file).is_file()}


def manifest_lines(compiled: list[str]) -> list[str]:
    """One line for each compiled file, and for each that those read, directly or not."""
    reached: set[str] = set()
    waiting = set(compiled)
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= imported_from(path) - reached
    return [
        " ".join(
            (
                GUARD["COMPILED"] if path in compiled else GUARD["READ"],
                GUARD["digest"](str(ROOT / path)),
                path.removeprefix("pgproxy/"),
            )
        )
        for path in sorted(reached)
    ]


def look_for_means(files: list[str]) -> None:
    """Raise CannotCompileError unless this machine can compile, and is to compile something."""
    if os.environ.get("PGPROXY_COMPILE") == "0":
        raise CannotCompileError("PGPROXY_COMPILE=0")
    if not files:
        raise CannotCompileError("there is nothing to compile")
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(command[0]) is None:
        raise CannotCompileError(f"no C compiler ({command[0]}) found")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise CannotCompileError(f"no Python.h found ({header}); Debian's python3-dev has it")


def generate(files: list[str]) -> list[Extension]:
    """Type-check and translate to C, as one group."""
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        raise CannotCompileError(f"mypyc cannot be imported: {error}") from error
    try:
        extensions: list[Extension] = mypycify(
            # Not the project's own mypy settings: what they ask of the code is for `make check`,
            # and a build has none of the dependencies at hand.
            ["--config-file=", "--ignore-missing-imports", *files],
            opt_level="3",
            strip_asserts=False,
            multi_file=False,
            group_name=GUARD["GROUP"],
            target_dir=f"build/mypyc{SUFFIX.removesuffix('.so')}",
        )
        for extension in extensions:
            # Nobody puts other functions in the place of these: calls between them are direct.
            extension.extra_compile_args.append("-fno-semantic-interposition")
        return extensions
    except SystemExit as error:  # how it reports a type error, or code it does not support
        raise CannotCompileError("mypyc rejected the source") from error
    except Exception as error:  # its bugs do not end the build
        raise CannotCompileError(f"mypyc failed: {error!r}") from error


class BuildHotPath(build_ext):
    """build_ext that finds out what to compile when it runs, and may end with nothing compiled."""

    def run(self) -> None:
        self.remove_compiled()
        files = sources()
        try:
            look_for_means(files)
            lines = manifest_lines(files)
            started = time.monotonic()
            print(f"pgproxy: compiling {len(files)} modules with mypyc ...", flush=True)
            self.use(generate(files))
            print("pgproxy: translated to C, compiling that ...", flush=True)
            super().run()
            print(f"pgproxy: compiled in {time.monotonic() - started:.0f} s", flush=True)
        except (CannotCompileError, BaseError) as error:
            self.fall_back(error)
            lines = [f"{GUARD['NOT_COMPILED']} - {error}".splitlines()[0]]
        (self.target() / GUARD["MANIFEST"]).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def use(self, extensions: list[Extension]) -> None:
        """Replace the extensions that were declared; setuptools has already looked at those."""
        self.distribution.ext_modules = extensions
        self.swig_opts = None  # finalize_options would split it a second time
        super().finalize_options()

    def fall_back(self, error: Exception) -> None:
        print(f"pgproxy: NOT compiled, will run interpreted: {error}", file=sys.stderr, flush=True)
        if os.environ.get("PGPROXY_COMPILE") == "require":
            raise SystemExit("pgproxy: PGPROXY_COMPILE=require, so this is a failed build")
        self.remove_compiled()
        self.use([])

    def target(self) -> Path:
        """The package folder that the compiled files go to."""
        target = ROOT / "pgproxy" if self.inplace else Path(self.build_lib) / "pgproxy"
        target.mkdir(parents=True, exist_ok=True)
        return target

    def remove_compiled(self) -> None:
        """Take out what an earlier build for this Python left, the manifest first."""
        target = self.target()
        (target / GUARD["MANIFEST"]).unlink(missing_ok=True)
        for path in target.rglob(f"*{SUFFIX}"):
            path.unlink()


setup(
    cmdclass={"build_ext": BuildHotPath},
    # Declares that there will be compiled files; BuildHotPath puts in which.
    ext_modules=[Extension(f"{GUARD['GROUP']}__mypyc", sources=[])],
)
