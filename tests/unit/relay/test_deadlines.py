"""Whose time is up, and which limit a client has."""

import pytest

from pgproxy.relay.deadlines import (
    CANCEL_IS_LATE,
    CLIENT_IDLE,
    CLIENT_IS_LATE,
    CLIENT_IS_LATE_IN_TRANSACTION,
    CLIENT_LOGIN,
    GRACE,
    IDLE_IN_TRANSACTION,
    NEVER,
    NOBODY,
    QUERY,
    QUEUED,
    READING,
    RESTING,
    SENDING,
    STATEMENT_IS_LATE,
    TRANSACTION,
    TRANSACTION_IS_LATE,
    WORKING,
    Deadlines,
    TimeLimits,
    TimeLimitTable,
)

TABLE = TimeLimitTable(
    {QUERY: 30.0, TRANSACTION: 0.0, CLIENT_IDLE: 0.0, CLIENT_LOGIN: 1.0},
    {"reports": {QUERY: 600.0, CLIENT_IDLE: 5.0, TRANSACTION: None}},
    {"batch": {QUERY: 0.0}, "bob": {QUERY: 1.5, CLIENT_LOGIN: 2.0}},
)


@pytest.mark.parametrize(
    ("database", "user", "query", "idle", "named"),
    [
        ("shop", "alice", 30.0, NEVER, "30 s (timeouts.query)"),
        ("reports", "alice", 600.0, 5.0, "600 s (timeouts.databases.reports.query)"),
        ("reports", "bob", 1.5, 5.0, "1.5 s (timeouts.users.bob.query)"),
        ("reports", "batch", NEVER, 5.0, "0 s (timeouts.users.batch.query)"),
        ("shop", "batch", NEVER, NEVER, "0 s (timeouts.users.batch.query)"),
    ],
)
def test_the_user_wins_over_the_database(
    database: str, user: str, query: float, idle: float, named: str
) -> None:
    limits = TABLE.of(database, user)
    assert (limits.query, limits.client_idle, limits.transaction) == (query, idle, NEVER)
    assert limits.named(QUERY) == named
    assert limits.has_any == (min(query, idle) < NEVER)
    assert TABLE.of(database, user) is limits


def test_clients_without_exceptions_share_their_limits() -> None:
    assert TABLE.of("shop", "alice") is TABLE.of("other", "carol")
    assert TABLE.of("shop", "bob").client_login == 2.0


def test_the_shortest_limit_of_anybody() -> None:
    assert TABLE.shortest == 1.5
    assert TimeLimitTable().shortest == NEVER
    assert TimeLimitTable({CLIENT_LOGIN: 5.0}).shortest == NEVER
    assert not TimeLimitTable({CLIENT_LOGIN: 5.0}).of("d", "u").has_any


ALL = TimeLimits(
    {QUERY: 2.0, TRANSACTION: 10.0, IDLE_IN_TRANSACTION: 3.0, CLIENT_IDLE: 4.0},
    {},
)


@pytest.mark.parametrize(
    ("at", "in_block", "late", "after"),
    [
        (RESTING, False, CLIENT_IS_LATE, 4.0),
        (RESTING, True, CLIENT_IS_LATE_IN_TRANSACTION, 3.0),
        (WORKING, False, STATEMENT_IS_LATE, 2.0),
        (WORKING, True, STATEMENT_IS_LATE, 2.0),
        (SENDING, False, CLIENT_IS_LATE_IN_TRANSACTION, 3.0),
        (READING, False, TRANSACTION_IS_LATE, 10.0),
        (QUEUED, True, TRANSACTION_IS_LATE, 10.0),
    ],
)
def test_each_has_its_time(at: int, in_block: bool, late: int, after: float) -> None:
    deadlines = Deadlines(ALL, 100.0)
    assert deadlines.look(100.0, at, in_block=in_block) == NOBODY
    assert deadlines.look(100.0 + after - 0.01, at, in_block=in_block) == NOBODY
    assert deadlines.due_at == 100.0 + after or deadlines.due_at <= 100.0 + after + 2.0
    assert deadlines.look(100.0 + after, at, in_block=in_block) == late


def test_who_waits_for_the_proxy_outside_of_a_transaction_has_all_the_time() -> None:
    assert Deadlines(ALL, 100.0).look(1e9, QUEUED, in_block=False) == NOBODY


def test_without_limits_nobody_is_late() -> None:
    deadlines = Deadlines(TimeLimits({}, {}), 100.0)
    for at in (RESTING, WORKING, SENDING, READING, QUEUED):
        for in_block in (False, True):
            assert deadlines.look(1e9, at, in_block=in_block) == NOBODY
    assert deadlines.due_at == NEVER


def test_a_statement_that_was_cancelled_has_a_little_more_time() -> None:
    deadlines = Deadlines(ALL, 100.0)
    assert deadlines.look(102.0, WORKING, in_block=False) == STATEMENT_IS_LATE
    deadlines.struck_at = 102.0
    assert deadlines.look(102.1, WORKING, in_block=False) == NOBODY
    assert deadlines.look(102.0 + GRACE, WORKING, in_block=False) == CANCEL_IS_LATE
    deadlines.ready(108.0, is_idle=True)
    # The next one begins anew.
    assert deadlines.look(109.9, WORKING, in_block=False) == NOBODY
    assert deadlines.look(110.0, WORKING, in_block=False) == STATEMENT_IS_LATE


def test_a_transaction_goes_on_over_its_statements() -> None:
    deadlines = Deadlines(ALL, 100.0)
    for number in range(9):
        deadlines.ready(101.0 + number, is_idle=False)
        assert deadlines.look(101.0 + number, WORKING, in_block=True) == NOBODY
    assert deadlines.look(110.0, RESTING, in_block=True) == TRANSACTION_IS_LATE
    deadlines.ready(110.0, is_idle=True)
    assert deadlines.look(111.0, WORKING, in_block=True) == NOBODY


def test_the_clients_word_counts_and_that_of_its_server() -> None:
    deadlines = Deadlines(ALL, 100.0)
    deadlines.heard_at = 103.0
    assert deadlines.look(106.9, RESTING, in_block=False) == NOBODY
    deadlines.ready(105.0, is_idle=True)
    assert deadlines.look(108.9, RESTING, in_block=False) == NOBODY
    assert deadlines.look(109.0, RESTING, in_block=False) == CLIENT_IS_LATE
