"""TLS, to clients and to servers: which connections have it, and with what.

The modes are libpq's `sslmode` ("SSL Support" in the manual, table "SSL Mode Descriptions"); for clients
they mean what PgBouncer's `client_tls_sslmode` means. Certificates are renewed while the proxy runs, so
each handshake looks whether the files are still those that were read.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

from pgproxy.config import TLS_REQUIRES, TLS_VERIFIES, Listen, Server
from pgproxy.errors import ConfigError

_log = structlog.stdlib.get_logger()

# What both sides say that they will speak (ALPN), from PostgreSQL 17 on.
PROTOCOLS: Final = ["postgresql"]

_Stamps = tuple[tuple[int, int, int], ...]


class _Named(ssl.SSLContext):
    """Looks for `server_name` in the certificate whatever the address that was connected to."""

    server_name = ""

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        if self.server_name:
            named["server_hostname"] = self.server_name
        return super().wrap_bio(*args, **named)


class _Contexts:
    """The context made from some files, made anew when they change."""

    def __init__(self, make: Callable[[], ssl.SSLContext], files: list[Path], key: str) -> None:
        """Raises ConfigError, which names `key`, if the files are of no use."""
        self._make = make
        self._files: Final = files
        self._key: Final = key
        self._stamps = self._stamps_now()
        try:
            self._context = make()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError([self._fault(error)]) from None

    def get(self) -> ssl.SSLContext:
        """Files that are of no use (a renewal may be under way) change nothing, and are logged."""
        stamps = self._stamps_now()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._context = self._make()
            except (OSError, ValueError) as error:
                _log.warning("tls_files_unusable", error=self._fault(error))
            else:
                _log.info("tls_files_read", files=[str(file) for file in self._files])
        return self._context

    def _fault(self, error: Exception) -> str:
        files = ", ".join(str(file) for file in self._files)
        return f"{self._key}: {files}: {getattr(error, 'reason', None) or error}"

    def _stamps_now(self) -> _Stamps:
        """Secrets are exchanged by a symbolic link: the inode tells."""
        stamps = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(stamps)


class ClientTls:
    """Of the connections that clients open."""

    def __init__(self, listen: Listen) -> None:
        """Raises ConfigError."""
        self._listen: Final = listen
        self.mode: Final = listen.tls_mode
        self.is_required: Final = listen.tls_mode in TLS_REQUIRES
        self._contexts: _Contexts | None = None
        files = [listen.tls_cert_file, listen.tls_key_file, listen.tls_ca_file]
        if listen.tls_mode != "disable" and listen.tls_cert_file is not None:
            there = [file for file in files if file is not None]
            self._contexts = _Contexts(self._make, there, "listen.tls_cert_file")

    @property
    def context(self) -> ssl.SSLContext | None:
        """None: clients that ask for TLS are told that there is none."""
        return None if self._contexts is None else self._contexts.get()

    def _make(self) -> ssl.SSLContext:
        listen = self._listen
        assert listen.tls_cert_file is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(PROTOCOLS)
        context.load_cert_chain(listen.tls_cert_file, listen.tls_key_file, _no_password)
        if listen.tls_mode in TLS_VERIFIES:
            context.load_verify_locations(listen.tls_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class ServerTls:
    """Of the connections to servers."""

    def __init__(self, server: Server) -> None:
        """Raises ConfigError."""
        self._server: Final = server
        # Whether a connection is to be encrypted, in the order in which they are tried.
        self.attempts: Final = {
            "disable": (False,),
            "allow": (False, True),
            "prefer": (True, False),
        }.get(server.tls_mode, (True,))
        files = [server.tls_ca_file, server.tls_cert_file, server.tls_key_file]
        there = [file for file in files if file is not None]
        self._contexts: _Contexts | None = None
        if server.tls_mode != "disable":
            self._contexts = _Contexts(self._make, there, "server.tls_mode")

    @property
    def context(self) -> ssl.SSLContext:
        """Not for mode "disable"."""
        assert self._contexts is not None
        return self._contexts.get()

    def _make(self) -> ssl.SSLContext:
        server = self._server
        context = _Named(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(PROTOCOLS)
        context.server_name = server.tls_server_name
        context.check_hostname = server.tls_mode == "verify-full"
        # As in libpq: with "require", an authority that is named is asked.
        verifies = server.tls_mode in TLS_VERIFIES or (
            server.tls_mode == "require" and server.tls_ca_file is not None
        )
        context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
        if server.tls_ca_file is not None:
            context.load_verify_locations(server.tls_ca_file)
        elif verifies:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if server.tls_cert_file is not None:
            context.load_cert_chain(server.tls_cert_file, server.tls_key_file, _no_password)
        return context


def _no_password() -> str:
    """Or OpenSSL would ask whoever sits at the terminal."""
    raise ValueError("the key is encrypted; accepted: one without a password")


NO_TLS: Final = ServerTls(Server(tls_mode="disable"))


def why(error: OSError) -> str:
    """What went wrong with a handshake, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return str(error) or "the connection was closed during the TLS handshake"


def common_name(transport: Any) -> str:
    """Of the subject of the peer's certificate, which was verified: the first; "" if there is none."""
    certificate = transport.get_extra_info("peercert") or {}
    names = [pair for part in certificate.get("subject", ()) for pair in part]
    return next((value for name, value in names if name == "commonName"), "")


def version(transport: Any) -> str:
    """Such as TLSv1.3/TLS_AES_256_GCM_SHA384, as PgBouncer shows it; "" without TLS."""
    cipher = transport.get_extra_info("cipher")
    return "" if cipher is None else f"{cipher[1]}/{cipher[0]}"
