"""asyncpg and psycopg, each in PostgreSQL's simple and extended protocol, behind one face.

A statement's parameters stand in it as {0}, {1}: whole numbers, which each driver and protocol
puts there in its own way.
"""

import contextlib
from typing import Any, Final, Protocol, Self

import asyncpg
import psycopg


class Session(Protocol):
    """One connection."""

    @classmethod
    async def connect(cls, dsn: str) -> Self:
        """Log in."""

    async def run(self, statement: str, *numbers: int) -> int:
        """How many rows it gave or touched."""

    async def close(self) -> None:
        """Leave, politely or not; never fails."""


class AsyncpgSimple:
    """asyncpg's `execute` without arguments: one Query."""

    def __init__(self, connection: Any) -> None:
        self._connection: Final = connection

    @classmethod
    async def connect(cls, dsn: str) -> Self:
        """Log in."""
        return cls(await asyncpg.connect(dsn))

    async def run(self, statement: str, *numbers: int) -> int:
        """How many rows it gave or touched, by the command's tag."""
        tag = await self._connection.execute(statement.format(*numbers))
        last = tag.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def close(self) -> None:
        """Leave."""
        self._connection.terminate()


class AsyncpgExtended(AsyncpgSimple):
    """Parse, Bind and Execute with a named statement that asyncpg keeps."""

    async def run(self, statement: str, *numbers: int) -> int:
        """How many rows it gave."""
        text = statement.format(*(f"${place}::bigint" for place in range(1, len(numbers) + 1)))
        return len(await self._connection.fetch(text, *numbers))


class PsycopgSimple:
    """psycopg's client-side cursor: one Query."""

    cursors: type[psycopg.AsyncCursor[Any]] = psycopg.AsyncClientCursor

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection: Final = connection

    @classmethod
    async def connect(cls, dsn: str) -> Self:
        """Log in."""
        return cls(
            await psycopg.AsyncConnection.connect(dsn, autocommit=True, cursor_factory=cls.cursors)
        )

    async def run(self, statement: str, *numbers: int) -> int:
        """How many rows it gave or touched."""
        text = statement.format(*["%s"] * len(numbers))
        cursor = await self._connection.execute(text.encode(), numbers or None)
        return cursor.rowcount

    async def close(self) -> None:
        """Leave."""
        with contextlib.suppress(psycopg.Error):
            await self._connection.close()


class PsycopgExtended(PsycopgSimple):
    """Unnamed statements at first, named ones from a statement's sixth time on."""

    cursors = psycopg.AsyncCursor


def server_error(error: Exception) -> BaseException:
    """What the server, or the proxy, said: asyncpg makes it the cause of an error of its own when
    the connection ends behind it."""
    ended = isinstance(error, asyncpg.ConnectionDoesNotExistError)
    return error.__cause__ if ended and error.__cause__ else error


def sqlstate(error: Exception) -> str | None:
    """The one that the server, or the proxy, gave; None if the connection just ended."""
    said = server_error(error)
    code = getattr(said, "sqlstate", None)
    if isinstance(said, asyncpg.ConnectionDoesNotExistError):
        return None  # 08003 is asyncpg's own word for it
    return code if isinstance(code, str) else None


def detail(error: Exception) -> str | None:
    """The DETAIL that came with it."""
    said = server_error(error)
    if isinstance(said, psycopg.Error):
        return said.diag.message_detail
    found = getattr(said, "detail", None)
    return found if isinstance(found, str) else None
