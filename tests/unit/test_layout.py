"""The tree keeps its shape: purity has its tests, packages their rules."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pgproxy"

# PURE modules that need no test file of their own, and why.
NO_TEST_OF_ITS_OWN: dict[str, str] = {
    "routing/builtins.py": (
        "lists of names: tests/integration/test_routing.py calls each on a real standby,"
        " test_functions.py looks them up"
    ),
}


def pure_modules() -> Iterator[str]:
    """Paths below pgproxy/ of what the import contract "pure" names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["id"] == "pure")
    for name in contract["source_modules"]:
        path = ROOT / name.replace(".", "/")
        if path.is_dir():
            files = [file for file in path.glob("*.py") if file.name != "__init__.py"]
        else:
            files = [path.with_suffix(".py")]
        yield from (str(file.relative_to(PACKAGE)) for file in files)


def mirror(module: str) -> Path:
    path = Path(module)
    return ROOT / "tests" / "unit" / path.parent / f"test_{path.name}"


@pytest.mark.parametrize("module", sorted(pure_modules()))
def test_each_pure_module_has_its_test_file(module: str) -> None:
    if module in NO_TEST_OF_ITS_OWN:
        assert not mirror(module).exists(), f"{module} has a test by now: take it off the list"
    else:
        assert mirror(module).exists(), f"{module} needs {mirror(module).relative_to(ROOT)}"


def test_the_list_of_exceptions_names_modules_that_exist() -> None:
    assert set(NO_TEST_OF_ITS_OWN) <= set(pure_modules())


def with_doors() -> set[str]:
    """The packages that export names, as the import contract "doors" has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["id"] == "doors")
    return {name.removeprefix("pgproxy.") for name in contract["allowed_importers"]}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name
)
def test_an_init_file_holds_its_docstring_and_what_it_exports_only(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    assert ast.get_docstring(tree)
    if path.parent == PACKAGE:  # the version too, and it installs the guard
        assert len(tree.body) == 4
        return
    if path.parent.name not in with_doors():
        assert len(tree.body) == 1
        return
    *imports, exported = tree.body[1:]
    assert all(isinstance(one, ast.ImportFrom) for one in imports)
    assert ast.unparse(exported).startswith("__all__ = ")


def test_the_tree_is_two_deep_and_has_no_junk_drawer() -> None:
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        assert len(relative.parts) <= 2, relative
        assert path.stem not in {"common", "helpers", "misc", "util", "utils"}, relative
