"""One of two replicas becomes ten times as slow, with limits that are learnt and without: README.md."""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import environment
from benchmarks.adaptive.results import ALONE, Phase, Results, draw, markdown, table
from benchmarks.peers.pgproxy import Pgproxy
from pgproxy.embedded import Cluster, Server
from tests.support.proxy import ProxyProcess
from tests.support.stutter import Stutter

RESULTS: Final = Path(__file__).parents[1] / "results"
# A statement waits rather than computes: on one machine, what a slow server does not use of the
# processors would be the healthy one's. It takes a whole period of the slow server.
_STATEMENT: Final = 0.1
_PERIOD: Final = 1.0
_PART: Final = 0.9
_CLIENTS: Final = 32
_SEATS: Final = 16

_PHASES: Final = ("all are well", "one replica is ten times as slow", "it is well again")
_SECONDS: Final = (15.0, 35.0, 30.0)

_ADAPTIVE: Final = {"max_concurrent": _SEATS, "adaptive": True}
_FIXED: Final = {"max_concurrent": _SEATS}
_LIMIT: Final = re.compile(
    r'^pgproxy_backend_running_limit\{backend="([^"]+)"\} (\S+)', re.MULTILINE
)
_PROGRESS: Final = re.compile(r"^progress: \S+ s, (\S+) tps")


class Contender:
    """A proxy and its clients."""

    def __init__(
        self, name: str, limits: dict[str, object], balance: str, *, meets_slow: bool = True
    ) -> None:
        self.name = name
        self.limits = limits
        self.balance = balance
        self.meets_slow = meets_slow
        self.tps: list[tuple[float, float]] = []
        self.seen: dict[str, list[tuple[float, float]]] = {}

    @property
    def settings(self) -> str:
        """What differs from the defaults."""
        values = [f"limits.{key} = {str(value).lower()}" for key, value in self.limits.items()]
        return ", ".join([*values, f'routing.balance = "{self.balance}"'])

    def start(self, cluster: Cluster, slow: Server) -> ProxyProcess:
        """The proxy."""
        servers = [one for one in cluster.servers if self.meets_slow or one is not slow]
        return ProxyProcess.start(
            servers, limits=self.limits, routing={"balance": self.balance}, pool={"size": _CLIENTS}
        )

    def load(
        self, program: Path, proxy: ProxyProcess, script: Path, seconds: float, zero: float
    ) -> None:
        """Runs pgbench, and notes what it says each second."""
        arguments = ["-n", "-f", str(script), "-c", str(_CLIENTS), "-j", "1", "-P", "1"]
        address = ["-h", proxy.host, "-p", str(proxy.port), "-U", "postgres", "postgres"]
        with subprocess.Popen(
            [str(program), *arguments, "-T", f"{seconds:.0f}", *address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                found = _PROGRESS.match(line)
                if found is not None:
                    self.tps.append((time.monotonic() - zero, float(found[1])))
                elif "error" in line:
                    _say(f"{self.name}: {line.strip()}")

    def watch(self, proxy: ProxyProcess, zero: float, ended: threading.Event) -> None:
        """Notes the limits twice a second."""
        while not ended.wait(0.5):
            at = time.monotonic() - zero
            for backend, limit in _LIMIT.findall(proxy.get("/metrics")[1]):
                self.seen.setdefault(backend, []).append((at, float(limit)))


CONTENDERS: Final = (
    (ALONE, _FIXED, "least-loaded", False),
    ("adaptive", _ADAPTIVE, "least-loaded", True),
    ("adaptive, round-robin", _ADAPTIVE, "round-robin", True),
    ("fixed", _FIXED, "least-loaded", True),
    ("fixed, round-robin", _FIXED, "round-robin", True),
)


def main() -> None:
    """All contenders at once live through the same."""
    options = _options()
    seconds = (options.healthy, options.slow, options.recovery)
    with Cluster.create(2, max_connections=400, progress=_say) as cluster:
        results = measure(cluster, seconds)
    name = f"adaptive-{datetime.now(UTC):%Y-%m-%d}" if seconds == _SECONDS else "partial.adaptive"
    _store(results, options.output / name)


def measure(cluster: Cluster, seconds: tuple[float, ...]) -> Results:
    """One run before a primary and two replicas; `seconds` of each phase."""
    slow = cluster.replicas[0]
    contenders = [
        Contender(name, dict(limits), balance, meets_slow=meets_slow)
        for name, limits, balance, meets_slow in CONTENDERS
    ]
    results = Results(_describe(cluster, slow), {one.name: one.settings for one in contenders})
    begin = 0.0
    for name, length in zip(_PHASES, seconds, strict=True):
        results.phases.append(Phase(name, begin, begin + length))
        begin += length
    with ExitStack() as stack:
        proxies = [stack.enter_context(one.start(cluster, slow)) for one in contenders]
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgproxy-bench-")))
        script = scratch / "statement.sql"
        script.write_text(f"SELECT pg_sleep({_STATEMENT:g});\n")
        program = cluster.installation.bin_dir / "pgbench"
        ended = threading.Event()
        zero = time.monotonic()
        loads = []
        watches = []
        for one, proxy in zip(contenders, proxies, strict=True):
            loads.append(_thread(one.load, program, proxy, script, begin, zero))
            watches.append(_thread(one.watch, proxy, zero, ended))
        for phase in results.phases:
            is_slow = phase is results.phases[1]
            _say(f"{phase.name}: {phase.end - phase.begin:g} s")
            with Stutter(slow, period=_PERIOD, part=_PART) if is_slow else nullcontext():
                time.sleep(max(0.0, zero + phase.end - time.monotonic()))
        for load in loads:
            load.join()
        ended.set()
        for watch in watches:
            watch.join()
    for one in contenders:
        results.tps[one.name] = one.tps
    for name, points in contenders[1].seen.items():
        results.limits[f"{name} (slow)" if name == slow.name else name] = points
    return results


def _describe(cluster: Cluster, slow: Server) -> dict[str, str]:
    version = cluster.primary.psql("SHOW server_version")
    return environment.machine() | {
        "postgresql": f"{version}, one primary, two streaming replicas",
        "pgproxy": Pgproxy().version(),
        "clients": f"{_CLIENTS} of each contender, all contenders at once",
        "statement": f"SELECT pg_sleep({_STATEMENT:g})",
        "slow replica": f"{slow.name}: all its processes stand still for {_PART:.0%} of each "
        f"{_PERIOD:g} s",
    }


def _thread(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments)
    thread.start()
    return thread


def _options() -> argparse.Namespace:
    healthy, slow, recovery = _SECONDS
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptive", description=__doc__)
    for name, default in (("--healthy", healthy), ("--slow", slow), ("--recovery", recovery)):
        parser.add_argument(
            name, type=float, default=default, help="seconds of that phase (default: %(default)s)"
        )
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    return parser.parse_args()


def _store(results: Results, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawing = stem.with_name(f"{stem.name}.png")
    draw(results, drawing)
    stem.with_name(f"{stem.name}.md").write_text(markdown(results, drawing.name))
    results.save(stem.with_name(f"{stem.name}.json"))
    print(table(results))
    _say(f"stored as {stem}.json, .md, .png")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
