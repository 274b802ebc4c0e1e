"""Topologies as values: their difference, and the positions in them."""

from dataclasses import replace

import pytest

from pgproxy.topology.model import Node, Role, Topology, diff


def node(name: str, role: Role, host: str = "10.0.0.1", **changes: object) -> Node:
    known = Node(name, host, 5432, 1, "", role, True, 1, 100, "")
    return replace(known, **changes)  # type: ignore[arg-type]


# The difference


def test_the_difference_names_who_came_who_went_and_who_changed() -> None:
    old = Topology(1, (node("a", Role.PRIMARY), node("b", Role.REPLICA)))
    new = Topology(
        2,
        (node("a", Role.PRIMARY, "10.0.0.9"), node("b", Role.NONE), node("c", Role.REPLICA)),
    )
    found = diff(old, new)
    assert [(node.name, node.host) for node in found.added] == [
        ("a", "10.0.0.9"),
        ("c", "10.0.0.1"),
    ]
    assert [(node.name, node.host) for node in found.removed] == [("a", "10.0.0.1")]
    assert [(before.role, after.role) for before, after in found.changed] == [
        (Role.REPLICA, Role.NONE)
    ]
    assert not found.is_empty
    assert diff(new, new).is_empty


@pytest.mark.parametrize(
    "change", [{"weight": 5}, {"zone": "z"}, {"timeline": 2}, {"alive": False}, {"cut": True}]
)
def test_what_routing_sees_is_a_change(change: dict[str, object]) -> None:
    old = Topology(1, (node("a", Role.NONE),))
    new = Topology(1, (node("a", Role.NONE, **change),))
    assert len(diff(old, new).changed) == 1


@pytest.mark.parametrize("change", [{"replay_lsn": 5}, {"error": "old"}, {"wrote_on": 1}])
def test_positions_and_reasons_are_no_change(change: dict[str, object]) -> None:
    old = Topology(1, (node("a", Role.NONE),))
    new = Topology(1, (node("a", Role.NONE, **change),))
    assert diff(old, new).is_empty


def test_a_pod_that_was_replaced_under_its_name_is_another_server() -> None:
    old = Topology(1, (node("a", Role.PRIMARY, uid="1"),))
    new = Topology(1, (node("a", Role.PRIMARY, uid="2"),))
    found = diff(old, new)
    assert (len(found.added), len(found.removed), len(found.changed)) == (1, 1, 0)


def test_a_topology_has_one_primary_at_most() -> None:
    with pytest.raises(AssertionError):
        Topology(1, (node("a", Role.PRIMARY), node("b", Role.PRIMARY)))
