"""Where the list of the other proxies comes from: pods, the addresses of a name, or the
configuration."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from pgproxy import config
from pgproxy.peers.word import Address, read_address
from pgproxy.topology.kubernetes import Kubernetes
from pgproxy.topology.model import Backend

_log: Final = structlog.stdlib.get_logger()

OnListed = Callable[[Sequence[Address]], None]

# A name that is there without addresses, or is not there: nobody is listed. All else is no answer.
_NOBODY: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
# Seconds for an answer of the resolver.
_ANSWER: Final = 5.0


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
    """Asks for all addresses of a name, every `interval` seconds. While the resolver gives no answer
    the last one counts."""

    lists_all: Final = False  # a proxy's own address may be there only once it is ready

    def __init__(self, name: str, interval: float, on_listed: OnListed) -> None:
        address = read_address(name)
        assert address is not None, name  # the configuration's check has seen to it
        self._name: Final = address
        self._interval: Final = interval
        self._on_listed: Final = on_listed
        self._error = ""

    async def run(self) -> None:
        while True:
            await self._resolve()
            await asyncio.sleep(self._interval)

    async def _resolve(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._name
        try:
            async with asyncio.timeout(_ANSWER):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            self._failed("no answer of the resolver")
            return
        except UnicodeError as error:  # no name that can be asked for
            self._failed(str(error))
            return
        except OSError as error:
            if error.errno not in _NOBODY:
                self._failed(error.strerror or str(error))
                return
            found = []
        self._error = ""
        self._on_listed([Address(str(where[0]), port) for _, _, _, _, where in found])

    def _failed(self, error: str) -> None:
        if error != self._error:
            self._error = error
            _log.warning("peers_not_resolved", name=str(self._name), reason=error)

    def status(self) -> dict[str, object]:
        return {"mode": "dns", "name": str(self._name), "error": self._error}


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
    if peers.dns:
        return Dns(peers.dns, peers.interval, on_listed)
    pods = config.Kubernetes(
        namespace=peers.namespace,
        selector=peers.selector,
        port=peers.port or str(settings.http.port),
        kubeconfig=kubernetes.kubeconfig,
        context=kubernetes.context,
    )
    return Pods(pods, on_listed)
