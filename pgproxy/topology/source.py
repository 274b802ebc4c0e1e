"""What names the backends: one of static.py, kubernetes.py, patroni.py and dns.py."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pgproxy.topology.model import Backend

Counts = Iterable[tuple[tuple[str, ...], int]]
"""Of a metric: the values of its labels, in the catalogue's order, and the count."""


class Source(Protocol):
    """It tells the monitor of each list that differs from the one before, and keeps the last one
    whatever happens to whom it asks."""

    @property
    def synced(self) -> asyncio.Event:
        """Set once there is a first list."""

    @property
    def awaited(self) -> str:
        """Why there is none before that, for people."""

    @property
    def backends(self) -> Sequence[Backend]:
        """The last list."""

    def age(self) -> float:
        """Seconds since whoever is asked last said anything; since the start if never."""

    def counts(self) -> Mapping[str, Counts]:
        """Its own metrics, by name."""

    def status(self) -> dict[str, object]:
        """For /status."""

    def look_again(self) -> None:
        """There is no primary: ask soon, not when it is due."""

    async def run(self) -> None:
        """Follow until `close` (then it returns) or until it is cancelled."""

    async def close(self) -> None:
        """End it; returns when `run` has, if it was ever started."""
