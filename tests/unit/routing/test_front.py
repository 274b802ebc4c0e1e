"""The transaction as the client sees it; tests/playbooks has the dialogues around it."""

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.protocol.session import Session
from pgproxy.routing.batch import Batch
from pgproxy.routing.batchreader import BATCH, BatchReader
from pgproxy.routing.front import Front
from pgproxy.routing.router import Router
from tests.playbooks.stage import IDLE, IN_BLOCK, ROLLED_BACK, letters
from tests.support.wire import FLUSH, SYNC, bind, execute, parse, query


def batch_of(data: bytes) -> Batch:
    reader = BatchReader(Router(), StatementRegistry())
    reader.feed(data)
    assert reader.read() == BATCH
    return reader.batch


def ask(front: Front, data: bytes) -> bytes | None:
    return front.answer(batch_of(data))


@pytest.fixture
def front() -> Front:
    return Front(Session(), holds_begin=True)


def test_begin_is_held_until_a_statement_comes(front: Front) -> None:
    assert ask(front, query("BEGIN")) == write.command_complete(b"BEGIN") + IN_BLOCK
    assert front.held == query("BEGIN")
    assert front.status == STATUS_IN_TRANSACTION
    assert ask(front, query("SELECT 1")) is None


def test_begin_is_not_held_where_the_server_stays(front: Front) -> None:
    assert ask(Front(Session(), holds_begin=False), query("BEGIN")) is None


def test_a_second_begin_is_for_the_server_to_warn_of(front: Front) -> None:
    ask(front, query("BEGIN"))
    assert ask(front, query("BEGIN")) is None


def test_an_end_without_a_begin_is_for_the_server_to_warn_of(front: Front) -> None:
    assert ask(front, query("COMMIT")) is None


def test_a_transaction_that_failed_here_ends_here(front: Front) -> None:
    ask(front, query("BEGIN"))
    front.refuse(batch_of(query("SELECT 1")), PgError("53300", "no"))
    assert (front.status, front.held) == (STATUS_FAILED, b"")
    with pytest.raises(PgError, match="aborted"):
        ask(front, query("SELECT 1"))
    assert ask(front, query("COMMIT")) == ROLLED_BACK + IDLE
    assert front.status == STATUS_IDLE


def test_an_error_of_ours_skips_the_rest_of_a_cut_batch(front: Front) -> None:
    batch = batch_of(parse("SELECT 1") + FLUSH)
    assert letters(front.refuse(batch, PgError("53300", "no"))) == "E"
    assert batch.skipping


def test_what_only_asks_for_ready_needs_no_server(front: Front) -> None:
    assert ask(front, SYNC) == IDLE
    assert ask(front, parse("SELECT 1", "a") + SYNC) is None
    assert ask(front, parse("SELECT 1") + bind() + execute() + SYNC) is None


def test_a_parse_that_some_server_has_accepted_needs_none(front: Front) -> None:
    batch = batch_of(parse("SELECT 1", "a") + SYNC)
    batch.statements.named[b"a"].proven = True
    assert front.answer(batch) == write.PARSE_COMPLETE + IDLE


def test_the_last_route_in_words(front: Front) -> None:
    last = front.last_route
    assert last.fields() == []
    last.decision = Router().decide(b"SELECT nextval('s')")
    last.code, last.backend = last.decision.code, "pg-0"
    assert last.fields() == ["primary", "writing_function", "pg-0", last.decision.detail]


def test_modes_are_kept_with_begin(front: Front) -> None:
    ask(front, query("BEGIN -- x"))
    assert not front.is_read_only(False)
    assert front.is_read_only(True)  # default_transaction_read_only
    assert (
        ask(front, query("SET TRANSACTION READ ONLY")) == write.command_complete(b"SET") + IN_BLOCK
    )
    assert front.is_read_only(False)
    ask(front, query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
    assert not front.is_read_only(False)  # for a standby refuses that
    assert front.held_isolation == "serializable"
    assert front.held.count(b"\n;SET TRANSACTION") == 2
    ask(front, query("COMMIT"))
    assert ask(front, query("SET TRANSACTION READ ONLY")) is None
    ask(front, query("BEGIN READ WRITE"))
    assert not front.is_read_only(True)


def test_a_hint_on_begin_outweighs_read_only(front: Front) -> None:
    ask(front, query("/* pgproxy: primary */ BEGIN READ ONLY"))
    assert not front.is_read_only(True)


def test_a_chain_is_held_as_what_it_follows(front: Front) -> None:
    ask(front, query("BEGIN READ ONLY"))
    answer = ask(front, query("ROLLBACK AND CHAIN"))
    assert answer == write.command_complete(b"ROLLBACK") + IN_BLOCK
    assert front.held == query("BEGIN READ ONLY")
    assert front.is_read_only(False)
