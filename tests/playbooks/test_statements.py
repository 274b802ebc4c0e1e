"""Prepared statements that outlive a lease, and what the proxy answers itself."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    CLOSED,
    COMMITTED,
    FAILED,
    IDLE,
    IN_BLOCK,
    PARSED,
    ROLLED_BACK,
    ROW,
    SELECTED,
    SET,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import FLUSH, SYNC, bind, close, describe, execute, parse, query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
READ = parse("SELECT 1") + bind() + execute()
NAME = "pgproxy_1"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


class TestPrepared:
    def test_a_statement_has_our_name_on_the_server(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        client >> parse("SELECT 1", "a") + SYNC
        replica << parse("SELECT 1", NAME) + SYNC
        replica >> PARSED + IDLE
        client >> bind(statement="a") + execute() + SYNC
        replica << bind(statement=NAME) + execute() + SYNC
        replica >> BOUND + ROW + IDLE
        client << PARSED + IDLE + BOUND + ROW + IDLE

    def test_it_is_prepared_again_where_it_is_missing(self, stage: Stage) -> None:
        client, primary, replica = stage.client(), stage["p"], stage["r1"]
        client >> parse("SELECT 1", "a") + SYNC
        replica << parse("SELECT 1", NAME) + SYNC
        replica >> PARSED + IDLE
        client.asks(query("BEGIN"))
        client >> bind(statement="a") + execute() + SYNC
        primary << (
            query("BEGIN") + parse("SELECT 1", NAME) + bind(statement=NAME) + execute() + SYNC
        )
        primary >> BEGUN + IN_BLOCK + PARSED + BOUND + ROW + IN_BLOCK
        client << BOUND + ROW + IN_BLOCK

    def test_two_clients_share_it(self, stage: Stage) -> None:
        one, other, replica = stage.client(), stage.client(), stage["r1"]
        one >> parse("SELECT 1", "a") + SYNC
        replica << parse("SELECT 1", NAME) + SYNC
        replica >> PARSED + IDLE
        other >> parse("SELECT 1", "b") + describe("S", "b") + bind(statement="b") + SYNC
        replica << describe("S", NAME) + bind(statement=NAME) + SYNC
        replica >> b"n\0\0\0\4" + BOUND + IDLE
        other << PARSED + b"n\0\0\0\4" + BOUND + IDLE

    def test_a_known_parse_is_answered_at_once_where_the_server_has_nothing_to_answer(
        self, stage: Stage
    ) -> None:
        one, other, primary = stage.client(), stage.client(), stage["p"]
        one >> parse("DELETE FROM t", "a") + SYNC
        primary << parse("DELETE FROM t", NAME) + SYNC
        primary >> PARSED + IDLE
        one << PARSED + IDLE
        other >> parse("DELETE FROM t", "b") + FLUSH
        other << PARSED
        other >> bind(statement="b") + FLUSH
        primary >> BOUND
        other << BOUND

    def test_a_known_parse_alone_needs_no_server(self, stage: Stage) -> None:
        one, other, replica = stage.client(), stage.client(), stage["r1"]
        one >> parse("SELECT 1", "a") + SYNC
        replica >> PARSED + IDLE
        other >> parse("SELECT 1", "b") + close("S", "zz") + SYNC
        other << PARSED + CLOSED + IDLE

    def test_a_refused_one_does_not_exist(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        client >> parse("SELECT nothing", "a") + SYNC
        replica >> error() + IDLE
        client << error() + IDLE
        client >> parse("SELECT 1", "a") + SYNC
        assert letters(replica.take()).endswith("PS")
        replica >> PARSED + IDLE
        client << PARSED + IDLE

    def test_a_name_that_is_taken(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        client >> parse("SELECT 1", "a") + SYNC
        replica << parse("SELECT 1", NAME) + SYNC
        replica >> PARSED + IDLE
        client << PARSED + IDLE
        client >> parse("SELECT 2", "a") + SYNC
        # The server says what is wrong, of its own name, and the client reads of its.
        replica << parse("SELECT 2", NAME) + SYNC
        taken = f'prepared statement "{NAME}" already exists'
        replica >> error(taken, sqlstate="42P05") + IDLE
        answer = fields(client.take())
        assert answer["C"] == "42P05"
        assert answer["M"] == 'prepared statement "a" already exists'

    def test_the_unnamed_statement_follows_its_client(self, stage: Stage) -> None:
        one, other, replica = stage.client(), stage.client(), stage["r1"]
        one >> parse("SELECT 1") + SYNC
        replica << parse("SELECT 1") + SYNC
        replica >> PARSED + IDLE
        other >> parse("SELECT 2") + SYNC
        replica << parse("SELECT 2") + SYNC
        replica >> PARSED + IDLE
        one >> bind() + execute() + SYNC
        replica << READ + SYNC
        replica >> PARSED + BOUND + ROW + IDLE
        one << PARSED + IDLE + BOUND + ROW + IDLE

    def test_a_query_forgets_the_unnamed_statement(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        client >> parse("SELECT 1") + SYNC + SELECT
        replica >> PARSED + IDLE + SELECTED + IDLE
        client.take()
        replica.take()
        client >> bind() + execute() + SYNC
        assert letters(stage["p"].take() + replica.take()) == "BES"

    def test_the_least_used_makes_room(self) -> None:
        stage = Stage(max_prepared=1)
        client, replica = stage.client(), stage["r1"]
        client >> parse("SELECT 1", "a") + SYNC
        replica << parse("SELECT 1", NAME) + SYNC
        replica >> PARSED + IDLE
        client >> parse("SELECT 2", "b") + SYNC
        replica << close("S", NAME) + parse("SELECT 2", "pgproxy_2") + SYNC
        replica >> CLOSED + PARSED + IDLE
        client << PARSED + IDLE + PARSED + IDLE
        stage.close()

    def test_what_could_not_be_closed_on_a_server_is_still_there(self) -> None:
        stage = Stage(replicas=0, max_prepared=1)
        client, primary = stage.client(), stage["p"]
        client >> parse("SELECT 1", "a") + SYNC
        primary << parse("SELECT 1", NAME) + SYNC
        primary >> PARSED + IDLE
        client >> parse("SELECT 9") + parse("SELECT 2", "b") + SYNC
        assert letters(primary.take()) == "PCPS"
        primary >> error() + IDLE
        client << PARSED + IDLE + error() + IDLE
        # Parse of a name that the server still has would fail.
        client >> bind(statement="a") + execute() + SYNC
        primary << bind(statement=NAME) + execute() + SYNC
        stage.close()


class TestOwnSettings:
    def test_set_and_show_route_need_no_server(self, stage: Stage) -> None:
        client = stage.client()
        client >> query("SET pgproxy.route = 'replica'")
        client << SET + IDLE
        assert b"replica" in client.asks(query("SHOW pgproxy.route"))
        client >> INSERT
        stage["p"] << INSERT

    def test_the_route_is_heeded(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client.asks(query("SET pgproxy.route = 'primary'"))
        client >> SELECT
        primary << SELECT
        primary >> SELECTED + IDLE
        client.take()
        answer = client.asks(query("SHOW pgproxy.last_route"))
        assert letters(answer) == "TDCZ"
        assert b"primary" in answer
        assert b"set_route" in answer

    def test_by_the_extended_protocol(self, stage: Stage) -> None:
        client = stage.client()
        client >> parse("SET pgproxy.route = 'primary'") + bind() + describe("P") + execute() + SYNC
        client << PARSED + BOUND + b"n\0\0\0\4" + SET + IDLE
        assert b"primary" in client.asks(query("SHOW pgproxy.route"))

    def test_an_impossible_value(self, stage: Stage) -> None:
        client = stage.client()
        told = fields(client.asks(query("SET pgproxy.route = 'master'")))
        assert (told["C"], told["ready"]) == ("22023", "I")

    def test_set_local_ends_with_its_transaction(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client.asks(query("BEGIN"))
        client >> query("SET LOCAL pgproxy.route = 'primary'")
        client << SET + IN_BLOCK
        assert b"primary" in client.asks(query("SHOW pgproxy.route"))
        client >> SELECT
        primary >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client.take()
        client >> query("ROLLBACK")
        primary >> ROLLED_BACK + IDLE
        client << ROLLED_BACK + IDLE
        assert b"auto" in client.asks(query("SHOW pgproxy.route"))

    def test_a_set_that_is_rolled_back_did_not_happen(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client.asks(query("BEGIN"))
        client >> SELECT
        primary >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client.take()
        client >> query("SET pgproxy.route = 'replica'")
        client << SET + IN_BLOCK
        client >> query("ROLLBACK")
        primary >> ROLLED_BACK + IDLE
        client << ROLLED_BACK + IDLE
        assert b"auto" in client.asks(query("SHOW pgproxy.route"))

    def test_a_set_in_a_transaction_that_fails_did_not_happen_either(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client.asks(query("BEGIN"))
        client.asks(query("SET pgproxy.route = 'primary'"))
        client >> SELECT
        primary >> BEGUN + IN_BLOCK + error() + FAILED
        client >> query("COMMIT")
        primary >> ROLLED_BACK + IDLE
        client.take()
        assert b"auto" in client.asks(query("SHOW pgproxy.route"))

    def test_a_set_outlives_an_error_that_a_savepoint_has_caught(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client.asks(query("BEGIN"))
        client.asks(query("SET pgproxy.route = 'primary'"))
        client >> query("SAVEPOINT s")
        primary >> BEGUN + IN_BLOCK + write.command_complete(b"SAVEPOINT") + IN_BLOCK
        client >> SELECT
        primary >> error() + FAILED
        client >> query("ROLLBACK TO s")
        primary >> ROLLED_BACK + IN_BLOCK
        client >> query("COMMIT")
        primary >> COMMITTED + IDLE
        client.take()
        assert b"primary" in client.asks(query("SHOW pgproxy.route"))

    def test_it_is_answered_in_its_turn(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        client >> SELECT + query("SHOW pgproxy.route")
        client << b""
        replica << SELECT
        replica >> SELECTED + IDLE
        assert letters(client.take()) == "TDCZTDCZ"

    def test_before_the_first_statement_there_is_no_last_route(self, stage: Stage) -> None:
        assert letters(stage.client().asks(query("SHOW pgproxy.last_route"))) == "TCZ"


class TestCutBatches:
    def test_a_batch_cut_by_flush_goes_to_the_primary_and_stays(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        client >> parse("SELECT 1") + describe("S") + FLUSH
        primary << parse("SELECT 1") + describe("S") + FLUSH
        primary >> PARSED + b"t\0\0\0\6\0\0" + b"n\0\0\0\4"
        client << PARSED + b"t\0\0\0\6\0\0" + b"n\0\0\0\4"
        assert client.relay.server is not None
        client >> bind() + execute() + SYNC
        primary << bind() + execute() + SYNC
        primary >> BOUND + ROW + IDLE
        client << BOUND + ROW + IDLE
        assert client.relay.server is None

    def test_a_portal_is_fetched_in_parts(self, stage: Stage) -> None:
        client, primary = stage.client(), stage["p"]
        begin = parse("SELECT 1") + bind(portal="c") + execute("c", 1) + FLUSH
        client >> begin
        primary << begin
        primary >> PARSED + BOUND + b"s\0\0\0\4"
        client >> execute("c", 1) + FLUSH
        primary << execute("c", 1) + FLUSH
        primary >> ROW
        client >> SYNC
        primary << SYNC
        primary >> IDLE
        client << PARSED + BOUND + b"s\0\0\0\4" + ROW + IDLE
        assert client.relay.server is None

    def test_sync_alone_is_answered_alone(self, stage: Stage) -> None:
        client = stage.client()
        client >> SYNC + FLUSH + SYNC
        client << IDLE + IDLE

    def test_a_batch_in_many_pieces(self, stage: Stage) -> None:
        client, replica = stage.client(), stage["r1"]
        stream = SYNC + parse("SELECT 1", "a") + bind(statement="a") + execute() + SYNC
        for at in range(0, len(stream), 7):
            client >> stream[at : at + 7]
        sent = parse("SELECT 1", NAME) + bind(statement=NAME) + execute() + SYNC
        replica << sent
