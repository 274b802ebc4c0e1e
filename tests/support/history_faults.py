"""What goes wrong with servers while clients work: replicas that stand still, hang or crash, and a
primary that leaves its role to one of them.

    async with Faults(cluster).running() as faults:
        ...
        await faults.switch_over(kill=False)
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from pgproxy.embedded import Cluster, Server

# What befalls a replica, how often, and for how many seconds: its replay stands still, none of its
# processes runs, all of them die at once (then it starts again where its last restart point is).
_KINDS: Final = {"pause": 12, "freeze": 4, "crash": 1}
_LENGTHS: Final = {"pause": (0.05, 1.0), "freeze": (0.05, 0.6), "crash": (0.0, 0.2)}
_REST: Final = (0.05, 1.0)  # seconds between two faults of one replica
_FOLLOWS: Final = 5.0  # seconds in which a replica that can follow the new primary does


class Faults:
    """The replicas of a cluster are disturbed, each by itself, without end."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.counts: Final[Counter[str]] = Counter()
        self._cluster: Final = cluster
        self._random: Final = random.Random(seed)
        self._locks: Final = {server.name: asyncio.Lock() for server in cluster.servers}
        self._is_over = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Faults"]:
        """Within the block; all is well again behind it."""
        async with asyncio.TaskGroup() as tasks:
            for server in self._cluster.servers:
                tasks.create_task(self._disturb(server))
            try:
                yield self
            finally:
                self._is_over = True

    async def switch_over(self, *, kill: bool) -> None:
        """The first replica becomes the primary, and the others follow it; meanwhile nothing else
        goes wrong. With `kill` the primary dies at once, else it ends in order."""
        cluster = self._cluster
        old, (new, other) = cluster.primary, cluster.replicas
        async with contextlib.AsyncExitStack() as calm:
            for lock in self._locks.values():
                await calm.enter_async_context(lock)
            await asyncio.to_thread(old.kill9 if kill else old.stop)
            await asyncio.to_thread(new.promote)
            await asyncio.to_thread(other.follow, new)
            if not await self._streams(new):
                self.counts["diverged"] += 1  # it had more of the old timeline than the new primary
                await asyncio.to_thread(other.rejoin, new)
            await asyncio.to_thread(old.rejoin, new)
            self.counts["promotion"] += 1

    async def _streams(self, primary: Server) -> bool:
        deadline = asyncio.get_running_loop().time() + _FOLLOWS
        count = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        while await asyncio.to_thread(primary.psql, count) == "0":
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def _disturb(self, server: Server) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*_REST))
            async with self._locks[server.name]:
                if self._is_over:
                    return
                if server is self._cluster.primary:
                    continue
                [kind] = self._random.choices(list(_KINDS), list(_KINDS.values()))
                seconds = self._random.uniform(*_LENGTHS[kind])
                self.counts[kind] += 1
                await getattr(self, f"_{kind}")(server, seconds)

    async def _pause(self, server: Server, seconds: float) -> None:
        await asyncio.to_thread(server.pause_replay)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.resume_replay)

    async def _freeze(self, server: Server, seconds: float) -> None:
        await asyncio.to_thread(server.freeze)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(server.thaw)

    async def _crash(self, server: Server, seconds: float) -> None:
        await asyncio.to_thread(server.kill9)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.start)
