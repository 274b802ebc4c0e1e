"""Clients that send without end, and read nothing or too little."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Final

from tests.support import wire
from tests.support.wire import Address, Wire

# The system may keep so many bytes that a flooding client has not read.
RECEIVES: Final = 8192


async def raw_client(address: Address, database: str = "postgres") -> socket.socket:
    """A socket whose owner is logged in, and which takes little from the other side."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVES)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (address.host, address.port))
    await loop.sock_sendall(client, wire.startup("postgres", database))
    told = b""
    while not told.endswith(b"Z\0\0\0\5I"):
        part = await loop.sock_recv(client, 4096)
        assert part, told
        told += part
    return client


async def pour(client: socket.socket, messages: bytes, seconds: float) -> int:
    """Send `messages` again and again, reading nothing, until nobody takes them any more or the time
    is over. Returns how many bytes went."""
    sent = 0
    deadline = time.monotonic() + seconds
    quiet = 0
    view = memoryview(messages * (1 + (1 << 18) // len(messages)))
    at = 0
    while time.monotonic() < deadline and quiet < 50:
        try:
            done = client.send(view[at:])
        except BlockingIOError:
            quiet += 1
            await asyncio.sleep(0.02)
            continue
        except ConnectionError:
            break
        quiet = 0
        sent += done
        at = (at + done) % len(view)
        await asyncio.sleep(0)
    return sent


def reset(client: socket.socket) -> None:
    """Close it with a reset, in the middle of whatever it was doing."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextlib.asynccontextmanager
async def floods(
    address: Address, messages: bytes, *, clients: int, seconds: float
) -> AsyncIterator[list[int]]:
    """So many of them pour at the same time; the block runs when all are done, and still there."""
    sockets = [await raw_client(address) for _ in range(clients)]
    try:
        yield list(await asyncio.gather(*(pour(one, messages, seconds) for one in sockets)))
    finally:
        for one in sockets:
            reset(one)


async def pipeline(client: Wire, messages: bytes, count: int, ready: int) -> None:
    """Send `messages` so many times, as fast as they are taken, and read all that comes back: for
    each `ready` times ReadyForQuery."""

    async def read() -> None:
        left = count * ready
        while left:
            kind, _ = await client.read()
            left -= kind == b"Z"
            if left % 100 == 0:
                await asyncio.sleep(
                    0
                )  # what has arrived is read without waiting: others have a turn

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        for _ in range(0, count, 1000):
            await client.send(messages * 1000)
