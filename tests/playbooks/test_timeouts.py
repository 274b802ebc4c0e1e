"""A statement whose time is up is cancelled, and nothing else is."""

import time
from collections.abc import Iterator

import pytest

from pgproxy.relay.deadlines import (
    CLIENT_IDLE,
    CLIENT_IS_LATE,
    GRACE,
    IDLE_IN_TRANSACTION,
    NOBODY,
    QUERY,
    TRANSACTION,
    TRANSACTION_IS_LATE,
    TimeLimitTable,
)
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    CREATED,
    FAILED,
    IDLE,
    IN_BLOCK,
    INSERTED,
    PARSED,
    ROW,
    SELECTED,
    Client,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import SYNC, TERMINATE, bind, execute, parse, query

BEGIN = query("BEGIN")
ROLLBACK = query("ROLLBACK")
INSERT = query("INSERT INTO t VALUES (1)")
OTHER = query("INSERT INTO t VALUES (2)")
SELECT = query("SELECT 1")
SET_PATH = query('SET search_path = "A"')  # what SHOW tells of that the server is asked
READ = parse("SELECT 1") + bind() + execute() + SYNC
SET_MEMORY = query("SET work_mem = '5MB'")
RESTORED = BEGUN + ROW + CREATED + IDLE
CANCELED = error("canceling statement due to user request", "57014")
LIMIT = 100.0


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(size=1, time_limits=TimeLimitTable({QUERY: LIMIT}))
    stage.cancels_arrive = False
    yield stage
    stage.close()


def is_late_now(client: Client, seconds: float) -> int:
    """Who would be late after so much time, which does not pass."""
    overdue = client.relay.overdue
    assert overdue is not None
    return overdue.look(time.monotonic() + seconds)


def is_late(client: Client, seconds: float = LIMIT) -> bool:
    """So much time passes. Whether somebody was late."""
    overdue = client.relay.overdue
    assert overdue is not None
    now = time.monotonic() + seconds
    late = overdue.look(now)
    if late == NOBODY:
        return False
    overdue.strike(late, now)
    client.stage.settle()
    return True


def arrives(stage: Stage) -> None:
    """The cancel request has had its effect."""
    stage.cancels_arrive = True
    stage.settle()
    stage.cancels_arrive = False


def assert_canceled(answer: bytes, ready: str, detail: str = "took longer than") -> None:
    told = fields(answer)
    assert (told["S"], told["C"], told["ready"]) == ("ERROR", "57014", ready)
    assert told["M"] == "canceling statement due to query timeout"
    assert detail in told["D"]
    assert "(timeouts.query)" in told["D"]


def in_transaction(stage: Stage) -> Client:
    client = stage.client()
    client >> BEGIN
    client >> INSERT
    stage["p"] << BEGIN + INSERT
    stage["p"] >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
    client << BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
    return client


class TestHolding:
    def test_the_next_statement_waits_for_the_request(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER
        stage["p"] << OTHER
        assert is_late(client)
        assert stage.cancels == [("p", 1)]
        stage["p"] >> INSERTED + IN_BLOCK  # it has ended by itself
        client << INSERTED + IN_BLOCK
        client >> SELECT
        client >> INSERT
        stage["p"] << b""
        arrives(stage)
        stage["p"] << SELECT + INSERT
        stage["p"] >> SELECTED + IN_BLOCK + INSERTED + IN_BLOCK
        client << SELECTED + IN_BLOCK + INSERTED + IN_BLOCK

    def test_also_if_the_statement_goes_on(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER
        stage["p"] << OTHER
        assert is_late(client)
        client >> SELECT
        stage["p"] << b""
        arrives(stage)
        stage["p"] << SELECT
        stage["p"] >> CANCELED + FAILED
        assert_canceled(client.take(), "E")
        stage["p"] >> error("current transaction is aborted", "25P02") + FAILED
        assert fields(client.take())["C"] == "25P02"

    def test_outside_of_a_transaction_another_connection_serves(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        assert is_late(client)
        stage["p"] >> CANCELED + IDLE
        assert_canceled(client.take(), "I")
        client >> OTHER
        stage["p"] << b""
        arrives(stage)
        stage["p"] << OTHER
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE

    def test_a_question_of_ours_waits_too(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"] << SET_PATH
        assert is_late(client)
        stage["p"] >> CREATED + IDLE
        client << CREATED + IDLE
        stage["p"] << b""
        arrives(stage)
        assert letters(stage["p"].take()) == "Q"

    def test_a_client_that_leaves_meanwhile_leaves_nothing(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER
        assert is_late(client)
        client >> SELECT
        client.leaves()
        arrives(stage)
        assert stage["p"].open == 0


class TestLostMeanwhile:
    """A server goes away when all is answered, and the request is still on its way."""

    def test_what_is_done_is_not_done_again(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        assert is_late(client)
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
        stage["p"].leaves()
        assert stage["p"].take() == b""
        client << b""
        client >> OTHER
        stage["p"] << OTHER
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
        arrives(stage)

    def test_nor_if_it_says_goodbye(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        assert is_late(client)
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
        client >> OTHER
        stage["p"] << b""
        stage["p"] >> error("terminating connection", "57P01", "FATAL")
        stage["p"].leaves()
        stage["p"] << OTHER
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
        arrives(stage)

    def test_nor_if_the_request_had_to_wait_for_the_statement(self, stage: Stage) -> None:
        stage.client().asks(INSERT)
        client = stage.client()
        client >> SET_MEMORY
        stage["p"] >> INSERTED + IDLE
        stage["p"] >> CREATED + IDLE
        client.take()
        other = stage.client()
        other >> INSERT
        stage["p"].take()
        stage["p"] >> RESTORED + INSERTED + IDLE
        client >> INSERT
        assert is_late(client)
        assert stage.cancels == []
        client >> OTHER
        assert letters(stage["p"].take()) == "QQ"
        stage["p"] >> RESTORED + INSERTED + IDLE
        client << INSERTED + IDLE
        stage["p"] << OTHER
        stage["p"] >> error("terminating connection", "57P01", "FATAL")
        stage.topology("r1", dead=("p",))
        assert letters(stage["r1"].take()) == "QQ"
        stage["r1"] >> RESTORED + INSERTED + IDLE
        client << INSERTED + IDLE
        assert stage["r1"].take() == b""

    def test_the_next_request_has_nothing_of_that(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        assert is_late(client)
        stage["p"] >> INSERTED + IDLE
        client.take()
        stage["p"].leaves()
        client >> OTHER
        stage["p"].take()
        assert is_late(client)
        arrives(stage)
        stage["p"] >> CANCELED + IDLE
        assert_canceled(client.take(), "I")


class TestAnswers:
    def test_what_was_sent_behind_it_may_be_hit_and_is_told_why(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER + INSERT
        stage["p"] << OTHER + INSERT
        assert is_late(client)
        stage["p"] >> INSERTED + IN_BLOCK + CANCELED + FAILED
        arrives(stage)
        answer = client.take()
        assert answer.startswith(INSERTED + IN_BLOCK)
        assert_canceled(answer, "E", "sent together with one that took longer than")

    def test_a_later_error_is_the_servers_own(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER
        assert is_late(client)
        stage["p"] >> INSERTED + IN_BLOCK
        arrives(stage)
        client << INSERTED + IN_BLOCK
        client >> SELECT
        stage["p"] >> CANCELED + FAILED  # its statement_timeout, or pg_cancel_backend()
        client << CANCELED + FAILED

    def test_other_errors_are_the_servers_own(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER
        assert is_late(client)
        stage["p"] >> error() + FAILED
        client << error() + FAILED
        arrives(stage)

    def test_without_a_request_it_is_the_clients(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER
        stage["p"] >> CANCELED + FAILED
        client << CANCELED + FAILED

    def test_in_the_extended_protocol(self, stage: Stage) -> None:
        client = stage.client()
        client >> READ + READ
        (
            stage["r1"]
            << READ
            + parse("SELECT 1", "pgproxy_1")
            + bind(statement="pgproxy_1")
            + execute()
            + SYNC
        )
        assert is_late(client)
        stage["r1"] >> PARSED + BOUND + CANCELED + IDLE + PARSED + BOUND + ROW + IDLE
        arrives(stage)
        answer = client.take()
        assert letters(answer) == "12EZ12DCZ"
        assert_canceled(answer, "I")

    def test_the_turn_of_the_next_one_begins_with_its_turn(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER + INSERT
        assert is_late(client)
        stage["p"] >> CANCELED + FAILED
        assert_canceled(client.take(), "E")
        assert not is_late(client, LIMIT - 1)
        assert is_late(client, LIMIT)
        arrives(stage)


class TestBegin:
    def test_a_begin_of_ours_is_not_cancelled(self, stage: Stage) -> None:
        client = stage.client()
        client >> BEGIN
        client >> INSERT
        assert is_late(client)
        assert stage.cancels == []
        stage["p"] >> BEGUN + IN_BLOCK
        stage.settle()
        assert stage.cancels == [("p", 1)]
        stage["p"] >> CANCELED + FAILED
        client.take()
        client >> ROLLBACK
        stage["p"].take()
        arrives(stage)
        stage["p"] << ROLLBACK


class TestGivingUp:
    def test_a_read_is_told_and_the_session_goes_on(self, stage: Stage) -> None:
        client = stage.client()
        client >> SELECT
        stage["r1"] << SELECT
        assert is_late(client)
        assert not is_late(client, GRACE - 1)
        assert is_late(client, LIMIT + GRACE + 1)
        assert_canceled(client.take(), "I", "was asked to")
        assert stage["r1"].open == 0
        client >> SELECT
        stage["r1"] << SELECT
        arrives(stage)

    def test_with_an_answer_begun_it_is_not(self, stage: Stage) -> None:
        client = stage.client()
        client >> SELECT
        stage["r1"] << SELECT
        stage["r1"] >> SELECTED[:-20]
        assert is_late(client)
        assert is_late(client, LIMIT + GRACE + 1)
        assert client.own_transport.closed
        arrives(stage)

    def test_a_write_ends_the_session(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        assert is_late(client)
        assert is_late(client, LIMIT + GRACE + 1)
        told = fields(client.take() + IDLE)
        assert (told["S"], told["C"]) == ("FATAL", "57014")
        assert "may yet take effect" in told["D"]
        assert client.own_transport.closed
        arrives(stage)

    def test_a_request_that_is_lost_ends_a_transaction(self, stage: Stage) -> None:
        client = in_transaction(stage)
        client >> OTHER
        stage["p"] << OTHER
        assert is_late(client)
        stage["p"] >> INSERTED + IN_BLOCK
        client << INSERTED + IN_BLOCK
        client >> SELECT
        stage.cancels_are_sure = False
        arrives(stage)
        stage["p"] << b""
        told = fields(client.take() + IDLE)
        assert (told["S"], told["C"]) == ("FATAL", "57014")
        assert "is not known" in told["D"]

    def test_outside_of_one_its_connection_is_closed(self, stage: Stage) -> None:
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        assert is_late(client)
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
        client >> OTHER
        stage.cancels_are_sure = False
        arrives(stage)
        assert stage["p"].open == 1
        assert stage["p"].connections[0][1].take() == TERMINATE
        stage["p"] << OTHER
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE


class TestReplicas:
    def test_a_conflict_behind_the_request_is_told_as_ours(self, stage: Stage) -> None:
        client = stage.client()
        client >> SELECT
        stage["r1"] << SELECT
        assert is_late(client)
        stage["r1"] >> error("canceling statement due to conflict with recovery", "40001") + IDLE
        assert_canceled(client.take(), "I")
        arrives(stage)


class TestSlowReaders:
    def test_whose_transaction_is_over_is_not_in_one(self) -> None:
        stage = Stage(time_limits=TimeLimitTable({TRANSACTION: 60.0}))
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        client.connection.pause_writing()
        assert is_late_now(client, 60.0) == TRANSACTION_IS_LATE
        stage["p"] >> INSERTED + IDLE
        assert client.relay.server is None
        assert is_late_now(client, 600.0) == NOBODY
        client >> INSERT
        stage["p"] << INSERT
        assert is_late_now(client, 60.0) == TRANSACTION_IS_LATE
        stage.close()

    def test_who_has_said_more_is_not_idle(self) -> None:
        stage = Stage(time_limits=TimeLimitTable({CLIENT_IDLE: 60.0, IDLE_IN_TRANSACTION: 60.0}))
        client = stage.client()
        client.connection.pause_writing()
        assert is_late_now(client, 60.0) == CLIENT_IS_LATE
        client >> query("SHOW pgproxy.route") + SELECT
        assert is_late_now(client, 600.0) == NOBODY
        client.connection.resume_writing()
        stage.settle()
        stage["r1"] << SELECT
        stage.close()


class TestSessions:
    def test_a_server_that_is_done_is_rolled_back_and_kept(self) -> None:
        stage = Stage(
            size=1, time_limits=TimeLimitTable({IDLE_IN_TRANSACTION: 5.0, TRANSACTION: 60.0})
        )
        client = in_transaction(stage)
        assert not is_late(client, 4.0)
        assert is_late(client, 5.0)
        assert fields(client.take() + IDLE)["C"] == "25P03"
        stage["p"] << ROLLBACK
        stage["p"] >> CREATED + IDLE
        assert stage["p"].open == 1
        other = stage.client()
        other >> INSERT
        stage["p"] << INSERT
        assert not is_late(other, 59.0)
        assert is_late(other, 60.0)
        assert fields(other.take() + IDLE)["C"] == "25P04"
        assert stage["p"].open == 0
        stage.close()
