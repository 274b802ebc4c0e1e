"""The stage on which playbooks are played: the real data path, without sockets and without time.

Everything between the two transports is the proxy's own: `ClientConnection`, `Relay`, `PoolGroup`,
`Pool`, `Ledger`, `ServerConnection`. A playbook is a dialogue:

    client >> query("SELECT 1")       the client sends
    replica << query("SELECT 1")      and that, to the byte, is what has reached the replica
    replica >> SELECTED + IDLE        which answers
    client << SELECTED + IDLE         and that is what has reached the client

`<<` takes everything that has arrived since the last `<<`. At the end every client leaves and
`Stage.close` shows that nothing is leased, waited for or counted any more.
"""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pgproxy.clients.connection import ClientConnection
from pgproxy.errors import PgError
from pgproxy.frames import read, write
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.protocol.session import AUTO, Session
from pgproxy.protocol.settings import NOTHING_SET, Origin, SettingsTable
from pgproxy.relay.context import RelayContext
from pgproxy.relay.deadlines import TimeLimitTable
from pgproxy.relay.relay import Relay
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.reasons import REASONS
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from pgproxy.servers.backend import Backend
from pgproxy.servers.balance import Balancer
from pgproxy.servers.cluster import Cluster, PoolSettings
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.context import Clock, PoolContext
from pgproxy.servers.group import PoolGroup
from pgproxy.servers.limiter import Limiter
from pgproxy.servers.modes import PoolModes
from pgproxy.servers.pool import Pool
from pgproxy.servers.reads import ReadRules
from pgproxy.servers.shares import Shares
from pgproxy.servers.sizes import PoolSizes
from pgproxy.telemetry.counters import Counters
from pgproxy.topology.model import Node, Role, Topology

# Pure: what they remember is true for every stage, but what they learn.
ROUTERS: Final = Routers(Memory(), FunctionLists())


# What servers answer.
IDLE: Final = write.READY_IDLE
IN_BLOCK: Final = write.READY_IN_TRANSACTION
FAILED: Final = write.READY_FAILED
BEGUN: Final = write.command_complete(b"BEGIN")
COMMITTED: Final = write.command_complete(b"COMMIT")
ROLLED_BACK: Final = write.command_complete(b"ROLLBACK")
SELECTED: Final = (
    write.row_description([b"n"]) + write.data_row([b"1"]) + write.command_complete(b"SELECT 1")
)
INSERTED: Final = write.command_complete(b"INSERT 0 1")
SET: Final = write.command_complete(b"SET")
CREATED: Final = write.command_complete(b"CREATE TABLE")
PARSED: Final = write.PARSE_COMPLETE
BOUND: Final = write.BIND_COMPLETE
CLOSED: Final = write.CLOSE_COMPLETE
COPY_IN: Final = write.frame(ord("G"), b"\0\0\1\0\0")
ROW: Final = write.data_row([b"1"]) + write.command_complete(b"SELECT 1")


def error(message: str = "no", sqlstate: str = "42P01", severity: str = "ERROR") -> bytes:
    """ErrorResponse of a server."""
    return write.error_response(PgError(sqlstate, message, severity=severity))


def letters(frames: bytes) -> str:
    """The types of whole frames."""
    found = ""
    while frames:
        found += chr(frames[0])
        frames = frames[1 + int.from_bytes(frames[1:5], "big") :]
    return found


def fields(frames: bytes) -> dict[str, str]:
    """The fields of the first ErrorResponse in `frames`; "ready" is the status behind it."""
    while frames[0] != ord("E"):
        frames = frames[1 + int.from_bytes(frames[1:5], "big") :]
    end = 1 + int.from_bytes(frames[1:5], "big")
    return {**read.error_fields(frames[5:end]), "ready": frames[end:][5:6].decode()}


class Transport:
    """An asyncio transport that only remembers. `lost` is told of the end in its own turn."""

    def __init__(self, stage: "Stage") -> None:
        self.stage = stage
        self.arrived = b""  # what the proxy has written
        self.protocol: Any = None
        self.reading = True
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if not self.closed:
            self.arrived += data
        if data == write.TERMINATE:
            self.close()  # as the server does

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.stage.soon.append(lambda: self.protocol.connection_lost(None))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()  # as the server does, once it reads

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def take(self) -> bytes:
        arrived, self.arrived = self.arrived, b""
        return arrived


class Party:
    """A client, or all connections of one server: `>>` it sends, `<<` it has received."""

    def __init__(self, stage: "Stage") -> None:
        self.stage = stage

    def transport(self) -> Transport:
        raise NotImplementedError

    def take(self) -> bytes:
        return self.transport().take()

    def __rshift__(self, data: bytes) -> "Party":
        transport = self.transport()
        assert not transport.closed, f"{self} is gone"
        transport.protocol.data_received(data)
        self.stage.settle()
        return self

    def __lshift__(self, expected: bytes) -> "Party":
        arrived = self.take()
        assert arrived == expected, f"{self}: {letters(arrived)} instead of {letters(expected)}"
        return self

    def leaves(self) -> None:
        """Its end of the connection is closed."""
        transport = self.transport()
        transport.close()
        self.stage.settle()


class Client(Party):
    def __init__(self, stage: "Stage", group: PoolGroup, route: int, name: bytes) -> None:
        super().__init__(stage)
        self.own_transport = Transport(stage)
        self.connection = ClientConnection(self.own_transport, "u", "d", stage.clients_lost.append)
        profile = group.profile([(b"application_name", name)])
        origin = Origin(NOTHING_SET, profile.reported)
        self.relay = Relay(stage.relays, self.connection, group, profile, origin, Session(route))
        self.connection.relay = self.relay
        self.own_transport.set_protocol(self.connection)

    def transport(self) -> Transport:
        return self.own_transport

    def asks(self, data: bytes) -> bytes:
        """Sends, and takes the answer that comes at once."""
        self >> data
        return self.take()

    def __repr__(self) -> str:
        return f"client {self.relay!r}"


class Server(Party):
    """One backend. Speaks with the connection that has last been written to."""

    def __init__(self, stage: "Stage", name: str) -> None:
        super().__init__(stage)
        self.name = name
        self.connections: list[tuple[ServerConnection, Transport]] = []
        self.last: Transport | None = None

    def transport(self) -> Transport:
        for _, transport in self.connections:
            if transport.arrived:
                self.last = transport
        assert self.last is not None, f"{self.name} has received nothing"
        return self.last

    def take(self) -> bytes:
        if not any(transport.arrived for _, transport in self.connections):
            return b""
        return super().take()

    @property
    def backend(self) -> Backend:
        return self.stage.cluster.backends[self.name]

    @property
    def pool(self) -> Pool:
        return self.stage.group.pools[self.name]

    @property
    def open(self) -> int:
        """Connections that are open."""
        return sum(not transport.closed for _, transport in self.connections)

    def __repr__(self) -> str:
        return self.name


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Stage:
    """One primary and `replicas` replicas, pools of `size`, or with these `sizes`."""

    def __init__(
        self,
        *,
        replicas: int = 1,
        size: int = 2,
        max_prepared: int = 100,
        mode: str = "transaction",
        watermark: str = "off",
        max_logins: int = 8,
        rerun_limit: int = 10_000,
        balance: str = "least-loaded",
        zone: str = "",
        warm_up: float = 0.0,
        until_write: bool = False,
        safety_net: bool = True,
        routers: Routers = ROUTERS,
        reads: ReadRules | None = None,
        time_limits: TimeLimitTable | None = None,
        sizes: PoolSizes | None = None,
        reserve_timeout: float = 5.0,
        max_concurrent: int = 0,
        max_concurrent_per_backend: int = 0,
        queue_size: int = 0,
    ) -> None:
        is_limited = max_concurrent > 0 or max_concurrent_per_backend > 0
        self.limiter = Limiter(max_concurrent) if is_limited else None
        self.soon: deque[Callable[[], None]] = deque()
        self.tasks: deque[Coroutine[Any, Any, None]] = deque()
        self.timers: list[Timer] = []
        self.clients: list[Client] = []
        self.clients_lost: list[ClientConnection] = []
        self.cancels: list[tuple[str, int]] = []  # sent, and not yet arrived
        self.cancels_arrive = True
        self.cancels_are_sure = True
        self.logins_end = True  # or they hang, until it is True again
        self.refuses: PgError | None = None  # what a log-in gets
        self.counters = Counters(len(REASONS))
        self.registry = StatementRegistry()
        self.relays = RelayContext(
            routers=routers,
            registry=self.registry,
            settings=SettingsTable(),
            counters=self.counters,
            modes=PoolModes(mode),
            watermark=watermark,
            rerun_limit=rerun_limit,
            until_write=until_write,
            safety_net=safety_net,
            time_limits=time_limits,
        )
        self.cluster = Cluster(
            PoolContext(
                open_server=self._open,
                send_cancel=self._cancel,
                spawn=self.tasks.append,
                call_later=self._call_later,
                unreachable=lambda name: None,
                counters=self.counters,
                clock=Clock(),
                wait_timeout=30.0,
                max_prepared=max_prepared,
                limiter=self.limiter,
                queue_size=queue_size,
            ),
            PoolSettings(
                sizes=PoolSizes(size) if sizes is None else sizes,
                idle_timeout=0,
                lifetime=0,
                failover_wait=30.0,
                switchover_grace=10.0,
                max_logins=max_logins,
                reads=reads,
                reserve_timeout=reserve_timeout,
                max_concurrent_per_backend=max_concurrent_per_backend,
            ),
            Balancer(balance, lambda: 0.0),
            Shares(zone=zone, warm_up=warm_up),
        )
        names = ["p", *[f"r{number}" for number in range(1, replicas + 1)]]
        self.servers = {name: Server(self, name) for name in names}
        self.topology("p", *names[1:])
        self.group = self.cluster.group("d", "u")

    def topology(self, primary: str, *replicas: str, dead: tuple[str, ...] = ()) -> None:
        """Who is what from now on; `primary` may be ""."""
        roles = dict.fromkeys(replicas, Role.REPLICA) | dict.fromkeys(dead, Role.NONE)
        if primary:
            roles[primary] = Role.PRIMARY
        self.apply(
            *[
                Node(name, name, 5432, 1, "", role, role is not Role.NONE, 1, None, "")
                for name, role in sorted(roles.items())
            ]
        )

    def apply(self, *nodes: Node) -> None:
        """These are the servers from now on."""
        self.cluster.apply(Topology(1, nodes, timeline=1))
        self.settle()

    def fresh(self, name: str, as_of: float) -> None:
        """A replica has been seen to be fresh."""
        self.cluster.fresh(name, as_of)
        self.settle()

    def client(self, route: int = AUTO, name: bytes = b"") -> Client:
        client = Client(self, self.group, route, name)
        self.clients.append(client)
        return client

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    def settle(self) -> None:
        """The event loop runs until it has nothing to do."""
        paused = 0
        while self.soon or self.tasks:
            while self.soon:
                self.soon.popleft()()
            if self.tasks:
                task = self.tasks.popleft()
                try:
                    task.send(None)
                except StopIteration:
                    paused = 0
                    continue
                self.tasks.append(task)
                paused += 1
                if paused > len(self.tasks):
                    return

    def time_passes(self, seconds: float) -> None:
        """Deadlines are looked at as if so much later."""
        self.cluster.tick(self.cluster.context.clock.now + seconds)
        self.settle()

    def timers_fire(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.callback()
        self.settle()

    async def _open(self, server: ServerConnection, database: str, user: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        while not self.logins_end:
            await _Pause()
        transport = Transport(self)
        place = self.servers[server.backend.name]
        place.connections.append((server, transport))
        server.adopt(transport, len(place.connections), b"secret")

    async def _cancel(self, backend: Backend, pid: int, secret: bytes) -> bool:
        entry = (backend.name, pid)
        self.cancels.append(entry)
        while not self.cancels_arrive:
            await _Pause()
        self.cancels.remove(entry)
        return self.cancels_are_sure

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        if seconds > 0:
            self.timers.append(timer)
        else:
            self.soon.append(callback)
        return timer

    def check(self) -> None:
        """What must hold at any moment."""
        pools = self.pools
        for pool in pools:
            pool.ledger.check()
        leased = [client.relay.server for client in self.clients if client.relay.server is not None]
        assert len(set(leased)) == len(leased), "leased twice"
        for client in self.clients:
            if client.relay.server is not None:
                assert client.relay.server.owner is client.relay

    @property
    def pools(self) -> list[Pool]:
        return self.cluster.pools()

    def close(self) -> None:
        """Every client leaves; then nothing is held."""
        self.check()
        self.cancels_arrive = True
        self.logins_end = True
        for client in self.clients:
            if not client.own_transport.closed:
                client.leaves()
        self.settle()
        self.timers_fire()  # a reset that no server has answered
        for pool in self.pools:
            ledger = pool.ledger
            ledger.check()
            assert (ledger.leased, ledger.resetting, ledger.waiting, ledger.closing) == (0, 0, 0, 0)
        assert not self.cluster.homeless
        assert all(backend.load == 0 for backend in self.cluster.backends.values())
        assert len(self.registry) == 0
        assert all(profile.clients == 0 for profile in self.group.profiles.values())
        assert len(self.clients_lost) == len(self.clients)


class _Pause:
    def __await__(self) -> Any:
        yield
