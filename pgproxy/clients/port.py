"""The port that clients connect to: accepts while there are file descriptors for them.

When there are none, whoever connects stays in the kernel's queue, and is accepted as soon as some are
free. libuv's own servers cannot be told so: they accept and close who comes then, without a word.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from pgproxy.servers import descriptors

_log = structlog.stdlib.get_logger()

# Connections the kernel keeps until we accept them; it takes the smaller of this and somaxconn.
BACKLOG: Final = 4096
# Accepted before others have their turn.
AT_ONCE: Final = 64
# Seconds until it is tried again where no descriptor was free.
RETRY: Final = 0.1


class Port:
    """`take` is called with each connection."""

    def __init__(self, take: Callable[[socket.socket], None]) -> None:
        self._take: Final = take
        self._sockets: list[socket.socket] = []
        self._retry: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        """It accepts nobody, for there are no descriptors."""
        return self._retry is not None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Starts to accept; returns the address. Raises OSError."""
        self.accept_from(await _listening(host, port))
        address = self._sockets[0].getsockname()
        return address[0], address[1]

    def accept_from(self, sockets: Sequence[socket.socket]) -> None:
        """Starts to accept from sockets that are bound already. They are its own until `leave`."""
        for one in sockets:
            one.listen(BACKLOG)
        self._sockets += sockets
        if self._retry is None:
            self._watch(sockets)

    def leave(self, sockets: Sequence[socket.socket]) -> None:
        """Somebody else accepts from those."""
        mine = [one for one in sockets if one in self._sockets]
        if self._retry is None:
            self._unwatch(mine)
        self._sockets = [one for one in self._sockets if one not in mine]
        for one in mine:
            one.close()

    def close(self) -> list[socket.socket]:
        """Closes the port; returns those who were in the kernel's queue."""
        if self._retry is None:
            self._unwatch(self._sockets)
        else:
            self._retry.cancel()
            self._retry = None
        sockets, self._sockets = self._sockets, []
        return [connection for one in sockets for connection in _take_queue(one)]

    def _watch(self, sockets: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for one in sockets:
            loop.add_reader(one.fileno(), self._accept, one)

    def _unwatch(self, sockets: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for one in sockets:
            loop.remove_reader(one.fileno())

    def _accept(self, listening: socket.socket) -> None:
        most = descriptors.for_clients()
        for _ in range(AT_ONCE):
            try:
                connection, _address = listening.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # one that its client has given up
                continue
            except OSError as error:  # no descriptor is left, here or in the whole system
                self._pause(error.strerror or str(error))
                return
            connection.setblocking(False)
            number = connection.fileno()
            self._take(connection)
            if number >= most - 1:
                self._pause("what is left is kept for servers, probes and scrapes")
                return

    def _pause(self, reason: str) -> None:
        if self._retry is not None:
            return
        _log.warning("accepting_paused", reason=reason, descriptors=descriptors.limit())
        self._unwatch(self._sockets)
        self._try_later()

    def _try_later(self) -> None:
        self._retry = asyncio.get_running_loop().call_later(RETRY, self._try)

    def _try(self) -> None:
        try:
            free = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            self._try_later()
            return
        os.close(free)
        if free >= descriptors.for_clients():
            self._try_later()
            return
        self._retry = None
        _log.info("accepting_again")
        self._watch(self._sockets)


async def _listening(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of that name. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    refused: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                sockets.append(bound(family, (address[0], port)))
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                refused = error  # a system without IPv6 may have names with such an address
        if not sockets and refused is not None:
            raise refused
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def bound(family: int, address: tuple[str | int, int], *, is_shared: bool = False) -> socket.socket:
    """A socket at an address, which `is_shared` by several. Raises OSError, which names the address."""
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setblocking(False)
        one.bind(address)
    except OSError as error:
        one.close()
        reason = f"{error.strerror} ({address[0]}, port {address[1]})"
        raise OSError(error.errno, reason) from None
    return one


def _take_queue(listening: socket.socket) -> list[socket.socket]:
    """Closes a listening socket; returns the connections that nobody had accepted yet."""
    found: list[socket.socket] = []
    with listening:
        while True:
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return found
            except ConnectionError:  # one that its client has given up
                continue
            except OSError as error:  # no descriptor is left
                _log.warning("queue_dropped", reason=str(error))
                return found
            connection.setblocking(False)
            found.append(connection)
