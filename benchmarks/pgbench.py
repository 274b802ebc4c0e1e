"""The pgbench cells: transactions per second, latency, and the proxy's CPU per transaction.

Latencies come from pgbench's own transaction log. Above one client only every tenth transaction is
logged, which leaves thousands of samples and takes the log's cost, small as it is, off the client.
The CPU account spans the run from before the first log-in to after the last transaction.
"""

import math
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from benchmarks.accounting import cpu_time
from benchmarks.cells import CellFailed, Lane
from benchmarks.servers import DATABASE, client_arguments

Script = Literal["read-only", "tpcb"]
Mode = Literal["simple", "extended", "prepared"]

_BUILTIN: Final = {"read-only": "select-only", "tpcb": "tpcb-like"}
_GRACE_SECONDS = 60  # on top of the run: 64 log-ins, the last transactions
_THREADS = 2
_MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class PgbenchCell:
    """One pgbench run of `seconds`. With `reconnect` every transaction logs in anew."""

    script: Script
    mode: Mode
    clients: int
    seconds: float
    reconnect: bool = False
    rounds: ClassVar[int | None] = None

    @property
    def key(self) -> str:
        """Like `read-only/simple/16`, or `connect/simple/16`."""
        return f"{'connect' if self.reconnect else self.script}/{self.mode}/{self.clients}"

    def measure(self, lane: Lane, round_number: int) -> dict[str, float]:
        """Values: tps, p50_us, p99_us, transactions, and cpu_us and cpu_user_share of a proxy."""
        prefix = lane.scratch / "pgbench_log"
        before = cpu_time(lane.running.processes())
        output = self._run(lane, prefix, round_number)
        cpu = cpu_time(lane.running.processes()) - before
        transactions = _number(r"number of transactions actually processed: (\d+)", output)
        if transactions == 0:
            raise CellFailed("no transaction was processed")
        latencies = sorted(take_latencies(prefix))
        values = {
            "tps": _number(r"tps = ([\d.]+)", output),
            "transactions": transactions,
            "failed": _number(r"number of failed transactions: (\d+)", output),
            "p50_us": percentile(latencies, 0.50),
            "p99_us": percentile(latencies, 0.99),
        }
        if lane.running.root is not None:
            values["cpu_us"] = cpu.total / transactions * _MICROSECONDS
            values["cpu_user_share"] = cpu.user / (cpu.user + cpu.system or 1.0)
        return values

    def _threads(self) -> int:
        """Two, but one per client where two would block each other for ever.

        pgbench prepares a statement when it first needs it, and its thread waits for the answer. If
        that client has to wait for a server connection, those who hold one, in the middle of their
        transactions, are never served by the same thread again.
        """
        may_block = self.mode == "prepared" and self.script == "tpcb"
        return self.clients if may_block else min(self.clients, _THREADS)

    def _run(self, lane: Lane, prefix: Path, round_number: int) -> str:
        command = [
            lane.servers.program("pgbench"),
            "--no-vacuum",
            f"--builtin={_BUILTIN[self.script]}",
            f"--protocol={self.mode}",
            f"--client={self.clients}",
            f"--jobs={self._threads()}",
            f"--time={self.seconds:.0f}",
            f"--random-seed={round_number + 1}",
            "--log",
            f"--log-prefix={prefix}",
            f"--sampling-rate={1.0 if self.clients == 1 or self.reconnect else 0.1}",
            *(["--connect"] if self.reconnect else []),
            *client_arguments(lane.running.address),
            DATABASE,
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                text=True,
                timeout=self.seconds + _GRACE_SECONDS,
                env={"PGCONNECT_TIMEOUT": "10"},
            )
        except subprocess.TimeoutExpired as stuck:
            raise CellFailed("pgbench did not end") from stuck
        if done.returncode != 0:
            raise CellFailed(f"pgbench status {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout


def take_latencies(prefix: Path) -> list[int]:
    """Reads and removes pgbench's transaction logs; the third column is microseconds."""
    latencies: list[int] = []
    for log in prefix.parent.glob(prefix.name + ".*"):
        with log.open() as lines:
            latencies += [int(value) for line in lines if (value := line.split()[2]).isdigit()]
        log.unlink()
    return latencies


def percentile(ordered: list[int], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed. Raises CellFailed."""
    if not ordered:
        raise CellFailed("pgbench logged no transaction")
    return float(ordered[max(0, math.ceil(len(ordered) * share) - 1)])


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise CellFailed(f"pgbench's output has no {pattern!r}: {text[-400:]}")
    return float(found[1])
