"""Where the list of the other proxies comes from: pods, the addresses of a name, or the
configuration."""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pgproxy import config
from pgproxy.peers.word import Address, read_address
from pgproxy.topology.kubernetes import Kubernetes
from pgproxy.topology.lookups import Lookups
from pgproxy.topology.model import Backend

OnListed = Callable[[Sequence[Address]], None]


class Source(Protocol):
    @property
    def lists_all(self) -> bool:
        """This proxy is one of those that are listed, for certain."""

    async def run(self) -> None:
        """Tells each list, as long as it runs."""

    def status(self) -> dict[str, object]:
        """For /status."""


class Static:
    lists_all: Final = False

    def __init__(self, addresses: Sequence[str], on_listed: OnListed) -> None:
        self._addresses: Final = [read_address(text) for text in addresses]
        self._on_listed: Final = on_listed

    async def run(self) -> None:
        self._on_listed([address for address in self._addresses if address is not None])

    def status(self) -> dict[str, object]:
        return {"mode": "static"}


class Dns:
    """Asks for all addresses of a name, every `interval` seconds: how soon another proxy is known
    matters more than how long a record may be kept. While there is no answer the last one counts."""

    lists_all: Final = False  # a proxy's own address may be there only once it is ready

    def __init__(self, name: Address, interval: float, on_listed: OnListed) -> None:
        self._name: Final = name
        self._interval: Final = interval
        self._on_listed: Final = on_listed
        # Whatever stands for a host is accepted there; what is no name is refused when it is asked for.
        settings = config.Dns.model_construct(names=(name.host,), port=name.port)
        self._lookups: Final = Lookups(settings)

    async def run(self) -> None:
        while True:
            await self._lookups.round()
            if not self._lookups.records.has_gaps:
                found = self._lookups.backends()
                self._on_listed([Address(one.host, one.port) for one in found])
            await asyncio.sleep(self._interval)

    def status(self) -> dict[str, object]:
        return {"mode": "dns", "name": str(self._name), "failing": dict(self._lookups.troubles)}


class Pods:
    """Follows the pods that a selector finds."""

    lists_all: Final = True

    def __init__(self, settings: config.Kubernetes, on_listed: OnListed) -> None:
        self._on_listed: Final = on_listed
        self._watch: Final = Kubernetes(settings, self._found, watch="peers")

    async def run(self) -> None:
        await self._watch.run()

    def _found(self, pods: tuple[Backend, ...]) -> None:
        self._on_listed([Address(pod.host, pod.port) for pod in pods])

    def status(self) -> dict[str, object]:
        return self._watch.status()


def source_of(settings: config.Config, on_listed: OnListed) -> Source:
    """What [peers] says."""
    peers, kubernetes = settings.peers, settings.discovery.kubernetes
    if peers.static:
        return Static(peers.static, on_listed)
    name = read_address(peers.dns)
    if name is not None:
        if _is_literal(name.host):  # which needs no asking
            return Static([peers.dns], on_listed)
        return Dns(name, peers.interval, on_listed)
    pods = config.Kubernetes(
        namespace=peers.namespace,
        selector=peers.selector,
        port=peers.port or str(settings.http.port),
        kubeconfig=kubernetes.kubeconfig,
        context=kubernetes.context,
    )
    return Pods(pods, on_listed)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
