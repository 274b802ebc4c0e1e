"""Metrics of several workers as one proxy's."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from pgproxy.telemetry.catalogue import CATALOGUE
from pgproxy.telemetry.transfer import dump, load
from pgproxy.workers.families import FIRST, LARGEST, Family, lasting, merge


def family(name: str, kind: str, **values: float) -> Family:
    samples = [(name, {"of": label}, value) for label, value in values.items()]
    return {"name": name, "type": kind, "help": "", "samples": samples}


def values(families: list[Family]) -> dict[str, float]:
    [found] = families
    return {labels["of"]: value for _, labels, value in found["samples"]}


@pytest.mark.parametrize(
    ("name", "kind", "merged"),
    [
        ("pgproxy_leases", "counter", {"a": 7, "b": 5, "c": 1}),
        ("pgproxy_waiting", "gauge", {"a": 7, "b": 5, "c": 1}),
        ("pgproxy_backend_role", "gauge", {"a": 3, "b": 5, "c": 1}),
        ("pgproxy_backend_staleness_seconds", "gauge", {"a": 4, "b": 5, "c": 1}),
        ("pgproxy_build", "info", {"a": 3, "b": 5, "c": 1}),
    ],
)
def test_each_kind_is_merged_in_its_way(name: str, kind: str, merged: dict[str, float]) -> None:
    assert values(merge([[family(name, kind, a=3, b=5)], [family(name, kind, a=4, c=1)]])) == merged


def test_what_is_not_added_up_is_in_the_catalogue() -> None:
    assert {row[0] for row in CATALOGUE if row[1] == "gauge"} >= FIRST | LARGEST


def test_only_what_was_counted_lasts() -> None:
    ones = [family("a", "counter"), family("b", "gauge"), family("c", "histogram")]
    assert [one["name"] for one in lasting(ones)] == ["a", "c"]


def test_on_the_way_nothing_is_lost() -> None:
    histogram = HistogramMetricFamily("h", "Help.", buckets=[("1", 2), ("+Inf", 3)], sum_value=4.5)
    counter = CounterMetricFamily("c", "Help.", labels=["l"])
    counter.add_metric(["x"], 7)
    gauge = GaugeMetricFamily("g", "Help.", value=float("inf"))
    families = dump([histogram, counter, gauge])
    text = generate_latest(load(merge([families, families]))).decode()
    for line in ('h_bucket{le="+Inf"} 6.0', "h_sum 9.0", 'c_total{l="x"} 14.0', "g +Inf"):
        assert line in text.splitlines()
