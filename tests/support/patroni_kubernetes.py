"""Kubernetes as Patroni's DCS: its namespace, rights and pods on a real API server.

    with KubernetesDcs.create(url, ca, admin_token) as dcs, PatroniCluster.start(dcs) as patroni:
        ...

Patroni keeps its lock in a ConfigMap and labels its own pod (docs/kubernetes.rst there). What a
kubelet would say of the pods, that they run and at which address, is said here.
"""

import http.client
import json
import secrets
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import yaml

from tests.support.kube_admin import RBAC
from tests.support.patroni import SCOPE
from tests.support.patroni_member import Member
from tests.support.processes import Closing

LABELS: Final = {"application": "patroni"}
"""On every pod, beside `cluster-name`."""

SELECTOR: Final = f"application=patroni,cluster-name={SCOPE}"

_ACCOUNT: Final = "patroni"
_ROLES: Final = "rbac.authorization.k8s.io"
# What Patroni needs when it keeps its state in ConfigMaps (its kubernetes/patroni_k8s.yaml).
_RULES: Final = [
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "verbs": "create get list patch update watch delete deletecollection".split(),
    },
    {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["get", "list", "patch", "update", "watch"],
    },
]
# What pgproxy needs.
(_LIST_AND_WATCH,) = (
    one["rules"] for one in yaml.safe_load_all(RBAC.read_text()) if one["kind"] == "Role"
)


class KubernetesDcs(Closing):
    """A namespace of its own, deleted at the end with all that is in it."""

    def __init__(self, url: str, ca: bytes, admin_token: str, namespace: str) -> None:
        """Use `create`."""
        self.url: Final = url
        self.ca: Final = ca
        self.namespace: Final = namespace
        self._address: Final = urlsplit(url)
        self._tls: Final = ssl.create_default_context(cadata=ca.decode())
        self._headers: Final = {"Authorization": f"Bearer {admin_token}"}
        self._patroni_token = ""

    @classmethod
    def create(cls, url: str, ca: bytes, admin_token: str) -> Self:
        """Make the namespace, and Patroni's rights in it. Raises `OSError`."""
        dcs = cls(url, ca, admin_token, f"patroni-{secrets.token_hex(4)}")
        dcs.request(
            "POST", "/api/v1/namespaces", {"metadata": {"name": dcs.namespace}, "kind": "Namespace"}
        )
        dcs._patroni_token = dcs.account(_ACCOUNT, _RULES)
        return dcs

    def close(self) -> None:
        self.request("DELETE", self.path("pods?gracePeriodSeconds=0"))
        self.request("DELETE", f"/api/v1/namespaces/{self.namespace}")

    # --- what Patroni asks for: see tests/support/patroni.py, Dcs

    def register(self, members: list[Member]) -> None:
        """A running, ready pod for each."""
        directory = members[0].directory
        ca, kubeconfig = directory / "ca.crt", directory / "kubeconfig"
        ca.write_bytes(self.ca)
        self.write_kubeconfig(kubeconfig, self._patroni_token, ca)
        for path in (ca, kubeconfig):
            path.chmod(0o644)  # Patroni is another user; the token dies with the namespace
        for member in members:
            self.create_pod(member)

    def config(self, member: Member) -> Mapping[str, object]:
        """Patroni's section `kubernetes`."""
        return {
            "kubernetes": {
                "namespace": self.namespace,
                "context": "patroni",
                "labels": LABELS,
                "scope_label": "cluster-name",
                "use_endpoints": False,
                "pod_ip": member.host,
            }
        }

    def environment(self, member: Member) -> Mapping[str, str]:
        """Where its client finds server and token."""
        return {"KUBECONFIG": str(member.directory / "kubeconfig")}

    # --- what an operator or a kubelet does

    def create_pod(self, member: Member) -> dict[str, Any]:
        """Its pod, as a StatefulSet makes it, then running and ready; returns it."""
        pod = {
            "kind": "Pod",
            "metadata": {"name": member.name, "labels": {**LABELS, "cluster-name": SCOPE}},
            "spec": {
                "nodeName": f"node-of-{member.name}",
                "automountServiceAccountToken": False,
                "containers": [
                    {
                        "name": "postgres",
                        "image": "patroni",
                        "ports": [{"containerPort": member.port}],
                    }
                ],
            },
        }
        self.request("POST", self.path("pods"), pod)
        return self.set_status(
            member.name,
            {
                "phase": "Running",
                "podIP": member.host,
                "podIPs": [{"ip": member.host}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        )

    def set_status(self, name: str, status: Mapping[str, object]) -> dict[str, Any]:
        """What the kubelet says of a pod; returns the pod."""
        return self.request("PATCH", self.path(f"pods/{name}/status"), {"status": status})

    def account(self, name: str, rules: list[dict[str, Any]]) -> str:
        """A ServiceAccount with these rights in the namespace; its token, good for an hour."""
        self.request(
            "POST",
            self.path("serviceaccounts"),
            {"metadata": {"name": name}, "kind": "ServiceAccount"},
        )
        rights = f"/apis/{_ROLES}/v1/namespaces/{self.namespace}"
        role = {"metadata": {"name": name}, "kind": "Role", "rules": rules}
        self.request("POST", f"{rights}/roles", {"apiVersion": f"{_ROLES}/v1", **role})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
        binding = {
            "apiVersion": f"{_ROLES}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": _ROLES, "kind": "Role", "name": name},
            "subjects": [subject],
        }
        self.request("POST", f"{rights}/rolebindings", binding)
        asked = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
        answer = self.request("POST", self.path(f"serviceaccounts/{name}/token"), asked)
        return str(answer["status"]["token"])

    def discovery(self, port: int, directory: Path) -> dict[str, Any]:
        """The sections of pgproxy's configuration that find the members by their pods.

        Its kubeconfig, with the rights of its Role, is written into `directory`.
        """
        ca, kubeconfig = directory / "ca.crt", directory / "kubeconfig"
        ca.write_bytes(self.ca)
        self.write_kubeconfig(kubeconfig, self.account("pgproxy", _LIST_AND_WATCH), ca)
        pods = {
            "namespace": self.namespace,
            "preset": "patroni",
            "cluster": SCOPE,
            "port": port,
            "kubeconfig": str(kubeconfig),
        }
        return {"discovery": {"mode": "kubernetes"}, "discovery.kubernetes": pods}

    # --- requests

    def path(self, resource: str) -> str:
        """Of a resource in the namespace."""
        return f"/api/v1/namespaces/{self.namespace}/{resource}"

    def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Ask as the administrator; the object. Raises `OSError` with what the server said."""
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        connection = self._connect(timeout=30)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps({"apiVersion": "v1", **body}),
                {**self._headers, "Content-Type": kind},
            )
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status not in range(200, 300):
            raise OSError(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        found = json.loads(text)
        assert isinstance(found, dict)
        return found

    def watch(self, resource: str, seconds: int) -> Iterator[dict[str, Any]]:
        """Events of `pods` or `configmaps` with our labels, those that exist first, for so long."""
        connection = self._connect(timeout=seconds + 10)
        query = f"watch=1&labelSelector={quote(SELECTOR)}&timeoutSeconds={seconds}"
        try:
            connection.request("GET", f"{self.path(resource)}?{query}", headers=self._headers)
            answer = connection.getresponse()
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def write_kubeconfig(self, path: Path, token: str, ca: Path) -> None:
        """A kubeconfig with a token; the authority's certificate lies at `ca`."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": self.url, "certificate-authority": str(ca)}}
            ],
            "users": [{"name": "patroni", "user": {"token": token}}],
            "contexts": [
                {
                    "name": "patroni",
                    "context": {
                        "cluster": "test",
                        "user": "patroni",
                        "namespace": self.namespace,
                    },
                }
            ],
            "current-context": "patroni",
        }
        path.write_text(json.dumps(config))  # JSON is YAML

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        host, port = self._address.hostname, self._address.port
        assert host is not None
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
