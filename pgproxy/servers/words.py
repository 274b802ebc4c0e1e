"""PURE. What those are told who wait for a server connection or a seat, or would have to: which limit
is in the way, and who has most of what it limits.
"""

from collections.abc import Iterable
from typing import Final

from pgproxy.errors import CANNOT_CONNECT_NOW, SUCCESS, TOO_MANY_CONNECTIONS, PgError
from pgproxy.servers.backend import Backend
from pgproxy.servers.budget import LEARNED, PORTION, Room
from pgproxy.servers.limiter import Limiter

# How many are named of those who have most.
NAMED: Final = 3
# The name of a limit that slowness has shrunk: to raise the configured one would not help.
LEARNT: Final = "limits.adaptive"
NO_CONNECTION: Final = "no server connection became free in time"


def holders(counts: Iterable[tuple[str, str, int]]) -> str:
    """A sentence of those with most, of (database, user, number); "" if nobody has any."""
    most = sorted((one for one in counts if one[2] > 0), key=lambda one: -one[2])[:NAMED]
    if not most:
        return ""
    named = [f'database "{database}", user "{user}" ({count})' for database, user, count in most]
    return f"Most have: {'; '.join(named)}."


def limit_of_seats(limiter: Limiter, backend: Backend) -> tuple[str, int]:
    """The one that is in the way of whoever waits for a seat on this backend, and its cap."""
    running = backend.running
    limit = limiter.total
    if limit.has_room and running.shown:
        if backend.adaptive is not None and backend.adaptive.has_shrunk:
            return LEARNT, running.shown
        limit = running
    return ".".join(limit.key[:2]), limit.shown


def queue_is_full(size: int, limit: str, cap: int, most: str) -> PgError:
    return PgError(
        TOO_MANY_CONNECTIONS,
        "too many clients wait for a server connection",
        detail=(
            f"{size} wait already (limits.queue_size), so this statement was refused at once. It "
            "was not run: try again later."
        ),
        hint=f"What they wait for is limited by {limit} = {cap}. {most}".rstrip(),
    )


def seat_timeout(waited: float, limit: str, cap: int, most: str) -> PgError:
    remedy = "See what makes the server slow" if limit == LEARNT else f"Raise {limit}"
    return PgError(
        TOO_MANY_CONNECTIONS,
        "no place to run became free in time",
        detail=(
            f"As many statements and transactions as {limit} = {cap} allows were in flight for "
            f"{waited:g} s (pool.wait_timeout). This one was not run: try again later."
        ),
        hint=f"{remedy}, or look for transactions that stay open. {most}".rstrip(),
    )


def pool_timeout(size: int, database: str, user: str, backend: str, waited: float) -> PgError:
    """The pool's own size was in the way."""
    return PgError(
        TOO_MANY_CONNECTIONS,
        NO_CONNECTION,
        detail=(
            f'All {size} connections of database "{database}", user "{user}" on {backend} were in use '
            f"for {waited:g} s (pool.wait_timeout)."
        ),
        hint="Raise pool.size, or look for transactions that stay open.",
    )


def room_timeout(room: Room, whose: str, backend: str, waited: float, held_by: str) -> PgError:
    """A cap that the pool shares with others was in the way; `whose` connections it counts, if not
    those of all."""
    key = ".".join(room.limit.key)
    what = f"server connections to {backend} ({key})"
    advice = f"Raise {key}"
    if room.limit.key == LEARNED:
        what = (
            f"connections that {backend} has for the proxy (its max_connections, less what is "
            "reserved and what the proxy needs beside its pools)"
        )
        advice = "Raise max_connections there"
    elif room.limit.key == PORTION:
        what = f"connections to {backend} that are this proxy's ({key})"
        advice = "Raise max_connections there and pool.max_backend_connections, if that is set"
    elif whose:
        what = f"connections of {whose} on {backend} ({key})"
    return PgError(
        TOO_MANY_CONNECTIONS,
        NO_CONNECTION,
        detail=f"All {room.limit.used} {what} were in use for {waited:g} s (pool.wait_timeout).",
        hint=f"Held by: {held_by}. {advice}, or look for transactions that stay open there.",
    )


def unreachable(backend: str, why: PgError, waited: float) -> PgError:
    return PgError(
        why.sqlstate,
        f"cannot connect to {backend}: {why.message}",
        detail=f"Tried for {waited:g} s (pool.wait_timeout).",
    )


def no_primary_error(seconds: float) -> PgError:
    return PgError(
        CANNOT_CONNECT_NOW,
        "no primary server is available",
        detail=f"None appeared within {seconds:g} s (health.failover_wait). Try again.",
    )


def notice(what: str, place: int, count: int, waited: float) -> PgError:
    """For one who has waited for a while and goes on waiting."""
    return PgError(
        SUCCESS,
        f"waiting for {what}",
        severity="NOTICE",
        detail=f"Waited for {waited:.1f} s so far; number {place} of {count} in line.",
    )
