"""A cancel hits the statement it was meant for, or nothing.

Clients share very few server connections. Some send cancels around the end of their statements, at
random moments: before, while and after it runs, is answered, and its connection changes hands. The
others must never be told 57014; nor must they themselves, once their CancelRequest has been
answered by the end of its connection.
"""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.fault import FaultProxy
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import wait_asleep
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]

StartProxy = Callable[..., ProxyProcess]

CANCELS: Final = 700  # in each test
CANCELLERS: Final = 5
INNOCENTS: Final = 5
SLEEP: Final = "SELECT pg_sleep(0.001)"
PREPARED: Final = "SELECT pg_sleep(0.0005), $1::int"


class Race:
    """Cancels until enough were sent; `told` counts how statements that were to be cancelled ended."""

    def __init__(self, proxy: ProxyProcess, seed: int) -> None:
        self.proxy: Final = proxy
        self.random: Final = random.Random(seed)
        self.left = CANCELS
        self.told: Final[Counter[str]] = Counter()
        self.served = 0
        self._spread = 0.01  # seconds in which cancels are sent: found so that half of them hit

    async def unharmed(self, client: Wire, sql: str = SLEEP) -> None:
        """Runs a statement that is not cancelled."""
        frames = await client.ask(wire.query(sql))
        assert wire.errors(frames) == [], frames

    async def cancel(self, client: Wire) -> None:
        """Cancels what the client does, and comes back when PostgreSQL would."""
        async with await Wire.open(self.proxy) as canceller:
            await canceller.send(wire.cancel_request(*client.key()))
            assert await canceller.until(b"") == []

    async def cancelled(self, client: Wire, *messages: bytes, ready: int = 1) -> None:
        """Sends messages and, at some moment, a cancel. Back when both have been answered."""
        self.left -= 1

        async def later() -> None:
            await asyncio.sleep(self._spread * self.random.random())
            await self.cancel(client)

        async with asyncio.TaskGroup() as both:
            both.create_task(later())
            answer = both.create_task(client.ask(*messages, ready=ready))
        for state in wire.errors(answer.result()) or ["done"]:
            self.told[state] += 1
            # Not longer: in a transaction the connection is held meanwhile, and the others wait.
            self._spread = min(0.03, self._spread * (1.1 if state == "57014" else 0.9))

    async def innocent(self, number: int) -> None:
        """Never cancels anything."""
        async with await Wire.connect(self.proxy) as client:
            await client.ask(wire.parse(PREPARED, name="mine"), wire.SYNC)
            while self.left > 0:
                value = b"%d" % number
                for messages, rows in (
                    ((wire.query(SLEEP),), [[b""]]),
                    (
                        (wire.bind(value, statement="mine"), wire.execute(), wire.SYNC),
                        [[b"", value]],
                    ),
                    ((wire.query(f"BEGIN; {SLEEP}; COMMIT"),), [[b""]]),
                ):
                    frames = await client.ask(*messages)
                    assert wire.errors(frames) == [], frames
                    assert wire.rows(frames) == rows, frames
                    self.served += 1

    async def run(self, canceller: Callable[[Wire], Awaitable[None]], protocol: int) -> None:
        async def client() -> None:
            async with await Wire.connect(self.proxy, protocol=protocol) as connection:
                while self.left > 0:
                    await canceller(connection)

        async with asyncio.TaskGroup() as group:
            for number in range(INNOCENTS):
                group.create_task(self.innocent(number))
            for _ in range(CANCELLERS):
                group.create_task(client())
        # Both happened, or the moments were badly chosen.
        assert self.told.keys() == {"57014", "done"}, self.told
        assert min(self.told.values()) > CANCELS / 50, self.told
        assert self.served > 0


@pytest.fixture(params=[1, 2])
async def race(request: pytest.FixtureRequest, cluster: Cluster, start_proxy: StartProxy) -> Race:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    proxy = await asyncio.to_thread(
        start_proxy, [cluster.primary], pool={"size": request.param, "wait_timeout": 0}
    )
    return Race(proxy, seed)


async def test_between_statements(race: Race) -> None:
    async def one(client: Wire) -> None:
        await race.cancelled(client, wire.query(SLEEP))
        await race.unharmed(client)

    await race.run(one, wire.PROTOCOL_3_0)


async def test_in_transactions(race: Race) -> None:
    """The client keeps its connection, so that a late cancel would find its next statement."""

    async def one(client: Wire) -> None:
        await race.unharmed(client, "BEGIN")
        await race.unharmed(client, "SELECT 1")
        # As long as a cancel needs to get there; nobody else waits for its connection.
        await race.cancelled(client, wire.query("SELECT pg_sleep(0.01)"))
        # It ends the transaction in any case, but the next one begins on the same connection.
        await race.unharmed(client, "ROLLBACK AND CHAIN")
        await race.unharmed(client)
        await race.unharmed(client, "COMMIT")

    await race.run(one, wire.PROTOCOL_3_2)


async def test_with_statements_prepared_on_the_way(race: Race) -> None:
    """What is hidden from the client is in flight too: BEGIN, and Parse where it is missing."""
    texts = [f"SELECT pg_sleep(0.001), {number}" for number in range(300)]

    async def one(client: Wire) -> None:
        text = race.random.choice(texts)
        await race.cancelled(
            client,
            *(wire.parse(text), wire.bind(), wire.execute(), wire.SYNC),
        )
        await race.unharmed(client)

    await race.run(one, wire.PROTOCOL_3_0)


async def test_of_the_first_statement_behind_a_held_back_begin(race: Race) -> None:
    async def one(client: Wire) -> None:
        await race.unharmed(client, "BEGIN")
        await race.cancelled(client, wire.query(SLEEP))
        await race.unharmed(client, "ROLLBACK")
        await race.unharmed(client)

    await race.run(one, wire.PROTOCOL_3_0)


async def test_one_that_is_late_finds_nobody(cluster: Cluster, start_proxy: StartProxy) -> None:
    """It is not known any more whether the server has got it, nor when."""
    async with FaultProxy(cluster.primary) as network:
        behind = Behind(network.port)
        # The monitor shall not notice.
        patient = {"timeout": 60, "failures": 9}
        proxy = await asyncio.to_thread(start_proxy, [behind], pool={"size": 1}, health=patient)
        async with await Wire.connect(proxy) as client, await Wire.connect(proxy) as other:
            await client.send(wire.query("SELECT pg_sleep(0.5)"))
            await asyncio.to_thread(wait_asleep, cluster, "postgres")
            network.stall("to_server")
            canceller = await Wire.open(proxy)
            await canceller.send(wire.cancel_request(*client.key()))
            assert wire.errors(await client.until(b"Z")) == []
            await other.send(wire.query("SELECT pg_sleep(0.5)"))
            assert await canceller.until(b"") == []  # the proxy has lost its patience
            await canceller.drop()
            network.resume()
            assert wire.errors(await other.until(b"Z")) == []


class Behind:
    """The primary, at another port."""

    name: Final = "primary"
    host: Final = FaultProxy.host

    def __init__(self, port: int) -> None:
        self.port: Final = port
