"""The parts that meet PostgreSQL, and what follows from what is learnt of its servers."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from pgproxy.app.settings import pool_settings, shares, tcp_options
from pgproxy.clients.users import Users
from pgproxy.config import Config
from pgproxy.peers.peers import Peers
from pgproxy.protocol.scram import Keyring
from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from pgproxy.routing.structures import Structures
from pgproxy.servers.adaptation import Adaptation
from pgproxy.servers.balance import Balancer
from pgproxy.servers.catalogues import Catalogues
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.context import Clock, PoolContext
from pgproxy.servers.janitor import Janitor
from pgproxy.servers.limiter import Limiter
from pgproxy.servers.listening import Listening
from pgproxy.servers.login import ServerLogin
from pgproxy.servers.sizes import BESIDE, excess_text, pool_sizes
from pgproxy.servers.sockets import Patience
from pgproxy.servers.tls import ServerTls
from pgproxy.telemetry.counters import Counters
from pgproxy.topology.discovery import source_of
from pgproxy.topology.model import Topology
from pgproxy.topology.monitor import Monitor
from pgproxy.workers.claims import Claims
from pgproxy.workers.member import Member
from pgproxy.workers.sources import PoolQuotas, SeatQuotas

_log = structlog.stdlib.get_logger()


class ServerSide:
    """`spawn` runs what nobody awaits, `is_draining` is what other proxies are told, and
    `follow_topology` is called when the cluster has taken another one over."""

    def __init__(
        self,
        config: Config,
        member: Member | None,
        *,
        users: Users,
        keyring: Keyring,
        counters: Counters,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        is_draining: Callable[[], bool],
        follow_topology: Callable[[], None],
    ) -> None:
        self._workers: Final = config.listen.workers
        self._member: Final = member
        self._follow_topology: Final = follow_topology
        self.has_seen_backend = False
        per_backend = config.max_running_per_backend
        limiter = None
        if config.limits.max_concurrent or per_backend:
            limiter = Limiter(config.limits.max_concurrent)
        tcp = tcp_options(config.server)
        tls = ServerTls(config.server)
        self.login: Final = ServerLogin(
            keyring,
            users.credentials,
            connect_timeout=config.server.connect_timeout,
            login_timeout=config.server.login_timeout,
            tcp=tcp,
            tls=tls,
        )
        self.monitor: Final = Monitor(
            None,
            config.health,
            self._topology_changed,
            self._replica_seen,
            self._defaults_changed,
            self._room_learned,
            tcp=tcp,
            tls=tls,
        )
        self.discovery: Final = source_of(
            config.discovery, self.monitor.set_backends, lambda: self.monitor.topology
        )
        self._sizes: Final = pool_sizes(
            config.pool, 0 if member is None else member.number, self._workers
        )
        clock = Clock()
        self.cluster: Final = Cluster(
            PoolContext(
                open_server=self.login.open,
                send_cancel=self.login.send_cancel,
                spawn=spawn,
                call_later=asyncio.get_running_loop().call_later,
                unreachable=self.monitor.probe_now,
                counters=counters,
                clock=clock,
                wait_timeout=config.pool.wait_timeout or float("inf"),
                max_prepared=config.pool.max_prepared_statements,
                limiter=limiter,
                queue_size=-(-config.limits.queue_size // self._workers),
                notice_after=config.limits.notice_after,
                quotas=None if member is None else _pool_quotas(member.claims, limiter),
            ),
            pool_settings(config, self._sizes),
            Balancer(config.routing.balance, random.random, has_limits=per_backend > 0),
            shares(config),
            self.monitor.freshness,
        )
        routing = config.routing
        self.catalogues: Final = Catalogues(
            config.health,
            routing.catalogue_interval,
            primary=lambda: self.monitor.topology.primary,
            is_used=self.cluster.has_clients,
            on_loaded=self._catalogue_loaded,
            tcp=tcp,
            tls=tls,
        )
        self.structures: Final = Structures(routing.cache_size)
        self.routers: Final = Routers(
            Memory(
                parse_limit=routing.parse_limit,
                cache_size=routing.cache_size,
                structures=self.structures,
            ),
            FunctionLists(routing.read_functions, routing.write_functions),
            on_new=self.catalogues.want,
        )
        self.listening: Final = Listening(self.cluster)
        self.peers: Peers | None = None  # of several workers the supervisor has them
        if config.peers.are_known and member is None:
            self.peers = Peers(
                config,
                held=self.cluster.held,
                is_draining=is_draining,
                on_shares=self.cluster.take_portions,
            )
        adaptation = None
        if config.limits.adaptive:
            assert limiter is not None
            adaptation = Adaptation(
                self.cluster,
                floor=config.limits.adaptive_floor,
                ceiling=per_backend,
                serve=limiter.serve,
            )
        self.janitor: Final = Janitor(
            self.cluster,
            clock,
            refresh_users=users.refresh,
            ask_positions=self.monitor.ask_positions,
            no_primary=self.no_primary,
            adapt=adaptation.tick if adaptation is not None else None,
            patience=Patience(config.server.tcp_user_timeout),
        )

    def no_primary(self) -> None:
        """Clients wait for one."""
        # A standby cluster never has one, and discovery is not asked for it for ever.
        if self.monitor.is_urgent:
            self.discovery.look_again()

    def desert(self, database: str) -> None:
        """It is about to be dropped or the like: nothing of ours may be in its way."""
        self.cluster.desert(database)
        self.listening.desert(database)

    async def gone(self, seconds: float) -> None:
        """Waits so long at most until the servers' connections are closed, for otherwise the process
        ends before Terminate is sent."""
        loop = asyncio.get_running_loop()
        patience = loop.time() + seconds
        pools = self.cluster.pools()
        while loop.time() < patience and any(pool.ledger.total for pool in pools):  # noqa: ASYNC110 - ledgers are PURE and tell nobody
            await asyncio.sleep(0.01)

    def _topology_changed(self, topology: Topology) -> None:
        self.cluster.apply(topology)
        self._follow_topology()
        self.listening.topology_changed()
        self.catalogues.topology_changed()
        # For good: during a failover clients wait here rather than nowhere.
        if topology.primary is not None or topology.replicas:
            self.has_seen_backend = True
        if topology.primary is None:
            self.no_primary()

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
        if self._member is not None:
            self._member.learn_room(name, room)
        # What the other workers have beside their pools is not for anybody's.
        room = max(room - BESIDE * (self._workers - 1), 1)
        self.cluster.learn_room(name, room)
        text = excess_text(self._sizes, room)
        if text:
            _log.warning("server_too_small", backend=name, reason=text)

    def _replica_seen(self, name: str, fresh_as_of: float) -> None:
        self.cluster.fresh(name, fresh_as_of)


def _pool_quotas(claims: Claims, limiter: Limiter | None) -> PoolQuotas:
    return PoolQuotas(claims, None if limiter is None else SeatQuotas(claims, limiter))
