"""A server goes away in the middle: the transaction goes on on another, or fails with one error."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from pgproxy.frames.codes import B_DATA_ROW, B_PARAMETER_STATUS, STATUS_IDLE
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
    Client,
    Server,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import SYNC, bind, copy_data, execute, parse, query

BEGIN = query("BEGIN")
COMMIT = query("COMMIT")
ROLLBACK = query("ROLLBACK")
INSERT = query("INSERT INTO t VALUES (1)")
UPDATE = query("UPDATE t SET n = 2")
SELECT = query("SELECT 1")
FAREWELL = error("terminating connection due to administrator command", "57P01", "FATAL")
SAVED = write.command_complete(b"SAVEPOINT")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(size=2, replicas=2)
    yield stage
    stage.close()


def in_transaction(stage: Stage) -> Client:
    """A client that has inserted a row in an open transaction on the primary."""
    client = stage.client()
    assert client.asks(BEGIN) == BEGUN + IN_BLOCK
    client >> INSERT
    stage["p"] << BEGIN + INSERT
    stage["p"] >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
    client << INSERTED + IN_BLOCK
    return client


def answers_as_before(server: Server) -> None:
    server << BEGIN + INSERT
    server >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK


def failover(stage: Stage) -> Server:
    """r1 is the primary now."""
    stage.topology("", "r1", "r2", dead=("p",))
    stage.topology("r1", "r2", dead=("p",))
    return stage["r1"]


class TestTheClientHearsNothing:
    def test_between_two_statements(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        client << b""
        answers_as_before(failover(stage))
        client << b""
        client >> COMMIT
        stage["r1"] << COMMIT
        stage["r1"] >> COMMITTED + IDLE
        client << COMMITTED + IDLE
        assert stage.counters.reruns == 1

    def test_of_a_traced_transaction_it_hears_once_where_it_went(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(query("SET pgproxy.trace = on"))
        client.asks(BEGIN)
        client >> INSERT
        stage["p"] << BEGIN + INSERT
        stage["p"] >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        assert letters(client.take()) == "NCZ"
        stage["p"] >> FAREWELL
        answers_as_before(failover(stage))
        client << b""
        client >> COMMIT
        stage["r1"] << COMMIT
        stage["r1"] >> COMMITTED + IDLE
        assert letters(client.take()) == "NCZ"
        assert stage.counters.reruns == 1

    def test_what_it_sends_meanwhile_waits(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        client >> UPDATE
        new = failover(stage)
        client >> COMMIT
        answers_as_before(new)
        new << UPDATE + COMMIT
        new >> INSERTED + IN_BLOCK + COMMITTED + IDLE
        client << INSERTED + IN_BLOCK + COMMITTED + IDLE

    def test_with_a_statement_in_flight(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> UPDATE
        stage["p"] << UPDATE
        stage["p"] >> FAREWELL
        new = failover(stage)
        answers_as_before(new)
        new << UPDATE
        new >> INSERTED + IN_BLOCK
        client << INSERTED + IN_BLOCK

    def test_with_the_commit_in_flight(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> COMMIT
        stage["p"] << COMMIT
        stage["p"] >> FAREWELL
        new = failover(stage)
        answers_as_before(new)
        new << COMMIT
        new >> COMMITTED + IDLE
        client << COMMITTED + IDLE

    def test_a_statement_by_itself(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << INSERT
        new >> INSERTED + IDLE
        client << INSERTED + IDLE

    def test_the_first_statement_of_a_transaction(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(BEGIN)
        client >> INSERT
        stage["p"] << BEGIN + INSERT
        stage["p"] >> BEGUN + IN_BLOCK + FAREWELL
        answers_as_before(failover(stage))
        client << INSERTED + IN_BLOCK

    def test_the_answer_and_the_farewell_come_together(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> UPDATE
        stage["p"] << UPDATE
        stage["p"] >> INSERTED + IN_BLOCK + FAREWELL
        client << INSERTED + IN_BLOCK
        new = failover(stage)
        new << BEGIN + INSERT + UPDATE
        new >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK + INSERTED + IN_BLOCK
        client << b""
        client >> ROLLBACK
        new << ROLLBACK
        new >> ROLLED_BACK + IDLE
        client << ROLLED_BACK + IDLE

    def test_prepared_statements_are_prepared_there(self, stage: Stage) -> None:
        client = stage.client()
        client >> parse("INSERT INTO t VALUES ($1)", "s") + SYNC
        stage["p"] << parse("INSERT INTO t VALUES ($1)", "pgproxy_1") + SYNC
        stage["p"] >> PARSED + IDLE
        client << PARSED + IDLE
        client.asks(BEGIN)
        use = bind(statement="s") + execute() + SYNC
        ours = bind(statement="pgproxy_1") + execute() + SYNC
        client >> use
        stage["p"] << BEGIN + ours
        stage["p"] >> BEGUN + IN_BLOCK + BOUND + INSERTED + IN_BLOCK
        client << BOUND + INSERTED + IN_BLOCK
        client >> use
        stage["p"] << ours
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + parse("INSERT INTO t VALUES ($1)", "pgproxy_1") + ours
        new >> BEGUN + IN_BLOCK + PARSED + BOUND + INSERTED + IN_BLOCK
        new << ours
        new >> BOUND + INSERTED + IN_BLOCK
        client << BOUND + INSERTED + IN_BLOCK

    def test_executed_but_not_committed(self, stage: Stage) -> None:
        """The commit of the extended protocol is at Sync, which the server has not read."""
        client = stage.client()
        batch = parse("INSERT INTO t VALUES (1)") + bind() + execute() + SYNC
        client >> batch
        stage["p"] << batch
        stage["p"] >> PARSED + BOUND + INSERTED + FAREWELL
        new = failover(stage)
        new << batch
        new >> PARSED + BOUND + INSERTED + IDLE
        client << PARSED + BOUND + INSERTED + IDLE

    def test_committed_but_for_the_last_word(self, stage: Stage) -> None:
        """Between two messages the server looks whether it is to end: here behind COMMIT."""
        client = in_transaction(stage)
        batch = parse("COMMIT") + bind() + execute() + SYNC
        client >> batch
        stage["p"] << batch
        stage["p"] >> PARSED + BOUND + COMMITTED + FAREWELL
        client << PARSED + BOUND + COMMITTED + IDLE
        assert client.relay.server is None
        assert stage["p"].open == 0

    def test_a_savepoint_that_was_rolled_back_to(self, stage: Stage) -> None:
        client = in_transaction(stage)
        steps = (
            (query("SAVEPOINT a"), SAVED + IN_BLOCK),
            (query("SELECT nothing"), error() + FAILED),
            (query("ROLLBACK TO a"), ROLLED_BACK + IN_BLOCK),
        )
        for statement, answer in steps:
            client >> statement
            stage["p"] << statement
            stage["p"] >> answer
            client << answer
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT + b"".join([statement for statement, _ in steps])
        new >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK + b"".join([answer for _, answer in steps])
        client << b""
        client >> COMMIT
        new << COMMIT
        new >> COMMITTED + IDLE

    def test_the_next_batch_was_waiting_for_its_turn(self, stage: Stage) -> None:
        """A read is in flight on the replica, and the write behind it needs the primary."""
        client = stage.client()
        client >> SELECT + INSERT
        stage["r2"] << SELECT
        stage["r2"] >> FAREWELL
        stage.topology("p", "r1", dead=("r2",))
        stage["r1"] << SELECT
        stage["r1"] >> SELECTED + IDLE
        client << SELECTED + IDLE
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE

    def test_the_new_primary_goes_as_well(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT
        new >> BEGUN + IN_BLOCK + FAREWELL
        stage.topology("r2", dead=("p", "r1"))
        answers_as_before(stage["r2"])
        client << b""
        client >> COMMIT
        stage["r2"] << COMMIT
        stage["r2"] >> COMMITTED + IDLE
        client << COMMITTED + IDLE

    def test_the_same_server_after_a_restart(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        stage.topology("", "r1", "r2", dead=("p",))
        stage.topology("p", "r1", "r2")
        answers_as_before(stage["p"])
        client << b""

    def test_a_setting_that_the_promotion_has_changed(self, stage: Stage) -> None:
        """A connection from when the new primary was a replica reports in_hot_standby."""
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT
        report = write.frame(B_PARAMETER_STATUS, b"in_hot_standby\0off\0")
        new >> report + BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        client << b""
        client >> COMMIT
        new << COMMIT
        new >> COMMITTED + IDLE
        client << COMMITTED + IDLE

    def test_a_connection_that_breaks_while_nothing_is_in_flight(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage.topology("r1", "r2", dead=("p",))
        stage["p"].leaves()
        answers_as_before(stage["r1"])
        client << b""

    def test_a_server_that_was_cut_off(self, stage: Stage) -> None:
        """Its COMMIT was never sent, so nothing of it took effect."""
        client = in_transaction(stage)
        client >> UPDATE
        stage["p"] << UPDATE
        stage.topology("r1", "r2", dead=("p",))
        server, _ = stage["p"].connections[-1]
        server.cut("it is not the primary any more")
        stage.settle()
        new = stage["r1"]
        answers_as_before(new)
        new << UPDATE
        new >> INSERTED + IN_BLOCK
        client << INSERTED + IN_BLOCK


class TestOneError:
    def test_other_answers_than_before(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> UPDATE
        stage["p"] << UPDATE
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT
        new >> BEGUN + IN_BLOCK + write.command_complete(b"INSERT 0 0") + IN_BLOCK
        answer = client.take()
        assert letters(answer) == "EZ"
        assert (fields(answer)["C"], fields(answer)["ready"]) == ("40001", "E")
        assert fields(client.asks(SELECT))["C"] == "25P02"
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE
        assert client.relay.server is None
        assert stage.counters.reruns_failed == 1

    def test_more_answers_than_before(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT
        new >> BEGUN + IN_BLOCK + INSERTED + INSERTED + IN_BLOCK
        client << b""
        assert fields(client.asks(SELECT))["C"] == "40001"
        assert fields(client.asks(SELECT))["C"] == "25P02"
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE

    def test_a_commit_is_never_taken_for_done(self, stage: Stage) -> None:
        """The client was idle, so it hears of the failure with its COMMIT."""
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT
        new >> BEGUN + IN_BLOCK + error() + FAILED
        answer = client.asks(COMMIT)
        assert (fields(answer)["C"], fields(answer)["ready"]) == ("40001", "I")

    def test_the_new_server_refuses_begin(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT
        new >> error("cannot set transaction read-write mode during recovery", "25006") + IDLE
        assert fields(client.asks(SELECT))["C"] == "40001"

    def test_the_commit_itself_in_flight(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> COMMIT
        stage["p"] << COMMIT
        stage["p"] >> FAREWELL
        new = failover(stage)
        new << BEGIN + INSERT
        new >> BEGUN + IN_BLOCK + error() + FAILED
        answer = client.take()
        assert (fields(answer)["C"], fields(answer)["ready"]) == ("40001", "I")
        assert client.relay.front.status == STATUS_IDLE

    def test_no_primary_in_time(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        stage["p"] >> FAREWELL
        stage.topology("", "r1", "r2", dead=("p",))
        stage.time_passes(31.0)
        answer = client.take()
        assert (fields(answer)["C"], fields(answer)["ready"]) == ("57P03", "I")
        client >> SELECT  # the session goes on

    def test_an_administrator_meant_this_connection(self, stage: Stage) -> None:
        """pg_terminate_backend: the server is as it was."""
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        stage["p"] >> FAREWELL
        client << b""
        stage.time_passes(1.0)
        client << FAREWELL
        assert client.own_transport.closed

    def test_a_commit_that_was_answered(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> COMMIT
        stage["p"] << COMMIT
        stage["p"] >> COMMITTED + FAREWELL
        client << COMMITTED + FAREWELL
        stage["p"].leaves()
        assert client.own_transport.closed

    def test_rows_that_the_client_has_begun_to_read(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> SELECT
        stage["p"] << SELECT
        stage["p"] >> SELECTED[: SELECTED.index(bytes([B_DATA_ROW]))]
        stage["p"] >> FAREWELL
        assert letters(client.take()) == "TE"
        stage["p"].leaves()
        assert client.own_transport.closed

    def test_state_that_cannot_be_carried_over(self, stage: Stage) -> None:
        client = stage.client()
        client >> query("CREATE TEMP TABLE a ()")
        stage["p"] >> CREATED + IDLE
        client << CREATED + IDLE
        client >> INSERT
        stage["p"] >> FAREWELL
        client << FAREWELL

    def test_a_statement_in_flight_when_the_connection_breaks(self, stage: Stage) -> None:
        """Nobody knows whether it took effect, or whether it was what broke the server."""
        client = in_transaction(stage)
        client >> UPDATE
        stage["p"].leaves()
        assert fields(client.take() + IDLE)["C"] == "08006"
        assert client.own_transport.closed

    def test_a_commit_in_flight_to_a_server_that_was_cut_off(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> COMMIT
        server, _ = stage["p"].connections[-1]
        server.cut("it is not the primary any more")
        stage.settle()
        assert fields(client.take() + IDLE)["C"] == "08006"

    @pytest.mark.parametrize(
        "sql", ["CREATE INDEX CONCURRENTLY ON t (n)", "CALL p()", "VACUUM", "INSERT INTO t; COMMIT"]
    )
    def test_what_may_have_committed_a_part(self, stage: Stage, sql: str) -> None:
        client = stage.client()
        client >> query(sql)
        stage["p"] >> FAREWELL
        client << FAREWELL

    def test_copy_data_is_not_kept(self, stage: Stage) -> None:
        client = in_transaction(stage)
        copy = query("COPY t FROM STDIN")
        client >> copy
        stage["p"] >> write.frame(ord("G"), b"\0\0\0")
        client >> copy_data(b"1\n") + write.frame(ord("c"), b"")
        stage["p"] >> write.command_complete(b"COPY 1") + IN_BLOCK
        client.take()
        stage["p"] >> FAREWELL
        client << FAREWELL

    def test_a_transaction_beyond_the_limit(self) -> None:
        stage = Stage(replicas=1, rerun_limit=100)
        client = in_transaction(stage)
        client >> query("SELECT '" + "x" * 50 + "'")
        stage["p"] >> SELECTED + IN_BLOCK
        client.take()
        stage["p"] >> FAREWELL
        client << FAREWELL
        stage.close()

    def test_the_client_gives_up_waiting(self, stage: Stage) -> None:
        client = in_transaction(stage)
        stage["p"] >> FAREWELL
        stage.topology("", "r1", "r2", dead=("p",))
        client.leaves()
        stage.topology("r1", "r2", dead=("p",))
        assert stage["r1"].open == 0

    def test_the_client_cancels_while_it_waits(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> UPDATE
        stage["p"] >> FAREWELL
        client.relay.cancels.ask()
        answer = client.take()
        assert (fields(answer)["C"], fields(answer)["ready"]) == ("57014", "E")
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE


def test_a_read_only_transaction_goes_on_on_another_replica(stage: Stage) -> None:
    client = stage.client()
    begin = query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    client.asks(begin)
    client >> SELECT
    stage["r2"] << begin + SELECT
    stage["r2"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK
    client >> SELECT
    stage["r2"] << SELECT
    stage["r2"] >> FAREWELL
    stage.topology("p", "r1", dead=("r2",))
    stage["r1"] << begin + SELECT
    stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    stage["r1"] << SELECT
    stage["r1"] >> ROW + IN_BLOCK
    client << ROW + IN_BLOCK
