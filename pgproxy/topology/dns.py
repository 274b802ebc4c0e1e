"""`discovery.mode = "dns"`: the backends are the addresses under names, asked for anew by their TTL.

The records say where servers are; what they are, the servers say themselves. What follows from the
answers is records.py's, which is PURE. The last list stays for ever, whatever happens to the
nameservers, and so it does when they say that there is nothing at all.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from pgproxy import config
from pgproxy.topology.departures import Departures
from pgproxy.topology.lookups import Lookups
from pgproxy.topology.model import Backend, Topology
from pgproxy.topology.records import Outcome, pause_after
from pgproxy.topology.rounds import Contact, Publisher, Rounds
from pgproxy.topology.source import Counts

# Seconds from one round to the next while there is no primary.
_SMALLEST_GAP: Final = 1.0
# Rounds for which the first list is waited for while a name is unknown: of two servers the one that
# has been deposed could be the only one in it, and take writes.
_FIRST_ROUNDS: Final = 3

_log: Final = structlog.stdlib.get_logger()


class Dns:
    """Follows the records; `lookups` counts by type and outcome."""

    awaited: Final = "no address has been found yet, or not one of each name"

    def __init__(
        self,
        settings: config.Dns,
        on_backends: Callable[[tuple[Backend, ...]], None],
        topology: Callable[[], Topology],
    ) -> None:
        """`topology` is what the monitor knows."""
        self._settings: Final = settings
        self._topology: Final = topology
        self._lookups: Final = Lookups(settings)
        self.lookups: Final = self._lookups.by_outcome
        self._publisher: Final = Publisher(on_backends)
        self.synced: Final = self._publisher.synced
        self._departures: Final = Departures()
        self._rounds: Final = Rounds(self._round, _SMALLEST_GAP)
        self._contact: Final = Contact()
        self._is_empty = False
        self._pause = 0.0

    @property
    def backends(self) -> tuple[Backend, ...]:
        return self._publisher.backends

    def age(self) -> float:
        """Seconds since an address was last found; since the start if none ever was."""
        return self._contact.age()

    def counts(self) -> Mapping[str, Counts]:
        return {"pgproxy_dns_lookups_total": self.lookups.items()}

    def status(self) -> dict[str, object]:
        """For /status."""
        return {
            "mode": "dns",
            "names": list(self._settings.names),
            "synced": self.synced.is_set(),
            "last_contact_seconds": self._contact.seconds(),
            "failing": dict(self._lookups.troubles),
            "pause_seconds": round(self._pause, 3),
            "backends": len(self.backends),
            "leaving": [backend.name for backend in self.backends if backend.leaving],
        }

    def look_again(self) -> None:
        """There is no primary: there may be a new address."""
        self._rounds.hurry()

    async def run(self) -> None:
        """Follow until `close` (then it returns) or until it is cancelled."""
        await self._rounds.run()

    async def close(self) -> None:
        """End it; returns when `run` has, if it was ever started."""
        await self._rounds.close()

    async def _round(self) -> float:
        settings, lookups = self._settings, self._lookups
        replies = (await lookups.round()).values()
        if any(reply.outcome is Outcome.OK for reply in replies):
            self._contact.made()
        self._publish()
        self._pause = pause_after(
            list(replies), lookups.failures, settings.min_ttl, settings.max_ttl
        )
        return self._pause

    def _publish(self) -> None:
        lookups, topology, now = self._lookups, self._topology(), time.monotonic()
        backends = lookups.backends()
        if backends:
            self._is_empty = False
            is_first = not self.synced.is_set()
            if is_first and lookups.records.has_gaps and lookups.failures < _FIRST_ROUNDS:
                return
            self._publisher.publish(self._departures.follow(backends, topology, now))
            return
        if not self._is_empty:
            self._is_empty = True
            _log.warning("dns_empty", names=list(self._settings.names), kept=len(self.backends))
        if self.synced.is_set():
            self._publisher.publish(self._departures.go_on(topology, now))
