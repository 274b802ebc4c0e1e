"""Django's ORM at its usual work, over psycopg 3.

Argument before the usual ones: `client` or `server`, for where parameters are bound, or
`persistent`, for connections that outlive a request.
"""

import sys
import threading
from urllib.parse import urlsplit

import django
from common import URL, main, scripts
from django.conf import settings

MODE = sys.argv[-3]
address = urlsplit(URL)
options = {"application_name": "django", "options": "-c statement_timeout=55s"}
if MODE == "server":
    options["server_side_binding"] = True
settings.configure(
    DATABASES={
        alias: {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": address.path[1:],
            "USER": address.username,
            "HOST": address.hostname,
            "PORT": address.port,
            "CONN_MAX_AGE": None if MODE == "persistent" else 0,
            "CONN_HEALTH_CHECKS": MODE == "persistent",
            "OPTIONS": options,
        }
        for alias in ("default", "other")
    },
    INSTALLED_APPS=["library"],
    TIME_ZONE="Europe/Berlin",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import (  # noqa: E402 - only now that it is set up
    DatabaseError,
    IntegrityError,
    close_old_connections,
    connection,
    connections,
    models,
    transaction,
)
from library.models import Author, Book  # noqa: E402


def failure(error):
    return [type(error).__name__, getattr(error.__cause__, "sqlstate", None)]


def ask(sql, *values, using="default"):
    try:
        with connections[using].cursor() as cursor:
            cursor.execute(sql, values or None)
            return (
                [list(row) for row in cursor.fetchall()] if cursor.description else cursor.rowcount
            )
    except DatabaseError as error:
        return failure(error)


def outcome(work):
    try:
        return work()
    except DatabaseError as error:
        return failure(error)


def orm():
    from datetime import UTC, datetime

    born = datetime(2024, 2, 29, 12, tzinfo=UTC)
    authors = [Author(name=f"author {n}", born=born, data={"n": n}) for n in range(20)]
    Author.objects.bulk_create(authors)
    Book.objects.bulk_create(
        Book(title=f"{one.name}.{n}", author=one, price=n + 0.5)
        for one in authors
        for n in range(3)
    )
    got = [Author.objects.count(), Book.objects.aggregate(total=models.Sum("price"))]
    got.append(list(Author.objects.filter(data__n=3).values("name", "born", "data")))
    got.append(list(Author.objects.filter(born__hour=13).values_list("name")[:2]))  # in Berlin
    got.append(Author.objects.annotate(n=models.Count("book")).filter(n=3).count())
    got.append(len(list(Author.objects.prefetch_related("book_set"))))
    got.append(len(list(Book.objects.select_related("author").iterator(chunk_size=10))))
    got.append(Book.objects.update(price=models.F("price") + 1))
    one, made = Author.objects.get_or_create(name="author 3", defaults={"born": born})
    got += [one.name, made]
    one, made = Author.objects.update_or_create(name="author 21", defaults={"born": born})
    got += [one.name, made]
    got.append(outcome(lambda: Author.objects.create(name="author 3", born=born)))
    with transaction.atomic():
        got.append(Author.objects.select_for_update().get(name="author 4").data)
    many = [Author(name=f"author {n}", born=born) for n in (3, 30)]
    Author.objects.bulk_create(many, ignore_conflicts=True)
    got.append(Author.objects.filter(name="author 30").count())
    got.append(Book.objects.filter(author__name="author 5").delete()[0])
    got.append(Author.objects.filter(name="author 6").explain().startswith("Index Scan"))
    got.append(sorted(connection.introspection.table_names()))
    return got


def transactions():
    got, seen = [], []
    count = "SELECT count(*) FROM one.t WHERE name = 'django'"
    with transaction.atomic():
        ask("INSERT INTO one.t VALUES (50, 'django')")
        transaction.on_commit(lambda: seen.append("committed"))
        try:
            with transaction.atomic():
                ask("INSERT INTO one.t VALUES (51, 'django')")
                got.append(ask("SELECT 1 / %s", 0))
                raise IntegrityError
        except IntegrityError:
            got.append(ask(count))
        with transaction.atomic():
            ask("INSERT INTO one.t VALUES (52, 'django')")
        sid = transaction.savepoint()
        ask("DELETE FROM one.t")
        transaction.savepoint_rollback(sid)
    got += [seen, ask(count)]
    try:
        with transaction.atomic():
            ask("DELETE FROM one.t WHERE name = 'django'")
            raise ZeroDivisionError
    except ZeroDivisionError:
        got.append(ask(count))
    with transaction.atomic(durable=True):
        got.append(ask("SHOW transaction_isolation"))
        transaction.set_rollback(True)
    transaction.set_autocommit(False)
    got.append(ask("DELETE FROM one.t WHERE name = 'django'"))
    transaction.rollback()
    transaction.set_autocommit(True)
    got.append(ask(count))
    return got


def session_settings():
    """Django sets TimeZone itself; a middleware may set a tenant, and must take it back."""
    got = [ask("SHOW TimeZone"), ask("SHOW application_name"), ask("SHOW statement_timeout")]
    notes = "SELECT note FROM one.notes ORDER BY note"
    for who in ("alice", "bob", "nobody"):
        ask("SELECT set_config('app.who', %s, false)", who)
        ask("SET ROLE drivers_guest")
        got.append(ask(notes))
        with transaction.atomic():
            ask("SET LOCAL app.who = 'alice'")
            got.append(ask(notes))
        got.append(ask(notes))
        ask("RESET ROLE")
        got.append(ask("SELECT current_user, session_user"))
    ask("SET search_path = two")
    got += [ask("SELECT name FROM t"), connection.introspection.table_names()]
    ask("RESET search_path")
    ask("SET TimeZone = 'Asia/Tokyo'")
    got.append(ask("SHOW TimeZone"))
    connection.close()
    got += [ask("SHOW TimeZone"), ask("SELECT coalesce(current_setting('app.who', true), '')")]
    return got


def prepared():
    got = [ask("SELECT name FROM one.t WHERE id = %s", n % 3) for n in range(12)]
    got.append(ask("PREPARE pick (int) AS SELECT name FROM one.t WHERE id = $1"))
    got += [ask("EXECUTE pick (1)"), ask("DEALLOCATE pick"), ask("EXECUTE pick (1)")]
    return got


def copy():
    with connection.cursor() as cursor:
        lines = "".join(f"{n}\tcopied\n" for n in range(1000, 5000))
        with cursor.copy("COPY one.t FROM STDIN") as into:
            into.write(lines)
        with cursor.copy(
            "COPY (SELECT * FROM one.t WHERE id >= 1000 ORDER BY id) TO STDOUT"
        ) as out:
            same = b"".join(out).decode() == lines
    return [same, ask("DELETE FROM one.t WHERE id >= 1000")]


def timeouts():
    got = []
    ask("SET statement_timeout = 400")
    got.append(ask("SELECT pg_sleep(600)"))
    ask("RESET statement_timeout")
    with transaction.atomic():
        ask("SET LOCAL statement_timeout = 400")
        got.append(ask("SELECT pg_sleep(600)"))
        transaction.set_rollback(True)
    return [*got, ask("SHOW statement_timeout")]


def cancel():
    from common import SLEEP, SLEEPING

    ask("SELECT 1")
    raw = connection.connection

    def when_asleep():
        while ask(SLEEPING, using="other") == [[0]]:
            pass
        raw.cancel_safe(timeout=20)
        connections["other"].close()

    thread = threading.Thread(target=when_asleep)
    thread.start()
    got = [ask(SLEEP)]
    thread.join()
    return [*got, ask("SELECT 'after'")]


def notifications():
    got = []
    with connection.cursor() as cursor:
        cursor.execute("LISTEN news")
    ask("NOTIFY news, 'hello'", using="other")
    for said in connection.connection.notifies(timeout=20, stop_after=1):
        got.append([said.channel, said.payload])
    return [*got, ask("UNLISTEN *")]


def reconnect():
    got = []
    for _ in range(3):
        got.append(ask("SELECT pg_terminate_backend(pg_backend_pid())")[0])
        got.append(connection.is_usable())
        close_old_connections()  # as at a request's beginning and end
        got.append(ask("SELECT 'again'"))
        close_old_connections()
        connection.close()
    return got


def large():
    text = "0123456789" * 300000
    return [ask("SELECT %s || 'x'", text) == [[text + "x"]]]


def concurrent():
    ask("CREATE TABLE counter AS SELECT 0 AS n")
    right = []

    def work(first):
        for n in range(first, first + 20):
            with transaction.atomic():
                ask("UPDATE counter SET n = n + %s", n)
                transaction.set_rollback(n % 5 == 0)
            right.append(ask("SELECT %s::int", n) == [[n]])
            close_old_connections()
        connection.close()

    threads = [threading.Thread(target=work, args=(20 * n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [len(right), all(right), ask("SELECT n FROM counter")]


def on_new_connections(section):
    """What a section leaves in its session ends with it."""

    def run():
        try:
            return section()
        finally:
            connections.close_all()

    return run


def session(script):
    return lambda: [[sql, ask(sql)] for sql in script]


sections = {
    one.__name__: on_new_connections(one)
    for one in (
        *(orm, transactions, session_settings, prepared, copy, timeouts, cancel, notifications),
        *(reconnect, large, concurrent),
    )
}
for name, script in scripts():
    sections[f"{name} django"] = on_new_connections(session(script))
with connection.schema_editor() as editor:
    for model in (Author, Book):
        editor.create_model(model)
main(sections)
