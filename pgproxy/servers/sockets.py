"""What the kernel is told of a TCP connection: when a peer that says nothing is taken for gone."""

import socket
import struct
from asyncio import BaseTransport
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast, final

# struct tcp_info of linux/tcp.h: probes that are not answered yet, segments and bytes that are not
# acknowledged or not sent yet, and milliseconds since the last acknowledgement.
_INFO_SIZE: Final = 148
_PROBES: Final = struct.Struct("3xB")
_UNACKED: Final = struct.Struct("24xI")
_SINCE_ACK: Final = struct.Struct("56xI")
_UNSENT: Final = struct.Struct("144xI")


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """A peer that has been silent for `idle` seconds is probed every `interval` seconds, `count`
    times; what it is sent it must acknowledge in `user_timeout` seconds. 0: as the system has it."""

    idle: int = 0
    interval: int = 0
    count: int = 0
    user_timeout: float = 0.0


def keep_alive(sock: socket.socket, options: TcpOptions) -> None:
    """Makes a peer that has vanished (node gone, firewall forgot) an error."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", options.idle),
        ("TCP_KEEPINTVL", options.interval),
        ("TCP_KEEPCNT", options.count),
        ("TCP_USER_TIMEOUT", round(options.user_timeout * 1000)),
    ):
        option = getattr(socket, name, None)  # not every system has each
        if value and option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


@final
class Patience:
    """With those who answer, and have no room: Linux takes them for gone as well when
    TCP_USER_TIMEOUT is over (tcp(7); RFC 5482, section 3.1, leaves it open). Look at them a good deal
    more often than that."""

    def __init__(self, user_timeout: float) -> None:
        """In seconds, as the sockets have it; 0: there is nothing to be patient about."""
        self._milliseconds: Final = round(user_timeout * 1000)
        self._spared: set[BaseTransport] = set()

    def look(self, transports: Iterable[BaseTransport]) -> None:
        """At all that may have something to send: those that were spared before and are not among
        them have the time-out again."""
        if not self._milliseconds or not hasattr(socket, "TCP_INFO"):
            return
        found = {one for one in transports if not one.is_closing() and self._is_full(_socket(one))}
        for one in self._spared ^ found:
            if not one.is_closing():
                timeout = 0 if one in found else self._milliseconds
                _socket(one).setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
        self._spared = found

    def _is_full(self, sock: socket.socket) -> bool:
        """Whether the peer has acknowledged all that it had room for, and still answers probes."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        if len(info) < _INFO_SIZE:  # an older kernel tells less
            return False
        if _UNACKED.unpack_from(info)[0] > 0 or _UNSENT.unpack_from(info)[0] == 0:
            return False
        # The first probes may be on their way; between two there may be two minutes.
        is_silent = _PROBES.unpack_from(info)[0] > 1
        return not (is_silent and _SINCE_ACK.unpack_from(info)[0] > self._milliseconds)


def _socket(transport: BaseTransport) -> socket.socket:
    return cast(socket.socket, transport.get_extra_info("socket"))
