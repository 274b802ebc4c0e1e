"""A proxy: both its sides, from the start to the end of the drain."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

import pgproxy
from pgproxy import _compiled
from pgproxy.app.clients import ClientSide, OnStatement
from pgproxy.app.servers import ServerSide
from pgproxy.app.tasks import Tasks
from pgproxy.clients.users import Users
from pgproxy.config import Config, notices
from pgproxy.peers.http import routes
from pgproxy.protocol.scram import Keyring
from pgproxy.routing.reasons import REASONS
from pgproxy.telemetry.averages import PERIOD
from pgproxy.telemetry.counters import Counters
from pgproxy.telemetry.http import HttpServer, at_once, start_http
from pgproxy.telemetry.metrics import ProxyCollector, make_registry
from pgproxy.telemetry.status import Status
from pgproxy.telemetry.transfer import dump
from pgproxy.workers.member import Member, Parts

_log = structlog.stdlib.get_logger()

# Seconds at the end for cancel requests that are under way and for servers to hear Terminate.
LAST_WORDS = 2.0
# Seconds to wait for the first answers of the backends before clients are let in all the same.
FIRST_ROUND = 10.0


class Ready:
    """Where clients and scrapers connect, once they can."""

    def __init__(self, host: str, port: int, http_host: str, http_port: int) -> None:
        self.host = host
        self.port = port
        self.http_host = http_host
        self.http_port = http_port


class Proxy:
    """All parts of one running proxy; `member` makes it one worker of several."""

    def __init__(
        self, config: Config, on_statement: OnStatement | None = None, member: Member | None = None
    ) -> None:
        self.config = config
        self.tasks = Tasks()
        self.server_tasks = Tasks()
        self.counters = Counters(len(REASONS))
        keyring = Keyring()
        users = Users(config.auth, os.environ)
        self.servers = servers = ServerSide(
            config,
            member,
            users=users,
            keyring=keyring,
            counters=self.counters,
            spawn=self.server_tasks.spawn,
            is_draining=lambda: self.drain.draining,
            follow_topology=self._follow_topology,
        )
        self.clients = clients = ClientSide(
            config,
            member,
            servers,
            users=users,
            keyring=keyring,
            counters=self.counters,
            on_statement=on_statement,
            spawn=self.tasks.spawn,
            spawn_last=self.server_tasks.spawn,
        )
        self.cluster = servers.cluster
        self.discovery = servers.discovery
        self.monitor = servers.monitor
        self.listener = clients.listener
        self.drain = clients.drain
        self.status = Status(
            cluster=servers.cluster,
            listener=clients.listener,
            passthroughs=clients.passthroughs,
            drain=clients.drain,
            discovery=servers.discovery,
            monitor=servers.monitor,
            has_seen_backend=lambda: servers.has_seen_backend,
            peers=servers.peers,
            counters=self.counters,
            structures=servers.structures,
            top_queries=config.routing.top_queries,
        )
        self.collector = ProxyCollector(
            self.counters,
            servers.cluster,
            servers.routers.memory,
            clients=clients.listener.clients,
            replication=clients.passthroughs.open,
            prepared=clients.registry,
            listening=servers.listening,
            drain=clients.drain,
            structures=servers.structures,
            top_queries=config.routing.top_queries,
            version=pgproxy.__version__,
            mode=_compiled.mode(),
            discovery=servers.discovery,
            catalogues=servers.catalogues,
            peers=servers.peers,
        )
        self._failure: Exception | None = None
        if member is not None:
            self._take_part(member)

    async def run(self, on_ready: Callable[[Ready], None] | None) -> None:
        """Serves until SIGTERM or SIGINT, then drains; at a second one, or when cancelled, it ends
        at once. Drains too when a vital part has failed, and raises what that raised."""
        config = self.config
        for notice in notices(config):
            _log.warning("not_in_effect", notice=notice)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain.ask)
        http = await self._start_http()
        try:
            if await self._start():
                host, port = await self.listener.listen(config.listen.host, config.listen.port)
                _log.info("listening", host=host, port=port, mode=_compiled.mode())
                if on_ready is not None:
                    on_ready(Ready(host, port, http.host, http.port))
                await self._serve()
        finally:
            await self._close(http.close)
            if self._failure is not None:
                raise self._failure

    async def run_as(self, member: Member) -> None:
        """The same as one worker of several: the ports and the signals are the supervisor's."""
        self.tasks.spawn(self._vital("member", member.run()))
        try:
            if await self._start():
                member.open_port()
                await self._serve()
        finally:
            await self._close(member.close)
            if self._failure is not None:
                raise self._failure

    async def _start(self) -> bool:
        """Begins with all that goes on beside the clients, and waits until they can be served; False:
        it is to end already."""
        self.tasks.spawn(self._vital("discovery", self.discovery.run()))
        self.tasks.spawn(self._vital("monitor", self.monitor.run()))
        self.tasks.spawn(self._vital("janitor", self.servers.janitor.run()))
        self.tasks.spawn(self._vital("catalogues", self.servers.catalogues.run()))
        if self.servers.peers is not None:
            self.tasks.spawn(self._vital("peers", self.servers.peers.run()))
        if self.clients.timekeeper.is_needed:
            self.tasks.spawn(self._vital("timekeeper", self.clients.timekeeper.run()))
        self.tasks.spawn(self._average())
        await self._first_round()
        return not self.drain.draining

    async def _serve(self) -> None:
        await self.drain.asked.wait()
        await self.drain.run()

    async def _start_http(self) -> HttpServer:
        registry = make_registry(self.collector)
        peers = self.servers.peers
        http = await start_http(
            self.config.http.host,
            self.config.http.port,
            registry=at_once(lambda: registry),
            started=at_once(self.status.why_not_started),
            ready=at_once(self.status.why_not_ready),
            status=at_once(self.status.tell),
            routes=() if peers is None else routes(peers.word, self.clients.keys.cancel_here),
        )
        _log.info("http_listening", host=http.host, port=http.port)
        return http

    def _take_part(self, member: Member) -> None:
        gate = member.gate
        for database in gate.paused:
            self.cluster.pause(database)
        if gate.everything:
            self.cluster.pause("")
        self.cluster.gate.disabled.update(gate.disabled)
        member.take_part(
            Parts(
                gate=self.cluster.gate,
                console=self.clients.console,
                admin=self.clients.admin,
                keys=self.clients.keys,
                drain=self.drain,
                listener=self.listener,
                collect=lambda: dump(self.collector.collect()),
                status=self.status.tell,
                started=self.status.why_not_started,
                ready=self.status.why_not_ready,
                desert=self.servers.desert,
                renew=self.cluster.renew,
                take_portions=self.cluster.take_portions,
            )
        )

    def _follow_topology(self) -> None:
        self.clients.passthroughs.follow_topology()

    async def _vital(self, part: str, work: Coroutine[Any, Any, None]) -> None:
        """Without this part the proxy would go on as if nothing ever changed any more: rather than
        that it ends, and is started anew by whoever has started it."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a bug, whatever it is
            _log.critical("part_failed", part=part, exc_info=error)
            self._failure = error
            self.drain.ask()

    async def _average(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self.clients.averages.look(time.monotonic())

    async def _first_round(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = [
            loop.create_task(self.monitor.first_round.wait()),
            loop.create_task(self.drain.asked.wait()),
        ]
        await asyncio.wait(waiting, timeout=FIRST_ROUND, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def _close(self, close_http: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self.drain.close()
        self.servers.listening.close()
        self.cluster.close()
        await self.discovery.close()
        await self.server_tasks.finish(LAST_WORDS)
        await self.servers.gone(LAST_WORDS)
        await self.servers.catalogues.close()
        await self.monitor.close()
        await close_http()
        await self.tasks.close()
        _log.info("stopped")
