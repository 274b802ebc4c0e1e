"""PURE. How many clients there may be: in all, of each database, of each user.

A client takes its place among all with its start-up packet, before it is known whether it may log
in; its places of the database and of the user once it has shown who it is, so that nobody fills up
those of others. It keeps them to its end. As nothing is awaited between looking and taking, a cap
is not exceeded at any moment.
"""

from collections.abc import Mapping
from typing import Final, Protocol, final

from pgproxy.errors import TOO_MANY_CONNECTIONS, PgError
from pgproxy.servers.limits import NO_CAP, Limit
from pgproxy.telemetry.counters import CAPS

NOBODY: Final[Mapping[str, int]] = {}


class Quotas(Protocol):
    """This process's part of caps that hold over several (workers/sources.py)."""

    def limit(self, key: tuple[str, ...], cap: int) -> Limit:
        """The one for that key; there is room for nobody at first."""

    async def room(self, limit: Limit) -> None:
        """Returns once there is room, or is known to be none."""


@final
class Named:
    """The clients of each database, or of each user. `each` holds for those that `caps` does not
    name; 0 is no cap."""

    def __init__(
        self,
        word: str,
        each: int,
        caps: Mapping[str, int] = NOBODY,
        quotas: Quotas | None = None,
    ) -> None:
        self._quotas: Final = quotas
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
        return 0 if found.whole == NO_CAP else int(found.whole)

    def count(self, name: str) -> int:
        found = self._limits.get(name)
        return 0 if found is None else int(found.used)

    def has_room(self, name: str) -> bool:
        found = self._limits.get(name)
        return found.has_room if found is not None else self._limit(name).has_room

    def enter(self, name: str) -> None:
        found = self._limits.get(name)
        if found is None:
            found = self._limits[name] = self._limit(name)
        found.used += 1

    async def room(self, name: str) -> None:
        """As Quotas.room."""
        if self._quotas is not None:
            await self._quotas.room(self._limits.get(name) or self._limit(name))

    def _limit(self, name: str) -> Limit:
        return limited(("clients", self._word, name), self.cap(name), self._quotas)

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
        self,
        total: int,
        databases: Named,
        users: Named,
        refused: dict[str, int] | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self._quotas: Final = quotas
        self.total: Final = limited(("clients",), total, quotas)
        self.databases: Final = databases
        self.users: Final = users
        # By which cap.
        self.refused: Final = dict.fromkeys(CAPS, 0) if refused is None else refused

    async def room(self) -> None:
        """As Quotas.room."""
        if self._quotas is not None:
            await self._quotas.room(self.total)

    def enter(self) -> "Place":
        """One client more. Raises `PgError` FATAL if there are too many."""
        if not self.total.has_room:
            self.refused["total"] += 1
            cap = int(self.total.whole)
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

    async def identify(self, database: str, user: str) -> None:
        """As `identified`, where one may have to wait for others to say how many they have."""
        await self._caps.databases.room(database)
        await self._caps.users.room(user)
        self.identified(database, user)

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


def limited(key: tuple[str, ...], cap: int, quotas: Quotas | None) -> Limit:
    """A limit, or this process's part of it; a cap of 0 is none."""
    return Limit(key, cap) if quotas is None or cap == 0 else quotas.limit(key, cap)


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
