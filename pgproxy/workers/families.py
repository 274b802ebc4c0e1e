"""PURE. The metrics of several workers as those of one proxy.

Counters and histograms are added up, those of workers that have ended too, so that they never go
back. A gauge is added up where it counts; where it is a state of the world every worker sees the same,
and the first or the worst is taken.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

# As telemetry/transfer.py makes it: name, type, help, samples (name, labels, value).
Family = dict[str, Any]
Labels = dict[str, str]
Sample = tuple[str, Labels, float]

SUMMED: Final = ("counter", "histogram")
# Gauges of which the first worker's are taken.
FIRST: Final = frozenset(
    {
        *("pgproxy_backend_up", "pgproxy_backend_role", "pgproxy_backend_fenced"),
        *("pgproxy_backend_weight", "pgproxy_backend_share", "pgproxy_discovered_backends"),
    }
)
# Gauges of which the largest are taken.
LARGEST: Final = frozenset(
    {
        *("pgproxy_backend_replay_lsn", "pgproxy_backend_staleness_seconds"),
        *("pgproxy_backend_latency_seconds", "pgproxy_topology_age_seconds"),
        *("pgproxy_catalogue_load_seconds", "pgproxy_catalogue_age_seconds"),
        *("pgproxy_catalogue_functions", "pgproxy_query_structures", "pgproxy_draining"),
        *("pgproxy_pool_size", "pgproxy_running_limit", "pgproxy_backend_running_limit"),
    }
)


def merge(workers: Sequence[Iterable[Family]]) -> list[Family]:
    """One family of each name, in the order in which they come."""
    found: dict[str, tuple[Family, dict[tuple[str, frozenset[tuple[str, str]]], Sample]]] = {}
    for families in workers:
        for family in families:
            name = family["name"]
            if name not in found:
                found[name] = ({**family, "samples": []}, {})
            samples = found[name][1]
            for sample_name, labels, value in family["samples"]:
                key = (sample_name, frozenset(labels.items()))
                known = samples.get(key)
                merged = value if known is None else _merged(family, known[2], value)
                samples[key] = (sample_name, labels, merged)
    return [family | {"samples": list(samples.values())} for family, samples in found.values()]


def lasting(families: Iterable[Family]) -> list[Family]:
    """What stays of a worker's when it has ended."""
    return [family for family in families if family["type"] in SUMMED]


def _merged(family: Family, one: float, other: float) -> float:
    name = family["name"]
    if family["type"] == "info" or name in FIRST:
        return one
    if name in LARGEST:
        return max(one, other)
    return one + other
