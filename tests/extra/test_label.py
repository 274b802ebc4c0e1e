"""`pgproxy label` on a real kube-apiserver, with the rights of the Role in deploy/, no more and no less."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import pgproxy
from pgproxy.embedded import Cluster
from pgproxy.embedded.server import Server
from tests.support.kube import write_kubeconfig
from tests.support.kube_admin import LABEL_ACCOUNT, LABEL_RBAC, RealKubeApi
from tests.support.kube_server import KubeServer
from tests.support.labelling import LABELS, LabelStage, label_config, status, until
from tests.support.proxy import ProxyProcess

DEPLOYMENT: Final = LABEL_RBAC.with_name("deployment.yaml")
_RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.timeout(300)
async def test_three_of_them_while_leaders_stop_die_and_end(
    label_api: RealKubeApi, private_cluster: Cluster, tmp_path: Path
) -> None:
    old, new, newest = private_cluster.servers
    async with LabelStage.start(label_api, private_cluster, tmp_path) as stage:
        for _ in range(3):
            await stage.labeller()
        await stage.until_labels(pg_0="primary", pg_1="replica", pg_2="replica")

        # It stands still for longer than its Lease lasts, and does not know it when it goes on.
        stopped = await stage.leader()
        stopped.process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(old.kill9)
        await asyncio.to_thread(new.promote)
        await stage.until_labels(pg_0="", pg_1="primary", pg_2="replica")
        second = await stage.leader()
        stopped.process.send_signal(signal.SIGCONT)
        await until(lambda: bool(stopped.events("lease_lost")))
        assert not status(stopped)["leads"]
        assert await stage.leader() is second

        # It ends in good order, so that nobody has to wait.
        held = (await _lease(label_api))["spec"]
        await asyncio.to_thread(second.stop)
        assert second.events("lease_given_back")
        third = await stage.leader()
        assert (await _lease(label_api))["spec"]["leaseTransitions"] == held["leaseTransitions"] + 1

        # It dies in the middle of a failover.
        await asyncio.to_thread(new.kill9)
        await asyncio.to_thread(third.kill9)
        await asyncio.to_thread(newest.promote)
        await stage.until_labels(pg_0="", pg_1="", pg_2="primary")
        (last,) = stage.running()
        assert await stage.leader() is last
        await stage.make_anew("pg-2", newest)
        await stage.until_labels(pg_0="", pg_1="", pg_2="primary")
        await asyncio.to_thread(last.stop)


async def _lease(api: RealKubeApi) -> dict[str, Any]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases/pgproxy-label"
    return await api.ask("GET", path)


@pytest.mark.timeout(180)
async def test_each_verb_of_the_role_is_needed_and_its_absence_named(
    kube: KubeServer, cluster: Cluster, tmp_path: Path
) -> None:
    manifest = LABEL_RBAC.read_text()
    role = next(one for one in yaml.safe_load_all(manifest) if one["kind"] == "Role")
    verbs = [
        (verb, resource)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert sorted(verbs) == [
        ("create", "leases"),
        ("get", "leases"),
        ("list", "pods"),
        ("patch", "pods"),
        ("update", "leases"),
        ("watch", "pods"),
    ]
    async with asyncio.TaskGroup() as group:
        for verb, resource in verbs:
            directory = tmp_path / verb
            directory.mkdir()
            group.create_task(
                _without(kube, cluster.primary, manifest, (verb, resource), directory)
            )


async def _without(
    kube: KubeServer, server: Server, manifest: str, right: tuple[str, str], directory: Path
) -> None:
    verb, resource = right
    documents = manifest.split("---\n")
    (number,) = [at for at, text in enumerate(documents) if "\nkind: Role\n" in text]
    role = yaml.safe_load(documents[number])
    for rule in role["rules"]:
        if resource in rule["resources"]:
            rule["verbs"] = [one for one in rule["verbs"] if one != verb] or ["deletecollection"]
    documents[number] = yaml.safe_dump(role)
    async with RealKubeApi(kube, "---\n".join(documents), LABEL_ACCOUNT) as api:
        await api.create_pod("pg-0", LABELS, ip=server.host, port=server.port)
        config = label_config(await write_kubeconfig(api, directory), api.namespace)
        process = await asyncio.to_thread(ProxyProcess, config, ("label",))
        try:
            await asyncio.to_thread(_told, process, verb, resource)
        finally:
            await asyncio.to_thread(process.stop)


def _told(process: ProxyProcess, verb: str, resource: str) -> None:
    process.http_port = process.wait_event("http_listening")["port"]
    deadline = time.monotonic() + 60
    while not (failed := [one for one in _failures(process) if one["verb"] == verb]):
        assert time.monotonic() < deadline, process.stderr
        time.sleep(0.05)
    assert verb in failed[0]["check"]
    assert resource in failed[0]["check"]
    if (verb, resource) != ("watch", "pods"):  # without it labels are still set, only late
        ready, why = process.get("/readyz")
        assert ready == 503
        assert why
    assert process.get("/livez")[0] == 200


def _failures(process: ProxyProcess) -> list[dict[str, Any]]:
    found = process.events("kubernetes_api_failed")
    return [one for one in found if one["outcome"] == "forbidden"]


async def test_the_deployment_satisfies_the_restricted_pod_security_standard(
    kube: KubeServer,
) -> None:
    async with RealKubeApi(kube, LABEL_RBAC.read_text(), LABEL_ACCOUNT) as api:
        await api.ask(
            "PATCH",
            f"/api/v1/namespaces/{api.namespace}",
            {"metadata": {"labels": _RESTRICTED}},
            content_type="application/merge-patch+json",
        )
        deployment = yaml.safe_load(DEPLOYMENT.read_text())
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"pgproxy:{pgproxy.__version__}"
        strict = "?dryRun=All&fieldValidation=Strict"
        path = f"/apis/apps/v1/namespaces/{api.namespace}/deployments{strict}"
        await api.ask("POST", path, deployment)
        pod = {
            "metadata": {"name": "label", **deployment["spec"]["template"]["metadata"]},
            "spec": deployment["spec"]["template"]["spec"],
        }
        pods = f"/api/v1/namespaces/{api.namespace}/pods{strict}"
        await api.ask("POST", pods, pod)
