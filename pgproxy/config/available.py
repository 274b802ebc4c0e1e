"""What is asked for and not in effect: features that are not built, keys that other keys undo."""

from collections.abc import Iterator, Mapping
from typing import Final

from pgproxy.config.faults import Fault
from pgproxy.config.model import Config
from pgproxy.config.text import leaves, toml_text
from pgproxy.config.topology import Discovery

# The values that mean today what they will mean when the feature is there. A feature that gets
# built removes its line.
AVAILABLE_NOW: Final[Mapping[str, tuple[object, ...]]] = {
    "auth.method": ("trust", "password", "md5", "scram-sha-256", "cert"),
    "auth.query": ("",),
    "auth.hba_file": (None,),
}


def not_available(config: Config) -> Iterator[Fault]:
    """What asks for a feature that is not built."""
    values = dict(leaves(config))
    for key, now in AVAILABLE_NOW.items():
        if values[key] not in now:
            accepted = ", ".join(toml_text(value) for value in now)
            yield Fault(key, f"{toml_text(values[key])} is not available yet; now: {accepted}")


def notices(config: Config) -> tuple[str, ...]:
    """What a default promises and this version does not keep yet; empty when all is in effect."""
    found = []
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
