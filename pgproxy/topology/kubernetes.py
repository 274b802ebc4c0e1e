"""`discovery.mode = "kubernetes"`: the backends are pods, followed by list and watch. So are the other
proxies (peers/sources.py).

What is asked when is schedule.py's, what the answers mean podstore.py's and pods.py's, both PURE.
Here is the I/O: requests, the lines of a watch, and publishing. `on_backends` is called in the
event loop with each snapshot that differs from the one before, the first list's included, however
many events made it. Nothing that the API server does ends the watch or takes the last snapshot
away.

It needs the verbs list and watch on pods in that one namespace, and nothing else.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import structlog

from pgproxy import config
from pgproxy.topology.apiserver import (
    LONGEST_OBJECT,
    ApiError,
    ApiServer,
    advice,
    api_error,
    own_namespace,
    read_list,
    refusal,
)
from pgproxy.topology.model import Backend
from pgproxy.topology.podstore import Event, Store
from pgproxy.topology.presets import rules_of
from pgproxy.topology.rounds import Contact, Work
from pgproxy.topology.schedule import Outcome, RateLimit, Request, Schedule, Timing, Verb
from pgproxy.topology.source import Counts

# Events taken in without a pause: clients are served by the same loop.
_EVENTS_AT_ONCE: Final = 16


class Kubernetes:
    """Follows the pods; `run` it as a task, `close` ends that task.

    `requests` counts by verb and outcome, `events` by type, `relists` by reason.
    """

    awaited: Final = "the pods have not been listed yet"

    def __init__(
        self,
        settings: config.Kubernetes,
        on_backends: Callable[[tuple[Backend, ...]], None],
        *,
        timing: Timing | None = None,
        on_news: Callable[[], None] = lambda: None,
        watch: str = "servers",
    ) -> None:
        """`on_news` is called after each change, also after one that was taken back before anybody
        was told of it. `watch` is what the pods are; it stands in the log."""
        self._log: Final = structlog.stdlib.get_logger().bind(watch=watch)
        self.synced: Final = asyncio.Event()  # the first list is in
        self.requests: Final[dict[tuple[str, str], int]] = {}
        self.events: Final[dict[str, int]] = {}
        self.relists: Final[dict[str, int]] = {}
        self.backends: tuple[Backend, ...] = ()
        self._settings: Final = settings
        self._on_backends: Final = on_backends
        self._on_news: Final = on_news
        self._timing: Final = timing or Timing()
        self._rules: Final = rules_of(settings)
        self._namespace: Final = settings.namespace or own_namespace()
        self._store = Store(self._rules)
        self._schedule: Final = Schedule(random.random, self._timing)
        self._limit: Final = RateLimit()
        self._server: ApiServer | None = None
        self._publishing: asyncio.TimerHandle | None = None
        self._contact: Final = Contact()
        self._listed_at = 0.0
        self._watching: asyncio.Timeout | None = None
        self._looks_again = False
        self._is_listed = False  # what is to be published comes from a list alone
        self._version_at = 0.0  # when the resource version last moved
        self._failing: Outcome | None = None
        self._last_error = ""
        self._told: dict[str, str] = {}  # of Store.ignored
        self._work: Final = Work(self._follow)

    def age(self) -> float:
        """Seconds since the API server last said anything; since the start if it never did."""
        return self._contact.age()

    def counts(self) -> Mapping[str, Counts]:
        return {
            "pgproxy_kubernetes_requests_total": self.requests.items(),
            "pgproxy_kubernetes_events_total": _alone(self.events),
            "pgproxy_kubernetes_relists_total": _alone(self.relists),
        }

    def status(self) -> dict[str, object]:
        """For /status."""
        now = time.monotonic()
        return {
            "mode": "kubernetes",
            "namespace": self._namespace,
            "selector": self._rules.selector,
            "synced": self.synced.is_set(),
            "last_contact_seconds": self._contact.seconds(),
            "resource_version": self._schedule.resource_version,
            "resource_version_seconds": _since(self._version_at, now),
            "failing": self._failing.value if self._failing is not None else "",
            "last_error": self._last_error,
            "pods": self._store.pods,
            "backends": len(self.backends),
            "not_backends": self._store.reasons,
            "ignored": dict(self._store.ignored),
        }

    def look_again(self) -> None:
        """There is no primary. Its label may be there already, and the watch dead without a word
        (half-open): list the pods instead of waiting until that is certain."""
        watching = self._watching
        if watching is None or watching.expired():
            return
        if time.monotonic() - self._listed_at < self._timing.look_again:
            return
        self._looks_again = True
        watching.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Follow until `close` (then it returns) or until it is cancelled."""
        await self._work.run()

    async def close(self) -> None:
        """End it; returns when `run` has, if it was ever started."""
        await self._work.close()

    async def _follow(self) -> None:
        try:
            while True:
                request = self._schedule.next_request(time.monotonic())
                await _until(request.at)
                if request.renew:
                    await self._drop_server()
                if request.verb is Verb.LIST:
                    await self._list(request)
                else:
                    await self._watch(request)
        finally:
            if self._publishing is not None:
                self._publishing.cancel()
            await self._drop_server()

    async def _drop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    # --- the two requests

    async def _list(self, request: Request) -> None:
        reason = request.reason
        self.relists[reason] = self.relists.get(reason, 0) + 1
        try:
            async with asyncio.timeout(self._timing.answer):
                page = await read_list(self._get, self._rules.selector)
        except Exception as error:  # noqa: BLE001 - nothing that a peer sends may end the watch
            self._failed(Verb.LIST, error)
            return
        self._store.replace(page.items)
        self._tell_ignored()
        self._version_at = self._listed_at = time.monotonic()
        self._done(Verb.LIST, Outcome.OK)
        self._schedule.after_list(
            time.monotonic(), Outcome.OK, resource_version=page.resource_version
        )
        self._is_listed = True
        self._publish_in(0.0)

    async def _watch(self, request: Request) -> None:
        query = {
            "labelSelector": self._rules.selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": request.resource_version,
            "timeoutSeconds": str(request.timeout_seconds),
        }
        began = time.monotonic()
        opened = 0.0
        try:
            # The server ends the stream at `timeoutSeconds`: later than this, it is dead.
            async with (
                asyncio.timeout(request.timeout_seconds + self._timing.grace) as self._watching,
                self._get(query) as response,
            ):
                opened = time.monotonic()
                self._recovered()
                await self._read_events(response)
        except Exception as error:  # noqa: BLE001 - nothing that a peer sends may end the watch
            if self._looks_again:
                self._count(Verb.WATCH, Outcome.OK)
                self._schedule.list_now(time.monotonic(), "no_primary")
            else:
                self._failed(Verb.WATCH, error, began, opened)
            return
        finally:
            self._watching = None
            self._looks_again = False
        self._done(Verb.WATCH, Outcome.OK)
        now = time.monotonic()
        self._schedule.after_watch(now, Outcome.OK, began=began, watched=now - opened)

    async def _read_events(self, response: aiohttp.ClientResponse) -> None:
        """Until the stream ends; raises what ends it otherwise."""
        taken = 0
        while True:
            line = await response.content.readline(max_line_length=LONGEST_OBJECT)
            if not line.endswith(b"\n"):
                return  # the end; what it cut off was not said
            event, has_changed = self._store.take(line)
            self._tell_ignored()
            self._take(event)
            if has_changed:
                self._is_listed = False
                self._publish_in(self._timing.debounce)
            taken += 1
            if taken % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _take(self, event: Event) -> None:
        self.events[event.kind] = self.events.get(event.kind, 0) + 1
        if event.outcome is not None:
            raise ApiError(event.outcome, event.message, event.retry_after)
        self._contact.made()
        if event.resource_version:
            self._schedule.resource_version = event.resource_version
            self._version_at = time.monotonic()

    @asynccontextmanager
    async def _get(self, query: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request: its turn awaited, sent, its answer a 200. Raises ApiError otherwise."""
        if self._server is None:
            self._server = await ApiServer.open(self._settings, self._namespace)
        await _until(self._limit.earliest(time.monotonic()))
        self._limit.begin(time.monotonic())
        response = await self._server.pods(query)
        try:
            if response.status != 200:
                raise await refusal(response)
            yield response
        finally:
            response.close()

    # --- what follows

    def _publish_in(self, seconds: float) -> None:
        """By the loop: what goes wrong in those who are told does not end the watch."""
        if self._publishing is None:
            loop = asyncio.get_running_loop()
            self._publishing = loop.call_later(seconds, self._publish)

    def _publish(self) -> None:
        self._publishing = None
        backends = self._store.snapshot()
        is_first = not self.synced.is_set()
        if is_first:
            self.synced.set()
            self._log.info(
                "pods_listed",
                namespace=self._namespace,
                selector=self._rules.selector,
                pods=self._store.pods,
                backends=len(backends),
            )
        self._on_news()
        if backends == self.backends and not is_first:
            return
        if not backends:
            self._log.warning(
                "no_pods",
                namespace=self._namespace,
                selector=self._rules.selector,
                not_backends=self._store.reasons,
                kept=len(self.backends),
            )
            if self.backends and self._is_listed:
                # No event has told that they are gone: more likely the API server has lost them
                # (etcd made anew). If they are gone all the same, the monitor sees it.
                return
        self.backends = backends
        self._on_backends(backends)

    def _tell_ignored(self) -> None:
        """Each once; again if it was put right in between."""
        ignored = self._store.ignored
        if ignored == self._told:
            return
        for pod, reason in ignored.items():
            if self._told.get(pod) != reason:
                self._log.warning("pod_weight_ignored", pod=pod, reason=reason)
        self._told = dict(ignored)

    def _count(self, verb: Verb, outcome: Outcome) -> None:
        key = (verb.value, outcome.value)
        self.requests[key] = self.requests.get(key, 0) + 1

    def _done(self, verb: Verb, outcome: Outcome) -> None:
        self._count(verb, outcome)
        self._recovered()

    def _recovered(self) -> None:
        self._contact.made()
        if self._failing is not None:
            self._failing = None
            self._log.info("kubernetes_api_recovered")

    def _failed(
        self, verb: Verb, error: Exception, began: float = 0.0, opened: float = 0.0
    ) -> None:
        """Count it, say it once, and let the schedule know."""
        now = time.monotonic()
        found = api_error(error)
        outcome = found.outcome
        self._count(verb, outcome)
        self._last_error = f"{verb.value}: {outcome.value}: {found}"
        if outcome is not self._failing:
            self._failing = outcome
            # That a version grows old is part of a watch's life.
            (self._log.info if outcome is Outcome.GONE else self._log.warning)(
                "kubernetes_api_failed",
                verb=verb.value,
                outcome=outcome.value,
                reason=str(found),
                address=self._server.address if self._server is not None else "",
                check=advice(outcome, self._namespace, "the verbs list and watch on pods"),
            )
        if verb is Verb.LIST:
            self._schedule.after_list(now, outcome, retry_after=found.retry_after)
            return
        self._schedule.after_watch(
            now,
            outcome,
            began=began,
            watched=now - opened if opened else 0.0,
            retry_after=found.retry_after,
        )


def _alone(counts: Mapping[str, int]) -> Counts:
    """Of a metric with one label."""
    return [((value,), count) for value, count in counts.items()]


def _since(moment: float, now: float) -> float | None:
    return round(now - moment, 3) if moment else None


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
