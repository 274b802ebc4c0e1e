"""HOT. Cleans a connection after a client that has left something behind: ROLLBACK, DISCARD ALL."""

from typing import TYPE_CHECKING, Any, final

from mypy_extensions import i64

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import (
    B_ERROR_RESPONSE,
    B_PARAMETER_STATUS,
    B_READY_FOR_QUERY,
    STATUS_IDLE,
)
from pgproxy.frames.splitter import NEED_DATA
from pgproxy.protocol.prepared import PreparedOnServer
from pgproxy.protocol.settings import NOTHING_SET
from pgproxy.servers.connection import Owner, ServerConnection
from pgproxy.servers.slots import Slot

if TYPE_CHECKING:
    from pgproxy.servers.pool import Pool

# Seconds to clean a connection before it is closed instead.
RESET_TIMEOUT = 5.0


@final
class Reset(Owner):
    """`begin` is to follow once the connection has a seat."""

    def __init__(
        self, pool: "Pool", server: ServerConnection, *, transaction: bool, session: bool, owed: int
    ) -> None:
        super().__init__()
        self.pool = pool
        self.server = server
        self.awaited: i64 = owed
        self.failed = False
        self.timer: Any = pool.context.call_later(RESET_TIMEOUT, self._too_late)
        server.owner = self
        self._messages = b""
        # DISCARD ALL cannot run in a transaction block, so these are two messages.
        if transaction:
            self._messages += write.query(b"ROLLBACK")
            self.awaited += 1
        if session:
            self._messages += write.query(b"DISCARD ALL")
            self.awaited += 1
            server.prepared = PreparedOnServer(pool.context.max_prepared)
            server.settings = NOTHING_SET
        server.prepared.unnamed = None

    def begin(self) -> None:
        self.server.write(self._messages)

    def granted(self, slot: Slot) -> None:
        self.begin()

    def server_data(self, chunk: bytes) -> None:
        splitter = self.server.splitter
        try:
            splitter.feed(chunk)
            kind = splitter.next()
            while kind != NEED_DATA:
                if kind == B_ERROR_RESPONSE:
                    self.failed = True
                elif kind == B_PARAMETER_STATUS:
                    self.server.note_status()
                elif kind == B_READY_FOR_QUERY:
                    self.awaited -= 1
                    if splitter.data[splitter.start + 5] != STATUS_IDLE and self.awaited == 0:
                        self.failed = True
                kind = splitter.next()
            splitter.keep = splitter.passed
        except PgError:
            self.failed = True
            self.awaited = 0
        if self.awaited > 0:
            return
        self.timer.cancel()
        while self.server.hidden_rows > 0:  # questions of its last owner
            self.server.rows_shown()
        if self.failed:
            self.pool.discard(self.server)
            return
        self.pool.cleaned(self.server)

    def server_lost(self, reason: str) -> None:
        self.timer.cancel()

    def server_writable(self, writable: bool) -> None:
        pass

    def _too_late(self) -> None:
        self.pool.discard(self.server)
