"""What every peer offers: a name, a version, and a way to run it in front of the servers."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil  # type: ignore[import-untyped]

from benchmarks.accounting import family
from benchmarks.servers import USER, Address, Servers

POOL_SIZE = 20
HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 5.0
PROBE_SECONDS = 5.0


class Missing(Exception):
    """The peer is not on this machine; the message says what was looked for."""


class NotServing(Exception):
    """The peer is there but does not serve; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A peer that serves. `root` is None where there is no process between client and server."""

    address: Address
    root: psutil.Process | None

    def processes(self) -> list[psutil.Process]:
        """Every process the peer consists of now. Raises NotServing if it has ended."""
        if self.root is None:
            return []
        try:
            return family(self.root)
        except psutil.NoSuchProcess as gone:
            raise NotServing("its process has ended") from gone


class Peer(Protocol):
    """One of the things that are compared."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    @property
    def settings(self) -> str:
        """How it is set up, in a line for the report."""

    @property
    def idle_clients_limit(self) -> int | None:
        """The most idle clients it can sensibly be given, None where there is no such limit."""

    def version(self) -> str:
        """What it says of itself. Raises Missing."""

    def run(self, servers: Servers, clients: int) -> AbstractContextManager[Running]:
        """Runs it with room for `clients` at once. Raises Missing and NotServing."""


def free_port() -> int:
    """A port that the system says nobody has."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: list[str], log: Path, stop_signal: int, environment: dict[str, str] | None = None
) -> Iterator[psutil.Popen]:
    """Runs a command, its output in `log`, and ends it with all its children afterwards.

    It gets a session of its own, so that Ctrl-C reaches us alone and we end it in order.
    """
    with log.open("wb") as output:
        child = psutil.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        yield child
    finally:
        _end(child, stop_signal)


def _end(child: psutil.Popen, stop_signal: int) -> None:
    if child.poll() is not None:
        return
    members = family(child)
    child.send_signal(stop_signal)
    try:
        child.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        child.kill()
        child.wait()
    for member in members[1:]:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def wait_until_serving(
    servers: Servers, address: Address, child: psutil.Popen, log: Path
) -> Running:
    """Returns once a statement passes through. Raises NotServing with the end of the log."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise NotServing(f"ended with status {child.returncode}: {tail(log)}")
        if _answers(servers, address):
            return Running(address, psutil.Process(child.pid))
        time.sleep(0.2)
    raise NotServing(f"did not serve {USER} within {START_SECONDS:g} s: {tail(log)}")


def _answers(servers: Servers, address: Address) -> bool:
    try:
        probe = subprocess.run(
            [*servers.psql(address), "-c", "SELECT 1"],
            capture_output=True,
            check=False,
            text=True,
            timeout=PROBE_SECONDS,
            env={"PGCONNECT_TIMEOUT": "2"},
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.stdout == "1\n"


def tail(log: Path, size: int = 600) -> str:
    """The end of a log, in one line."""
    return " | ".join(log.read_text(errors="replace")[-size:].split("\n")).strip(" |")
