"""What the relay must know of BEGIN to ROLLBACK TO SAVEPOINT."""

import pytest

from pgproxy.routing.classify import classify
from pgproxy.routing.decision import BEGIN, CHAIN, END, PLAIN, PRIMARY, REPLICA, Decision


def decide(sql: str) -> Decision:
    """The decision for a text."""
    return classify(sql.encode())


@pytest.mark.parametrize(
    ("sql", "tag", "read_only", "target"),
    [
        ("BEGIN", b"BEGIN", False, PRIMARY),
        ("begin work;", b"BEGIN", False, PRIMARY),
        ("START TRANSACTION", b"START TRANSACTION", False, PRIMARY),
        ("BEGIN READ ONLY", b"BEGIN", True, REPLICA),
        ("START TRANSACTION READ ONLY", b"START TRANSACTION", True, REPLICA),
        ("BEGIN READ ONLY READ WRITE", b"BEGIN", False, PRIMARY),
        ("BEGIN READ WRITE READ ONLY", b"BEGIN", True, PRIMARY),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", b"BEGIN", True, PRIMARY),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", b"BEGIN", False, PRIMARY),
    ],
)
def test_begin_says_its_tag_and_its_mode(
    sql: str, tag: bytes, read_only: bool, target: int
) -> None:
    decision = decide(sql)
    assert decision.kind == BEGIN
    assert (decision.tag, decision.read_only, decision.target) == (tag, read_only, target)
    assert decision.starts_transaction
    assert not decision.ends_transaction


@pytest.mark.parametrize(
    ("sql", "tag"),
    [
        ("COMMIT", b"COMMIT"),
        ("COMMIT WORK AND NO CHAIN", b"COMMIT"),
        ("END TRANSACTION", b"COMMIT"),
        ("ROLLBACK", b"ROLLBACK"),
        ("ABORT", b"ROLLBACK"),
    ],
)
def test_an_end_says_the_tag_that_postgresql_answers_with(sql: str, tag: bytes) -> None:
    decision = decide(sql)
    assert (decision.kind, decision.tag) == (END, tag)
    assert decision.ends_transaction
    assert not decision.starts_transaction


@pytest.mark.parametrize(
    ("sql", "starts", "ends"),
    [
        ("COMMIT AND CHAIN", True, True),
        ("ROLLBACK AND CHAIN", True, True),
        ("PREPARE TRANSACTION 'x'", False, True),
        ("COMMIT PREPARED 'x'", False, False),
        ("ROLLBACK PREPARED 'x'", False, False),
        ("SAVEPOINT a", False, False),
        ("ROLLBACK TO a", False, False),
        ("RELEASE a", False, False),
    ],
)
def test_other_transaction_commands_are_no_end_that_the_relay_may_answer(
    sql: str, starts: bool, ends: bool
) -> None:
    decision = decide(sql)
    assert decision.kind == (CHAIN if starts else PLAIN)
    assert (decision.starts_transaction, decision.ends_transaction) == (starts, ends)
