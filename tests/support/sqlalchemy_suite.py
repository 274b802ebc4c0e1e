"""SQLAlchemy's own test suite: fetched once, by version and hash, and run against an address.

    suite = Suite.installed()
    outcomes = suite.run("psycopg", proxy, "some_database", directory=tmp_path)

It runs by the Python of an environment of its own, in a cache outside the tree: what it needs is not
what we need (requirements/sqlalchemy.txt). Only those of its tests run that concern a database
(`--backend-only`), but for its measurements of memory, which take longer than all the others.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.cache import CommandError, locked, run
from tests.support.processes import Leash
from tests.support.serving import without_libpq_settings
from tests.support.wire import Address

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = ROOT / "requirements" / "sqlalchemy.txt"
PLUGIN: Final = ROOT / "tests" / "extra" / "sqlalchemy" / "outcomes_plugin.py"
EXCEPTIONS: Final = ROOT / "tests" / "extra" / "sqlalchemy" / "exceptions.toml"

DRIVERS: Final = ("psycopg", "asyncpg")

# What its tests expect to find in their database, and nothing else.
CONTENTS: Final = (
    "CREATE SCHEMA test_schema",
    "CREATE SCHEMA test_schema_2",
    "CREATE EXTENSION citext",
    "CREATE EXTENSION hstore",
)


class SuiteError(Exception):
    """The suite or what it needs cannot be had, or did not run to its end; the message says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended."""

    outcome: str  # passed, skipped, failed
    text: str  # why it was skipped, how it failed

    def __str__(self) -> str:
        return f"{self.outcome} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Exemption:
    """Tests that pass directly and may fail through the proxy, with the reason why."""

    tests: str  # a regular expression for the whole id, without the parameters
    reason: str  # a sentence for the documentation
    drivers: tuple[str, ...]
    sometimes: bool  # they also pass, depending on what came before

    def covers(self, driver: str, test: str) -> bool:
        return driver in self.drivers and re.fullmatch(self.tests, plain(test)) is not None


def exemptions() -> list[Exemption]:
    """Those of the file that is the source of the documentation's list."""
    found = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8")).get("exception", [])
    return [
        Exemption(
            one["tests"],
            one["reason"],
            tuple(one.get("drivers", DRIVERS)),
            one.get("sometimes", False),
        )
        for one in found
    ]


def plain(test: str) -> str:
    """The id of a test as its source has it: without parameters, and without driver and version."""
    return re.sub(r"_postgresql\+\w+?_[\d_]+(?=::)", "", test.partition("[")[0])


@dataclass(frozen=True, slots=True)
class Suite:
    """What is needed to run it."""

    python: Path
    sources: Path

    @classmethod
    def installed(cls) -> Self:
        """The suite in the cache, put there if it is not. Raises `SuiteError` with pip's words."""
        wanted = REQUIREMENTS.read_bytes() + f"{sys.executable} {sys.version}".encode()
        with locked("sqlalchemy") as caches:
            ready = caches / f"sqlalchemy-{hashlib.sha256(wanted).hexdigest()[:16]}"
            if not (ready / "complete").exists():
                # An environment cannot be moved, so it is made where it stays.
                for old in caches.glob("sqlalchemy-*"):
                    shutil.rmtree(old)
                _install(ready)
                (ready / "complete").touch()
        (sources,) = ready.glob("sqlalchemy-*/")
        return cls(ready / "venv" / "bin" / "python", sources)

    def run(
        self,
        driver: str,
        address: Address,
        database: str,
        *,
        directory: Path,
        select: Sequence[str] = ("test",),
        only: Iterable[str] | None = None,
        timeout: float = 1500,
    ) -> dict[str, Outcome]:
        """Run what pytest's arguments `select` choose, or those tests of it that `only` names.

        `database` must be empty but for `CONTENTS`; `directory` takes what the run writes. Raises
        `SuiteError` if it did not come to its end.
        """
        directory.mkdir(parents=True)
        outcomes, log = directory / "outcomes.jsonl", directory / "log.txt"
        shutil.copy(PLUGIN, directory)
        environment = without_libpq_settings() | {
            "OUTCOMES": str(outcomes),
            "PYTHONPATH": str(directory),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if only is not None:
            named = directory / "only.txt"
            named.write_text("".join(f"{test}\n" for test in only), encoding="utf-8")
            environment["ONLY"] = str(named)
        url = f"postgresql+{driver}://postgres:any@{address.host}:{address.port}/{database}"
        with (
            log.open("w") as written,
            # -s: SQLAlchemy as it was installed, compiled, and not that of the sources.
            # A test that hangs shall not take the others' time.
            subprocess.Popen(
                [
                    *(self.python, "-s", "-m", "pytest", "-p", "outcomes_plugin"),
                    *("-p", "no:cacheprovider", "-q", "--maxfail=100000", "--timeout=180"),
                    *("--backend-only", "--dburi", url, "-m", "not memory_intensive", *select),
                ],
                cwd=self.sources,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                env=environment,
            ) as running,
        ):
            leash = Leash(directory / "leash", running.pid)
            try:
                status = running.wait(timeout)
            finally:
                running.kill()
                leash.release()
        if status not in (0, 1, 5):  # 1: there were failures; 5: none is for this driver
            raise SuiteError(f"status {status}:\n{log.read_text()[-5000:]}")
        lines = map(json.loads, outcomes.read_text(encoding="utf-8").splitlines())
        return {line["test"]: Outcome(line["outcome"], line["text"]) for line in lines}


def _install(target: Path) -> None:
    """An environment with all that is named in `REQUIREMENTS`, and beside it SQLAlchemy's sources."""
    target.mkdir()
    _call(sys.executable, "-m", "venv", "--without-pip", target / "venv")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    pip += ["--python", str(target / "venv" / "bin" / "python")]
    _call(*pip, "install", "--quiet", "--require-hashes", "--requirement", REQUIREMENTS)
    # The same version's source distribution, which the same entry has a hash of.
    entry = re.search(r"^sqlalchemy==.*(?<!\\)$", REQUIREMENTS.read_text(), re.M | re.S)
    assert entry is not None
    sources = target / "sources.txt"
    sources.write_text(re.split(r"(?<!\\)\n", entry[0])[0] + "\n")
    _call(
        *(*pip, "download", "--quiet", "--no-deps", "--no-binary", "sqlalchemy"),
        *("--no-build-isolation", "--require-hashes", "--requirement", sources, "--dest", target),
    )
    (archive,) = target.glob("*.tar.gz")
    _call("tar", "--extract", "--gzip", "--file", archive, "--directory", target)
    archive.unlink()


def _call(*command: str | Path) -> None:
    try:
        run(command)
    except CommandError as error:
        raise SuiteError(str(error)) from error
