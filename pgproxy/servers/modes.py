"""PURE. How long a client keeps its server connection: per user, per database, or as a rule.

transaction  until its transaction ends, or as long as it is pinned
session      from its first statement until it leaves
statement    as transaction, but a transaction of several statements is refused
"""

from collections.abc import Mapping
from typing import Final, final

TRANSACTION: Final = "transaction"
SESSION: Final = "session"
STATEMENT: Final = "statement"


@final
class PoolModes:
    """A user's mode wins over its database's, as in PgBouncer, and that over the `default`."""

    def __init__(
        self,
        default: str = TRANSACTION,
        databases: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.default: Final = default
        self.databases: Final[Mapping[str, str]] = {} if databases is None else databases
        self.users: Final[Mapping[str, str]] = {} if users is None else users

    def of(self, database: str, user: str) -> str:
        """The mode of such a client."""
        mode = self.users.get(user)
        if mode is None:
            mode = self.databases.get(database, self.default)
        return mode

    def origin(self, database: str, user: str) -> str:
        """The key of the configuration that says so."""
        if user in self.users:
            return f"pool.users.{user}.mode"
        if database in self.databases:
            return f"pool.databases.{database}.mode"
        return "pool.mode"
