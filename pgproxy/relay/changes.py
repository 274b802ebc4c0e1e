"""HOT. What a transaction changes beside data, and others have to know: the schema, the objects that
the catalogue tells of, what sessions to come begin with.
"""

import time
from typing import TYPE_CHECKING, final

from mypy_extensions import i64

from pgproxy.relay.board import Board
from pgproxy.routing.decision import DOUBTS

if TYPE_CHECKING:
    from pgproxy.relay.relay import Relay


@final
class Changes:
    """One relay's: of its open transaction."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.are_any = False
        self.schema = False
        self._defaults = False  # sessions to come begin otherwise
        self._renews: i64 = 0  # what it does to what is known of the database's objects
        self._are_told = False  # on the board

    def sent(self) -> None:
        """The batch at hand has been sent."""
        relay = self.relay
        batch = relay.batch
        if not batch.executes:
            return
        if batch.changes_schema:
            relay.context.registry.retire()
            self.schema = self.are_any = True
            relay.carry.set_scope()
        if batch.renews > self._renews:
            self._renews = batch.renews
            self.are_any = True

    def note_defaults(self) -> None:
        """Such a batch is about to be sent."""
        self._defaults = self.are_any = True

    def gone(self) -> None:
        """The client is gone. Whether the transaction is committed is not known any more."""
        board = self.relay.context.board
        if board is not None:
            self.tell(board)
        if self._renews > 0:
            self._read_again()

    def over(self) -> None:
        """A transaction is over that has changed more than data, or was about to."""
        relay = self.relay
        self.are_any = False
        if relay.context.board is not None and not self._are_told:
            self.tell(relay.context.board)
        self._are_told = False
        if self._defaults:
            self._defaults = False
            relay.group.cluster.renew()
            relay.context.on_defaults_change()
        if self.schema:
            # Whoever has prepared a text meanwhile may have seen either schema.
            self.schema = False
            relay.context.registry.retire()
            relay.carry.set_scope()
        if self._renews > 0:
            self._read_again()

    def _read_again(self) -> None:
        """What is known of the database's objects is to be read again."""
        relay = self.relay
        if self._renews == DOUBTS:
            relay.routers.doubt()
        self._renews = 0
        relay.context.on_schema_change(relay.group.database)

    def tell(self, board: Board) -> None:
        """Perhaps a change of the schema is committed: other workers' clients may know by what
        is given to this one."""
        relay = self.relay
        self._are_told = True
        now = time.monotonic()
        if self.schema:
            board.note_schema(now)
        if self._renews > 0:
            board.note_objects(relay.routers.place, now, in_doubt=self._renews == DOUBTS)

    def look(self, board: Board) -> None:
        """What clients have changed of the schema, those of other workers too."""
        relay = self.relay
        if board.schema_at != relay.context.schema_at:
            relay.context.schema_at = board.schema_at
            relay.context.registry.retire()
        routers = relay.routers
        at = board.changed_at(routers.place)
        if at == routers.changed_at:
            return
        routers.changed_at = at
        doubted_at = board.doubted_at(routers.place)
        if doubted_at != routers.doubted_at:
            routers.doubted_at = doubted_at
            routers.doubt()
        relay.context.on_schema_change(relay.group.database)
