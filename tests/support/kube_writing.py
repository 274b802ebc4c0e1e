"""How kube-apiserver treats one who patches pods and holds a Lease. The fake must do the same.

    class TestTheRealOne(WritingContract): ...    with a fixture `label_api`

Nothing of pgproxy is in it: bare HTTP, as a client sees it.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest_asyncio

from tests.support.kube import KubeApi, client
from tests.support.kube_contract import check_status

Body = dict[str, Any]

_MERGE: Final = "application/merge-patch+json"
_LEASES: Final = "apis/coordination.k8s.io/v1"
_LEASE: Final = "pgproxy-label"


class Writer:
    """One with the rights of `pgproxy label`."""

    def __init__(self, api: KubeApi, session: aiohttp.ClientSession) -> None:
        self._api: Final = api
        self._session: Final = session

    async def ask(
        self, method: str, path: str, body: Body | None = None, content_type: str = ""
    ) -> tuple[int, Body]:
        group, _, rest = path.rpartition(":")
        url = f"{self._api.url}/{group or 'api/v1'}/namespaces/{self._api.namespace}/{rest}"
        headers = {"Content-Type": content_type or "application/json"}
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, url, data=data, headers=headers) as response:
            return response.status, await response.json()

    async def patch(self, name: str, **metadata: Any) -> tuple[int, Body]:
        return await self.ask("PATCH", f"pods/{name}", {"metadata": metadata}, _MERGE)

    async def lease(self, method: str, name: str = "", body: Body | None = None) -> Any:
        return await self.ask(method, f"{_LEASES}:leases{'/' if name else ''}{name}", body)


def lease(holder: str, name: str = _LEASE, **metadata: str) -> Body:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, **metadata},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-02T03:04:05.000006Z",
            "renewTime": "2026-01-02T03:04:05.000007Z",
            "leaseTransitions": 0,
        },
    }


class WritingContract:
    @pytest_asyncio.fixture
    async def writer(self, label_api: KubeApi) -> AsyncIterator[Writer]:
        async with client(label_api, await label_api.token()) as session:
            yield Writer(label_api, session)

    async def test_a_patch_for_a_pod_as_it_is(self, label_api: KubeApi, writer: Writer) -> None:
        metadata = (await label_api.create_pod("pg-0", {"app": "db"}))["metadata"]
        status, pod = await writer.patch(
            "pg-0",
            resourceVersion=metadata["resourceVersion"],
            labels={"role": "primary"},
            annotations={"a": "b"},
        )
        assert status == 200
        assert pod["metadata"]["labels"] == {"app": "db", "role": "primary"}
        assert pod["metadata"]["annotations"] == {"a": "b"}
        version = pod["metadata"]["resourceVersion"]
        assert version != metadata["resourceVersion"]
        status, pod = await writer.patch("pg-0", resourceVersion=version, labels={"role": None})
        assert status == 200
        assert pod["metadata"]["labels"] == {"app": "db"}

    async def test_a_patch_for_a_pod_as_it_was(self, label_api: KubeApi, writer: Writer) -> None:
        metadata = (await label_api.create_pod("pg-0", {"app": "db"}))["metadata"]
        await label_api.patch_annotations("pg-0", {"status": "x"})
        status, body = await writer.patch(
            "pg-0", resourceVersion=metadata["resourceVersion"], labels={"role": "primary"}
        )
        assert status == 409
        check_status(body, 409, "Conflict")

    async def test_a_patch_for_the_pod_of_that_name_before(
        self, label_api: KubeApi, writer: Writer
    ) -> None:
        version = (await label_api.create_pod("pg-0", {}))["metadata"]["resourceVersion"]
        await label_api.delete_pod("pg-0")
        await label_api.create_pod("pg-0", {})
        status, body = await writer.patch(
            "pg-0", resourceVersion=version, labels={"role": "primary"}
        )
        assert status == 409
        check_status(body, 409, "Conflict")

    async def test_a_patch_for_none(self, writer: Writer) -> None:
        status, body = await writer.patch("pg-0", labels={"role": "primary"})
        assert status == 404
        check_status(body, 404, "NotFound")

    async def test_a_lease_is_made_once(self, writer: Writer) -> None:
        status, body = await writer.lease("GET", _LEASE)
        assert status == 404
        check_status(body, 404, "NotFound")
        status, made = await writer.lease("POST", body=lease("a"))
        assert status == 201
        assert made["spec"] == lease("a")["spec"]
        status, body = await writer.lease("POST", body=lease("b"))
        assert status == 409
        check_status(body, 409, "AlreadyExists")
        assert await writer.lease("GET", _LEASE) == (200, made)

    async def test_a_lease_is_replaced_as_it_is(self, writer: Writer) -> None:
        _, made = await writer.lease("POST", body=lease("a"))
        version = made["metadata"]["resourceVersion"]
        taken = {**made, "spec": {**made["spec"], "holderIdentity": "b"}}
        status, after = await writer.lease("PUT", _LEASE, taken)
        assert status == 200
        assert after["spec"]["holderIdentity"] == "b"
        assert after["metadata"]["resourceVersion"] != version
        status, body = await writer.lease("PUT", _LEASE, taken)
        assert status == 409
        check_status(body, 409, "Conflict")

    async def test_a_lease_without_a_holder(self, writer: Writer) -> None:
        _, made = await writer.lease("POST", body=lease("a"))
        free = {**made, "spec": {**made["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
        status, after = await writer.lease("PUT", _LEASE, free)
        assert (status, after["spec"].get("holderIdentity", "")) == (200, "")

    async def test_nothing_else_is_allowed(self, label_api: KubeApi, writer: Writer) -> None:
        await label_api.create_pod("pg-0", {})
        await writer.lease("POST", body=lease("a"))
        for method, path in (
            ("GET", "pods/pg-0"),
            ("PUT", "pods/pg-0"),
            ("DELETE", "pods/pg-0"),
            ("GET", "secrets"),
            ("DELETE", f"{_LEASES}:leases/{_LEASE}"),
            ("GET", f"{_LEASES}:leases"),
        ):
            status, body = await writer.ask(method, path)
            assert status == 403, (method, path, body)
            check_status(body, 403, "Forbidden")
