"""The sockets of several workers at one address."""

import socket

import pytest

from pgproxy.workers.sockets import bind

HOST = "127.0.0.1"


async def test_each_worker_has_one_for_each_address_and_all_have_one_port() -> None:
    found = await bind("localhost", 0, 3)
    try:
        assert len(found) == 3
        assert len({len(some) for some in found}) == 1
        assert len({one.getsockname()[1] for some in found for one in some}) == 1
    finally:
        for some in found:
            for one in some:
                one.close()


async def test_a_port_of_another_proxy_is_not_shared() -> None:
    found = await bind(HOST, 0, 2)
    try:
        port = found[0][0].getsockname()[1]
        found[1][0].listen()
        with pytest.raises(OSError, match="in use"):
            await bind(HOST, port, 2)
    finally:
        for [one] in found:
            one.close()
    again = await bind(HOST, port, 2)
    for [one] in again:
        one.close()


async def test_the_kernel_spreads_clients_over_those_who_listen() -> None:
    [[one], [two], [silent]] = await bind(HOST, 0, 3)
    clients: list[socket.socket] = []
    try:
        one.listen(64)
        two.listen(64)
        clients += [socket.create_connection(one.getsockname()) for _ in range(40)]
        counts = [_accepted(port) for port in (one, two)]
        assert min(counts) > 0
        assert sum(counts) == 40
    finally:
        for each in (*clients, one, two, silent):
            each.close()


def _accepted(port: socket.socket) -> int:
    count = 0
    while True:
        try:
            connection, _ = port.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1
