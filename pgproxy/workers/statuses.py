"""PURE. /status of several workers as one proxy's."""

from collections.abc import Sequence
from typing import Any, Final

# Numbers, and tables of numbers, that are added up.
COUNTS: Final = ("clients", "replication_clients", "drain_forced")
TABLES: Final = ("drain_clients", "statements", "running")
# Lists of tables: by what their entries are told apart.
LISTS: Final = {"pools": ("backend", "database", "user"), "queries": ("id",)}
# What is configured, over all workers, and what is no count.
ALIKE: Final = frozenset({"size", "limit"})


def merge(workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whatever is not a count is as the first has it."""
    if not workers:
        return {}
    found = dict(workers[0])
    for name in COUNTS:
        found[name] = sum(one[name] for one in workers)
    for name in TABLES:
        found[name] = _sum([one[name] for one in workers])
    for name, keys in LISTS.items():
        found[name] = _joined([one[name] for one in workers], keys)
    found["queries"].sort(key=lambda query: query["seconds"], reverse=True)
    return found


def _sum(tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of what is there: numbers are added up, of the rest the first stays."""
    found: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            if key not in found:
                found[key] = value
            elif isinstance(value, dict):
                found[key] = _sum([found[key], value])
            elif isinstance(value, int | float) and key not in ALIKE:
                found[key] += value
    return found


def _joined(lists: Sequence[list[dict[str, Any]]], keys: Sequence[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entries in lists:
        for entry in entries:
            groups.setdefault(tuple(entry[key] for key in keys), []).append(entry)
    return [_sum(group) for group in groups.values()]
