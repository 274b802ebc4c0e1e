"""What discovery says and what each server says of itself, made one `Topology`. PURE.

Discovery can only forbid: the primary is a server that is not in recovery, is on the newest
timeline, and of which discovery says nothing else. A role label is patched onto a pod by somebody,
before or after the fact, and what Patroni tells is as old: they are hints, for which a server may do
less, never more.

Timelines decide between two servers that take writes, since each promotion starts a higher one.
A timeline once seen is remembered from topology to topology, so that the primary of before a
failover gets no write when it comes back, not even while the new one is away. Only one that takes
writes although its label says replica (somebody has promoted it by hand, or its label is late) is
forgotten with it: it forbids the others to write until it answers that it is in recovery, or has
left the list. The system identifier, which initdb draws and replicas copy, tells servers of another
cluster apart.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pgproxy.topology.model import Backend, Node, Probe, Role, Topology, diff

NOT_ASKED: Final = "not asked yet"
LEAVING: Final = "its pod is terminating or not running, or discovery names it no more"
NOT_READY: Final = "discovery says that it is not ready for reads"


def fuse(
    backends: Sequence[Backend],
    probes: Mapping[str, Probe],
    previous: Topology | None = None,
) -> Topology:
    """The topology that `backends` and `probes` (by backend name) show, after `previous`."""
    before = previous if previous is not None else Topology(0, ())
    alive = [backend for backend in backends if _probe(backend, probes).alive]
    timelines = _timelines(alive, probes, before)
    cluster = _cluster(alive, probes, before, len(alive) == len(backends))
    timeline = max(timelines.get(cluster, 0), _strays(backends, probes, before, cluster))
    primary = _best_writer(alive, probes, before, cluster, timeline)

    nodes = []
    for backend in backends:
        probe = _probe(backend, probes)
        role, error = _judge(backend, probe, primary, cluster, timeline)
        wrote_on = _wrote_on(backend, probe, before)
        is_deposed = primary is not None or wrote_on < timeline or _is_foreign(probe, cluster)
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
                backend.uid,
                wrote_on,
                role is Role.NONE and wrote_on > 0 and is_deposed,
                role is Role.PRIMARY and backend.handing_over,
            )
        )

    def version(number: int) -> Topology:
        return Topology(
            number,
            tuple(nodes),
            timeline=timeline,
            system_identifier=cluster,
            timelines=timelines,
        )

    same = version(before.version)
    if previous is not None and diff(previous, same).is_empty:
        return same
    return version(before.version + 1)


def _probe(backend: Backend, probes: Mapping[str, Probe]) -> Probe:
    return probes.get(backend.name, Probe(False, error=NOT_ASKED))


def _timelines(
    alive: Sequence[Backend], probes: Mapping[str, Probe], before: Topology
) -> dict[int, int]:
    """The highest timeline of each system, seen now or before, on a primary or a replica."""
    newest = dict(before.timelines)
    for backend in alive:
        probe = probes[backend.name]
        if probe.system_identifier != 0 and not _is_stray(backend, probe):
            known = newest.get(probe.system_identifier, 0)
            newest[probe.system_identifier] = max(known, probe.timeline)
    return newest


def _strays(
    backends: Sequence[Backend], probes: Mapping[str, Probe], before: Topology, cluster: int
) -> int:
    """The highest timeline of those in the cluster that write without being meant to. One that is
    silent counts as it did: its label may only have been late, and what it took is not undone."""
    found = [0]
    for backend in backends:
        probe = _probe(backend, probes)
        wrote_on = _wrote_on(backend, probe, before)
        is_ours = probe.system_identifier == cluster if probe.alive else wrote_on <= before.timeline
        if cluster != 0 and is_ours and _is_stray(backend, probe):
            found.append(wrote_on)
    return max(found)


def _is_stray(backend: Backend, probe: Probe) -> bool:
    return backend.hinted and backend.role in ("replica", "none") and not probe.in_recovery


def _cluster(
    alive: Sequence[Backend], probes: Mapping[str, Probe], before: Topology, are_all: bool
) -> int:
    """The system identifier that counts; 0 if none is known yet.

    The one so far holds as long as any server has it; after that whoever takes writes has it.
    Replicas that agree will do at the beginning, and if they are all that there is (a standby
    cluster that was made anew): a server that is only away may have the one so far.
    """
    known = before.system_identifier
    found = {probes[backend.name].system_identifier for backend in alive} - {0}
    if known in found:
        return known
    writer = _best_writer(alive, probes, before, 0, 0)
    if writer is not None:
        return probes[writer.name].system_identifier
    if len(found) == 1 and (known == 0 or are_all):
        return next(iter(found))
    return known


def _best_writer(
    alive: Sequence[Backend],
    probes: Mapping[str, Probe],
    before: Topology,
    cluster: int,
    timeline: int,
) -> Backend | None:
    """Of those that may lead the one with the highest timeline, never one below `timeline`.

    Two servers that write on one timeline are a copy and its original: the primary so far
    stays, else the one that has written more leads, else the one that is named first.
    """
    incumbent = before.primary.identity if before.primary is not None else None
    best: Backend | None = None
    best_rank = (0, False, 0)
    for backend in alive:
        probe = probes[backend.name]
        if probe.in_recovery or probe.timeline < timeline or _is_foreign(probe, cluster):
            continue
        if backend.leaving or backend.role not in ("auto", "primary"):
            continue
        lsn = probe.lsn if probe.lsn is not None else 0
        rank = (probe.timeline, backend.identity == incumbent, lsn)
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
    if not probe.in_recovery and probe.timeline < timeline:
        return Role.NONE, (
            f"fenced: it takes writes on timeline {probe.timeline}, and the cluster is on"
            f" {timeline}; restart the proxy if this server is to lead all the same"
        )
    if backend.leaving:
        return Role.NONE, LEAVING
    if backend.role == "none":
        return Role.NONE, "its labels give it no role that is known"
    if probe.in_recovery:
        return _judge_replica(backend, probe)
    if backend.role == "replica" and backend.hinted:
        return (
            Role.NONE,
            "discovery has it as a replica, but it is not in recovery: discovery may be late",
        )
    if backend.role == "replica":
        return Role.NONE, "configured as replica, but it is not in recovery"
    name = primary.name if primary is not None else "another"
    return Role.NONE, f"fenced: it takes writes on timeline {probe.timeline} as {name} does"


def _judge_replica(backend: Backend, probe: Probe) -> tuple[Role, str]:
    # A pod labelled primary may be in recovery: its label came before the promotion, or it leads a
    # standby cluster. It can serve reads all the same.
    if backend.role == "primary" and not backend.hinted:
        return Role.NONE, "configured as primary, but it is in recovery"
    if not backend.ready:
        return Role.NONE, NOT_READY
    return Role.REPLICA, probe.error


def _wrote_on(backend: Backend, probe: Probe, before: Topology) -> int:
    """The timeline on which it takes writes, or took them when it last answered; 0: on none."""
    if probe.alive:
        return 0 if probe.in_recovery else probe.timeline
    node = before.node(backend.name)
    return node.wrote_on if node is not None and node.identity == backend.identity else 0


def _is_foreign(probe: Probe, cluster: int) -> bool:
    return cluster != 0 and probe.system_identifier not in (0, cluster)
