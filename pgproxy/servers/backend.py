"""PURE. One PostgreSQL server as the pools know it: what is in flight there, what reads it gets."""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.servers.adaptive import AdaptiveLimit
from pgproxy.servers.budget import Budget
from pgproxy.servers.limits import Limit
from pgproxy.servers.sizes import PoolSizes
from pgproxy.servers.turns import Turns

# The part that one reply has in a backend's latency, and how many times that it counts at most: one
# long statement does not make a slow server.
ONE_REPLY: Final = 1 / 32
OUTLIER: Final = 4.0


@final
class Backend:
    """One PostgreSQL server of the topology. `load` counts leases and waiters of all its pools,
    `running` the statements and transactions in flight, of which there may be `max_concurrent`."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        weight: float,
        max_logins: int = 8,
        max_concurrent: int = 0,
        sizes: PoolSizes | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.weight = weight
        self.logins = Turns(max_logins)  # of all its pools
        self.budget = Budget(sizes)  # what its pools share
        self.load: i64 = 0
        self.running = Limit(("limits", "max_concurrent_per_backend", name), max_concurrent)
        self.adaptive: AdaptiveLimit | None = None  # what the cap of `running` follows
        self.room = 1.0  # what slowness has left of what it can do; 1 while its limit is whole
        self.in_line: i64 = 0  # those who wait for a seat here (servers/limiter.py)
        self.writable = False
        self.is_away = False  # it does not answer, and is not to be waited for
        self.is_asked_for_long_keys = True  # that is, for protocol 3.2
        self.leases: i64 = 0  # since start
        self.fresh_as_of = 0.0  # monotonic seconds: what was committed before is visible here
        self.latency = 0.0  # seconds that a read takes here, a moving average; 0: not known
        # Its part in the reads (servers/shares.py).
        self.zone = ""
        self.reads_since = 0.0  # monotonic seconds
        self.share = 1.0  # what its weight is multiplied with
        self.rank: i64 = 0  # those of a higher one get reads only if there is nobody of a lower one
        self.cost = 1.0  # of one statement in flight
        self.due = 1.0  # of each turn
        self.credit = 0.0  # what it was due and has not got

    def took(self, seconds: float) -> None:
        """A read has been answered."""
        latency = self.latency
        if latency == 0.0:
            self.latency = seconds
            return
        seconds = min(seconds, latency * OUTLIER)
        self.latency = latency + (seconds - latency) * ONE_REPLY

    def __repr__(self) -> str:
        return f"<Backend {self.name} load={self.load}>"
