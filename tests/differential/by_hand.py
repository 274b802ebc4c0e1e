"""Scripts for what must be known to be tried, by what they are about.

Names begin with the part of transaction pooling that they are about: prepared statements,
settings, transactions, pins, and that no connection carries one client's state to the next.
"""

from typing import Final

from tests.differential.prepared_by_hand import PREPARED
from tests.differential.script import (
    FLUSH,
    SYNC,
    Bind,
    CopyData,
    CopyDone,
    CopyFail,
    Execute,
    Parse,
    Query,
    Script,
    ask,
    connect,
    hear,
    run,
    say,
)
from tests.differential.settings_by_hand import SETTINGS
from tests.differential.transactions_by_hand import TRANSACTIONS
from tests.differential.vocabulary import CUSTOM, EVERY_SETTING, WHO

PINS: Final = {
    "pins: a temporary table": Script(
        *ask("CREATE TEMP TABLE t1 (n int)", "INSERT INTO t1 VALUES (1)", "TABLE t1"),
        *ask("TABLE t1", client=1),
        *ask("CREATE TEMP TABLE t1 AS SELECT 'of b' AS t", "TABLE t1", client=1),
        *ask("TABLE t1", "DROP TABLE t1", "TABLE t1"),
        *ask("TABLE t1", "DISCARD TEMP", "TABLE t1", client=1),
        *ask(
            "BEGIN", "CREATE TEMP TABLE t1 (n int) ON COMMIT DROP", "TABLE t1", "COMMIT", "TABLE t1"
        ),
        *ask("BEGIN", "CREATE TEMP TABLE t1 (n int)", "ROLLBACK", "TABLE t1"),
        *ask("CREATE TEMP TABLE items AS SELECT 'hides' AS t", "TABLE items", "DISCARD ALL"),
        *ask("SELECT id FROM items ORDER BY id"),
    ),
    "pins: temporary, in other words": Script(
        *ask("SELECT id INTO TEMP t1 FROM items WHERE id < 3", "SELECT * FROM t1 ORDER BY id"),
        *ask("CREATE TEMP SEQUENCE q", "SELECT nextval('q'), nextval('q')", "SELECT currval('q')"),
        *ask("CREATE TEMP VIEW v AS SELECT * FROM t1", "SELECT * FROM v ORDER BY id"),
        *ask("CREATE TABLE pg_temp.t2 (n int)", "TABLE t2", "SET search_path = pg_temp, public"),
        *ask("CREATE TABLE t3 (n int)", "TABLE pg_temp.t3", "DROP TABLE t1 CASCADE", "TABLE v"),
        *ask(
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT pg_temp.f()",
        ),
        *ask("DISCARD TEMP", "TABLE t3", "SELECT nextval('q')"),
    ),
    "pins: a cursor WITH HOLD": Script(
        *ask(
            "DECLARE c1 CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 5) g",
            "FETCH 2 FROM c1",
        ),
        *ask("FETCH 1 FROM c1", client=1),
        *ask("FETCH 2 FROM c1", "CLOSE c1", "FETCH c1"),
        *ask("BEGIN", "DECLARE c1 CURSOR WITH HOLD FOR SELECT 1", "ROLLBACK", "FETCH c1"),
        *ask(
            "BEGIN; DECLARE c1 CURSOR WITH HOLD FOR SELECT 1; COMMIT; FETCH c1",
            "CLOSE ALL",
            "FETCH c1",
        ),
        *ask("DECLARE c2 CURSOR FOR SELECT 1"),
    ),
    "pins: advisory locks": Script(
        *ask("SELECT pg_advisory_lock(@lock1)", "SELECT pg_try_advisory_lock(@lock1)"),
        *ask("SELECT pg_try_advisory_lock(@lock1)", client=1),
        *ask("SELECT pg_advisory_unlock(@lock1)"),
        *ask("SELECT pg_try_advisory_lock(@lock1)", client=1),
        *ask("SELECT pg_advisory_unlock(@lock1)", "SELECT pg_advisory_unlock(@lock1)"),
        *ask("SELECT pg_try_advisory_lock(@lock1)", "SELECT pg_advisory_unlock_all()", client=1),
        *ask("BEGIN", "SELECT pg_advisory_lock(@lock2), pg_advisory_xact_lock(@lock3)", "ROLLBACK"),
        *ask("SELECT pg_try_advisory_lock(@lock2), pg_try_advisory_lock(@lock3)", client=1),
        *ask("SELECT pg_advisory_unlock(@lock2)", "SELECT pg_advisory_unlock(@lock3)"),
        *ask("SELECT pg_advisory_lock(l) FROM (VALUES (@lock4), (@lock5)) v (l)", "DISCARD ALL"),
        *ask("SELECT pg_try_advisory_lock(@lock4)", client=1),
    ),
    "pins: LISTEN": Script(
        *ask("LISTEN news", "NOTIFY news, 'own'"),
        hear(1),
        *ask("NOTIFY news, 'of b'; NOTIFY news, 'again'; NOTIFY other, 'unheard'", client=1),
        hear(3),
        *ask("BEGIN", "NOTIFY news, 'never'", "ROLLBACK", client=1),
        *ask("BEGIN", "NOTIFY news, 'twice'", "NOTIFY news, 'twice'", "COMMIT", client=1),
        hear(4),
        *ask(
            "SELECT * FROM pg_listening_channels()",
            "UNLISTEN news",
            "NOTIFY news, 'deaf'",
            client=0,
        ),
        *ask("SELECT * FROM pg_listening_channels()"),
        *ask(
            "BEGIN", "LISTEN never", "ROLLBACK", "LISTEN last", "SELECT pg_notify('last', 'word')"
        ),
        hear(5),
    ),
    "pins: sequences": Script(
        *ask("SELECT currval('ids')", "SELECT nextval('ids')", "SELECT currval('ids'), lastval()"),
        *ask("SELECT currval('ids')", "SELECT nextval('ids')", client=1),
        *ask("SELECT currval('ids')", "DISCARD SEQUENCES", "SELECT lastval()"),
        *ask(
            "INSERT INTO items VALUES (nextval('ids'), '@me', 1) RETURNING id", "SELECT lastval()"
        ),
    ),
    "pins: a seed": Script(
        *ask("SELECT setseed(0.5)", "SELECT random()", "SELECT random(), random()"),
        *ask("SET SEED TO 0.25", "SELECT random()", "SELECT 1", "SELECT random()"),
    ),
    "pins: large objects": Script(
        *ask("SELECT lo_create(@lock1) > 0", "BEGIN", "SELECT lo_open(@lock1, 131072)"),
        *ask(
            "SELECT lowrite(0, 'large')",
            "COMMIT",
            "SELECT lo_get(@lock1)",
            "SELECT lo_unlink(@lock1)",
        ),
        *ask("SELECT lowrite(0, 'closed')"),
    ),
    "pins: LOAD, and blocks": Script(
        *ask("LOAD 'plpgsql'", "SET plpgsql.extra_warnings = 'all'", "SHOW plpgsql.extra_warnings"),
        *ask("DO $$ BEGIN PERFORM set_config('app.user', 'done', false); END $$", CUSTOM),
        *ask("DO $$ BEGIN CREATE TEMP TABLE t1 (n int); END $$", "TABLE t1", "DISCARD ALL", CUSTOM),
        *ask("DO $$ BEGIN SET LOCAL work_mem = '3MB'; END $$", "SHOW work_mem"),
        *ask("DO $$ BEGIN SET work_mem = '4MB'; COMMIT; SET work_mem = '5MB'; ROLLBACK; END $$"),
        *ask("SHOW work_mem"),
        *ask(CUSTOM, "SHOW work_mem", client=1),
    ),
}

CLEAN: Final = {
    "clean: after errors": Script(
        *ask(
            "BEGIN; SET app.of_a = 'x'; SELECT 1/0",
            "SELECT 1",
            "SHOW work_mem",
            "COMMIT",
            "SELECT 1",
        ),
        *ask(CUSTOM, WHO, client=1),
        say(*run("SELECT 1/0"), *run("SELECT 2"), SYNC, *run("SELECT 3"), SYNC),
        *ask("SELECT 4; SELECT 1/0; SELECT 5", "SELECT 6"),
    ),
    "clean: gone in a transaction": Script(
        *ask("BEGIN", "INSERT INTO sink VALUES (1, 'lost')", "SET LOCAL ROLE diff_reader"),
        connect(how="without a word"),
        *ask("TABLE sink", WHO, EVERY_SETTING),
        *ask("BEGIN", "SELECT 1/0"),
        connect(how="without a word"),
        *ask("SELECT 1", WHO),
    ),
    "clean: gone in a batch": Script(
        say(Parse("SET work_mem = '3MB'", "s1"), Bind((), "s1"), Execute(), FLUSH),
        connect(how="without a word"),
        *ask("SHOW work_mem", "EXECUTE s1"),
        say(Parse("INSERT INTO sink VALUES (1, 'lost')"), Bind(), Execute(), FLUSH),
        connect(),
        *ask("TABLE sink"),
    ),
    "clean: copies": Script(
        say(Query("COPY sink FROM STDIN"), CopyData("1\tone\n2\t"), CopyData("two\n"), CopyDone()),
        say(Query("COPY sink FROM STDIN"), CopyData("x\tbad\n"), CopyDone()),
        say(Query("COPY sink FROM STDIN"), CopyData("3\tthree\n"), CopyFail("changed my mind")),
        *ask("BEGIN", "SET LOCAL DateStyle = German"),
        say(Query("COPY sink FROM STDIN"), CopyData("4\tfour\n"), CopyDone()),
        *ask("COPY (SELECT * FROM sink ORDER BY n) TO STDOUT", "ROLLBACK"),
        *ask("SELECT * FROM sink ORDER BY n"),
    ),
    "clean: timeouts": Script(
        *ask("SET statement_timeout = '20ms'", "SELECT pg_sleep(60)", "SHOW statement_timeout"),
        *ask("BEGIN", "SELECT pg_sleep(60)", "ROLLBACK", "RESET statement_timeout"),
        *ask("BEGIN", "SET LOCAL statement_timeout = '20ms'", "COMMIT", "SELECT pg_sleep(0.1)"),
        *ask("SELECT pg_sleep(0.1)", "SHOW statement_timeout", client=1),
    ),
    "clean: notices are for the one who caused them": Script(
        *ask("SELECT complain('a')", "ROLLBACK", "SET client_min_messages = error", "ROLLBACK"),
        *ask("SELECT complain('b')", "COMMIT", client=1),
        *ask(
            "SELECT complain('unheard')",
            "RESET client_min_messages",
            "DROP TABLE IF EXISTS missing",
        ),
        *ask("DO $$ BEGIN RAISE NOTICE 'noted'; RAISE WARNING 'warned'; END $$"),
    ),
    "clean: what is written is seen": Script(
        *ask("INSERT INTO sink VALUES (1, 'a')", "TABLE sink"),
        *ask("SELECT * FROM sink", "INSERT INTO sink VALUES (2, 'b')", client=1),
        *ask("SELECT * FROM sink ORDER BY n", "BEGIN", "DELETE FROM sink"),
        *ask("SELECT * FROM sink ORDER BY n", client=1),
        *ask("COMMIT"),
        *ask("TABLE sink", client=1),
    ),
}

SCRIPTS: Final = PREPARED | SETTINGS | TRANSACTIONS | PINS | CLEAN
