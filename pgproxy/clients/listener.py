"""Accepts clients, logs them in, and keeps count of them until the proxy has drained."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import structlog

from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.connection import ClientConnection
from pgproxy.clients.login import ClientLogin, LoggedIn, welcome
from pgproxy.errors import (
    ADMIN_SHUTDOWN,
    INTERNAL_ERROR,
    TOO_MANY_CONNECTIONS,
    PgError,
)
from pgproxy.frames import write
from pgproxy.protocol.session import Session
from pgproxy.relay import Relay, RelayContext
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.login import keep_alive
from pgproxy.telemetry.counters import Counters

_log = structlog.stdlib.get_logger()

# Connections the kernel keeps until we accept them; it takes the smaller of this and somaxconn.
BACKLOG = 4096

GOING_AWAY = PgError(
    ADMIN_SHUTDOWN,
    "terminating connection due to administrator command",
    severity="FATAL",
    detail="The proxy is shutting down. Connect again.",
)


class Listener:
    def __init__(
        self,
        login: ClientLogin,
        keys: CancelKeys,
        relays: RelayContext,
        counters: Counters,
        *,
        max_clients: int,
        login_timeout: float,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._login = login
        self._keys = keys
        self._relays = relays
        self._counters = counters
        self._max_clients = max_clients
        self._login_timeout = login_timeout or None  # 0 = no limit
        self._spawn = spawn
        self._server: asyncio.Server | None = None
        self._unknown = 0  # connections that are still logging in
        self.clients: set[ClientConnection] = set()
        self.draining = False

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Starts to accept; returns the address. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Exchange(self._connected), host, port, backlog=BACKLOG
        )
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    def stop_accepting(self) -> None:
        self.draining = True
        if self._server is not None:
            self._server.close()

    async def drain(self, seconds: float) -> int:
        """Disconnects every client at the end of its transaction, all that remain after
        `seconds`. Returns how many were cut off."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.clients and loop.time() < deadline:
            for client in list(self.clients):
                relay = client.relay
                if relay is None or relay.at_rest:
                    self._dismiss(client)
            await asyncio.sleep(0.02)
        remaining = len(self.clients)
        for client in list(self.clients):
            self._dismiss(client)
        await asyncio.sleep(0.02)
        for client in list(self.clients):
            client.abort()
        return remaining

    def _dismiss(self, client: ClientConnection) -> None:
        if client.relay is not None:
            client.relay.fail(GOING_AWAY)
        else:
            client.close()

    def _connected(self, exchange: Exchange) -> None:
        self._spawn(self._receive(exchange))

    async def _receive(self, exchange: Exchange) -> None:
        self._unknown += 1
        try:
            async with asyncio.timeout(self._login_timeout):
                message = await self._login.first_packet(exchange)
                if message is None:
                    exchange.close()
                    return
                self._admit()
                found = await self._login.log_in(exchange, message)
            self._start(exchange, found)
        except PgError as error:
            self._refuse(exchange, error)
        except TimeoutError:
            self._refuse(
                exchange,
                PgError("57014", "canceling authentication due to timeout", severity="FATAL"),
            )
        except ConnectionError:
            exchange.close()
        except Exception:  # noqa: BLE001 - our own bug must not leave a client without an answer
            _log.exception("login_failed")
            self._refuse(exchange, PgError(INTERNAL_ERROR, "internal error", severity="FATAL"))
        except BaseException:
            exchange.close()
            raise
        finally:
            self._unknown -= 1

    def _admit(self) -> None:
        if self.draining:
            raise GOING_AWAY
        if len(self.clients) >= self._max_clients:
            self._counters.clients_refused += 1
            raise PgError(
                TOO_MANY_CONNECTIONS,
                "sorry, too many clients already",
                severity="FATAL",
                detail=f"listen.max_clients is {self._max_clients}.",
            )

    def _refuse(self, exchange: Exchange, error: PgError) -> None:
        self._counters.logins_failed += 1
        exchange.write(write.error_response(error))
        exchange.close()

    def _start(self, exchange: Exchange, found: LoggedIn) -> None:
        if exchange.is_closed:  # it left while a server was waited for
            found.profile.clients -= 1
            exchange.close()
            return
        transport = exchange.transport
        message = found.message
        client = ClientConnection(transport, message.user, message.database, self._lost)
        pid, secret = self._keys.add(client, message.version)
        client.relay = Relay(
            self._relays,
            client,
            found.group,
            found.profile,
            Session(found.route),
            safe_encoding=found.safe_encoding,
        )
        self.clients.add(client)
        self._counters.clients_total += 1
        keep_alive(transport.get_extra_info("socket"))
        exchange.write(welcome(found.profile, pid, secret))
        exchange.hand_over(cast(Any, client))

    def _lost(self, client: ClientConnection) -> None:
        self._keys.remove(client)
        self.clients.discard(client)
