"""The load that keeps books (tests/support/ledger.py) sees what goes wrong, or its word is nothing."""

from pgproxy.embedded import Cluster
from tests.support.ledger import INDEX, ROWS, TABLE, Audit, Load

_TERMINATE_ALL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_books_and_table(cluster: Cluster, fresh_database: str) -> None:
    primary = cluster.primary
    primary.psql(f"{TABLE}; {INDEX}", db=fresh_database)

    def present() -> list[int]:
        return [int(line) for line in primary.psql(ROWS, db=fresh_database).splitlines()]

    load = Load(primary.dsn(fresh_database), clients=32)
    load.start()
    terminated = int(primary.psql(_TERMINATE_ALL, db=fresh_database))
    load.wait_writes(100)
    books = load.stop()

    assert terminated == 32
    # Everybody was told once; who had nothing to ask was told when it asked.
    assert sorted(failure.client for failure in books.failures) == sorted(load.clients())
    assert {failure.sqlstate for failure in books.failures} <= {"57P01", None}
    assert any(failure.sqlstate == "57P01" for failure in books.failures)
    assert books.audit(present()) == Audit()
    assert len(books.writes()) >= 200

    row = next(row for done in books.done for row in done.rows)
    primary.psql(f"DELETE FROM ledger WHERE id = {row}", db=fresh_database)
    assert books.audit(present()) == Audit(lost=(row,))
    primary.psql(f"INSERT INTO ledger (id) VALUES ({row}), ({row}), (-1)", db=fresh_database)
    assert books.audit(present()) == Audit(doubled=(row,), unexplained=(-1,))
