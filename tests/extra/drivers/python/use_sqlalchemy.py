"""SQLAlchemy, its ORM and its pool, at their usual work.

Argument before the usual ones: the driver below it, psycopg or asyncpg. With asyncpg every section
runs in SQLAlchemy's own way of calling it (greenlets), so that both do the same.
"""

import asyncio
import sys
import threading

import sqlalchemy as sa
from common import SLEEP, SLEEPING, URL, main, scripts
from sqlalchemy import event, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

DRIVER = sys.argv[-3]
ASYNC = DRIVER == "asyncpg"
ADDRESS = URL.replace("postgresql:", f"postgresql+{DRIVER}:")


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    tags: Mapped[list[str]] = mapped_column(ARRAY(sa.String))
    data: Mapped[dict] = mapped_column(JSONB)
    version: Mapped[int] = mapped_column()
    books: Mapped[list["Book"]] = relationship(back_populates="author", lazy="selectin")
    __mapper_args__ = {"version_id_col": version}


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def engine(**options):
    return (
        create_async_engine(ADDRESS, **options) if ASYNC else sa.create_engine(ADDRESS, **options)
    )


def with_engine(section, **options):
    """Runs a section with an engine that is used as a synchronous one, whatever is below."""

    def run():
        if not ASYNC:
            own = engine(**options)
            try:
                return section(own)
            finally:
                own.dispose()
        return in_greenlet(section, options)

    return run


async def in_greenlet(section, options):
    own = engine(**options)
    try:
        return await sa.util.greenlet_spawn(section, own.sync_engine)
    finally:
        await own.dispose()


def failure(error):
    original = getattr(error, "orig", None)
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return [type(error).__name__, code, getattr(error, "connection_invalidated", None)]


def outcome(work):
    try:
        got = work()
    except sa.exc.SQLAlchemyError as error:
        return failure(error)
    if isinstance(got, sa.CursorResult):
        return [list(row) for row in got] if got.returns_rows else got.rowcount
    return got


def orm(own):
    got = []
    with Session(own) as session:
        session.add_all(
            Author(
                name=f"author {n}",
                tags=["a", str(n)],
                data={"n": n},
                books=[Book(title=f"{n}.{m}") for m in range(3)],
            )
            for n in range(20)
        )
        session.commit()
        got.append(session.scalar(sa.select(sa.func.count()).select_from(Book)))
        one = session.scalars(sa.select(Author).where(Author.name == "author 3")).one()
        got.append([one.tags, one.data, sorted(book.title for book in one.books)])
        one.data = {"changed": True}
        session.commit()
        got.append([one.version, one.data])
        session.add(Author(name="author 3", tags=[], data={}))
        got.append(outcome(session.commit))
        session.rollback()
        with session.begin_nested():
            session.add(Author(name="nested", tags=[], data={}))
        inner = session.begin_nested()
        session.add(Author(name="undone", tags=[], data={}))
        session.flush()
        inner.rollback()
        session.commit()
        names = sa.select(Author.name).where(Author.name.in_(["nested", "undone"]))
        got.append(session.scalars(names).all())
        with Session(own) as other:
            other.get(Author, one.id).data = {"other": 1}
            other.commit()
        one.data = {"stale": 1}
        try:
            session.commit()
        except Exception as error:
            got.append(type(error).__name__)
        session.rollback()
        many = sa.select(Author.id).order_by(Author.id).execution_options(yield_per=5)
        got.append([len(part) for part in session.execute(many).partitions()])
    return got


def core(own):
    got = []
    table = sa.Table(
        "core",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.Column("name", sa.String),
    )
    with own.begin() as c:
        table.create(c)
        c.execute(table.insert(), [{"id": n, "name": f"name {n}"} for n in range(300)])
        got.append(outcome(lambda: c.execute(sa.select(sa.func.count()).select_from(table))))
        new = insert(table).values(id=1, name="again")
        new = new.on_conflict_do_update(index_elements=["id"], set_={"name": new.excluded.name})
        got.append(outcome(lambda: c.execute(new.returning(table.c.name))))
        got.append(sorted(sa.inspect(c).get_table_names()))
        got.append([str(one["type"]) for one in sa.inspect(c).get_columns("core")])
        got.append(
            outcome(
                lambda: c.execute(
                    table.insert().returning(table.c.id), [{"id": n} for n in range(1000, 1020)]
                )
            )
        )
    with own.connect() as c:
        got.append(outcome(lambda: c.execute(table.insert(), [{"id": 5000}, {"id": 1}])))
        c.rollback()
        got.append(outcome(lambda: c.execute(table.select().where(table.c.id > 1015))))
    return got


def transactions(own):
    got = []
    for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"):
        with own.connect().execution_options(isolation_level=level) as c:
            got.append(outcome(lambda: c.execute(text("SHOW transaction_isolation"))))
            got.append(outcome(lambda: c.execute(text("SELECT 1 / :n"), {"n": 0})))
            got.append(outcome(lambda: c.execute(text("SELECT 'next'"))))
            c.rollback()
            got.append(c.get_isolation_level())
    with own.connect().execution_options(
        postgresql_readonly=True, postgresql_deferrable=True, isolation_level="SERIALIZABLE"
    ) as c:
        got.append(outcome(lambda: c.execute(text("SHOW transaction_read_only"))))
        got.append(outcome(lambda: c.execute(text("DELETE FROM one.t"))))
    # The pool gives the connection back as it was.
    with own.connect() as c:
        got.append(outcome(lambda: c.execute(text("SHOW transaction_read_only"))))
        got.append(c.get_isolation_level())
    return got


def settings(own):
    """A tenant by connection: set when it is checked out, seen by a policy, reset by the pool."""
    got = []

    @event.listens_for(own, "checkout")
    def checked_out(connection, *_):
        cursor = connection.cursor()
        cursor.execute("SELECT set_config('app.who', 'alice', false)")
        cursor.execute("SET ROLE drivers_guest")
        cursor.close()
        connection.commit()

    @event.listens_for(own, "checkin")
    def checked_in(connection, *_):
        cursor = connection.cursor()
        cursor.execute("RESET ROLE")
        cursor.execute("RESET ALL")
        cursor.close()
        connection.commit()

    notes = text("SELECT note FROM one.notes ORDER BY note")
    for _ in range(3):
        with own.connect() as c:
            got.append(outcome(lambda: c.execute(notes)))
            c.execute(text("SET LOCAL app.who = 'bob'"))
            got.append(outcome(lambda: c.execute(notes)))
            c.rollback()
            got.append(outcome(lambda: c.execute(notes)))
            c.execute(text("SET search_path = one"))
            c.commit()
            got.append(outcome(lambda: c.execute(text("SELECT note FROM notes ORDER BY note"))))
            got.append(outcome(lambda: c.execute(text("SELECT * FROM t"))))
            c.rollback()
            got.append(outcome(lambda: c.execute(text("SHOW search_path"))))
    return got


def prepared(own):
    """Each statement often enough to be prepared by name; names of SQL beside them."""
    got = []
    with own.connect() as c:
        for n in range(12):
            got.append(
                outcome(
                    lambda n=n: c.execute(
                        text("SELECT name FROM one.t WHERE id = :n"), {"n": n % 3}
                    )
                )
            )
        for sql in (
            "PREPARE pick AS SELECT 'mine'",
            "EXECUTE pick",
            "DEALLOCATE pick",
            "SELECT 'after'",
        ):
            got.append(outcome(lambda sql=sql: c.execute(text(sql))))
    return got


def streaming(own):
    with own.connect() as c:
        result = c.execution_options(stream_results=True, max_row_buffer=10).execute(
            text("SELECT n FROM generate_series(1, 50) n")
        )
        first = result.fetchmany(7)
        return [[list(row) for row in first], len(result.fetchall())]


def timeouts(own):
    got = []
    with own.connect() as c:
        c.execute(text("SET LOCAL statement_timeout = 400"))
        got.append(outcome(lambda: c.execute(text("SELECT pg_sleep(600)"))))
        c.rollback()
        c.execute(text("SET statement_timeout = 400"))
        c.commit()
        got.append(outcome(lambda: c.execute(text("SELECT pg_sleep(600)"))))
        c.rollback()
        c.execute(text("RESET statement_timeout"))
        c.commit()
        got.append(outcome(lambda: c.execute(text("SHOW statement_timeout"))))
    return got


def reconnect(own):
    """A connection that has died is noticed when it is checked out (pool_pre_ping), or when used."""
    got = []
    for _ in range(3):
        with own.connect() as c:
            got.append(
                outcome(lambda: c.execute(text("SELECT pg_terminate_backend(pg_backend_pid())")))
            )
            got.append(c.invalidated)
            c.rollback() if not c.invalidated else None
        with own.connect() as c:
            got.append(outcome(lambda: c.execute(text("SELECT 'again'"))))
    own.dispose(close=not ASYNC)
    with own.connect() as c:
        got.append(outcome(lambda: c.execute(text("SELECT 'anew'"))))
    return got


def cancel(own):
    with own.connect() as c:
        raw = c.connection.driver_connection

        def when_asleep():
            with sa.create_engine(
                URL.replace("postgresql:", "postgresql+psycopg:")
            ).connect() as other:
                while other.execute(text(SLEEPING)).scalar() == 0:
                    other.rollback()
            raw.cancel_safe(timeout=20)

        thread = threading.Thread(target=when_asleep)
        thread.start()
        ended = outcome(lambda: c.execute(text(SLEEP)))
        thread.join()
        c.rollback()
        return [ended, outcome(lambda: c.execute(text("SELECT 'after'")))]


async def cancel_task():
    own, other = engine(), engine()

    async def sleep():
        async with own.connect() as c:
            await c.execute(text(SLEEP))

    got = []
    async with other.connect() as c:
        await c.execution_options(isolation_level="AUTOCOMMIT")
        task = asyncio.ensure_future(sleep())
        while await c.scalar(text(SLEEPING)) == 0:
            pass
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            got.append("cancelled")
        while await c.scalar(text(SLEEPING)):
            pass
    async with own.connect() as c:
        got.append(await c.scalar(text("SELECT 'after'")))
    await own.dispose()
    await other.dispose()
    return got


def concurrent(own):
    with own.begin() as c:
        c.execute(text("CREATE TABLE counter AS SELECT 0 AS n"))
    right = []

    def work(first):
        for n in range(first, first + 20):
            with own.connect() as c:
                c.execute(text("UPDATE counter SET n = n + :n"), {"n": n})
                c.rollback() if n % 5 == 0 else c.commit()
                right.append(c.scalar(text("SELECT CAST(:n AS int)"), {"n": n}) == n)

    if ASYNC:
        for n in range(10):
            work(20 * n)
    else:
        threads = [threading.Thread(target=work, args=(20 * n,)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with own.connect() as c:
        return [len(right), all(right), c.scalar(text("SELECT n FROM counter"))]


async def concurrent_tasks():
    own = engine(pool_size=10)
    async with own.begin() as c:
        await c.execute(text("CREATE TABLE counter_of_tasks AS SELECT 0 AS n"))

    async def step(n):
        async with own.connect() as c:
            await c.execute(text("UPDATE counter_of_tasks SET n = n + :n"), {"n": n})
            await (c.rollback() if n % 5 == 0 else c.commit())
            return await c.scalar(text("SELECT CAST(:n AS int)"), {"n": n}) == n

    right = await asyncio.gather(*(step(n) for n in range(200)))
    async with own.connect() as c:
        total = await c.scalar(text("SELECT n FROM counter_of_tasks"))
    await own.dispose()
    return [all(right), total]


def session(script):
    def play(own):
        with own.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
            return [[sql, outcome(lambda sql=sql: c.exec_driver_sql(sql))] for sql in script]

    return play


sections = {
    "orm": with_engine(orm),
    "core": with_engine(core),
    "transactions": with_engine(transactions),
    "settings": with_engine(settings),
    "prepared": with_engine(prepared),
    "streaming": with_engine(streaming),
    "timeouts": with_engine(timeouts),
    "reconnect": with_engine(reconnect, pool_pre_ping=True),
    "cancel": cancel_task if ASYNC else with_engine(cancel),
    "concurrent": concurrent_tasks if ASYNC else with_engine(concurrent),
}
for name, script in scripts():
    sections[f"{name} driver"] = with_engine(session(script))
with_schema = with_engine(Base.metadata.create_all)()
if ASYNC:
    asyncio.run(with_schema)
main(sections)
