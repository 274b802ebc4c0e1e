"""Messages between two processes; here both ends are in one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from pgproxy.errors import PgError
from pgproxy.workers.channel import Channel, ChannelClosedError


class Ends:
    """`left` asks, `right` answers."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.spoilt = 0
        self.ended = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()
        self.left = Channel(told={}, asked={}, on_end=self.ended.set)
        self.right = Channel(
            told={"news": self.told.append, "spoil": self._spoil},
            asked={
                "echo": self._echo,
                "fail": self._fail,
                "break": self._break,
                "hang": self._hang,
            },
            on_end=lambda: None,
        )

    def _spoil(self, _body: dict[str, Any]) -> None:
        self.spoilt += 1
        raise KeyError("secret")

    async def _echo(self, body: dict[str, Any]) -> object:
        await asyncio.sleep(body.get("after", 0))
        return body["text"]

    async def _fail(self, _body: dict[str, Any]) -> object:
        raise PgError("55000", "already paused", hint="Really.")

    async def _break(self, _body: dict[str, Any]) -> object:
        raise KeyError("secret")

    async def _hang(self, _body: dict[str, Any]) -> object:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return None


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    found = Ends()
    one, two = socket.socketpair()
    await found.left.open(one)
    await found.right.open(two)
    yield found
    found.left.close()
    found.right.close()
    await found.ended.wait()


async def test_what_is_told_arrives_in_order_whatever_is_in_it(ends: Ends) -> None:
    for number in range(100):
        ends.left.tell("news", number=number, text="ü\udcff\n" * 1000, inf=float("inf"))
    assert await ends.left.ask("echo", text="done") == "done"
    assert [body["number"] for body in ends.told] == list(range(100))
    assert ends.told[0]["text"] == "ü\udcff\n" * 1000


async def test_questions_are_answered_as_they_are_done(ends: Ends) -> None:
    late = asyncio.get_running_loop().create_task(ends.left.ask("echo", text=1, after=0.1))
    assert await ends.left.ask("echo", text=2) == 2
    assert not late.done()
    assert await late == 1


async def test_an_error_for_a_client_arrives_whole_and_a_bug_says_nothing(ends: Ends) -> None:
    with pytest.raises(PgError) as told:
        await ends.left.ask("fail")
    assert (told.value.sqlstate, told.value.message, told.value.hint) == (
        *("55000", "already paused"),
        "Really.",
    )
    with pytest.raises(PgError) as told:
        await ends.left.ask("break")
    assert (told.value.sqlstate, told.value.message) == ("XX000", "internal error")


async def test_who_does_not_wait_any_more_has_the_other_stop(ends: Ends) -> None:
    asking = asyncio.get_running_loop().create_task(ends.left.ask("hang"))
    await ends.begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await ends.cancelled.wait()


async def test_the_end_of_one_is_the_end_of_all_questions(ends: Ends) -> None:
    asking = asyncio.get_running_loop().create_task(ends.left.ask("hang"))
    await ends.begun.wait()
    ends.right.close()
    with pytest.raises(ChannelClosedError):
        await asking
    await ends.ended.wait()
    await ends.cancelled.wait()
    assert ends.left.is_closed
    ends.left.tell("news", number=1)
    with pytest.raises(ChannelClosedError):
        await ends.left.ask("echo", text=1)


@pytest.mark.parametrize(
    "message", [{"kind": "spoil"}, {"kind": "unheard_of"}, {"abandoned": []}, []]
)
async def test_what_cannot_be_dealt_with_ends_it_once_and_nothing_after_it_is_heard(
    ends: Ends, message: Any
) -> None:
    with capture_logs() as logs:
        ends.left._send(message)
        for number in range(3):
            ends.left.tell("news", number=number)
        await ends.ended.wait()
        ends.right.data_received(b"\0\0\0\2{}")  # on its way
    assert (ends.told, ends.spoilt) == ([], int(message == {"kind": "spoil"}))
    assert [line["event"] for line in logs] == ["channel_failed"]
    assert ends.right.is_closed
