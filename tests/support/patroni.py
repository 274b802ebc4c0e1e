"""Three real PostgreSQL servers under real Patroni, each in a "pod" of its own.

    with PatroniCluster.start(dcs) as patroni:
        patroni.switchover(patroni.replicas()[0])

Every member has a loopback address of its own and the same ports on it, as pods have. What holds
Patroni's lock (`dcs`) is not this module's business: see patroni_kubernetes.py.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, Self

from pgproxy.embedded import SUPERUSER, Cluster, Installation, find_installation
from pgproxy.embedded.watchdog import release_shared_memory
from tests.support import pod
from tests.support.patroni_member import Member, lives, signal_to
from tests.support.patroni_programs import PatroniError, packages_for_others, python_for_others
from tests.support.place import cluster_parent
from tests.support.processes import Closing

SCOPE: Final = "demo"
# The shortest times that Patroni permits: seconds.
TTL: Final = 20
LOOP_WAIT: Final = 1
RETRY_TIMEOUT: Final = 3

_PORTS: Final = range(20_000, 32_000)  # below the ephemeral ones, see pgproxy/embedded/server.py
_POLL: Final = 0.05


class Dcs(Protocol):
    """What keeps Patroni's lock and configuration: its DCS."""

    def register(self, members: list[Member]) -> None:
        """Make what has to be there before they start."""

    def config(self, member: Member) -> Mapping[str, object]:
        """The section of `member`'s Patroni configuration, under its name."""

    def environment(self, member: Member) -> Mapping[str, str]:
        """What that Patroni finds in its environment."""


class PatroniCluster(Closing):
    """Three of them; a context manager that leaves nothing behind."""

    def __init__(self, dcs: Dcs, settings: Mapping[str, object]) -> None:
        """Prepare it; use `start`."""
        self._dcs: Final = dcs
        self._settings: Final = settings
        # Directory, programs for an unprivileged user, and a watchdog that removes both.
        self._place: Final = Cluster(find_installation(), cluster_parent())
        self.directory: Final = self._place.directory
        self.members: Final[list[Member]] = []
        try:
            self._python: Final = python_for_others()
            self._packages: Final = packages_for_others(self.directory / "packages")
            self._pod: Final = self.directory / "pod.py"
            shutil.copyfile(Path(pod.__file__), self._pod)
            self._pod.chmod(0o644)
            addresses = _free_addresses(3)
            self.members.extend(
                Member(f"m-{number}", *address, self.directory)
                for number, address in enumerate(addresses)
            )
        except BaseException:
            self._place.close()
            raise

    @classmethod
    def start(cls, dcs: Dcs, **settings: object) -> Self:
        """Start three members and return once two stream from the third.

        `settings` go to Patroni's dynamic configuration: synchronous_mode=True. Raises
        `PatroniError` with the ends of the logs.
        """
        cluster = cls(dcs, settings)
        try:
            dcs.register(cluster.members)
            for member in cluster.members:
                cluster.start_member(member)
            cluster.wait_healthy()
        except BaseException:
            cluster.close()
            raise
        return cluster

    @property
    def installation(self) -> Installation:
        """The PostgreSQL they run."""
        return self._place.installation

    def member(self, name: str) -> Member:
        """The one of that name. Raises `KeyError`."""
        return {member.name: member for member in self.members}[name]

    # --- what it is

    def version(self) -> str:
        """Patroni's."""
        return str(json.loads(self.members[0].rest("/patroni")[1])["patroni"]["version"])

    def status(self) -> dict[str, dict[str, Any]]:
        """By name, what Patroni says of each: role, state, timeline, lag. {} if none answers."""
        for member in self.members:
            try:
                answer = json.loads(member.rest("/cluster")[1])
            except (OSError, ValueError):
                continue
            return {str(one["name"]): one for one in answer["members"]}
        return {}

    def leader(self) -> Member:
        """Who has the lock. Raises `PatroniError` if nobody has."""
        for name, one in self.status().items():
            if one["role"] == "leader":
                return self.member(name)
        raise PatroniError(f"there is no leader: {self.status()}")

    def replicas(self) -> list[Member]:
        """The others; a synchronous standby, the one to switch over to, comes first."""
        status = self.status()
        names = [name for name, one in status.items() if one["role"] != "leader"]
        names.sort(key=lambda name: "sync" not in str(status[name]["role"]))
        return [self.member(name) for name in names]

    def wait_healthy(self, members: int = 3, timeout: float = 60) -> None:
        """Wait until one of so many leads and all the others stream. Raises `PatroniError`."""

        def healthy() -> bool:
            states = [(one["role"], one["state"]) for one in self.status().values()]
            streaming = sum(
                state == "streaming" and (role == "sync_standby" or not self._synchronous)
                for role, state in states
            )
            wanted = 1 if self._synchronous else members - 1
            in_line = sum(state == "streaming" for _, state in states) >= members - 1
            return ("leader", "running") in states and in_line and streaming >= wanted

        self.wait(healthy, f"{members} healthy members", timeout)

    def wait_other_leader(self, old: Member, timeout: float = 60) -> Member:
        """Wait until another than `old` has the lock; returns it. Raises `PatroniError`."""

        def others() -> list[str]:
            return [
                name
                for name, one in self.status().items()
                if one["role"] == "leader" and name != old.name
            ]

        self.wait(lambda: bool(others()), f"other leader than {old.name}", timeout)
        return self.member(others()[0])

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
        """Wait until `condition`. Raises `PatroniError` with the ends of the logs."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                logs = "".join(
                    f"--- {member.name}:\n{member.log_path.read_text()[-3000:]}\n"
                    for member in self.members
                    if member.log_path.exists()
                )
                raise PatroniError(f"no {what} in {timeout} s: {self.status()}\n{logs}")
            time.sleep(_POLL)

    # --- what is done to it

    def switchover(self, candidate: Member) -> str:
        """Let Patroni make `candidate` the leader; what it said once that has the lock.

        Raises `PatroniError` if it could not.
        """
        leader = self.leader()
        names = {"leader": leader.name, "candidate": candidate.name}
        status, text = leader.rest("/switchover", names)
        if status != 200:
            raise PatroniError(f"no switchover to {candidate.name}: {status} {text}")
        return text

    def start_member(self, member: Member) -> None:
        """Start its Patroni, which starts its PostgreSQL."""
        member.config_path.write_text(json.dumps(self._config(member), indent=1))
        member.config_path.chmod(0o644)
        user, group = self._place.owner or (None, None)
        with member.log_path.open("ab") as log:
            process = subprocess.Popen(
                [
                    *(self._python, "-I", "-S", str(self._pod)),
                    *(self._python, "-s", "-B", "-m", "patroni", str(member.config_path)),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._place.sockets,
                env=self._environment(member),
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                umask=0o077,
            )
        member.pods.append(process)

    def kill9(self, member: Member) -> None:
        """SIGKILL everything in its pod, Patroni and PostgreSQL, as when its node dies."""
        processes = member.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, none acts on another's end
            for process in processes:
                signal_to(process, number)
        self._delete_pods(member)

    def kill9_patroni(self, member: Member) -> None:
        """SIGKILL Patroni alone: its PostgreSQL runs on, and nobody changes its labels."""
        process = member.patroni_process()
        process.kill()
        self.wait(lambda: not lives(process), f"end of {member.name}'s Patroni")

    def freeze(self, member: Member) -> None:
        """SIGSTOP everything in its pod: connections stay open and nothing is answered."""
        for process in member.processes():
            signal_to(process, signal.SIGSTOP)

    def thaw(self, member: Member, *, patroni: bool = True) -> None:
        """Let it go on; with `patroni=False` all but Patroni, which would demote it."""
        paused = None if patroni else member.patroni_process().pid
        for process in member.processes():
            if process.pid != paused:
                signal_to(process, signal.SIGCONT)

    def close(self) -> None:
        """Kill everything and delete every file. May be called again."""
        for member in self.members:
            self._delete_pods(member)
        self._place.close()

    # --- within this module

    @property
    def _synchronous(self) -> bool:
        return bool(self._settings.get("synchronous_mode"))

    def _delete_pods(self, member: Member) -> None:
        for one in member.pods:
            assert one.stdin is not None
            one.stdin.close()
            one.wait()
        member.pods.clear()
        release_shared_memory(member.data_dir)

    def _environment(self, member: Member) -> dict[str, str]:
        return {
            "PATH": f"{self.installation.bin_dir}:/usr/bin:/bin",
            "PYTHONPATH": str(self._packages),
            "HOME": str(self._place.sockets),
            "TMPDIR": str(self._place.sockets),
            "LC_ALL": "C",
            "TZ": "UTC",
            **_mark_of_the_test_session(),
            **self._dcs.environment(member),
        }

    def _config(self, member: Member) -> dict[str, object]:
        sql = f"{member.host}:{member.port}"
        rest = f"{member.host}:{member.rest_port}"
        return {
            "scope": SCOPE,
            "name": member.name,
            **self._dcs.config(member),
            "restapi": {"listen": rest, "connect_address": rest},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": LOOP_WAIT,
                    "retry_timeout": RETRY_TIMEOUT,
                    "postgresql": {"use_pg_rewind": True, "parameters": _PARAMETERS},
                }
                | dict(self._settings),
                "initdb": [
                    {"encoding": "UTF8"},
                    {"locale": "C"},
                    {"auth": "trust"},
                    "no-sync",
                ],
            },
            "postgresql": {
                "listen": sql,
                "connect_address": sql,
                "data_dir": str(member.data_dir),
                "bin_dir": str(self.installation.bin_dir),
                "pgpass": str(self._place.sockets / f"{member.name}.pgpass"),
                "use_unix_socket": True,
                "authentication": {
                    "superuser": {"username": SUPERUSER},
                    "replication": {"username": "replicator"},
                },
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "parameters": {"unix_socket_directories": self._socket_directory(member)},
                "pg_hba": [
                    "local all all trust",
                    "local replication all trust",
                    "host all all 127.0.0.0/8 trust",
                    "host replication all 127.0.0.0/8 trust",
                ],
            },
        }

    def _socket_directory(self, member: Member) -> str:
        # The ports are the same, so the sockets' names are.
        return str(self._place.sockets / member.name)


_PARAMETERS: Final = {
    "max_connections": 200,
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # files that go with the data directory
    "fsync": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "wal_keep_size": "256MB",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
}


def _mark_of_the_test_session() -> dict[str, str]:
    """Lets tests/conftest.py see what is left running."""
    mark = os.environ.get("PROCESS_OF_TEST_SESSION")
    return {} if mark is None else {"PROCESS_OF_TEST_SESSION": mark}


def _free_addresses(count: int) -> list[tuple[str, int, int]]:
    """Loopback addresses nobody listens at, and two ports that are free on each of them."""
    for _ in range(100):
        net = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"
        port, rest_port = random.sample(_PORTS, 2)
        hosts = [f"{net}.{number}" for number in range(11, 11 + count)]
        if all(_is_free(host, one) for host in hosts for one in (port, rest_port)):
            return [(host, port, rest_port) for host in hosts]
    raise PatroniError("no free loopback addresses")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
