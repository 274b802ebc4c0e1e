"""Clients that behave as badly as clients do, for a while: each does one thing after another, drawn from
a generator with a seed.

Every misdeed begins with a log-in of its own, and leaves nothing behind but what the proxy has to clear
away. A refusal (too many clients, no connection in time) is an answer like any other.
"""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from tests.support import wire
from tests.support.wire import Address, Wire

# Seconds after which a client gives up what it does not get.
PATIENCE: Final = 20.0

Misdeed = Callable[[Wire, random.Random], Awaitable[None]]


async def ask(client: Wire, generator: random.Random) -> None:
    """Nothing bad."""
    for _ in range(generator.randrange(1, 6)):
        await client.ask(
            wire.query(generator.choice(["SELECT 1", "SELECT 1/0", "BEGIN", "COMMIT"]))
        )
        await client.ask(wire.parse("SELECT 1"), wire.bind(), wire.execute(), wire.SYNC)


async def write(client: Wire, generator: random.Random) -> None:
    await client.ask(wire.query("BEGIN"))
    await client.ask(wire.query(f"INSERT INTO sink VALUES ({generator.randrange(100)}, 'x')"))
    if generator.random() < 0.7:
        await client.ask(wire.query("COMMIT"))


async def break_off_a_frame(client: Wire, generator: random.Random) -> None:
    message = wire.query("SELECT " + "1 + " * 500 + "1")
    await client.send(message[: generator.randrange(1, len(message))])


async def break_off_a_copy(client: Wire, generator: random.Random) -> None:
    await client.send(wire.query("COPY sink FROM STDIN"))
    for _ in range(generator.randrange(1, 50)):
        await client.send(wire.copy_data(b"1\tx\n" * 100))
    await client.send(wire.copy_data(b"2\ty\n")[:-2])


async def break_off_rows(client: Wire, generator: random.Random) -> None:
    await client.send(wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 10000)"))
    for _ in range(generator.randrange(1, 200)):
        await client.read()


async def break_off_a_pipeline(client: Wire, generator: random.Random) -> None:
    one = wire.parse("SELECT $1::int") + wire.bind(b"7") + wire.describe("P") + wire.execute()
    await client.send((one + wire.SYNC) * generator.randrange(1, 300), one)


async def flood(client: Wire, generator: random.Random) -> None:
    text = generator.choice(
        ["", "SELECT 1", "BEGIN", "SHOW pgproxy.last_route", "flood", "SHOW POOL_NODES"]
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                await client.send(wire.query(text) * 1000)


async def stall(client: Wire, generator: random.Random) -> None:
    await client.send(wire.query("SELECT repeat('x', 10000) FROM generate_series(1, 2000)"))
    await asyncio.sleep(generator.random() * 2)


async def sleep_and_leave(client: Wire, generator: random.Random) -> None:
    role = generator.choice(["/* pgproxy: primary */ ", ""])
    await client.send(wire.query(f"{role}SELECT pg_sleep(5)"))
    await asyncio.sleep(generator.random() * 0.2)


async def keep_a_transaction(client: Wire, generator: random.Random) -> None:
    await client.ask(wire.query("BEGIN"), wire.query("SELECT 1"), ready=2)
    await asyncio.sleep(generator.random() * 0.5)


async def pin(client: Wire, _generator: random.Random) -> None:
    await client.ask(wire.query("CREATE TEMP TABLE mine (n int)"))
    await client.ask(wire.query("LISTEN here; SET work_mem = '2MB'"))


async def notify(client: Wire, _generator: random.Random) -> None:
    await client.ask(wire.query("LISTEN here"))
    await client.ask(wire.query("NOTIFY here, 'x'"))


MISDEEDS: Final[tuple[Misdeed, ...]] = (
    ask,
    ask,
    write,
    break_off_a_frame,
    break_off_a_copy,
    break_off_rows,
    break_off_a_pipeline,
    flood,
    stall,
    sleep_and_leave,
    keep_a_transaction,
    pin,
    notify,
)


class Chaos:
    """`done` counts what was done, `refused` the SQLSTATEs of log-ins that were refused."""

    def __init__(self, address: Address, database: str, seed: int) -> None:
        self.done: Final[Counter[str]] = Counter()
        self.refused: Final[Counter[str]] = Counter()
        self._address: Final = address
        self._database: Final = database
        self._seed: Final = seed

    async def run(self, clients: int, seconds: float) -> None:
        """So many at a time, for so long; all are gone when it returns."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                tasks.create_task(self._go_on(random.Random(f"{self._seed}/{number}"), until))

    async def _go_on(self, generator: random.Random, until: float) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._once(generator)

    async def _once(self, generator: random.Random) -> None:
        if generator.random() < 0.05:
            await self._half_a_log_in(generator)
            return
        misdeed = generator.choice(MISDEEDS)
        end = generator.choice([leave, hang_up, reset])
        user = generator.choice(["postgres", "chaos"])
        client = await Wire.connect(self._address, user=user, database=self._database)
        try:
            if client.startup[-1:] != [(b"Z", b"I")]:
                self.refused.update(wire.errors(client.startup) or ["closed"])
                return
            killer = None
            if generator.random() < 0.2:
                killer = self._cancel(client, generator.random() * 0.3)
            async with asyncio.TaskGroup() as tasks:
                if killer is not None:
                    tasks.create_task(killer)
                await misdeed(client, generator)
            self.done[f"{misdeed.__name__}, {end.__name__}"] += 1
        except* (OSError, asyncio.IncompleteReadError):
            self.done[f"{misdeed.__name__}, cut off"] += 1
        finally:
            await end(client)

    async def _half_a_log_in(self, generator: random.Random) -> None:
        packet = wire.startup("postgres", self._database)
        async with await Wire.open(self._address) as client:
            await client.send(packet[: generator.randrange(len(packet))])
            await asyncio.sleep(generator.random() * 0.2)
            await reset(client)
        self.done["half a log-in"] += 1

    async def _cancel(self, client: Wire, after: float) -> None:
        await asyncio.sleep(after)
        with contextlib.suppress(OSError):
            async with await Wire.open(self._address) as other:
                await other.send(wire.cancel_request(*client.key()))
                await other.reader.read()
        self.done["cancel"] += 1


async def leave(client: Wire) -> None:
    """With Terminate."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await client.send(wire.TERMINATE)
    client.writer.transport.abort()
    await client.drop()


async def hang_up(client: Wire) -> None:
    """Without a word."""
    client.writer.transport.abort()
    await client.drop()


async def reset(client: Wire) -> None:
    with contextlib.suppress(OSError):
        sock: socket.socket = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()
    await client.drop()
