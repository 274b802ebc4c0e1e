"""A primary and its streaming replicas, in a directory of their own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from pgproxy.embedded import watchdog
from pgproxy.embedded.installation import (
    EmbeddedError,
    Installation,
    copy_wheel,
    find_installation,
    is_readable_by_others,
    unprivileged_user,
)
from pgproxy.embedded.server import (
    HOST,
    TRUST,
    Server,
    environment,
    wait_until,
)

_SOCKET_PATH_MAX: Final = 103  # bytes of sun_path, the terminating zero excluded (104 on macOS)


class Cluster:
    """A primary and its streaming replicas; a context manager that removes them at its end."""

    def __init__(self, installation: Installation, directory: Path | None) -> None:
        """Prepare the directory and the watchdog; use `create()`."""
        self.owner: Final = unprivileged_user() if os.geteuid() == 0 else None
        self.directory: Final = Path(tempfile.mkdtemp(prefix="pgproxy-", dir=directory)).absolute()
        removed = [self.directory]
        copy_programs = self.owner is not None and not is_readable_by_others(installation)
        if copy_programs:
            # Not within `directory`, which may be a file system that no program is run from.
            removed.append(Path(tempfile.mkdtemp(prefix="pgproxy-programs-")))
        self._removed: Final = tuple(removed)
        self.sockets: Final = self.directory / "s"
        self.servers: Final[list[Server]] = []
        self.primary = Server(self, "primary")
        self._spawned: Final[list[subprocess.Popen[bytes]]] = []
        # Watched from its first moment. A pipe end is not inherited by any program we start.
        self._watchdog: Final = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, *self._removed],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        try:
            self._prepare()
            if copy_programs:
                installation = copy_wheel(installation, removed[-1])
        except BaseException:
            self.close()
            raise
        self.installation: Final = installation

    @classmethod
    def create(
        cls,
        replicas: int = 2,
        *,
        installation: Installation | None = None,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = TRUST,
        max_connections: int = 100,
        fsync: bool = False,
        directory: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Start a primary and `replicas` standbys that stream from it, and return when they do.

        `settings` are configuration parameters of every server and win over ours; `hba` is
        explained at `Server.set_hba`; `directory` is where the temporary directory is made;
        `progress` is told, in words, what is going on. Raises `EmbeddedError`.
        """
        cluster = cls(find_installation() if installation is None else installation, directory)
        try:
            defaults = _default_settings(cluster.installation.version, max_connections, fsync)
            progress(f"PostgreSQL {cluster.installation.version}: creating the primary")
            cluster.primary._init(hba, defaults | dict(settings or {}))
            cluster.primary.start()
            cluster.servers.append(cluster.primary)
            if replicas:
                names = [f"replica-{number + 1}" for number in range(replicas)]
                progress(f"copying it to {', '.join(names)}")
                with ThreadPoolExecutor(replicas) as threads:
                    cluster.servers.extend(threads.map(cluster._start_replica, names))
                progress("waiting until they stream")
                cluster.wait_streaming()
        except BaseException:
            cluster.close()
            raise
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cluster {self.directory} {self.servers}>"

    @property
    def replicas(self) -> list[Server]:
        """Every server but the primary: after a promotion also the one that was it before."""
        return [server for server in self.servers if server is not self.primary]

    def server(self, name: str) -> Server:
        """The server of that name. Raises `KeyError`."""
        for server in self.servers:
            if server.name == name:
                return server
        raise KeyError(name)

    def add_replica(self) -> Server:
        """Start one more standby of the primary."""
        replica = self._start_replica(f"replica-{len(self.servers)}")
        self.servers.append(replica)
        return replica

    def set_hba(self, lines: Sequence[str]) -> None:
        """`Server.set_hba` for every server."""
        for server in self.servers:
            server.set_hba(lines)

    def wait_streaming(self, *, timeout: float = 60) -> None:
        """Wait until every running replica streams from the primary."""
        wanted = sum(replica.is_running for replica in self.replicas)
        count = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until(
            lambda: int(self.primary.psql(count)) >= wanted, "the replicas to stream", timeout
        )

    def wait_caught_up(self, *, timeout: float = 60) -> None:
        """Wait until every running replica shows all that is committed on the primary by now."""
        position = self.primary.psql("SELECT pg_current_wal_lsn()")
        for replica in self.replicas:
            if replica.is_running:
                replica.wait_replayed(position, timeout=timeout)

    def close(self) -> None:
        """Stop every server at once and delete the directory. May be called again."""
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        if self._watchdog.wait() != 0:
            watchdog.remove(*self._removed)  # it was killed itself
        for process in self._spawned:
            process.wait()

    # --- within this module

    def spawn(self, command: Sequence[str], output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program of the installation as the user PostgreSQL runs as.

        In a session of its own: a Ctrl-C at the terminal is for us, who then stop it in order.
        """
        uid, gid = self.owner or (None, None)
        process = subprocess.Popen(
            [str(self.installation.tool(command[0])), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env=environment(),
            start_new_session=True,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            umask=0o077,
        )
        self._spawned.append(process)
        return process

    def run_tool(self, *command: str) -> None:
        """Run such a program to its end. Raises `EmbeddedError` with its output if it fails."""
        process = self.spawn(command, subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode != 0:
            raise EmbeddedError(f"{command[0]} failed:\n{output.decode(errors='replace')}")

    def _start_replica(self, name: str) -> Server:
        replica = Server(self, name)
        replica._clone(self.primary)
        replica.start()
        return replica

    def _prepare(self) -> None:
        longest = f"{self.sockets}/.s.PGSQL.65535.lock"
        if len(os.fsencode(longest)) > _SOCKET_PATH_MAX:
            raise EmbeddedError(f"too long a path for Unix sockets: {longest}; name another TMPDIR")
        for directory in (self.sockets, self.directory / "data"):
            directory.mkdir(mode=0o755)
            if self.owner is not None:
                os.chown(directory, *self.owner)
        if self.owner is None:
            return
        for directory in self._removed:
            # Others pass through to what they may see below, and cannot list this one.
            directory.chmod(0o711)
            if any(not parent.stat().st_mode & 0o001 for parent in directory.parents):
                raise EmbeddedError(
                    f"{directory.parent} cannot be entered by the unprivileged user that"
                    " PostgreSQL is to run as; name another TMPDIR"
                )


def _default_settings(version: int, max_connections: int, fsync: bool) -> dict[str, str]:
    """postgresql.conf of every server; none of initdb's own is read."""
    settings = {
        "listen_addresses": HOST,
        "max_connections": str(max_connections),
        "superuser_reserved_connections": "3",
        "shared_buffers": "32MB",
        # Files in the data directory, which go with it; /dev/shm would keep them after a kill -9.
        "dynamic_shared_memory_type": "mmap",
        "fsync": "on" if fsync else "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "default_text_search_config": "pg_catalog.english",
        "log_line_prefix": "%m [%p] %q%a ",
        "wal_level": "replica",
        "wal_log_hints": "on",  # what pg_rewind needs
        "max_wal_senders": "20",
        # In place of replication slots: those would have to follow every promotion.
        "wal_keep_size": "512MB",
        "hot_standby": "on",
        "wal_retrieve_retry_interval": "100ms",  # how soon a standby finds its primary again
        "wal_receiver_status_interval": "1s",
    }
    if version >= 18:
        settings["io_method"] = "sync"  # no three further processes for each server
    return settings
