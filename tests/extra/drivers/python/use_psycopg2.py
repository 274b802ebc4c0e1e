"""psycopg2 at its usual work. The argument before the usual ones means nothing."""

import contextlib
import functools
import io
import select
import threading

import psycopg2
from common import COPIED, REPORTED, REPORTING, SLEEP, SLEEPING, URL, main, scripts
from psycopg2 import extensions
from psycopg2.extras import execute_batch, execute_values


def connect(autocommit=True, **options):
    connection = psycopg2.connect(URL, **options)
    connection.autocommit = autocommit
    return contextlib.closing(connection)


def on_a_connection(section):
    @functools.wraps(section)
    def run():
        with connect() as connection:
            return section(connection)

    return run


def outcome(work):
    try:
        return work()
    except psycopg2.Error as error:
        return [error.pgcode, str(error) if error.pgcode else type(error).__name__]


def ask(c, sql, *values):
    def work():
        with c.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else cursor.statusmessage

    return outcome(work)


@on_a_connection
def simple(c):
    return [
        ask(c, "SELECT 1; SELECT 2"),
        ask(c, "INSERT INTO items VALUES (1, 'a'), (2, 'b')"),
        ask(c, "SELECT 1 AS one, NULL, 'süß', %s", "it's \\"),
        ask(c, "SELECT * FROM items ORDER BY id"),
        ask(
            c,
            "SELECT %s::jsonb, %s, encode(%s, 'hex')",
            '{"b": 1}',
            [1, 2],
            psycopg2.Binary(b"\0\xff"),
        ),
    ]


@on_a_connection
def prepared(c):
    """It has none of the protocol's, so people write them in SQL."""
    got = []
    for round_ in range(3):
        got.append(ask(c, "PREPARE pick (int) AS SELECT name FROM one.t WHERE id = $1"))
        got.append(ask(c, "PREPARE add AS INSERT INTO items VALUES ($1, $2) RETURNING id"))
        for n in range(10 + 10 * round_, 15 + 10 * round_):
            got.append(ask(c, "EXECUTE add (%s, %s)", n, f"prepared {n}"))
            got.append(ask(c, "EXECUTE pick (%s)", n % 3))
        got.append(ask(c, "EXECUTE add (10, 'twice')"))
        got.append(ask(c, "DEALLOCATE pick; DEALLOCATE add" if round_ else "DEALLOCATE ALL"))
        got.append(ask(c, "EXECUTE pick (1)"))
    return got


def transaction():
    count = "SELECT count(*) FROM items WHERE name = 'transaction'"
    got = []
    with connect(autocommit=False) as c:
        for commit in (False, True):
            ask(c, "INSERT INTO items VALUES (%s, 'transaction')", 200)
            ask(c, "SAVEPOINT here")
            got.append(ask(c, "SELECT 1 / %s", 0))
            got.append(ask(c, "SELECT %s", 1))
            ask(c, "ROLLBACK TO here")
            got.append(ask(c, count))
            got.append(c.get_transaction_status())
            c.commit() if commit else c.rollback()
            got.append(ask(c, count))
            c.rollback()
        for options in (
            {"readonly": True, "isolation_level": "SERIALIZABLE", "deferrable": True},
            {"isolation_level": "REPEATABLE READ"},
            {"readonly": True},
        ):
            c.set_session(**options)
            got.append(ask(c, "SHOW transaction_isolation"))
            got.append(ask(c, count))
            got.append(ask(c, "DELETE FROM items WHERE id = -1"))
            c.rollback()
            c.set_session(readonly=False, isolation_level="DEFAULT", deferrable=False)
        with c, c.cursor() as cursor:  # a block is a transaction
            cursor.execute("INSERT INTO items VALUES (210, 'transaction')")
        try:
            with c, c.cursor() as cursor:
                cursor.execute("INSERT INTO items VALUES (211, 'transaction')")
                cursor.execute("SELECT 1 / 0")
        except psycopg2.Error as error:
            got.append(error.pgcode)
        got.append(ask(c, count))
    with connect() as c:
        # With autocommit it sets them for the session.
        c.set_session(readonly=True, isolation_level="REPEATABLE READ")
        got.append(ask(c, "SHOW transaction_isolation"))
        got.append(ask(c, "DELETE FROM items WHERE id = -1"))
        c.reset()
        got.append(ask(c, "SHOW default_transaction_read_only"))
    return got


@on_a_connection
def batch(c):
    with c.cursor() as cursor:
        execute_batch(
            cursor, "INSERT INTO items VALUES (%s, 'batch')", [(n,) for n in range(300, 600)]
        )
        sql = "INSERT INTO items VALUES %s RETURNING id"
        ids = execute_values(cursor, sql, [(n, "values") for n in range(600, 800)], fetch=True)
        bad = [(800, "bad"), (600, "twice")]
        failed = outcome(lambda: execute_values(cursor, sql, bad))
    counts = ask(c, "SELECT name, count(*) FROM items WHERE id >= 300 GROUP BY 1 ORDER BY 1")
    return [len(ids), failed, counts, ask(c, "DELETE FROM items WHERE id >= 300")]


def cursor():
    got = []
    with connect(autocommit=False) as c:
        with c.cursor("named") as own:
            own.execute("SELECT n FROM generate_series(1, %s) n", (25,))
            got += [own.fetchmany(10), ask(c, "SELECT 'between'"), own.fetchall()]
        with c.cursor("scrolled", scrollable=True) as own:
            own.execute("SELECT n FROM generate_series(1, 25) n")
            own.scroll(10)
            got.append(own.fetchone())
        with c.cursor("held", withhold=True) as own:
            own.execute("SELECT n FROM generate_series(1, 5) n")
            got.append(own.fetchmany(2))
            c.commit()
            got += [ask(c, "SELECT 'between'"), own.fetchall()]
        c.commit()
    return got


@on_a_connection
def copy(c):
    got = []
    with c.cursor() as own:
        own.copy_from(io.StringIO(COPIED), "items")
        got.append(own.rowcount)
        out = io.StringIO()
        own.copy_expert("COPY (SELECT * FROM items WHERE id >= 1000 ORDER BY id) TO STDOUT", out)
        got += [out.getvalue() == COPIED, own.rowcount]
        got.append(outcome(lambda: own.copy_from(io.StringIO("nonsense\n"), "items")))
        got.append(outcome(lambda: own.copy_expert("COPY nowhere FROM STDIN", io.StringIO("1\n"))))
        got.append(outcome(lambda: own.copy_to(out, "nowhere")))

        class Broken:
            def read(self, size):
                raise OSError("the source is gone")

        got.append(outcome(lambda: own.copy_from(Broken(), "items"))[:1])
    got.append(ask(c, "SELECT count(*) FROM items WHERE id >= 1000"))
    got.append(ask(c, "DELETE FROM items WHERE id >= 1000"))
    return got


@on_a_connection
def errors(c):
    got = []
    for _ in range(3):
        got.append(ask(c, "SELECT 1 / %s", 0))
        got.append(ask(c, "SELEC"))
        got.append(ask(c, "SELECT * FROM nowhere WHERE x = %s", 1))
        got.append(ask(c, "INSERT INTO items VALUES (%s, 'twice')", 1))
        got.append(ask(c, "SELECT 1; SELECT 1 / 0; SELECT 3"))
    ask(c, "DO $$ BEGIN RAISE NOTICE 'seen'; RAISE WARNING 'too'; END $$")
    return [*got, c.notices, ask(c, "SELECT 'after'")]


@on_a_connection
def notifications(c):
    got = []
    with connect() as listener:
        ask(listener, "LISTEN news")
        ask(c, "SELECT pg_notify('news', %s)", "hello")
        ask(c, "BEGIN; NOTIFY news, 'never'; ROLLBACK")
        ask(c, "NOTIFY news, 'last'")
        while len(got) < 2:
            select.select([listener], [], [], 20)
            listener.poll()
            while listener.notifies:
                said = listener.notifies.pop(0)
                got.append([said.channel, said.payload])
        ask(listener, "UNLISTEN *")
    return got


@on_a_connection
def cancel(c):
    got = []
    with connect() as other:

        def when_asleep():
            while ask(other, SLEEPING) == [(0,)]:
                pass
            c.cancel()

        for _ in range(3):
            thread = threading.Thread(target=when_asleep)
            thread.start()
            got.append(ask(c, SLEEP))
            thread.join()
            got.append(ask(c, "SELECT 'after'"))
    return got


def timeouts():
    got = []
    options = {"options": "-c statement_timeout=500 -c app.who=me", "application_name": "psycopg2"}
    with connect(**options) as c:
        got.append(ask(c, "SELECT pg_sleep(600)"))
        ask(c, "SET statement_timeout = 0; SET app.who = 'x'; SET application_name = 'x'")
        got.append(ask(c, "SHOW app.who"))
        c.reset()
        for name in ("statement_timeout", "application_name", "app.who"):
            got.append(ask(c, f"SHOW {name}"))
    return got


@on_a_connection
def reconnect(c):
    got = []
    with connect() as own:
        got.append(ask(own, "SELECT pg_terminate_backend(pg_backend_pid())")[0] in ("57P01", None))
        got += [own.closed != 0, ask(own, "SELECT 1")]
    with connect() as own:
        ask(own, "BEGIN; INSERT INTO items VALUES (250, 'lost')")
        [(pid,)] = ask(own, "SELECT pg_backend_pid()")
        got.append(ask(c, "SELECT pg_terminate_backend(%s, 10000)", pid))
        got.append(ask(own, "SELECT 1")[0] in ("57P01", None))
        got.append(own.closed != 0)
    for _ in range(10):
        with connect() as own:
            got.append(ask(own, "SELECT count(*) FROM items WHERE id = %s", 250))
            ask(own, "SET app.who = 'earlier'")
    return got


def reported():
    got = []
    for script in REPORTING:
        with connect() as c:
            ask(c, script)
            got.append([script, *(c.get_parameter_status(name) for name in REPORTED)])
            c.set_client_encoding("LATIN1")
            got.append([c.encoding, ask(c, "SHOW client_encoding"), ask(c, "SELECT 'ü'")])
    return got


def asynchronous():
    """Its own way of not waiting."""

    def wait(c):
        while (state := c.poll()) != extensions.POLL_OK:
            if state == extensions.POLL_READ:
                select.select([c.fileno()], [], [], 20)
            else:
                select.select([], [c.fileno()], [], 20)

    c = psycopg2.connect(URL, async_=True)
    wait(c)
    got = []
    cursor = c.cursor()
    for sql in ("SELECT 1", "SET app.who = 'async'", "SHOW app.who", "SELECT 1 / 0", "SELECT 2"):
        cursor.execute(sql)
        got.append(outcome(lambda: wait(c)))
        got.append(cursor.fetchall() if cursor.description else cursor.statusmessage)
    c.close()
    return got


@on_a_connection
def large(c):
    text = "0123456789" * 300000
    return [ask(c, "SELECT %s || 'x'", text) == [(text + "x",)]]


@on_a_connection
def concurrent(c):
    ask(c, "CREATE TABLE counter AS SELECT 0 AS n")
    right = []

    def work(first):
        with connect(autocommit=False) as own:
            for n in range(first, first + 20):
                ask(own, "UPDATE counter SET n = n + %s", n)
                own.rollback() if n % 5 == 0 else own.commit()
                right.append(ask(own, "SELECT %s", n) == [(n,)])
                own.commit()

    threads = [threading.Thread(target=work, args=(20 * n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [len(right), all(right), ask(c, "SELECT n FROM counter")]


def session(script):
    def play():
        with connect() as c:
            return [[sql, ask(c, sql)] for sql in script]

    return play


sections = {
    one.__name__: one
    for one in (
        *(simple, prepared, transaction, batch, cursor, copy, errors, notifications, cancel),
        *(timeouts, reconnect, reported, asynchronous, large, concurrent),
    )
}
for name, script in scripts():
    sections[f"{name} simple"] = session(script)
with connect() as first:
    ask(first, "CREATE TABLE items (id int PRIMARY KEY, name text)")
main(sections)
