"""Connections to PostgreSQL: [server], [pool] and [replication]."""

from typing import Annotated, Literal

from pydantic import Field

from pgproxy.config.kinds import (
    Cap,
    Count,
    KeepAliveProbes,
    KeepAliveSeconds,
    OptionalFile,
    Positive,
    Seconds,
    SecondsOrOff,
    Section,
    Switch,
    Text,
    Texts,
    TlsMode,
    UserTimeout,
)

PoolMode = Literal["transaction", "session", "statement"]


class Server(Section):
    """How the proxy logs in to PostgreSQL."""

    connect_timeout: SecondsOrOff = 3.0
    login_timeout: SecondsOrOff = 15.0
    max_logins_at_once: Positive = 8
    tcp_keepalive_idle: KeepAliveSeconds = 30
    tcp_keepalive_interval: KeepAliveSeconds = 10
    tcp_keepalive_count: KeepAliveProbes = 3
    # A pod whose node has died answers nothing, not even a refusal.
    tcp_user_timeout: UserTimeout = 60.0
    tls_mode: TlsMode = "prefer"
    tls_ca_file: OptionalFile = None
    tls_cert_file: OptionalFile = None
    tls_key_file: OptionalFile = None
    tls_server_name: Text = ""


class PoolEntry(Section):
    """What is different for one database or one user; `max_connections` counts on each backend."""

    mode: PoolMode | None = None
    size: Positive | None = None
    min_size: Count | None = None
    reserve_size: Count | None = None
    guaranteed_size: Count | None = None
    max_connections: Cap | None = None


PoolEntries = Annotated[
    dict[str, PoolEntry],
    Field(description='a table for each name such as { reports = { mode = "session" } }'),
]


class Pool(Section):
    """Server connections; `size` counts per (database, user) on each backend."""

    mode: PoolMode = "transaction"
    databases: PoolEntries = {}
    users: PoolEntries = {}
    size: Positive = 20
    min_size: Count = 0
    reserve_size: Count = 0
    reserve_timeout: Seconds = 5.0
    guaranteed_size: Count = 0
    max_backend_connections: Cap = 0
    cluster_budget: Switch = False
    max_database_connections: Cap = 0
    max_user_connections: Cap = 0
    wait_timeout: SecondsOrOff = 30.0
    idle_timeout: SecondsOrOff = 600.0
    lifetime: SecondsOrOff = 3600.0
    max_prepared_statements: Positive = 200


class Replication(Section):
    """Replication connections, each passed through to a server connection of its own."""

    allow: Switch = False
    users: Texts = ()
    backend: Text = ""
    max_connections: Positive = 10
