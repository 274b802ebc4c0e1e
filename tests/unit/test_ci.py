"""`.ci/run`, with other programs in place of those that it calls."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import psutil
import pytest

ROOT: Final = Path(__file__).parents[2]

# As what is built beside the tests: it has a child of its own, and says which.
BUILDER: Final = """
import os, pathlib, subprocess
child = subprocess.Popen(["sleep", "600"])
pathlib.Path("pids.new").write_text(f"{os.getpid()} {child.pid}")
pathlib.Path("pids.new").rename("pids")
child.wait()
"""
WAITS_AND_FAILS: Final = "while [ ! -e pids ]; do sleep 0.05; done; exit 3"
OTHERS: Final = ("node", "npm", "go", "javac", "mvn", "cargo", "rustc")


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.once
def test_what_is_built_beside_ends_when_the_first_step_fails(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "tests/support").mkdir(parents=True)
    (tmp_path / "tests/support/kube_assets.py").write_text(BUILDER)
    programs = tmp_path / "programs"
    programs.mkdir()
    program(programs / "dpkg-query", "printf installed")
    program(programs / "make", WAITS_AND_FAILS)
    for name in OTHERS:
        program(programs / name, "exit 0")
    ended = subprocess.run(
        [tmp_path / ".ci/run"],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3, ended
    builder, child = map(int, (tmp_path / "pids").read_text().split())
    try:
        while _runs(builder) or _runs(child):
            time.sleep(0.05)
    finally:
        for left in (builder, child):
            if _runs(left):
                psutil.Process(left).kill()


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
