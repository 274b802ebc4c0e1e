"""What the messages of a batch are, beside their texts."""

import pytest

from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.routing.batch import Batch
from pgproxy.routing.batchreader import BATCH, BatchReader
from pgproxy.routing.router import Router
from pgproxy.routing.shape import is_alone, is_certain, leaves_nothing
from tests.support.wire import FLUSH, SYNC, bind, close, describe, execute, parse, query

READ = parse("SELECT 1") + bind() + execute()


def batch_of(*messages: bytes) -> Batch:
    """The last of the batches, after those before it."""
    reader = BatchReader(Router(), StatementRegistry())
    reader.feed(b"".join(messages))
    while True:
        assert reader.read() == BATCH
        if reader.batch.end == reader.input.size:
            return reader.batch
        reader.batch.done()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (query("BEGIN"), True),
        (parse("BEGIN") + bind() + execute() + SYNC, True),
        (parse("BEGIN") + describe("S") + bind() + describe("P") + execute() + SYNC, True),
        (parse("BEGIN", "a") + bind(statement="a") + execute() + close("S", "a") + SYNC, True),
        (parse("BEGIN") + bind() + execute() + execute() + SYNC, False),
        (parse("BEGIN") + bind() + execute() + describe("P") + SYNC, False),
        (parse("BEGIN") + bind() + execute() + READ + SYNC, False),
        (READ + parse("BEGIN") + bind() + execute() + SYNC, False),
        (parse("BEGIN") + bind() + SYNC, False),
        (parse("BEGIN") + bind() + execute() + FLUSH, False),
        (bind(statement="missing") + execute() + SYNC, False),
        (SYNC, False),
    ],
)
def test_alone(message: bytes, expected: bool) -> None:
    assert is_alone(batch_of(message)) is expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((query("BEGIN"),), True),
        ((parse("BEGIN") + bind() + execute() + SYNC,), True),
        ((parse("BEGIN") + bind(b"1") + execute() + SYNC,), False),
        ((parse("BEGIN") + bind(portal="p") + execute("p") + SYNC,), True),
        ((parse("BEGIN", "a") + SYNC, bind(statement="a") + execute() + SYNC), True),
        ((parse("X", "a") + SYNC, parse("BEGIN", "a") + bind() + execute() + SYNC), False),
    ],
)
def test_certain(messages: tuple[bytes, ...], expected: bool) -> None:
    assert is_certain(batch_of(*messages)) is expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((query("SELECT 1"),), True),
        ((query("SELECT 'now'::timestamptz"),), False),
        ((query("SELECT 'know', now_and_then"),), True),
        ((READ + SYNC,), True),
        ((READ + READ + SYNC,), True),
        ((parse("SELECT 1") + SYNC,), True),
        ((SYNC,), True),
        ((READ + FLUSH,), False),
        ((parse("SELECT 1") + bind() + execute(limit=1) + SYNC,), False),
        ((parse("SELECT 1") + bind() + SYNC,), False),
        ((READ + bind() + SYNC,), False),
        ((parse("SELECT 1") + bind(portal="p") + execute("p") + SYNC,), False),
        ((parse("SELECT 1") + bind(portal="p") + execute("p") + close("P", "p") + SYNC,), True),
        ((READ + query("SELECT 1"),), False),
        ((parse("SELECT 'today'::date") + bind() + execute() + SYNC,), False),
        ((parse("SELECT $1::date") + bind(b"Tomorrow") + execute() + SYNC,), False),
        ((parse("SELECT $1::text") + bind(b"nowhere") + execute() + SYNC,), True),
        ((parse("SELECT 'today'", "a") + SYNC, bind(statement="a") + execute() + SYNC), False),
        ((parse("SELECT 'today'") + SYNC, bind() + execute() + SYNC), False),
    ],
)
def test_what_leaves_nothing(messages: tuple[bytes, ...], expected: bool) -> None:
    assert leaves_nothing(batch_of(*messages)) is expected
