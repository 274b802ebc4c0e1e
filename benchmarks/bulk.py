"""The bulk cells: a million rows out, 100 MB of COPY out and in; the proxy's CPU per megabyte.

A megabyte is 10^6 bytes of the text that psql reads or writes. What comes through a peer must be
what comes directly, byte for byte, or the cell fails.
"""

import hashlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from benchmarks.accounting import cpu_time
from benchmarks.cells import CellFailed, Lane
from benchmarks.servers import Address, Servers

Transfer = Literal["select-million", "copy-out", "copy-in"]

_MEGABYTE = 1e6
_TIMEOUT_SECONDS = 300
_STATEMENT: Final[dict[Transfer, str]] = {
    "select-million": "SELECT i FROM generate_series(1, 1000000) i",
    "copy-out": "COPY bench_copy TO STDOUT",
    "copy-in": "COPY bench_copy_in FROM STDIN",
}
_CHECKSUM: Final = "SELECT count(*), sum(hashtextextended(filler, id)) FROM {table}"


@dataclass(frozen=True, slots=True)
class BulkCell:
    """One statement that moves many bytes through one connection."""

    transfer: Transfer
    rounds: ClassVar[int | None] = None

    @property
    def key(self) -> str:
        """Like `bulk/copy-out`."""
        return f"bulk/{self.transfer}"

    def measure(self, lane: Lane, round_number: int) -> dict[str, float]:
        """Values: seconds, megabytes, and cpu_us_per_mb of a proxy."""
        source, output = lane.scratch / "copy.txt", lane.scratch / "output.txt"
        if self.transfer == "copy-in":
            _write_once(lane.servers, _STATEMENT["copy-out"], source)
            _psql(lane.servers, lane.servers.primary, "TRUNCATE bench_copy_in")
        before = cpu_time(lane.running.processes())
        began = time.monotonic()
        _psql(
            lane.servers,
            lane.running.address,
            _STATEMENT[self.transfer],
            source if self.transfer == "copy-in" else None,
            output,
        )
        seconds = time.monotonic() - began
        cpu = cpu_time(lane.running.processes()) - before
        moved = source if self.transfer == "copy-in" else output
        megabytes = moved.stat().st_size / _MEGABYTE
        self._compare(lane, output)
        output.unlink()
        values = {"seconds": seconds, "megabytes": megabytes}
        if lane.running.root is not None:
            values["cpu_us_per_mb"] = cpu.total / megabytes * 1e6
        return values

    def _compare(self, lane: Lane, output: Path) -> None:
        """Raises CellFailed where the result is not that of a direct connection."""
        if self.transfer == "copy-in":
            primary = lane.servers.primary
            here, there = (
                _psql(lane.servers, primary, _CHECKSUM.format(table=table))
                for table in ("bench_copy", "bench_copy_in")
            )
            equal = here == there
        else:
            expected = lane.scratch / f"{self.transfer}.expected"
            _write_once(lane.servers, _STATEMENT[self.transfer], expected)
            equal = _digest(output) == _digest(expected)
        if not equal:
            raise CellFailed("WRONG RESULT: differs from that of a direct connection")


def _write_once(servers: Servers, statement: str, path: Path) -> None:
    if not path.exists():
        _psql(servers, servers.primary, statement, None, path)


def _psql(
    servers: Servers,
    address: Address,
    statement: str,
    source: Path | None = None,
    output: Path | None = None,
) -> str:
    command = [*servers.psql(address), "-c", statement]
    with (
        (source or Path("/dev/null")).open("rb") as stdin,
        (output or Path("/dev/null")).open("wb") as sink,
    ):
        try:
            done = subprocess.run(
                command,
                stdin=stdin,
                stdout=sink if output else subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                env={"PGCONNECT_TIMEOUT": "10"},
            )
        except subprocess.TimeoutExpired as stuck:
            raise CellFailed("psql did not end") from stuck
    if done.returncode != 0:
        raise CellFailed(f"psql status {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout or ""


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
