"""No proxy at all: the clients talk to the primary. What the others are added to."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.base import Running
from benchmarks.servers import Servers


class Direct:
    """The base line."""

    name = "direct"
    settings = "every client has a server process of its own on the primary"
    idle_clients_limit: int | None = 0

    def version(self) -> str:
        """There is no program to ask."""
        return ""

    @contextmanager
    def run(self, servers: Servers, clients: int) -> Iterator[Running]:
        """Runs nothing."""
        yield Running(servers.primary, None)
