"""PURE. How many server connections there may be: of a pool, of a database, of a user, of a backend.

A user's entry wins over its database's, and that over the default, key by key. A cap of 0 is none.
"""

from collections.abc import Callable, Mapping
from typing import Final, final

from pgproxy.config import Pool, PoolEntry

# What the proxy opens on a server beside its pools: the monitor's connection, two readers of
# catalogues, and one that listens.
BESIDE: Final = 4
# Keys of an entry; max_connections caps all pools of that database or user on one backend.
KEYS: Final = ("size", "min_size", "reserve_size", "guaranteed_size", "max_connections")

# Of those: what several workers have a part of each.
DIVIDED: Final = frozenset({"min_size", "reserve_size", "guaranteed_size"})


@final
class Sizes:
    """Of one pool: `reserve_size` more than `size` for who has waited long; `min_size` kept warm;
    `guaranteed_size` (at least those) not taken by others who want connections under the same cap."""

    def __init__(
        self, size: int, min_size: int = 0, reserve_size: int = 0, guaranteed_size: int = 0
    ) -> None:
        self.size: Final = size
        self.min_size: Final = min(min_size, size)
        self.reserve_size: Final = reserve_size
        self.guaranteed_size: Final = max(guaranteed_size, self.min_size)


@final
class PoolSizes:
    """`databases` and `users` have what is different for single names: some of KEYS."""

    def __init__(
        self,
        size: int,
        min_size: int = 0,
        reserve_size: int = 0,
        guaranteed_size: int = 0,
        *,
        max_backend: int = 0,
        max_database: int = 0,
        max_user: int = 0,
        databases: Mapping[str, Mapping[str, int]] | None = None,
        users: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self.default: Final = Sizes(size, min_size, reserve_size, guaranteed_size)
        self.max_backend: Final = max_backend
        self.max_database: Final = max_database
        self.max_user: Final = max_user
        self.databases: Final[Mapping[str, Mapping[str, int]]] = databases or {}
        self.users: Final[Mapping[str, Mapping[str, int]]] = users or {}

    def of(self, database: str, user: str) -> Sizes:
        """The sizes of each pool of that database and user."""
        default = self.default
        entry = {**self.databases.get(database, {}), **self.users.get(user, {})}
        if not entry:
            return default
        return Sizes(
            entry.get("size", default.size),
            entry.get("min_size", default.min_size),
            entry.get("reserve_size", default.reserve_size),
            entry.get("guaranteed_size", default.guaranteed_size),
        )

    def of_database(self, name: str) -> tuple[tuple[str, ...], int]:
        """The key of the configuration that caps a database's connections on one backend, and the
        cap."""
        own = self.databases.get(name, {}).get("max_connections")
        if own is None:
            return ("pool", "max_database_connections"), self.max_database
        return ("pool", "databases", name, "max_connections"), own

    def of_user(self, name: str) -> tuple[tuple[str, ...], int]:
        """The same for a user."""
        own = self.users.get(name, {}).get("max_connections")
        if own is None:
            return ("pool", "max_user_connections"), self.max_user
        return ("pool", "users", name, "max_connections"), own

    @property
    def largest(self) -> list[tuple[str, int]]:
        """Every key by which one pool may grow, with how large that makes it, its reserve included."""
        found = [("pool.size", self.default.size + self.default.reserve_size)]
        for table, entries in (("databases", self.databases), ("users", self.users)):
            for name, entry in entries.items():
                if "size" in entry or "reserve_size" in entry:
                    size = entry.get("size", self.default.size)
                    reserve = entry.get("reserve_size", self.default.reserve_size)
                    found.append((f"pool.{table}.{name}.size", size + reserve))
        return found

    def excess(self, room: int) -> list[str]:
        """What of this could take more than the `room` that a server has for us: keys and values."""
        if self.max_backend:
            if self.max_backend <= room:
                return []
            return [f"pool.max_backend_connections = {self.max_backend}"]
        return [f"{key} = {size}" for key, size in self.largest if size > room]


def pool_sizes(pool: Pool, worker: int = 0, workers: int = 1) -> PoolSizes:
    """What the section [pool] of the configuration says to one of several workers: how many there may
    be is of all together, what is kept or comes beside that is divided."""

    def part(number: int) -> int:
        return number // workers + (worker < number % workers)

    return PoolSizes(
        pool.size,
        part(pool.min_size),
        part(pool.reserve_size),
        part(pool.guaranteed_size),
        max_backend=pool.max_backend_connections,
        max_database=pool.max_database_connections,
        max_user=pool.max_user_connections,
        databases={name: _given(entry, part) for name, entry in pool.databases.items()},
        users={name: _given(entry, part) for name, entry in pool.users.items()},
    )


def _given(entry: PoolEntry, part: Callable[[int], int]) -> dict[str, int]:
    values = {key: getattr(entry, key) for key in KEYS}
    return {
        key: part(value) if key in DIVIDED else value
        for key, value in values.items()
        if value is not None
    }


def excess_text(sizes: PoolSizes, room: int) -> str:
    """A line for the operator about a server that takes `room` connections of ordinary users; empty
    if all fits."""
    left = room_for_pools(room)
    keys = sizes.excess(left)
    if not keys:
        return ""
    return (
        f"{' and '.join(keys)} could take more than the {left} connections that the server has for "
        f"the pools: its max_connections less what is reserved there leave {room}, and the proxy "
        f"needs {BESIDE} of them beside its pools; more than {left} are never opened"
    )


def room_for_pools(room: int) -> int:
    """What is left of a server's places for ordinary users."""
    return max(room - BESIDE, 1)
