"""`pgproxy serve` on real PostgreSQL servers, while the real API server is away, or floods it.

PGPROXY_API_OUTAGE=600 has it away for so many seconds; the result is printed (`-s`).
"""

import asyncio
import itertools
import os
import sys
import time
from pathlib import Path

import pytest

from pgproxy.embedded import Cluster
from tests.support.kube_admin import RealKubeApi
from tests.support.kube_stage import KubeStage

_WRITERS = 24
OUTAGE = float(os.environ.get("PGPROXY_API_OUTAGE", "0"))


@pytest.mark.timeout(180 + OUTAGE)
async def test_away_and_back_with_an_older_history(
    kube_api: RealKubeApi, private_cluster: Cluster, tmp_path: Path
) -> None:
    server = kube_api.server
    async with KubeStage.start(kube_api, private_cluster, tmp_path, clients=8) as stage:
        # A copy of etcd, after which much happens that its restoring takes back.
        started = time.monotonic()
        await kube_api.stop()
        await asyncio.to_thread(server.save_etcd)
        await kube_api.start()
        for number in range(50):
            await kube_api.patch_annotations("pg-1", {"n": str(number)})
        await kube_api.patch_labels("pg-2", {"role": "unhealthy"})
        await stage.until(lambda: stage.roles()["pg-2"] == "none")

        await kube_api.stop()
        began = time.monotonic()
        await stage.until(lambda: stage.status()["discovery"]["failing"] == "unreachable")
        await stage.works()
        await asyncio.sleep(OUTAGE)
        away = time.monotonic() - began
        assert stage.roles() == {"pg-0": "primary", "pg-1": "replica", "pg-2": "none"}
        await stage.works()

        await asyncio.to_thread(server.restore_etcd)
        await kube_api.start()
        back = await stage.until(lambda: stage.roles()["pg-2"] == "replica")
        # Versions go up again, past the one that the proxy knew.
        for number in range(100):
            await kube_api.patch_annotations("pg-1", {"n": str(number)})
        await kube_api.patch_labels("pg-2", {"role": "unhealthy"})
        await stage.until(lambda: stage.roles()["pg-2"] == "none")
        await stage.works()
        requests = len(await kube_api.request_log())
        assert requests <= 2 * (time.monotonic() - started) + 2
    done = stage.load.books.done
    sys.stdout.write(
        f"\nAPI server away for {away:.0f} s, followed again {back:.1f} s after it was back;"
        f" {len(done)} units of work, none failed; {requests} requests\n"
    )


@pytest.mark.timeout(180)
async def test_a_flood_of_events(
    kube_api: RealKubeApi, private_cluster: Cluster, tmp_path: Path
) -> None:
    """As many as the server gives: how a thousand a second do is seen on the fake."""
    for number in range(_WRITERS):
        await kube_api.create_pod(f"other-{number}", {"app": "db", "role": "replica"}, ip="")
    numbers = itertools.count()

    async def write_status(name: str, until: float) -> None:
        """As Patroni does in each loop, only that this one does not pause."""
        while time.monotonic() < until:
            await kube_api.patch_annotations(name, {"status": f"{next(numbers)}"})

    async with KubeStage.start(kube_api, private_cluster, tmp_path, clients=4, pause=0.05) as stage:
        before, began = stage.proxy.cpu_seconds(), time.monotonic()
        async with asyncio.TaskGroup() as writers:
            for number in range(_WRITERS):
                writers.create_task(write_status(f"other-{number}", began + 5))
            writers.create_task(write_status("pg-0", began + 5))
        seconds = time.monotonic() - began
        used = stage.proxy.cpu_seconds() - before
        took = await stage.follows_a_label(kube_api)
    requests = [request.verb for request in await kube_api.request_log()]
    assert requests == ["list", "watch"]
    sys.stdout.write(
        f"\n{next(numbers) / seconds:.0f} pod events/s for {seconds:.1f} s: the proxy and its four"
        f" clients used {used / seconds:.0%} of a core; a label was followed {took * 1000:.0f} ms"
        f" after\n"
    )
