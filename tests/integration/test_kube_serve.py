"""`pgproxy serve` on real PostgreSQL servers, while the fake API server floods it with events."""

import asyncio
import re
import sys
import time
from pathlib import Path

from pgproxy.embedded import Cluster
from tests.fakes.kube_api import FakeKubeApi
from tests.support.kube_stage import KubeStage

_RATE = 1000
_SECONDS = 3


async def test_a_thousand_pod_events_a_second(private_cluster: Cluster, tmp_path: Path) -> None:
    async with (
        FakeKubeApi() as api,
        KubeStage.start(api, private_cluster, tmp_path, clients=4, pause=0.05) as stage,
    ):
        before, began = stage.proxy.cpu_seconds(), time.monotonic()
        for number in range(_RATE * _SECONDS):
            await asyncio.sleep(began + number / _RATE - time.monotonic())
            await api.patch_annotations(f"pg-{number % 3}", {"status": str(number)})
        seconds = time.monotonic() - began
        used = stage.proxy.cpu_seconds() - before
        took = await stage.follows_a_label(api)
        metrics = await asyncio.to_thread(stage.proxy.get, "/metrics")
        (told,) = re.findall(r'events_total{type="modified"} (\d+)', metrics[1])
        assert int(told) == _RATE * _SECONDS + 1
        assert [request.verb for request in api.requests] == ["list", "watch"]
    sys.stdout.write(
        f"\n{_RATE * _SECONDS / seconds:.0f} pod events/s: the proxy and its four clients used"
        f" {used / seconds:.0%} of a core; a label was followed {took * 1000:.0f} ms after\n"
    )
