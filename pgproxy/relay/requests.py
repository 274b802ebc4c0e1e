"""HOT. What a client says, batch by batch.

    chunk -> batches (routing/batch.py) -> answered here, or lease -> sending.py

One call per chunk, not per frame. What has to wait, for a lease, for replies or for others to have
their turn, waits as bytes: in the reader, and behind it in a short backlog.
"""

from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i64

from pgproxy.errors import FEATURE_NOT_SUPPORTED, PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE
from pgproxy.protocol.channels import HAS_SET
from pgproxy.protocol.inflight import OWED_SYNC, Owed
from pgproxy.protocol.states import FREE, GONE, LEASED, PARSE, QUERY, SETTLING, WAITING
from pgproxy.relay.pace import TURN
from pgproxy.relay.target import fits
from pgproxy.routing.batch import AT_READY, CUT, Batch
from pgproxy.routing.batchreader import BATCH, LEFT, PAUSE
from pgproxy.routing.decision import DEALLOCATE, LISTEN, PLAIN, UNLISTEN
from pgproxy.routing.edits import FAILING_BIND

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay

# Bytes that a client may send while it waits for a lease before it is not read any more.
BACKLOG: Final = 65536
# What a chunk costs beside its bytes.
CHUNK: Final = 64

# A Query that fails, and whose error the client never sees.
FAILING_QUERY: Final = write.query(b"pgproxy refused this statement")


@final
class Requests:
    """One relay's."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self._backlog: list[bytes] = []  # short: it is bounded, and most clients never have any
        self.backlog_size: i64 = 0
        self.are_held = False  # input that was not put into the backlog waits too
        self.has_refused = False  # a batch, since one was sent: the rest of it goes nowhere either

    def read(self, chunk: bytes) -> None:
        """The client has sent this."""
        relay = self.relay
        phase = relay.phase
        if phase == GONE:
            return
        relay.traffic.received += len(chunk)
        if relay.overdue is not None:
            relay.overdue.heard()
        if relay.context.board is not None:
            relay.changes.look(relay.context.board)
        if relay.generation != relay.routers.generation:
            relay.carry.set_router()
        if phase in (WAITING, SETTLING) or self.are_held:
            self._backlog.append(chunk)
            self.backlog_size += len(chunk) + CHUNK
            if self.backlog_size > BACKLOG:
                relay.client.set_reading(False)
            return
        try:
            relay.reader.feed(chunk)
            self._pump()
        except PgError as error:
            relay.fail(error)

    def _pump(self) -> None:
        relay = self.relay
        batch = relay.batch
        turn: i64 = TURN
        while True:
            if relay.inflight.naming and relay.named.must_wait():
                return
            found = relay.reader.read()
            splitter = batch.input
            if found != BATCH:
                before: i64 = splitter.passed
                if batch.open:
                    before = batch.start
                elif found == LEFT:
                    before = splitter.start  # Terminate is for us
                if before > splitter.keep:
                    self._pass(before)
                    if relay.release_is_late and not splitter.passing:
                        relay.release_late()
                if found == LEFT:
                    relay.client_gone(said_goodbye=True)
                    relay.client.close()
                elif found == PAUSE:
                    relay.pace.hold()
                elif relay.notifications.has_news:
                    relay.notifications.deliver()
                return
            if batch.start > splitter.keep:
                self._pass(batch.start)
                if relay.release_is_late:
                    relay.release_late()
            if not self._dispatch():
                return
            turn -= 1
            if turn == 0 or relay.client.write_paused:
                relay.pace.hold()
                return

    def _pass(self, end: i64) -> None:
        """Copy data, and the rest of frames too large to hold, follow what went before; also Flush
        behind a whole batch."""
        relay = self.relay
        splitter = relay.batch.input
        data = splitter.data[splitter.keep : end]
        if data != write.FLUSH:
            relay.journal.give_up()  # copy data is not kept
        if relay.server is not None and not self.has_refused:
            relay.server.write(data)
        splitter.keep = end

    def _dispatch(self) -> bool:
        """Sends the batch, or answers it. False: the client's input has to wait."""
        relay = self.relay
        batch = relay.batch
        server = relay.server
        if batch.needs.waits and (relay.named.must_wait_for_answers() or relay.named.refuses()):
            return relay.phase != SETTLING
        if relay.sequences.holds:
            server = relay.sequences.stop_holding()
        if server is not None:
            inflight = relay.inflight
            if batch.continues or inflight.skipping or inflight.copying:
                relay.sending.send(server)
                return True
            if relay.overdue is not None and relay.overdue.holds(server):
                relay.enter(SETTLING)
                return False
            if len(relay.carry.lent) > 0 and not inflight.settled:
                relay.enter(SETTLING)
                return False
            if relay.statement_mode and batch.starts:
                return self._refuse_block()
            kind = batch.own
            if kind != PLAIN and (
                batch.ending == CUT
                or (kind == DEALLOCATE and relay.pinning.pin is not None)
                or relay.server_said_goodbye
            ):
                kind = PLAIN  # a part of more; names that nobody here may have seen; too late
            if kind != PLAIN and inflight.settled and relay.front.status != STATUS_FAILED:
                self._answer(own=True)
                return not relay.notifications.waits
            if server.needs_seat:
                if _is_sync_alone(batch):
                    relay.client.write(write.READY_IDLE)
                    batch.done()
                    return True
                if not relay.sits_again(server):
                    return False
            if kind == PLAIN and fits(relay):
                relay.sending.send(server)
                return True
            if not inflight.settled:
                relay.enter(SETTLING)
                return False
            if kind != PLAIN or not relay.moving.leaves(server):
                relay.sending.send(server)
                return True
            if relay.server is not None:
                return True
        elif relay.statement_mode and batch.starts:
            return self._refuse_block()
        elif self._answer(own=False):
            return not relay.notifications.waits
        return relay.lease()

    def _answer(self, *, own: bool) -> bool:
        """Answers the batch without a server; False: it needs one."""
        relay = self.relay
        try:
            answer = relay.front.answer_own(relay.batch) if own else relay.front.answer(relay.batch)
        except PgError as error:
            self.answer_error(error)
            return True
        if answer is None:
            return False
        notifications = relay.notifications
        batch = relay.batch
        if batch.own in (LISTEN, UNLISTEN) and batch.executes:
            notifications.answer(batch.acts, answer)
            return True
        if batch.ends:
            notifications.update()
            relay.moving.clear()
            if relay.overdue is not None:
                relay.overdue.chains()
        if answer:
            relay.client.write(answer)
        relay.batch.done()
        return True

    def _refuse_block(self) -> bool:
        """BEGIN in statement mode; behind the answers that are still to come."""
        relay = self.relay
        if relay.server is not None and not relay.inflight.settled:
            relay.enter(SETTLING)
            return False
        self.answer_error(self.no_blocks())
        return True

    def no_blocks(self) -> PgError:
        relay = self.relay
        group = relay.group
        origin = relay.context.modes.origin(group.database, group.user)
        return PgError(
            FEATURE_NOT_SUPPORTED,
            "transaction blocks are not allowed in statement pooling mode",
            detail=f'{origin} is "statement".',
            hint="Several statements in one Query are one transaction, and allowed.",
        )

    def clear(self) -> None:
        """The client is gone."""
        self._backlog.clear()

    def resume(self) -> None:
        """Goes on with what came in meanwhile."""
        relay = self.relay
        if relay.phase == GONE:
            return
        if relay.overdue is not None and not self.are_held:
            relay.overdue.restarts()
        self.are_held = False
        self._pump()
        while self._backlog and relay.phase in (FREE, LEASED) and not self.are_held:
            chunk = self._backlog.pop(0)
            self.backlog_size -= len(chunk) + CHUNK
            relay.reader.feed(chunk)
            self._pump()
        if relay.phase != GONE:
            self.set_reading()

    def set_reading(self) -> None:
        """Reads the client, unless what it sends or is sent would pile up here."""
        relay = self.relay
        relay.client.set_reading(
            not relay.server_is_full
            and not relay.client.write_paused
            and self.backlog_size <= BACKLOG
            and not self.are_held
        )
        if self.are_held:
            relay.pace.wake()

    def next_again(self) -> None:
        """The batch that had to wait for replies goes on."""
        relay = self.relay
        try:
            if relay.named.unread:
                relay.named.unread = False
                self.resume()
            elif self._dispatch():
                self.resume()
        except PgError as error:
            relay.fail(error)

    def answer_error(self, error: PgError) -> None:
        """An ERROR of ours in place of the batch; a transaction that has begun has failed."""
        relay = self.relay
        batch = relay.batch
        relay.counters.proxy_errors += 1
        self.has_refused = not relay.inflight.copying  # those data are of what runs
        batch.statements.undo(batch.owed)
        if batch.ends:
            relay.notifications.update()
        if relay.server is not None and relay.front.status != STATUS_IDLE:
            self._fail_transaction(write.error_response(error))
            return
        relay.moving.clear()
        relay.client.write(relay.front.refuse(batch, error))
        batch.done()

    def _fail_transaction(self, answer: bytes) -> None:
        """The server must know as well that the transaction has failed."""
        relay = self.relay
        batch = relay.batch
        server = relay.server
        assert server is not None
        relay.journal.give_up()
        if batch.simple:
            relay.inflight.push(Owed(QUERY, error=answer))
            server.write(FAILING_QUERY)
        else:
            relay.inflight.push(Owed(PARSE, error=answer))
            if batch.ending == AT_READY:
                relay.inflight.push(OWED_SYNC)
                server.write(FAILING_BIND + write.SYNC)
            else:
                batch.continues = True
                server.write(FAILING_BIND + write.FLUSH)
        batch.done()

    def reset_own(self) -> None:
        """RESET ALL is being sent: it is for the proxy's own settings too."""
        relay = self.relay
        if relay.front.status == STATUS_FAILED:
            return
        in_transaction = relay.front.status != STATUS_IDLE
        relay.front.session.reset_all(in_transaction=in_transaction)
        if in_transaction:
            relay.front.channels.act((HAS_SET,))


def _is_sync_alone(batch: Batch) -> bool:
    """Nothing is to be run: the batch may end one that was refused."""
    owed = batch.owed
    return len(owed) == 1 and owed[0] is OWED_SYNC
