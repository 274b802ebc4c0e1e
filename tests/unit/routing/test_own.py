"""What the proxy answers itself, or asks otherwise."""

import pytest

from pgproxy.protocol.prepared import Statement
from pgproxy.routing.batchreader import BatchReader
from pgproxy.routing.decision import DEALLOCATE, PLAIN, PRIMARY, SET_ROUTE, SHOW_ROUTE, SHOW_TABLE
from pgproxy.routing.own import LSN_QUESTION, own_kind
from tests.support.batches import ROUTER, read
from tests.support.wire import SYNC, bind, describe, execute, parse, query


@pytest.mark.parametrize("rest", [b"", query("SELECT 1")])
def test_the_primary_is_asked_for_the_position_to_be_seen(reader: BatchReader, rest: bytes) -> None:
    sent = query(LSN_QUESTION.decode())
    assert read(reader, query("SHOW pgproxy.lsn") + rest) == sent
    assert (reader.batch.target, reader.batch.own, reader.batch.may_write) == (
        PRIMARY,
        PLAIN,
        False,
    )
    reader.batch.done()
    if rest:
        assert read(reader, b"") == rest


def test_so_it_is_in_the_extended_protocol(reader: BatchReader) -> None:
    asked = parse(LSN_QUESTION.decode()) + bind() + describe("P") + execute() + SYNC
    shown = parse("SHOW pgproxy.lsn") + bind() + describe("P") + execute() + SYNC
    assert read(reader, shown + query("SELECT 1")) == asked
    assert (reader.batch.target, reader.batch.own, reader.batch.may_write) == (
        PRIMARY,
        PLAIN,
        False,
    )
    reader.batch.done()
    assert read(reader, b"") == query("SELECT 1")
    reader.batch.done()
    read(reader, parse("SHOW pgproxy.lsn", "s") + SYNC)
    assert reader.statements.named[b"s"].sql == LSN_QUESTION


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SHOW pgproxy.route", SHOW_ROUTE),
        ("SET pgproxy.route = 'primary'", SET_ROUTE),
        ("SHOW pool_nodes", SHOW_TABLE),
        ("SHOW pgproxy.lsn", PLAIN),
        ("SHOW work_mem", PLAIN),
        ("SELECT 1", PLAIN),
        ("DEALLOCATE a", DEALLOCATE),
        ("DEALLOCATE b", PLAIN),
        ("DEALLOCATE c", PLAIN),
        ("DEALLOCATE ALL", PLAIN),
    ],
)
def test_kinds(sql: str, kind: int) -> None:
    """`a` was prepared by the protocol, `b` by SQL."""
    prepared = {
        b"a": Statement(1, b"SELECT 1", b"\0\0", None),
        b"b": Statement(2, b"PREPARE b AS SELECT 1", b"", None),
    }
    decision = ROUTER.decide(sql.encode())
    assert own_kind(decision, prepared, shares_listening=True) == kind


def test_all_is_ours_to_deallocate_if_none_is_of_sql() -> None:
    prepared = {b"a": Statement(1, b"SELECT 1", b"\0\0", None)}
    decision = ROUTER.decide(b"DEALLOCATE ALL")
    assert own_kind(decision, prepared, shares_listening=False) == DEALLOCATE


@pytest.mark.parametrize("sql", ["LISTEN a", "UNLISTEN a", "SELECT pg_listening_channels()"])
def test_channels_are_ours_where_listening_is_shared(sql: str) -> None:
    decision = ROUTER.decide(sql.encode())
    assert own_kind(decision, {}, shares_listening=True) == decision.kind != PLAIN
    assert own_kind(decision, {}, shares_listening=False) == PLAIN
