"""Who waits for a seat with a connection in hand, and loses that, or is told that it waits in vain."""

from collections.abc import Iterator

import pytest

from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import Routers
from pgproxy.routing.structures import Structures
from tests.playbooks.stage import (
    BEGUN,
    IDLE,
    IN_BLOCK,
    INSERTED,
    SELECTED,
    Stage,
    Transport,
    error,
    fields,
    letters,
)
from tests.support.wire import FLUSH, SYNC, TERMINATE, bind, execute, parse, query

INSERT = query("INSERT INTO t VALUES (1)")
BEGIN = query("BEGIN ISOLATION LEVEL READ COMMITTED")
BIND = bind(b"x" * (2 << 20))


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(replicas=0, size=3, max_concurrent=3)
    yield stage
    stage.close()


def transport_of(stage: Stage, place: int) -> Transport:
    return stage["p"].connections[place][1]


def test_who_loses_the_connection_in_hand_has_another_that_is_idle(stage: Stage) -> None:
    busy, late, other = stage.client(), stage.client(), stage.client()
    for client in (busy, late, other):
        client >> INSERT
    for place in (1, 2):
        transport_of(stage, place).protocol.data_received(INSERTED + IDLE)
    stage.settle()
    assert stage.limiter is not None
    stage.limiter.total.cap = 1
    late >> INSERT
    pool = stage["p"].pool
    assert pool.seats is not None
    (waiting,) = pool.seats.unkept()
    stage.logins_end = False
    waiting.transport.close()
    stage.settle()
    stage.check()
    assert pool.ledger.waiting == 0
    assert pool.waiting_for_seats == 1
    for _, transport in stage["p"].connections:
        transport.take()
    transport_of(stage, 0).protocol.data_received(INSERTED + IDLE)
    stage["p"] << INSERT
    assert late.relay.server is not None


def test_those_who_lose_the_connection_in_hand_keep_their_order() -> None:
    stage = Stage(replicas=0, size=4, max_concurrent=1)
    clients = [stage.client() for _ in range(4)]
    for client in clients:
        client >> INSERT
    pool = stage["p"].pool
    assert pool.seats is not None
    assert list(pool.seats.waiting) == [client.relay for client in clients[1:]]
    pool.drain()
    (queue,) = pool.ledger.queues.values()
    assert list(queue) == [client.relay for client in clients[1:]]
    stage.settle()
    assert list(pool.seats.waiting) == [client.relay for client in clients[1:]]
    stage.close()


def test_who_is_taken_the_connection_in_hand_has_another_one_opened_at_once() -> None:
    stage = Stage(replicas=1, size=3, max_concurrent_per_backend=1, until_write=True)
    busy, late, moving = (stage.client() for _ in range(3))
    busy >> INSERT
    late >> INSERT
    moving >> BEGIN
    moving >> query("SELECT 1")
    stage["r1"].take()
    stage["r1"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
    moving >> INSERT
    pool = stage["p"].pool
    assert pool.seats is not None
    assert [waiter.is_urgent for waiter in pool.seats.waiting] == [True, False]
    assert len(stage["p"].connections) == 3
    assert pool.ledger.waiting == 0
    stage.close()


def test_what_a_pinned_session_was_refused_is_refused_once() -> None:
    stage = Stage(replicas=0, size=3, max_concurrent=1, queue_size=1, mode="session")
    pinned, busy, late = (stage.client() for _ in range(3))
    pinned >> INSERT
    stage["p"].take()
    stage["p"] >> INSERTED + IDLE
    pinned << INSERTED + IDLE
    busy >> INSERT
    late >> INSERT  # and the queue is full
    pinned >> parse("SELECT 1") + bind() + execute() + FLUSH
    assert letters(pinned.take()) == "E"
    pinned >> SYNC
    pinned << IDLE
    stage.close()


@pytest.mark.parametrize(
    ("large", "sync"),
    [(query(f"SELECT '{'x' * (2 << 20)}'"), b""), (parse("SELECT $1") + BIND + execute(), SYNC)],
    ids=["Query", "Bind"],
)
@pytest.mark.parametrize("cancels", [False, True])
def test_the_rest_of_what_a_pinned_session_was_refused_goes_nowhere(
    large: bytes, sync: bytes, *, cancels: bool
) -> None:
    """Its server would take what the client gives as a value for messages."""
    stage = Stage(
        replicas=0, size=3, max_concurrent=1, queue_size=0 if cancels else 1, mode="session"
    )
    pinned, busy, late = (stage.client() for _ in range(3))
    pinned >> INSERT
    stage["p"].take()
    stage["p"] >> INSERTED + IDLE
    pinned << INSERTED + IDLE
    busy >> INSERT
    late >> INSERT
    stage["p"] << INSERT
    held = 3 << 19
    pinned >> large[:held]
    if cancels:
        pinned << b""
        pinned.relay.cancels.ask()
    assert letters(pinned.take()) == ("E" if sync else "EZ")
    pinned >> large[held : held + 1000]
    stage["p"] << b""
    pinned >> large[held + 1000 :] + sync
    pinned << (IDLE if sync else b"")
    stage["p"] << b""
    for _ in range(2):
        stage["p"] >> INSERTED + IDLE
        stage["p"].take()
    pinned >> INSERT
    stage["p"] << INSERT
    stage.close()


def test_a_server_that_leaves_who_waits_with_a_kept_connection_is_not_its_affair() -> None:
    stage = Stage(replicas=0, size=3, max_concurrent=3)
    keeper, busy = stage.client(), stage.client()
    keeper >> query("SELECT nextval('s')")
    stage["p"].take()
    stage["p"] >> SELECTED + IDLE
    keeper << SELECTED + IDLE
    busy >> INSERT
    transport_of(stage, 1).take()
    assert stage.limiter is not None
    stage.limiter.total.cap = 1
    keeper >> query("SELECT currval('s')")
    assert keeper.relay.held is stage["p"].connections[0][0]
    transport_of(stage, 0).protocol.data_received(error("bye", "57P01", "FATAL"))
    stage.settle()
    keeper << b""
    transport_of(stage, 0).take()
    transport_of(stage, 1).protocol.data_received(INSERTED + IDLE)
    stage.settle()
    assert query("SELECT currval('s')") in stage["p"].take()
    stage["p"] >> SELECTED + IDLE
    assert letters(keeper.take()).endswith("Z")
    stage.close()


def test_the_wait_for_a_seat_that_is_refused_is_no_part_of_the_statement_before() -> None:
    routers = Routers(Memory(structures=Structures(10)), FunctionLists())
    stage = Stage(replicas=0, size=3, max_concurrent=3, routers=routers)
    keeper, busy = stage.client(), stage.client()
    keeper >> query("SELECT nextval('s')")
    stage["p"].take()
    stage["p"] >> SELECTED + IDLE
    sole = keeper.relay.accounts.sole
    assert sole is not None
    timed = sole.timed
    busy >> INSERT
    assert stage.limiter is not None
    stage.limiter.total.cap = 1
    keeper >> query("SELECT currval('s')")
    stage.time_passes(60)
    assert keeper.relay.server is None
    assert sole.timed == timed
    stage.close()


def test_who_waits_long_is_told_although_one_who_is_urgent_has_come(stage: Stage) -> None:
    for _ in range(3):
        stage.client() >> INSERT
    pool = stage["p"].pool
    profile = stage.clients[0].relay.profile
    patient, urgent = stage.client(), stage.client()
    patient >> INSERT
    urgent.relay.is_urgent = True
    assert pool.acquire(profile, urgent.relay) is None
    since = patient.relay.waiting_since
    pool.tell_waiters(since, since + 1.0)
    assert (letters(patient.take()), urgent.take()) == ("N", b"")
    pool.cancel_wait(urgent.relay)


def test_a_session_that_loses_its_connection_hears_what_became_of_its_statement() -> None:
    stage = Stage(replicas=0, size=4, max_concurrent=1, mode="session")
    holder = stage.client()
    waits, rests, works = (stage.client() for _ in range(3))
    for client in (waits, rests, works):
        client >> INSERT
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        client << INSERTED + IDLE
    works >> INSERT
    stage["p"] << INSERT
    waits >> INSERT
    stage["p"] << b""
    details = []
    for place in (0, 1, 2):
        transport_of(stage, place).close()
        stage.settle()
    for client in (waits, rests, works):
        told = fields(client.take())
        assert (told["C"], told["S"]) == ("08006", "FATAL")
        details.append(told["D"].removeprefix("p: the server closed the connection. "))
    assert details == [
        "The last statement was not sent to it. Connect again.",
        "No statement was running. Connect again.",
        "Whether the last statement took effect is not known. Connect again.",
    ]
    assert stage.limiter is not None
    assert (stage.limiter.total.used, stage.limiter.waiting) == (0, 0)
    holder >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    stage.close()


def test_what_a_client_has_left_running_is_no_room_that_comes() -> None:
    stage = Stage(replicas=0, size=2, max_concurrent=2)
    left, other, late = (stage.client(name=name) for name in (b"left", b"other", b"late"))
    left >> INSERT
    stage["p"] << INSERT
    (server, transport) = stage["p"].connections[0]
    server.write = lambda data: None  # Terminate waits behind what runs
    left >> TERMINATE
    other >> INSERT
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    other << INSERTED + IDLE
    late >> INSERT
    assert transport_of(stage, 1).take() == TERMINATE
    stage["p"] << INSERT
    stage["p"] >> INSERTED + IDLE
    late << INSERTED + IDLE
    assert stage["p"].pool.ledger.closing == 1
    transport.close()
    stage.settle()
    stage.close()


@pytest.mark.parametrize("goes", [b"", TERMINATE])
def test_a_server_that_hangs_keeps_nobody_from_the_others(goes: bytes) -> None:
    """Neither what works there for a client, nor what one has left."""
    stage = Stage(replicas=1, max_concurrent=1)
    client, other = stage.client(), stage.client()
    client >> INSERT
    stage["p"] << INSERT
    (server, _) = stage["p"].connections[0]
    server.write = lambda data: None  # which the server does not read
    if goes:
        client >> goes
    other >> query("INSERT INTO t VALUES (2)")
    limiter = stage.limiter
    assert limiter is not None
    assert (limiter.total.used, limiter.waiting) == (1, 1)
    stage.topology("", "r1", dead=("p",))
    assert (limiter.total.used, limiter.waiting) == (0, 0)
    stage.topology("r1", dead=("p",))
    stage["r1"] << query("INSERT INTO t VALUES (2)")
    stage["r1"] >> INSERTED + IDLE
    limiter.check()
    assert limiter.total.used == 0
    # It comes back with what hung there, whose connections end.
    stage.topology("r1", "p")
    assert limiter.total.used == 0
    stage.close()
