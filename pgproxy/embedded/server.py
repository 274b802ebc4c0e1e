"""One embedded PostgreSQL server: start, stop, kill, configuration, replication.

Made by `Cluster` alone.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from pgproxy.embedded.installation import EmbeddedError
from pgproxy.embedded.watchdog import has_ended, kill, processes, release_shared_memory

if TYPE_CHECKING:
    from pgproxy.embedded.cluster import Cluster

StopMode = Literal["smart", "fast", "immediate"]

HOST: Final = "127.0.0.1"
SUPERUSER: Final = "postgres"
TRUST: Final = ("host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust")

_STOP_SIGNALS: Final[dict[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
# Below every system's range of ephemeral ports (Linux 32768, others 49152): a client that keeps
# dialling a stopped server's port must not be given that very port as its own, connect to itself
# and so keep the server from coming back.
_PORTS: Final = range(20_000, 32_000)
_POLL: Final = 0.01  # seconds; what is awaited here has no event to wait for


class Server:
    """One PostgreSQL server of a `Cluster`. Made by the cluster, never directly."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.name: Final = name
        self.host: Final = HOST
        self.port = 0  # chosen at the first start, kept from then on
        self.data_dir: Final = cluster.directory / "data" / name
        self.log_path: Final = cluster.directory / f"{name}.log"
        self.settings: dict[str, str] = {}
        # Begins each of its processes' titles, so that they are found again: see pids.
        self.cluster_name: Final = f"{name}@{cluster.directory.name}"
        self._cluster = cluster
        self._conf: Final = cluster.directory / f"{name}.conf"
        self._hba_path: Final = cluster.directory / f"{name}.hba"
        self._hba: Sequence[str] = TRUST
        self._upstream: Server | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.is_running else "stopped"
        return f"<Server {self.name} {self.host}:{self.port} {state}>"

    # --- what it is

    @property
    def is_running(self) -> bool:
        """Whether the postmaster process lives (it may still be recovering)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises `EmbeddedError` when stopped."""
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedError(f"{self.name} is not running")
        return self._process.pid

    def pids(self) -> list[int]:
        """The ids of all its processes, the postmaster's included."""
        # A child has the postmaster's command line until it sets its title.
        title, argument = f"postgres: {self.cluster_name}: ", f"postgres -D {self.data_dir} "
        return [pid for pid, line in processes() if line.startswith(title) or argument in line]

    def dsn(self, db: str = "postgres", user: str = SUPERUSER) -> str:
        """A connection URI over TCP, which libpq and asyncpg understand."""
        name, database = quote(user, safe=""), quote(db, safe="")
        return f"postgresql://{name}@{self.host}:{self.port}/{database}"

    def in_recovery(self) -> bool:
        """Whether it is a standby."""
        return self.psql("SELECT pg_is_in_recovery()") == "t"

    def psql(self, sql: str, db: str = "postgres", *, timeout: float = 60) -> str:
        """Run `sql` as superuser through the Unix socket, which pg_hba always trusts.

        Returns the rows, one a line, columns separated by `|`. Raises `EmbeddedError` with
        psql's message at the first statement that fails, and `subprocess.TimeoutExpired`.
        """
        done = subprocess.run(
            [
                *(self._cluster.installation.tool("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"),
                *self._connect_options(),
                *("-d", db),
            ],
            check=False,
            input=sql,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment(),
            timeout=timeout,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"{self.name}: {done.stderr.strip()}")
        return done.stdout.removesuffix("\n")

    # --- life

    def start(self, *, timeout: float = 60) -> None:
        """Start it and return once it takes connections. Raises `EmbeddedError` if it does not.

        A standby takes connections as soon as it is consistent; it may not stream yet.
        """
        if self.is_running:
            return
        deadline = time.monotonic() + timeout
        first_start = self.port == 0
        while True:
            if first_start:
                self.port = _free_port()
            try:
                self._start_once(deadline)
            except _PortTakenError:
                # On a restart the port must stay: whoever holds it is asked to let go by time.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)
            else:
                return

    def stop(self, mode: StopMode = "fast", *, timeout: float = 60) -> None:
        """Stop it as `pg_ctl stop -m mode` does; `immediate` leaves it to recover at its start."""
        if self._process is None:
            return
        self._process.send_signal(_STOP_SIGNALS[mode])
        self._process.wait(timeout)

    def kill9(self) -> None:
        """SIGKILL every one of its processes at once, as the out-of-memory killer might."""
        if self._process is None or self._process.poll() is not None:
            return
        # A stopped postmaster starts no further children while the list is read.
        self._process.send_signal(signal.SIGSTOP)
        family = self._signal_all(signal.SIGKILL)
        self._process.wait()
        # A restart finds its shared memory in use as long as one of them is left.
        wait_until(lambda: all(map(has_ended, family)), f"the end of {self.name}", 10)

    def freeze(self) -> None:
        """SIGSTOP every one of its processes: connections stay open and nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal_all(signal.SIGCONT)

    def reload(self) -> None:
        """Re-read configuration and pg_hba; returns once new connections see them."""
        before = self.psql("SELECT pg_conf_load_time()")
        os.kill(self.pid, signal.SIGHUP)
        # The postmaster loads pg_hba in the same step and forks no backend in between.
        wait_until(
            lambda: self.psql("SELECT pg_conf_load_time()") != before, f"{self.name} to reload", 10
        )

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set parameters; those that can change without a restart take effect at once."""
        self.settings.update(settings)
        self._write_conf()
        if self.is_running:
            self.reload()

    def set_hba(self, lines: Sequence[str]) -> None:
        """Replace the `host...` lines of pg_hba.conf. Raises `EmbeddedError` on a faulty line.

        The Unix socket stays trusted: `psql()` and the replication go through it.
        """
        self._hba = tuple(lines)
        self._write_hba()
        if not self.is_running:
            return
        fault = self.psql("SELECT line_number, error FROM pg_hba_file_rules WHERE error <> ''")
        if fault:
            raise EmbeddedError(f"{self._hba_path}: {fault}")
        self.reload()

    # --- replication

    def promote(self, *, timeout: int = 60) -> None:
        """Make this standby the primary; returns when it takes writes.

        The other standbys stay with their old primary until `follow()` or `rejoin()`.
        """
        if self.psql(f"SELECT pg_promote(true, {timeout})", timeout=timeout + 10) != "t":
            raise EmbeddedError(f"{self.name} was not promoted within {timeout} s")
        self._upstream = None
        self._cluster.primary = self

    def follow(self, upstream: "Server") -> None:
        """Make this running standby stream from another server, such as the new primary.

        It cannot if it holds WAL that the new primary never received: then use `rejoin()`.
        """
        self._upstream = upstream
        self.configure({})

    def rejoin(self, upstream: "Server | None" = None) -> None:
        """Throw its data away and start anew as a standby of `upstream` (default: the primary)."""
        if self.is_running:
            self.stop("immediate")
        if self.data_dir.exists():
            release_shared_memory(self.data_dir)
            shutil.rmtree(self.data_dir)
        self._clone(self._cluster.primary if upstream is None else upstream)
        self.start()

    def pause_replay(self) -> None:
        """Stop replaying WAL (it is still received); returns when the replay stands still."""
        self.psql("SELECT pg_wal_replay_pause()")
        state = "SELECT pg_get_wal_replay_pause_state()"
        wait_until(lambda: self.psql(state) == "paused", f"{self.name} to pause its replay", 10)

    def resume_replay(self) -> None:
        """Go on replaying WAL."""
        self.psql("SELECT pg_wal_replay_resume()")

    def wait_replayed(self, position: str, *, timeout: float = 60) -> None:
        """Wait until this standby has replayed the WAL up to `position` (a pg_lsn)."""
        check = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        wait_until(lambda: self.psql(check) == "t", f"{self.name} to replay {position}", timeout)

    # --- within this module

    def _init(self, hba: Sequence[str], settings: Mapping[str, str]) -> None:
        """Make a new, empty primary's data directory."""
        self._hba, self.settings = tuple(hba), dict(settings)
        self._cluster.run_tool(
            *("initdb", "-D", str(self.data_dir), "-U", SUPERUSER, "-E", "UTF8", "--locale=C"),
            *("--auth=trust", "--no-sync", "--no-instructions"),
        )

    def _clone(self, upstream: "Server") -> None:
        """Fill the data directory with a base backup, to start as a standby of `upstream`."""
        self._upstream = upstream
        self._hba, self.settings = upstream._hba, dict(upstream.settings)
        self._cluster.run_tool(
            *("pg_basebackup", "-D", str(self.data_dir), *upstream._connect_options()),
            *("--checkpoint=fast", "--no-sync", "--no-manifest"),
        )
        marker = self.data_dir / "standby.signal"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        descriptor = os.open(marker, flags, 0o600)
        try:
            if self._cluster.owner is not None:
                os.fchown(descriptor, *self._cluster.owner)
        finally:
            os.close(descriptor)

    def _signal_all(self, number: signal.Signals) -> set[int]:
        family = {self.pid, *self.pids()}
        for pid in family:
            kill(pid, number)
        return family

    def _connect_options(self) -> list[str]:
        sockets = str(self._cluster.sockets)
        return ["-h", sockets, "-p", str(self.port), "-U", SUPERUSER]

    def _start_once(self, deadline: float) -> None:
        self._write_conf()
        self._write_hba()
        with self.log_path.open("ab") as log:
            log_start = log.tell()
            self._process = self._cluster.spawn(
                ["postgres", "-D", str(self.data_dir), "-c", f"config_file={self._conf}"], log
            )
        # As pg_ctl does: the eighth line of postmaster.pid is the state, the first the process.
        pid_file = self.data_dir / "postmaster.pid"
        while True:
            exit_code = self._process.poll()
            with contextlib.suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()
                if len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7] == "ready   ":
                    return
            if exit_code is None and time.monotonic() < deadline:
                time.sleep(_POLL)
                continue
            self.kill9()
            log_text = self.log_path.read_bytes()[log_start:].decode(errors="replace")
            # strerror(EADDRINUSE): the programs run with LC_ALL=C.
            if exit_code is not None and "Address already in use" in log_text:
                raise _PortTakenError(f"{self.name}: port {self.port} is taken:\n{log_text}")
            raise EmbeddedError(f"{self.name} did not start:\n{log_text[-4000:]}")

    def _write_conf(self) -> None:
        values = {
            "port": str(self.port),
            "cluster_name": self.cluster_name,
            "hba_file": str(self._hba_path),
            "unix_socket_directories": str(self._cluster.sockets),
            **self.settings,
        }
        if self._upstream is not None:
            values["primary_conninfo"] = (
                f"host='{self._cluster.sockets}' port={self._upstream.port}"
                f" user={SUPERUSER} application_name={self.name}"
            )
        quoted = ((key, value.replace("'", "''")) for key, value in values.items())
        _replace(self._conf, "".join(f"{key} = '{value}'\n" for key, value in quoted))

    def _write_hba(self) -> None:
        lines = ("local all all trust", "local replication all trust", *self._hba)
        _replace(self._hba_path, "".join(f"{line}\n" for line in lines))


class _PortTakenError(EmbeddedError):
    """Somebody else listens on the port."""


def environment() -> dict[str, str]:
    """Ours without what libpq and the programs would take their own settings from."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PG", "LC_")) or key.startswith("PGPROXY_")
    }
    return kept | {"LC_ALL": "C", "TZ": "UTC", "PGCLIENTENCODING": "UTF8"}


def wait_until(condition: Callable[[], bool], what: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise EmbeddedError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(_POLL)


def _free_port() -> int:
    for _ in range(100):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _replace(path: Path, text: str) -> None:
    """Write a file that others may read, in one step."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)
