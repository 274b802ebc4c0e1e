"""What no single key of the configuration can tell: keys that contradict or need each other."""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from pgproxy.config.clients import CONSOLE_DATABASES
from pgproxy.config.faults import Fault
from pgproxy.config.model import Config
from pgproxy.config.routing import RoutingRule
from pgproxy.config.rules_discovery import discovery_faults, repeated_backends
from pgproxy.config.rules_label import election_faults
from pgproxy.config.rules_logins import own_login_faults, user_faults
from pgproxy.config.rules_tls import tls_faults
from pgproxy.config.servers import Pool

PLATFORM: Final[str] = sys.platform


# clients/cancel.py: what is left of a process id for a worker's clients, and for those beside them.
MOST_WITH_PEERS: Final = 60_000

_CAPS: Final = (
    "max_backend_connections",
    "max_database_connections",
    "max_user_connections",
)


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
    yield from tls_faults(config)
    yield from user_faults(config.auth, sources, environ)
    yield from own_login_faults(config.health, sources, environ)
    yield from election_faults(config.label)
    for position, rule in enumerate(config.routing.rules):
        yield from _routing_rule(f"routing.rules[{position}]", rule)
    yield from discovery_faults(discovery)
    named = config.replication.backend
    labels = [entry.label for entry in discovery.backends]
    if discovery.mode == "static" and labels and named and named not in labels:
        yield Fault(
            "replication.backend",
            f'"{named}" is none of the backends; accepted: "" for the primary, or '
            + ", ".join(f'"{label}"' for label in labels),
        )
    yield from repeated_backends(discovery)


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
