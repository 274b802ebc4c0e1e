"""A statement that ends in the very moment at which its time is up: nothing else is cancelled.

Clients share few server connections. Statements take about as long as they may, so that some are
cancelled, some are not, and of some it is not clear until the end. What the same client asks next, and
what others ask, takes no time and must never be told 57014.
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
from tests.support.proxy import ProxyProcess
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]

StartProxy = Callable[..., ProxyProcess]

LIMIT: Final = 0.4
RACES: Final = 120  # in each test
RACERS: Final = 8
INNOCENTS: Final = 3


def extended(sql: str) -> bytes:
    return wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC


class Race:
    """`told` counts how the statements that take long have ended."""

    def __init__(self, proxy: ProxyProcess, seed: int) -> None:
        self.proxy: Final = proxy
        self.random: Final = random.Random(seed)
        self.left = RACES
        self.told: Final[Counter[str]] = Counter()
        self.served = 0
        self._aim = 0.01  # seconds after the limit; found so that half of them are cancelled

    async def long(
        self,
        client: Wire,
        say: Callable[[str], bytes] = wire.query,
        sql: str = "SELECT pg_sleep",
    ) -> bool:
        """Asks what takes about as long as it may. Whether it was answered."""
        self.left -= 1
        seconds = LIMIT + self._aim + self.random.uniform(-0.01, 0.01)
        [state] = wire.errors(await client.ask(say(f"{sql}({seconds:.4f})"))) or ["done"]
        self.told[state] += 1
        self._aim = min(0.2, max(0.0, self._aim + (-0.003 if state == "57014" else 0.003)))
        return state == "done"

    async def short(
        self, client: Wire, sql: str = "SELECT 1", *, simple: bool = True
    ) -> list[bytes]:
        """Asks what takes no time."""
        frames = await client.ask(wire.query(sql) if simple else extended(sql))
        assert wire.errors(frames) == [], (sql, frames)
        self.served += 1
        return [row[0] or b"" for row in wire.rows(frames)]

    async def innocent(self) -> None:
        async with await Wire.connect(self.proxy) as client:
            await self.short(client, "SET application_name = 'innocent'")
            while self.left > 0:
                await self.short(client)
                await self.short(client, "SELECT 2", simple=False)
                await self.short(client, "BEGIN; SELECT 3; COMMIT")
                assert await self.short(client, "SHOW application_name") == [b"innocent"]
                await asyncio.sleep(0.005)

    async def run(self, racer: Callable[[Wire], Awaitable[None]]) -> None:
        async def client() -> None:
            async with await Wire.connect(self.proxy) as connection:
                while self.left > 0:
                    await racer(connection)

        async with asyncio.TaskGroup() as group:
            for _ in range(INNOCENTS):
                group.create_task(self.innocent())
            for _ in range(RACERS):
                group.create_task(client())
        # Both happened, or the moments were badly chosen.
        assert self.told.keys() == {"57014", "done"}, self.told
        assert min(self.told.values()) > RACES / 50, self.told


@pytest.fixture
async def race(cluster: Cluster, start_proxy: StartProxy) -> Race:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    proxy = await asyncio.to_thread(
        start_proxy,
        [cluster.primary],
        pool={"size": 4, "wait_timeout": 0},
        timeouts={"query": LIMIT},
    )
    return Race(proxy, seed)


async def test_between_statements(race: Race) -> None:
    async def one(client: Wire) -> None:
        simple = race.random.random() < 0.5
        await race.long(client, wire.query if simple else extended)
        await race.short(client, simple=simple)

    await race.run(one)


async def test_in_transactions(race: Race) -> None:
    """The client keeps its connection, so that a late request would find its next statement."""

    async def one(client: Wire) -> None:
        await race.short(client, "BEGIN")
        if await race.long(client):
            # As long as a request needs to get there.
            await race.short(client, "SELECT pg_sleep(0.01)")
        await race.short(client, "ROLLBACK AND CHAIN")
        await race.short(client)
        await race.short(client, "SELECT 2", simple=False)
        await race.short(client, "COMMIT")

    await race.run(one)


async def test_in_front_of_the_question_for_settings(race: Race) -> None:
    async def one(client: Wire) -> None:
        [before] = await race.short(client, "SHOW work_mem")
        value = race.random.choice(["5MB", "6MB", "7MB"])
        said = f"SELECT set_config('work_mem', '{value}', false), pg_sleep"
        is_answered = await race.long(client, sql=said)
        assert await race.short(client, "SHOW work_mem") == [
            value.encode() if is_answered else before
        ]

    await race.run(one)


async def test_with_pinned_sessions(race: Race) -> None:
    async def one(client: Wire) -> None:
        await race.short(client, "CREATE TEMP TABLE mine AS SELECT 5 AS n")
        await race.long(client)
        assert await race.short(client, "SELECT n FROM mine") == [b"5"]
        await race.long(client, extended)
        assert await race.short(client, "SELECT n FROM mine", simple=False) == [b"5"]
        await race.short(client, "DROP TABLE mine")

    await race.run(one)


async def test_in_pipelines_who_is_hit_is_told_why(race: Race) -> None:
    """What is sent together is sent: in between, the second may be the one that is hit."""
    hits = 0

    async def one(client: Wire) -> None:
        nonlocal hits
        race.left -= 1
        seconds = LIMIT + race.random.uniform(0, 0.05)
        frames = await client.ask(
            extended(f"SELECT pg_sleep({seconds:.4f})"), extended("SELECT 2"), ready=2
        )
        errors = [wire.fields(body) for kind, body in frames if kind == b"E"]
        race.told["57014" if errors else "done"] += 1
        assert [error["M"] for error in errors] == [
            "canceling statement due to query timeout"
        ] * len(errors)
        if wire.rows(frames)[-1:] != [[b"2"]]:
            hits += 1
            assert "sent together" in errors[-1]["D"]
        await race.short(client)

    await race.run(one)
