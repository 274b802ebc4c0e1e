"""HOT. What a server says, on its way to the client.

    chunk -> replies owed (protocol/inflight.py) -> client -> release

Most chunks leave as they came. What answers a message of the proxy's own is taken out of them; what
the client must not see, because the statement is run again elsewhere (rerun.py, net.py, healing.py),
ends the chunk; answers that no server gives are put between those that it gives.
"""

from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.errors import INTERNAL_ERROR, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import (
    B_COMMAND_COMPLETE,
    B_DATA_ROW,
    B_ERROR_RESPONSE,
    B_NOTICE_RESPONSE,
    B_PARAMETER_DESCRIPTION,
    B_PARAMETER_STATUS,
    B_PORTAL_SUSPENDED,
    B_READY_FOR_QUERY,
    STATUS_IDLE,
    STATUS_IN_TRANSACTION,
)
from pgproxy.frames.read import is_fatal
from pgproxy.frames.splitter import NEED_DATA, Splitter
from pgproxy.protocol.inflight import (
    ASK,
    FORWARD,
    HELD_BEGIN,
    HIDE,
    LINE_UP,
    REPLACE,
    RESTORE,
    Owed,
)
from pgproxy.protocol.prepared import SERVER_PREFIX
from pgproxy.protocol.states import CLOSE, PARSE, WAITING
from pgproxy.relay.healing import CHANGED, OTHER_COLUMNS, OUTDATED
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

PARAMETER_STATUS: Final = bytes([B_PARAMETER_STATUS])

# What has become of an ErrorResponse.
TO_BE_READ: Final = 0
TAKEN_OUT: Final = 1
OVER: Final = 2  # the server is not the relay's any more


@final
class Answers:
    """One relay's. Beside the relay all that is kept here is of the chunk at hand."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self._pieces: list[bytes] = []  # what of the chunk up to `_done` the client gets
        self._done: i64 = 0
        self._is_ready = False  # a ReadyForQuery was in it
        self._ready_at: i64 = -1  # the end of the last one for the client
        self._ready_done: i64 = 0  # what `_done` and the number of pieces were then
        self._ready_pieces: i64 = 0
        self._is_completed = False  # a CommandComplete has come since

    def read(self, server: ServerConnection, chunk: bytes) -> None:
        relay = self.relay
        splitter = server.splitter
        inflight = relay.inflight
        if len(self._pieces) > 0:
            self._pieces = []
        self._done = 0
        self._is_ready = False
        self._ready_at = -1
        self._ready_done = 0
        self._ready_pieces = 0
        self._is_completed = False
        try:
            splitter.feed(chunk)
            answers = inflight.due()
            if len(answers) > 0:
                self._pieces.append(answers)
            while True:
                kind = splitter.next()
                if kind == NEED_DATA:
                    break
                if kind == B_ERROR_RESPONSE:
                    fate = self._first_look(server)
                    if fate == OVER:
                        return
                    if fate == TAKEN_OUT:
                        continue
                verdict = inflight.reply(kind)
                if kind == B_PARAMETER_STATUS:
                    verdict = self._parameter_status(server)
                elif kind == B_PARAMETER_DESCRIPTION and relay.healing.hides_parameters:
                    relay.healing.hides_parameters = False
                    verdict = HIDE
                if verdict != FORWARD and not self._take_out(server, kind, verdict):
                    return
                if kind == B_READY_FOR_QUERY:
                    self._ready(server, verdict)
                elif kind == B_COMMAND_COMPLETE:
                    self._is_completed = verdict == FORWARD
                    if inflight.names_done:
                        relay.named.done(server)
                elif kind == B_ERROR_RESPONSE:
                    if not self._error(server, verdict):
                        return
                elif kind == B_PORTAL_SUSPENDED:
                    relay.moving.suspended()
                elif (
                    kind == B_NOTICE_RESPONSE
                    and relay.on_replica
                    and relay.net.catches_farewell(server, told=self._is_partly_told())
                ):
                    self._give_whole(splitter)
                    relay.net.go_on(server, ended=True)
                    return
                if inflight.has_void:
                    self.undo(server)
                answers = inflight.due()
                if len(answers) > 0:
                    self._keep(splitter, splitter.end)
                    self._pieces.append(answers)
        except PgError as error:
            self._break(server, error)
            return
        self._pass_on(server)

    # --- frame by frame -----------------------------------------------------------------------

    def _first_look(self, server: ServerConnection) -> i64:
        """An ErrorResponse may be the server's farewell, of which the client need not know."""
        relay = self.relay
        splitter = server.splitter
        if relay.sequences.holds:
            # It goes away, and nobody works on it.
            server.doomed = True
            relay.let_go()
            return OVER
        pin = relay.pinning.pin
        if relay.phase == WAITING and pin is None:
            server.doomed = True
            relay.waits_elsewhere(server)
            return OVER
        if self._is_ready and self._is_done_with_server():
            # The server is going away, which is no longer this client's affair.
            server.doomed = True
            self._drop(splitter)
            return TAKEN_OUT
        if relay.rerun.is_over(server):
            self._say_ready(server)
            return TAKEN_OUT
        if relay.on_replica and relay.net.is_on:
            told = self._is_partly_told()
            if relay.net.catches_end(server, told=told, completed=self._is_completed):
                self._give_whole(splitter)
                relay.net.go_on(server, ended=True)
                return OVER
        elif relay.rerun.may_hide(server, self._ready_at, self._is_completed):
            self._give_whole(splitter)
            relay.rerun.leave(server)
            return OVER
        return TO_BE_READ

    def _say_ready(self, server: ServerConnection) -> None:
        """It has done all it was asked but say so."""
        relay = self.relay
        notifications = relay.notifications
        server.doomed = True
        relay.inflight.clear()
        if notifications.busy:
            relay.front.channels.ready(STATUS_IDLE, int(relay.front.status))
            notifications.update()
        relay.front.status = STATUS_IDLE
        self._drop(server.splitter)
        self._pieces.append(write.READY_IDLE)
        self._is_ready = True
        self._ready_at = server.splitter.end
        self._mark_ready()

    def _parameter_status(self, server: ServerConnection) -> i64:
        relay = self.relay
        inflight = relay.inflight
        name, value = server.note_status()
        # While they are being restored, settings pass through what is not the session's.
        if inflight.role == RESTORE or relay.journal.is_checking:
            return HIDE
        inflight.replacement = relay.carry.news(name, value)
        return REPLACE

    def _take_out(self, server: ServerConnection, kind: i64, verdict: i64) -> bool:
        """The frame at hand is not the client's. False: neither is the server the relay's any more."""
        relay = self.relay
        splitter = server.splitter
        self._drop(splitter)
        if verdict != HIDE:
            self._pieces.append(relay.inflight.replacement)
            return True
        if kind == B_DATA_ROW:
            relay.carry.row(splitter.data[splitter.start + 5 : splitter.end])
            return True
        if kind != B_ERROR_RESPONSE:
            return True
        frame = splitter.data[splitter.start : splitter.end]
        role = relay.inflight.role
        if role == LINE_UP:
            relay.named.has_failed(frame)
        if role == RESTORE:
            if relay.rerun.may_go_elsewhere():
                relay.rerun.go_elsewhere(server)
                return False
            raise relay.carry.refused(frame)
        if b"\x00VFATAL\x00" in frame:
            self._pieces.append(frame)
        elif role <= HELD_BEGIN:
            if relay.journal.is_checking:
                relay.rerun.differs(server)
                return False
            raise _begin_failed()
        return True

    def _ready(self, server: ServerConnection, verdict: i64) -> None:
        relay = self.relay
        splitter = server.splitter
        if verdict != FORWARD:
            self._is_ready = True
            told = relay.carry.ready(server, int(relay.inflight.role))
            if told:
                self._pieces.append(told)
            return
        if relay.healing.is_on:
            relay.healing.is_on = False
            relay.healing.is_due = True
            self._drop(splitter)
            return
        self._is_ready = True
        front = relay.front
        journal = relay.journal
        traffic = relay.traffic
        before = front.status
        if len(relay.carry.lent) > 0:
            relay.carry.answered()
        if len(relay.carry.resetting) > 0:
            self._keep(splitter, splitter.start)
            self._pieces.append(relay.carry.back_to_base())
        front.status = splitter.data[splitter.start + 5]
        self._ready_at = splitter.end
        self._is_completed = False
        traffic.queries += 1
        if front.status == STATUS_IDLE:
            traffic.transactions += 1
            if relay.carry.touched:
                journal.give_up()  # what is set now, no other server knows
        journal.ready(front.status)
        if relay.overdue is not None:
            relay.overdue.ready()
        if len(relay.named.failure) > 0:
            relay.named.failure = b""
        notifications = relay.notifications
        if notifications.busy and not journal.is_checking:
            news = notifications.ready(before)
            if news or notifications.holds:
                self._keep(splitter, splitter.start)
                self._pieces.append(news)
                if notifications.holds:
                    self._done = splitter.end
        self._mark_ready()

    def _error(self, server: ServerConnection, verdict: i64) -> bool:
        """False: the client need not hear of it, and the server is not the relay's any more."""
        relay = self.relay
        splitter = server.splitter
        if (
            relay.on_replica
            and verdict == FORWARD
            and relay.net.catches(server, told=self._is_partly_told())
        ):
            self._give_whole(splitter)
            relay.net.go_on(server, ended=False)
            return False
        if verdict == FORWARD or relay.inflight.role < ASK:
            self._note_error(server)
        if verdict != FORWARD or splitter.end > splitter.size:
            return True
        frame = splitter.data[splitter.start : splitter.end]
        if relay.overdue is not None and relay.overdue.replaces(frame):
            self._replace(splitter, relay.overdue.instead())
        elif CHANGED in frame and relay.healing.begins(
            server, frame, told=relay.journal.is_partial or self._done < splitter.start
        ):
            self._drop(splitter)
        elif relay.named.failure:
            self._replace(splitter, relay.named.instead(frame))
        elif OTHER_COLUMNS in frame and relay.healing.is_outdated():
            self._replace(splitter, OUTDATED)
        elif SERVER_PREFIX in frame:
            words = relay.batch.statements.in_clients_words(frame, relay.inflight.void)
            self._replace(splitter, words)
        return True

    def _note_error(self, server: ServerConnection) -> None:
        relay = self.relay
        relay.counters.server_errors += 1
        relay.accounts.is_timed = False  # who fails fast is not fast
        relay.front.session.broken = True
        relay.carry.failed = True
        if not relay.journal.is_checking:
            relay.front.channels.failed()
        splitter = server.splitter
        end = splitter.end if splitter.end < splitter.size else splitter.size
        body = splitter.data[splitter.start + 5 : end]
        if is_fatal(body):
            relay.server_said_goodbye = True
        if CHANGED in body:
            relay.context.registry.retire()  # whoever changed the schema did not do it through us
        relay.pinning.refused(body, server)

    def undo(self, server: ServerConnection) -> None:
        """An error has come: what was sent behind it up to its Sync was not done."""
        relay = self.relay
        void = relay.inflight.take_void()
        self.undo_there(server, void)
        if not relay.journal.is_checking and not relay.healing.is_on:
            relay.batch.statements.undo([owed for owed in void if not owed.hidden])

    def undo_there(self, server: ServerConnection, void: list[Owed]) -> None:
        """The server has not done what these messages told it."""
        for owed in reversed(void):
            if owed.role >= LINE_UP:
                self.relay.named.was_not_done(owed, server)
            elif owed.kind == PARSE and owed.statement is not None:
                if owed.statement.number:
                    if not owed.answer:
                        server.prepared.forget(owed.statement)
                else:
                    server.prepared.unnamed = None
            elif owed.kind == CLOSE and owed.hidden:
                if owed.statement is None:
                    server.prepared.restore(owed.name)
                else:
                    server.prepared.doubt(owed.statement)

    def _break(self, server: ServerConnection, error: PgError) -> None:
        """The server speaks nonsense: neither side can go on."""
        relay = self.relay
        relay.server = None
        relay.group.pool_of(server).discard(server)
        relay.fail(error)

    # --- what of the chunk is the client's ----------------------------------------------------

    def _keep(self, splitter: Splitter, end: i64) -> None:
        """All of it up to there that has not been judged yet."""
        if end > self._done:
            self._pieces.append(splitter.data[self._done : end])
            self._done = end

    def _drop(self, splitter: Splitter) -> None:
        """All but the frame at hand."""
        self._keep(splitter, splitter.start)
        self._done = splitter.end

    def _replace(self, splitter: Splitter, piece: bytes) -> None:
        """This in place of the frame at hand."""
        self._drop(splitter)
        self._pieces.append(piece)

    def _mark_ready(self) -> None:
        self._ready_done = self._done
        self._ready_pieces = len(self._pieces)

    def _is_partly_told(self) -> bool:
        """Whether the client has been given a part of the answer at hand."""
        return self.relay.journal.is_partial and self._ready_at < 0

    def _is_done_with_server(self) -> bool:
        """It will be released as soon as what has come is read."""
        relay = self.relay
        if not relay.inflight.settled or relay.batch.continues:
            return False
        if relay.front.status == STATUS_IDLE:
            return relay.pinning.pin is None
        return relay.front.status == STATUS_IN_TRANSACTION and relay.moving.chains

    def _pass_on(self, server: ServerConnection) -> None:
        """The chunk is read."""
        relay = self.relay
        splitter = server.splitter
        journal = relay.journal
        passed: i64 = splitter.passed
        if self._done == 0 and len(self._pieces) == 0:
            data = splitter.data if passed == splitter.size else splitter.data[:passed]
        else:
            self._keep(splitter, passed)
            data = b"".join(self._pieces)
            self._pieces = []  # a session may be idle for long
        splitter.keep = passed
        if journal.is_checking:
            if not journal.check(data):
                relay.rerun.differs(server)
            elif relay.inflight.settled:
                relay.rerun.finish(server)
            return
        is_ready = self._is_ready
        self._forward(data, self._ready_at, passed)
        if relay.cancels.due:
            relay.cancels.send_due(server)
        notifications = relay.notifications
        if relay.healing.is_due:
            relay.healing.resend(server)
        elif is_ready and relay.inflight.settled:
            if notifications.holds:
                notifications.hold()
            else:
                relay.settled(server)
        if notifications.has_news:
            notifications.deliver()
        if relay.named.unread:
            relay.named.go_on()
        if relay.requests.are_held:
            relay.pace.wake()

    def _give_whole(self, splitter: Splitter) -> None:
        """Gives the client the whole answers in the chunk, and not the beginning of the next one, but
        for ParameterStatus."""
        relay = self.relay
        if relay.journal.is_checking:
            return
        count = int(self._ready_pieces)
        ready_at = self._ready_at
        # Noted as told, these would not come again.
        news = [piece for piece in self._pieces[count:] if piece[:1] == PARAMETER_STATUS]
        if ready_at >= 0:
            whole = self._pieces[:count]
            whole.append(splitter.data[self._ready_done : ready_at])
            self._forward(b"".join(whole), ready_at, ready_at)
        if news:
            relay.client.write(b"".join(news))

    def _forward(self, data: bytes, ready_at: i64, end: i64) -> None:
        """Gives the client what came up to `end`, the last ReadyForQuery in it ending at
        `ready_at`."""
        relay = self.relay
        journal = relay.journal
        inflight = relay.inflight
        is_idle = relay.front.status == STATUS_IDLE
        if (relay.writes.are_for_all or relay.changes.are_any) and (
            is_idle or relay.batch.continues or not inflight.settled
        ):
            self._may_tell_commit()
        if len(data) > 0:
            relay.client.write(data)
        if ready_at >= 0:
            journal.is_partial = end > ready_at
            if is_idle:
                if not inflight.settled:
                    journal.committed()
                return
        elif inflight.settled:
            return  # a notice that answers nothing, such as that the server is about to end
        elif data:
            journal.is_partial = True
        journal.given(data)

    def _may_tell_commit(self) -> None:
        """A commit may be among what is told, long before the last answer."""
        relay = self.relay
        if relay.writes.are_for_all:
            relay.writes.note()
        board = relay.context.board
        if relay.changes.are_any and board is not None:
            relay.changes.tell(board)


def _begin_failed() -> PgError:
    return PgError(
        INTERNAL_ERROR,
        "the transaction could not be started on the server",
        detail="The server refused BEGIN. Connect again.",
    )
