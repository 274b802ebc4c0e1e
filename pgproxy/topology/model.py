"""What the servers are and may do, decided from evidence. PURE.

Discovery names `Backend`s; the monitor brings a `Probe` of each; `fuse` makes of both a
`Topology`: at most one PRIMARY, the REPLICAs, and the rest, which serve nobody. Topologies are
values: a new one replaces the old, `diff` tells what changed for those who route by it.

Timelines decide between two servers that take writes, since each promotion starts a higher one.
A timeline once seen is remembered from topology to topology, so that the primary of before a
failover gets no write when it comes back, not even while the new one is away. The system
identifier, which initdb draws and replicas copy, tells servers of another cluster apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, final


class Role(Enum):
    PRIMARY = "primary"  # takes writes
    REPLICA = "replica"  # takes reads
    NONE = "none"  # dead, unknown or fenced: takes nothing


@final
@dataclass(frozen=True)
class Backend:
    """A server that discovery has named, and what discovery says of it.

    `role` is `auto` (the probe alone decides), `primary`, `replica` or `none` (it takes nothing).
    It is the operator's word, or with `hinted` a label: a hint, which may be late.
    """

    name: str  # of the pod; of a configured server its label
    host: str
    port: int = 5432
    role: str = "auto"
    weight: int = 1
    zone: str = ""
    uid: str = ""  # another one under the same name is another server
    hinted: bool = False
    ready: bool = True  # Kubernetes' condition of that name
    leaving: bool = False  # terminating, or its phase is not Running: to be drained


@final
@dataclass(frozen=True)
class Probe:
    """What a server last said of itself, or why it said nothing (`alive` is false).

    An `error` of one that is alive says why this is old news.
    `lsn` is what it has inserted (primary) or replayed (replica). A replica's `timeline` is a
    lower bound: it may follow a promotion already and not show it yet. 0 is unknown.
    """

    alive: bool
    in_recovery: bool = False
    timeline: int = 0
    lsn: int | None = None
    system_identifier: int = 0
    error: str = ""
    asked_at: float = 0.0  # monotonic seconds, taken before the question


@final
@dataclass(frozen=True)
class Node:
    """One server in a topology. `replay_lsn` is what it shows: replayed, or inserted (primary)."""

    name: str
    host: str
    port: int
    weight: int
    zone: str
    role: Role
    alive: bool
    timeline: int
    replay_lsn: int | None
    error: str

    @property
    def is_fenced(self) -> bool:
        """It answers, and may serve nobody; `error` says why."""
        return self.alive and self.role is Role.NONE


@final
class Topology:
    """A value: never changed, only replaced. `version` rises with each change that routing sees.

    `timeline` and `system_identifier` are the cluster's as far as they are known (else 0), and
    stay when its primary goes.
    """

    def __init__(
        self,
        version: int,
        nodes: tuple[Node, ...],
        *,
        timeline: int = 0,
        system_identifier: int = 0,
    ) -> None:
        self.version: Final = version
        self.nodes: Final = nodes
        self.timeline: Final = timeline
        self.system_identifier: Final = system_identifier
        primary: Node | None = None
        for node in nodes:
            if node.role is Role.PRIMARY:
                assert primary is None, "fuse names one primary at most"
                primary = node
        self.primary: Final = primary
        self.replicas: Final = tuple([node for node in nodes if node.role is Role.REPLICA])

    def node(self, name: str) -> Node | None:
        """The node of that name, if there is one."""
        for node in self.nodes:
            if node.name == name:
                return node
        return None

    def __repr__(self) -> str:
        roles = ", ".join([f"{node.name}={node.role.value}" for node in self.nodes])
        return f"<Topology {self.version} timeline {self.timeline}: {roles}>"


@final
@dataclass(frozen=True)
class Diff:
    """What changed for routing; a node that got another address is one removed and one added."""

    added: tuple[Node, ...]
    removed: tuple[Node, ...]
    changed: tuple[tuple[Node, Node], ...]

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.changed)


NOT_ASKED: Final = "not asked yet"


def fuse(
    backends: Sequence[Backend],
    probes: Mapping[str, Probe],
    previous: Topology | None = None,
) -> Topology:
    """The topology that `probes` (by backend name) show, after `previous`."""
    alive = []
    for backend in backends:
        found = probes.get(backend.name)
        if found is not None and found.alive:
            alive.append(backend)
    incumbent = ""
    if previous is not None and previous.primary is not None:
        incumbent = previous.primary.name
    cluster = _cluster(alive, probes, previous, incumbent)
    timeline = _newest_timeline(alive, probes, previous, cluster)
    primary = _best_writer(alive, probes, incumbent, cluster, timeline)

    nodes = []
    for backend in backends:
        probe = probes.get(backend.name)
        if probe is None:
            probe = Probe(False, error=NOT_ASKED)
        role, error = _judge(backend, probe, primary, cluster, timeline)
        nodes.append(
            Node(
                backend.name,
                backend.host,
                backend.port,
                backend.weight,
                backend.zone,
                role,
                probe.alive,
                probe.timeline,
                probe.lsn,
                error,
            )
        )

    if previous is None:
        return Topology(1, tuple(nodes), timeline=timeline, system_identifier=cluster)
    same = Topology(previous.version, tuple(nodes), timeline=timeline, system_identifier=cluster)
    if diff(previous, same).is_empty:
        return same
    return Topology(
        previous.version + 1, tuple(nodes), timeline=timeline, system_identifier=cluster
    )


def diff(old: Topology, new: Topology) -> Diff:
    """What a router must know of the step from `old` to `new`; positions and errors are not it."""
    added = []
    changed = []
    for node in new.nodes:
        before = old.node(node.name)
        if before is None or not _is_same_address(before, node):
            added.append(node)
        elif not _routes_alike(before, node):
            changed.append((before, node))
    removed = []
    for node in old.nodes:
        after = new.node(node.name)
        if after is None or not _is_same_address(node, after):
            removed.append(node)
    return Diff(tuple(added), tuple(removed), tuple(changed))


def parse_lsn(text: str) -> int:
    """`16/B374D848` as the number of the byte; ValueError if it is no LSN."""
    high, slash, low = text.partition("/")
    if not slash or not 1 <= len(high) <= 8 or not 1 <= len(low) <= 8:
        raise ValueError(f"not an LSN: {text!r}")
    if not all(digit in "0123456789abcdefABCDEF" for digit in high + low):
        raise ValueError(f"not an LSN: {text!r}")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """As PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _cluster(
    alive: Sequence[Backend],
    probes: Mapping[str, Probe],
    previous: Topology | None,
    incumbent: str,
) -> int:
    """The system identifier that counts; 0 if none is known yet.

    The one so far holds as long as any server has it; after that whoever takes writes has it.
    """
    known = previous.system_identifier if previous is not None else 0
    if known != 0:
        for backend in alive:
            if probes[backend.name].system_identifier == known:
                return known
    writer = _best_writer(alive, probes, incumbent, 0, 0)
    return probes[writer.name].system_identifier if writer is not None else known


def _newest_timeline(
    alive: Sequence[Backend],
    probes: Mapping[str, Probe],
    previous: Topology | None,
    cluster: int,
) -> int:
    """The highest timeline seen in the cluster, now or before, on a primary or a replica."""
    newest = 0
    if previous is not None and previous.system_identifier == cluster:
        newest = previous.timeline
    if cluster != 0:
        for backend in alive:
            probe = probes[backend.name]
            if probe.system_identifier == cluster:
                newest = max(newest, probe.timeline)
    return newest


def _best_writer(
    alive: Sequence[Backend],
    probes: Mapping[str, Probe],
    incumbent: str,
    cluster: int,
    timeline: int,
) -> Backend | None:
    """Of those that take writes the one with the highest timeline, never one below `timeline`.

    Two servers that write on one timeline are a copy and its original: the primary so far
    stays, else the one that has written more leads, else the one that is named first.
    """
    best: Backend | None = None
    best_rank = (0, False, 0)
    for backend in alive:
        probe = probes[backend.name]
        if probe.in_recovery or backend.role == "replica" or probe.timeline < timeline:
            continue
        if _is_foreign(probe, cluster):
            continue
        lsn = probe.lsn if probe.lsn is not None else 0
        rank = (probe.timeline, backend.name == incumbent, lsn)
        if best is None or rank > best_rank:
            best, best_rank = backend, rank
    return best


def _judge(
    backend: Backend, probe: Probe, primary: Backend | None, cluster: int, timeline: int
) -> tuple[Role, str]:
    """A server's role and, where it has none or it is old news, why."""
    if not probe.alive:
        return Role.NONE, probe.error
    if primary is not None and backend.name == primary.name:
        return Role.PRIMARY, probe.error
    if _is_foreign(probe, cluster):
        return Role.NONE, (
            f"belongs to another cluster: system identifier {probe.system_identifier},"
            f" not {cluster}"
        )
    if probe.in_recovery:
        if backend.role == "primary":
            return Role.NONE, "configured as primary, but it is in recovery"
        return Role.REPLICA, probe.error
    if backend.role == "replica":
        return Role.NONE, "configured as replica, but it is not in recovery"
    if probe.timeline < timeline:
        return Role.NONE, (
            f"fenced: it takes writes on timeline {probe.timeline}, and the cluster is on"
            f" {timeline}; restart the proxy if this server is to lead all the same"
        )
    name = primary.name if primary is not None else "another"
    return Role.NONE, f"fenced: it takes writes on timeline {probe.timeline} as {name} does"


def _is_foreign(probe: Probe, cluster: int) -> bool:
    return cluster != 0 and probe.system_identifier not in (0, cluster)


def _is_same_address(one: Node, other: Node) -> bool:
    return one.host == other.host and one.port == other.port


def _routes_alike(one: Node, other: Node) -> bool:
    return (
        one.role is other.role
        and one.alive == other.alive
        and one.timeline == other.timeline
        and one.weight == other.weight
        and one.zone == other.zone
    )
