"""What each SHOW of the admin console tells, read from the parts when somebody asks.

A value that the proxy does not know or does not count is NULL. Columns: columns.py. Rows are made
one by one, so that who reads many can let others have their turn in between; connections that come
or go meanwhile may be among them or not.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Final, Protocol

import pgproxy
from pgproxy.clients.caps import ClientCaps
from pgproxy.clients.connection import ClientConnection
from pgproxy.protocol.states import GONE, WAITING
from pgproxy.relay.relay import Relay
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.reasons import REASONS, SENTENCES
from pgproxy.routing.structures import Structures
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.group import PoolGroup
from pgproxy.servers.modes import PoolModes
from pgproxy.telemetry.averages import COUNTS, Averages, Numbers, add
from pgproxy.telemetry.columns import COLUMNS
from pgproxy.telemetry.pgpool_tables import PgpoolTables
from pgproxy.telemetry.sockets import (
    Row,
    Visitor,
    client_row,
    seconds_and_rest,
    server_connections,
    server_row,
    sorted_clients,
    visitor_row,
)

# How many structures of statements SHOW QUERIES tells of.
MOST_QUERIES: Final = 100


class Listening(Protocol):
    """Who is there."""

    clients: set[ClientConnection]

    @property
    def caps(self) -> ClientCaps: ...
    @property
    def arriving(self) -> int:
        """Connections that are still logging in."""


class Draining(Protocol):
    @property
    def draining(self) -> bool: ...


class Tables:
    """`settings` are keys with their values and defaults, `users` the names of the users file,
    `routed` the data path's counts of decisions (telemetry/counters.py)."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        listener: Listening,
        visitors: Iterable[Visitor],
        drain: Draining,
        modes: PoolModes,
        averages: Averages,
        users: Callable[[], Iterable[str]],
        settings: Sequence[tuple[str, str, str]],
        structures: Structures,
        routed: Sequence[int],
        sizes: Mapping[str, Sized],
        peers: Callable[[], Sequence[Row]],
    ) -> None:
        self._cluster = cluster
        self._listener = listener
        self._visitors = visitors
        self._drain = drain
        self._modes = modes
        self._averages = averages
        self._users = users
        self._settings = settings
        self._structures = structures
        self._routed = routed
        self._sizes = sizes
        self._peers = peers
        pgpool = PgpoolTables(cluster, listener.clients)
        self._makers: Final[Mapping[str, Callable[[], Iterable[Row]]]] = {
            "clients": self._clients,
            "servers": self._servers,
            "sockets": self._sockets,
            "active_sockets": self._active_sockets,
            "pools": self._pools,
            "peer_pools": _nothing,
            "databases": self._databases,
            "users": self._user_rows,
            "stats": self._stats,
            "stats_totals": lambda: _by_database(self._averages.totals()),
            "stats_averages": lambda: _by_database(self._averages.averages(time.monotonic())),
            "totals": self._totals,
            "lists": self._lists,
            "config": lambda: [[*setting, "no"] for setting in self._settings],
            "mem": self._mem,
            "state": self._state,
            "version": lambda: [[f"pgproxy {pgproxy.__version__}"]],
            "peers": self._peers,
            "dns_hosts": _nothing,
            "dns_zones": _nothing,
            "queries": self._queries,
            "reasons": self._reasons,
            "pool_nodes": pgpool.nodes,
            "pool_processes": pgpool.processes,
            "pool_pools": pgpool.pools,
            "pool_backend_stats": pgpool.backend_stats,
            "pool_version": lambda: [[f"pgproxy {pgproxy.__version__}"]],
        }

    def rows(self, name: str) -> Iterator[Row]:
        """The rows of one of columns.COLUMNS."""
        return iter(self._makers[name]())

    def frames(self, name: str) -> list[bytes]:
        """RowDescription and DataRows of one whose columns are all of type text."""
        columns = COLUMNS[name]
        return [columns.description(), *[columns.row(row) for row in self.rows(name)]]

    # --- PgBouncer's: connections

    def _clients(self) -> Iterator[Row]:
        reasons = self._wait_reasons()
        for client in sorted_clients(self._listener.clients):
            relay = client.relay
            assert relay is not None
            server = relay.server
            yield [
                *client_row(client, relay),
                "" if relay.pinning.pin is None else relay.pinning.pin.value,
                "" if server is None else server.backend.name,
                reasons.get(relay, "") if relay.phase == WAITING else "",
            ]
        for visitor in list(self._visitors):
            yield [*visitor_row(visitor), "", "", ""]

    def _servers(self) -> Iterator[Row]:
        for pool, server in server_connections(self._cluster):
            yield [*server_row(pool, server), server.backend.name]

    def _sockets(self) -> Iterator[Row]:
        for client in sorted_clients(self._listener.clients):
            relay = client.relay
            assert relay is not None
            unsent: int = client.transport.get_write_buffer_size()
            held = int(relay.batch.input.held + relay.requests.backlog_size)
            yield [*client_row(client, relay), None, None, None, None, None, held, unsent]
        for pool, server in server_connections(self._cluster):
            unsent = server.transport.get_write_buffer_size()
            held = int(server.splitter.held)
            yield [*server_row(pool, server), None, None, None, None, None, held, unsent]

    def _active_sockets(self) -> Iterator[Row]:
        for row in self._sockets():
            if row[4] == "active":
                yield row

    def _wait_reasons(self) -> dict[object, str]:
        """Why those wait who wait."""
        reasons: dict[object, str] = {
            entry.waiter: "paused" if entry.is_paused else "no_server"
            for entry in self._cluster.homeless
        }
        for pool in self._cluster.pools():
            if pool.ledger.waiting > 0:
                why = pool.shortage.reason
                for queue in pool.ledger.queues.values():
                    reasons.update(dict.fromkeys(queue, why))
            if pool.seats is not None:
                reasons.update(dict.fromkeys(pool.seats.waiting, "no_seat"))
        return reasons

    # --- PgBouncer's: pools

    def _pools(self) -> Iterator[Row]:
        """One row for each database and user, as in PgBouncer: all backends together."""
        now = time.monotonic()
        active = Counter(
            relay.group for relay in self._relays() if relay.phase not in (WAITING, GONE)
        )
        for _, group in sorted(self._cluster.groups.items()):
            since = _waiting_since(group, self._cluster)
            oldest = max(0.0, now - min(since)) if since else 0.0
            ledgers = [pool.ledger for pool in group.pools.values()]
            servers = [server for pool in group.pools.values() for server in pool.servers]
            being_canceled = sum(server.release_pending for server in servers)
            active_cancel = sum(server.cancels > 0 for server in servers) - being_canceled
            leased = sum(int(ledger.leased) for ledger in ledgers)
            yield [
                group.database,
                group.user,
                active[group],
                len(since),
                0,  # who asks for a cancel is let go at once
                0,
                leased - being_canceled - active_cancel,
                active_cancel,
                being_canceled,
                sum(len(ledger.idle) for ledger in ledgers),
                0,  # none has to be checked before it is used again
                sum(int(ledger.resetting) for ledger in ledgers),
                sum(int(ledger.opening) for ledger in ledgers),
                *seconds_and_rest(oldest),
                self._modes.of(group.database, group.user),
                None,
            ]

    def _databases(self) -> Iterator[Row]:
        cluster = self._cluster
        gate = cluster.gate
        settings = cluster.settings
        primary = cluster.primary
        caps = self._listener.caps.databases
        names = {group.database for group in cluster.groups.values()}
        names |= {client.database for client in self._listener.clients}
        sizes = settings.sizes
        names |= self._modes.databases.keys() | sizes.databases.keys() | caps.named
        names |= gate.paused | gate.disabled
        for name in sorted(names):
            pools = [pool for group in cluster.groups_of(name) for pool in group.pools.values()]
            of_each = sizes.of(name, "")
            yield [
                name,
                None if primary is None else primary.host,
                None if primary is None else primary.port,
                name,
                None,
                of_each.size,
                of_each.min_size,
                of_each.reserve_size,
                int(settings.lifetime),
                self._modes.databases.get(name, self._modes.default),
                None,
                sizes.of_database(name)[1],
                sum(pool.ledger.total for pool in pools),
                caps.cap(name),
                caps.count(name),
                int(gate.holds(name)),
                int(name in gate.disabled),
            ]

    def _user_rows(self) -> Iterator[Row]:
        clients = self._listener.clients
        caps = self._listener.caps.users
        sizes = self._cluster.settings.sizes
        names = {*self._users(), *self._modes.users, *sizes.users, *caps.named}
        names |= {client.user for client in clients}
        names |= {visitor.user for visitor in self._visitors}
        for name in sorted(names):
            pools = [pool for pool in self._cluster.pools() if pool.user == name]
            own = sizes.users.get(name, {})
            yield [
                name,
                own.get("size", ""),
                own.get("reserve_size", ""),
                self._modes.users.get(name),
                sizes.of_user(name)[1],
                sum(pool.ledger.total for pool in pools),
                caps.cap(name),
                caps.count(name),
            ]

    def _relays(self) -> Iterator[Relay]:
        for client in self._listener.clients:
            if client.relay is not None:
                yield client.relay

    # --- PgBouncer's: numbers

    def _stats(self) -> Iterator[Row]:
        averages = self._averages.averages(time.monotonic())
        for name, totals in self._averages.totals().items():
            yield [name, *_in_order(totals), *_in_order(averages[name])]

    def _totals(self) -> Iterator[Row]:
        total = add(list(self._averages.totals().values()))
        average = self._averages.average(time.monotonic())
        for prefix, numbers in (("total", total), ("avg", average)):
            for name in COUNTS:
                longer = "ps_" if name in ("client_parse_count", "server_parse_count") else ""
                longer = "ps_" if name == "bind_count" else longer
                yield [f"{prefix}_{longer}{name}", numbers.get(name)]

    def _lists(self) -> Iterator[Row]:
        pools = self._cluster.pools()
        for name, count in (
            ("databases", len(list(self._databases()))),
            ("users", len(list(self._user_rows()))),
            ("peers", len(self._peers())),
            ("pools", len(self._cluster.groups)),
            ("peer_pools", 0),
            ("free_clients", 0),
            ("used_clients", len(self._listener.clients)),
            ("login_clients", self._listener.arriving),
            ("free_servers", 0),
            ("used_servers", sum(len(pool.servers) for pool in pools)),
            ("dns_names", 0),
            ("dns_zones", 0),
            ("dns_queries", 0),
            ("dns_pending", 0),
        ):
            yield [name, count]

    def _mem(self) -> Iterator[Row]:
        """How many there are of each; the memory of all of them together is the process's."""
        for name, things in self._sizes.items():
            yield [name, None, len(things), None, None]
        yield ["process", None, None, None, _resident()]

    def _state(self) -> Iterator[Row]:
        paused = self._cluster.gate.everything
        yield ["active", "no" if paused else "yes"]
        yield ["paused", "yes" if paused else "no"]
        yield ["suspended", "no"]
        yield ["draining", "yes" if self._drain.draining else "no"]

    # --- our own

    def _queries(self) -> Iterator[Row]:
        for one in self._structures.heaviest(MOST_QUERIES):
            timed = int(one.timed)
            microseconds = round(one.seconds * 1e6)
            yield [
                one.id,
                one.text,
                one.calls,
                int(one.primary),
                int(one.replica),
                timed,
                microseconds,
                microseconds // timed if timed else 0,
                one.reason,
            ]

    def _reasons(self) -> Iterator[Row]:
        for code, reason in enumerate(REASONS):
            counts = [self._routed[code * 2 + target] for target in (PRIMARY, REPLICA)]
            yield [reason.value, *counts, SENTENCES[reason]]


def _nothing() -> list[Row]:
    return []


def _in_order(numbers: Numbers) -> Row:
    return [numbers.get(name) for name in COUNTS]


def _by_database(numbers: Mapping[str, Numbers]) -> Iterator[Row]:
    for name, one in numbers.items():
        yield [name, *_in_order(one)]


def _waiting_since(group: PoolGroup, cluster: Cluster) -> list[float]:
    queued = [
        waiter.waiting_since
        for pool in group.pools.values()
        for queue in [
            *pool.ledger.queues.values(),
            () if pool.seats is None else pool.seats.waiting,
        ]
        for waiter in queue
    ]
    return queued + [
        entry.waiter.waiting_since for entry in cluster.homeless if entry.group is group
    ]


def _resident() -> int | None:
    """Bytes of memory of this process; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    size = pages * os.sysconf("SC_PAGE_SIZE")
    return size if size < 1 << 31 else None  # more than PgBouncer's column holds
