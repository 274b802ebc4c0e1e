"""limits.max_concurrent, max_concurrent_per_backend and queue_size: who may run, who waits and who is
refused, and that nobody's seat is lost or held without need."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Frame, Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

StartProxy = Callable[..., ProxyProcess]

PID: Final = wire.query("/* pgproxy: primary */ SELECT pg_backend_pid()")
ONE: Final = wire.query("/* pgproxy: primary */ SELECT 1")
SLEEP: Final = wire.query("/* pgproxy: primary */ SELECT pg_sleep(600)")


def running(proxy: ProxyProcess, name: str = "total") -> int:
    found: int = status(proxy)["running"][name]["running"]
    return found


def waiting(proxy: ProxyProcess) -> int:
    """For a connection or a seat."""
    return sum(pool["waiting"] for pool in status(proxy)["pools"])


def in_line(proxy: ProxyProcess) -> int:
    """For a seat."""
    found: int = status(proxy)["running"]["waiting"]
    return found


async def refused(answer: Coroutine[Any, Any, list[Frame]]) -> dict[str, str]:
    """The one ERROR of ours that answers instead of a result; the client may go on."""
    frames = await answer
    assert [kind for kind, _ in frames] == [b"E", b"Z"], frames
    assert frames[-1][1] == b"I"
    found = wire.fields(frames[0][1])
    assert (found["V"], found["R"]) == ("ERROR", "pgproxy")
    return found


async def comes(client: Wire) -> list[Frame]:
    """What it waited for."""
    frames = await client.until(b"Z")
    assert wire.errors(frames) == []
    return frames


class Stage:
    """A proxy with limits, and clients of it that go at the end."""

    def __init__(self, proxy: ProxyProcess, ends: AsyncExitStack) -> None:
        self.proxy: Final = proxy
        self.ends: Final = ends

    async def client(self, **login: str) -> Wire:
        client = await Wire.connect(self.proxy, **login)  # type: ignore[arg-type]
        assert client.startup[-1] == (b"Z", b"I"), client.startup
        self.ends.push_async_callback(client.drop)
        return client

    async def holder(self, **login: str) -> Wire:
        """One who is in the middle of a transaction."""
        client = await self.client(**login)
        assert wire.errors(await client.ask(wire.query("BEGIN; SELECT 1"))) == []
        return client

    async def asks(self, client: Wire, message: bytes = ONE) -> Wire:
        """Asks, and waits for its turn."""
        before = waiting(self.proxy)
        await client.send(message)
        await eventually(lambda: waiting(self.proxy) == before + 1)
        return client

    async def cancels(self, client: Wire) -> None:
        async with await Wire.open(self.proxy) as canceller:
            await canceller.send(wire.cancel_request(*client.key()))
            await canceller.until(b"")


StartStage = Callable[..., Coroutine[Any, Any, Stage]]


@pytest.fixture
async def stage(cluster: Cluster, start_proxy: StartProxy) -> Any:
    async with AsyncExitStack() as ends:

        async def start(replicas: bool = False, **sections: Any) -> Stage:
            servers = cluster.servers if replicas else [cluster.primary]
            proxy = await asyncio.to_thread(start_proxy, servers, **sections)
            return Stage(proxy, ends)

        yield start


async def test_a_statement_waits_for_its_turn(stage: StartStage) -> None:
    here = await stage(limits={"max_concurrent": 1})
    holder = await here.holder()
    client = await here.client()
    asked = await here.asks(client)
    await eventually(lambda: in_line(here.proxy) == 1)
    assert running(here.proxy) == 1
    await holder.ask(wire.query("COMMIT"))
    await comes(asked)
    assert (running(here.proxy), in_line(here.proxy)) == (0, 0)
    text = here.proxy.get("/metrics")[1]
    assert "pgproxy_running 0.0" in text
    assert "pgproxy_running_limit 1.0" in text


async def test_each_backend_has_its_own_limit(cluster: Cluster, stage: StartStage) -> None:
    here = await stage(replicas=True, limits={"max_concurrent_per_backend": 1})
    readers = [await here.client() for _ in cluster.replicas]
    for reader in readers:
        # The second one finds the first one's replica full.
        await reader.send(wire.query("SELECT pg_sleep(600)"))
    for replica in cluster.replicas:
        await eventually(lambda name=replica.name: running(here.proxy, name) == 1)  # type: ignore[misc]
    await eventually(lambda: waiting(here.proxy) == 0)
    late = await here.client()
    asked = await here.asks(late, wire.query("SELECT 1"))
    writer = await here.client()
    assert wire.errors(await writer.ask(ONE)) == []  # in nobody's way
    await eventually(lambda: in_line(here.proxy) == 1)
    for reader in readers:
        await here.cancels(reader)
    await comes(asked)


async def test_a_full_queue_refuses_at_once(stage: StartStage) -> None:
    here = await stage(limits={"max_concurrent": 1, "queue_size": 1})
    holder = await here.holder()
    first, second = await here.client(), await here.client()
    asked = await here.asks(first)
    told = await refused(second.ask(ONE))
    assert told["C"] == "53300"
    assert "limits.queue_size" in told["D"]
    assert "limits.max_concurrent = 1" in told["H"]
    assert 'database "postgres", user "postgres" (1)' in told["H"]
    # Of several messages each has its answer, and a transaction that has not begun fails.
    frames = await second.ask(
        ONE, ONE, wire.parse("SELECT 2"), wire.bind(), wire.execute(), wire.SYNC, ready=3
    )
    assert b"".join(kind for kind, _ in frames) == b"EZEZEZ"
    assert (await second.ask(wire.query("BEGIN")))[-1] == (b"Z", b"T")
    assert (await second.ask(ONE))[-1] == (b"Z", b"E")
    assert (await second.ask(wire.query("ROLLBACK")))[-1] == (b"Z", b"I")
    await holder.ask(wire.query("COMMIT"))
    await comes(asked)
    assert wire.rows(await second.ask(ONE)) == [[b"1"]]
    assert 'pgproxy_queue_refusals_total{cause="queue_full"} 5.0' in here.proxy.get("/metrics")[1]


async def test_the_queue_is_bounded_without_a_limit_of_what_runs(stage: StartStage) -> None:
    here = await stage(limits={"queue_size": 1}, pool={"size": 1})
    holder = await here.holder()
    first, second = await here.client(), await here.client()
    asked = await here.asks(first)
    told = await refused(second.ask(ONE))
    assert "pool.size = 1" in told["H"]
    assert 'user "postgres" (1)' in told["H"]
    await second.drop()
    await holder.ask(wire.query("COMMIT"))
    await comes(asked)


async def test_who_goes_while_it_is_refused_leaves_nothing(stage: StartStage) -> None:
    here = await stage(limits={"max_concurrent": 1, "queue_size": 1})
    holder = await here.holder()
    asked = await here.asks(await here.client())
    for _ in range(20):
        client = await here.client()
        await client.send(ONE, ONE, ONE)
        await client.drop()
    assert await refused((await here.client()).ask(ONE))
    await holder.ask(wire.query("COMMIT"))
    await comes(asked)
    await eventually(lambda: running(here.proxy) == 0)


async def test_the_wait_for_a_seat_ends(stage: StartStage) -> None:
    here = await stage(limits={"max_concurrent": 1}, pool={"wait_timeout": 0.5, "size": 2})
    holder = await here.holder()
    clients = [await here.client() for _ in range(4)]
    told = await asyncio.gather(*[refused(client.ask(ONE)) for client in clients])
    # One was being opened, and they waited for it, and it for a seat.
    for one in told:
        assert one["C"] == "53300"
        assert "pool.wait_timeout" in one["D"]
        assert "limits.max_concurrent" in one["H"]
        assert 'user "postgres" (1)' in one["H"]
    assert waiting(here.proxy) == 0
    await holder.ask(wire.query("COMMIT"))
    await eventually(lambda: in_line(here.proxy) == 0)  # that connection is opened all the same
    for client in clients:
        assert wire.rows(await client.ask(ONE)) == [[b"1"]]
    text = here.proxy.get("/metrics")[1]
    assert "pgproxy_wait_timeouts_total 4.0" in text
    assert 'pgproxy_queue_refusals_total{cause="no_seat"} 4.0' in text


async def test_who_leaves_or_cancels_is_not_waited_for(stage: StartStage) -> None:
    here = await stage(limits={"max_concurrent": 1})
    holder = await here.holder()
    leaves, cancels, stays = [await here.client() for _ in range(3)]
    await here.asks(leaves)
    await here.asks(cancels)
    asked = await here.asks(stays)
    await leaves.drop()
    await eventually(lambda: waiting(here.proxy) == 2)
    await here.cancels(cancels)
    assert wire.errors(await cancels.until(b"Z")) == ["57014"]
    await holder.ask(wire.query("COMMIT"))
    await comes(asked)
    assert wire.errors(await cancels.ask(ONE)) == []


async def test_a_lost_connection_is_replaced_for_one_who_waits_for_its_seat(
    cluster: Cluster, stage: StartStage
) -> None:
    here = await stage(limits={"max_concurrent": 1})
    holder = await here.holder()
    client = await here.asks(await here.client())  # a second connection is opened
    await holder.ask(wire.query("COMMIT"))
    await comes(client)
    await eventually(lambda: in_line(here.proxy) == 0)
    await holder.ask(wire.query("BEGIN; SELECT 1"))
    asked = await here.asks(client)
    await eventually(lambda: in_line(here.proxy) == 1)
    idle = (
        "FROM pg_stat_activity WHERE state = 'idle' AND datname = 'postgres'"
        " AND application_name = '' AND backend_type = 'client backend'"
    )
    await eventually(lambda: cluster.primary.psql(f"SELECT count(*) {idle}") != "0")
    cluster.primary.psql(f"SELECT pg_terminate_backend(pid) {idle}")
    await asyncio.sleep(0.3)
    assert waiting(here.proxy) == 1
    await holder.ask(wire.query("COMMIT"))
    await comes(asked)


async def test_a_new_connection_is_asked_nothing_without_a_seat(
    cluster: Cluster, stage: StartStage
) -> None:
    here = await stage(limits={"max_concurrent": 1}, pool={"wait_timeout": 1.5})
    holder = await here.holder()
    client = await here.client()
    await here.asks(client)
    await eventually(lambda: in_line(here.proxy) == 1)
    new = (
        "FROM pg_stat_activity WHERE datname = 'postgres' AND state = 'idle' AND query = ''"
        " AND application_name = '' AND backend_type = 'client backend'"
    )
    assert cluster.primary.psql(f"SELECT count(*) {new}") == "1"
    told = await refused(client.until(b"Z"))
    assert told["M"] == "no place to run became free in time"
    # It is lost before it could be asked; who waits for it gets another one.
    cluster.primary.psql(f"SELECT pg_terminate_backend(pid) {new}")
    asked = await here.asks(client)
    await holder.ask(wire.query("COMMIT"))
    await comes(asked)
    await eventually(lambda: (running(here.proxy), in_line(here.proxy)) == (0, 0))


class TestPinned:
    async def test_at_rest_it_holds_nobody_up(self, stage: StartStage) -> None:
        here = await stage(limits={"max_concurrent": 1})
        pinned, other = await here.client(), await here.client()
        assert wire.errors(await pinned.ask(wire.query("CREATE TEMP TABLE mine (n int)"))) == []
        await eventually(lambda: running(here.proxy) == 0)
        assert wire.errors(await other.ask(ONE)) == []
        holder = await here.holder()
        asked = await here.asks(pinned, wire.query("INSERT INTO mine VALUES (1)"))
        await holder.ask(wire.query("COMMIT"))
        await comes(asked)
        assert wire.rows(await pinned.ask(wire.query("TABLE mine"))) == [[b"1"]]
        # In a transaction it keeps the seat.
        await pinned.ask(wire.query("BEGIN"))
        asked = await here.asks(other)
        await pinned.ask(wire.query("COMMIT"))
        await comes(asked)
        await eventually(lambda: running(here.proxy) == 0)

    async def test_its_wait_ends_and_its_session_goes_on(self, stage: StartStage) -> None:
        here = await stage(
            limits={"max_concurrent": 1}, pool={"wait_timeout": 0.4, "mode": "session"}
        )
        pinned = await here.client()
        await pinned.ask(wire.query("CREATE TEMP TABLE mine (n int)"))
        holder = await here.holder()
        told = await refused(pinned.ask(wire.query("TABLE mine")))
        assert told["C"] == "53300"
        frames = await pinned.ask(wire.parse("TABLE mine"), wire.bind(), wire.execute(), wire.SYNC)
        assert wire.errors(frames) == ["53300"]
        await holder.ask(wire.query("COMMIT"))
        assert wire.errors(await pinned.ask(wire.query("TABLE mine"))) == []

    async def test_it_may_be_refused_and_cancelled(self, stage: StartStage) -> None:
        here = await stage(limits={"max_concurrent": 1, "queue_size": 1})
        pinned = await here.client()
        await pinned.ask(wire.query("CREATE TEMP TABLE mine (n int)"))
        holder = await here.holder()
        asked = await here.asks(pinned, wire.query("TABLE mine"))
        assert (await refused((await here.client()).ask(ONE)))["C"] == "53300"
        await here.cancels(asked)
        assert wire.errors(await asked.until(b"Z")) == ["57014"]
        asked = await here.asks(await here.client())
        assert (await refused(pinned.ask(wire.query("TABLE mine"))))["C"] == "53300"
        await holder.ask(wire.query("COMMIT"))
        await comes(asked)
        assert wire.errors(await pinned.ask(wire.query("TABLE mine"))) == []

    async def test_what_it_leaves_behind_is_cleaned_in_turn(
        self, cluster: Cluster, stage: StartStage
    ) -> None:
        here = await stage(limits={"max_concurrent": 1}, pool={"size": 2})
        pinned = await here.client()
        await pinned.ask(wire.query("CREATE TEMP TABLE left_behind (n int)"))
        holder = await here.holder()
        await here.asks(pinned, wire.query("TABLE left_behind"))
        await pinned.drop()
        await eventually(lambda: waiting(here.proxy) == 0)
        [pool] = status(here.proxy)["pools"]
        assert pool["resetting"] == 1  # and waits for its seat
        await holder.ask(wire.query("COMMIT"))
        await eventually(lambda: status(here.proxy)["pools"][0]["idle"] == 2)
        found = cluster.primary.psql("SELECT count(*) FROM pg_class WHERE relname = 'left_behind'")
        assert found == "0"

    async def test_a_lock_holder_goes_first(self, stage: StartStage) -> None:
        here = await stage(limits={"max_concurrent": 2})
        locker = await here.client()
        await locker.ask(wire.query("SELECT pg_advisory_lock(77)"))
        waits_for_lock = await here.client()
        await waits_for_lock.send(wire.query("SELECT pg_advisory_xact_lock(77)"))
        await eventually(lambda: running(here.proxy) == 1)
        holder = await here.holder()
        early = [await here.asks(await here.client(), SLEEP) for _ in range(3)]
        unlocked = await here.asks(locker, wire.query("SELECT pg_advisory_unlock(77)"))
        await holder.ask(wire.query("COMMIT"))
        await comes(unlocked)
        assert wire.errors(await waits_for_lock.until(b"Z")) == []
        await eventually(lambda: in_line(here.proxy) == len(early) - 2)  # there are two seats

    async def test_a_lost_connection_ends_it(self, cluster: Cluster, stage: StartStage) -> None:
        here = await stage(limits={"max_concurrent": 1})
        pinned = await here.client()
        await pinned.ask(wire.query("CREATE TEMP TABLE mine (n int)"))
        [[pid]] = wire.rows(await pinned.ask(PID))
        holder = await here.holder()
        asked = await here.asks(pinned, wire.query("TABLE mine"))
        cluster.primary.psql(f"SELECT pg_terminate_backend({(pid or b'').decode()})")
        assert wire.errors(await asked.until(b"Z")) == ["57P01"]
        assert waiting(here.proxy) == 0
        await holder.ask(wire.query("COMMIT"))
        assert wire.errors(await (await here.client()).ask(ONE)) == []


async def test_currval_is_asked_where_it_is_known(
    fresh_database: str, cluster: Cluster, stage: StartStage
) -> None:
    cluster.primary.psql("CREATE SEQUENCE s", fresh_database)
    here = await stage(limits={"max_concurrent": 1})
    asker = await here.client(database=fresh_database)
    currval = wire.query("SELECT currval('s')")
    for number in range(1, 4):
        frames = await asker.ask(wire.query("SELECT nextval('s')"))
        assert wire.rows(frames) == [[b"%d" % number]]
        holder = await here.holder()
        asked = await here.asks(asker, currval)
        await holder.ask(wire.query("COMMIT"))
        assert wire.rows(await comes(asked)) == [[b"%d" % number]]
    # One who goes while it waits there gives it back.
    await asker.ask(wire.query("SELECT nextval('s')"))
    holder = await here.holder()
    await here.asks(asker, currval)
    await asker.drop()
    await eventually(lambda: waiting(here.proxy) == 0)
    await holder.ask(wire.query("COMMIT"))
    await eventually(lambda: all(pool["leased"] == 0 for pool in status(here.proxy)["pools"]))
    assert running(here.proxy) == 0


async def test_a_transaction_that_moves_goes_first(
    cluster: Cluster, fresh_database: str, stage: StartStage
) -> None:
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    cluster.wait_caught_up()
    here = await stage(
        replicas=True,
        limits={"max_concurrent": 2},
        pool={"size": 2},
        routing={"transactions": "replica-until-write", "read_from_primary": "never"},
    )
    roams = await here.client(database=fresh_database)
    await roams.ask(wire.query("BEGIN"), wire.query("SELECT * FROM t"), ready=2)
    assert running(here.proxy, cluster.primary.name) == 0
    holder = await here.client(database=fresh_database)
    await holder.ask(wire.query("BEGIN; INSERT INTO t VALUES (1)"))
    for _ in range(4):
        client = await here.client(database=fresh_database)
        await here.asks(client, wire.query("INSERT INTO t SELECT 2 FROM pg_sleep(600)"))
    # It gives its seat on the replica up, so that there is one for it at once.
    frames = await roams.ask(wire.query("INSERT INTO t VALUES (3)"))
    assert wire.errors(frames) == []
    assert wire.errors(await roams.ask(wire.query("COMMIT"))) == []
    assert waiting(here.proxy) >= 3


async def test_what_a_client_has_left_running_keeps_its_seat(
    cluster: Cluster, stage: StartStage
) -> None:
    """Until the server has ended it: here it is not able to, for a while."""
    here = await stage(limits={"max_concurrent": 1})
    client = await here.client()
    [[pid]] = wire.rows(await client.ask(PID))
    await client.send(SLEEP)
    await eventually(lambda: running(here.proxy) == 1)
    number = int(pid or b"")

    os.kill(number, signal.SIGSTOP)
    try:
        await client.drop()
        asked = await here.asks(await here.client())
        await eventually(lambda: in_line(here.proxy) == 1)
        await asyncio.sleep(0.5)
        assert in_line(here.proxy) == 1
    finally:
        os.kill(number, signal.SIGCONT)
    await comes(asked)


async def test_a_notice_tells_those_who_wait(stage: StartStage) -> None:
    here = await stage(limits={"max_concurrent": 1, "notice_after": 0.2}, pool={"size": 3})
    holder = await here.holder()
    clients = [await here.client() for _ in range(4)]
    for client in clients:
        await here.asks(client)
    await asyncio.sleep(0.7)
    await holder.ask(wire.query("COMMIT"))
    told = []
    for client in clients:
        frames = await comes(client)
        assert b"".join(kind for kind, _ in frames) == b"NTDCZ"  # once
        told.append(wire.fields(frames[0][1]))
    assert {one["C"] for one in told} == {"00000"}
    assert {one["R"] for one in told} == {"pgproxy"}
    # The connection that they wait for does not begin to work before there is a place to run.
    for number, one in enumerate(told):
        assert "a place to run, of which there are 1 (limits.max_concurrent)" in one["M"]
        assert f"number {number + 1} of 4" in one["D"]


async def test_a_notice_tells_those_who_wait_for_a_connection(stage: StartStage) -> None:
    here = await stage(limits={"notice_after": 0.2}, pool={"size": 1})
    holder = await here.holder()
    clients = [await here.client() for _ in range(2)]
    for client in clients:
        await here.asks(client)
    await asyncio.sleep(0.7)
    await holder.ask(wire.query("COMMIT"))
    for number, client in enumerate(clients):
        frames = await comes(client)
        assert b"".join(kind for kind, _ in frames) == b"NTDCZ"
        told = wire.fields(frames[0][1])
        assert 'a server connection for database "postgres", user "postgres"' in told["M"]
        assert f"number {number + 1} of 2" in told["D"]


async def test_a_pause_shelters_those_who_wait_for_a_seat(stage: StartStage) -> None:
    here = await stage(
        limits={"max_concurrent": 1, "queue_size": 2}, auth={"admin_users": ["postgres"]}
    )
    holder = await here.holder()
    asked = [await here.asks(await here.client()) for _ in range(2)]
    admin = await here.client(database="pgbouncer")
    await admin.send(wire.query("PAUSE"))
    await eventually(lambda: waiting(here.proxy) == 0)
    await holder.ask(wire.query("COMMIT"))
    assert wire.errors(await admin.until(b"Z")) == []
    assert "pgproxy_homeless 2.0" in here.proxy.get("/metrics")[1]
    assert wire.errors(await admin.ask(wire.query("RESUME"))) == []
    for client in asked:
        await comes(client)


async def test_weights_are_shares(stage: StartStage, cluster: Cluster) -> None:
    here = await stage(
        limits={"max_concurrent": 1, "users": {"postgres": {"weight": 3}}}, pool={"size": 5}
    )
    cluster.primary.psql("CREATE ROLE lesser LOGIN SUPERUSER")
    served: list[str] = []
    try:
        clients = [
            (user, await here.client(user=user))
            for user in ("postgres", "lesser")
            for _ in range(4)
        ]

        async def work(user: str, client: Wire) -> None:
            while len(served) < 160:
                sql = "/* pgproxy: primary */ SELECT pg_sleep(0.01)"
                assert wire.errors(await client.ask(wire.query(sql))) == []
                served.append(user)

        async with asyncio.TaskGroup() as group:
            for user, client in clients:
                group.create_task(work(user, client))
        share = served[40:160].count("postgres") / 120
        assert 0.65 < share < 0.85
        for _, client in clients:
            await client.close()
    finally:
        cluster.primary.psql("DROP ROLE lesser")
