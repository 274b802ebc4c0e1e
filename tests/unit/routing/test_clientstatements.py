"""The statements of one client: their names, and how its texts are decided."""

import pytest

from pgproxy.errors import PgError
from pgproxy.frames import write
from pgproxy.protocol.named import DEALLOCATES, DEALLOCATES_ALL, PREPARES, NameUse
from pgproxy.routing.batchreader import BatchReader
from pgproxy.routing.clientstatements import is_plain
from tests.support.batches import ROUTER, read
from tests.support.wire import SYNC, bind, close, describe, parse, query


def test_a_name_that_is_taken_is_an_error_for_both(reader: BatchReader) -> None:
    read(reader, parse("SELECT 1", "a") + SYNC)
    again = read(reader, parse("SELECT 2", "a") + SYNC)
    assert again == parse("SELECT 2", "pgproxy_1") + SYNC
    error = write.error_response(PgError("42P05", '"pgproxy_1" already exists'))
    theirs = write.error_response(PgError("42P05", '"a" already exists'))
    assert reader.statements.in_clients_words(error, []) == theirs
    assert reader.statements.named[b"a"].sql == b"SELECT 1"


def test_what_is_undone_is_as_before(reader: BatchReader) -> None:
    read(reader, parse("SELECT 1", "a") + parse("SELECT 0") + SYNC)
    before, unnamed = dict(reader.statements.named), reader.statements.unnamed
    read(
        reader,
        close("S", "a") + parse("SELECT 2", "a") + parse("SELECT 3", "b") + parse("") + SYNC,
    )
    reader.statements.undo(reader.batch.owed)
    assert reader.statements.named == before
    assert reader.statements.unnamed is unnamed
    assert len(reader.statements.registry) == 1


def test_an_encoding_that_cannot_be_read_has_one_decision(reader: BatchReader) -> None:
    decision = ROUTER.decide(b"INSERT INTO t VALUES (1)")
    reader.statements.fixed = decision
    read(reader, query("SELECT 1"))
    assert reader.batch.decision is decision
    read(reader, parse("SELECT 1", "a") + bind(statement="a") + SYNC)
    assert reader.batch.decision is decision


def test_a_server_has_changed_the_names(reader: BatchReader) -> None:
    statements = reader.statements
    a = statements.name_done(NameUse(PREPARES, b"a", sql=b"PREPARE a AS SELECT 1"))
    assert a is not None
    assert a.by_sql
    assert statements.name_done(NameUse(DEALLOCATES, b"a")) is None
    assert statements.named == {}
    read(reader, parse("SELECT 1", "b") + describe("S", "b") + SYNC)
    assert statements.name_done(NameUse(DEALLOCATES_ALL)) is None
    assert statements.named == {}
    assert not statements.described
    assert len(statements.registry) == 0


@pytest.mark.parametrize(
    ("sql", "plain"),
    [
        ("SELECT 1", True),
        ("/* a */ with a as (select 1) table a", True),
        ("SHOW work_mem", False),
        ("SHOW pgproxy.route", False),
        ("SELECT pg_advisory_lock(1)", False),
        ("SELECT", True),
        ("not sql", False),
    ],
)
def test_texts_that_postgresql_plans(sql: str, plain: bool) -> None:
    assert is_plain(sql.encode(), ROUTER.decide(sql.encode())) is plain
