"""Logs a client in: first packet, password, and the welcome a PostgreSQL server would give."""

import asyncio
from typing import Final

from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.users import Users
from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.frames import codes, write
from pgproxy.protocol import startup
from pgproxy.protocol.authentication import ClientAuthentication
from pgproxy.protocol.scram import Keyring
from pgproxy.protocol.session import AUTO, parse_route
from pgproxy.protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
)
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.group import OpenedWaiter, PoolGroup
from pgproxy.servers.ledger import Profile
from pgproxy.servers.login import read_frame

ROUTE: Final = "pgproxy.route"

# Encodings in which a multi-byte character may contain an ASCII byte, so that text cannot be read
# byte by byte ("Character Set Support" in the manual: those not allowed on the server).
UNSAFE_ENCODINGS: Final = frozenset({"sjis", "shiftjis", "shiftjis2004", "big5", "gbk", "gb18030", "uhc", "johab", "mskanji", "windows932", "windows936", "windows949", "windows950", "win932", "win936", "win949", "win950"})  # fmt: skip


class LoggedIn:
    """A client that is in; the listener makes its connection and relay."""

    def __init__(
        self,
        message: StartupMessage,
        group: PoolGroup,
        profile: Profile,
        route: int,
        *,
        safe_encoding: bool,
    ) -> None:
        self.message = message
        self.group = group
        self.profile = profile
        self.route = route
        self.safe_encoding = safe_encoding


class ClientLogin:
    def __init__(
        self, cluster: Cluster, users: Users, keys: CancelKeys, keyring: Keyring, method: str
    ) -> None:
        self._cluster = cluster
        self._users = users
        self._keys = keys
        self._keyring = keyring
        self._method = method

    async def first_packet(self, exchange: Exchange) -> StartupMessage | None:
        """What the client wants; None for a cancel request, which is then done.

        Raises `PgError` FATAL, ConnectionError.
        """
        asked: set[type] = set()
        while True:
            header = await exchange.read(4)
            rest = startup.startup_length(header) - 4
            packet = startup.parse_startup(header + await exchange.read(rest))
            if isinstance(packet, CancelRequest):
                await self._keys.cancel(packet.pid, packet.secret)
                return None
            if isinstance(packet, StartupMessage):
                return packet
            assert isinstance(packet, SSLRequest | GSSENCRequest)
            if type(packet) in asked:
                raise PgError(
                    PROTOCOL_VIOLATION, "encryption was requested twice", severity="FATAL"
                )
            asked.add(type(packet))
            exchange.write(b"N")

    async def authenticate(self, exchange: Exchange, message: StartupMessage) -> None:
        """Has the client prove who it is. Raises `PgError` FATAL, ConnectionError."""
        negotiation = startup.negotiate(message)
        if negotiation is not None:
            exchange.write(negotiation)
        await self._authenticate(exchange, message.user)

    async def log_in(self, exchange: Exchange, message: StartupMessage) -> LoggedIn:
        """Authenticates and finds out what to say to the client. Raises `PgError` FATAL."""
        await self.authenticate(exchange, message)
        route, parameters = session_parameters(message)
        group = self._cluster.group(message.database, message.user)
        profile = group.profile(parameters)
        try:
            if not profile.welcome:
                await self._learn_welcome(group, profile)
        except BaseException:
            profile.clients -= 1
            raise
        return LoggedIn(
            message,
            group,
            profile,
            route,
            # A role or a database may bring an encoding that the client did not ask for.
            safe_encoding=_is_safe(parameters) and _is_safe(profile.welcome),
        )

    async def _authenticate(self, exchange: Exchange, user: str) -> None:
        authentication = ClientAuthentication(
            self._method,
            user,
            self._users.entries.get(user),
            self._keyring,
            unknown_kind=self._users.unknown_kind,
        )
        exchange.write(authentication.request())
        while not authentication.done:
            kind, body = await read_frame(exchange, authentication.max_length)
            if kind == codes.F_TERMINATE:
                raise ConnectionError("the client left during log-in")
            if kind != codes.F_PASSWORD:
                raise authentication.unexpected(kind)
            if authentication.is_slow:
                answer = await asyncio.to_thread(authentication.receive, body)
            else:
                answer = authentication.receive(body)
            exchange.write(answer)
        self._users.show(user, authentication.credentials)

    async def _learn_welcome(self, group: PoolGroup, profile: Profile) -> None:
        """Has a server connection opened: what it reports, the client is told."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: PgError | None) -> None:
            if opened.done():
                return
            if error is None:
                opened.set_result(None)
            else:
                opened.set_exception(error)

        target = PRIMARY
        if self._cluster.primary is None and self._cluster.replicas:
            target = REPLICA
        waiter = OpenedWaiter(group, target, profile, done)
        waiter.ask()
        try:
            await opened
        except PgError as error:
            error.severity = "FATAL"
            raise
        except BaseException:
            group.cancel_wait(waiter)
            raise


def session_parameters(message: StartupMessage) -> tuple[int, list[tuple[bytes, bytes]]]:
    """The route that `options` ask for, and the parameters a server is to be given.

    Raises `PgError` FATAL (22023) for an impossible route.
    """
    parameters = [(name, value) for name, value in message.settings if name != ROUTE.encode()]
    route = AUTO
    try:
        for name, value in message.settings:
            if name == ROUTE.encode():
                route = parse_route(value.decode("utf-8", "replace").lower())
        if message.options:
            options = startup.split_options(message.options)
            ours = [value for name, value in options if name.lower() == ROUTE]
            if ours:
                route = parse_route(ours[-1].lower())
                others = [(name, value) for name, value in options if name.lower() != ROUTE]
                text = join_options(others)
            else:
                text = message.options.encode("utf-8", "surrogateescape")
            if text:
                parameters.append((b"options", text))
    except PgError as error:
        error.severity = "FATAL"
        raise
    return route, parameters


def join_options(settings: list[tuple[str, str]]) -> bytes:
    """An `options` parameter with these settings."""
    text = " ".join(f"-c {_escape(name)}={_escape(value)}" for name, value in settings)
    return text.encode("utf-8", "surrogateescape")


def _escape(text: str) -> str:
    # pg_split_opts: a backslash takes the next character as it is, white space separates.
    return "".join(f"\\{char}" if char in " \t\n\v\f\r\\" else char for char in text)


def _is_safe(parameters: list[tuple[bytes, bytes]]) -> bool:
    for name, value in parameters:
        if name.lower() == b"client_encoding":
            plain = "".join(
                char for char in value.decode("ascii", "replace").lower() if char.isalnum()
            )
            if plain in UNSAFE_ENCODINGS:
                return False
        elif name == b"options" and b"client_encoding" in value.lower():
            return False
    return True


def welcome(profile: Profile, pid: int, secret: bytes) -> bytes:
    """Everything between AuthenticationOk and the first query."""
    frames = [write.parameter_status(name, value) for name, value in profile.welcome]
    frames.append(write.backend_key_data(pid, secret))
    frames.append(write.READY_IDLE)
    return b"".join(frames)
