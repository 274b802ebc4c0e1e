"""Replication connections: one client, one server connection of its own, bytes as they come.

What a walsender speaks (BASE_BACKUP, START_REPLICATION, SQL between them, copy data both ways at
once) cannot be pooled or routed, and need not be read. So the client logs in to the proxy as usual,
the proxy logs in to one server with the same start-up parameters, and from then on each side is
written what the other sent. While one side does not take it, the other is not read.

A connection made to the primary ends when that is not the primary any more, and any connection ends
when its server is cut off (servers/cluster.py) or leaves the list of discovery.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.caps import Place, Quotas, limited
from pgproxy.clients.farewell import Farewell
from pgproxy.clients.login import ClientLogin, join_options
from pgproxy.errors import (
    CANNOT_CONNECT_NOW,
    CONNECTION_FAILURE,
    FEATURE_NOT_SUPPORTED,
    INVALID_AUTHORIZATION,
    INVALID_PARAMETER_VALUE,
    TOO_MANY_CONNECTIONS,
    PgError,
)
from pgproxy.frames import write
from pgproxy.protocol.startup import StartupMessage, split_options
from pgproxy.servers.backend import Backend
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.group import REMOVED
from pgproxy.servers.login import Greeting, ServerLogin
from pgproxy.servers.secured import is_encrypted
from pgproxy.telemetry.counters import Counters

_log = structlog.stdlib.get_logger()

# The setting in `options` that names the backend.
BACKEND: Final = "pgproxy.backend"
# Seconds for one side to take what the other, which is gone, has sent.
LAST_WORDS: Final = 60.0
SUCCEEDED: Final = "another server is the primary now"


@dataclass(frozen=True)
class Rules:
    """`[replication]` of the configuration."""

    allow: bool = False
    users: tuple[str, ...] = ()
    backend: str = ""
    max_connections: int = 10


class _Side(asyncio.Protocol):
    """What comes from `here` goes to the peer's."""

    def __init__(self, here: asyncio.Transport, on_lost: Callable[[], None]) -> None:
        self.here: Final = here
        self.peer: _Side = self
        self.is_lost = False
        self.has_ended = False  # it sends nothing more
        self._on_lost = on_lost

    def data_received(self, chunk: bytes) -> None:
        if not self.peer.here.is_closing():
            self.peer.here.write(chunk)

    def pause_writing(self) -> None:
        self.peer.set_reading(False)

    def resume_writing(self) -> None:
        self.peer.set_reading(True)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._on_lost()

    def set_reading(self, reading: bool) -> None:
        if self.has_ended or self.here.is_closing():
            return
        if reading:
            self.here.resume_reading()
        else:
            self.here.pause_reading()

    def end_writing(self) -> None:
        """The other side has nothing more to say."""
        if self.here.is_closing():
            return
        if is_encrypted(self.here):  # with TLS there is no end of one way only
            self.here.close()
            return
        try:
            self.here.write_eof()
        except OSError:  # it has been reset
            self.here.abort()


class _Client(_Side):
    def eof_received(self) -> bool:
        """It may still listen. If it does not, what comes next from the server brings a reset."""
        self.has_ended = True
        self.peer.end_writing()
        return not self.peer.is_lost


class _Server(_Side):
    def eof_received(self) -> bool:
        """PostgreSQL closes both ways."""
        return False


class Passthrough:
    """One client and its server, once both are logged in."""

    def __init__(
        self,
        client: asyncio.Transport,
        server: asyncio.Transport,
        backend: Backend,
        greeting: Greeting,
        place: Place,
        *,
        follows_primary: bool,
        cancel_server: Callable[["Passthrough", Callable[[], None]], None],
        on_end: Callable[["Passthrough", str], None],
    ) -> None:
        self.backend: Final = backend
        self.greeting: Final = greeting
        self.place: Final = place
        self.follows_primary: Final = follows_primary
        self.pid = 0  # of the key that the client has
        self.secret = b""
        self.is_leaving = False
        self._cancel_server = cancel_server
        self._on_end = on_end
        self._reason = ""
        self.client_side: Final = _Client(client, self._client_gone)
        self.server_side: Final = _Server(server, self._server_gone)
        self.client_side.peer, self.server_side.peer = self.server_side, self.client_side

    def cancel(self, done: Callable[[], None]) -> None:
        """A CancelRequest has come for it; `done` is called once that has had its effect."""
        self._cancel_server(self, done)

    def cut(self, reason: str) -> None:
        """Ends it at once; what is still on its way is dropped."""
        self.is_leaving = True
        self._reason = self._reason or reason
        self.server_side.here.abort()
        self.client_side.here.abort()

    def see_off(self, reason: str) -> None:
        """Ends it, but the client is still given what the server has sent."""
        self.is_leaving = True
        self._reason = self._reason or reason
        self.server_side.here.abort()
        if not self.client_side.is_lost:
            Farewell(self.client_side.here, lambda: self.client_side.connection_lost(None))

    def _client_gone(self) -> None:
        self._reason = self._reason or "the client has left"
        server = self.server_side
        if server.is_lost:
            self._on_end(self, self._reason)
            return
        # What it sent last, such as Terminate, is still for the server.
        server.here.close()
        asyncio.get_running_loop().call_later(LAST_WORDS, server.here.abort)

    def _server_gone(self) -> None:
        self._reason = self._reason or "the server has closed the connection"
        client = self.client_side
        if client.is_lost:
            self._on_end(self, self._reason)
        elif client.has_ended:
            client.here.close()
        else:
            # Not closed: with bytes unread in the socket that would be a reset, which may overtake
            # the server's last words.
            client.set_reading(True)
            client.end_writing()
            asyncio.get_running_loop().call_later(LAST_WORDS, client.here.abort)


class Passthroughs:
    """All of them. `open` is read by the drain and the metrics."""

    def __init__(
        self,
        rules: Rules,
        login: ClientLogin,
        servers: ServerLogin,
        cluster: Cluster,
        keys: CancelKeys,
        counters: Counters,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        quotas: Quotas | None = None,
    ) -> None:
        self._rules = rules
        self._quotas = quotas
        self._limit = limited(("replication",), rules.max_connections, quotas)
        self._login = login
        self._servers = servers
        self._cluster = cluster
        self._keys = keys
        self._counters = counters
        self._spawn = spawn
        self.open: set[Passthrough] = set()
        cluster.on_cut = self._cut_server

    def __len__(self) -> int:
        return len(self.open)

    async def begin(self, exchange: Exchange, message: StartupMessage, place: Place) -> None:
        """Logs the client in, and its server; then its `place` is left at its end. Raises `PgError`
        FATAL, ConnectionError."""
        rules = self._rules
        if not rules.allow:
            raise _refusal(
                FEATURE_NOT_SUPPORTED,
                "replication connections are not allowed",
                "replication.allow is false. Set it to true, or connect to the PostgreSQL server "
                "itself.",
            )
        await self._login.authenticate(exchange, message)
        if rules.users and message.user not in rules.users:
            raise _refusal(
                INVALID_AUTHORIZATION,
                f'user "{message.user}" may not open replication connections here',
                "replication.users does not name it.",
            )
        named, parameters = server_parameters(message)
        backend = self._choose(named)
        if self._quotas is not None:
            await self._quotas.room(self._limit)
        if not self._limit.has_room:
            raise _refusal(
                TOO_MANY_CONNECTIONS,
                "too many replication connections",
                f"replication.max_connections is {rules.max_connections}.",
            )
        self._limit.used += 1
        try:
            server, greeting = await self._servers.open_alone(backend, message.user, parameters)
            try:
                self._start(exchange, message, server, greeting, backend, named, place)
            except BaseException:
                server.close()
                raise
        except BaseException:
            self._limit.used -= 1
            raise

    def follow_topology(self) -> None:
        """The cluster has taken over a new topology."""
        cluster = self._cluster
        for one in list(self.open):
            if cluster.backends.get(one.backend.name) is not one.backend:
                self._cut(one, REMOVED)
            elif one.follows_primary and cluster.primary not in (None, one.backend):
                self._cut(one, SUCCEEDED)

    def see_off(self) -> int:
        """The proxy is shutting down, and has no more time. Returns how many there were."""
        leaving = [one for one in self.open if not one.is_leaving]
        for one in leaving:
            one.see_off("the proxy is shutting down")
        return len(leaving)

    # --- inside -------------------------------------------------------------------------------

    def _start(
        self,
        exchange: Exchange,
        message: StartupMessage,
        server: Exchange,
        greeting: Greeting,
        backend: Backend,
        named: str,
        place: Place,
    ) -> None:
        if self._choose(named) is not backend:
            raise _not_now(backend.name, SUCCEEDED)
        if server.is_closed:
            raise _refusal(
                CONNECTION_FAILURE, "the connection to the server was lost", backend.name
            )
        if exchange.is_closed:  # it left while the server was waited for
            raise ConnectionError("the client left during log-in")
        one = Passthrough(
            exchange.transport,
            server.transport,
            backend,
            greeting,
            place,
            follows_primary=not (named or self._rules.backend),
            cancel_server=self._cancel,
            on_end=self._ended,
        )
        self._keys.add(one, message.version)
        self.open.add(one)
        self._counters.replication_total += 1
        _log.info(
            "replication_begins",
            user=message.user,
            backend=backend.name,
            server_pid=greeting.pid,
            replication=message.replication,
        )
        for name, value in greeting.reported.items():
            exchange.write(write.parameter_status(name, value))
        exchange.write(write.backend_key_data(one.pid, one.secret) + write.READY_IDLE)
        server.hand_over(one.server_side)
        exchange.hand_over(one.client_side)

    def _choose(self, named: str) -> Backend:
        cluster = self._cluster
        name = named or self._rules.backend
        if not name:
            if cluster.primary is None:
                raise _refusal(
                    CANNOT_CONNECT_NOW,
                    "no primary server is available",
                    "Try again, or name a replica in replication.backend or with "
                    f"options=-c {BACKEND}=NAME.",
                )
            return cluster.primary
        found = cluster.backends.get(name)
        if found is None:
            raise _refusal(
                INVALID_PARAMETER_VALUE if named else CANNOT_CONNECT_NOW,
                f'there is no backend "{name}"',
                f"Those there are: {', '.join(sorted(cluster.backends)) or 'none'}. The name comes "
                f"from {f'options=-c {BACKEND}' if named else 'replication.backend'}.",
            )
        if not cluster.serves(found):
            node = cluster.topology.node(name) if cluster.topology is not None else None
            raise _not_now(name, node.error if node is not None and node.error else "no role yet")
        return found

    def _cancel(self, one: Passthrough, done: Callable[[], None]) -> None:
        async def send() -> None:
            try:
                await self._servers.send_cancel(one.backend, one.greeting.pid, one.greeting.secret)
            finally:
                done()

        self._counters.cancels += 1
        self._spawn(send())

    def _cut_server(self, name: str, reason: str) -> None:
        for one in list(self.open):
            if one.backend.name == name:
                self._cut(one, reason)

    def _cut(self, one: Passthrough, reason: str) -> None:
        if not one.is_leaving and not one.server_side.is_lost:
            self._counters.replication_cut += 1
        one.cut(reason)

    def _ended(self, one: Passthrough, reason: str) -> None:
        self._keys.remove(one)
        self.open.discard(one)
        self._limit.used -= 1
        one.place.leave()
        _log.info(
            "replication_ends", backend=one.backend.name, server_pid=one.greeting.pid, why=reason
        )


def server_parameters(message: StartupMessage) -> tuple[str, list[tuple[bytes, bytes]]]:
    """The backend that the client names, if any, and what the server is to be given besides the
    user. Raises `PgError` FATAL (42601) for `options` that cannot be read."""
    named = ""
    parameters: list[tuple[bytes, bytes]] = []
    for name, value in message.parameters:
        if name == BACKEND.encode():
            named = value.decode("utf-8", "replace")
        elif name == b"options" and BACKEND.encode() in value.lower():
            settings = split_options(value.decode("utf-8", "surrogateescape"))
            for key, text in settings:
                if key.lower() == BACKEND:
                    named = text
            others = join_options([one for one in settings if one[0].lower() != BACKEND])
            if others:
                parameters.append((name, others))
        elif name != b"user":
            parameters.append((name, value))
    return named, parameters


def _not_now(name: str, why: str) -> PgError:
    return _refusal(
        CANNOT_CONNECT_NOW, f'backend "{name}" cannot be used now', f"{why}. Try again."
    )


def _refusal(sqlstate: str, message: str, detail: str) -> PgError:
    return PgError(sqlstate, message, severity="FATAL", detail=detail)
