"""A pool carries out what its ledger decides: log-ins, their failures, resets, hand-overs."""

from collections.abc import Iterator

import pytest

from pgproxy.errors import PgError
from tests.playbooks.stage import IDLE, INSERTED, SELECTED, Stage, fields
from tests.support.wire import query

INSERT = query("INSERT INTO t VALUES (1)")
BUSY = PgError("53300", "sorry, too many clients already", severity="FATAL")
UNREACHABLE = PgError("08001", "could not connect", severity="FATAL")
NO_DATABASE = PgError("3D000", 'database "d" does not exist', severity="FATAL")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(replicas=0, size=2)
    yield stage
    stage.close()


def test_a_connection_is_used_by_one_client_after_another(stage: Stage) -> None:
    for _ in range(3):
        client = stage.client()
        client >> INSERT
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
    assert len(stage["p"].connections) == 1
    assert stage["p"].backend.leases == 3


def test_a_released_connection_goes_to_who_waits(stage: Stage) -> None:
    clients = [stage.client() for _ in range(3)]
    for client in clients:
        client >> INSERT
    (pool,) = stage.pools
    assert (pool.ledger.leased, pool.ledger.waiting, stage["p"].backend.load) == (2, 1, 3)
    (_, transport), _ = stage["p"].connections
    assert transport.take() == INSERT
    transport.protocol.data_received(INSERTED + IDLE)
    assert transport.take() == INSERT
    assert (pool.ledger.leased, pool.ledger.waiting, stage["p"].backend.load) == (2, 0, 2)


def test_what_will_not_heal_is_told_at_once(stage: Stage) -> None:
    stage.refuses = NO_DATABASE
    told = fields(stage.client().asks(INSERT))
    assert told["C"] == "3D000"
    assert stage.counters.server_logins_failed == 1
    assert not stage.timers


@pytest.mark.parametrize("trouble", [BUSY, UNREACHABLE], ids=lambda trouble: trouble.sqlstate)
def test_what_may_heal_is_tried_again(stage: Stage, trouble: PgError) -> None:
    client = stage.client()
    stage.refuses = trouble
    client >> INSERT
    stage.timers_fire()
    stage.timers_fire()
    client << b""
    assert stage.counters.server_logins_failed == 3
    stage.refuses = None
    stage.timers_fire()
    stage["p"] << INSERT
    assert not stage.timers


def test_the_end_of_the_wait_says_why(stage: Stage) -> None:
    client = stage.client()
    stage.refuses = UNREACHABLE
    client >> INSERT
    stage.time_passes(60)
    told = fields(client.take())
    assert (told["C"], told["ready"]) == ("08001", "I")
    assert "could not connect" in told["M"]
    assert stage.counters.wait_timeouts == 1
    stage.timers_fire()


def test_a_pool_whose_server_has_lost_its_role_trusts_no_connection() -> None:
    stage = Stage(replicas=1, size=2)
    busy, idle = stage.client(), stage.client()
    busy >> INSERT
    idle >> INSERT
    (_, first), (_, second) = stage["p"].connections
    second.take()
    second.protocol.data_received(INSERTED + IDLE)
    stage.topology("r1", "p")
    assert second.closed
    assert not first.closed
    first.protocol.data_received(INSERTED + IDLE)
    stage.settle()
    assert first.closed
    stage.close()


def test_a_closed_pool_closes_what_comes_back(stage: Stage) -> None:
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage.cluster.close()
    assert stage["p"].open == 1
    stage["p"] >> INSERTED + IDLE
    assert stage["p"].open == 0


def test_a_connection_lost_at_work_is_counted(stage: Stage) -> None:
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage["p"].leaves()
    assert stage.counters.servers_lost == 1
    assert fields(client.take() + b"Z\0\0\0\5I")["C"] == "08006"


def test_other_parameters_need_another_connection() -> None:
    stage = Stage(replicas=0, size=1)
    one, other = stage.client(name=b"one"), stage.client(name=b"other")
    one >> query("SELECT 1")
    stage["p"] >> SELECTED + IDLE
    other >> query("SELECT 1")
    assert len(stage["p"].connections) == 2
    assert stage["p"].open == 1
    stage.close()
