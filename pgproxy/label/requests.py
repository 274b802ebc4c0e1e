"""The requests to the API server beside the watch: pods listed and patched, a Lease read and written.

What goes wrong is logged once, until the same request succeeds again; a refusal names the verb and
the resource that the Role lacks. Conflicts, and objects that are gone, are part of life.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from pgproxy.config import Kubernetes
from pgproxy.topology.apiserver import (
    LONGEST_OBJECT,
    PODS,
    ApiError,
    ApiServer,
    advice,
    api_error,
    read,
    read_list,
    refusal,
)
from pgproxy.topology.schedule import RENEWS, Outcome

LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
CONFLICT: Final = 409
NOT_FOUND: Final = 404

_ORDINARY: Final = {CONFLICT: "conflict", NOT_FOUND: "not_found"}
_SUCCESS: Final = frozenset({200, 201})
_MERGE_PATCH: Final = "application/merge-patch+json"

_log: Final = structlog.stdlib.get_logger()


class Requests:
    """Used by one task; `close` it. `counts` are by verb, resource and outcome."""

    def __init__(
        self, settings: Kubernetes, namespace: str, counts: dict[tuple[str, str, str], int]
    ) -> None:
        self.failing: Final[dict[str, str]] = {}  # by "verb resource": what was said last
        self._settings: Final = settings
        self._namespace: Final = namespace
        self._counts: Final = counts
        self._server: ApiServer | None = None

    async def list_pods(self, selector: str, limit: float) -> tuple[object, ...]:
        """As they are now, not as a cache has them. Raises ApiError, as all of these do; `limit`
        is in seconds."""
        async with self._accounted("list", "pods", limit):
            page = await read_list(self._page, selector)
        return page.items

    async def patch_pod(self, name: str, patch: Mapping[str, Any], limit: float) -> object:
        """The pod as it is afterwards."""
        async with self._accounted("patch", "pods", limit):
            return await self._ask("PATCH", f"{PODS}/{{name}}", name, patch, _MERGE_PATCH)

    async def get_lease(self, name: str, limit: float) -> Any:
        async with self._accounted("get", "leases", limit):
            return await self._ask("GET", f"{LEASES}/{{name}}", name)

    async def create_lease(self, lease: Mapping[str, Any], limit: float) -> Any:
        async with self._accounted("create", "leases", limit):
            return await self._ask("POST", LEASES, "", lease)

    async def update_lease(self, name: str, lease: Mapping[str, Any], limit: float) -> Any:
        async with self._accounted("update", "leases", limit):
            return await self._ask("PUT", f"{LEASES}/{{name}}", name, lease)

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    @asynccontextmanager
    async def _accounted(self, verb: str, resource: str, limit: float) -> AsyncIterator[None]:
        what = f"{verb} {resource}"
        outcome = Outcome.OK.value
        try:
            async with asyncio.timeout(limit):
                yield
        except Exception as error:
            found = api_error(error)
            outcome = _ORDINARY.get(found.status, found.outcome.value)
            if found.status not in _ORDINARY:
                self._failed(verb, resource, found)
            if found.outcome in RENEWS:
                await self.close()
            raise found from error
        else:
            if self.failing.pop(what, ""):
                _log.info("kubernetes_api_recovered", verb=verb, resource=resource)
        finally:
            key = (verb, resource, outcome)
            self._counts[key] = self._counts.get(key, 0) + 1

    def _failed(self, verb: str, resource: str, error: ApiError) -> None:
        what = f"{verb} {resource}"
        group = "" if resource == "pods" else ".coordination.k8s.io"
        rights = f"the verb {verb} on {resource}{group}"
        check = advice(error.outcome, self._namespace, rights)
        said = f"{error.outcome.value}: {check or error}"
        if self.failing.get(what) == said:
            return
        self.failing[what] = said
        _log.warning(
            "kubernetes_api_failed",
            verb=verb,
            resource=resource,
            outcome=error.outcome.value,
            reason=str(error),
            check=check,
        )

    async def _ask(
        self,
        method: str,
        path: str,
        name: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        server = await self._opened()
        response = await server.send(method, path, name=name, body=data, content_type=content_type)
        try:
            if response.status not in _SUCCESS:
                raise await refusal(response)
            answer = json.loads(await read(response, LONGEST_OBJECT))
        finally:
            response.close()
        if not isinstance(answer, dict):
            raise ApiError(Outcome.GARBLED, "the answer is no object")
        return answer

    @asynccontextmanager
    async def _page(self, query: Mapping[str, str]) -> AsyncIterator[Any]:
        server = await self._opened()
        response = await server.send("GET", PODS, query=query)
        try:
            if response.status != 200:
                raise await refusal(response)
            yield response
        finally:
            response.close()

    async def _opened(self) -> ApiServer:
        if self._server is None:
            self._server = await ApiServer.open(self._settings, self._namespace)
        return self._server
