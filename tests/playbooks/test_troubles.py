"""Errors of ours, waiting, cancelling, servers that go away, and peers that do not read."""

from collections.abc import Iterator

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.servers.connection import ServerConnection
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    COPY_IN,
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
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    copy_data,
    describe,
    execute,
    parse,
    query,
)

BEGIN = query("BEGIN")
SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
READ = parse("SELECT 1") + bind() + execute()
# The same once more: it has a name by now.
AGAIN = parse("SELECT 1", "pgproxy_1") + bind(statement="pgproxy_1") + execute()
WRONG_PASSWORD = PgError("28P01", "password authentication failed", severity="FATAL")
COPY_TAG = write.command_complete(b"COPY 1")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(size=1)
    yield stage
    stage.close()


class TestNoLease:
    def test_a_query_gets_an_error_and_the_session_goes_on(self, stage: Stage) -> None:
        client = stage.client()
        stage.refuses = WRONG_PASSWORD
        answer = client.asks(SELECT)
        assert letters(answer) == "EZ"
        told = fields(answer)
        assert (told["C"], told["S"], told["R"], told["ready"]) == (
            "28P01",
            "ERROR",
            "pgproxy",
            "I",
        )
        stage.refuses = None
        client >> SELECT
        stage["r1"] << SELECT

    def test_a_batch_gets_one_error_and_its_ready(self, stage: Stage) -> None:
        client = stage.client()
        stage.refuses = WRONG_PASSWORD
        assert letters(client.asks(parse("SELECT 1", "a") + SYNC)) == "EZ"
        assert client.relay.batch.statements.named == {}

    def test_a_cut_batch_is_skipped_up_to_sync(self, stage: Stage) -> None:
        client = stage.client()
        stage.refuses = WRONG_PASSWORD
        assert letters(client.asks(parse("SELECT 1") + describe("S") + FLUSH)) == "E"
        stage.refuses = None
        client << b""
        assert letters(client.asks(bind() + execute() + SYNC)) == "Z"
        client >> READ + SYNC
        stage["r1"] << AGAIN + SYNC

    def test_a_transaction_that_was_never_begun_has_failed(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(query("BEGIN"))
        stage.refuses = WRONG_PASSWORD
        assert fields(client.asks(SELECT))["ready"] == "E"
        told = fields(client.asks(SELECT))
        assert (told["C"], told["ready"]) == ("25P02", "E")
        client >> query("COMMIT")
        client << ROLLED_BACK + IDLE

    def test_a_driver_ends_such_a_transaction_by_the_extended_protocol(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(query("BEGIN"))
        stage.refuses = WRONG_PASSWORD
        assert fields(client.asks(READ + SYNC))["ready"] == "E"
        client >> parse("ROLLBACK") + bind() + execute() + SYNC
        client << PARSED + BOUND + ROLLED_BACK + IDLE

    def test_the_wait_has_an_end(self, stage: Stage) -> None:
        first, second = stage.client(), stage.client()
        first >> INSERT
        second >> INSERT
        second << b""
        stage.time_passes(60)
        answer = second.take()
        assert fields(answer)["C"] == "53300"
        assert fields(answer)["H"]

    def test_what_was_sent_meanwhile_is_done_then(self, stage: Stage) -> None:
        first, second, replica = stage.client(), stage.client(), stage["r1"]
        second >> SELECT
        replica << SELECT
        replica >> SELECTED + IDLE
        second << SELECTED + IDLE
        first >> INSERT
        second >> INSERT
        second >> SELECT
        stage.time_passes(60)
        assert letters(second.take()) == "EZ"
        replica << SELECT

    def test_without_a_primary_writes_wait_and_reads_do_not(self, stage: Stage) -> None:
        writer, reader = stage.client(), stage.client()
        stage.topology("", "r1", dead=("p",))
        writer >> INSERT
        reader >> SELECT
        stage["r1"] << SELECT
        stage.topology("p", "r1")
        stage["p"] << INSERT

    def test_a_waiter_follows_the_primary_to_another_server(self) -> None:
        stage = Stage(size=1, replicas=1)
        first, second = stage.client(), stage.client()
        first >> INSERT
        stage["p"] << INSERT
        second >> INSERT
        stage.topology("r1", "p")
        stage["r1"] << INSERT
        stage.close()

    def test_no_primary_appears(self, stage: Stage) -> None:
        client = stage.client()
        stage.topology("", "r1", dead=("p",))
        client >> INSERT
        stage.time_passes(60)
        assert fields(client.take())["C"] == "57P03"


class TestServerLost:
    def test_at_work(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        primary.leaves()
        told = fields(client.take())
        assert (told["C"], told["S"]) == ("08006", "FATAL")
        assert "not known" in told["D"]
        assert client.own_transport.closed

    def test_behind_the_last_answer_is_not_the_client_s_affair(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        primary >> INSERTED + IDLE + error("terminating connection", "57P01", "FATAL")
        client << INSERTED + IDLE
        primary << TERMINATE
        client >> INSERT
        primary << INSERT  # on another connection
        primary >> INSERTED + IDLE
        client << INSERTED + IDLE
        assert primary.open == 1

    def test_with_last_words_which_are_all_the_client_gets(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        words = error("terminating connection due to idle-session timeout", "57P05", "FATAL")
        primary >> words
        client << words
        primary.leaves()
        client << b""
        assert client.own_transport.closed

    def test_in_the_middle_of_a_row_no_word_is_said(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        half = write.data_row([b"x" * 100])[:50]
        primary >> half
        client << half
        primary.leaves()
        client << b""
        assert client.own_transport.closed

    def test_nor_when_the_client_breaks_the_protocol_there(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        half = write.data_row([b"x" * 100])[:50]
        primary >> half
        client << half
        client >> b"Y\0\0\0\4"
        client << b""
        assert client.own_transport.closed

    def test_idle_is_not_noticed(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        primary >> INSERTED + IDLE
        primary.leaves()
        client >> INSERT
        primary << INSERT
        assert primary.open == 1

    def test_nonsense_ends_both_connections(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        primary >> PARSED
        assert fields(client.take())["C"] == "08P01"
        assert client.own_transport.closed
        assert primary.open == 0


class TestCancel:
    def test_reaches_the_server_at_work(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        stage.cancels_arrive = False
        client.relay.cancels.ask()
        stage.settle()
        assert stage.cancels == [("p", 1)]

    def test_while_it_is_on_its_way_nobody_else_gets_the_connection(self, stage: Stage) -> None:
        client, other, primary = stage.client(), stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        stage.cancels_arrive = False
        client.relay.cancels.ask()
        stage.settle()
        primary >> INSERTED + IDLE
        other >> INSERT
        primary << b""
        stage.cancels_arrive = True
        stage.settle()
        primary << INSERT

    def test_that_may_still_be_on_its_way_spoils_the_connection(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        stage.cancels_arrive = stage.cancels_are_sure = False
        client.relay.cancels.ask()
        stage.settle()
        primary >> INSERTED + IDLE
        stage.cancels_arrive = True
        stage.settle()
        assert primary.open == 0
        client << INSERTED + IDLE
        client >> INSERT
        primary << INSERT
        assert len(primary.connections) == 2

    def test_is_over_when_the_server_has_acted(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        over: list[str] = []
        client.relay.cancels.ask(lambda: over.append("of nothing"))
        assert over == ["of nothing"]
        client >> INSERT
        primary << INSERT
        stage.cancels_arrive = False
        client.relay.cancels.ask(lambda: over.append("of a statement"))
        stage.settle()
        assert over == ["of nothing"]
        stage.cancels_arrive = True
        stage.settle()
        assert over == ["of nothing", "of a statement"]

    def test_waits_for_what_the_client_has_not_asked(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        over: list[str] = []
        client.asks(BEGIN)
        client >> INSERT
        primary << BEGIN + INSERT
        stage.cancels_arrive = False
        client.relay.cancels.ask(lambda: over.append("first"))
        client.relay.cancels.ask(lambda: over.append("second"))
        stage.settle()
        assert not stage.cancels
        primary >> BEGUN + IN_BLOCK
        assert stage.cancels == [("p", 1), ("p", 1)]
        assert not over
        stage.cancels_arrive = True
        stage.settle()
        assert sorted(over) == ["first", "second"]
        primary >> INSERTED + IN_BLOCK
        client << INSERTED + IN_BLOCK

    @pytest.mark.parametrize("how", ["answered", "lost", "left"])
    def test_that_waited_is_over_with_the_statement(self, stage: Stage, how: str) -> None:
        client, primary = stage.client(), stage["p"]
        over: list[str] = []
        client.asks(BEGIN)
        client >> INSERT
        primary << BEGIN + INSERT
        client.relay.cancels.ask(lambda: over.append("over"))
        if how == "answered":
            primary >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
            client << INSERTED + IN_BLOCK
        elif how == "lost":
            primary.leaves()
        else:
            client.leaves()
        assert over == ["over"]
        assert stage.counters.cancels == (1 if how == "left" else 0)

    def test_of_one_who_waits(self, stage: Stage) -> None:
        first, second = stage.client(), stage.client()
        first >> INSERT
        second >> INSERT
        second.relay.cancels.ask()
        told = fields(second.take())
        assert (told["C"], told["ready"]) == ("57014", "I")
        assert not stage.cancels

    def test_of_one_who_does_nothing(self, stage: Stage) -> None:
        client = stage.client()
        client.relay.cancels.ask()
        client << b""
        assert stage.counters.cancels == 0

    def test_a_client_that_leaves_at_work_is_cancelled(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        primary << INSERT
        stage.cancels_arrive = False
        client.leaves()
        assert stage.cancels == [("p", 1)]
        assert primary.open == 0


class TestLeaving:
    def test_terminate_is_for_the_proxy_alone(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("CREATE TEMP TABLE a ()")
        primary << query("CREATE TEMP TABLE a ()")
        primary >> CREATED + IDLE
        client >> TERMINATE
        primary << query("DISCARD ALL")
        assert client.own_transport.closed
        assert primary.open == 1

    def test_in_the_middle_of_a_frame_that_is_passing(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("COPY t FROM STDIN")
        primary >> COPY_IN
        client >> copy_data(b"x" * 1000)[:500]
        client.leaves()
        assert primary.open == 0

    def test_a_violation_of_the_protocol_is_told(self, stage: Stage) -> None:
        client = stage.client()
        told = fields(client.asks(b"?\0\0\0\4"))
        assert (told["C"], told["S"]) == ("08P01", "FATAL")
        assert client.own_transport.closed


class TestCopy:
    def test_in_by_query(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("COPY t FROM STDIN")
        primary << query("COPY t FROM STDIN")
        primary >> COPY_IN
        client << COPY_IN
        client >> copy_data(b"1\n") + copy_data(b"2\n")[:3]
        client >> copy_data(b"2\n")[3:] + COPY_DONE
        primary << copy_data(b"1\n") + copy_data(b"2\n") + COPY_DONE
        primary >> COPY_TAG + IDLE
        client << COPY_TAG + IDLE
        assert client.relay.server is None

    def test_in_by_the_extended_protocol(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        begin = parse("COPY t FROM STDIN") + bind() + execute()
        client >> begin + SYNC
        primary << begin + SYNC
        primary >> PARSED + BOUND + COPY_IN
        client >> copy_data(b"1\n") + COPY_DONE + SYNC
        primary << copy_data(b"1\n") + COPY_DONE + SYNC
        primary >> COPY_TAG + IDLE
        client << PARSED + BOUND + COPY_IN + COPY_TAG + IDLE
        assert client.relay.server is None

    def test_in_that_fails_early_does_not_reach_the_next_client(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> query("COPY t FROM STDIN")
        primary << query("COPY t FROM STDIN")
        primary >> COPY_IN + error() + IDLE
        client << COPY_IN + error() + IDLE
        client >> copy_data(b"1\n") + COPY_DONE
        primary << b""
        client >> INSERT
        primary << INSERT


class TestFlow:
    def test_a_client_that_does_not_read_stops_its_server(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        client >> SELECT
        client.connection.pause_writing()
        transport = replica.transport()
        assert not transport.reading
        client.connection.resume_writing()
        assert transport.reading

    def test_a_server_that_does_not_read_stops_its_client(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> INSERT
        transport = primary.transport()
        transport.protocol.pause_writing()
        assert not client.own_transport.reading
        transport.protocol.resume_writing()
        assert client.own_transport.reading

    def test_a_released_connection_is_read_again(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        client >> SELECT
        replica << SELECT
        client.connection.pause_writing()
        replica >> SELECTED + IDLE
        assert replica.transport().reading
        other = stage.client()
        other >> SELECT
        assert replica.transport().reading

    def test_the_next_lease_of_a_client_that_does_not_read_is_stopped_too(
        self, stage: Stage
    ) -> None:
        client, replica = stage.client(), stage["r1"]
        client.connection.pause_writing()
        client >> SELECT
        replica << SELECT
        assert not replica.transport().reading
        client.connection.resume_writing()
        assert replica.transport().reading

    def test_one_who_waits_is_not_read_without_end(self, stage: Stage) -> None:
        first, second, primary = stage.client(), stage.client(), stage["p"]
        first >> INSERT
        primary << INSERT
        second >> INSERT
        big = query("INSERT INTO t VALUES ('" + "x" * 70_000 + "')")
        second >> big
        assert not second.own_transport.reading
        primary >> INSERTED + IDLE
        assert second.own_transport.reading
        primary << INSERT + big


def test_an_error_skips_to_sync_and_the_rest_is_answered(stage: Stage) -> None:
    client, replica = stage.client(), stage["r1"]
    client >> READ + SYNC + READ + SYNC
    replica << READ + SYNC + AGAIN + SYNC
    replica >> PARSED + error() + IDLE + PARSED + BOUND + ROW + IDLE
    client << PARSED + error() + IDLE + PARSED + BOUND + ROW + IDLE
    assert client.relay.server is None


def test_an_error_answer_in_the_middle_of_a_transaction_fails_it(stage: Stage) -> None:
    client, replica = stage.client(), stage["r1"]
    begin = query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    client >> begin + SELECT
    replica << begin + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client >> query("CREATE TEMP TABLE a ()")
    # State must not be left on a replica: the server is made to fail the transaction too.
    assert letters(replica.take()) == "Q"
    replica >> error(sqlstate="42601") + FAILED
    told = fields(client.take())
    assert (told["C"], told["R"], told["ready"]) == ("0A000", "pgproxy", "E")
    replica >> ROLLED_BACK + IDLE


def test_a_server_that_says_goodbye_at_once_costs_no_place() -> None:
    stage = Stage(size=1, replicas=0)
    context = stage.cluster.context
    log_in = context.open_server

    async def log_in_in_vain(server: ServerConnection, database: str, user: str) -> None:
        await log_in(server, database, user)
        context.open_server = log_in  # only once
        server.data_received(error("terminating connection", "57P01", "FATAL"))

    context.open_server = log_in_in_vain
    client = stage.client()
    client >> INSERT
    (_, first), (_, second) = stage["p"].connections
    assert (first.closed, second.take()) == (True, INSERT)
    second.protocol.data_received(INSERTED + IDLE)
    client << INSERTED + IDLE
    stage.close()
