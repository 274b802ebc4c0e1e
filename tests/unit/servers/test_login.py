"""What is asked of the sockets of log-ins."""

import socket

import pytest

from pgproxy.servers.login import SERVER_USER_TIMEOUT, keep_alive


@pytest.mark.parametrize("user_timeout", [0, SERVER_USER_TIMEOUT])
def test_a_peer_that_has_vanished_is_noticed(user_timeout: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        keep_alive(sock, user_timeout)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout


def test_a_unix_socket_needs_none() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        keep_alive(sock, SERVER_USER_TIMEOUT)
