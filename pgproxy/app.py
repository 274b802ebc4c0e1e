"""The composition root: builds every object, connects them, and takes them down in order."""

import asyncio
import mmap
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

import pgproxy
from pgproxy import _compiled
from pgproxy.clients.admin import Admin
from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.caps import ClientCaps, Named
from pgproxy.clients.console import Access, Console
from pgproxy.clients.drain import Drain
from pgproxy.clients.listener import Listener
from pgproxy.clients.login import ClientLogin
from pgproxy.clients.passthrough import Passthroughs, Rules
from pgproxy.clients.timekeeper import Timekeeper
from pgproxy.clients.users import Users
from pgproxy.config import Config, LimitEntry, Listen, Server, Timeouts, notices
from pgproxy.configfile import leaves, toml_text
from pgproxy.peers.http import routes
from pgproxy.peers.peers import Peers
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.protocol.scram import Keyring
from pgproxy.protocol.settings import SettingsTable
from pgproxy.relay.board import board_size
from pgproxy.relay.context import RelayContext
from pgproxy.relay.deadlines import KINDS, TimeLimitTable
from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.reasons import REASONS
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from pgproxy.routing.rules import rule_set
from pgproxy.routing.structures import Structures
from pgproxy.servers import descriptors
from pgproxy.servers.adaptation import Adaptation
from pgproxy.servers.balance import Balancer
from pgproxy.servers.catalogues import Catalogues
from pgproxy.servers.cluster import Cluster, PoolSettings
from pgproxy.servers.context import Clock, PoolContext
from pgproxy.servers.janitor import Janitor
from pgproxy.servers.limiter import Limiter
from pgproxy.servers.listening import Listening
from pgproxy.servers.login import ServerLogin
from pgproxy.servers.modes import PoolModes
from pgproxy.servers.reads import ReadRules
from pgproxy.servers.shares import Shares
from pgproxy.servers.sizes import BESIDE, excess_text, pool_sizes
from pgproxy.servers.sockets import Patience, TcpOptions
from pgproxy.telemetry import logs
from pgproxy.telemetry.averages import PERIOD, Averages
from pgproxy.telemetry.columns import COLUMNS
from pgproxy.telemetry.counters import Counters
from pgproxy.telemetry.http import HttpServer, at_once, start_http
from pgproxy.telemetry.metrics import ProxyCollector, make_registry
from pgproxy.telemetry.tables import Tables
from pgproxy.telemetry.transfer import dump
from pgproxy.topology.discovery import source_of
from pgproxy.topology.model import Topology
from pgproxy.topology.monitor import Monitor
from pgproxy.workers.claims import Claims
from pgproxy.workers.hello import from_plain
from pgproxy.workers.member import Member, Parts
from pgproxy.workers.sources import ClientQuotas, PoolQuotas, SeatQuotas

_log = structlog.stdlib.get_logger()

# Seconds at the end for cancel requests that are under way and for servers to hear Terminate.
LAST_WORDS = 2.0
# Seconds to wait for the first answers of the backends before clients are let in all the same.
FIRST_ROUND = 10.0

OnStatement = Callable[[bytes, str, str, str], None]


class Ready:
    """Where clients and scrapers connect, once they can."""

    def __init__(self, host: str, port: int, http_host: str, http_port: int) -> None:
        self.host = host
        self.port = port
        self.http_host = http_host
        self.http_port = http_port


class Tasks:
    """Tasks that nobody awaits: kept until done, cancelled at the end, never lost silently."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def __len__(self) -> int:
        return len(self._tasks)

    async def finish(self, seconds: float) -> None:
        """Lets them come to their end; what has not by then is cancelled."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        await self.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("task_failed", exc_info=task.exception())


class Proxy:
    """All parts of one running proxy."""

    def __init__(
        self, config: Config, on_statement: OnStatement | None = None, member: Member | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.config = config
        self.member = member
        self.tasks = Tasks()
        self.server_tasks = Tasks()
        self.counters = Counters(len(REASONS))
        self.clock = Clock()
        keyring = Keyring()
        limits = config.limits
        limiter = None
        per_backend = config.max_running_per_backend
        if limits.max_concurrent or per_backend:
            limiter = Limiter(limits.max_concurrent)
        self.users = Users(config.auth, os.environ)
        server_login = ServerLogin(
            keyring,
            self.users.credentials,
            connect_timeout=config.server.connect_timeout,
            login_timeout=config.server.login_timeout,
            tcp=_tcp_options(config.server),
        )
        self.monitor = Monitor(
            None,
            config.health,
            self._topology_changed,
            self._replica_seen,
            self._defaults_changed,
            self._room_learned,
            tcp=_tcp_options(config.server),
        )
        self.discovery = source_of(
            config.discovery, self.monitor.set_backends, lambda: self.monitor.topology
        )
        number = 0 if member is None else member.number
        self.sizes = pool_sizes(config.pool, number, config.listen.workers)
        self.cluster = Cluster(
            PoolContext(
                open_server=server_login.open,
                send_cancel=server_login.send_cancel,
                spawn=self.server_tasks.spawn,
                call_later=loop.call_later,
                unreachable=self.monitor.probe_now,
                counters=self.counters,
                clock=self.clock,
                wait_timeout=config.pool.wait_timeout or float("inf"),
                max_prepared=config.pool.max_prepared_statements,
                limiter=limiter,
                queue_size=-(-limits.queue_size // config.listen.workers),
                notice_after=limits.notice_after,
                quotas=None if member is None else _pool_quotas(member.claims, limiter),
            ),
            PoolSettings(
                sizes=self.sizes,
                reserve_timeout=config.pool.reserve_timeout,
                idle_timeout=config.pool.idle_timeout,
                lifetime=config.pool.lifetime,
                failover_wait=config.health.failover_wait,
                switchover_grace=config.health.switchover_grace,
                max_logins=-(-config.server.max_logins_at_once // config.listen.workers),
                reads=ReadRules(
                    max_staleness=config.consistency.max_staleness,
                    wait=config.consistency.wait,
                    from_primary=config.routing.read_from_primary,
                ),
                max_concurrent_per_backend=per_backend,
                weight=limits.weight,
                is_divided=config.pool.cluster_budget,
            ),
            Balancer(
                config.routing.balance,
                random.random,
                has_limits=per_backend > 0,
            ),
            Shares(
                zone=config.routing.zone,
                warm_up=config.routing.warm_up,
                interval=config.health.interval,
                max_staleness=config.consistency.max_staleness,
                by_speed=config.routing.balance in ("least-loaded", "sticky"),
            ),
            self.monitor.freshness,
        )
        routing = config.routing
        self.catalogues = Catalogues(
            config.health,
            routing.catalogue_interval,
            primary=lambda: self.monitor.topology.primary,
            is_used=self.cluster.has_clients,
            on_loaded=self._catalogue_loaded,
            tcp=_tcp_options(config.server),
        )
        self.structures = Structures(routing.cache_size)
        self.routers = Routers(
            Memory(
                parse_limit=routing.parse_limit,
                cache_size=routing.cache_size,
                structures=self.structures,
            ),
            FunctionLists(routing.read_functions, routing.write_functions),
            on_new=self.catalogues.want,
        )
        self.registry = StatementRegistry()
        settings = SettingsTable()
        self.listening = Listening(self.cluster)
        self.peers: Peers | None = None  # of several workers the supervisor has them
        if config.peers.are_known and member is None:
            self.peers = Peers(
                config,
                held=self.cluster.held,
                is_draining=lambda: self.drain.draining,
                on_shares=self.cluster.take_portions,
            )
        self.keys = keys = _cancel_keys(member, self.peers)
        modes = PoolModes(
            config.pool.mode,
            {name: one.mode for name, one in config.pool.databases.items() if one.mode},
            {name: one.mode for name, one in config.pool.users.items() if one.mode},
        )
        time_limits = _time_limits(config.timeouts)
        relays = RelayContext(
            routers=self.routers,
            registry=self.registry,
            settings=settings,
            counters=self.counters,
            modes=modes,
            time_limits=time_limits,
            watermark=config.consistency.read_your_writes,
            rerun_limit=config.health.rerun_limit,
            safety_net=config.routing.safety_net,
            listening=self.listening,
            until_write=config.routing.transactions == "replica-until-write",
            rules=rule_set([rule.model_dump() for rule in config.routing.rules]),
            on_statement=on_statement,
            on_schema_change=self.catalogues.changed,
            soon=loop.call_soon,
            board=None if member is None else member.board,
        )
        if member is not None:
            relays.on_desert = member.desert
            relays.on_defaults_change = member.renew
        client_login = ClientLogin(
            self.cluster, self.users, keys, keyring, settings, config.auth.method
        )
        quotas = None if member is None else ClientQuotas(member.claims)
        self.passthroughs = Passthroughs(
            Rules(**config.replication.model_dump()),
            client_login,
            server_login,
            self.cluster,
            keys,
            self.counters,
            self.server_tasks.spawn,
            quotas,
        )
        self.listener = Listener(
            client_login,
            keys,
            relays,
            self.counters,
            self.passthroughs,
            _client_caps(config, self.counters, quotas),
            tcp=_tcp_options(config.listen),
            spawn=self.tasks.spawn,
        )
        self.timekeeper = Timekeeper(self.listener.clients, time_limits.shortest)
        self.drain = Drain(
            self.listener,
            accept=config.listen.drain_accept_seconds,
            window=config.listen.drain_timeout,
            left_running=lambda: self.cluster.left_running,
        )
        self.averages = Averages(self.counters.databases, time.monotonic())
        auth = config.auth
        self.console = Console(
            Access(auth.admin_users, auth.stats_users, trusts_all=auth.method == "trust"),
            keys,
            COLUMNS,
        )
        tables = Tables(
            cluster=self.cluster,
            listener=self.listener,
            visitors=self.console.sessions,
            drain=self.drain,
            modes=modes,
            averages=self.averages,
            users=lambda: self.users.entries,
            settings=_settings(config),
            structures=self.structures,
            routed=self.counters.routed,
            sizes={
                "client": self.listener.clients,
                "pool": self.cluster.groups,
                "prepared_statement": self.registry,
                "cancel_key": keys,
            },
            peers=lambda: [] if self.peers is None else self.peers.rows(),
        )
        self.console.tables = tables
        self.console.admin = Admin(
            cluster=self.cluster,
            listener=self.listener,
            drain=self.drain,
            users=self.users,
            kill_visitor=self.console.kill,
            stop=self.drain.ask if member is None else member.stop,
        )
        self.console.elsewhere = member
        self.listener.console = self.console
        relays.tables = tables.frames
        self.backend_seen = False
        self._failure: Exception | None = None
        adaptation = None
        if limits.adaptive:
            assert limiter is not None
            adaptation = Adaptation(
                self.cluster,
                floor=limits.adaptive_floor,
                ceiling=per_backend,
                serve=limiter.serve,
            )
        self.janitor = Janitor(
            self.cluster,
            self.clock,
            refresh_users=self.users.refresh,
            ask_positions=self.monitor.ask_positions,
            no_primary=self._no_primary,
            adapt=adaptation.tick if adaptation is not None else None,
            patience=Patience(config.server.tcp_user_timeout),
        )
        self.collector = ProxyCollector(
            self.counters,
            self.cluster,
            self.routers.memory,
            clients=self.listener.clients,
            replication=self.passthroughs.open,
            prepared=self.registry,
            listening=self.listening,
            drain=self.drain,
            structures=self.structures,
            top_queries=config.routing.top_queries,
            version=pgproxy.__version__,
            mode=_compiled.mode(),
            discovery=self.discovery,
            catalogues=self.catalogues,
            peers=self.peers,
        )
        if member is not None:
            self._take_part(member, keys)

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
        self.tasks.spawn(self._vital("janitor", self.janitor.run()))
        self.tasks.spawn(self._vital("catalogues", self.catalogues.run()))
        if self.peers is not None:
            self.tasks.spawn(self._vital("peers", self.peers.run()))
        if self.timekeeper.is_needed:
            self.tasks.spawn(self._vital("timekeeper", self.timekeeper.run()))
        self.tasks.spawn(self._average())
        await self._first_round()
        return not self.drain.draining

    async def _serve(self) -> None:
        await self.drain.asked.wait()
        await self.drain.run()

    async def _start_http(self) -> HttpServer:
        registry = make_registry(self.collector)
        peers = self.peers
        http = await start_http(
            self.config.http.host,
            self.config.http.port,
            registry=at_once(lambda: registry),
            started=at_once(self._why_not_started),
            ready=at_once(self._why_not_ready),
            status=at_once(self.status),
            routes=() if peers is None else routes(peers.word, self.keys.cancel_here),
        )
        _log.info("http_listening", host=http.host, port=http.port)
        return http

    def _take_part(self, member: Member, keys: CancelKeys) -> None:
        gate = member.gate
        for database in gate.paused:
            self.cluster.pause(database)
        if gate.everything:
            self.cluster.pause("")
        self.cluster.gate.disabled.update(gate.disabled)
        member.take_part(
            Parts(
                gate=self.cluster.gate,
                console=self.console,
                admin=self.console.admin,
                keys=keys,
                drain=self.drain,
                listener=self.listener,
                collect=lambda: dump(self.collector.collect()),
                status=self.status,
                started=self._why_not_started,
                ready=self._why_not_ready,
                desert=self._desert,
                renew=self.cluster.renew,
                take_portions=self.cluster.take_portions,
            )
        )

    def _desert(self, database: str) -> None:
        self.cluster.desert(database)
        self.listening.desert(database)

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
            self.averages.look(time.monotonic())

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
        self.listening.close()
        self.cluster.close()
        await self.discovery.close()
        await self.server_tasks.finish(LAST_WORDS)
        await self._servers_gone()
        await self.catalogues.close()
        await self.monitor.close()
        await close_http()
        await self.tasks.close()
        _log.info("stopped")

    async def _servers_gone(self) -> None:
        """Waits until the servers' connections are closed, for otherwise the process ends before
        Terminate is sent."""
        loop = asyncio.get_running_loop()
        patience = loop.time() + LAST_WORDS
        pools = self.cluster.pools()
        while loop.time() < patience and any(pool.ledger.total for pool in pools):  # noqa: ASYNC110 - ledgers are PURE and tell nobody
            await asyncio.sleep(0.01)

    def status(self) -> dict[str, object]:
        """For /status."""
        topology = self.cluster.topology
        return {
            "version": pgproxy.__version__,
            "mode": _compiled.mode(),
            "clients": len(self.listener.clients),
            "replication_clients": len(self.passthroughs),
            "draining": self.drain.draining,
            "drain_clients": self.drain.counts(),
            "drain_forced": self.drain.forced,
            "discovery": self.discovery.status(),
            "topology": [
                {
                    "name": node.name,
                    "host": node.host,
                    "port": node.port,
                    "role": node.role.value,
                    "alive": node.alive,
                    "timeline": node.timeline,
                    "replay_lsn": node.replay_lsn,
                    "error": node.error,
                    "zone": node.zone,
                    "weight": node.weight,
                }
                for node in (self.monitor.topology.nodes if topology is not None else ())
            ],
            "backends": [
                {
                    "name": backend.name,
                    "connections": int(backend.budget.connections.limit.used),
                    "max_connections": backend.budget.cap,
                    "hungry": len(backend.budget.hungry),
                    "evictions": int(backend.budget.evictions),
                }
                for backend in self.cluster.backends.values()
            ],
            "pools": [
                {
                    "backend": pool.backend.name,
                    "database": pool.database,
                    "user": pool.user,
                    "idle": len(pool.ledger.idle),
                    "leased": int(pool.ledger.leased),
                    "resetting": int(pool.ledger.resetting),
                    "opening": int(pool.ledger.opening),
                    "closing": int(pool.ledger.closing),
                    "waiting": pool.waiting,
                    "size": int(pool.ledger.whole_size),
                    "reserve": pool.ledger.in_reserve,
                }
                for pool in self.cluster.pools()
            ],
            "running": self._running(),
            "peers": {} if self.peers is None else self.peers.status(),
            "statements": {
                f"{target} {reason.value}": self.counters.routed[code * 2 + number]
                for code, reason in enumerate(REASONS)
                for number, target in ((0, "primary"), (1, "replica"))
                if self.counters.routed[code * 2 + number]
            },
            "queries": [
                {
                    "id": one.id,
                    "query": one.text,
                    "primary": int(one.primary),
                    "replica": int(one.replica),
                    "timed": int(one.timed),
                    "seconds": one.seconds,
                    "reason": one.reason,
                }
                for one in self.structures.heaviest(self.config.routing.top_queries)
            ],
        }

    def _running(self) -> dict[str, object]:
        """Statements and transactions in flight, where there is a limit; `limit` 0: none."""
        cluster = self.cluster
        limiter = cluster.context.limiter
        if limiter is None:
            return {}
        limits = {"total": limiter.total}
        limits |= {name: backend.running for name, backend in cluster.backends.items()}
        return {
            "waiting": int(limiter.waiting),
            **{
                name: {"running": int(limit.used), "limit": limit.shown}
                for name, limit in limits.items()
            },
            "slowdown": {
                name: backend.adaptive.slowdown
                for name, backend in cluster.backends.items()
                if backend.adaptive is not None
            },
        }

    def _why_not_started(self) -> str | None:
        return None if self.discovery.synced.is_set() else self.discovery.awaited

    def _why_not_ready(self) -> str | None:
        if self.drain.draining:
            return "draining"
        if not self.backend_seen:
            return "no backend has answered yet"
        return None if self.peers is None else self.peers.why_not_ready

    def _no_primary(self) -> None:
        # A standby cluster never has one, and discovery is not asked for it for ever.
        if self.monitor.is_urgent:
            self.discovery.look_again()

    def _topology_changed(self, topology: Topology) -> None:
        self.cluster.apply(topology)
        self.passthroughs.follow_topology()
        self.listening.topology_changed()
        self.catalogues.topology_changed()
        # For good: during a failover clients wait here rather than nowhere.
        if topology.primary is not None or topology.replicas:
            self.backend_seen = True
        if topology.primary is None:
            self._no_primary()

    def _catalogue_loaded(self, database: str, catalogue: Catalogue | None) -> None:
        if catalogue is None and not self.cluster.has_clients(database):
            self.routers.forget(database)
        else:
            self.routers.take(database, catalogue)

    def _defaults_changed(self) -> None:
        self.cluster.renew()

    def _room_learned(self, name: str, room: int) -> None:
        if self.peers is not None:
            self.peers.learn_room(name, room)
        if self.member is not None:
            self.member.learn_room(name, room)
        # What the other workers have beside their pools is not for anybody's.
        room = max(room - BESIDE * (self.config.listen.workers - 1), 1)
        self.cluster.learn_room(name, room)
        text = excess_text(self.sizes, room)
        if text:
            _log.warning("server_too_small", backend=name, reason=text)

    def _replica_seen(self, name: str, fresh_as_of: float) -> None:
        self.cluster.fresh(name, fresh_as_of)


def _cancel_keys(member: Member | None, peers: Peers | None) -> CancelKeys:
    if member is not None:
        return CancelKeys(member.number, member.cancel, member.instance)
    if peers is not None:
        return CancelKeys(None, peers.cancel, peers.instance)
    return CancelKeys()


def _time_limits(timeouts: Timeouts) -> TimeLimitTable:
    return TimeLimitTable(
        {kind: getattr(timeouts, kind) for kind in KINDS},
        {name: entry.model_dump() for name, entry in timeouts.databases.items()},
        {name: entry.model_dump() for name, entry in timeouts.users.items()},
    )


def _tcp_options(section: Listen | Server) -> TcpOptions:
    return TcpOptions(
        idle=section.tcp_keepalive_idle,
        interval=section.tcp_keepalive_interval,
        count=section.tcp_keepalive_count,
        user_timeout=section.tcp_user_timeout,
    )


def _pool_quotas(claims: Claims, limiter: Limiter | None) -> PoolQuotas:
    return PoolQuotas(claims, None if limiter is None else SeatQuotas(claims, limiter))


def _client_caps(config: Config, counters: Counters, quotas: ClientQuotas | None) -> ClientCaps:
    limits = config.limits
    databases, users = _max_clients(limits.databases), _max_clients(limits.users)
    return ClientCaps(
        config.listen.max_clients,
        Named("database", limits.max_clients_per_database, databases, quotas),
        Named("user", limits.max_clients_per_user, users, quotas),
        counters.clients_refused,
        quotas,
    )


def _max_clients(entries: Mapping[str, LimitEntry]) -> dict[str, int]:
    return {
        name: entry.max_clients for name, entry in entries.items() if entry.max_clients is not None
    }


def _settings(config: Config) -> list[tuple[str, str, str]]:
    """Each key with its value and its default, secrets masked."""
    defaults = dict(leaves(Config()))
    return [(key, toml_text(value), toml_text(defaults[key])) for key, value in leaves(config)]


async def serve(
    config: Config,
    *,
    on_ready: Callable[[Ready], None] | None = None,
    on_statement: OnStatement | None = None,
) -> None:
    """Runs the proxy until it is told to stop. Raises OSError if a port cannot be had.

    `on_statement` is told every statement: text, backend, target, reason (the demo's live view).
    """
    _raise_descriptor_limit()
    if config.listen.max_clients > descriptors.for_clients():
        _log.warning(
            "few_descriptors",
            max_clients=config.listen.max_clients,
            descriptors=descriptors.limit(),
            for_clients=descriptors.for_clients(),
        )
    await Proxy(config, on_statement).run(on_ready)


async def serve_as_worker(number: int, channel: int, memory: int, sockets: list[list[int]]) -> None:
    """Runs one worker; all but the number are descriptors (workers/process.py)."""
    _raise_descriptor_limit()
    member = Member(
        number,
        [[socket.socket(fileno=one) for one in some] for some in sockets],
        mmap.mmap(memory, board_size(len(sockets))),
    )
    try:
        config = from_plain(await member.join(socket.socket(fileno=channel)))
    except ConnectionError:  # the supervisor has ended meanwhile
        return
    logs.configure(config.log.level, config.log.format, rate=config.log.rate)
    structlog.contextvars.bind_contextvars(worker=number)
    await Proxy(config, member=member).run_as(member)


def _raise_descriptor_limit() -> None:
    """A connection is a descriptor, and the usual soft limit is 1024; the hard one is ours to use."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
