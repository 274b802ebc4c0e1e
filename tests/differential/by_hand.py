"""Scripts for what must be known to be tried, by what they are about.

Names begin with the part of transaction pooling that they are about: prepared statements,
settings, pins, and that no connection carries one client's state to the next.
"""

from typing import Final

from tests.differential.script import (
    FLUSH,
    SYNC,
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
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
from tests.differential.vocabulary import CUSTOM, EVERY_SETTING, FORMATS, WHO

TEXT: Final = 25
INT4: Final = 23


def use(statement: str, *values: str | None, portal: str = "") -> tuple[Bind, Describe, Execute]:
    return Bind(values, statement, portal), Describe("P", portal), Execute(portal)


PREPARED: Final = {
    "prepared: one name, two clients, two texts": Script(
        say(Parse("SELECT 'of a', $1::int", "s1"), SYNC),
        say(Parse("SELECT 'of b', $1::text, 2", "s1"), Describe("S", "s1"), SYNC, client=1),
        say(*use("s1", "1"), SYNC),
        say(*use("s1", "x"), SYNC, client=1),
        say(Close("S", "s1"), SYNC),
        say(*use("s1", "1"), SYNC),
        say(*use("s1", "y"), SYNC, client=1),
    ),
    "prepared: one text, two names": Script(
        say(Parse("SELECT $1::int", "s1"), Parse("SELECT $1::int", "s2"), SYNC),
        say(Parse("SELECT $1::int", "s1"), SYNC),
        say(Parse("SELECT $1::int", "s2"), SYNC),
        say(Close("S", "s1"), SYNC),
        say(*use("s1", "1"), SYNC),
        say(*use("s2", "2"), SYNC),
        say(Close("S", "s1"), Close("S", "s2"), Close("S", "s2"), SYNC),
        say(*use("s2", "2"), SYNC),
    ),
    "prepared: one text, two types": Script(
        say(Parse("SELECT $1 AS it", "s1", (INT4,)), Describe("S", "s1"), SYNC),
        say(Parse("SELECT $1 AS it", "s2", (TEXT,)), Describe("S", "s2"), SYNC),
        say(Parse("SELECT $1 AS it", "s3"), Describe("S", "s3"), SYNC),
        say(*use("s1", "1"), *use("s2", "x"), *use("s3", "y"), SYNC),
        say(*use("s1", "x"), SYNC),
    ),
    "prepared: what fails to be prepared is not": Script(
        say(Parse("SELECT missing", "s1"), SYNC),
        say(*use("s1"), SYNC),
        say(Parse("SELECT 1/0", "s1"), *use("s1"), SYNC),
        say(*use("s1"), SYNC),
        say(Parse("SELECT 1", "s2"), Parse("SELEC", "s3"), Parse("SELECT 3", "s4"), SYNC),
        say(*use("s2"), SYNC),
        say(*use("s4"), SYNC),
    ),
    "prepared: rolled back, and there all the same": Script(
        *ask("BEGIN"),
        say(Parse("SELECT 1", "s1"), SYNC),
        *ask("PREPARE s2 AS SELECT 2", "ROLLBACK", "EXECUTE s2"),
        say(*use("s1"), SYNC),
        *ask("DEALLOCATE s1", "DEALLOCATE s2", "EXECUTE s1", "DEALLOCATE s2"),
    ),
    "prepared: the unnamed one": Script(
        say(Parse("SELECT 'kept', $1::int"), Describe("S"), SYNC),
        say(*use("", "1"), SYNC),
        say(*use("", "2"), SYNC),
        *ask("SELECT 'a simple query drops it'"),
        say(*use("", "3"), SYNC),
        say(Parse("SELECT 4"), Close("S"), SYNC),
        say(*use(""), SYNC),
        *(say(*run("SELECT 'again', $1::int", str(n)), SYNC) for n in range(3)),
    ),
    "prepared: in SQL, used by the protocol": Script(
        *ask("PREPARE s1 (int) AS SELECT $1 + 1 AS next"),
        say(Describe("S", "s1"), *use("s1", "1"), SYNC),
        say(Parse("SELECT 1", "s1"), SYNC),
        say(Close("S", "s1"), SYNC),
        *ask("EXECUTE s1 (1)"),
    ),
    "prepared: by the protocol, used in SQL": Script(
        say(Parse("SELECT $1::int + 1 AS next", "s1"), SYNC),
        *ask("EXECUTE s1 (1)", "EXPLAIN (COSTS OFF) EXECUTE s1 (2)", "PREPARE s1 AS SELECT 1"),
        *ask("CREATE TEMP TABLE made AS EXECUTE s1 (3)", "TABLE made", "DROP TABLE made"),
        *ask("DEALLOCATE s1"),
        say(*use("s1", "4"), SYNC),
        *ask("EXECUTE s1 (5)", "DEALLOCATE s1"),
    ),
    "prepared: DEALLOCATE ALL and DISCARD": Script(
        say(Parse("SELECT 1", "s1"), Parse("SELECT 2", "s2"), SYNC),
        *ask("PREPARE s3 AS SELECT 3", "DISCARD PLANS", "EXECUTE s3", "DEALLOCATE ALL"),
        say(*use("s1"), SYNC),
        *ask("EXECUTE s3"),
        say(Parse("SELECT 1", "s1"), *use("s1"), SYNC),
        *ask("DISCARD ALL"),
        say(*use("s1"), SYNC),
        *ask("BEGIN", "DISCARD ALL", "ROLLBACK"),
    ),
    "prepared: in a query of several statements": Script(
        *ask("PREPARE s1 AS SELECT 1; EXECUTE s1; DEALLOCATE s1; EXECUTE s1"),
        *ask("PREPARE s1 AS SELECT 1; PREPARE s1 AS SELECT 2", "EXECUTE s1", "DEALLOCATE ALL"),
        *ask("PREPARE s2 AS SELECT 2; SELECT 1/0", "EXECUTE s2", "EXECUTE s2; EXECUTE s2"),
        *ask("BEGIN; PREPARE s4 AS SELECT 4; EXECUTE s4; COMMIT; EXECUTE s4; DEALLOCATE s4"),
    ),
    "prepared: PREPARE in the extended protocol": Script(
        say(*run("PREPARE s1 (text) AS SELECT $1 || '!'"), SYNC),
        say(*run("EXECUTE s1 ('x')"), SYNC),
        say(Parse("EXECUTE s1 ('named')", "e1"), *use("e1"), SYNC),
        say(*use("e1"), SYNC),
        say(*run("DEALLOCATE s1"), *run("EXECUTE s1 ('y')"), SYNC),
        say(*use("e1"), SYNC),
    ),
    "prepared: names that need quotes": Script(
        *ask('PREPARE "S 3" AS SELECT 3', 'EXECUTE "S 3"', "EXECUTE s3", 'DEALLOCATE "S 3"'),
        *ask('PREPARE "sübstanz" AS SELECT 1', 'EXECUTE "sübstanz"', 'DEALLOCATE "sübstanz"'),
        *ask("PREPARE S1 AS SELECT 1", "EXECUTE s1", 'EXECUTE "S1"', "DEALLOCATE s1"),
        say(Parse("SELECT 1", 'a "quoted" name'), *use('a "quoted" name'), SYNC),
        *ask('EXECUTE "a ""quoted"" name"', 'DEALLOCATE "a ""quoted"" name"'),
    ),
    "prepared: types, and values that do not fit": Script(
        *ask("PREPARE s1 (int, text) AS SELECT $1, $2", "EXECUTE s1 (1, 'x')", "EXECUTE s1 (1)"),
        *ask(
            "EXECUTE s1 ('x', 'y')",
            "EXECUTE s1 (1, 2, 3)",
            "EXECUTE s1 (NULL, now()::date - now()::date)",
        ),
        *ask("PREPARE s2 AS SELECT $1", "EXECUTE s2 ('unknown')", "EXECUTE s2 (1 + 1)"),
        *ask("PREPARE s3 (no_such_type) AS SELECT 1", "EXECUTE s3", "DEALLOCATE ALL"),
    ),
    "prepared: plans see the settings of the moment": Script(
        say(Parse("SELECT place, current_setting('app.user', true) FROM place", "s1"), SYNC),
        say(*use("s1"), SYNC),
        *ask("SET search_path = two", "SELECT set_config('app.user', 'alice', false)"),
        say(*use("s1"), SYNC),
        *ask("BEGIN", "SET LOCAL search_path = one"),
        say(*use("s1"), SYNC),
        *ask("ROLLBACK"),
        say(*use("s1"), SYNC),
    ),
    "prepared: a changed table": Script(
        *ask("CREATE TABLE changing (n int)", "INSERT INTO changing VALUES (1)"),
        say(Parse("SELECT * FROM changing", "s1"), Describe("S", "s1"), SYNC),
        say(*use("s1"), SYNC),
        *ask("ALTER TABLE changing ADD COLUMN t text DEFAULT 'new'"),
        say(*run("SELECT * FROM changing"), SYNC),
        say(Parse("SELECT * FROM changing", "s2"), *use("s2"), SYNC),
        *ask("DROP TABLE changing"),
        say(*use("s2"), SYNC),
        say(Parse("SELECT * FROM changing", "s3"), SYNC),
    ),
    "prepared: many": Script(
        say(*(Parse(f"SELECT {n}", f"n{n}") for n in range(300)), SYNC),
        say(*(message for n in range(0, 300, 7) for message in use(f"n{n}")), SYNC),
        say(*use("n0"), *use("n299"), SYNC),
    ),
    "prepared: pipelined, with an error": Script(
        say(
            *(Parse("SELECT 1", "s1"), SYNC),
            *(Parse("SELECT 1/0", "s2"), *use("s2"), Parse("SELECT 3", "s3"), SYNC),
            *(*use("s1"), SYNC),
            *(*use("s3"), SYNC),
            *(Close("S", "s1"), Parse("SELECT 'new'", "s1"), *use("s1"), SYNC),
        ),
        say(*use("s1"), SYNC),
    ),
    "prepared: portals": Script(
        *ask("BEGIN"),
        say(
            Parse("SELECT g FROM generate_series(1, 5) g"),
            Bind(portal="p1"),
            Execute("p1", 2),
            SYNC,
        ),
        say(Execute("p1", 2), SYNC),
        say(Bind(portal="p2"), Execute("p2", 1), Execute("p1"), Close("P", "p2"), SYNC),
        say(Execute("p2"), SYNC),
        *ask("ROLLBACK"),
        say(Execute("p1"), SYNC),
    ),
    "prepared: flushed": Script(
        say(Parse("SELECT $1::int", "s1"), Describe("S", "s1"), FLUSH),
        say(Bind(("1",), "s1"), Execute(), FLUSH),
        say(Bind(("x",), "s1"), Execute(), FLUSH),
        say(Bind(("2",), "s1"), FLUSH),
        say(SYNC),
        say(*use("s1", "3"), SYNC),
    ),
}

SETTINGS: Final = {
    "settings: rolled back with transaction and savepoint": Script(
        *ask("SET work_mem = '1MB'", "BEGIN", "SET work_mem = '2MB'", "SAVEPOINT a"),
        *ask("SET work_mem = '3MB'", "SET LOCAL TimeZone = 'Asia/Tokyo'", "SAVEPOINT b"),
        *ask("SET LOCAL work_mem = '4MB'", "RESET TimeZone", "RELEASE b", "SHOW work_mem"),
        *ask("ROLLBACK TO a", "SHOW work_mem", "SHOW TimeZone", "SET LOCAL work_mem = '5MB'"),
        *ask("SHOW work_mem", "COMMIT", "SHOW work_mem", "SHOW TimeZone"),
    ),
    "settings: SET after SET LOCAL, and before": Script(
        *ask(
            "BEGIN", "SET LOCAL work_mem = '2MB'", "SET work_mem = '3MB'", "COMMIT", "SHOW work_mem"
        ),
        *ask("BEGIN", "SET work_mem = '4MB'", "SET LOCAL work_mem = '5MB'", "SHOW work_mem"),
        *ask("COMMIT", "SHOW work_mem"),
        *ask("BEGIN", "SET LOCAL work_mem = '6MB'", "RESET work_mem", "COMMIT", "SHOW work_mem"),
        *ask("SET LOCAL work_mem = '7MB'", "SHOW work_mem"),
    ),
    "settings: an error takes all of a query back": Script(
        *ask("SET TimeZone = 'Asia/Tokyo'; SELECT 1/0", "SHOW TimeZone"),
        *ask("SET TimeZone = 'Asia/Tokyo'; COMMIT; SET work_mem = '3MB'; SELECT 1/0"),
        *ask("SHOW TimeZone; SHOW work_mem"),
        *ask("BEGIN; SET TimeZone = 'UTC'; SELECT 1/0", "ROLLBACK", "SHOW TimeZone"),
        *ask("BEGIN; SET work_mem = '9MB'; COMMIT; SELECT 1/0", "SHOW work_mem"),
    ),
    "settings: in a pipeline": Script(
        say(
            *run("SET work_mem = '3MB'"),
            SYNC,
            *run("SELECT 1/0"),
            SYNC,
            *run("SHOW work_mem"),
            SYNC,
        ),
        say(*run("SET work_mem = '4MB'"), *run("SELECT 1/0"), SYNC, *run("SHOW work_mem"), SYNC),
        say(
            *run("SET LOCAL work_mem = '5MB'"),
            *run("SHOW work_mem"),
            SYNC,
            *run("SHOW work_mem"),
            SYNC,
        ),
        say(*run("BEGIN"), *run("SET TimeZone = 'Asia/Tokyo'"), SYNC, *run("ROLLBACK"), SYNC),
        say(Query("SET work_mem = '6MB'"), Query("SHOW work_mem"), Query("RESET work_mem")),
        *ask("SHOW work_mem", "SHOW TimeZone"),
    ),
    "settings: chained transactions": Script(
        *ask("BEGIN ISOLATION LEVEL REPEATABLE READ", "SET work_mem = '3MB'", "COMMIT AND CHAIN"),
        *ask("SHOW transaction_isolation", "SET work_mem = '4MB'", "ROLLBACK AND CHAIN"),
        *ask("SHOW work_mem", "SELECT 1/0", "COMMIT AND CHAIN", "SHOW work_mem", "COMMIT"),
        *ask("SHOW transaction_isolation"),
    ),
    "settings: custom ones": Script(
        *ask(CUSTOM, "SHOW app.tenant", "SELECT current_setting('app.of_a')"),
        *ask("BEGIN", "SET LOCAL app.of_a = 'x'", CUSTOM, "COMMIT", CUSTOM),
        *ask("SELECT set_config('app.user', 'alice', false)", CUSTOM),
        *ask("SELECT set_config('app.user', NULL, false)", CUSTOM, 'RESET app."user"', CUSTOM),
        *ask("RESET ALL", CUSTOM, "SET app.tenant = 'mine'", "RESET app.tenant", CUSTOM),
        *ask("SET nothing = 1", 'SET "app.with space" = 1', "SET app. = 1", "RESET app.unheard_of"),
        *ask("SHOW app.unheard_of", "DISCARD ALL", CUSTOM),
    ),
    "settings: custom ones never set here": Script(*ask(CUSTOM), *ask(CUSTOM, client=1)),
    "settings: set_config by parameter": Script(
        say(Parse("SELECT set_config($1, $2, $3)", "s1"), SYNC),
        say(*use("s1", "app.user", "alice", "false"), SYNC),
        *ask("SELECT body FROM secrets ORDER BY id", "SET ROLE diff_reader"),
        *ask("SELECT body FROM secrets ORDER BY id"),
        say(*use("s1", "app.user", "bob", "t"), *run("SELECT body FROM secrets ORDER BY id"), SYNC),
        *ask("SELECT body FROM secrets ORDER BY id", "BEGIN"),
        say(*use("s1", "app.user", "bob", "t"), SYNC),
        *ask("SELECT body FROM secrets ORDER BY id", "ROLLBACK"),
        *ask("SELECT body FROM secrets ORDER BY id"),
        say(*use("s1", "work_mem", "lots", "f"), SYNC),
        say(*use("s1", None, "x", "f"), SYNC),
    ),
    "settings: set_config where it is computed": Script(
        *ask("SELECT set_config('app.user', lower('ALICE'), length('x') = 2)", CUSTOM),
        *ask(
            "SELECT set_config('app.' || name, 'x', false) FROM (VALUES ('user'), ('of_a')) v (name)"
        ),
        *ask(
            CUSTOM, "SELECT CASE WHEN false THEN set_config('app.user', 'never', false) END", CUSTOM
        ),
        *ask("SELECT set_config('app.user', 'no row', false) FROM items WHERE false", CUSTOM),
        *ask(
            "WITH w AS (SELECT set_config('app.user', 'in a CTE', false)) SELECT * FROM w", CUSTOM
        ),
        *ask("SELECT set_config('app.user', 'lost', false), 1/0", CUSTOM),
        *ask("INSERT INTO sink SELECT 1, set_config('app.user', 'inserted', false)", CUSTOM),
    ),
    "settings: values as they are shown": Script(
        *ask("SET work_mem = 2048", "SHOW work_mem", "SET work_mem TO '0.5GB'", "SHOW work_mem"),
        *ask("SET statement_timeout = 61000", "SHOW statement_timeout", "SET enable_seqscan = 0"),
        *ask("SHOW enable_seqscan", "SET enable_seqscan TO 'no'", "SHOW enable_seqscan"),
        *ask("SET DateStyle = german", "SHOW DateStyle", "SET DateStyle = 'MDY'", "SHOW datestyle"),
        *ask("SET search_path = a, \"B\", 'c d', pg_catalog", "SHOW search_path"),
        *ask("SET application_name = 'it''s \"quoted\" \\ ünd'", "SHOW application_name"),
        *ask("SET application_name = U&'\\0061'", "SHOW application_name", "SET work_mem = 64.0"),
        *ask("SET extra_float_digits = -15; SELECT 0.1::float8 / 3", "SHOW extra_float_digits"),
        *ask(
            "SET random_page_cost = 1e0",
            "SHOW random_page_cost",
            "SET geqo_seed = .5",
            "SHOW geqo_seed",
        ),
    ),
    "settings: time zones": Script(
        *ask("SET TIME ZONE 'Asia/Tokyo'", FORMATS, "SET TIME ZONE 5", FORMATS, "SHOW TIME ZONE"),
        *ask("SET TIME ZONE INTERVAL '+05:30' HOUR TO MINUTE", FORMATS, "SHOW TimeZone"),
        *ask("SET TIME ZONE 'utc'", "SHOW timezone", "SET TIME ZONE LOCAL", FORMATS),
        *ask("SET TIME ZONE '<+03>-03'", FORMATS, "SET TIME ZONE DEFAULT", FORMATS),
    ),
    "settings: ParameterStatus when its value changes, and only then": Script(
        *ask("SET DateStyle = 'German'", "SET DateStyle = 'German'", "SET work_mem = '3MB'"),
        *ask("SELECT 1", "BEGIN", "SET application_name = 'x'", "SET TimeZone = 'UTC'"),
        *ask(
            "SET TimeZone = 'Asia/Tokyo'", "ROLLBACK", "SET TimeZone = 'UTC'; SET TimeZone = 'CET'"
        ),
        *ask(
            "BEGIN; SET LOCAL IntervalStyle = iso_8601; COMMIT",
            "SET search_path = two",
            "RESET ALL",
        ),
        *ask(
            "SET client_encoding = 'LATIN1'", "SELECT 'ü'", "SET standard_conforming_strings = off"
        ),
        *ask(
            "SELECT 'a\\\\b'", "SET SESSION AUTHORIZATION diff_app", "RESET SESSION AUTHORIZATION"
        ),
        *ask("SET ROLE diff_reader", "RESET ROLE", "SET default_transaction_read_only = on"),
        *ask("DISCARD ALL", "SELECT 1"),
        *ask("SELECT 1", client=1),
    ),
    "settings: roles": Script(
        connect("diff_app"),
        *ask(WHO, "SELECT body FROM secrets ORDER BY id", "SET ROLE diff_writer", WHO),
        *ask("SELECT body FROM secrets ORDER BY id", "BEGIN", "SET LOCAL ROLE diff_reader", WHO),
        *ask("SELECT body FROM secrets", "SAVEPOINT a", "SET ROLE NONE", WHO, "ROLLBACK TO a", WHO),
        *ask("COMMIT", WHO, "SET ROLE diff_super", WHO, "SET SESSION AUTHORIZATION diff_tuned"),
        *ask("SET zero_damaged_pages = on", "RESET ROLE", WHO, "SET ROLE NONE", "SET ROLE nobody"),
    ),
    "settings: session authorization": Script(
        *ask(WHO, "SET SESSION AUTHORIZATION diff_app", WHO, "SELECT body FROM secrets"),
        *ask(
            "SET ROLE diff_writer",
            WHO,
            "SET SESSION AUTHORIZATION diff_tuned",
            WHO,
            "SHOW TimeZone",
        ),
        *ask("BEGIN", "SET LOCAL SESSION AUTHORIZATION diff_super", WHO, "ROLLBACK", WHO),
        *ask("RESET SESSION AUTHORIZATION", WHO, "DROP TABLE IF EXISTS no_such_table"),
        *ask("SET ROLE diff_app; SET SESSION AUTHORIZATION DEFAULT", WHO),
    ),
    "settings: row level security on every backend": Script(
        connect("diff_app"),
        *ask("SELECT set_config('app.user', 'alice', false)"),
        *ask(*["SELECT body FROM secrets ORDER BY id"] * 4),
        connect("diff_app", client=1),
        *ask("SELECT set_config('app.user', 'bob', false)", client=1),
        *ask(*["SELECT body FROM secrets ORDER BY id"] * 4, client=1),
        *ask(*["SELECT body FROM secrets ORDER BY id"] * 2),
        *ask("SET row_security = off", "SELECT body FROM secrets", "SET row_security = on"),
        *ask("SELECT body FROM secrets", "SET ROLE diff_writer"),
        *ask(*["SELECT body FROM secrets ORDER BY id"] * 3),
    ),
    "settings: of a role, a database, and the start": Script(
        connect("diff_tuned"),
        *ask(CUSTOM, FORMATS, "SHOW search_path", "SELECT place FROM place"),
        *ask("SET TimeZone = 'UTC'", "RESET TimeZone", "SHOW TimeZone", "RESET ALL", CUSTOM),
        connect("diff_tuned", TimeZone="UTC", options="-c search_path=one -c app.user=started"),
        *ask(CUSTOM, FORMATS, "SELECT place FROM place", "SET TimeZone = 'CET'", "RESET TimeZone"),
        *ask("SHOW TimeZone", "SET search_path = two", "DISCARD ALL", "SHOW search_path", CUSTOM),
        connect("diff_app", options="-c role=diff_writer -c DateStyle=SQL,DMY"),
        *ask(WHO, FORMATS, "SET ROLE diff_reader", "RESET ROLE", WHO, "RESET ALL", WHO),
    ),
    "settings: start-up parameters that PostgreSQL refuses": Script(
        connect(options="-c no_such_setting=1"),
        connect(options="-c work_mem=lots"),
        connect("diff_app", options="-c session_replication_role=replica"),
        connect("diff_app", options="-c role=diff_super"),
        connect(TimeZone="Nowhere"),
        connect(options="-c app.user=alice"),
        *ask(CUSTOM),
    ),
    "settings: of transactions": Script(
        *ask("BEGIN", "SET TRANSACTION READ ONLY", "INSERT INTO sink VALUES (1)", "ROLLBACK"),
        *ask("BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"),
        *ask("SHOW transaction_isolation", "SHOW transaction_deferrable", "COMMIT"),
        *ask("SET TRANSACTION READ ONLY", "SHOW transaction_read_only"),
        *ask(
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
        ),
        *ask("SHOW transaction_isolation", "INSERT INTO sink VALUES (1)", "BEGIN READ WRITE"),
        *ask("INSERT INTO sink VALUES (2)", "SELECT 1", "SET TRANSACTION READ ONLY", "COMMIT"),
        *ask("BEGIN", "SELECT 1", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK"),
        *ask(
            "SET default_transaction_read_only = off", "INSERT INTO sink VALUES (3)", "TABLE sink"
        ),
        *ask(
            "RESET ALL", "SHOW transaction_isolation", "SET transaction_isolation = 'serializable'"
        ),
    ),
    "settings: of two clients in turn": Script(
        *ask("SET TimeZone = 'Asia/Tokyo'; SET app.of_a = 'a'; SET work_mem = '3MB'"),
        *ask(FORMATS, CUSTOM, EVERY_SETTING, client=1),
        *ask("SET TimeZone = 'CET'; SET ROLE diff_reader; SET bytea_output = escape", client=1),
        *ask(FORMATS, CUSTOM, WHO, EVERY_SETTING),
        *ask("BEGIN", "SET LOCAL work_mem = '9MB'"),
        *ask(EVERY_SETTING, WHO, client=1),
        *ask("RESET ALL", EVERY_SETTING, client=1),
        *ask(EVERY_SETTING, "COMMIT", EVERY_SETTING),
        *ask(WHO, client=1),
    ),
    "settings: after a disconnect": Script(
        *ask("SET TimeZone = 'Asia/Tokyo'", "SET ROLE diff_reader", "SET app.of_a = 'left'"),
        connect(how="without a word"),
        *ask(EVERY_SETTING, CUSTOM, WHO),
        *ask("BEGIN", "SET work_mem = '3MB'"),
        connect("diff_app"),
        *ask(EVERY_SETTING, CUSTOM, WHO),
    ),
    "settings: other words for SET": Script(
        *ask(
            "SET SCHEMA 'two'",
            "SELECT place FROM place",
            "SET NAMES 'LATIN1'",
            "SHOW client_encoding",
        ),
        *ask("SET NAMES DEFAULT", "SET XML OPTION DOCUMENT", "SHOW xmloption", "SET SEED TO 0.5"),
        *ask("SET work_mem FROM CURRENT", "SET LOCAL search_path FROM CURRENT"),
        *ask("UPDATE pg_settings SET setting = '7MB' WHERE name = 'work_mem'", "SHOW work_mem"),
        *ask("/* a comment */ set /* another */ work_mem -- and\n = '8MB' ;", "SHOW work_mem;;"),
        *ask("SET \"TimeZone\" = 'CET'", 'SHOW "timezone"', "RESET timezone; SHOW TIME ZONE"),
    ),
}

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
        *ask("DISCARD TEMP", "TABLE t3", "SELECT pg_temp.f()", "SELECT nextval('q')"),
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

SCRIPTS: Final = PREPARED | SETTINGS | PINS | CLEAN
