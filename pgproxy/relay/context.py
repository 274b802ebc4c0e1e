"""What all relays share."""

from collections.abc import Callable
from typing import Any, final

from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.protocol.settings import SettingsTable
from pgproxy.relay.board import Board
from pgproxy.relay.deadlines import TimeLimitTable
from pgproxy.routing.routers import Routers
from pgproxy.routing.rules import RuleSet
from pgproxy.servers.listening import Listening
from pgproxy.servers.modes import PoolModes
from pgproxy.telemetry.counters import Counters


@final
class Watermark:
    """When the session (or any session, for read_your_writes = "global") wrote last."""

    def __init__(self) -> None:
        self.wrote_at = 0.0  # monotonic seconds at which the commit was acknowledged to us


class RelayContext:
    """Of one process."""

    def __init__(
        self,
        *,
        routers: Routers,
        registry: StatementRegistry,
        settings: SettingsTable,
        counters: Counters,
        modes: PoolModes | None = None,
        time_limits: TimeLimitTable | None = None,
        watermark: str,
        rerun_limit: int = 0,
        safety_net: bool = True,
        listening: Listening | None = None,
        until_write: bool = False,
        rules: RuleSet | None = None,
        on_statement: Callable[[bytes, str, str, str], None] | None = None,
        on_schema_change: Callable[[str], None] = lambda _database: None,
        soon: Callable[[Callable[[], None]], Any] = lambda call: call(),
        on_defaults_change: Callable[[], None] = lambda: None,
        on_desert: Callable[[str], None] = lambda _database: None,
        board: Board | None = None,
    ) -> None:
        self.routers = routers
        self.registry = registry
        self.settings = settings
        self.counters = counters
        self.modes = PoolModes() if modes is None else modes
        self.time_limits = TimeLimitTable() if time_limits is None else time_limits
        self.shared_watermark = Watermark() if watermark == "global" else None
        self.keeps_watermark = watermark != "off"
        self.rerun_limit = rerun_limit
        self.safety_net = safety_net
        self.listening = listening
        self.until_write = until_write  # routing.transactions = "replica-until-write"
        self.rules = RuleSet() if rules is None else rules
        self.on_statement = on_statement
        self.on_schema_change = on_schema_change  # told the database when a change is committed
        self.soon = soon  # calls it when everybody else has had a turn
        self.on_defaults_change = on_defaults_change  # of roles or databases
        self.on_desert = on_desert  # told a database that is about to be dropped or the like
        self.board = board  # where there are other workers
        self.schema_at = 0.0  # the last change of a schema seen there
        self.tables: Callable[[str], list[bytes]] | None = None  # what SHOW POOL_NODES tells
