"""Has every backend asked, over and over, what it is, and publishes the topology that follows.

Nothing is published until every backend of the first list was asked once, so that an old primary
is never taken for the primary because it answered first. The list may change at any time; one that
joins later holds nobody up.

`on_change` is called in the event loop with each topology that differs for routing, the first
one included, and must not block or raise; `on_fresh` with each replica's name and the time as of
which it is fresh (freshness.py); `on_defaults` when a server shows other settings of roles or
databases than before; `on_room` when it becomes known, or changes, how many connections a server has
for ordinary users. Positions do not count as a difference: read them from `Monitor.topology`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from pgproxy.config import Health
from pgproxy.servers.sockets import TcpOptions
from pgproxy.servers.tls import NO_TLS, ServerTls
from pgproxy.topology.access import NO_OPTIONS
from pgproxy.topology.freshness import UNKNOWN, Freshness
from pgproxy.topology.fusion import fuse
from pgproxy.topology.model import Backend, Node, Probe, Role, Topology, diff, is_one_history
from pgproxy.topology.prober import Prober

# Seconds between two questions while there is no primary, to those who may become it and to the
# others: writes wait for the answer. EAGER_TIME after the last news of discovery or the loss of the
# primary all are asked as the others; a standby cluster never has one.
EAGER_INTERVAL: Final = 0.1
CALM_INTERVAL: Final = 0.25
EAGER_TIME: Final = 60.0

_log: Final = structlog.stdlib.get_logger()


class Monitor:
    """The monitor of a list of backends; `run` it as a task, `close` ends that task."""

    def __init__(
        self,
        backends: Sequence[Backend] | None,
        health: Health,
        on_change: Callable[[Topology], None],
        on_fresh: Callable[[str, float], None] = lambda _name, _fresh: None,
        on_defaults: Callable[[], None] = lambda: None,
        on_room: Callable[[str, int], None] = lambda _name, _room: None,
        *,
        tcp: TcpOptions = NO_OPTIONS,
        tls: ServerTls = NO_TLS,
    ) -> None:
        """`backends` None: discovery has yet to name them, nothing is published until it has."""
        self.first_round: Final = asyncio.Event()  # there is a topology
        self._backends: tuple[Backend, ...] | None = None
        # Of a first list, or one after an empty one, those who have not been asked yet. Before the
        # last of them a former primary could seem to be the only one.
        self._awaited: set[str] = set()
        self._health: Final = health
        self._tcp: Final = tcp
        self._tls: Final = tls
        self._on_change: Final = on_change
        self._on_fresh: Final = on_fresh
        self._on_defaults: Final = on_defaults
        self._on_room: Final = on_room
        self._rooms: Final[dict[str, int]] = {}  # by backend, as it said last
        self._defaults: Final[dict[str, str]] = {}  # by backend, as it said last
        self.freshness: Final = Freshness()
        self._topology = Topology(0, ())
        self._probes: Final[dict[str, Probe]] = {}
        self._probers: Final[dict[str, Prober]] = {}
        self._group: asyncio.TaskGroup | None = None  # while it runs
        self._headless_since = 0.0
        self._replicas_are_next = False  # to be asked for their positions
        self._closing: Final = asyncio.Event()
        self._stopped: Final = asyncio.Event()
        if backends is not None:
            self.set_backends(backends)

    @property
    def topology(self) -> Topology:
        """The newest topology, positions included; without nodes before the first round."""
        return self._topology

    @property
    def health(self) -> Health:
        return self._health

    def lsn(self, name: str) -> int | None:
        """The newest position of that backend: replayed, or inserted on a primary."""
        node = self._topology.node(name)
        return node.replay_lsn if node is not None else None

    def probe_now(self, name: str) -> None:
        """Ask that backend as soon as the smallest gap allows; an unknown name is ignored."""
        prober = self._probers.get(name)
        if prober is not None:
            prober.ask()

    def set_backends(self, backends: Sequence[Backend]) -> None:
        """Watch these from now on instead of those so far. Call it in the event loop's thread.

        One of another identity is asked as if never seen; what discovery says of the others counts
        at once, and they are asked again.
        """
        if self._closing.is_set():
            return
        were_none = not self._backends
        self._backends = tuple(backends)
        present = {backend.identity for backend in backends}
        for name, prober in list(self._probers.items()):
            if prober.backend.identity not in present:
                prober.end()
                del self._probers[name]
                self._probes.pop(name, None)
                self._forget(name)
        for backend in backends:
            known = self._probers.get(backend.name)
            if known is None:
                self._probers[backend.name] = Prober(
                    backend,
                    self._health,
                    self.interval,
                    self.freshness.awaited,
                    self.report,
                    self._lost,
                    self._tcp,
                    self._tls,
                )
            elif known.backend != backend:
                known.backend = backend
                known.ask()
        names = set(self._probers)
        self._awaited = names if were_none else self._awaited & names
        self._headless_since = time.monotonic()
        self._start()
        self._conclude()

    async def run(self) -> None:
        """Watch until `close` (then it returns) or until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    self._start()
                    self._conclude()
                    await self._closing.wait()
                finally:
                    self._group = None
                    for prober in self._probers.values():
                        prober.end()
        finally:
            self._stopped.set()

    async def close(self) -> None:
        """End every question and connection; returns when `run` has, if it was ever started."""
        is_running = self._group is not None
        self._closing.set()
        if is_running:
            await self._stopped.wait()

    @property
    def is_urgent(self) -> bool:
        """There is no primary, and there may be one soon."""
        is_recent = time.monotonic() - self._headless_since < EAGER_TIME
        return self._topology.primary is None and is_recent

    def interval(self, backend: Backend) -> float:
        """Seconds until that backend is asked again."""
        if self._topology.primary is not None:
            return self._health.interval
        if self.is_urgent and backend.role in ("auto", "primary"):
            return min(self._health.interval, EAGER_INTERVAL)
        return min(self._health.interval, CALM_INTERVAL)

    def report(self, prober: Prober, probe: Probe) -> None:
        """Take a backend's new state from its prober."""
        name = prober.backend.name
        if self._probers.get(name) is not prober:
            return
        self._probes[name] = probe
        self._note_position(name, probe)
        if probe.alive and not probe.error:
            before = self._defaults.get(name)
            self._defaults[name] = probe.defaults
            if before is not None and before != probe.defaults:
                self._on_defaults()
            if self._rooms.get(name) != probe.room:
                self._rooms[name] = probe.room
                self._on_room(name, probe.room)
        self._awaited.discard(name)
        self._conclude()

    def probe_all(self) -> None:
        """Ask every backend as soon as the smallest gap allows."""
        for prober in self._probers.values():
            prober.ask()

    def ask_positions(self) -> None:
        """Have the primary asked for its position, as soon as the smallest gap allows, and then the
        replicas whether they have replayed that."""
        primary = self._topology.primary
        if primary is None:
            self._ask_replicas()
            return
        self._replicas_are_next = True
        self._ask_position(primary)

    def _ask_replicas(self) -> None:
        self._replicas_are_next = False
        for node in self._topology.replicas:
            self._ask_position(node)

    def _ask_position(self, node: Node) -> None:
        prober = self._probers.get(node.name)
        if prober is not None:
            prober.ask_position()

    def _note_position(self, name: str, probe: Probe) -> None:
        if not probe.alive or probe.error or probe.lsn is None:
            return
        topology = self._topology
        primary = topology.primary
        if primary is not None and primary.name == name:
            if not probe.in_recovery:
                self.freshness.primary_at(probe.asked_at, probe.lsn)
                if self._replicas_are_next:
                    self._ask_replicas()
                for node in topology.replicas:
                    self._on_fresh(node.name, self.freshness.fresh_as_of(node.name))
        elif probe.in_recovery and probe.timeline == topology.timeline:
            self._on_fresh(name, self.freshness.replica_at(name, probe.lsn))
        else:
            # It may have replayed what the primary has never seen, and not what that has written.
            self._forget(name)

    def _lost(self, prober: Prober) -> None:
        # A standby that starts anew shows an older state again at first: only what it says from
        # now on counts.
        if self._probers.get(prober.backend.name) is prober:
            self._forget(prober.backend.name)

    def _forget(self, name: str) -> None:
        self.freshness.forget(name)
        self._on_fresh(name, UNKNOWN)

    def _start(self) -> None:
        if self._group is not None and not self._closing.is_set():
            for prober in self._probers.values():
                prober.start(self._group)

    def _conclude(self) -> None:
        if self._group is None or self._backends is None or self._awaited:
            return
        is_first = not self.first_round.is_set()
        old = self._topology
        new = fuse(self._backends, self._probes, None if is_first else old)
        self._topology = new
        if not is_one_history(old, new):
            self.freshness.reset()
        if is_first:
            self.first_round.set()
        elif new.version == old.version:
            return
        _log_changes(old, new)
        if new.primary is None and (old.primary is not None or is_first):
            self._headless_since = time.monotonic()
            self.probe_all()
        self._on_change(new)
        # What was said before it was known whose the words are.
        for name, probe in self._probes.items():
            self._note_position(name, probe)


def _log_changes(old: Topology, new: Topology) -> None:
    changes = diff(old, new)
    present = {node.name for node in new.nodes}
    for gone in changes.removed:
        if gone.name not in present:
            _log.info("backend_removed", backend=gone.name, was=gone.role.value)
    steps: list[tuple[Node | None, Node]] = [(None, node) for node in changes.added]
    steps += changes.changed
    for before, node in steps:
        is_bad = node.role is Role.NONE
        (_log.warning if is_bad else _log.info)(
            "backend_role",
            backend=node.name,
            role=node.role.value,
            was=before.role.value if before is not None else "",
            timeline=node.timeline,
            reason=node.error,
            cut=node.cut,
        )
