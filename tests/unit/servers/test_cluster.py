"""Which pool a lease comes from, and what becomes of waiters when the topology changes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.protocol.settings import NOTHING_SET
from pgproxy.routing.decision import PRIMARY
from pgproxy.servers.group import MAX_PROFILES
from pgproxy.servers.origin import Introduction
from pgproxy.topology.model import Node, Role, Topology
from tests.playbooks.stage import (
    BEGUN,
    COMMITTED,
    IDLE,
    IN_BLOCK,
    INSERTED,
    SELECTED,
    Client,
    Stage,
    fields,
)
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
    Introduction(
        stage.group, PRIMARY, profile, NOTHING_SET, lambda _, error: told.append(error)
    ).ask()
    stage.settle()
    assert told == [None]
    Introduction(
        stage.group, PRIMARY, profile, NOTHING_SET, lambda _, error: told.append(error)
    ).ask()
    stage.settle()
    assert told == [None, None]
    assert len(stage["p"].connections) == 1
    profile.clients = 0


def test_a_log_in_that_is_asked_for_may_fail(stage: Stage) -> None:
    told: list[PgError | None] = []
    stage.refuses = PgError("28P01", "no", severity="FATAL")
    profile = stage.group.profile([])
    Introduction(
        stage.group, PRIMARY, profile, NOTHING_SET, lambda _, error: told.append(error)
    ).ask()
    stage.settle()
    assert told == [stage.refuses]
    profile.clients = 0


# Servers come, go and change their roles


def node(name: str, role: Role, **more: Any) -> Node:
    alive = more.pop("alive", True)
    return replace(Node(name, name, 5432, 1, "", role, alive, 1, None, ""), **more)


P: Final = node("p", Role.PRIMARY, wrote_on=1)
R1: Final = node("r1", Role.REPLICA)
DEPOSED_P: Final = node("p", Role.NONE, wrote_on=1)  # its label has left it
CREATE_TEMP: Final = query("CREATE TEMP TABLE t (i int)")


@pytest.fixture
def pair() -> Iterator[Stage]:
    stage = Stage(size=2)
    stage.apply(P, R1)
    yield stage
    stage.close()


def reasons(client: Client) -> str:
    """Why the client was thrown out."""
    assert client.own_transport.closed
    return fields(client.take() + b"Z\0\0\0\5I")["D"]


def test_without_any_server_everybody_waits_and_is_told(stage: Stage) -> None:
    stage.apply()
    reader, writer = stage.client(), stage.client()
    reader >> SELECT
    writer >> INSERT
    assert len(stage.cluster.homeless) == 2
    assert stage.pools == []
    stage.time_passes(31)
    for client in (reader, writer):
        told = fields(client.take())
        assert (told["C"], told["ready"]) == ("57P03", "I")
    assert stage.counters.failover_timeouts == 2


def test_those_who_wait_have_the_first_server_that_comes_in_order() -> None:
    stage = Stage(replicas=0, size=1)
    stage.apply()
    clients = [stage.client() for _ in range(5)]
    for client in clients:
        client >> INSERT
    stage.apply(P)
    for client in clients:
        assert [other.relay.server is not None for other in clients] == [
            other is client for other in clients
        ]
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
    assert sum(stage.counters.failover_waits.counts) == 5
    stage.close()


def test_the_wait_for_a_primary_counts_from_its_beginning() -> None:
    stage = Stage(replicas=0, size=1)
    holder, waiter = stage.client(), stage.client()
    stage.apply(DEPOSED_P)
    waiter >> INSERT
    (entry,) = stage.cluster.homeless
    began = entry.waiter.homeless_since
    # A primary for a moment: the waiter stands in its pool, and is homeless again.
    stage.logins_end = False
    stage.apply(P)
    assert stage["p"].pool.ledger.waiting == 1
    stage.apply(DEPOSED_P)
    (entry,) = stage.cluster.homeless
    assert entry.deadline == began + stage.cluster.settings.failover_wait
    stage.logins_end = True
    stage.apply(P)
    stage["p"] >> INSERTED + IDLE
    # The next wait is another one.
    holder >> INSERT
    waiter >> INSERT
    assert stage["p"].pool.ledger.waiting == 1
    stage.apply(DEPOSED_P)
    (entry,) = stage.cluster.homeless
    assert entry.waiter.homeless_since > began
    stage.close()


def test_the_wait_is_not_forgotten_on_the_way_from_one_pool_to_another(pair: Stage) -> None:
    pair.apply(DEPOSED_P, R1)
    waiter = pair.client()
    waiter >> INSERT
    (entry,) = pair.cluster.homeless
    began = entry.waiter.homeless_since
    pair.logins_end = False
    pair.apply(P, R1)
    pair.apply(DEPOSED_P, replace(R1, role=Role.PRIMARY))
    assert pair["r1"].pool.ledger.waiting == 1
    pair.apply(DEPOSED_P, R1)
    (entry,) = pair.cluster.homeless
    assert entry.waiter.homeless_since == began


def test_those_who_move_keep_their_order_whatever_their_profile() -> None:
    stage = Stage(replicas=0, size=2, max_logins=1)
    stage.apply(P)
    stage.logins_end = False
    clients = [stage.client(name=b"%d" % (number % 3)) for number in range(9)]
    for client in clients:
        client >> INSERT
    stage.apply(DEPOSED_P)
    assert [entry.waiter for entry in stage.cluster.homeless] == [
        client.relay for client in clients
    ]
    stage.close()


def test_a_server_that_leaves_the_list_leaves_nothing_behind(pair: Stage) -> None:
    reader = pair.client()
    reader >> SELECT
    pair["r1"] << SELECT
    beginning = write.row_description([b"n"])
    pair["r1"] >> beginning
    reader << beginning
    pair.apply(P)
    assert "does not belong to the cluster" in reasons(reader)
    assert list(pair.cluster.backends) == list(pair.group.pools) == ["p"]
    again = pair.client()
    again >> SELECT
    pair["p"] << SELECT


def test_pods_that_come_and_go_do_not_pile_up(pair: Stage) -> None:
    for number in range(50):
        pair.apply(P, replace(R1, uid=str(number)))
        client = pair.client()
        client >> SELECT
        pair["r1"] >> SELECTED + IDLE
        client.leaves()
    assert len(pair.cluster.backends) == len(pair.pools) == 2
    assert pair["r1"].open == 1


def test_another_pod_under_the_same_name_is_another_server(pair: Stage) -> None:
    idle, busy = pair.client(), pair.client()
    idle >> INSERT
    busy >> INSERT
    (_, first), (_, second) = pair["p"].connections
    second.protocol.data_received(INSERTED + IDLE)
    old = pair.cluster.backends["p"]
    pair.apply(replace(P, uid="2"), R1)
    assert first.aborted
    assert second.closed
    assert pair.cluster.backends["p"] is not old
    assert "does not belong" in reasons(idle)


def test_a_fenced_server_is_cut_off_in_the_middle_of_a_transaction(pair: Stage) -> None:
    client = pair.client()
    client >> INSERT
    pair["p"] << INSERT
    pair.apply(replace(DEPOSED_P, cut=True), R1)
    assert "not the primary any more" in reasons(client)
    assert pair["p"].open == 0
    assert pair.counters.servers_cut == 1


def test_a_planned_switchover_lets_transactions_end_and_holds_new_ones(pair: Stage) -> None:
    busy, idle, pinned = pair.client(), pair.client(), pair.client()
    pinned >> CREATE_TEMP
    pair["p"] >> SELECTED + IDLE
    busy >> INSERT
    (_, of_pinned), (_, of_busy) = pair["p"].connections
    pair.apply(DEPOSED_P, R1)
    assert "not the primary" in reasons(pinned)
    assert of_pinned.closed
    assert not of_busy.closed
    idle >> INSERT
    reader = pair.client()
    reader >> SELECT
    pair["r1"] << SELECT
    of_busy.protocol.data_received(INSERTED + IDLE)
    pair.settle()
    busy << INSERTED + IDLE
    assert pair["p"].open == 0
    assert idle.take() == b""
    pair.apply(DEPOSED_P, replace(R1, role=Role.PRIMARY, wrote_on=2))
    pair["r1"].connections[-1][1].protocol.data_received(INSERTED + IDLE)
    idle << INSERTED + IDLE


def test_a_session_that_is_pinned_is_cut_when_its_transaction_on_a_former_primary_ends(
    pair: Stage,
) -> None:
    client = pair.client()
    client >> CREATE_TEMP
    pair["p"] >> SELECTED + IDLE
    client >> INSERT
    client.take()
    pair.apply(DEPOSED_P, R1)
    assert pair["p"].open == 1
    pair["p"] >> INSERTED + IDLE
    client << INSERTED + IDLE
    pair.time_passes(0)
    assert "not the primary" in reasons(client)


def test_the_grace_of_a_former_primary_ends(pair: Stage) -> None:
    client = pair.client()
    client >> INSERT
    pair["p"] << INSERT
    pair.apply(DEPOSED_P, R1)
    pair.time_passes(9)
    assert pair["p"].open == 1
    pair.time_passes(11)
    assert "not the primary" in reasons(client)
    assert pair.cluster.deposed == {}


def test_a_primary_that_has_its_label_back_keeps_what_runs(pair: Stage) -> None:
    client = pair.client()
    client >> INSERT
    pair["p"] << INSERT
    pair.apply(DEPOSED_P, R1)
    pair.apply(P, R1)
    pair.time_passes(60)
    pair["p"] >> INSERTED + IDLE
    client << INSERTED + IDLE


def test_a_silent_primary_without_a_successor_may_come_back(pair: Stage) -> None:
    client = pair.client()
    client >> CREATE_TEMP
    pair["p"] >> SELECTED + IDLE
    client.take()
    pair.apply(replace(DEPOSED_P, alive=False), R1)
    pair.time_passes(60)
    assert pair["p"].open == 1
    client >> INSERT
    pair["p"].take()
    pair.apply(P, R1)
    pair["p"] >> INSERTED + IDLE
    client << INSERTED + IDLE
    # It answers, and has not got its role back: from now on the grace counts.
    client >> INSERT
    pair["p"].take()
    pair.apply(replace(DEPOSED_P, alive=False), R1)
    pair.apply(DEPOSED_P, R1)
    pair.time_passes(11)
    assert "not the primary" in reasons(client)


@pytest.mark.parametrize("on_the_way", [(), (DEPOSED_P,), (replace(DEPOSED_P, alive=False),)])
def test_a_former_primary_that_is_a_replica_keeps_no_connection_of_before(
    pair: Stage, on_the_way: tuple[Node, ...]
) -> None:
    client = pair.client()
    client >> INSERT
    pair["p"] << INSERT
    for step in on_the_way:
        pair.apply(step, R1)
    pair.apply(node("p", Role.REPLICA), replace(R1, role=Role.PRIMARY, wrote_on=2))
    assert "has become a replica" in reasons(client)
    assert pair["p"].open == 0
    assert pair.cluster.deposed == {}


def test_a_promoted_replica_keeps_its_connections(pair: Stage) -> None:
    busy, idle = pair.client(), pair.client()
    busy >> SELECT
    idle >> SELECT
    (_, first), (_, second) = pair["r1"].connections
    second.protocol.data_received(SELECTED + IDLE)
    second.take()
    # Its label comes late.
    pair.apply(DEPOSED_P, node("r1", Role.NONE, wrote_on=2, timeline=2))
    pair.apply(DEPOSED_P, node("r1", Role.PRIMARY, wrote_on=2, timeline=2))
    assert not first.closed
    idle >> INSERT
    assert second.take() == INSERT
    first.protocol.data_received(SELECTED + IDLE)
    busy.take()
    busy >> INSERT
    assert first.take().endswith(INSERT)
    assert len(pair["r1"].connections) == 2


def test_a_dead_replica_s_idle_connections_are_not_trusted(pair: Stage) -> None:
    client = pair.client()
    client >> SELECT
    pair["r1"] >> SELECTED + IDLE
    pair.apply(P, node("r1", Role.NONE, alive=False))
    assert pair["r1"].open == 0


def test_a_server_that_has_a_role_again_is_tried_at_once(stage: Stage) -> None:
    stage.refuses = PgError("08001", "could not connect", severity="FATAL")
    client = stage.client()
    client >> INSERT
    stage.apply(node("p", Role.NONE, alive=False))
    stage.refuses = None
    stage.apply(P)
    stage["p"] << INSERT


# A primary that is about to be stopped


def test_nothing_new_begins_on_a_primary_that_hands_over(pair: Stage) -> None:
    running, fresh = pair.client(), pair.client()
    running.asks(query("BEGIN"))
    running >> INSERT
    pair["p"] << query("BEGIN") + INSERT
    pair.apply(replace(P, handing_over=True), R1)
    fresh >> INSERT
    pair["p"] << b""
    pair["p"] >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
    running >> query("COMMIT")
    pair["p"] << query("COMMIT")
    pair["p"] >> COMMITTED + IDLE
    pair["p"] << b""
    pair.apply(node("p", Role.NONE, alive=False), node("r1", Role.PRIMARY, wrote_on=2))
    pair["r1"] << INSERT
    pair["r1"] >> INSERTED + IDLE


def test_who_waits_for_such_a_primary_waits_for_the_next() -> None:
    stage = Stage(size=1)
    stage.apply(P, R1)
    first, second = stage.client(), stage.client()
    first >> INSERT
    second >> INSERT
    stage.apply(replace(P, handing_over=True), R1)
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    assert len(stage.cluster.homeless) == 1
    stage.apply(P, R1)  # it was something else
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    stage.close()


def test_it_may_take_a_moment_only(pair: Stage) -> None:
    pair.apply(replace(P, handing_over=True), R1)
    client = pair.client()
    client >> INSERT
    assert len(pair.cluster.homeless) == 1
    pair.time_passes(2)
    pair["p"] << INSERT
    pair["p"] >> INSERTED + IDLE
    pair.apply(replace(P, handing_over=True), R1, node("r2", Role.REPLICA))
    client >> INSERT
    pair["p"] << INSERT
    pair["p"] >> INSERTED + IDLE


def test_reads_do_not_wait_for_it(pair: Stage) -> None:
    pair.apply(replace(P, handing_over=True), R1)
    client = pair.client()
    client >> SELECT
    pair["r1"] << SELECT
    pair["r1"] >> SELECTED + IDLE


def test_what_is_another_proxys_is_closed_at_once_or_when_it_comes_back() -> None:
    stage = Stage(replicas=0, size=5)
    cluster = stage.cluster
    cluster.settings.is_divided = True
    cluster.take_portions({"p": 3, "unknown": 9})
    clients = [stage.client() for _ in range(3)]
    for client in clients:
        client >> INSERT
    connections = [connection for _, connection in stage["p"].connections]
    assert len(connections) == 3
    assert cluster.held() == {"p": 3}
    connections[0].protocol.data_received(INSERTED + IDLE)
    stage.settle()
    cluster.take_portions({"p": 1})
    stage.settle()
    assert [connection.closed for connection in connections] == [True, False, False]
    assert cluster.held() == {"p": 2}
    connections[1].protocol.data_received(INSERTED + IDLE)
    stage.settle()
    assert [connection.closed for connection in connections] == [True, True, False]
    assert cluster.held() == {"p": 1}
    cluster.take_portions({})  # one, if nothing is known
    assert cluster.held() == {"p": 1}
    stage.close()
