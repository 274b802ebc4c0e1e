"""How much and how long: [limits] and [timeouts]."""

import math
from typing import Annotated

from pydantic import Field

from pgproxy.config.kinds import (
    Cap,
    OptionalCap,
    OptionalSeconds,
    Positive,
    SecondsOrNever,
    SecondsOrOff,
    Section,
    Share,
    Switch,
)


class LimitEntry(Section):
    """What is different for one database or one user."""

    max_clients: OptionalCap = None
    weight: Share = 1


LimitEntries = Annotated[
    dict[str, LimitEntry],
    Field(description="a table for each name such as { reports = { max_clients = 50 } }"),
]


class Limits(Section):
    """Clients; statements or transactions in flight at once, and who waits for it."""

    max_clients_per_database: Cap = 0
    max_clients_per_user: Cap = 0
    max_concurrent: Cap = 0
    max_concurrent_per_backend: Cap = 0
    queue_size: Cap = 0
    notice_after: SecondsOrNever = 0.0
    adaptive: Switch = False
    adaptive_floor: Positive = 2
    databases: LimitEntries = {}
    users: LimitEntries = {}

    def weight(self, database: str, user: str) -> float:
        """The share of a user in a database, relative to others."""
        entries = (self.databases.get(database), self.users.get(user))
        return math.prod(entry.weight for entry in entries if entry is not None)


class TimeoutEntry(Section):
    """What is different for one database or one user."""

    client_login: OptionalSeconds = None
    query: OptionalSeconds = None
    transaction: OptionalSeconds = None
    idle_in_transaction: OptionalSeconds = None
    client_idle: OptionalSeconds = None


TimeoutEntries = Annotated[
    dict[str, TimeoutEntry],
    Field(description="a table for each name such as { reports = { query = 600 } }"),
]


class Timeouts(Section):
    """How long a client may take for what."""

    client_login: SecondsOrOff = 60.0
    query: SecondsOrOff = 0.0
    transaction: SecondsOrOff = 0.0
    idle_in_transaction: SecondsOrOff = 0.0
    client_idle: SecondsOrOff = 0.0
    databases: TimeoutEntries = {}
    users: TimeoutEntries = {}
