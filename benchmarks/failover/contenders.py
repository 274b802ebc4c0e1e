"""pgproxy, HAProxy and Pgpool-II in front of the same members, each as its documentation says."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import psycopg

from benchmarks.failover.services import running_services
from benchmarks.peers import sandbox
from benchmarks.peers.base import HOST, START_SECONDS, NotServing, free_port, process, tail
from benchmarks.servers import DATABASE, USER, Address
from tests.support.patroni import PatroniCluster
from tests.support.patroni_kubernetes import KubernetesDcs
from tests.support.proxy import ProxyProcess


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where applications connect: for everything, and for reads alone."""

    writes: str
    reads: str


@dataclass(frozen=True, slots=True)
class Place:
    """What the contenders stand in front of."""

    patroni: PatroniCluster
    dcs: KubernetesDcs
    clients: int


class Contender(Protocol):
    """One of those that are compared."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    @property
    def settings(self) -> str:
        """How it is set up, in a line for the report."""

    def version(self) -> str:
        """What it says of itself. Raises Missing."""

    def run(self, place: Place) -> AbstractContextManager[Endpoints]:
        """Runs it. Raises Missing and NotServing."""


class Pgproxy:
    """The tree's own, by the pods' labels and the servers' word."""

    name = "pgproxy"
    settings = 'discovery.mode = "kubernetes", preset = "patroni", nothing else; one address'

    def version(self) -> str:
        """Never missing."""
        command = [sys.executable, "-m", "pgproxy", "--version"]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    @contextmanager
    def run(self, place: Place) -> Iterator[Endpoints]:
        """Raises ProxyError."""
        with tempfile.TemporaryDirectory() as folder:
            found = place.dcs.discovery(place.patroni.members[0].port, Path(folder))
            health = {"interval": 1}  # the default; tests have a shorter one
            with ProxyProcess.start([], health=health, **found) as proxy:
                yield Endpoints(proxy.dsn(), proxy.dsn())


_HAPROXY: Final = """\
global
    maxconn 1000
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
listen primary
    bind {host}:{primary}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 3 rise 2 on-marked-down shutdown-sessions
{servers}
listen replicas
    bind {host}:{replicas}
    balance roundrobin
    option httpchk OPTIONS /replica
    http-check expect status 200
    default-server inter 1s fall 3 rise 2 on-marked-down shutdown-sessions
{servers}
"""


class Haproxy:
    """Two ports, by Patroni's REST API."""

    name = "HAProxy"
    settings = (
        "the usual configuration for Patroni: checks of /primary and /replica, inter 1s fall 3 rise 2,"
        " on-marked-down shutdown-sessions; reads go to a port of their own"
    )

    def version(self) -> str:
        """Raises Missing."""
        program = sandbox.find("haproxy")
        said = subprocess.run(
            program.command("-v"), capture_output=True, check=False, text=True
        ).stdout
        return f"{said.splitlines()[0]} ({program.origin})"

    @contextmanager
    def run(self, place: Place) -> Iterator[Endpoints]:
        """Raises Missing and NotServing."""
        program = sandbox.find("haproxy")
        primary, replicas = Address(HOST, free_port()), Address(HOST, free_port())
        servers = "\n".join(
            f"    server {one.name} {one.host}:{one.port} maxconn 100 check port {one.rest_port}"
            for one in place.patroni.members
        )
        with program.scratch() as folder:
            text = _HAPROXY.format(
                host=HOST, primary=primary.port, replicas=replicas.port, servers=servers
            )
            (folder / "haproxy.cfg").write_text(text)
            command = program.command("-db", "-f", f"{program.inside(folder)}/haproxy.cfg")
            log = folder / "log"
            with process(command, log, signal.SIGTERM):
                endpoints = Endpoints(_dsn(primary), _dsn(replicas))
                _wait_serving(endpoints, log)
                yield endpoints


_PGPOOL: Final = """\
backend_clustering_mode = streaming_replication
listen_addresses = '{host}'
port = {port}
unix_socket_directories = '{folder}'
pcp_listen_addresses = '{host}'
pcp_port = {pcp_port}
pcp_socket_dir = '{folder}'
pid_file_name = '{folder}/pgpool.pid'
logdir = '{folder}'
work_dir = '{folder}'
backend_hostname0 = '{primary.host}'
backend_port0 = {primary.port}
backend_weight0 = 1
backend_flag0 = 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER'
backend_hostname1 = '{replica.host}'
backend_port1 = {replica.port}
backend_weight1 = 1
backend_flag1 = 'DISALLOW_TO_FAILOVER'
sr_check_period = 0
health_check_period = 0
failover_on_backend_error = off
num_init_children = {children}
max_pool = 1
child_life_time = 300
connection_cache = on
load_balance_mode = on
enable_pool_hba = off
log_min_messages = warning
"""


class PgpoolServices:
    """In front of two Services."""

    name = "Pgpool-II"
    settings = (
        "pgpool2_on_k8s: the primary's Service as ALWAYS_PRIMARY, the replicas' Service, both"
        " DISALLOW_TO_FAILOVER, no checks of its own, failover_on_backend_error off; one address"
    )

    def version(self) -> str:
        """Raises Missing."""
        program = sandbox.find("pgpool")
        return f"{program.version()} ({program.origin})"

    @contextmanager
    def run(self, place: Place) -> Iterator[Endpoints]:
        """Raises Missing and NotServing."""
        program = sandbox.find("pgpool")
        address = Address(HOST, free_port())
        port = place.patroni.members[0].port
        with running_services(place.dcs, port) as services, program.scratch() as folder:
            inside = program.inside(folder)
            text = _PGPOOL.format(
                host=HOST,
                port=address.port,
                pcp_port=free_port(),
                folder=inside,
                primary=services[0],
                replica=services[1],
                children=place.clients + 8,
            )
            (folder / "pgpool.conf").write_text(text)
            for name in ("pool_hba.conf", "pcp.conf", "pool_passwd"):
                (folder / name).touch()
            files = [("-f", "pgpool.conf"), ("-a", "pool_hba.conf"), ("-F", "pcp.conf")]
            options = [word for flag, name in files for word in (flag, f"{inside}/{name}")]
            log = folder / "log"
            with process(program.command("-n", *options), log, signal.SIGINT):
                endpoints = Endpoints(_dsn(address), _dsn(address))
                _wait_serving(endpoints, log)
                yield endpoints


def _dsn(address: Address) -> str:
    return f"postgresql://{USER}@{address.host}:{address.port}/{DATABASE}"


def _wait_serving(endpoints: Endpoints, log: Path) -> None:
    """Return once both answer. Raises NotServing with the end of the log."""
    deadline = time.monotonic() + START_SECONDS
    for dsn in (endpoints.writes, endpoints.reads):
        while True:
            try:
                with psycopg.connect(dsn, connect_timeout=2, autocommit=True) as connection:
                    connection.execute("SELECT 1")
                break
            except psycopg.Error as error:
                if time.monotonic() > deadline:
                    raise NotServing(f"{error}: {tail(log)}") from error
                time.sleep(0.2)
