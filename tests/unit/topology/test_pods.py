import copy
from typing import Any

import pytest

from pgproxy.topology.model import Backend
from pgproxy.topology.pods import (
    WEIGHT,
    backend_of,
    ignored_weight,
    name_of,
    resource_version_of,
    uid_of,
    why_not,
)
from pgproxy.topology.presets import Rules
from tests.support.operators import pod

RULES = Rules("app=db", "role", ("primary",), ("replica",))
NAMED = Rules("app=db", ports=("pg", "postgresql"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The usual pod with one field replaced; dots divide keys and positions."""
    found = copy.deepcopy(pod(labels={"role": "primary"}))
    *parents, last = path.split(".")
    place: Any = found
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return found


def test_a_pod_as_it_should_be() -> None:
    labels = {"role": "replica", "topology.kubernetes.io/zone": "eu-1b"}
    assert backend_of(pod("db-1", labels, uid="u-1"), RULES) == Backend(
        name="db-1",
        host="10.244.1.17",
        port=5432,
        role="replica",
        zone="eu-1b",
        uid="u-1",
        hinted=True,
        ready=True,
        leaving=False,
    )
    assert why_not(pod("db-1", labels), RULES) == ""


def test_another_label_may_tell_the_zone() -> None:
    labels = {"topology.kubernetes.io/zone": "eu-1b", "rack": "r7"}
    backend = backend_of(pod("db-1", labels), Rules("app=db", zone_label="rack"))
    assert backend is not None
    assert backend.zone == "r7"


@pytest.mark.parametrize(
    ("annotation", "label", "weight"),
    [
        (None, None, 1),
        ("0", None, 0),
        ("1000", None, 1000),
        (None, "3", 3),
        ("5", "3", 5),
    ],
)
def test_a_pod_has_a_weight(annotation: str | None, label: str | None, weight: int) -> None:
    one = changed("metadata.annotations", {WEIGHT: annotation})
    one["metadata"]["labels"][WEIGHT] = label
    backend = backend_of(one, RULES)
    assert backend is not None
    assert backend.weight == weight
    assert ignored_weight(one) == ""


@pytest.mark.parametrize(
    "value", ["", "-1", "1001", "1.5", "heavy", " 1", "٣", "99999", "1" * 5000, 3, True, [], {}]
)
@pytest.mark.parametrize("place", ["annotations", "labels"])
def test_a_weight_that_is_none_is_ignored(place: str, value: object) -> None:
    one = changed(f"metadata.{place}", {WEIGHT: value})
    backend = backend_of(one, RULES)
    assert backend is not None
    assert backend.weight == 1
    assert ignored_weight(one).startswith("pgproxy.io/weight: ")
    assert ignored_weight(one).endswith(" is no whole number from 0 to 1000")
    assert len(ignored_weight(one)) < 120


def test_without_a_label_it_is_no_hint() -> None:
    backend = backend_of(pod(), Rules("app=db"))
    assert backend is not None
    assert (backend.role, backend.hinted) == ("auto", False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.deletionTimestamp", "2026-03-01T10:00:00Z"),
        ("status.phase", "Pending"),
        ("status.phase", "Unknown"),
        ("status.phase", None),
    ],
)
def test_it_leaves(path: str, value: object) -> None:
    backend = backend_of(changed(path, value), RULES)
    assert backend is not None
    assert backend.leaving


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status.conditions.2.status", "False"),
        ("status.conditions.2.status", "Unknown"),
        ("status.conditions", []),
        ("status.conditions", None),
        ("status.conditions", [None, "Ready", {"status": "True"}]),
    ],
)
def test_it_is_not_ready(path: str, value: object) -> None:
    backend = backend_of(changed(path, value), RULES)
    assert backend is not None
    assert not backend.ready
    assert not backend.leaving


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("status.podIP", "", ""),  # the other field has it
        ("status.podIP", None, ""),
        ("status.podIPs", None, ""),
        ("status.phase", "Succeeded", "its phase is Succeeded"),
        ("status.phase", "Failed", "its phase is Failed"),
        ("status", None, "it has no address yet"),
        ("status", {}, "it has no address yet"),
        ("status", {"phase": "Pending", "podIPs": [{}]}, "it has no address yet"),
        ("status", "Running", "it has no address yet"),
        ("metadata.uid", None, "it has no name or no uid"),
        ("metadata.name", 7, "it has no name or no uid"),
        ("metadata", None, "it has no name or no uid"),
        ("metadata.labels", None, ""),
        ("metadata.labels", {"role": None, "x": 1}, ""),
        ("spec", None, ""),
    ],
)
def test_what_makes_it_no_backend(path: str, value: object, reason: str) -> None:
    one = changed(path, value)
    assert why_not(one, RULES) == reason
    assert (backend_of(one, RULES) is None) == bool(reason)


def test_a_label_that_is_no_text_is_no_role() -> None:
    backend = backend_of(changed("metadata.labels", {"role": ["primary"]}), RULES)
    assert backend is not None
    assert backend.role == "none"


def test_a_port_by_its_name() -> None:
    backend = backend_of(pod(ports=(("metrics", 9187), ("postgresql", 5499))), NAMED)
    assert backend is not None
    assert backend.port == 5499


def test_of_several_names_the_first_that_there_is() -> None:
    backend = backend_of(pod(ports=(("postgresql", 5499), ("pg", 6000))), NAMED)
    assert backend is not None
    assert backend.port == 6000


def test_a_sidecar_is_an_init_container() -> None:
    sidecar = {"name": "postgres", "ports": [{"name": "pg", "containerPort": 6001}]}
    backend = backend_of(changed("spec.initContainers", [sidecar]), NAMED)
    assert backend is not None
    assert backend.port == 6001


@pytest.mark.parametrize("number", [None, "5432", 0, 65536, True, 5432.0])
def test_a_named_port_that_is_none(number: object) -> None:
    ports = [{"name": "postgresql", "containerPort": number}]
    one = changed("spec.containers.1.ports", ports)
    assert backend_of(one, NAMED) is None
    assert why_not(one, NAMED) == "none of its containers has a port named pg or postgresql"


@pytest.mark.parametrize("containers", [None, "postgres", [None], [{}], [{"ports": {}}], {}])
def test_a_named_port_and_no_such_container(containers: object) -> None:
    assert backend_of(changed("spec.containers", containers), NAMED) is None


@pytest.mark.parametrize("thing", [None, [], "pod", 7, {}, {"metadata": []}, {"metadata": None}])
def test_things_that_are_no_pods(thing: object) -> None:
    assert backend_of(thing, RULES) is None
    assert name_of(thing) == uid_of(thing) == resource_version_of(thing) == ""
    assert ignored_weight(thing) == ""


def test_what_a_pod_is_known_by() -> None:
    one = pod("db-7", uid="u-7")
    assert (name_of(one), uid_of(one), resource_version_of(one)) == ("db-7", "u-7", "81236")


@pytest.mark.parametrize(
    ("status", "is_handing_over"),
    [
        ('{"role":"primary","state":"running","version":"4.1.5"}', True),
        ('{"role":"master","state":"running"}', True),
        ('{"role":"primary","state":"running","timeline":1}', False),
        ('{"role":"replica","state":"running"}', False),
        ('{"role":"primary","state":"stopping"}', False),
        ('{"role":"primary","state":"running"', False),
        ('["primary", "running"]', False),
        ('"running"' + "[" * 100_000, False),
        ("[" * 100_000 + '"running"', False),
        ("", False),
        (None, False),
    ],
)
def test_patroni_is_about_to_stop_its_primary(status: object, is_handing_over: bool) -> None:
    backend = backend_of(changed("metadata.annotations", {"status": status}), RULES)
    assert backend is not None
    assert backend.handing_over is is_handing_over
