"""SET pgproxy.trace = on: a NOTICE for each batch, which no driver stumbles over."""

from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.errors import DivisionByZero

from pgproxy.embedded import Cluster
from tests.support.proxy import ProxyProcess
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Frame,
    Wire,
    bind,
    copy_data,
    describe,
    execute,
    fields,
    parse,
    query,
)

TRACED = "-c pgproxy.trace=on"


class Notices:
    """What psycopg is told: severity, SQLSTATE, routine, message, DETAIL."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.told: list[list[str]] = []
        connection.add_notice_handler(self._keep)

    def _keep(self, notice: psycopg.errors.Diagnostic) -> None:
        names = ("severity", "sqlstate", "source_function", "message_primary", "message_detail")
        self.told.append([str(getattr(notice, name)) for name in names])

    def take(self) -> list[str]:
        """The messages since the last time."""
        told = [one[3] for one in self.told]
        self.told.clear()
        return told


def connect(proxy: ProxyProcess) -> psycopg.Connection[Any]:
    return psycopg.connect(proxy.dsn(), autocommit=True, options=TRACED)


def kinds(frames: list[Frame]) -> str:
    return b"".join(kind for kind, _ in frames).decode()


def messages(frames: list[Frame]) -> list[str]:
    return [fields(body)["M"] for kind, body in frames if kind == b"N"]


def test_a_notice_says_target_backend_reason_detail_and_pin(proxy: ProxyProcess) -> None:
    with connect(proxy) as connection:
        notices = Notices(connection)
        connection.execute("SELECT 1")
        (told,) = notices.told
        assert told[:3] == ["NOTICE", "00000", "pgproxy"]
        assert told[3].startswith('pgproxy: replica "replica-')
        assert told[3].endswith('": read')
        assert told[4] == "It only reads: nothing in it can write, lock or change the session."
        notices.take()
        connection.execute("SELECT set_config('work_mem', '1MB', false), 7")
        assert notices.take() == ['pgproxy: primary "primary": session_state, function set_config']
        connection.execute("CREATE TEMP TABLE mine (n int)")
        (told,) = notices.told
        assert told[4].endswith("The session keeps its server connection: temp_table.")
        notices.take()
        connection.execute("SELECT 1")
        assert notices.take() == ['pgproxy: primary "primary": pinned']


def test_it_can_be_turned_on_and_off(proxy: ProxyProcess) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        notices = Notices(connection)
        connection.execute("SELECT 1")
        assert notices.take() == []
        connection.execute("SET pgproxy.trace = on")
        connection.execute("SELECT 1")
        assert len(notices.take()) == 1
        connection.execute("RESET pgproxy.trace")
        connection.execute("SELECT 1")
        assert notices.take() == []
        with connection.transaction():
            connection.execute("SET LOCAL pgproxy.trace = on")
            connection.execute("SELECT 1")
            assert notices.take() == ['pgproxy: primary "primary": in_transaction']
        notices.take()  # of COMMIT
        connection.execute("SELECT 1")
        assert notices.take() == []


def test_a_transaction_a_rule_of_the_session_and_an_error(proxy: ProxyProcess) -> None:
    with connect(proxy) as connection:
        notices = Notices(connection)
        with pytest.raises(DivisionByZero):
            connection.execute("SELECT 1/0")
        assert len(notices.take()) == 1
        connection.execute("SET pgproxy.route = 'primary'")
        connection.execute("SELECT 1")
        assert notices.take() == ['pgproxy: primary "primary": set_route']


def test_psycopg_in_all_its_ways(cluster: Cluster, proxy: ProxyProcess) -> None:
    seen = []
    for dsn, options in ((cluster.primary.dsn(), ""), (proxy.dsn(), TRACED)):
        with psycopg.connect(dsn, autocommit=True, options=options) as connection:
            notices = Notices(connection)
            rows: list[object] = []
            connection.execute("CREATE TEMP TABLE traced (n int)")
            for threshold in (None, 0):
                connection.prepare_threshold = threshold
                rows += [connection.execute("SELECT %s", (n,)).fetchall() for n in range(3)]
            with connection.pipeline():
                cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(20)]
            rows += [cursor.fetchall() for cursor in cursors]
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO traced VALUES (%s)", [(n,) for n in range(50)])
                with cursor.copy("COPY traced FROM STDIN") as copy:
                    copy.write_row((50,))
                with cursor.copy("COPY traced TO STDOUT") as out:
                    rows.append(sorted(int(row[0]) for row in out.rows()))
                rows += list(cursor.stream("SELECT n FROM traced ORDER BY n"))
            with connection.transaction(), connection.cursor("c") as server_side:
                server_side.itersize = 7
                rows += server_side.execute("SELECT n FROM traced ORDER BY n").fetchall()
            seen.append(rows)
            assert bool(notices.told) is bool(options)
    assert seen[1] == seen[0]


async def test_asyncpg_in_all_its_ways(cluster: Cluster, proxy: ProxyProcess) -> None:
    seen = []
    for dsn, settings in ((cluster.primary.dsn(), {}), (proxy.dsn(), {"pgproxy.trace": "on"})):
        connection = await asyncpg.connect(dsn, server_settings=settings)
        told: list[object] = []
        connection.add_log_listener(lambda _, message, told=told: told.append(message))
        rows: list[object] = []
        try:
            await connection.execute("CREATE TEMP TABLE traced (n int)")
            rows.append(await connection.fetch("SELECT $1::int", 7))
            statement = await connection.prepare("SELECT $1::int + 1")
            rows += [await statement.fetchval(n) for n in range(5)]
            await connection.executemany(
                "INSERT INTO traced VALUES ($1)", [(n,) for n in range(300)]
            )
            await connection.copy_records_to_table("traced", records=[(n,) for n in range(100)])
            async with connection.transaction():
                rows += [row async for row in connection.cursor("SELECT n FROM traced ORDER BY n")]
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetch("SELECT 1/0")
            rows.append(await connection.fetch("SELECT count(*) FROM traced"))
            # Listeners are called in their own turn.
            await connection.execute("SELECT 1; SELECT 2")
        finally:
            await connection.close()
        seen.append(rows)
        assert bool(told) is bool(settings)
    assert seen[1] == seen[0]


async def test_each_batch_of_a_pipeline_has_its_notice_in_front(proxy: ProxyProcess) -> None:
    async with await Wire.connect(proxy, options=TRACED) as wire:
        one = (parse("SELECT 1"), bind(), describe("P"), execute(), SYNC)
        frames = await wire.ask(*one * 3, ready=3)
        assert kinds(frames) == "N12TDCZ" * 3
        frames = await wire.ask(query("SELECT 1"), query("SELECT 2"), ready=2)
        assert kinds(frames) == "NTDCZ" * 2
        broken = (parse("SELECT 1/0"), bind(), execute(), SYNC)
        frames = await wire.ask(*one, *broken, *one, query("SELECT 1"), ready=4)
        assert kinds(frames) == "N12TDCZ" + "N1EZ" + "N12TDCZ" + "NTDCZ"
        assert [message.split()[1] for message in messages(frames)] == ["replica"] * 4


async def test_flush_and_copy(proxy: ProxyProcess) -> None:
    async with await Wire.connect(proxy, options=TRACED) as wire:
        await wire.send(parse("SELECT 1"), describe("S"), FLUSH)
        assert kinds(await wire.until(b"T")) == "1tT"
        frames = await wire.ask(bind(), execute(), SYNC)
        assert kinds(frames) == "N2DCZ"
        await wire.ask(query("CREATE TEMP TABLE traced (n int)"))
        await wire.send(query("COPY traced FROM STDIN"))
        assert kinds(await wire.until(b"G")) == "NG"
        assert kinds(await wire.ask(copy_data(b"1\n"), COPY_DONE)) == "CZ"
        assert kinds(await wire.ask(query("COPY traced TO STDOUT"))) == "NHdcCZ"


async def test_what_the_proxy_answers_itself_has_no_notice(proxy: ProxyProcess) -> None:
    async with await Wire.connect(proxy, options=TRACED) as wire:
        for sql in ("SHOW pgproxy.last_route", "SET pgproxy.route = 'auto'", "BEGIN", "COMMIT"):
            assert messages(await wire.ask(query(sql))) == []
