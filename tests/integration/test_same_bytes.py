"""The golden rule: through the proxy come the frames that PostgreSQL itself would have sent.

Each exchange of the table is played with PostgreSQL directly and through proxies: one that routes
as it likes, one client told to stay on the primary, a pool of one connection, session mode, and a
network that cuts every frame to pieces. Only process ids and keys may differ.
"""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Final, NamedTuple

import pytest

from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.fault import FaultProxy
from tests.support.proxy import ProxyProcess
from tests.support.sleeping import wait_asleep
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Address,
    Frame,
    Wire,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    message,
    parse,
    query,
)

DATABASE: Final = "same_bytes"

SCHEMA: Final = """
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, price numeric CHECK (price > 0));
INSERT INTO items SELECT n, 'item ' || n, n * 1.5 FROM generate_series(1, 20) n;
CREATE TABLE sink (n int, s text);
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE PROCEDURE complain(what text) LANGUAGE plpgsql AS $$
    BEGIN RAISE WARNING 'complaint: %', what USING DETAIL = 'd', HINT = 'h'; END $$;
CREATE FUNCTION shout(what text) RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN RAISE NOTICE 'shouting %', what; RETURN upper(what); END $$;
"""

INT4: Final = 23
TEXT: Final = 25
INT4PL: Final = 177  # pg_proc's oid of int4pl(int, int)


class Step(NamedTuple):
    """Messages in one write, and when their answer is complete."""

    messages: tuple[bytes, ...]
    until: bytes = b"Z"
    count: int = 1


def say(*messages: bytes, ready: int = 1) -> Step:
    return Step(messages, b"Z", ready)


def say_until(kinds: bytes, *messages: bytes, count: int = 1) -> Step:
    return Step(messages, kinds, count)


def run(sql: str, *values: bytes | None, limit: int = 0) -> bytes:
    """Unnamed, with its Describe, without Sync."""
    return parse(sql) + bind(*values) + describe("P") + execute(limit=limit)


TYPES: Final = """SELECT 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 12.340::numeric, 'NaN'::numeric,
    true, false, NULL::text, ''::text, 'süß €'::text, 'c'::char(3), 'v'::varchar(5), 'n'::name, 'q'::"char",
    '\\x00ff'::bytea, '2024-02-29'::date, '12:34:56.789'::time, '12:34:56+02'::timetz,
    '2024-02-29 12:34:56.789'::timestamp, '2024-02-29 12:34:56.789+05:30'::timestamptz,
    '1 year 2 days 03:04:05'::interval, 'infinity'::timestamptz, '{"a": [1, null]}'::json,
    '{"b": 2, "a": 1}'::jsonb, '{1,NULL,3}'::int[], '{{a,b},{c,"d e"}}'::text[], '{}'::int[],
    '[1,5)'::int4range, 'empty'::int4range, '{[1,2),[3,4)}'::int4multirange,
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '10.0.0.1/8'::inet, '08:00:2b:01:02:03'::macaddr,
    '(1,2)'::point, '<(0,0),5>'::circle, B'101'::bit(3), B'10'::varbit, '$1.50'::money,
    'fat cat'::tsvector, 'fat & cat'::tsquery, row(1, 'a', NULL), 'pg_class'::regclass, '0/16B3748'::pg_lsn,
    $$it's$$, E'tab\\t', U&'d\\0061t', 'glad'::mood"""

EXCHANGES: Final[dict[str, list[Step]]] = {
    # --- the simple protocol
    "select of many types": [say(query(TYPES))],
    "rows of a table": [say(query("SELECT * FROM items ORDER BY id"))],
    "no rows, no columns": [
        say(query("SELECT * FROM items WHERE false")),
        say(query("SELECT FROM items")),
        say(query("SELECT")),
    ],
    "empty query": [say(query("")), say(query(";")), say(query(" /* nothing */ ; -- at all"))],
    "show and explain": [
        say(query("SHOW server_version")),
        say(query("SHOW search_path")),
        say(query("EXPLAIN (COSTS OFF) SELECT * FROM items WHERE id = 1")),
        say(query("SHOW no_such_setting")),
    ],
    "syntax errors": [
        say(query("SELEC 1")),
        say(query("SELECT 1 FROM")),
        say(query("SELECT 'open")),
        say(query("SELECT 1; SELEC 2; SELECT 3")),
        say(query("SELECT $1")),
        say(query('SELECT "süß", 1 +')),
    ],
    "errors at run time": [
        say(query("SELECT 1/0")),
        say(query("SELECT 10 / (5 - g) FROM generate_series(1, 9) g")),
        say(query("SELECT 'x'::int")),
        say(query("SELECT * FROM missing")),
        say(query("SELECT missing FROM items")),
        say(query("SELECT missing(1)")),
    ],
    "broken constraints": [
        say(query("INSERT INTO items VALUES (1, 'again', 1)")),
        say(query("INSERT INTO items VALUES (100, NULL, 1)")),
        say(query("INSERT INTO items VALUES (100, 'cheap', -1)")),
        say(query("UPDATE items SET id = 2 WHERE id = 1")),
    ],
    "notices and warnings": [
        say(
            query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; RAISE INFO 'three'; END $$")
        ),
        say(query("CALL complain('of the weather')")),
        say(query("SELECT shout('hello')")),
        say(query("DROP TABLE IF EXISTS missing")),
        say(
            query("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'P0123', COLUMN = 'c'; END $$")
        ),
    ],
    "several statements in one query": [
        say(query("SELECT 1; SELECT 2; ; SELECT 3")),
        say(query("SELECT 1; SELECT 1/0; SELECT 3")),
        say(query("BEGIN; SELECT 1; COMMIT; SELECT 2")),
        say(query("BEGIN; SELECT 1")),
        say(query("SELECT 2; ROLLBACK; SELECT 3")),
        say(query("INSERT INTO sink VALUES (1, 'x'); SELECT count(*) FROM sink; DELETE FROM sink")),
        say(query("INSERT INTO sink VALUES (1, 'x'); SELECT 1/0")),
        say(query("DELETE FROM sink")),
    ],
    "queries pipelined in one write": [
        say(query("SELECT 1"), query("SELECT 1/0"), query(""), query("SELECT 2"), ready=4),
        say(*(query(f"SELECT {n}, repeat('x', {n})") for n in range(60)), ready=60),
        say(
            query("INSERT INTO sink VALUES (7, 'w')"),
            query("SELECT n FROM items JOIN (VALUES (1)) v(n) ON n = id"),
            query("DELETE FROM sink"),
            ready=3,
        ),
    ],
    # --- transactions
    "a transaction commits": [
        say(query("BEGIN")),
        say(query("INSERT INTO sink VALUES (1, 'one')")),
        say(query("SELECT * FROM sink")),
        say(query("DELETE FROM sink")),
        say(query("COMMIT")),
    ],
    "a transaction fails": [
        say(query("BEGIN")),
        say(query("SELECT 1/0")),
        say(query("SELECT 1")),
        say(run("SELECT 1"), SYNC),
        say(query("")),
        say(query("BEGIN")),
        say(query("SET LOCAL work_mem = '1MB'")),
        say(query("ROLLBACK")),
        say(query("SELECT 1")),
    ],
    "commit of a failed transaction": [
        say(query("BEGIN")),
        say(query("SELECT 1/0")),
        say(query("COMMIT")),
        say(query("START TRANSACTION")),
        say(query("nonsense")),
        say(query("END")),
    ],
    "transactions that do nothing": [
        say(query("BEGIN")),
        say(query("COMMIT")),
        say(query("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")),
        say(query("ABORT")),
        say(query("begin transaction")),
        say(query("end work")),
        say(query("BEGIN"), query("COMMIT"), query("BEGIN"), query("ROLLBACK"), ready=4),
    ],
    "warnings of transaction control": [
        say(query("BEGIN")),
        say(query("BEGIN")),
        say(query("SELECT 1")),
        say(query("START TRANSACTION")),
        say(query("COMMIT")),
        say(query("COMMIT")),
        say(query("ROLLBACK")),
        say(query("END; ABORT")),
        say(query("SET LOCAL work_mem = '1MB'")),
        say(query("SAVEPOINT s")),
        say(query("LOCK TABLE items")),
    ],
    "savepoints": [
        say(query("BEGIN")),
        say(query("INSERT INTO sink VALUES (1, 'kept')")),
        say(query("SAVEPOINT a")),
        say(query("SELECT 1/0")),
        say(query("ROLLBACK TO SAVEPOINT a")),
        say(query("SELECT * FROM sink")),
        say(query("RELEASE SAVEPOINT a")),
        say(query("ROLLBACK TO a")),
        say(query("ROLLBACK")),
    ],
    "chained transactions": [
        say(query("BEGIN ISOLATION LEVEL REPEATABLE READ")),
        say(query("SELECT 1")),
        say(query("COMMIT AND CHAIN")),
        say(query("SHOW transaction_isolation")),
        say(query("ROLLBACK AND CHAIN")),
        say(query("SELECT 2")),
        say(query("ROLLBACK")),
        say(query("COMMIT AND CHAIN")),
    ],
    "isolation and read only": [
        say(query("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE")),
        say(query("SHOW transaction_isolation")),
        say(query("SHOW transaction_read_only")),
        say(query("COMMIT")),
        say(query("BEGIN READ ONLY")),
        say(query("SHOW transaction_read_only")),
        say(query("SELECT count(*) FROM items")),
        say(query("INSERT INTO sink VALUES (1, 'no')")),
        say(query("ROLLBACK")),
        say(query("BEGIN")),
        say(query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")),
        say(query("SHOW transaction_isolation")),
        say(query("COMMIT")),
        say(query("BEGIN ISOLATION LEVEL NONSENSE")),
    ],
    "settings": [
        say(query("SET application_name = 'elsewhere'")),
        say(query("SHOW application_name")),
        say(query("SET TIME ZONE 'Asia/Tokyo'")),
        say(query("SELECT '2024-01-01 00:00+00'::timestamptz")),
        say(query("SET DateStyle = 'German'")),
        say(query("SELECT '2024-01-31'::date")),
        say(query("SET work_mem = 'much'")),
        say(query("SET no_such_setting = 1")),
        say(query("BEGIN")),
        say(query("SET LOCAL application_name = 'inside'")),
        say(query("SHOW application_name")),
        say(query("ROLLBACK")),
        say(query("SHOW application_name")),
        say(query("SET search_path = pg_catalog")),
        say(query("SELECT * FROM items")),
        say(query("RESET ALL")),
        say(query("SHOW application_name")),
        say(query("SELECT set_config('application_name', 'again', false)")),
        say(query("SHOW application_name")),
        say(query("DISCARD ALL")),
        say(query("SHOW application_name")),
    ],
    "session objects": [
        say(query("CREATE TEMP TABLE mine AS SELECT 1 AS a")),
        say(query("SELECT a + 1 FROM mine")),
        say(query("PREPARE p (int) AS SELECT $1 + 1")),
        say(query("EXECUTE p(41)")),
        say(query("DEALLOCATE p")),
        say(query("EXECUTE p(41)")),
        say(query("BEGIN")),
        say(query("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 5) g")),
        say(query("COMMIT")),
        say(query("FETCH 2 FROM c")),
        say(query("FETCH LAST FROM c")),
        say(query("CLOSE c")),
        say(query("FETCH c")),
        say(query("SELECT pg_advisory_lock(42), pg_advisory_unlock(42)")),
    ],
    "cursor in a transaction": [
        say(query("BEGIN")),
        say(query("DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id")),
        say(query("FETCH 3 FROM c")),
        say(query("MOVE 2 FROM c")),
        say(query("FETCH ALL FROM c")),
        say(query("COMMIT")),
        say(query("FETCH 1 FROM c")),
        say(query("DECLARE c CURSOR FOR SELECT 1")),
    ],
    "notifications to itself": [
        say(query("LISTEN news")),
        say(query("NOTIFY news, 'read all about it'")),
        say(query("BEGIN")),
        say(query("NOTIFY news, 'later'")),
        say(query("COMMIT")),
        say(query("SELECT pg_notify('news', 'by function')")),
        say(query("UNLISTEN news")),
        say(query("NOTIFY news, 'unheard'")),
    ],
    # --- the extended protocol
    "binary and text parameters and results": [
        say(parse(TYPES), bind(result_formats=[1]), describe("P"), execute(), SYNC),
        say(
            parse("SELECT $1::int + $2::int, $3::text, $4::bytea", types=[INT4]),
            describe("S"),
            bind(
                b"\0\0\0\x05", b"7", None, b"\\x41", formats=[1, 0, 0, 0], result_formats=[1, 0, 1]
            ),
            bind(b"\0\0\0\x05", b"7", None, b"A", formats=[1, 0, 0, 1], result_formats=[1, 0, 1]),
            SYNC,
            bind(b"5", b"7", b"", b"\\x", portal="p", result_formats=[0, 1, 0, 1]),
            describe("P", "p"),
            execute("p"),
            SYNC,
            ready=2,
        ),
    ],
    "nothing but Sync": [say(SYNC), say(SYNC, SYNC, SYNC, ready=3), say(FLUSH, SYNC)],
    "empty statement": [
        say(parse(""), describe("S"), bind(), describe("P"), execute(), SYNC),
        say(parse(" -- nothing"), bind(), execute(), SYNC),
    ],
    "an error in the middle of a pipeline": [
        say(
            run("SELECT 1"),
            parse("SELECT 10 / $1::int", name="divide"),
            bind(b"0", statement="divide"),
            execute(),
            run("SELECT 'never'"),
            parse("SELECT 2", name="never"),
            close("S", "divide"),
            SYNC,
            bind(b"5", statement="divide"),
            execute(),
            SYNC,
            bind(statement="never"),
            SYNC,
            ready=3,
        ),
    ],
    "a batch is one transaction": [
        say(
            run("INSERT INTO sink VALUES (1, 'gone')"),
            run("SELECT count(*) FROM sink"),
            run("SELECT 1/0"),
            SYNC,
            run("SELECT count(*) FROM sink"),
            run("INSERT INTO sink VALUES (2, 'kept')"),
            SYNC,
            run("DELETE FROM sink RETURNING n"),
            SYNC,
            ready=3,
        ),
    ],
    "transactions in the extended protocol": [
        say(run("BEGIN"), SYNC),
        say(run("SELECT 1"), SYNC),
        say(run("SELECT 1/0"), SYNC),
        say(run("SELECT 2"), SYNC),
        say(run("ROLLBACK"), SYNC),
        say(run("BEGIN"), run("SELECT 3"), run("COMMIT"), SYNC),
        say(parse("BEGIN", name="b"), parse("COMMIT", name="c"), SYNC),
        say(bind(statement="b"), execute(), SYNC),
        say(query("SELECT 4")),
        say(bind(statement="c"), execute(), SYNC, run("COMMIT"), SYNC, ready=2),
    ],
    "portal suspension in one batch": [
        say(
            parse("SELECT id, name FROM items ORDER BY id"),
            bind(portal="p"),
            execute("p", 3),
            execute("p", 16),
            execute("p", 1),
            execute("p", 1),
            execute("p"),
            SYNC,
        ),
    ],
    "portals live until the transaction ends": [
        say(query("BEGIN")),
        say(parse("SELECT id FROM items ORDER BY id", name="s"), SYNC),
        say(bind(portal="p", statement="s"), execute("p", 2), SYNC),
        say(bind(portal="q", statement="s"), execute("q", 1), execute("p", 2), SYNC),
        say(bind(portal="q", statement="s"), SYNC),
        say(query("ROLLBACK")),
        say(query("BEGIN")),
        say(bind(portal="p", statement="s"), describe("P", "p"), execute("p", 2), SYNC),
        say(close("P", "p"), execute("p"), SYNC),
        say(query("COMMIT")),
        say(bind(portal="r", statement="s"), execute("r", 1), SYNC, execute("r", 1), SYNC, ready=2),
        say(describe("P", "r"), SYNC),
        say(close("P", "r"), close("P"), close("S", "s"), close("S", "s"), SYNC),
    ],
    "named statements across batches": [
        say(parse("SELECT $1::int * 2 AS twice", name="s"), describe("S", "s"), SYNC),
        say(bind(b"21", statement="s"), describe("P"), execute(), SYNC),
        say(query("SELECT 'between'")),
        say(
            bind(b"1", statement="s"),
            execute(),
            SYNC,
            bind(b"2", statement="s"),
            execute(),
            SYNC,
            describe("S", "s"),
            SYNC,
            ready=3,
        ),
        say(parse("SELECT 1", name="s"), SYNC),
        say(
            parse("SELECT 'unnamed'"), bind(b"4", statement="s"), execute(), bind(), execute(), SYNC
        ),
        say(close("S", "s"), bind(b"1", statement="s"), execute(), SYNC),
        say(describe("S", "s"), SYNC),
        say(parse("SELECT 'other'", name="s"), bind(statement="s"), execute(), SYNC),
    ],
    "names that do not exist": [
        say(bind(statement="nobody"), execute(), SYNC),
        say(describe("S", "nobody"), SYNC),
        say(describe("P", "nobody"), SYNC),
        say(execute("nobody"), SYNC),
        say(close("S", "nobody"), close("P", "nobody"), SYNC),
        say(bind(statement="pgproxy_1"), SYNC),
        say(bind(), SYNC),
        say(describe("S"), SYNC),
        say(describe("P"), SYNC),
    ],
    "a name is taken": [
        say(parse("SELECT 1", name="s"), parse("SELECT 2", name="s"), SYNC),
        say(bind(statement="s"), execute(), SYNC),
        say(parse("SELECT 3", name="s"), bind(statement="s"), execute(), SYNC),
        say(query("BEGIN")),
        say(parse("SELECT 1", name="s"), SYNC),
        say(query("SELECT 1")),
        say(query("ROLLBACK")),
    ],
    "a name is taken, and more is wrong": [
        say(parse("SELECT 1", name="s"), SYNC),
        say(parse("SELEC", name="s"), SYNC),
        say(query("BEGIN"), query("SELECT 1/0"), parse("SELECT 1", name="s"), SYNC, ready=3),
        say(query("ROLLBACK")),
    ],
    "the unnamed statement": [
        say(parse("SELECT $1::int", types=[INT4]), SYNC),
        say(bind(b"1"), execute(), SYNC),
        say(bind(b"2"), execute(), SYNC),
        say(parse("SELECT nonsense"), SYNC),
        say(bind(), execute(), SYNC),
        say(parse("SELECT 'again'"), SYNC),
        say(describe("S"), SYNC),
        say(close("S"), SYNC),
        say(bind(), SYNC),
        say(parse("SELECT 'lost'"), SYNC),
        say(query("SELECT 1")),
        say(bind(), execute(), SYNC),
    ],
    "statements that cannot be prepared": [
        say(parse("SELECT 1; SELECT 2"), SYNC),
        say(parse("SELECT $1"), describe("S"), SYNC),
        say(parse("SELECT $2::int"), SYNC),
        say(parse("SELECT nonsense", name="s"), SYNC),
        say(bind(statement="s"), SYNC),
        say(parse("SELECT $1::int", name="s"), SYNC),
        say(bind(b"abc", statement="s"), execute(), SYNC),
        say(bind(b"1", statement="s", formats=[1]), execute(), SYNC),
        say(bind(b"1", statement="s", formats=[7]), execute(), SYNC),
        say(bind(b"1", statement="s", formats=[0, 0]), execute(), SYNC),
    ],
    "wrong number of parameters": [
        say(parse("SELECT $1::int, $2::text", name='a name\'s "quotes"'), SYNC),
        say(bind(b"1", statement='a name\'s "quotes"'), execute(), SYNC),
        say(parse("SELECT $1::int"), bind(), SYNC),
    ],
    "Flush without Sync": [
        say_until(b"T", parse("SELECT id FROM items ORDER BY id"), describe("S"), FLUSH),
        say_until(b"2", bind(portal="p"), FLUSH),
        say_until(b"s", execute("p", 2), FLUSH),
        say_until(b"s", execute("p", 1), FLUSH),
        say(SYNC),
        say_until(b"E", parse("SELECT nonsense"), FLUSH),
        say_until(b"Z", bind(), execute(), FLUSH, SYNC),
        say_until(b"C", run("INSERT INTO sink VALUES (1, 'f')"), FLUSH),
        say_until(b"C", run("SELECT * FROM sink"), FLUSH, FLUSH),
        say_until(b"C", run("DELETE FROM sink"), FLUSH),
        say(SYNC),
    ],
    "many Syncs in one write": [
        say(
            *(
                run("SELECT $1::int, repeat('y', $1::int)", str(n).encode()) + SYNC
                for n in range(60)
            ),
            ready=60,
        ),
        say(*(run(f"SELECT 6 / ({n} % 3)") + SYNC for n in range(30)), ready=30),
    ],
    "simple query in place of Sync": [
        say(parse("SELECT 1"), bind(portal="p"), execute("p"), query("SELECT 2")),
        say(parse("SELECT 1/0"), bind(), execute(), query("SELECT 'skipped'"), SYNC),
    ],
    "both protocols mixed in one write": [
        say(
            query("SELECT 1"),
            run("SELECT 2"),
            SYNC,
            query("INSERT INTO sink VALUES (3, 'x')"),
            run("SELECT n FROM items, (VALUES (4)) v(n) WHERE n = id"),
            SYNC,
            query("DELETE FROM sink"),
            run("SELECT 1/0"),
            SYNC,
            query("SELECT 5"),
            ready=7,
        ),
    ],
    "function call": [
        say(function_call(INT4PL, b"40", b"2")),
        say(function_call(INT4PL, b"2147483647", b"1")),
        say(function_call(INT4PL, b"1")),
        say(function_call(1)),
        say(query("BEGIN"), function_call(INT4PL, b"1", b"2"), query("COMMIT"), ready=3),
        say(run("SELECT 1"), SYNC, function_call(INT4PL, None, b"2"), query("SELECT 2"), ready=3),
    ],
    # --- copy
    "copy out": [
        say(query("COPY items TO STDOUT")),
        say(query("COPY (SELECT * FROM items ORDER BY id DESC) TO STDOUT (FORMAT csv, HEADER)")),
        say(query("COPY items (id, name) TO STDOUT (FORMAT binary)")),
        say(query("COPY (SELECT 10 / (4 - g) FROM generate_series(1, 9) g) TO STDOUT")),
        say(query("SELECT 1; COPY items TO STDOUT; SELECT 2")),
        say(parse("COPY items TO STDOUT"), describe("S"), bind(), describe("P"), execute(), SYNC),
        say(run("COPY missing TO STDOUT"), SYNC),
    ],
    "copy in": [
        say(query("BEGIN")),
        say_until(b"G", query("COPY sink FROM STDIN")),
        say(copy_data(b"1\tone\n2\t"), copy_data(b"two\n"), copy_data(b""), COPY_DONE),
        say_until(b"G", parse("COPY sink FROM STDIN (FORMAT csv)"), bind(), execute(), FLUSH),
        say_until(b"C", copy_data(b'3,"th,ree"\n'), COPY_DONE, FLUSH),
        say(SYNC),
        say(query("SELECT * FROM sink ORDER BY n")),
        say(query("ROLLBACK")),
    ],
    "copy in fails": [
        say_until(b"G", query("COPY sink FROM STDIN")),
        say(copy_data(b"1\tone\n"), copy_fail("changed my mind")),
        say_until(b"G", query("COPY sink FROM STDIN")),
        say(copy_data(b"x\tbad\n"), COPY_DONE),
        say_until(b"G", parse("COPY sink FROM STDIN"), bind(), execute(), FLUSH),
        say(copy_data(b"y\tbad\n"), COPY_DONE, SYNC),
        say_until(b"G", parse("COPY sink FROM STDIN"), bind(), execute(), FLUSH),
        say(copy_fail("again"), SYNC),
        say(query("COPY missing FROM STDIN")),
    ],
    "copy in sent blindly": [
        say(
            query("COPY sink FROM STDIN"),
            copy_data(b"1\tone\n"),
            COPY_DONE,
            query("SELECT 1"),
            ready=2,
        ),
        say(
            query("COPY missing FROM STDIN"),
            copy_data(b"1\n"),
            COPY_DONE,
            query("SELECT 2"),
            ready=2,
        ),
        say(run("COPY sink FROM STDIN"), copy_data(b"2\ttwo\n"), COPY_DONE, SYNC),
        say(
            run("COPY sink FROM STDIN"),
            copy_data(b"bad\n"),
            COPY_DONE,
            SYNC,
            run("SELECT 3"),
            SYNC,
            ready=2,
        ),
        say(run("COPY missing FROM STDIN"), copy_data(b"2\n"), COPY_DONE, SYNC),
        say(run("COPY sink FROM STDIN"), FLUSH, SYNC, copy_data(b"3\tc\n"), COPY_DONE, SYNC),
        say(
            query("COPY sink FROM STDIN"),
            copy_data(b"4\td\n"),
            copy_fail("no"),
            query("SELECT 4"),
            ready=2,
        ),
        say(query("DELETE FROM sink")),
    ],
    "copy messages out of place": [
        say(copy_data(b"stray"), COPY_DONE, copy_fail("stray"), query("SELECT 1")),
        say(run("SELECT 2"), copy_data(b"stray"), COPY_DONE, SYNC),
    ],
    "copy in among other statements": [
        say_until(b"G", query("SELECT 1; COPY sink FROM STDIN; SELECT count(*) FROM sink")),
        say(copy_data(b"1\tone\n"), COPY_DONE),
        say_until(b"G", query("COPY sink FROM STDIN; COPY sink FROM STDIN")),
        say_until(b"G", copy_data(b"1\ta\n"), COPY_DONE),
        say(copy_data(b"1\tb\n"), COPY_DONE),
        say(query("DELETE FROM sink")),
    ],
    "two phases, and what cannot be done here": [
        say(query("PREPARE TRANSACTION 'x'")),
        say(query("BEGIN; PREPARE TRANSACTION 'x'")),
        say(query("COMMIT PREPARED 'x'")),
        say(query("BEGIN"), query("VACUUM items"), query("ROLLBACK"), ready=3),
        say(query("SELECT 1; VACUUM items")),
    ],
}

# Too much for a network of five bytes at a time.
LARGE: Final[dict[str, list[Step]]] = {
    "large results": [
        say(query("SELECT repeat('x', 1000000), g FROM generate_series(1, 3) g")),
        say(run("SELECT repeat('ü', 500000)"), SYNC),
        say(query("COPY (SELECT repeat('z', 300000) FROM generate_series(1, 4)) TO STDOUT")),
        say(query("SELECT g FROM generate_series(1, 20000) g")),
    ],
    "large statements": [
        say(query(f"SELECT length('{'a' * 1000000}')")),
        say(query("SELECT 'after'")),
        say(query(f"SELECT '{'b' * 1000000}'")),
        say(parse(f"SELECT length('{'c' * 1000000}')"), bind(), execute(), SYNC),
        say(bind(), execute(), SYNC),
        say(
            parse("SELECT length($1), $1::text", name="s"),
            bind(b"d" * 1000000, statement="s"),
            execute(),
            SYNC,
        ),
        say(bind(b"e" * 1000000, statement="s"), execute(), SYNC, query("SELECT 'end'"), ready=2),
        say(query("/*" + "f" * 1000000 + "*/ SELEC")),
    ],
    "large pipelines": [
        say(
            parse("SELECT length($1)", name="s"),
            *(bind(b"g" * 20000, statement="s") + execute() for _ in range(20)),
            SYNC,
            *(bind(b"h" * 70000, statement="s") + execute() + SYNC for _ in range(10)),
            ready=11,
        ),
        say(*(query(f"SELECT {n}") for n in range(3000)), ready=3000),
    ],
    "large copies": [
        say_until(b"G", query("COPY sink FROM STDIN")),
        say(*(copy_data(b"1\t" + b"i" * 100000 + b"\n") for _ in range(20)), COPY_DONE),
        say(
            run("COPY sink FROM STDIN"), copy_data(b"2\t" + b"j" * 1000000 + b"\n"), COPY_DONE, SYNC
        ),
        # In order: the space of rows that others have deleted may be used again, or not yet.
        say(
            query(
                "WITH gone AS (DELETE FROM sink RETURNING n, length(s))"
                " SELECT * FROM gone ORDER BY n"
            )
        ),
    ],
}


# Which are cut to pieces: not those of many frames, which say no more than a few.
LONG: Final = {"many Syncs in one write", "queries pipelined in one write"}
IN_SINGLE_BYTES: Final = {
    "several statements in one query",
    "a transaction fails",
    "named statements across batches",
    "Flush without Sync",
    "copy in sent blindly",
}


NAMES: Final = [*EXCHANGES, *LARGE]


# --- how they are played


async def play(address: Address, steps: list[Step], **login: str) -> list[Frame]:
    """All answers, and that of a last query: nothing may come in between or be left over."""
    async with await Wire.connect(address, database=DATABASE, **login) as connection:  # type: ignore[arg-type]
        frames: list[Frame] = []
        for step in [*steps, say(query("SELECT 'the end'"))]:
            # Written while read: neither side may have to hold what the other does not read.
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.send(*step.messages))
                frames += await connection.until(step.until, step.count)
        return [masked(frame) for frame in frames]


def masked(frame: Frame) -> Frame:
    kind, body = frame
    if kind == b"K":
        return kind, b"%d bytes" % len(body)
    if kind == b"A":
        return kind, body[4:]  # the process that notified
    if kind == b"E":
        # Where in the source an error was raised. Everything else about it is the same, even where
        # only the proxy can know of it: a prepared statement's name is the client's own.
        return kind, b"\0".join(field for field in body.split(b"\0") if field[:1] not in b"FLR")
    return frame


def show(frames: list[Frame]) -> list[str]:
    return [f"{kind.decode()} {body[:300]!r}" for kind, body in frames]


@pytest.fixture(scope="module", autouse=True)
def database(cluster: Cluster) -> Iterator[None]:
    cluster.primary.psql(f"CREATE DATABASE {DATABASE}")
    cluster.primary.psql(SCHEMA, DATABASE)
    cluster.wait_caught_up()
    yield
    cluster.primary.psql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture(scope="module")
def single(cluster: Cluster) -> Iterator[ProxyProcess]:
    """One connection to the primary alone, which remembers five statements."""
    pool = {"size": 1, "max_prepared_statements": 5}
    with ProxyProcess.start([cluster.primary], pool=pool) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def sessions(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers, pool={"mode": "session"}) as proxy:
        yield proxy


@pytest.mark.parametrize("name", NAMES)
class TestEveryExchange:
    async def direct(self, cluster: Cluster, name: str) -> list[str]:
        return show(await play(cluster.primary, (EXCHANGES | LARGE)[name]))

    async def test_routed(self, cluster: Cluster, proxy: ProxyProcess, name: str) -> None:
        frames = await play(proxy, (EXCHANGES | LARGE)[name])
        assert show(frames) == await self.direct(cluster, name)

    async def test_on_the_primary(self, cluster: Cluster, proxy: ProxyProcess, name: str) -> None:
        options = "-c pgproxy.route=primary"
        frames = await play(proxy, (EXCHANGES | LARGE)[name], options=options)
        assert show(frames) == await self.direct(cluster, name)

    async def test_over_a_single_connection(
        self, cluster: Cluster, single: ProxyProcess, name: str
    ) -> None:
        frames = await play(single, (EXCHANGES | LARGE)[name])
        assert show(frames) == await self.direct(cluster, name)
        single.check()

    async def test_in_session_mode(
        self, cluster: Cluster, sessions: ProxyProcess, name: str
    ) -> None:
        frames = await play(sessions, (EXCHANGES | LARGE)[name])
        assert show(frames) == await self.direct(cluster, name)
        sessions.check()


@pytest.mark.parametrize("size", [1, 7])
async def test_in_pieces(cluster: Cluster, size: int) -> None:
    """What arrives together and what apart makes no difference: every frame is cut to pieces."""
    names = IN_SINGLE_BYTES if size == 1 else EXCHANGES.keys() - LONG
    async with FaultProxy(cluster.primary) as servers:
        servers.chunk = size
        backend = SimpleNamespace(host=servers.host, port=servers.port, name="cut")
        with await asyncio.to_thread(ProxyProcess.start, [backend]) as proxy:
            async with FaultProxy(proxy) as clients:
                clients.chunk = size
                for name in names:
                    through = await play(clients, EXCHANGES[name])
                    assert show(through) == show(await play(cluster.primary, EXCHANGES[name])), name
            await asyncio.to_thread(proxy.stop)


# --- the start-up


@pytest.mark.parametrize(
    "protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2, wire.PROTOCOL_3_0 + 9999]
)
@pytest.mark.parametrize("options", [{}, {"_pq_.unheard_of": "1", "_pq_.other": "2"}])
async def test_the_start_up(
    cluster: Cluster, proxy: ProxyProcess, protocol: int, options: dict[str, str]
) -> None:
    if cluster.installation.version < 18:
        pytest.skip("PostgreSQL 18 was the first to know protocol 3.2")
    settings = {
        "application_name": "test",
        "DateStyle": "German",
        "options": "-c TimeZone=Asia/Tokyo",
    }

    async def start(address: Address) -> list[Frame]:
        async with await Wire.connect(address, protocol=protocol, **settings, **options) as client:
            return [masked(frame) for frame in client.startup]

    assert show(await start(proxy)) == show(await start(cluster.primary))


@pytest.mark.parametrize(
    "login",
    [
        {"database": "missing"},
        {"user": "nobody_known"},
        {"work_mem": "much"},
        {"options": "-c no_such_setting=1"},
        {"options": "--nonsense"},
        {"client_encoding": "EBCDIC"},
    ],
)
async def test_a_refused_start_up(
    cluster: Cluster, proxy: ProxyProcess, login: dict[str, str]
) -> None:
    async def start(address: Address) -> list[Frame]:
        async with await Wire.connect(address, **login) as client:  # type: ignore[arg-type]
            return [masked(frame) for frame in client.startup if frame[0] == b"E"]

    through = await start(proxy)
    assert through
    assert show(through) == show(await start(cluster.primary))


# --- what two connections do to each other


@pytest.mark.parametrize("protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
@pytest.mark.parametrize(
    "sql", ["SELECT pg_sleep(60)", "SELECT pg_sleep(60) FROM items FOR UPDATE"]
)
async def test_cancel(cluster: Cluster, proxy: ProxyProcess, protocol: int, sql: str) -> None:
    async def cancelled(address: Address) -> list[str]:
        async with await Wire.connect(address, database=DATABASE, protocol=protocol) as client:
            await client.send(run(sql), SYNC, query("SELECT 'after'"))
            await asyncio.to_thread(wait_asleep, cluster, DATABASE)
            async with await Wire.open(address) as other:
                await other.send(wire.cancel_request(*client.key()))
                assert await other.until(b"Z") == []  # closed without a word
            return show([masked(frame) for frame in await client.until(b"Z", 2)])

    through = await cancelled(proxy)
    assert through == await cancelled(cluster.primary)
    assert any("57014" in line for line in through)


async def test_a_cancel_for_nobody_is_ignored(proxy: ProxyProcess) -> None:
    async with await Wire.connect(proxy) as client:
        pid, secret = client.key()
        for key in ((pid, bytes(len(secret))), (pid + 1, secret), (0, b"x" * 256)):
            async with await Wire.open(proxy) as other:
                await other.send(wire.cancel_request(*key))
                assert await other.until(b"Z") == []
        assert wire.rows(await client.ask(query("SELECT 1"))) == [[b"1"]]


async def test_notifications_between_connections(cluster: Cluster, proxy: ProxyProcess) -> None:
    async def heard(address: Address) -> list[Frame]:
        async with (
            await Wire.connect(address, database=DATABASE) as listener,
            await Wire.connect(address, database=DATABASE) as speaker,
        ):
            frames = await listener.ask(query("LISTEN news"))
            await speaker.ask(query("NOTIFY news, 'first'"))
            frames += await listener.until(b"A")  # which asked nothing
            await speaker.ask(query("BEGIN"))
            await speaker.ask(query("SELECT pg_notify('news', 'second')"))
            await speaker.ask(query("COMMIT"))
            frames += await listener.until(b"A")
            frames += await listener.ask(query("SELECT 1"))
            return [masked(frame) for frame in frames]

    assert show(await heard(proxy)) == show(await heard(cluster.primary))


# --- what is not the protocol


@pytest.mark.parametrize(
    "nonsense",
    [
        message(b"y"),
        message(b"\0"),
        b"Q\0\0\0\3",
        b"Q\xff\xff\xff\xff",
        message(b"Z"),
        wire.startup("postgres", "postgres"),
    ],
    ids=repr,
)
async def test_a_protocol_violation(cluster: Cluster, proxy: ProxyProcess, nonsense: bytes) -> None:
    """The proxy's words may be others, and it has some where PostgreSQL closes without any."""

    async def told(address: Address) -> list[str]:
        async with await Wire.connect(address, database=DATABASE) as client:
            assert wire.rows(await client.ask(query("SELECT 1"))) == [[b"1"]]
            await client.send(nonsense)
            frames = await client.until(b"")  # to the end of the stream
            return [wire.fields(body)["V"] + wire.fields(body)["C"] for _, body in frames]

    assert await told(proxy) == (await told(cluster.primary) or ["FATAL08P01"])
