"""The port; what it does without file descriptors is in integration."""

import asyncio
import errno
import os
import socket

import pytest

from pgproxy.clients.port import Port


class _WithoutIPv6(socket.socket):
    def __init__(self, family: int = -1, *args: int, **more: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, *args, **more)


def _drop(connection: socket.socket) -> None:
    connection.close()


async def test_a_system_without_ipv6_listens_on_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both(*_args: object, **_more: object) -> list[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(socket, "socket", _WithoutIPv6)
    with pytest.raises(OSError, match="not supported"):
        await Port(_drop).open("::1", 0)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    port = Port(_drop)
    host, _ = await port.open("localhost", 0)
    assert host == "127.0.0.1"
    assert port.close() == []
