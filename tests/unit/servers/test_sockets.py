"""What the kernel is told of connections."""

import asyncio
import socket

from pgproxy.servers.sockets import Patience, TcpOptions, keep_alive

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


class Closing(asyncio.BaseTransport):
    def is_closing(self) -> bool:
        return True


async def test_a_peer_without_room_is_spared_as_long_as_it_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _reader, writer = await asyncio.open_connection(*listener.getsockname())
        peer, _address = listener.accept()
        sock = writer.transport.get_extra_info("socket")
        keep_alive(sock, OPTIONS)
        patience = Patience(OPTIONS.user_timeout)
        patience.look([writer.transport])
        assert options_of(sock)[3] == 1500, "it has nothing to take"
        writer.write(b"x" * 20_000_000)
        while options_of(sock)[3]:
            await asyncio.sleep(0.1)  # loopback too takes a while to fill
            patience.look([writer.transport])
        taking = asyncio.get_running_loop().run_in_executor(None, _take, peer, 20_000_000)
        await writer.drain()
        await taking
        patience.look([])
        assert options_of(sock)[3] == 1500
        patience.look([Closing()])
        writer.close()
        peer.close()


def _take(peer: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(peer.recv(1 << 20))
