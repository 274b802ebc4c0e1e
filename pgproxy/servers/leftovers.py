"""HOT. What clients have left running when they went.

After Terminate a statement goes on, as in PostgreSQL, and for as long as the client's time limits would
have let it; one whose client is lost is cancelled at once. A request to cancel may come before the
statement, and behind the statement another one may wait. So there is another request every
`CANCEL_AGAIN` until the server has closed the connection.
"""

from collections.abc import Callable
from typing import Final, final

from pgproxy.servers.connection import ServerConnection

# Seconds between requests to cancel what nobody waits for any more.
CANCEL_AGAIN: Final = 1.0


@final
class Leftovers:
    """One pool's, until the server has closed them. Times are monotonic seconds."""

    def __init__(self, cancel: Callable[[ServerConnection], None]) -> None:
        self._cancel = cancel
        self._due: dict[ServerConnection, float] = {}  # when each is to be cancelled (again)

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, server: object) -> bool:
        return server in self._due

    def add(self, server: ServerConnection, due: float) -> None:
        self._due[server] = due

    def gone(self, server: ServerConnection) -> None:
        self._due.pop(server, None)

    def tick(self, now: float) -> None:
        for server, due in list(self._due.items()):
            if due <= now:
                self._due[server] = now + CANCEL_AGAIN
                if server.cancels == 0:
                    self._cancel(server)

    def end(self) -> None:
        """The next `tick` cancels them all, and so does each after `CANCEL_AGAIN`."""
        for server in self._due:
            self._due[server] = 0.0
