"""The HTTP port: /metrics for Prometheus, probes for Kubernetes, /status for people.

/livez     200 while the event loop runs
/readyz    200 when `ready()` is None, else 503 and the reason it gives
/startupz  200 when `started()` is None, and for ever after; else 503 and the reason it gives
/metrics   what `registry()` has, as OpenMetrics for those who ask for it
/status    `status()` as JSON

None of them asks a backend anything: a probe must not fail with the database. No access log.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

WhyNot = Callable[[], Awaitable[str | None]]
Status = Callable[[], Awaitable[Mapping[str, Any]]]
Registry = Callable[[], Awaitable[CollectorRegistry]]

_DRAIN_TIMEOUT: Final = 1.0  # seconds that a request in flight has when the port closes


Answer = TypeVar("Answer")


def at_once(tell: Callable[[], Answer]) -> Callable[[], Awaitable[Answer]]:
    """For what need not be waited for."""

    async def told() -> Answer:
        return tell()

    return told


class HttpServer:
    """A listening HTTP port; made by `start_http`."""

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        self.host: Final = host
        self.port: Final = port  # as bound, when 0 was asked for
        self._runner: Final = runner

    async def close(self) -> None:
        """Stop listening and close the connections. May be called again."""
        await self._runner.cleanup()


async def start_http(
    host: str,
    port: int,
    *,
    registry: Registry,
    started: WhyNot,
    ready: WhyNot,
    status: Status,
    routes: Iterable[web.RouteDef] = (),
) -> HttpServer:
    """Listen; port 0 lets the system pick. Raises OSError when the port cannot be had. `routes` are
    answered beside ours.

    All of them are called in the event loop for each request and must not block.
    """
    handlers = _Handlers(registry, started, ready, status)
    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", handlers.metrics),
            web.get("/livez", handlers.livez),
            web.get("/readyz", handlers.readyz),
            web.get("/startupz", handlers.startupz),
            web.get("/status", handlers.status),
            *routes,
        ]
    )
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=_DRAIN_TIMEOUT
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    bound_host, bound_port = runner.addresses[0][:2]
    return HttpServer(runner, bound_host, bound_port)


class _Handlers:
    def __init__(self, registry: Registry, started: WhyNot, ready: WhyNot, status: Status) -> None:
        self._registry: Final = registry
        self._started: Final = started
        self._ready: Final = ready
        self._status: Final = status
        self._has_started = False

    async def metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get(hdrs.ACCEPT, "")
        encode, content_type = choose_encoder(accept)
        body = encode(await self._registry())
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        return _verdict(await self._ready())

    async def startupz(self, _request: web.Request) -> web.Response:
        reason = None if self._has_started else await self._started()
        self._has_started = reason is None
        return _verdict(reason)

    async def status(self, _request: web.Request) -> web.Response:
        text = json.dumps(await self._status(), indent=2, ensure_ascii=False, default=str)
        return web.Response(text=f"{text}\n", content_type="application/json")


def _verdict(reason: str | None) -> web.Response:
    if reason is None:
        return web.Response(text="ok\n")
    return web.Response(status=503, text=f"{reason}\n")
