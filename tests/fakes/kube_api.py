"""A Kubernetes API server for pods and Leases, in the test's own event loop, that misbehaves to order.

    async with FakeKubeApi() as api:
        await api.create_pod("pg-0", {"role": "primary"}, ip="127.0.0.2")
        api.answer_with(503, times=2)
        api.faults.every_watch_ends = "eof"

Its ordinary conduct is that of kube-apiserver, as tests/support/kube_contract.py has it: the same
tests run on both. What it does not know (fields, other selectors) it refuses with 501. Faults stay
until `heal`.
"""

import asyncio
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self

import trustme
from aiohttp import web

from tests.fakes.kube_leases import LeaseStore
from tests.fakes.kube_pods import Change, Pod, PodStore, failure, status_of_failure
from tests.fakes.kube_selectors import parse_selector
from tests.fakes.kube_watch import End, Watch, WatchFaults, as_line
from tests.support.kube import SERVICE_ACCOUNT, Request, pod_object, reserved_port, status_object

_QUERY: Final = frozenset(
    "allowWatchBookmarks continue labelSelector limit resourceVersion timeoutSeconds watch".split()
)


@dataclass
class _Refusal:
    status: int
    verb: str | None
    times: int | None
    retry_after: int | None


class FakeKubeApi:
    """See the module; a `KubeApi`, and an async context manager."""

    def __init__(self, *, history: int = 1000, bookmark_interval: float = 60.0) -> None:
        self.namespace = f"test-{secrets.token_hex(4)}"
        self.elsewhere = "elsewhere"
        self.requests: Final[list[Request]] = []
        """Every one of them, with the time at which it came (monotonic seconds)."""
        self.page_limit = 0
        """So many pods in each page of a list that asks for no limit itself; 0: all."""
        self.faults: Final = WatchFaults(bookmark_interval)
        self.rights: Final[set[tuple[str, str]]] = {("list", "pods"), ("watch", "pods")}
        """Verbs and resources that the ServiceAccount may use."""
        self._pods: Final = PodStore(history, self._tell)
        self.held: asyncio.Task[web.Response] | None = None
        """The patch that `hold_patch` caught."""
        self._hold: tuple[Callable[[Mapping[str, Any]], bool], asyncio.Event] | None = None
        self.leases: Final = LeaseStore(self._pods.next_version)
        self._watches: Final[set[Watch]] = set()
        self._watched: Final = asyncio.Event()
        self._tokens: dict[str, float] = {}
        self._refusals: list[_Refusal] = []
        self._authority = trustme.CA()
        self._tls: Final = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._transports: Final[set[asyncio.Transport]] = set()
        self._runner: web.AppRunner | None = None
        self._place: Final = reserved_port()
        self.rotate_ca()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        self._place.close()

    # What KubeApi promises.

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._place.getsockname()[1]}"

    @property
    def ca(self) -> bytes:
        return self._authority.cert_pem.bytes()

    async def token(self, lifetime: float = 3600) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = time.monotonic() + lifetime
        return token

    async def revoke_tokens(self) -> None:
        self._tokens.clear()

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
    ) -> Pod:
        namespace = namespace or self.namespace
        self._pods.create(namespace, pod_object(name, labels, port=port, port_name=port_name))
        status = status_object(ip=ip or None, phase=phase, ready=ready)
        self._pods.set_status(namespace, name, status)
        return self._pods.get(namespace, name)

    async def patch_labels(self, name: str, labels: Mapping[str, str | None]) -> None:
        self._pods.patch(self.namespace, name, "labels", labels)

    async def patch_annotations(self, name: str, annotations: Mapping[str, str | None]) -> None:
        self._pods.patch(self.namespace, name, "annotations", annotations)

    async def set_status(
        self,
        name: str,
        *,
        ip: str | None = None,
        phase: str | None = None,
        ready: bool | None = None,
    ) -> None:
        status = status_object(ip=ip, phase=phase, ready=ready)
        self._pods.set_status(self.namespace, name, status)

    async def terminate_pod(self, name: str) -> None:
        self._pods.delete(self.namespace, name, grace=30)

    async def delete_pod(self, name: str) -> None:
        self._pods.delete(self.namespace, name, grace=0)

    async def compact(self) -> None:
        self._pods.compact()

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            for transport in self._transports:
                if not transport.is_closing():
                    transport.abort()
            self._transports.clear()
            self.faults.thawed.set()
            await runner.cleanup()
            await asyncio.sleep(0)  # the loop closes a connection in the turn after its abort

    async def start(self, *, history_lost: bool = False) -> None:
        if history_lost:
            self.lose_history()
        await self.compact()
        application = web.Application(client_max_size=1 << 22)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        host, port = self._place.getsockname()
        await web.TCPSite(
            self._runner, host, port, ssl_context=self._tls, reuse_address=True, reuse_port=True
        ).start()

    async def freeze(self) -> None:
        self.faults.thawed.clear()

    async def thaw(self) -> None:
        self.faults.thawed.set()

    async def request_log(self) -> list[Request]:
        return list(self.requests)

    # What only the fake can do.

    @property
    def watches(self) -> int:
        """How many are open."""
        return len(self._watches)

    async def watched(self) -> None:
        """Wait until a watch is open."""
        await self._watched.wait()

    def answer_with(
        self,
        status: int,
        *,
        verb: Literal["list", "watch", "patch", "get", "create", "update"] | None = None,
        times: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Refuse requests with this HTTP status; with `times`, only so many."""
        self._refusals.append(_Refusal(status, verb, times, retry_after))

    def hold_patch(self, which: Callable[[Mapping[str, Any]], bool]) -> asyncio.Event:
        """Do the first such patch of a pod only when the event is set that this returns."""
        released = asyncio.Event()
        self._hold = which, released
        return released

    def end_watches(self, how: End = "eof") -> None:
        """End every watch that is open."""
        for watch in self._watches:
            watch.end(how)

    def send(self, line: bytes | Mapping[str, Any]) -> None:
        """Say this in every watch that is open: an object as a line, bytes just as they are."""
        for watch in self._watches:
            watch.say(line if isinstance(line, bytes) else as_line(line))

    def send_error(self, code: int, reason: str | None = None) -> None:
        """An ERROR in every watch that is open; the watches stay open."""
        error = status_of_failure(code, f"ordered by the test: {code}")
        del error["reason"]
        self.send({"type": "ERROR", "object": error | ({"reason": reason} if reason else {})})

    def lose_history(self) -> None:
        """As after etcd was made anew: no pod is left, versions are lower, tokens are void.

        Open watches are told nothing, as with an etcd restored from a backup.
        """
        self._pods.lose()
        self._tokens = {}

    def rotate_ca(self) -> None:
        """New connections meet a certificate of a new authority, which `ca` names."""
        self._authority = trustme.CA()
        self._authority.issue_cert("127.0.0.1").configure_cert(self._tls)

    def heal(self) -> None:
        """Take every fault back that was ordered, but for what has already been sent."""
        self._refusals.clear()
        self.faults.heal()

    # How it is done.

    def _tell(self, change: Change) -> None:
        for watch in self._watches:
            watch.tell(change)

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        assert isinstance(http.transport, asyncio.Transport)
        self._transports.add(http.transport)
        at = time.monotonic()
        await self.faults.thawed.wait()
        query = dict(http.query)
        asked = _asked(http.method, http.path.strip("/").split("/"), query)
        body = await http.read()
        answer = self._refusal(http, asked)
        if answer is None and asked.verb == "list":
            answer = self._list(asked.namespace, query)
        elif answer is None and asked.verb != "watch":
            if asked.resource == "leases":
                answer = self.leases.answer(asked.verb, asked.namespace, asked.name, body)
            else:
                answer = await self._patch_in_time(asked, http.content_type, body)
        code = 200 if answer is None else answer.status
        if asked.resource != "leases":
            self.requests.append(Request(at, asked.verb, http.path, query, code))
        return answer or await self._watch(http, asked.namespace)

    def _refusal(self, http: web.Request, asked: "_Asked") -> web.Response | None:
        for refusal in self._refusals:
            if refusal.verb in {None, asked.verb} and refusal.times != 0:
                if refusal.times is not None:
                    refusal.times -= 1
                return failure(refusal.status, "ordered by the test", refusal.retry_after)
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        user = f"system:serviceaccount:{self.namespace}:{SERVICE_ACCOUNT}"
        if not token:
            user = "system:anonymous"
        elif scheme.lower() != "bearer" or self._tokens.get(token, 0) < time.monotonic():
            return failure(401, "Unauthorized")
        is_right = (asked.verb, asked.resource) in self.rights
        if not token or not is_right or asked.namespace != self.namespace:
            text = f'{asked.resource or "this"} is forbidden: User "{user}" cannot {asked.verb}'
            return failure(403, f"{text} {http.path}")
        if unknown := http.query.keys() - _QUERY:
            return failure(501, f"the fake does not know {sorted(unknown)}")
        try:
            parse_selector(http.query.get("labelSelector", ""))
        except ValueError as error:
            return failure(400, str(error))
        return None

    async def _patch_in_time(self, asked: "_Asked", content_type: str, body: bytes) -> web.Response:
        if self._hold is None or not self._hold[0](json.loads(body)):
            return self._patch(asked, content_type, body)
        (_, released), self._hold = self._hold, None

        async def patch() -> web.Response:
            await released.wait()
            return self._patch(asked, content_type, body)

        # It is done although its sender has left, as on a server that was too busy to notice.
        self.held = asyncio.get_running_loop().create_task(patch())
        return await asyncio.shield(self.held)

    def _patch(self, asked: "_Asked", content_type: str, body: bytes) -> web.Response:
        if content_type != "application/merge-patch+json":
            return failure(415, f"the fake knows no {content_type}")
        if not self._pods.has(asked.namespace, asked.name):
            return failure(404, f'pods "{asked.name}" not found')
        pod = self._pods.merge(asked.namespace, asked.name, json.loads(body))
        if pod is None:
            return failure(409, f'Operation cannot be fulfilled on pods "{asked.name}"')
        return web.json_response(pod)

    def _list(self, namespace: str, query: Mapping[str, str]) -> web.Response:
        if int(query.get("resourceVersion") or 0) > self._pods.version:
            return failure(504, f"Too large resource version: {query['resourceVersion']}")
        start = 0
        if "continue" in query:
            version, _, offset = query["continue"].partition(".")
            if int(version) < self._pods.floor:
                return failure(410, "The provided continue parameter is too old")
            start = int(offset)
        selector = parse_selector(query.get("labelSelector", ""))
        page = self._pods.matching(namespace, selector)[start:]
        metadata = {"resourceVersion": str(self._pods.version)}
        limit = int(query.get("limit") or self.page_limit)
        if 0 < limit < len(page):
            page = page[:limit]
            metadata["continue"] = f"{self._pods.version}.{start + limit}"
        items = [
            {key: value for key, value in pod.items() if key not in {"kind", "apiVersion"}}
            for pod in page
        ]
        return web.json_response(
            {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}
        )

    async def _watch(self, http: web.Request, namespace: str) -> web.StreamResponse:
        # No await before the watch is known, or a change could slip through between.
        selector = parse_selector(http.query.get("labelSelector", ""))
        watch = Watch(self._pods, self.faults, namespace, selector, http.query)
        self._watches.add(watch)
        self._watched.set()
        try:
            return await watch.serve(http)
        finally:
            self._watches.discard(watch)
            if not self._watches:
                self._watched.clear()


@dataclass(frozen=True)
class _Asked:
    verb: str  # as RBAC has it
    resource: str = ""  # of those that the fake has
    namespace: str = ""
    name: str = ""


def _asked(method: str, parts: list[str], query: Mapping[str, str]) -> _Asked:
    verb = {"POST": "create", "PUT": "update"}.get(method, method.lower())
    match parts:
        case ["api", "v1", "namespaces", namespace, "pods"] if verb == "get":
            verb = "watch" if query.get("watch") in {"true", "1"} else "list"
            return _Asked(verb, "pods", namespace)
        case ["api", "v1", "namespaces", namespace, "pods", name]:
            return _Asked(verb, "pods", namespace, name)
        case ["apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases"]:
            verb = "list" if verb == "get" else verb
            return _Asked(verb, "leases", namespace)
        case ["apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases", name]:
            return _Asked(verb, "leases", namespace, name)
        case ["api", "v1", "namespaces", namespace, *_]:
            return _Asked(verb, "", namespace)
    return _Asked(verb)
