from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.topology.model import (
    NOT_ASKED,
    Backend,
    Node,
    Probe,
    Role,
    Topology,
    diff,
    format_lsn,
    fuse,
    parse_lsn,
)

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


def test_the_version_rises_only_with_what_routing_sees() -> None:
    first = history({"a": primary(lsn=1), "b": replica(lsn=1)})
    moved = fuse((A, B, C), {"a": primary(lsn=2), "b": replica(lsn=2)}, first)
    assert (first.version, moved.version) == (1, 1)
    assert node(moved, "b").replay_lsn == 2
    lost = fuse((A, B, C), {"a": primary(lsn=2), "b": DEAD}, moved)
    assert lost.version == 2


# The difference


def test_the_difference_names_who_came_who_went_and_who_changed() -> None:
    old = history({"a": primary(), "b": replica()}, backends=(A, B))
    moved = Backend("a", "10.0.0.9")
    new = history({"a": primary(), "b": DEAD, "c": replica()}, backends=(moved, B, C))
    found = diff(old, new)
    assert [node.host for node in found.added] == ["10.0.0.9", "10.0.0.3"]
    assert [node.host for node in found.removed] == ["10.0.0.1"]
    assert [(before.role, after.role) for before, after in found.changed] == [
        (Role.REPLICA, Role.NONE)
    ]
    assert not found.is_empty
    assert diff(new, new).is_empty


@pytest.mark.parametrize(
    "other", [Backend("a", "10.0.0.1", weight=5), Backend("a", "10.0.0.1", zone="z")]
)
def test_weight_and_zone_are_seen_by_routing(other: Backend) -> None:
    old = history({"a": primary()}, backends=(A,))
    new = history({"a": primary()}, backends=(other,))
    assert len(diff(old, new).changed) == 1


# Log sequence numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [("0/0", 0), ("16/B374D848", 0x16B374D848), ("FFFFFFFF/ffffffff", 2**64 - 1)],
)
def test_an_lsn_is_read(text: str, number: int) -> None:
    assert parse_lsn(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "/1", "1/", "1/2/3", "g/0", "-1/0", "0/123456789", "0/ 1"]
)
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        parse_lsn(text)


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_survives_being_written_and_read(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


# Whatever happens

probes = st.builds(
    Probe,
    alive=st.booleans(),
    in_recovery=st.booleans(),
    timeline=st.integers(1, 3),
    lsn=st.integers(0, 3),
    system_identifier=st.sampled_from([7, 7, 7, 8]),
)
backends_of_any_kind = st.tuples(
    *(
        st.builds(
            Backend,
            st.just(name),
            st.just(name),
            role=st.sampled_from(["auto"] * 3 + ["primary", "replica"]),
        )
        for name in "abc"
    )
)
rounds_of_probes = st.lists(st.dictionaries(st.sampled_from("abc"), probes), min_size=1, max_size=6)


@given(backends_of_any_kind, rounds_of_probes)
def test_no_history_gives_a_role_that_the_evidence_denies(
    backends: tuple[Backend, ...], rounds: list[dict[str, Probe]]
) -> None:
    topology: Topology | None = None
    for evidence in rounds:
        before, topology = topology, fuse(backends, evidence, topology)
        for backend, found in zip(backends, topology.nodes, strict=True):
            probe = evidence.get(backend.name, DEAD)
            assert (found.role is Role.NONE) == bool(found.error) or not found.alive
            if found.role is Role.NONE:
                continue
            assert probe.alive
            assert probe.system_identifier == topology.system_identifier or topology.primary is None
            assert probe.in_recovery == (found.role is Role.REPLICA)
            assert backend.role in ("auto", found.role.value)
        leader = topology.primary
        if leader is not None:
            assert leader.timeline == topology.timeline
        same_cluster = before is not None and before.system_identifier == topology.system_identifier
        if before is not None and same_cluster:
            assert topology.timeline >= before.timeline
            assert (topology.version > before.version) == (not diff(before, topology).is_empty)
