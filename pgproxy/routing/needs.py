"""HOT, PURE. What a server must have under a client's own names before a batch (protocol/named.py)."""

from typing import Final, final

from pgproxy.protocol.named import Names, Need, add_need, add_needs
from pgproxy.protocol.prepared import Statement
from pgproxy.routing.clientstatements import ClientStatements

_NOTHING: Final[dict[bytes, Need]] = {}  # never changed


@final
class Needs:
    """Of the batch at hand, of a client with these `statements`."""

    def __init__(self, statements: ClientStatements) -> None:
        self._statements: Final = statements
        self.waits = False  # the batch is sent when everything before it is answered
        self.names: Names | None = None  # what the text does with names, if the batch is one Query
        self.by_name: dict[bytes, Need] = _NOTHING
        self.reserved = b""  # a name of ours that the text names
        self.is_over = False  # what names mean has changed: what follows is another batch

    def clear(self) -> None:
        """Another batch begins."""
        self.waits = False
        self.names = None
        self.by_name = _NOTHING
        self.reserved = b""
        self.is_over = False

    def of_query(self, names: Names) -> None:
        """The batch is one Query, whose text does so with names."""
        self.waits = True
        self.names = names
        self.by_name = _NOTHING
        self.reserved = names.reserved

    def find(self) -> None:
        """What that Query needs, now that everything before it is answered."""
        self.by_name = {}
        if self.names is not None:
            add_needs(self.by_name, self.names.uses, self._statements.named)

    def use(self, names: Names) -> None:
        """A message runs or describes a text that names statements."""
        self.wait()
        add_needs(self.by_name, names.uses, self._statements.named)

    def add(self, name: bytes, statement: Statement, *, exact: bool) -> None:
        """A message is about a statement that has this name on the server too."""
        self.wait()
        add_need(self.by_name, Need(name, statement, exact=exact))

    def wait(self) -> None:
        """What a name means may hang on what is not answered yet."""
        if not self.waits:
            self.waits = True
            self.by_name = {}
