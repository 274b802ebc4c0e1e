"""What a client is doing, and what the door says to it; the drain itself is in integration."""

import asyncio
from collections.abc import Iterator

import pytest

from pgproxy.clients.departure import Departure, Schedule, State
from pgproxy.clients.drain import BEGIN, Door, state_of
from tests.playbooks.stage import IDLE, INSERTED, SELECTED, Client, Stage, fields
from tests.support.wire import FLUSH, bind, execute, parse, query


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def drained(client: Client, *, late: bool, by: float = 75) -> Departure:
    """A door before a client that should have gone long ago, or only just now."""
    now = asyncio.get_running_loop().time()
    schedule = Schedule(now - by if late else now, accept=0, window=600)
    departure = schedule.departure(0.0, clients=1)
    Door(client.connection, departure, schedule)
    return departure


@pytest.mark.parametrize(
    "message",
    [
        query("BEGIN"),
        query("begin;"),
        query(" \n Start  Transaction READ ONLY"),
        parse("BEGIN"),
        parse("begin isolation level serializable", name="S_1"),
        query("BEGIN; INSERT INTO t VALUES (1); COMMIT"),
    ],
)
def test_what_begins_a_transaction(message: bytes) -> None:
    assert BEGIN.match(message)


@pytest.mark.parametrize(
    "message",
    [
        query("SELECT 'begin'"),
        query("beginning"),
        query("COMMIT"),
        query("start"),
        parse("SELECT 1", name="begin"),
        bind(b"begin", statement="begin"),
        query("SELECT 1") + query("BEGIN"),
    ],
)
def test_what_does_not(message: bytes) -> None:
    assert not BEGIN.match(message)


async def test_who_makes_no_pause_is_refused_where_it_begins(stage: Stage) -> None:
    client = stage.client()
    drained(client, late=True)
    client >> query("SELECT 1")  # it is served: pools ask such things at the end
    stage["r1"] >> SELECTED + IDLE
    client << SELECTED + IDLE
    found = fields(client.asks(query("BEGIN")))
    assert (found["S"], found["C"]) == ("FATAL", "57P01")
    assert client.own_transport.closed


async def test_who_never_makes_one_is_refused_anything(stage: Stage) -> None:
    client = stage.client()
    drained(client, late=True, by=101)
    assert fields(client.asks(query("SELECT 1")) + IDLE)["C"] == "57P01"
    assert client.own_transport.closed


async def test_there_is_time_to_make_one(stage: Stage) -> None:
    client = stage.client()
    drained(client, late=False)
    client >> query("BEGIN")
    assert state_of(client.connection) is State.TRANSACTION
    assert not client.own_transport.closed


async def test_nobody_is_refused_in_a_transaction(stage: Stage) -> None:
    client = stage.client()
    client.asks(query("BEGIN"))
    drained(client, late=True)
    client >> query("BEGIN")  # a warning of PostgreSQL's
    assert not client.own_transport.closed


def test_the_states(stage: Stage) -> None:
    client = stage.client()

    def state() -> State:
        return state_of(client.connection)

    assert state() is State.IDLE
    client >> query("INSERT INTO t VALUES (1)")
    assert state() is State.ACTIVE
    stage["p"] >> INSERTED + IDLE
    assert state() is State.IDLE
    client.asks(query("BEGIN"))
    assert state() is State.TRANSACTION
    client.asks(query("COMMIT"))
    assert state() is State.IDLE
    half = query("CREATE TEMP TABLE a ()")
    client >> half[:7]
    assert state() is State.ACTIVE
    client >> half[7:]
    stage["p"] >> INSERTED + IDLE
    assert state() is State.PINNED
    client.leaves()
    assert state() is State.LEAVING


def test_a_pipeline_before_its_sync_is_at_work(stage: Stage) -> None:
    client = stage.client()
    client >> parse("INSERT INTO t VALUES (1)") + bind()
    assert state_of(client.connection) is State.ACTIVE
    client >> execute() + FLUSH
    assert state_of(client.connection) is State.ACTIVE


def test_who_has_sent_what_is_not_read_yet_is_at_work(stage: Stage) -> None:
    client = stage.client()
    client.connection.pause_writing()
    assert client.asks(query("SHOW pgproxy.route")) != b""
    client >> query("INSERT INTO t VALUES (1)")
    assert state_of(client.connection) is State.ACTIVE
    client.connection.resume_writing()
    stage.settle()
    assert state_of(client.connection) is State.ACTIVE
    stage["p"] << query("INSERT INTO t VALUES (1)")
    stage["p"] >> INSERTED + IDLE
    assert state_of(client.connection) is State.IDLE


def test_who_waits_for_a_server(stage: Stage) -> None:
    stage.topology("", "r1", dead=("p",))
    client = stage.client()
    client >> query("INSERT INTO t VALUES (1)")
    assert state_of(client.connection) is State.WAITING
