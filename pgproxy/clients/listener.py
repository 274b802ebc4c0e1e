"""Accepts clients, logs them in, and keeps count of them. How they go: clients/drain.py."""

import asyncio
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.caps import ClientCaps, Place
from pgproxy.clients.connection import ClientConnection
from pgproxy.clients.farewell import Farewell
from pgproxy.clients.login import ClientLogin, HandshakeError, LoggedIn, welcome
from pgproxy.clients.passthrough import Passthroughs
from pgproxy.clients.port import Port
from pgproxy.config import CONSOLE_DATABASES
from pgproxy.errors import (
    ADMIN_SHUTDOWN,
    INTERNAL_ERROR,
    TOO_MANY_CONNECTIONS,
    PgError,
)
from pgproxy.frames import write
from pgproxy.protocol.startup import StartupMessage
from pgproxy.relay.context import RelayContext
from pgproxy.relay.deadlines import NEVER, TimeLimits
from pgproxy.relay.relay import Relay
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.sockets import TcpOptions, keep_alive
from pgproxy.telemetry.counters import Counters

if TYPE_CHECKING:
    from pgproxy.clients.console import Console

_log = structlog.stdlib.get_logger()

GOING_AWAY = PgError(
    ADMIN_SHUTDOWN,
    "terminating connection due to administrator command",
    severity="FATAL",
    detail="The proxy is shutting down. Connect again.",
)
TOO_SLOW = PgError("57014", "canceling authentication due to timeout", severity="FATAL")


class Listener:
    def __init__(
        self,
        login: ClientLogin,
        keys: CancelKeys,
        relays: RelayContext,
        counters: Counters,
        passthroughs: Passthroughs,
        caps: ClientCaps,
        *,
        tcp: TcpOptions,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._login = login
        self._keys = keys
        self._relays = relays
        self._counters = counters
        self.passthroughs: Final = passthroughs
        self.caps: Final = caps
        self._tcp = tcp
        self._spawn = spawn
        self.port: Final = Port(self._connected)
        self._accepted: set[socket.socket] = set()  # about to log in
        self._arriving: set[asyncio.Timeout] = set()  # of connections that are still logging in
        self._turns_away = False
        self.clients: set[ClientConnection] = set()
        self.console: Console | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Starts to accept; returns the address. Raises OSError."""
        return await self.port.open(host, port)

    @property
    def arriving(self) -> int:
        """Connections that are still logging in."""
        return len(self._accepted) + len(self._arriving)

    def stop_accepting(self) -> None:
        """Closes the port. Who has connected by now is let in."""
        for connection in self.port.close():
            self._connected(connection)

    def turn_away(self) -> None:
        """Refuses those who are still logging in, and whoever else might be about to."""
        if self._turns_away:
            return
        self._turns_away = True
        now = asyncio.get_running_loop().time()
        for timeout in self._arriving:
            if not timeout.expired():
                timeout.reschedule(now)

    def _connected(self, connection: socket.socket) -> None:
        self._accepted.add(connection)
        self._spawn(self._receive(connection))

    async def _receive(self, connection: socket.socket) -> None:
        exchange = Exchange()
        try:
            keep_alive(connection, self._tcp)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: exchange, connection)
        except OSError:  # it has left already
            exchange.close()
        except BaseException:
            exchange.close()
            raise
        finally:
            self._accepted.discard(connection)
            if not exchange.is_connected:
                connection.close()
        if exchange.is_connected:
            await self._let_in(exchange)

    async def _let_in(self, exchange: Exchange) -> None:
        began = asyncio.get_running_loop().time()
        limits = self._relays.time_limits
        timeout = asyncio.timeout(0 if self._turns_away else _seconds(limits.of("", "")))
        self._arriving.add(timeout)
        place: Place | None = None  # until somebody else sees to it
        found: LoggedIn | None = None
        try:
            async with timeout:
                message = await self._login.first_packet(exchange)
                if message is None:
                    exchange.close()
                    return
                if not self._turns_away:
                    seconds = _seconds(limits.of(message.database, message.user))
                    timeout.reschedule(None if seconds is None else began + seconds)
                if message.database in CONSOLE_DATABASES and not message.replication:
                    await self._login.authenticate(exchange, message)
                else:
                    await self.caps.room()
                    place = self.caps.enter()
                    if message.replication:
                        await self.passthroughs.begin(exchange, message, place)
                        place = None
                        return
                    found = await self._login.log_in(exchange, message, place)
            if place is None or found is None:
                self._open_console(exchange, message)
            else:
                self._start(exchange, found, place)
                place = None
        except PgError as error:
            self._refuse(exchange, error)
        except HandshakeError as error:
            self._counters.logins_failed += 1
            peer = exchange.transport.get_extra_info("peername")
            _log.info("tls_handshake_failed", client=str(peer and peer[0]), reason=str(error))
            exchange.close()
        except TimeoutError:
            if not self._turns_away:
                self._counters.login_timeouts += 1
            self._refuse(exchange, GOING_AWAY if self._turns_away else TOO_SLOW)
        except OSError:
            exchange.close()
        except Exception:  # noqa: BLE001 - our own bug must not leave a client without an answer
            _log.exception("login_failed")
            self._refuse(exchange, PgError(INTERNAL_ERROR, "internal error", severity="FATAL"))
        except BaseException:
            exchange.close()
            raise
        finally:
            self._arriving.discard(timeout)
            if place is not None:
                place.leave()

    def _refuse(self, exchange: Exchange, error: PgError) -> None:
        self._counters.logins_failed += 1
        if error.sqlstate == TOO_MANY_CONNECTIONS:
            _log.warning("client_refused", reason=error.message, detail=error.detail)
        if exchange.is_closed:
            exchange.close()
            return
        exchange.write(write.error_response(error))
        Farewell(exchange.transport)

    def _start(self, exchange: Exchange, found: LoggedIn, place: Place) -> None:
        if exchange.is_closed:  # it left while a server was waited for
            found.group.left(found.profile)
            place.leave()
            exchange.close()
            return
        transport = exchange.transport
        message = found.message
        lost = functools.partial(self._lost, place)
        client = ClientConnection(transport, message.user, message.database, lost, Farewell)
        pid, secret = self._keys.add(client, message.version)
        client.relay = Relay(
            self._relays,
            client,
            found.group,
            found.profile,
            found.origin,
            found.session,
        )
        self.clients.add(client)
        self._counters.clients_total += 1
        client.relay.traffic.logins += 1
        exchange.write(welcome(found.origin, pid, secret))
        try:
            exchange.hand_over(cast(Any, client))
        except Exception:  # noqa: BLE001 - as in log-in; what is counted with it goes with it
            _log.exception("client_failed")
            client.relay.fail(PgError(INTERNAL_ERROR, "internal error"))

    def _open_console(self, exchange: Exchange, message: StartupMessage) -> None:
        console = self.console
        assert console is not None
        console.let_in(message.user)
        self._spawn(console.serve(exchange, message))

    def _lost(self, place: Place, client: ClientConnection) -> None:
        place.leave()
        self._keys.remove(client)
        self.clients.discard(client)


def _seconds(limits: TimeLimits) -> float | None:
    """What a log-in may take, as asyncio has it."""
    return None if limits.client_login == NEVER else limits.client_login
