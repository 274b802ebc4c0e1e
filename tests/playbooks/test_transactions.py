"""Where transactions go: BEGIN is held back, READ ONLY goes to a replica, the rest to the primary."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from pgproxy.protocol.session import TO_REPLICA
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    COMMITTED,
    CREATED,
    FAILED,
    IDLE,
    IN_BLOCK,
    INSERTED,
    PARSED,
    ROLLED_BACK,
    ROW,
    SELECTED,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import SYNC, bind, execute, parse, query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
READ_ONLY = query("BEGIN READ ONLY")
# Tells that a statement may move while nothing was written.
MOVABLE = query("BEGIN READ ONLY ISOLATION LEVEL READ COMMITTED")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def test_a_read_goes_to_the_replica_and_a_write_to_the_primary(stage: Stage) -> None:
    client, primary, replica = stage.client(), stage["p"], stage["r1"]
    client >> SELECT
    replica << SELECT
    replica >> SELECTED + IDLE
    client << SELECTED + IDLE
    client >> INSERT
    primary << INSERT
    primary >> INSERTED + IDLE
    client << INSERTED + IDLE
    assert client.relay.server is None


def test_begin_is_answered_at_once_and_sent_with_the_first_statement(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    client >> query("BEGIN")
    client << BEGUN + IN_BLOCK
    assert client.relay.server is None
    client >> SELECT
    primary << query("BEGIN") + SELECT
    primary >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK
    client >> query("COMMIT")
    primary << query("COMMIT")
    primary >> COMMITTED + IDLE
    client << COMMITTED + IDLE
    assert client.relay.server is None


@pytest.mark.parametrize(("end", "answer"), [("COMMIT", COMMITTED), ("ROLLBACK", ROLLED_BACK)])
def test_an_empty_transaction_needs_no_server(stage: Stage, end: str, answer: bytes) -> None:
    client = stage.client()
    client >> query("BEGIN")
    client << BEGUN + IN_BLOCK
    client >> query(end)
    client << answer + IDLE
    assert all(server.open == 0 for server in stage.servers.values())


def test_a_read_only_transaction_runs_on_the_replica(stage: Stage) -> None:
    client, replica = stage.client(), stage["r1"]
    client >> READ_ONLY + SELECT
    client << BEGUN + IN_BLOCK
    replica << READ_ONLY + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK
    client >> SELECT + query("COMMIT")
    replica << SELECT
    replica >> SELECTED + IN_BLOCK
    replica << query("COMMIT")
    replica >> COMMITTED + IDLE
    client << SELECTED + IN_BLOCK + COMMITTED + IDLE
    assert client.relay.server is None


def test_a_transaction_on_a_replica_moves_to_the_primary_when_it_must(stage: Stage) -> None:
    client, primary, replica = stage.client(), stage["p"], stage["r1"]
    client >> MOVABLE
    client >> SELECT
    replica << MOVABLE + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client >> INSERT
    replica << query("ROLLBACK")
    primary << MOVABLE + INSERT
    primary >> BEGUN + IN_BLOCK + error(sqlstate="25006") + FAILED
    client << error(sqlstate="25006") + FAILED
    replica >> ROLLED_BACK + IDLE
    client >> query("ROLLBACK")
    primary << query("ROLLBACK")
    primary >> ROLLED_BACK + IDLE
    client << ROLLED_BACK + IDLE
    assert stage.counters.moved_transactions == 1


def test_the_move_waits_for_what_is_still_running(stage: Stage) -> None:
    client, primary, replica = stage.client(), stage["p"], stage["r1"]
    client >> MOVABLE + SELECT + INSERT + SELECT
    replica << MOVABLE + SELECT
    primary << b""
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    replica << query("ROLLBACK")
    primary << MOVABLE + INSERT + SELECT
    client << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK


def test_a_transaction_that_has_its_snapshot_does_not_move(stage: Stage) -> None:
    client, replica = stage.client(), stage["r1"]
    begin = query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    client >> begin + SELECT
    replica << begin + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client >> INSERT
    replica << INSERT


def test_a_refused_begin_ends_the_connection(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    client >> query("BEGIN") + INSERT
    client << BEGUN + IN_BLOCK
    primary >> error() + IDLE
    answer = client.take()
    assert letters(answer) == "E"
    assert fields(answer)["S"] == "FATAL"
    assert client.own_transport.closed
    assert primary.open == 0


def test_a_pipelined_write_waits_for_the_read_before_it(stage: Stage) -> None:
    client, primary, replica = stage.client(), stage["p"], stage["r1"]
    client >> SELECT + INSERT + SELECT
    replica << SELECT
    primary << b""
    replica >> SELECTED + IDLE
    primary << INSERT + SELECT
    client << SELECTED + IDLE
    primary >> INSERTED + IDLE + SELECTED + IDLE
    client << INSERTED + IDLE + SELECTED + IDLE


def test_a_pipelined_read_behind_a_write_goes_where_that_went(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    client >> INSERT + SELECT
    primary << INSERT + SELECT
    primary >> INSERTED + IDLE
    assert client.relay.server is not None
    primary >> SELECTED + IDLE
    assert client.relay.server is None
    client << INSERTED + IDLE + SELECTED + IDLE


def test_a_whole_batch_goes_where_its_write_has_to_go(stage: Stage) -> None:
    client, primary = stage.client(), stage["p"]
    one = parse("SELECT 1") + bind() + execute()
    other = parse("INSERT INTO t VALUES (1)") + bind() + execute()
    client >> one + other + SYNC
    primary << one + other + SYNC
    primary >> PARSED + BOUND + ROW + PARSED + BOUND + INSERTED + IDLE
    client << PARSED + BOUND + ROW + PARSED + BOUND + INSERTED + IDLE


class TestPins:
    def test_the_connection_is_kept(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("CREATE TEMP TABLE a ()")
        primary << query("CREATE TEMP TABLE a ()")
        primary >> CREATED + IDLE
        client << CREATED + IDLE
        assert client.relay.server is not None
        client >> SELECT
        primary << SELECT
        primary >> SELECTED + IDLE
        assert stage.counters.pins == {"temp_table": 1}

    def test_an_error_takes_it_back(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("CREATE TEMP TABLE a ()")
        primary >> error() + IDLE
        assert client.relay.pinning.pin is None
        assert client.relay.server is None

    def test_the_client_leaves_and_everything_is_discarded(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("CREATE TEMP TABLE a ()")
        primary << query("CREATE TEMP TABLE a ()")
        primary >> CREATED + IDLE
        client.leaves()
        primary << query("DISCARD ALL")
        primary >> write.command_complete(b"DISCARD ALL") + IDLE
        assert primary.open == 1
        other = stage.client()
        other >> INSERT
        primary << INSERT
        primary >> INSERTED + IDLE
        assert primary.open == 1

    def test_an_open_transaction_is_rolled_back(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("BEGIN") + INSERT
        primary << query("BEGIN") + INSERT
        primary >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        client.leaves()
        primary << query("ROLLBACK")
        primary >> ROLLED_BACK + IDLE
        assert primary.open == 1

    def test_a_reset_that_is_not_answered_closes_the_connection(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("BEGIN") + INSERT
        primary >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        client.leaves()
        stage.timers_fire()
        assert primary.open == 0

    def test_a_reset_that_fails_closes_the_connection(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("CREATE TEMP TABLE a ()")
        primary >> CREATED + IDLE
        client.leaves()
        primary >> error() + IDLE
        assert primary.open == 0

    def test_session_mode_keeps_the_connection_from_the_first_statement(self) -> None:
        stage = Stage(mode="session")
        client, primary = stage.client(), stage["p"]
        client >> SELECT
        primary << SELECT
        primary >> SELECTED + IDLE
        assert client.relay.server is not None
        stage.close()

    def test_a_session_for_the_replica_reads_there_and_writes_on_the_primary(self) -> None:
        stage = Stage()
        client, primary, replica = stage.client(TO_REPLICA), stage["p"], stage["r1"]
        client >> SELECT
        replica << SELECT
        replica >> SELECTED + IDLE
        client >> INSERT
        primary << INSERT
        primary >> INSERTED + IDLE
        stage.close()
