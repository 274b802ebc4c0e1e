"""Clients of a proxy that is made of several processes: which of them serves whom."""

import asyncio
import re
from collections import Counter

import psutil  # type: ignore[import-untyped]

from pgproxy.clients.cancel import worker_of
from tests.support.proxy import ProxyProcess
from tests.support.wire import Wire


async def clients_of_each(
    proxy: ProxyProcess, workers: int, *, each: int = 1, database: str = "postgres"
) -> dict[int, list[Wire]]:
    """Clients by the number of their worker, `each` or more of every one."""
    found: dict[int, list[Wire]] = {number: [] for number in range(workers)}
    while min(len(some) for some in found.values()) < each:
        client = await Wire.connect(proxy, database=database)
        assert client.startup[-1][0] == b"Z", client.startup
        found[worker_of(client.key()[0])].append(client)
    return found


async def drop_all(clients: dict[int, list[Wire]]) -> None:
    await asyncio.gather(*[client.drop() for some in clients.values() for client in some])


def processes(proxy: ProxyProcess) -> dict[int, psutil.Process]:
    """The workers' processes by their numbers."""
    found = {}
    for child in psutil.Process(proxy.process.pid).children():
        arguments = child.cmdline()
        if "--number" in arguments:
            found[int(arguments[arguments.index("--number") + 1])] = child
    return found


def metric(proxy: ProxyProcess, name: str) -> float:
    """The sum of a metric's samples."""
    pattern = rf"^{re.escape(name)}(?:{{.*}})? (\S+)$"
    values = re.findall(pattern, proxy.get("/metrics")[1], re.MULTILINE)
    assert values, name
    return sum(map(float, values))


def by_worker(proxy: ProxyProcess) -> Counter[int]:
    """How many clients each worker has."""
    pattern = r'^pgproxy_worker_clients{worker="(\d+)"} (\S+)$'
    found = re.findall(pattern, proxy.get("/metrics")[1], re.MULTILINE)
    return Counter({int(number): int(float(count)) for number, count in found})
