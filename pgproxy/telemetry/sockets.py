"""One connection as SHOW CLIENTS, SERVERS and SOCKETS of the admin console tell of it."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from pgproxy.clients.connection import ClientConnection
from pgproxy.frames.table import Value
from pgproxy.protocol.states import WAITING
from pgproxy.relay.relay import Relay
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.pool import Pool
from pgproxy.servers.slots import CLOSED, CLOSING, IDLE, LEASED, RESETTING
from pgproxy.servers.tls import version

Row = list[Value]

_SERVER_STATES: Final = {
    IDLE: "idle",
    LEASED: "active",
    RESETTING: "tested",  # PgBouncer's word for one that is being reset
    CLOSING: "closing",
    CLOSED: "closing",  # what its client has left running keeps it from its end
}


class Visitor(Protocol):
    """One session of the console itself."""

    pid: int
    application_name: str

    @property
    def user(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def connected_at(self) -> float: ...
    @property
    def transport(self) -> Any: ...


def sorted_clients(clients: Iterable[ClientConnection]) -> list[ClientConnection]:
    """As they came."""
    return sorted(clients, key=lambda client: client.connected_at)


def server_connections(cluster: Cluster) -> Iterator[tuple[Pool, ServerConnection]]:
    """Pool by pool, as they were opened."""
    for pool in cluster.pools():
        for server in sorted(pool.servers, key=lambda server: server.opened_at):
            yield pool, server


def client_row(client: ClientConnection, relay: Relay) -> Row:
    """Of a client."""
    server = relay.server
    waits = relay.phase == WAITING
    waited = time.monotonic() - relay.waiting_since if waits else 0.0
    state = "waiting" if waits else "idle" if server is None else "active"
    return _socket(
        "C",
        client.user,
        client.database,
        state,
        client.transport,
        connected_at=client.connected_at,
        asked_at=relay.leased_at or client.connected_at,
        waited=waited,
        close_needed=False,
        pointers=(_pointer(client), "" if server is None else _pointer(server)),
        pid=0,
        application_name=_application_name(relay.carry.reported),
        prepared=len(relay.batch.statements.named),
        number=int(client.pid),
    )


def visitor_row(visitor: Visitor) -> Row:
    """Of a session of the console itself."""
    return _socket(
        "C",
        visitor.user,
        visitor.database,
        "active",
        visitor.transport,
        connected_at=visitor.connected_at,
        asked_at=time.monotonic(),
        waited=0.0,
        close_needed=False,
        pointers=(_pointer(visitor), ""),
        pid=0,
        application_name=visitor.application_name,
        prepared=0,
        number=visitor.pid,
    )


def server_row(pool: Pool, server: ServerConnection) -> Row:
    """Of a connection to a server."""
    owner = server.owner
    relay = owner if isinstance(owner, Relay) else None
    return _socket(
        "S",
        pool.user,
        pool.database,
        _SERVER_STATES.get(int(server.place), "new"),
        server.transport,
        connected_at=server.opened_at,
        asked_at=server.idle_since or server.opened_at if relay is None else relay.leased_at,
        waited=0.0,
        close_needed=server.doomed,
        pointers=(_pointer(server), "" if relay is None else _pointer(relay.client)),
        pid=server.pid,
        application_name=_application_name(server.reported),
        prepared=len(server.prepared),
        number=id(server),
    )


def _socket(
    kind: str,
    user: str,
    database: str,
    state: str,
    transport: Any,
    *,
    connected_at: float,
    asked_at: float,
    waited: float,
    close_needed: bool,
    pointers: tuple[str, str],
    pid: int,
    application_name: str,
    prepared: int,
    number: int,
) -> Row:
    return [
        kind,
        user,
        database,
        "none",
        state,
        *address_of(transport, "peername"),
        *address_of(transport, "sockname"),
        date_of(connected_at, "%Y-%m-%d %H:%M:%S %Z"),
        date_of(asked_at, "%Y-%m-%d %H:%M:%S %Z"),
        *seconds_and_rest(waited),
        int(close_needed),
        *pointers,
        pid,
        "" if transport.is_closing() else version(transport),
        application_name,
        prepared,
        number,
    ]


def address_of(transport: Any, which: str) -> tuple[str, int | None]:
    """Host and port; of a connection that ends there is none."""
    if transport.is_closing():
        return "", None
    address = transport.get_extra_info(which)
    if not isinstance(address, tuple):
        return "unix", None
    return str(address[0]), int(address[1])


def date_of(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time of the monotonic clock as local time."""
    now = datetime.now(UTC).timestamp()
    return time.strftime(form, time.localtime(now - (time.monotonic() - at)))


def seconds_and_rest(seconds: float) -> tuple[int, int]:
    """Whole seconds, and the microseconds beyond them."""
    microseconds = round(seconds * 1e6)
    return microseconds // 1_000_000, microseconds % 1_000_000


def _pointer(thing: object) -> str:
    return f"{id(thing):#x}"


def _application_name(reported: Mapping[bytes, bytes]) -> str:
    return reported.get(b"application_name", b"").decode("utf-8", "replace")
