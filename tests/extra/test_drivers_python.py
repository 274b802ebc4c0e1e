"""asyncpg, psycopg 3, psycopg2, SQLAlchemy and Django: the same through the proxy as directly."""

import sys
from pathlib import Path

import pytest

from tests.extra.conftest import Compare
from tests.extra.system import prepared
from tests.support.comparison import session_sections

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "drivers.txt"

DRIVER = ["simple", "prepared", "transaction", "cursor", "copy", "errors", "notifications"]
DRIVER += ["cancel", "timeouts", "reconnect", "reported", "large", "concurrent"]
SECTIONS = {
    "asyncpg": [*DRIVER, "pipeline", *session_sections("simple", "extended")],
    "psycopg": [*DRIVER, "pipeline", *session_sections("simple", "extended")],
    "psycopg2": [*DRIVER, "batch", "asynchronous", *session_sections("simple")],
    "sqlalchemy": [
        *("orm", "core", "transactions", "settings", "prepared", "streaming", "timeouts"),
        *("reconnect", "cancel", "concurrent", *session_sections("driver")),
    ],
    "django": [
        *("orm", "transactions", "session_settings", "prepared", "copy", "timeouts", "cancel"),
        *("notifications", "reconnect", "large", "concurrent", *session_sections("django")),
    ],
}
# asyncpg: the size of its cache. psycopg: after how many uses a statement is prepared.
WAYS = {
    "asyncpg": ["100", "0"],
    "psycopg": ["none", "0", "1"],
    "psycopg2": ["-"],
    "sqlalchemy": ["psycopg", "asyncpg"],
    "django": ["client", "server", "persistent"],
}
PROGRAMS = [(name, way) for name, ways in WAYS.items() for way in ways]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place() -> Path:
    """The programs, and beside them a virtual environment with what they import."""
    pip = ["packages/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes"]
    return prepared(
        "python",
        [sys.executable, "-m", "venv", "packages"],
        [*pip, "--disable-pip-version-check", "--requirement", str(REQUIREMENTS)],
        also=REQUIREMENTS,
    )


def command(place: Path, name: str, way: str) -> list[str]:
    return [str(place / "packages" / "bin" / "python"), str(place / f"use_{name}.py"), way]


@pytest.mark.parametrize(
    ("name", "way", "section"),
    [(name, way, section) for name, way in PROGRAMS for section in SECTIONS[name]],
)
def test_results_are_the_same(
    name: str, way: str, section: str, place: Path, compared: Compare
) -> None:
    compared(command(place, name, way)).check(section)


@pytest.mark.parametrize(("name", "way"), PROGRAMS)
def test_it_did_what_it_was_to_do(name: str, way: str, place: Path, compared: Compare) -> None:
    results = compared(command(place, name, way)).direct
    assert set(results) == set(SECTIONS[name])
    assert "16000" in repr(results["concurrent"][-1])
    assert "57014" in repr(results["timeouts"])
