"""Everything of the server side that happens because time passes."""

import asyncio
import time
from collections.abc import Callable

from pgproxy.servers.cluster import Cluster
from pgproxy.servers.context import Clock
from pgproxy.servers.reads import SHORTEST_GAP
from pgproxy.servers.sockets import Patience

# Seconds. How late a wait may be ended, and how coarse the clock of the hot path is.
TICK = 0.025
# Seconds between looks at idle connections, at those that take nothing, at the users file and at each
# server's part of the reads.
SWEEP = 1.0


class Janitor:
    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        refresh_users: Callable[[], object],
        ask_positions: Callable[[], None],
        no_primary: Callable[[], None],
        adapt: Callable[[float], None] | None,
        patience: Patience,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._refresh_users = refresh_users
        self._ask_positions = ask_positions
        self._no_primary = no_primary
        self._adapt = adapt
        self._patience = patience

    async def run(self) -> None:
        swept = time.monotonic()
        pause = TICK
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            self._clock.now = now
            self._cluster.tick(now)
            if self._adapt is not None:
                self._adapt(now)
            pause = TICK
            if self._cluster.wants_positions(now):
                self._ask_positions()
                pause = SHORTEST_GAP  # the next one will be wanted soon
            if now - swept >= SWEEP:
                swept = now
                self._cluster.retire(now)
                self._cluster.shares.weigh(now)
                self._patience.look(self._cluster.busy_transports())
                self._refresh_users()
                if self._cluster.primary is None:
                    self._no_primary()
