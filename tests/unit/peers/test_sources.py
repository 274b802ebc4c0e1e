"""What a resolver's answers come to: a list, an empty list, or nothing new."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from pgproxy.config import Config, Peers
from pgproxy.peers.sources import Dns, Pods, Static, source_of
from pgproxy.peers.word import Address
from tests.support.watch import eventually


def found(*hosts: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 9930)) for host in hosts]


async def test_the_addresses_of_a_name_while_the_resolver_is_well_and_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Any] = [
        found("10.0.0.1", "10.0.0.2"),
        socket.gaierror(socket.EAI_AGAIN, "try again"),
        UnicodeError("no name"),
        found("10.0.0.2"),
        socket.gaierror(socket.EAI_NONAME, "no such name"),
        TimeoutError(),
        found("10.0.0.3"),
    ]
    listed: list[list[Address]] = []

    async def resolve(host: str, port: int, **_: object) -> Any:
        assert (host, port) == ("peers", 9930)
        answer = answers.pop(0) if answers else found("10.0.0.3")
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    task = asyncio.get_running_loop().create_task(
        Dns("peers:9930", 0.01, lambda addresses: listed.append(list(addresses))).run()
    )
    await eventually(lambda: len(listed) > 4)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [[address.host for address in one] for one in listed[:4]] == [
        ["10.0.0.1", "10.0.0.2"],
        ["10.0.0.2"],
        [],
        ["10.0.0.3"],
    ]


@pytest.mark.parametrize(
    ("settings", "kind", "lists_all"),
    [
        (Peers(static=("a:1",)), Static, False),
        (Peers(dns="a:1"), Dns, False),
        (Peers(selector="app=p"), Pods, True),
    ],
)
def test_the_configuration_says_where_they_are(
    settings: Peers, kind: type, lists_all: bool
) -> None:
    source = source_of(Config(peers=settings), lambda _addresses: None)
    assert isinstance(source, kind)
    assert source.lists_all is lists_all
