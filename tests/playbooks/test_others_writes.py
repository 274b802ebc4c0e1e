"""Which writes a read must see: of its session, or with "global" of all sessions of the proxy."""

import time
from collections.abc import Callable, Iterator

import pytest

from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    COMMITTED,
    COPY_IN,
    IDLE,
    IN_BLOCK,
    INSERTED,
    PARSED,
    ROLLED_BACK,
    ROW,
    SELECTED,
    SET,
    Stage,
    error,
)
from tests.support.wire import FLUSH, SYNC, bind, copy_data, execute, parse, query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
MOVABLE = query("BEGIN READ ONLY ISOLATION LEVEL READ COMMITTED")
FIXED = query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")


@pytest.fixture
def start() -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def start(watermark: str, size: int = 2) -> Stage:
        stages.append(Stage(watermark=watermark, size=size))
        return stages[-1]

    yield start
    for stage in stages:
        stage.close()


def catches_up(stage: Stage) -> None:
    """The replica shows all that has been written so far."""
    stage.cluster.fresh("r1", time.monotonic())


def writes(stage: Stage) -> None:
    """Somebody does."""
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    client << INSERTED + IDLE


@pytest.mark.parametrize(("watermark", "reads_from"), [("session", "r1"), ("global", "p")])
def test_what_others_wrote_counts_in_global_mode(
    start: Callable[..., Stage], watermark: str, reads_from: str
) -> None:
    stage = start(watermark)
    catches_up(stage)
    writes(stage)
    reader = stage.client()
    reader >> SELECT
    stage[reads_from] << SELECT
    stage[reads_from] >> SELECTED + IDLE
    catches_up(stage)
    reader >> SELECT
    stage["r1"] << SELECT
    stage["r1"] >> SELECTED + IDLE


def test_a_write_counts_as_soon_as_its_client_has_its_answer(
    start: Callable[..., Stage],
) -> None:
    """And not only when all that the client has sent is answered."""
    stage = start("global")
    catches_up(stage)
    writer, reader, primary = stage.client(), stage.client(), stage["p"]
    writer >> INSERT + SELECT
    primary << INSERT + SELECT
    primary >> INSERTED + IDLE
    writer << INSERTED + IDLE
    reader >> SELECT
    primary << SELECT
    primary >> SELECTED + IDLE
    reader << SELECTED + IDLE
    stage["r1"] << b""


@pytest.mark.parametrize(
    "begin", [b"", parse("BEGIN") + bind() + execute()], ids=["implicit", "begun"]
)
def test_a_commit_counts_as_soon_as_its_client_may_know_of_it(
    start: Callable[..., Stage], begin: bytes
) -> None:
    """A Flush brings the answer to COMMIT long before ReadyForQuery."""
    stage = start("global")
    catches_up(stage)
    writer, reader, primary = stage.client(), stage.client(), stage["p"]
    done = PARSED + BOUND
    if begin:
        writer >> begin + SYNC
        primary << begin + SYNC
        primary >> done + BEGUN + IN_BLOCK
        writer << done + BEGUN + IN_BLOCK
    insert = parse("INSERT INTO t VALUES (1)") + bind() + execute()
    commit = parse("COMMIT") + bind() + execute() + FLUSH
    writer >> insert + commit
    primary << insert + commit
    primary >> done + INSERTED + done + COMMITTED
    writer << done + INSERTED + done + COMMITTED
    reader >> SELECT
    primary << SELECT
    primary >> SELECTED + IDLE
    stage["r1"] << b""


def test_a_read_on_its_way_with_another_is_looked_at_by_itself(
    start: Callable[..., Stage],
) -> None:
    stage = start("global")
    catches_up(stage)
    reader, replica = stage.client(), stage["r1"]
    reader >> SELECT
    replica << SELECT
    writes(stage)
    reader >> SELECT
    replica << b""
    replica >> SELECTED + IDLE
    stage["p"] << SELECT
    stage["p"] >> SELECTED + IDLE
    reader << SELECTED + IDLE + SELECTED + IDLE


@pytest.mark.parametrize(
    ("read", "answer"),
    [(SELECT, SELECTED), (parse("SELECT 1") + bind() + execute() + SYNC, PARSED + BOUND + ROW)],
    ids=["simple", "extended"],
)
def test_a_transaction_of_reads_leaves_a_replica_that_does_not_show_all(
    start: Callable[..., Stage], read: bytes, answer: bytes
) -> None:
    stage = start("global")
    catches_up(stage)
    reader, replica, primary = stage.client(), stage["r1"], stage["p"]
    reader >> MOVABLE + SELECT
    replica << MOVABLE + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    reader << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    writes(stage)
    reader >> read
    replica << query("ROLLBACK")
    replica >> ROLLED_BACK + IDLE
    primary << MOVABLE + read
    primary >> BEGUN + IN_BLOCK + answer + IN_BLOCK
    reader << answer + IN_BLOCK
    reader >> query("COMMIT")
    primary << query("COMMIT")
    primary >> COMMITTED + IDLE


def test_one_whose_snapshot_is_taken_stays(start: Callable[..., Stage]) -> None:
    stage = start("global")
    catches_up(stage)
    reader, replica = stage.client(), stage["r1"]
    reader >> FIXED + SELECT
    replica << FIXED + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    writes(stage)
    reader >> SELECT
    replica << SELECT
    replica >> SELECTED + IN_BLOCK
    reader >> query("COMMIT")
    replica << query("COMMIT")
    replica >> COMMITTED + IDLE


def test_a_chained_transaction_sees_what_was_written_before_it(
    start: Callable[..., Stage],
) -> None:
    stage = start("global")
    catches_up(stage)
    reader, replica, primary = stage.client(), stage["r1"], stage["p"]
    chain = query("COMMIT AND CHAIN")
    reader >> FIXED + SELECT
    replica << FIXED + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    reader << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    reader >> chain
    replica << chain
    replica >> COMMITTED + IN_BLOCK
    replica << query("ROLLBACK")
    replica >> ROLLED_BACK + IDLE
    reader << COMMITTED + IN_BLOCK
    writes(stage)
    reader >> SELECT
    primary << FIXED + SELECT
    primary >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    reader << SELECTED + IN_BLOCK


def test_a_replica_that_goes_away_when_a_transaction_is_chained(
    start: Callable[..., Stage],
) -> None:
    stage = start("off")
    reader, replica, primary = stage.client(), stage["r1"], stage["p"]
    reader >> FIXED + SELECT
    replica << FIXED + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    reader << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    reader >> query("COMMIT AND CHAIN")
    replica >> COMMITTED + IN_BLOCK + error("terminating connection", "57P01", "FATAL")
    reader << COMMITTED + IN_BLOCK
    stage.topology("p", dead=("r1",))
    reader >> SELECT
    primary << FIXED + SELECT


def test_a_transaction_whose_client_was_told_that_it_is_over_does_not_move() -> None:
    stage = Stage(safety_net=False, rerun_limit=0)
    reader, replica = stage.client(), stage["r1"]
    reader >> MOVABLE + SELECT
    replica << MOVABLE + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    end = error("terminating connection", "57P01", "FATAL")
    replica >> end
    reader << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK + end
    reader >> INSERT
    stage["p"] << b""
    replica.leaves()
    assert reader.own_transport.closed
    stage.close()


def test_what_a_transaction_has_set_stays_in_the_one_chained_to_it(
    start: Callable[..., Stage],
) -> None:
    stage = start("off")
    reader, replica = stage.client(), stage["r1"]
    chain, change = query("COMMIT AND CHAIN"), query("SET work_mem = '1MB'")
    reader >> FIXED + SELECT
    replica << FIXED + SELECT
    replica >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    reader >> change
    replica << change
    replica >> SET + IN_BLOCK
    reader >> chain
    replica << chain
    replica >> COMMITTED + IN_BLOCK
    reader >> SELECT
    replica << SELECT


@pytest.mark.parametrize("gone", [False, True])
def test_a_read_that_turned_out_to_write_counts_as_soon_as_its_client_has_its_answer(
    start: Callable[..., Stage], *, gone: bool
) -> None:
    """Or when that is gone, and does not take it."""
    stage = start("global", size=3)
    stage.relays.routers = Routers(Memory(), FunctionLists())
    catches_up(stage)
    writer, reader, replica, primary = stage.client(), stage.client(), stage["r1"], stage["p"]
    hidden = query("SELECT a FROM t")
    writer >> hidden + SELECT
    replica << hidden + SELECT
    replica >> error("cannot execute INSERT in a read-only transaction", "25006") + IDLE
    primary << hidden + SELECT
    if gone:
        writer.leaves()
    else:
        primary >> SELECTED + IDLE
        writer << SELECTED + IDLE
    reader >> SELECT
    assert primary.take() == SELECT


def test_who_is_lost_in_the_middle_of_a_message_is_not_said_to_leave_in_there(
    start: Callable[..., Stage],
) -> None:
    """Terminate would be a part of the message, whose rest the server would wait for."""
    client, primary = (stage := start("global")).client(), stage["p"]
    client >> query("COPY t FROM STDIN")
    primary.take()
    primary >> COPY_IN
    begun = copy_data(b"x" * 100)[:50]
    client >> begun
    client.leaves()
    primary << begun
    assert primary.open == 0
    assert stage.relays.shared_watermark is not None
    assert stage.relays.shared_watermark.wrote_at > 0


def test_what_may_write_and_runs_on_the_primary_in_the_end_counts() -> None:
    stage = Stage(watermark="session", safety_net=False)
    catches_up(stage)
    client, replica, primary = stage.client(), stage["r1"], stage["p"]
    hinted = query("/* pgproxy: replica */ SELECT f(1)")
    client >> hinted
    replica << hinted
    replica >> error("terminating connection", "57P01", "FATAL")
    stage.topology("p", dead=("r1",))
    primary << hinted
    primary >> SELECTED + IDLE
    client << SELECTED + IDLE
    stage.topology("p", "r1")
    client >> SELECT
    primary << SELECT
    stage.close()


def test_who_waits_for_a_replica_that_starts_anew_meanwhile_goes_elsewhere(
    start: Callable[..., Stage],
) -> None:
    """Its first state may be older than what it showed before."""
    stage = start("session", size=1)
    catches_up(stage)
    reader, other = stage.client(), stage.client()
    reader >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    catches_up(stage)
    other >> SELECT
    stage["r1"] << SELECT
    reader >> SELECT
    stage.cluster.fresh("r1", 0.0)
    stage["r1"] >> SELECTED + IDLE
    stage["r1"] << b""
    stage["p"] << SELECT
    stage["p"] >> SELECTED + IDLE
    reader << INSERTED + IDLE + SELECTED + IDLE
