"""`pgproxy demo` as a user meets it."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support.processes import Leash, wait_ended

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
PASTE = r'^    (\S*psql "host=.*")$'


class Demo:
    """A demo in a process group of its own, as a shell's job is."""

    def __init__(self, temporary: Path, *arguments: str) -> None:
        self.temporary = temporary
        self.printed = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgproxy", "demo", "--replicas", "1", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.leash = Leash(temporary, self.process.pid)

    def read_until(self, pattern: str) -> str:
        """Read on to the line that matches; returns its first group."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if match := re.search(pattern, line.rstrip("\n")):
                return match[1] if match.groups() else match[0]
        pytest.fail(f"the demo ended without {pattern!r}:\n{self.printed}")

    def signal_group(self, number: signal.Signals) -> list[psutil.Process]:
        """As the terminal does for Ctrl-C; returns all processes that there were."""
        demo = psutil.Process(self.process.pid)
        family = [demo, *demo.children(recursive=True)]
        os.killpg(self.process.pid, number)
        return family

    def end(self, timeout: float = 50) -> int:
        """Read what it still prints, and wait for its end."""
        self.printed += self.process.communicate(timeout=timeout)[0]
        self.leash.release()
        return self.process.returncode

    def psql(self, line: str, sql: str) -> str:
        """What the line to paste, with this statement, prints."""
        done = subprocess.run(
            [*shlex.split(line), "-XAtq", "-c", sql],
            env={key: value for key, value in os.environ.items() if not key.startswith("PG")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout


@pytest.fixture
def start_demo(bare_directory: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(bare_directory, *arguments))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            wait_ended(demo.signal_group(signal.SIGKILL), timeout=30)
        demo.end()
        assert "Traceback" not in demo.printed


def test_the_printed_line_works_and_each_statement_is_shown(
    start_demo: Callable[..., Demo],
) -> None:
    demo = start_demo()
    line = demo.read_until(PASTE)
    status = demo.read_until(r"Status: (\S+)/status")
    assert demo.psql(line, "SELECT 41 + 1") == "42\n"
    demo.read_until(r"-> replica-1 +read +SELECT 41 \+ 1$")
    demo.psql(line, "CREATE TABLE t (n int)")
    demo.read_until(r"-> primary +ddl +CREATE TABLE t \(n int\)$")
    with urllib.request.urlopen(f"{status}/status") as answer:
        assert b'"replica-1"' in answer.read()
    with urllib.request.urlopen(f"{status}/metrics") as answer:
        assert b"\npgproxy_" in answer.read()
    family = demo.signal_group(signal.SIGINT)
    assert demo.end() == 0
    assert not wait_ended(family, timeout=30)
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize("moment", ["creating the primary", "copying it", "starting pgproxy"])
def test_ctrl_c_during_the_start_ends_it_quietly(
    start_demo: Callable[..., Demo], moment: str
) -> None:
    demo = start_demo()
    demo.read_until(moment)
    family = demo.signal_group(signal.SIGINT)
    assert demo.end() == 0
    assert not wait_ended(family, timeout=30)
    assert list(demo.temporary.iterdir()) == []


def test_a_killed_demo_leaves_nothing(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo()
    demo.read_until(PASTE)
    family = demo.signal_group(signal.SIGKILL)
    assert len(family) > 8
    assert not wait_ended(family, timeout=30)
    assert list(demo.temporary.iterdir()) == []


def test_a_second_ctrl_c_does_not_wait_for_an_open_transaction(
    start_demo: Callable[..., Demo],
) -> None:
    demo = start_demo()
    line = shlex.split(demo.read_until(PASTE))[1]
    demo.read_until("Status:")
    with psycopg.connect(line) as connection:
        connection.execute("CREATE TABLE t ()")
        demo.signal_group(signal.SIGINT)
        demo.read_until("Ctrl-C again")
        family = demo.signal_group(signal.SIGINT)
        # Well below the time that the proxy gives to open transactions.
        assert demo.end(timeout=15) == 0
        assert not wait_ended(family, timeout=30)
        connection.close()


def test_a_taken_port_is_told_before_anything_is_started(
    start_demo: Callable[..., Demo],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = start_demo("--port", str(taken.getsockname()[1]))
        assert demo.end() == 1
    assert "Address already in use; choose another" in demo.printed
    assert "creating the primary" not in demo.printed


def test_where_5432_is_taken_the_system_picks_another(start_demo: Callable[..., Demo]) -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # then somebody else has it already
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", 5432))
            taken.listen()
        demo = start_demo()
        port = demo.read_until(r"Port 5432 is taken, so the system picked (\d+)\.")
        assert f"port={port} " in demo.read_until(PASTE)
