"""PURE. What Patroni's members say at /cluster, and whom of them to believe.

The answer is what one member reads in the DCS. Patroni 2 to 4 give for each member: `name`, `role`
(leader, standby_leader, sync_standby, quorum_standby, replica), `state`, `api_url`; `host` and
`port` once it has told them; `timeline` and `tags` if it has (patroni/utils.py, cluster_as_json).

A member that the others cannot reach may go on telling of yesterday's leader, and one whose DCS is
away tells nothing or what it remembers. So an answer counts by who gives it (`judge`):

1. The one that the answer itself calls the leader: it has the lock, as far as it knows.
2. All that answer name one leader, who does not answer.
3. Otherwise, and where the servers' own word contradicts, nobody's word on roles counts: the
   servers are asked alone, as if there were no discovery of roles. So a primary is not dropped
   for what one stale member says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, final

from pgproxy.topology.model import Backend, Node, Topology

_LEADERS: Final = frozenset({"leader", "standby_leader", "master", "primary"})
# `state` is the server's own, or of a replica that of its replication.
_SERVING: Final = frozenset({"running", "streaming", "in archive recovery"})
_DEFAULT_PORT: Final = 5432
# Members that are taken from one answer.
MOST: Final = 500


@final
@dataclass(frozen=True)
class Member:
    name: str
    url: str  # of its REST API; empty if it is not known
    host: str  # of its server; empty as long as it has not told it
    port: int
    role: str  # as Patroni has it
    state: str
    timeline: int  # 0: not told
    takes_reads: bool

    @property
    def leads(self) -> bool:
        return self.role in _LEADERS


@final
@dataclass(frozen=True)
class View:
    """One member's answer."""

    members: tuple[Member, ...]
    scope: str = ""  # the cluster's name; Patroni 2 does not tell it
    is_paused: bool = False
    left_out: int = 0  # members beyond MOST

    @property
    def leader(self) -> Member | None:
        return next((member for member in self.members if member.leads), None)


@final
@dataclass(frozen=True)
class Answer:
    url: str  # who was asked
    view: View

    @property
    def is_by_leader(self) -> bool:
        leader = self.view.leader
        return leader is not None and leader.url == self.url


class Basis(Enum):
    """Whose word the roles are; the value is for people."""

    LEADER = "leader"
    MEMBERS = "members"
    SERVERS = "servers"


@final
@dataclass(frozen=True)
class Verdict:
    members: tuple[Member, ...]
    leader: str  # its name; empty with Basis.SERVERS
    basis: Basis


class NoViewError(ValueError):
    """The answer is none that Patroni gives; the message says why."""


def base_url(url: str) -> str:
    """`api_url` without the path that Patroni puts behind it."""
    scheme, mark, rest = url.strip().partition("://")
    return f"{scheme}{mark}{rest.partition('/')[0]}" if mark else ""


def read_view(body: bytes, scope: str) -> View:
    """Of the body of an answer; `scope` is the cluster's name if it is known, else empty. Raises
    `NoViewError`."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoViewError("the answer is not JSON") from error
    entries = answer.get("members") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise NoViewError("the answer has no list of members")
    found = _text(answer, "scope")
    if scope and found not in ("", scope):
        # An address may be given to a machine of another cluster.
        raise NoViewError(f'the answer is about the cluster "{found}", not "{scope}"')
    members = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        # It becomes a label of metrics: half a surrogate pair, which JSON may hold, has no bytes.
        if not isinstance(name, str) or not name or not name.isprintable():
            raise NoViewError("a member has no name, or one that cannot be printed")
        members[name] = _member(name, entry)
    if sum([member.leads for member in members.values()]) > 1:
        raise NoViewError("more than one member leads")
    taken = list(members.values())
    if len(taken) > MOST:  # the same ones each time, and not without the leader
        taken = sorted(taken, key=lambda member: (not member.leads, member.name))[:MOST]
    is_paused = answer.get("pause") is True
    return View(tuple(taken), found, is_paused, len(members) - len(taken))


def judge(answers: Sequence[Answer], topology: Topology) -> Verdict:
    """What follows from the answers of one round, of which there is at least one."""
    in_order = sorted(answers, key=_timeline)  # of several that say the same the newest counts
    found: dict[str, Answer] = {}
    for is_by_leader in (True, False):
        if not found:
            found = {
                one.view.leader.name: one
                for one in in_order
                if one.view.leader is not None and (one.is_by_leader or not is_by_leader)
            }
    if len(found) == 1:
        ((leader, answer),) = found.items()
        if not _is_outdone(answer, answers) and not _is_contradicted(answer, topology):
            basis = Basis.LEADER if answer.is_by_leader else Basis.MEMBERS
            return Verdict(answer.view.members, leader, basis)
    known: dict[str, Member] = {}
    for one in in_order:
        known |= {member.name: member for member in one.view.members}
    return Verdict(tuple(known.values()), "", Basis.SERVERS)


def is_settled(answers: Sequence[Answer], topology: Topology) -> bool:
    """Whether nobody else needs to be asked."""
    leaders = [answer for answer in answers if answer.is_by_leader]
    return len(leaders) == 1 and not _newer_writers(leaders[0], topology)


def backends_of(verdict: Verdict) -> tuple[Backend, ...]:
    """Those whose server has an address, by name."""
    found = []
    for member in sorted(verdict.members, key=lambda member: member.name):
        if not member.host:
            continue
        if verdict.basis is Basis.SERVERS:
            role = "auto"
        else:
            role = "primary" if member.name == verdict.leader else "replica"
        found.append(
            Backend(
                name=member.name,
                host=member.host,
                port=member.port,
                role=role,
                hinted=True,
                ready=member.takes_reads and member.state in _SERVING,
            )
        )
    return tuple(found)


def why_not(member: Member) -> str:
    """Why it is no backend, or takes no reads; empty if it does."""
    if not member.host:
        return "it has no address yet"
    if not member.takes_reads:
        return "takes no reads: tagged noloadbalance"
    if member.state not in _SERVING:
        return f"takes no reads: its state is {member.state or 'not told'}"
    return ""


def _timeline(answer: Answer) -> int:
    return max([member.timeline for member in answer.view.members], default=0)


def _is_outdone(answer: Answer, answers: Sequence[Answer]) -> bool:
    """Others tell of another leader, and of a newer timeline."""
    leader = answer.view.leader
    return any(
        one.view.leader is not None
        and leader is not None
        and one.view.leader.name != leader.name
        and _timeline(one) > _timeline(answer)
        for one in answers
    )


def _is_contradicted(answer: Answer, topology: Topology) -> bool:
    """A newer writer may be a replica that somebody has promoted by hand: a leader's own word counts
    for more, unless that writer is the primary already."""
    writers = _newer_writers(answer, topology)
    return topology.primary in writers if answer.is_by_leader else bool(writers)


def _newer_writers(answer: Answer, topology: Topology) -> list[Node]:
    """Others than the leader that take writes, on a newer timeline than is told of it, or than it
    writes on itself. What it follows as a replica is the writer's own."""
    leader = answer.view.leader
    assert leader is not None
    timeline = leader.timeline
    node = topology.node(leader.name)
    if node is not None and node.alive:
        timeline = max(timeline or node.timeline, node.wrote_on)
    return [
        other
        for other in topology.nodes
        if other.name != leader.name and other.alive and not other.cut and other.wrote_on > timeline
    ]


def _member(name: str, entry: Mapping[str, Any]) -> Member:
    tags = entry.get("tags")
    timeline, port = entry.get("timeline"), entry.get("port", _DEFAULT_PORT)
    host = _text(entry, "host").strip("[]")
    return Member(
        name=name,
        url=base_url(_text(entry, "api_url")),
        host=host if _is_port(port) and host.isprintable() else "",
        port=port if _is_port(port) else 0,
        role=_text(entry, "role"),
        state=_text(entry, "state"),
        timeline=timeline if isinstance(timeline, int) and timeline > 0 else 0,
        takes_reads=not (isinstance(tags, dict) and tags.get("noloadbalance")),
    )


def _is_port(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65536


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""
