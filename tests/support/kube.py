"""What tests ask of a Kubernetes API server, be it a real one or the fake.

`KubeApi` is a server with one namespace of the test's own. Its methods act as operators, kubelets
and administrators do. What is under test reads with the ServiceAccount's rights, from the files
that `mount` or `write_kubeconfig` lay out.

    tests/fakes/kube_api.py     FakeKubeApi: in the test's own event loop, and misbehaves to order
    tests/support/kube_admin.py RealKubeApi: kube-apiserver and etcd
"""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp

SERVICE_ACCOUNT: Final = "pgproxy"
"""The name of the ServiceAccount, Role and RoleBinding in deploy/."""

PODS_URL: Final = "{}/api/v1/namespaces/{}/pods"


class KubeApi(Protocol):
    """An API server, with a namespace that no other test has."""

    namespace: str
    elsewhere: str
    """Another namespace, in which the ServiceAccount has no rights."""

    @property
    def url(self) -> str:
        """https://host:port, for as long as the server is there, stopped or not."""

    @property
    def ca(self) -> bytes:
        """PEM of the authorities by which the server is known."""

    async def token(self, lifetime: float = 3600) -> str:
        """A bearer token of the ServiceAccount, good for `lifetime` seconds."""

    async def revoke_tokens(self) -> None:
        """No token given out so far is good any more. A real server may go on to believe one
        that it saw in the last 10 seconds."""

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
        """A pod that runs on a node; returns it. With `ip` empty it has no address yet."""

    async def patch_labels(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Set these; None removes one."""

    async def patch_annotations(self, name: str, annotations: Mapping[str, str | None]) -> None:
        """Set these; None removes one."""

    async def set_status(
        self,
        name: str,
        *,
        ip: str | None = None,
        phase: str | None = None,
        ready: bool | None = None,
    ) -> None:
        """Report as a kubelet does; None leaves a thing as it is."""

    async def terminate_pod(self, name: str) -> None:
        """Delete in the ordinary way: deletionTimestamp is set, and the pod is still there."""

    async def delete_pod(self, name: str) -> None:
        """Make it vanish, terminating or not."""

    async def compact(self) -> None:
        """Forget every change up to now: a watch from before the last one of them gets 410."""

    async def stop(self) -> None:
        """Break all connections and refuse new ones."""

    async def start(self, *, history_lost: bool = False) -> None:
        """Serve again at the same address after `stop`, with what was before forgotten as in `compact`.

        With `history_lost` no pod is left either, resource versions begin anew, lower, and tokens
        must be asked for anew: etcd was lost.
        """

    async def freeze(self) -> None:
        """Keep connections open and say nothing, as when the network between is gone."""

    async def thaw(self) -> None:
        """Go on where `freeze` left off."""

    async def request_log(self) -> "list[Request]":
        """The requests for pods of the namespace so far, in order, but for the administrator's."""


@dataclass(frozen=True)
class Request:
    """One that came in."""

    at: float  # seconds, by a clock of the server's
    verb: str  # list, watch, get, …
    path: str
    query: Mapping[str, str]
    status: int  # of HTTP; 0 is not known yet


def pod_object(
    name: str,
    labels: Mapping[str, str],
    *,
    port: int = 5432,
    port_name: str = "postgresql",
) -> dict[str, Any]:
    """A pod as an operator makes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "nodeName": "node-1",  # without one, a deleted pod vanishes at once
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "postgres",
                    "image": "postgres",
                    "ports": [{"name": port_name, "containerPort": port, "protocol": "TCP"}],
                }
            ],
        },
    }


def status_object(*, ip: str | None, phase: str | None, ready: bool | None) -> dict[str, Any]:
    """The part of a pod's status that is told."""
    status: dict[str, Any] = {}
    if ip is not None:
        status["podIP"] = ip
        status["podIPs"] = [{"ip": ip}]
    if phase is not None:
        status["phase"] = phase
    if ready is not None:
        status["conditions"] = [{"type": "Ready", "status": str(ready)}]
    return status


async def mount(api: KubeApi, directory: Path, lifetime: float = 3600) -> None:
    """`token`, `ca.crt` and `namespace`, as a kubelet lays them out in a container.

    Done again, it renews them, each by a rename.
    """
    contents = {
        "token": (await api.token(lifetime)).encode(),
        "ca.crt": api.ca,
        "namespace": api.namespace.encode(),
    }
    for name, content in contents.items():
        new = directory / f"{name}.new"
        new.write_bytes(content)
        new.replace(directory / name)


async def write_kubeconfig(api: KubeApi, directory: Path, url: str = "") -> Path:
    """The path of a kubeconfig in `directory` with the files of `mount`, and another `url` if given."""
    await mount(api, directory)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "test",
                "cluster": {
                    "server": url or api.url,
                    "certificate-authority": str(directory / "ca.crt"),
                },
            }
        ],
        "users": [{"name": "test", "user": {"tokenFile": str(directory / "token")}}],
        "contexts": [
            {
                "name": "test",
                "context": {"cluster": "test", "user": "test", "namespace": api.namespace},
            }
        ],
        "current-context": "test",
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


@asynccontextmanager
async def client(api: KubeApi, token: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client that knows the server by its authority."""
    context = ssl.create_default_context(cadata=api.ca.decode())
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, trust_env=False, read_bufsize=1 << 22
    ) as session:
        yield session
    await asyncio.sleep(0)  # the loop closes a connection in the turn after it was aborted


def reserved_port() -> socket.socket:
    """A socket that keeps a port of 127.0.0.1 for those who share it, and refuses connections.

    So nobody else is given the port while its server is down.
    """
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind(("127.0.0.1", 0))
    return place
