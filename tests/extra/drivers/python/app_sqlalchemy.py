"""A small application over SQLAlchemy's ORM, as it comes: units of work that look before they write.

Argument before the usual ones: the driver below it, psycopg or asyncpg. `reads` in the results is how
many statements have read in transactions that had not written yet.
"""

import sys
import time

import sqlalchemy as sa
from common import URL, main
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

DRIVER = sys.argv[-3]
ADDRESS = URL.replace("postgresql:", f"postgresql+{DRIVER}:")
reads = 0


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(unique=True)
    balance: Mapped[int]
    entries: Mapped[list["Entry"]] = relationship(back_populates="account", lazy="selectin")


class Entry(Base):
    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id"))
    amount: Mapped[int]
    account: Mapped[Account] = relationship(back_populates="entries")


def by_owner(session, owner):
    """Two statements: the account, and its entries."""
    return session.scalars(sa.select(Account).where(Account.owner == owner)).one_or_none()


def looked(count):
    """So many statements have read before the first write."""
    global reads  # noqa: PLW0603 - a program's count
    reads += count


def rest():
    """Between two units of work: what was written comes to the replicas."""
    time.sleep(0.3)


def filled(session):
    for owner, balance in (("alice", 100), ("bob", 50), ("carol", 0)):
        session.add(Account(owner=owner, balance=balance))
    session.commit()


def transferred(session, source, target, amount):
    """Select, then write, then select."""
    one, other = by_owner(session, source), by_owner(session, target)
    looked(4)
    one.balance -= amount
    other.balance += amount
    session.add_all([Entry(account=one, amount=-amount), Entry(account=other, amount=amount)])
    session.flush()
    total = session.scalar(sa.select(sa.func.sum(Account.balance)))
    written = session.scalar(sa.select(sa.func.count()).select_from(Entry))
    session.commit()
    return [total, written]


def nested(session):
    """Savepoints before the first write and behind it; one of them is rolled back."""
    got = []
    with session.begin():
        got.append(session.scalar(sa.select(sa.func.count()).select_from(Account)))
        looked(1)
        with session.begin_nested():
            got.append(by_owner(session, "alice").balance)
            looked(2)
            try:
                with session.begin_nested():
                    session.add(Account(owner="alice", balance=1))
                    session.flush()
            except sa.exc.IntegrityError:
                got.append("alice is there")
            session.add(Account(owner="dave", balance=7))
        try:
            with session.begin_nested():
                by_owner(session, "dave").balance = 8
                session.flush()
                raise ValueError
        except ValueError:
            got.append(session.scalar(sa.select(Account.balance).where(Account.owner == "dave")))
    got.append(by_owner(session, "dave").balance)
    looked(2)
    session.rollback()
    return got


def failing(session):
    """An error before the first write: a savepoint saves the transaction, or nothing does."""
    got = []
    with session.begin():
        by_owner(session, "bob")
        looked(2)
        try:
            with session.begin_nested():
                session.execute(sa.text("SELECT 1 / 0"))
        except sa.exc.DBAPIError as error:
            got.append(error.orig.sqlstate)
        session.add(Account(owner="eve", balance=1))
    try:
        with session.begin():
            by_owner(session, "eve")
            looked(2)
            session.execute(sa.text("SELECT 1 / 0"))
    except sa.exc.DBAPIError as error:
        got.append(error.orig.sqlstate)
    with session.begin():
        got.append(len(session.scalars(sa.select(Account)).all()))
        looked(2)
    return got


def rolled_back(session):
    one = by_owner(session, "carol")
    looked(2)
    one.balance = 1000
    session.flush()
    seen = session.scalar(sa.select(Account.balance).where(Account.owner == "carol"))
    session.rollback()
    again = by_owner(session, "carol").balance
    looked(2)
    session.rollback()
    return [seen, again]


def isolated(engine):
    """Transactions that never begin on a replica, and one that ends there."""
    got = []
    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        with Session(engine.execution_options(isolation_level=level)) as session:
            got.append(by_owner(session, "bob").balance)
            session.add(Entry(account=by_owner(session, "bob"), amount=0))
            session.commit()
    with Session(engine.execution_options(postgresql_readonly=True)) as session:
        got.append(by_owner(session, "bob").balance)
        looked(2)
        try:
            session.execute(sa.text("DELETE FROM entries"))
        except sa.exc.DBAPIError as error:
            got.append(error.orig.sqlstate)
    return got


def balances(session):
    rows = session.execute(sa.select(Account.owner, Account.balance).order_by(Account.owner))
    looked(1)
    found = [list(row) for row in rows]
    session.rollback()
    return found


def application(engine):
    got = []
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        filled(session)
        for each in (("alice", "bob", 30), ("bob", "carol", 5)):
            rest()
            got.append(transferred(session, *each))
        for work in (nested, failing, rolled_back, balances):
            rest()
            got.append(work(session))
    got += [isolated(engine)]
    with Session(engine) as session:
        got.append(balances(session))
    got.append({"reads": reads})
    return got


def synchronous():
    engine = sa.create_engine(ADDRESS)
    try:
        return application(engine)
    finally:
        engine.dispose()


async def asynchronous():
    engine = create_async_engine(ADDRESS)
    try:
        return await sa.util.greenlet_spawn(application, engine.sync_engine)
    finally:
        await engine.dispose()


main({"application": asynchronous if DRIVER == "asyncpg" else synchronous})
