"""Scripts for transactions that may begin on a replica and go on on the primary."""

from typing import Final

from tests.differential.script import (
    FLUSH,
    SYNC,
    Bind,
    Close,
    CopyData,
    CopyDone,
    Describe,
    Execute,
    Parse,
    Query,
    Script,
    ask,
    connect,
    run,
    say,
)

READ: Final = "SELECT id, owner, v FROM items ORDER BY id"
WRITE: Final = "INSERT INTO items VALUES (50, '@me', 1)"
TIME: Final = "SELECT now() = transaction_timestamp(), now() <= statement_timestamp()"
MODES: Final = (
    "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
    " current_setting('transaction_deferrable')"
)

BEGINS: Final = (
    "BEGIN",
    "BEGIN;",
    "BEGIN -- a comment",
    "BEGIN WORK",
    "START TRANSACTION",
    "BEGIN READ WRITE",
    "BEGIN READ ONLY",
    "BEGIN READ ONLY, READ WRITE",
    "BEGIN READ WRITE, READ ONLY",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "BEGIN ISOLATION LEVEL READ UNCOMMITTED, READ WRITE",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "BEGIN DEFERRABLE",
    "START TRANSACTION NOT DEFERRABLE, ISOLATION LEVEL READ COMMITTED, READ WRITE",
)

# Where the transaction is at that moment: nowhere, or on a replica.
MODE_CHANGES: Final = (
    "SET TRANSACTION READ ONLY",
    "SET TRANSACTION READ WRITE",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "SET TRANSACTION NOT DEFERRABLE, READ WRITE, ISOLATION LEVEL READ COMMITTED",
    "SET LOCAL transaction_isolation = 'repeatable read'",
    "SET transaction_read_only = on",
    "SET TRANSACTION SNAPSHOT 'nonsense'",
)

TRANSACTIONS: Final = {
    "transactions: begun in every way": Script(
        *[
            step
            for begin in BEGINS
            for step in ask(begin, READ, READ, WRITE, READ, "ROLLBACK", begin, "COMMIT", begin)
            + ask(READ, MODES, "ROLLBACK")
        ]
    ),
    "transactions: modes set before a query": Script(
        *[
            step
            for change in MODE_CHANGES
            for step in ask("BEGIN", change, READ, MODES, WRITE, "ROLLBACK")
            + ask("BEGIN", "SET TRANSACTION READ ONLY", change, MODES, READ, "COMMIT")
        ],
        *ask("BEGIN", "SET TRANSACTION READ ONLY", "COMMIT", WRITE, "DELETE FROM items"),
    ),
    "transactions: modes set behind a query": Script(
        *[
            step
            for change in MODE_CHANGES
            for step in ask("BEGIN", READ, change, READ, MODES, WRITE, "ROLLBACK")
            + ask("BEGIN", "SAVEPOINT a", change, READ, "ROLLBACK")
            + ask("BEGIN", "SAVEPOINT a", "RELEASE a", change, READ, "ROLLBACK")
            + ask("BEGIN", "SAVEPOINT a", READ, "ROLLBACK TO a", change, READ, "ROLLBACK")
        ]
    ),
    "transactions: modes set behind what the proxy answers": Script(
        *ask(
            "BEGIN", "DEALLOCATE ALL", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "ROLLBACK"
        ),
        *ask("BEGIN", "DEALLOCATE ALL", READ, MODES, WRITE, READ, "ROLLBACK"),
        *ask("BEGIN", "SELECT pg_listening_channels()", *MODE_CHANGES[3:4], "ROLLBACK"),
        *ask("BEGIN", "LISTEN c", *MODE_CHANGES[3:4], MODES, "ROLLBACK"),
    ),
    "transactions: modes set outside": Script(
        *[step for change in MODE_CHANGES for step in ask(change, READ, MODES)]
    ),
    "transactions: defaults of the session": Script(
        *ask("SET default_transaction_read_only = on"),
        *[step for begin in BEGINS for step in ask(begin, READ, MODES, WRITE, "ROLLBACK")],
        *ask("BEGIN", "SET TRANSACTION READ WRITE", READ, WRITE, READ, "ROLLBACK"),
        *ask("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
        *ask("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
        *[step for begin in BEGINS for step in ask(begin, READ, MODES, WRITE, "ROLLBACK")],
        connect(default_transaction_read_only="on"),
        *ask("BEGIN", READ, WRITE, "ROLLBACK", "BEGIN READ WRITE", READ, WRITE, "ROLLBACK"),
        connect(options="-c default_transaction_isolation=serializable"),
        *ask("BEGIN", READ, MODES, WRITE, "ROLLBACK"),
    ),
    "transactions: savepoints before the first write": Script(
        *ask("BEGIN", "SAVEPOINT a", READ, "SAVEPOINT b", READ, 'SAVEPOINT "A ""b"""', READ),
        *ask(WRITE, READ, 'ROLLBACK TO "A ""b"""', READ, WRITE, "ROLLBACK TO a", READ, WRITE),
        *ask("RELEASE b", "ROLLBACK"),
        *ask("BEGIN", "SAVEPOINT a", "SAVEPOINT a", "RELEASE a", WRITE, "RELEASE a", "RELEASE a"),
        *ask("ROLLBACK", "BEGIN", "SAVEPOINT a", "ROLLBACK TO a", "ROLLBACK TO a", WRITE),
        *ask("ROLLBACK TO a", READ, "COMMIT", READ),
        *ask("BEGIN", "SAVEPOINT a", READ, "RELEASE a", READ, "RELEASE a", READ, "ROLLBACK"),
        *ask("BEGIN", READ, "SAVEPOINT a; SAVEPOINT b", READ, "RELEASE b", "ROLLBACK"),
        *ask("BEGIN", READ, "SAVEPOINT a; SELECT 1/0", READ, "ROLLBACK TO a", WRITE, "COMMIT"),
        *ask("BEGIN", READ, 'SAVEPOINT "ü"', WRITE, 'ROLLBACK TO "ü"', READ, "COMMIT", READ),
        *ask("SAVEPOINT a", "BEGIN", "RELEASE a", "ROLLBACK"),
    ),
    "transactions: errors before the first write": Script(
        *ask("BEGIN", READ, "SELECT 1/0", READ, WRITE, "SET work_mem = '3MB'", "COMMIT", READ),
        *ask("BEGIN", "SELECT 1/0", "ROLLBACK", WRITE, "DELETE FROM items WHERE id = 50"),
        *ask("BEGIN", "SAVEPOINT a", "SELECT 1/0", READ, "SAVEPOINT b", "ROLLBACK TO a", READ),
        *ask(WRITE, "SELECT 1/0", "ROLLBACK TO a", READ, WRITE, "COMMIT", READ),
        *ask("BEGIN", READ, "SELECT missing FROM items", "ROLLBACK TO a", "ROLLBACK"),
        *ask("BEGIN", READ, "SELEC 1", READ, "nonsense", "ROLLBACK"),
        *ask("BEGIN", READ, "SELECT 1/0", "DO $$ BEGIN SET work_mem = '9MB'; END $$", "COMMIT"),
    ),
    "transactions: one that has failed goes on in a text": Script(
        *ask("BEGIN", READ, "SELECT 1/0", f"ROLLBACK; {WRITE}", READ, "DELETE FROM items"),
        *ask("BEGIN", READ, "SELECT 1/0", f"COMMIT; {WRITE}", READ, "DELETE FROM items"),
        *ask("BEGIN", "SAVEPOINT a", READ, "SELECT 1/0", f"ROLLBACK TO a; {WRITE}", READ),
        *ask("ROLLBACK TO a", "COMMIT", READ),
        *ask("BEGIN", READ, "SELECT 1/0", f"SELECT 1; ROLLBACK; {WRITE}", READ, "ROLLBACK"),
        *ask("BEGIN", READ, "SELECT 1/0", "ROLLBACK; CREATE TEMP TABLE t1 (n int)", "TABLE t1"),
        *ask("DROP TABLE t1", "PREPARE s1 AS SELECT count(*) FROM items"),
        *ask("BEGIN", READ, "SELECT 1/0", "ROLLBACK; EXECUTE s1", "EXECUTE s1"),
        *ask("BEGIN", READ, "SELECT 1/0", "COMMIT; BEGIN; EXECUTE s1", "EXECUTE s1", "COMMIT"),
        *ask("BEGIN", READ, "SELECT 1/0", "PREPARE TRANSACTION 'x'", READ),
        *ask("BEGIN", READ),
        say(*run("SELECT 1/0"), SYNC),
        say(*run("ROLLBACK"), *run(WRITE), SYNC),
        *ask(READ),
    ),
    "transactions: chains": Script(
        *ask("BEGIN", "COMMIT AND CHAIN", READ, "COMMIT AND CHAIN", READ, WRITE, "COMMIT"),
        *ask("BEGIN", READ, "ROLLBACK AND CHAIN", MODES, "ROLLBACK"),
        *ask("BEGIN READ ONLY", READ, "COMMIT AND CHAIN", READ, WRITE, "ROLLBACK"),
        *ask("BEGIN READ WRITE", READ, "SELECT 1/0", "COMMIT AND CHAIN", READ, WRITE, "ROLLBACK"),
        *ask("BEGIN ISOLATION LEVEL REPEATABLE READ", READ, "COMMIT AND CHAIN", MODES, "ROLLBACK"),
        *ask("BEGIN", "SAVEPOINT a", READ, "COMMIT AND CHAIN", READ, "ROLLBACK TO a", "ROLLBACK"),
        *ask("COMMIT AND CHAIN", "ROLLBACK AND CHAIN"),
        say(
            Query("BEGIN"), Query(READ), Query("COMMIT AND CHAIN"), Query(WRITE), Query("ROLLBACK")
        ),
    ),
    "transactions: begun twice, ended twice": Script(
        *ask("BEGIN", "BEGIN", READ, "COMMIT", "COMMIT"),
        *ask("BEGIN", READ, "BEGIN READ ONLY", WRITE, "COMMIT", "ROLLBACK", READ),
        *ask("BEGIN; SELECT 1; COMMIT", "BEGIN; SELECT 1", WRITE, "ROLLBACK"),
        *ask("BEGIN", f"{READ}; COMMIT", READ, "BEGIN", READ, f"COMMIT; {WRITE}", READ),
    ),
    "transactions: what shows or leaves something moves first": Script(
        *ask("BEGIN", READ, "SET LOCAL work_mem = '3MB'", "SHOW work_mem", WRITE, "ROLLBACK"),
        *ask("BEGIN", "SELECT set_config('work_mem', '5MB', true)", READ, "SHOW work_mem", WRITE),
        *ask("COMMIT", "SHOW work_mem", "BEGIN", READ, "SET work_mem = '6MB'", WRITE, "ROLLBACK"),
        *ask("SHOW work_mem", "BEGIN", TIME, READ, WRITE, TIME, "ROLLBACK"),
        *ask("BEGIN", READ, "DECLARE c1 CURSOR FOR SELECT id FROM items ORDER BY id"),
        *ask("FETCH 2 FROM c1", "UPDATE items SET v = v + 1", "FETCH 2 FROM c1", "ROLLBACK"),
        *ask("BEGIN", READ, "SELECT pg_is_in_recovery()", "SHOW transaction_read_only", "COMMIT"),
        *ask("BEGIN", READ, "LISTEN c", "NOTIFY c, 'of @me'", "COMMIT", "UNLISTEN c"),
        *ask("BEGIN", READ, "SELECT pg_try_advisory_xact_lock(@lock1)", WRITE, "ROLLBACK"),
        *ask("BEGIN", READ, "CREATE TEMP TABLE t1 AS SELECT 1 AS n", "TABLE t1", "ROLLBACK"),
        *ask("BEGIN", READ, "PREPARE s1 AS SELECT count(*) FROM items", "EXECUTE s1", WRITE),
        *ask("EXECUTE s1", "ROLLBACK", "EXECUTE s1", "DEALLOCATE s1"),
        *ask("PREPARE s2 AS SELECT now() = transaction_timestamp()", "BEGIN", "EXECUTE s2"),
        *ask(WRITE, "EXECUTE s2", "ROLLBACK", "DEALLOCATE ALL", "BEGIN", READ, "DISCARD ALL"),
        *ask("ROLLBACK", "BEGIN", READ, "SELECT v FROM items ORDER BY id FOR UPDATE", "ROLLBACK"),
        *ask("BEGIN", "SELECT setting FROM pg_settings WHERE name = 'work_mem'", WRITE, "ROLLBACK"),
        *ask("BEGIN", READ),
        say(Query("COPY sink FROM STDIN"), CopyData("1\tone\n"), CopyDone()),
        *ask("TABLE sink", "ROLLBACK"),
        *ask("BEGIN", READ, "SET CONSTRAINTS ALL DEFERRED", WRITE, "COMMIT", READ),
    ),
    "transactions: a time that a constant stands for": Script(
        *ask("BEGIN", READ, "SELECT 'now'::timestamptz = now()", WRITE),
        *ask("SELECT 'now'::timestamptz = now()", "ROLLBACK", "BEGIN", READ),
        say(*run("SELECT $1::timestamptz = now()", "now"), SYNC),
        say(*run("SELECT $1::timestamptz = $2::timestamptz", "now", "today"), SYNC),
        *ask(WRITE, "ROLLBACK"),
    ),
    "transactions: in the extended protocol": Script(
        say(*run("BEGIN"), SYNC),
        say(*run(READ), SYNC),
        say(*run("SELECT id FROM items WHERE id < $1 ORDER BY id", "4"), SYNC),
        say(*run(WRITE), SYNC),
        say(*run(READ), SYNC),
        say(*run("ROLLBACK"), SYNC),
        say(*run("BEGIN"), *run(READ), SYNC),
        say(*run(READ), *run(WRITE), SYNC),
        say(*run("COMMIT"), SYNC),
        say(*run("BEGIN READ ONLY"), SYNC),
        say(*run(READ), SYNC),
        say(*run("SAVEPOINT a"), SYNC),
        say(*run("COMMIT"), SYNC),
        say(*run("DELETE FROM items WHERE id = 50"), SYNC),
        say(*run("BEGIN"), SYNC),
        say(*run("SET TRANSACTION READ ONLY"), SYNC),
        say(*run(MODES), SYNC),
        say(*run("COMMIT AND CHAIN"), SYNC),
        say(*run(MODES), SYNC),
        say(*run("ROLLBACK"), SYNC),
    ),
    "transactions: BEGIN as a prepared statement": Script(
        say(Parse("BEGIN", "s1"), Describe("S", "s1"), SYNC),
        say(Parse("COMMIT", "s2"), SYNC),
        say(Bind((), "s1"), Describe("P"), Execute(), SYNC),
        say(*run(READ), SYNC),
        say(Bind((), "s2"), Execute(), SYNC),
        say(Bind((), "s1"), Execute(), SYNC),
        *ask(WRITE),
        say(Bind((), "s1"), Execute(), SYNC),
        say(Bind((), "s2"), Execute(), SYNC),
        say(Bind((), "s2"), Execute(), SYNC),
        say(Bind(("1",), "s1"), Execute(), SYNC),
        say(Bind((), "s1", "p1"), Execute("p1"), SYNC),
        say(Parse("BEGIN", "s1"), Bind((), "s1"), Execute(), SYNC),
        say(Query("ROLLBACK")),
        say(Bind((), "s1"), Execute(), Close("S", "s1"), SYNC),
        say(Bind((), "s1"), Execute(), SYNC),
        say(Query("ROLLBACK")),
        say(Parse("BEGIN"), SYNC),
        say(Bind(), Execute(), SYNC),
        say(Bind(), Execute(), SYNC),
        say(*run(READ), SYNC),
        say(*run("ROLLBACK"), SYNC),
        say(Parse("BEGIN"), Bind(), Execute(), Execute(), SYNC),
        say(*run("ROLLBACK"), SYNC),
        say(Parse("BEGIN"), Bind(), SYNC),
        say(Parse("BEGIN"), Bind(), Execute(), FLUSH),
        say(*run(READ), SYNC),
        say(*run("COMMIT"), SYNC),
    ),
    "transactions: portals": Script(
        *ask("BEGIN", READ),
        say(Parse("SELECT id FROM items ORDER BY id"), Bind(), Execute(limit=2), SYNC),
        say(Execute(limit=2), SYNC),
        *ask(WRITE),
        say(Execute(limit=2), SYNC),
        *ask("ROLLBACK", "BEGIN", READ),
        say(Parse("SELECT id FROM items ORDER BY id"), Bind(portal="p1"), SYNC),
        *ask(WRITE),
        say(Execute("p1"), Close("P", "p1"), SYNC),
        *ask("ROLLBACK", "BEGIN", READ),
        say(Parse("SELECT 1"), Bind(portal="p1"), Execute("p1"), Close("P", "p1"), SYNC),
        say(Execute("p1"), SYNC),
        *ask("ROLLBACK", "BEGIN"),
        say(*run(READ), FLUSH),
        say(*run(WRITE), SYNC),
        *ask("ROLLBACK", "BEGIN", READ),
        say(Parse("SELECT 1"), Bind(), SYNC),
        say(Execute(), SYNC),
        *ask("COMMIT"),
    ),
    "transactions: pipelined": Script(
        say(Query("BEGIN"), Query(READ), Query(WRITE), Query(READ), Query("ROLLBACK"), Query(READ)),
        say(Query("BEGIN"), Query("SAVEPOINT a"), Query("SELECT 1/0"), Query("ROLLBACK TO a")),
        say(Query(READ), Query(WRITE), Query("ROLLBACK TO a"), Query(READ), Query("COMMIT")),
        say(
            Query("BEGIN"), Query(READ), Query("COMMIT"), Query(TIME), Query("BEGIN"), Query(WRITE)
        ),
        say(Query("ROLLBACK"), Query("BEGIN"), *run("SAVEPOINT a"), SYNC, *run("SELECT 1/0"), SYNC),
        say(*run("ROLLBACK TO a"), SYNC, *run(WRITE), SYNC, *run("ROLLBACK TO a"), SYNC),
        say(Query(READ), Query("COMMIT")),
        say(Query("BEGIN"), *run(READ), *run("SAVEPOINT a"), *run("SELECT 1/0"), SYNC),
        say(Query("ROLLBACK TO a"), Query(WRITE), Query("COMMIT"), Query(READ)),
        say(*run("BEGIN"), SYNC, *run(READ), SYNC, *run(WRITE), SYNC, *run("ROLLBACK"), SYNC),
        say(
            *run("BEGIN"), *run(READ), *run("COMMIT"), SYNC, *run("BEGIN"), *run("SELECT 1/0"), SYNC
        ),
        say(*run("COMMIT"), SYNC, Query(READ)),
    ),
}
