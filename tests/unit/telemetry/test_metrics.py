"""The catalogue is what is exported: no more, no less, and with the values that are counted."""

from collections.abc import Iterator
from typing import ClassVar, Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pgproxy import config
from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.router import Memory, Router
from pgproxy.routing.structures import Structures
from pgproxy.servers.catalogues import LOADED, Catalogues
from pgproxy.servers.listening import Listening
from pgproxy.telemetry.catalogue import CATALOGUE
from pgproxy.telemetry.metrics import (
    ProxyCollector,
    make_registry,
    own_families,
    peer_families,
)
from pgproxy.topology.dns import Dns
from pgproxy.topology.kubernetes import Kubernetes
from pgproxy.topology.model import Backend, Node, Role, Topology
from pgproxy.topology.patroni import Patroni
from pgproxy.topology.source import Source
from tests.playbooks.stage import IDLE, INSERTED, ROUTERS, SELECTED, Stage, error
from tests.support.wire import query

STRUCTURES: Final = Structures(10)
LABELS: Final = {"backend": "p", "database": "d", "user": "u"}


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


class Drain:
    """As clients/drain.py, with somebody still there."""

    forced = 3
    draining = True

    def counts(self) -> dict[str, int]:
        return {"idle": 0, "active": 2}


class Others:
    """As peers/peers.py, of a proxy with two others, one of which is silent."""

    shares: ClassVar = {"p": 5}
    cancels: ClassVar = {"delivered": 1}

    def states(self) -> dict[str, int]:
        return {"up": 2, "silent": 1}


@pytest.fixture
def pods() -> Kubernetes:
    pods = Kubernetes(config.Kubernetes(selector="app=db"), lambda _backends: None)
    pods.backends = (Backend("p", "h", role="primary"), Backend("r", "h", role="replica"))
    pods.requests["watch", "gone"] = 2
    pods.events["modified"] = 3
    pods.relists["start"] = 1
    return pods


@pytest.fixture
def catalogues() -> Catalogues:
    catalogues = Catalogues(
        config.Health(),
        60,
        primary=lambda: None,
        is_used=lambda _database: True,
        on_loaded=lambda _database, _catalogue: None,
    )
    catalogues.results[LOADED] = 2
    for database in ("d", "unread"):
        catalogues.want(database)
    read = catalogues.databases["d"]
    read.catalogue = Catalogue()
    read.functions = 7
    read.seconds = 0.5
    return catalogues


@pytest.fixture
def sources(pods: Kubernetes) -> list[Source]:
    """One of each kind that has metrics of its own."""

    def ignore(_backends: tuple[Backend, ...]) -> None: ...

    patroni = Patroni(config.Patroni(urls=("http://a",)), ignore, lambda: Topology(0, ()))
    patroni.requests["ok"] = 4
    dns = Dns(config.Dns(names=("pg",)), ignore, lambda: Topology(0, ()))
    dns.lookups["AAAA", "empty"] = 5
    return [pods, patroni, dns]


def exporting(
    stage: Stage,
    structures: Structures = STRUCTURES,
    discovery: Source | None = None,
    catalogues: Catalogues | None = None,
) -> CollectorRegistry:
    return make_registry(
        ProxyCollector(
            stage.counters,
            stage.cluster,
            ROUTERS.memory,
            clients=stage.clients,
            replication=(),
            prepared=stage.registry,
            listening=Listening(stage.cluster),
            drain=Drain(),
            structures=structures,
            top_queries=2,
            version="1.2.3",
            mode="interpreted",
            discovery=discovery,
            catalogues=catalogues,
        )
    )


@pytest.fixture
def registry(stage: Stage, pods: Kubernetes, catalogues: Catalogues) -> CollectorRegistry:
    return exporting(stage, discovery=pods, catalogues=catalogues)


def play(stage: Stage) -> None:
    client = stage.client()
    client >> query("SELECT 1")
    stage["r1"] >> SELECTED + IDLE
    client >> query("INSERT INTO t VALUES (1)")
    stage["p"] >> INSERTED + IDLE
    client >> query("CREATE TEMP TABLE a ()")
    stage["p"] >> INSERTED + IDLE
    client >> query("SELECT 1")
    stage["p"] >> error() + IDLE


def test_everything_in_the_catalogue_is_exported_and_nothing_else(
    stage: Stage, sources: list[Source], catalogues: Catalogues
) -> None:
    play(stage)
    exported = {
        metric.name: metric
        for source in sources
        for metric in exporting(stage, discovery=source, catalogues=catalogues).collect()
    }
    several = own_families(workers=2, restarts=0, clients={0: 1})
    others = peer_families(Others())
    exported |= {metric.name: metric for metric in [*several, *others]}
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
    assert 'pgproxy_backend_weight{backend="r1"} 1.0' in text
    assert 'pgproxy_backend_share{backend="r1"} 1.0' in text
    assert 'pgproxy_backend_latency_seconds{backend="r1"}' in text
    assert 'pgproxy_backend_latency_seconds{backend="p"}' not in text  # not measured yet


def test_what_was_done_is_counted(stage: Stage, registry: CollectorRegistry) -> None:
    play(stage)
    value = registry.get_sample_value
    read = {"target": "replica", "reason": "read"}
    assert value("pgproxy_statements_total", read) == 1
    assert value("pgproxy_statements_total", {"target": "primary", "reason": "write"}) == 1
    assert value("pgproxy_statements_total", {"target": "primary", "reason": "pinned"}) == 1
    assert value("pgproxy_pins_total", {"reason": "temp_table"}) == 1
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


def test_what_the_watch_of_the_pods_has_done(registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    watched = {"verb": "watch", "outcome": "gone"}
    assert value("pgproxy_kubernetes_requests_total", watched) == 2
    assert value("pgproxy_kubernetes_events_total", {"type": "modified"}) == 3
    assert value("pgproxy_kubernetes_relists_total", {"reason": "start"}) == 1
    assert value("pgproxy_discovered_backends", {"role": "primary"}) == 1
    assert value("pgproxy_discovered_backends", {"role": "none"}) == 0
    age = value("pgproxy_topology_age_seconds")
    assert age is not None
    assert age >= 0


def test_what_the_other_sources_have_done(stage: Stage, sources: list[Source]) -> None:
    _, patroni, dns = [exporting(stage, discovery=source).get_sample_value for source in sources]
    assert patroni("pgproxy_patroni_requests_total", {"outcome": "ok"}) == 4
    assert dns("pgproxy_dns_lookups_total", {"type": "AAAA", "outcome": "empty"}) == 5
    for value in (patroni, dns):
        assert value("pgproxy_discovered_backends", {"role": "auto"}) == 0
        assert value("pgproxy_topology_age_seconds") is not None


def test_without_a_watch_it_has_no_metrics(stage: Stage) -> None:
    names = {metric.name for metric in exporting(stage).collect()}
    assert "pgproxy_clients" in names
    assert not {name for name in names if "kubernetes" in name or "topology_age" in name}


def test_what_is_known_of_the_databases(registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    assert value("pgproxy_catalogue_loads_total", {"result": "loaded"}) == 2
    assert value("pgproxy_catalogue_loads_total", {"result": "failed"}) == 0
    read = {"database": "d"}
    assert value("pgproxy_catalogue_functions", read) == 7
    assert value("pgproxy_catalogue_load_seconds", read) == 0.5
    age = value("pgproxy_catalogue_age_seconds", read)
    assert age is not None
    assert age > 0
    assert value("pgproxy_catalogue_functions", {"database": "unread"}) is None


def test_the_heaviest_structures_have_series_and_no_others(stage: Stage) -> None:
    structures = Structures(10)
    router = Router(Memory(structures=structures))
    for number, sql in enumerate((b"SELECT a", b"SELECT b", b"SELECT '" + b"c" * 9 + b"', 1")):
        structure = router.decide(sql).structure
        assert structure is not None
        structure.replica = number + 1
        structure.timed = 1
        structure.seconds = number / 2
    long = router.decide(b"SELECT " + b"x" * 200).structure
    assert long is not None
    long.primary, long.seconds = 100, 9.0
    registry = exporting(stage, structures)
    families = {metric.name: metric for metric in registry.collect()}
    calls = families["pgproxy_queries"].samples
    assert {sample.labels["query"] for sample in calls} == {
        "SELECT ?, …",
        "SELECT " + "x" * 72 + "…",
    }
    assert sorted((sample.labels["target"], sample.value) for sample in calls) == [
        ("primary", 0), ("primary", 100), ("replica", 0), ("replica", 3)
    ]  # fmt: skip
    assert [sample.value for sample in families["pgproxy_query_seconds"].samples] == [9.0, 1.0]
    assert [sample.value for sample in families["pgproxy_query_timed"].samples] == [0, 1]
    assert families["pgproxy_query_structures"].samples[0].value == 4


def test_a_failover_is_seen(stage: Stage, registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    old = Node("p", "p", 5432, 1, "", Role.NONE, True, 1, None, "fenced", wrote_on=1, cut=True)
    new = Node("r1", "r1", 5432, 1, "", Role.PRIMARY, True, 2, None, "", wrote_on=2)
    insert = query("INSERT INTO t VALUES (1)")
    stage.client() >> insert
    stage.apply(old)
    assert value("pgproxy_backend_fenced", {"backend": "p"}) == 1
    assert value("pgproxy_servers_cut_total") == 1
    stage.client() >> insert
    stage.apply(old, new)
    assert value("pgproxy_failover_wait_seconds_count") == 1
    assert value("pgproxy_backend_fenced", {"backend": "r1"}) == 0
    stage.apply(old)
    late = stage.client()
    late >> insert
    stage.time_passes(31)
    assert value("pgproxy_failover_timeouts_total") == 1


def test_a_drain_is_seen(registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    assert value("pgproxy_draining") == 1
    assert value("pgproxy_drain_clients", {"state": "active"}) == 2
    assert value("pgproxy_drain_clients", {"state": "idle"}) == 0
    assert value("pgproxy_drain_forced_total") == 3
