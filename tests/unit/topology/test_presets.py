"""Each preset on the pods of its operator: whom the selector takes, what the label makes of it."""

from typing import get_args

import pytest

from pgproxy.config import Kubernetes, PresetName
from pgproxy.topology.pods import backend_of
from pgproxy.topology.presets import PRESETS, Rules, describe_rules, rules_of
from tests.fakes.kube_selectors import parse_selector
from tests.support.operators import FLEETS, Fixture, pod

FREE = {"selector": "app=db", "role_label": "role"}
VALUES = {"primary_values": ("leader",), "replica_values": ("follower", "sync")}


def test_the_configuration_knows_the_same_presets() -> None:
    assert set(get_args(PresetName)) == {"", *PRESETS}
    assert set(FLEETS) == set(PRESETS)


@pytest.mark.parametrize(
    ("preset", "fixture"),
    [
        pytest.param(preset, fixture, id=f"{preset}-{number}")
        for preset, fleet in FLEETS.items()
        for number, fixture in enumerate(fleet)
    ],
)
def test_a_pod_of_the_operator(preset: str, fixture: Fixture) -> None:
    rules = rules_of(Kubernetes(preset=preset, cluster="main"))
    is_taken = parse_selector(rules.selector)(fixture.labels)
    assert is_taken == (fixture.role is not None)
    backend = backend_of(pod(labels=fixture.labels, ports=fixture.ports), rules)
    if fixture.role is not None:
        assert backend is not None
        assert (backend.role, backend.port) == (fixture.role, fixture.port)
        assert backend.hinted == (fixture.role != "auto")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_selector_has_the_role(name: str) -> None:
    preset = PRESETS[name]
    keys = [part.partition("=")[0] for part in preset.selector.split(",")]
    assert preset.role_label not in keys
    assert "{cluster}" in preset.selector


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_value_means_both(name: str) -> None:
    preset = PRESETS[name]
    assert not set(preset.primary_values) & set(preset.replica_values)
    assert bool(preset.role_label) == bool(preset.primary_values) == bool(preset.replica_values)


def test_each_key_overrules_the_preset() -> None:
    rules = rules_of(Kubernetes(preset="zalando", **FREE, **VALUES, port="pg"))
    assert rules == Rules("app=db", "role", ("leader",), ("follower", "sync"), ("pg",))


def test_a_key_that_is_not_given_is_the_preset_s() -> None:
    rules = rules_of(Kubernetes(preset="zalando", cluster="main", primary_values=("boss",)))
    assert rules.selector == "application=spilo,cluster-name=main"
    assert (rules.primary_values, rules.replica_values) == (("boss",), ("replica",))


def test_a_port_is_a_number_or_a_name() -> None:
    assert rules_of(Kubernetes(selector="a=b", port="6000")).ports == (6000,)
    assert rules_of(Kubernetes(selector="a=b", port="pg-main")).ports == ("pg-main",)
    assert rules_of(Kubernetes(selector="a=b")).ports == (5432,)


def test_the_label_of_the_zone() -> None:
    assert rules_of(Kubernetes(selector="a=b")).zone_label == "topology.kubernetes.io/zone"
    assert rules_of(Kubernetes(selector="a=b", zone_label="rack")).zone_label == "rack"


def test_without_a_label_the_server_is_asked() -> None:
    rules = rules_of(Kubernetes(selector="app=db"))
    assert rules.role({}) == rules.role({"role": "primary"}) == "auto"


@pytest.mark.parametrize(
    ("labels", "role"),
    [
        ({"role": "leader"}, "primary"),
        ({"role": "follower"}, "replica"),
        ({"role": "sync"}, "replica"),
        ({"role": "Leader"}, "none"),
        ({"role": ""}, "none"),
        ({}, "none"),
    ],
)
def test_a_label_of_one_s_own(labels: dict[str, str], role: str) -> None:
    assert rules_of(Kubernetes(**FREE, **VALUES)).role(labels) == role


def test_what_a_preset_comes_to() -> None:
    assert describe_rules(rules_of(Kubernetes(preset="percona", cluster="main", port="pg"))) == (
        "postgres-operator.crunchydata.com/cluster=main,postgres-operator.crunchydata.com/instance;"
        " port pg; postgres-operator.crunchydata.com/role=primary|master is the primary,"
        " =replica a replica"
    )
    assert describe_rules(rules_of(Kubernetes(selector="app=db"))) == (
        "app=db; port 5432; the server alone tells its role"
    )
