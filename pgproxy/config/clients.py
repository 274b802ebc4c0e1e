"""What applications meet: [listen] and [auth]."""

from pathlib import Path
from typing import Final, Literal

from pgproxy.config.kinds import (
    Folders,
    KeepAliveProbes,
    KeepAliveSeconds,
    Name,
    OptionalFile,
    PortOrAny,
    Positive,
    Seconds,
    Section,
    Text,
    Texts,
    TlsMode,
    UserTimeout,
    Variables,
    Workers,
)

# The virtual databases of the admin console.
CONSOLE_DATABASES: Final = frozenset({"pgproxy", "pgbouncer"})


class Listen(Section):
    """Where applications connect."""

    host: Name = "0.0.0.0"  # noqa: S104 - a proxy in a container listens on every address
    port: PortOrAny = 5432
    max_clients: Positive = 10_000
    workers: Workers = 1
    drain_accept_seconds: Seconds = 10.0
    drain_timeout: Seconds = 60.0
    tcp_keepalive_idle: KeepAliveSeconds = 30
    tcp_keepalive_interval: KeepAliveSeconds = 10
    tcp_keepalive_count: KeepAliveProbes = 3
    tcp_user_timeout: UserTimeout = 0.0
    tls_cert_file: OptionalFile = None
    tls_key_file: OptionalFile = None
    tls_ca_file: OptionalFile = None
    tls_mode: TlsMode = "prefer"


class Auth(Section):
    """How a client proves who it is."""

    method: Literal["trust", "password", "md5", "scram-sha-256", "cert", "hba"] = "scram-sha-256"
    users_file: OptionalFile = Path("users.txt")
    users_env: Variables = ()
    users_dirs: Folders = ()
    query: Text = ""
    hba_file: OptionalFile = None
    admin_users: Texts = ()
    stats_users: Texts = ()

    @property
    def needs_users(self) -> bool:
        """Whether nobody gets in whose password is not known."""
        return self.method not in ("trust", "cert")
