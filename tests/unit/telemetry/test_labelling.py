"""What `pgproxy label` shows of itself."""

import pytest
from prometheus_client import generate_latest

from pgproxy.telemetry.labelling import CATALOGUE, LabelCollector

pytestmark = pytest.mark.once


def collector(*, leads: bool) -> LabelCollector:
    return LabelCollector(
        "1.2",
        lambda: leads,
        lambda: ["primary", "replica", "replica", ""],
        lambda: 3.5,
        {"primary": 1, "": 2},
        {("patch", "pods", "ok"): 4},
    )


def test_what_a_leader_shows() -> None:
    text = generate_latest(collector(leads=True).registry()).decode()
    for line in (
        'pgproxy_label_build_info{version="1.2"} 1.0',
        "pgproxy_label_leader 1.0",
        'pgproxy_label_pods{value="replica"} 2.0',
        'pgproxy_label_pods{value=""} 1.0',
        'pgproxy_label_changes_total{value="primary"} 1.0',
        'pgproxy_label_requests_total{outcome="ok",resource="pods",verb="patch"} 4.0',
        "pgproxy_label_watch_age_seconds 3.5",
    ):
        assert f"\n{line}\n" in text, line


def test_who_does_not_lead_tells_nothing_of_pods() -> None:
    text = generate_latest(collector(leads=False).registry()).decode()
    assert "\npgproxy_label_leader 0.0\n" in text
    assert "pgproxy_label_pods{" not in text


def test_the_catalogue_is_whole() -> None:
    kinds = {"info": "_info", "counter": "_total", "gauge": ""}
    shown = {metric.name + kinds.get(metric.type, "") for metric in collector(leads=True).collect()}
    named = {name + ("_info" if kind == "info" else "") for name, kind, _, _ in CATALOGUE}
    assert shown == named
