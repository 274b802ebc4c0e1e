"""The other PostgreSQL version of the wheel; all other tests run with the newest."""

import asyncio
from collections.abc import Iterator

import pytest

from pgproxy.embedded import Cluster, find_installation
from pgproxy.servers.backend import Backend
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.serving import (
    assert_cancels_arrive,
    assert_pgbench_adds_up,
    assert_statements_go_where_they_should,
    backend_of,
    secret_of_a_log_in,
    served,
)

pytestmark = pytest.mark.once

Served = tuple[Cluster, ProxyProcess]


@pytest.fixture(scope="module")
def older() -> Iterator[Served]:
    with served(find_installation(16)) as both:
        yield both


def test_statements_go_where_they_should(older: Served) -> None:
    assert_statements_go_where_they_should(*older)


def test_pgbench_adds_up(older: Served) -> None:
    assert_pgbench_adds_up(*older)


async def test_cancels_arrive(older: Served) -> None:
    assert len(await secret_of_a_log_in(backend_of(older[0].primary))) == 4
    await assert_cancels_arrive(*older)


async def test_cancels_arrive_with_the_long_keys_of_version_18(
    cluster: Cluster, proxy: ProxyProcess
) -> None:
    assert len(await secret_of_a_log_in(backend_of(cluster.primary))) == 32
    await assert_cancels_arrive(cluster, proxy)


async def test_who_knows_3_0_only_and_does_not_negotiate_is_asked_for_that(
    cluster: Cluster,
) -> None:
    """As poolers of before PostgreSQL 18 do: whatever is not 3.0 is refused."""
    primary = cluster.primary
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        asked.append(int.from_bytes(packet[:4]))
        if asked[-1] != wire.PROTOCOL_3_0:
            told = b"SFATAL\0VFATAL\0C0A000\0Munsupported frontend protocol\0\0"
            writer.write(wire.message(b"E", told))
        else:
            there, here = await asyncio.open_connection(primary.host, primary.port)
            here.write((len(packet) + 4).to_bytes(4) + packet)
            while data := await there.read(65536):
                writer.write(data)
                if data.endswith(b"Z\0\0\0\5I"):
                    break
            here.close()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        backend = Backend("pooler", "127.0.0.1", port, 1.0)
        for _ in range(2):
            assert len(await secret_of_a_log_in(backend)) == 4
    assert asked == [wire.PROTOCOL_3_2, wire.PROTOCOL_3_0, wire.PROTOCOL_3_0]
