"""One address for several proxies, as a Kubernetes Service is: new connections go to those that
say at /readyz that they are ready, each in turn.

    async with Service() as service:
        service.add(proxy)
        ...  # connect to service.host, service.port

It learns of a proxy's unreadiness a moment late, as kube-proxy does; open connections stay.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Self

from tests.support.fault import FaultProxy
from tests.support.proxy import HOST, ProxyProcess

_PERIOD: Final = 0.05  # seconds between questions


class Service:
    """An async context manager."""

    host: Final = HOST

    def __init__(self) -> None:
        self._proxies: list[ProxyProcess] = []
        self._ready: list[ProxyProcess] = []
        self._turn = 0
        self._network: Final = FaultProxy(_Choice(self))
        self._tasks: Final = contextlib.AsyncExitStack()

    @property
    def port(self) -> int:
        """Where to connect."""
        return self._network.port

    async def __aenter__(self) -> Self:
        await self._tasks.enter_async_context(self._network)
        asking = asyncio.get_running_loop().create_task(self._ask())
        self._tasks.callback(asking.cancel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tasks.aclose()

    def add(self, proxy: ProxyProcess) -> None:
        """Send connections to this one too; it has to be ready."""
        self._proxies.append(proxy)
        self._ready.append(proxy)

    def remove(self, proxy: ProxyProcess) -> None:
        """Its process has ended."""
        self._proxies.remove(proxy)
        self._ready = [one for one in self._ready if one is not proxy]

    def choose(self) -> ProxyProcess:
        """The next in turn."""
        self._turn += 1
        return self._ready[self._turn % len(self._ready)]

    async def _ask(self) -> None:
        while True:
            found = []
            for proxy in list(self._proxies):
                with contextlib.suppress(OSError):
                    if (await asyncio.to_thread(proxy.get, "/readyz"))[0] == 200:
                        found.append(proxy)
            self._ready = [proxy for proxy in found if proxy in self._proxies]
            await asyncio.sleep(_PERIOD)


class _Choice:
    """Another address each time it is looked at."""

    host: Final = HOST

    def __init__(self, service: Service) -> None:
        self._service: Final = service

    @property
    def port(self) -> int:
        return self._service.choose().port
