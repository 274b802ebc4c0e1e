"""The watch of the pods on the fake API server: what it does on any, and each way to misbehave."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import structlog
from kubernetes.aio.config import incluster_config

from pgproxy import config
from tests.fakes.kube_api import FakeKubeApi
from tests.support.kube import mount, write_kubeconfig
from tests.support.kube_watching import (
    LABELS,
    PRIMARY,
    QUICK,
    REPLICA,
    Following,
    WatchContract,
    following,
    poll,
)

pytestmark = pytest.mark.once

Misbehave = Callable[[FakeKubeApi], Any]


@pytest_asyncio.fixture
async def kube_api() -> AsyncIterator[FakeKubeApi]:
    async with FakeKubeApi() as api:
        yield api


@pytest_asyncio.fixture
async def pair(kube_api: FakeKubeApi) -> FakeKubeApi:
    await kube_api.create_pod("db-0", PRIMARY)
    await kube_api.create_pod("db-1", REPLICA)
    return kube_api


class TestOnTheFake(WatchContract):
    pass


def ends(how: Any) -> Misbehave:
    def order(api: FakeKubeApi) -> None:
        api.faults.every_watch_ends = how
        api.end_watches(how)

    return order


def refuses(status: int, **how: Any) -> Misbehave:
    def order(api: FakeKubeApi) -> None:
        api.answer_with(status, **how)
        api.end_watches("eof")

    return order


# What is done, how requests end of it, and whether the pods are listed anew because of it.
WAYS: Final[dict[str, tuple[Misbehave, str, bool]]] = {
    "ends each watch at once": (ends("eof"), "ok", False),
    "ends each in the middle of a line": (ends("cut"), "ok", False),
    "resets each": (ends("reset"), "unreachable", True),
    "410 within each": (ends("expired"), "gone", True),
    "410 to each": (refuses(410, verb="watch"), "gone", True),
    "500": (refuses(500), "error", True),
    "504 to each watch": (refuses(504, verb="watch"), "error", True),
    "429": (refuses(429, retry_after=1), "throttled", False),
    "403": (refuses(403), "forbidden", False),
    "401": (refuses(401), "unauthorized", True),
    "redirects": (refuses(302), "rejected", True),
    "204": (refuses(204), "rejected", True),
}


async def test_as_long_as_it_misbehaves_nothing_changes_and_then_all_is_well(
    tmp_path: Path,
) -> None:
    """All at once, each on a server of its own: most of the time they wait."""
    async with asyncio.TaskGroup() as group:
        for number, (name, way) in enumerate(WAYS.items()):
            directory = tmp_path / str(number)
            directory.mkdir()
            group.create_task(misbehaving(directory, *way), name=name)


async def misbehaving(directory: Path, misbehave: Misbehave, outcome: str, is_listed: bool) -> None:
    async with FakeKubeApi() as api:
        await api.create_pod("db-0", PRIMARY)
        await api.create_pod("db-1", REPLICA)
        async with following(api, directory) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await api.watched()
            misbehave(api)
            began, before = time.monotonic(), len(api.requests)
            await poll(lambda: len(api.requests) >= before + 6)
            assert len(api.requests) - before <= 2 * (time.monotonic() - began) + 2
            assert watch.ended(outcome) >= 2, (outcome, watch.pods.requests)
            assert watch.snapshots == [watch.pods.backends], outcome
            api.heal()
            await api.patch_labels("db-0", {"role": "replica"})
            await watch.until_roles(db_0="replica", db_1="replica")
            assert (set(watch.pods.relists) > {"start"}) == is_listed, outcome


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (b"nonsense\n", "garbled"),
        (b"\n", "garbled"),
        (b"\x00\xff\n", "garbled"),
        ({"type": "SYNC", "object": {}}, "garbled"),
        ({"type": "DELETED", "object": {}}, "garbled"),
        ({"type": "ERROR", "object": {"code": 410}}, "gone"),
        ({"type": "ERROR", "object": {"code": 500}}, "error"),
        ({"type": "ERROR", "object": None}, "error"),
    ],
)
async def test_a_line_that_ends_the_watch(
    pair: FakeKubeApi, tmp_path: Path, line: Any, outcome: str
) -> None:
    async with following(pair, tmp_path) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        pair.send(line)
        await watch.until_outcome(outcome)
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")


async def test_an_odd_pod_hurts_no_other(pair: FakeKubeApi, tmp_path: Path) -> None:
    async with following(pair, tmp_path) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        odd = {"metadata": {"name": "db-9", "labels": None}, "spec": None, "status": []}
        pair.send({"type": "ADDED", "object": odd})
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")
        assert watch.pods.status()["not_backends"] == {"db-9": "it has no name or no uid"}


async def test_lines_of_a_megabyte_and_a_half(pair: FakeKubeApi, tmp_path: Path) -> None:
    async with following(pair, tmp_path) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        await pair.patch_annotations("db-0", {"big": "x" * 1_500_000})
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")
        assert watch.pods.requests.get(("watch", "garbled"), 0) == 0


async def test_a_line_that_comes_in_drops(pair: FakeKubeApi, tmp_path: Path) -> None:
    pair.faults.drip = 0.005
    async with following(pair, tmp_path) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")


async def test_a_new_authority(pair: FakeKubeApi, tmp_path: Path) -> None:
    async with following(pair, tmp_path) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        pair.rotate_ca()
        await watch.until_outcome("tls", count=2)
        assert watch.pods.status()["failing"] == "tls"
        await mount(pair, tmp_path)
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")


async def test_a_version_from_the_future_is_silent_until_the_next_list(
    pair: FakeKubeApi, tmp_path: Path
) -> None:
    """As after etcd was restored from a backup: no watch fails, and none tells anything."""
    async with following(pair, tmp_path, replace(QUICK, repair=(2.0, 3.0))) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        future = {"kind": "Pod", "metadata": {"resourceVersion": "999999999"}}
        pair.send({"type": "BOOKMARK", "object": future})
        await poll(lambda: watch.pods.status()["resource_version"] == "999999999")
        pair.end_watches("eof")
        await pair.create_pod("db-5", PRIMARY)
        await watch.until_roles(db_0="primary", db_1="replica", db_5="primary")
        assert watch.pods.relists.get("repair", 0) >= 1


async def test_a_primary_is_looked_for_where_the_watch_is_silent(
    pair: FakeKubeApi, tmp_path: Path
) -> None:
    """A watch that is dead and does not say so hides the label of the new primary."""
    async with following(pair, tmp_path, replace(QUICK, watch=(60, 60), look_again=0.0)) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        future = {"kind": "Pod", "metadata": {"resourceVersion": "999999999"}}
        pair.send({"type": "BOOKMARK", "object": future})
        await poll(lambda: watch.pods.status()["resource_version"] == "999999999")
        pair.end_watches("eof")
        await poll(lambda: sum([one.verb == "watch" for one in pair.requests]) == 2)
        await pair.patch_labels("db-1", {"role": "primary"})
        watch.pods.look_again()
        await watch.until_roles(db_0="primary", db_1="primary")
        assert watch.pods.relists == {"start": 1, "no_primary": 1}
        assert watch.pods.status()["failing"] == ""


async def test_a_list_without_pods_is_not_believed(pair: FakeKubeApi, tmp_path: Path) -> None:
    """The database is there, and the API server has forgotten its pods."""
    async with following(pair, tmp_path) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.stop()
        pair.lose_history()
        await pair.start()
        await mount(pair, tmp_path)
        await poll(lambda: sum(watch.pods.relists.values()) >= 2 and watch.pods.age() < 1)
        await poll(lambda: watch.pods.status()["pods"] == 0)
        assert len(watch.snapshots) == 1
        await pair.create_pod("db-1", PRIMARY)
        await watch.until_roles(db_1="primary")


async def test_a_watch_that_has_just_run_out_of_time_is_not_told_to_end_again(
    pair: FakeKubeApi, tmp_path: Path
) -> None:
    """Whoever looks for a primary does so in a task that nothing else may end."""
    async with following(pair, tmp_path, replace(QUICK, look_again=0.0)) as watch:
        await pair.watched()
        pods = watch.pods
        await poll(lambda: pods._watching is not None)
        watching = pods._watching
        assert watching is not None
        watching.reschedule(asyncio.get_running_loop().time())
        while not watching.expired():
            await asyncio.sleep(0)
            pods.look_again()
        pods.look_again()
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")


async def test_a_list_in_pages(kube_api: FakeKubeApi, tmp_path: Path) -> None:
    for number in range(7):
        await kube_api.create_pod(f"db-{number}", REPLICA)
    kube_api.page_limit = 3
    async with following(kube_api, tmp_path) as watch:
        await watch.pods.synced.wait()
        assert len(watch.pods.backends) == 7
        assert [one.query.get("continue", "") != "" for one in kube_api.requests][:3] == [
            False,
            True,
            True,
        ]


async def test_a_weight_that_is_none_is_told_once(pair: FakeKubeApi, tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as log:
        async with following(pair, tmp_path) as watch:
            await watch.pods.synced.wait()
            for number, (weight, taken) in enumerate(
                (("3", 3), ("heavy", 1), ("heavy", 1), ("7", 7))
            ):
                annotations = {"pgproxy.io/weight": weight, "n": str(number)}
                await pair.patch_annotations("db-1", annotations)
                await poll(lambda taken=taken: watch.backend("db-1").weight == taken)
            assert watch.pods.status()["ignored"] == {}
            await pair.patch_annotations("db-1", {"pgproxy.io/weight": "1001"})
            await watch.until(lambda: watch.backend("db-1").weight == 1)
            ignored = watch.pods.status()["ignored"]
    told = [line["reason"] for line in log if line["event"] == "pod_weight_ignored"]
    assert ["'heavy'" in told[0], "'1001'" in told[1], len(told)] == [True, True, 2]
    assert ignored == {"db-1": told[1]}


async def test_a_failover_is_one_snapshot(pair: FakeKubeApi, tmp_path: Path) -> None:
    """Both patches lie within the debounce, and come to the proxy as one change."""
    async with following(pair, tmp_path, replace(QUICK, debounce=0.3)) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        await pair.patch_labels("db-0", {"role": "replica"})
        await pair.patch_labels("db-1", {"role": "primary"})
        await watch.until_roles(db_0="replica", db_1="primary")
        assert len(watch.snapshots) == 2


async def test_a_flood_of_events_delays_no_snapshot(pair: FakeKubeApi, tmp_path: Path) -> None:
    """As many as come in while the label changes: the snapshot does not wait for their end."""
    stop = asyncio.Event()

    async def flood() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(20):
                number += 1
                await pair.patch_annotations("db-1", {"status": f"{number:06}" + "x" * 4000})
            await asyncio.sleep(0.02)

    async with following(pair, tmp_path) as watch, asyncio.TaskGroup() as group:
        await watch.until_roles(db_0="primary", db_1="replica")
        await pair.watched()
        group.create_task(flood())
        await poll(lambda: watch.pods.events.get("modified", 0) > 500)
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")
        stop.set()
        assert len(watch.snapshots) == 2


async def test_as_a_pod_with_its_service_account(
    pair: FakeKubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mount(pair, tmp_path)
    host, _, port = pair.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr("pgproxy.topology.apiserver._NAMESPACE_FILE", tmp_path / "namespace")
    async with following(pair, tmp_path, namespace="", kubeconfig=None) as watch:
        await watch.until_roles(db_0="primary", db_1="replica")
        assert watch.pods.status()["namespace"] == pair.namespace
        await pair.revoke_tokens()
        await watch.until_outcome("unauthorized")
        await mount(pair, tmp_path)
        await pair.patch_labels("db-0", {"role": "replica"})
        await watch.until_roles(db_0="replica", db_1="replica")


@pytest.mark.parametrize(
    "content",
    ["", "nonsense", "[]", "{}", '{"current-context": "x", "contexts": [], "clusters": []}', "\t:"],
)
async def test_a_kubeconfig_that_is_none_is_read_again(
    pair: FakeKubeApi, tmp_path: Path, content: str
) -> None:
    """An editor or a kubelet may be about to write it."""
    good = tmp_path / "good"
    good.mkdir()
    broken = tmp_path / "broken"
    broken.write_text(content)
    async with following(pair, good, kubeconfig=broken) as watch:
        await watch.until_outcome("credentials", count=2)
        broken.write_bytes((good / "kubeconfig").read_bytes())
        await watch.until_roles(db_0="primary", db_1="replica")


def as_user(kubeconfig: Path, user: dict[str, Any]) -> Path:
    """The same cluster, other credentials."""
    text = json.loads(kubeconfig.read_text())
    text["users"][0]["user"] = user
    path = kubeconfig.with_name("as-user")
    path.write_text(json.dumps(text))
    return path


async def test_the_program_that_gives_the_token_is_run_again_when_it_has_failed(
    pair: FakeKubeApi, tmp_path: Path
) -> None:
    kind = "client.authentication.k8s.io/v1"
    said = tmp_path / "credential"
    program = {"apiVersion": kind, "command": "cat", "args": [str(said)]}
    user = {"exec": program | {"interactiveMode": "Never"}}
    path = as_user(await write_kubeconfig(pair, tmp_path), user)
    async with following(pair, tmp_path, kubeconfig=path) as watch:
        await watch.until_outcome("unauthorized")
        assert not watch.pods.synced.is_set()
        credential = {"apiVersion": kind, "kind": "ExecCredential"}
        said.write_text(json.dumps(credential | {"status": {"token": await pair.token()}}))
        await watch.until_roles(db_0="primary", db_1="replica")


async def test_a_token_of_which_no_header_can_be_made_is_not_told(
    pair: FakeKubeApi, tmp_path: Path
) -> None:
    path = as_user(await write_kubeconfig(pair, tmp_path), {"token": "a secret\nin two lines"})
    async with following(pair, tmp_path, kubeconfig=path) as watch:
        await watch.until_outcome("credentials")
        assert "secret" not in json.dumps(watch.pods.status())


async def test_outside_of_a_cluster_and_without_a_kubeconfig(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    watch = Following(config.Kubernetes(selector="app=db"), QUICK)
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.pods.run())
        await watch.until_outcome("credentials")
        assert watch.pods.status()["namespace"] == "default"
        assert json.dumps(watch.pods.status())
        await watch.pods.close()


async def test_closed_before_it_ran() -> None:
    watch = Following(config.Kubernetes(selector="app=db"), QUICK)
    await watch.pods.close()
    await watch.pods.run()
    assert watch.pods.requests == {}


async def test_the_probe_decides_where_no_label_does(pair: FakeKubeApi, tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"role_label": "", "primary_values": (), "replica_values": ()}
    async with following(pair, tmp_path, **nothing) as watch:
        await watch.until_roles(db_0="auto", db_1="auto")
        assert not watch.backend("db-0").hinted
        await pair.create_pod("db-2", LABELS)
        await watch.until_roles(db_0="auto", db_1="auto", db_2="auto")
