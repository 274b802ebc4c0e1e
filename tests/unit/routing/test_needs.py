"""What must be on a server under a client's own names before a batch."""

from pgproxy.protocol.named import PREPARES, NameUse
from pgproxy.routing.batch import AT_READY
from pgproxy.routing.batchreader import BATCH, BatchReader
from tests.support.batches import read, sent
from tests.support.wire import SYNC, bind, execute, parse, query


def test_what_a_text_needs_is_forgotten_with_the_next(reader: BatchReader) -> None:
    read(reader, parse("EXECUTE a") + bind() + execute() + SYNC)
    assert reader.batch.needs.by_name
    read(reader, query("SELECT 1"))
    read(reader, parse("SELECT 1", "a") + bind(statement="a") + execute() + SYNC)
    assert (reader.batch.ending, len(reader.batch.owed)) == (AT_READY, 4)


def test_a_query_finds_its_needs_when_it_is_its_turn(reader: BatchReader) -> None:
    read(reader, query("EXECUTE a"))
    needs = reader.batch.needs
    assert needs.waits
    assert not needs.by_name
    a = reader.statements.name_done(NameUse(PREPARES, b"a", sql=b"PREPARE a AS SELECT 1"))
    needs.find()
    assert needs.by_name[b"a"].statement is a
    assert needs.by_name[b"a"].exact


def test_a_name_of_ours_is_noted(reader: BatchReader) -> None:
    read(reader, query("DEALLOCATE pgproxy_1"))
    assert reader.batch.needs.reserved == b"pgproxy_1"


def test_what_changes_names_ends_a_batch(reader: BatchReader) -> None:
    first = parse("DEALLOCATE a") + bind() + execute()
    rest = parse("SELECT 1") + bind() + execute() + SYNC
    reader.feed(first + rest)
    assert reader.read() == BATCH
    assert reader.batch.needs.is_over
    assert sent(reader) == first
    assert reader.read() == BATCH
    assert not reader.batch.needs.is_over
    assert sent(reader) == rest


def test_what_hangs_on_an_unanswered_name_waits(reader: BatchReader) -> None:
    read(reader, parse("SELECT 1", "a") + SYNC)
    read(reader, bind(statement="a") + execute() + SYNC)
    assert reader.batch.needs.waits
    reader.statements.in_doubt.clear()
    read(reader, bind(statement="a") + execute() + SYNC)
    assert not reader.batch.needs.waits
