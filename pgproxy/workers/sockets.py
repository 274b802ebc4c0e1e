"""The sockets that several workers accept clients from, at one address: the kernel spreads clients over
them (SO_REUSEPORT)."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Final

from pgproxy.clients.port import bound

# How often another port is tried where the system picks one and it is taken for another address.
ATTEMPTS: Final = 10


async def bind(host: str, port: int, workers: int) -> list[list[socket.socket]]:
    """For each worker one for each address of `host`, all with the same port. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    addresses = list(dict.fromkeys((family, address[0]) for family, _, _, _, address in found))
    for attempt in range(ATTEMPTS):
        with contextlib.ExitStack() as opened:
            try:
                sockets = _bind_all(addresses, port, workers, opened)
            except OSError:
                if port or attempt == ATTEMPTS - 1:
                    raise
                continue
            opened.pop_all()
            return sockets
    raise AssertionError("unreachable")


def _bind_all(
    addresses: Sequence[tuple[int, str | int]],
    port: int,
    workers: int,
    opened: contextlib.ExitStack,
) -> list[list[socket.socket]]:
    found: list[list[socket.socket]] = [[] for _ in range(workers)]
    for family, host in addresses:
        # Another proxy of the same user would share the port with us, and neither would notice.
        with bound(family, (host, port)) as probe:
            port = probe.getsockname()[1]
        for sockets in found:
            one = bound(family, (host, port), is_shared=True)
            sockets.append(opened.enter_context(one))
    return found
