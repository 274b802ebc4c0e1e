"""Large results and values pass unchanged, and without being held: the proxy's memory stays flat.

The proxy's memory is the kernel's own count of its peak (VmHWM), so Linux only.
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, cast

import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.fault import FaultProxy
from tests.support.proxy import ProxyProcess
from tests.support.watch import PeakMemory, bystander, eventually
from tests.support.wire import Address, Wire

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
    pytest.mark.timeout(240),
]

MB: Final = 1 << 20
VALUE: Final = 256 * MB
ALLOWED: Final = 30 * MB
READY: Final = wire.message(b"Z", b"I")

MILLION_ROWS: Final = (
    "SELECT n, n * 7, 'row ' || n, md5(n::text), CASE WHEN n % 3 = 0 THEN NULL ELSE n / 2.0 END "
    "FROM generate_series(1, 1000000) AS n"
)
# 800,000 lines of 140 bytes: 112 MB.
COPIED: Final = (
    "SELECT lpad(n::text, 10, '0'), repeat(md5(n::text), 4) FROM generate_series(0, 799999) AS n"
)


@pytest.fixture(scope="module")
def warm_proxy(cluster: Cluster) -> Iterator[ProxyProcess]:
    """A proxy that has served every kind of statement before, so that what it then grows by is
    what passes."""
    with ProxyProcess.start(cluster.servers, pool={"size": 6}) as proxy:
        asyncio.run(_warm_up(proxy))
        yield proxy
        proxy.check()


async def _warm_up(proxy: ProxyProcess) -> None:
    async with await Wire.connect(proxy) as connection:
        for size in (10, 4 * MB):
            await connection.ask(wire.query(f"SELECT repeat('x', {size})"))
            await connection.ask(wire.query(f"SELECT length('{'x' * size}')"))
            await connection.ask(
                *(wire.parse("SELECT length($1)", types=[17]), wire.bind(b"x" * size)),
                *(wire.execute(), wire.SYNC),
            )
    async with bystander(proxy):
        pass


async def _drain(connection: Wire) -> AsyncIterator[bytes]:
    """The bytes of an answer as they come, up to a ReadyForQuery at the end of what there is."""
    tail = b""
    while not tail.endswith(READY):
        chunk = await connection.reader.read(MB)
        assert chunk, "the connection was closed"
        tail = (tail + chunk)[-len(READY) :]
        yield chunk


async def _digest(address: Address, *messages: bytes) -> tuple[int, str]:
    """Length and hash of the whole answer."""
    size, digest = 0, hashlib.sha256()
    async with await Wire.connect(address) as connection:
        await connection.send(*messages)
        async for chunk in _drain(connection):
            size += len(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()


def _extended(sql: str) -> list[bytes]:
    return [
        *(wire.parse(sql), wire.bind(result_formats=[1]), wire.describe("P")),
        *(wire.execute(), wire.SYNC),
    ]


@pytest.mark.parametrize("protocol", ["simple", "extended"])
async def test_a_million_rows_are_those_of_the_server(
    cluster: Cluster, warm_proxy: ProxyProcess, protocol: str
) -> None:
    messages = [wire.query(MILLION_ROWS)] if protocol == "simple" else _extended(MILLION_ROWS)
    with PeakMemory(warm_proxy) as memory:
        async with bystander(warm_proxy):
            size, digest = await _digest(warm_proxy, *messages)
    assert size > 60 * MB
    assert (size, digest) == await _digest(cluster.primary, *messages)
    assert memory.growth < ALLOWED


async def test_a_copy_out_of_100_mb_is_that_of_the_server(
    cluster: Cluster, warm_proxy: ProxyProcess
) -> None:
    copy = wire.query(f"COPY ({COPIED}) TO STDOUT")
    with PeakMemory(warm_proxy) as memory:
        size, digest = await _digest(warm_proxy, copy)
    assert size > 100 * MB
    assert (size, digest) == await _digest(cluster.primary, copy)
    assert memory.growth < ALLOWED


def _lines() -> Iterator[bytes]:
    """107 MB of copy data in messages that are not cut at the ends of lines."""
    block = b"".join(b"%010d\t%s\n" % (n, b"0123456789abcdef" * 8) for n in range(1000))
    for _ in range(770):
        yield block


async def _copy_in(connection: Wire, table: str, *, size: int = 70001) -> str:
    digest = hashlib.sha256()
    await connection.send(wire.query(f"COPY {table} FROM STDIN"))
    assert (await connection.until(b"G"))[-1][0] == b"G"
    rest = b""
    for block in _lines():
        digest.update(block)
        rest += block
        while len(rest) >= size:
            await connection.send(wire.copy_data(rest[:size]))
            rest = rest[size:]
    done = await connection.ask(wire.copy_data(rest), wire.COPY_DONE)
    assert done == [(b"C", b"COPY 770000\0"), (b"Z", b"I")]
    return digest.hexdigest()


async def test_a_copy_in_of_100_mb_arrives_as_it_was_sent(
    cluster: Cluster, warm_proxy: ProxyProcess, fresh_database: str
) -> None:
    address = cluster.primary
    async with await Wire.connect(warm_proxy, database=fresh_database) as connection:
        await connection.ask(wire.query("CREATE UNLOGGED TABLE t (n text, x text)"))
        with PeakMemory(warm_proxy) as memory:
            async with bystander(warm_proxy):
                sent = await _copy_in(connection, "t")
        assert memory.growth < ALLOWED
    # Back from the server itself, in the order in which it was stored.
    digest = hashlib.sha256()
    async with await Wire.connect(address, database=fresh_database) as direct:
        await direct.send(wire.query("COPY t TO STDOUT"))
        kind, body = await direct.read()
        while kind != b"Z":
            if kind == b"d":
                digest.update(body)
            kind, body = await direct.read()
    assert digest.hexdigest() == sent


# --- one value of 256 MB


async def _send_value(connection: Wire, head: bytes, tail: bytes, *, kind: bytes) -> None:
    """One message whose body is `head`, 256 MB of the letter a, `tail`."""
    length = 4 + len(head) + VALUE + len(tail)
    await connection.send(kind, length.to_bytes(4), head)
    piece = b"a" * MB
    for _ in range(VALUE // MB):
        await connection.send(piece)
    await connection.send(tail)


async def _receive_value(connection: Wire) -> int:
    """Reads an answer; returns how often the letter a is in it."""
    count = 0
    async for chunk in _drain(connection):
        count += chunk.count(b"a")
    return count


async def test_a_value_of_256_mb_from_the_server(warm_proxy: ProxyProcess) -> None:
    async with await Wire.connect(warm_proxy) as connection:
        for messages in (
            [wire.query(f"SELECT repeat('a', {VALUE})")],
            _extended(f"SELECT convert_to(repeat('a', {VALUE}), 'UTF8')"),
        ):
            with PeakMemory(warm_proxy) as memory:
                async with bystander(warm_proxy):
                    await connection.send(*messages)
                    count = await _receive_value(connection)
            assert VALUE <= count < VALUE + 100
            assert memory.growth < ALLOWED


async def test_a_value_of_256_mb_to_the_server_in_the_simple_protocol(
    warm_proxy: ProxyProcess, fresh_database: str
) -> None:
    async with await Wire.connect(warm_proxy, database=fresh_database) as connection:
        await connection.ask(wire.query("CREATE UNLOGGED TABLE t (x text STORAGE EXTERNAL)"))
        with PeakMemory(warm_proxy) as memory:
            async with bystander(warm_proxy):
                await _send_value(connection, b"INSERT INTO t VALUES ('", b"')\0", kind=b"Q")
                frames = await connection.until(b"Z")
        assert frames == [(b"C", b"INSERT 0 1\0"), (b"Z", b"I")]
        assert memory.growth < ALLOWED
        # An unlogged table is on the primary alone.
        whole = f"/* pgproxy: primary */ SELECT length(x), x = repeat('a', {VALUE}) FROM t"
        assert wire.rows(await connection.ask(wire.query(whole))) == [[b"%d" % VALUE, b"t"]]


@pytest.mark.parametrize("name", ["", "mine"])
async def test_a_value_of_256_mb_to_the_server_in_the_extended_protocol(
    warm_proxy: ProxyProcess, fresh_database: str, name: str
) -> None:
    async with await Wire.connect(warm_proxy, database=fresh_database) as connection:
        await connection.ask(wire.query("CREATE UNLOGGED TABLE t (x bytea STORAGE EXTERNAL)"))
        insert = wire.parse("INSERT INTO t VALUES ($1)", name=name, types=[17])
        if name:
            assert (await connection.ask(insert, wire.SYNC))[0][0] == b"1"
        with PeakMemory(warm_proxy) as memory:
            async with bystander(warm_proxy):
                if not name:
                    await connection.send(insert)
                # One value in binary; no portal name.
                head = b"\0" + name.encode() + b"\0" + b"\0\1\0\1" + b"\0\1" + VALUE.to_bytes(4)
                await _send_value(connection, head, b"\0\0", kind=b"B")
                frames = await connection.ask(wire.execute(), wire.SYNC)
        kinds = b"".join(kind for kind, _ in frames)
        assert kinds == (b"2CZ" if name else b"12CZ")
        assert memory.growth < ALLOWED
        same = f"x = convert_to(repeat('a', {VALUE}), 'UTF8')"
        whole = f"/* pgproxy: primary */ SELECT length(x), {same} FROM t"
        assert wire.rows(await connection.ask(wire.query(whole))) == [[b"%d" % VALUE, b"t"]]


# --- one side is slow


async def test_a_client_that_stops_reading_costs_no_memory(
    warm_proxy: ProxyProcess, cluster: Cluster
) -> None:
    expected = await _digest(cluster.primary, wire.query(MILLION_ROWS))
    async with await Wire.connect(warm_proxy) as slow:
        with PeakMemory(warm_proxy) as memory:
            await slow.send(wire.query(MILLION_ROWS))
            async with bystander(warm_proxy) as other:
                # The stream's own buffer fills up, then nobody reads.
                await _until_still(slow)
                await other.served(200)
            size, digest = 0, hashlib.sha256()
            async for chunk in _drain(slow):
                size += len(chunk)
                digest.update(chunk)
    assert (size, digest.hexdigest()) == expected
    assert memory.growth < ALLOWED


async def _until_still(connection: Wire) -> None:
    """Wait until the stream has stopped reading: its buffer is full."""
    transport = cast(asyncio.ReadTransport, connection.writer.transport)
    await eventually(lambda: not transport.is_reading())


async def test_a_client_that_never_reads_what_the_proxy_itself_answers(
    warm_proxy: ProxyProcess,
) -> None:
    """SHOW pgproxy.route needs no server; asked for ever, it must not fill the memory."""
    question = wire.query("SHOW pgproxy.route") * 10_000
    greedy = await Wire.connect(warm_proxy)
    async with asyncio.TaskGroup() as tasks:
        with PeakMemory(warm_proxy) as memory:
            async with bystander(warm_proxy) as other:
                sending = tasks.create_task(_send_for_ever(greedy, question))
                await _until_still(greedy)
                await other.served(500)
        sending.cancel()
    assert memory.growth < ALLOWED
    assert wire.rows(await greedy.until(b"Z")) == [[b"auto"]]
    greedy.writer.transport.abort()


async def _send_for_ever(connection: Wire, question: bytes) -> None:
    while True:
        await connection.send(question)


async def test_a_server_that_stops_reading_a_copy_costs_no_memory(
    cluster: Cluster, fresh_database: str, start_proxy: Callable[..., ProxyProcess]
) -> None:
    async with FaultProxy(cluster.primary) as network:
        proxy = await asyncio.to_thread(start_proxy, [_Renamed(network)])
        async with await Wire.connect(proxy, database=fresh_database) as connection:
            await connection.ask(wire.query("CREATE UNLOGGED TABLE t (n text, x text)"))
            async with await Wire.connect(proxy) as other:
                await other.ask(wire.query("SELECT 1"))
                with PeakMemory(proxy) as memory:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(_copy_in(connection, "t"))
                        await network.wait_forwarded(5 * MB, "to_server")
                        network.stall()
                        # No more fits in: what the client sends stays with the client.
                        await _until_full(connection)
                        # The proxy itself is not held up.
                        answer = await other.ask(wire.query("SHOW pgproxy.route"))
                        assert wire.rows(answer) == [[b"auto"]]
                        network.resume()
                assert memory.growth < ALLOWED


async def test_a_copy_that_has_failed_long_ago_is_taken_to_its_end(
    cluster: Cluster, fresh_database: str, start_proxy: Callable[..., ProxyProcess]
) -> None:
    """Its error comes while no more fits in: the client must not wait for ever."""
    async with FaultProxy(cluster.primary) as network:
        proxy = await asyncio.to_thread(
            start_proxy, [_Renamed(network)], pool={"size": 1}, health={"timeout": 20}
        )
        async with await Wire.connect(proxy, database=fresh_database) as connection:
            await connection.ask(wire.query("CREATE TABLE t (n int)"))
            await connection.send(wire.query("COPY t FROM STDIN"))
            await connection.until(b"G")
            network.stall("to_client")
            bad = wire.copy_data(b"x\n")
            # Others send something too: the monitor, and who reads the catalogue.
            forwarded = network.expect(bad, "to_server")
            await connection.send(bad)
            await forwarded.wait()
            network.stall("to_server")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_send_copy_data(connection))
                await _until_full(connection)
                network.resume("to_client")
                assert wire.errors(await connection.until(b"Z")) == ["22P02"]
                network.resume("to_server")
            assert wire.rows(await connection.ask(wire.query("SELECT 1"))) == [[b"1"]]


async def _send_copy_data(connection: Wire) -> None:
    for _ in range(40):
        await connection.send(wire.copy_data(b"1" * MB))
    await connection.send(wire.COPY_DONE)


class _Renamed:
    """A faulty network as a backend of the configuration."""

    def __init__(self, network: FaultProxy) -> None:
        self.host = network.host
        self.port = network.port
        self.name = "stalled"


async def _until_full(connection: Wire) -> None:
    """Wait until nothing leaves the client's own buffer any more."""
    transport = connection.writer.transport
    before = -1
    while (size := transport.get_write_buffer_size()) == 0 or size != before:
        before = size
        await asyncio.sleep(0.3)
