"""What the HTTP port says of a proxy at work: counted against what clients really did."""

import asyncio
import re
from collections.abc import Callable, Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.proxy import ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(60)]

StartProxy = Callable[..., ProxyProcess]
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def _samples(proxy: ProxyProcess) -> Samples:
    code, text = proxy.get("/metrics")
    assert code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of that name that have these labels."""
    wanted = set(labels.items())
    return sum(
        value for (found, has), value in samples.items() if found == name and wanted <= set(has)
    )


async def test_statements_leases_and_errors_are_counted_as_they_happened(
    cluster: Cluster, fresh_database: str, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, pool={"size": 4})
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    cluster.wait_caught_up()

    async def work() -> None:
        async with await Wire.connect(proxy, database=fresh_database) as client:
            for _ in range(10):
                for sql in (
                    *("SELECT count(*) FROM t", "SELECT 1/0"),
                    *("/* pgproxy: primary */ SELECT 1", "INSERT INTO t VALUES (1)"),
                ):
                    await client.ask(wire.query(sql))
            await client.ask(wire.query("SET pgproxy.route = 'nonsense'"))

    before = _samples(proxy)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(work())
    after = _samples(proxy)

    def grew(name: str, **labels: str) -> float:
        return _value(after, name, **labels) - _value(before, name, **labels)

    statements = "pgproxy_statements_total"
    assert grew(statements) == 8 * 40
    # A session that has just written may read on the primary; no write goes to a replica.
    assert grew(statements, target="primary") >= 8 * 20
    assert grew(statements, target="replica") >= 8 * 2
    assert grew(statements, target="primary", reason="hint") == 8 * 10
    assert grew(statements, target="replica", reason="hint") == 0
    assert grew(statements, reason="write") + grew(statements, reason="insert") == 8 * 10
    assert grew("pgproxy_errors_total", source="server") == 8 * 10
    assert grew("pgproxy_errors_total", source="proxy") == 8
    assert grew("pgproxy_transactions_seconds_count") == 8 * 40
    assert grew("pgproxy_transactions_seconds_sum") > 0
    # Every transaction is one lease, and so is every log-in that had to see a server.
    assert grew("pgproxy_leases_total") >= 8 * 40
    assert grew("pgproxy_clients_logged_in_total") == 8
    assert _value(after, "pgproxy_waiting") == 0


async def test_histograms_are_cumulative(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)
    async with await Wire.connect(proxy) as client:
        for seconds in (0, 0, 0.02, 0.3):
            await client.ask(wire.query(f"SELECT pg_sleep({seconds})"))
    samples = _samples(proxy)
    for name in ("pgproxy_transactions_seconds", "pgproxy_wait_seconds"):
        bounds = sorted(
            (float(dict(labels)["le"]), value)
            for (found, labels), value in samples.items()
            if found == f"{name}_bucket"
        )
        counts = [count for _, count in bounds]
        assert counts == sorted(counts)
        assert counts[-1] == _value(samples, f"{name}_count")
    slow = {
        float(dict(labels)["le"]): value
        for (found, labels), value in samples.items()
        if found == "pgproxy_transactions_seconds_bucket"
    }
    assert _value(samples, "pgproxy_transactions_seconds_count") == 4
    assert max(value for bound, value in slow.items() if bound < 0.02) <= 2
    assert max(value for bound, value in slow.items() if bound < 0.3) <= 3
    assert _value(samples, "pgproxy_transactions_seconds_sum") >= 0.32


async def test_servers_by_state_and_backend(cluster: Cluster, start_proxy: StartProxy) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers, pool={"size": 2})
    clients = [await Wire.connect(proxy) for _ in range(3)]
    try:
        for client in clients[:2]:
            await client.ask(wire.query("BEGIN"), wire.query("LOCK pg_class"), ready=2)
            await client.ask(wire.query("ROLLBACK"))
            await client.ask(wire.query("BEGIN; SELECT 1"))
        await clients[2].send(wire.query("CREATE TEMP TABLE x (n int)"))
        await eventually(lambda: _value(_samples(proxy), "pgproxy_waiting") == 1)
        samples = _samples(proxy)
        primary = {"backend": "primary", "database": "postgres", "user": "postgres"}
        assert _value(samples, "pgproxy_servers", state="leased", **primary) == 2
        assert _value(samples, "pgproxy_servers", state="idle", **primary) == 0
        assert _value(samples, "pgproxy_pool_size", **primary) == 2
        assert _value(samples, "pgproxy_waiting", **primary) == 1
        assert _value(samples, "pgproxy_backend_load", backend="primary") == 3
        assert _value(samples, "pgproxy_clients") == 3
        for server in cluster.servers:
            assert _value(samples, "pgproxy_backend_up", backend=server.name) == 1
            role = "primary" if server is cluster.primary else "replica"
            assert _value(samples, "pgproxy_backend_role", backend=server.name, role=role) == 1
            assert _value(samples, "pgproxy_backend_role", backend=server.name) == 1
            assert _value(samples, "pgproxy_backend_replay_lsn", backend=server.name) > 0
        shown = status(proxy)
        assert shown["clients"] == 3
        [pool] = [pool for pool in shown["pools"] if pool["backend"] == "primary"]
        assert (pool["leased"], pool["idle"], pool["waiting"], pool["size"]) == (2, 0, 1, 2)
        assert {node["name"]: node["role"] for node in shown["topology"]} == {
            server.name: "primary" if server is cluster.primary else "replica"
            for server in cluster.servers
        }
        await clients[0].ask(wire.query("COMMIT"))
        assert wire.errors(await clients[2].until(b"Z")) == []
        samples = _samples(proxy)
        assert _value(samples, "pgproxy_wait_seconds_count") >= 1
        assert _value(samples, "pgproxy_pins_total") == 1
        assert _value(samples, "pgproxy_waiting") == 0
    finally:
        for client in clients:
            await client.drop()
    await eventually(lambda: _value(_samples(proxy), "pgproxy_clients") == 0)
    # What the pinned client left behind is cleaned, or its connection closed.
    await eventually(lambda: _value(_samples(proxy), "pgproxy_servers", state="leased") == 0)
    await eventually(lambda: _value(_samples(proxy), "pgproxy_backend_load") == 0)


async def test_the_addresses_answer_while_clients_work(
    cluster: Cluster, start_proxy: StartProxy
) -> None:
    proxy = await asyncio.to_thread(start_proxy, cluster.servers)

    async def work() -> None:
        async with await Wire.connect(proxy) as client:
            while True:
                assert wire.rows(await client.ask(wire.query("SELECT 1"))) == [[b"1"]]

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work()) for _ in range(8)]
        for _ in range(10):
            for path in ("/livez", "/readyz", "/startupz", "/status", "/metrics"):
                code, text = await asyncio.to_thread(proxy.get, path)
                assert code == 200, (path, text)
        for task in working:
            task.cancel()
    assert (await asyncio.to_thread(proxy.get, "/nowhere"))[0] == 404


def test_every_metric_is_named_and_explained(cluster: Cluster, start_proxy: StartProxy) -> None:
    text = start_proxy(cluster.servers).get("/metrics")[1]
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert names
    assert all(name.startswith("pgproxy_") for name in names)
    assert names == set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
