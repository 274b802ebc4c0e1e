"""The catalogue is what is exported: no more, no less, and with the values that are counted."""

from collections.abc import Iterator
from typing import Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pgproxy.telemetry.metrics import CATALOGUE, ProxyCollector, make_registry
from tests.playbooks.stage import IDLE, INSERTED, ROUTER, SELECTED, Stage, error
from tests.support.wire import query

LABELS: Final = {"backend": "p", "database": "d", "user": "u"}


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def registry(stage: Stage) -> CollectorRegistry:
    return make_registry(
        ProxyCollector(
            stage.counters,
            stage.cluster,
            ROUTER,
            clients=stage.clients,
            prepared=stage.registry,
            version="1.2.3",
            mode="interpreted",
        )
    )


def play(stage: Stage) -> None:
    client = stage.client()
    client >> query("SELECT 1")
    stage["r1"] >> SELECTED + IDLE
    client >> query("INSERT INTO t VALUES (1)")
    stage["p"] >> INSERTED + IDLE
    client >> query("SET work_mem = 1")
    stage["p"] >> INSERTED + IDLE
    client >> query("SELECT 1")
    stage["p"] >> error() + IDLE


def test_everything_in_the_catalogue_is_exported_and_nothing_else(
    stage: Stage, registry: CollectorRegistry
) -> None:
    play(stage)
    exported = {metric.name: metric for metric in registry.collect()}
    catalogue = {name.removesuffix("_total"): row for name, *row in CATALOGUE}
    renamed = {"pgproxy_build_info": "pgproxy_build"}
    assert {renamed.get(name, name) for name in exported} == set(catalogue)
    for name, metric in exported.items():
        kind, labels, meaning = catalogue[renamed.get(name, name)]
        assert metric.type == kind, name
        assert metric.documentation == meaning
        allowed = set(labels.split(", ")) - {""} | ({"le"} if kind == "histogram" else set())
        for sample in metric.samples:
            assert set(sample.labels) == allowed or set(sample.labels) | {"le"} == allowed, sample


def test_the_text_can_be_read(stage: Stage, registry: CollectorRegistry) -> None:
    play(stage)
    text = generate_latest(registry).decode()
    assert 'pgproxy_build_info{mode="interpreted",version="1.2.3"} 1.0' in text
    assert 'pgproxy_backend_role{backend="p",role="primary"} 1.0' in text


def test_what_was_done_is_counted(stage: Stage, registry: CollectorRegistry) -> None:
    play(stage)
    value = registry.get_sample_value
    read = {"target": "replica", "reason": "read"}
    assert value("pgproxy_statements_total", read) == 1
    assert value("pgproxy_statements_total", {"target": "primary", "reason": "write"}) == 1
    assert value("pgproxy_statements_total", {"target": "primary", "reason": "pinned"}) == 1
    assert value("pgproxy_pins_total", {"reason": "set"}) == 1
    assert value("pgproxy_errors_total", {"source": "server"}) == 1
    assert value("pgproxy_servers_opened_total") == 2
    assert value("pgproxy_leases_total", {"backend": "p"}) == 2
    assert value("pgproxy_servers", {**LABELS, "state": "leased"}) == 1
    assert value("pgproxy_servers", {**LABELS, "state": "idle"}) == 0
    assert value("pgproxy_pool_size", LABELS) == 2
    assert value("pgproxy_clients") == 1
    assert value("pgproxy_transactions_seconds_count") == 2
    assert value("pgproxy_wait_seconds_count") == 2
    assert value("pgproxy_backend_up", {"backend": "r1"}) == 1


def test_a_wait_is_seen_while_it_lasts(stage: Stage, registry: CollectorRegistry) -> None:
    stage.topology("", "r1", dead=("p",))
    stage.client() >> query("INSERT INTO t VALUES (1)")
    assert registry.get_sample_value("pgproxy_homeless") == 1
    assert registry.get_sample_value("pgproxy_backend_up", {"backend": "p"}) == 0
