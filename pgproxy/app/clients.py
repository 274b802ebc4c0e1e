"""The parts that applications meet, and those whom the admin console serves."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pgproxy.app.servers import ServerSide
from pgproxy.app.settings import (
    client_caps,
    pool_modes,
    shown_settings,
    tcp_options,
    time_limits,
)
from pgproxy.clients.admin import Admin
from pgproxy.clients.cancel import CancelKeys
from pgproxy.clients.console import Access, Console
from pgproxy.clients.drain import Drain
from pgproxy.clients.listener import Listener
from pgproxy.clients.login import ClientLogin
from pgproxy.clients.passthrough import Passthroughs, Rules
from pgproxy.clients.timekeeper import Timekeeper
from pgproxy.clients.users import Users
from pgproxy.config import Config
from pgproxy.peers.peers import Peers
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.protocol.scram import Keyring
from pgproxy.protocol.settings import SettingsTable
from pgproxy.relay.context import RelayContext
from pgproxy.routing.rules import rule_set
from pgproxy.servers.tls import ClientTls
from pgproxy.telemetry.averages import Averages
from pgproxy.telemetry.columns import COLUMNS
from pgproxy.telemetry.counters import Counters
from pgproxy.telemetry.tables import Tables
from pgproxy.workers.member import Member
from pgproxy.workers.sources import ClientQuotas

OnStatement = Callable[[bytes, str, str, str], None]
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class ClientSide:
    """`on_statement` is told every statement: text, backend, target, reason. `spawn` runs what nobody
    awaits, `spawn_last` what may go on when the clients have gone."""

    def __init__(
        self,
        config: Config,
        member: Member | None,
        servers: ServerSide,
        *,
        users: Users,
        keyring: Keyring,
        counters: Counters,
        on_statement: OnStatement | None,
        spawn: Spawn,
        spawn_last: Spawn,
    ) -> None:
        self.registry: Final = StatementRegistry()
        self.keys: Final = _cancel_keys(member, servers.peers)
        settings = SettingsTable()
        modes = pool_modes(config.pool)
        limits = time_limits(config.timeouts)
        relays = RelayContext(
            routers=servers.routers,
            registry=self.registry,
            settings=settings,
            counters=counters,
            modes=modes,
            time_limits=limits,
            watermark=config.consistency.read_your_writes,
            rerun_limit=config.health.rerun_limit,
            safety_net=config.routing.safety_net,
            listening=servers.listening,
            until_write=config.routing.transactions == "replica-until-write",
            rules=rule_set([rule.model_dump() for rule in config.routing.rules]),
            on_statement=on_statement,
            on_schema_change=servers.catalogues.changed,
            soon=asyncio.get_running_loop().call_soon,
            board=None if member is None else member.board,
        )
        if member is not None:
            relays.on_desert = member.desert
            relays.on_defaults_change = member.renew
        login = ClientLogin(
            servers.cluster,
            users,
            self.keys,
            keyring,
            settings,
            config.auth.method,
            ClientTls(config.listen),
        )
        quotas = None if member is None else ClientQuotas(member.claims)
        self.passthroughs: Final = Passthroughs(
            Rules(**config.replication.model_dump()),
            login,
            servers.login,
            servers.cluster,
            self.keys,
            counters,
            spawn_last,
            quotas,
        )
        self.listener: Final = Listener(
            login,
            self.keys,
            relays,
            counters,
            self.passthroughs,
            client_caps(config, counters, quotas),
            tcp=tcp_options(config.listen),
            spawn=spawn,
        )
        self.timekeeper: Final = Timekeeper(self.listener.clients, limits.shortest)
        self.drain: Final = Drain(
            self.listener,
            accept=config.listen.drain_accept_seconds,
            window=config.listen.drain_timeout,
            left_running=lambda: servers.cluster.left_running,
        )
        self.averages: Final = Averages(counters.databases, time.monotonic())
        auth = config.auth
        self.console: Final = Console(
            Access(auth.admin_users, auth.stats_users, trusts_all=auth.method == "trust"),
            self.keys,
            COLUMNS,
        )
        tables = Tables(
            cluster=servers.cluster,
            listener=self.listener,
            visitors=self.console.sessions,
            drain=self.drain,
            modes=modes,
            averages=self.averages,
            users=lambda: users.entries,
            settings=shown_settings(config),
            structures=servers.structures,
            routed=counters.routed,
            sizes={
                "client": self.listener.clients,
                "pool": servers.cluster.groups,
                "prepared_statement": self.registry,
                "cancel_key": self.keys,
            },
            peers=lambda: [] if servers.peers is None else servers.peers.rows(),
        )
        self.admin: Final = Admin(
            cluster=servers.cluster,
            listener=self.listener,
            drain=self.drain,
            users=users,
            kill_visitor=self.console.kill,
            stop=self.drain.ask if member is None else member.stop,
        )
        self.console.tables = tables
        self.console.admin = self.admin
        self.console.elsewhere = member
        self.listener.console = self.console
        relays.tables = tables.frames


def _cancel_keys(member: Member | None, peers: Peers | None) -> CancelKeys:
    if member is not None:
        return CancelKeys(member.number, member.cancel, member.instance)
    if peers is not None:
        return CancelKeys(None, peers.cancel, peers.instance)
    return CancelKeys()
