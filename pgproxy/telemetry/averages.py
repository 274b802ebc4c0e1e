"""PURE. What each database has seen, in total and as averages: PgBouncer's statistics.

Averages are of the last one to two periods of a minute, as PgBouncer's are: at the end of a period
the numbers are kept, and what came since the period before last is divided by the time since then.
Times here are microseconds.
"""

from collections.abc import Mapping
from typing import Final, final

from pgproxy.telemetry.counters import Traffic

# Seconds: PgBouncer's stats_period.
PERIOD: Final = 60.0

# What is counted, in PgBouncer's order.
COUNTS: Final = (
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
)
# An average of these is per one of those, and of all others per second.
PER: Final = {
    "xact_time": "xact_count",
    "query_time": "query_count",
    "wait_time": "server_assignment_count",
}
# They would cost the data path a clock or a look at every batch, and are not counted.
UNCOUNTED: Final = frozenset({"query_time", "server_parse_count"})

Numbers = dict[str, int]


def numbers_of(traffic: Traffic) -> Numbers:
    """By their names in COUNTS, without those that are not counted."""
    return {
        "server_assignment_count": int(traffic.leases),
        "xact_count": int(traffic.transactions),
        "query_count": int(traffic.queries),
        "client_bytes": int(traffic.received),
        "server_bytes": int(traffic.sent),
        "xact_time": round(traffic.busy * 1e6),
        "wait_time": round(traffic.waited * 1e6),
        "client_parse_count": int(traffic.parses),
        "bind_count": int(traffic.binds),
        "client_login_count": int(traffic.logins),
    }


def add(numbers: list[Numbers]) -> Numbers:
    """The sums over several databases."""
    return {
        name: sum(one.get(name, 0) for one in numbers) for name in COUNTS if name not in UNCOUNTED
    }


@final
class Averages:
    """Remembers where the numbers stood. `look` is to be called now and then."""

    def __init__(self, traffic: Mapping[str, Traffic], now: float) -> None:
        self._traffic: Final = traffic
        self._older: dict[str, Numbers] = {}
        self._older_at = now
        self._newer: dict[str, Numbers] = {}
        self._newer_at = now

    def look(self, now: float) -> None:
        """Ends the period if it is over."""
        if now - self._newer_at < PERIOD * 0.99:  # a sleep may end early
            return
        self._older, self._older_at = self._newer, self._newer_at
        self._newer = {name: numbers_of(one) for name, one in self._traffic.items()}
        self._newer_at = now

    def totals(self) -> dict[str, Numbers]:
        """By database, in the order of their names."""
        return {name: numbers_of(self._traffic[name]) for name in sorted(self._traffic)}

    def averages(self, now: float) -> dict[str, Numbers]:
        """The same, as averages."""
        return {
            name: self._average(numbers, self._older.get(name, {}), now)
            for name, numbers in self.totals().items()
        }

    def average(self, now: float) -> Numbers:
        """Over all databases."""
        return self._average(
            add(list(self.totals().values())), add(list(self._older.values())), now
        )

    def _average(self, numbers: Numbers, before: Numbers, now: float) -> Numbers:
        seconds = now - self._older_at
        grown = {name: value - before.get(name, 0) for name, value in numbers.items()}
        found: Numbers = {}
        for name, value in grown.items():
            if name in PER:
                count = grown[PER[name]]
                found[name] = value // count if count else 0
            else:
                found[name] = int(value / seconds) if seconds > 0 else 0
        return found
