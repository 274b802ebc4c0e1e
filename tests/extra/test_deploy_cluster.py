"""A real API server takes what is in deploy/, and the rights in there are those that pgproxy needs."""

import asyncio
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pgproxy.embedded import Cluster
from tests.support import manifests
from tests.support.kube import client, write_kubeconfig
from tests.support.kube_admin import RealKubeApi
from tests.support.manifests import EXAMPLES, OVERLAYS, Object
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.timeout(300)  # a first run builds the tools

# The operators' kinds, which a cluster has from them: here anything is one.
DEFINITIONS = {
    "monitoring.coreos.com": (
        "v1",
        {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"},
    ),
    "postgresql.cnpg.io": ("v1", {"Cluster": "clusters", "Pooler": "poolers"}),
}


class Administrator:
    """Asks the API server for whatever is written in manifests."""

    def __init__(self, api: RealKubeApi) -> None:
        self._api = api
        self._places: dict[tuple[str, str], str] = {}

    async def namespace(self, standard: str) -> str:
        """A new one, in which only pods that keep to that Pod Security Standard may be."""
        name = f"{standard}-{secrets.token_hex(4)}"
        labels = {f"pod-security.kubernetes.io/{mode}": standard for mode in ("enforce", "warn")}
        await self._api.ask(
            "POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}}
        )
        return name

    async def define(self) -> None:
        """The kinds of DEFINITIONS, once for a server."""
        for group, (version, kinds) in DEFINITIONS.items():
            for kind, plural in kinds.items():
                await self._define(group, version, kind, plural)
            await self._wait_for(f"/apis/{group}/{version}", kinds.values())

    async def create(self, one: Object, namespace: str, *, dry: bool = True) -> list[str]:
        """The server's warnings. Raises aiohttp.ClientResponseError with what is wrong with it.

        An unknown field is wrong, too.
        """
        place = await self._place(one["apiVersion"], one["kind"])
        query = "fieldValidation=Strict" + ("&dryRun=All" if dry else "")
        body = {**one, "metadata": {**one["metadata"], "namespace": namespace}}
        path = f"{place.format(namespace)}?{query}"
        async with (
            client(self._api, self._api.server.admin_token) as session,
            session.post(self._api.url + path, json=body) as response,
        ):
            answer = await response.json()
            if response.status >= 400:
                raise aiohttp.ClientResponseError(
                    response.request_info,
                    response.history,
                    status=response.status,
                    message=str(answer.get("message")),
                )
            return response.headers.getall("Warning", [])

    async def _place(self, version: str, kind: str) -> str:
        if (version, kind) not in self._places:
            root = f"/apis/{version}" if "/" in version else f"/api/{version}"
            found = await self._api.ask("GET", root)
            for resource in found["resources"]:
                if "/" not in resource["name"]:
                    self._places[version, resource["kind"]] = (
                        f"{root}/namespaces/{{}}/{resource['name']}"
                    )
        return self._places[version, kind]

    async def _define(self, group: str, version: str, kind: str, plural: str) -> None:
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        versions = [
            {
                "name": version,
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": schema},
            }
        ]
        definition = {
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": versions,
            },
        }
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        try:
            await self._api.ask("POST", path, definition)
        except aiohttp.ClientResponseError as error:
            if error.status != 409:  # another test has
                raise

    async def _wait_for(self, root: str, plurals: Iterable[str]) -> None:
        """Until the server has them, which is some time after they are defined."""
        while True:
            try:
                found = await self._api.ask("GET", root)
            except aiohttp.ClientResponseError as error:
                if error.status not in {404, 503}:
                    raise
            else:
                if set(plurals) <= {one["name"] for one in found["resources"]}:
                    return
            await asyncio.sleep(0.1)


@pytest.fixture
def administrator(kube_api: RealKubeApi) -> Administrator:
    return Administrator(kube_api)


def _places(folder: Path) -> dict[str, list[Object]]:
    """All objects that are in deploy/, the components with the base."""
    found = dict(manifests.kustomizations())
    for name, objects in manifests.composed(folder).items():
        found[f"components/{name}"] = objects
    values = {"default": {}, "monitoring": {"monitoring": {"enabled": True}}}
    others = yaml.safe_load((Path(__file__).parent / "deploy" / "values.yaml").read_text())
    releases = manifests.releases({**values, "others": others, **manifests.operators()})
    for name, release in releases.items():
        found[f"helm/{name}"] = [*release.objects, *release.tests]
    return found


async def test_everything_is_accepted(administrator: Administrator, tmp_path: Path) -> None:
    """By a server-side dry run, where only restricted pods may be: no fault, and no warning."""
    await administrator.define()
    namespace = await administrator.namespace("restricted")
    places = await asyncio.to_thread(_places, tmp_path)
    assert len(places) > len(OVERLAYS) + len(EXAMPLES)
    # What Helm and Kustomize make alike, or two overlays, is asked for once.
    distinct: dict[str, tuple[str, Object]] = {}
    for place, objects in places.items():
        for one in objects:
            distinct.setdefault(json.dumps(one, sort_keys=True), (place, one))
    for place, one in distinct.values():
        warnings = await administrator.create(one, namespace)
        assert warnings == [], (place, one["kind"])


async def test_what_is_not_restricted_is_seen(administrator: Administrator) -> None:
    """The warnings above are real: a Deployment's pods are judged."""
    namespace = await administrator.namespace("restricted")
    objects = manifests.kustomizations()["kustomize/base"]
    deployment = json.loads(json.dumps(manifests.find(objects, "Deployment")))
    spec = deployment["spec"]["template"]["spec"]
    del spec["containers"][0]["securityContext"]["capabilities"]
    (warning,) = await administrator.create(deployment, namespace)
    assert "unrestricted capabilities" in warning
    spec["containers"][0]["readyProbe"] = {}
    with pytest.raises(aiohttp.ClientResponseError, match="readyProbe"):
        await administrator.create(deployment, namespace)


class Place:
    """A namespace with the rights of an overlay, as `KubeApi` for those who take its token."""

    def __init__(self, api: RealKubeApi, namespace: str) -> None:
        self.url = api.url
        self.ca = api.ca
        self.namespace = namespace
        self._api = api

    async def token(self, lifetime: float = 3600) -> str:
        """The account's."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/pgproxy/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": int(lifetime)},
        }
        answer = await self._api.ask("POST", path, body)
        return str(answer["status"]["token"])


async def _rights(administrator: Administrator, api: RealKubeApi, without: str = "") -> Place:
    """Those of the overlay for Patroni, but for one verb."""
    namespace = await administrator.namespace("privileged")  # the pods are not those of deploy/
    for one in manifests.kustomizations()["kustomize/overlays/patroni"]:
        if one["kind"] not in {"ServiceAccount", "Role", "RoleBinding"}:
            continue
        made = json.loads(json.dumps(one))
        for rule in made.get("rules", ()):
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != without]
        for subject in made.get("subjects", ()):
            assert subject["namespace"] == manifests.NAMESPACE
            subject["namespace"] = namespace
        await administrator.create(made, namespace, dry=False)
    return Place(api, namespace)


async def _pods(api: RealKubeApi, place: Place, cluster: Cluster) -> None:
    for number, server in enumerate(cluster.servers):
        labels = {"cluster-name": "main", "role": "replica" if number else "primary"}
        await api.create_pod(
            f"main-{number}",
            labels,
            ip=server.host,
            port=server.port,
            namespace=place.namespace,
        )


async def _proxy(place: Place, directory: Path, *, is_ready: bool = True) -> ProxyProcess:
    """As the overlay has it, by its configuration; from outside of the cluster."""
    kubeconfig = await write_kubeconfig(place, directory)
    settings = manifests.preset(manifests.kustomizations()["kustomize/overlays/patroni"])
    settings |= {
        "kubeconfig": str(kubeconfig),
        "namespace": place.namespace,
        "port": "postgresql",  # those of the test's servers differ
    }
    sections: dict[str, Any] = {
        "discovery": {"mode": "kubernetes"},
        "discovery.kubernetes": settings,
    }
    return await asyncio.to_thread(lambda: ProxyProcess.start((), wait_ready=is_ready, **sections))


async def _status(proxy: ProxyProcess) -> Any:
    return json.loads((await asyncio.to_thread(proxy.get, "/status"))[1])


async def test_the_rights_are_enough(
    administrator: Administrator, kube_api: RealKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    place = await _rights(administrator, kube_api)
    await _pods(kube_api, place, cluster)
    with await _proxy(place, tmp_path) as proxy:
        status = await _status(proxy)
        assert {node["name"]: node["role"] for node in status["topology"]}["main-0"] == "primary"
        assert status["discovery"]["failing"] == ""


async def test_the_rights_are_no_more_than_that(
    administrator: Administrator, kube_api: RealKubeApi
) -> None:
    place = await _rights(administrator, kube_api)
    async with client(kube_api, await place.token()) as session:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": place.namespace},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        async with session.post(kube_api.url + path, json=review) as response:
            found = (await response.json())["status"]["resourceRules"]
    # Everybody who is known may ask what he may do.
    own = [rule for rule in found if not rule["resources"][0].startswith("self")]
    assert [{key: value for key, value in rule.items() if value} for rule in own] == [
        {"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["pods"]}
    ]


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_without_one_of_them_it_says_so(
    verb: str, administrator: Administrator, kube_api: RealKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    place = await _rights(administrator, kube_api, without=verb)
    await _pods(kube_api, place, cluster)
    with await _proxy(place, tmp_path, is_ready=False) as proxy:
        event = await asyncio.to_thread(proxy.wait_event, "kubernetes_api_failed")
        assert event["outcome"] == "forbidden"
        assert f'cannot {verb} resource "pods"' in event["reason"]
        assert place.namespace in event["check"]
        assert (await _status(proxy))["discovery"]["failing"] == "forbidden"
        if verb == "list":
            assert (await asyncio.to_thread(proxy.get, "/startupz"))[0] == 503
