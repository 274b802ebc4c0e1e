"""Looks whose time is up (relay/deadlines.py), of all clients that are logged in.

Each of them says when it need not be looked at before, so that a round is little more than a comparison
for each; it is made in slices, between which everything else goes on.
"""

import asyncio
import time
from collections.abc import Collection
from typing import Final

from mypy_extensions import i64

from pgproxy.clients.connection import ClientConnection
from pgproxy.relay.deadlines import (
    CLIENT_IS_LATE,
    CLIENT_IS_LATE_IN_TRANSACTION,
    NEVER,
    NOBODY,
)

# Seconds between two rounds: a part of the shortest limit, so that it is not exceeded by much more.
SHORTEST_PAUSE: Final = 0.025
LONGEST_PAUSE: Final = 0.25
PART: Final = 20
# Clients of one slice. Interpreted it takes 0.03 ms if nobody needs to be looked at.
SLICE: Final = 500


class Timekeeper:
    """`shortest`: of all limits, in seconds."""

    def __init__(self, clients: Collection[ClientConnection], shortest: float) -> None:
        self._clients: Final = clients
        self._pause: Final = min(max(shortest / PART, SHORTEST_PAUSE), LONGEST_PAUSE)
        self.is_needed: Final = shortest < NEVER

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            clients = list(self._clients)
            for start in range(0, len(clients), SLICE):
                look(clients, start, min(start + SLICE, len(clients)))
                await asyncio.sleep(0)


def look(clients: list[ClientConnection], start: i64, end: i64) -> None:
    """Ends what is overdue with some of them."""
    now = time.monotonic()
    index = start
    while index < end:
        client = clients[index]
        index += 1
        relay = client.relay
        if relay is None:
            continue
        overdue = relay.overdue
        if overdue is None or now < overdue.deadlines.due_at:
            continue
        late = overdue.look(now)
        if late == NOBODY or client.transport.is_closing():
            continue
        if late in (CLIENT_IS_LATE, CLIENT_IS_LATE_IN_TRANSACTION) and client.has_unread:
            continue  # it has come in time, and it is we who have not looked
        overdue.strike(late, now)
