import socket
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from pgproxy.telemetry.http import HttpServer, at_once, start_http

HOST: Final = "127.0.0.1"


class App:
    """What the application tells, and a client of the port."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.not_started: str | None = None
        self.status: dict[str, object] = {"version": "0.1.0", "lsn": None}
        self.registry = CollectorRegistry()
        self.served = Counter("pgproxy_served", "Statements served.", registry=self.registry)
        self.server: HttpServer | None = None
        self.session = aiohttp.ClientSession()

    async def get(self, path: str, accept: str = "*/*") -> tuple[int, str, str]:
        assert self.server is not None
        url = f"http://{HOST}:{self.server.port}{path}"
        async with self.session.get(url, headers={"Accept": accept}) as response:
            return response.status, response.headers["Content-Type"], await response.text()


@pytest.fixture
async def app() -> AsyncIterator[App]:
    app = App()
    app.server = await start_http(
        HOST,
        0,
        registry=at_once(lambda: app.registry),
        started=at_once(lambda: app.not_started),
        ready=at_once(lambda: app.reason),
        status=at_once(lambda: app.status),
    )
    yield app
    await app.session.close()
    await app.server.close()


async def test_the_system_picks_a_port(app: App) -> None:
    assert app.server is not None
    assert app.server.host == HOST
    assert app.server.port > 0


async def test_alive_whatever_else_is_the_matter(app: App) -> None:
    app.reason = "draining"
    assert (await app.get("/livez"))[0] == 200


async def test_readiness_follows_the_application_and_tells_why_not(app: App) -> None:
    assert (await app.get("/readyz"))[0] == 200
    app.reason = "draining"
    assert (await app.get("/readyz"))[::2] == (503, "draining\n")
    app.reason = None
    assert (await app.get("/readyz"))[0] == 200


async def test_started_once_is_started_for_ever(app: App) -> None:
    app.not_started = "the pods have not been listed yet"
    assert (await app.get("/startupz"))[::2] == (503, "the pods have not been listed yet\n")
    app.not_started = None
    app.reason = "no backend has answered yet"
    assert (await app.get("/startupz"))[0] == 200
    app.not_started = "the pods have not been listed yet"
    assert (await app.get("/startupz"))[0] == 200


async def test_metrics_are_what_the_registry_holds_at_the_time(app: App) -> None:
    app.served.inc(3)
    status, content_type, text = await app.get("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain")
    values = {s.name: s.value for family in prometheus(text) for s in family.samples}
    assert values["pgproxy_served_total"] == 3


async def test_metrics_come_as_openmetrics_for_those_who_ask(app: App) -> None:
    status, content_type, text = await app.get("/metrics", "application/openmetrics-text")
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert [family.name for family in openmetrics(text)] == ["pgproxy_served"]


async def test_status_is_json(app: App) -> None:
    app.status = {"nodes": [{"name": "é"}], "lsn": None}
    status, content_type, text = await app.get("/status")
    assert (status, content_type) == (200, "application/json; charset=utf-8")
    assert '"é"' in text
    assert '"lsn": null' in text


async def test_there_is_nothing_else(app: App) -> None:
    assert (await app.get("/"))[0] == 404


async def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            await start_http(
                HOST,
                port,
                registry=at_once(CollectorRegistry),
                started=at_once(lambda: None),
                ready=at_once(lambda: None),
                status=at_once(dict),
            )


async def test_a_closed_port_is_free_again(app: App) -> None:
    assert app.server is not None
    await app.session.close()
    await app.server.close()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, app.server.port))
