"""PURE. Which databases the operator has paused or disabled (the admin console)."""

from typing import Final, final

from pgproxy.errors import CANNOT_CONNECT_NOW, PgError


@final
class Gate:
    """`everything` is paused, or single databases; a disabled one lets no new client in."""

    def __init__(self) -> None:
        self.everything = False
        self.paused: Final[set[str]] = set()
        self.disabled: Final[set[str]] = set()

    def holds(self, database: str) -> bool:
        """Whether nothing new may begin there."""
        return self.everything or database in self.paused

    def has(self, database: str) -> bool:
        """Whether that has been paused already; without a name: all databases."""
        return self.everything or (database != "" and database in self.paused)

    def pause(self, database: str) -> None:
        """Without a name: all databases."""
        if database:
            self.paused.add(database)
        else:
            self.everything = True

    def resume(self, database: str) -> None:
        """Without a name: whatever is paused."""
        if database:
            self.paused.discard(database)
            return
        self.everything = False
        self.paused.clear()

    def let_in(self, database: str) -> None:
        """Raises `PgError` FATAL (57P03) for a database that is disabled."""
        if database in self.disabled:
            raise PgError(
                CANNOT_CONNECT_NOW,
                f'database "{database}" is disabled',
                severity="FATAL",
                detail="DISABLE was given in the admin console.",
                hint=f"ENABLE {database} there lets clients in again.",
            )


def paused_error(database: str, waited: float) -> PgError:
    """For one who has waited too long."""
    return PgError(
        CANNOT_CONNECT_NOW,
        f'database "{database}" is paused',
        detail=f"Waited for {waited:g} s (pool.wait_timeout).",
        hint="RESUME in the admin console lets it go on.",
    )
