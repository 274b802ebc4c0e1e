"""What happens in which order when Patroni moves the primary: labels, locks and the servers' word.

with Timeline(dcs, patroni.members) as timeline:
    timeline.mark("switchover")
    ...
print(timeline.text())
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from tests.support.patroni_kubernetes import KubernetesDcs
from tests.support.patroni_member import Member

_POLL: Final = 0.01  # seconds between two questions to a server
_SECONDS: Final = 300  # for which the API server may be watched


@dataclass(frozen=True, slots=True)
class Event:
    """Something has become another than it was."""

    at: float  # time.monotonic()
    who: str  # a member, a ConfigMap, or "test"
    what: str  # "label", "annotation", "sql", "lock" or "mark"
    value: str


class Timeline:
    """Records until its `with` block ends."""

    def __init__(self, dcs: KubernetesDcs | None, members: Sequence[Member]) -> None:
        """Watch the pods and ConfigMaps of `dcs`, if Kubernetes is the DCS, and ask each of `members` a
        hundred times a second."""
        self._events: Final[list[Event]] = []
        self._state: Final[dict[tuple[str, str], str]] = {}
        self._news: Final = threading.Condition()
        self._stopped = False
        watched = {} if dcs is None else {"pods": self._pod, "configmaps": self._config_map}
        self._threads: Final = [
            threading.Thread(target=self._watch, args=(dcs, resource, note), daemon=True)
            for resource, note in watched.items()
        ]
        self._askers: Final = [
            threading.Thread(target=self._ask, args=(member,)) for member in members
        ]

    def __enter__(self) -> Self:
        for thread in (*self._threads, *self._askers):
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped = True
        for thread in self._askers:
            thread.join()

    def mark(self, value: str) -> float:
        """Note what the test does, and when: the moment is returned."""
        self._note("test", "mark", value)
        return self.events()[-1].at

    def events(self) -> list[Event]:
        """All so far, in order."""
        with self._news:
            return sorted(self._events, key=lambda event: event.at)

    def first(self, who: str, what: str, value: str, after: float = 0) -> float:
        """When it became so (what it is begins with `value`), after a moment. Raises `KeyError` if it
        has not."""
        for event in self.events():
            is_it = (event.who, event.what) == (who, what) and event.value.startswith(value)
            if is_it and event.at >= after:
                return event.at
        raise KeyError(f"{who} {what} {value}:\n{self.text()}")

    def state(self, who: str, what: str) -> str | None:
        """What it is now, if anything was seen of it."""
        with self._news:
            return self._state.get((who, what))

    def wait(self, who: str, what: str, value: str, timeout: float = 60) -> None:
        """Wait until it is so. Raises `TimeoutError`."""
        with self._news:
            if not self._news.wait_for(lambda: self._state.get((who, what)) == value, timeout):
                raise TimeoutError(f"{who} {what} is {self._state.get((who, what))}, not {value}")

    def text(self, zero: float | None = None) -> str:
        """One line for each event, in seconds from `zero` (default: the last mark)."""
        events = self.events()
        marks = [event.at for event in events if event.what == "mark"]
        start = zero if zero is not None else marks[-1] if marks else events[0].at
        return "\n".join(
            f"{event.at - start:+8.3f} s  {event.who:13} {event.what:10} {event.value}"
            for event in events
        )

    # --- within this module

    def _note(self, who: str, what: str, value: str) -> None:
        with self._news:
            if what != "mark" and self._state.get((who, what)) == value:
                return
            self._state[who, what] = value
            self._events.append(Event(time.monotonic(), who, what, value))
            self._news.notify_all()

    def _watch(
        self, dcs: KubernetesDcs, resource: str, note: Callable[[str, dict[str, Any]], None]
    ) -> None:
        try:
            for event in dcs.watch(resource, _SECONDS):
                if self._stopped:
                    return
                note(event["type"], event["object"]["metadata"])
        except OSError as error:  # the server's end comes before ours
            self._note(resource, "watch", repr(error))

    def _pod(self, kind: str, metadata: dict[str, Any]) -> None:
        self._note(metadata["name"], "label", metadata.get("labels", {}).get("role", "-"))
        status = json.loads(metadata.get("annotations", {}).get("status", "{}"))
        shown = " ".join(f"{key}={status.get(key)}" for key in ("role", "state", "timeline"))
        self._note(metadata["name"], "annotation", shown)

    def _config_map(self, kind: str, metadata: dict[str, Any]) -> None:
        found = metadata.get("annotations", {})
        kept = {key: found[key] for key in ("leader", "member", "sync_standby") if found.get(key)}
        self._note(
            metadata["name"], "lock", kind.lower() if kind == "DELETED" else str(kept or "-")
        )

    def _ask(self, member: Member) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._stopped:
            try:
                if connection is None:
                    connection = psycopg.connect(member.dsn(), autocommit=True, connect_timeout=2)
                    self._note(member.name, "sql", "connected")
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
                assert row is not None
                self._note(member.name, "sql", "standby" if row[0] else "primary")
            except psycopg.Error as error:
                said = error.sqlstate or str(error).strip().splitlines()[-1].strip()
                self._note(
                    member.name, "sql", f"lost: {said}" if connection else f"refused: {said}"
                )
                if connection is not None:
                    connection.close()
                connection = None
            time.sleep(_POLL)
        if connection is not None:
            connection.close()
