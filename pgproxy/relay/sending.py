"""HOT. What a client has said, on its way to the server.

    batch -> journal, accounts, pins -> settings, names and BEGIN in front -> server

Bytes in hand leave unchanged; a frame is rebuilt only to rename a statement or to inject one
(routing/rewrite.py).
"""

from typing import TYPE_CHECKING, final

from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.protocol.inflight import (
    OWED_ATTEMPT,
    OWED_BEGIN,
    OWED_COPY_END,
    OWED_QUERY,
    OWED_SET_BACK,
    Owed,
)
from pgproxy.protocol.leadin import lead_in
from pgproxy.protocol.settings import TEMP_BUFFERS, TEMPORARY
from pgproxy.protocol.states import QUERY
from pgproxy.routing.batch import CUT
from pgproxy.routing.journal import Sent
from pgproxy.routing.pins import NEVER_UNDONE
from pgproxy.routing.rewrite import rewrite
from pgproxy.servers.connection import ServerConnection

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay


@final
class Sending:
    """One relay's."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.preface = b""  # hidden messages that go in front of the next batch
        self.preface_owed: list[Owed] = []

    def send(self, server: ServerConnection) -> None:
        """The batch at hand."""
        relay = self.relay
        batch = relay.batch
        front = relay.front
        if relay.requests.has_refused:
            relay.requests.has_refused = False
        pipelined = not relay.inflight.settled
        if not pipelined and batch.statements.in_doubt:
            batch.statements.in_doubt.clear()
        first = b""
        if len(front.held) > 0:
            first = front.held
            front.held = b""
        in_block = front.status == STATUS_IN_TRANSACTION and not pipelined
        if batch.needs.waits:
            relay.named.before(begins=len(first) > 0)
        if relay.overdue is not None and batch.ends:
            relay.overdue.chains()
        sent = Sent(batch, first, in_block, may_fail=pipelined or front.status == STATUS_FAILED)
        if len(first) > 0 and (relay.on_replica or relay.moving.is_engaged):
            relay.moving.begins(sent)
        if relay.moving.is_engaged:
            relay.moving.sent()
        journal = relay.journal
        if batch.ending == CUT:
            journal.give_up()
        elif journal.is_kept:
            journal.sent(sent)
        elif not pipelined and relay.moving.begun:
            journal.take_up()
            journal.sent(sent)
        relay.accounts.sent(server, pipelined=pipelined)
        relay.pinning.forget_last()
        if batch.asks_sequence and not batch.continues:
            relay.sequences.hide(server)
        if batch.may_write and not relay.on_replica:
            relay.sequences.sent(batch)
            relay.writes.begin()
        if batch.simple:
            batch.statements.unnamed = None
        if not batch.effects and relay.carry.touched:
            relay.carry.followed(batch, server)
        if batch.is_plain:
            self.transmit(server, sent, pipelined=pipelined)
            self._sent()
            return
        after = self._note_special(server)
        self.transmit(server, sent, pipelined=pipelined)
        if after:
            relay.journal.give_up()
            relay.inflight.push(OWED_SET_BACK)
            server.write(after)
        self._sent()

    def _note_special(self, server: ServerConnection) -> bytes:
        """The batch at hand is about to be sent and does more than to read or write. Returns what
        is to follow it."""
        relay = self.relay
        batch = relay.batch
        if batch.acts:
            relay.notifications.sent(batch.acts, server)
        if batch.pin is not None or batch.unparsed:
            if batch.pin in NEVER_UNDONE:
                server.doomed = True
            relay.pinning.sent()
        if batch.may_unpin:
            relay.pinning.may_end = True
        if batch.changes_defaults:
            relay.changes.note_defaults()
        if not batch.effects:
            return b""
        alone = relay.front.status == STATUS_IDLE and not relay.inflight.owes_client
        return relay.carry.sent(batch, server, alone=alone)

    def send_preface(self, server: ServerConnection) -> None:
        """Sends what would go in front of the next batch by itself."""
        if self.preface:
            server.write(self._take_preface(server))

    def _take_preface(self, server: ServerConnection) -> bytes:
        preface, self.preface = self.preface, b""
        for owed in self.preface_owed:
            self.relay.inflight.push(owed)
        self.preface_owed = []
        server.prepared.unnamed = None  # a simple Query drops it
        return preface

    def transmit(self, server: ServerConnection, sent: Sent, *, pipelined: bool) -> None:
        """Sends a batch to this server, the first time or once more."""
        relay = self.relay
        inflight = relay.inflight
        if sent.may_write and not relay.on_replica:
            relay.sequences.used(server)
        if sent.custom:
            server.custom.update(sent.custom)
            if TEMPORARY in sent.custom and TEMP_BUFFERS in relay.carry.settings.values:
                server.doomed = True  # it cannot be set back
        first = sent.first
        preface = self.preface
        if len(preface) > 0:
            self._take_preface(server)
        if sent.needs is not None:
            preface += lead_in(sent.needs, server.prepared, inflight, inside=sent.inside)
        if len(first) > 0:
            if len(sent.first_on_replica) > 0 and not server.backend.writable:
                first = sent.first_on_replica
            inflight.push(OWED_ATTEMPT if sent.first_fails else OWED_BEGIN)
            server.prepared.unnamed = None
        if len(preface) > 0:
            first = preface + first
        if sent.edits:
            data = rewrite(sent, server.prepared, inflight, pipelined=pipelined)
        else:
            data = sent.raw()
            if sent.simple:
                server.prepared.unnamed = None
                inflight.push(
                    OWED_QUERY if sent.changes is None else Owed(QUERY, names=sent.changes)
                )
            else:
                for owed in sent.owed:
                    inflight.push(owed)
                if sent.new_unnamed is not None:
                    server.prepared.unnamed = sent.new_unnamed
        server.write(first + data if len(first) > 0 else data)

    def _sent(self) -> None:
        relay = self.relay
        batch = relay.batch
        if batch.changes_schema or batch.renews > 0:
            relay.changes.sent()
        if batch.ending == CUT and batch.owed and batch.owed[-1] is OWED_COPY_END:
            # The end of a COPY by Query is the end of all; one by Execute waits for its Sync.
            if len(relay.inflight) > 0:
                batch.continues = not relay.inflight.in_query
            if relay.overdue is not None:
                relay.overdue.restarts()
        else:
            batch.continues = batch.ending == CUT
        if not batch.simple:
            self.give_due()
            if relay.inflight.has_void and relay.server is not None:
                relay.answers.undo(relay.server)
        batch.done()

    def give_due(self) -> None:
        """Answers of ours whose turn has come. Where the server has to answer as well, they go in
        front of that (answers.py), and are one write with it."""
        relay = self.relay
        if relay.inflight.ends_with_server:
            return
        answers = relay.inflight.due()
        if answers:
            relay.client.write(answers)
            relay.journal.is_partial = True
            relay.journal.given(answers)
