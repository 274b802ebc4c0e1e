"""`discovery.mode = "static"`: the backends are those of the configuration, always."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from pgproxy.config import Discovery
from pgproxy.topology.model import Backend
from pgproxy.topology.source import Counts


class Static:
    """Tells its list once, when it is run."""

    awaited: Final = ""

    def __init__(
        self, settings: Discovery, on_backends: Callable[[tuple[Backend, ...]], None]
    ) -> None:
        self.synced: Final = asyncio.Event()
        self.synced.set()
        self.backends: Final = backends(settings)
        self._on_backends: Final = on_backends

    def age(self) -> float:
        """It does not age."""
        return 0.0

    def counts(self) -> Mapping[str, Counts]:
        return {}

    def status(self) -> dict[str, object]:
        return {"mode": "static"}

    def look_again(self) -> None:
        """There is nobody to ask."""

    async def run(self) -> None:
        self._on_backends(self.backends)

    async def close(self) -> None:
        """It has ended."""


def backends(discovery: Discovery) -> tuple[Backend, ...]:
    """The configured servers, in the order of the file; without a name it is host:port."""
    return tuple(
        Backend(
            name=entry.label,
            host=entry.host,
            port=entry.port,
            role=entry.role,
            weight=entry.weight,
            zone=entry.zone,
        )
        for entry in discovery.backends
    )
