"""`pgproxy label` on real servers, with the API server that misbehaves to order."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pgproxy.embedded import Cluster
from tests.fakes.kube_api import FakeKubeApi
from tests.integration.test_fake_kube_api import LABEL_RIGHTS
from tests.support.labelling import LabelStage, status, until

pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeKubeApi]:
    async with FakeKubeApi() as api:
        api.rights.update(LABEL_RIGHTS)
        yield api


def patches(api: FakeKubeApi) -> int:
    return sum(request.verb == "patch" for request in api.requests)


async def test_the_labels_follow_a_failover_and_a_leader_that_dies_in_the_middle_of_it(
    api: FakeKubeApi, private_cluster: Cluster, tmp_path: Path
) -> None:
    old, new, newest = private_cluster.servers
    async with LabelStage.start(api, private_cluster, tmp_path) as stage:
        first = await stage.labeller()
        assert await stage.leader() is first
        await stage.until_labels(pg_0="primary", pg_1="replica", pg_2="replica")
        second = await stage.labeller()
        await until(lambda: second.get("/readyz")[0] == 200)
        assert not status(second)["leads"]

        # Its last patch is under way, and arrives when others have had their say.
        released = api.hold_patch(
            lambda patch: patch["metadata"].get("labels") == {"role": "primary"}
        )
        await asyncio.to_thread(old.kill9)
        await asyncio.to_thread(new.promote)
        await until(lambda: api.held is not None)
        await stage.until_labels(pg_0="", pg_1="replica", pg_2="replica")
        await asyncio.to_thread(first.kill9)
        await asyncio.to_thread(new.kill9)
        await asyncio.to_thread(newest.promote)
        await stage.until_labels(pg_0="", pg_1="replica", pg_2="primary")
        released.set()
        assert api.held is not None
        assert (await api.held).status == 409
        assert await stage.leader() is second

        # It writes, and on an older timeline.
        await asyncio.to_thread(old.start)
        await until(lambda: "fenced" in _reason(status(second), "pg-0"))
        assert stage.labels == {"pg-0": "", "pg-1": "replica", "pg-2": "primary"}
        changed = [event["reason"] for event in second.events("label_changed")]
        assert re.fullmatch(r"it takes writes on timeline \d+", changed[-1])
        await asyncio.to_thread(second.stop)
        lease = api.leases.get(api.namespace, "pgproxy-label")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == ""


def _reason(found: dict[str, object], pod: str) -> str:
    labels = found["labels"]
    assert isinstance(labels, list)
    return "".join(one["reason"] for one in labels if one["pod"] == pod)


async def test_labels_are_kept_as_they_should_be_and_nothing_else_is_written(
    api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    right = {"pg_0": "primary", "pg_1": "replica", "pg_2": "replica"}
    async with LabelStage.start(api, cluster, tmp_path) as stage:
        labeller = await stage.labeller()
        await stage.until_labels(**right)
        assert patches(api) == 3

        await stage.set_label("pg-1", "")
        await stage.until_labels(**right)
        await stage.set_label("pg-1", "primary")
        stage.most_primaries = 0  # that was the test
        await stage.until_labels(**right)
        await stage.make_anew("pg-1", cluster.servers[1])
        await stage.until_labels(**right)
        assert patches(api) == 6

        for code in (409, 500, 404):
            api.answer_with(code, verb="patch", times=2)
            await stage.set_label("pg-2", "")
            await stage.until_labels(**right)
        assert {event["outcome"] for event in labeller.events("kubernetes_api_failed")} == {"error"}
        assert labeller.events("kubernetes_api_recovered")

        await stage.set_label("pg-1", "data")
        await asyncio.to_thread(labeller.wait_event, "label_taken")
        before = patches(api)
        for number in range(20):
            await api.patch_annotations("pg-0", {"status": str(number)})
        await stage.set_label("pg-2", "")
        await stage.until_labels(**{**right, "pg_1": "data"})
        assert patches(api) == before + 1
        text = await asyncio.to_thread(lambda: labeller.get("/metrics")[1])
        assert "\npgproxy_label_leader 1.0\n" in text
        assert '\npgproxy_label_pods{value="data"} 1.0\n' in text
        assert 'pgproxy_label_changes_total{value="primary"} 1.0\n' in text
        assert re.search(r'requests_total\{outcome="ok",resource="leases",verb="update"\}', text)
        await asyncio.to_thread(labeller.stop)


async def test_a_right_that_is_taken_away_is_named_until_it_is_back(
    api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    right = {"pg_0": "primary", "pg_1": "replica", "pg_2": "replica"}
    async with LabelStage.start(api, cluster, tmp_path) as stage:
        labeller = await stage.labeller()
        await stage.until_labels(**right)
        api.rights.discard(("patch", "pods"))
        await stage.set_label("pg-2", "")
        await until(lambda: labeller.get("/readyz")[0] == 503)
        assert "the verb patch on pods" in labeller.get("/readyz")[1]
        assert labeller.get("/livez")[0] == 200
        api.rights.add(("patch", "pods"))
        await stage.until_labels(**right)
        await until(lambda: labeller.get("/readyz")[0] == 200)

        api.rights.discard(("update", "leases"))
        await asyncio.to_thread(labeller.wait_event, "lease_lost")
        assert "the verb update on leases.coordination.k8s.io" in labeller.get("/readyz")[1]
        before = patches(api)
        await stage.set_label("pg-2", "")
        await asyncio.sleep(2)
        assert patches(api) == before
        api.rights.add(("update", "leases"))
        await stage.until_labels(**right)


async def test_an_api_server_that_is_away_or_silent(
    api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    right = {"pg_0": "primary", "pg_1": "replica", "pg_2": "replica"}
    async with LabelStage.start(api, cluster, tmp_path) as stage:
        labeller = await stage.labeller()
        await stage.until_labels(**right)
        await api.freeze()
        await until(lambda: not status(labeller)["leads"])
        await asyncio.to_thread(labeller.wait_event, "lease_lost")
        assert labeller.get("/livez")[0] == labeller.get("/readyz")[0] == 200
        await api.thaw()
        await stage.set_label("pg-0", "")
        await stage.until_labels(**right)
        assert len(labeller.events("lease_won")) == 2

        # What is under way when it is told to stop does not hold it up.
        await api.freeze()
        labeller.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(labeller.wait_end)
        await api.thaw()


async def test_a_dry_run_writes_nothing(api: FakeKubeApi, cluster: Cluster, tmp_path: Path) -> None:
    api.rights.difference_update(LABEL_RIGHTS)
    async with LabelStage.start(api, cluster, tmp_path) as stage:
        labeller = await stage.labeller("--dry-run")
        await until(lambda: len(labeller.events("label_would_change")) == 3)
        await stage.set_label("pg-2", "replica")
        await stage.set_label("pg-1", "primary")
        await until(lambda: len(labeller.events("label_would_change")) == 4)
        last = labeller.events("label_would_change")[-1]
        assert (last["pod"], last["was"], last["value"]) == ("pg-1", "primary", "replica")
        assert patches(api) == 0
        assert labeller.get("/readyz")[0] == 200
        assert api.leases.get(api.namespace, "pgproxy-label") is None
        await asyncio.to_thread(labeller.stop)
