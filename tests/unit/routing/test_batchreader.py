"""Where batches begin and end; tests/properties/test_batch.py cuts their bytes anyhow."""

from typing import Final

from pgproxy.routing.batch import AT_READY, CUT
from pgproxy.routing.batchreader import (
    BATCH,
    HELD_BATCH,
    HELD_FRAME,
    HELD_TEXT,
    LEFT,
    NOTHING,
    PAUSE,
    BatchReader,
)
from pgproxy.routing.decision import PRIMARY
from tests.support.batches import read, refusal, sent
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    copy_data,
    execute,
    message,
    parse,
    query,
)

INSERT: Final = "INSERT INTO t VALUES (1)"
NAME: Final = "pgproxy_1"


class TestCuts:
    def test_by_flush(self, reader: BatchReader) -> None:
        stream = parse("SELECT 1") + FLUSH
        assert read(reader, stream) == stream
        assert reader.batch.ending == CUT
        assert read(reader, bind() + execute() + SYNC) == bind() + execute() + SYNC
        assert reader.batch.ending == AT_READY

    def test_where_copy_data_is_expected(self, reader: BatchReader) -> None:
        stream = parse("COPY t FROM STDIN") + bind() + execute()
        assert read(reader, stream) == stream
        assert reader.batch.ending == CUT

    def test_by_the_end_of_a_copy(self, reader: BatchReader) -> None:
        reader.feed(copy_data(b"1\n") + COPY_DONE)
        assert reader.read() == BATCH
        assert reader.batch.start == len(copy_data(b"1\n"))

    def test_where_too_much_has_gathered(self, reader: BatchReader) -> None:
        one = parse("SELECT '" + "x" * 30_000 + "'") + bind() + execute()
        reader.feed(one * 2)
        assert reader.read() == NOTHING
        reader.feed(one)
        assert reader.input.held > HELD_BATCH
        assert reader.read() == BATCH
        assert sent(reader) == one * 3

    def test_within_a_large_bind(self, reader: BatchReader) -> None:
        whole = parse("SELECT 1", "a") + bind(b"x" * 200_000, statement="a") + execute() + SYNC
        ours = parse("SELECT 1", NAME) + bind(b"x" * 200_000, statement=NAME) + execute() + SYNC
        taken = read(reader, whole[: HELD_FRAME + 100])
        assert reader.batch.ending == CUT
        assert ours.startswith(taken)
        reader.feed(whole[HELD_FRAME + 100 :])
        assert reader.read() == BATCH
        rest = reader.input.data[: int(reader.batch.start)]
        assert taken + rest + sent(reader) == ours


BIG: Final = INSERT + " -- " + "x" * (HELD_TEXT + 100)


def test_a_large_query_passes_by_its_beginning(reader: BatchReader) -> None:
    frame = query(INSERT + " -- " + "x" * (HELD_TEXT + 100))
    assert read(reader, frame[: HELD_TEXT + 10]) == frame[: HELD_TEXT + 10]
    assert reader.batch.target == PRIMARY
    reader.feed(frame[HELD_TEXT + 10 :])
    assert reader.read() == NOTHING
    assert reader.input.passed == reader.input.size


def test_a_message_of_servers(reader: BatchReader) -> None:
    assert refusal(reader, message(b"Z", b"I")).sqlstate == "08P01"


def test_a_flush_does_not_swallow_the_copy_data_before_it(reader: BatchReader) -> None:
    reader.feed(copy_data(b"1\n") + FLUSH)
    assert reader.read() == NOTHING
    assert reader.input.keep == 0
    assert reader.input.passed == reader.input.size


def test_terminate(reader: BatchReader) -> None:
    reader.feed(TERMINATE + query("SELECT 1"))
    assert reader.read() == LEFT


def test_terminate_ends_a_batch_that_was_never_finished(reader: BatchReader) -> None:
    reader.feed(parse("SELECT 1") + TERMINATE)
    assert reader.read() == LEFT


def test_after_an_error_of_ours_everything_up_to_sync_is_dropped(reader: BatchReader) -> None:
    reader.batch.skipping = True
    assert read(reader, parse("SELECT 1", "a") + query(INSERT) + FLUSH + SYNC) == SYNC
    assert reader.statements.named == {}
    assert reader.read() == NOTHING


def test_others_have_their_turn_where_no_batch_ends(reader: BatchReader) -> None:
    reader.feed(FLUSH * 2500)
    assert [reader.read() for _ in range(3)] == [PAUSE, PAUSE, NOTHING]
    reader.input.keep = reader.input.passed
    one = bind() + execute()
    reader.feed(parse("SELECT 1") + one * 1200)
    assert [reader.read() for _ in range(3)] == [PAUSE, PAUSE, NOTHING]
    reader.feed(SYNC)
    assert reader.read() == BATCH
    assert (reader.batch.ending, len(reader.batch.owed)) == (AT_READY, 2402)


def test_what_is_too_much_to_hold_is_cut_in_the_middle_of_a_chunk_too(reader: BatchReader) -> None:
    reader.feed(parse("SELECT 1") + (bind(b"x" * 200) + execute()) * 1000)
    assert reader.read() == BATCH
    assert reader.batch.ending == CUT
    assert len(reader.batch.owed) == 1000
