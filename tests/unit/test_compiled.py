"""The guard of pgproxy/_compiled.py and the build of setup.py, on a small tree of their own.

The tree has the project's setup.py, pyproject.toml and guard, and a hot path of two modules that
say which version of the source they were made from. Each test edits a copy of the built tree and
asks a fresh Python what runs.
"""

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from pgproxy import _compiled

pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

INNER = """\
from pgproxy.config import NAME
from pgproxy.errors import LIMIT

def answer() -> str:
    return "inner v1"

def limit() -> str:
    return LIMIT

def name() -> str:
    return NAME
"""
OUTER = """\
from pgproxy.frames import inner

def answer() -> str:
    return "outer v1, " + inner.answer()
"""
ERRORS = """\
from typing import Final

LIMIT: Final = "limit v1"
"""
CONFIG = """\
from pgproxy.config.model import NAME

__all__ = ["NAME"]
"""
MODEL = """\
from typing import Final

NAME: Final = "name v1"
"""
# Prints one line for each question.
ASK = """\
import pgproxy._compiled
from pgproxy.frames import inner, outer
print(pgproxy._compiled.mode())
print(inner.__file__.rpartition(".")[2], outer.__file__.rpartition(".")[2])
print(outer.answer())
print(inner.limit())
print(inner.name())
"""


def run(tree: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PGPROXY_") and name not in ("CC", "PYTHONPATH")
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def ask(tree: Path, **variables: str) -> tuple[list[str], str]:
    """The lines of ASK, and what Python wrote to stderr."""
    done = run(tree, "-c", ASK, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def build(tree: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(tree, "setup.py", "--quiet", "build_ext", "--inplace", **variables)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def plain_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small tree, not built."""
    tree = tmp_path_factory.mktemp("plain")
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    package = tree / "pgproxy"
    (package / "frames").mkdir(parents=True)
    for name in ("__init__.py", "_compiled.py"):
        shutil.copy(ROOT / "pgproxy" / name, package)
    (tree / "README.md").write_text("A tree of two modules.\n")
    (package / "errors.py").write_text(ERRORS)
    (package / "config").mkdir()
    (package / "config" / "__init__.py").write_text(CONFIG)
    (package / "config" / "model.py").write_text(MODEL)
    (package / "frames" / "__init__.py").write_text('"""Two modules."""\n')
    (package / "frames" / "inner.py").write_text(INNER)
    (package / "frames" / "outer.py").write_text(OUTER)
    return tree


@pytest.fixture(scope="module")
def built_tree(plain_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small tree, compiled. Not to be changed."""
    tree = tmp_path_factory.mktemp("built") / "tree"
    shutil.copytree(plain_tree, tree)
    done = build(tree)
    assert done.returncode == 0, done.stderr
    if "no C compiler" in done.stderr or "no Python.h" in done.stderr:
        missing = f"{done.stderr.strip()} (Debian: apt-get install gcc libc6-dev python3-dev)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return tree


@pytest.fixture
def tree(built_tree: Path, tmp_path: Path) -> Path:
    """A copy of the compiled tree to change."""
    copy = tmp_path / "tree"
    shutil.copytree(built_tree, copy)
    return copy


def test_compiled_files_run_where_the_source_is_what_was_compiled(tree: Path) -> None:
    lines, stderr = ask(tree)
    assert lines == ["compiled", "so so", "outer v1, inner v1", "limit v1", "name v1"]
    assert stderr == ""


def test_the_environment_forces_interpreted_without_a_word(tree: Path) -> None:
    lines, stderr = ask(tree, PGPROXY_INTERPRETED="1")
    assert lines[:2] == ["interpreted (PGPROXY_INTERPRETED is set)", "py py"]
    assert stderr == ""


def test_the_environment_set_to_nothing_or_0_forces_nothing(tree: Path) -> None:
    assert ask(tree, PGPROXY_INTERPRETED="")[0][0] == "compiled"
    assert ask(tree, PGPROXY_INTERPRETED="0")[0][0] == "compiled"


def test_edited_source_is_what_runs_and_takes_the_whole_group_with_it(tree: Path) -> None:
    replace(tree / "pgproxy/frames/inner.py", "inner v1", "inner v2")
    lines, stderr = ask(tree)
    reason = "frames/inner.py has changed since it was compiled"
    assert lines[:3] == [f"interpreted ({reason})", "py py", "outer v1, inner v2"]
    assert stderr.count("\n") == 1
    assert reason in stderr
    assert "make build" in stderr


def test_a_changed_constant_of_a_module_that_is_not_compiled_is_seen(tree: Path) -> None:
    """mypyc has copied the constant into inner's compiled file."""
    replace(tree / "pgproxy/errors.py", "limit v1", "limit v2")
    lines, stderr = ask(tree)
    assert lines[1] == "py py"
    assert lines[3] == "limit v2"
    assert "errors.py has changed" in stderr


def test_a_changed_constant_behind_what_a_package_exports_is_seen(tree: Path) -> None:
    replace(tree / "pgproxy/config/model.py", "name v1", "name v2")
    lines, stderr = ask(tree)
    assert lines[1] == "py py"
    assert lines[4] == "name v2"
    assert "config/model.py has changed" in stderr


def test_compiled_files_without_a_manifest_are_not_trusted(tree: Path) -> None:
    """What an interrupted build leaves behind."""
    (tree / "pgproxy" / _compiled.MANIFEST).unlink()
    lines, stderr = ask(tree)
    assert lines[:2] == ["interpreted (the compiled files have no manifest)", "py py"]
    assert "make build" in stderr


def test_a_missing_compiled_file_takes_the_whole_group_with_it(tree: Path) -> None:
    (tree / f"pgproxy/frames/inner{SUFFIX}").unlink()
    assert ask(tree)[0][1] == "py py"


def test_a_compiled_file_whose_source_is_gone_is_not_found(tree: Path) -> None:
    (tree / "pgproxy/frames/inner.py").unlink()
    done = run(tree, "-c", "import pgproxy.frames.inner")
    assert "ModuleNotFoundError: pgproxy.frames.inner is left over" in done.stderr


def test_building_again_compiles_the_edited_source_and_clears_what_is_gone(tree: Path) -> None:
    frames = tree / "pgproxy" / "frames"
    replace(frames / "inner.py", "inner v1", "inner v2")
    shutil.copy(frames / f"outer{SUFFIX}", frames / f"gone{SUFFIX}")
    assert build(tree).returncode == 0
    lines, stderr = ask(tree)
    assert lines[:3] == ["compiled", "so so", "outer v1, inner v2"]
    assert stderr == ""
    assert not (frames / f"gone{SUFFIX}").exists()


def test_source_that_mypyc_rejects_is_built_interpreted(tree: Path) -> None:
    replace(tree / "pgproxy/frames/inner.py", "answer() -> str", "answer() -> int")
    done = build(tree)
    assert done.returncode == 0
    assert "NOT compiled" in done.stderr
    lines, stderr = ask(tree)
    assert lines[0].startswith("interpreted (not compiled: mypyc rejected the source")
    assert lines[1:3] == ["py py", "outer v1, inner v1"]
    assert stderr == ""


def test_a_failed_compile_is_a_failed_build_where_that_is_asked_for(tree: Path) -> None:
    replace(tree / "pgproxy/frames/inner.py", "def answer(", "def answer((")
    assert build(tree, PGPROXY_COMPILE="require").returncode != 0
    assert build(tree).returncode == 0


def test_without_a_compiler_the_build_succeeds_and_says_why_it_is_interpreted(
    plain_tree: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(plain_tree, tree)
    done = build(tree, CC="no-such-compiler")
    assert done.returncode == 0
    assert "NOT compiled, will run interpreted: no C compiler (no-such-compiler)" in done.stderr
    lines, stderr = ask(tree)
    assert lines[0] == "interpreted (not compiled: no C compiler (no-such-compiler) found)"
    assert lines[2] == "outer v1, inner v1"
    assert stderr == ""


def test_a_tree_that_was_never_built_runs_interpreted_without_a_word(plain_tree: Path) -> None:
    lines, stderr = ask(plain_tree)
    assert lines[:2] == ["interpreted (not compiled)", "py py"]
    assert stderr == ""


def test_an_installed_wheel_is_compiled_and_guarded(built_tree: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(built_tree, tree)
    done = run(
        tree, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", str(tmp_path), "."
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("pgproxy-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert ask(installed)[0][:2] == ["compiled", "so so"]

    replace(installed / "pgproxy/frames/outer.py", "outer v1", "outer v2")
    lines, stderr = ask(installed)
    assert lines[1:3] == ["py py", "outer v2, inner v1"]
    assert "outer.py has changed" in stderr


def test_the_suite_runs_the_way_it_was_asked_to() -> None:
    """`make test` runs it twice: a build that fell back must not pass for the compiled one."""
    mode = _compiled.mode()
    assert mode.partition(" ")[0] == os.environ.get("PGPROXY_EXPECT", mode.partition(" ")[0]), mode

    manifest = Path(_compiled.__file__).with_name(_compiled.MANIFEST)
    if mode == "compiled":
        for line in manifest.read_text(encoding="utf-8").splitlines():
            kind, _, name = line.split(" ", 2)
            module = importlib.import_module(
                "pgproxy." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            )
            expected = SUFFIX if kind == _compiled.COMPILED else ".py"
            assert str(module.__file__).endswith(expected)
