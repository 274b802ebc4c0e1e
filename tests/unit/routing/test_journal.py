"""What is kept of a transaction, and when it may be run again."""

import pytest

from pgproxy.frames import write
from pgproxy.frames.codes import B_PARAMETER_STATUS, STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.routing.batchreader import BATCH, BatchReader
from pgproxy.routing.journal import ATTEMPTS, CUT_OFF, UNDONE, UNKNOWN, Journal, Sent
from pgproxy.routing.router import Router
from tests.support.wire import SYNC, bind, execute, parse, query


def sent(frames: bytes, *, in_block: bool = False) -> Sent:
    reader = BatchReader(Router(), StatementRegistry())
    reader.feed(frames)
    assert reader.read() == BATCH
    return Sent(reader.batch, b"", in_block)


INSERT = query("INSERT INTO t VALUES (1)")
COMMIT = query("COMMIT")


def with_history(journal: Journal) -> None:
    journal.sent(sent(INSERT, in_block=True))
    journal.ready(STATUS_IN_TRANSACTION)
    journal.given(b"answer")


@pytest.fixture
def journal() -> Journal:
    return Journal(1000)


def test_nothing_is_kept_without_a_limit() -> None:
    journal = Journal(0)
    journal.sent(sent(INSERT))
    journal.clear()
    journal.sent(sent(INSERT))
    assert not journal.may_run_again(UNDONE, False)


def test_both_directions_count_towards_the_limit(journal: Journal) -> None:
    with_history(journal)
    assert journal.may_run_again(UNKNOWN, False)
    journal.given(b"x" * 1000)
    assert not journal.may_run_again(UNKNOWN, False)
    assert not journal.history
    journal.clear()
    with_history(journal)
    assert journal.may_run_again(UNKNOWN, False)


@pytest.mark.parametrize(
    ("frames", "in_block", "end", "completed", "may"),
    [
        (INSERT, False, UNDONE, False, True),
        (INSERT, False, UNDONE, True, False),  # by itself, its CommandComplete is its commit
        (INSERT, True, UNDONE, True, True),
        (INSERT, True, UNKNOWN, False, False),
        (INSERT, True, CUT_OFF, False, True),
        (INSERT, False, CUT_OFF, False, False),
        (COMMIT, True, UNDONE, False, True),
        (COMMIT, True, UNDONE, True, False),
        (COMMIT, True, CUT_OFF, False, False),
        (parse("INSERT INTO t VALUES (1)") + bind() + execute() + SYNC, False, UNDONE, True, True),
        (query("VACUUM"), False, UNDONE, False, False),
        (query("CREATE TABLE t ()"), True, UNDONE, False, True),
        (query("CALL p()"), False, UNDONE, False, False),
        (query("CALL p()"), True, UNDONE, False, True),
        (query("INSERT INTO t VALUES (1); COMMIT"), True, UNDONE, False, False),
        (query("SELECT dblink_exec('x', 'y')"), True, UNDONE, False, False),
        (query("COPY t FROM STDIN"), True, UNDONE, False, False),
        (query("/* pgproxy: primary */ SELECT 1"), False, UNDONE, False, True),
        (query("/* pgproxy: primary */ CALL p()"), False, UNDONE, False, False),
    ],
)
def test_what_is_in_flight(
    journal: Journal, frames: bytes, in_block: bool, end: int, completed: bool, may: bool
) -> None:
    journal.sent(sent(frames, in_block=in_block))
    assert journal.may_run_again(end, completed) is may


def test_not_once_a_part_of_the_answer_was_given(journal: Journal) -> None:
    journal.sent(sent(INSERT, in_block=True))
    journal.is_partial = True
    assert not journal.may_run_again(UNDONE, False)


def test_answered_batches_are_history(journal: Journal) -> None:
    with_history(journal)
    journal.sent(sent(COMMIT, in_block=True))
    assert [entry.raw() for entry in journal.history] == [INSERT]
    assert [entry.raw() for entry in journal.unanswered] == [COMMIT]


def test_what_is_committed_is_forgotten_and_what_follows_is_kept(journal: Journal) -> None:
    with_history(journal)
    journal.sent(sent(COMMIT, in_block=True))
    journal.sent(sent(INSERT))
    journal.ready(STATUS_IDLE)
    journal.committed()
    assert [entry.raw() for entry in journal.unanswered] == [INSERT]
    assert not journal.history


@pytest.mark.parametrize("status", [STATUS_IDLE, STATUS_IN_TRANSACTION])
def test_behind_a_commit_nothing_is_kept_that_is_not_told_apart(
    journal: Journal, status: int
) -> None:
    with_history(journal)
    journal.sent(sent(query("COMMIT AND CHAIN"), in_block=True))
    journal.sent(sent(INSERT))
    journal.ready(status)
    journal.ready(STATUS_IN_TRANSACTION)
    assert not journal.may_run_again(UNDONE, False)
    assert not journal.history


def test_settings_are_not_compared(journal: Journal) -> None:
    journal.sent(sent(INSERT, in_block=True))
    journal.ready(STATUS_IN_TRANSACTION)
    report = write.frame(B_PARAMETER_STATUS, b"search_path\0a\0")
    journal.given(report + write.PARSE_COMPLETE + report[:3])
    journal.given(report[3:] + write.BIND_COMPLETE)
    journal.start_checking()
    assert journal.check(write.PARSE_COMPLETE + write.BIND_COMPLETE)
    assert journal.stop_checking()


def test_answers_are_compared_however_they_are_cut(journal: Journal) -> None:
    with_history(journal)
    journal.given(b"more")
    for pieces, same in (
        ([b"ans", b"wermo", b"re"], True),
        ([b"answer"], False),
        ([b"answermore", b"x"], False),
        ([b"ans", b"wex"], False),
    ):
        journal.start_checking()
        assert (all(map(journal.check, pieces)) and journal.stop_checking()) is same
        journal.is_checking = False


def test_attempts_are_counted(journal: Journal) -> None:
    with_history(journal)
    for _ in range(ATTEMPTS):
        assert journal.may_run_again(UNKNOWN, False)
        journal.start_checking()
        journal.stop_checking()
    assert not journal.may_run_again(UNKNOWN, False)


def test_only_a_commit_that_is_executed_is_the_end() -> None:
    commit = parse("COMMIT") + bind()
    assert sent(commit + execute() + SYNC).is_end
    assert not sent(commit + SYNC).is_end
    insert = parse("INSERT INTO t VALUES (1)") + bind() + execute()
    assert not sent(insert + commit + SYNC).is_end
    assert not sent(insert + commit + execute() + SYNC).is_end
    assert not sent(COMMIT).is_end  # the simple protocol's answer ends with ReadyForQuery at once


def test_the_chunk_of_a_batch_counts_and_counts_once() -> None:
    for limit, is_kept in ((150, False), (300, True)):
        journal = Journal(limit)
        reader = BatchReader(Router(), StatementRegistry())
        reader.feed(INSERT + INSERT + query("SELECT '" + "x" * 100 + "'"))
        for _ in range(2):
            assert reader.read() == BATCH
            journal.sent(Sent(reader.batch, b"", True))
            reader.batch.done()
        assert journal.is_kept is is_kept
