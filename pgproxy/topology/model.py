"""What the servers are and may do. PURE.

Discovery names `Backend`s; the monitor brings a `Probe` of each; `fuse` (fusion.py) makes of both a
`Topology`: at most one PRIMARY, the REPLICAs, and the rest, which serve nobody. Topologies are
values: a new one replaces the old, `diff` tells what changed for those who route by it.
"""

from collections.abc import Mapping
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
    It is the operator's word, or with `hinted` a label or a word of Patroni's: a hint, which may be
    late.
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
    handing_over: bool = False  # the primary is about to be stopped, or so it seems

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """What makes it this server: with another of these it is another one."""
        return (self.name, self.host, self.port, self.uid)


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
    room: int = 0  # connections that it has for ordinary users
    defaults: str = ""  # another one: sessions that begin now may have other settings


@final
@dataclass(frozen=True)
class Node:
    """One server in a topology. `replay_lsn` is what it shows: replayed, or inserted (primary).

    A server without a role gets no new work; its connections that are idle close, and the others
    when their transaction ends. With `cut` they all end now: what they write would be lost.
    """

    name: str
    host: str
    port: int
    weight: int
    zone: str
    role: Role
    alive: bool
    timeline: int
    replay_lsn: int | None
    error: str  # why it has no role, or why what is known of it is old
    uid: str = ""
    wrote_on: int = 0  # the timeline on which it took writes when it answered last; 0: on none
    cut: bool = False
    handing_over: bool = False  # as `Backend.handing_over`

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """As `Backend.identity`."""
        return (self.name, self.host, self.port, self.uid)

    @property
    def is_fenced(self) -> bool:
        """It answers and takes writes, but must get none; `error` says why."""
        return self.alive and self.cut


@final
class Topology:
    """A value: never changed, only replaced. `version` rises with each change that routing sees.

    `timeline` and `system_identifier` are the cluster's as far as they are known (else 0), and
    stay when its primary goes. `timelines` are the newest ever seen, by system identifier.
    """

    def __init__(
        self,
        version: int,
        nodes: tuple[Node, ...],
        *,
        timeline: int = 0,
        system_identifier: int = 0,
        timelines: Mapping[int, int] | None = None,
    ) -> None:
        self.version: Final = version
        self.nodes: Final = nodes
        self.timeline: Final = timeline
        self.system_identifier: Final = system_identifier
        self.timelines: Final[Mapping[int, int]] = timelines if timelines is not None else {}
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
    """What changed for routing; a node with another identity is one removed and one added."""

    added: tuple[Node, ...]
    removed: tuple[Node, ...]
    changed: tuple[tuple[Node, Node], ...]

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.changed)


def diff(old: Topology, new: Topology) -> Diff:
    """What a router must know of the step from `old` to `new`; positions and errors are not it."""
    added = []
    changed = []
    for node in new.nodes:
        before = old.node(node.name)
        if before is None or before.identity != node.identity:
            added.append(node)
        elif not _routes_alike(before, node):
            changed.append((before, node))
    removed = []
    for node in old.nodes:
        after = new.node(node.name)
        if after is None or node.identity != after.identity:
            removed.append(node)
    return Diff(tuple(added), tuple(removed), tuple(changed))


def is_one_history(old: Topology, new: Topology) -> bool:
    """Whether positions of the one and of the other compare."""
    return (old.system_identifier, old.timeline) == (new.system_identifier, new.timeline)


def _routes_alike(one: Node, other: Node) -> bool:
    return (
        one.role is other.role
        and one.alive == other.alive
        and one.timeline == other.timeline
        and one.cut == other.cut
        and one.handing_over == other.handing_over
        and one.weight == other.weight
        and one.zone == other.zone
    )
