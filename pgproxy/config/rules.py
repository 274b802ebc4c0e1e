"""What no single key of the configuration can tell: keys that contradict or need each other."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgproxy.config.logins import (
    LoginError,
    configured_logins,
    login_from_folder,
    login_from_variables,
)
from pgproxy.config.model import (
    CONSOLE_DATABASES,
    Auth,
    Config,
    Dns,
    Health,
    Kubernetes,
    Label,
    Patroni,
    Pool,
    RoutingRule,
)

ENVIRONMENT_PREFIX: Final = "PGPROXY_"
PLATFORM: Final[str] = sys.platform

# What a preset says of the role, except for the one whose pods carry none.
_PRESETS_WITHOUT_ROLE: Final = frozenset({"", "bitnami-ha"})

# What names the backends.
_LISTS: Final = {
    "kubernetes": "the pods are",
    "patroni": "Patroni's members are",
    "dns": "the addresses are",
}

# clients/cancel.py: what is left of a process id for a worker's clients, and for those beside them.
MOST_WITH_PEERS: Final = 60_000

_CAPS: Final = (
    "max_backend_connections",
    "max_database_connections",
    "max_user_connections",
)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a key, and what is accepted."""

    key: str
    text: str


def variable(key: str) -> str:
    """The environment variable of a dotted key."""
    return ENVIRONMENT_PREFIX + key.replace(".", "__").upper() if key else ""


def contradictions(
    config: Config, sources: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[Fault]:
    """What no single key can tell."""
    pool, discovery = config.pool, config.discovery
    yield from _pool(pool)
    yield from _peers(config)
    limits, ceiling = config.limits, config.max_running_per_backend
    if limits.adaptive and limits.adaptive_floor > ceiling:
        yield Fault(
            "limits.adaptive_floor",
            f"{limits.adaptive_floor} is more than the {ceiling} that may be in flight on each "
            "backend (limits.max_concurrent_per_backend, limits.max_concurrent or else pool.size); "
            f"accepted: 1 to {ceiling}",
        )
    for name in sorted(CONSOLE_DATABASES & pool.databases.keys()):
        yield Fault(f"pool.databases.{name}", "is the admin console, which has no pool")
    for name in sorted(CONSOLE_DATABASES & config.timeouts.databases.keys()):
        yield Fault(f"timeouts.databases.{name}", "is the admin console, which has none of them")
    for name in sorted(CONSOLE_DATABASES & config.limits.databases.keys()):
        yield Fault(f"limits.databases.{name}", "is the admin console, whose users are no clients")
    if config.listen.workers > 1 and not PLATFORM.startswith("linux"):
        yield Fault("listen.workers", "needs Linux; accepted here: 1")
    if config.listen.port == config.http.port != 0:
        yield Fault("http.port", f"{config.http.port} is listen.port too; choose another")
    yield from _users(config.auth, sources, environ)
    yield from _own_login(config.health, sources, environ)
    yield from _election(config.label)
    for position, rule in enumerate(config.routing.rules):
        yield from _routing_rule(f"routing.rules[{position}]", rule)
    if discovery.mode != "static" and discovery.backends:
        yield Fault(
            "discovery.backends",
            f'is for mode = "static"; with "{discovery.mode}" {_LISTS[discovery.mode]} the list',
        )
    if discovery.mode == "kubernetes":
        yield from _kubernetes(discovery.kubernetes)
    if discovery.mode == "patroni":
        yield from _patroni(discovery.patroni)
    if discovery.mode == "dns":
        yield from _dns(discovery.dns)
    if discovery.mode == "static" and not discovery.backends:
        yield Fault(
            "discovery.backends",
            "names no PostgreSQL server; accepted: at least one [[discovery.backends]] with a "
            f'host, or {variable("discovery.backends")}=\'[{{"host": "…"}}]\'',
        )
    named = config.replication.backend
    labels = [entry.label for entry in discovery.backends]
    if discovery.mode == "static" and labels and named and named not in labels:
        yield Fault(
            "replication.backend",
            f'"{named}" is none of the backends; accepted: "" for the primary, or '
            + ", ".join(f'"{label}"' for label in labels),
        )
    seen: dict[str, int] = {}
    for position, entry in enumerate(discovery.backends):
        for what in {entry.label, f"{entry.host}:{entry.port}"}:
            if what in seen:
                yield Fault(
                    f"discovery.backends[{position}]", f"{what} is backends[{seen[what]}] already"
                )
            seen[what] = position


def label_contradictions(
    config: Config, sources: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[Fault]:
    """The same for `pgproxy label`, which has no clients, and to which the pods belong."""
    label, settings = config.label, config.discovery.kubernetes
    yield from _own_login(config.health, sources, environ)
    yield from _election(label)
    if config.discovery.mode != "kubernetes":
        yield Fault(
            "discovery.mode",
            f'"{config.discovery.mode}" names no pods; accepted by pgproxy label: "kubernetes"',
        )
        return
    yield from _kubernetes(settings)
    if settings.preset not in _PRESETS_WITHOUT_ROLE:
        yield Fault(
            "discovery.kubernetes.preset",
            f'"{settings.preset}": the operator sets a role label itself; accepted by pgproxy label:'
            ' "bitnami-ha", or a selector without a preset',
        )
    if settings.preset == "bitnami-ha" and label.key == "role":
        # postgresql-ha/templates/postgresql/statefulset.yaml: spec.selector.matchLabels
        yield Fault(
            "label.key",
            'the StatefulSet of bitnami\'s chart owns the pods by "role": a pod with another value would'
            ' be lost to it; accepted: any other key such as "pgproxy.io/role"',
        )
    if label.key in _keys_of(settings.selector):
        yield Fault(
            "label.key",
            f'discovery.kubernetes.selector has "{label.key}" in it: a pod would leave it as its label'
            " changes; accepted: a label that the selector has not",
        )
    values = [value for value in (label.primary, label.replica, label.fenced) if value]
    if len(set(values)) < len(values):
        yield Fault("label.primary", "replica and fenced need values of their own")


def _election(label: Label) -> Iterator[Fault]:
    """As client-go asks for it: a leader has to stop before another one begins, and to try to renew
    more than once until then."""
    if label.renew_deadline >= label.lease_duration:
        yield Fault(
            "label.renew_deadline",
            f"{label.renew_deadline:g} is not less than label.lease_duration = {label.lease_duration}",
        )
    if 2 * label.retry_period >= label.renew_deadline:
        yield Fault(
            "label.retry_period",
            f"{label.retry_period:g} is not less than half of label.renew_deadline ="
            f" {label.renew_deadline:g}",
        )


def _pool(pool: Pool) -> Iterator[Fault]:
    """Sizes that cannot be reached: by default, and with each entry for a database or a user."""
    names = ("size", "min_size", "guaranteed_size", *_CAPS)
    default = {name: (f"pool.{name}", int(getattr(pool, name))) for name in names}
    yield from _unreachable("pool.", default)
    for table, entries, cap in (
        ("databases", pool.databases, "max_database_connections"),
        ("users", pool.users, "max_user_connections"),
    ):
        for entry_name, entry in entries.items():
            own = f"pool.{table}.{entry_name}."
            given = entry.model_dump(exclude_none=True, exclude={"mode"})
            keys = {name: (own + name, int(value)) for name, value in given.items()}
            if "max_connections" in keys:
                keys[cap] = keys["max_connections"]
            yield from _unreachable(own, default | keys)


def _peers(config: Config) -> Iterator[Fault]:
    peers = config.peers
    given = [name for name in ("static", "dns", "selector") if getattr(peers, name)]
    for name in given[1:]:
        yield Fault(f"peers.{name}", f"and {given[0]} both say who the others are; keep one")
    if "" in peers.static:
        yield Fault("peers.static", '"" is no address; accepted: a list of HOST:PORT')
    if config.pool.cluster_budget and not given:
        yield Fault(
            "pool.cluster_budget",
            "needs to know the other proxies; accepted with one of peers.selector, peers.dns,"
            " peers.static",
        )
    if peers.selector and not peers.selector.strip():
        yield Fault(
            "peers.selector", "is blank, and would take every pod; accepted: the proxy's own"
        )
    if peers.selector and not peers.port and config.http.port == 0:
        yield Fault("peers.port", "is needed with http.port = 0: the others' is not known")
    for name in ("namespace", "port"):
        if getattr(peers, name) and not peers.selector:
            yield Fault(f"peers.{name}", "is that of pods; set peers.selector too")
    if given and config.listen.workers > 1 and config.listen.max_clients > MOST_WITH_PEERS:
        yield Fault(
            "listen.max_clients",
            f"with [peers] and listen.workers above 1 cancel keys tell {MOST_WITH_PEERS} clients of"
            f" each worker apart; accepted: 1 to {MOST_WITH_PEERS}",
        )


def _unreachable(own: str, keys: Mapping[str, tuple[str, int]]) -> Iterator[Fault]:
    """`keys` are dotted keys and values by name; at fault are those that begin with `own`."""
    for name, bounds in (("min_size", ("size", *_CAPS)), ("guaranteed_size", _CAPS)):
        key, wanted = keys[name]
        for bound in bounds:
            bound_key, most = keys[bound]
            if most == 0 or wanted <= most:
                continue
            if key.startswith(own):
                yield Fault(key, f"{wanted} is more than {bound_key} = {most}")
            elif bound_key.startswith(own):
                yield Fault(bound_key, f"{most} is less than {key} = {wanted}")


def _routing_rule(key: str, rule: RoutingRule) -> Iterator[Fault]:
    patterns = rule.model_dump(exclude={"route"})
    if not any(patterns.values()):
        names = ", ".join(patterns)
        yield Fault(key, f"says not what it is for; accepted: at least one of {names}")
    for name, pattern in patterns.items():
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            yield Fault(
                f"{key}.{name}",
                f'"{pattern}" is no regular expression: {error}; accepted: one of Python\'s, such as'
                ' "report_.*"',
            )


def _users(auth: Auth, sources: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Who may log in; the users file itself is read when it is used."""
    if auth.users_file is not None:
        if auth.method != "trust" or "auth.users_file" in sources:
            yield from _unreadable("auth.users_file", auth.users_file)
    elif auth.method != "trust" and not auth.users_env and not auth.users_dirs:
        yield Fault(
            "auth.users_file",
            f'auth.method = "{auth.method}" needs one, or auth.users_env or auth.users_dirs; '
            "accepted: the path of a file in PgBouncer's userlist format: "
            '"user" "password" on each line',
        )
    seen: dict[str, str] = {}
    for key, login in configured_logins(auth, environ):
        if isinstance(login, LoginError):
            yield Fault(key, str(login))
        elif login.user in seen:
            yield Fault(
                key, f'user "{login.user}" is in {seen[login.user]} too; accepted: each once'
            )
        else:
            seen[login.user] = key


def _own_login(
    health: Health, sources: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[Fault]:
    """Who the monitor is: told in one way."""
    if health.password_file is not None:
        yield from _unreadable("health.password_file", health.password_file)
        if health.password.get_secret_value():
            yield Fault("health.password", "and health.password_file are both set; keep one")
    elsewhere = ""
    try:
        if health.user_env:
            elsewhere = "health.user_env"
            login_from_variables(health.user_env, environ)
        if health.user_dir is not None:
            if elsewhere:
                yield Fault("health.user_dir", f"and {elsewhere} are both set; keep one")
            elsewhere = "health.user_dir"
            login_from_folder(health.user_dir)
    except LoginError as error:
        yield Fault(elsewhere, str(error))
    for key in ("health.user", "health.password", "health.password_file"):
        if elsewhere and key in sources:
            yield Fault(key, f"and {elsewhere} are both set; keep one")


def _unreadable(key: str, path: Path) -> Iterator[Fault]:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        yield Fault(key, f"{path} cannot be read: {error.strerror}; accepted: a readable file")


def _selector(settings: Kubernetes, key: str) -> Iterator[Fault]:
    if settings.selector and not settings.selector.strip():
        yield Fault(key, 'is blank, and would take every pod; accepted: one such as "app=postgres"')
    if settings.role_label and _is_selected_by(settings.selector, settings.role_label):
        yield Fault(
            key,
            f'has the role label "{settings.role_label}" in it: a pod that changes its role would'
            " be gone, instead of drained; accepted: labels that stay as they are",
        )


def _is_selected_by(selector: str, label: str) -> bool:
    """Whether the selector wants the label to have certain values."""
    return re.search(rf"(^|,)\s*{re.escape(label)}\s*(=|\sin\b)", selector) is not None


def _keys_of(selector: str) -> frozenset[str]:
    """The labels that the selector asks for, or asks not to be there."""
    requirements = re.sub(r"\([^)]*\)", "", selector).split(",")
    return frozenset(
        re.split(r"[\s=!]", one.strip().lstrip("! "), maxsplit=1)[0] for one in requirements
    )


def _patroni(settings: Patroni) -> Iterator[Fault]:
    key = "discovery.patroni"
    if not settings.urls:
        yield Fault(
            f"{key}.urls",
            "names no member to ask; accepted: the REST API of one at least, such as"
            ' ["http://10.0.0.1:8008"]',
        )
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings, name)
        if path is not None:
            yield from _unreadable(f"{key}.{name}", path)
    if settings.key_file is not None and settings.cert_file is None:
        yield Fault(f"{key}.key_file", "is the key of a certificate; set cert_file too")
    if settings.ca_file is not None and not settings.verify:
        yield Fault(f"{key}.ca_file", "is not looked at with verify = false; keep one")


def _dns(settings: Dns) -> Iterator[Fault]:
    key = "discovery.dns"
    if not settings.names:
        yield Fault(
            f"{key}.names",
            'says not whose addresses to take; accepted: one name at least, such as ["db.example.org"]',
        )
    if settings.max_ttl < settings.min_ttl:
        yield Fault(
            f"{key}.max_ttl", f"{settings.max_ttl:g} is less than min_ttl = {settings.min_ttl:g}"
        )


def _kubernetes(settings: Kubernetes) -> Iterator[Fault]:
    key = "discovery.kubernetes"
    yield from _selector(settings, f"{key}.selector")
    if settings.preset and not settings.cluster and not settings.selector:
        yield Fault(
            f"{key}.cluster",
            f'preset = "{settings.preset}" needs the name of the cluster whose pods it selects',
        )
    if settings.cluster and settings.selector:
        yield Fault(f"{key}.cluster", "and selector both say which pods; keep one")
    elif settings.cluster and not settings.preset:
        yield Fault(f"{key}.cluster", "needs a preset, which says what label has it")
    elif not settings.preset and not settings.selector:
        yield Fault(
            f"{key}.preset",
            "says no more than selector which pods to take; accepted: a preset with a cluster, or"
            ' a selector such as "app=postgres,cluster=main"',
        )
    values = (*settings.primary_values, *settings.replica_values)
    if settings.role_label and settings.preset in _PRESETS_WITHOUT_ROLE:
        for name in ("primary_values", "replica_values"):
            if not getattr(settings, name):
                yield Fault(f"{key}.{name}", "is needed beside role_label: the label's values")
    elif values and not settings.role_label and settings.preset in _PRESETS_WITHOUT_ROLE:
        yield Fault(f"{key}.role_label", "is needed beside the values: the label that has them")
    both = sorted(set(settings.primary_values) & set(settings.replica_values))
    if both:
        yield Fault(f"{key}.replica_values", f'"{both[0]}" is one of primary_values too')
    if settings.kubeconfig is not None:
        yield from _unreadable(f"{key}.kubeconfig", settings.kubeconfig)
    elif settings.context:
        yield Fault(f"{key}.context", "is one of a kubeconfig; set that too")
