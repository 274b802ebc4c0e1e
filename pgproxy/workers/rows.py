"""PURE. What several workers show of themselves in the admin console, as one proxy would.

Rows of single connections are put one behind the other; rows of pools, databases and the like are
added up by what they are of; what is the same everywhere is told once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pgproxy.frames.table import Value
from pgproxy.telemetry.averages import COUNTS, PER, UNCOUNTED
from pgproxy.telemetry.columns import COLUMNS

Row = list[Value]
Rows = list[Row]

# One row for each connection.
JOINED: Final = frozenset(
    {"clients", "servers", "sockets", "active_sockets", "pool_processes", "pool_pools"}
)
# The columns that say what a row is of, where rows are added up.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "pools": ("database", "user"),
    "databases": ("name",),
    "users": ("name",),
    "stats": ("database",),
    "stats_totals": ("database",),
    "stats_averages": ("database",),
    "lists": ("list",),
    "mem": ("name",),
    "queries": ("id", "query"),
    "reasons": ("reason",),
}
# Numbers in them that are no counts: what is configured, and the same everywhere.
ALIKE: Final = frozenset(
    {
        *("port", "pool_size", "min_pool_size", "reserve_pool_size", "server_lifetime"),
        *("max_connections", "max_client_connections"),
        *("max_user_connections", "max_user_client_connections"),
    }
)
LARGEST: Final = frozenset({"paused", "disabled"})
# The rest of one is in the other.
SPLIT: Final = {"maxwait": "maxwait_us"}
# Rows in the order of their keys; the others stay in theirs.
SORTED: Final = frozenset(
    {"pools", "databases", "users", "stats", "stats_totals", "stats_averages"}
)
# In SHOW LISTS: how many different rows there are of these.
COUNTED: Final = ("databases", "users", "pools", "peers")
# What is summed up since start: what a worker that has ended has counted belongs to it.
LASTING: Final = ("stats", "stats_totals", "totals", "queries", "reasons")


def merge(name: str, workers: Sequence[Rows]) -> Rows:
    """The rows of SHOW `name` of all workers as one's. Those of SHOW LISTS: see `counted`."""
    if name in JOINED:
        return [row for rows in workers for row in rows]
    if name == "totals":
        return _totals(workers)
    if name == "state":
        return _state(workers)
    if name in KEYS:
        return _added_up(name, workers)
    return next((rows for rows in workers if rows), [])


def counted(lists: Rows, found: Mapping[str, int]) -> Rows:
    """SHOW LISTS with the numbers of different rows in place of their sums."""
    return [[name, found.get(str(name), count)] for name, count in lists]


def lasting(name: str, rows: Rows) -> Rows:
    """What stays of a worker's rows when it has ended: no averages."""
    if name == "totals":
        return [[key, 0 if str(key).startswith("avg_") else value] for key, value in rows]
    gone = [index for index, column in enumerate(_names(name)) if column.startswith("avg_")]
    return [[0 if index in gone else value for index, value in enumerate(row)] for row in rows]


def _names(name: str) -> list[str]:
    return COLUMNS[name].names


def _added_up(name: str, workers: Sequence[Rows]) -> Rows:
    names = _names(name)
    keys = KEYS[name]
    groups: dict[tuple[Value, ...], list[dict[str, Value]]] = {}
    for rows in workers:
        for row in rows:
            one = dict(zip(names, row, strict=True))
            groups.setdefault(tuple(one[key] for key in keys), []).append(one)
    found = []
    for group in groups.values():
        one = {column: _one(column, [row[column] for row in group]) for column in names}
        one.update({key: group[0][key] for key in keys})
        for whole, rest in SPLIT.items():
            if whole in one:
                one[whole], one[rest] = max((_number(r[whole]), _number(r[rest])) for r in group)
        one.update(_means(name, group))
        found.append(one)
    if name in SORTED:
        found.sort(key=lambda one: tuple(str(one[key]) for key in keys))
    if name == "queries":
        found.sort(key=lambda one: _number(one["total_time"]), reverse=True)
    return [list(one.values()) for one in found]


def _one(column: str, values: list[Value]) -> Value:
    known = [value for value in values if value is not None]
    if not known:
        return None
    numbers = [value for value in known if isinstance(value, int)]
    if len(numbers) < len(known) or column in ALIKE:
        return known[0]
    return max(numbers) if column in LARGEST else sum(numbers)


def _means(name: str, group: list[dict[str, Value]]) -> dict[str, Value]:
    """Averages that are not per second, by what they are of."""
    if name == "queries":
        timed = sum(_number(row["timed_calls"]) for row in group)
        total = sum(_number(row["total_time"]) for row in group)
        return {"avg_time": total // timed if timed else 0}
    if name not in ("stats", "stats_averages"):
        return {}
    columns = list(group[0])[-len(COUNTS) :]
    place = dict(zip(COUNTS, columns, strict=True))
    return {
        place[what]: _mean([(row[place[what]], row[place[of]]) for row in group])
        for what, of in PER.items()
        if what not in UNCOUNTED
    }


def _mean(pairs: Iterable[tuple[Value, Value]]) -> int:
    """Of values, each weighed by how often it was measured."""
    numbers = [(_number(value), _number(weight)) for value, weight in pairs]
    total = sum(weight for _, weight in numbers)
    if total == 0:  # less than one a second
        return max(value for value, _ in numbers)
    return sum(value * weight for value, weight in numbers) // total


def _totals(workers: Sequence[Rows]) -> Rows:
    tables = [{str(key): value for key, value in rows} for rows in workers if rows]
    if not tables:
        return []
    found = {key: _one(key, [one.get(key) for one in tables]) for key in tables[0]}
    for what, of in PER.items():
        if what not in UNCOUNTED:
            pairs = [(one.get(f"avg_{what}"), one.get(f"avg_{of}")) for one in tables]
            found[f"avg_{what}"] = _mean(pairs)
    return [[key, value] for key, value in found.items()]


def _state(workers: Sequence[Rows]) -> Rows:
    tables = [{row[0]: row[1] for row in rows} for rows in workers if rows]
    found: Rows = []
    for key in tables[0] if tables else ():
        values = [one.get(key) for one in tables]
        word = "no" if key == "active" else "yes"
        other = "yes" if key == "active" else "no"
        found.append([key, word if word in values else other])
    return found


def _number(value: Value) -> int:
    return value if isinstance(value, int) else 0
