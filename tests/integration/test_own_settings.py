"""SET, RESET and SHOW of pgproxy.route: as PostgreSQL does with a setting of that name.

A server takes any name with a dot in it for a setting. So the same script is run on a direct
connection and through the proxy, and SHOW must tell the same after every step.
"""

from collections.abc import Callable
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    SYNC,
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

SHOW: Final = "SHOW pgproxy.route"

SCRIPTS: Final = {
    "set": "SET pgproxy.route = 'primary'; SET pgproxy.route TO replica; RESET pgproxy.route",
    "set session": "SET SESSION pgproxy.route = 'primary'; SET pgproxy.route TO DEFAULT",
    "reset all": "SET pgproxy.route = 'primary'; RESET ALL",
    "discard all": "SET pgproxy.route = 'primary'; DISCARD ALL",
    "local": "BEGIN; SET LOCAL pgproxy.route = 'primary'; SELECT 1; COMMIT",
    "local, rolled back": "BEGIN; SET LOCAL pgproxy.route = 'primary'; SELECT 1; ROLLBACK",
    "local in vain": "SET LOCAL pgproxy.route = 'primary'",
    "local over set": "BEGIN; SET pgproxy.route = 'primary'; SET LOCAL pgproxy.route = 'auto'; END",
    "set over local": "BEGIN; SET LOCAL pgproxy.route = 'auto'; SET pgproxy.route = 'primary'; END",
    "local default": "SET pgproxy.route = 'primary'; BEGIN; SET LOCAL pgproxy.route TO DEFAULT; END",
    "rolled back": "BEGIN; SET pgproxy.route = 'primary'; ROLLBACK",
    "failed": "BEGIN; SET pgproxy.route = 'primary'; SELECT 1/0; COMMIT",
    "reset rolled back": "SET pgproxy.route = 'primary'; BEGIN; RESET pgproxy.route; ROLLBACK",
    "reset all rolled back": "SET pgproxy.route = 'primary'; BEGIN; RESET ALL; ROLLBACK",
    "chain": "BEGIN; SET LOCAL pgproxy.route = 'primary'; COMMIT AND CHAIN; COMMIT",
    "chain after rollback": "BEGIN; SET pgproxy.route = 'primary'; ROLLBACK AND CHAIN; COMMIT",
    "back to a savepoint": (
        "BEGIN; SET pgproxy.route = 'primary'; SAVEPOINT a; SET pgproxy.route = 'auto';"
        " ROLLBACK TO a; COMMIT"
    ),
    "back before the first": (
        "BEGIN; SAVEPOINT a; SET LOCAL pgproxy.route = 'primary'; ROLLBACK TO a; COMMIT"
    ),
    "released": (
        "BEGIN; SAVEPOINT a; SET LOCAL pgproxy.route = 'primary'; RELEASE a; SELECT 1; COMMIT"
    ),
    "nested": (
        "BEGIN; SET LOCAL pgproxy.route = 'auto'; SAVEPOINT a; SET pgproxy.route = 'primary';"
        " SAVEPOINT b; SET LOCAL pgproxy.route = 'auto'; ROLLBACK TO b; RELEASE b; ROLLBACK TO a;"
        " SAVEPOINT a; SET pgproxy.route = 'primary'; RELEASE a; COMMIT"
    ),
    "saved from an error": (
        "BEGIN; SAVEPOINT a; SET pgproxy.route = 'primary'; SELECT 1/0; ROLLBACK TO a; SELECT 1;"
        " COMMIT"
    ),
    "saved with what was before": (
        "BEGIN; SET pgproxy.route = 'primary'; SAVEPOINT a; SELECT 1/0; ROLLBACK TO a; COMMIT"
    ),
}


def simple(sql: str) -> tuple[bytes, ...]:
    return (query(sql),)


def extended(sql: str) -> tuple[bytes, ...]:
    return (parse(sql), bind(), describe("P"), execute(), SYNC)


@pytest.mark.parametrize("ask", [simple, extended])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=list(SCRIPTS))
async def test_a_script(
    script: str, ask: Callable[[str], tuple[bytes, ...]], cluster: Cluster, proxy: ProxyProcess
) -> None:
    seen = []
    for address in (cluster.primary, proxy):
        told: list[object] = []
        options = "-c pgproxy.route=replica"
        async with await Wire.connect(address, options=options) as wire:
            for step in script.split(";"):
                frames = await wire.ask(*ask(step.strip()))
                tags = [body for kind, body in frames if kind == b"C"]
                told.append((step, tags, errors(frames), frames[-1]))
                if frames[-1][1] != b"E":
                    told.append(rows(await wire.ask(*ask(SHOW))))
        seen.append(told)
    assert seen[1] == seen[0]


def test_trace_has_all_forms_too(proxy: ProxyProcess) -> None:
    def show(connection: psycopg.Connection) -> str:
        row = connection.execute("SHOW pgproxy.trace").fetchone()
        assert row is not None
        return str(row[0])

    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        assert show(connection) == "off"
        for text, value in (("on", "on"), ("false", "off"), ("1", "on"), ("DEFAULT", "off")):
            connection.execute(f"SET pgproxy.trace TO {text}")
            assert show(connection) == value
        with connection.transaction():
            connection.execute("SET LOCAL pgproxy.trace = on")
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL pgproxy.trace = off")
                assert show(connection) == "off"
            assert show(connection) == "on"
        assert show(connection) == "off"
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="requires a Boolean value"):
            connection.execute("SET pgproxy.trace = 'loud'")
    with psycopg.connect(proxy.dsn(), autocommit=True, options="-c pgproxy.trace=on") as connection:
        assert show(connection) == "on"
        connection.execute("SET pgproxy.trace = off")
        connection.execute("RESET pgproxy.trace")
        assert show(connection) == "on"


async def test_a_value_that_is_none_is_refused_at_log_in(proxy: ProxyProcess) -> None:
    async with await Wire.connect(proxy, options="-c pgproxy.trace=loud") as wire:
        kind, body = wire.startup[-1]
        assert kind == b"E"
        assert fields(body)["C"] == "22023"
        assert fields(body)["S"] == "FATAL"
