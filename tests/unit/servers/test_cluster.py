"""Which pool a lease comes from, and what becomes of waiters when the topology changes."""

from collections.abc import Iterator

import pytest

from pgproxy.errors import PgError
from pgproxy.routing.decision import PRIMARY
from pgproxy.servers.cluster import MAX_PROFILES, OpenedWaiter
from pgproxy.topology.model import Node, Role, Topology
from tests.playbooks.stage import IDLE, INSERTED, SELECTED, Stage
from tests.support.wire import query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(replicas=2, size=1)
    yield stage
    stage.close()


def test_reads_are_spread_over_the_replicas(stage: Stage) -> None:
    for _ in range(2):
        stage.client() >> SELECT
    assert stage["r1"].take() == stage["r2"].take() == SELECT


def test_without_replicas_reads_go_to_the_primary(stage: Stage) -> None:
    stage.topology("p", dead=("r1", "r2"))
    stage.client() >> SELECT
    stage["p"] << SELECT


def test_readers_of_a_replica_that_has_gone_read_elsewhere(stage: Stage) -> None:
    stage.topology("p", "r1", dead=("r2",))
    first, second = stage.client(), stage.client()
    first >> SELECT
    stage["r1"] << SELECT
    second >> SELECT
    stage.topology("p", "r2", dead=("r1",))
    stage["r2"] << SELECT


def test_waiters_of_a_server_that_has_moved_follow_it() -> None:
    stage = Stage(replicas=0, size=1)
    first, second = stage.client(), stage.client()
    first >> INSERT
    stage["p"] << INSERT
    second >> INSERT
    moved = Node("p", "elsewhere", 5432, 1, "", Role.PRIMARY, True, 1, None, "")
    stage.cluster.apply(Topology(2, (moved,), timeline=1))
    stage.settle()
    assert [backend.host for backend in stage.cluster.backends.values()] == ["elsewhere"]
    assert stage["p"].take() == INSERT
    stage["p"] >> INSERTED + IDLE
    second << INSERTED + IDLE
    first.leaves()
    stage.close()


def test_only_fresh_replicas_serve_who_has_written() -> None:
    stage = Stage(watermark="session")
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    client >> SELECT
    stage["p"] << SELECT
    stage["p"] >> SELECTED + IDLE
    stage.cluster.fresh("r1", float("inf"))
    client >> SELECT
    stage["r1"] << SELECT
    stage.close()


def test_one_set_of_parameters_is_one_profile(stage: Stage) -> None:
    group = stage.group
    first = group.profile([(b"a", b"1"), (b"b", b"2")])
    assert group.profile([(b"b", b"2"), (b"a", b"1")]) is first
    assert group.profile([(b"a", b"2")]) is not first
    for profile in group.profiles.values():
        profile.clients = 0


def test_unused_profiles_are_forgotten_when_there_are_many(stage: Stage) -> None:
    kept = stage.group.profile([(b"kept", b"")])
    for number in range(MAX_PROFILES + 10):
        stage.group.profile([(b"n", b"%d" % number)]).clients = 0
    assert len(stage.group.profiles) <= MAX_PROFILES
    assert stage.group.profile([(b"kept", b"")]) is kept
    kept.clients = 0


def test_a_log_in_can_be_asked_for_without_using_it(stage: Stage) -> None:
    told: list[PgError | None] = []
    profile = stage.group.profile([])
    OpenedWaiter(stage.group, PRIMARY, profile, told.append).ask()
    stage.settle()
    assert told == [None]
    OpenedWaiter(stage.group, PRIMARY, profile, told.append).ask()
    stage.settle()
    assert told == [None, None]
    assert len(stage["p"].connections) == 1
    profile.clients = 0


def test_a_log_in_that_is_asked_for_may_fail(stage: Stage) -> None:
    told: list[PgError | None] = []
    stage.refuses = PgError("28P01", "no", severity="FATAL")
    profile = stage.group.profile([])
    OpenedWaiter(stage.group, PRIMARY, profile, told.append).ask()
    stage.settle()
    assert told == [stage.refuses]
    profile.clients = 0
