"""Which mode a client gets, and which key says so."""

import pytest

from pgproxy.servers.modes import SESSION, STATEMENT, TRANSACTION, PoolModes

MODES = PoolModes(TRANSACTION, databases={"reports": SESSION}, users={"batch": STATEMENT})


@pytest.mark.parametrize(
    ("database", "user", "mode", "origin"),
    [
        ("shop", "alice", TRANSACTION, "pool.mode"),
        ("reports", "alice", SESSION, "pool.databases.reports.mode"),
        ("shop", "batch", STATEMENT, "pool.users.batch.mode"),
        ("reports", "batch", STATEMENT, "pool.users.batch.mode"),
    ],
)
def test_the_user_wins_over_the_database(database: str, user: str, mode: str, origin: str) -> None:
    assert MODES.of(database, user) == mode
    assert MODES.origin(database, user) == origin


def test_without_exceptions_the_rule_holds() -> None:
    assert PoolModes(SESSION).of("any", "one") == SESSION
    assert PoolModes().of("any", "one") == TRANSACTION
