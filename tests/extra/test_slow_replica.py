"""One of two replicas becomes ten times as slow: what its slowness costs the reads of all."""

import pytest

from benchmarks.adaptive.__main__ import measure
from benchmarks.adaptive.results import table
from pgproxy.embedded import Cluster

pytestmark = pytest.mark.timeout(300)


def test_with_limits_that_are_learnt_the_healthy_ones_go_on(private_cluster: Cluster) -> None:
    results = measure(private_cluster, (6.0, 12.0, 10.0))
    print(table(results))  # noqa: T201 - what the machine makes of it
    _, slow, again = results.phases
    for name in ("adaptive", "adaptive, round-robin"):
        assert results.part(name, slow) > 0.7  # 0.88 where nothing else runs
        assert results.part(name, again) > 0.7
    for name in ("fixed", "fixed, round-robin"):
        assert results.part(name, slow) < 0.6  # 0.2
    [limits] = [points for name, points in results.limits.items() if name.endswith("(slow)")]
    assert min(limit for at, limit in limits if slow.begin < at < slow.end) <= 4
    assert limits[-1][1] == 16
