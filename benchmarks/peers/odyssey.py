"""Odyssey: one worker thread, transaction pooling, in front of the primary alone."""

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
from benchmarks.servers import Address, Servers

_CONFIGURATION = """\
daemonize no
workers 1
resolvers 1
log_format "%p %t %l [%i %s] (%c) %m\\n"
log_to_stdout yes
log_session no
log_stats no
log_query no
log_debug no
coroutine_stack_size 24
locks_dir "{folder}"
listen {{
    host "{host}"
    port {port}
}}
storage "primary" {{
    type "remote"
    host "{primary.host}"
    port {primary.port}
}}
database default {{
    user default {{
        authentication "none"
        storage "primary"
        pool "transaction"
        pool_size {pool_size}
        pool_discard no
        pool_reserve_prepared_statement yes
        client_max 10000
    }}
}}
"""


class Odyssey:
    """Runs `odyssey`."""

    name = "Odyssey"
    settings = (
        f"1 worker, pool transaction, pool_size {POOL_SIZE}, prepared statements reserved,"
        " primary only"
    )
    idle_clients_limit: int | None = None

    def version(self) -> str:
        """Raises Missing."""
        program = sandbox.find("odyssey")
        return f"{program.version()} ({program.origin})"

    @contextmanager
    def run(self, servers: Servers, clients: int) -> Iterator[Running]:
        """Raises Missing and NotServing."""
        program = sandbox.find("odyssey")
        address = Address(HOST, free_port())
        with program.scratch() as folder:
            inside = program.inside(folder)
            (folder / "odyssey.conf").write_text(
                _CONFIGURATION.format(
                    primary=servers.primary,
                    host=HOST,
                    port=address.port,
                    folder=inside,
                    pool_size=POOL_SIZE,
                )
            )
            command = program.command(f"{inside}/odyssey.conf")
            log = folder / "log"
            with process(command, log, signal.SIGTERM) as child:
                yield wait_until_serving(servers, address, child, log)
