"""Several proxies of one service, that know each other.

    with Siblings(cluster.servers, 3, pool={"size": 5}) as siblings:
        one, other = siblings.start(0), siblings.start(1)

Their HTTP ports are kept from the beginning to the end, whether a proxy runs there or not.
"""

import contextlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from tests.support.kube import reserved_port
from tests.support.proxy import HOST, Backend, ProxyProcess
from tests.support.watch import status

INTERVAL: Final = 0.2  # seconds between two questions of theirs


class Siblings:
    """A context manager that stops those that run still."""

    def __init__(
        self, servers: Sequence[Backend], count: int, **sections: Mapping[str, object]
    ) -> None:
        self.running: Final[dict[int, ProxyProcess]] = {}  # by their places
        self._servers: Final = servers
        self._places: Final = [reserved_port() for _ in range(count)]
        self.http_ports: Final = [place.getsockname()[1] for place in self._places]
        addresses = [f"{HOST}:{port}" for port in self.http_ports]
        peers = {"static": addresses, "interval": INTERVAL, **sections.get("peers", {})}
        self._sections: Final = {**sections, "peers": peers}

    def start(
        self, place: int, *, wait_ready: bool = True, **sections: Mapping[str, Any]
    ) -> ProxyProcess:
        """The one of that place; `sections` are its own."""
        merged: dict[str, Any] = {**self._sections, "http": {"port": self.http_ports[place]}}
        for name, values in sections.items():
            merged[name] = {**merged.get(name, {}), **values}
        proxy = ProxyProcess.start(self._servers, wait_ready=wait_ready, **merged)
        self.running[place] = proxy
        return proxy

    def stop(self, place: int) -> None:
        self.running.pop(place).stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as ends:
            for place in self._places:
                ends.callback(place.close)
            for proxy in self.running.values():
                ends.callback(proxy.kill9 if error is not None else proxy.stop)


def states(proxy: ProxyProcess) -> list[str]:
    """Of all proxies of its service, as it sees them."""
    found: dict[str, Any] = status(proxy)["peers"]
    return sorted("self" if one["self"] else one["state"] for one in found["proxies"])
