"""The PostgreSQL servers behind the proxies: one embedded primary and two streaming replicas."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgproxy.embedded import HOST, SUPERUSER, Cluster, Server

DATABASE: Final = "postgres"
USER: Final = SUPERUSER

_REPLICAS = 2
# Pgpool-II keeps a server connection per client on every backend; the other proxies' pools and
# pgbench's direct clients come on top.
_MAX_CONNECTIONS = 600
_SETTINGS: Final = {
    "shared_buffers": "256MB",  # all of pgbench's tables: the disk is not what is compared
    "max_wal_size": "4GB",  # no checkpoint falls into one peer's turn and not into the next's
    "checkpoint_timeout": "1h",
}
_COPY_ROWS = 1_000_000
_COPY_ROW_BYTES = 100


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens for PostgreSQL clients."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Servers:
    """The running cluster, and the PostgreSQL programs that belong to it."""

    primary: Address
    replicas: tuple[Address, ...]
    programs: Path
    version: str

    def program(self, name: str) -> str:
        """The path of pgbench or psql: the cluster's own, so that every machine runs the same."""
        return str(self.programs / name)

    def psql(self, address: Address) -> list[str]:
        """The words of a psql that prints bare values and stops at the first error."""
        return [
            *(self.program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"),
            *(*client_arguments(address), "-d", DATABASE),
        ]


def client_arguments(address: Address) -> list[str]:
    """The connection arguments that psql and pgbench share."""
    return ["-h", address.host, "-p", str(address.port), "-U", USER]


@contextmanager
def running_servers(scale: int, progress: Callable[[str], None]) -> Iterator[Servers]:
    """Starts the cluster with its tables filled, and leaves nothing of it behind.

    `scale` is pgbench's: 100,000 accounts each. Raises pgproxy.embedded.EmbeddedError.
    """
    with Cluster.create(
        _REPLICAS,
        max_connections=_MAX_CONNECTIONS,
        settings=_SETTINGS,
        progress=progress,
    ) as cluster:
        servers = Servers(
            primary=_address(cluster.primary),
            replicas=tuple(_address(replica) for replica in cluster.replicas),
            programs=cluster.installation.bin_dir,
            version=cluster.primary.psql("SHOW server_version"),
        )
        progress(f"filling the tables (scale {scale}, 100 MB for COPY)")
        _fill(cluster, servers, scale)
        yield servers


def _address(server: Server) -> Address:
    return Address(HOST, server.port)


def _fill(cluster: Cluster, servers: Servers, scale: int) -> None:
    initialise = ["-i", "-q", "-s", str(scale), *client_arguments(servers.primary), DATABASE]
    subprocess.run([servers.program("pgbench"), *initialise], check=True, capture_output=True)
    # lpad makes every row of COPY's text, tab and newline included, as long as the next.
    width = _COPY_ROW_BYTES - len("1000001\t\n")
    statements = (
        "CREATE TABLE bench_copy (id int, filler text)",
        "CREATE TABLE bench_copy_in (LIKE bench_copy)",
        f"INSERT INTO bench_copy SELECT 1000000 + i, lpad(i::text, {width}, 'x')"
        f" FROM generate_series(1, {_COPY_ROWS}) i",
        "VACUUM ANALYZE",
        "CHECKPOINT",
    )
    for statement in statements:
        cluster.primary.psql(statement, timeout=300)
    cluster.wait_caught_up(timeout=300)
