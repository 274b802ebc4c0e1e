"""The metrics of `pgproxy label`, in a process of its own. Read when somebody scrapes.

`CATALOGUE` is the whole list: name, kind, labels, meaning.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

CATALOGUE: Final = (
    ("pgproxy_label_build", "info", "version", "Its version."),
    ("pgproxy_label_leader", "gauge", "", "1 if this instance may write labels."),
    ("pgproxy_label_pods", "gauge", "value", "Pods by the label's value; only of the leader."),
    ("pgproxy_label_changes_total", "counter", "value", "Labels changed, by the new value."),
    (
        "pgproxy_label_requests_total",
        "counter",
        "verb, resource, outcome",
        "Requests to the API server, but for those of the watch.",
    ),
    (
        "pgproxy_label_watch_age_seconds",
        "gauge",
        "",
        "Time since the API server last said anything in the watch of the pods.",
    ),
)


class LabelCollector(Collector):
    def __init__(
        self,
        version: str,
        leads: Callable[[], bool],
        values: Callable[[], Iterable[str]],
        watch_age: Callable[[], float],
        changes: Mapping[str, int],
        requests: Mapping[tuple[str, str, str], int],
    ) -> None:
        """`values` are the labels of the pods, empty for a pod that has none."""
        self._version: Final = version
        self._leads: Final = leads
        self._values: Final = values
        self._watch_age: Final = watch_age
        self._changes: Final = changes
        self._requests: Final = requests

    def collect(self) -> Iterable[Metric]:
        help_of = {row[0]: row[3] for row in CATALOGUE}

        def gauge(name: str, value: float) -> Metric:
            return GaugeMetricFamily(name, help_of[name], value=value)

        def counter(name: str, labels: list[str]) -> CounterMetricFamily:
            return CounterMetricFamily(name.removesuffix("_total"), help_of[name], labels=labels)

        yield InfoMetricFamily(
            "pgproxy_label_build", help_of["pgproxy_label_build"], {"version": self._version}
        )
        leads = self._leads()
        yield gauge("pgproxy_label_leader", float(leads))
        pods = GaugeMetricFamily(
            "pgproxy_label_pods", help_of["pgproxy_label_pods"], labels=["value"]
        )
        if leads:
            for value, count in Counter(self._values()).items():
                pods.add_metric([value], count)
        yield pods
        changes = counter("pgproxy_label_changes_total", ["value"])
        for value, count in self._changes.items():
            changes.add_metric([value], count)
        yield changes
        requests = counter("pgproxy_label_requests_total", ["verb", "resource", "outcome"])
        for key, count in self._requests.items():
            requests.add_metric(list(key), count)
        yield requests
        yield gauge("pgproxy_label_watch_age_seconds", self._watch_age())

    def registry(self) -> CollectorRegistry:
        """One that has this alone."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry
