"""Loaded into the pytest that runs SQLAlchemy's tests: which of them run, and how each ended.

OUTCOMES names the file to be written, one JSON object a line: `test`, its id; `outcome`, passed,
skipped or failed; `text`, why it was skipped or how it failed. ONLY names a file with the ids of the
tests to run, one a line, in place of all that are collected.
"""

import json
import os
from pathlib import Path

import pytest


class Outcomes:
    """How each test ended: the worst of its set-up, its call and its end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._outcome = "passed"
        self._text = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed" and self._outcome != "failed":
            self._outcome = report.outcome
            self._text = str(report.longrepr)[-6000:]
        if report.when != "teardown":
            return
        line = {"test": report.nodeid, "outcome": self._outcome, "text": self._text}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()  # what is there if the run is cut short
        self._outcome, self._text = "passed", ""

    def pytest_unconfigure(self) -> None:
        self._file.close()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes(Path(os.environ["OUTCOMES"])))


@pytest.hookimpl(trylast=True)  # SQLAlchemy's own makes a class of tests for each database
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = os.environ.get("ONLY")
    if named is None:
        return
    wanted = set(Path(named).read_text(encoding="utf-8").splitlines())
    left_out = [item for item in items if item.nodeid not in wanted]
    items[:] = [item for item in items if item.nodeid in wanted]
    config.hook.pytest_deselected(items=left_out)
