"""That what relays measure reaches the limits, and the limits the seats and the reads."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from pgproxy.frames import write
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from pgproxy.routing.structures import Structures
from pgproxy.servers.adaptation import Adaptation
from pgproxy.servers.adaptive import WINDOW, AdaptiveLimit, Usual
from pgproxy.servers.limiter import Limiter
from pgproxy.servers.words import limit_of_seats, seat_timeout
from tests.playbooks.stage import BEGUN, COMMITTED, IDLE, IN_BLOCK, INSERTED, SELECTED, Stage, error
from tests.support.wire import query

FLOOR, CEILING = 2, 16
SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")


class Adapting:
    """A stage with limits that are learnt, and a clock of its own."""

    def __init__(self) -> None:
        memory = Memory(structures=Structures(100))
        self.stage = Stage(replicas=2, size=50, routers=Routers(memory, FunctionLists()))
        self.served_at: list[float] = []
        self.adaptation = Adaptation(
            self.stage.cluster, floor=FLOOR, ceiling=CEILING, serve=self.served_at.append
        )
        self.now = 0.0
        self.adaptation.tick(self.now)

    def limit(self, name: str) -> AdaptiveLimit:
        found = self.stage[name].backend.adaptive
        assert found is not None
        return found

    def usuals(self, name: str) -> list[Usual]:
        return list(self.limit(name)._usuals.values())

    def pass_time(self, looks: int = 1) -> None:
        for _ in range(looks):
            self.now += WINDOW
            self.adaptation.tick(self.now)


@pytest.fixture
def adapting() -> Iterator[Adapting]:
    made = Adapting()
    yield made
    made.stage.close()


def learnt(adapting: Adapting, name: str, seconds: float = 0.001) -> None:
    """What was asked there last is known."""
    [usual] = adapting.usuals(name)
    usual.is_known, usual.seconds = True, seconds


def test_the_caps_are_there_from_the_first_look_on(adapting: Adapting) -> None:
    backends = adapting.stage.cluster.backends.values()
    assert [int(each.running.cap) for each in backends] == [CEILING] * 3
    assert [each.room for each in backends] == [1.0] * 3


def test_a_read_and_a_write_outside_of_transactions_are_measured(adapting: Adapting) -> None:
    stage = adapting.stage
    client = stage.client()
    client >> INSERT
    stage["p"] >> INSERTED + IDLE
    assert len(adapting.usuals("p")) == 1
    for _ in range(2):
        client >> SELECT
        for name in ("r1", "r2"):
            if stage[name].take():
                stage[name] >> SELECTED + IDLE
    assert [len(adapting.usuals(name)) for name in ("p", "r1", "r2")] == [1, 1, 1]


def test_transactions_pipelines_and_failures_are_not_measured(adapting: Adapting) -> None:
    stage = adapting.stage
    client = stage.client()
    client >> query("BEGIN") >> INSERT
    stage["p"] >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
    client >> query("COMMIT")
    stage["p"] >> COMMITTED + IDLE
    client >> INSERT + INSERT
    stage["p"] >> INSERTED + IDLE + INSERTED + IDLE
    client >> INSERT
    stage["p"] >> error() + IDLE
    assert adapting.usuals("p") == []


def in_flight(adapting: Adapting, count: int) -> None:
    """So many writes that get no answer."""
    stage = adapting.stage
    client = stage.client()
    client >> INSERT
    stage["p"] >> INSERTED + IDLE
    learnt(adapting, "p")
    for _ in range(count):
        stage.client() >> INSERT
    stage["p"].backend.running.used = count
    for each in stage.clients:
        each.relay.leased_at = adapting.now


def test_what_gets_no_answer_shrinks_the_limit(adapting: Adapting) -> None:
    in_flight(adapting, 10)
    adapting.pass_time(10)
    assert int(adapting.stage["p"].backend.running.cap) == FLOOR
    assert [int(adapting.stage[name].backend.running.cap) for name in ("r1", "r2")] == [CEILING] * 2
    assert adapting.served_at == []
    caps = []
    for client in adapting.stage.clients:
        client.leaves()
    for _ in range(30):
        adapting.pass_time()
        caps.append(int(adapting.stage["p"].backend.running.cap))
    assert caps[-1] == CEILING
    assert len(adapting.served_at) == len(
        [0 for one, next_ in pairwise([FLOOR, *caps]) if next_ > one]
    )


def test_who_is_idle_in_a_transaction_or_has_a_pin_is_not_in_flight(adapting: Adapting) -> None:
    in_flight(adapting, 0)
    stage = adapting.stage
    pinned = stage.client()
    pinned >> query("CREATE TEMP TABLE x ()")
    stage["p"] >> write.command_complete(b"CREATE TABLE") + IDLE
    block = stage.client()
    block >> query("BEGIN; INSERT INTO t VALUES (1)")
    stage["p"] >> BEGUN + INSERTED + IN_BLOCK
    for client in (pinned, block):
        assert client.relay.server is not None
        assert client.relay.runs_alone is None
        client.relay.leased_at = adapting.now
    stage["p"].backend.running.used = 10
    adapting.pass_time(10)
    assert int(stage["p"].backend.running.cap) == CEILING


def test_reads_go_where_there_is_room(adapting: Adapting) -> None:
    stage = adapting.stage
    slow, other = stage["r1"].backend, stage["r2"].backend
    limit = adapting.limit("r1")
    limit._limit, limit.slowdown = 4.0, 4.0
    limit._spent, limit._expected, limit._has_news = 8.0, 1.0, True
    adapting.pass_time()
    assert slow.room == pytest.approx(4.0 / CEILING / 8.0)
    assert (slow.share, other.share) == (slow.room, 1.0)
    assert limit.others_are_well
    assert not adapting.limit("r2").others_are_well
    assert not adapting.limit("p").others_are_well
    slow.running.used = 1  # and nothing is known against it
    adapting.pass_time(20)
    assert (slow.room, slow.share) == (1.0, 1.0)
    assert adapting.limit("r2").others_are_well


def test_who_waits_in_vain_is_told_of_the_limit_that_has_shrunk(adapting: Adapting) -> None:
    backend = adapting.stage["p"].backend
    limiter = Limiter(0)
    backend.running.used = CEILING
    assert limit_of_seats(limiter, backend) == ("limits.max_concurrent_per_backend", CEILING)
    adapting.limit("p")._limit = 2.0
    backend.running.cap = FLOOR
    limit, cap = limit_of_seats(limiter, backend)
    assert (limit, cap) == ("limits.adaptive", FLOOR)
    refused = seat_timeout(30.0, limit, cap, "")
    assert "limits.adaptive = 2" in (refused.detail or "")
    assert (refused.hint or "").startswith("See what makes the server slow")
    backend.running.used = 0


def test_a_server_that_is_new_begins_with_a_whole_limit(adapting: Adapting) -> None:
    stage = adapting.stage
    stage.topology("p", "r1")
    adapting.pass_time()
    stage.topology("p", "r1", "r2")
    assert stage["r2"].backend.adaptive is None
    adapting.pass_time()
    assert int(stage["r2"].backend.running.cap) == CEILING
