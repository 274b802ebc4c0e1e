"""LISTEN through one connection for all: who hears what, when, and what the server has of it."""

import asyncio
import re
import resource
import select
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import asyncpg
import psycopg
import psycopg2
import pytest

from pgproxy.embedded import Cluster, Server
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    FLUSH,
    SYNC,
    Address,
    Frame,
    Wire,
    bind,
    describe,
    errors,
    execute,
    fields,
    parse,
    query,
    rows,
)

pytestmark = pytest.mark.once

Note = tuple[int, str, str]  # process id, channel, payload

LISTENERS: Final = 2000
SESSIONS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()"
    " AND application_name <> 'pgproxy monitor'"
)
SHARED: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = '{}' AND application_name = 'pgproxy listening'"
)
END_SHARED: Final = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = 'pgproxy listening'"
)


def notes(frames: Sequence[Frame]) -> list[Note]:
    """The notifications among `frames`."""
    found = []
    for kind, body in frames:
        if kind == b"A":
            channel, payload, _ = body[4:].split(b"\0")
            found.append((int.from_bytes(body[:4]), channel.decode(), payload.decode()))
    return found


def heard(frames: Sequence[Frame]) -> list[str]:
    """What they say."""
    return [payload for _, _, payload in notes(frames)]


def kinds(frames: Sequence[Frame]) -> bytes:
    return b"".join(kind for kind, _ in frames)


async def ask(server: Server, sql: str, database: str = "postgres") -> str:
    return await asyncio.to_thread(server.psql, sql, database)


async def metric(proxy: ProxyProcess, name: str, labels: str = "") -> float:
    _, text = await asyncio.to_thread(proxy.get, "/metrics")
    values = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for found, value in values if labels in found)


@pytest.fixture(scope="module")
def narrow(cluster: Cluster) -> Iterator[ProxyProcess]:
    """Two connections to each server."""
    with ProxyProcess.start(cluster.servers, pool={"size": 2}) as proxy:
        yield proxy
        proxy.check()


@pytest.fixture
async def pair(narrow: ProxyProcess, fresh_database: str) -> Any:
    """A client that listens to "news", and another one."""
    async with (
        await Wire.connect(narrow, database=fresh_database) as listener,
        await Wire.connect(narrow, database=fresh_database) as other,
    ):
        assert kinds(await listener.ask(query("LISTEN news"))) == b"CZ"
        yield listener, other


Pair = tuple[Wire, Wire]


# --- many


async def test_thousands_of_listeners_cost_one_connection(
    cluster: Cluster, narrow: ProxyProcess, fresh_database: str
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < LISTENERS + 500:
        pytest.skip(f"a process may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, LISTENERS + 500), hard))
    turn = asyncio.Semaphore(200)

    async def listen(number: int) -> Wire:
        async with turn:
            client = await Wire.connect(narrow, database=fresh_database)
            own = query(f"LISTEN own_{number}")
            frames = await client.ask(query("LISTEN news"), own, ready=2)
            assert kinds(frames) == b"CZCZ"
            return client

    listeners = await asyncio.gather(*(listen(number) for number in range(LISTENERS)))
    try:
        async with await Wire.connect(narrow, database=fresh_database) as other:
            for number in range(5):
                await other.ask(query(f"NOTIFY news, '{number}'"))
            await other.ask(query(f"NOTIFY own_{LISTENERS - 1}, 'mine'"))
            for client in listeners[:-1]:
                assert heard(await client.until(b"A", 5)) == ["0", "1", "2", "3", "4"]
            assert heard(await listeners[-1].until(b"A", 6))[5] == "mine"
            # A pool of two, the shared one, and nothing else has been said to anybody.
            assert int(await ask(cluster.primary, SESSIONS.format(fresh_database))) <= 3
            assert await metric(narrow, "pgproxy_listeners", fresh_database) == LISTENERS
            channels = await metric(narrow, "pgproxy_listened_channels", fresh_database)
            assert channels == LISTENERS + 1
            answers = await asyncio.gather(*(one.ask(query("UNLISTEN *")) for one in listeners))
            assert {kinds(frames) for frames in answers} == {b"CZ"}
    finally:
        await asyncio.gather(*(client.close() for client in listeners))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_it_is_closed_some_time_after_the_last_listener(
    cluster: Cluster, pair: Pair, fresh_database: str
) -> None:
    count = SHARED.format(fresh_database)
    assert await ask(cluster.primary, count) == "1"
    await pair[0].ask(query("UNLISTEN *"))
    while await ask(cluster.primary, count) != "0":  # noqa: ASYNC110 - the server is asked
        await asyncio.sleep(0.05)
    assert kinds(await pair[0].ask(query("LISTEN news"))) == b"CZ"
    await pair[1].ask(query("NOTIFY news, 'again'"))
    assert heard([await pair[0].read()]) == ["again"]


async def test_two_databases_do_not_hear_each_other(
    cluster: Cluster, narrow: ProxyProcess, pair: Pair
) -> None:
    async with (
        await Wire.connect(narrow) as listener,
        await Wire.connect(narrow) as other,
    ):
        await listener.ask(query("LISTEN news"))
        await pair[1].ask(query("NOTIFY news, 'one'"))
        await other.ask(query("NOTIFY news, 'two'"))
        assert heard([await pair[0].read()]) == ["one"]
        assert heard([await listener.read()]) == ["two"]
        for client in (pair[0], listener):
            assert kinds(await client.ask(query(""))) == b"IZ"


# --- transactions


async def test_a_rolled_back_notify_is_not_heard(pair: Pair) -> None:
    listener, other = pair
    await other.ask(query("BEGIN"), query("NOTIFY news, 'no'"), query("ROLLBACK"), ready=3)
    await other.ask(query("NOTIFY news, 'yes'"))
    assert heard([await listener.read()]) == ["yes"]


async def test_a_client_in_a_transaction_hears_at_its_end(pair: Pair) -> None:
    listener, other = pair
    await listener.ask(query("BEGIN"), query("CREATE TEMP TABLE t ()"), ready=2)
    await other.ask(query("NOTIFY news, 'one'"))
    await other.ask(query("NOTIFY news, 'two'"))
    assert kinds(await listener.ask(query("SELECT 1"))) == b"TDCZ"
    assert kinds(await listener.ask(query("SELECT 1/0"))) == b"EZ"
    frames = await listener.ask(query("ROLLBACK"))
    assert kinds(frames) == b"CAAZ"
    assert heard(frames) == ["one", "two"]


async def test_and_so_if_no_server_ever_saw_the_transaction(pair: Pair) -> None:
    listener, other = pair
    await listener.ask(query("BEGIN"))
    await other.ask(query("NOTIFY news, 'one'"))
    assert sorted(kinds(await listener.ask(query("COMMIT")) + [await listener.read()])) == sorted(
        b"CZA"
    )


# What a session does, and in between what another one says: at each ! the other one notifies.
STORIES: Final = {
    "commit": ["BEGIN", "LISTEN a", "!", "COMMIT", "!"],
    "commit with work": ["BEGIN", "SELECT 1", "LISTEN a", "!", "SELECT 2", "COMMIT", "!"],
    "rollback": ["LISTEN b", "BEGIN", "LISTEN a", "UNLISTEN b", "ROLLBACK", "!"],
    "rollback with work": ["BEGIN", "CREATE TABLE u ()", "LISTEN a", "ROLLBACK", "!"],
    "savepoints": [
        "BEGIN", "LISTEN a", "SAVEPOINT s", "LISTEN b", "SAVEPOINT t", "UNLISTEN a",
        "ROLLBACK TO t", "RELEASE t", "ROLLBACK TO s", "LISTEN c", "COMMIT", "!",
    ],
    "a savepoint after an error": [
        "BEGIN", "SAVEPOINT s", "LISTEN a", "SELECT 1/0", "LISTEN b", "ROLLBACK TO s", "LISTEN c",
        "COMMIT", "!",
    ],
    "a failed transaction": ["BEGIN", "LISTEN a", "SELECT 1/0", "LISTEN b", "COMMIT", "!"],
    "a commit that fails": [
        "CREATE TEMP TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)", "BEGIN",
        "INSERT INTO t VALUES (1), (1)", "LISTEN a", "COMMIT", "!",
    ],
    "unlisten": ["LISTEN a", "LISTEN b", "!", "UNLISTEN a", "!", "UNLISTEN *", "!"],
    "unlisten while in a transaction": ["LISTEN a", "LISTEN b", "BEGIN", "UNLISTEN a", "!", "COMMIT"],
    "names": [
        'LISTEN A', 'LISTEN "B"', 'LISTEN "b"', "!", 'LISTEN "with ""quotes"" and space"',
        f"LISTEN {'x' * 70}", 'LISTEN "\u00e9t\u00e9"', 'LISTEN "' + "\u00e9" * 40 + '"', 'LISTEN ""',
    ],
    "several in one text": ["LISTEN a", "SELECT 1; UNLISTEN a; SELECT 2", "!"],
    "several in one text that fail": ["LISTEN a", "UNLISTEN *; SELECT 1/0", "!"],
    "asyncpg's reset": [
        "LISTEN a", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;", "!",
    ],
    "discard all": ["LISTEN a", "DISCARD ALL", "!"],
    "listen in one text": ["LISTEN a", "LISTEN b; SELECT 1", "!", "LISTEN c", "!", "UNLISTEN b", "!"],
    "the same twice": ["LISTEN a", "LISTEN a; SELECT 1", "LISTEN a", "!"],
    "read only": ["BEGIN READ ONLY", "SELECT 1", "LISTEN a", "COMMIT", "!"],
    "chain": ["BEGIN", "LISTEN a", "COMMIT AND CHAIN", "!", "LISTEN b", "ROLLBACK AND CHAIN", "COMMIT", "!"],
}  # fmt: skip


async def tell(address: Address, database: str, story: list[str], *, extended: bool) -> list[Any]:
    """What the session is answered, and what it hears. Notifications may come a moment later, so
    they are gathered up to the other session's next word to a channel of its own."""
    seen: list[Any] = []
    async with (
        await Wire.connect(address, database=database) as client,
        await Wire.connect(address, database=database) as other,
    ):
        await client.ask(query("LISTEN sync"))
        count = 0
        for step in story:
            if step == "!":
                for channel in ("a", "b", "c", '"B"'):
                    await other.ask(query(f"NOTIFY {channel}, '{count}'"))
                count += 1
                continue
            if extended and ";" not in step:
                frames = await client.ask(parse(step), bind(), describe("P"), execute(), SYNC)
                frames = [frame for frame in frames if frame[0] not in b"12n"]
            else:
                frames = await client.ask(query(step))
            seen.append([(kind, "" if kind in b"NS" else body) for kind, body in frames
                         if kind not in b"AENS"] + errors(frames))  # fmt: skip
            seen += notes_without_pid(frames)
        frames = await client.ask(query("SELECT pg_listening_channels()"))
        seen.append(sorted(str(row) for row in rows(frames) if row != [b"sync"]))
        heard_late = notes_without_pid(frames)
        # The story may have ended all listening.
        heard_late += notes_without_pid(await client.ask(query("LISTEN sync")))
        await other.ask(query("NOTIFY sync, 'end'"))
        while ("sync", "end") not in heard_late:
            heard_late += notes_without_pid([await client.read()])
        return [*[one for one in seen if not isinstance(one, tuple)],
                *[one for one in seen if isinstance(one, tuple)], *heard_late]  # fmt: skip


def notes_without_pid(frames: Sequence[Frame]) -> list[tuple[str, str]]:
    return [(channel, payload) for _, channel, payload in notes(frames)]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("name", STORIES)
async def test_the_same_as_directly(
    cluster: Cluster, narrow: ProxyProcess, fresh_database: str, name: str, extended: bool
) -> None:
    story = [*STORIES[name]]
    direct = await tell(cluster.primary, fresh_database, story, extended=extended)
    ours = await tell(narrow, fresh_database, story, extended=extended)
    if "in one text" in name or "twice" in name:
        # Such a session listens on two connections: what it listens to on its own only that shows,
        # and what comes over the one may overtake what comes over the other.
        direct, ours = (by_channel(without_channels(seen)) for seen in (direct, ours))
    assert ours == direct


def by_channel(seen: list[Any]) -> list[Any]:
    return [
        *[one for one in seen if isinstance(one, list)],
        *sorted((one for one in seen if isinstance(one, tuple)), key=lambda note: str(note[0])),
    ]


def without_channels(seen: list[Any]) -> list[Any]:
    return [
        one
        for one in seen
        if not (isinstance(one, list) and (not one or str(one[0]).startswith("[b'")))
    ]


# --- the answer, and when


async def test_an_answered_listen_misses_nothing(
    narrow: ProxyProcess, fresh_database: str, cluster: Cluster
) -> None:
    async with (
        await Wire.connect(narrow, database=fresh_database) as listener,
        await Wire.connect(cluster.primary, database=fresh_database) as direct,
    ):
        for number in range(200):
            await listener.ask(query(f"LISTEN c{number}"))
            await direct.ask(query(f"NOTIFY c{number}, '{number}'"))
            assert heard([await listener.read()]) == [str(number)]
            await listener.ask(query(f"UNLISTEN c{number}"))


async def test_a_prepared_listen_behind_flush(pair: Pair) -> None:
    """As asyncpg does: it describes with Flush, and executes in a batch of its own."""
    listener, other = pair
    await listener.send(parse("LISTEN more", "s"), describe("S", "s"), FLUSH)
    assert kinds(await listener.until(b"n")) == b"1tn"
    assert kinds(await listener.ask(bind(statement="s"), execute(), SYNC)) == b"2CZ"
    await other.ask(query("NOTIFY more, 'x'"))
    assert heard([await listener.read()]) == ["x"]


async def test_a_pipeline_of_its_own_statements(pair: Pair) -> None:
    listener, other = pair
    batch = [parse(f"LISTEN p{number}") + bind() + execute() for number in range(3)]
    frames = await listener.ask(query("SELECT 1"), *batch, SYNC, query("SELECT 2"), ready=3)
    assert kinds(frames) == b"TDCZ" + b"12C" * 3 + b"Z" + b"TDCZ"
    await other.ask(query("NOTIFY p0, '0'"), query("NOTIFY p2, '2'"), ready=2)
    assert heard(await listener.until(b"A", 2)) == ["0", "2"]


async def test_no_lease_and_no_pin(narrow: ProxyProcess, fresh_database: str) -> None:
    before = await metric(narrow, "pgproxy_pins_total")
    clients = [await Wire.connect(narrow, database=fresh_database) for _ in range(5)]
    for client in clients:
        await client.ask(query("LISTEN news"))
    for client in clients:  # on two connections
        assert rows(await client.ask(query("SELECT 1"))) == [[b"1"]]
        await client.close()
    assert await metric(narrow, "pgproxy_pins_total") == before


async def test_the_process_id_is_the_one_that_was_told(pair: Pair) -> None:
    listener, other = pair
    frames = await listener.ask(query("NOTIFY news, 'own'"))
    assert kinds(frames) == b"CAZ"
    assert notes(frames) == [(listener.key()[0], "news", "own")]
    await other.ask(query("BEGIN"), query("SELECT pg_notify('news', 'other')"), ready=2)
    await other.ask(query("COMMIT"))
    assert notes([await listener.read()]) == [(other.key()[0], "news", "other")]


async def test_own_and_others_on_one_connection_are_told_apart(
    start_proxy: Callable[..., ProxyProcess], cluster: Cluster, fresh_database: str
) -> None:
    proxy = start_proxy(cluster.servers, pool={"size": 1})
    clients = [await Wire.connect(proxy, database=fresh_database) for _ in range(8)]
    for client in clients:
        await client.ask(query("LISTEN news"))

    async def speak(client: Wire) -> None:
        for number in range(20):
            await client.send(query(f"NOTIFY news, '{client.key()[0]} {number}'"))
            frames = await client.until(b"Z")
            own = (client.key()[0], "news", f"{client.key()[0]} {number}")
            assert notes(frames)[-1] == own
            found[client] += notes(frames)

    found: dict[Wire, list[Note]] = {client: [] for client in clients}
    await asyncio.gather(*(speak(client) for client in clients))
    for client in clients:
        while len(found[client]) < 160:
            found[client] += notes([await client.read()])
        assert all(payload.split()[0] == str(pid) for pid, _, payload in found[client])
    assert len({tuple(one) for one in found.values()}) == 1  # all in one order
    for client in clients:
        await client.close()


async def test_a_pinned_session_shares_too(pair: Pair, narrow: ProxyProcess) -> None:
    listener, other = pair
    await other.ask(query("CREATE TEMP TABLE t ()"))
    assert kinds(await other.ask(query("LISTEN fresh"))) == b"CZ"
    frames = await other.ask(query("NOTIFY fresh, 'own'"))
    assert kinds(frames) == b"CAZ"
    assert notes(frames) == [(other.key()[0], "fresh", "own")]
    await listener.ask(query("NOTIFY fresh, 'x'"))
    assert heard([await other.read()]) == ["x"]


async def test_session_mode_listens_for_itself(
    start_proxy: Callable[..., ProxyProcess], cluster: Cluster, fresh_database: str
) -> None:
    proxy = start_proxy(cluster.servers, pool={"mode": "session"})
    async with await Wire.connect(proxy, database=fresh_database) as client:
        await client.ask(query("LISTEN news"))
        assert rows(await client.ask(query("SELECT pg_listening_channels()"))) == [[b"news"]]
        assert kinds(await client.ask(query("NOTIFY news"))) == b"CAZ"
        assert await ask(cluster.primary, SHARED.format(fresh_database)) == "0"


# --- clients that are slow


async def test_a_burst_while_a_large_result_streams(
    cluster: Cluster, pair: Pair, fresh_database: str
) -> None:
    listener, other = pair
    await listener.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
    frames = await listener.until(b"D", 10)
    for number in range(300):
        await other.ask(query(f"NOTIFY news, '{number}'"))
    frames += await listener.until(b"Z")
    assert kinds(frames) == b"T" + b"D" * 100_000 + b"C" + b"A" * 300 + b"Z"
    assert heard(frames) == [str(number) for number in range(300)]


async def test_who_does_not_read_is_cut_off_and_nobody_else(
    narrow: ProxyProcess, pair: Pair, fresh_database: str
) -> None:
    listener, other = pair
    before = await metric(narrow, "pgproxy_notification_overflows_total")
    async with await Wire.connect(narrow, database=fresh_database) as slow:
        await slow.ask(query("LISTEN news"))
        await slow.ask(query("BEGIN"), query("SELECT 1"), ready=2)
        frames: list[Frame] = []
        text = "x" * 7000
        for number in range(200):
            await other.ask(query(f"NOTIFY news, '{number} {text}'"))
            frames.append(await listener.read())
        assert [note.split()[0] for note in heard(frames)] == [str(n) for n in range(200)]
        last = (await slow.until(b"E"))[-1]
        assert fields(last[1])["S"] == "FATAL"
        assert fields(last[1])["C"] == "53400"
        assert await slow.until(b"Z") == []
    assert await metric(narrow, "pgproxy_notification_overflows_total") == before + 1


async def test_who_reads_nothing_at_rest_is_cut_off_too(
    narrow: ProxyProcess, pair: Pair, fresh_database: str
) -> None:
    listener, other = pair
    slow = await Wire.connect(narrow, database=fresh_database)
    await slow.ask(query("LISTEN news"))
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    before = await metric(narrow, "pgproxy_notification_overflows_total")
    text = "x" * 7900
    while await metric(narrow, "pgproxy_notification_overflows_total") == before:
        # What the kernel holds for a connection is not ours to bound.
        await other.ask(*[query(f"NOTIFY news, '{n} {text}'") for n in range(50)], ready=50)
        await listener.until(b"A", 50)
    await slow.drop()


# --- servers that go


async def test_the_listening_backend_is_terminated(
    cluster: Cluster, pair: Pair, narrow: ProxyProcess, fresh_database: str
) -> None:
    listener, other = pair
    lost = await metric(narrow, "pgproxy_listening_lost_total")
    await ask(cluster.primary, END_SHARED)
    # Which waits until it listens again, or is answered by the connection that is about to end.
    while await metric(narrow, "pgproxy_listening_lost_total") == lost:
        pass
    assert kinds(await other.ask(query("LISTEN news"))) == b"CZ"
    await other.ask(query("UNLISTEN news"))
    await other.ask(query("NOTIFY news, 'after'"))
    assert heard([await listener.read()]) == ["after"]


async def test_notifiers_go_on_while_it_is_terminated(
    cluster: Cluster, pair: Pair, narrow: ProxyProcess
) -> None:
    listener, other = pair

    async def speak(client: Wire) -> int:
        done = 0
        while not ended.is_set():
            frames = await client.ask(query("NOTIFY news, 'x'"))
            assert errors(frames) == []
            done += 1
        return done

    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        counts = [group.create_task(speak(client)) for client in (listener, other)]
        for _ in range(5):
            await ask(cluster.primary, END_SHARED)
        ended.set()
    assert all(count.result() for count in counts)


@pytest.mark.timeout(120)
async def test_a_failover(
    private_cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    old, (new, _other) = private_cluster.primary, private_cluster.replicas
    proxy = start_proxy(private_cluster.servers)
    async with await Wire.connect(proxy) as listener, await Wire.connect(proxy) as late:
        await listener.ask(query("LISTEN news"))
        await asyncio.to_thread(old.kill9)
        waiting = asyncio.ensure_future(late.ask(query("LISTEN fresh")))  # noqa: TID251
        await asyncio.to_thread(new.promote)
        assert kinds(await waiting) == b"CZ"
        assert kinds(await late.ask(query("LISTEN news"))) == b"CZ"
        await ask(new, "NOTIFY fresh, 'one'; NOTIFY news, 'two'")
        assert heard(await late.until(b"A", 2)) == ["one", "two"]
        assert heard([await listener.read()]) == ["two"]


async def test_without_a_primary_a_listen_fails_in_time(
    private_cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(private_cluster.servers, health={"failover_wait": 0.5})
    async with await Wire.connect(proxy) as client:
        await client.ask(query("SELECT 1"))
        await asyncio.to_thread(private_cluster.primary.kill9)
        frames = await client.ask(query("LISTEN news"))
        assert kinds(frames) == b"EZ"
        assert errors(frames)[0] in {"57P03", "08001", "08006"}
        assert rows(await client.ask(query("SELECT 1"))) == [[b"1"]]  # a replica's
        frames = await client.ask(query("BEGIN"), query("LISTEN news"), query("SELECT 1"), ready=3)
        assert kinds(frames) == b"CZEZEZ"
        assert errors(frames)[1] == "25P02"


async def test_a_listen_that_waits_is_cancelled_and_left(
    private_cluster: Cluster, start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(private_cluster.servers)
    connection = await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True)
    async with connection, await Wire.connect(proxy) as gone:
        await connection.execute("SELECT 1")
        await asyncio.to_thread(private_cluster.primary.kill9)
        await gone.send(query("LISTEN news"))
        waiting = asyncio.ensure_future(connection.execute("LISTEN news"))  # noqa: TID251
        while not waiting.done():
            await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await waiting
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


# --- drivers


async def test_asyncpg(narrow: ProxyProcess, fresh_database: str) -> None:
    dsn = narrow.dsn(fresh_database)
    heard_all: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()

    def hear(_connection: object, pid: int, channel: str, payload: str) -> None:
        heard_all.put_nowait((pid, channel, payload))

    async with asyncpg.create_pool(dsn, min_size=3, max_size=3) as pool:
        async with pool.acquire() as connection, pool.acquire() as other:
            await connection.add_listener("Some News", hear)
            async with other.transaction():
                await other.execute("SELECT pg_notify('Some News', $1)", "from other")
            assert await heard_all.get() == (other.get_server_pid(), "Some News", "from other")
            async with connection.transaction():
                await connection.execute("NOTIFY \"Some News\", 'own'")
            pid = connection.get_server_pid()
            assert await heard_all.get() == (pid, "Some News", "own")
            await connection.remove_listener("Some News", hear)
        async with pool.acquire() as connection:
            assert await connection.fetch("SELECT pg_listening_channels()") == []
    assert heard_all.empty()


def test_psycopg(narrow: ProxyProcess, fresh_database: str) -> None:
    dsn = narrow.dsn(fresh_database)
    with (
        psycopg.connect(dsn, autocommit=True) as listener,
        psycopg.connect(dsn) as other,
    ):
        listener.execute("LISTEN news")
        for number in range(10):
            other.execute("SELECT pg_notify('news', %s)", (str(number),))
        other.commit()
        found = list(listener.notifies(stop_after=10))
        assert [one.payload for one in found] == [str(number) for number in range(10)]
        assert {one.pid for one in found} == {other.info.backend_pid}


def test_psycopg2_has_its_own_at_once(narrow: ProxyProcess, fresh_database: str) -> None:
    connection = psycopg2.connect(narrow.dsn(fresh_database))
    try:
        with connection.cursor() as cursor:
            cursor.execute("LISTEN news")
            connection.commit()
            for number in range(20):
                cursor.execute(f"NOTIFY news, '{number}'")
                connection.commit()
                (one,) = connection.notifies
                assert (one.pid, one.payload) == (connection.get_backend_pid(), str(number))
                connection.notifies.clear()
        assert select.select([connection], [], [], 0)[0] == []
    finally:
        connection.close()
