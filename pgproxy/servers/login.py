"""Connects to a PostgreSQL server and logs in, as the client whose session it will serve."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable

from pgproxy.errors import (
    FEATURE_NOT_SUPPORTED,
    INVALID_AUTHORIZATION,
    PROTOCOL_VIOLATION,
    PgError,
)
from pgproxy.frames import codes, read, write
from pgproxy.protocol.authentication import Credentials, ServerAuthentication
from pgproxy.protocol.scram import Keyring
from pgproxy.servers import descriptors
from pgproxy.servers.backend import Backend
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.sockets import TcpOptions, keep_alive
from pgproxy.servers.tls import NO_TLS, ServerTls, why

UNABLE_TO_CONNECT = "08001"
# What poolers and PostgreSQL's relatives say to a minor version of the protocol they do not know,
# instead of negotiating one.
REFUSES_VERSION = (FEATURE_NOT_SUPPORTED, PROTOCOL_VIOLATION)

# Seconds for a server to act on a CancelRequest. The connection it is meant for waits meanwhile, and
# costs no more than a log-in to replace.
CANCEL_TIMEOUT = 5.0
# Bytes of one frame of a log-in; PostgreSQL's largest are error messages.
MAX_LOGIN_FRAME = 1 << 20


class _NoTlsError(Exception):
    """Why a connection is not encrypted."""


class Greeting:
    """What a server has said of itself by the end of a log-in."""

    def __init__(self) -> None:
        self.reported: dict[bytes, bytes] = {}
        self.pid = 0
        self.secret = b""


class ServerLogin:
    """Opens server connections. `credentials` says what is known of a user."""

    def __init__(
        self,
        keyring: Keyring,
        credentials: Callable[[str], Credentials],
        *,
        connect_timeout: float,
        login_timeout: float,
        tcp: TcpOptions,
        tls: ServerTls = NO_TLS,
    ) -> None:
        self._keyring = keyring
        self._credentials = credentials
        self._connect_timeout = connect_timeout or None  # 0 = no limit
        self._login_timeout = login_timeout or None  # the same
        self._tcp = tcp
        self._tls = tls

    async def open(self, server: ServerConnection, database: str, user: str) -> None:
        """Logs `server` in and hands it its transport. Raises `PgError`."""
        profile = server.profile
        name = database.encode("utf-8", "surrogateescape")
        exchange, greeting = await self.open_alone(
            server.backend, user, [(b"database", name), *profile.parameters]
        )
        if server.keeper.serves_clients:
            async with _may_run(server, exchange), self._in_time(exchange, server.backend):
                profile.isolation, profile.read_only = await _defaults(exchange)
        async with self._in_time(exchange, server.backend):
            reported = greeting.reported
            if reported != profile.reported and (server.backend.writable or not profile.reported):
                profile.reported = reported
            server.reported = profile.reported if reported == profile.reported else reported
            if exchange.is_closed:
                raise ConnectionError("the server closed the connection after the log-in")
            server.adopt(exchange.transport, greeting.pid, greeting.secret)
            exchange.hand_over(server)

    async def open_alone(
        self, backend: Backend, user: str, parameters: list[tuple[bytes, bytes]]
    ) -> tuple[Exchange, Greeting]:
        """A connection, logged in, that belongs to no pool. Raises `PgError`."""
        attempts = list(self._tls.attempts)
        refusal: PgError | None = None
        while True:
            try:
                exchange = await self._reach(backend, attempts)
            except PgError as error:
                raise (error if refusal is None else refusal) from None
            if exchange.transport.get_extra_info("socket").fileno() >= descriptors.for_pools():
                exchange.close()
                raise _unreachable(backend, descriptors.NONE_LEFT)
            try:
                async with self._in_time(exchange, backend):
                    return exchange, await self._log_in(exchange, backend, user, parameters)
            except PgError as error:
                if (
                    error.sqlstate == INVALID_AUTHORIZATION
                    and len(attempts) > 1
                    and attempts[0] == exchange.is_encrypted
                ):
                    del attempts[0]  # pg_hba.conf may let it in the other way
                    refusal = error
                    continue
                if error.sqlstate not in REFUSES_VERSION or not backend.is_asked_for_long_keys:
                    raise
                backend.is_asked_for_long_keys = False

    async def send_cancel(self, backend: Backend, pid: int, secret: bytes) -> bool:
        """Sends a CancelRequest and waits until the server has acted on it (it then closes). False:
        that is not known, so it may still hit whatever the connection does later."""
        try:
            exchange = await self._reach(backend, list(self._tls.attempts))
        except PgError:
            return True  # a server that cannot be reached has other troubles than this query
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                exchange.write(write.cancel_request(pid, secret))
                return await exchange.ended()
        except TimeoutError:
            return False
        finally:
            exchange.close()

    async def _reach(self, backend: Backend, attempts: list[bool]) -> Exchange:
        """A connection, encrypted if the first of the attempts is to be; those that come to nothing
        are taken out. Raises `PgError`."""
        while True:
            exchange = await self._connect(backend)
            if not attempts[0]:
                return exchange
            try:
                async with self._in_time(exchange, backend):
                    await self._encrypt(exchange, backend, needs_it=len(attempts) == 1)
                    return exchange
            except _NoTlsError as error:
                del attempts[0]
                if not attempts:
                    raise _unreachable(backend, str(error)) from None

    async def _encrypt(self, exchange: Exchange, backend: Backend, *, needs_it: bool) -> None:
        """Asks for TLS. Raises _NoTlsError, ConnectionError, `PgError`."""
        exchange.write(write.SSL_REQUEST)
        answer = await exchange.read(1)
        if answer == b"N" and not needs_it:
            return
        if answer != b"S":
            raise _NoTlsError("it does not speak TLS (server.tls_mode)")
        try:
            await exchange.take_tls(self._tls.context, backend.host)
        except OSError as error:
            raise _NoTlsError(why(error)) from None

    async def _connect(self, backend: Backend) -> Exchange:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                transport, exchange = await loop.create_connection(
                    Exchange, backend.host, backend.port
                )
        except TimeoutError:
            raise _unreachable(
                backend, f"no connection in {self._connect_timeout:g} s (server.connect_timeout)"
            ) from None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise _unreachable(backend, descriptors.NONE_LEFT) from None
            raise _unreachable(backend, error.strerror or str(error)) from None
        keep_alive(transport.get_extra_info("socket"), self._tcp)
        return exchange

    @contextlib.asynccontextmanager
    async def _in_time(self, exchange: Exchange, backend: Backend) -> AsyncIterator[None]:
        """What must be done before the time-out; whatever goes wrong closes the connection."""
        try:
            async with asyncio.timeout(self._login_timeout):
                yield
        except TimeoutError:
            exchange.close()
            raise _unreachable(
                backend,
                f"no answer to the log-in in {self._login_timeout:g} s (server.login_timeout)",
            ) from None
        except ConnectionError as error:
            exchange.close()
            raise _unreachable(backend, str(error)) from None
        except BaseException:
            exchange.close()
            raise

    async def _log_in(
        self,
        exchange: Exchange,
        backend: Backend,
        user: str,
        parameters: list[tuple[bytes, bytes]],
    ) -> Greeting:
        name = user.encode("utf-8", "surrogateescape")
        # A server of a version before 18 answers that it speaks 3.0, and goes on in that: nothing
        # after the log-in differs but the length of the secret.
        version = codes.PROTOCOL_3_2 if backend.is_asked_for_long_keys else codes.PROTOCOL_3_0
        exchange.write(write.startup_message(version, [(b"user", name), *parameters]))
        authentication = ServerAuthentication(user, self._credentials(user), self._keyring)
        greeting = Greeting()
        while True:
            kind, body = await read_frame(exchange)
            if kind == codes.B_AUTHENTICATION:
                if authentication.is_slow:
                    answer = await asyncio.to_thread(authentication.receive, body)
                else:
                    answer = authentication.receive(body)
                if answer is not None:
                    exchange.write(answer)
            elif kind == codes.B_ERROR_RESPONSE:
                raise read.server_error(body, "the server refused the log-in", severity="FATAL")
            elif kind == codes.B_NEGOTIATE_PROTOCOL_VERSION:
                _check_version(backend, body)
            elif not authentication.done:
                # Whoever skips the proof of the password is not the server we know.
                raise _unexpected(backend, kind)
            elif kind == codes.B_PARAMETER_STATUS:
                name, value = read.parameter_status(body)
                greeting.reported[name] = value
            elif kind == codes.B_BACKEND_KEY_DATA:
                greeting.pid, greeting.secret = read.backend_key_data(body)
            elif kind == codes.B_READY_FOR_QUERY:
                return greeting
            elif kind != codes.B_NOTICE_RESPONSE:
                raise _unexpected(backend, kind)


@contextlib.asynccontextmanager
async def _may_run(server: ServerConnection, exchange: Exchange) -> AsyncIterator[None]:
    """A question is a statement like others where it is limited how many run. It may be long before
    it is this one's turn; a server that leaves meanwhile is found to have left then. Raises `PgError`
    if it will not be."""
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def has_come(error: PgError | None) -> None:
        if turn.done():
            return
        if error is None:
            turn.set_result(None)
        else:
            turn.set_exception(error)

    try:
        if not server.keeper.may_ask(server, has_come):
            await turn
        yield
    except BaseException:
        exchange.close()
        raise
    finally:
        server.keeper.has_asked(server)


def _check_version(backend: Backend, body: bytes) -> None:
    """NegotiateProtocolVersion: older servers name the newest version they speak."""
    version, unknown = read.negotiate_protocol_version(body)
    if not codes.PROTOCOL_3_0 <= version < codes.PROTOCOL_3_2 or unknown:
        raise PgError(
            PROTOCOL_VIOLATION,
            f"{backend.name} offers protocol {version >> 16}.{version & 0xFFFF}, "
            "which nobody has asked for",
            severity="FATAL",
        )


async def _defaults(exchange: Exchange) -> tuple[bytes, bool]:
    """What the role and the database make of default_transaction_isolation (b"" if it cannot be
    had) and default_transaction_read_only: no ParameterStatus tells, and they decide where a
    transaction may run."""
    exchange.write(
        write.query(b"SHOW default_transaction_isolation;SHOW default_transaction_read_only")
    )
    found = []
    while True:
        kind, body = await read_frame(exchange)
        if kind == codes.B_DATA_ROW:
            found.append(body[6:])  # int16 one column, int32 its length
        elif kind == codes.B_READY_FOR_QUERY:
            return (found[0], found[1] == b"on") if len(found) == 2 else (b"", False)


async def read_frame(exchange: Exchange, limit: int = MAX_LOGIN_FRAME) -> tuple[int, bytes]:
    """Type and body of the next frame. Raises `PgError` (08P01), ConnectionError."""
    header = await exchange.read(5)
    length = int.from_bytes(header[1:], "big")
    if not 4 <= length <= limit:
        raise PgError(PROTOCOL_VIOLATION, "invalid message length", severity="FATAL")
    return header[0], await exchange.read(length - 4)


def _unreachable(backend: Backend, why: str) -> PgError:
    return PgError(
        UNABLE_TO_CONNECT,
        f"could not connect to {backend.name} ({backend.host}:{backend.port}): {why}",
        severity="FATAL",
    )


def _unexpected(backend: Backend, kind: int) -> PgError:
    return PgError(
        PROTOCOL_VIOLATION,
        f"{backend.name} sent message type {kind} during log-in",
        severity="FATAL",
    )
