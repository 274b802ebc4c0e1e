"""Logs a client in: first packet, password, and the welcome a PostgreSQL server would give."""

import asyncio
from typing import Final

from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.caps import Place
from pgproxy.clients.users import Users
from pgproxy.errors import (
    INVALID_AUTHORIZATION,
    INVALID_PARAMETER_VALUE,
    PROTOCOL_VIOLATION,
    PgError,
)
from pgproxy.frames import codes, write
from pgproxy.protocol import startup
from pgproxy.protocol.authentication import TRUST, ClientAuthentication
from pgproxy.protocol.scram import Keyring
from pgproxy.protocol.session import MIN_LSN, NOT_SET, ROUTE, TRACE, Session, parse_own
from pgproxy.protocol.settings import (
    NOTHING_SET,
    Origin,
    Settings,
    SettingsTable,
    setting_name,
)
from pgproxy.protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
)
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.exchange import Exchange
from pgproxy.servers.group import PoolGroup
from pgproxy.servers.login import read_frame
from pgproxy.servers.origin import Introduction
from pgproxy.servers.slots import Profile
from pgproxy.servers.tls import ClientTls, common_name, why

# The name in the certificate is the user's ("Certificate Authentication" in the manual).
CERT: Final = "cert"
# Sets of start-up settings that are remembered for each profile.
MAX_ORIGINS: Final = 1000


class HandshakeError(Exception):
    """TLS with a client has come to nothing, which it is told by the end of the connection alone."""


class LoggedIn:
    """A client that is in; the listener makes its connection and relay."""

    def __init__(
        self,
        message: StartupMessage,
        group: PoolGroup,
        profile: Profile,
        origin: Origin,
        session: Session,
    ) -> None:
        self.message = message
        self.group = group
        self.profile = profile
        self.origin = origin
        self.session = session


class ClientLogin:
    def __init__(
        self,
        cluster: Cluster,
        users: Users,
        keys: CancelKeys,
        keyring: Keyring,
        settings: SettingsTable,
        method: str,
        tls: ClientTls,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._users = users
        self._keys = keys
        self._keyring = keyring
        self._method = method
        self._tls = tls

    async def first_packet(self, exchange: Exchange) -> StartupMessage | None:
        """What the client wants; None for a cancel request, which is then done.

        Raises `PgError` FATAL, ConnectionError, HandshakeError.
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
                self._insist_on_tls(exchange)
                return packet
            assert isinstance(packet, SSLRequest | GSSENCRequest)
            if type(packet) in asked:
                raise PgError(
                    PROTOCOL_VIOLATION, "encryption was requested twice", severity="FATAL"
                )
            asked.add(type(packet))
            context = self._tls.context if isinstance(packet, SSLRequest) else None
            if context is None:
                exchange.write(b"N")
            else:
                try:
                    await exchange.offer_tls(context)
                except OSError as error:
                    raise HandshakeError(why(error)) from None

    def _insist_on_tls(self, exchange: Exchange) -> None:
        if self._tls.is_required and not exchange.is_encrypted:
            raise PgError(
                INVALID_AUTHORIZATION,
                "the connection is not encrypted",
                severity="FATAL",
                detail=f'listen.tls_mode is "{self._tls.mode}".',
                hint='Connect with sslmode "require" or better.',
            )

    async def authenticate(self, exchange: Exchange, message: StartupMessage) -> None:
        """Has the client prove who it is. Raises `PgError` FATAL, ConnectionError."""
        negotiation = startup.negotiate(message)
        if negotiation is not None:
            exchange.write(negotiation)
        await self._authenticate(exchange, message.user)

    async def log_in(self, exchange: Exchange, message: StartupMessage, place: Place) -> LoggedIn:
        """Authenticates and finds out what to say to the client. Raises `PgError` FATAL."""
        await self.authenticate(exchange, message)
        await place.identify(message.database, message.user)
        self._cluster.gate.let_in(message.database)
        session, settings = session_settings(message)
        group = self._cluster.group(message.database, message.user)
        given = [(name.encode(), text.encode()) for name, text in settings.items()]
        # There PostgreSQL checks a session_authorization, and takes the user's own all the same.
        if "session_authorization" not in settings:
            try:
                base = self._settings.get(settings)
                profile, origin = await self._begin(group, [], base)
                return LoggedIn(message, group, profile, origin, session)
            except PgError as error:
                if error.sqlstate != "55P02":  # cannot be set after connection start
                    raise
        # Then the connection is begun with them, and serves those alone who ask for the same.
        profile, origin = await self._begin(group, given, NOTHING_SET)
        return LoggedIn(message, group, profile, origin, session)

    async def _begin(
        self, group: PoolGroup, parameters: list[tuple[bytes, bytes]], base: Settings
    ) -> tuple[Profile, Origin]:
        """A client more of a profile, and what it begins with. Raises `PgError` FATAL."""
        profile = group.profile(parameters)
        try:
            return profile, await self._origin(group, profile, base)
        except BaseException:
            group.left(profile)
            raise

    async def _authenticate(self, exchange: Exchange, user: str) -> None:
        entry = self._users.entries.get(user)
        method = self._method
        if method == CERT:
            if user != common_name(exchange.transport):
                raise PgError(
                    INVALID_AUTHORIZATION,
                    f'certificate authentication failed for user "{user}"',
                    severity="FATAL",
                )
            method = TRUST
        authentication = ClientAuthentication(
            method,
            user,
            entry,
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
        self._users.show(entry, authentication.credentials)

    async def _origin(self, group: PoolGroup, profile: Profile, base: Settings) -> Origin:
        """What such a session begins with, which a server is asked the first time."""
        known = profile.origins.get(base)
        if known is not None:
            return known
        told: asyncio.Future[Origin] = asyncio.get_running_loop().create_future()

        def done(origin: Origin | None, error: PgError | None) -> None:
            if told.done():
                return
            if origin is not None:
                told.set_result(origin)
            else:
                assert error is not None
                told.set_exception(error)

        target = PRIMARY
        if self._cluster.primary is None and self._cluster.replicas:
            target = REPLICA
        introduction = Introduction(group, target, profile, base, done)
        introduction.ask()
        try:
            origin = await told
        except PgError as error:
            error.severity = "FATAL"
            raise
        except BaseException:
            introduction.abandon()
            raise
        if len(profile.origins) >= MAX_ORIGINS:
            profile.origins.clear()
        profile.origins[base] = origin
        return origin


def session_settings(message: StartupMessage) -> tuple[Session, dict[str, str]]:
    """A session with the proxy's own settings as the client asks for them, and the other settings
    by name.

    Raises `PgError` FATAL: 22023 for an impossible value or a text that is not UTF-8, 42601 for
    `options` that are not settings.
    """
    # PostgreSQL takes `options` first, so what has a field of its own counts.
    given = startup.split_options(message.options) if message.options else []
    for raw_name, raw_value in message.settings:
        given.append((_text(raw_name), _text(raw_value)))
    own = {ROUTE: NOT_SET, TRACE: 0, MIN_LSN: 0}
    settings: dict[str, str] = {}
    for written, value in given:
        name = setting_name(written)
        if name in own:
            try:
                own[name] = parse_own(name, value.lower())
            except PgError as error:
                error.severity = "FATAL"
                raise
            continue
        settings.pop(name, None)
        settings[name] = value
    session = Session(own[ROUTE], trace=own[TRACE] > 0, min_lsn=own[MIN_LSN])
    return session, settings


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise PgError(
            INVALID_PARAMETER_VALUE,
            "a start-up parameter is not valid UTF-8",
            severity="FATAL",
            detail="Set it with SET once connected.",
        ) from None


def join_options(settings: list[tuple[str, str]]) -> bytes:
    """An `options` parameter with these settings."""
    text = " ".join(f"-c {_escape(name)}={_escape(value)}" for name, value in settings)
    return text.encode("utf-8", "surrogateescape")


def _escape(text: str) -> str:
    # pg_split_opts: a backslash takes the next character as it is, white space separates.
    return "".join(f"\\{char}" if char in " \t\n\v\f\r\\" else char for char in text)


def welcome(origin: Origin, pid: int, secret: bytes) -> bytes:
    """Everything between AuthenticationOk and the first query."""
    frames = [write.parameter_status(name, value) for name, value in origin.reported.items()]
    frames.append(write.backend_key_data(pid, secret))
    frames.append(write.READY_IDLE)
    return b"".join(frames)
