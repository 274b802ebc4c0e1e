"""What each message of the extended protocol becomes."""

from typing import Final

import pytest

from pgproxy.frames import write
from pgproxy.protocol.prepared import SERVER_PREFIX
from pgproxy.routing.batchreader import BATCH, HELD_TEXT, BatchReader
from pgproxy.routing.decision import PRIMARY
from tests.support.batches import errors, read, refusal, sent
from tests.support.wire import SYNC, bind, close, describe, execute, message, parse, query

INSERT: Final = "INSERT INTO t VALUES (1)"
NAME: Final = "pgproxy_1"


class TestNames:
    def test_every_name_is_ours_on_the_server(self, reader: BatchReader) -> None:
        stream = parse("SELECT 1", "a") + describe("S", "a") + bind(statement="a") + SYNC
        ours = parse("SELECT 1", NAME) + describe("S", NAME) + bind(statement=NAME) + SYNC
        assert read(reader, stream) == ours
        assert read(reader, bind(b"x", portal="p", statement="a") + SYNC) == (
            bind(b"x", portal="p", statement=NAME) + SYNC
        )

    def test_portals_keep_theirs(self, reader: BatchReader) -> None:
        stream = parse("SELECT 1") + bind(portal="p") + describe("P", "p") + close("P", "p") + SYNC
        assert read(reader, stream) == stream

    def test_a_name_the_client_does_not_have_is_undefined(self, reader: BatchReader) -> None:
        # The server may have it: from another client.
        stream = bind(statement="nowhere") + describe("S", "nowhere") + SYNC
        assert b"nowhere" not in read(reader, stream)
        assert [b"26000" in error for error in errors(reader)] == [True, True]

    @pytest.mark.parametrize("name", [NAME, SERVER_PREFIX.decode()])
    def test_a_name_that_looks_like_ours_does_not_hit_one(
        self, reader: BatchReader, name: str
    ) -> None:
        read(reader, parse("SELECT 1", "a") + SYNC)
        frames = read(reader, bind(statement=name) + describe("S", name) + SYNC)
        assert NAME.encode() not in frames
        assert [b"26000" in error for error in errors(reader)] == [True, True]
        # And a client may use such a name.
        assert read(reader, parse("SELECT 2", name) + SYNC) == parse("SELECT 2", "pgproxy_2") + SYNC

    def test_close_is_ours_to_answer(self, reader: BatchReader) -> None:
        read(reader, parse("SELECT 1", "a") + SYNC)
        assert read(reader, close("S", "a") + close("S", "a") + SYNC) == SYNC
        assert [owed.answer for owed in reader.batch.owed] == [write.CLOSE_COMPLETE] * 2 + [b""]
        assert reader.statements.named == {}
        assert len(reader.statements.registry) == 0


class TestUnnamed:
    def test_it_is_sent_as_it_came(self, reader: BatchReader) -> None:
        stream = parse("SELECT 1") + bind() + execute() + SYNC
        assert read(reader, stream) == stream
        assert not reader.batch.edits

    def test_a_later_batch_marks_that_it_needs_it(self, reader: BatchReader) -> None:
        read(reader, parse(INSERT) + SYNC)
        read(reader, bind() + execute() + SYNC)
        assert [edit.statement for edit in reader.batch.edits] == [reader.statements.unnamed]
        assert reader.batch.target == PRIMARY
        assert reader.batch.sql() == INSERT.encode()

    def test_there_may_be_none(self, reader: BatchReader) -> None:
        assert read(reader, bind() + SYNC) != bind() + SYNC
        assert b"26000" in errors(reader)[0]

    def test_close_forgets_it(self, reader: BatchReader) -> None:
        read(reader, parse("SELECT 1") + close("S") + SYNC)
        read(reader, bind() + SYNC)
        assert errors(reader)


class TestLargeTexts:
    BIG: Final = INSERT + " -- " + "x" * (HELD_TEXT + 100)

    def test_an_unnamed_parse_passes_and_lives_for_its_batch(self, reader: BatchReader) -> None:
        stream = parse(self.BIG) + bind() + execute() + SYNC
        taken = read(reader, stream[: HELD_TEXT + 10])
        reader.feed(stream[HELD_TEXT + 10 :])
        assert reader.read() == BATCH
        assert not errors(reader)
        rest = reader.input.data[: int(reader.batch.start)]
        assert taken + rest + sent(reader) == stream
        read(reader, bind() + SYNC)
        assert errors(reader)

    def test_a_named_parse_is_refused(self, reader: BatchReader) -> None:
        error = refusal(reader, parse(self.BIG, "a")[: HELD_TEXT + 10])
        assert (error.sqlstate, error.severity) == ("54000", "FATAL")


class TestNoProtocol:
    # Of Describe and Close only those of a statement: others are the server's to refuse.
    @pytest.mark.parametrize(
        ("kind", "body"),
        [("Q", b"")]
        + [(kind, body) for kind in "PB" for body in (b"", b"x", b"xx")]
        + [(kind, body) for kind in "DC" for body in (b"", b"S", b"Sx")],
    )
    def test_a_body_without_its_strings(self, reader: BatchReader, kind: str, body: bytes) -> None:
        error = refusal(reader, message(kind.encode(), body))
        assert (error.sqlstate, error.severity) == ("08P01", "FATAL")

    def test_a_string_does_not_end_in_the_next_message(self, reader: BatchReader) -> None:
        error = refusal(reader, message(b"D", b"Sabc") + SYNC + query("\0"))
        assert error.sqlstate == "08P01"
