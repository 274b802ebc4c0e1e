"""Several things at once."""

import asyncio

import pytest

from pgproxy.errors import PgError
from pgproxy.workers.together import together


async def succeed(value: int, after: float = 0.0) -> int:
    await asyncio.sleep(after)
    return value


async def fail(message: str, after: float = 0.0) -> int:
    await asyncio.sleep(after)
    raise PgError("55000", message)


async def test_all_results_in_their_order() -> None:
    assert await together([succeed(1, 0.1), succeed(2)], one_will_do=False) == [1, 2]
    assert await together([], one_will_do=True) == []


async def test_the_first_error_ends_the_others() -> None:
    with pytest.raises(PgError, match="first"):
        await together([succeed(1, 3600), fail("first")], one_will_do=False)


async def test_one_success_may_be_enough() -> None:
    found = await together([fail("a"), succeed(2, 0.1), fail("b")], one_will_do=True)
    assert found == [2]
    with pytest.raises(PgError, match="a"):
        await together([fail("a", 0.1), fail("b")], one_will_do=True)


async def test_who_asked_may_have_left() -> None:
    def check() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await together([succeed(1, 3600)], one_will_do=False, check=check)
