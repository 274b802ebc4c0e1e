"""pool.mode by database and by user, and what statement mode refuses."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from pgproxy.servers.modes import PoolModes
from tests.playbooks.stage import (
    BOUND,
    IDLE,
    IN_BLOCK,
    INSERTED,
    PARSED,
    SELECTED,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import FLUSH, SYNC, bind, execute, parse, query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(mode="statement")
    yield stage
    stage.close()


def refusal(answer: bytes) -> dict[str, str]:
    found = fields(answer)
    assert found["M"] == "transaction blocks are not allowed in statement pooling mode"
    assert (found["C"], found["D"]) == ("0A000", 'pool.mode is "statement".')
    return found


@pytest.mark.parametrize(
    "text", ["BEGIN", "start transaction read only", "SELECT 1; BEGIN; SELECT 2", "BEGIN; COMMIT"]
)
def test_a_block_is_refused_and_the_session_goes_on(stage: Stage, text: str) -> None:
    client, replica = stage.client(), stage["r1"]
    answer = client.asks(query(text))
    assert letters(answer) == "EZ"
    assert (refusal(answer)["V"], refusal(answer)["ready"]) == ("ERROR", "I")
    client >> SELECT
    replica << SELECT
    replica >> SELECTED + IDLE
    client << SELECTED + IDLE


def test_several_statements_in_one_query_are_one_transaction(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    several = query("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)")
    client >> several
    primary << several
    primary >> INSERTED + INSERTED + IDLE
    client << INSERTED + INSERTED + IDLE
    assert client.relay.server is None


def test_a_block_is_refused_when_it_is_prepared(stage: Stage) -> None:
    client = stage.client()
    assert letters(client.asks(parse("BEGIN") + bind() + execute() + SYNC)) == "EZ"
    # Before its Sync, too, for a client that waits for an answer to Flush.
    assert letters(client.asks(parse("BEGIN", name="b") + FLUSH)) == "E"
    assert letters(client.asks(bind(statement="b") + execute())) == ""
    client >> SYNC
    client << IDLE


def test_the_refusal_waits_for_the_answers_in_front_of_it(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    client >> INSERT + query("BEGIN") + INSERT
    primary << INSERT
    client << b""
    primary >> INSERTED + IDLE
    answer = client.take()
    assert letters(answer) == "CZEZ"
    refusal(answer)
    primary << INSERT
    primary >> INSERTED + IDLE
    client << INSERTED + IDLE


def test_a_session_that_is_pinned_is_refused_as_well(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    client >> query("CREATE TEMP TABLE a ()")
    primary << query("CREATE TEMP TABLE a ()")
    primary >> write.command_complete(b"PREPARE") + IDLE
    client.take()
    assert letters(client.asks(query("BEGIN"))) == "EZ"
    primary << b""


def test_a_block_begun_by_what_was_not_understood_ends_with_the_connection(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    odd = query("BEGIN !!")
    client >> odd
    primary << odd
    primary >> write.command_complete(b"BEGIN") + IN_BLOCK
    answer = client.take()
    assert letters(answer) == "CZE"
    assert refusal(answer)["V"] == "FATAL"
    assert client.own_transport.closed
    assert letters(primary.take()).startswith("Q")  # ROLLBACK
    primary >> write.command_complete(b"ROLLBACK") + IDLE
    primary >> error() + IDLE  # whatever DISCARD ALL says


def test_the_user_wins_over_the_database() -> None:
    stage = Stage()
    stage.relays.modes = PoolModes("transaction", {"d": "session"}, {"u": "statement"})
    client = stage.client()
    found = fields(client.asks(query("BEGIN")))
    assert found["D"] == 'pool.users.u.mode is "statement".'
    stage.close()


def test_the_mode_of_a_database() -> None:
    stage = Stage()
    stage.relays.modes = PoolModes("statement", {"d": "session"})
    client, primary = stage.client(), stage["p"]
    client >> parse("SELECT 1") + bind() + execute() + SYNC
    primary.take()
    primary >> PARSED + BOUND + SELECTED[:0] + write.command_complete(b"SELECT 0") + IDLE
    assert client.relay.server is not None  # until it leaves
    stage.close()
