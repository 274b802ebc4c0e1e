"""PURE. What those are told who wait for a server connection or a seat, or would have to: which limit
is in the way, and who has most of what it limits.
"""

from collections.abc import Iterable
from typing import Final

from pgproxy.errors import SUCCESS, TOO_MANY_CONNECTIONS, PgError
from pgproxy.servers.backend import Backend
from pgproxy.servers.limiter import Limiter

# How many are named of those who have most.
NAMED: Final = 3
# The name of a limit that slowness has shrunk: to raise the configured one would not help.
LEARNT: Final = "limits.adaptive"


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


def notice(what: str, place: int, count: int, waited: float) -> PgError:
    """For one who has waited for a while and goes on waiting."""
    return PgError(
        SUCCESS,
        f"waiting for {what}",
        severity="NOTICE",
        detail=f"Waited for {waited:.1f} s so far; number {place} of {count} in line.",
    )
