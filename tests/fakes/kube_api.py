"""A Kubernetes API server for pods, in the test's own event loop, that misbehaves to order.

    async with FakeKubeApi() as api:
        await api.create_pod("pg-0", {"role": "primary"}, ip="127.0.0.2")
        api.answer_with(503, times=2)
        api.every_watch_ends = "eof"

Its ordinary conduct is that of kube-apiserver, as tests/support/kube_contract.py has it: the same
tests run on both. What it does not know (fields, other selectors) it refuses with 501. Faults stay
until `heal`.
"""

import asyncio
import copy
import datetime
import json
import secrets
import socket
import ssl
import struct
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self

import trustme
from aiohttp import web

from tests.fakes.kube_selectors import Selector, parse_selector
from tests.support.kube import SERVICE_ACCOUNT, Request, pod_object, status_object

Pod = dict[str, Any]
End = Literal["eof", "cut", "reset", "expired"]
"""How a watch ends: in good order, in the middle of a line, by RST, or with an in-stream 410."""

_QUERY: Final = frozenset(
    "allowWatchBookmarks continue labelSelector limit resourceVersion timeoutSeconds watch".split()
)
_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class _Change:
    version: int
    before: Pod | None
    after: Pod | None


@dataclass
class _Refusal:
    status: int
    verb: str | None
    times: int | None
    retry_after: int | None


@dataclass(eq=False)
class _Watch:
    namespace: str
    selector: Selector
    changes: deque[_Change] = field(default_factory=deque)
    lines: deque[bytes] = field(default_factory=deque)
    end: End | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)


class FakeKubeApi:
    """See the module; a `KubeApi`, and an async context manager."""

    def __init__(self, *, history: int = 1000, bookmark_interval: float = 60.0) -> None:
        self.namespace = f"test-{secrets.token_hex(4)}"
        self.elsewhere = "elsewhere"
        self.requests: Final[list[Request]] = []
        """Every one of them, with the time at which it came (monotonic seconds)."""
        self.bookmark_interval = bookmark_interval
        self.every_watch_ends: End | None = None
        self.drip: float | None = None
        """Seconds between pieces of 100 bytes of everything that a watch sends."""
        self._history_length: Final = history
        self._version = 1000
        self._floor = 0
        self._pods: dict[tuple[str, str], Pod] = {}
        self._changes: Final[deque[_Change]] = deque()
        self._watches: Final[set[_Watch]] = set()
        self._watched: Final = asyncio.Event()
        self._tokens: dict[str, float] = {}
        self._refusals: list[_Refusal] = []
        self._thawed: Final = asyncio.Event()
        self._thawed.set()
        self._authority = trustme.CA()
        self._tls: Final = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._transports: Final[set[asyncio.Transport]] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0
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

    # What KubeApi promises.

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

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
        pod = pod_object(name, labels, port=port, port_name=port_name)
        namespace = namespace or self.namespace
        pod["metadata"] |= {
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": _now(),
        }
        pod["status"] = {"phase": "Pending"}
        self._apply(namespace, name, pod)
        changed = copy.deepcopy(pod)
        changed["status"] |= status_object(ip=ip or None, phase=phase, ready=ready)
        self._apply(namespace, name, changed)
        return copy.deepcopy(changed)

    async def patch_labels(self, name: str, labels: Mapping[str, str | None]) -> None:
        self._patch(name, "labels", labels)

    async def patch_annotations(self, name: str, annotations: Mapping[str, str | None]) -> None:
        self._patch(name, "annotations", annotations)

    async def set_status(
        self,
        name: str,
        *,
        ip: str | None = None,
        phase: str | None = None,
        ready: bool | None = None,
    ) -> None:
        pod = self._copy(name)
        pod["status"] |= status_object(ip=ip, phase=phase, ready=ready)
        self._apply(self.namespace, name, pod)

    async def terminate_pod(self, name: str) -> None:
        if self._copy(name)["status"]["phase"] in {"Succeeded", "Failed"}:
            await self.delete_pod(name)
        else:
            self._delete(name, grace=30)

    async def delete_pod(self, name: str) -> None:
        self._delete(name, grace=0)
        self._apply(self.namespace, name, None)

    async def compact(self) -> None:
        self._changes.clear()
        self._floor = self._version

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            for transport in self._transports:
                if not transport.is_closing():
                    transport.abort()
            self._transports.clear()
            self._thawed.set()
            await runner.cleanup()

    async def start(self, *, history_lost: bool = False) -> None:
        if history_lost:
            self.lose_history()
        await self.compact()
        application = web.Application(client_max_size=1 << 22)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(
            self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True
        ).start()
        self._port = self._runner.addresses[0][1]

    async def freeze(self) -> None:
        self._thawed.clear()

    async def thaw(self) -> None:
        self._thawed.set()

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
        verb: Literal["list", "watch"] | None = None,
        times: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Refuse requests with this HTTP status; with `times`, only so many."""
        self._refusals.append(_Refusal(status, verb, times, retry_after))

    def end_watches(self, how: End = "eof") -> None:
        """End every watch that is open."""
        for watch in self._watches:
            watch.end = how
            watch.news.set()

    def send(self, line: bytes | Mapping[str, Any]) -> None:
        """Say this in every watch that is open: an object as a line, bytes just as they are."""
        raw = line if isinstance(line, bytes) else _line(line)
        for watch in self._watches:
            watch.lines.append(raw)
            watch.news.set()

    def send_error(self, code: int, reason: str | None = None) -> None:
        """An ERROR in every watch that is open; the watches stay open."""
        error = _status(code, f"ordered by the test: {code}")
        del error["reason"]
        self.send({"type": "ERROR", "object": error | ({"reason": reason} if reason else {})})

    def lose_history(self) -> None:
        """As after etcd was made anew: no pod is left, versions are lower, tokens are void.

        Open watches are told nothing, as with an etcd restored from a backup.
        """
        self._pods = {}
        self._tokens = {}
        self._changes.clear()
        self._version = max(1, self._version // 2)
        self._floor = self._version

    def rotate_ca(self) -> None:
        """New connections meet a certificate of a new authority, which `ca` names."""
        self._authority = trustme.CA()
        self._authority.issue_cert("127.0.0.1").configure_cert(self._tls)

    def heal(self) -> None:
        """Take every fault back that was ordered, but for what has already been sent."""
        self._refusals.clear()
        self.every_watch_ends = None
        self.drip = None
        self._thawed.set()

    # How it is done.

    def _copy(self, name: str) -> Pod:
        return copy.deepcopy(self._pods[self.namespace, name])

    def _patch(self, name: str, part: str, values: Mapping[str, str | None]) -> None:
        pod = self._copy(name)
        merged = pod["metadata"].get(part, {}) | values
        pod["metadata"][part] = {key: value for key, value in merged.items() if value is not None}
        self._apply(self.namespace, name, pod)

    def _delete(self, name: str, grace: int) -> None:
        pod = self._copy(name)
        pod["metadata"] |= {
            "deletionTimestamp": _now(grace),
            "deletionGracePeriodSeconds": grace,
        }
        self._apply(self.namespace, name, pod)

    def _apply(self, namespace: str, name: str, after: Pod | None) -> None:
        before = self._pods.pop((namespace, name), None)
        if after is not None and before is not None and after == before:
            self._pods[namespace, name] = before
            return  # a patch that changes nothing makes no event
        self._version += 1
        last = after or copy.deepcopy(before)
        assert last is not None, f"there is no pod {name}"
        last["metadata"]["resourceVersion"] = str(self._version)
        if after is not None:
            self._pods[namespace, name] = after
        change = _Change(self._version, before, after)
        self._changes.append(change)
        if len(self._changes) > self._history_length:
            self._floor = self._changes.popleft().version
        for watch in self._watches:
            watch.changes.append(change)
            watch.news.set()

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        assert isinstance(http.transport, asyncio.Transport)
        self._transports.add(http.transport)
        at = time.monotonic()
        await self._thawed.wait()
        query = dict(http.query)
        watching = query.get("watch") in {"true", "1"}
        parts = http.path.strip("/").split("/")
        pods = parts[:3] == ["api", "v1", "namespaces"] and parts[4:] == ["pods"]
        verb = http.method.lower()
        if verb == "get" and pods:
            verb = "watch" if watching else "list"
        refusal = self._refuse(http, verb, parts if pods else [])
        status = refusal.status if refusal is not None else 200
        self.requests.append(Request(at, verb, http.path, query, status))
        if refusal is not None:
            return refusal
        if unknown := query.keys() - _QUERY:
            return _failure(501, f"the fake does not know {sorted(unknown)}")
        try:
            selector = parse_selector(query.get("labelSelector", ""))
        except ValueError as error:
            return _failure(400, str(error))
        if watching:
            return await self._watch(http, _Watch(parts[3], selector))
        return await self._list(parts[3], selector, query)

    def _refuse(self, http: web.Request, verb: str, parts: list[str]) -> web.Response | None:
        for refusal in self._refusals:
            if refusal.verb in {None, verb} and refusal.times != 0:
                if refusal.times is not None:
                    refusal.times -= 1
                return _failure(
                    refusal.status, "ordered by the test", retry_after=refusal.retry_after
                )
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        user = f"system:serviceaccount:{self.namespace}:{SERVICE_ACCOUNT}"
        if not token:
            user = "system:anonymous"
        elif scheme != "Bearer" or self._tokens.get(token, 0) < time.monotonic():
            return _failure(401, "Unauthorized")
        if user == "system:anonymous" or not parts or parts[3] != self.namespace:
            return _failure(403, f'pods is forbidden: User "{user}" cannot {verb} {http.path}')
        return None

    def _matching(self, namespace: str, selector: Selector) -> list[Pod]:
        return [
            pod
            for (place, _), pod in sorted(self._pods.items())
            if place == namespace and selector(pod["metadata"].get("labels", {}))
        ]

    async def _list(
        self, namespace: str, selector: Selector, query: Mapping[str, str]
    ) -> web.Response:
        if int(query.get("resourceVersion") or 0) > self._version:
            return _failure(504, f"Too large resource version: {query['resourceVersion']}")
        start = 0
        if "continue" in query:
            version, _, offset = query["continue"].partition(".")
            if int(version) < self._floor:
                return _failure(410, "The provided continue parameter is too old")
            start = int(offset)
        found = self._matching(namespace, selector)
        metadata = {"resourceVersion": str(self._version)}
        page = found[start:]
        limit = int(query.get("limit") or 0)
        if 0 < limit < len(page):
            page = page[:limit]
            metadata["continue"] = f"{self._version}.{start + limit}"
        items = [
            {key: value for key, value in pod.items() if key not in {"kind", "apiVersion"}}
            for pod in page
        ]
        return web.json_response(
            {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}
        )

    async def _watch(self, http: web.Request, watch: _Watch) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        # No await before the watch is known, or a change could slip through between.
        asked = int(http.query.get("resourceVersion") or 0)
        if asked == 0:
            for pod in self._matching(watch.namespace, watch.selector):
                watch.lines.append(_line({"type": "ADDED", "object": pod}))
        elif asked < self._floor:
            watch.end = "expired"
        else:
            watch.changes.extend(one for one in self._changes if one.version > asked)
        watch.end = self.every_watch_ends or watch.end
        watch.news.set()
        self._watches.add(watch)
        self._watched.set()
        try:
            await response.prepare(http)
            await self._serve(http, response, watch, asked or self._version)
        except ConnectionError:
            pass  # the client has left
        finally:
            self._watches.discard(watch)
            if not self._watches:
                self._watched.clear()
        return response

    async def _serve(
        self, http: web.Request, response: web.StreamResponse, watch: _Watch, told: int
    ) -> None:
        now = time.monotonic()
        bookmarks = http.query.get("allowWatchBookmarks") in {"true", "1"}
        deadline = now + float(http.query.get("timeoutSeconds") or 1800)
        bookmark_at = min(now + self.bookmark_interval, deadline - 2)
        while watch.end is None and now < deadline:
            while watch.lines or watch.changes:
                if watch.lines:
                    await self._write(response, watch.lines.popleft())
                    continue
                change = watch.changes.popleft()
                if change.version > told and (line := _event(watch, change)) is not None:
                    told = change.version
                    await self._write(response, line)
            watch.news.clear()
            if bookmarks and now >= bookmark_at:
                bookmark_at = now + self.bookmark_interval
                if self._version > told:  # a quiet cluster gets none
                    told = self._version
                    await self._write(response, _bookmark(told))
            wake = min(deadline, bookmark_at) if bookmarks else deadline
            if not watch.news.is_set() and watch.end is None:
                try:
                    async with asyncio.timeout(max(0.001, wake - now)):
                        await watch.news.wait()
                except TimeoutError:
                    pass
            now = time.monotonic()
        await self._finish(http, response, watch.end or "eof")

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        await self._thawed.wait()
        if self.drip is None:
            await response.write(data)
            return
        for start in range(0, len(data), 100):
            await response.write(data[start : start + 100])
            await asyncio.sleep(self.drip)

    async def _finish(self, http: web.Request, response: web.StreamResponse, how: End) -> None:
        await self._thawed.wait()
        match how:
            case "eof":
                pass
            case "cut":
                await response.write(b'{"type":"MODIFIED","object":{"kind":"Pod","apiVer')
            case "expired":
                error = _status(410, f"too old resource version (now {self._version})")
                await response.write(_line({"type": "ERROR", "object": error}))
            case "reset":
                assert isinstance(http.transport, asyncio.Transport)
                raw: socket.socket = http.transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                http.transport.abort()
                return
        await response.write_eof()


def _event(watch: _Watch, change: _Change) -> bytes | None:
    """What a watch is told of a change. A pod that leaves the selector is DELETED, and shows
    itself as it was before, though with the version of the change."""
    before, after = (
        pod
        if pod is not None
        and pod["metadata"]["namespace"] == watch.namespace
        and watch.selector(pod["metadata"].get("labels", {}))
        else None
        for pod in (change.before, change.after)
    )
    if after is not None:
        return _line({"type": "ADDED" if before is None else "MODIFIED", "object": after})
    if before is None:
        return None
    metadata = before["metadata"] | {"resourceVersion": str(change.version)}
    return _line({"type": "DELETED", "object": before | {"metadata": metadata}})


def _bookmark(version: int) -> bytes:
    pod = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": str(version), "creationTimestamp": None},
        "spec": {"containers": None},
        "status": {},
    }
    return _line({"type": "BOOKMARK", "object": pod})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _status(code: int, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, ""),
        "code": code,
    }


def _failure(code: int, message: str, *, retry_after: int | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response(_status(code, message), status=code, headers=headers)


def _now(later: int = 0) -> str:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=later)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
