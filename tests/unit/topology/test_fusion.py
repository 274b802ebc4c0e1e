"""What discovery's hints and the servers' own answers make of each server."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.topology.fusion import LEAVING, NOT_ASKED, NOT_READY, fuse
from pgproxy.topology.model import Backend, Node, Probe, Role, Topology, diff

SYSTEM = 7_000_000_000_000_000_001
A = Backend("a", "10.0.0.1")
B = Backend("b", "10.0.0.2")
C = Backend("c", "10.0.0.3")
DEAD = Probe(False, error="connection refused")


def primary(timeline: int = 1, lsn: int = 100, system: int = SYSTEM) -> Probe:
    return Probe(True, False, timeline, lsn, system)


def replica(timeline: int = 1, lsn: int = 100, system: int = SYSTEM) -> Probe:
    return Probe(True, True, timeline, lsn, system)


def roles(topology: Topology) -> dict[str, Role]:
    return {node.name: node.role for node in topology.nodes}


def node(topology: Topology, name: str) -> Node:
    found = topology.node(name)
    assert found is not None
    return found


def history(*rounds: Mapping[str, Probe], backends: tuple[Backend, ...] = (A, B, C)) -> Topology:
    """The topology after these rounds of probes, one after another."""
    topology = None
    for probes in rounds:
        topology = fuse(backends, probes, topology)
    assert topology is not None
    return topology


# One round


def test_the_server_out_of_recovery_leads_and_the_others_replicate() -> None:
    topology = history({"a": replica(), "b": primary(), "c": replica(lsn=90)})
    assert topology.primary is not None
    assert topology.primary.name == "b"
    assert [node.name for node in topology.replicas] == ["a", "c"]
    assert (topology.timeline, topology.system_identifier) == (1, SYSTEM)
    assert node(topology, "c").replay_lsn == 90


def test_a_dead_or_unasked_server_serves_nobody() -> None:
    topology = history({"a": primary(), "b": DEAD})
    assert roles(topology) == {"a": Role.PRIMARY, "b": Role.NONE, "c": Role.NONE}
    assert node(topology, "b").error == "connection refused"
    assert node(topology, "c").error == NOT_ASKED
    assert not node(topology, "b").is_fenced


def test_no_server_at_all_is_a_topology_too() -> None:
    assert fuse((), {}).nodes == ()
    assert history({}).primary is None


def test_a_server_configured_as_replica_never_takes_writes() -> None:
    only_reads = Backend("a", "10.0.0.1", role="replica")
    topology = history({"a": primary()}, backends=(only_reads,))
    assert topology.primary is None
    assert "configured as replica" in node(topology, "a").error
    assert roles(history({"a": replica()}, backends=(only_reads,))) == {"a": Role.REPLICA}


def test_a_server_configured_as_primary_never_takes_reads_as_a_replica() -> None:
    only_writes = Backend("a", "10.0.0.1", role="primary")
    topology = history({"a": replica()}, backends=(only_writes,))
    assert roles(topology) == {"a": Role.NONE}
    assert "configured as primary" in node(topology, "a").error


def test_of_two_writers_the_higher_timeline_leads_and_the_other_is_fenced() -> None:
    topology = history({"a": primary(1, lsn=900), "b": primary(2), "c": replica(2)})
    assert roles(topology) == {"a": Role.NONE, "b": Role.PRIMARY, "c": Role.REPLICA}
    assert node(topology, "a").is_fenced
    assert "timeline 1, and the cluster is on 2" in node(topology, "a").error


def test_of_two_writers_on_one_timeline_the_one_that_wrote_more_leads() -> None:
    topology = history({"a": primary(lsn=100), "b": primary(lsn=200)})
    assert roles(topology)["b"] is Role.PRIMARY
    assert "as b does" in node(topology, "a").error


def test_a_replica_on_a_newer_timeline_proves_a_newer_primary() -> None:
    topology = history({"a": primary(1), "c": replica(2)})
    assert topology.primary is None
    assert roles(topology)["c"] is Role.REPLICA


def test_a_replica_of_another_cluster_serves_nobody() -> None:
    topology = history({"a": primary(), "b": replica(system=99)})
    assert roles(topology)["b"] is Role.NONE
    assert "another cluster" in node(topology, "b").error


# One round after another


def test_a_promotion_is_followed() -> None:
    before = {"a": primary(), "b": replica(), "c": replica()}
    topology = history(before, before | {"a": DEAD}, {"a": DEAD, "b": primary(2), "c": replica()})
    assert roles(topology) == {"a": Role.NONE, "b": Role.PRIMARY, "c": Role.REPLICA}


def test_the_primary_so_far_stays_when_a_copy_of_it_writes_too() -> None:
    topology = history({"a": primary(lsn=100)}, {"a": primary(lsn=100), "b": primary(lsn=200)})
    assert roles(topology)["a"] is Role.PRIMARY


def test_the_old_primary_gets_no_write_while_the_new_one_is_away() -> None:
    rounds = (
        {"a": primary(1), "b": replica()},
        {"a": DEAD, "b": primary(2)},
        {"a": primary(1), "b": DEAD},
    )
    topology = history(*rounds)
    assert topology.primary is None
    assert topology.timeline == 2
    assert node(topology, "a").is_fenced


def test_the_timeline_is_remembered_over_a_time_with_nobody_there() -> None:
    topology = history({"b": primary(2)}, {}, {"a": primary(1)})
    assert topology.primary is None


def test_an_empty_server_in_the_primary_s_place_is_fenced_while_a_replica_lives() -> None:
    before = {"a": primary(3), "b": replica(3)}
    topology = history(before, {"a": primary(1, system=99), "b": replica(3)})
    assert roles(topology)["a"] is Role.NONE
    assert "another cluster" in node(topology, "a").error
    assert roles(topology)["b"] is Role.REPLICA


def test_a_cluster_that_was_made_anew_everywhere_is_accepted() -> None:
    topology = history({"a": primary(3)}, {"a": DEAD}, {"a": primary(1, system=99)})
    assert roles(topology)["a"] is Role.PRIMARY
    assert (topology.timeline, topology.system_identifier) == (1, 99)


def test_replicas_of_a_cluster_made_anew_wait_for_its_primary() -> None:
    topology = history({"a": primary(3)}, {"b": replica(1, system=99)})
    assert roles(topology)["b"] is Role.NONE
    topology = fuse((A, B, C), {"a": primary(1, system=99), "b": replica(1, system=99)}, topology)
    assert roles(topology)["b"] is Role.REPLICA


def test_a_standby_cluster_that_was_made_anew_everywhere_is_accepted() -> None:
    """It has no primary, and may never have one."""
    before, after = replica(3), replica(1, system=99)
    first = {"a": before, "b": before, "c": before}
    moving = history(first, {"a": after, "b": after, "c": DEAD})
    assert moving.replicas == ()  # the third is only away, and may be of the cluster so far
    topology = fuse((A, B, C), {"a": after, "b": after, "c": after}, moving)
    assert len(topology.replicas) == 3
    assert (topology.timeline, topology.system_identifier) == (1, 99)
    two = history(first, {"a": after, "b": after, "c": replica(1, system=98)})
    assert two.replicas == ()


def test_the_version_rises_only_with_what_routing_sees() -> None:
    first = history({"a": primary(lsn=1), "b": replica(lsn=1)})
    moved = fuse((A, B, C), {"a": primary(lsn=2), "b": replica(lsn=2)}, first)
    assert (first.version, moved.version) == (1, 1)
    assert node(moved, "b").replay_lsn == 2
    lost = fuse((A, B, C), {"a": primary(lsn=2), "b": DEAD}, moved)
    assert lost.version == 2


# What discovery says


@dataclass(frozen=True)
class Case:
    name: str
    backends: tuple[Backend, ...]
    probes: Mapping[str, Probe]
    roles: str  # of each backend: P, R or -
    reason: str = ""  # in the first backend's error
    cut: str = ""  # the names of those whose connections are cut
    before: tuple[Mapping[str, Probe], ...] = ()  # earlier rounds, discovery saying nothing


def pod(name: str, role: str, **more: object) -> Backend:
    """A pod with a role label."""
    return Backend(name, name, role=role, hinted=True, **more)  # type: ignore[arg-type]


WRITES_2 = primary(2)
BOTH = {"a": primary(), "b": replica()}

CASES = (
    Case("labels and servers agree", (pod("a", "primary"), pod("b", "replica")), BOTH, "PR"),
    Case(
        "label before promotion",
        (pod("a", "primary"), pod("b", "replica")),
        {"a": replica(), "b": replica()},
        "RR",
    ),
    Case("a standby cluster's primary serves reads", (pod("a", "primary"),), {"a": replica()}, "R"),
    Case(
        "promotion before label",
        (pod("a", "replica"), pod("b", "replica")),
        {"a": WRITES_2, "b": replica()},
        "-R",
        "discovery may be late",
    ),
    Case(
        "two labelled primaries: the higher timeline",
        (pod("a", "primary"), pod("b", "primary")),
        {"a": primary(), "b": WRITES_2},
        "-P",
        "timeline 1, and the cluster is on 2",
        cut="a",
    ),
    Case(
        "two labelled primaries, the newer one still in recovery",
        (pod("a", "primary"), pod("b", "primary")),
        BOTH,
        "PR",
    ),
    Case(
        "two labelled primaries on one timeline: the one so far",
        (pod("a", "primary"), pod("b", "primary")),
        {"a": primary(lsn=900), "b": primary(lsn=100)},
        "-P",
        "as b does",
        cut="a",
        before=({"a": replica(), "b": primary(lsn=100)},),
    ),
    Case(
        "stale label of a primary that is dead",
        (pod("a", "primary"), pod("b", "primary")),
        {"a": DEAD, "b": WRITES_2},
        "-P",
        "refused",
        cut="a",
        before=(BOTH,),
    ),
    Case(
        "a dead primary without a successor keeps its connections",
        (pod("a", "primary"), pod("b", "replica")),
        {"a": DEAD, "b": replica()},
        "-R",
        "refused",
        before=(BOTH,),
    ),
    Case(
        "a timeline that only a replica shows fences the primary",
        (pod("a", "primary"), pod("b", "replica")),
        {"a": primary(), "b": replica(2)},
        "-R",
        "timeline 1, and the cluster is on 2",
        cut="a",
        before=(BOTH,),
    ),
    Case(
        "a timeline that only a replica shows cuts off the dead primary",
        (pod("a", "primary"), pod("b", "replica")),
        {"a": DEAD, "b": replica(2)},
        "-R",
        "refused",
        cut="a",
        before=(BOTH,),
    ),
    Case(
        "a promoted pod that waits for its label fences the old primary",
        (pod("a", "primary"), pod("b", "replica")),
        {"a": primary(), "b": WRITES_2},
        "--",
        "timeline 1, and the cluster is on 2",
        cut="a",
        before=(BOTH,),
    ),
    Case(
        "label unhealthy on the primary: nobody leads, what runs may finish",
        (pod("a", "none"), pod("b", "replica")),
        BOTH,
        "-R",
        "no role that is known",
        before=(BOTH,),
    ),
    Case(
        "label unhealthy on a replica",
        (pod("b", "none"), pod("a", "primary")),
        BOTH,
        "-P",
        "no role that is known",
    ),
    Case(
        "switchover, the old label leaves first: nobody leads, what runs may finish",
        (pod("a", "replica"), pod("b", "replica")),
        BOTH,
        "-R",
        "discovery may be late",
        before=(BOTH,),
    ),
    Case(
        "switchover, the new label comes first: the old one leads until it is in recovery",
        (pod("a", "primary"), pod("b", "primary")),
        BOTH,
        "PR",
        before=(BOTH,),
    ),
    Case(
        "an unlabelled writer beside the primary is cut off",
        (pod("a", "none"), pod("b", "primary")),
        {"a": primary(), "b": WRITES_2},
        "-P",
        "timeline 1",
        cut="a",
    ),
    Case(
        "a replica that is not ready",
        (pod("b", "replica", ready=False), pod("a", "primary")),
        BOTH,
        "-P",
        NOT_READY,
    ),
    Case("a primary that is not ready", (pod("a", "primary", ready=False),), BOTH, "P"),
    Case(
        "a pod labelled primary, in recovery, not ready",
        (pod("a", "primary", ready=False),),
        {"a": replica()},
        "-",
        NOT_READY,
    ),
    Case(
        "a replica that is terminating",
        (pod("b", "replica", leaving=True), pod("a", "primary")),
        BOTH,
        "-P",
        LEAVING,
    ),
    Case(
        "a primary that is terminating: its writes wait for the successor",
        (pod("a", "primary", leaving=True), pod("b", "replica")),
        BOTH,
        "-R",
        LEAVING,
        before=(BOTH,),
    ),
    Case(
        "a primary that is terminating, and its successor",
        (pod("a", "primary", leaving=True), pod("b", "primary")),
        {"a": primary(), "b": WRITES_2},
        "-P",
        "timeline 1",
        cut="a",
        before=(BOTH,),
    ),
    Case(
        "pods without role labels are as they say",
        (Backend("a", "a", hinted=True), Backend("b", "b", hinted=True)),
        {"a": primary(), "b": replica()},
        "PR",
    ),
    Case(
        "pods without role labels, two write",
        (Backend("a", "a", hinted=True), Backend("b", "b", hinted=True)),
        {"a": primary(), "b": WRITES_2},
        "-P",
        "timeline 1",
        cut="a",
    ),
    Case(
        "a labelled primary of another cluster",
        (pod("a", "primary"), pod("b", "replica")),
        {"a": primary(system=99), "b": replica()},
        "-R",
        "another cluster",
        cut="a",
        before=(BOTH,),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hints_and_evidence(case: Case) -> None:
    topology: Topology | None = None
    for probes in case.before:
        plain = [Backend(backend.name, backend.host) for backend in case.backends]
        topology = fuse(plain, probes, topology)
    topology = fuse(case.backends, case.probes, topology)
    shown = {Role.PRIMARY: "P", Role.REPLICA: "R", Role.NONE: "-"}
    assert "".join([shown[node.role] for node in topology.nodes]) == case.roles, topology
    first = topology.nodes[0]
    assert case.reason in first.error
    assert bool(case.reason) == bool(first.error)
    assert "".join([node.name for node in topology.nodes if node.cut]) == case.cut


def test_a_stale_primary_that_comes_back_stays_out_although_the_new_one_has_left() -> None:
    pods = (pod("a", "primary"), pod("b", "primary"))
    topology = fuse(pods, BOTH)
    topology = fuse(pods, {"a": DEAD, "b": WRITES_2}, topology)
    topology = fuse((pod("b", "primary"),), {"b": WRITES_2}, topology)
    topology = fuse((), {}, topology)
    assert topology.nodes == ()
    topology = fuse((pod("a", "primary"),), {"a": primary(1)}, topology)
    assert topology.primary is None
    assert node(topology, "a").cut
    assert roles(fuse((pod("a", "primary"),), {"a": replica(2)}, topology)) == {"a": Role.REPLICA}


def test_a_pod_replaced_under_its_name_is_not_the_primary_so_far() -> None:
    pods = (pod("a", "primary", uid="1"), pod("b", "primary"))
    topology = fuse(pods, {"a": primary()})
    new = (pod("a", "primary", uid="2"), pod("b", "primary"))
    topology = fuse(new, {"a": primary(lsn=1), "b": primary(lsn=2)}, topology)
    assert roles(topology) == {"a": Role.NONE, "b": Role.PRIMARY}


def test_a_pod_replaced_under_its_name_has_written_nothing() -> None:
    topology = fuse((pod("a", "primary", uid="1"),), {"a": primary()})
    topology = fuse((pod("a", "primary", uid="2"),), {}, topology)
    assert node(topology, "a").wrote_on == 0


def test_the_timelines_of_every_system_are_remembered() -> None:
    rounds = (
        {"a": primary(3)},
        {"a": primary(1, system=99)},
        {"a": primary(2)},
    )
    topology = history(*rounds)
    assert topology.primary is None
    assert "timeline 2, and the cluster is on 3" in node(topology, "a").error
    assert topology.timelines == {SYSTEM: 3, 99: 1}


def test_replicas_that_agree_show_the_cluster_before_a_primary_is_there() -> None:
    topology = history({"a": replica(2), "b": replica(2)}, {"c": primary(1)})
    assert topology.system_identifier == SYSTEM
    assert roles(topology)["c"] is Role.NONE
    mixed = history({"a": replica(2), "b": replica(2, system=99)})
    assert mixed.system_identifier == 0


def test_a_change_of_readiness_that_changes_no_role_is_no_new_version() -> None:
    first = fuse((pod("a", "primary"),), {"a": primary()})
    again = fuse((pod("a", "primary", ready=False),), {"a": primary()}, first)
    assert again.version == first.version
    assert fuse((pod("a", "none"),), {"a": primary()}, again).version == 2


# Whatever happens

any_probe = st.builds(
    Probe,
    alive=st.booleans(),
    in_recovery=st.booleans(),
    timeline=st.integers(1, 3),
    lsn=st.integers(0, 3),
    system_identifier=st.sampled_from([7, 7, 7, 8]),
)
WORDS = st.sampled_from(["auto", "auto", "primary", "primary", "replica", "none"])
# In each round discovery says something else, some pods are missing, some have been replaced.
any_backends = st.tuples(
    *(
        st.builds(
            Backend,
            st.just(name),
            st.just(name),
            role=WORDS,
            uid=st.sampled_from("111112"),
            hinted=st.booleans(),
            ready=st.booleans(),
            leaving=st.sampled_from([False, False, True]),
        )
        for name in "abc"
    )
).flatmap(lambda named: st.lists(st.sampled_from(named), unique=True, max_size=3))
any_round = st.tuples(any_backends, st.dictionaries(st.sampled_from("abc"), any_probe))


@given(st.lists(any_round, min_size=1, max_size=8))
def test_no_history_gives_a_role_that_the_evidence_denies(
    rounds: list[tuple[list[Backend], dict[str, Probe]]],
) -> None:
    topology: Topology | None = None
    seen: dict[int, int] = {}  # by system the newest timeline that is to be remembered
    for backends, evidence in rounds:
        before, topology = topology, fuse(backends, evidence, topology)
        now: dict[int, int] = {}  # the newest that any server shows
        for backend in backends:
            probe = evidence.get(backend.name, DEAD)
            if probe.alive:
                system = probe.system_identifier
                now[system] = max(now.get(system, 0), probe.timeline)
                is_meant = backend.role in ("auto", "primary") or not backend.hinted
                if is_meant or probe.in_recovery:
                    seen[system] = max(seen.get(system, 0), probe.timeline)
        assert [found.identity for found in topology.nodes] == [
            backend.identity for backend in backends
        ]
        for backend, found in zip(backends, topology.nodes, strict=True):
            probe = evidence.get(backend.name, DEAD)
            assert (found.role is Role.NONE) == bool(found.error) or not found.alive
            assert found.role is Role.NONE or not found.cut
            if found.role is Role.NONE:
                continue
            assert probe.alive
            assert backend.role != "none"
            assert not backend.leaving
            assert probe.system_identifier == topology.system_identifier or topology.primary is None
            assert probe.in_recovery == (found.role is Role.REPLICA)
            if found.role is Role.PRIMARY:
                assert backend.role in ("auto", "primary")
                assert probe.timeline == seen[probe.system_identifier]
                assert probe.timeline == now[probe.system_identifier]
            else:
                assert backend.ready
                assert backend.hinted or backend.role != "primary"
        leader = topology.primary
        for found in topology.nodes:
            probe = evidence.get(found.name, DEAD)
            writes = probe.alive and not probe.in_recovery
            if leader is not None and writes and found is not leader:
                assert found.cut, "a second writer keeps its connections"
        if before is not None:
            assert all(
                topology.timelines[system] >= timeline
                for system, timeline in before.timelines.items()
            )
        assert topology.timelines == seen
        if before is not None:
            assert (topology.version > before.version) == (not diff(before, topology).is_empty)
        # Nothing new is no change.
        assert fuse(backends, evidence, topology).version == topology.version


def test_a_primary_that_hands_over_is_primary_still_and_says_so() -> None:
    first = history({"a": primary(), "b": replica()})
    handing_over = replace(A, handing_over=True)
    probes = {"a": primary(), "b": replica()}
    second = fuse((handing_over, replace(B, handing_over=True), C), probes, first)
    assert [(one.role, one.handing_over) for one in second.nodes[:2]] == [
        (Role.PRIMARY, True),
        (Role.REPLICA, False),
    ]
    assert second.version == first.version + 1


def test_a_replica_promoted_by_hand_forbids_writes_as_long_as_it_is_there() -> None:
    leader = replace(A, role="primary", hinted=True)
    stray = replace(B, role="replica", hinted=True)
    one = {"a": primary(1), "b": replica(1)}
    first = fuse((leader, stray), one)
    promoted = fuse((leader, stray), {"a": primary(1), "b": primary(2)}, first)
    assert promoted.primary is None
    assert [one.role for one in promoted.nodes] == [Role.NONE, Role.NONE]
    silent = fuse((leader, stray), {"a": primary(1), "b": DEAD}, promoted)
    silent = fuse((leader, stray), {"a": primary(1), "b": DEAD}, silent)
    assert silent.primary is None  # that it was promoted by hand is not certain
    again = fuse((leader, stray), one, silent)
    assert again.primary is not None
    healed = fuse((leader,), {"a": primary(1)}, silent)
    assert healed.primary is not None
    replaced = fuse((leader, replace(stray, uid="2")), {"a": primary(1), "b": DEAD}, silent)
    assert replaced.primary is not None
    healed = fuse((leader,), {"a": primary(1)}, promoted)
    assert healed.primary is not None
    rebuilt = fuse((leader, stray), one, promoted)
    assert rebuilt.primary is not None


def test_a_late_label_makes_it_the_primary_and_is_remembered() -> None:
    leader = replace(A, role="primary", hinted=True)
    late = replace(B, role="replica", hinted=True)
    first = fuse((leader, late), {"a": primary(1), "b": primary(2)})
    second = fuse(
        (leader, replace(late, role="primary")), {"a": primary(1), "b": primary(2)}, first
    )
    assert second.primary is not None
    assert second.primary.name == "b"
    third = fuse((leader, replace(late, role="primary")), {"a": primary(1), "b": DEAD}, second)
    assert third.primary is None
