"""No read is older than what its session has written, or with "global" any session of the proxy.

Fifty clients write and read versions through one proxy, while replicas stand still, hang and crash
and another server becomes the primary; what they saw is checked afterwards (tests/support/history.py).
`-s` shows the figures. With READS in the environment there are so many.
"""

import asyncio
import os
import statistics
import sys
from collections.abc import Callable
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support.history import Scope, stale_reads, steps_back
from tests.support.history_faults import Faults
from tests.support.history_load import SINGLE, Load, make_table
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.once

StartProxy = Callable[..., ProxyProcess]

CLIENTS: Final = 50
READS: Final = int(os.environ.get("READS", "10000"))
MANY_READS: Final = 200_000
FEW_READS: Final = 5_000
# Seconds, on average, that a client thinks: the machine shall not be what limits.
PAUSE: Final = 0.02
CALM: Final = 0.1
# Seconds that a read waits for a fresh replica (consistency.wait), so that replicas serve in "global"
# mode, where there is always somebody who has just written.
WAIT: Final = 0.2

# What clients may be told while servers come and go: PostgreSQL's own farewells, no primary in time,
# a connection lost, a transaction that could not be continued.
FAREWELLS: Final = {"57P01", "57P02", "57P03", "08006", "40001", "lost"}

MODES: Final = pytest.mark.parametrize("scope", ["session", "global"])
KILLED: Final = pytest.mark.parametrize("kill", [False, True], ids=["switchover", "kill-9"])


async def disturbed(
    cluster: Cluster, start_proxy: StartProxy, mode: str, reads: int, *, kill: bool
) -> Load:
    """So many reads at least, with a promotion in the middle and other faults on both sides.

    What the primary has acknowledged must survive, or its loss would be what is found: it ends in
    order, or the one that will follow it is a synchronous standby.
    """
    primary, heir = cluster.primary, cluster.replicas[0]
    await asyncio.to_thread(make_table, cluster, CLIENTS)
    if kill:
        synchronous = {"synchronous_standby_names": f'"{heir.name}"'}
        await asyncio.to_thread(primary.configure, synchronous)
    consistency = {"read_your_writes": mode, "wait": WAIT}
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, consistency=consistency)
    load, faults = Load(proxy, CLIENTS, pause=PAUSE), Faults(cluster, seed=reads)
    async with load.running(), faults.running():
        await load.reads(reads // 2)
        await faults.switch_over(kill=kill)
        await load.reads(max(reads, len(load.history.reads) + reads // 4))
    tell(f"{mode}, {'kill -9' if kill else 'switchover'}", load, f"; faults: {dict(faults.counts)}")
    assert faults.counts["promotion"] == 1
    assert set(load.failures) <= FAREWELLS
    assert load.history.share_of_replicas > 0
    return load


def tell(title: str, load: Load, rest: str = "") -> None:
    """The figures of one run."""
    history = load.history
    stale = {scope: len(stale_reads(history, scope)) for scope in ("session", "global")}
    half, most = statistics.quantiles(load.waits, n=100)[49::49]
    sys.stdout.write(
        f"\n{title}: {len(history.reads)} reads, {history.share_of_replicas:.1%} of them by replicas;"
        f" {len(history.writes)} writes ({history.share_of_writes:.1%});"
        f" stale reads: {stale}; steps back: {len(steps_back(history))};"
        f" a read takes {half * 1000:.1f} ms (99 %: {most * 1000:.1f} ms);"
        f" sessions that failed: {dict(load.failures)}{rest}\n"
    )


@MODES
@KILLED
@pytest.mark.timeout(120 + READS // 50)
async def test_no_read_is_stale(
    private_cluster: Cluster, start_proxy: StartProxy, scope: Scope, kill: bool
) -> None:
    reads = READS // 2 if kill else READS
    load = await disturbed(private_cluster, start_proxy, scope, reads, kill=kill)
    assert stale_reads(load.history, scope) == []


# What "global" promises includes what "session" does.
@pytest.mark.parametrize(("scope", "reads"), [("session", MANY_READS // 4), ("global", MANY_READS)])
@pytest.mark.extra
@pytest.mark.timeout(120 + MANY_READS // 50)
async def test_no_read_of_very_many_is_stale(
    private_cluster: Cluster, start_proxy: StartProxy, scope: Scope, reads: int
) -> None:
    load = await disturbed(private_cluster, start_proxy, scope, reads, kill=False)
    assert stale_reads(load.history, scope) == []


@pytest.mark.timeout(180)
async def test_without_the_promise_there_are_stale_reads(
    private_cluster: Cluster, start_proxy: StartProxy
) -> None:
    """So they would be found."""
    load = await disturbed(private_cluster, start_proxy, "off", FEW_READS, kill=False)
    assert stale_reads(load.history, "session")
    assert stale_reads(load.history, "global")


@pytest.mark.parametrize(("scope", "wait"), [("session", 0), ("session", WAIT), ("global", WAIT)])
@pytest.mark.timeout(120)
async def test_most_reads_are_served_by_replicas(
    private_cluster: Cluster, start_proxy: StartProxy, scope: Scope, wait: float
) -> None:
    """While nothing is wrong, with one statement in ten a write, and the default interval."""
    await asyncio.to_thread(make_table, private_cluster, CLIENTS)
    proxy = await asyncio.to_thread(
        start_proxy,
        private_cluster.servers,
        consistency={"read_your_writes": scope, "wait": wait},
        health={"interval": 1},
    )
    load = Load(proxy, CLIENTS, units=SINGLE, pause=CALM)
    async with load.running():
        await load.reads(FEW_READS)
    tell(f"{scope}, wait = {wait}, nothing wrong", load)
    assert stale_reads(load.history, scope) == []
    assert not load.failures
    assert load.history.share_of_replicas > 0.8
