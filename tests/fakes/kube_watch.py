"""One watch of the fake API server: what it is told, and how it ends."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web

from tests.fakes.kube_pods import Change, PodStore, bookmark, event, status_of_failure
from tests.fakes.kube_selectors import Selector

End = Literal["eof", "cut", "reset", "expired"]
"""In good order, in the middle of a line, by RST, or with an in-stream 410."""

_PIECE: Final = 100  # bytes, for a drip


@dataclass
class WatchFaults:
    """What is wrong with every watch."""

    bookmark_interval: float = 60.0  # seconds
    every_watch_ends: End | None = None
    """So as soon as it begins."""
    drip: float | None = None
    """Seconds after each piece of 100 bytes."""
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is said while it is not set."""

    def __post_init__(self) -> None:
        self.thawed.set()

    def heal(self) -> None:
        self.every_watch_ends = None
        self.drip = None
        self.thawed.set()


class Watch:
    """From the version asked for, or from what is there, until its timeout, or `end`."""

    def __init__(
        self,
        pods: PodStore,
        faults: WatchFaults,
        namespace: str,
        selector: Selector,
        query: Mapping[str, str],
    ) -> None:
        self._pods: Final = pods
        self._faults: Final = faults
        self._namespace: Final = namespace
        self._selector: Final = selector
        self._bookmarks: Final = query.get("allowWatchBookmarks") in {"true", "1"}
        self._timeout: Final = float(query.get("timeoutSeconds") or 1800)
        self._changes: Final[deque[Change]] = deque()
        self._lines: Final[deque[bytes]] = deque()
        self._news: Final = asyncio.Event()
        self._end: End | None = faults.every_watch_ends
        asked = int(query.get("resourceVersion") or 0)
        self._told = asked or pods.version
        if asked == 0:
            for pod in pods.matching(namespace, selector):
                self._lines.append(as_line({"type": "ADDED", "object": pod}))
        elif asked < pods.floor:
            self._end = self._end or "expired"
        else:
            self._changes.extend(pods.since(asked))

    def tell(self, change: Change) -> None:
        self._changes.append(change)
        self._news.set()

    def say(self, data: bytes) -> None:
        """Send this, whatever it is."""
        self._lines.append(data)
        self._news.set()

    def end(self, how: End) -> None:
        self._end = how
        self._news.set()

    async def serve(self, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        with contextlib.suppress(ConnectionError):  # the client has left
            await response.prepare(http)
            await self._until_end(response)
            await self._finish(http, response)
        return response

    async def _until_end(self, response: web.StreamResponse) -> None:
        now = time.monotonic()
        deadline = now + self._timeout
        bookmark_at = deadline
        if self._bookmarks:
            bookmark_at = min(now + self._faults.bookmark_interval, deadline - 2)
        while self._end is None and now < deadline:
            self._news.clear()
            await self._say_news(response)
            if self._bookmarks and now >= bookmark_at:
                bookmark_at = min(deadline, now + self._faults.bookmark_interval)
                if self._pods.version > self._told:  # a quiet cluster gets none
                    self._told = self._pods.version
                    await self._write(response, as_line(bookmark(self._told)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(deadline, bookmark_at) - now):
                    await self._news.wait()
            now = time.monotonic()

    async def _say_news(self, response: web.StreamResponse) -> None:
        while self._lines:
            await self._write(response, self._lines.popleft())
        while self._changes:
            change = self._changes.popleft()
            said = event(change, self._namespace, self._selector)
            if said is not None and change.version > self._told:
                self._told = change.version
                await self._write(response, as_line(said))

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        await self._faults.thawed.wait()
        if self._faults.drip is None:
            await response.write(data)
            return
        for start in range(0, len(data), _PIECE):
            await response.write(data[start : start + _PIECE])
            await asyncio.sleep(self._faults.drip)

    async def _finish(self, http: web.Request, response: web.StreamResponse) -> None:
        await self._faults.thawed.wait()
        if self._end == "reset":
            assert isinstance(http.transport, asyncio.Transport)
            raw: socket.socket = http.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            http.transport.abort()
            return
        if self._end == "cut":
            await response.write(b'{"type":"MODIFIED","object":{"kind":"Pod","apiVer')
        elif self._end == "expired":
            error = status_of_failure(410, f"too old resource version (now {self._pods.version})")
            await response.write(as_line({"type": "ERROR", "object": error}))
        await response.write_eof()


def as_line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
