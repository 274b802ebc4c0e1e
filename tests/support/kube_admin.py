"""`KubeApi` on a real kube-apiserver: a small client of its administrator.

async with RealKubeApi(server) as api:
    await api.create_pod("pg-0", {"role": "primary"}, ip="127.0.0.2")
"""

import asyncio
import contextlib
import datetime
import re
import secrets
import signal
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from tests.support.kube import (
    SERVICE_ACCOUNT,
    Request,
    client,
    pod_object,
    status_object,
)
from tests.support.kube_server import KubeServer

_KUSTOMIZE: Final = Path(__file__).parents[2] / "deploy" / "kustomize"
RBAC: Final = _KUSTOMIZE / "base" / "rbac.yaml"
LABEL_RBAC: Final = _KUSTOMIZE / "components" / "label" / "rbac.yaml"
LABEL_ACCOUNT: Final = "pgproxy-label"
"""What its ServiceAccount, Role and RoleBinding are called."""

_SHORTEST_TOKEN: Final = 600  # seconds; what TokenRequest grants at least
_PLACES: Final = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


class RealKubeApi:
    """A namespace on `server`, with a ServiceAccount and a Role of deploy/; see `KubeApi`.

    `rbac` is the manifest that has both, and `account` what they are called in it.
    """

    def __init__(self, server: KubeServer, rbac: str = "", account: str = SERVICE_ACCOUNT) -> None:
        self.server: Final = server
        self._rbac: Final = rbac or RBAC.read_text()
        self._account_name: Final = account
        self.namespace = f"test-{secrets.token_hex(4)}"
        self.elsewhere = f"{self.namespace}-elsewhere"
        self._closing: Final = contextlib.AsyncExitStack()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = await self._closing.enter_async_context(
            client(self, self.server.admin_token)
        )
        await self._make_namespaces()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._closing.aclose()

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def ca(self) -> bytes:
        return self.server.ca

    async def ask(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """What the server answers the administrator. Raises aiohttp.ClientResponseError."""
        data = body if isinstance(body, str) else None
        async with self._session.request(
            method,
            self.url + path,
            json=None if data is not None else body,
            data=data,
            headers={"Content-Type": content_type},
        ) as response:
            answer: dict[str, Any] = await response.json()
            if response.status >= 400:
                raise aiohttp.ClientResponseError(
                    response.request_info,
                    response.history,
                    status=response.status,
                    message=str(answer.get("message")),
                )
            return answer

    async def apply(self, manifest: str) -> None:
        """Create the objects of a YAML file of deploy/ in the namespace."""
        here = re.sub(r"^( +namespace:) .*", rf"\1 {self.namespace}", manifest, flags=re.M)
        for document in re.split(r"^---$", here, flags=re.M):
            kind = re.search(r"^kind: (\w+)$", document, re.M)
            assert kind is not None, document
            place = _PLACES[kind[1]].format(self.namespace)
            await self.ask("POST", place, document, content_type="application/yaml")

    async def token(self, lifetime: float = 3600) -> str:
        answer = await self.ask(
            "POST",
            f"{self._account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": int(max(lifetime, _SHORTEST_TOKEN))},
            },
        )
        token: str = answer["status"]["token"]
        if lifetime < _SHORTEST_TOKEN:
            token = self.server.resigned(token, lifetime)
        return token

    async def revoke_tokens(self) -> None:
        await self.ask("DELETE", self._account)
        await self.apply(self._rbac.split("---\n")[0])

    async def create_pod(
        self,
        name: str,
        labels: Mapping[str, str],
        *,
        ip: str = "127.0.0.1",
        phase: str = "Running",
        ready: bool = True,
        port: int = 5432,
        port_name: str = "postgresql",
        namespace: str | None = None,
    ) -> dict[str, Any]:
        namespace = namespace or self.namespace
        pod = pod_object(name, labels, port=port, port_name=port_name)
        await self.ask("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
        return await self._patch(
            f"/api/v1/namespaces/{namespace}/pods/{name}/status",
            {"status": status_object(ip=ip or None, phase=phase, ready=ready)},
        )

    async def patch_labels(self, name: str, labels: Mapping[str, str | None]) -> None:
        await self._patch(self._pod(name), {"metadata": {"labels": dict(labels)}})

    async def patch_annotations(self, name: str, annotations: Mapping[str, str | None]) -> None:
        await self._patch(self._pod(name), {"metadata": {"annotations": dict(annotations)}})

    async def set_status(
        self,
        name: str,
        *,
        ip: str | None = None,
        phase: str | None = None,
        ready: bool | None = None,
    ) -> None:
        status = status_object(ip=ip, phase=phase, ready=ready)
        await self._patch(f"{self._pod(name)}/status", {"status": status})

    async def terminate_pod(self, name: str) -> None:
        await self.ask("DELETE", self._pod(name))

    async def delete_pod(self, name: str) -> None:
        await self.ask("DELETE", self._pod(name), {"gracePeriodSeconds": 0})

    async def compact(self) -> None:
        await asyncio.to_thread(self.server.compact_etcd)
        # Its cache would go on to know what etcd has forgotten.
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop_apiserver)

    async def start(self, *, history_lost: bool = False) -> None:
        if history_lost:
            await asyncio.to_thread(self.server.lose_etcd)
        await asyncio.to_thread(self.server.start_apiserver)
        if history_lost:
            await self._make_namespaces()

    async def freeze(self) -> None:
        self.server.signal_apiserver(signal.SIGSTOP)

    async def thaw(self) -> None:
        self.server.signal_apiserver(signal.SIGCONT)

    async def request_log(self) -> list[Request]:
        events = await asyncio.to_thread(self.server.audit_log)
        found: dict[str, Request] = {}
        for event in events:
            namespace = event.get("objectRef", {}).get("namespace")
            if namespace == self.namespace and event["auditID"] not in found:
                uri = urllib.parse.urlsplit(event["requestURI"])
                at = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"])
                found[event["auditID"]] = Request(
                    at.timestamp(),
                    event["verb"],
                    uri.path,
                    dict(urllib.parse.parse_qsl(uri.query)),
                    event.get("responseStatus", {}).get("code", 0),
                )
        return list(found.values())

    @property
    def _account(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self._account_name}"

    def _pod(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}"

    async def _patch(self, path: str, body: object) -> dict[str, Any]:
        return await self.ask("PATCH", path, body, content_type="application/merge-patch+json")

    async def _make_namespaces(self) -> None:
        for name in (self.namespace, self.elsewhere):
            await self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        await self.apply(self._rbac)
