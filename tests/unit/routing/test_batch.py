"""What a client's messages become, one by one; tests/properties/test_batch.py cuts them anyhow."""

from typing import Final

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.protocol.prepared import SERVER_PREFIX, StatementRegistry
from pgproxy.routing.batch import (
    AT_READY,
    BATCH,
    CUT,
    HELD_BATCH,
    HELD_FRAME,
    HELD_TEXT,
    LEFT,
    LSN_QUESTION,
    NOTHING,
    PAUSE,
    BatchReader,
)
from pgproxy.routing.decision import PLAIN, PRIMARY, REPLICA, SET_ROUTE
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Router
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    close,
    copy_data,
    describe,
    execute,
    function_call,
    message,
    parse,
    query,
)

ROUTER: Final = Router()
INSERT: Final = "INSERT INTO t VALUES (1)"
NAME: Final = "pgproxy_1"


@pytest.fixture
def reader() -> BatchReader:
    return BatchReader(ROUTER, StatementRegistry())


def read(reader: BatchReader, data: bytes) -> bytes:
    """Feeds one batch; returns what is sent for it to a server that has every statement."""
    reader.feed(data)
    assert reader.read() == BATCH
    return sent(reader)


def sent(reader: BatchReader) -> bytes:
    data, done, pieces = reader.input.data, int(reader.start), b""
    for edit in [] if reader.simple else reader.edits:
        pieces += data[done : int(edit.start)] + edit.frame
        done = int(edit.end)
    pieces += data[done : int(reader.end)]
    reader.continues = reader.ending == CUT
    reader.done()
    return pieces


def refusal(reader: BatchReader, data: bytes) -> PgError:
    reader.feed(data)
    with pytest.raises(PgError) as caught:
        reader.read()
    return caught.value


def errors(reader: BatchReader) -> list[bytes]:
    return [owed.error for owed in reader.owed if owed.error]


def test_a_query_is_a_batch(reader: BatchReader) -> None:
    assert read(reader, query("SELECT 1")) == query("SELECT 1")
    assert reader.simple
    assert (reader.ending, reader.target, reader.executes) == (AT_READY, REPLICA, True)
    assert reader.read() == NOTHING


def test_a_batch_goes_where_its_most_demanding_statement_has_to_go() -> None:
    parts = [parse("SELECT 1") + bind() + execute(), parse(INSERT) + bind() + execute()]
    for stream in (parts[0] + parts[1], parts[1] + parts[0]):
        reader = BatchReader(ROUTER, StatementRegistry())
        assert read(reader, stream + SYNC) == stream + SYNC
        assert reader.target == PRIMARY
        assert reader.known_write
        assert reader.decision is not None
        assert reader.decision.reason is Reason.WRITE


def test_pins_of_what_is_bound(reader: BatchReader) -> None:
    read(reader, parse("CREATE TEMP TABLE a ()") + SYNC)
    assert reader.pin is None
    read(reader, bind() + execute() + SYNC)
    assert reader.pin is Pin.TEMP_TABLE


def test_settings_of_what_is_bound(reader: BatchReader) -> None:
    read(reader, parse("SET work_mem = 1") + SYNC)
    assert reader.effects == ()
    read(reader, bind() + execute() + SYNC)
    assert [effect.names for effect in reader.effects] == [("work_mem",)]


def test_settings_that_a_parameter_names(reader: BatchReader) -> None:
    sets = parse("SELECT set_config($1, $2, false)", "s")
    read(reader, sets + bind(b"App.User", b"x", statement="s") + execute() + SYNC)
    assert [(effect.names, effect.surely) for effect in reader.effects] == [(("app.user",), True)]
    assert reader.pin is None
    read(reader, bind(b"app.user", b"x", formats=[0, 1], statement="s") + execute() + SYNC)
    assert [effect.names for effect in reader.effects] == [("app.user",)]
    for nameless in (bind(None, b"x", statement="s"), bind(b"\xff", b"x", statement="s")):
        read(reader, nameless + execute() + SYNC)
        assert reader.pin is Pin.SET_CONFIG


def test_a_function_call_may_write(reader: BatchReader) -> None:
    read(reader, function_call(1))
    assert reader.pin is Pin.UNPARSED
    read(reader, function_call(952))
    assert reader.pin is None
    assert (reader.target, reader.known_write) == (PRIMARY, True)


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

    def test_a_name_that_is_taken_is_an_error_for_both(self, reader: BatchReader) -> None:
        read(reader, parse("SELECT 1", "a") + SYNC)
        again = read(reader, parse("SELECT 2", "a") + SYNC)
        assert again == parse("SELECT 2", "pgproxy_1") + SYNC
        error = write.error_response(PgError("42P05", '"pgproxy_1" already exists'))
        theirs = write.error_response(PgError("42P05", '"a" already exists'))
        assert reader.in_clients_words(error, []) == theirs
        assert reader.statements[b"a"].sql == b"SELECT 1"

    def test_a_name_the_client_does_not_have_is_undefined(self, reader: BatchReader) -> None:
        # The server may have it: from another client.
        stream = bind(statement="nowhere") + describe("S", "nowhere") + SYNC
        assert b"nowhere" not in read(reader, stream)
        assert [b"26000" in error for error in errors(reader)] == [True, True]

    def test_a_name_that_only_the_server_may_know_is_left_to_it(self, reader: BatchReader) -> None:
        reader.may_know_more = True
        stream = bind(statement="nowhere") + describe("S", "nowhere") + SYNC
        assert read(reader, stream) == stream
        assert not errors(reader)
        assert reader.needs[b"nowhere"].statement is None

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
        assert [owed.answer for owed in reader.owed] == [write.CLOSE_COMPLETE] * 2 + [b""]
        assert reader.statements == {}
        assert len(reader.registry) == 0

    def test_what_is_undone_is_as_before(self, reader: BatchReader) -> None:
        read(reader, parse("SELECT 1", "a") + parse("SELECT 0") + SYNC)
        before, unnamed = dict(reader.statements), reader.unnamed
        read(
            reader,
            close("S", "a") + parse("SELECT 2", "a") + parse("SELECT 3", "b") + parse("") + SYNC,
        )
        reader.undo(reader.owed)
        assert reader.statements == before
        assert reader.unnamed is unnamed
        assert len(reader.registry) == 1


class TestUnnamed:
    def test_it_is_sent_as_it_came(self, reader: BatchReader) -> None:
        stream = parse("SELECT 1") + bind() + execute() + SYNC
        assert read(reader, stream) == stream
        assert not reader.edits

    def test_a_later_batch_marks_that_it_needs_it(self, reader: BatchReader) -> None:
        read(reader, parse(INSERT) + SYNC)
        read(reader, bind() + execute() + SYNC)
        assert [edit.statement for edit in reader.edits] == [reader.unnamed]
        assert reader.target == PRIMARY
        assert reader.sql() == INSERT.encode()

    def test_there_may_be_none(self, reader: BatchReader) -> None:
        assert read(reader, bind() + SYNC) != bind() + SYNC
        assert b"26000" in errors(reader)[0]

    def test_close_forgets_it(self, reader: BatchReader) -> None:
        read(reader, parse("SELECT 1") + close("S") + SYNC)
        read(reader, bind() + SYNC)
        assert errors(reader)


class TestCuts:
    def test_by_flush(self, reader: BatchReader) -> None:
        stream = parse("SELECT 1") + FLUSH
        assert read(reader, stream) == stream
        assert reader.ending == CUT
        assert read(reader, bind() + execute() + SYNC) == bind() + execute() + SYNC
        assert reader.ending == AT_READY

    def test_where_copy_data_is_expected(self, reader: BatchReader) -> None:
        stream = parse("COPY t FROM STDIN") + bind() + execute()
        assert read(reader, stream) == stream
        assert reader.ending == CUT

    def test_by_the_end_of_a_copy(self, reader: BatchReader) -> None:
        reader.feed(copy_data(b"1\n") + COPY_DONE)
        assert reader.read() == BATCH
        assert reader.start == len(copy_data(b"1\n"))

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
        assert reader.ending == CUT
        assert ours.startswith(taken)
        reader.feed(whole[HELD_FRAME + 100 :])
        assert reader.read() == BATCH
        rest = reader.input.data[: int(reader.start)]
        assert taken + rest + sent(reader) == ours


class TestLargeTexts:
    BIG: Final = INSERT + " -- " + "x" * (HELD_TEXT + 100)

    def test_a_query_passes_by_its_beginning(self, reader: BatchReader) -> None:
        frame = query(self.BIG)
        assert read(reader, frame[: HELD_TEXT + 10]) == frame[: HELD_TEXT + 10]
        assert reader.target == PRIMARY
        reader.feed(frame[HELD_TEXT + 10 :])
        assert reader.read() == NOTHING
        assert reader.input.passed == reader.input.size

    def test_an_unnamed_parse_passes_and_lives_for_its_batch(self, reader: BatchReader) -> None:
        stream = parse(self.BIG) + bind() + execute() + SYNC
        taken = read(reader, stream[: HELD_TEXT + 10])
        reader.feed(stream[HELD_TEXT + 10 :])
        assert reader.read() == BATCH
        assert not errors(reader)
        rest = reader.input.data[: int(reader.start)]
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

    def test_a_message_of_servers(self, reader: BatchReader) -> None:
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
    reader.skipping = True
    assert read(reader, parse("SELECT 1", "a") + query(INSERT) + FLUSH + SYNC) == SYNC
    assert reader.statements == {}
    assert reader.read() == NOTHING


def test_what_the_proxy_answers_itself_is_seen_by_kind(reader: BatchReader) -> None:
    own = parse("SET pgproxy.route = 'primary'") + bind() + describe("P") + execute()
    read(reader, own + SYNC)
    assert reader.own == SET_ROUTE
    read(reader, own + parse("SELECT 1") + bind() + execute() + SYNC)
    assert reader.own == PLAIN


@pytest.mark.parametrize("rest", [b"", query("SELECT 1")])
def test_the_primary_is_asked_for_the_position_to_be_seen(reader: BatchReader, rest: bytes) -> None:
    sent = query(LSN_QUESTION.decode())
    assert read(reader, query("SHOW pgproxy.lsn") + rest) == sent
    assert (reader.target, reader.own, reader.may_write) == (PRIMARY, PLAIN, False)
    reader.done()
    if rest:
        assert read(reader, b"") == rest


def test_so_it_is_in_the_extended_protocol(reader: BatchReader) -> None:
    asked = parse(LSN_QUESTION.decode()) + bind() + describe("P") + execute() + SYNC
    shown = parse("SHOW pgproxy.lsn") + bind() + describe("P") + execute() + SYNC
    assert read(reader, shown + query("SELECT 1")) == asked
    assert (reader.target, reader.own, reader.may_write) == (PRIMARY, PLAIN, False)
    reader.done()
    assert read(reader, b"") == query("SELECT 1")
    reader.done()
    read(reader, parse("SHOW pgproxy.lsn", "s") + SYNC)
    assert reader.statements[b"s"].sql == LSN_QUESTION


def test_an_encoding_that_cannot_be_read_has_one_decision(reader: BatchReader) -> None:
    decision = ROUTER.decide(INSERT.encode())
    reader.fixed = decision
    read(reader, query("SELECT 1"))
    assert reader.decision is decision
    read(reader, parse("SELECT 1", "a") + bind(statement="a") + SYNC)
    assert reader.decision is decision


def test_others_have_their_turn_where_no_batch_ends(reader: BatchReader) -> None:
    reader.feed(FLUSH * 2500)
    assert [reader.read() for _ in range(3)] == [PAUSE, PAUSE, NOTHING]
    reader.input.keep = reader.input.passed
    one = bind() + execute()
    reader.feed(parse("SELECT 1") + one * 1200)
    assert [reader.read() for _ in range(3)] == [PAUSE, PAUSE, NOTHING]
    reader.feed(SYNC)
    assert reader.read() == BATCH
    assert (reader.ending, len(reader.owed)) == (AT_READY, 2402)


def test_what_is_too_much_to_hold_is_cut_in_the_middle_of_a_chunk_too(reader: BatchReader) -> None:
    reader.feed(parse("SELECT 1") + (bind(b"x" * 200) + execute()) * 1000)
    assert reader.read() == BATCH
    assert reader.ending == CUT
    assert len(reader.owed) == 1000
