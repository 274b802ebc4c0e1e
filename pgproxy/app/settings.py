"""What the configuration says, in the terms of each part."""

from collections.abc import Mapping

from pgproxy.clients.caps import ClientCaps, Named
from pgproxy.config import (
    Config,
    LimitEntry,
    Listen,
    Pool,
    Server,
    Timeouts,
    leaves,
    toml_text,
)
from pgproxy.relay.deadlines import KINDS, TimeLimitTable
from pgproxy.servers.cluster import PoolSettings
from pgproxy.servers.modes import PoolModes
from pgproxy.servers.reads import ReadRules
from pgproxy.servers.shares import Shares
from pgproxy.servers.sizes import PoolSizes
from pgproxy.servers.sockets import TcpOptions
from pgproxy.telemetry.counters import Counters
from pgproxy.workers.sources import ClientQuotas


def pool_settings(config: Config, sizes: PoolSizes) -> PoolSettings:
    """What is the same for every pool; of several workers each has its part."""
    workers = config.listen.workers
    return PoolSettings(
        sizes=sizes,
        reserve_timeout=config.pool.reserve_timeout,
        idle_timeout=config.pool.idle_timeout,
        lifetime=config.pool.lifetime,
        failover_wait=config.health.failover_wait,
        switchover_grace=config.health.switchover_grace,
        max_logins=-(-config.server.max_logins_at_once // workers),
        reads=ReadRules(
            max_staleness=config.consistency.max_staleness,
            wait=config.consistency.wait,
            from_primary=config.routing.read_from_primary,
        ),
        max_concurrent_per_backend=config.max_running_per_backend,
        weight=config.limits.weight,
        is_divided=config.pool.cluster_budget,
    )


def shares(config: Config) -> Shares:
    """Of the reads, for each server."""
    return Shares(
        zone=config.routing.zone,
        warm_up=config.routing.warm_up,
        interval=config.health.interval,
        max_staleness=config.consistency.max_staleness,
        by_speed=config.routing.balance in ("least-loaded", "sticky"),
    )


def pool_modes(pool: Pool) -> PoolModes:
    """The mode of each database and user."""
    return PoolModes(
        pool.mode,
        {name: one.mode for name, one in pool.databases.items() if one.mode},
        {name: one.mode for name, one in pool.users.items() if one.mode},
    )


def time_limits(timeouts: Timeouts) -> TimeLimitTable:
    """What a client may take, by its database and user."""
    return TimeLimitTable(
        {kind: getattr(timeouts, kind) for kind in KINDS},
        {name: entry.model_dump() for name, entry in timeouts.databases.items()},
        {name: entry.model_dump() for name, entry in timeouts.users.items()},
    )


def tcp_options(section: Listen | Server) -> TcpOptions:
    """Of the connections to clients, or to servers."""
    return TcpOptions(
        idle=section.tcp_keepalive_idle,
        interval=section.tcp_keepalive_interval,
        count=section.tcp_keepalive_count,
        user_timeout=section.tcp_user_timeout,
    )


def client_caps(config: Config, counters: Counters, quotas: ClientQuotas | None) -> ClientCaps:
    """How many clients there may be; of several workers `quotas` hold it."""
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


def shown_settings(config: Config) -> list[tuple[str, str, str]]:
    """Each key with its value and its default, secrets masked."""
    defaults = dict(leaves(Config()))
    return [(key, toml_text(value), toml_text(defaults[key])) for key, value in leaves(config)]
