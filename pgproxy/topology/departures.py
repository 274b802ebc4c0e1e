"""PURE. What becomes of a server that a new list does not name any more.

Connections to a server that leaves the list are cut. So it does not leave at once: for `LINGER`
seconds it is drained, as a pod is that terminates. And the primary stays as long as it answers as
such: a list may be wrong (a record is withdrawn because a probe was slow, a member's key expires
because its agent was killed), and then nobody could write. It goes when another one leads.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pgproxy.topology.model import Backend, Topology

LINGER: Final = 30.0  # seconds


class Departures:
    def __init__(self) -> None:
        self._listed: Sequence[Backend] = ()  # last
        self._before: tuple[Backend, ...] = ()
        self._since: dict[str, float] = {}  # by name, when it was first missing

    def follow(
        self, listed: Sequence[Backend], topology: Topology, now: float
    ) -> tuple[Backend, ...]:
        """`listed`, and behind them those of the lists before that have not gone yet."""
        self._listed = listed
        names = {backend.name for backend in listed}
        since, kept = {}, []
        for backend in self._before:
            if backend.name in names:
                continue
            primary = topology.primary
            if primary is not None and primary.identity == backend.identity:
                kept.append(replace(backend, role="auto", leaving=False))
                continue
            missing = self._since.get(backend.name, now)
            if now - missing < LINGER:
                since[backend.name] = missing
                kept.append(replace(backend, leaving=True))
        self._since = since
        self._before = (*listed, *kept)
        return self._before

    def go_on(self, topology: Topology, now: float) -> tuple[Backend, ...]:
        """The same when there is no list that could be believed: the last one stays, and who was not
        named there any more goes when its time is over."""
        return self.follow(self._listed, topology, now)
