"""What the kernel is told of a TCP connection: when a peer that says nothing is taken for gone."""

import socket
from dataclasses import dataclass


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
