"""The Leases of the fake API server, as a client that creates, reads and replaces them sees them."""

import json
import uuid
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from tests.fakes.kube_pods import failure

Lease = dict[str, Any]


class LeaseStore:
    """Of all namespaces. `version` gives the next resource version."""

    def __init__(self, version: Callable[[], int]) -> None:
        self._leases: Final[dict[tuple[str, str], Lease]] = {}
        self._version: Final = version

    def get(self, namespace: str, name: str) -> Lease | None:
        return self._leases.get((namespace, name))

    def answer(self, verb: str, namespace: str, name: str, body: bytes) -> web.Response:
        """To one request whose sender may make it."""
        sent: Lease = json.loads(body) if body else {}
        if verb == "create":
            return self._create(namespace, sent)
        found = self._leases.get((namespace, name))
        if found is None:
            return failure(404, f'leases.coordination.k8s.io "{name}" not found')
        if verb == "get":
            return web.json_response(found)
        assert verb == "update", verb
        version = found["metadata"]["resourceVersion"]
        if sent["metadata"].get("resourceVersion") != version:
            return failure(409, f'Operation cannot be fulfilled on leases "{name}"')
        return web.json_response(self._put(namespace, found["metadata"] | sent["metadata"], sent))

    def _create(self, namespace: str, sent: Lease) -> web.Response:
        name = sent["metadata"]["name"]
        if (namespace, name) in self._leases:
            text = f'leases.coordination.k8s.io "{name}" already exists'
            return failure(409, text, reason="AlreadyExists")
        metadata = sent["metadata"] | {"namespace": namespace, "uid": str(uuid.uuid4())}
        return web.json_response(self._put(namespace, metadata, sent), status=201)

    def _put(self, namespace: str, metadata: dict[str, Any], sent: Lease) -> Lease:
        lease = sent | {"metadata": metadata | {"resourceVersion": str(self._version())}}
        self._leases[namespace, metadata["name"]] = lease
        return lease
