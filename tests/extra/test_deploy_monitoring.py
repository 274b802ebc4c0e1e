"""The alerts fire when they are to, and they and the dashboard ask for metrics that there are."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgproxy.telemetry.catalogue import CATALOGUE
from tests.extra.system import program
from tests.support.manifests import KUSTOMIZE

MONITORING = KUSTOMIZE / "components" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
DASHBOARD = json.loads((MONITORING / "pgproxy.json").read_text())

# What Prometheus puts there from the PodMonitor, histograms have, or PromQL makes.
TARGET = {"namespace", "pod", "container", "job", "instance", "le"}
ANYWHERE = 'namespace="db",pod="proxy-0"'
# A reset of these says nothing: they are compared as they are.
QUIET = "0x30"

# By alert: the series with which it is silent, and what they become so that it fires. Values are one
# a minute; 30 minutes are looked at.
CASES: dict[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "PgproxyAbsent": ({"pgproxy_clients{}": "5x30"}, {"pgproxy_clients{}": "5x5 _x30"}),
    "PgproxyNoServers": (
        {'pgproxy_discovered_backends{role="primary"}': "1x30"},
        {'pgproxy_discovered_backends{role="primary"}': QUIET},
    ),
    "PgproxyNoPrimary": (
        {
            'pgproxy_backend_role{backend="a",role="primary"}': "1x10 0x20",
            'pgproxy_backend_role{backend="b",role="primary"}': "0x10 1x20",
        },
        {
            'pgproxy_backend_role{backend="a",role="primary"}': "1x10 0x20",
            'pgproxy_backend_role{backend="b",role="primary"}': QUIET,
        },
    ),
    "PgproxyNoReplica": (
        {  # a single server needs none
            'pgproxy_backend_role{backend="a",role="replica"}': QUIET,
            'pgproxy_backend_up{backend="a"}': "1x30",
        },
        {
            'pgproxy_backend_role{backend="a",role="replica"}': QUIET,
            'pgproxy_backend_role{backend="b",role="replica"}': QUIET,
            'pgproxy_backend_up{backend="a"}': "1x30",
            'pgproxy_backend_up{backend="b"}': QUIET,
        },
    ),
    "PgproxyServerDown": (
        {'pgproxy_backend_up{backend="a"}': "1x15 0 0 1x20"},
        {'pgproxy_backend_up{backend="a"}': "1x15 0x20"},
    ),
    "PgproxyServerFenced": (
        {'pgproxy_backend_fenced{backend="a"}': QUIET},
        {'pgproxy_backend_fenced{backend="a"}': "0x20 1x10"},
    ),
    "PgproxyReplicaStale": (
        {'pgproxy_backend_staleness_seconds{backend="a"}': "20x30"},
        {'pgproxy_backend_staleness_seconds{backend="a"}': "20x10 400x20"},
    ),
    "PgproxyClientsWait": (
        {
            'pgproxy_wait_seconds_bucket{le="1"}': "0+99x30",
            'pgproxy_wait_seconds_bucket{le="10"}': "0+100x30",
            'pgproxy_wait_seconds_bucket{le="+Inf"}': "0+100x30",
        },
        {
            'pgproxy_wait_seconds_bucket{le="1"}': "0+80x30",
            'pgproxy_wait_seconds_bucket{le="10"}': "0+100x30",
            'pgproxy_wait_seconds_bucket{le="+Inf"}': "0+100x30",
        },
    ),
    "PgproxyClientsRefused": (
        {
            'pgproxy_clients_refused_total{cap="listen.max_clients"}': "7x30",
            'pgproxy_queue_refusals_total{cause="queue_full"}': "7x30",
        },
        {
            'pgproxy_clients_refused_total{cap="listen.max_clients"}': "7x30",
            'pgproxy_queue_refusals_total{cause="queue_full"}': "7+1x30",
        },
    ),
    "PgproxyFailoverTimeouts": (
        {"pgproxy_failover_timeouts_total{}": "3x30"},
        {"pgproxy_failover_timeouts_total{}": "3x27 5x3"},
    ),
    "PgproxyServerLoginsFail": (
        {"pgproxy_server_logins_failed_total{}": "0x10 1x20"},
        {"pgproxy_server_logins_failed_total{}": "0+4x30"},
    ),
    "PgproxyServersLost": (
        {"pgproxy_servers_lost_total{}": "0x10 20x20"},  # one failover
        {"pgproxy_servers_lost_total{}": "0+2x40"},
    ),
    "PgproxyTopologyOld": (
        {"pgproxy_topology_age_seconds{}": "20x30"},
        {"pgproxy_topology_age_seconds{}": "0+60x30"},
    ),
    "PgproxyNotAllowed": (
        {'pgproxy_kubernetes_requests_total{verb="watch",outcome="ok"}': "0+1x30"},
        {'pgproxy_kubernetes_requests_total{verb="watch",outcome="forbidden"}': "0+1x30"},
    ),
    "PgproxyDrainForced": (
        {"pgproxy_drain_forced_total{}": QUIET},
        {"pgproxy_drain_forced_total{}": "0x25 2x5"},
    ),
    "PgproxyWorkersRestart": (
        {"pgproxy_worker_restarts_total{}": QUIET},
        {"pgproxy_worker_restarts_total{}": "0x25 1x5"},
    ),
    "PgproxyInterpreted": (
        {'pgproxy_build_info{version="1",mode="compiled"}': "1x30"},
        {'pgproxy_build_info{version="1",mode="interpreted (asked for)"}': "1x30"},
    ),
}


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [program("promtool", "prometheus"), *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rules as Prometheus itself reads them."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    return path


def test_the_rules_are_rules(rules: Path) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", rules)


def test_each_alert_fires_and_is_silent(rules: Path, tmp_path: Path) -> None:
    assert set(CASES) == {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}
    tests = [
        _case(alert, series, fires=fires)
        for alert, both in CASES.items()
        for fires, series in enumerate(both)
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [rules.name], "tests": tests}))
    promtool("test", "rules", path)


def _case(alert: str, series: Mapping[str, str], *, fires: int) -> dict[str, Any]:
    """One test of promtool's: what is firing after half an hour."""
    return {
        "interval": "1m",
        "input_series": [
            {"series": name.replace("{", f"{{{ANYWHERE},"), "values": values}
            for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": "30m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] * fires,
            }
        ],
    }


def _known() -> dict[str, set[str]]:
    """The series that /metrics has, with their labels; test_metrics.py holds the list true."""
    known = {}
    for name, kind, labels, _ in CATALOGUE:
        own = set(labels.split(", ")) - {""}
        endings = {"histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}.get(kind, ("",))
        known.update({name + ending: own for ending in endings})
    return known


def _expressions() -> Iterator[tuple[str, str]]:
    """Everything that is asked, and where."""
    for group in RULES["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


@pytest.mark.parametrize(("place", "expression"), list(_expressions()))
def test_what_is_asked_for_is_there(place: str, expression: str) -> None:
    known = _known()
    names = set(re.findall(r"\bpgproxy_\w+", expression))
    assert names
    assert names <= known.keys(), place
    labels = set().union(*(known[name] for name in names)) | TARGET
    asked = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        asked += [label.strip() for label in group.split(",")]
    assert set(asked) <= labels, place


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD)))
    assert used == variables
