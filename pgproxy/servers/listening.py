"""One listening connection for all clients of a database that listen, and what it hears.

A `Shared` is that connection for one (database, client encoding): it listens on the primary to
every channel that a client of this proxy listens to, and gives each notification to those who do,
in the order in which they came. It is logged in as the user of the first listener, for LISTEN needs
no privilege, and belongs to no pool. It follows the primary: when another server takes over, or the
connection is lost, it is made anew and listens again to everything. What was notified in between is
lost, as for any client that reconnects.

A *marker* is an empty query on it. When it is answered, every notification of transactions that had
committed before it was sent has been given out: PostgreSQL signals the listening backends before it
answers the COMMIT, and a backend sends what it was signalled before its next ReadyForQuery
(ProcessNotifyInterrupt in PostgresMain).
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.frames import read, write
from pgproxy.frames.codes import (
    B_ERROR_RESPONSE,
    B_NOTIFICATION_RESPONSE,
    B_READY_FOR_QUERY,
)
from pgproxy.frames.splitter import NEED_DATA, Splitter, wants
from pgproxy.protocol.leadin import quoted
from pgproxy.servers.audience import Audience, Hearer, Wait, Waits
from pgproxy.servers.budget import Place
from pgproxy.servers.cluster import Cluster
from pgproxy.servers.connection import Keeper, Owner, ServerConnection
from pgproxy.servers.handout import Asked, HandOut
from pgproxy.servers.openings import RETRY_FIRST, RETRY_LAST, TRANSIENT
from pgproxy.servers.slots import Profile
from pgproxy.servers.words import no_primary_error

# A notification is at most 8000 bytes of payload and a name.
LISTENED_FRAMES: Final = wants(pass_by=b"DdcTtC", header=b"123GHWIVnsNSKRv", body=b"AEZ")
WHOLE_FRAME: Final = 65536

APPLICATION_NAME: Final = b"pgproxy listening"

# Seconds.
TICK: Final = 0.25
KEEP: Final = 5.0  # the connection is kept after the last listener has gone
QUIET: Final = 30.0  # after which a connection that says nothing is asked whether it is there
ANSWER: Final = 5.0  # in which a marker must be answered, or the connection is given up

COMMAND: Final = 0
MARKER: Final = 1


class _NoPool(Keeper):
    """The connection belongs to none."""

    def __init__(self) -> None:
        pass

    def release(self, server: ServerConnection) -> None:
        pass

    def connection_lost(self, server: ServerConnection) -> None:
        pass

    def idle_data(self, server: ServerConnection) -> None:
        server.close()


@final
class Shared(Owner):
    def __init__(self, listening: "Listening", database: str, encoding: bytes) -> None:
        super().__init__()
        self.listening = listening
        self.cluster = listening.cluster
        self.database = database
        self.encoding = encoding
        self.server: ServerConnection | None = None
        self.audience = Audience()
        self._confirmed: set[bytes] = set()
        self._asking: dict[bytes, i64] = {}  # the number of the last LISTEN sent for a channel
        self._number: i64 = 0
        self._asked: deque[Asked] = deque()
        self._waits = Waits()
        self._is_opening = False
        self._retry_at = 0.0
        self._retry_pause = RETRY_FIRST
        self._refused_users: set[str] = set()
        self._last_error: PgError | None = None
        self._heard_at = 0.0
        self._unused_since = 0.0
        self.is_closed = False
        self._hand_out = HandOut(self._answered, self._read_on, self.cluster.context.call_later)
        self._timer: Any = None
        self._tick_later()

    # --- for clients --------------------------------------------------------------------------

    def listen(
        self, hearer: Hearer, channels: list[bytes], done: Callable[[PgError | None], None]
    ) -> bool:
        """Whether all of the channels are listened to. If not, `done` will be called."""
        missing: set[bytes] = set()
        self.audience.join(hearer, channels)
        for channel in channels:
            if channel not in self._confirmed:
                missing.add(channel)
                if self.server is not None and channel not in self._asking:
                    self._ask_for(channel)
        if not missing:
            return True
        deadline = time.monotonic() + self.cluster.settings.failover_wait
        self._waits.add(Wait(hearer, missing, done, deadline))
        if self.server is None:
            self._connect()
        return False

    def keep(self, hearer: Hearer, wanted: set[bytes]) -> None:
        """The client does not need other channels than these any more."""
        was_used = bool(self.audience.hearers)
        for channel in self.audience.keep(hearer, wanted):
            self._leave(channel)
        if was_used and not self.audience.hearers:
            self._unused_since = time.monotonic()

    def gone(self, hearer: Hearer) -> None:
        """The client does not wait any more."""
        self._waits.leave(hearer)

    def mark(self, hearer: Hearer, done: Callable[[], None]) -> bool:
        """Calls `done` once all that has been notified by now has come, and been given out if the
        client listens here; False: not connected, so that nothing will."""
        if self.server is None:
            return False
        asked = Asked(MARKER, b"", 0, done)
        asked.in_turn = hearer in self.audience.hearers
        self._ask(write.query(b""), asked)
        return True

    # --- the connection -----------------------------------------------------------------------

    def _ask(self, message: bytes, asked: Asked) -> None:
        assert self.server is not None
        self._asked.append(asked)
        self.server.write(message)

    def _ask_for(self, channel: bytes) -> None:
        self._number += 1
        self._asking[channel] = self._number
        self._ask(
            write.query(b"LISTEN " + quoted(channel)),
            Asked(COMMAND, channel, self._number, None),
        )

    def _leave(self, channel: bytes) -> None:
        self._confirmed.discard(channel)
        if self._asking.pop(channel, None) is not None and self.server is not None:
            self._ask(write.query(b"UNLISTEN " + quoted(channel)), Asked(COMMAND, b"", 0, None))

    def _connect(self) -> None:
        if self._is_opening or self.is_closed or self.server is not None:
            return
        if self.cluster.primary is None or time.monotonic() < self._retry_at:
            return  # `_tick` tries again
        self._is_opening = True
        self.cluster.context.spawn(self._open())

    async def _open(self) -> None:
        context = self.cluster.context
        backend = self.cluster.primary
        assert backend is not None
        user = self._user()
        if user is None:
            self._is_opening = False
            return
        parameters = [(b"application_name", APPLICATION_NAME)]
        if self.encoding:
            parameters.append((b"client_encoding", self.encoding))
        server = ServerConnection(Profile(parameters), backend, self.listening.no_pool, 0)
        server.splitter = Splitter(LISTENED_FRAMES, WHOLE_FRAME)
        server.owner = self
        place = Place(backend.budget)
        server.on_end = place.leave
        try:
            await context.open_server(server, self.database, user)
        except PgError as error:
            place.leave()
            context.counters.server_logins_failed += 1
            self._open_failed(user, error)
            return
        finally:
            self._is_opening = False
        context.counters.servers_opened += 1
        if self.is_closed or self.cluster.primary is not backend or server.doomed:
            server.owner = None
            server.abort()
            self._connect()
            return
        self.server = server
        self._heard_at = time.monotonic()
        self._retry_pause = RETRY_FIRST
        self._refused_users.clear()
        for channel in self.audience.channels:
            self._ask_for(channel)

    def _user(self) -> str | None:
        """The first listener's; after a log-in that was refused, another's."""
        users = [hearer.user for hearer in self.audience.hearers]
        for user in users:
            if user not in self._refused_users:
                return user
        self._refused_users.clear()
        return users[0] if users else None

    def _open_failed(self, user: str, error: PgError) -> None:
        self._last_error = error
        self._retry_at = time.monotonic() + self._retry_pause
        self._retry_pause = min(self._retry_pause * 2, RETRY_LAST)
        if error.sqlstate.startswith(TRANSIENT):
            if self.cluster.primary is not None:
                self.cluster.context.unreachable(self.cluster.primary.name)
            return
        self._refused_users.add(user)
        if all(hearer.user in self._refused_users for hearer in self.audience.hearers):
            for wait in self._waits.take(float("inf")):
                wait.done(error)

    def primary_changed(self) -> None:
        """There is news of the topology."""
        server = self.server
        primary = self.cluster.primary
        if server is not None and primary is not None and server.backend is not primary:
            self._drop()
        self._retry_at = 0.0
        if self.server is None and self.audience.hearers:
            self._connect()

    def _drop(self) -> None:
        server = self.server
        if server is not None:
            server.owner = None
            server.abort()
            self._lost()

    def close(self) -> None:
        """For good."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        server, self.server = self.server, None
        if server is not None:
            server.owner = None
            server.leave(self.cluster.context.call_later)
        self._release_marked()

    # --- from the server ----------------------------------------------------------------------

    def server_data(self, chunk: bytes) -> None:
        server = self.server
        if server is None:
            return
        self._heard_at = time.monotonic()
        splitter = server.splitter
        early: list[Asked] = []
        try:
            splitter.feed(chunk)
            kind = splitter.next()
            while kind != NEED_DATA:
                if kind == B_NOTIFICATION_RESPONSE:
                    self._notification(server, splitter.data[splitter.start : splitter.end])
                elif kind == B_READY_FOR_QUERY:
                    if self._asked:
                        answered = self._asked.popleft()
                        if answered.in_turn:
                            self._hand_out.answer(answered)
                        else:
                            early.append(answered)
                elif kind == B_ERROR_RESPONSE and self._asked:
                    body = splitter.data[splitter.start + 5 : splitter.end]
                    self._asked[0].error = read.server_error(body, "LISTEN failed")
                kind = splitter.next()
            splitter.keep = splitter.passed
        except PgError:
            self._asked.extend(early)
            self._drop()
            return
        for answered in early:
            self._answered(answered)
        self._hand_out.begin()

    def _notification(self, server: ServerConnection, frame: bytes) -> None:
        channel = frame[9 : frame.index(b"\x00", 9)]
        self.listening.notifications += 1
        hearers = self.audience.of(channel)
        if hearers is None:
            return
        shown = self.listening.shown_pids.get((server.backend.name, read.int32(frame, 5)))
        if shown is not None:
            frame = frame[:5] + write.int32(shown) + frame[9:]
        self._hand_out.notification(channel, frame, hearers)
        if self._hand_out.is_full:
            server.set_reading(False)

    def _read_on(self) -> None:
        if self.server is not None:
            self.server.set_reading(True)

    def _answered(self, asked: Asked) -> None:
        if asked.kind == MARKER:
            if asked.done is not None:
                asked.done()
            return
        channel = asked.channel
        if not channel or self._asking.get(channel) != asked.number:
            return  # UNLISTEN, or a LISTEN that has been taken back
        if asked.error is not None:
            del self._asking[channel]
            self._waits.told(channel, asked.error)
            return
        self._confirmed.add(channel)
        self._waits.told(channel, None)

    def server_lost(self, reason: str) -> None:
        self._lost()

    def server_writable(self, writable: bool) -> None:
        pass  # what is asked here is small, and asked once

    def _lost(self) -> None:
        self.server = None
        self.listening.losses += 1
        self._confirmed.clear()
        self._asking.clear()
        self._waits.begin_again()
        self._release_marked()
        if self.audience.hearers:
            self._connect()

    def _release_marked(self) -> None:
        """Nothing will come any more for those who wait for it."""
        asked = list(self._asked)
        self._asked.clear()
        for one in asked:
            if one.done is not None:
                self._hand_out.answer(one)
        self._hand_out.begin_soon()

    # --- time ---------------------------------------------------------------------------------

    def _tick_later(self) -> None:
        self._timer = self.cluster.context.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        for wait in self._waits.take(now):
            wait.done(self._why_not())
        if not self.audience.hearers and not self._is_opening and now - self._unused_since > KEEP:
            self.listening.forget(self)
            return
        if self.server is not None:
            if self._asked:
                silent = now - max(self._asked[0].at, self._heard_at)
                if silent > ANSWER and not self._hand_out.outgoing:
                    self._drop()
            elif now - self._heard_at > QUIET:
                self._ask(write.query(b""), Asked(MARKER, b"", 0, None))
        elif self.audience.hearers:
            self._connect()
        self._tick_later()

    def _why_not(self) -> PgError:
        if self._last_error is not None and self.cluster.primary is not None:
            error = self._last_error
            return PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint)
        return no_primary_error(self.cluster.settings.failover_wait)


@final
class Listening:
    """All listening connections."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.no_pool = _NoPool()
        # By backend and process id of a server connection on which a client has just notified: the
        # process id that this client was told for its own.
        self.shown_pids: dict[tuple[str, int], int] = {}
        self._shared: dict[tuple[str, bytes], Shared] = {}
        self.notifications: i64 = 0  # received
        self.delivered: i64 = 0
        self.overflows: i64 = 0  # clients that did not read theirs
        self.losses: i64 = 0  # of connections

    def shared(self, database: str, encoding: bytes) -> Shared:
        """The one for this database, made if there is none."""
        key = (database, encoding)
        found = self._shared.get(key)
        if found is None:
            found = Shared(self, database, encoding)
            self._shared[key] = found
        return found

    def connected(self, database: str, encoding: bytes) -> Shared | None:
        """One that is connected: if there is a choice, of the same encoding."""
        if not self._shared:
            return None
        found = self._shared.get((database, encoding))
        if found is not None and found.server is not None:
            return found
        for shared in self._shared.values():
            if shared.database == database and shared.server is not None:
                return shared
        return None

    def all(self) -> list[Shared]:
        return list(self._shared.values())

    def forget(self, shared: Shared) -> None:
        """Nobody has listened there for a while."""
        shared.close()
        self._shared.pop((shared.database, shared.encoding), None)

    def desert(self, database: str) -> None:
        """Leaves a database in which nobody listens."""
        for shared in self.all():
            if shared.database == database and not shared.audience.hearers:
                self.forget(shared)

    def topology_changed(self) -> None:
        for shared in self.all():
            shared.primary_changed()

    def close(self) -> None:
        for shared in self.all():
            shared.close()
