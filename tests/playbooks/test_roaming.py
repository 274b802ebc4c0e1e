"""routing.transactions = "replica-until-write": transactions begin on a replica and move."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from pgproxy.frames.codes import B_BIND_COMPLETE, B_PARSE_COMPLETE
from pgproxy.relay.carry import is_on
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
    ROW,
    SELECTED,
    SET,
    Client,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import FLUSH, SYNC, bind, describe, execute, parse, query

# In the stage nobody says what default_transaction_isolation is.
BEGIN = query("BEGIN ISOLATION LEVEL READ COMMITTED")
ROAMING = query("BEGIN ISOLATION LEVEL READ COMMITTED")
SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
COMMIT = query("COMMIT")
ROLLBACK = query("ROLLBACK")
SAVED = write.command_complete(b"SAVEPOINT")
RELEASED = write.command_complete(b"RELEASE")
READ = parse("SELECT 1") + bind() + execute() + SYNC
READ_ANSWER = PARSED + BOUND + ROW


def anew(*behind: str, begin: bytes = BEGIN) -> bytes:
    """What begins the transaction on another server."""
    return query(begin[5:-1].decode() + "".join(f"\n;{statement}" for statement in behind))


QUERIED = "SELECT WHERE false"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(until_write=True)
    yield stage
    stage.close()


def begun(stage: Stage, begin: bytes = BEGIN) -> Client:
    """A client that has read in a transaction on the replica."""
    client = stage.client()
    assert client.asks(begin) == BEGUN + IN_BLOCK
    client >> SELECT
    stage["r1"] << ROAMING + SELECT
    stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK
    return client


def on_replica(stage: Stage, client: Client, sent: bytes, answer: bytes) -> None:
    client >> sent
    stage["r1"] << sent
    stage["r1"] >> answer
    client << answer


def moves(stage: Stage, client: Client, statement: bytes, begin: bytes, begins: int = 1) -> None:
    """The statement goes to the primary, behind this BEGIN."""
    client >> statement
    stage["r1"] << ROLLBACK
    stage["r1"] >> ROLLED_BACK + IDLE
    stage["p"] << begin + statement
    stage["p"] >> BEGUN * begins + IN_BLOCK


def test_it_moves_with_the_first_write(stage: Stage) -> None:
    client = begun(stage)
    moves(stage, client, INSERT, anew(QUERIED))
    stage["p"] >> INSERTED + IN_BLOCK
    client << INSERTED + IN_BLOCK
    client >> SELECT
    stage["p"] << SELECT
    stage["p"] >> SELECTED + IN_BLOCK
    client >> COMMIT
    stage["p"] << COMMIT
    stage["p"] >> COMMITTED + IDLE
    client << SELECTED + IN_BLOCK + COMMITTED + IDLE
    assert client.relay.server is None
    assert stage.counters.moved_transactions == 1


def test_it_ends_on_the_replica(stage: Stage) -> None:
    client = begun(stage)
    on_replica(stage, client, COMMIT, COMMITTED + IDLE)
    assert client.relay.server is None
    client = begun(stage)
    on_replica(stage, client, ROLLBACK, ROLLED_BACK + IDLE)
    assert stage.counters.moved_transactions == 0


@pytest.mark.parametrize(
    "begin",
    [
        "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE",
        "START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED -- a comment",
        "BEGIN NOT DEFERRABLE, ISOLATION LEVEL READ COMMITTED;",
    ],
)
def test_the_primary_gets_begin_as_the_client_wrote_it(stage: Stage, begin: str) -> None:
    client = stage.client()
    client >> query(begin)
    client.take()
    client >> SELECT
    stage["r1"] << ROAMING + SELECT
    stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK
    moves(stage, client, INSERT, anew(QUERIED, begin=query(begin)))


@pytest.mark.parametrize(
    "begin",
    [
        "BEGIN",  # nobody knows its isolation level
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "/* pgproxy: primary */ BEGIN ISOLATION LEVEL READ COMMITTED",
    ],
)
def test_what_cannot_move_begins_on_the_primary(stage: Stage, begin: str) -> None:
    client = stage.client()
    client >> query(begin) + SELECT
    stage["p"] << query(begin) + SELECT


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    "batch",
    [
        query("SELECT now()"),
        query("SELECT 'now'::timestamptz"),
        query("SET LOCAL work_mem = '3MB'"),
        query("DECLARE c CURSOR FOR SELECT 1"),
        query("SELECT 1; SELECT nextval('s')"),
        query("SELECT pg_advisory_xact_lock(1)"),
        query("SELECT pg_is_in_recovery()"),
        query("PREPARE a AS SELECT 1"),
        query("NOTIFY c"),
        parse("SELECT 1") + bind() + execute(limit=1) + SYNC,
        parse("SELECT 1") + bind() + SYNC,
        parse("SELECT 1") + bind(portal="p") + execute("p") + SYNC,
        parse("SELECT 1") + bind() + execute() + FLUSH,
    ],
)
def test_what_would_show_or_bind_goes_to_the_primary(
    stage: Stage, batch: bytes, *, is_first: bool
) -> None:
    """As the first statement at once, and else with the move."""
    if is_first:
        stage.client() >> BEGIN + batch
        stage["p"] << BEGIN + batch
        return
    begun(stage) >> batch
    stage["r1"] << ROLLBACK
    stage["p"] << anew(QUERIED) + batch


class TestSavepoints:
    def test_they_are_made_again(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(BEGIN)
        client >> query("SAVEPOINT a")
        stage["r1"] << ROAMING + query("SAVEPOINT a")
        stage["r1"] >> BEGUN + IN_BLOCK + SAVED + IN_BLOCK
        client << SAVED + IN_BLOCK
        on_replica(stage, client, query('SAVEPOINT "B ""b"'), SAVED + IN_BLOCK)
        on_replica(stage, client, query("SAVEPOINT c"), SAVED + IN_BLOCK)
        on_replica(stage, client, query("RELEASE c"), RELEASED + IN_BLOCK)
        begin = anew('SAVEPOINT "a"', 'SAVEPOINT "B ""b"')
        moves(stage, client, INSERT, begin)

    def test_none_that_has_failed(self, stage: Stage) -> None:
        client = begun(stage)
        on_replica(stage, client, query("SAVEPOINT a"), SAVED + IN_BLOCK)
        on_replica(stage, client, query("SELECT 1/0"), error() + FAILED)
        on_replica(stage, client, query("SAVEPOINT b"), error(sqlstate="25P02") + FAILED)
        on_replica(stage, client, query("ROLLBACK TO a"), ROLLED_BACK + IN_BLOCK)
        moves(stage, client, INSERT, anew(QUERIED, 'SAVEPOINT "a"'))

    def test_pipelined_behind_what_fails(self, stage: Stage) -> None:
        client = begun(stage)
        on_replica(stage, client, query("SAVEPOINT a"), SAVED + IN_BLOCK)
        client >> query("SELECT 1/0") + query("SAVEPOINT b") + query("ROLLBACK TO a")
        stage["r1"] << query("SELECT 1/0") + query("SAVEPOINT b") + query("ROLLBACK TO a")
        failed = error() + FAILED + error(sqlstate="25P02") + FAILED
        stage["r1"] >> failed + ROLLED_BACK + IN_BLOCK
        client << failed + ROLLED_BACK + IN_BLOCK
        moves(stage, client, INSERT, anew(QUERIED, 'SAVEPOINT "a"'))

    @pytest.mark.parametrize(
        "batch",
        [
            query("SAVEPOINT a; SELECT 1/0"),
            parse("SAVEPOINT a") + bind() + execute() + parse("S") + bind() + execute() + SYNC,
        ],
    )
    def test_one_among_others_moves(self, stage: Stage, batch: bytes) -> None:
        """How far they have come nobody could tell."""
        client = begun(stage)
        client >> batch
        stage["r1"] << ROLLBACK
        stage["p"] << anew(QUERIED) + batch


class TestFailed:
    def test_it_stays_until_it_is_over(self, stage: Stage) -> None:
        client = begun(stage)
        on_replica(stage, client, query("SELECT 1/0"), error() + FAILED)
        on_replica(stage, client, INSERT, error(sqlstate="25P02") + FAILED)
        on_replica(stage, client, COMMIT, ROLLED_BACK + IDLE)

    @pytest.mark.parametrize("text", ["ROLLBACK; INSERT INTO t VALUES (1)", "COMMIT; SELECT 1"])
    def test_it_fails_anew_where_its_text_goes_on(self, stage: Stage, text: str) -> None:
        client = begun(stage)
        on_replica(stage, client, query("SAVEPOINT a"), SAVED + IN_BLOCK)
        on_replica(stage, client, query("SELECT 1/0"), error() + FAILED)
        client >> query(text)
        stage["r1"] << ROLLBACK
        failing = "SELECT 1 OPERATOR(pg_catalog./) 0"
        stage["p"] << anew(QUERIED, 'SAVEPOINT "a"', failing) + query(text)
        stage["p"] >> BEGUN + SAVED + error() + FAILED + ROLLED_BACK + INSERTED + IDLE
        client << ROLLED_BACK + INSERTED + IDLE

    def test_by_an_error_of_the_proxys(self, stage: Stage) -> None:
        """No primary for the write: the transaction has failed here."""
        client = begun(stage)
        stage.topology("", "r1", dead=("p",))
        client >> INSERT
        stage["r1"] << ROLLBACK
        stage["r1"] >> ROLLED_BACK + IDLE
        stage.time_passes(1000)
        assert fields(client.take())["C"] == "57P03"
        assert client.asks(ROLLBACK) == ROLLED_BACK + IDLE
        client = begun(stage)  # and the next one knows nothing of it
        on_replica(stage, client, COMMIT, COMMITTED + IDLE)


class TestChains:
    def test_the_next_one_begins_as_the_first(self, stage: Stage) -> None:
        client = begun(stage)
        on_replica(stage, client, query("SAVEPOINT a"), SAVED + IN_BLOCK)
        on_replica(stage, client, query("COMMIT AND CHAIN"), COMMITTED + IN_BLOCK)
        assert client.relay.server is None
        stage["r1"] << ROLLBACK
        stage["r1"] >> ROLLED_BACK + IDLE
        client >> SELECT
        stage["r1"] << ROAMING + SELECT
        stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client << SELECTED + IN_BLOCK
        moves(stage, client, INSERT, anew(QUERIED))
        assert stage.counters.moved_transactions == 1

    def test_with_the_next_statement_in_the_pipeline(self, stage: Stage) -> None:
        client = begun(stage)
        client >> query("ROLLBACK AND CHAIN") + INSERT
        stage["r1"] << query("ROLLBACK AND CHAIN")
        stage["r1"] >> ROLLED_BACK + IN_BLOCK
        stage["p"] << BEGIN + INSERT

    def test_nothing_was_asked(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(BEGIN)
        assert client.asks(query("COMMIT AND CHAIN")) == COMMITTED + IN_BLOCK
        assert client.asks(query("ROLLBACK AND CHAIN")) == ROLLED_BACK + IN_BLOCK
        client >> SELECT
        stage["r1"] << ROAMING + SELECT


class TestModes:
    @pytest.mark.parametrize("until_write", [False, True])
    def test_read_only_goes_to_the_replica(self, until_write: bool) -> None:
        stage = Stage(until_write=until_write)
        client = stage.client()
        client.asks(query("BEGIN -- a comment"))
        assert client.asks(query("SET TRANSACTION READ ONLY")) == SET + IN_BLOCK
        client >> SELECT
        stage["r1"] << query("BEGIN -- a comment\n;SET TRANSACTION READ ONLY") + SELECT
        stage["r1"] >> BEGUN + SET + IN_BLOCK + SELECTED + IN_BLOCK
        client << SELECTED + IN_BLOCK
        stage.close()

    @pytest.mark.parametrize(
        "modes",
        [
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        ],
    )
    def test_levels_for_the_primary(self, stage: Stage, modes: str) -> None:
        client = stage.client()
        client.asks(BEGIN)
        assert client.asks(query(modes)) == SET + IN_BLOCK
        client >> SELECT
        stage["p"] << anew(modes) + SELECT

    def test_levels_that_let_it_roam(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(query("BEGIN ISOLATION LEVEL SERIALIZABLE"))
        modes = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE, READ WRITE"
        client.asks(query(modes))
        client >> SELECT
        stage["r1"] << ROAMING + SELECT

    def test_an_unused_transaction(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(BEGIN)
        client.asks(query("SET TRANSACTION READ ONLY"))
        assert client.asks(COMMIT) == COMMITTED + IDLE
        client.asks(BEGIN)
        client >> INSERT
        stage["p"] << BEGIN + INSERT

    def test_set_transaction_behind_a_query_is_for_the_server(self, stage: Stage) -> None:
        client = begun(stage)
        modes = query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        moves(stage, client, modes, anew(QUERIED))
        stage["p"] >> error(sqlstate="25001") + FAILED
        client << error(sqlstate="25001") + FAILED


class TestExtended:
    def test_begin_alone_is_held_back(self, stage: Stage) -> None:
        client = stage.client()
        text = BEGIN[5:-1].decode()
        answer = client.asks(
            parse(text, "s") + bind(statement="s") + describe("P") + execute() + SYNC
        )
        assert letters(answer) == "12nCZ"
        assert answer[0] == B_PARSE_COMPLETE
        assert answer[5] == B_BIND_COMPLETE
        client >> READ
        stage["r1"] << ROAMING + READ
        stage["r1"] >> BEGUN + IN_BLOCK + READ_ANSWER + IN_BLOCK
        client << READ_ANSWER + IN_BLOCK
        insert = parse("INSERT INTO t VALUES (1)") + bind() + execute() + SYNC
        moves(stage, client, insert, anew(QUERIED))

    def test_with_a_parameter_it_is_for_the_server_to_refuse(self, stage: Stage) -> None:
        client = stage.client()
        batch = parse("BEGIN") + bind(b"1") + execute() + SYNC
        client >> batch
        stage["p"] << batch

    def test_where_transactions_go_to_the_primary_it_is_not_held_back(self) -> None:
        stage = Stage()
        client = stage.client()
        batch = parse("BEGIN") + bind() + execute() + SYNC
        client >> batch
        stage["p"] << batch
        stage.close()

    def test_the_end_of_a_transaction_that_asked_nothing(self, stage: Stage) -> None:
        client = stage.client()
        client.asks(BEGIN)
        answer = client.asks(parse("COMMIT") + bind() + execute() + SYNC)
        assert answer == PARSED + BOUND + COMMITTED + IDLE


class TestPipelines:
    def test_the_move_waits_for_what_is_running(self, stage: Stage) -> None:
        client = stage.client()
        client >> BEGIN + SELECT + SELECT + INSERT + SELECT
        stage["r1"] << ROAMING + SELECT + SELECT
        stage["p"] << b""
        stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK + SELECTED + IN_BLOCK
        stage["r1"] << ROLLBACK
        stage["p"] << anew(QUERIED) + INSERT + SELECT

    def test_the_next_transaction_waits_for_the_end_of_this(self, stage: Stage) -> None:
        client = begun(stage)
        client >> COMMIT + SELECT + BEGIN + INSERT
        stage["r1"] << COMMIT
        stage["r1"] >> COMMITTED + IDLE
        stage["r1"] << SELECT
        stage["p"] << b""
        stage["r1"] >> SELECTED + IDLE
        stage["p"] << BEGIN + INSERT
        client << COMMITTED + IDLE + SELECTED + IDLE + BEGUN + IN_BLOCK

    def test_a_write_waits_for_the_end_of_a_failure(self, stage: Stage) -> None:
        client = begun(stage)
        on_replica(stage, client, query("SAVEPOINT a"), SAVED + IN_BLOCK)
        on_replica(stage, client, query("SELECT 1/0"), error() + FAILED)
        client >> query("ROLLBACK TO a") + INSERT
        stage["r1"] << query("ROLLBACK TO a")
        stage["r1"] >> ROLLED_BACK + IN_BLOCK
        stage["p"] << anew(QUERIED, 'SAVEPOINT "a"') + INSERT

    def test_nothing_follows_a_chain(self, stage: Stage) -> None:
        client = begun(stage)
        client >> query("COMMIT AND CHAIN") + SELECT
        stage["r1"] << query("COMMIT AND CHAIN")
        stage["r1"] >> COMMITTED + IN_BLOCK
        stage["r1"] << ROAMING + SELECT
        client << COMMITTED + IN_BLOCK


def test_a_route_set_in_it(stage: Stage) -> None:
    client = begun(stage)
    assert client.asks(query("SET LOCAL pgproxy.route = 'primary'")) == SET + IN_BLOCK
    moves(stage, client, SELECT, anew(QUERIED))


def test_a_commit_of_another_session_is_seen_by_the_next_statement() -> None:
    stage = Stage(until_write=True, watermark="global")
    client = begun(stage)
    other = stage.client()
    other >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    moves(stage, client, SELECT, anew(QUERIED))
    stage.close()


def test_run_again_on_the_primary_it_begins_as_the_client_wrote_it() -> None:
    stage = Stage(until_write=True, replicas=1, safety_net=False)
    begin = query("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
    client = begun(stage, begin)
    stage["r1"] >> error("terminating connection", "57P01", "FATAL")
    stage.topology("p", dead=("r1",))
    stage["p"] << begin + SELECT
    stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << b""
    assert not client.relay.moving.is_engaged
    client >> INSERT
    stage["p"] << INSERT
    stage.close()


CONFLICT = error("canceling statement due to conflict with recovery", "40001")


class TestTheSafetyNet:
    def test_a_conflict(self, stage: Stage) -> None:
        """Its savepoints are made again."""
        client = begun(stage)
        on_replica(stage, client, query('SAVEPOINT "a"'), SAVED + IN_BLOCK)
        client >> SELECT
        stage["r1"] << SELECT
        stage["r1"] >> CONFLICT + FAILED
        stage["p"] << anew(QUERIED, 'SAVEPOINT "a"') + SELECT
        stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client << SELECTED + IN_BLOCK
        client >> INSERT
        stage["p"] << INSERT

    def test_the_replica_is_lost_between_two_statements(self, stage: Stage) -> None:
        client = begun(stage)
        stage["r1"].leaves()
        client << b""
        client >> SELECT
        stage["p"] << anew(QUERIED) + SELECT

    def test_the_replica_is_lost_before_its_end(self, stage: Stage) -> None:
        """The next transaction knows nothing of it: its first lock comes before its snapshot."""
        client = begun(stage)
        stage["r1"].leaves()
        assert client.asks(COMMIT) == COMMITTED + IDLE
        begin, lock = query("BEGIN ISOLATION LEVEL REPEATABLE READ"), query("LOCK TABLE t")
        assert client.asks(begin) == BEGUN + IN_BLOCK
        client >> lock
        stage["p"] << begin + lock

    def test_its_isolation_is_not_to_be_changed_when_the_replica_is_lost(
        self, stage: Stage
    ) -> None:
        client = begun(stage)
        stage["r1"].leaves()
        change = query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        client >> change
        client << b""
        stage["p"] << anew(QUERIED) + change

    def test_at_its_first_statement(self) -> None:
        stage = Stage(until_write=True, replicas=1)
        begin = query("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
        client = stage.client()
        assert client.asks(begin) == BEGUN + IN_BLOCK
        client >> SELECT
        stage["r1"] << ROAMING + SELECT
        stage["r1"] >> BEGUN + IN_BLOCK + CONFLICT + FAILED
        stage["p"] << begin + SELECT
        stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        client << SELECTED + IN_BLOCK
        stage.close()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, True) for value in ("on", "ON", "t", "tr", "true", "yes", "y", "1", " on ")),
        *((value, False) for value in ("off", "of", "false", "f", "no", "0", "o", "", "2")),
    ],
)
def test_values_of_a_boolean_setting(value: str, *, expected: bool) -> None:
    assert is_on(value) is expected
