"""Everything of the server side that happens because time passes."""

import asyncio
import time
from collections.abc import Callable

from pgproxy.servers.cluster import Cluster
from pgproxy.servers.pool import Clock

# Seconds. How late a wait may be ended, and how coarse the clock of the hot path is.
TICK = 0.025
# Seconds between looks at idle connections and at the users file.
SWEEP = 1.0


class Janitor:
    def __init__(self, cluster: Cluster, clock: Clock, refresh_users: Callable[[], None]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._refresh_users = refresh_users

    async def run(self) -> None:
        swept = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self._clock.now = now
            self._cluster.tick(now)
            if now - swept >= SWEEP:
                swept = now
                self._cluster.retire(now)
                self._refresh_users()
