"""Two Kubernetes Services, one of the primary and one of the replicas, as clients meet them.

A connection goes to one of the ready pods that have the Service's label when it is opened, and
stays there whatever becomes of the label; with no such pod it is refused. That is kube-proxy's
doing. Here a process of its own forwards the bytes, and is told the pods line by line:

    python -m benchmarks.failover.services PRIMARY_PORT REPLICA_PORT
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvloop

from benchmarks.peers.base import HOST, free_port
from benchmarks.servers import Address
from tests.support.patroni_kubernetes import KubernetesDcs

_ROLES: Final = ("primary", "replica")
_READ = 1 << 16


@contextmanager
def running_services(dcs: KubernetesDcs, port: int) -> Iterator[tuple[Address, Address]]:
    """The Services of the members, which listen at `port` of their pods; by the labels of `dcs`."""
    ports = [free_port(), free_port()]
    command = [sys.executable, "-m", "benchmarks.failover.services", *map(str, ports)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    watcher = threading.Thread(target=_tell, args=(dcs, port, process), daemon=True)
    watcher.start()
    try:
        yield Address(HOST, ports[0]), Address(HOST, ports[1])
    finally:
        process.kill()  # it has nothing to say farewell to
        process.wait()


def _tell(dcs: KubernetesDcs, port: int, process: "subprocess.Popen[bytes]") -> None:
    pods: dict[str, tuple[str, list[Any]]] = {}
    told = ""
    assert process.stdin is not None
    try:
        for event in dcs.watch("pods", 3600):
            pod = event["object"]
            pods[pod["metadata"]["name"]] = (
                pod["metadata"]["labels"].get("role", "") if _is_ready(pod) else "",
                [pod["status"].get("podIP"), port],
            )
            members = {
                role: [at for label, at in pods.values() if label == role] for role in _ROLES
            }
            line = json.dumps(members)
            if line != told:
                process.stdin.write(f"{line}\n".encode())
                process.stdin.flush()
                told = line
    except OSError:
        return  # the API server, or the process, has ended: so has the run


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class _Service:
    """One of them, in the forwarding process."""

    def __init__(self, port: int) -> None:
        self._port: Final = port
        self._pods: list[tuple[str, int]] = []
        self._server: asyncio.Server | None = None

    async def update(self, pods: list[tuple[str, int]]) -> None:
        self._pods = pods
        if pods and self._server is None:
            self._server = await asyncio.start_server(self._forward, HOST, self._port)
        elif not pods and self._server is not None:
            self._server.close()  # refuses; what is open stays open
            self._server = None

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            pod_reader, pod_writer = await asyncio.open_connection(*random.choice(self._pods))
        except (OSError, IndexError):
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(reader, pod_writer, writer))
            tasks.create_task(_copy(pod_reader, writer, pod_writer))


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, other: asyncio.StreamWriter
) -> None:
    """Until one end closes; then both are closed, with what was read before sent."""
    try:
        while data := await reader.read(_READ):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
    other.close()


async def _serve(ports: list[int]) -> None:
    services = dict(zip(_ROLES, map(_Service, ports), strict=True))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while line := await lines.readline():
        for role, pods in json.loads(line).items():
            await services[role].update([(host, port) for host, port in pods])


if __name__ == "__main__":
    uvloop.run(_serve([int(port) for port in sys.argv[1:]]))
