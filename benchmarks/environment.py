"""The machine and the programs a run used. No name and no path of the machine goes in."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.servers import Servers

_GIB = 1 << 30


def describe(servers: Servers) -> dict[str, str]:
    """What a reader needs to judge the numbers."""
    pgbench = subprocess.run(
        [servers.program("pgbench"), "--version"], capture_output=True, check=True, text=True
    )
    return machine() | {
        "postgresql": f"{servers.version}, one primary, {len(servers.replicas)} streaming replicas",
        "pgbench": pgbench.stdout.strip(),
    }


def machine() -> dict[str, str]:
    """The part of it that is the same whatever is measured."""
    one, five, _ = os.getloadavg()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "source": _source(),
        "processor": f"{_processor()}, {os.cpu_count()} CPUs",
        "memory": f"{psutil.virtual_memory().total / _GIB:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": f"{one:.2f} over 1 minute, {five:.2f} over 5",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _source() -> str:
    """The commit, and whether the tree differs from it."""
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        capture_output=True,
        check=False,
        cwd=here,
        text=True,
    )
    return described.stdout.strip() or "not a git checkout"
