"""psycopg 3 at its usual work. Argument before the usual ones: its prepare_threshold, or none."""

import contextlib
import functools
import select
import sys
import threading

import psycopg
from common import COPIED, REPORTED, REPORTING, SLEEP, SLEEPING, URL, main, scripts
from psycopg.rows import dict_row

THRESHOLD = None if sys.argv[-3] == "none" else int(sys.argv[-3])


def connect(**options):
    return psycopg.connect(URL, **{"autocommit": True, "prepare_threshold": THRESHOLD} | options)


def on_a_connection(section):
    @functools.wraps(section)
    def run():
        with connect() as connection:
            return section(connection)

    return run


def refusal(error):
    return [error.sqlstate, str(error) if error.sqlstate else type(error).__name__]


def rows_of(cursor):
    got = []
    while True:
        got.append(cursor.fetchall() if cursor.description else cursor.statusmessage)
        if not cursor.nextset():
            return got


def ask(c, sql, *values, **options):
    try:
        return rows_of(c.execute(sql, values or None, **options))
    except psycopg.Error as error:
        return refusal(error)


@on_a_connection
def simple(c):
    by_client = psycopg.ClientCursor(c)
    return [
        ask(c, "SELECT 1; SELECT 2"),
        ask(c, "INSERT INTO items VALUES (1, 'a'), (2, 'b')"),
        ask(c, ""),
        ask(c, "SELECT 1 AS one, NULL, 'süß'"),
        ask(c, "SELECT * FROM items ORDER BY id", binary=True),
        ask(c, "SELECT %s::int + %s", 1, 2),
        rows_of(by_client.execute("SELECT %s, %s; SELECT %s", ("it's \\", None, 3))),
        c.cursor(row_factory=dict_row).execute("SELECT %s::jsonb AS a", ('{"b": 1}',)).fetchone(),
    ]


@on_a_connection
def prepared(c):
    got = []
    for round_ in range(3):
        for n in range(100 + 20 * round_, 112 + 20 * round_):
            got.append(
                ask(
                    c,
                    "INSERT INTO items VALUES (%s, %s) RETURNING id",
                    n,
                    f"prepared {n}",
                    prepare=True,
                )
            )
            got.append(ask(c, "SELECT name FROM items WHERE id = %s", n))
        got.append(
            ask(c, "INSERT INTO items VALUES (%s, %s) RETURNING id", 100, "twice", prepare=True)
        )
        got.append(ask(c, "PREPARE pick (int) AS SELECT name FROM items WHERE id = $1"))
        got.append(ask(c, "EXECUTE pick (100)"))
        # By hand, on the level of libpq: one name space.
        result = c.pgconn.prepare(b"own", b"SELECT $1::int + 1")
        got.append(result.status)
        got.append(c.pgconn.exec_prepared(b"own", [b"41"]).get_value(0, 0))
        described = c.pgconn.describe_prepared(b"own")
        got.append([described.nparams, described.param_type(0), described.ftype(0)])
        got.append(c.pgconn.prepare(b"pick", b"SELECT 1").status)
        got.append(c.pgconn.exec_prepared(b"pick", [b"100"]).get_value(0, 0))
        got.append(ask(c, "EXECUTE own (1)"))
        if c.pgconn.exec_prepared(b"own", [b"1"]).status == psycopg.pq.ExecStatus.TUPLES_OK:
            got.append(c.pgconn.close_prepared(b"own").status)
        got.append(
            c.pgconn.exec_prepared(b"own", [b"1"]).error_field(psycopg.pq.DiagnosticField.SQLSTATE)
        )
        got.append(ask(c, "DEALLOCATE pick" if round_ < 1 else "DEALLOCATE ALL"))
        got.append(ask(c, "EXECUTE pick (100)"))
        if round_ == 1:
            got.append(ask(c, "DISCARD ALL"))
    return got


@on_a_connection
def transaction(c):
    count = "SELECT count(*) FROM items WHERE name = 'transaction'"
    got = []
    for commit in (False, True):
        with c.transaction(force_rollback=not commit):
            ask(c, "INSERT INTO items VALUES (%s, 'transaction')", 200)
            with contextlib.suppress(psycopg.Error), c.transaction():
                got.append(ask(c, "SELECT 1 / %s::int", 0))
                got.append(ask(c, "SELECT %s::int", 1))
                raise psycopg.DataError
            got.append(ask(c, count))
            with c.transaction("named"):
                ask(c, "INSERT INTO items VALUES (%s, 'transaction')", 201)
        got.append(ask(c, count))
    for read_only, level, deferrable in ((True, 4, True), (False, 3, None), (True, None, None)):
        with connect(autocommit=False) as own:
            own.read_only, own.deferrable = read_only, deferrable
            own.isolation_level = level and psycopg.IsolationLevel(level)
            got.append(ask(own, "SHOW transaction_isolation"))
            got.append(ask(own, count))
            got.append(ask(own, "DELETE FROM items WHERE id = -1"))
            got.append(own.info.transaction_status.name)
            own.rollback()
    own = connect(autocommit=False)
    own.tpc_begin(own.xid(1, "gtrid", "bqual"))
    try:
        own.tpc_prepare()
    except psycopg.Error as error:  # max_prepared_transactions is 0
        got.append(refusal(error))
    own.close()
    got.append(ask(c, count))
    return got


@on_a_connection
def pipeline(c):
    got = []
    with c.pipeline() as pipe:
        cursors = [c.execute("SELECT %s::int + 1", (n,)) for n in range(50)]
        c.execute("INSERT INTO items VALUES (300, 'piped')")
        pipe.sync()
        got.append([cursor.fetchone() for cursor in cursors])
        # Which call raises depends on how much has arrived.
        try:
            c.execute("INSERT INTO items VALUES (301, 'undone')")
            failing = c.execute("SELECT 1 / %s::int", (0,))
            c.execute("INSERT INTO items VALUES (302, 'skipped')")
            failing.fetchone()
        except psycopg.Error as error:
            got.append(refusal(error))
        with contextlib.suppress(psycopg.errors.PipelineAborted):
            pipe.sync()
        got.append(c.execute("SELECT 'after'").fetchone())
        with c.transaction():
            c.execute("SET LOCAL app.who = 'piped'")
            inside = c.execute("SELECT current_setting('app.who')")
            c.execute("INSERT INTO items VALUES (303, 'piped')")
        got.append(inside.fetchone())
        c.execute("SET app.who = 'for the session'")
        shown = c.execute("SHOW app.who")
    got.append(shown.fetchone())
    with c.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO items VALUES (%s, 'many') RETURNING id",
            [(n,) for n in range(400, 420)],
            returning=True,
        )
        got.append(rows_of(cursor))
        try:
            cursor.executemany("INSERT INTO items VALUES (%s, 'many')", [(500,), (400,), (501,)])
        except psycopg.Error as error:
            got.append(refusal(error))
    got.append(ask(c, "SELECT id, name FROM items WHERE id >= 300 ORDER BY id"))
    return got


@on_a_connection
def cursor(c):
    got = []
    with c.transaction(), c.cursor("named") as own:
        own.execute("SELECT n FROM generate_series(1, %s) n", (25,))
        got += [own.fetchmany(10), ask(c, "SELECT 'between'"), own.fetchall()]
    with c.transaction(), c.cursor("scrolled", scrollable=True) as own:
        own.execute("SELECT n FROM generate_series(1, 25) n")
        own.scroll(10)
        got.append(own.fetchone())
        own.scroll(-5)
        got.append(own.fetchone())
    with c.cursor("held", withhold=True) as own:
        own.execute("SELECT n FROM generate_series(1, 5) n")
        got += [own.fetchmany(2), ask(c, "SELECT 'between'"), own.fetchall()]
    got.append(list(c.cursor().stream("SELECT n FROM generate_series(1, 10) n")))
    return got


@on_a_connection
def copy(c):
    got = []
    own = c.cursor()
    with own.copy("COPY items FROM STDIN") as into:
        into.write(COPIED)
    got.append(own.rowcount)
    with own.copy("COPY (SELECT * FROM items WHERE id >= 1000 ORDER BY id) TO STDOUT") as out:
        got.append(b"".join(out).decode() == COPIED)
    ask(c, "DELETE FROM items WHERE id >= 1000")
    with own.copy("COPY items FROM STDIN (FORMAT binary)") as into:
        into.set_types(["int4", "text"])
        for n in range(1000, 1500):
            into.write_row((n, f"binary {n}"))
    got.append(own.rowcount)
    for sql, data in (("COPY items FROM STDIN", "nonsense\n"), ("COPY nowhere FROM STDIN", "1\n")):
        try:
            with own.copy(sql) as into:
                into.write(data)
        except psycopg.Error as error:
            got.append(refusal(error))
    try:
        with own.copy("COPY items FROM STDIN") as into:
            into.write("9000\tnever\n")
            raise ZeroDivisionError
    except ZeroDivisionError:
        got.append("given up")
    got.append(ask(c, "SELECT count(*) FROM items WHERE id >= 1000"))
    got.append(ask(c, "DELETE FROM items WHERE id >= 1000"))
    return got


@on_a_connection
def errors(c):
    got = []
    for _ in range(7):
        got.append(ask(c, "SELECT 1 / %s::int", 0))
        got.append(ask(c, "SELEC"))
        got.append(ask(c, "SELECT * FROM nowhere WHERE x = %s", 1))
        got.append(ask(c, "INSERT INTO items VALUES (%s, 'twice')", 1))
        got.append(ask(c, "SELECT 1; SELECT 1 / 0; SELECT 3"))
    notices = []
    c.add_notice_handler(lambda said: notices.append([said.severity, said.message_primary]))
    ask(c, "DO $$ BEGIN RAISE NOTICE 'seen'; RAISE WARNING 'too'; END $$")
    return [*got, notices, ask(c, "SELECT 'after'")]


@on_a_connection
def notifications(c):
    got = []
    with connect() as listener:
        listener.execute("LISTEN news")
        ask(c, "SELECT pg_notify('news', %s)", "hello")
        with c.transaction(force_rollback=True):
            ask(c, "NOTIFY news, 'never'")
        ask(c, "NOTIFY news, 'last'")
        while len(got) < 2:
            for said in listener.notifies(timeout=20, stop_after=1):
                got.append([said.channel, said.payload])
        listener.execute(
            "UNLISTEN news; NOTIFY news, 'unheard'; LISTEN other; NOTIFY other, 'own'",
            prepare=False,
        )
        for said in listener.notifies(timeout=20, stop_after=1):
            got.append([said.channel, said.payload])
    return got


@on_a_connection
def cancel(c):
    got = []
    with connect() as other:

        def when_asleep():
            while other.execute(SLEEPING).fetchone() == (0,):
                pass
            c.cancel_safe(timeout=20)

        for _ in range(3):
            thread = threading.Thread(target=when_asleep)
            thread.start()
            got.append(ask(c, SLEEP))
            thread.join()
            got.append(ask(c, "SELECT 'after'"))
        with c.transaction(force_rollback=True):
            thread = threading.Thread(target=when_asleep)
            thread.start()
            got.append(ask(c, SLEEP))
            thread.join()
            got.append(ask(c, "SELECT 'refused'"))
    return got


def timeouts():
    got = []
    with connect(options="-c statement_timeout=500 -c app.who=me", application_name="psycopg") as c:
        got.append(ask(c, "SELECT pg_sleep(600)"))
        got.append(ask(c, "SELECT pg_sleep(600 + %s)", 1))
        for name in ("statement_timeout", "application_name", "app.who"):
            got.append(ask(c, f"SHOW {name}"))
        got.append(ask(c, "SET statement_timeout = 0; SET app.who = 'x'; RESET ALL"))
        for name in ("statement_timeout", "application_name", "app.who"):
            got.append(ask(c, f"SHOW {name}"))
    with connect(options="-c idle_in_transaction_session_timeout=300") as c:
        ask(c, "BEGIN")
        ask(c, "SELECT 1")
        # The server ends it: wait for that.
        select.select([c.fileno()], [], [], 20)
        got.append(bool(ask(c, "SELECT 1")[0] in ("25P03", None)))
        got.append(c.closed)
    return got


@on_a_connection
def reconnect(c):
    got = []
    with connect() as own:
        got.append(ask(own, "SELECT pg_terminate_backend(pg_backend_pid())"))
        got += [own.closed, ask(own, "SELECT 1")]
    with connect() as own:
        own.execute("BEGIN; INSERT INTO items VALUES (250, 'lost')", prepare=False)
        (pid,) = own.execute("SELECT pg_backend_pid()").fetchone()
        got.append(ask(c, "SELECT pg_terminate_backend(%s, 10000)", pid))
        got.append(ask(own, "SELECT 1")[0] in ("57P01", None))
        got.append(own.closed)
    for _ in range(10):
        with connect() as own:
            got.append(ask(own, "SELECT count(*) FROM items WHERE id = %s", 250))
            own.execute("SET app.who = 'earlier'")
    return got


def reported():
    got = []
    for script in REPORTING:
        with connect() as c:
            c.execute(script, prepare=False)
            got.append([script, *(c.info.parameter_status(name) for name in REPORTED)])
            got.append([c.info.encoding, str(c.info.timezone)])
    return got


@on_a_connection
def large(c):
    text = "0123456789" * 300000
    return [c.execute("SELECT %s::text || 'x'", (text,)).fetchone() == (text + "x",)]


@on_a_connection
def concurrent(c):
    c.execute("CREATE TABLE counter AS SELECT 0 AS n")
    right = []

    def work(first):
        with connect(autocommit=False) as own:
            for n in range(first, first + 20):
                own.execute("UPDATE counter SET n = n + %s", (n,))
                own.rollback() if n % 5 == 0 else own.commit()
                right.append(own.execute("SELECT %s::int", (n,)).fetchone() == (n,))
                own.commit()

    threads = [threading.Thread(target=work, args=(20 * n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [len(right), all(right), ask(c, "SELECT n FROM counter")]


def session(script, simply):
    # A result in binary is to be had from the extended protocol alone.
    options = {"prepare": False} if simply else {"prepare": THRESHOLD is not None, "binary": True}

    def play():
        with connect() as c:
            return [[sql, ask(c, sql, **options)] for sql in script]

    return play


sections = {
    one.__name__: one
    for one in (
        *(simple, prepared, transaction, pipeline, cursor, copy, errors, notifications, cancel),
        *(timeouts, reconnect, reported, large, concurrent),
    )
}
for name, script in scripts():
    sections[f"{name} simple"] = session(script, True)
    sections[f"{name} extended"] = session(script, False)
with connect() as first:
    first.execute("CREATE TABLE items (id int PRIMARY KEY, name text)")
main(sections)
