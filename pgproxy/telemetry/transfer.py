"""Metrics on their way from one process to another, as plain lists."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector


def dump(metrics: Iterable[Metric]) -> list[dict[str, Any]]:
    """What `load` takes."""
    return [
        {
            "name": metric.name,
            "type": metric.type,
            "help": metric.documentation,
            "samples": [(one.name, one.labels, one.value) for one in metric.samples],
        }
        for metric in metrics
    ]


class _Loaded(Collector):
    def __init__(self, families: list[dict[str, Any]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family["name"], family["help"], family["type"])
            for name, labels, value in family["samples"]:
                metric.add_sample(name, labels, value)
            yield metric


def load(families: list[dict[str, Any]]) -> CollectorRegistry:
    """A registry that tells just that."""
    registry = CollectorRegistry()
    registry.register(_Loaded(families))
    return registry
