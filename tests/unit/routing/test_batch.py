"""What the statements of a batch do together."""

from typing import Final

from pgproxy.routing.batch import AT_READY
from pgproxy.routing.batchreader import NOTHING, BatchReader
from pgproxy.routing.decision import PLAIN, PRIMARY, REPLICA, SET_ROUTE
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason
from tests.support.batches import new_reader, read
from tests.support.wire import SYNC, bind, describe, execute, parse, query

INSERT: Final = "INSERT INTO t VALUES (1)"


def test_a_query_is_a_batch(reader: BatchReader) -> None:
    assert read(reader, query("SELECT 1")) == query("SELECT 1")
    assert reader.batch.simple
    assert (reader.batch.ending, reader.batch.target, reader.batch.executes) == (
        AT_READY,
        REPLICA,
        True,
    )
    assert reader.read() == NOTHING


def test_a_batch_goes_where_its_most_demanding_statement_has_to_go() -> None:
    parts = [parse("SELECT 1") + bind() + execute(), parse(INSERT) + bind() + execute()]
    for stream in (parts[0] + parts[1], parts[1] + parts[0]):
        reader = new_reader()
        assert read(reader, stream + SYNC) == stream + SYNC
        assert reader.batch.target == PRIMARY
        assert reader.batch.known_write
        assert reader.batch.decision is not None
        assert reader.batch.decision.reason is Reason.WRITE


def test_pins_of_what_is_bound(reader: BatchReader) -> None:
    read(reader, parse("CREATE TEMP TABLE a ()") + SYNC)
    assert reader.batch.pin is None
    read(reader, bind() + execute() + SYNC)
    assert reader.batch.pin is Pin.TEMP_TABLE


def test_settings_of_what_is_bound(reader: BatchReader) -> None:
    read(reader, parse("SET work_mem = 1") + SYNC)
    assert reader.batch.effects == ()
    read(reader, bind() + execute() + SYNC)
    assert [effect.names for effect in reader.batch.effects] == [("work_mem",)]


def test_settings_that_a_parameter_names(reader: BatchReader) -> None:
    sets = parse("SELECT set_config($1, $2, false)", "s")
    read(reader, sets + bind(b"App.User", b"x", statement="s") + execute() + SYNC)
    found = [(effect.names, effect.surely) for effect in reader.batch.effects]
    assert found == [(("app.user",), True)]
    assert reader.batch.pin is None
    read(reader, bind(b"app.user", b"x", formats=[0, 1], statement="s") + execute() + SYNC)
    assert [effect.names for effect in reader.batch.effects] == [("app.user",)]
    for nameless in (bind(None, b"x", statement="s"), bind(b"\xff", b"x", statement="s")):
        read(reader, nameless + execute() + SYNC)
        assert reader.batch.pin is Pin.SET_CONFIG


def test_what_the_proxy_answers_itself_is_seen_by_kind(reader: BatchReader) -> None:
    own = parse("SET pgproxy.route = 'primary'") + bind() + describe("P") + execute()
    read(reader, own + SYNC)
    assert reader.batch.own == SET_ROUTE
    read(reader, own + parse("SELECT 1") + bind() + execute() + SYNC)
    assert reader.batch.own == PLAIN
