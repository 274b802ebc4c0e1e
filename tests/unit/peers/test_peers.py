"""What is passed on to other proxies and what is not, with others that answer by HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from pgproxy.clients.cancel import BITS, INSTANCE_BITS
from pgproxy.config import Backend, Config, Discovery, Pool
from pgproxy.config import Peers as Settings
from pgproxy.peers import peers as peers_module
from pgproxy.peers.http import routes
from pgproxy.peers.peers import DELIVERED, DROPPED, FAILED, REFUSED, UNKNOWN, Peers
from pgproxy.peers.word import Word
from pgproxy.telemetry.http import at_once, start_http
from tests.support.kube import reserved_port
from tests.support.proxy import HOST
from tests.support.watch import eventually

INTERVAL: Final = 0.1
PID: Final = 5
SECRET: Final = b"mine"

Cancelled = list[tuple[int, bytes]]


class Other:
    """Another proxy, with one client at most: PID, SECRET of its instance."""

    def __init__(self, name: str, instance: int, *, has_client: bool = True) -> None:
        self.word = Word(name, instance, 4, {"s": 1})
        self.key: Final = (instance << BITS - INSTANCE_BITS | PID, SECRET)
        self.asked: Cancelled = []
        self.goes_on: Final = asyncio.Event()
        self.goes_on.set()
        self._has_client: Final = has_client
        self._place: Final = reserved_port()
        self.address: Final = f"{HOST}:{self._place.getsockname()[1]}"
        self.routes: list[web.RouteDef] = routes(lambda: self.word, self._cancel)
        self._http: Any = None

    async def start(self) -> None:
        port = self._place.getsockname()[1]
        nothing: Callable[[], Any] = at_once(lambda: None)
        self._http = await start_http(
            HOST,
            port,
            registry=at_once(CollectorRegistry),
            started=nothing,
            ready=nothing,
            status=at_once(dict),
            routes=self.routes,
        )

    async def stop(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def close(self) -> None:
        await self.stop()
        self._place.close()

    async def _cancel(self, pid: int, secret: bytes) -> bool:
        self.asked.append((pid, secret))
        await self.goes_on.wait()
        return self._has_client and (pid, secret) == self.key


@pytest.fixture
async def others() -> AsyncIterator[list[Other]]:
    """Two of one instance, of which the second has the client, and one of another."""
    found = [Other("a", 7, has_client=False), Other("b", 7), Other("c", 8)]
    for one in found:
        await one.start()
    yield found
    for one in found:
        await one.close()


def config_of(others: list[Other], **pool: Any) -> Config:
    return Config(
        discovery=Discovery(backends=(Backend(host="db"),)),
        pool=Pool(**pool),
        peers=Settings(static=tuple(one.address for one in others), interval=INTERVAL),
    )


@contextlib.asynccontextmanager
async def knowing(
    others: list[Other], shares: list[dict[str, int]] | None = None, **pool: Any
) -> AsyncIterator[Peers]:
    """With whom it has asked once, each."""
    peers = Peers(
        config_of(others, **pool),
        held=dict,
        is_draining=lambda: False,
        on_shares=lambda found: None if shares is None else shares.append(dict(found)),
    )
    peers.instance = 1  # type: ignore[misc]
    task = asyncio.get_running_loop().create_task(peers.run())
    await eventually(lambda: len(peers.book.peers) == len(others) and peers.book.is_complete)
    yield peers
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def results(peers: Peers) -> dict[str, int]:
    return {result: count for result, count in peers.cancels.items() if count}


async def test_all_of_its_instance_are_asked_and_nobody_else(others: list[Other]) -> None:
    first, second, third = others
    async with knowing(others) as peers:
        await peers.cancel(*second.key)
        assert [one.asked for one in others] == [[second.key], [second.key], []]
        await peers.cancel(*third.key)
        await peers.cancel(third.key[0], b"none")
        assert third.asked == [third.key, (third.key[0], b"none")]
        assert len(first.asked) == 1
        assert results(peers) == {DELIVERED: 2, REFUSED: 1}


async def test_it_has_its_effect_before_it_is_answered(others: list[Other]) -> None:
    second = others[1]
    second.goes_on.clear()
    async with knowing(others) as peers, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(peers.cancel(*second.key))
        await eventually(lambda: bool(second.asked))
        assert not asking.done()
        second.goes_on.set()


async def test_one_that_has_ended_is_not_asked(others: list[Other]) -> None:
    third = others[2]
    async with knowing(others) as peers:
        await third.stop()
        await peers.cancel(*third.key)  # which may not be known yet
        await eventually(lambda: peers.states()["ended"] == 1)
        await peers.cancel(*third.key)
        assert third.asked == []
        found = results(peers)
        assert found.pop(UNKNOWN) >= 1
        assert set(found) <= {FAILED}


async def test_one_that_comes_late_is_waited_for(others: list[Other]) -> None:
    third = others[2]
    third.word = Word("d", 9, 4, {})
    key = (9 << BITS - INSTANCE_BITS | PID, SECRET)
    async with knowing(others[:2]) as peers:
        peers._listed([*peers.book.addresses])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(peers.cancel(*key))
            await asyncio.sleep(0)
            others[1].word = Word("b", 9, 4, {})  # as if started anew in that place
        assert others[1].asked == [key]


async def test_those_for_nobody_are_in_nobodys_way(
    others: list[Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "MOST_UNKNOWN", 2)
    third = others[2]
    nobody = 100 << BITS - INSTANCE_BITS
    async with knowing(others) as peers, asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(peers.cancel(nobody | number, SECRET))
        await asyncio.sleep(0)
        assert results(peers) == {UNKNOWN: 8}  # at once; the others wait a little
        await peers.cancel(*third.key)
    assert results(peers) == {UNKNOWN: 10, DELIVERED: 1}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MOST", 3)


@pytest.mark.usefixtures("few")
async def test_too_many_are_dropped(others: list[Other]) -> None:
    third = others[2]
    third.goes_on.clear()
    async with knowing(others) as peers, asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(peers.cancel(*third.key))
        await eventually(lambda: peers.cancels[DROPPED] == 2)
        third.goes_on.set()
    assert len(third.asked) == 3
    assert results(peers) == {DELIVERED: 3, DROPPED: 2}


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>"),
        web.Response(text="{}", status=404),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        web.Response(body=b"x" * (2 << 20)),
    ],
    ids=["no-json", "not-there", "redirect", "long"],
)
async def test_what_is_no_proxy_is_silent(answer: web.Response) -> None:
    """It may be one that says so for a moment: it counts as long as it is listed."""
    one = Other("a", 7)

    async def reply(_request: web.Request) -> web.Response:
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

    one.routes = [web.get("/peer", reply)]
    await one.start()
    try:
        async with knowing([one]) as peers:
            [peer] = peers.book.peers
            assert (peer.state.value, peer.word) == ("silent", None)
            assert list(peers.book.holders()) == [one.address]
            assert peers.rows()[0][-1] == "silent"
    finally:
        await one.close()


async def test_parts_follow_who_is_there(others: list[Other]) -> None:
    shares: list[dict[str, int]] = []
    pool = {"cluster_budget": True, "max_backend_connections": 8}
    async with knowing(others, shares, **pool) as peers:
        assert peers.why_not_ready is not None
        peers.learn_room("s", 100)
        await eventually(lambda: peers.shares == {"s": 2})
        assert peers.why_not_ready is None
        for one in others[:2]:
            await one.stop()
        await eventually(lambda: peers.shares == {"s": 4})
    assert shares == [{"s": 1}, {"s": 2}, {"s": 4}]
