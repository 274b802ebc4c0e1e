"""Which router decides for a session: that of its database and search_path. PURE.

Most schemas hold tables alone, which say nothing about where a read may run; they are left out of a
path before it is looked for, so that a thousand tenants with schemas of their own share a router.
"""

import zlib
from collections.abc import Callable
from typing import Final, final

from mypy_extensions import i64

from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.lookup import FunctionLists, Lookup
from pgproxy.routing.namespace import Namespace, path_names
from pgproxy.routing.router import Learned, Memory, Router

# Routers of one database. Beyond them a session has the one for which any schema may be on the path.
MAX_PATHS: Final = 64

# Where workers tell each other of changes, databases are told apart by as many hashes.
PLACES: Final = 256


@final
class DatabaseRouters:
    """Those of one database. While it has no catalogue PostgreSQL's own lists decide for all.

    generation   rises when `choose` may have another answer for a session than before
    in_doubt     what the catalogue knows to be a read may not be one any more
    place        of the database where the workers tell each other of changes (relay/board.py),
                 changed_at and doubted_at what was seen there last
    """

    def __init__(self, memory: Memory, lists: FunctionLists, place: i64 = 0) -> None:
        self.generation: i64 = 1
        self.in_doubt = False
        self.place: i64 = place
        self.changed_at = 0.0
        self.doubted_at = 0.0
        self._memory = memory
        self._lists = lists
        self._catalogue: Catalogue | None = None
        self._schemas: set[str] = set()
        self._learned = Learned()
        self._built_in = Router(memory, Lookup(lists), self._learned)
        self._by_path: dict[tuple[str, ...] | None, Router] = {}

    def choose(self, path: str | None, user: str) -> Router:
        """The router for sessions of `user` (whom "$user" means) with that search_path; None: the
        default."""
        catalogue = self._catalogue
        if catalogue is None:
            return self._built_in
        if path is None:
            path = catalogue.default_path(user)
        if path is None:
            return self._of(None)
        schemas = [user if name == "$user" else name for name in path_names(path)]
        return self._of(tuple([schema for schema in schemas if schema in self._schemas]))

    def any_path(self) -> Router:
        """The router for sessions of which the search_path is not known."""
        return self._built_in if self._catalogue is None else self._of(None)

    def doubt(self) -> None:
        """The schema has changed; `take` ends this."""
        self.in_doubt = self._catalogue is not None

    def take(self, catalogue: Catalogue | None) -> None:
        """The catalogue as it is now; None: it cannot be read."""
        self.in_doubt = False
        before, self._catalogue = self._catalogue, catalogue
        if before is catalogue:
            return
        if before is not None and catalogue is not None and before.digest == catalogue.digest:
            self._catalogue = before
            return
        if before is not None:
            self._learned.clear()  # what writes may be a read now
        for router in self._by_path.values():
            self._memory.leave(router)
        self._by_path.clear()
        self._schemas = set() if catalogue is None else catalogue.schemas()
        self.generation += 1

    def close(self) -> None:
        """Nobody uses the database any more."""
        self.take(None)
        self._memory.leave(self._built_in)

    def _of(self, schemas: tuple[str, ...] | None) -> Router:
        catalogue = self._catalogue
        assert catalogue is not None
        if schemas not in self._by_path and len(self._by_path) >= MAX_PATHS:
            schemas = None
        found = self._by_path.get(schemas)
        if found is None:
            found = Router(self._memory, Namespace(catalogue, schemas, self._lists), self._learned)
            self._by_path[schemas] = found
        return found


@final
class Routers:
    """Those of all databases. `on_new` is told each that is used from now on."""

    def __init__(
        self,
        memory: Memory,
        lists: FunctionLists,
        on_new: Callable[[str], None] = lambda _database: None,
    ) -> None:
        self.memory = memory
        self._lists = lists
        self._on_new = on_new
        self._databases: dict[str, DatabaseRouters] = {}

    def of(self, database: str) -> DatabaseRouters:
        found = self._databases.get(database)
        if found is None:
            place = zlib.crc32(database.encode("utf-8", "surrogateescape")) % PLACES
            found = DatabaseRouters(self.memory, self._lists, place)
            self._databases[database] = found
            self._on_new(database)
        return found

    def take(self, database: str, catalogue: Catalogue | None) -> None:
        """The catalogue of a database that has sessions; of others nothing is remembered."""
        found = self._databases.get(database)
        if found is not None:
            found.take(catalogue)

    def forget(self, database: str) -> None:
        """It has no session any more."""
        found = self._databases.pop(database, None)
        if found is not None:
            found.close()
