"""Where a peer's reads land: it is asked again and again which server answers."""

import subprocess
from collections import Counter

from benchmarks.cells import CellFailed
from benchmarks.peers.base import Running
from benchmarks.servers import Servers

_READS = 60
_TIMEOUT_SECONDS = 30


def reads_by_server(servers: Servers, running: Running) -> dict[str, int]:
    """How many of 60 reads on one connection each server answered. Raises CellFailed."""
    try:
        done = subprocess.run(
            servers.psql(running.address),
            input="SELECT inet_server_port();\n" * _READS,
            capture_output=True,
            check=False,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            env={"PGCONNECT_TIMEOUT": "10"},
        )
    except subprocess.TimeoutExpired as stuck:
        raise CellFailed(f"{_READS} reads got no answer within {_TIMEOUT_SECONDS} s") from stuck
    answers = Counter(done.stdout.split())
    if done.returncode != 0 or answers.total() != _READS:
        raise CellFailed(f"{_READS} reads got {answers.total()} answers: {done.stderr.strip()}")
    names = {str(servers.primary.port): "primary"}
    names |= {str(at.port): f"replica {i}" for i, at in enumerate(servers.replicas, 1)}
    return {name: answers[port] for port, name in names.items()}
