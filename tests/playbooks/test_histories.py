"""What of a transaction is kept to be run again, and what must never be."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from pgproxy.frames.codes import B_NOTICE_RESPONSE, B_PARAMETER_STATUS
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    COMMITTED,
    FAILED,
    IDLE,
    IN_BLOCK,
    INSERTED,
    PARSED,
    ROLLED_BACK,
    SET,
    Client,
    Stage,
    error,
    fields,
)
from tests.playbooks.test_reruns import (
    BEGIN,
    COMMIT,
    FAREWELL,
    INSERT,
    ROLLBACK,
    SAVED,
    SELECT,
    UPDATE,
    answers_as_before,
    failover,
    in_transaction,
)
from tests.support.wire import SYNC, bind, execute, parse, query


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(size=2, replicas=2)
    yield stage
    stage.close()


def does(stage: Stage, client: Client, statement: bytes, answer: bytes) -> None:
    client >> statement
    stage["p"] << statement
    stage["p"] >> answer
    client << answer


class TestWhatIsCommittedIsNotDoneAgain:
    @pytest.mark.parametrize(
        ("sql", "answer"),
        [("COMMIT AND CHAIN", COMMITTED), ("COMMIT; BEGIN", COMMITTED + BEGUN)],
    )
    def test_one_transaction_begins_where_another_ends(
        self, stage: Stage, sql: str, answer: bytes
    ) -> None:
        client = in_transaction(stage)
        does(stage, client, query(sql), answer + IN_BLOCK)
        does(stage, client, UPDATE, INSERTED + IN_BLOCK)
        stage["p"] >> FAREWELL
        client << FAREWELL
        failover(stage) << b""

    def test_in_the_extended_protocol(self, stage: Stage) -> None:
        client = in_transaction(stage)
        chain = parse("COMMIT AND CHAIN") + bind() + execute() + SYNC
        does(stage, client, chain, PARSED + BOUND + COMMITTED + IN_BLOCK)
        stage["p"] >> FAREWELL
        client << FAREWELL
        failover(stage) << b""

    @pytest.mark.parametrize("in_block", [False, True])
    def test_answers_of_two_transactions_in_one_chunk(self, stage: Stage, in_block: bool) -> None:
        client = in_transaction(stage) if in_block else stage.client()
        first, tag = (COMMIT, COMMITTED) if in_block else (INSERT, INSERTED)
        answers = tag + IDLE + BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        does(stage, client, first + BEGIN + UPDATE, answers)
        stage["p"] >> FAREWELL
        client << FAREWELL
        failover(stage) << b""

    def test_the_answers_and_the_farewell_in_one_chunk(self, stage: Stage) -> None:
        client = stage.client()
        answers = INSERTED + IDLE + BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        does(stage, client, INSERT + BEGIN + UPDATE, answers + FAREWELL)
        failover(stage) << b""

    def test_the_next_transaction_but_one_can_be_run_again(self, stage: Stage) -> None:
        client = in_transaction(stage)
        does(stage, client, query("COMMIT AND CHAIN"), COMMITTED + IN_BLOCK)
        does(stage, client, COMMIT, COMMITTED + IDLE)
        client.asks(BEGIN)
        client >> INSERT
        stage["p"] << BEGIN + INSERT
        stage["p"] >> FAREWELL
        answers_as_before(failover(stage))
        client << INSERTED + IN_BLOCK

    def test_a_query_in_place_of_sync(self, stage: Stage) -> None:
        """Its CommandComplete comes behind the commit of all that is in front of it."""
        client = stage.client()
        insert = parse("INSERT INTO t VALUES (1)") + bind() + execute()
        client >> insert + INSERT
        stage["p"] << insert + INSERT
        stage["p"] >> PARSED + BOUND + INSERTED + INSERTED + FAREWELL
        failover(stage) << b""


@pytest.mark.parametrize(
    "sql",
    ["SELECT dblink_exec('c', 'x')", "INSERT INTO t SELECT dblink_exec('c', 'x')"],
)
def test_what_has_acted_elsewhere_is_not_done_again(stage: Stage, sql: str) -> None:
    client = in_transaction(stage)
    does(stage, client, query(sql), INSERTED + IN_BLOCK)
    stage["p"] >> FAREWELL
    client << FAREWELL
    failover(stage) << b""


def test_a_write_through_dblink_in_flight(stage: Stage) -> None:
    client = stage.client()
    client >> query("INSERT INTO t SELECT DBLINK_EXEC('c', 'x')")
    stage["p"] >> FAREWELL
    client << FAREWELL


def test_what_names_mean_is_not_undone_with_a_transaction(stage: Stage) -> None:
    client = in_transaction(stage)
    does(
        stage, client, query("PREPARE a AS SELECT 1"), write.command_complete(b"PREPARE") + IN_BLOCK
    )
    stage["p"] >> FAREWELL
    client << FAREWELL
    failover(stage) << b""


def test_settings_that_are_reported(stage: Stage) -> None:
    """By both servers; that of the second one the client need not hear."""
    client = in_transaction(stage)
    change = query("SET LOCAL search_path = a")
    report = write.frame(B_PARAMETER_STATUS, b"search_path\0a\0")
    does(stage, client, change, SET + report + IN_BLOCK)
    stage["p"] >> FAREWELL
    new = failover(stage)
    new << BEGIN + INSERT + change
    new >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK + SET + report + IN_BLOCK
    client << b""
    client >> COMMIT
    new << COMMIT
    new >> COMMITTED + IDLE
    client << COMMITTED + IDLE


def test_a_route_that_was_set_is_committed(stage: Stage) -> None:
    """The error in the history has been saved by a savepoint, on either server."""
    client = in_transaction(stage)
    assert client.asks(query("SET pgproxy.route = 'primary'")) == SET + IN_BLOCK
    steps = (
        (query("SAVEPOINT a"), SAVED + IN_BLOCK),
        (query("SELECT nothing"), error() + FAILED),
        (query("ROLLBACK TO a"), ROLLED_BACK + IN_BLOCK),
    )
    for statement, answer in steps:
        does(stage, client, statement, answer)
    stage["p"] >> FAREWELL
    new = failover(stage)
    new << BEGIN + INSERT + b"".join([statement for statement, _ in steps])
    new >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK + b"".join([answer for _, answer in steps])
    client >> COMMIT
    new << COMMIT
    new >> COMMITTED + IDLE
    client << COMMITTED + IDLE
    assert b"\x07primary" in client.asks(query("SHOW pgproxy.route"))


def test_the_words_of_a_server_that_was_left_are_not_those_of_the_next(stage: Stage) -> None:
    client = in_transaction(stage)
    stage["p"] >> FAREWELL
    new = failover(stage)
    new << BEGIN + INSERT
    new >> BEGUN + IN_BLOCK + error("crash", "57P02", "FATAL")
    assert fields(client.asks(SELECT))["C"] == "40001"
    assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE
    client >> INSERT
    new << INSERT
    new.leaves()
    assert fields(client.take() + IDLE)["C"] == "08006"


def test_idle_connections_of_a_server_that_has_crashed_are_not_tried() -> None:
    stage = Stage(size=8, replicas=0)
    client = in_transaction(stage)
    others = [in_transaction(stage) for _ in range(5)]
    for other in others:
        does(stage, other, ROLLBACK, ROLLED_BACK + IDLE)
    old = list(stage["p"].connections)
    while any(server is client.relay.server for server, _ in old):
        _, transport = next(entry for entry in old if entry[0] is client.relay.server)
        transport.close()
        stage.settle()
    for _, transport in old:
        transport.take()
    answers_as_before(stage["p"])
    client << b""
    stage.close()


def test_answers_that_are_compared_are_not_given_when_that_server_goes_too(stage: Stage) -> None:
    client = in_transaction(stage)
    stage["p"] >> FAREWELL
    new = failover(stage)
    new << BEGIN + INSERT
    new >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK + FAREWELL
    client << b""
    stage.topology("r2", dead=("p", "r1"))
    answers_as_before(stage["r2"])
    client << b""


def test_a_farewell_in_place_of_the_answer_to_begin(stage: Stage) -> None:
    """Behind it is what cannot be run again: the client gets the server's words."""
    client = stage.client()
    client.asks(BEGIN)
    client >> query("nonsense")
    stage["p"] << BEGIN + query("nonsense")
    stage["p"] >> FAREWELL
    client << FAREWELL
    stage["p"].leaves()
    assert client.own_transport.closed


def test_a_commit_behind_what_fails_is_not_run(stage: Stage) -> None:
    """One Sync behind both, in a transaction that has failed: the server would not reach COMMIT."""
    client = in_transaction(stage)
    stage["p"] >> FAREWELL
    new = failover(stage)
    new << BEGIN + INSERT
    new >> BEGUN + IN_BLOCK + error() + FAILED
    assert fields(client.asks(SELECT))["C"] == "40001"
    insert = parse("INSERT INTO t VALUES (1)") + bind() + execute()
    commit = parse("COMMIT") + bind() + execute()
    answer = client.asks(insert + commit + SYNC)
    assert (fields(answer)["C"], fields(answer)["ready"]) == ("25P02", "E")
    assert client.asks(commit + SYNC) == PARSED + BOUND + ROLLED_BACK + IDLE


def test_a_server_that_gives_notice_before_it_breaks_off(stage: Stage) -> None:
    """As in an immediate shutdown, or after the crash of another process."""
    client = in_transaction(stage)
    notice = write.frame(B_NOTICE_RESPONSE, b"SWARNING\0C57P02\0Mcrash\0\0")
    stage["p"] >> notice
    client << notice
    stage.topology("r1", "r2", dead=("p",))
    stage["p"].leaves()
    answers_as_before(stage["r1"])
    client << b""
    client >> COMMIT
    stage["r1"] << COMMIT
    stage["r1"] >> COMMITTED + IDLE
    client << COMMITTED + IDLE
