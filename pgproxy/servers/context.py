"""HOT. What all pools share: settings, and the ways out to whoever connects, counts and keeps time."""

import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, final

from pgproxy.servers.backend import Backend
from pgproxy.servers.connection import ServerConnection
from pgproxy.servers.limiter import Limiter
from pgproxy.servers.queue import Queue
from pgproxy.telemetry.counters import Counters

if TYPE_CHECKING:
    from pgproxy.servers.pool import Pool


@final
class Clock:
    """Monotonic seconds, coarse: the janitor advances it. Good enough for idle times."""

    def __init__(self) -> None:
        self.now = time.monotonic()


class Opener(Protocol):
    """Connects and logs in (servers/login.py). Raises `PgError`."""

    def __call__(
        self, server: ServerConnection, database: str, user: str
    ) -> Coroutine[Any, Any, None]: ...


class Canceller(Protocol):
    """Has a server cancel a query, and waits until it has acted on that (servers/login.py). False:
    whether it has is not known."""

    def __call__(self, backend: Backend, pid: int, secret: bytes) -> Coroutine[Any, Any, bool]: ...


class Quotas(Protocol):
    """The pools' part of the caps that hold over several processes (workers/sources.py)."""

    def begins(self, pool: "Pool") -> None:
        """It is new, and may open no connection yet."""

    def runs_short(self, pool: "Pool") -> None:
        """Somebody waits for a connection."""


class PoolContext:
    """What all pools share: settings and the ways out of the pure world."""

    def __init__(
        self,
        *,
        open_server: Opener,
        send_cancel: Canceller,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        call_later: Callable[[float, Callable[[], None]], Any],
        unreachable: Callable[[str], None],
        counters: Counters,
        clock: Clock,
        wait_timeout: float,
        max_prepared: int,
        limiter: Limiter | None = None,
        queue_size: int = 0,
        notice_after: float = 0.0,
        quotas: Quotas | None = None,
    ) -> None:
        self.open_server = open_server
        self.send_cancel = send_cancel
        self.spawn = spawn
        self.call_later = call_later
        self.unreachable = unreachable  # told a backend's name when connecting to it failed
        self.counters = counters
        self.clock = clock
        self.wait_timeout = wait_timeout
        self.max_prepared = max_prepared
        self.limiter = limiter
        self.queue = Queue(queue_size, call_later)
        self.notice_after = notice_after  # seconds; 0 = never
        self.holders: Callable[[], str] = str  # who has most of what is limited
        self.quotas = quotas
