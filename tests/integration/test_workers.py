"""`listen.workers` above 1: several processes, with real servers behind them, are one proxy."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg.rows import dict_row

from pgproxy.clients.cancel import worker_of
from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire
from tests.support.workers import by_worker, clients_of_each, drop_all, metric, processes

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]

StartProxy = Callable[..., ProxyProcess]

WORKERS: Final = 3
ADMIN: Final = {"admin_users": ["postgres"]}
ON_PRIMARY: Final = "/* pgproxy: primary */"


@pytest.fixture(scope="module")
def several(cluster: Cluster) -> Iterator[ProxyProcess]:
    """One that a test leaves as it was."""
    with ProxyProcess.start(
        cluster.servers, timeout=90, listen={"workers": WORKERS}, auth=ADMIN
    ) as proxy:
        yield proxy
        proxy.check()


def _start(start_proxy: StartProxy, cluster: Cluster, **sections: Any) -> Any:
    listen = {"workers": WORKERS, **sections.pop("listen", {})}
    return asyncio.to_thread(
        start_proxy, cluster.servers, timeout=90, listen=listen, auth=ADMIN, **sections
    )


def _console(proxy: ProxyProcess) -> "psycopg.Connection[dict[str, Any]]":
    return psycopg.connect(proxy.dsn("pgproxy"), autocommit=True, row_factory=dict_row)


def _show(proxy: ProxyProcess, name: str) -> list[dict[str, Any]]:
    with _console(proxy) as console:
        return console.execute(f"SHOW {name}").fetchall()  # type: ignore[call-overload, no-any-return]


def _calls(proxy: ProxyProcess) -> int:
    """How often something of the structure of `SELECT 1` has run."""
    return sum(row["calls"] for row in _show(proxy, "QUERIES") if row["query"] == "SELECT ?")


# --- one proxy to look at


async def test_clients_are_spread_and_counted_as_of_one(several: ProxyProcess) -> None:
    assert len(several.events("listening")) == len(several.events("http_listening")) == 1
    assert len(processes(several)) == WORKERS
    before = {
        name: metric(several, name)
        for name in ("pgproxy_clients_logged_in_total", "pgproxy_transactions_seconds_count")
    }
    calls = _calls(several)
    totals = {row["database"]: row for row in _show(several, "STATS_TOTALS")}
    queries = totals.get("postgres", {}).get("query_count", 0)
    clients = await clients_of_each(several, WORKERS, each=2)
    count = sum(map(len, clients.values()))
    try:
        for some in clients.values():
            for client in some:
                for _ in range(3):
                    assert wire.rows(await client.ask(wire.query("SELECT 7"))) == [[b"7"]]
        assert by_worker(several) == {number: len(some) for number, some in clients.items()}
        assert metric(several, "pgproxy_workers") == WORKERS
        assert metric(several, "pgproxy_clients") == count
        grown = {name: metric(several, name) - value for name, value in before.items()}
        assert grown["pgproxy_clients_logged_in_total"] == count
        assert grown["pgproxy_transactions_seconds_count"] >= 3 * count
        shown = status(several)
        assert (shown["clients"], len(shown["workers"])) == (count, WORKERS)
        [role] = [row for row in shown["topology"] if row["role"] == "primary"]
        assert role["alive"]
        pids = {client.key()[0] for some in clients.values() for client in some}
        rows = [row for row in _show(several, "CLIENTS") if row["database"] == "postgres"]
        assert {row["id"] for row in rows} == pids
        assert len(rows) == count
        [pool] = [row for row in _show(several, "POOLS") if row["database"] == "postgres"]
        assert pool["cl_active"] == count
        lists = {row["list"]: row["items"] for row in _show(several, "LISTS")}
        assert lists["pools"] == len(_show(several, "POOLS"))
        [row] = [row for row in _show(several, "STATS_TOTALS") if row["database"] == "postgres"]
        assert row["query_count"] - queries >= 3 * count
        assert _calls(several) - calls == 3 * count
    finally:
        await drop_all(clients)
    await eventually(lambda: metric(several, "pgproxy_clients") == 0)


def test_every_address_and_table_answers(several: ProxyProcess) -> None:
    for path in ("/livez", "/readyz", "/startupz", "/status", "/metrics"):
        assert several.get(path)[0] == 200
    with _console(several) as console:
        for name in (
            "CLIENTS",
            "SERVERS",
            "SOCKETS",
            "DATABASES",
            "USERS",
            "STATS",
            "TOTALS",
            "MEM",
        ):
            assert console.execute(f"SHOW {name}").description  # type: ignore[call-overload]
        assert console.execute("SHOW STATE").fetchall()[0] == {"key": "active", "value": "yes"}
        assert len(console.execute("SHOW POOL_NODES").fetchall()) == 3
        assert len(console.execute("SHOW VERSION").fetchall()) == 1


# --- cancel requests


async def test_a_cancel_arrives_through_whichever_worker(
    cluster: Cluster, several: ProxyProcess
) -> None:
    clients = await clients_of_each(several, WORKERS)

    async def work(client: Wire) -> None:
        for _ in range(12):
            await client.send(wire.query(f"{ON_PRIMARY} SELECT pg_sleep(60)"))
            await asyncio.sleep(0.05)
            while True:
                async with await Wire.open(several) as canceller:
                    await canceller.send(wire.cancel_request(*client.key()))
                    assert await canceller.until(b"") == []
                with contextlib.suppress(TimeoutError):
                    # It may have come before the statement began, which PostgreSQL ignores.
                    async with asyncio.timeout(1):
                        assert wire.errors(await client.until(b"Z")) == ["57014"]
                        break
            # Who is back from the cancel may go on: it hits nothing any more.
            answer = await client.ask(wire.query(f"{ON_PRIMARY} SELECT pg_sleep(0.02)"))
            assert wire.errors(answer) == []

    try:
        async with asyncio.TaskGroup() as tasks:
            for some in clients.values():
                for client in some[:2]:
                    tasks.create_task(work(client))
    finally:
        await drop_all(clients)


async def test_a_wrong_key_cancels_nothing(several: ProxyProcess) -> None:
    clients = await clients_of_each(several, WORKERS)
    try:
        client = clients[1][0]
        pid, secret = client.key()
        await client.send(wire.query("SELECT pg_sleep(0.5)"))
        for number, key in (
            (pid, bytes(4)),
            (pid ^ 1 << 24, secret),
            (-5, secret),
            (127 << 24, secret),
        ):
            async with await Wire.open(several) as canceller:
                await canceller.send(wire.cancel_request(number, key))
                assert await canceller.until(b"") == []
        assert wire.errors(await client.until(b"Z")) == []
    finally:
        await drop_all(clients)


# --- caps


class Peak:
    """The most connections of a role that PostgreSQL showed at any moment of a `with` block."""

    def __init__(self, cluster: Cluster, role: str) -> None:
        self.most = 0
        self._server = cluster.primary
        self._question = (
            "SELECT count(*) FROM pg_stat_activity"
            f" WHERE usename = '{role}' AND backend_type = 'client backend'"
        )
        self._is_over = False
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            while not self._is_over:
                [(count,)] = connection.execute(self._question).fetchall()  # type: ignore[call-overload]
                self.most = max(self.most, count)
                time.sleep(0.002)


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_a_pools_size_holds_over_all_workers(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str, size: int
) -> None:
    role = f"role_{fresh_database}"
    cluster.primary.psql(f"CREATE ROLE {role} LOGIN")
    proxy = await _start(start_proxy, cluster, pool={"size": size, "wait_timeout": 100})
    served: dict[int, int] = dict.fromkeys(range(WORKERS), 0)

    async def work() -> None:
        client = await Wire.connect(proxy, database=fresh_database, user=role)
        async with client:
            for _ in range(10):
                answer = await client.ask(wire.query(f"{ON_PRIMARY} SELECT pg_sleep(0.005)"))
                assert wire.errors(answer) == []
                served[worker_of(client.key()[0])] += 1

    try:
        with Peak(cluster, role) as peak:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(30):
                    tasks.create_task(work())
        assert 0 < peak.most <= size
        assert sum(served.values()) == 300
        assert metric(proxy, "pgproxy_wait_timeouts_total") == 0
    finally:
        await asyncio.to_thread(proxy.stop)
        cluster.primary.psql(f"DROP ROLE {role}")


@pytest.mark.parametrize("key", ["max_backend_connections", "max_user_connections"])
async def test_caps_that_pools_share_hold_over_all_workers(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str, key: str
) -> None:
    role = f"role_{fresh_database}"
    cluster.primary.psql(f"CREATE ROLE {role} LOGIN")
    proxy = await _start(start_proxy, cluster, pool={"size": 20, "wait_timeout": 100, key: 3})
    served = 0

    async def work(database: str) -> None:
        nonlocal served
        async with await Wire.connect(proxy, database=database, user=role) as client:
            for _ in range(8):
                answer = await client.ask(wire.query(f"{ON_PRIMARY} SELECT pg_sleep(0.01)"))
                assert wire.errors(answer) == []
                served += 1

    try:
        with Peak(cluster, role) as peak:
            async with asyncio.TaskGroup() as tasks:
                for database in ("postgres", fresh_database) * 10:
                    tasks.create_task(work(database))
        assert 0 < peak.most <= 3
        assert served == 160
    finally:
        await asyncio.to_thread(proxy.stop)
        cluster.primary.psql(f"DROP ROLE {role}")


async def test_a_pool_is_kept_warm_over_all_workers(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await _start(start_proxy, cluster, pool={"size": 6, "min_size": 4})
    clients = await clients_of_each(proxy, WORKERS)
    try:
        await eventually(lambda: _idle(proxy) == 4)
    finally:
        await drop_all(clients)


def _idle(proxy: ProxyProcess) -> int:
    pools = [pool for pool in status(proxy)["pools"] if pool["backend"] == "primary"]
    return sum(pool["idle"] for pool in pools if pool["database"] == "postgres")


class Active(Peak):
    """The same of those that are at work. One session is read after the other; those that were at
    work when the first was read, and are when they are read, were so at the same time."""

    def __init__(self, cluster: Cluster, role: str) -> None:
        super().__init__(cluster, role)
        self._question += " AND state <> 'idle' AND state_change <= statement_timestamp()"


@pytest.mark.parametrize(
    "limits",
    [
        {"max_concurrent": 1},
        {"max_concurrent_per_backend": 2},
        # Each worker learns its own limit; what is configured is that of all together.
        {"max_concurrent_per_backend": 3, "adaptive": True, "adaptive_floor": 3},
    ],
)
async def test_what_runs_at_once_is_limited_over_all_workers(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str, limits: dict[str, int]
) -> None:
    most = min(cap for key, cap in limits.items() if key.startswith("max_"))
    role = f"role_{fresh_database}"
    cluster.primary.psql(f"CREATE ROLE {role} LOGIN")
    pool = {"size": 20, "wait_timeout": 100}
    both = limits | {"max_concurrent": 4} if "max_concurrent" not in limits else limits
    proxy = await _start(start_proxy, cluster, pool=pool, limits=both)
    served: dict[int, int] = dict.fromkeys(range(WORKERS), 0)

    async def work() -> None:
        client = await Wire.connect(proxy, database=fresh_database, user=role)
        async with client:
            for _ in range(8):
                answer = await client.ask(wire.query(f"{ON_PRIMARY} SELECT pg_sleep(0.01)"))
                assert wire.errors(answer) == []
                served[worker_of(client.key()[0])] += 1

    try:
        with Active(cluster, role) as active:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(30):
                    tasks.create_task(work())
        assert 0 < active.most <= most
        assert min(served.values()) > 0
        assert sum(served.values()) == 240
        assert metric(proxy, "pgproxy_wait_timeouts_total") == 0
        assert metric(proxy, "pgproxy_running_limit") == both["max_concurrent"]
        await eventually(lambda: metric(proxy, "pgproxy_running") == 0)
    finally:
        await asyncio.to_thread(proxy.stop)
        cluster.primary.psql(f"DROP ROLE {role}")


async def test_max_clients_holds_over_all_workers(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    most = 7
    proxy = await _start(start_proxy, cluster, listen={"max_clients": most})

    async def storm(count: int) -> list[Wire]:
        clients = await asyncio.gather(*[Wire.connect(proxy) for _ in range(count)])
        found = []
        for client in clients:
            if client.startup[-1][0] == b"Z":
                found.append(client)
                continue
            [told] = [wire.fields(body) for kind, body in client.startup if kind == b"E"]
            assert told["C"] == "53300"
            assert told["D"].startswith(f"listen.max_clients is {most},")
            await client.drop()
        return found

    async def count(number: int) -> None:
        await eventually(lambda: metric(proxy, "pgproxy_clients") == number)

    inside: list[Wire] = []
    for _ in range(3):
        inside += await storm(30)
        assert len(inside) == most
        assert metric(proxy, "pgproxy_clients") == most
        # Whoever comes when somebody has left is let in, whichever workers they meet.
        for _ in range(4):
            await inside.pop(0).close()
            await count(most - 1)
            inside += await storm(1)
        assert len(inside) == most
        while len(inside) > 2:
            await inside.pop().close()
        await count(2)
    assert metric(proxy, "pgproxy_clients_refused_total") > 0
    for client in inside:
        await client.close()


# --- the console acts on all


async def test_pause_and_resume_are_everywhere(several: ProxyProcess) -> None:
    clients = await clients_of_each(several, WORKERS)
    firsts = [some[0] for some in clients.values()]
    try:
        with _console(several) as console:
            await asyncio.to_thread(console.execute, "PAUSE")
            assert {row["sv_idle"] for row in _show(several, "POOLS")} == {0}
            for client in firsts:
                await client.send(wire.query("SELECT 1"))
            await eventually(lambda: metric(several, "pgproxy_homeless") == WORKERS)
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                console.execute("PAUSE")
            console.execute("RESUME")
        for client in firsts:
            assert wire.errors(await client.until(b"Z")) == []
        # Who gives up the wait for a PAUSE does not leave some paused.
        await firsts[0].ask(wire.query("BEGIN; INSERT INTO pg_temp.none SELECT 1"), ready=1)
        await firsts[0].ask(wire.query("ROLLBACK"))
        await firsts[0].ask(wire.query("BEGIN; CREATE TEMP TABLE held_up (n int)"))
        admin = await Wire.connect(several, database="pgproxy")
        await admin.send(wire.query("PAUSE postgres"))
        await eventually(lambda: {row["paused"] for row in _show(several, "DATABASES")} == {1})
        async with await Wire.open(several) as canceller:
            await canceller.send(wire.cancel_request(*admin.key()))
            await canceller.until(b"")
        assert wire.errors(await admin.until(b"Z")) == ["57014"]
        await admin.close()
        await firsts[0].ask(wire.query("ROLLBACK"))
        for client in firsts:
            assert wire.errors(await client.ask(wire.query("SELECT 1"))) == []
    finally:
        await drop_all(clients)


async def test_other_commands_are_everywhere(several: ProxyProcess, fresh_database: str) -> None:
    clients = await clients_of_each(several, WORKERS)
    try:
        with _console(several) as console:
            for some in clients.values():
                client = some.pop()
                await asyncio.to_thread(console.execute, f"KILL_CLIENT {client.key()[0]}")
                assert wire.errors(await client.until(b"")) == ["57P01"]
                await client.drop()
            with pytest.raises(psycopg.errors.UndefinedObject):
                console.execute("KILL_CLIENT 3")
            console.execute(f"DISABLE {fresh_database}")
            for _ in range(12):
                async with await Wire.connect(several, database=fresh_database) as refused:
                    assert wire.errors(refused.startup) == ["57P03"]
            console.execute(f"ENABLE {fresh_database}")
            for _ in range(12):
                async with await Wire.connect(several, database=fresh_database) as one:
                    assert wire.errors(one.startup) == []
            console.execute("RECONNECT")
            console.execute("RELOAD")
            console.execute("WAIT_CLOSE")
    finally:
        await drop_all(clients)


# --- the life of workers


async def test_a_killed_worker_is_replaced_and_the_others_clients_notice_nothing(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    role = f"role_{fresh_database}"
    cluster.primary.psql(f"CREATE ROLE {role} LOGIN")
    proxy = await _start(start_proxy, cluster, pool={"size": 4})
    stop = asyncio.Event()
    count = 0

    async def work(client: Wire) -> None:
        nonlocal count
        while not stop.is_set():
            answer = await client.ask(wire.query("SELECT 1"))
            assert wire.rows(answer) == [[b"1"]]
            count += 1

    async def load() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with await Wire.connect(proxy, user=role, database=fresh_database) as one:
                    while not stop.is_set():
                        await one.ask(wire.query(f"{ON_PRIMARY} SELECT pg_sleep(0.01)"))
                        if one.reader.at_eof():
                            break

    clients = await clients_of_each(proxy, WORKERS, each=2)
    victims = clients.pop(1)
    logged_in = "pgproxy_clients_logged_in_total"
    queries = "pgproxy_transactions_seconds_count"
    try:
        with Peak(cluster, role) as peak:
            async with asyncio.TaskGroup() as tasks:
                for some in clients.values():
                    for client in some:
                        tasks.create_task(work(client))
                for _ in range(6):
                    tasks.create_task(load())
                await eventually(lambda: count > 100)
                for _ in range(2):
                    before = {name: metric(proxy, name) for name in (logged_in, queries)}
                    victim = processes(proxy)[1]
                    victim.kill()
                    # Whoever was its client can come back at once, to the others.
                    for _ in range(20):
                        async with await Wire.connect(proxy) as one:
                            assert wire.errors(one.startup) == []
                            assert wire.rows(await one.ask(wire.query("SELECT 1"))) == [[b"1"]]
                            pids = worker_of(one.key()[0])
                            assert pids in range(WORKERS)
                    for name, value in before.items():
                        assert metric(proxy, name) >= value, name
                    await eventually(lambda: metric(proxy, "pgproxy_workers") == WORKERS)
                    assert metric(proxy, logged_in) >= before[logged_in] + 20
                    assert processes(proxy)[1].pid != victim.pid
                    goal = count + 100
                    await eventually(lambda goal=goal: count > goal)  # type: ignore[misc]
                stop.set()
        assert 0 < peak.most <= 4
        for client in victims:
            with contextlib.suppress(ConnectionError):
                assert await client.until(b"Z") == []
            await client.drop()
        assert metric(proxy, "pgproxy_worker_restarts_total") == 2
        fresh = await clients_of_each(proxy, WORKERS)  # the new one serves too
        await drop_all(fresh)
    finally:
        stop.set()
        await drop_all(clients)
        await asyncio.to_thread(proxy.stop)
        cluster.primary.psql(f"DROP ROLE {role}")


async def test_a_new_worker_knows_what_is_paused(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await _start(start_proxy, cluster)
    with _console(proxy) as console:
        pid: int = console.info.backend_pid
        console.execute("PAUSE template1")
        console.execute("DISABLE nowhere")
        victim = (worker_of(pid) + 1) % WORKERS
        processes(proxy)[victim].kill()
        await eventually(lambda: metric(proxy, "pgproxy_worker_restarts_total") == 1)
        await eventually(lambda: metric(proxy, "pgproxy_workers") == WORKERS)
        rows = {row["name"]: row for row in console.execute("SHOW DATABASES").fetchall()}
        assert (rows["template1"]["paused"], rows["nowhere"]["disabled"]) == (1, 1)
        for _ in range(12):
            async with await Wire.connect(proxy, database="nowhere") as refused:
                assert wire.errors(refused.startup) == ["57P03"]
        console.execute("RESUME template1")
        console.execute("ENABLE nowhere")


@pytest.mark.parametrize("how", ["signal", "console"])
async def test_all_drain(cluster: Cluster, start_proxy: StartProxy, how: str) -> None:
    proxy = await _start(start_proxy, cluster)
    clients = await clients_of_each(proxy, WORKERS)
    for some in clients.values():
        for client in some:
            await client.ask(wire.query("BEGIN; SELECT 1"))
    children = list(processes(proxy).values())
    if how == "signal":
        proxy.process.send_signal(signal.SIGTERM)
    else:
        with contextlib.suppress(psycopg.OperationalError), _console(proxy) as console:
            console.execute("SHUTDOWN")
    await eventually(lambda: proxy.get("/readyz")[0] == 503)
    for some in clients.values():
        for client in some:
            assert wire.errors(await client.ask(wire.query("COMMIT"))) == []
            assert wire.errors(await client.until(b"")) == ["57P01"]
    await asyncio.to_thread(proxy.wait_end, timeout=60)
    assert not any(child.is_running() for child in children)
    await drop_all(clients)


async def test_a_second_signal_ends_it_at_once(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await _start(start_proxy, cluster, listen={"drain_timeout": 600})
    clients = await clients_of_each(proxy, WORKERS)
    await clients[0][0].ask(wire.query("BEGIN; SELECT 1"))
    proxy.process.send_signal(signal.SIGTERM)
    await eventually(lambda: proxy.get("/readyz")[0] == 503)
    proxy.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(proxy.wait_end, timeout=60)
    await drop_all(clients)


async def test_workers_end_with_their_supervisor(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await _start(start_proxy, cluster)
    clients = await clients_of_each(proxy, WORKERS)
    await clients[0][0].ask(wire.query("BEGIN; SELECT 1"))
    children = list(processes(proxy).values())
    assert len(children) == WORKERS
    os.kill(proxy.process.pid, signal.SIGKILL)
    proxy.process.wait()
    # Who is in a transaction can end it.
    assert wire.errors(await clients[0][0].ask(wire.query("COMMIT"))) == []
    _gone, alive = await asyncio.to_thread(psutil.wait_procs, children, 60)
    assert not alive
    await drop_all(clients)
    proxy.kill9()


# --- what holds for reads


async def test_reads_see_what_other_workers_clients_wrote(
    cluster: Cluster, start_proxy: StartProxy, fresh_database: str
) -> None:
    proxy = await _start(
        start_proxy, cluster, consistency={"read_your_writes": "global", "max_staleness": 0}
    )
    cluster.primary.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (0)", fresh_database)
    cluster.wait_caught_up()
    clients = await clients_of_each(proxy, WORKERS, database=fresh_database)
    firsts = [some[0] for some in clients.values()]
    paused = cluster.replicas
    try:
        for number in range(1, 31):
            if number == 10:
                for replica in paused:
                    replica.psql("SELECT pg_wal_replay_pause()")
            if number == 20:
                for replica in paused:
                    replica.psql("SELECT pg_wal_replay_resume()")
            writer = firsts[number % WORKERS]
            answer = await writer.ask(wire.query(f"UPDATE t SET n = {number}"))
            assert wire.errors(answer) == []
            for reader in firsts:
                assert wire.rows(await reader.ask(wire.query("SELECT n FROM t"))) == [
                    [str(number).encode()]
                ]
    finally:
        for replica in paused:
            replica.psql("SELECT pg_wal_replay_resume()")
        await drop_all(clients)


async def test_ddl_is_known_to_all_workers_at_once(
    cluster: Cluster, several: ProxyProcess, fresh_database: str
) -> None:
    """A function that was a read writes from now on: no worker sends it to a replica any more."""
    create = (
        "CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE sql {} AS"
        " $$ SELECT pg_is_in_recovery()::text $$"
    )
    cluster.primary.psql(create.format("STABLE"), fresh_database)
    cluster.wait_caught_up()
    clients = await clients_of_each(several, WORKERS, database=fresh_database)
    firsts = [some[0] for some in clients.values()]

    async def where(client: Wire) -> bytes | None:
        return wire.rows(await client.ask(wire.query("SELECT f()")))[0][0]

    try:
        for number in range(12):
            for client in firsts:
                while await where(client) != b"true":  # until its worker knows the function
                    pass
            author = firsts[number % WORKERS]
            answer = await author.ask(wire.query(create.format("VOLATILE")))
            assert wire.errors(answer) == []
            for client in firsts:
                assert await where(client) == b"false"
            answer = await author.ask(wire.query(create.format("STABLE")))
            assert wire.errors(answer) == []
    finally:
        await drop_all(clients)


async def test_what_others_change_counts_for_plans_defaults_and_databases_to_be_dropped(
    cluster: Cluster, several: ProxyProcess, fresh_database: str
) -> None:
    cluster.primary.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)", fresh_database)
    clients = await clients_of_each(several, WORKERS, database=fresh_database)
    firsts = [some[0] for some in clients.values()]
    doomed = f"{fresh_database}_doomed"
    try:
        for number in range(6):
            described = [
                *(wire.parse(f"{ON_PRIMARY} SELECT * FROM t", name=f"s{number}"), wire.SYNC),
                *(wire.describe("S", f"s{number}"), wire.SYNC),
            ]
            for client in firsts:
                frames = await client.ask(*described, ready=2)
                [columns] = [body for kind, body in frames if kind == b"T"]
                assert int.from_bytes(columns[:2]) == number + 1
            author = firsts[number % WORKERS]
            answer = await author.ask(wire.query(f"ALTER TABLE t ADD c{number} int"))
            assert wire.errors(answer) == []
        # A default that one has changed is that of whoever logs in, anywhere.
        alter = f"ALTER DATABASE {fresh_database} SET work_mem = '{{}}MB'"
        for number in range(5, 5 + WORKERS):
            await firsts[number % WORKERS].ask(wire.query(alter.format(number)))
            await asyncio.sleep(0.1)
            later = await clients_of_each(several, WORKERS, database=fresh_database)
            for [client, *_] in later.values():
                shown = wire.rows(await client.ask(wire.query(f"{ON_PRIMARY} SHOW work_mem")))
                assert shown == [[f"{number}MB".encode()]]
            await drop_all(later)
        # Nobody idles in a database that is about to be dropped.
        assert wire.errors(await firsts[0].ask(wire.query(f"CREATE DATABASE {doomed}"))) == []
        inside = await clients_of_each(several, WORKERS, database=doomed)
        for [client, *_] in inside.values():
            await client.ask(wire.query(f"{ON_PRIMARY} SELECT 1"))
        for some in inside.values():
            for client in some:
                await client.close()
        await eventually(
            lambda: metric(several, "pgproxy_clients") == sum(map(len, clients.values()))
        )
        assert wire.errors(await firsts[1].ask(wire.query(f"DROP DATABASE {doomed}"))) == []
    finally:
        await drop_all(clients)
