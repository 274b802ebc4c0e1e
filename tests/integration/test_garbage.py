"""Whatever comes to the port, its sender gets a FATAL with a SQLSTATE or a close, and nobody else
notices: no traceback, nothing left open, and a well-behaved client is served throughout.
"""

import asyncio
import contextlib
import random
import resource
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import bystander, descriptors, eventually, status
from tests.support.wire import Frame, Wire

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
    pytest.mark.timeout(30),
]

LOGIN_TIMEOUT: Final = 0.5
# Of one proxy in this module; so that nothing that is left leased goes unnoticed.
POOL_SIZE: Final = 3


@pytest.fixture(scope="module")
def module_proxy(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(
        cluster.servers,
        pool={"size": POOL_SIZE},
        timeouts={"client_login": LOGIN_TIMEOUT},
    ) as proxy:
        yield proxy


@pytest.fixture
def harassed(module_proxy: ProxyProcess) -> Iterator[ProxyProcess]:
    """A proxy that at the end of the test must hold no more than at its beginning."""
    asyncio.run(_fill_pools(module_proxy))
    before = descriptors(module_proxy)
    yield module_proxy
    asyncio.run(_is_clean(module_proxy, before))
    module_proxy.check()


async def _fill_pools(proxy: ProxyProcess) -> None:
    async with bystander(proxy):
        pass
    await eventually(lambda: not _held(proxy))


async def _is_clean(proxy: ProxyProcess, descriptors_before: int) -> None:
    # A pool may have grown in the meantime, up to its size: those are no leak.
    allowed = descriptors_before + 3 * POOL_SIZE
    await eventually(lambda: not _held(proxy))
    await eventually(lambda: descriptors(proxy) <= allowed)
    async with bystander(proxy) as other:
        await other.served(10)
    await eventually(lambda: not _held(proxy))


def _held(proxy: ProxyProcess) -> list[object]:
    """What /status shows of clients and of server connections that are not idle."""
    shown = status(proxy)
    pools = [
        pool
        for pool in shown["pools"]
        if any(pool[state] for state in ("leased", "resetting", "opening", "waiting"))
    ]
    return pools + [shown["clients"]] * (shown["clients"] > 0)


@contextlib.asynccontextmanager
async def _connection(proxy: ProxyProcess, *, log_in: bool = True) -> AsyncIterator[Wire]:
    """One that leaves without a word, also when a test fails."""
    connection = await Wire.connect(proxy) if log_in else await Wire.open(proxy)
    try:
        yield connection
    finally:
        await connection.drop()


async def _answer(proxy: ProxyProcess, *data: bytes) -> list[Frame]:
    """All that a new connection is answered to `data`, up to the end of the stream."""
    async with _connection(proxy, log_in=False) as connection:
        try:
            await connection.send(*data)
            return await connection.until(b"")
        except ConnectionError:
            return []  # reset, since more was sent than was read: a close as well


def _fatal(frames: Sequence[Frame]) -> str:
    """The SQLSTATE of the one FATAL that an answer ends with."""
    assert [kind for kind, _ in frames].count(b"E") == 1, frames
    kind, body = frames[-1]
    assert kind == b"E", frames
    fields = wire.fields(body)
    assert fields["S"] == fields["V"] == "FATAL"
    assert fields["M"]
    return fields["C"]


# --- before log-in

TLS_CLIENT_HELLO: Final = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))
FIRST_BYTES: Final[dict[str, tuple[bytes, str]]] = {
    "http": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "08P01"),
    "tls": (TLS_CLIENT_HELLO, "08P01"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "08P01"),
    "zeros": (bytes(64), "08P01"),
    "ones": (b"\xff" * 64, "08P01"),
    "huge length": (struct.pack("!ii", 0x7FFFFFFF, wire.PROTOCOL_3_0), "08P01"),
    "negative length": (struct.pack("!ii", -1, wire.PROTOCOL_3_0), "08P01"),
    "length too small": (struct.pack("!ii", 7, wire.PROTOCOL_3_0), "08P01"),
    "one byte too long": (struct.pack("!ii", 10_005, wire.PROTOCOL_3_0), "08P01"),
    "protocol 1.0": (wire.untyped(1 << 16, b"user\0me\0\0"), "0A000"),
    "protocol 2.0": (wire.untyped(2 << 16, b"postgres".ljust(288, b"\0")), "0A000"),
    "protocol 4.0": (wire.startup("postgres", "postgres", 4 << 16), "0A000"),
    "no terminator": (wire.untyped(wire.PROTOCOL_3_0, b"user\0postgres"), "08P01"),
    "a name without a value": (wire.untyped(wire.PROTOCOL_3_0, b"user\0postgres\0x\0"), "08P01"),
    "no user": (wire.untyped(wire.PROTOCOL_3_0, b"database\0postgres\0\0"), "28000"),
    "an unknown request code": (wire.untyped(80877105), "0A000"),
    "Bind": (wire.bind(), "08P01"),
    "Query": (wire.query("SELECT 1"), "08P01"),
    "Sync": (wire.SYNC * 4, "08P01"),
    "SSLRequest and then garbage": (wire.SSL_REQUEST + b"\xff" * 32, "08P01"),
    "SSLRequest twice": (wire.SSL_REQUEST * 2, "08P01"),
    "replication": (wire.startup("postgres", "postgres", replication="true"), "0A000"),
    "options": (wire.startup("postgres", "postgres", options="-c"), "42601"),
    "a setting that is none": (wire.startup("postgres", "postgres", nonsense="1"), "42704"),
    "a value that is none": (wire.startup("postgres", "postgres", work_mem="x"), "22023"),
}


@pytest.mark.parametrize("name", FIRST_BYTES)
async def test_first_bytes_that_are_no_start_up(harassed: ProxyProcess, name: str) -> None:
    data, sqlstate = FIRST_BYTES[name]
    async with bystander(harassed), _connection(harassed, log_in=False) as connection:
        await connection.send(data)
        if data.startswith(wire.SSL_REQUEST):
            assert await connection.reader.readexactly(1) == b"N"
        assert _fatal(await connection.until(b"")) == sqlstate


async def test_random_bytes(harassed: ProxyProcess) -> None:
    chance = random.Random(20)
    async with bystander(harassed):
        for _ in range(100):
            frames = await _answer(harassed, chance.randbytes(chance.randrange(4, 400)))
            assert frames == [] or _fatal(frames) == "08P01"


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"\0",
        b"\0\0\0\x08",
        wire.startup("postgres", "postgres")[:-1],
        struct.pack("!ii", 10_000, wire.PROTOCOL_3_0) + b"user\0",
    ],
)
async def test_part_of_a_start_up_packet_and_silence(
    harassed: ProxyProcess, beginning: bytes
) -> None:
    async with bystander(harassed):
        assert _fatal(await _answer(harassed, beginning)) == "57014"


async def test_part_of_a_start_up_packet_and_a_close(harassed: ProxyProcess) -> None:
    packet = wire.startup("postgres", "postgres")
    before = descriptors(harassed)
    async with bystander(harassed):
        for size in range(len(packet)):
            connection = await Wire.open(harassed)
            await connection.send(packet[:size])
            await connection.drop()
    await eventually(lambda: descriptors(harassed) <= before + 3 * POOL_SIZE)


async def test_a_client_that_leaves_before_its_welcome(harassed: ProxyProcess) -> None:
    async with bystander(harassed):
        for number in range(50):
            connection = await Wire.open(harassed)
            # Each has parameters of its own, and so waits for a connection of its own.
            await connection.send(
                wire.startup("postgres", "postgres", application_name=f"leaves-{number}")
            )
            if number % 2:
                connection.writer.transport.abort()
            else:
                await connection.drop()


async def test_thousands_of_connections_that_come_and_go(harassed: ProxyProcess) -> None:
    async def come_and_go(count: int) -> None:
        for number in range(count):
            connection = await Wire.open(harassed)
            if number % 3 == 0:
                await connection.send(wire.SSL_REQUEST)
            if number % 2:
                connection.writer.transport.abort()
            else:
                await connection.drop()

    async with bystander(harassed) as other, asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(come_and_go(150))
        await other.served(50)


async def test_too_many_silent_connections_for_the_descriptors(
    cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": 2}, timeouts={"client_login": 2})
    async with bystander(proxy) as other:
        room = descriptors(proxy) + 20
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (room, room))
        silent = [await Wire.open(proxy) for _ in range(60)]
        await other.served(200)
        for connection in silent:
            await connection.drop()
        await eventually(lambda: descriptors(proxy) <= room - 10)
        # There is room for others again.
        async with await Wire.connect(proxy) as later:
            assert wire.rows(await later.ask(wire.query("SELECT 1"))) == [[b"1"]]


# --- after log-in

# PostgreSQL closes on these; so does the proxy, in words.
AFTER_LOGIN: Final[dict[str, bytes]] = {
    "a type that does not exist": b"\xc8\0\0\0\4",
    "a type of servers": wire.message(b"Z", b"I"),
    "a zero byte": bytes(5),
    "a password": wire.message(b"p", b"secret\0"),
    "a length below its own four bytes": b"Q\0\0\0\3",
    "a negative length": b"Q\xff\xff\xff\xff",
    "a length of more than a gigabyte": b"Q\x40\0\0\0",
    "a start-up packet": wire.startup("postgres", "postgres"),
    "a request for encryption": wire.SSL_REQUEST,
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", AFTER_LOGIN)
@pytest.mark.parametrize("where", ["idle", "in a transaction", "behind a query"])
async def test_what_is_no_message_of_a_session(
    harassed: ProxyProcess, name: str, where: str
) -> None:
    async with bystander(harassed), _connection(harassed) as connection:
        before = b""
        if where == "in a transaction":
            await connection.ask(wire.query("BEGIN; SELECT 1"))
        elif where == "behind a query":
            before = wire.query("SELECT 1")
        await connection.send(before, AFTER_LOGIN[name])
        assert _fatal((await connection.until(b""))[-1:]) == "08P01"


BODILESS: Final = {
    kind: wire.message(kind.encode()) for kind in ("Q", "P", "B", "D", "E", "C", "F")
}
STRANGE: Final[dict[str, bytes]] = {
    **{f"{kind} without a body": frame for kind, frame in BODILESS.items()},
    "Parse without an end": wire.message(b"P", b"name"),
    "Parse that ends in its types": wire.message(b"P", b"\0SELECT 1\0\0\5\0"),
    "Bind with more values than it has": wire.message(b"B", b"\0\0\0\0\0\5\0\0"),
    "Bind of a negative length": wire.message(b"B", b"\0\0\0\0\0\1\xff\xff\xff\xf0\0\0"),
    "Describe of what is not": wire.describe("X"),
    "Describe without an end": wire.message(b"D", b"Sname"),
    "Close of what is not": wire.close("X"),
    "Execute of what is not": wire.execute("nowhere"),
    "Query without an end": wire.message(b"Q", b"SELECT 1"),
    "Query of two texts": wire.message(b"Q", b"SELECT 1\0SELECT 2\0"),
    "Query that is not UTF-8": wire.message(b"Q", b"SELECT '\xff\xfe'\0"),
    "FunctionCall of what is not": wire.function_call(4_000_000_000),
    "FunctionCall without its values": wire.message(b"F", b"\0\0\6\x3e\0\0\0\x63"),
}


@pytest.mark.parametrize("name", STRANGE)
async def test_a_message_with_a_strange_body(harassed: ProxyProcess, name: str) -> None:
    """PostgreSQL answers with an ERROR; the proxy may close as well, but in words."""
    async with bystander(harassed), _connection(harassed) as connection:
        # In one write: what comes after a close resets the connection, and the FATAL is lost.
        await connection.send(STRANGE[name], wire.SYNC * (STRANGE[name][:1] in b"PBDEC"))
        frames = await connection.until(b"Z")
        severities = [wire.fields(body)["V"] for kind, body in frames if kind == b"E"]
        if severities == ["FATAL"]:
            assert _fatal(frames[-1:]) == "08P01"
        else:
            assert severities == ["ERROR"], frames
            assert frames[-1] == (b"Z", b"I")
            answer = await connection.ask(wire.query("SELECT 7"))
            assert wire.rows(answer) == [[b"7"]]


@pytest.mark.parametrize(
    "stray",
    [wire.copy_data(b"1\n"), wire.COPY_DONE, wire.copy_fail("why"), wire.FLUSH],
    ids=["CopyData", "CopyDone", "CopyFail", "Flush"],
)
@pytest.mark.parametrize("begin", ["", "BEGIN", "BEGIN; SELECT 1"])
async def test_copy_messages_out_of_the_blue_are_ignored(
    cluster: Cluster, harassed: ProxyProcess, stray: bytes, begin: str
) -> None:
    """As PostgreSQL does: they may be the rest of a COPY that has failed."""
    script = [stray, wire.query("SELECT 1"), stray, stray, wire.parse("SELECT 2"), wire.bind()]
    script += [wire.execute(), stray, wire.SYNC]
    async with bystander(harassed):
        for address in (cluster.primary, harassed):
            async with await Wire.connect(address) as connection:
                if begin:
                    await connection.ask(wire.query(begin))
                frames = await connection.ask(*script, ready=2)
                assert wire.rows(frames) == [[b"1"], [b"2"]]
                assert wire.errors(frames) == []


async def test_part_of_a_message_and_a_close(harassed: ProxyProcess) -> None:
    messages = [
        wire.query("SELECT 1"),
        wire.parse("SELECT 1") + wire.bind() + wire.execute() + wire.SYNC,
        wire.query("BEGIN; SELECT 1") + wire.query("INSERT INTO nowhere VALUES (1)"),
        b"Q\x3f\0\0\0SELECT '" + b"x" * 200_000,
        wire.query("BEGIN") + b"B\x10\0\0\0\0\0" + b"x" * 200_000,
        b"d\x10\0\0\0" + b"x" * 200_000,
    ]
    async with bystander(harassed):
        for message in messages:
            sizes = {len(message) * part // 7 for part in range(1, 8)}
            for size in sorted(sizes):
                connection = await Wire.connect(harassed)
                await connection.send(message[:size])
                connection.writer.transport.abort() if size % 2 else await connection.drop()
        await eventually(lambda: len(_held(harassed)) <= 2)  # the bystander's own


# --- what a COPY leaves behind


async def test_the_rest_of_a_failed_copy_never_reaches_the_next_client(
    cluster: Cluster, fresh_database: str, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": 1})
    async with (
        await Wire.connect(proxy, database=fresh_database) as copying,
        await Wire.connect(proxy, database=fresh_database) as other,
    ):
        await copying.ask(wire.query("CREATE TABLE t (n int)"))
        await copying.send(wire.query("COPY t FROM STDIN"))
        await copying.until(b"G")
        # The server fails at the first message, in the middle of the second.
        await copying.send(wire.copy_data(b"x\n"), wire.copy_data(b"y" * 1000)[:300])
        assert wire.errors(await copying.until(b"Z")) == ["22P02"]
        await other.send(insert := wire.query("INSERT INTO t VALUES (1)"))
        await copying.send(b"y" * 705, wire.COPY_DONE)
        assert await other.until(b"Z") == [(b"C", b"INSERT 0 1\0"), (b"Z", b"I")]
        assert (await copying.ask(insert))[0] == (b"C", b"INSERT 0 1\0")


@pytest.mark.parametrize("end", [wire.COPY_DONE, wire.copy_fail("enough")])
async def test_the_end_of_a_copy_gives_the_connection_back(
    cluster: Cluster, fresh_database: str, start_proxy: Callable[..., ProxyProcess], end: bytes
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": 1})
    insert = wire.query("INSERT INTO t VALUES (1)")
    async with (
        await Wire.connect(proxy, database=fresh_database) as copying,
        await Wire.connect(proxy, database=fresh_database) as other,
    ):
        await copying.ask(wire.query("CREATE TABLE t (n int)"))
        for messages in (
            [wire.query("COPY t FROM STDIN")],
            [wire.parse("COPY t FROM STDIN"), wire.bind(), wire.execute(), wire.SYNC],
            [wire.parse("COPY t FROM STDIN"), wire.bind(), wire.execute(), wire.FLUSH],
        ):
            await copying.send(*messages)
            await copying.until(b"G")
            rest = [] if len(messages) == 1 else [wire.SYNC]
            frames = await copying.ask(wire.copy_data(b"1\n"), end, *rest)
            assert frames[-1] == (b"Z", b"I")
            assert (await other.ask(insert))[0] == (b"C", b"INSERT 0 1\0")


# --- anything at all, in the form of messages

_names = st.sampled_from(["", "a", "b", "pgproxy_1", "pgproxy_", "\u00e9"])
_texts = st.sampled_from(
    [
        *("SELECT 41", "SELECT $1::text", "", ";", "SELECT 1; SELECT 2", "SELECT 1/0"),
        *("BEGIN", "BEGIN READ ONLY", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"),
        *("SET work_mem = '1MB'", "SET LOCAL work_mem = '1MB'", "SHOW work_mem", "SELEKT"),
        *("COPY (SELECT 1) TO STDOUT", "COPY garbage FROM STDIN", "SHOW pgproxy.last_route"),
        *("SET pgproxy.route = replica", "INSERT INTO garbage VALUES (1)", "DISCARD ALL"),
        *("DECLARE c CURSOR FOR SELECT 1", "FETCH c", "PREPARE a AS SELECT 1", "EXECUTE a"),
        *("LISTEN x", "CREATE TEMP TABLE IF NOT EXISTS g (n int)", "DEALLOCATE ALL", "\u00ff"),
    ]
)
_frames = st.one_of(
    st.builds(wire.query, _texts),
    st.builds(wire.parse, _texts, name=_names),
    st.builds(
        lambda values, portal, statement: wire.bind(*values, portal=portal, statement=statement),
        st.lists(st.sampled_from([b"1", None]), max_size=2),
        _names,
        _names,
    ),
    st.builds(wire.describe, st.sampled_from("SPX"), _names),
    st.builds(wire.execute, _names, st.integers(0, 2)),
    st.builds(wire.close, st.sampled_from("SPX"), _names),
    st.sampled_from([wire.SYNC, wire.SYNC, wire.FLUSH, wire.COPY_DONE, wire.copy_fail("x")]),
    st.builds(wire.copy_data, st.binary(max_size=20)),
    st.just(wire.function_call(1598)),
)


@st.composite
def _streams(draw: st.DrawFn) -> tuple[list[bytes], bool]:
    """Messages in any order, perhaps with a few bytes of one of them altered; and whether the
    client leaves with a word."""
    frames = draw(st.lists(_frames, min_size=1, max_size=12))
    if draw(st.booleans()):
        which = draw(st.integers(0, len(frames) - 1))
        frame = bytearray(frames[which])
        for _ in range(draw(st.integers(1, 3))):
            frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
        frames[which] = bytes(frame)
    return frames, draw(st.booleans())


@pytest.fixture(scope="module")
def garbage_table(cluster: Cluster) -> Iterator[None]:
    cluster.primary.psql("CREATE TABLE garbage (n int)")
    cluster.wait_caught_up()
    yield
    cluster.primary.psql("DROP TABLE garbage")


def test_any_messages_in_any_order_disturb_nobody(
    harassed: ProxyProcess, garbage_table: None
) -> None:
    async def session(frames: list[bytes], leaves: bool) -> None:
        connection = await Wire.connect(harassed)
        try:
            await connection.send(*frames)
            if leaves:
                await connection.send(wire.COPY_DONE, wire.SYNC, wire.TERMINATE)
                # An altered length may have made all of this the body of a message.
                connection.writer.write_eof()
                for kind, body in await connection.until(b""):
                    if kind == b"E":
                        assert len(wire.fields(body)["C"]) == 5
        except (OSError, asyncio.IncompleteReadError):
            pass  # it was sent more than it took
        finally:
            connection.writer.transport.abort()

    with asyncio.Runner() as runner:

        async def together(streams: Sequence[tuple[list[bytes], bool]]) -> None:
            async with bystander(harassed), asyncio.TaskGroup() as tasks:
                for frames, leaves in streams:
                    tasks.create_task(session(frames, leaves))

        @settings(max_examples=settings().max_examples // 2)
        @given(st.lists(_streams(), min_size=1, max_size=4))
        def fuzz(streams: list[tuple[list[bytes], bool]]) -> None:
            runner.run(together(streams))
            harassed.check()

        fuzz()
