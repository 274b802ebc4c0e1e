"""What Pgpool's SHOW POOL_* tell, in its terms: nodes, processes, pools."""

import time
from collections.abc import Iterator
from typing import Final

from pgproxy.clients.connection import ClientConnection
from pgproxy.clients.drain import state_of
from pgproxy.relay.relay import Relay
from pgproxy.servers.cluster import Cluster
from pgproxy.telemetry.sockets import (
    Row,
    address_of,
    date_of,
    server_connections,
    sorted_clients,
)
from pgproxy.topology.model import Node, Role

# Pgpool's words for what a client is doing.
_POOL_STATES: Final = {
    "idle": "Idle",
    "pinned": "Idle",
    "transaction": "Idle in transaction",
    "active": "Execute command",
    "waiting": "Wait for connection",
    "leaving": "Idle",
}


class PgpoolTables:
    """`clients` are those who are there."""

    def __init__(self, cluster: Cluster, clients: set[ClientConnection]) -> None:
        self._cluster: Final = cluster
        self._clients: Final = clients
        self._started_at: Final = time.monotonic()

    def nodes(self) -> Iterator[Row]:
        """One row for each server."""
        nodes = self._nodes()
        backends = self._cluster.backends
        weights = [backends[node.name].weight * backends[node.name].share for node in nodes]
        total = sum(weights) or 1.0
        shown = [node.replay_lsn for node in nodes if node.role is Role.PRIMARY]
        newest = shown[0] if shown else None
        for number, node in enumerate(nodes):
            delay = None
            if newest is not None and node.replay_lsn is not None:
                delay = str(max(0, newest - node.replay_lsn))
            yield [
                *_node(number, node),
                "up" if node.alive else "down",
                f"{weights[number] / total:.6f}",
                _role(node),
                _role(node),
                None,
                None,  # each statement's server is chosen anew
                delay,
                None,
                None,
                None,
            ]

    def backend_stats(self) -> Iterator[Row]:
        """The same: what they have run by kind nobody counts."""
        for number, node in enumerate(self._nodes()):
            yield [*_node(number, node), _role(node), *[None] * 9]

    def processes(self) -> Iterator[Row]:
        """One row for each client: that is what a process of Pgpool is."""
        for client in sorted_clients(self._clients):
            relay = client.relay
            server = None if relay is None else relay.server
            yield [
                str(client.pid),
                date_of(client.connected_at),
                None,
                client.database,
                client.user,
                "" if server is None else date_of(server.opened_at),
                None,
                _POOL_STATES[state_of(client).value],
            ]

    def pools(self) -> Iterator[Row]:
        """One row for each server connection."""
        numbers = {node.name: str(number) for number, node in enumerate(self._nodes())}
        groups = {key: str(number) for number, key in enumerate(sorted(self._cluster.groups))}
        for pool, server in server_connections(self._cluster):
            owner = server.owner
            sink = owner.client if isinstance(owner, Relay) else None
            client = sink if isinstance(sink, ClientConnection) else None
            host, port = ("", None) if client is None else address_of(client.transport, "peername")
            yield [
                "0" if client is None else str(client.pid),
                date_of(self._started_at),
                None,
                groups.get((pool.database, pool.user)),
                numbers.get(server.backend.name),
                pool.database,
                pool.user,
                date_of(server.opened_at),
                "" if client is None else date_of(client.connected_at),
                None,
                None,
                "3",
                None,
                None,
                str(server.pid),
                "0" if client is None else "1",
                "Wait for connection" if client is None else _POOL_STATES[state_of(client).value],
                None,
                host,
                "" if port is None else str(port),
                None,
            ]

    def _nodes(self) -> tuple[Node, ...]:
        topology = self._cluster.topology
        return () if topology is None else topology.nodes


def _node(number: int, node: Node) -> Row:
    serves = node.alive and node.role is not Role.NONE
    return [str(number), node.host, str(node.port), "up" if serves else "down"]


def _role(node: Node) -> str:
    return {Role.PRIMARY: "primary", Role.REPLICA: "standby", Role.NONE: "unknown"}[node.role]
