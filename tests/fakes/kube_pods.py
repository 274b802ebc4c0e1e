"""The pods of the fake API server: versions, history, and what a watch is told of a change."""

import copy
import datetime
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tests.fakes.kube_selectors import Selector

Pod = dict[str, Any]

_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Change:
    """A pod that came (`before` is None), changed, or went (`after` is None)."""

    version: int
    before: Pod | None
    after: Pod | None


class PodStore:
    """All pods of all namespaces, and the last `history` changes. Pods in it are never changed,
    only replaced."""

    def __init__(self, history: int, on_change: Callable[[Change], None]) -> None:
        self.version = 1000
        self.floor = 0
        """What was changed up to this version is not known any more."""
        self._pods: Final[dict[tuple[str, str], Pod]] = {}
        self._changes: Final[deque[Change]] = deque()
        self._history: Final = history
        self._on_change: Final = on_change

    def create(self, namespace: str, pod: Pod) -> None:
        metadata = pod["metadata"] | {
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": _time(),
        }
        key = (namespace, metadata["name"])
        assert key not in self._pods, f"there is a pod {key} already"
        self._replace(key, pod | {"metadata": metadata, "status": {"phase": "Pending"}})

    def has(self, namespace: str, name: str) -> bool:
        return (namespace, name) in self._pods

    def get(self, namespace: str, name: str) -> Pod:
        """A copy."""
        return copy.deepcopy(self._pods[namespace, name])

    def patch(self, namespace: str, name: str, part: str, values: Mapping[str, str | None]) -> None:
        """Change the metadata's `part` by a merge patch."""
        pod = self.get(namespace, name)
        pod["metadata"][part] = _merged(pod["metadata"].get(part, {}), values)
        self._replace((namespace, name), pod)

    def merge(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Pod | None:
        """A merge patch of labels and annotations; None: it is for the pod as it is no more."""
        metadata = dict(patch["metadata"])
        pod = self.get(namespace, name)
        version = pod["metadata"]["resourceVersion"]
        if metadata.pop("resourceVersion", version) != version:
            return None
        for part, values in metadata.items():
            assert part in {"labels", "annotations"}, part
            pod["metadata"][part] = _merged(pod["metadata"].get(part, {}), values)
        self._replace((namespace, name), pod)
        return self.get(namespace, name)

    def next_version(self) -> int:
        """For another object."""
        self.version += 1
        return self.version

    def set_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        pod = self.get(namespace, name)
        pod["status"] |= status
        self._replace((namespace, name), pod)

    def delete(self, namespace: str, name: str, grace: int) -> None:
        """Terminating for `grace` seconds, that is until it is deleted with 0."""
        pod = self.get(namespace, name)
        if pod["status"]["phase"] in {"Succeeded", "Failed"}:
            grace = 0
        pod["metadata"] |= {
            "deletionTimestamp": _time(grace),
            "deletionGracePeriodSeconds": grace,
        }
        self._replace((namespace, name), pod)
        if grace == 0:
            self._replace((namespace, name), None)

    def matching(self, namespace: str, selector: Selector) -> list[Pod]:
        """By name."""
        return [
            pod
            for (place, _), pod in sorted(self._pods.items())
            if place == namespace and selector(pod["metadata"].get("labels", {}))
        ]

    def since(self, version: int) -> Iterable[Change]:
        return [change for change in self._changes if change.version > version]

    def compact(self) -> None:
        self._changes.clear()
        self.floor = self.version

    def lose(self) -> None:
        """No pod is left, nobody is told, and versions go on from a lower one."""
        self._pods.clear()
        self.version = max(1, self.version // 2)
        self.compact()

    def _replace(self, key: tuple[str, str], after: Pod | None) -> None:
        before = self._pods.get(key)
        if after is not None and after == before:
            return  # a patch that changes nothing makes no event
        self.version += 1
        if after is None:
            del self._pods[key]
        else:
            after["metadata"]["resourceVersion"] = str(self.version)
            self._pods[key] = after
        change = Change(self.version, before, after)
        self._changes.append(change)
        if len(self._changes) > self._history:
            self.floor = self._changes.popleft().version
        self._on_change(change)


def event(change: Change, namespace: str, selector: Selector) -> dict[str, Any] | None:
    """What one who watches these is told; None if nothing.

    A pod that leaves the selector is DELETED, and shows itself as it was before, though with the
    version of the change.
    """
    before, after = (
        pod
        if pod is not None
        and pod["metadata"]["namespace"] == namespace
        and selector(pod["metadata"].get("labels", {}))
        else None
        for pod in (change.before, change.after)
    )
    if after is not None:
        return {"type": "ADDED" if before is None else "MODIFIED", "object": after}
    if before is None:
        return None
    metadata = before["metadata"] | {"resourceVersion": str(change.version)}
    return {"type": "DELETED", "object": before | {"metadata": metadata}}


def bookmark(version: int) -> dict[str, Any]:
    pod = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": str(version), "creationTimestamp": None},
        "spec": {"containers": None},
        "status": {},
    }
    return {"type": "BOOKMARK", "object": pod}


def status_of_failure(code: int, message: str) -> dict[str, Any]:
    """The Status object that says so."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, ""),
        "code": code,
    }


def _merged(old: Mapping[str, str], values: Mapping[str, str | None]) -> dict[str, str]:
    """By a merge patch: None removes."""
    return {key: value for key, value in {**old, **values}.items() if value is not None}


def failure(
    code: int, message: str, retry_after: int | None = None, reason: str = ""
) -> web.Response:
    """The answer that says so."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    status = status_of_failure(code, message)
    if reason:
        status["reason"] = reason
    return web.json_response(status, status=code, headers=headers)


def _time(later: int = 0) -> str:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=later)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
