"""What a replica was not able to do is done again elsewhere, and the client does not hear of it."""

from collections.abc import Iterator

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import B_DATA_ROW, B_NOTICE_RESPONSE
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from pgproxy.servers.reads import NEVER, ReadRules
from tests.playbooks.mortal import frames
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    CLOSED,
    COMMITTED,
    FAILED,
    IDLE,
    IN_BLOCK,
    INSERTED,
    PARSED,
    ROLLED_BACK,
    ROW,
    SELECTED,
    SET,
    Client,
    Server,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import FLUSH, SYNC, bind, close, execute, parse, query

BEGIN = query("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
SNAPSHOT = query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
COMMIT = query("COMMIT")
ROLLBACK = query("ROLLBACK")
SELECT = query("SELECT 1")
OTHER = query("SELECT a FROM t")
INSERT = query("INSERT INTO t VALUES (1)")
LAST_ROUTE = query("SHOW pgproxy.last_route")

REFUSED = error("cannot execute INSERT in a read-only transaction", "25006")
UNLOGGED = error("cannot access temporary or unlogged relations during recovery", "0A000")
RECOVERY = error("recovery is in progress", "55000")
CONFLICT = error("canceling statement due to conflict with recovery", "40001")
DEADLOCK = error("canceling statement due to conflict with recovery", "40P01")
CONFLICT_ENDS = error("terminating connection due to conflict with recovery", "40001", "FATAL")
DROPPED = error("terminating connection due to conflict with recovery", "57P04", "FATAL")
SHUTDOWN = error("terminating connection due to administrator command", "57P01", "FATAL")
CRASH = write.frame(B_NOTICE_RESPONSE, b"SWARNING\0VWARNING\0C57P02\0Mcrash\0\0")
BEFORE_THE_ROW = SELECTED[: SELECTED.index(bytes([B_DATA_ROW]))]
TWO = SELECTED.replace(b"1", b"2")


def new_stage(
    *,
    replicas: int = 2,
    size: int = 2,
    watermark: str = "off",
    safety_net: bool = True,
    rerun_limit: int = 10_000,
    reads: ReadRules | None = None,
) -> Stage:
    return Stage(
        replicas=replicas,
        size=size,
        watermark=watermark,
        safety_net=safety_net,
        rerun_limit=rerun_limit,
        reads=reads,
        routers=Routers(Memory(), FunctionLists()),
    )


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = new_stage()
    yield stage
    stage.close()


def retries(stage: Stage) -> dict[str, int]:
    return {cause: count for cause, count in stage.counters.replica_retries.items() if count}


def asked(stage: Stage, client: Client, sent: bytes, arrives: bytes | None = None) -> Server:
    """The replica that this has reached."""
    client >> sent
    (server,) = [
        server
        for name, server in stage.servers.items()
        if name != "p" and any(transport.arrived for _, transport in server.connections)
    ]
    server << (sent if arrives is None else arrives)
    return server


def other_than(stage: Stage, server: Server) -> Server:
    return stage["r1"] if server is stage["r2"] else stage["r2"]


def route(client: Client) -> tuple[str, ...]:
    """What SHOW pgproxy.last_route says."""
    (row,) = [frame for frame in frames(client.asks(LAST_ROUTE)) if frame[0] == B_DATA_ROW]
    found, at = [], 7
    for _ in range(4):
        length = int.from_bytes(row[at : at + 4], "big")
        found.append(row[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return tuple(found)


def answers(stage: Stage, client: Client, name: str, sent: bytes, answer: bytes) -> None:
    """What the server `name` is asked, and what the client gets."""
    stage[name] << sent
    stage[name] >> answer
    client << answer


def with_lead_in(server: Server, text: bytes, answer: bytes) -> None:
    """The server is told something about names first, and obeys."""
    arrived = server.take()
    assert arrived.endswith(text)
    done = {
        "P": PARSED,
        "B": BOUND,
        "E": write.command_complete(b"PREPARE"),
        "C": CLOSED,
        "S": IDLE,
    }
    server >> b"".join([done[kind] for kind in letters(arrived.removesuffix(text))]) + answer


class TestRefused:
    @pytest.mark.parametrize("refusal", [REFUSED, UNLOGGED, RECOVERY])
    def test_the_primary_answers(self, stage: Stage, refusal: bytes) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica >> refusal + IDLE
        client << b""
        answers(stage, client, "p", SELECT, SELECTED + IDLE)
        assert retries(stage) == {"read_only": 1}
        assert replica.open == 1
        assert client.relay.server is None
        reason = "learned" if refusal is REFUSED else "retried"
        assert route(client)[:3] == ("primary", reason, "p")

    def test_what_writes_is_remembered(self, stage: Stage) -> None:
        client, second = stage.client(), stage.client()
        asked(stage, client, SELECT) >> REFUSED + IDLE
        answers(stage, client, "p", SELECT, SELECTED + IDLE)
        like_it = query("SELECT 22")
        second >> like_it
        answers(stage, second, "p", like_it, SELECTED + IDLE)
        assert route(second)[:2] == ("primary", "learned")
        assert second.asks(query("SET pgproxy.route = 'replica'"))
        second >> like_it
        answers(stage, second, "p", like_it, SELECTED + IDLE)
        asked(stage, second, OTHER) >> SELECTED + IDLE
        assert retries(stage) == {"read_only": 1}

    @pytest.mark.parametrize("refusal", [UNLOGGED, RECOVERY, CONFLICT])
    def test_the_rest_is_not(self, stage: Stage, refusal: bytes) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica >> refusal + IDLE
        again = stage["p"] if refusal is not CONFLICT else other_than(stage, replica)
        again << SELECT
        again >> SELECTED + IDLE
        client << SELECTED + IDLE
        asked(stage, client, SELECT) >> SELECTED + IDLE

    def test_not_even_a_hint_sends_it_there_again(self, stage: Stage) -> None:
        client = stage.client()
        hinted = query("/* pgproxy: replica */ SELECT f(1)")
        asked(stage, client, hinted) >> REFUSED + IDLE
        answers(stage, client, "p", hinted, SELECTED + IDLE)
        client >> hinted
        answers(stage, client, "p", hinted, SELECTED + IDLE)

    def test_the_primary_refuses_as_well(self, stage: Stage) -> None:
        client = stage.client()
        asked(stage, client, SELECT) >> UNLOGGED + IDLE
        answers(stage, client, "p", SELECT, UNLOGGED + IDLE)
        stage["r1"] << b""
        stage["r2"] << b""

    def test_an_answer_that_has_begun(self, stage: Stage) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica >> BEFORE_THE_ROW
        client << BEFORE_THE_ROW
        replica >> REFUSED + IDLE
        client << REFUSED + IDLE
        assert retries(stage) == {}
        client >> SELECT  # but now it is known
        answers(stage, client, "p", SELECT, SELECTED + IDLE)

    def test_results_that_were_not_given_yet(self, stage: Stage) -> None:
        client = stage.client()
        texts = query("SELECT 1; SELECT f FROM v")
        asked(stage, client, texts) >> SELECTED + REFUSED + IDLE
        answers(stage, client, "p", texts, SELECTED + SELECTED + IDLE)

    def test_the_extended_protocol(self, stage: Stage) -> None:
        client = stage.client()
        batch = parse("SELECT f FROM v") + bind() + execute() + SYNC
        asked(stage, client, batch) >> PARSED + BOUND + REFUSED + IDLE
        client << b""
        answers(stage, client, "p", batch, PARSED + BOUND + ROW + IDLE)
        other = stage.client()
        other >> query("SELECT f FROM v")
        answers(stage, other, "p", query("SELECT f FROM v"), SELECTED + IDLE)

    def test_a_pipeline_as_libpq_sends_it(self, stage: Stage) -> None:
        """With Flush behind the Sync, which needs none."""
        client = stage.client()
        batch = parse("SELECT f FROM v") + bind() + execute() + SYNC
        asked(stage, client, batch + FLUSH) >> PARSED + BOUND + REFUSED + IDLE
        answers(stage, client, "p", batch, PARSED + BOUND + ROW + IDLE)

    def test_a_part_of_the_answer_came_before(self, stage: Stage) -> None:
        client = stage.client()
        batch = parse("SELECT f FROM v") + bind() + execute() + SYNC
        replica = asked(stage, client, batch)
        replica >> PARSED + BOUND
        client << PARSED + BOUND
        replica >> REFUSED + IDLE
        client << REFUSED + IDLE
        stage["p"] << b""

    def test_several_in_flight(self, stage: Stage) -> None:
        """The first is answered, the second refused; what the replica says of the third is not
        waited for."""
        client = stage.client()
        third = query("SELECT b FROM t")
        replica = asked(stage, client, SELECT + OTHER + third)
        replica >> SELECTED + IDLE + BEFORE_THE_ROW + REFUSED + IDLE
        client << SELECTED + IDLE
        stage["p"] << OTHER + third
        stage["p"] >> TWO + IDLE
        client << TWO + IDLE
        stage["p"] >> SELECTED + IDLE
        client << SELECTED + IDLE
        assert replica.open == 0

    def test_several_in_flight_whose_answers_are_partly_ours(self, stage: Stage) -> None:
        client = stage.client()
        text = "SELECT f FROM v"
        replica = asked(stage, client, parse(text, "s") + SYNC, parse(text, "pgproxy_1") + SYNC)
        stage.topology("p", replica.name)
        replica >> PARSED + IDLE
        client << PARSED + IDLE
        first = bind(statement="s") + execute() + SYNC
        second = close("S", "s") + parse("SELECT a FROM t") + bind() + execute() + SYNC
        client >> first + second
        asked_for = bind(statement="pgproxy_1") + execute() + SYNC + second[len(close("S", "s")) :]
        replica << asked_for
        replica >> BOUND + ROW + IDLE + PARSED + BOUND + REFUSED + IDLE
        client << BOUND + ROW + IDLE
        stage["p"] << second[len(close("S", "s")) :]
        stage["p"] >> PARSED + BOUND + ROW + IDLE
        client << CLOSED + PARSED + BOUND + ROW + IDLE

    def test_prepared_statements_of_everybody(self, stage: Stage) -> None:
        text = "/* pgproxy: replica */ SELECT f($1)"
        client, other = stage.client(), stage.client()
        ours = parse(text, "pgproxy_1") + SYNC
        stage.topology("p", "r1")
        for one in (client, other):
            one >> parse(text, "s") + SYNC
            if one is client:
                stage["r1"] << ours
                stage["r1"] >> PARSED + IDLE
            one << PARSED + IDLE
        use = bind(b"1", statement="s") + execute() + SYNC
        on_server = bind(b"1", statement="pgproxy_1") + execute() + SYNC
        client >> use
        stage["r1"] << on_server
        stage["r1"] >> BOUND + REFUSED + IDLE
        stage["p"] << parse(text, "pgproxy_1") + on_server
        stage["p"] >> PARSED + BOUND + ROW + IDLE
        client << BOUND + ROW + IDLE
        for one in (client, other):
            one >> use
            answers(stage, one, "p", on_server, BOUND + ROW + IDLE)
            assert route(one)[:2] == ("primary", "learned")

    def test_the_statement_of_several_in_a_batch(self, stage: Stage) -> None:
        client = stage.client()
        batch = b"".join(
            parse(sql) + bind() + execute() for sql in ("SELECT a FROM t", "SELECT f FROM v")
        )
        replica = asked(stage, client, batch + SYNC)
        replica >> PARSED + BOUND + ROW + PARSED + BOUND + REFUSED + IDLE
        answers(stage, client, "p", batch + SYNC, (PARSED + BOUND + ROW) * 2 + IDLE)
        asked(stage, client, OTHER) >> SELECTED + IDLE
        client << SELECTED + IDLE
        client >> query("SELECT f FROM v")
        answers(stage, client, "p", query("SELECT f FROM v"), SELECTED + IDLE)

    def test_a_statement_that_sql_has_prepared(self) -> None:
        stage = new_stage(replicas=1)
        client, other = stage.client(), stage.client()
        prepares = query("PREPARE a AS SELECT f FROM v")
        prepared = write.command_complete(b"PREPARE")
        runs = query("EXECUTE a")
        asked(stage, client, prepares) >> prepared + IDLE
        client << prepared + IDLE
        asked(stage, client, runs) >> REFUSED + IDLE
        with_lead_in(stage["p"], runs, SELECTED + IDLE)
        client << SELECTED + IDLE
        client >> runs
        answers(stage, client, "p", runs, SELECTED + IDLE)
        stage["r1"] << b""
        other >> prepares
        with_lead_in(stage["r1"], prepares, prepared + IDLE)
        other << prepared + IDLE
        other >> runs
        stage["r1"] << b""
        with_lead_in(stage["p"], runs, SELECTED + IDLE)
        other << SELECTED + IDLE
        assert route(other)[:2] == ("primary", "learned")
        stage.close()

    def test_it_counts_as_a_write(self) -> None:
        stage = new_stage(replicas=1, watermark="session")
        client = stage.client()
        asked(stage, client, SELECT) >> REFUSED + IDLE
        answers(stage, client, "p", SELECT, SELECTED + IDLE)
        client >> OTHER
        answers(stage, client, "p", OTHER, SELECTED + IDLE)
        assert route(client)[:2] == ("primary", "not_fresh")
        stage.close()

    def test_there_is_no_primary(self, stage: Stage) -> None:
        """A write waits for one; what may be an ordinary error does not."""
        stage.topology("", "r1", "r2")
        client = stage.client()
        asked(stage, client, SELECT) >> UNLOGGED + IDLE
        client << UNLOGGED + IDLE
        asked(stage, client, SELECT) >> REFUSED + IDLE
        client << b""
        stage.topology("r1", "r2")
        answers(stage, client, "r1", SELECT, SELECTED + IDLE)

    def test_what_it_has_not_prepared_is_not_taken_for_prepared(self) -> None:
        stage = new_stage(replicas=1)
        client = stage.client()
        made = parse("SELECT f FROM v", "pgproxy_1") + SYNC
        asked(stage, client, parse("SELECT f FROM v", "s") + SYNC, made) >> UNLOGGED + IDLE
        answers(stage, client, "p", made, PARSED + IDLE)
        use = bind(statement="pgproxy_1") + execute() + SYNC
        asked(stage, client, bind(statement="s") + execute() + SYNC, made[: -len(SYNC)] + use)
        stage["r1"] >> PARSED + BOUND + ROW + IDLE
        client << BOUND + ROW + IDLE
        stage.close()

    def test_a_plan_that_has_changed_is_made_anew_there(self) -> None:
        """Which is no matter of the server."""
        stage = new_stage(replicas=1)
        client = stage.client()
        made = parse("SELECT a FROM t", "pgproxy_1")
        use = bind(statement="pgproxy_1") + execute() + SYNC
        client_s_run = parse("SELECT a FROM t", "s") + bind(statement="s") + execute() + SYNC
        asked(stage, client, client_s_run, made + use) >> PARSED + BOUND + ROW + IDLE
        client << PARSED + BOUND + ROW + IDLE
        asked(stage, client, bind(statement="s") + execute() + SYNC, use)
        changed = PgError("0A000", "cached plan must not", routine="RevalidateCachedQuery")
        stage["r1"] >> write.error_response(changed) + IDLE
        stage["r1"] << close("S", "pgproxy_1") + made + use
        stage["p"] << b""
        stage["r1"] >> CLOSED + PARSED + BOUND + ROW + IDLE
        client << BOUND + ROW + IDLE
        stage.close()

    def test_other_errors_are_the_clients(self, stage: Stage) -> None:
        client = stage.client()
        for sqlstate in ("42P01", "57014", "40003", "25P02", "22012"):
            asked(stage, client, SELECT) >> error("no", sqlstate) + IDLE
            client << error("no", sqlstate) + IDLE
        assert retries(stage) == {}

    def test_the_net_is_off(self) -> None:
        stage = new_stage(safety_net=False)
        client = stage.client()
        for refusal in (REFUSED, UNLOGGED, CONFLICT):
            asked(stage, client, SELECT) >> refusal + IDLE
            client << refusal + IDLE
        replica = asked(stage, client, SELECT)
        replica.leaves()
        assert fields(client.take() + IDLE)["C"] == "08006"
        assert retries(stage) == {}
        stage.close()


def in_transaction(stage: Stage, begin: bytes = BEGIN) -> tuple[Client, Server]:
    """A client that has read in an open transaction on a replica."""
    client = stage.client()
    assert client.asks(begin) == BEGUN + IN_BLOCK
    replica = asked(stage, client, SELECT, begin + SELECT)
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK
    return client, replica


class TestInATransaction:
    @pytest.mark.parametrize("refusal", [REFUSED, UNLOGGED, CONFLICT])
    def test_it_goes_on_on_the_primary(self, stage: Stage, refusal: bytes) -> None:
        client, replica = in_transaction(stage)
        client >> OTHER
        replica << OTHER
        replica >> refusal + FAILED
        client << b""
        replica << ROLLBACK
        stage["p"] << BEGIN + OTHER
        stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client << SELECTED + IN_BLOCK
        client >> COMMIT
        answers(stage, client, "p", COMMIT, COMMITTED + IDLE)
        replica >> ROLLED_BACK + IDLE
        assert replica.open == 1
        assert stage.counters.moved_transactions == 1

    def test_which_refuses_what_a_read_only_transaction_may_not(self, stage: Stage) -> None:
        client, replica = in_transaction(stage)
        client >> OTHER
        replica >> REFUSED + FAILED
        stage["p"] << BEGIN + OTHER
        stage["p"] >> BEGUN + IN_BLOCK + REFUSED + FAILED
        client << REFUSED + FAILED
        client >> ROLLBACK
        answers(stage, client, "p", ROLLBACK, ROLLED_BACK + IDLE)
        replica.take()
        replica >> ROLLED_BACK + IDLE
        assert retries(stage) == {"read_only": 1}

    def test_with_more_in_flight(self, stage: Stage) -> None:
        client, replica = in_transaction(stage)
        client >> SELECT + OTHER + SELECT + COMMIT
        replica << SELECT + OTHER + SELECT
        replica >> SELECTED + IN_BLOCK + UNLOGGED + FAILED
        client << SELECTED + IN_BLOCK
        stage["p"] << BEGIN + OTHER + SELECT
        stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK + TWO + IN_BLOCK
        client << SELECTED + IN_BLOCK + TWO + IN_BLOCK
        answers(stage, client, "p", COMMIT, COMMITTED + IDLE)

    def test_of_which_more_was_read_than_is_kept(self) -> None:
        """What need not be read again need not be kept."""
        stage = new_stage(rerun_limit=300)
        client, replica = in_transaction(stage)
        wide = write.data_row([b"x" * 300]) + write.command_complete(b"SELECT 1") + IN_BLOCK
        client >> OTHER
        replica << OTHER
        replica >> wide
        client << wide
        client >> OTHER
        replica << OTHER
        replica >> CONFLICT + FAILED
        stage["p"] << BEGIN + OTHER
        stage["p"] >> BEGUN + IN_BLOCK + wide
        client << wide
        replica.take()
        replica >> ROLLED_BACK + IDLE
        stage.close()

    def test_more_than_is_kept_and_then_the_end(self) -> None:
        stage = new_stage(rerun_limit=300)
        client, replica = in_transaction(stage)
        wide = write.data_row([b"x" * 300]) + write.command_complete(b"SELECT 1") + IN_BLOCK
        client >> OTHER
        replica >> wide
        client << wide
        replica >> CONFLICT_ENDS
        client << b""
        client >> OTHER
        stage["p"] << BEGIN + OTHER
        stage["p"] >> BEGUN + IN_BLOCK + wide
        client << wide
        stage.close()

    def test_a_snapshot_of_which_more_was_read_than_is_kept(self) -> None:
        stage = new_stage(rerun_limit=300)
        client, replica = in_transaction(stage, SNAPSHOT)
        wide = write.data_row([b"x" * 300]) + write.command_complete(b"SELECT 1") + IN_BLOCK
        client >> OTHER
        replica >> wide
        client << wide
        client >> OTHER
        replica >> CONFLICT + FAILED
        client << CONFLICT + FAILED
        stage.close()

    def test_at_its_first_statement(self, stage: Stage) -> None:
        """Nothing has been seen yet, so the snapshot does not matter."""
        client = stage.client()
        client.asks(SNAPSHOT)
        replica = asked(stage, client, SELECT, SNAPSHOT + SELECT)
        replica >> BEGUN + IN_BLOCK + UNLOGGED + FAILED
        stage["p"] << SNAPSHOT + SELECT
        stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client << SELECTED + IN_BLOCK

    def test_a_snapshot_cannot_move(self, stage: Stage) -> None:
        client, replica = in_transaction(stage, SNAPSHOT)
        client >> OTHER
        replica << OTHER
        replica >> UNLOGGED + FAILED
        client << UNLOGGED + FAILED
        client >> ROLLBACK
        replica << ROLLBACK
        replica >> ROLLED_BACK + IDLE
        client << ROLLED_BACK + IDLE
        assert retries(stage) == {}

    def test_a_snapshot_is_read_again_after_a_conflict(self, stage: Stage) -> None:
        client, replica = in_transaction(stage, SNAPSHOT)
        client >> OTHER
        replica << OTHER
        replica >> CONFLICT + FAILED
        other = other_than(stage, replica)
        other << SNAPSHOT + SELECT
        other >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        other << OTHER
        other >> TWO + IN_BLOCK
        client << TWO + IN_BLOCK

    def test_which_the_other_replica_cancels_too(self, stage: Stage) -> None:
        client, replica = in_transaction(stage, SNAPSHOT)
        client >> OTHER
        replica >> CONFLICT + FAILED
        other = other_than(stage, replica)
        other << SNAPSHOT + SELECT
        other >> BEGUN + IN_BLOCK + CONFLICT + FAILED
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("40001", "E")
        assert retries(stage) == {"conflict": 1}
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE

    def test_and_may_be_another_one_now(self, stage: Stage) -> None:
        client, replica = in_transaction(stage, SNAPSHOT)
        client >> OTHER
        replica >> CONFLICT + FAILED
        other = other_than(stage, replica)
        other << SNAPSHOT + SELECT
        other >> BEGUN + IN_BLOCK + TWO + IN_BLOCK
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("40001", "E")
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE

    @pytest.mark.parametrize("end", [CONFLICT_ENDS, SHUTDOWN, b""])
    def test_it_is_ended_between_two_statements(self, stage: Stage, end: bytes) -> None:
        client, replica = in_transaction(stage)
        if end:
            replica >> end
        else:
            replica.leaves()
        client << b""
        client >> OTHER
        stage["p"] << BEGIN + OTHER
        stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client << SELECTED + IN_BLOCK

    def test_that_may_not_be_read_from_the_primary(self) -> None:
        stage = new_stage(reads=ReadRules(from_primary=NEVER))
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica >> CONFLICT + IDLE
        other = other_than(stage, replica)
        other << SELECT
        other >> CONFLICT + IDLE
        stage["p"] << b""
        answers(stage, client, replica.name, SELECT, SELECTED + IDLE)
        stage.close()

    def test_what_is_reported_is_told_once(self, stage: Stage) -> None:
        client, replica = in_transaction(stage, SNAPSHOT)
        both = query("SET timezone = 'X'; SELECT 1")
        report = write.parameter_status(b"TimeZone", b"X")
        client >> both
        replica << both
        replica >> SET + report + CONFLICT + FAILED
        client << report
        other = other_than(stage, replica)
        other << SNAPSHOT + SELECT
        other >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        assert not client.relay.accounts.is_timed
        other << both
        other >> SET + report + SELECTED + IN_BLOCK
        client << SET + SELECTED + IN_BLOCK

    def test_a_transaction_that_has_failed(self, stage: Stage) -> None:
        """It is run again, with its error: to begin anew it would forget that."""
        client, replica = in_transaction(stage)
        client >> query("SELECT nothing")
        replica >> error() + FAILED
        client << error() + FAILED
        client >> COMMIT
        replica.leaves()
        other = other_than(stage, replica)
        other << BEGIN + SELECT + query("SELECT nothing")
        other >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK + error() + FAILED
        other << COMMIT
        other >> ROLLED_BACK + IDLE
        client << ROLLED_BACK + IDLE

    def test_the_next_transaction_in_the_same_pipeline(self, stage: Stage) -> None:
        """What its BEGIN says holds, not what that of the one before has said."""
        client, replica = in_transaction(stage)
        client >> COMMIT + SNAPSHOT + SELECT
        replica << COMMIT + SNAPSHOT + SELECT
        replica >> COMMITTED + IDLE + BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client.take()
        client >> OTHER
        replica << OTHER
        replica >> UNLOGGED + FAILED
        client << UNLOGGED + FAILED
        stage["p"] << b""


class TestConflict:
    @pytest.mark.parametrize("conflict", [CONFLICT, DEADLOCK])
    def test_another_replica_and_then_the_primary(self, stage: Stage, conflict: bytes) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica >> conflict + IDLE
        other = other_than(stage, replica)
        other << SELECT
        other >> conflict + IDLE
        answers(stage, client, "p", SELECT, conflict + IDLE)
        assert retries(stage) == {"conflict": 2}
        assert route(client)[:3] == ("primary", "retried", "p")

    @pytest.mark.parametrize("end", [CONFLICT_ENDS, DROPPED])
    def test_that_ends_the_session(self, stage: Stage, end: bytes) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica >> end
        answers(stage, client, other_than(stage, replica).name, SELECT, SELECTED + IDLE)
        assert route(client)[:3] == ("replica", "read", other_than(stage, replica).name)

    def test_there_is_no_other_replica(self) -> None:
        stage = new_stage(replicas=1)
        client = stage.client()
        asked(stage, client, SELECT) >> CONFLICT + IDLE
        answers(stage, client, "p", SELECT, SELECTED + IDLE)
        stage.close()

    def test_there_is_nothing_else(self) -> None:
        stage = new_stage(replicas=1)
        stage.topology("", "r1")
        client = stage.client()
        asked(stage, client, SELECT) >> CONFLICT + IDLE
        for _ in range(2):
            stage["r1"] << SELECT
            stage["r1"] >> CONFLICT + IDLE
        answers(stage, client, "r1", SELECT, CONFLICT + IDLE)
        stage.close()

    def test_the_next_statement_begins_anew(self, stage: Stage) -> None:
        client = stage.client()
        for _ in range(5):
            replica = asked(stage, client, SELECT)
            replica >> CONFLICT + IDLE
            answers(stage, client, other_than(stage, replica).name, SELECT, SELECTED + IDLE)


class TestLost:
    @pytest.mark.parametrize("words", [b"", CRASH, BEFORE_THE_ROW + CRASH, SHUTDOWN])
    def test_another_replica_answers(self, stage: Stage, words: bytes) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        if words:
            replica >> words
        else:
            replica.leaves()
        client << b""
        answers(stage, client, other_than(stage, replica).name, SELECT, SELECTED + IDLE)
        assert retries(stage) == {"lost": 1}

    def test_once(self, stage: Stage) -> None:
        """It may be what breaks them."""
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica.leaves()
        other = other_than(stage, replica)
        other << SELECT
        other.leaves()
        assert fields(client.take() + IDLE)["C"] == "08006"
        assert client.own_transport.closed
        stage["p"] << b""

    def test_after_the_first_row(self, stage: Stage) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        replica >> BEFORE_THE_ROW
        client << BEFORE_THE_ROW
        replica.leaves()
        assert fields(client.take() + IDLE)["C"] == "08006"

    def test_with_more_in_flight(self, stage: Stage) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT + OTHER)
        replica >> SELECTED + IDLE
        client << SELECTED + IDLE
        replica.leaves()
        answers(stage, client, other_than(stage, replica).name, OTHER, TWO + IDLE)

    def test_a_write_behind_it_waits_and_goes_to_the_primary(self, stage: Stage) -> None:
        client = stage.client()
        client >> SELECT + INSERT
        (replica,) = [stage[name] for name in ("r1", "r2") if stage[name].connections]
        replica << SELECT
        replica.leaves()
        answers(stage, client, other_than(stage, replica).name, SELECT, SELECTED + IDLE)
        answers(stage, client, "p", INSERT, INSERTED + IDLE)

    def test_what_may_write_is_not_done_twice(self, stage: Stage) -> None:
        """The replica may have become the primary, and nobody has seen it yet."""
        client = stage.client()
        hinted = query("/* pgproxy: replica */ SELECT f(1)")
        replica = asked(stage, client, hinted)
        replica >> SHUTDOWN  # which says that it is undone
        other = other_than(stage, replica)
        other << hinted
        other.leaves()
        assert fields(client.take() + IDLE)["C"] == "08006"
        second = stage.client()
        replica = asked(stage, second, hinted)
        replica >> SELECTED + SHUTDOWN
        assert letters(second.take()) == "TDCE"
        third = stage.client()
        asked(stage, third, hinted).leaves()
        assert fields(third.take() + IDLE)["C"] == "08006"

    def test_what_acts_elsewhere_is_not_done_twice(self, stage: Stage) -> None:
        client = stage.client()
        acts = query("/* pgproxy: replica */ SELECT dblink_exec('c', 'x') FROM f()")
        client >> acts
        for name in ("p", "r1", "r2"):
            if stage[name].take():
                stage[name].leaves()
        assert fields(client.take() + IDLE)["C"] == "08006"


class TestCancel:
    def test_while_it_waits_for_the_primary(self) -> None:
        stage = new_stage(size=1)
        busy, client = stage.client(), stage.client()
        busy >> INSERT
        stage["p"] << INSERT
        asked(stage, client, SELECT) >> REFUSED + IDLE
        client.relay.cancels.ask()
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("57014", "I")
        answers(stage, busy, "p", b"", INSERTED + IDLE)
        stage["p"] << b""
        client >> SELECT
        answers(stage, client, "p", SELECT, SELECTED + IDLE)
        stage.close()

    def test_when_it_has_been_sent_again(self, stage: Stage) -> None:
        client = stage.client()
        asked(stage, client, SELECT) >> REFUSED + IDLE
        stage["p"] << SELECT
        stage.cancels_arrive = False
        client.relay.cancels.ask()
        stage.settle()
        assert stage.cancels == [("p", 1)]
        stage.cancels_arrive = True
        stage.settle()
        stage["p"] >> error("canceled", "57014") + IDLE
        client << error("canceled", "57014") + IDLE

    def test_before_its_begin_is_answered(self, stage: Stage) -> None:
        client, replica = in_transaction(stage)
        client >> OTHER
        replica >> UNLOGGED + FAILED
        stage["p"] << BEGIN + OTHER
        stage.cancels_arrive = False
        client.relay.cancels.ask()
        stage.settle()
        assert stage.cancels == []
        stage["p"] >> BEGUN + IN_BLOCK
        stage.settle()
        assert stage.cancels == [("p", 1)]
        stage.cancels_arrive = True
        stage.settle()
        stage["p"] >> error("canceled", "57014") + FAILED
        client << error("canceled", "57014") + FAILED

    def test_that_was_on_its_way_to_the_replica(self, stage: Stage) -> None:
        client = stage.client()
        replica = asked(stage, client, SELECT)
        stage.cancels_arrive = False
        client.relay.cancels.ask()
        stage.settle()
        assert len(stage.cancels) == 1
        replica >> REFUSED + IDLE
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("57014", "I")
        stage["p"] << b""
        stage.cancels_arrive = True
        stage.settle()
        assert replica.open == 0

    def test_while_a_transaction_waits_for_the_primary(self) -> None:
        stage = new_stage(size=1)
        busy = stage.client()
        busy >> INSERT
        stage["p"] << INSERT
        client, replica = in_transaction(stage)
        client >> SELECT + OTHER
        replica >> SELECTED + IN_BLOCK + UNLOGGED + FAILED
        client << SELECTED + IN_BLOCK
        client.relay.cancels.ask()
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("57014", "E")
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE
        stage["p"] >> INSERTED + IDLE
        replica.take()
        stage.close()

    def test_that_came_too_late_for_the_replica(self, stage: Stage) -> None:
        """The replica has seen it when the statement was over, but for the proxy it was not."""
        client = stage.client()
        replica = asked(stage, client, SELECT)
        client.relay.cancels.ask()
        stage.settle()
        assert stage.cancels == []
        replica >> REFUSED + IDLE
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("57014", "I")
        asked(stage, client, OTHER) >> CONFLICT + IDLE  # which it was not meant for
        assert client.take() == b""

    def test_in_a_transaction_it_fails(self, stage: Stage) -> None:
        client, replica = in_transaction(stage)
        client >> SELECT
        stage.cancels_arrive = False
        client.relay.cancels.ask()
        stage.settle()
        replica >> UNLOGGED + FAILED
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("57014", "E")
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE
        stage.cancels_arrive = True
        stage.settle()
