"""A real `pgproxy serve` as a process of its own, on ports the system picks.

    with ProxyProcess.start(cluster.servers, pool={"size": 5}) as proxy:
        ...  # psycopg.connect(proxy.dsn())

Contract with the proxy: with `log.format = "json"` it writes one line to stderr with the event
"listening" and one with "http_listening", each with `host` and `port`.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import psutil  # type: ignore[import-untyped]

from pgproxy.config import toml_text
from tests.support.processes import Leash

HOST: Final = "127.0.0.1"


class Backend(Protocol):
    """What a proxy is put in front of: an embedded `Server`, or whatever else has an address."""

    @property
    def name(self) -> str:
        """As the proxy shall call it."""

    @property
    def host(self) -> str:
        """An address."""

    @property
    def port(self) -> int:
        """Where it listens."""


STALENESS: Final = re.compile(r"^pgproxy_backend_staleness_seconds\{.*\} (\S+)", re.MULTILINE)


class ProxyError(Exception):
    """The proxy did not start or end as it should; the message has what it wrote to stderr."""


class ProxyProcess:
    """A running proxy; a context manager that stops it and looks for tracebacks."""

    def __init__(
        self,
        config: str,
        command: Sequence[str] = ("serve",),
        *,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
    ) -> None:
        """Start it with that configuration file, and wait for nothing yet: see `start`.

        `command` is what it is to do, with its options. Without a file, an environment is added to
        the tests' own; or another program is the proxy.
        """
        self.host: Final = HOST
        self.port = 0
        self.http_port = 0
        self._lines: Final[list[str]] = []
        self._news: Final = threading.Condition()
        self._ended = False
        self._directory: Final = tempfile.TemporaryDirectory(prefix="pgproxy-config-")
        self.config_path: Final = Path(self._directory.name) / "pgproxy.toml"
        self.config_path.write_text(config)
        # The developer's own PGPROXY_POOL__SIZE shall not decide what is tested.
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not (key.startswith("PGPROXY_") and "__" in key)
        }
        named = ("--config", str(self.config_path)) if config else ()
        self.process: Final = subprocess.Popen(
            program or [sys.executable, "-m", "pgproxy", *command, *named],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=inherited | dict(environment or {}),
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._leash: Final = Leash(Path(self._directory.name), self.process.pid)
        self._reader: Final = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    @classmethod
    def start(
        cls,
        servers: Iterable[Backend],
        *,
        timeout: float = 30,
        wait_ready: bool = True,
        **sections: Mapping[str, object],
    ) -> Self:
        """Start one in front of `servers` and wait until it is ready.

        `sections` are added to the configuration: pool={"size": 5}. Raises `ProxyError`.
        """
        proxy = cls(config_for(servers, **sections))
        proxy.wait_started(timeout, wait_ready=wait_ready)
        return proxy

    def wait_started(self, timeout: float = 30, *, wait_ready: bool = True) -> None:
        """Wait until it listens, and is ready. Raises `ProxyError`, and then it has been ended."""
        try:
            deadline = time.monotonic() + timeout
            self.port = self.wait_event("listening", deadline)["port"]
            self.http_port = self.wait_event("http_listening", deadline)["port"]
            if wait_ready:
                self.wait_ready(deadline)
        except BaseException:
            self.kill9()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill9()

    def dsn(self, db: str = "postgres", user: str = "postgres") -> str:
        """A connection URI."""
        return f"postgresql://{user}@{self.host}:{self.port}/{db}"

    # --- what it says

    @property
    def stderr(self) -> str:
        """All it has written so far."""
        with self._news:
            return "".join(self._lines)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines with that event."""
        with self._news:
            return [line for line in map(_as_json, self._lines) if line.get("event") == name]

    def wait_event(self, name: str, deadline: float | None = None) -> dict[str, Any]:
        """The first log line with that event, waiting for it until `deadline` (monotonic).

        Raises `ProxyError` if the proxy ends before or the time passes (default: 30 s from now).
        """
        limit = time.monotonic() + 30 if deadline is None else deadline
        with self._news:
            while not (found := self.events(name)):
                if self._ended or not self._news.wait(max(0.0, limit - time.monotonic())):
                    raise ProxyError(f"no {name!r} in the log:\n{''.join(self._lines)}")
            return found[0]

    def wait_ready(self, deadline: float) -> None:
        """Wait until /readyz says yes. Raises `ProxyError` once `deadline` (monotonic) is past."""
        while self.get("/readyz")[0] != 200:
            if time.monotonic() > deadline:
                raise ProxyError(f"not ready in time:\n{self.stderr}")
            time.sleep(0.02)
        # Before it knows how fresh they are, replicas serve nobody. One that is paused never is; on a
        # quiet primary what a query logged that was rolled back is sent to none for up to 15 s.
        deadline = time.monotonic() + 20
        while self._is_stale() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _is_stale(self) -> bool:
        """Whether a replica is so old, or so unknown, that reads avoid it."""
        return any(float(value) > 5 for value in STALENESS.findall(self.get("/metrics")[1]))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on its HTTP port."""
        try:
            with urllib.request.urlopen(
                f"http://{self.host}:{self.http_port}{path}", timeout=10
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    # --- what it costs

    def cpu_seconds(self) -> float:
        """User and system time of the proxy and its workers so far."""
        return float(sum(times.user + times.system for times in self._each("cpu_times")))

    def rss_bytes(self) -> int:
        """Resident memory of the proxy and its workers."""
        return int(sum(memory.rss for memory in self._each("memory_info")))

    def _each(self, question: str) -> list[Any]:
        parent = psutil.Process(self.process.pid)
        return [getattr(one, question)() for one in [parent, *parent.children(recursive=True)]]

    # --- its end

    def stop(self, *, timeout: float = 30) -> None:
        """Ask it to drain (SIGTERM), and `wait_end`."""
        if self.process.poll() is None:
            self.terminate()
        self.wait_end(timeout=timeout)

    def terminate(self) -> None:
        """Send it a SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait_end(self, *, timeout: float = 30) -> None:
        """Wait for the end that it has been told of: a second SIGTERM would cut everybody off.

        Raises `ProxyError` unless it exits 0 without a traceback.
        """
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise ProxyError(f"no end in {timeout} s:\n{self.stderr}") from None
        self._clean_up()
        self.check()
        if status != 0:
            raise ProxyError(f"exit status {status}:\n{self.stderr}")

    def kill9(self) -> None:
        """End it at once, asking nothing of it."""
        self.process.kill()
        self.process.wait()
        self._clean_up()

    def check(self) -> None:
        """Raise `ProxyError` if it has written a traceback."""
        if "Traceback" in self.stderr:
            raise ProxyError(f"a traceback:\n{self.stderr}")

    def _clean_up(self) -> None:
        self._leash.release()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._directory.cleanup()

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextlib.contextmanager
def started_proxies() -> Iterator[Callable[..., ProxyProcess]]:
    """`ProxyProcess.start`, stopped (and looked at) at the end of the block if it still runs."""
    with contextlib.ExitStack() as ends:

        def start(*arguments: Any, **sections: Any) -> ProxyProcess:
            proxy = ProxyProcess.start(*arguments, **sections)
            ends.callback(proxy.check)
            ends.callback(lambda: proxy.stop() if proxy.process.returncode is None else None)
            return proxy

        yield start


def config_for(servers: Iterable[Backend], **sections: Mapping[str, object]) -> str:
    """The text of a pgproxy.toml for `servers`, with what `sections` add or change."""
    merged: dict[str, dict[str, object]] = {
        "listen": {"host": HOST, "port": 0, "drain_accept_seconds": 0, "drain_timeout": 10},
        "http": {"host": HOST, "port": 0},
        "auth": {"method": "trust", "users_file": ""},
        "health": {"user": "postgres", "interval": 0.2},
        "log": {"format": "json"},
    }
    for section, values in sections.items():
        merged[section] = {**merged.get(section, {}), **values}
    text = "".join(_table(f"[{name}]", values) for name, values in merged.items())
    backends = (
        {"host": server.host, "port": server.port, "name": server.name, "role": "auto"}
        for server in servers
    )
    return text + "".join(_table("[[discovery.backends]]", values) for values in backends)


def _table(header: str, values: Mapping[str, object]) -> str:
    lines = (f"{key} = {toml_text(value)}" for key, value in values.items())
    return "\n".join([header, *lines, "", ""])


def _as_json(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
