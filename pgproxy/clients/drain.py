"""The drain: clients are seen off between their transactions, the proxy ends when all have gone.

Who goes when is decided in clients/departure.py; this carries it out. The first `ask` starts a
drain, the second ends it at once. Log: one line a second while clients are there.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from pgproxy.clients.connection import ClientConnection
from pgproxy.clients.departure import Departure, Schedule, State, Verdict
from pgproxy.clients.farewell import LINGER
from pgproxy.clients.listener import GOING_AWAY, Listener
from pgproxy.frames.codes import STATUS_IDLE
from pgproxy.protocol.states import GONE, SETTLING, WAITING

_log = structlog.stdlib.get_logger()

# Seconds between looks at the clients.
TICK: Final = 0.02
# The same if there are more than this many, for a look at one costs microseconds.
MANY: Final = 1000
MANY_TICK: Final = 0.2
# Seconds between lines in the log, each with a count of all clients.
CENSUS: Final = 1.0
# States in which a client can be: those of clients/departure.py, and that of one who logs in.
LOGIN: Final = "login"
STATES: Final = (*(state.value for state in State), LOGIN)
# Query, Parse, Bind, FunctionCall: what a statement begins with.
ASKING: Final = b"QPBF"
# How a transaction begins, in a Query or a Parse; the Parse's statement may have a name.
BEGIN: Final = re.compile(
    rb"(?:Q....|P....[^\0]*\0)\s*(?:begin|start\s+transaction)\b", re.I | re.S
)


class Door(asyncio.Protocol):
    """Stands before a client that is to go, and sees what comes from it."""

    def __init__(self, client: ClientConnection, departure: Departure, schedule: Schedule) -> None:
        self._client: Final = client
        self._departure: Final = departure
        self._schedule: Final = schedule
        self._asked_at = 0.0
        client.transport.set_protocol(self)

    @property
    def quiet(self) -> float:
        """Seconds since it last asked something, as far as is known."""
        relay = self._client.relay
        assert relay is not None
        asked_at = self._asked_at
        if relay.pinning.pin is None:  # else it was given a connection long ago
            asked_at = max(asked_at, relay.leased_at)
        return time.monotonic() - asked_at

    def data_received(self, chunk: bytes) -> None:
        client = self._client
        self._asked_at = time.monotonic()
        if chunk[0] in ASKING:
            now = asyncio.get_running_loop().time()
            begins = BEGIN.match(chunk) is not None
            if self._schedule.refuses(self._departure, state_of(client), now, begins=begins):
                assert client.relay is not None
                client.relay.fail(GOING_AWAY)
                return
        client.data_received(chunk)

    def eof_received(self) -> bool:
        return self._client.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._client.connection_lost(error)

    def pause_writing(self) -> None:
        self._client.pause_writing()

    def resume_writing(self) -> None:
        self._client.resume_writing()


class Drain:
    """`accept` and `window` are `listen.drain_accept_seconds` and `listen.drain_timeout`;
    `left_running` says how much clients that have gone have left running."""

    def __init__(
        self,
        listener: Listener,
        *,
        accept: float,
        window: float,
        left_running: Callable[[], int],
    ) -> None:
        self.asked: Final = asyncio.Event()
        self.forced = 0  # clients that were cut off
        self._hurried: Final = asyncio.Event()
        self._listener: Final = listener
        self._left_running: Final = left_running
        self._accept = accept
        self._window = window
        self._departures: dict[ClientConnection, Departure] = {}
        self._doors: dict[ClientConnection, Door] = {}

    @property
    def draining(self) -> bool:
        """Whether the proxy has been told to stop."""
        return self.asked.is_set()

    def ask(self) -> None:
        """Told to stop (a signal); told again, everything is closed now."""
        if self.asked.is_set():
            self._hurried.set()
        self.asked.set()

    def shorten(self, window: float) -> None:
        """Of a drain that has not begun: the port closes at once, and the window is no longer than
        that."""
        self._accept = 0.0
        self._window = min(self._window, window)

    def counts(self) -> dict[str, int]:
        """Who is still to go, by what they are doing; nobody while there is no drain."""
        found: Counter[str] = Counter()
        if self.draining:
            found[State.ACTIVE.value] = len(self._listener.passthroughs)
            found.update(state_of(client).value for client in self._listener.clients)
            found[LOGIN] = self._listener.arriving
        return {state: found[state] for state in STATES}

    async def run(self) -> None:
        """Returns when no client is left, nor what one has left running, or when asked again; `close`
        is to follow."""
        loop = asyncio.get_running_loop()
        schedule = Schedule(loop.time(), accept=self._accept, window=self._window)
        await self._let_in(schedule)
        self._listener.stop_accepting()
        present = len(self._listener.clients)
        for client in self._listener.clients:
            self._departures[client] = schedule.departure(random.random(), present)  # noqa: S311
        census = loop.time()
        while not self._hurried.is_set() and self._anybody:
            now = loop.time()
            if now >= schedule.ends_at:
                self.forced += self._listener.passthroughs.see_off()
            if now >= schedule.turns_away_at:
                self._listener.turn_away()
            if now >= census:
                census = now + CENSUS
                self._log_line()
                self._drop_stalled(now)
            self._see_off(schedule, now)
            await self._pause(TICK if len(self._listener.clients) <= MANY else MANY_TICK)
        while (
            not self._hurried.is_set() and self._left_running() and loop.time() < schedule.ends_at
        ):
            await self._pause(TICK)

    async def close(self) -> None:
        """Ends every session now; after a drain there are none."""
        self._listener.stop_accepting()
        self._listener.turn_away()
        self.forced += self._listener.passthroughs.see_off()
        for client in list(self._listener.clients):
            if state_of(client) is not State.LEAVING:
                self._cut_off(client)
        loop = asyncio.get_running_loop()
        patience = loop.time() + 2 * LINGER
        while self._anybody and loop.time() < patience:  # noqa: ASYNC110 - both are the listener's
            await asyncio.sleep(TICK)
        if self.forced:
            _log.warning("cut_off", clients=self.forced)

    @property
    def _anybody(self) -> bool:
        listener = self._listener
        return bool(listener.clients or listener.arriving or listener.passthroughs.open)

    # --- inside -------------------------------------------------------------------------------

    async def _let_in(self, schedule: Schedule) -> None:
        """Serves as ever until the port is to be closed: whoever sends clients here may not know
        yet that it should not."""
        loop = asyncio.get_running_loop()
        while not self._hurried.is_set():
            self._log_line()
            left = schedule.closes_at - loop.time()
            if left <= 0:
                return
            await self._pause(min(left, CENSUS))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            pass

    def _see_off(self, schedule: Schedule, now: float) -> None:
        for client in list(self._listener.clients):
            departure = self._departures.get(client)
            if departure is None:
                departure = schedule.latecomer(now)
                self._departures[client] = departure
            if now < departure.due:
                continue
            door = self._doors.get(client)
            if door is None:
                door = self._doors[client] = Door(client, departure, schedule)
            relay = client.relay
            assert relay is not None
            verdict = schedule.verdict(
                departure,
                state_of(client),
                now,
                quiet=door.quiet,
                unsent=_unsent(client),
            )
            if verdict is Verdict.GO:
                self._dismiss(client)
            elif verdict is Verdict.CANCEL:
                departure.cancelled = True
                relay.cancels.ask()
            elif verdict is Verdict.CUT:
                self._cut_off(client)
        for client in self._departures.keys() - self._listener.clients:
            del self._departures[client]
            self._doors.pop(client, None)

    def _drop_stalled(self, now: float) -> None:
        for client in list(self._listener.clients):
            departure = self._departures.get(client)
            if (
                departure is not None
                and departure.is_stalled(_unsent(client), now)
                and state_of(client) is not State.LEAVING
            ):
                self._cut_off(client)

    def _dismiss(self, client: ClientConnection) -> None:
        """Sees off a client between transactions, unless its next statement is here already."""
        relay = client.relay
        assert relay is not None
        if not client.has_unread:
            relay.fail(GOING_AWAY)

    def _cut_off(self, client: ClientConnection) -> None:
        relay = client.relay
        assert relay is not None
        self.forced += 1
        relay.fail(GOING_AWAY)

    def _log_line(self) -> None:
        counts = {state: count for state, count in self.counts().items() if count}
        listener = self._listener
        clients = len(listener.clients) + len(listener.passthroughs)
        _log.info("draining", clients=clients, **counts)


def state_of(client: ClientConnection) -> State:
    """What a client is doing."""
    relay = client.relay
    if relay is None or relay.phase == GONE:
        return State.LEAVING
    if relay.phase == WAITING:
        return State.WAITING
    batch = relay.batch
    if (
        relay.phase == SETTLING
        or not relay.inflight.settled
        or batch.open
        or batch.continues
        or relay.requests.are_held
        or batch.input.held > 0
        or batch.input.pos > batch.input.size
    ):
        return State.ACTIVE
    if relay.front.status != STATUS_IDLE:
        return State.TRANSACTION
    return State.IDLE if relay.pinning.pin is None else State.PINNED


def _unsent(client: ClientConnection) -> int:
    size: int = client.transport.get_write_buffer_size()
    return size
