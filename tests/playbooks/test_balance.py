"""Which replica a session's reads go to, and what is learnt of a replica by them."""

from pgproxy.servers.shares import SMALLEST_SHARE
from pgproxy.topology.model import Node, Role
from tests.playbooks.stage import BEGUN, COMMITTED, IDLE, IN_BLOCK, SELECTED, Client, Stage, error
from tests.support.wire import query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
REPLICAS = ("r1", "r2", "r3")


def server(name: str, role: Role = Role.REPLICA, *, weight: int = 1, zone: str = "") -> Node:
    return Node(name, name, 5432, weight, zone, role, role is not Role.NONE, 1, None, "")


def read(stage: Stage, client: Client) -> str:
    """Where that client's read runs."""
    client >> SELECT
    (name,) = (each for each in stage.servers if stage[each].take() == SELECT)
    stage[name] >> SELECTED + IDLE
    client << SELECTED + IDLE
    return name


def test_a_session_keeps_its_replica() -> None:
    stage = Stage(replicas=3, balance="sticky")
    clients = [stage.client() for _ in range(6)]
    first = [read(stage, client) for client in clients]
    assert sorted(first) == sorted(REPLICAS * 2)
    for _ in range(3):
        assert [read(stage, client) for client in reversed(clients)] == first[::-1]
    stage.close()


def test_a_session_whose_replica_goes_has_another_one_and_keeps_that() -> None:
    stage = Stage(replicas=3, balance="sticky")
    client = stage.client()
    before = read(stage, client)
    stage.topology("p", *[name for name in REPLICAS if name != before], dead=(before,))
    after = read(stage, client)
    assert after != before
    stage.topology("p", *REPLICAS)
    assert {read(stage, client) for _ in range(3)} == {after}
    stage.close()


def test_a_session_leaves_a_replica_that_does_not_show_its_write() -> None:
    stage = Stage(replicas=2, balance="sticky", watermark="session")
    client = stage.client()
    before = read(stage, client)
    (other,) = {"r1", "r2"} - {before}
    stage.cluster.fresh(other, float("inf"))
    client >> INSERT
    stage["p"].take()
    stage["p"] >> SELECTED + IDLE
    client.take()
    assert {read(stage, client) for _ in range(3)} == {other}
    stage.close()


def test_sessions_do_not_stay_with_other_ways() -> None:
    stage = Stage(replicas=3)
    client = stage.client()
    assert [read(stage, client) for _ in range(6)] == [*REPLICAS[::-1], *REPLICAS[::-1]]
    stage.close()


def test_the_own_zone_is_read_from_until_nobody_is_there() -> None:
    stage = Stage(replicas=3, zone="z1")
    primary = server("p", Role.PRIMARY)
    stage.apply(primary, server("r1", zone="z2"), server("r2", zone="z1"), server("r3", zone="z1"))
    client = stage.client()
    assert {read(stage, client) for _ in range(6)} == {"r2", "r3"}
    stage.apply(primary, server("r1", zone="z2"), server("r2", zone="z1"), server("r3", Role.NONE))
    assert {read(stage, client) for _ in range(6)} == {"r2"}
    stage.apply(primary, server("r1", zone="z2"), server("r2", Role.NONE), server("r3", Role.NONE))
    assert read(stage, client) == "r1"
    stage.apply(primary, server("r1", zone="z1"), server("r2", zone="z2"), server("r3", zone="z2"))
    assert {read(stage, client) for _ in range(6)} == {"r1"}
    stage.close()


def test_a_weight_that_changes_counts_at_once() -> None:
    stage = Stage(replicas=2)
    primary = server("p", Role.PRIMARY)
    client = stage.client()
    stage.apply(primary, server("r1", weight=3), server("r2"))
    assert [read(stage, client) for _ in range(8)].count("r1") == 6
    stage.apply(primary, server("r1", weight=0), server("r2"))
    assert {read(stage, client) for _ in range(8)} == {"r2"}
    stage.close()


def test_a_replica_that_comes_back_gets_few_reads_at_first() -> None:
    stage = Stage(replicas=3, warm_up=1000.0)
    stage.cluster.shares.by_speed = False
    client = stage.client()
    assert [read(stage, client) for _ in range(30)].count("r1") == 10
    for name in REPLICAS:
        stage[name].backend.reads_since -= 2000.0
    stage.topology("p", "r2", "r3", dead=("r1",))
    assert [read(stage, client) for _ in range(30)].count("r1") == 0
    stage.topology("p", *REPLICAS)
    assert stage["r1"].backend.share == SMALLEST_SHARE
    assert [read(stage, client) for _ in range(100)].count("r1") in (2, 3)
    stage["r1"].backend.reads_since -= 500.0
    stage.topology("p", *REPLICAS)
    assert [read(stage, client) for _ in range(100)].count("r1") in (19, 20, 21)
    stage.close()


def test_only_the_primary_shows_everything_always() -> None:
    stage = Stage(replicas=1)
    primary, replica = stage["p"].backend, stage["r1"].backend
    assert (primary.fresh_as_of, replica.fresh_as_of) == (float("inf"), 0.0)
    stage.topology("r1", "p")
    assert (primary.fresh_as_of, replica.fresh_as_of) == (0.0, float("inf"))
    stage.close()


def test_reads_are_timed() -> None:
    stage = Stage()
    client = stage.client()
    assert stage["r1"].backend.latency == 0.0
    read(stage, client)
    assert stage["r1"].backend.latency > 0.0
    assert stage["p"].backend.latency == 0.0
    stage.close()


def test_neither_transactions_nor_failures_nor_writes_are_timed() -> None:
    stage = Stage()
    client = stage.client()
    client.asks(query("BEGIN READ ONLY"))
    client >> SELECT
    stage["r1"].take()
    stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    client << SELECTED + IN_BLOCK
    client >> query("COMMIT")
    stage["r1"].take()
    stage["r1"] >> COMMITTED + IDLE
    client << COMMITTED + IDLE
    client >> SELECT
    stage["r1"] << SELECT
    stage["r1"] >> error() + IDLE
    client << error() + IDLE
    client >> INSERT
    stage["p"] << INSERT
    stage["p"] >> SELECTED + IDLE
    client << SELECTED + IDLE
    assert (stage["r1"].backend.latency, stage["p"].backend.latency) == (0.0, 0.0)
    read(stage, client)  # who has failed before is timed again
    assert stage["r1"].backend.latency > 0.0
    stage.close()
