"""How the proxy itself logs in to a server: as `health.user`, with a session of its own making."""

import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from pgproxy.config import Health, Login, LoginError, login_from_folder, login_from_variables
from pgproxy.errors import INVALID_AUTHORIZATION
from pgproxy.servers.sockets import TcpOptions, keep_alive
from pgproxy.servers.tls import NO_TLS, ServerTls

NO_OPTIONS: Final = TcpOptions()


class SecretError(Exception):
    """The proxy's own password is not to be had."""


async def connect(
    host: str,
    port: int,
    health: Health,
    database: str,
    session: Mapping[str, str],
    tcp: TcpOptions = NO_OPTIONS,
    tls: ServerTls = NO_TLS,
) -> Any:
    """An asyncpg.Connection; `session` are its settings. Set a time limit around it."""
    login = _login(health)
    *firsts, last = tls.attempts
    for is_encrypted in firsts:
        try:
            return await _connect(host, port, login, database, session, tcp, tls, is_encrypted)
        except Exception as error:
            if not _may_be_otherwise(error):
                raise
    return await _connect(host, port, login, database, session, tcp, tls, last)


async def _connect(
    host: str,
    port: int,
    login: Login,
    database: str,
    session: Mapping[str, str],
    tcp: TcpOptions,
    tls: ServerTls,
    is_encrypted: bool,
) -> Any:
    connection = await asyncpg.connect(
        host=host,
        port=port,
        user=login.user,
        # Never None: asyncpg would look for PGPASSWORD and ~/.pgpass.
        password=login.password,
        database=database,
        ssl=tls.context if is_encrypted else False,
        direct_tls=False,  # nor for PGSSLNEGOTIATION
        target_session_attrs="any",
        statement_cache_size=0,
        server_settings=dict(session),
    )
    # There is no other way to the socket, neither before nor behind the log-in.
    keep_alive(connection._transport.get_extra_info("socket"), tcp)
    return connection


def _may_be_otherwise(error: Exception) -> bool:
    """Whether it is a matter of being encrypted or not: a handshake that has come to nothing, a
    server that does not speak TLS (which asyncpg says so), one that lets in the others only."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate) == INVALID_AUTHORIZATION  # a wrong password is another one
    return isinstance(error, ssl.SSLError) or type(error) is ConnectionError


def describe(error: Exception) -> str:
    """What a server, or the way to it, said, in one line."""
    text = str(error) or type(error).__name__
    sqlstate = getattr(error, "sqlstate", None)
    return f"{text} (SQLSTATE {sqlstate})" if sqlstate else text


def _login(health: Health) -> Login:
    """Read anew for every connection, so that a rotated secret takes effect. Raises SecretError."""
    try:
        if health.user_env:
            return login_from_variables(health.user_env, os.environ)
        if health.user_dir is not None:
            return login_from_folder(health.user_dir)
    except LoginError as error:
        raise SecretError(str(error)) from error
    return Login(health.user, _password(health), "health.user")


def _password(health: Health) -> str:
    if health.password_file is None:
        return health.password.get_secret_value()
    try:
        return health.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"health.password_file: {error}") from error
