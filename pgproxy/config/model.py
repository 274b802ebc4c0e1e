"""One frozen model per section, with its defaults and its bounds."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from pgproxy.config.places import DnsNames, Nameservers, RestUrls

# The virtual databases of the admin console.
CONSOLE_DATABASES: Final = frozenset({"pgproxy", "pgbouncer"})


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


# A container port's name as Kubernetes takes it: IANA_SVC_NAME, RFC 6335 section 5.1.
_PORT_NAME: Final = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")


def _port_or_name(text: str) -> str:
    is_number = text.isascii() and text.isdigit() and not text.startswith("0")
    if (is_number and int(text) <= 65535) or text == "" or _PORT_NAME.fullmatch(text):
        return text
    raise ValueError("neither")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


# A name or an address, and a port.
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):([0-9]{1,5})")


def _address(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if text == "" or (found and 0 < int(found[2]) < 65536):
        return text
    raise ValueError("neither")


# The description says what is accepted; it ends up in the line of a fault.
Name = Annotated[str, Field(min_length=1, description="a text that is not empty")]
Text = Annotated[str, Field(description="a text")]
Texts = Annotated[tuple[str, ...], Field(description='a list of texts such as ["alice", "bob"]')]
Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_pattern)], ...],
    Field(description="a list of regular expressions (Python's re)"),
]
OptionalFile = Annotated[
    Path | None,
    BeforeValidator(_empty_is_none),
    Field(description='the path of a file, or "" for none'),
]
OptionalFolder = Annotated[
    Path | None,
    BeforeValidator(_empty_is_none),
    Field(description='the path of a folder, or "" for none'),
]
Folders = Annotated[
    tuple[Path, ...],
    Field(description='a list of folders such as ["/etc/pgproxy/app"]'),
]
# The portable names of POSIX, and what a Secret's key in `envFrom` may be.
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
OptionalVariables = Annotated[
    str,
    Field(
        pattern=rf"^({_VARIABLE})?$",
        description='"" or a word such as "MONITOR", for MONITOR_USERNAME and MONITOR_PASSWORD',
    ),
]
Variables = Annotated[
    tuple[Annotated[str, Field(pattern=rf"^{_VARIABLE}$")], ...],
    Field(description='a list of words such as ["APP"], for APP_USERNAME and APP_PASSWORD'),
]
PortOrAny = Annotated[
    int,
    Field(strict=True, ge=0, le=65535, description="a port, 1 to 65535, or 0: the system picks"),
]
Port = Annotated[int, Field(strict=True, ge=1, le=65535, description="a port, 1 to 65535")]
Switch = Annotated[bool, Field(strict=True, description="true or false")]
Count = Annotated[int, Field(strict=True, ge=0, description="a whole number, 0 or more")]
Cap = Annotated[int, Field(strict=True, ge=0, description="a whole number, 0 or more (0: no cap)")]
OptionalCap = Annotated[
    int | None, Field(strict=True, ge=0, description="a whole number, 0 or more (0: no cap)")
]
LinesOrAll = Annotated[
    int, Field(strict=True, ge=0, description="a whole number, 0 or more (0: no limit)")
]
Positive = Annotated[int, Field(strict=True, ge=1, description="a whole number, 1 or more")]
Workers = Annotated[int, Field(strict=True, ge=1, le=64, description="a whole number from 1 to 64")]
Weight = Annotated[
    int, Field(strict=True, ge=0, le=1000, description="a whole number from 0 (no reads) to 1000")
]
Share = Annotated[
    int, Field(strict=True, ge=1, le=1000, description="a whole number from 1 to 1000")
]
TopQueries = Annotated[
    int, Field(strict=True, ge=0, le=100, description="a whole number from 0 (none) to 100")
]
Seconds = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, 0 or more"),
]
SecondsOrOff = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, or 0 for no limit"),
]
SecondsOrNever = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, or 0 for never"),
]
Interval = Annotated[
    float,
    Field(strict=True, ge=0.05, allow_inf_nan=False, description="seconds, 0.05 or more"),
]
OptionalSeconds = Annotated[
    float | None,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, or 0 for no limit"),
]
# As far as Linux goes (MAX_TCP_KEEPIDLE and its like in net/tcp.h).
KeepAliveSeconds = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=32_767,
        description="a whole number of seconds up to 32767, or 0 for the system's default",
    ),
]
KeepAliveProbes = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=127,
        description="a whole number up to 127, or 0 for the system's default",
    ),
]
UserTimeout = Annotated[
    float,
    Field(
        strict=True,
        ge=0,
        le=2_000_000,
        allow_inf_nan=False,
        description="seconds up to 2000000, or 0 for the system's default",
    ),
]
ClusterName = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$",
        description="the cluster's name, as its pods' label has it",
    ),
]
NamespaceName = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$",
        description='the name of a namespace, or "" for the proxy\'s own',
    ),
]
# Kubernetes: "Labels and Selectors", syntax and character set.
_LABEL_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
LabelKey = Annotated[
    str,
    Field(
        pattern=rf"^({_SUBDOMAIN}/)?{_LABEL_NAME}$",
        description='a label\'s key such as "role" or "example.com/role"',
    ),
]
LabelValue = Annotated[
    str, Field(pattern=rf"^{_LABEL_NAME}$", description="a label's value that is not empty")
]
OptionalLabelValue = Annotated[
    str, Field(pattern=rf"^({_LABEL_NAME})?$", description='a label\'s value, or "" for no label')
]
ObjectName = Annotated[
    str, Field(pattern=rf"^{_SUBDOMAIN}$", max_length=253, description="the name of an object")
]
PortOrName = Annotated[
    str,
    BeforeValidator(_number_as_text),
    Field(description="a port, 1 to 65535, or the name of a container's port"),
    AfterValidator(_port_or_name),
]
_ADDRESS_KIND: Final = "HOST:PORT, of another proxy's [http]; an IPv6 address in brackets"
Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(_address)], ...],
    Field(description=f"a list of {_ADDRESS_KIND}"),
]
OptionalAddress = Annotated[
    str, AfterValidator(_address), Field(description=f'"" for none, or {_ADDRESS_KIND}')
]
PresetName = Literal[
    "",
    "cloudnativepg",
    "edb",
    "zalando",
    "crunchy",
    "crunchy-v4",
    "percona",
    "stackgres",
    "kubedb",
    "patroni",
    "patroni-3",
    "bitnami-ha",
    "bitnami",
    "kubeblocks",
    "kubegres",
    "opengauss",
]
PoolMode = Literal["transaction", "session", "statement"]
TlsMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Listen(_Section):
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


class Http(_Section):
    """Where /metrics, /livez, /readyz, /startupz and /status answer."""

    host: Name = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside the pod
    port: PortOrAny = 9930


class Auth(_Section):
    """How a client proves who it is."""

    method: Literal["trust", "password", "md5", "scram-sha-256", "cert", "hba"] = "scram-sha-256"
    users_file: OptionalFile = Path("users.txt")
    users_env: Variables = ()
    users_dirs: Folders = ()
    query: Text = ""
    hba_file: OptionalFile = None
    admin_users: Texts = ()
    stats_users: Texts = ()


class Server(_Section):
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


class PoolEntry(_Section):
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


class Pool(_Section):
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


class Replication(_Section):
    """Replication connections, each passed through to a server connection of its own."""

    allow: Switch = False
    users: Texts = ()
    backend: Text = ""
    max_connections: Positive = 10


class LimitEntry(_Section):
    """What is different for one database or one user."""

    max_clients: OptionalCap = None
    weight: Share = 1


LimitEntries = Annotated[
    dict[str, LimitEntry],
    Field(description="a table for each name such as { reports = { max_clients = 50 } }"),
]


class Limits(_Section):
    """Clients; statements or transactions in flight at once, and who waits for it."""

    max_clients_per_database: Cap = 0
    max_clients_per_user: Cap = 0
    max_concurrent: Cap = 0
    max_concurrent_per_backend: Cap = 0
    queue_size: Cap = 0
    notice_after: SecondsOrNever = 0.0
    adaptive: Switch = False
    adaptive_floor: Positive = 2
    databases: LimitEntries = {}
    users: LimitEntries = {}

    def weight(self, database: str, user: str) -> float:
        """The share of a user in a database, relative to others."""
        entries = (self.databases.get(database), self.users.get(user))
        return math.prod(entry.weight for entry in entries if entry is not None)


class TimeoutEntry(_Section):
    """What is different for one database or one user."""

    client_login: OptionalSeconds = None
    query: OptionalSeconds = None
    transaction: OptionalSeconds = None
    idle_in_transaction: OptionalSeconds = None
    client_idle: OptionalSeconds = None


TimeoutEntries = Annotated[
    dict[str, TimeoutEntry],
    Field(description="a table for each name such as { reports = { query = 600 } }"),
]


class Timeouts(_Section):
    """How long a client may take for what."""

    client_login: SecondsOrOff = 60.0
    query: SecondsOrOff = 0.0
    transaction: SecondsOrOff = 0.0
    idle_in_transaction: SecondsOrOff = 0.0
    client_idle: SecondsOrOff = 0.0
    databases: TimeoutEntries = {}
    users: TimeoutEntries = {}


class RoutingRule(_Section):
    """One `[[routing.rules]]`: patterns are regular expressions, empty ones ask for nothing."""

    database: Text = ""
    user: Text = ""
    application_name: Text = ""
    statement: Text = ""
    route: Literal["auto", "primary", "replica"]


class Routing(_Section):
    """Which role runs a statement."""

    transactions: Literal["primary", "replica-until-write"] = "primary"
    balance: Literal["least-loaded", "weighted-random", "round-robin", "sticky"] = "least-loaded"
    zone: Text = ""
    warm_up: Seconds = 10.0
    read_from_primary: Literal["never", "fallback", "always"] = "fallback"
    read_functions: Patterns = ()
    write_functions: Patterns = ()
    safety_net: Switch = True
    parse_limit: Positive = 32_768
    cache_size: Positive = 10_000
    catalogue_interval: SecondsOrNever = 60.0
    top_queries: TopQueries = 20
    rules: Annotated[
        tuple[RoutingRule, ...],
        Field(description="a list of tables, each with a route and what it is for"),
    ] = ()


class Consistency(_Section):
    """How old a read may be."""

    read_your_writes: Literal["session", "global", "off"] = "session"
    max_staleness: SecondsOrOff = 10.0
    wait: Seconds = 0.0


class Health(_Section):
    """How the monitor asks each backend for its role."""

    interval: Interval = 1.0
    timeout: Interval = 2.0
    failures: Positive = 2
    user: Name = "postgres"
    password: Annotated[SecretStr, Field(description="a text")] = SecretStr("")
    password_file: OptionalFile = None
    user_env: OptionalVariables = ""
    user_dir: OptionalFolder = None
    database: Name = "postgres"
    failover_wait: Seconds = 30.0
    switchover_grace: Seconds = 10.0
    rerun_limit: Count = 65_536


class Backend(_Section):
    """One `[[discovery.backends]]`."""

    host: Name
    port: Port = 5432
    role: Literal["auto", "primary", "replica"] = "auto"
    weight: Weight = 1
    zone: Text = ""
    name: Text = ""

    @property
    def label(self) -> str:
        """The configured name, or host:port."""
        if self.name:
            return self.name
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Kubernetes(_Section):
    """Which pods are the cluster's and how they tell their role; topology/presets.py.

    With a preset, `selector`, `role_label`, the values and `port` overrule what is the preset's.
    """

    namespace: NamespaceName = ""
    preset: PresetName = ""
    cluster: ClusterName = ""
    selector: Text = ""
    role_label: Text = ""
    primary_values: Texts = ()
    replica_values: Texts = ()
    port: PortOrName = ""
    zone_label: Name = "topology.kubernetes.io/zone"
    kubeconfig: OptionalFile = None
    context: Text = ""


class Patroni(_Section):
    """Who tells of Patroni's members, and how they are asked."""

    urls: RestUrls = ()
    scope: Text = ""
    interval: Interval = 2.0
    timeout: Interval = 2.0
    ca_file: OptionalFile = None
    cert_file: OptionalFile = None
    key_file: OptionalFile = None
    verify: Switch = True


class Dns(_Section):
    """Under which names the servers' addresses are, and who is asked for them."""

    names: DnsNames = ()
    port: Port = 5432
    family: Literal["any", "ipv4", "ipv6"] = "any"
    nameservers: Nameservers = ()
    min_ttl: Interval = 1.0
    max_ttl: Interval = 30.0
    timeout: Interval = 2.0


class Discovery(_Section):
    """Where the list of backends comes from."""

    mode: Literal["static", "kubernetes", "patroni", "dns"] = "static"
    backends: Annotated[
        tuple[Backend, ...],
        Field(description="a list of tables, each with at least a host"),
    ] = ()
    kubernetes: Kubernetes = Kubernetes()
    patroni: Patroni = Patroni()
    dns: Dns = Dns()


class Label(_Section):
    """`pgproxy label`: which label it sets on the pods of [discovery.kubernetes]."""

    key: LabelKey = "role"
    primary: LabelValue = "primary"
    replica: LabelValue = "replica"
    fenced: OptionalLabelValue = ""
    keep_silent: Seconds = 30.0
    lease: ObjectName = "pgproxy-label"
    lease_duration: Positive = 15
    renew_deadline: Interval = 10.0
    retry_period: Interval = 2.0


class Peers(_Section):
    """How the other proxies of the same service are found; at most one of the first three."""

    static: Addresses = ()
    dns: OptionalAddress = ""
    selector: Text = ""
    namespace: NamespaceName = ""
    port: PortOrName = ""
    interval: Interval = 1.0

    @property
    def are_known(self) -> bool:
        """There may be others."""
        return bool(self.static or self.dns or self.selector)


class Log(_Section):
    """What goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    rate: LinesOrAll = 20


class Config(_Section):
    """The whole configuration."""

    listen: Listen = Listen()
    http: Http = Http()
    auth: Auth = Auth()
    server: Server = Server()
    pool: Pool = Pool()
    replication: Replication = Replication()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    routing: Routing = Routing()
    consistency: Consistency = Consistency()
    health: Health = Health()
    discovery: Discovery = Discovery()
    label: Label = Label()
    peers: Peers = Peers()
    log: Log = Log()

    @property
    def max_running_per_backend(self) -> int:
        """How many may be in flight on each backend, where that is learnt at most; 0: any number."""
        limits = self.limits
        if not limits.adaptive:
            return limits.max_concurrent_per_backend
        caps = [cap for cap in (limits.max_concurrent_per_backend, limits.max_concurrent) if cap]
        return min(caps, default=self.pool.size)


# The values that mean today what they will mean when the feature is there. A feature that gets
# built removes its line.
AVAILABLE_NOW: Final[Mapping[str, tuple[object, ...]]] = {
    "listen.tls_cert_file": (None,),
    "listen.tls_key_file": (None,),
    "listen.tls_ca_file": (None,),
    "listen.tls_mode": ("disable", "allow", "prefer"),
    "auth.method": ("trust", "password", "md5", "scram-sha-256"),
    "auth.query": ("",),
    "auth.hba_file": (None,),
    "server.tls_mode": ("disable", "allow", "prefer"),
    "server.tls_ca_file": (None,),
    "server.tls_cert_file": (None,),
    "server.tls_key_file": (None,),
}


def notices(config: Config) -> tuple[str, ...]:
    """What a default promises and this version does not keep yet; empty when all is in effect."""
    found = []
    if config.server.tls_mode != "disable":
        found.append("server.tls_mode: no TLS yet, connections to PostgreSQL are in plain text")
    if config.routing.safety_net and config.health.rerun_limit == 0:
        found.append(
            "routing.safety_net: not in effect with health.rerun_limit = 0, for nothing is kept that "
            "could be run again"
        )
    limits = config.limits
    if 0 < limits.max_concurrent <= limits.max_concurrent_per_backend:
        found.append(
            f"limits.max_concurrent_per_backend = {limits.max_concurrent_per_backend}: not in effect "
            f"with limits.max_concurrent = {limits.max_concurrent}, which is not more"
        )
    entries = [*limits.users.values(), *limits.databases.values()]
    has_weights = any("weight" in entry.model_fields_set for entry in entries)
    if has_weights and not (limits.max_concurrent or config.max_running_per_backend):
        found.append(
            "limits.users and limits.databases: weights are not in effect without "
            "limits.max_concurrent or limits.max_concurrent_per_backend"
        )
    discovery = config.discovery
    found += [
        f'discovery.{mode}: not in effect with discovery.mode = "{discovery.mode}"'
        for mode in ("kubernetes", "patroni", "dns")
        if mode != discovery.mode and getattr(discovery, mode) != getattr(Discovery(), mode)
    ]
    return tuple(found)
