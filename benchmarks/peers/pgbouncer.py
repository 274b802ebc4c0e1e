"""PgBouncer: one process, transaction pooling, in front of the primary alone (it splits nothing)."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers import sandbox
from benchmarks.peers.base import (
    HOST,
    POOL_SIZE,
    Running,
    free_port,
    process,
    wait_until_serving,
)
from benchmarks.servers import USER, Address, Servers

_CONFIGURATION = """\
[databases]
* = host={primary.host} port={primary.port}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 10000
max_prepared_statements = 200
log_connections = 0
log_disconnections = 0
log_stats = 0
"""


class PgBouncer:
    """Runs `pgbouncer`."""

    name = "PgBouncer"
    settings = (
        f"transaction mode, default_pool_size {POOL_SIZE}, max_prepared_statements 200,"
        " primary only"
    )
    idle_clients_limit: int | None = None

    def version(self) -> str:
        """Raises Missing."""
        program = sandbox.find("pgbouncer")
        return f"{program.version()} ({program.origin})"

    @contextmanager
    def run(self, servers: Servers, clients: int) -> Iterator[Running]:
        """Raises Missing and NotServing."""
        program = sandbox.find("pgbouncer")
        address = Address(HOST, free_port())
        with program.scratch() as folder:
            inside = program.inside(folder)
            (folder / "users.txt").write_text(f'"{USER}" ""\n')
            (folder / "pgbouncer.ini").write_text(
                _CONFIGURATION.format(
                    primary=servers.primary,
                    host=HOST,
                    port=address.port,
                    folder=inside,
                    pool_size=POOL_SIZE,
                )
            )
            command = program.command(f"{inside}/pgbouncer.ini")
            log = folder / "log"
            with process(command, log, signal.SIGQUIT) as child:
                yield wait_until_serving(servers, address, child, log)
