"""What one server is sent for a batch that names statements, and what it then owes."""

from typing import Final

import pytest

from pgproxy.protocol.inflight import Inflight
from pgproxy.protocol.prepared import PreparedOnServer, StatementRegistry
from pgproxy.routing.batchreader import BATCH, BatchReader
from pgproxy.routing.journal import Sent
from pgproxy.routing.rewrite import rewrite
from pgproxy.routing.router import Router
from tests.support.wire import SYNC, bind, close, execute, parse

NAME: Final = "pgproxy_1"


class Session:
    """A client, and the servers it is sent to."""

    def __init__(self) -> None:
        self.reader = BatchReader(Router(), StatementRegistry())

    def to(self, server: PreparedOnServer, data: bytes, *, pipelined: bool = False) -> bytes:
        self.inflight = Inflight()
        self.reader.feed(data)
        assert self.reader.read() == BATCH
        frames = rewrite(
            Sent(self.reader.batch, b"", False), server, self.inflight, pipelined=pipelined
        )
        self.reader.batch.done()
        return frames


@pytest.fixture
def session() -> Session:
    return Session()


def test_a_statement_is_prepared_once_on_each_server(session: Session) -> None:
    one, other = PreparedOnServer(10), PreparedOnServer(10)
    use = bind(statement="a") + execute() + SYNC
    ours = bind(statement=NAME) + execute() + SYNC
    assert session.to(one, parse("SELECT 1", "a") + use) == parse("SELECT 1", NAME) + ours
    assert session.to(one, use) == ours
    assert len(session.inflight) == 3
    assert session.to(other, use) == parse("SELECT 1", NAME) + ours
    assert len(session.inflight) == 4
    assert session.to(other, use) == ours


def test_a_parse_of_what_is_there_is_answered_by_us(session: Session) -> None:
    server = PreparedOnServer(10)
    session.to(server, parse("SELECT 1", "a") + SYNC)
    assert session.to(server, parse("SELECT 1", "b") + SYNC) == SYNC
    assert session.inflight.due() == b"1\0\0\0\4"
    assert len(session.inflight) == 1


def test_the_unnamed_statement_is_parsed_anew_where_another_took_its_place(
    session: Session,
) -> None:
    server, other = PreparedOnServer(10), PreparedOnServer(10)
    use = bind() + execute() + SYNC
    # A batch without edits is not rewritten, so the relay notes the unnamed statement itself.
    assert session.to(server, parse("SELECT 1") + SYNC) == parse("SELECT 1") + SYNC
    assert session.to(server, use) == use
    assert session.to(other, use) == parse("SELECT 1") + use
    assert session.to(other, use) == use


def test_the_least_recently_used_is_closed_first(session: Session) -> None:
    server = PreparedOnServer(1)
    session.to(server, parse("SELECT 1", "a") + SYNC)
    assert session.to(server, parse("SELECT 2", "b") + SYNC) == (
        close("S", NAME) + parse("SELECT 2", "pgproxy_2") + SYNC
    )
    assert len(session.inflight) == 3


def test_behind_what_is_not_answered_yet_a_closed_one_is_closed_again(session: Session) -> None:
    server = PreparedOnServer(1)
    session.to(server, parse("SELECT 1", "a") + SYNC)
    session.to(server, parse("SELECT 2", "b") + SYNC)
    use = bind(statement="a") + SYNC
    # The Close of the batch before may turn out to have been ignored, after an error.
    assert session.to(server, use, pipelined=True) == (
        close("S", "pgproxy_2")
        + close("S", NAME)
        + parse("SELECT 1", NAME)
        + bind(statement=NAME)
        + SYNC
    )


def test_behind_what_is_not_answered_yet_what_we_have_made_is_made_again(
    session: Session,
) -> None:
    one, other = PreparedOnServer(10), PreparedOnServer(10)
    use = bind(statement="a") + execute() + SYNC
    ours = bind(statement=NAME) + execute() + SYNC
    made = parse("SELECT 1", NAME) + ours
    session.to(one, parse("SELECT 1", "a") + use)
    # On the other server our Parse stands behind something that may fail.
    failing = parse("SELECT 1/0") + bind() + execute()
    assert session.to(other, failing + use) == failing + made
    first = session.inflight
    again = close("S", NAME) + made
    assert session.to(other, use, pipelined=True) == again
    # Within a batch once is enough: what skips the Parse skips its uses too.
    twice = bind(statement="a") + use
    assert session.to(other, twice, pipelined=True) == (
        close("S", NAME) + parse("SELECT 1", NAME) + bind(statement=NAME) + ours
    )
    # The first was ignored indeed. The server forgets nothing of what was sent later.
    for kind in b"12E":
        first.reply(kind)
    for owed in first.take_void():
        if owed.statement is not None:
            other.forget(owed.statement)
    last = session.inflight
    for kind in b"3122CZ":
        last.reply(kind)
    assert session.to(other, use, pipelined=True) == ours


def test_behind_what_is_not_answered_yet_a_parse_of_what_is_being_made_is_sent(
    session: Session,
) -> None:
    server = PreparedOnServer(10)
    session.to(server, parse("SELECT 1", "a") + SYNC)
    use = bind(statement="a") + SYNC
    # Where the client's own Parse fails, its Bind is to fail.
    assert session.to(server, use, pipelined=True) == bind(statement=NAME) + SYNC
    assert session.to(server, parse("SELECT 1", "b") + SYNC, pipelined=True) == (
        close("S", NAME) + parse("SELECT 1", NAME) + SYNC
    )


def test_behind_what_is_not_answered_yet_our_unnamed_statement_is_made_again(
    session: Session,
) -> None:
    one, other = PreparedOnServer(10), PreparedOnServer(10)
    use = bind() + execute() + SYNC
    session.to(one, parse("SELECT 1") + SYNC)
    assert session.to(other, use) == parse("SELECT 1") + use
    assert session.to(other, use, pipelined=True) == parse("SELECT 1") + use
    assert session.to(other, use) == use


def test_once_all_is_answered_nothing_is_closed_twice(session: Session) -> None:
    server = PreparedOnServer(1)
    session.to(server, parse("SELECT 1", "a") + SYNC)
    session.to(server, parse("SELECT 2", "b") + SYNC)
    assert session.to(server, bind(statement="a") + SYNC) == (
        close("S", "pgproxy_2") + parse("SELECT 1", NAME) + bind(statement=NAME) + SYNC
    )
