"""Dialogues: what is owed after which messages and replies. `tests/properties` mixes them."""

from typing import Final

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.protocol.inflight import (
    FORWARD,
    HIDE,
    OWED_BEGIN,
    OWED_BIND,
    OWED_CLOSE,
    OWED_COPY_END,
    OWED_DESCRIBE,
    OWED_EXECUTE,
    OWED_FUNCTION_CALL,
    OWED_QUERY,
    OWED_SYNC,
    REPLACE,
    Inflight,
    Owed,
)
from pgproxy.protocol.prepared import Statement
from pgproxy.protocol.states import ASYNCHRONOUS, CLOSE, EXECUTE, PARSE, QUERY, REPLIES

# Messages by the letters of the manual; c is CopyDone or CopyFail.
MESSAGES: Final = {
    "P": Owed(PARSE, name=b"s"),
    "B": OWED_BIND,
    "D": OWED_DESCRIBE,
    "E": OWED_EXECUTE,
    "C": OWED_CLOSE,
    "S": OWED_SYNC,
    "Q": OWED_QUERY,
    "F": OWED_FUNCTION_CALL,
    "c": OWED_COPY_END,
}


class Dialogue:
    """`sends` and `gets` take the letters of messages and of replies; `gets` returns the types
    that the client sees, our own answers among them."""

    def __init__(self) -> None:
        self.inflight = Inflight()
        self.seen = ""

    def sends(self, letters: str) -> "Dialogue":
        for letter in letters:
            self.push(MESSAGES[letter])
        return self

    def push(self, owed: Owed) -> None:
        self.inflight.push(owed)
        self._due()

    def gets(self, letters: str) -> str:
        self.seen = ""
        for letter in letters:
            verdict = self.inflight.reply(ord(letter))
            if verdict == FORWARD:
                self.seen += letter
            elif verdict == REPLACE:
                self.seen += f"<{self.inflight.replacement.decode()}>"
            self._due()
        return self.seen

    def _due(self) -> None:
        self.seen += self.inflight.due().decode()

    @property
    def void(self) -> str:
        letters = {id(owed): letter for letter, owed in MESSAGES.items()}
        return "".join([letters[id(owed)] for owed in self.inflight.take_void()])


@pytest.fixture
def talk() -> Dialogue:
    return Dialogue()


@pytest.mark.parametrize("kind", sorted(REPLIES))
@pytest.mark.parametrize("copying", [False, True], ids=["", "copying"])
def test_every_reply_is_in_order_or_refused(kind: int, copying: bool) -> None:
    for reply in range(256):
        inflight = Inflight()
        inflight.push(Owed(kind))
        if copying and ord("G") in REPLIES[kind]:
            inflight.reply(ord("G"))
        if reply in REPLIES[kind] or reply in ASYNCHRONOUS:
            assert inflight.reply(reply) == FORWARD
            continue
        with pytest.raises(PgError) as caught:
            inflight.reply(reply)
        assert (caught.value.sqlstate, caught.value.severity) == ("08P01", "FATAL")


def test_nothing_is_owed_at_first() -> None:
    inflight = Inflight()
    assert inflight.settled
    assert len(inflight) == 0
    assert not inflight.has_void


@pytest.mark.parametrize("reply", sorted({*"NSA", "E"}))
def test_unasked_for_come_notices_settings_notifications_and_last_words(reply: str) -> None:
    assert Inflight().reply(ord(reply)) == FORWARD


@pytest.mark.parametrize("reply", sorted("Z1CDT"))
def test_nothing_else_comes_unasked_for(reply: str) -> None:
    with pytest.raises(PgError, match="out of order"):
        Inflight().reply(ord(reply))


def test_a_query_is_answered_by_ready_for_query_alone(talk: Dialogue) -> None:
    talk.sends("Q").gets("TDDCTDCI")
    assert not talk.inflight.settled
    talk.gets("Z")
    assert talk.inflight.settled


def test_an_error_leaves_the_query_owed(talk: Dialogue) -> None:
    assert talk.sends("Q").gets("TDE") == "TDE"
    assert len(talk.inflight) == 1
    assert talk.gets("Z") == "Z"


def test_a_function_call(talk: Dialogue) -> None:
    talk.sends("FF").gets("VZEZ")
    assert talk.inflight.settled


def test_pipelined_batches_are_answered_in_turn(talk: Dialogue) -> None:
    talk.sends("PBDESBES").gets("12TDDC")
    assert len(talk.inflight) == 4
    talk.gets("Z2s")
    assert len(talk.inflight) == 1
    talk.gets("Z")
    assert talk.inflight.settled


def test_a_portal_may_be_suspended_and_go_on(talk: Dialogue) -> None:
    talk.sends("PBE").gets("12Ds")
    assert talk.inflight.settled
    talk.sends("ES").gets("DCZ")
    assert talk.inflight.settled


def test_describe_of_a_statement_is_answered_by_two(talk: Dialogue) -> None:
    talk.sends("D").gets("t")
    assert len(talk.inflight) == 1
    talk.gets("n")
    assert len(talk.inflight) == 0


def test_after_an_error_everything_up_to_sync_is_void(talk: Dialogue) -> None:
    talk.sends("PBDESPBES").gets("12E")
    assert talk.void == "DE"
    assert talk.gets("Z12CZ") == "Z12CZ"
    assert talk.inflight.settled


def test_after_an_error_what_comes_before_sync_is_void_as_it_is_sent(talk: Dialogue) -> None:
    talk.sends("P").gets("E")
    assert talk.inflight.skipping
    assert not talk.inflight.settled
    assert talk.void == "P"
    talk.sends("BEQc")
    assert talk.void == "BEQc"
    assert len(talk.inflight) == 0
    talk.sends("S").gets("Z")
    assert talk.inflight.settled


def test_void_messages_are_told_once(talk: Dialogue) -> None:
    talk.sends("PB").gets("E")
    assert talk.inflight.has_void
    assert talk.void == "PB"
    assert not talk.inflight.has_void
    assert talk.void == ""


def test_an_error_at_sync_is_that_of_the_commit(talk: Dialogue) -> None:
    talk.sends("BES").gets("2CE")
    assert not talk.inflight.settled
    talk.gets("Z")
    assert talk.inflight.settled


class TestCopyIn:
    def test_of_a_query(self, talk: Dialogue) -> None:
        talk.sends("Q").gets("G")
        assert talk.inflight.copying
        talk.sends("c")
        assert not talk.inflight.copying
        assert len(talk.inflight) == 1
        talk.gets("CZ")
        assert talk.inflight.settled

    def test_twice_in_one_query(self, talk: Dialogue) -> None:
        talk.sends("Q").gets("G")
        talk.sends("c").gets("CG")
        assert talk.inflight.copying
        talk.sends("c").gets("CZ")
        assert talk.inflight.settled

    def test_whose_data_came_blindly(self, talk: Dialogue) -> None:
        talk.sends("QcQ").gets("GCZ")
        assert len(talk.inflight) == 1
        talk.gets("TDCZ")
        assert talk.inflight.settled

    def test_sent_blindly_that_never_begins(self, talk: Dialogue) -> None:
        talk.sends("QcQ").gets("EZTDCZ")
        assert talk.inflight.settled

    def test_a_failure_ends_copy_mode_and_the_late_end_means_nothing(self, talk: Dialogue) -> None:
        talk.sends("Q").gets("GE")
        assert not talk.inflight.copying
        talk.sends("c").gets("Z")
        assert talk.inflight.settled
        talk.sends("c")
        assert talk.inflight.settled

    def test_in_the_extended_protocol_sync_is_not_answered_during_it(self, talk: Dialogue) -> None:
        talk.sends("BES").gets("2G")
        assert talk.void == "S"
        talk.sends("S")
        assert talk.void == "S"
        talk.sends("cS").gets("CZ")
        assert talk.inflight.settled

    def test_extended_and_blind(self, talk: Dialogue) -> None:
        talk.sends("BEcSQ").gets("2GCZTCZ")
        assert talk.inflight.settled

    def test_a_failure_leaves_doubt_about_the_sync_during_it(self, talk: Dialogue) -> None:
        assert talk.sends("BES").gets("2GE") == "2GE"
        assert talk.inflight.doubtful == 1
        assert talk.inflight.skipping
        # The server had not read it.
        assert talk.gets("Z") == "Z"
        assert talk.inflight.settled
        assert talk.inflight.doubtful == 0
        assert talk.sends("cS").gets("Z") == "Z"
        assert talk.inflight.settled

    def test_a_failure_when_all_is_sent_leaves_doubt_about_a_ready(self, talk: Dialogue) -> None:
        talk.sends("BES").gets("2G")
        assert talk.sends("cS").gets("EZ") == "EZ"
        assert talk.inflight.settled
        assert talk.inflight.doubtful == 1
        # It comes before anything else, or not at all.
        talk.sends("Q")
        assert talk.gets("ZTDCZ") == "ZTDCZ"
        assert talk.inflight.settled
        assert talk.inflight.doubtful == 0

    @pytest.mark.parametrize(("sends", "gets"), [("Q", "IZ"), ("PS", "1Z"), ("S", "Z")])
    def test_doubt_ends_with_the_next_answer(self, talk: Dialogue, sends: str, gets: str) -> None:
        talk.sends("BES").gets("2G")
        talk.sends("cS").gets("EZ")
        assert talk.sends(sends).gets(gets) == gets
        assert talk.inflight.settled
        assert talk.inflight.doubtful == (1 if sends == "S" else 0)

    def test_a_question_of_ours_ends_the_doubt(self, talk: Dialogue) -> None:
        talk.sends("BES").gets("2G")
        talk.sends("cS").gets("EZ")
        talk.push(OWED_BEGIN)
        assert talk.gets("ZIZ") == "Z"
        assert talk.inflight.settled

    def test_a_copy_by_query_has_a_ready_of_its_own(self, talk: Dialogue) -> None:
        assert talk.sends("QSS").gets("GEZZZ") == "GEZZZ"
        assert talk.inflight.settled
        assert talk.inflight.doubtful == 0
        talk.sends("QS").gets("GEZ")
        assert talk.sends("Q").gets("TCZ") == "TCZ"
        assert talk.inflight.settled

    def test_no_doubt_is_left_by_a_copy_that_succeeds(self, talk: Dialogue) -> None:
        talk.sends("BES").gets("2G")
        talk.sends("cS").gets("CZ")
        talk.sends("BES").gets("2EZ")
        assert talk.inflight.settled
        assert talk.inflight.doubtful == 0

    def test_nobody_doubts_what_is_gone(self, talk: Dialogue) -> None:
        talk.sends("BES").gets("2GE")
        talk.inflight.clear()
        assert talk.inflight.doubtful == 0

    def test_extended_and_failed_skips_to_sync(self, talk: Dialogue) -> None:
        talk.sends("E").gets("GE")
        assert talk.inflight.skipping
        assert talk.void == "E"
        talk.sends("cES").gets("Z")
        assert talk.void == "cE"
        assert talk.inflight.settled

    def test_extended_refused_with_its_data_already_sent(self, talk: Dialogue) -> None:
        talk.sends("BEScS").gets("E")
        assert talk.void == "BE"
        talk.gets("ZZ")
        assert talk.inflight.settled


class TestHidden:
    def test_a_begin_of_ours_is_not_shown(self, talk: Dialogue) -> None:
        talk.push(OWED_BEGIN)
        talk.sends("Q")
        assert talk.gets("CZTDCZ") == "TDCZ"

    def test_what_comes_at_any_time_is_shown_even_then(self, talk: Dialogue) -> None:
        talk.push(OWED_BEGIN)
        assert talk.gets("NSACZ") == "NSA"

    def test_a_close_and_a_parse_of_ours_are_not_shown(self, talk: Dialogue) -> None:
        talk.push(Owed(CLOSE, hidden=True))
        talk.push(Owed(PARSE, hidden=True))
        talk.sends("BES")
        assert talk.gets("312DCZ") == "2DCZ"

    def test_a_refused_parse_of_ours_is_shown(self, talk: Dialogue) -> None:
        talk.push(Owed(PARSE, hidden=True))
        talk.sends("BES")
        assert talk.gets("EZ") == "EZ"
        assert talk.inflight.settled

    def test_a_refused_begin_of_ours_is_for_the_relay(self, talk: Dialogue) -> None:
        talk.push(OWED_BEGIN)
        assert talk.inflight.reply(ord("E")) == HIDE


class TestOurOwnAnswers:
    PARSED: Final = Owed(PARSE, answer=b"1", name=b"a")
    CLOSED: Final = Owed(CLOSE, answer=b"3", name=b"a")

    def test_come_in_turn(self, talk: Dialogue) -> None:
        talk.sends("P")
        talk.push(self.CLOSED)
        talk.push(self.PARSED)
        talk.sends("B")
        assert talk.seen == ""
        assert talk.gets("12") == "1312"

    def test_come_at_once_if_nothing_is_owed(self, talk: Dialogue) -> None:
        talk.push(self.PARSED)
        assert talk.seen == "1"
        assert talk.inflight.settled

    def test_wait_for_ready_for_query(self, talk: Dialogue) -> None:
        talk.sends("BES")
        talk.push(self.CLOSED)
        talk.sends("S")
        assert talk.gets("2C") == "2C"
        assert talk.gets("Z") == "Z3"
        assert talk.gets("Z") == "Z"

    def test_are_void_after_an_error(self, talk: Dialogue) -> None:
        talk.sends("B")
        talk.push(self.PARSED)
        talk.sends("S")
        assert talk.gets("EZ") == "EZ"
        assert talk.inflight.take_void() == [OWED_BIND, self.PARSED]

    def test_replace_the_error_that_a_server_was_made_to_give(self, talk: Dialogue) -> None:
        talk.push(Owed(PARSE, error=b"ours"))
        talk.sends("BES")
        assert talk.gets("EZ") == "<ours>Z"
        assert talk.inflight.settled


def test_the_old_unnamed_statement_is_lost_even_by_a_parse_that_fails(talk: Dialogue) -> None:
    old, new = Statement(0, b"SELECT 1", b"\0\0", None), Statement(0, b"SELCT", b"\0\0", None)
    talk.push(Owed(PARSE, statement=new, previous=old))
    talk.gets("E")
    (void,) = talk.inflight.take_void()
    assert void.statement is new
    assert void.previous is None


def test_an_unnamed_parse_that_the_server_never_read_has_lost_nothing(talk: Dialogue) -> None:
    old, new = Statement(0, b"SELECT 1", b"\0\0", None), Statement(0, b"SELECT 2", b"\0\0", None)
    parse = Owed(PARSE, statement=new, previous=old)
    talk.sends("B")
    talk.push(parse)
    talk.gets("E")
    assert talk.inflight.take_void() == [OWED_BIND, parse]
    assert parse.previous is old


def test_an_accepted_text_is_proven(talk: Dialogue) -> None:
    good, bad = Statement(1, b"SELECT 1", b"\0\0", None), Statement(2, b"SELCT", b"\0\0", None)
    talk.push(Owed(PARSE, name=b"a", statement=good))
    talk.push(Owed(PARSE, name=b"b", statement=bad))
    assert not good.proven
    talk.gets("1E")
    assert good.proven
    assert not bad.proven


def test_nothing_is_owed_by_a_server_that_is_gone(talk: Dialogue) -> None:
    talk.sends("PBES").gets("1E")
    talk.sends("Q")
    talk.inflight.clear()
    assert talk.inflight.settled
    assert not talk.inflight.has_void
    talk.sends("E").gets("G")
    talk.inflight.clear()
    assert talk.inflight.settled


def test_a_long_pipeline_does_not_pile_up(talk: Dialogue) -> None:
    for _ in range(5000):
        talk.sends("BE")
    for _ in range(4999):
        talk.gets("2C")
    assert len(talk.inflight) == 2
    talk.gets("2C")
    assert talk.inflight.settled


def test_what_is_shown_of_an_entry() -> None:
    assert repr(Owed(QUERY, hidden=True)) == "<Owed 7 hidden b''>"
    assert repr(Owed(EXECUTE, name=b"s")) == "<Owed 4 b's'>"
    assert write.PARSE_COMPLETE[:1] == b"1"


def test_a_query_of_ours_at_work_is_known() -> None:
    inflight = Inflight()
    assert not inflight.hides_query
    inflight.push(OWED_BEGIN)
    inflight.push(OWED_QUERY)
    assert inflight.hides_query
    inflight.reply(ord("C"))
    assert inflight.hides_query
    inflight.reply(ord("Z"))
    assert not inflight.hides_query


def test_whether_the_newest_message_is_one_that_the_server_answers() -> None:
    inflight = Inflight()
    assert not inflight.ends_with_server
    inflight.push(Owed(PARSE, answer=write.PARSE_COMPLETE))
    assert not inflight.ends_with_server
    inflight.push(OWED_BIND)
    assert inflight.ends_with_server
    assert inflight.due() == write.PARSE_COMPLETE
    inflight.push(OWED_COPY_END)
    assert not inflight.ends_with_server
