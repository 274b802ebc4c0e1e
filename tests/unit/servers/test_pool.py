"""A pool carries out what its ledger decides: log-ins, their failures, resets, hand-overs."""

from collections.abc import Iterator

import pytest

from pgproxy.errors import PgError
from pgproxy.frames.write import TERMINATE
from pgproxy.protocol.settings import NOTHING_SET
from pgproxy.routing.decision import PRIMARY
from pgproxy.servers.origin import Introduction
from pgproxy.servers.sizes import BESIDE, PoolSizes
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


@pytest.mark.parametrize(
    ("sizes", "room", "detail"),
    [
        (PoolSizes(1), 0, 'All 1 connections of database "d", user "u" on p were'),
        (PoolSizes(5, max_backend=1), 0, "connections to p (pool.max_backend_connections) were"),
        (PoolSizes(5, max_database=1), 0, 'of database "d" on p (pool.max_database_connections)'),
        (
            PoolSizes(5, users={"u": {"max_connections": 1}}),
            0,
            'All 1 connections of user "u" on p (pool.users.u.max_connections) were in use for 30 s',
        ),
        (
            PoolSizes(5),
            BESIDE + 1,
            "All 1 connections that p has for the proxy (its max_connections",
        ),
    ],
)
def test_the_end_of_the_wait_names_the_cap(sizes: PoolSizes, room: int, detail: str) -> None:
    stage = Stage(replicas=0, sizes=sizes)
    if room:
        stage.cluster.learn_room("p", room)
    holder, late = stage.client(), stage.client()
    holder >> INSERT
    stage["p"] << INSERT
    late >> INSERT
    stage.time_passes(60)
    told = fields(late.take())
    assert told["C"] == "53300"
    assert detail in told["D"]
    if sizes.default.size > 1:
        assert told["H"].startswith('Held by: 1 of database "d", user "u". Raise ')
    stage.close()


@pytest.mark.parametrize(
    ("sizes", "room", "reason", "limit"),
    [
        (PoolSizes(1), 0, "pool_full", "pool.size = 1"),
        (PoolSizes(5, max_backend=1), 0, "backend_full", "pool.max_backend_connections = 1"),
        (PoolSizes(5), BESIDE + 1, "backend_full", "what p has room for (its max_connections) = 1"),
        (PoolSizes(5, max_database=1), 0, "database_full", "pool.max_database_connections = 1"),
        (
            PoolSizes(5, users={"u": {"max_connections": 1}}),
            0,
            "user_full",
            "pool.users.u.max_connections = 1",
        ),
    ],
)
def test_who_waits_or_may_not_is_told_which_cap_is_in_the_way(
    sizes: PoolSizes, room: int, reason: str, limit: str
) -> None:
    stage = Stage(replicas=0, sizes=sizes, queue_size=1)
    if room:
        stage.cluster.learn_room("p", room)
    holder, waits, late = (stage.client() for _ in range(3))
    holder >> INSERT
    stage["p"] << INSERT
    waits >> INSERT
    assert stage["p"].pool.shortage.reason == reason
    late >> INSERT
    assert f"limited by {limit}. " in fields(late.take())["H"]
    stage.close()


def test_who_waits_for_a_log_in_is_told_so(stage: Stage) -> None:
    pool = stage["p"].pool
    client = stage.client()
    stage.refuses = UNREACHABLE
    client >> INSERT
    assert pool.shortage.reason == "unreachable"
    stage.refuses = None
    stage.timers_fire()
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    other, late = stage.client(), stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage.logins_end = False
    late >> INSERT
    assert pool.shortage.reason == "login"
    other >> INSERT
    assert pool.shortage.reason == "pool_full"
    stage.logins_end = True
    stage.settle()
    for _ in range(3):
        for _, transport in stage["p"].connections:
            if transport.take():
                transport.protocol.data_received(INSERTED + IDLE)


def test_a_drained_pool_trusts_no_connection() -> None:
    stage = Stage(replicas=0, size=2)
    busy, idle = stage.client(), stage.client()
    busy >> INSERT
    idle >> INSERT
    (_, first), (_, second) = stage["p"].connections
    second.take()
    second.protocol.data_received(INSERTED + IDLE)
    stage["p"].pool.drain()
    stage.settle()
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


# Draining and cutting


def test_a_log_in_from_before_the_drain_is_not_used_after_it(stage: Stage) -> None:
    stage.logins_end = False
    client = stage.client()
    client >> INSERT
    stage["p"].pool.drain()
    stage.logins_end = True
    stage.settle()
    (_, first), (_, second) = stage["p"].connections
    assert (first.closed, first.take()) == (True, TERMINATE)
    assert (second.closed, second.take()) == (False, INSERT)


def test_nor_is_one_that_was_only_about_to_begin(stage: Stage) -> None:
    client = stage.client()
    client.connection.data_received(INSERT)
    assert len(stage.tasks) == 1
    assert stage["p"].connections == []
    pool = stage["p"].pool
    (waiter,) = pool.evict_waiters()
    pool.drain()
    stage.settle()
    assert pool.ledger.total == 0
    waiter.reroute()
    stage.settle()
    assert len(stage["p"].connections) == 2


def test_a_cut_ends_a_transaction_and_tells_why(stage: Stage) -> None:
    client = stage.client()
    client >> INSERT
    stage["p"] << INSERT
    stage["p"].pool.cut("it is fenced")
    (server, transport) = stage["p"].connections[0]
    assert transport.aborted
    # Before the loop has told anybody of it nothing is sent any more, whatever a transport does
    # that has been aborted.
    transport.closed = False
    server.write(b"one more")
    client.connection.data_received(INSERT)
    assert transport.take() == b""
    transport.closed = True
    stage.settle()
    assert "it is fenced" in fields(client.take() + b"Z\0\0\0\5I")["D"]
    assert (stage.counters.servers_cut, stage.counters.servers_lost) == (1, 1)


def test_a_cut_closes_idle_connections_with_a_word(stage: Stage) -> None:
    stage.client() >> INSERT
    stage["p"] >> INSERTED + IDLE
    stage["p"].pool.cut("it is fenced")
    stage.settle()
    (_, transport) = stage["p"].connections[0]
    assert transport.take() == INSERT + TERMINATE
    assert not transport.aborted
    assert stage.counters.servers_cut == 0


def test_a_cut_ends_who_is_being_reset(stage: Stage) -> None:
    client = stage.client()
    client >> query("CREATE TEMP TABLE t (i int)")
    stage["p"] >> SELECTED + IDLE
    client.leaves()
    assert stage["p"].pool.ledger.resetting == 1
    stage["p"].pool.cut("it is fenced")
    stage.settle()
    assert stage["p"].pool.ledger.total == 0


def test_a_cut_of_those_at_rest_leaves_transactions_alone() -> None:
    stage = Stage(replicas=0, size=3)
    pinned, busy, idle = stage.client(), stage.client(), stage.client()
    pinned >> query("CREATE TEMP TABLE t (i int)")
    stage["p"] >> SELECTED + IDLE
    busy >> query("CREATE TEMP TABLE u (i int)")
    stage["p"] >> SELECTED + IDLE
    busy >> INSERT
    idle >> INSERT
    transports = [transport for _, transport in stage["p"].connections]
    transports[2].protocol.data_received(INSERTED + IDLE)
    stage["p"].pool.cut("it is fenced", at_rest=True)
    stage.settle()
    assert [transport.closed for transport in transports] == [True, False, False]
    stage.close()


# Turns


def test_so_many_log_ins_at_once_and_the_others_in_turn() -> None:
    stage = Stage(replicas=0, size=6, max_logins=2)
    stage.logins_end = False
    clients = [stage.client() for _ in range(500)]
    for client in clients:
        client >> INSERT
    pool = stage["p"].pool
    assert (pool.ledger.opening, len(stage.tasks), pool.ledger.waiting) == (6, 2, 500)
    stage.logins_end = True
    stage.settle()
    assert len(stage["p"].connections) == 6
    assert [client.relay.server is not None for client in clients] == [True] * 6 + [False] * 494
    stage.close()


def test_a_log_in_whose_turn_comes_too_late_is_left_out() -> None:
    stage = Stage(replicas=0, size=6, max_logins=1)
    stage.logins_end = False
    clients = [stage.client() for _ in range(6)]
    for client in clients:
        client >> INSERT
    for client in clients[1:]:
        client.leaves()
    stage.logins_end = True
    stage.settle()
    assert len(stage["p"].connections) == 1
    assert stage["p"].pool.ledger.opening == 0
    stage.close()


def test_log_ins_begin_in_the_order_in_which_they_were_asked_for() -> None:
    stage = Stage(replicas=0, size=2)
    stage.refuses = UNREACHABLE
    one, other = stage.client(name=b"one"), stage.client(name=b"other")
    one >> INSERT
    other >> INSERT
    stage.refuses = None
    stage.timers_fire()
    begun = [server.profile for server, _ in stage["p"].connections]
    assert begun == [one.relay.profile, other.relay.profile]
    stage.close()


def test_a_failed_log_in_frees_its_place() -> None:
    stage = Stage(replicas=0, size=6, max_logins=1)
    stage.refuses = UNREACHABLE
    clients = [stage.client() for _ in range(6)]
    for client in clients:
        client >> INSERT
    # Who comes while the pool pauses does not have it tried again at once.
    assert stage.counters.server_logins_failed == 1
    assert len(stage.timers) == 1
    assert (stage["p"].backend.logins.taken, stage["p"].pool.ledger.opening) == (0, 0)
    stage.refuses = None
    stage.timers_fire()
    assert len(stage["p"].connections) == 6
    stage.close()


def test_the_turns_of_a_backend_are_those_of_all_its_pools() -> None:
    stage = Stage(replicas=0, size=2, max_logins=1)
    stage.logins_end = False
    other = stage.cluster.group("d2", "u")
    told: list[PgError | None] = []
    profile = other.profile([])
    stage.client() >> INSERT
    Introduction(other, PRIMARY, profile, NOTHING_SET, lambda _, error: told.append(error)).ask()
    assert len(stage.tasks) == 1
    stage.logins_end = True
    stage.settle()
    assert told == [None]
    profile.clients = 0
    stage.close()
