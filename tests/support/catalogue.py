"""A catalogue that only writes down what it is told."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from pgproxy.config import Health
from pgproxy.embedded import Server
from pgproxy.servers.catalogue_reader import Reading, Session

HEALTH: Final = Health(timeout=30)


class Told:
    """What was reported of one database, by schema and name."""

    def __init__(self) -> None:
        self.functions: dict[str, list[tuple[int, int, bool, bool]]] = {}
        self.operators: dict[str, bool] = {}
        self.types: dict[str, str] = {}
        self.casts: list[tuple[str, str]] = []
        self.implicits: list[str] = []
        self.relations: dict[str, tuple[str, str]] = {}
        self.bodies: dict[tuple[str, str], set[str]] = {}
        self.paths: dict[str, str] = {}

    def function(
        self, schema: str, name: str, least: int, most: int, *, volatile: bool, takes_row: bool
    ) -> None:
        overloads = self.functions.setdefault(f"{schema}.{name}", [])
        overloads.append((least, most, volatile, takes_row))

    def operator(self, schema: str, name: str, *, volatile: bool) -> None:
        self.operators[f"{schema}.{name}"] = volatile

    def type(self, schema: str, name: str, definition: str) -> None:
        self.types[f"{schema}.{name}"] = definition

    def cast(self, schema: str, name: str, detail: str) -> None:
        self.casts.append((f"{schema}.{name}", detail))

    def implicit(self, detail: str, _function: str) -> None:
        self.implicits.append(detail)

    def runs(self, kind: str, schema: str, name: str, text: str) -> None:
        self.bodies.setdefault((kind, f"{schema}.{name}"), set()).add(text)

    def relation(self, schema: str, name: str, kind: str, definition: str) -> None:
        self.relations[f"{schema}.{name}"] = (kind, definition)

    def search_path(self, role: str, text: str) -> None:
        self.paths[role] = text


@contextlib.asynccontextmanager
async def session_of(
    server: Server, database: str, health: Health = HEALTH
) -> AsyncIterator[Session]:
    """A session for the catalogue of that database, as that server has it."""
    session = await Session.open(server.host, server.port, health, database)
    try:
        yield session
    finally:
        session.drop()


async def read(
    server: Server,
    database: str,
    health: Health = HEALTH,
    proceed: Callable[[], None] = lambda: None,
) -> tuple[Told, Reading]:
    """All of it, as of now."""
    told = Told()
    async with session_of(server, database, health) as session:
        reading = await session.read(told, proceed=proceed)
    assert reading is not None
    return told, reading
