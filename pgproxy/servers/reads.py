"""PURE. How old a read may be, and what becomes of one for which no replica is fresh enough."""

from typing import Final, final

from pgproxy.errors import CANNOT_CONNECT_NOW, PgError

# Seconds between questions for positions while reads want a fresher replica: so small a share of what
# the freshest one lags behind, between these two.
SHORTEST_GAP: Final = 0.01
LONGEST_GAP: Final = 0.2
SHARE: Final = 0.1

# routing.read_from_primary
NEVER: Final = "never"
FALLBACK: Final = "fallback"
ALWAYS: Final = "always"


@final
class ReadRules:
    """max_staleness   seconds that a replica may be behind (consistency.max_staleness); 0: any
    wait            seconds that a read waits for a fresh replica (consistency.wait)
    from_primary    NEVER, FALLBACK or ALWAYS
    """

    def __init__(
        self, *, max_staleness: float = 0.0, wait: float = 0.0, from_primary: str = FALLBACK
    ) -> None:
        self.max_staleness = max_staleness if max_staleness > 0 else float("inf")
        self.wait = wait
        self.never_from_primary = from_primary == NEVER
        self.always_from_primary = from_primary == ALWAYS


def position_gap(behind: float) -> float:
    """Seconds between two questions while the freshest replica is `behind`."""
    return min(max(behind * SHARE, SHORTEST_GAP), LONGEST_GAP)


def no_replica_error(waited: float) -> PgError:
    """For a read that may go nowhere else."""
    return PgError(
        CANNOT_CONNECT_NOW,
        "there is no replica that can serve this read now",
        detail=(
            f"Waited {waited:g} s (health.failover_wait) for a replica that is up and fresh enough; "
            'routing.read_from_primary = "never" keeps reads from the primary.'
        ),
        hint="Try again, or let this one go there: /* pgproxy: primary */.",
    )
