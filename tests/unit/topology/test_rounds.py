"""When rounds follow each other. What is long never ends within the test, what is short at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pgproxy.topology.model import Backend
from pgproxy.topology.rounds import Publisher, Rounds

pytestmark = pytest.mark.once

LONG = 600.0


class Asking:
    def __init__(self, smallest_gap: float) -> None:
        self.pause = LONG
        self.begun = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.rounds = Rounds(self._ask, smallest_gap)

    async def _ask(self) -> float:
        self.begun += 1
        await self.may_end.wait()
        return self.pause

    async def until(self, count: int) -> None:
        while self.begun < count:  # noqa: ASYNC110 - nothing else is told
            await asyncio.sleep(0)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def asking(smallest_gap: float = 0.0) -> AsyncIterator[Asking]:
    one = Asking(smallest_gap)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.rounds.run())
        yield one
        await one.rounds.close()


async def test_a_round_follows_after_its_pause() -> None:
    async with asking() as one:
        one.pause = 0.0
        await one.until(5)


async def test_a_hurry_ends_the_pause_once() -> None:
    async with asking() as one:
        await one.until(1)
        one.rounds.hurry()
        await one.until(2)
        await one.settle()
        assert one.begun == 2


async def test_a_hurry_during_a_round_gives_one_more() -> None:
    async with asking() as one:
        one.may_end.clear()
        await one.until(1)
        one.rounds.hurry()
        one.rounds.hurry()
        one.may_end.set()
        await one.until(2)
        await one.settle()
        assert one.begun == 2


async def test_between_hurried_rounds_there_is_a_gap() -> None:
    async with asking(smallest_gap=LONG) as one:
        await one.until(1)
        one.rounds.hurry()
        await one.settle()
        assert one.begun == 1


async def test_it_can_be_closed_before_it_runs() -> None:
    one = Asking(0.0)
    await one.rounds.close()
    await one.rounds.run()
    assert one.begun == 0


async def test_what_a_round_raises_is_raised() -> None:
    async def fail() -> float:
        raise ValueError("no")

    with pytest.raises(ExceptionGroup):
        await Rounds(fail, 0.0).run()


def test_only_what_is_new_is_told() -> None:
    told: list[tuple[Backend, ...]] = []
    publisher = Publisher(told.append)
    assert not publisher.synced.is_set()
    for backends in ((), (), (Backend("a", "h"),), (Backend("a", "h"),), ()):
        publisher.publish(backends)
    assert publisher.synced.is_set()
    assert told == [(), (Backend("a", "h"),), ()]
