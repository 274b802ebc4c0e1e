"""pgproxy of this working tree, run by the interpreter that runs the benchmark."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.peers.base import (
    HOST,
    POOL_SIZE,
    START_SECONDS,
    Missing,
    NotServing,
    Running,
    process,
    tail,
    wait_until_serving,
)
from benchmarks.servers import USER, Address, Servers

_CONFIGURATION = """\
[listen]
host = "{host}"
port = 0
max_clients = 10000
workers = 1
drain_accept_seconds = 0
[http]
host = "{host}"
port = 0
[auth]
method = "trust"
[pool]
mode = "transaction"
size = {pool_size}
[health]
user = "{user}"
[log]
format = "json"
[discovery]
mode = "static"
"""
_BACKEND = """\
[[discovery.backends]]
name = "{name}"
host = "{address.host}"
port = {address.port}
role = "auto"
"""


class Pgproxy:
    """Runs `python -m pgproxy serve`."""

    name = "pgproxy"
    settings = (
        f"1 worker, transaction mode, pool size {POOL_SIZE} on each backend, reads on the replicas"
    )
    idle_clients_limit: int | None = None

    def version(self) -> str:
        """Raises Missing."""
        answer = subprocess.run(
            [sys.executable, "-m", "pgproxy", "--version"],
            capture_output=True,
            check=False,
            text=True,
        )
        if answer.returncode != 0:
            last = answer.stderr.strip().rpartition("\n")[2]
            raise Missing(f"python -m pgproxy --version: {last}")
        return answer.stdout.strip()

    @contextmanager
    def run(self, servers: Servers, clients: int) -> Iterator[Running]:
        """Raises NotServing."""
        backends = [("primary", servers.primary)]
        backends += [(f"replica{i}", replica) for i, replica in enumerate(servers.replicas, 1)]
        with tempfile.TemporaryDirectory(prefix="pgproxy-bench-") as name:
            configuration, log = Path(name, "pgproxy.toml"), Path(name, "log")
            configuration.write_text(
                _CONFIGURATION.format(host=HOST, pool_size=POOL_SIZE, user=USER)
                + "".join(_BACKEND.format(name=name, address=at) for name, at in backends)
            )
            command = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable]
            command += ["-m", "pgproxy", "serve", "--config", str(configuration)]
            with process(command, log, signal.SIGTERM) as child:
                address = _listening(child, log)
                yield wait_until_serving(servers, address, child, log)


def _listening(child: psutil.Popen, log: Path) -> Address:
    """The address from the log line that says so. Raises NotServing."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        for line in log.read_text().splitlines():
            event = _event(line)
            if event.get("event") == "listening":
                return Address(str(event["host"]), int(str(event["port"])))
        time.sleep(0.05)
    raise NotServing(f"did not say that it listens: {tail(log)}")


def _event(line: str) -> dict[str, object]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
