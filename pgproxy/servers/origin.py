"""How a session begins: what its start-up settings make a server report.

The settings of a start-up packet are given to a server connection as any session's are
(protocol/settings.py), so that clients with different ones share connections. The first client
with a set of them finds out whether a server accepts them and what it reports then; the others are
told the same.
"""

from collections.abc import Callable
from typing import Any

from pgproxy.errors import PROTOCOL_VIOLATION, PgError
from pgproxy.frames.codes import B_ERROR_RESPONSE, B_PARAMETER_STATUS, B_READY_FOR_QUERY
from pgproxy.frames.read import server_error
from pgproxy.frames.splitter import NEED_DATA
from pgproxy.protocol.settings import Origin, Settings, restore
from pgproxy.servers.connection import Owner, ServerConnection
from pgproxy.servers.group import PoolGroup
from pgproxy.servers.slots import Profile, Slot


class Introduction(Owner):
    """Gives `base` to a server connection of `profile`, and this back. `done` is called once, with
    the error if there was one."""

    def __init__(
        self,
        group: PoolGroup,
        target: int,
        profile: Profile,
        base: Settings,
        done: Callable[[Origin | None, PgError | None], None],
    ) -> None:
        super().__init__()
        self._group = group
        self._target = target
        self._profile = profile
        self._base = base
        self._done: Any = done
        self._server: ServerConnection | None = None
        self._awaited = 0
        self._took_over = False  # a connection that had another session's settings
        self._error: PgError | None = None

    def ask(self) -> None:
        base = self._base
        self.allowed = base.allowed
        server = self._group.acquire(self._target, self._profile, self, settings=base)
        if server is not None:
            self.granted(server)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        server, self._server = self._server, None
        if server is None:
            self._group.cancel_wait(self)
        else:
            self._group.pool_of(server).discard(server)

    # --- for the pool -------------------------------------------------------------------------

    def granted(self, slot: Slot) -> None:
        assert isinstance(slot, ServerConnection)
        message, first = restore(
            slot.settings, self._base, or_end=False, as_superuser=slot.profile.is_superuser
        )
        slot.owner = self
        self._server = slot
        self._took_over = len(slot.settings.values) > 0
        if not message:
            self._succeed(slot)
            return
        slot.custom.update(self._base.custom)
        self._awaited = 2 if first else 1
        slot.prepared.unnamed = None
        slot.show_rows()
        slot.write(first + message)

    def refused(self, error: PgError) -> None:
        self._done(None, error)

    def reroute(self) -> None:
        self.ask()

    # --- for the connection -------------------------------------------------------------------

    def server_data(self, chunk: bytes) -> None:
        server = self._server
        if server is None:
            return
        splitter = server.splitter
        try:
            splitter.feed(chunk)
            kind = splitter.next()
            while kind != NEED_DATA:
                if kind == B_PARAMETER_STATUS:
                    server.note_status()
                elif kind == B_ERROR_RESPONSE and self._awaited == 1:
                    body = splitter.data[splitter.start + 5 : splitter.end]
                    self._error = server_error(body, "the server refused the settings")
                elif kind == B_READY_FOR_QUERY:
                    self._awaited -= 1
                kind = splitter.next()
            splitter.keep = splitter.passed
        except PgError as error:
            self._fail(server, error)
            return
        if self._awaited > 0:
            return
        if self._error is not None:
            refusal, self._error = self._error, None
            if self._took_over:
                self._clean(server)  # it may have been those
                self.ask()
            else:
                self._fail(server, refusal)
            return
        server.rows_shown()
        server.settings = self._base
        self._succeed(server)

    def server_lost(self, reason: str) -> None:
        self._server = None
        self._done(None, PgError("08006", "the connection to the server was lost", detail=reason))

    def server_writable(self, writable: bool) -> None:
        pass

    def _succeed(self, server: ServerConnection) -> None:
        self._server = None
        self._group.give_back(server)
        self._done(Origin(self._base, server.reported), None)

    def _fail(self, server: ServerConnection, error: PgError) -> None:
        if error.sqlstate == PROTOCOL_VIOLATION:
            self._server = None
            self._group.pool_of(server).discard(server)
        else:
            self._clean(server)
        self._done(None, error)

    def _clean(self, server: ServerConnection) -> None:
        self._server = None
        server.rows_shown()
        self._group.pool_of(server).reset(server, transaction=True, session=True)
