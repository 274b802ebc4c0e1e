"""HOT, PURE. The numbers that the data path counts, as plain integers.

Nothing is ever reported from here; telemetry/metrics.py reads them when somebody scrapes.
"""

from typing import Final, final

from mypy_extensions import i64

# Upper bounds in seconds of the transaction-time histogram.
BUCKETS: Final[tuple[float, ...]] = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


@final
class Histogram:
    """Counts per bucket, not cumulative; the last one is above all bounds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.total += seconds
        low: i64 = 0
        high: i64 = 18
        bounds = BUCKETS
        while low < high:
            middle = (low + high) // 2
            if seconds <= bounds[middle]:
                high = middle
            else:
                low = middle + 1
        self.counts[low] += 1


# How a wait for a fresh replica ends.
TO_REPLICA: Final = 0
TO_PRIMARY: Final = 1
REFUSED: Final = 2
LEFT: Final = 3  # with the client, or its cancel request
ENDS: Final = ("replica", "primary", "refused", "left")

# What clients are counted by, and refused when there are too many (clients/caps.py).
CAPS: Final = ("total", "database", "user")


@final
class FreshWaits:
    """Of reads, for a replica that is fresh enough."""

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.ends = [0] * len(ENDS)

    def ended(self, how: int, seconds: float) -> None:
        self.ends[how] += 1
        self.seconds.observe(seconds)


@final
class Traffic:
    """Of one database, since start. Times are seconds."""

    def __init__(self) -> None:
        self.logins: i64 = 0  # of clients
        self.leases: i64 = 0
        self.transactions: i64 = 0
        self.queries: i64 = 0  # answers with a ReadyForQuery that a server gave
        self.received: i64 = 0  # bytes, of clients
        self.sent: i64 = 0  # bytes, of servers
        self.busy = 0.0  # leased, without sessions that are pinned
        self.waited = 0.0  # for a server connection
        self.parses: i64 = 0  # Parse messages of clients
        self.binds: i64 = 0  # Bind messages of clients
        self.timeouts: dict[str, int] = {}  # that have come about, by kind


@final
class Structure:
    """Of statements that differ in literals only (routing/structures.py).

    primary, replica   batches that ran there
    timed, seconds     those that ran alone and in no transaction, and how long they had a server
    reason             of the last decision
    """

    def __init__(self, id: str, text: str) -> None:
        self.id: Final = id  # of the whole text, and always the same
        self.text: Final = text
        self.reason = ""
        self.primary: i64 = 0
        self.replica: i64 = 0
        self.timed: i64 = 0
        self.seconds = 0.0
        self.seen: i64 = 0  # `calls` when room was made last

    @property
    def calls(self) -> int:
        return int(self.primary + self.replica)

    def __repr__(self) -> str:
        return f"<Structure {self.text!r} {self.calls}>"


@final
class Counters:
    """Of the whole proxy. `routed[reason.code * 2 + target]` counts statements."""

    def __init__(self, reasons: int) -> None:
        self.databases: dict[str, Traffic] = {}  # whose clients have logged in
        self.routed = [0] * (reasons * 2)
        self.transactions = Histogram()
        self.waits = Histogram()
        self.clients: i64 = 0
        self.clients_total: i64 = 0
        self.clients_refused = dict.fromkeys(CAPS, 0)
        self.logins_failed: i64 = 0
        self.login_timeouts: i64 = 0  # of them: took too long
        self.wait_timeouts: i64 = 0
        self.seat_timeouts: i64 = 0  # of them: with a connection at hand
        self.queue_refusals: i64 = 0  # because of limits.queue_size
        self.server_errors: i64 = 0  # ErrorResponses that servers sent
        self.proxy_errors: i64 = 0  # ErrorResponses of our own
        self.servers_opened: i64 = 0
        self.servers_lost: i64 = 0
        self.servers_cut: i64 = 0  # by us, because the server must get no write
        self.failover_waits = Histogram()
        self.failover_timeouts: i64 = 0
        self.fresh_waits = FreshWaits()
        self.server_logins_failed: i64 = 0
        self.cancels: i64 = 0
        self.pins: dict[str, int] = {}
        self.moved_transactions: i64 = 0
        self.reruns: i64 = 0  # transactions that went on on another server
        self.reruns_failed: i64 = 0
        # Why what a replica was asked was run again elsewhere (relay/net.py).
        self.replica_retries = {"read_only": 0, "conflict": 0, "lost": 0}
        self.healed: i64 = 0  # batches run again because a table had other columns
        self.replication_total: i64 = 0  # connections passed through
        self.replication_cut: i64 = 0  # of them: ended because of their server's role

    def traffic(self, database: str) -> Traffic:
        """What is counted for a database."""
        found = self.databases.get(database)
        if found is None:
            found = self.databases[database] = Traffic()
        return found
