"""PURE. How many clients there may be: in all, of each database, of each user.

A client takes its place among all with its start-up packet, before it is known whether it may log
in; its places of the database and of the user once it has shown who it is, so that nobody fills up
those of others. It keeps them to its end. As nothing is awaited between looking and taking, a cap
is not exceeded at any moment.
"""

from collections.abc import Mapping
from typing import Final, final

from pgproxy.errors import TOO_MANY_CONNECTIONS, PgError
from pgproxy.servers.limits import NO_CAP, Limit
from pgproxy.telemetry.counters import CAPS

NOBODY: Final[Mapping[str, int]] = {}


@final
class Named:
    """The clients of each database, or of each user. `each` holds for those that `caps` does not
    name; 0 is no cap."""

    def __init__(self, word: str, each: int, caps: Mapping[str, int] = NOBODY) -> None:
        self._word: Final = word
        self._each: Final = each
        self._caps: Final = caps
        # Those that have clients: names are the clients' to choose, and not kept.
        self._limits: dict[str, Limit] = {}

    @property
    def named(self) -> set[str]:
        """Those that have a cap of their own."""
        return set(self._caps)

    @property
    def entries(self) -> int:
        """How many of them have clients."""
        return len(self._limits)

    def cap(self, name: str) -> int:
        """How many there may be; 0: any number."""
        found = self._limits.get(name)
        if found is None:
            return self._caps.get(name, self._each)
        return 0 if found.cap == NO_CAP else int(found.cap)

    def count(self, name: str) -> int:
        found = self._limits.get(name)
        return 0 if found is None else int(found.used)

    def has_room(self, name: str) -> bool:
        found = self._limits.get(name)
        return found is None or found.has_room

    def enter(self, name: str) -> None:
        found = self._limits.get(name)
        if found is None:
            found = self._limits[name] = Limit(("clients", self._word, name), self.cap(name))
        found.used += 1

    def leave(self, name: str) -> None:
        found = self._limits[name]
        found.used -= 1
        if found.used == 0:
            del self._limits[name]

    def origin(self, name: str) -> str:
        """The key of the configuration that says how many."""
        if name in self._caps:
            return f"limits.{self._word}s.{name}.max_clients"
        return f"limits.max_clients_per_{self._word}"


@final
class ClientCaps:
    """Users of the admin console are not counted."""

    def __init__(
        self, total: int, databases: Named, users: Named, refused: dict[str, int] | None = None
    ) -> None:
        self.total: Final = Limit(("clients",), total)
        self.databases: Final = databases
        self.users: Final = users
        # By which cap.
        self.refused: Final = dict.fromkeys(CAPS, 0) if refused is None else refused

    def enter(self) -> "Place":
        """One client more. Raises `PgError` FATAL if there are too many."""
        if not self.total.has_room:
            self.refused["total"] += 1
            cap = int(self.total.cap)
            raise _refusal("sorry, too many clients already", "listen.max_clients", cap)
        self.total.used += 1
        return Place(self)


@final
class Place:
    """What one client has taken of the caps."""

    def __init__(self, caps: ClientCaps) -> None:
        self._caps: Final = caps
        self._names: tuple[str, str] | None = None
        self._is_left = False

    def identified(self, database: str, user: str) -> None:
        """It has shown who it is. Raises `PgError` FATAL if there are too many of those."""
        caps = self._caps
        if not caps.databases.has_room(database):
            caps.refused["database"] += 1
            raise _named_refusal("database", database, caps.databases)
        if not caps.users.has_room(user):
            caps.refused["user"] += 1
            raise _named_refusal("role", user, caps.users)
        caps.databases.enter(database)
        caps.users.enter(user)
        self._names = (database, user)

    def leave(self) -> None:
        """It is gone. May be called again."""
        if self._is_left:
            return
        self._is_left = True
        caps = self._caps
        caps.total.used -= 1
        if self._names is not None:
            caps.databases.leave(self._names[0])
            caps.users.leave(self._names[1])


def _named_refusal(word: str, name: str, counted: Named) -> PgError:
    message = f'too many connections for {word} "{name}"'
    return _refusal(message, counted.origin(name), counted.cap(name))


def _refusal(message: str, key: str, cap: int) -> PgError:
    return PgError(
        TOO_MANY_CONNECTIONS,
        message,
        severity="FATAL",
        detail=f"{key} is {cap}, and as many clients are there.",
        hint="Close connections that are not needed, or raise the limit.",
    )
