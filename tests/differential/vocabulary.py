"""The statements of which scripts are made.

Left out is what differs between two connections to PostgreSQL itself, what tells a standby from a
primary, and what may wait for the other client of the script: a script is played step by step.
"""

from typing import Final

# Values as they are written after SET name =, and each also as set_config() takes it.
SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "application_name": ("'one'", "'two words'", "''", "plain"),
    "array_nulls": ("off", "on"),
    "bytea_output": ("escape", "hex"),
    "client_encoding": ("'LATIN1'", "'UTF8'", "utf8"),
    "client_min_messages": ("warning", "error", "notice"),
    "DateStyle": ("German", "'SQL, DMY'", "ISO, YMD", "'Postgres'"),
    "default_transaction_isolation": ("'repeatable read'", "'read committed'", "serializable"),
    "default_transaction_read_only": ("on", "off"),
    "enable_seqscan": ("off", "on"),
    "escape_string_warning": ("off", "on"),
    "extra_float_digits": ("0", "-3", "'1'"),
    "IntervalStyle": ("sql_standard", "'iso_8601'", "postgres_verbose"),
    "lock_timeout": ("'1h'", "3600001"),
    "plan_cache_mode": ("force_generic_plan", "force_custom_plan", "auto"),
    "quote_all_identifiers": ("on", "off"),
    "row_security": ("off", "on"),
    "search_path": ("one", "two, public", "'one', \"two\"", '"$user", two', "''", "nowhere, one"),
    "standard_conforming_strings": ("off", "on"),
    "statement_timeout": ("'1h'", "'90min'", "0"),
    "synchronous_commit": ("local", "on"),
    "TimeZone": ("'Europe/Berlin'", "'Asia/Tokyo'", "UTC", "'<+03>-03'", "-7.5"),
    "transform_null_equals": ("on", "off"),
    "work_mem": ("'3MB'", "5000", "'1GB'"),
    "xmloption": ("document", "content"),
    'app."user"': ("'alice'", "'bob'", "''", "alice"),
    "app.tenant": ("'t1'", "t2", "42"),
    "app.of_@me": ("'mine'",),
}

# What PostgreSQL refuses.
WRONG_SETTINGS: Final = (
    ("work_mem", "'much'"),
    ("TimeZone", "'Nowhere/At_all'"),
    ("no_such_setting", "1"),
    ("DateStyle", "'never'"),
    ("client_encoding", "'EBCDIC'"),
    ("server_version", "'1'"),
    ("max_connections", "7"),
    ("work_mem", "1"),
    ("role", "'nobody_known'"),
)

# Settings in other words, and everything else that changes the session.
SESSION: Final = (
    "RESET ALL",
    "RESET ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET TIME ZONE -3",
    "SET TIME ZONE LOCAL",
    "SET TIME ZONE DEFAULT",
    "SET TIME ZONE INTERVAL '+05:30' HOUR TO MINUTE",
    "SET LOCAL TIME ZONE 'Europe/Berlin'",
    "RESET TIME ZONE",
    "SET NAMES 'LATIN1'",
    "SET NAMES DEFAULT",
    "SET SCHEMA 'two'",
    "SET search_path TO DEFAULT",
    "SET XML OPTION DOCUMENT",
    "SET ROLE diff_reader",
    "SET ROLE 'diff_writer'",
    "SET SESSION ROLE diff_reader",
    "SET LOCAL ROLE diff_writer",
    "SET ROLE NONE",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION diff_app",
    "SET LOCAL SESSION AUTHORIZATION 'diff_tuned'",
    "SET SESSION AUTHORIZATION DEFAULT",
    "RESET SESSION AUTHORIZATION",
    "SET TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET TRANSACTION READ WRITE, ISOLATION LEVEL READ COMMITTED",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET transaction_read_only = on",
    "SET CONSTRAINTS ALL DEFERRED",
    "SELECT set_config('app.user', app_user, false) FROM secrets WHERE id = 1",
    "SELECT set_config('app.user', 'alice', false), set_config('app.tenant', 'both', true)",
    "SELECT set_config('work_mem', NULL, false)",
    "UPDATE pg_settings SET setting = '7MB' WHERE name = 'work_mem'",
)

TRANSACTIONS: Final = (
    "BEGIN",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK",
    "START TRANSACTION",
    "BEGIN READ ONLY",
    "BEGIN READ WRITE",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
    "END",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "COMMIT AND NO CHAIN",
    "SAVEPOINT a",
    "SAVEPOINT a",
    "SAVEPOINT b",
    "ROLLBACK TO a",
    "ROLLBACK TO SAVEPOINT a",
    "ROLLBACK TO b",
    "RELEASE a",
    "RELEASE SAVEPOINT b",
    "PREPARE TRANSACTION 'x'",
)

BEGINS: Final = (
    "BEGIN",
    "START TRANSACTION READ WRITE",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "BEGIN -- comment",
    "BEGIN ISOLATION LEVEL READ UNCOMMITTED, READ WRITE, DEFERRABLE",
    "BEGIN READ ONLY",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
)

READS: Final = (
    "SELECT id, owner, v FROM items ORDER BY id",
    "SELECT * FROM sink ORDER BY n, s",
    "SELECT count(*) FROM items WHERE owner = '@me'",
    "SELECT place FROM place",
    "SELECT body FROM secrets ORDER BY id",
    "SELECT now() = transaction_timestamp()",
    "EXPLAIN (COSTS OFF) SELECT id FROM items WHERE id = 1",
    "COPY (SELECT id FROM items ORDER BY id) TO STDOUT",
)

SAVEPOINTS: Final = (
    "SAVEPOINT a",
    "SAVEPOINT a",
    "SAVEPOINT b",
    'SAVEPOINT "A""b"',
    "RELEASE a",
    "RELEASE b",
    "ROLLBACK TO a",
    "ROLLBACK TO a",
    "ROLLBACK TO b",
    'ROLLBACK TO "A""b"',
)

MODES: Final = (
    "SET TRANSACTION READ ONLY",
    "SET TRANSACTION READ WRITE",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET TRANSACTION NOT DEFERRABLE, ISOLATION LEVEL READ COMMITTED",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "SET LOCAL transaction_isolation = 'read committed'",
    "SET default_transaction_read_only = on",
    "SET default_transaction_read_only = off",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
)

ERRORS: Final = (
    "SELECT 1/0",
    "SELECT 1/0",
    "SELEC 1",
    "SELECT 1 FROM missing",
    "SELECT missing FROM items",
    "SELECT 'x'::int",
    "SELECT missing(1)",
    "INSERT INTO items VALUES (1, '@me', 1)",
    "UPDATE items SET v = 1000 WHERE owner = '@me'",
    "SELECT (SELECT v FROM items)",
    "DO $$ BEGIN RAISE EXCEPTION 'raised' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'P0042'; END $$",
)

SQL_PREPARED: Final = (
    "PREPARE s1 AS SELECT 1 AS one",
    "PREPARE s1 (int) AS SELECT $1 + 1",
    "PREPARE s1 AS SELECT place FROM place",
    "PREPARE s2 (text) AS SELECT $1 || current_setting('app.user', true)",
    "PREPARE s2 AS UPDATE items SET v = v + 1 WHERE owner = '@me' RETURNING id, v",
    "PREPARE s2 AS SELECT '2024-02-29 12:00+00'::timestamptz, body FROM secrets ORDER BY id",
    "PREPARE s3 AS SELECT no_such_column",
    'PREPARE "S 3" AS SELECT 3',
    "EXECUTE s1",
    "EXECUTE s1",
    "EXECUTE s1 (41)",
    "EXECUTE s1(1/0)",
    "EXECUTE s2",
    "EXECUTE s2 ('x')",
    'EXECUTE "S 3"',
    "EXECUTE s3",
    "DEALLOCATE s1",
    "DEALLOCATE PREPARE s2",
    'DEALLOCATE "S 3"',
    "DEALLOCATE ALL",
    "DEALLOCATE ALL",
    "EXPLAIN (COSTS OFF) EXECUTE s1",
    "EXPLAIN (COSTS OFF) EXECUTE s1 (1)",
    "CREATE TEMP TABLE t1 AS EXECUTE s1",
    "DISCARD PLANS",
    "DISCARD ALL",
)

TEMPORARY: Final = (
    "CREATE TEMP TABLE t1 (n int)",
    "CREATE TEMP TABLE t1 (n int) ON COMMIT DROP",
    "CREATE TEMP TABLE t1 (n int) ON COMMIT DELETE ROWS",
    "CREATE TEMP TABLE IF NOT EXISTS t1 AS SELECT 1 AS n",
    "SELECT id AS n INTO TEMP t1 FROM items",
    "CREATE TEMP VIEW t1 AS SELECT 1 AS n",
    "CREATE TEMP TABLE items (id int)",
    "INSERT INTO t1 VALUES (1), (2)",
    "SELECT * FROM t1 ORDER BY n",
    "SELECT * FROM items ORDER BY 1",
    "SELECT to_regclass('pg_temp.t1'), to_regclass('pg_temp.items')",
    "DROP TABLE t1",
    "DROP TABLE IF EXISTS t1",
    "DROP VIEW IF EXISTS t1",
    "DROP TABLE IF EXISTS pg_temp.items",
    "DISCARD TEMP",
)

CURSORS: Final = (
    "DECLARE c1 CURSOR FOR SELECT id FROM items ORDER BY id",
    "DECLARE c1 CURSOR WITH HOLD FOR SELECT id FROM items ORDER BY id",
    "DECLARE c2 SCROLL CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 5) g",
    "FETCH 2 FROM c1",
    "FETCH NEXT FROM c1",
    "FETCH BACKWARD 1 FROM c2",
    "FETCH ALL FROM c2",
    "MOVE 1 IN c1",
    "CLOSE c1",
    "CLOSE c2",
    "CLOSE ALL",
    "SELECT name, statement, is_holdable, is_scrollable FROM pg_cursors ORDER BY name",
)

LOCKS: Final = (
    "SELECT pg_try_advisory_lock(@lock1)",
    "SELECT pg_try_advisory_lock(@lock2)",
    "SELECT pg_try_advisory_lock_shared(@lock1)",
    "SELECT pg_try_advisory_xact_lock(@lock1)",
    "SELECT pg_advisory_unlock(@lock1)",
    "SELECT pg_advisory_unlock(@lock2)",
    "SELECT pg_advisory_unlock_shared(@lock1)",
    "SELECT pg_advisory_unlock_all()",
)

BLOCKS: Final = (
    "DO $$ BEGIN RAISE NOTICE 'noticed %', current_setting('work_mem'); END $$",
    "DO $$ BEGIN PERFORM set_config('app.user', 'bob', false); END $$",
    "DO $$ BEGIN PERFORM set_config('app.tenant', 'local', true); END $$",
    "DO $$ BEGIN SET work_mem = '9MB'; END $$",
    "DO $$ BEGIN SET LOCAL TimeZone = 'Asia/Tokyo'; END $$",
    "DO $$ BEGIN BEGIN PERFORM set_config('app.user', 'lost', false); PERFORM 1/0;"
    " EXCEPTION WHEN division_by_zero THEN RAISE NOTICE 'caught: %', SQLERRM; END; END $$",
    "DO $$ BEGIN PERFORM set_config('app.user', 'kept', false); COMMIT;"
    " PERFORM set_config('app.user', 'undone', false); ROLLBACK; END $$",
    "DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE t1 (n int)'; END $$",
    "DO $$ BEGIN INSERT INTO sink VALUES (1, current_user); END $$",
    "SELECT complain('aloud')",
)

DATA: Final = (
    "INSERT INTO items VALUES (nextval('ids'), '@me', 1)",
    "INSERT INTO items VALUES (nextval('ids'), '@me', 2) RETURNING id",
    "UPDATE items SET v = v + 1 WHERE owner = '@me'",
    "DELETE FROM items WHERE owner = '@me' AND id > 3",
    "INSERT INTO sink VALUES (1, current_setting('app.user', true)), (2, current_user)",
    "SELECT id, owner, v FROM items ORDER BY id",
    "SELECT * FROM sink ORDER BY n, s",
    "SELECT currval('ids')",
    "SELECT lastval()",
    "SELECT nextval('ids')",
    "SELECT v FROM items WHERE owner = '@me' ORDER BY id FOR UPDATE",
    "VALUES (1, 'one'), (2, NULL)",
    "TABLE sink",
    "SELECT 'two words', E'back\\\\slash', 'ü'",
    "COPY (SELECT '2024-02-29 12:00+00'::timestamptz) TO STDOUT",
    "",
)

# What shows a difference. The first three are asked most.
EVERY_SETTING: Final = """SELECT name, setting FROM pg_settings WHERE context IN ('user', 'superuser')
 AND setting IS DISTINCT FROM boot_val AND name NOT LIKE 'transaction%' AND name NOT LIKE 'log%'
 ORDER BY name"""
CUSTOM: Final = """SELECT current_setting('app.user', true), current_setting('app.tenant', true),
 current_setting('app.of_@me', true), current_setting('app.never', true)"""
WHO: Final = "SELECT current_user, session_user, current_schemas(false)"
FORMATS: Final = r"""SELECT '2024-02-29 12:34:56+00'::timestamptz, '1 day 2 hours'::interval,
 decode('00ff', 'hex'), 0.1::float8 + 0.2::float8, '{NULL}'::text[], NULL = NULL"""
PREPARED: Final = """SELECT name, parameter_types, result_types
 FROM pg_prepared_statements WHERE from_sql ORDER BY name"""

OBSERVATIONS: Final = (
    EVERY_SETTING,
    CUSTOM,
    WHO,
    FORMATS,
    "SELECT id, body FROM secrets ORDER BY id",
    "SELECT place FROM place",
    "SHOW search_path",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    'SHOW app."user"',
    "SHOW app.tenant",
    "SELECT current_setting('app.of_@me')",
    "SELECT current_setting('role'), current_setting('is_superuser')",
    "SELECT 'a\\'",
)

# For the protocol's Parse, with values that fit, or do not.
PLANS: Final[tuple[tuple[str, tuple[str | None, ...]], ...]] = (
    ("SELECT $1::int + 1 AS next", ("41",)),
    ("SELECT $1::int + 1 AS next", ("no number",)),
    ("SELECT 1 / $1::int", ("0",)),
    ("SELECT current_setting('app.user', true), $1::text", ("x",)),
    ("SELECT current_setting($1, true)", ("app.user",)),
    ("SELECT current_setting($1, true)", ("app.of_@me",)),
    ("SELECT set_config($1, $2, $3)", ("app.user", "alice", "f")),
    ("SELECT set_config($1, $2, $3)", ("app.user", "bob", "t")),
    ("SELECT set_config($1, $2, $3)", ("TimeZone", "Asia/Tokyo", "f")),
    ("SELECT set_config($1, $2, $3)", ("role", "diff_reader", "f")),
    ("SELECT set_config('app.tenant', $1, false)", ("by parameter",)),
    ("SELECT set_config('app.tenant', $1, true)", (None,)),
    ("SELECT place FROM place", ()),
    ("SELECT body FROM secrets ORDER BY id", ()),
    ("SELECT '2024-02-29 12:00+00'::timestamptz", ()),
    ("SELECT id FROM items WHERE id < $1 ORDER BY id", ("4",)),
    ("UPDATE items SET v = v + $1 WHERE owner = '@me' RETURNING v", ("1",)),
    ("INSERT INTO sink VALUES ($1, $2)", ("7", None)),
    ("SELECT * FROM t1 ORDER BY n", ()),
    ("SHOW work_mem", ()),
    ("SELECT $1::int + 1 AS next", ()),
    ("SELEC", ()),
    ("", ()),
)

# Start-up parameters.
PARAMETERS: Final[tuple[tuple[str, str], ...]] = (
    ("application_name", "started"),
    ("TimeZone", "America/New_York"),
    ("DateStyle", "SQL, DMY"),
    ("search_path", "two, one"),
    ("client_encoding", "LATIN1"),
    ("client_encoding", "UTF8"),
    ("work_mem", "8MB"),
    ("app.user", "bob"),
    ("default_transaction_read_only", "on"),
    ("options", "-c work_mem=6MB -c app.user=alice"),
    ("options", "-c search_path=one -c TimeZone=Asia/Tokyo"),
    ("options", "-c role=diff_reader"),
    ("options", "--application-name=dashed -c statement_timeout=3600s"),
    ("options", "-c default_transaction_isolation=repeatable\\ read"),
    ("options", "-c work_mem=lots"),
)
