"""What the kernel is told of connections."""

import socket

from pgproxy.servers.sockets import TcpOptions, keep_alive

OPTIONS = TcpOptions(idle=7, interval=3, count=5, user_timeout=1.5)
NAMES = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def options_of(sock: socket.socket) -> list[int]:
    return [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]


def test_a_peer_that_has_vanished_is_noticed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        keep_alive(sock, OPTIONS)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert options_of(sock) == [7, 3, 5, 1500]


def test_what_is_not_given_stays_as_the_system_has_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        before = options_of(sock)
        keep_alive(sock, TcpOptions())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert options_of(sock) == before


def test_a_unix_socket_needs_none() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        keep_alive(sock, OPTIONS)
