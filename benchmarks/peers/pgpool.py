"""Pgpool-II: streaming replication mode, reads balanced over the replicas, one process per client.

Pgpool-II does not multiplex: a client holds a child process, and that child a connection to every
backend, so that "20 server connections" cannot be set. It gets as many children as clients come.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers import sandbox
from benchmarks.peers.base import HOST, Running, free_port, process, wait_until_serving
from benchmarks.servers import DATABASE, USER, Address, Servers

_SPARE_CHILDREN = 8
_CONFIGURATION = """\
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
num_init_children = {children}
max_pool = 1
child_life_time = 0
load_balance_mode = on
statement_level_load_balance = on
sr_check_user = '{user}'
sr_check_database = '{database}'
health_check_period = 0
enable_pool_hba = off
log_client_messages = off
log_min_messages = warning
"""
_BACKEND = """\
backend_hostname{index} = '{address.host}'
backend_port{index} = {address.port}
backend_weight{index} = {weight}
backend_flag{index} = 'ALLOW_TO_FAILOVER'
"""


class Pgpool:
    """Runs `pgpool`."""

    name = "Pgpool-II"
    settings = (
        "streaming replication mode, weights 0:1:1, statement_level_load_balance on,"
        " as many children as clients (it cannot share server connections), max_pool 1"
    )
    idle_clients_limit: int | None = 200

    def version(self) -> str:
        """Raises Missing."""
        program = sandbox.find("pgpool")
        return f"{program.version()} ({program.origin})"

    @contextmanager
    def run(self, servers: Servers, clients: int) -> Iterator[Running]:
        """Raises Missing and NotServing."""
        program = sandbox.find("pgpool")
        address = Address(HOST, free_port())
        with program.scratch() as folder:
            inside = program.inside(folder)
            backends = [(servers.primary, 0), *((replica, 1) for replica in servers.replicas)]
            (folder / "pgpool.conf").write_text(
                _CONFIGURATION.format(
                    host=HOST,
                    port=address.port,
                    pcp_port=free_port(),
                    folder=inside,
                    children=clients + _SPARE_CHILDREN,
                    user=USER,
                    database=DATABASE,
                )
                + "".join(
                    _BACKEND.format(index=index, address=backend, weight=weight)
                    for index, (backend, weight) in enumerate(backends)
                )
            )
            for name in ("pool_hba.conf", "pcp.conf", "pool_passwd"):
                (folder / name).touch()
            command = program.command(
                "-n",
                *("-f", f"{inside}/pgpool.conf"),
                *("-a", f"{inside}/pool_hba.conf"),
                *("-F", f"{inside}/pcp.conf"),
            )
            log = folder / "log"
            with process(command, log, signal.SIGINT) as child:
                yield wait_until_serving(servers, address, child, log)
