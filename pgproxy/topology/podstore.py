"""PURE. What the API server has said of the pods: lists and events in, a snapshot out.

The store keeps of each pod what routing wants to know and nothing else, so that an event that
changes only annotations or a status message, which Patroni writes in every loop, changes nothing.
A list replaces everything; what it does not name is gone, whatever happened to its event.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from pgproxy.topology.model import Backend
from pgproxy.topology.pods import (
    backend_of,
    ignored_weight,
    name_of,
    resource_version_of,
    uid_of,
    why_not,
)
from pgproxy.topology.presets import Rules
from pgproxy.topology.schedule import Outcome

_GONE_REASONS: Final = frozenset({"Expired", "Gone"})


@final
@dataclass(frozen=True)
class Page:
    """A part of a list; `continues` asks for the next one, and is empty in the last."""

    items: tuple[object, ...]
    resource_version: str
    continues: str


@final
@dataclass(frozen=True)
class Event:
    """One event of a watch. `kind` is the metric's label, `outcome` is set if it ends the watch."""

    kind: str
    resource_version: str = ""  # empty: as it was
    outcome: Outcome | None = None
    message: str = ""
    retry_after: float = 0.0


@final
class Store:
    def __init__(self, rules: Rules) -> None:
        self._rules: Final = rules
        self._pods: dict[str, tuple[str, Backend | None]] = {}  # by name: uid and what it is
        self._reasons: dict[str, str] = {}  # why a pod is no backend
        self.ignored: dict[str, str] = {}  # by pod, what of it is not taken up, and why

    @property
    def pods(self) -> int:
        """How many pods the selector has found."""
        return len(self._pods)

    @property
    def reasons(self) -> dict[str, str]:
        """By pod, why it is no backend."""
        return dict(self._reasons)

    def snapshot(self) -> tuple[Backend, ...]:
        """The backends, by name."""
        found = [backend for _, backend in self._pods.values() if backend is not None]
        return tuple(sorted(found, key=lambda backend: backend.name))

    def replace(self, pods: tuple[object, ...]) -> None:
        """A list: these pods and no others."""
        self._pods, self._reasons, self.ignored = {}, {}, {}
        for pod in pods:
            name = name_of(pod)
            if name:
                self._put(name, pod)

    def take(self, line: bytes) -> tuple[Event, bool]:
        """One line of a watch: the event, and whether it changed a backend."""
        try:
            event: Any = json.loads(line)
        except (ValueError, RecursionError):
            return _garbled("invalid", "a line that is not JSON"), False
        if not isinstance(event, dict):
            return _garbled("invalid", "a line that is no JSON object"), False
        kind, thing = event.get("type"), event.get("object")
        if kind == "BOOKMARK":
            return Event("bookmark", resource_version_of(thing)), False
        if kind == "ERROR":
            return error_event(thing), False
        change: Callable[[str, object], bool]
        if kind in ("ADDED", "MODIFIED"):
            change = self._put
        elif kind == "DELETED":
            # Its labels are those from before it left the selector: not to be read.
            change = self._remove
        else:
            return _garbled("unknown", f"an event of an unknown type, {str(kind)[:40]!r}"), False
        name = name_of(thing)
        if not name:
            return _garbled("invalid", f"an event {kind} of a pod without a name"), False
        changed = change(name, thing)
        return Event(kind.lower(), resource_version_of(thing)), changed

    def _put(self, name: str, pod: object) -> bool:
        backend = backend_of(pod, self._rules)
        _, before = self._pods.get(name, ("", None))
        self._pods[name] = (uid_of(pod), backend)
        if backend is None:
            self._reasons[name] = why_not(pod, self._rules)
        else:
            self._reasons.pop(name, None)
        ignored = ignored_weight(pod)
        if ignored:
            self.ignored[name] = ignored
        else:
            self.ignored.pop(name, None)
        return backend != before

    def _remove(self, name: str, pod: object) -> bool:
        uid, before = self._pods.get(name, ("", None))
        if uid_of(pod) not in ("", uid):
            return False  # the one before; its successor of the same name is here already
        self._pods.pop(name, None)
        self._reasons.pop(name, None)
        self.ignored.pop(name, None)
        return before is not None


def read_page(body: bytes) -> Page | None:
    """The answer to a LIST; None if it is no list of a known version."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    items = answer.get("items", "missing")
    version = resource_version_of(answer)
    if items is None:  # Go's way to write a slice that was never made
        items = []
    if not isinstance(items, list) or not version:
        return None
    continues = answer["metadata"].get("continue")
    return Page(tuple(items), version, continues if isinstance(continues, str) else "")


def message_of(body: bytes) -> str:
    """What a refusal says: of a Status its message, else the beginning of the text."""
    try:
        status: Any = json.loads(body)
    except (ValueError, RecursionError):
        status = None
    if isinstance(status, dict) and isinstance(status.get("message"), str):
        return str(status["message"])
    return " ".join(body[:200].decode("utf-8", "replace").split())


def error_event(status: object) -> Event:
    """An error within a watch: a Status, of which any field may be missing."""
    table = status if isinstance(status, dict) else {}
    message = str(table.get("message") or table.get("reason") or "an error without a message")
    if table.get("code") == 410 or table.get("reason") in _GONE_REASONS:
        return Event("error", outcome=Outcome.GONE, message=message)
    details = table.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else 0
    return Event(
        "error",
        outcome=Outcome.THROTTLED if table.get("code") == 429 else Outcome.ERROR,
        message=message,
        retry_after=float(min(seconds, 3600)) if isinstance(seconds, int) else 0.0,
    )


def _garbled(kind: str, message: str) -> Event:
    return Event(kind, outcome=Outcome.GARBLED, message=message)
