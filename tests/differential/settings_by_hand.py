"""Scripts written by hand: settings."""

from typing import Final

from tests.differential.script import SYNC, Parse, Query, Script, ask, connect, run, say, use
from tests.differential.vocabulary import CUSTOM, EVERY_SETTING, FORMATS, WHO

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
