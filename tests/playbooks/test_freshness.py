"""Which server a read is given to, and for how long it waits for one that is fresh enough."""

import time
from collections.abc import Callable

import pytest

from pgproxy.frames.write import TERMINATE
from pgproxy.servers.reads import ALWAYS, NEVER, ReadRules
from pgproxy.telemetry.counters import LEFT, REFUSED, TO_PRIMARY, TO_REPLICA
from pgproxy.topology.model import Node, Role, Topology
from tests.playbooks.stage import BEGUN, IDLE, IN_BLOCK, INSERTED, SELECTED, Client, Stage, fields
from tests.support.wire import query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
FOR_EVER = 1e300

MakeStage = Callable[..., Stage]


@pytest.fixture
def make() -> MakeStage:
    """A stage whose replicas are fresh as of any time so far."""

    def make(**options: object) -> Stage:
        stage = Stage(**options)  # type: ignore[arg-type]
        for name in stage.servers:
            stage.fresh(name, FOR_EVER)
        stage.cluster.shares.weigh(FOR_EVER)
        return stage

    return make


def writes(stage: Stage, client: Client) -> None:
    client >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    client << INSERTED + IDLE


def reads_from(stage: Stage, client: Client, name: str) -> None:
    client >> SELECT
    stage[name] << SELECT
    stage[name] >> SELECTED + IDLE
    client << SELECTED + IDLE


def lags(stage: Stage, *names: str) -> None:
    """From now on these have replayed nothing that is written."""
    for name in names:
        stage.fresh(name, 1.0)


def test_a_read_behind_one_in_flight_sees_what_others_have_written_meanwhile(
    make: MakeStage,
) -> None:
    stage = make(watermark="global")
    client, other = stage.client(), stage.client()
    client >> SELECT
    stage["r1"] << SELECT
    writes(stage, other)
    lags(stage, "r1")
    client >> SELECT
    assert stage["r1"].take() == b""
    stage["r1"] >> SELECTED + IDLE
    client << SELECTED + IDLE
    stage["p"] << SELECT
    stage.close()


def test_a_pipeline_of_reads_stays_where_it_is(make: MakeStage) -> None:
    stage = make(watermark="global")
    client = stage.client()
    client >> SELECT
    client >> SELECT
    assert stage["r1"].take() == SELECT + SELECT
    stage.close()


def test_who_waited_for_a_replica_that_starts_anew_reads_elsewhere(make: MakeStage) -> None:
    stage = make(watermark="session", size=1)
    first, second = stage.client(), stage.client()
    writes(stage, second)
    first >> SELECT
    stage["r1"] << SELECT
    second >> SELECT
    assert stage["r1"].take() == b""
    lags(stage, "r1")
    stage["r1"] >> SELECTED + IDLE
    stage["p"] << SELECT
    stage["p"] >> SELECTED + IDLE
    second << SELECTED + IDLE
    stage.close()


def test_a_read_waits_for_a_replica_and_then_goes_to_the_primary(make: MakeStage) -> None:
    stage = make(watermark="session", reads=ReadRules(wait=5))
    client, other, third = stage.client(), stage.client(), stage.client()
    for one in (client, other, third):
        writes(stage, one)
    lags(stage, "r1")
    for one in (client, other, third):
        one >> SELECT
        assert stage["p"].take() == stage["r1"].take() == b""
    third.leaves()
    stage.fresh("r1", FOR_EVER)
    assert stage["r1"].take() == SELECT
    stage["r1"] >> SELECTED + IDLE
    lags(stage, "r1")
    client >> SELECT
    stage.time_passes(4)
    assert stage["p"].take() == b""
    assert stage.cluster.wants_positions(stage.cluster.context.clock.now)
    stage.time_passes(6)
    assert stage["p"].take() == SELECT
    ends = stage.counters.fresh_waits.ends
    assert (ends[TO_REPLICA], ends[TO_PRIMARY], ends[REFUSED], ends[LEFT]) == (2, 1, 0, 1)
    stage.close()


def test_a_read_that_has_waited_for_a_replica_waits_for_a_primary(make: MakeStage) -> None:
    stage = make(watermark="session", reads=ReadRules(wait=5))
    client = stage.client()
    writes(stage, client)
    lags(stage, "r1")
    stage.topology("", "r1", dead=("p",))
    stage["p"] << TERMINATE
    client >> SELECT
    stage.time_passes(6)
    stage.topology("p", "r1")
    stage["p"] << SELECT
    stage["p"] >> SELECTED + IDLE
    lags(stage, "r1")
    stage.topology("", "r1", dead=("p",))
    stage["p"] << TERMINATE
    client >> SELECT
    stage.time_passes(6)
    stage.time_passes(31)
    assert fields(client.take())["C"] == "57P03"
    stage.close()


def test_a_read_that_waits_is_held_by_a_pause(make: MakeStage) -> None:
    stage = make(watermark="session", reads=ReadRules(wait=5))
    client = stage.client()
    writes(stage, client)
    lags(stage, "r1")
    client >> SELECT
    stage.cluster.pause("d")
    stage.settle()
    stage["p"] << TERMINATE
    stage.time_passes(6)
    assert stage["p"].take() == b""
    stage.fresh("r1", FOR_EVER)
    assert stage["r1"].take() == b""
    stage.cluster.resume("d")
    stage.settle()
    stage["r1"] << SELECT
    stage.close()


@pytest.mark.parametrize(
    ("reads", "seconds"), [(ReadRules(wait=5), 6), (ReadRules(from_primary=NEVER), 31)]
)
def test_a_read_that_comes_during_a_pause_waits_behind_it(
    make: MakeStage, reads: ReadRules, seconds: int
) -> None:
    stage = make(watermark="session", reads=reads)
    client = stage.client()
    writes(stage, client)
    lags(stage, "r1")
    stage.cluster.pause("d")
    stage["p"] << TERMINATE
    client >> SELECT
    stage.cluster.resume("d")
    stage.settle()
    assert stage["p"].take() == stage["r1"].take() == b""
    stage.time_passes(seconds)
    if reads.never_from_primary:
        assert "routing.read_from_primary" in fields(client.take())["D"]
    else:
        stage["p"] << SELECT
    stage.close()


def test_a_read_that_may_not_go_to_the_primary_is_refused_in_the_end(make: MakeStage) -> None:
    stage = make(watermark="session", reads=ReadRules(from_primary=NEVER))
    client = stage.client()
    writes(stage, client)
    lags(stage, "r1")
    client >> SELECT
    stage.time_passes(29)
    assert client.take() == stage["p"].take() == b""
    stage.time_passes(31)
    told = fields(client.take())
    assert told["C"] == "57P03"
    assert "routing.read_from_primary" in told["D"]
    assert told["ready"] == "I"
    stage.topology("p", dead=("r1",))
    client >> SELECT
    assert stage["p"].take() == b""
    stage.topology("p", "r1")
    assert stage["r1"].take() == stage["p"].take() == b"", "it is there, but not fresh"
    stage.fresh("r1", FOR_EVER)
    stage["r1"] << SELECT
    stage.close()


def test_the_primary_is_one_of_those_that_read(make: MakeStage) -> None:
    stage = make(watermark="session", reads=ReadRules(from_primary=ALWAYS))
    first, second = stage.client(), stage.client()
    first >> SELECT
    second >> SELECT
    assert stage["p"].take() == stage["r1"].take() == SELECT
    for name in ("p", "r1"):
        stage[name] >> SELECTED + IDLE
    first << SELECTED + IDLE
    second << SELECTED + IDLE
    writes(stage, first)
    lags(stage, "r1")
    stage.cluster.wants_fresher = False
    for _ in range(4):
        reads_from(stage, first, "p")
    assert stage.cluster.wants_fresher
    stage.close()


def test_a_primary_that_hands_over_reads_no_more(make: MakeStage) -> None:
    stage = make(reads=ReadRules(from_primary=ALWAYS))
    first, second = stage.client(), stage.client()
    stage.apply(
        Node("p", "p", 5432, 1, "", Role.PRIMARY, True, 1, None, "", handing_over=True),
        Node("r1", "r1", 5432, 1, "", Role.REPLICA, True, 1, None, ""),
    )
    first >> SELECT
    second >> SELECT
    assert stage["p"].take() == b""
    assert stage["r1"].take() == SELECT
    stage.time_passes(60)
    third = stage.client()
    third >> SELECT
    fourth = stage.client()
    fourth >> SELECT
    assert stage["p"].take() == SELECT
    stage.close()


def test_who_was_the_primary_is_not_fresh_for_that() -> None:
    stage = Stage(watermark="session")
    client = stage.client()
    writes(stage, client)
    stage.topology("r1", "p")
    client >> SELECT
    stage["r1"] << SELECT
    stage["r1"] >> SELECTED + IDLE
    stage.close()


def test_a_new_timeline_makes_every_replica_unknown(make: MakeStage) -> None:
    stage = make(watermark="session", replicas=2)
    client = stage.client()
    writes(stage, client)
    nodes = tuple(
        Node(name, name, 5432, 1, "", role, True, 2, None, "")
        for name, role in (("p", Role.NONE), ("r1", Role.PRIMARY), ("r2", Role.REPLICA))
    )
    stage.cluster.apply(Topology(2, nodes, timeline=2))
    stage.settle()
    client >> SELECT
    stage["r1"] << SELECT
    stage.close()


def test_staleness_is_what_the_clock_and_the_replica_say(make: MakeStage) -> None:
    stage = make(reads=ReadRules(max_staleness=10))
    cluster = stage.cluster
    cluster.freshness.primary_at(100.0, 5)
    assert cluster.oldest(0.0, 105.0) == 95.0
    assert cluster.oldest(99.0, 105.0) == 99.0
    stage.topology("", "r1", dead=("p",))
    assert cluster.oldest(0.0, 105.0) == 90.0, "nobody has written since the primary was heard of"
    assert cluster.oldest(0.0, 95.0) == 85.0
    stage.close()


@pytest.mark.parametrize("until_write", [False, True])
def test_a_transaction_leaves_a_replica_that_has_become_too_stale(
    make: MakeStage, *, until_write: bool
) -> None:
    stage = make(reads=ReadRules(max_staleness=10), until_write=until_write)
    client = stage.client()
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
    client.asks(query(begin if until_write else f"{begin} READ ONLY"))
    client >> SELECT
    assert stage["r1"].take()
    stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client >> SELECT
    stage["r1"] << SELECT
    stage["r1"] >> SELECTED + IN_BLOCK
    stage.fresh("r1", time.monotonic() - 20)
    client >> SELECT
    stage["r1"] << query("ROLLBACK")
    assert stage["p"].take().endswith(SELECT)
    stage.close()


def test_who_waited_until_the_replica_was_too_stale_reads_elsewhere(make: MakeStage) -> None:
    stage = make(size=1, reads=ReadRules(max_staleness=10))
    first, second = stage.client(), stage.client()
    first >> SELECT
    stage["r1"] << SELECT
    second >> SELECT
    stage.fresh("r1", time.monotonic() - 20)
    stage["r1"] >> SELECTED + IDLE
    stage["r1"] << b""
    stage["p"] << SELECT
    stage.close()


def test_one_wish_is_one_question(make: MakeStage) -> None:
    stage = make(watermark="session")
    client = stage.client()
    writes(stage, client)
    now = 1000.0
    stage.fresh("r1", now - 1.0)
    assert not stage.cluster.wants_positions(now)
    stage.cluster.wants_fresher = True
    assert stage.cluster.wants_positions(now)
    assert not stage.cluster.wants_positions(now + 1)
    stage.cluster.wants_fresher = True
    assert stage.cluster.wants_positions(now + 1)
    stage.cluster.wants_fresher = True
    assert not stage.cluster.wants_positions(now + 1.01)
    stage.close()
