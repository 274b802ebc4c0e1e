"""The idle cell: what one client that is logged in and does nothing costs in memory.

Each peer is started afresh for it, one client is let in and out so that lazy start-up work is done,
and the resident memory of its processes is read before the others come and while they all stay.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.accounting import resident_bytes
from benchmarks.cells import CellFailed, Lane, NotApplicable
from benchmarks.peers.base import Running
from benchmarks.servers import DATABASE, USER, Address

_LOGINS_AT_ONCE = 50
_SETTLE_SECONDS = 2.0
_LOGIN_SECONDS = 300.0
_PROTOCOL_3_0 = 0x30000
_KIB = 1024


@dataclass(frozen=True, slots=True)
class IdleCell:
    """`clients` logged-in clients at once, or as many as the peer can sensibly be given."""

    clients: int
    rounds: ClassVar[int | None] = 1

    @property
    def key(self) -> str:
        """Like `idle/5000`."""
        return f"idle/{self.clients}"

    def measure(self, lane: Lane, round_number: int) -> dict[str, float]:
        """Values: clients, kib_before, kib_after, kib_per_client."""
        if lane.running.root is None:
            raise NotApplicable("there is no proxy to measure")
        limit = lane.peer.idle_clients_limit
        clients = self.clients if limit is None else min(limit, self.clients)
        with lane.peer.run(lane.servers, clients) as fresh:
            try:
                before, after = asyncio.run(_before_and_after(fresh, clients))
            except (OSError, EOFError, TimeoutError) as refused:
                raise CellFailed(f"log-in of {clients} clients: {refused!r}") from refused
        return {
            "clients": clients,
            "kib_before": before / _KIB,
            "kib_after": after / _KIB,
            "kib_per_client": (after - before) / clients / _KIB,
        }


async def _before_and_after(peer: Running, clients: int) -> tuple[int, int]:
    """Resident bytes of the peer with no client and with `clients` of them logged in."""
    (await _log_in(peer.address)).close()
    await asyncio.sleep(_SETTLE_SECONDS)
    before = resident_bytes(peer.processes())
    gate = asyncio.Semaphore(_LOGINS_AT_ONCE)
    connected: list[asyncio.StreamWriter] = []

    async def one_more() -> None:
        async with gate:
            connected.append(await _log_in(peer.address))

    try:
        async with asyncio.timeout(_LOGIN_SECONDS):
            await asyncio.gather(*(one_more() for _ in range(clients)))
        await asyncio.sleep(_SETTLE_SECONDS)
        return before, resident_bytes(peer.processes())
    finally:
        for writer in connected:
            writer.close()


async def _log_in(address: Address) -> asyncio.StreamWriter:
    """A connection up to its first ReadyForQuery. Raises OSError and EOFError."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    parameters = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
    writer.write(struct.pack("!ii", 8 + len(parameters), _PROTOCOL_3_0) + parameters)
    while True:
        code, length = struct.unpack("!ci", await reader.readexactly(5))
        body = await reader.readexactly(length - 4)
        if code == b"E":
            raise ConnectionRefusedError(body.decode(errors="replace"))
        if code == b"Z":
            return writer
