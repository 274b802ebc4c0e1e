"""Names of prepared statements in SQL: what stands in front of a batch that uses them."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    CLOSED,
    FAILED,
    IDLE,
    IN_BLOCK,
    PARSED,
    ROW,
    SELECTED,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import SYNC, bind, close, execute, parse, query

PREPARE = query("PREPARE a AS SELECT 1")
PREPARED = write.command_complete(b"PREPARE")
DEALLOCATED = write.command_complete(b"DEALLOCATE")
LEAD = "pgproxy_lead"


def hidden(sql: str) -> bytes:
    """What is sent to run a text of ours."""
    run = bind(portal=LEAD, statement=LEAD) + execute(LEAD) + close("P", LEAD) + SYNC
    return close("S", LEAD) + parse(sql, LEAD) + run


def done(tag: bytes, status: bytes = IDLE) -> bytes:
    """The answer to it."""
    return CLOSED + PARSED + BOUND + tag + CLOSED + status


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def test_a_name_goes_with_its_client(stage: Stage) -> None:
    client, primary, replica = stage.client(), stage["p"], stage["r1"]
    client >> PREPARE
    replica << PREPARE
    replica >> PREPARED + IDLE
    assert client.relay.server is None
    client >> query("EXECUTE a")
    replica << query("EXECUTE a")
    replica >> SELECTED + IDLE
    client << PREPARED + IDLE + SELECTED + IDLE
    client.asks(query("BEGIN"))
    client >> query("EXECUTE a")
    primary << hidden("PREPARE a AS SELECT 1") + query("BEGIN") + query("EXECUTE a")
    primary >> done(PREPARED) + BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK


def test_another_client_never_meets_it(stage: Stage) -> None:
    client, other, replica = stage.client(), stage.client(), stage["r1"]
    client >> PREPARE
    replica >> PREPARED + IDLE
    replica.take()
    other >> query("EXECUTE a; SELECT 1")
    # What it executes nobody has seen: the primary, where no such name is.
    stage["p"] << query("EXECUTE a; SELECT 1")
    stage["p"] >> error(sqlstate="26000") + IDLE
    other.take()
    other >> query("PREPARE a AS SELECT 2")
    replica << hidden('DEALLOCATE "a"') + query("PREPARE a AS SELECT 2")
    replica >> done(DEALLOCATED) + PREPARED + IDLE
    other << PREPARED + IDLE
    client.take()
    client >> bind(statement="a") + execute() + SYNC
    replica << (
        hidden('DEALLOCATE "a"')
        + hidden("PREPARE a AS SELECT 1")
        + bind(statement="a")
        + execute()
        + SYNC
    )
    replica >> done(DEALLOCATED) + done(PREPARED) + BOUND + ROW + IDLE
    client << BOUND + ROW + IDLE


def test_a_name_of_ours_is_refused_to_the_text_that_has_it(stage: Stage) -> None:
    client, primary, replica = stage.client(), stage["p"], stage["r1"]
    client >> query("EXECUTE pgproxy_1")
    assert letters(client.take()) == "EZ"
    client >> query("SELECT 1")
    replica >> SELECTED + IDLE
    assert client.take() == SELECTED + IDLE
    client >> parse("EXECUTE a") + bind() + execute() + SYNC
    primary << parse("EXECUTE a") + bind() + execute() + SYNC


def test_what_executes_it_is_parsed_where_it_is(stage: Stage) -> None:
    """PostgreSQL keeps the columns of an EXECUTE from its Parse."""
    client, other, replica = stage.client(), stage.client(), stage["r1"]
    texts = (client, "PREPARE a AS SELECT 1"), (other, "PREPARE a AS SELECT 'b'")
    for one, sql in texts:
        one >> query(sql)
        replica >> (PREPARED if one is client else done(DEALLOCATED) + PREPARED) + IDLE
        one << PREPARED + IDLE
        replica.take()
    for one, sql in texts:
        one >> parse("EXECUTE a", "s") + SYNC
        name = one.relay.batch.statements.named[b"s"].server_name.decode()
        lead = hidden('DEALLOCATE "a"') + hidden(sql)
        replica << lead + parse("EXECUTE a", name) + SYNC
        replica >> done(DEALLOCATED) + done(PREPARED) + PARSED + IDLE
        one << PARSED + IDLE
    first, second = (one.relay.batch.statements.named[b"s"] for one in (client, other))
    assert first is not second


def test_why_it_cannot_be_prepared_again_is_what_the_client_is_told(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    client >> PREPARE
    stage["r1"] >> PREPARED + IDLE
    client.take()
    client.asks(query("BEGIN"))
    client >> query("EXECUTE a")
    assert letters(primary.take()) == "CPBECSQQ"
    gone = error("gone", "42P01")
    undefined = error('prepared statement "a" does not exist', "26000")
    primary >> CLOSED + PARSED + BOUND + gone + IDLE + BEGUN + IN_BLOCK + undefined + FAILED
    client << gone + FAILED


def test_what_follows_a_change_waits_for_it(stage: Stage) -> None:
    client, replica = stage.client(), stage["r1"]
    client >> PREPARE + bind(statement="a") + execute() + SYNC
    replica << PREPARE
    replica >> PREPARED + IDLE
    replica << bind(statement="a") + execute() + SYNC
    replica >> BOUND + ROW + IDLE
    client << PREPARED + IDLE + BOUND + ROW + IDLE


def test_what_failed_has_changed_nothing(stage: Stage) -> None:
    client, replica = stage.client(), stage["r1"]
    client >> query("PREPARE a AS SELECT 1; PREPARE b AS SELECT no; PREPARE c AS SELECT 3")
    replica >> PREPARED + error() + IDLE
    replica.take()
    client.take()
    client >> bind(statement="b") + SYNC
    assert b"b" not in client.relay.batch.statements.named
    assert letters(replica.take()) == "BS"
    replica >> error(sqlstate="26000") + IDLE
    assert fields(client.take())["M"] == 'prepared statement "b" does not exist'
    assert set(client.relay.batch.statements.named) == {b"a"}


def test_all_that_is_the_protocols_is_deallocated_without_a_server(stage: Stage) -> None:
    client = stage.client()
    client >> parse("SELECT 1", "a") + SYNC
    stage["r1"] >> PARSED + IDLE
    client.take()
    stage["r1"].take()
    tag = write.command_complete(b"DEALLOCATE ALL")
    assert client.asks(query("DEALLOCATE ALL")) == tag + IDLE
    assert not client.relay.batch.statements.named


def test_discard_all_is_believed_when_it_is_done(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    insert = parse("INSERT INTO t VALUES (1)", "a")
    client >> insert + SYNC
    primary >> PARSED + IDLE
    primary.take()
    use = bind(statement="a") + execute() + SYNC
    client >> query("DISCARD ALL") + use
    primary << query("DISCARD ALL")
    primary >> write.command_complete(b"DISCARD ALL") + IDLE
    assert not client.relay.batch.statements.named
    assert not [server for server, _ in primary.connections if server.doomed]
