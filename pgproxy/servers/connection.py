"""HOT. One connection to one PostgreSQL server, after log-in.

It belongs to one ledger and, while leased, to one owner, whom it hands every chunk. It is used as
an asyncio protocol, but does not derive from one: a class compiled by mypyc cannot, and uvloop
asks only for the methods.
"""

from collections.abc import Callable
from typing import Any, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.frames.codes import B_ERROR_RESPONSE, B_PARAMETER_STATUS
from pgproxy.frames.read import parameter_status
from pgproxy.frames.splitter import NEED_DATA, Splitter, wants
from pgproxy.frames.write import TERMINATE
from pgproxy.protocol.prepared import PreparedOnServer
from pgproxy.servers.backend import Backend
from pgproxy.servers.limiter import Seat
from pgproxy.servers.slots import Profile, Slot, Waiter
from pgproxy.telemetry.counters import Structure

# Rows and copy data pass; of everything else at least the type matters. Those that answer a message
# and have a body are shown whole: what they answer may be hidden, or our answer to the next message
# goes behind them, and neither can be done in the middle of a frame.
SERVER_FRAMES = wants(pass_by=b"Ddc", header=b"123GHWIVnsNA", body=b"CTtZESKRv")

# The same where rows are for the proxy itself.
ROWS_TOO = wants(pass_by=b"dc", header=b"123GHWIVnsNA", body=b"CTtZESKRvD")

# The largest of those is a ParameterDescription of 65535 OIDs.
WHOLE_FRAME = 1 << 19

# Seconds in which a server that was told Terminate may close the connection itself.
FAREWELL = 2.0


class Owner(Waiter):
    """Who a server connection works for: a client's relay, or the one who resets it."""

    def __init__(self) -> None:
        super().__init__()
        self.leased_at = 0.0

    @property
    def at_rest(self) -> bool:
        """Between transactions, with nothing on its way."""
        return False

    @property
    def runs_alone(self) -> Structure | None:
        """What has no answer yet, if it is all that the lease has run, outside of a transaction."""
        return None

    def server_data(self, chunk: bytes) -> None:
        raise NotImplementedError

    def server_lost(self, reason: str) -> None:
        raise NotImplementedError

    def server_writable(self, writable: bool) -> None:
        """The server's write buffer has room (again), or has none."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Somebody waits for the connection that it holds without need."""


class Keeper:
    """The pool, as far as a connection needs to know it."""

    @property
    def serves_clients(self) -> bool:
        """Whether its connections run what clients send."""
        return False

    def may_ask(self, server: "ServerConnection", call: "Callable[[PgError | None], None]") -> bool:
        """Whether something may be asked on a connection that is being opened; if not now, `call` is
        called when it may, or with the error if it never may. `has_asked` is to follow in any case.
        Raises `PgError` if it may not at all."""
        return True

    def has_asked(self, server: "ServerConnection") -> None:
        """It has, or will not any more."""

    def release(self, server: "ServerConnection") -> None:
        raise NotImplementedError

    def connection_lost(self, server: "ServerConnection") -> None:
        raise NotImplementedError

    def farewell_is_over(self, server: "ServerConnection") -> None:
        """It was told to end, and has not yet."""
        server.close()

    def idle_data(self, server: "ServerConnection") -> None:
        raise NotImplementedError


@final
class ServerConnection(Slot):
    def __init__(
        self, profile: Profile, backend: Backend, keeper: Keeper, max_prepared: int
    ) -> None:
        super().__init__(profile)
        self.backend = backend
        self.keeper = keeper
        self.owner: Owner | None = None
        self.transport: Any = None
        self.write: Any = None
        self.splitter = Splitter(SERVER_FRAMES, WHOLE_FRAME)
        self.prepared = PreparedOnServer(max_prepared)
        self.pid = 0
        self.secret = b""
        self.cancels: i64 = 0  # cancel requests on their way to this server
        self.release_pending = False  # released, but a cancel is still on its way
        self.may_be_hit = False  # by one of which nobody knows any more where it is
        self.reading = True
        self.write_paused = False
        self.at_work = False  # perhaps in the middle of a query
        self.hangs_up = False  # what it was sent may take effect, as if its client had hung up
        self.cut_because = ""
        # What it last reported of its settings (ParameterStatus). A change makes a new one.
        self.reported = profile.reported
        self.hidden_rows: i64 = 0  # messages in flight whose rows are for the proxy
        self.on_end: Callable[[], None] | None = None  # called when the server has ended it
        self.writer: object = None  # who has written here last, and so used sequences
        self.seat: Seat | None = None  # if seats are limited (servers/seats.py)
        self.needs_seat = False  # has one, and may not run anything
        self.lingers = False  # is to end, and has its seat until it has

    def adopt(self, transport: Any, pid: int, secret: bytes) -> None:
        """Takes over the transport of a finished log-in."""
        self.transport = transport
        self.write = transport.write
        self.pid = pid
        self.secret = secret
        transport.set_protocol(self)

    # --- asyncio ------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        pass  # log-in has made it long ago

    def data_received(self, chunk: bytes) -> None:
        owner = self.owner
        if owner is not None:
            owner.server_data(chunk)
            return
        self._idle_data(chunk)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: object) -> None:
        self.doomed = True
        self.write = _write_nowhere
        owner = self.owner
        self.owner = None
        if self.on_end is not None:
            self.on_end()
        self.keeper.connection_lost(self)
        if owner is not None:
            why = str(error) if error else "the server closed the connection"
            owner.server_lost(self.cut_because or why)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.owner is not None:
            self.owner.server_writable(False)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.owner is not None:
            self.owner.server_writable(True)

    # --- for owners ---------------------------------------------------------------------------

    def set_reading(self, reading: bool) -> None:
        """Stops or resumes reading; idempotent."""
        if reading == self.reading or self.transport is None or self.transport.is_closing():
            return
        self.reading = reading
        if reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def show_rows(self) -> None:
        """The rows of one message more are for the proxy: the splitter stops at rows as well."""
        self.hidden_rows += 1
        self.splitter.table = ROWS_TOO

    def rows_shown(self) -> None:
        """That message is answered."""
        self.hidden_rows -= 1
        if self.hidden_rows == 0:
            self.splitter.table = SERVER_FRAMES

    def note_status(self) -> tuple[bytes, bytes]:
        """Takes note of the ParameterStatus at hand: its name and value."""
        splitter = self.splitter
        name, value = parameter_status(splitter.data[splitter.start + 5 : splitter.end])
        if self.reported.get(name) != value:
            reported = self.reported.copy()
            reported[name] = value
            self.reported = reported
        return name, value

    def close(self) -> None:
        """Still sends what is to be sent."""
        self.doomed = True
        if self.transport is not None:
            self.transport.close()

    def leave(self, call_later: Callable[[float, Callable[[], None]], Any]) -> None:
        """Ends it: with Terminate where the server listens, at once where it is at work, unless it
        hangs up.

        After Terminate, and after the end of what it can read, the server is the first to close,
        which it does when its session counts no more. Whoever opens another one before that may
        exceed what the server is to be used for. One that has a seat is waited for, be it at work or
        not: closed, it would work on unseen.
        """
        is_open = not self.transport.is_closing()
        self.lingers = is_open and self.seat is not None and not self.needs_seat
        waits = is_open and (self.lingers or self.hangs_up)
        if self.at_work and not (waits and self.transport.can_write_eof()):
            self.lingers = False
            self.abort()
            return
        self.doomed = True
        if self.at_work:
            self.transport.write_eof()  # it may be in the middle of a frame
        else:
            self.write(TERMINATE)
        self.set_reading(True)
        if not self.lingers:
            call_later(FAREWELL, self._is_late)

    def _is_late(self) -> None:
        self.keeper.farewell_is_over(self)

    def abort(self) -> None:
        """Closes without waiting for the server to read what is still buffered."""
        self.doomed = True
        if self.transport is not None:
            self.transport.abort()

    def cut(self, reason: str) -> None:
        """Ends it at once: of what is still to be sent nothing is, nor of what comes after. Its
        owner is told the reason, in its own turn."""
        self.cut_because = reason
        self.write = _write_nowhere
        self.abort()

    def _idle_data(self, chunk: bytes) -> None:
        # Nobody asked anything: settings reported after a reload, or the server is going away.
        try:
            splitter = self.splitter
            splitter.feed(chunk)
            kind = splitter.next()
            while kind != NEED_DATA:
                if kind == B_ERROR_RESPONSE:
                    self.doomed = True
                elif kind == B_PARAMETER_STATUS:
                    self.note_status()
                kind = splitter.next()
            splitter.keep = splitter.passed
        except PgError:
            self.doomed = True
        if self.doomed:
            self.keeper.idle_data(self)

    def __repr__(self) -> str:
        return f"<ServerConnection {self.backend.name} pid={self.pid} place={self.place}>"


def _write_nowhere(data: bytes) -> None:
    """The write method of a connection that is gone; its owner is about to hear of it."""
