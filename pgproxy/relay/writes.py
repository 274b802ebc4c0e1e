"""HOT. A session reads what it has written: when it wrote, and how fresh a replica has to be for it.

With read_your_writes = "global" the watermark is one for all sessions; that of other workers is on
the board.
"""

import time
from typing import TYPE_CHECKING, final

from pgproxy.protocol.session import NOT_KNOWN
from pgproxy.relay.context import RelayContext, Watermark

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay


@final
class Writes:
    """One relay's."""

    def __init__(self, relay: "Relay", context: RelayContext) -> None:
        self.relay = relay
        shared = context.shared_watermark
        self.watermark = Watermark() if shared is None else shared
        self.are_open = False  # since the watermark something may have been written
        self.are_for_all = False  # the same, where all sessions must see it
        self._reads_board = shared is not None and context.board is not None

    def begin(self) -> None:
        """Something that may write is about to be sent."""
        context = self.relay.context
        if context.keeps_watermark:
            self.are_open = True
            self.are_for_all = context.shared_watermark is not None

    def end(self) -> None:
        """The transaction is over."""
        if self.are_open:
            self.are_open = self.are_for_all = False
            self.note()

    def note(self) -> None:
        """Whatever was sent to be written has been by now, if ever."""
        now = time.monotonic()
        self.watermark.wrote_at = now
        board = self.relay.context.board
        if board is not None:
            board.note_writes(now)

    def as_of(self) -> float:
        """What was committed before then the session's reads must see."""
        relay = self.relay
        after = self.watermark.wrote_at
        if self._reads_board and relay.context.board is not None:
            after = max(after, relay.context.board.wrote_at)
        session = relay.front.session
        if session.shown_as_of > after:
            if session.shown_as_of == NOT_KNOWN:
                freshness = relay.group.cluster.freshness
                session.shown_as_of = freshness.written_at(session.min_lsn)
            if session.shown_as_of > after:
                return session.shown_as_of
        return after

    def is_fresh(self) -> bool:
        """Whether the leased replica shows what others have written since it was leased, and is no
        staler by now than it may be."""
        relay = self.relay
        server = relay.server
        if server is None:
            return True
        oldest = relay.group.cluster.oldest(self.as_of(), time.monotonic())
        return server.backend.fresh_as_of >= oldest

    def wrote(self) -> None:
        """What was taken for a read is sent to the primary, where it may write."""
        self.relay.sequences.wrote()
        self.begin()
