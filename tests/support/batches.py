"""What a reader of batches makes of a client's bytes, for a server that has every statement."""

from typing import Final

import pytest

from pgproxy.errors import PgError
from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.routing.batch import CUT
from pgproxy.routing.batchreader import BATCH, BatchReader
from pgproxy.routing.router import Router

ROUTER: Final = Router()


def new_reader() -> BatchReader:
    return BatchReader(ROUTER, StatementRegistry())


def read(reader: BatchReader, data: bytes) -> bytes:
    """Feeds one batch; returns what is sent for it."""
    reader.feed(data)
    assert reader.read() == BATCH
    return sent(reader)


def sent(reader: BatchReader) -> bytes:
    """What is sent for the batch that was read."""
    batch = reader.batch
    data, done, pieces = batch.input.data, int(batch.start), b""
    for edit in [] if batch.simple else batch.edits:
        pieces += data[done : int(edit.start)] + edit.frame
        done = int(edit.end)
    pieces += data[done : int(batch.end)]
    batch.continues = batch.ending == CUT
    batch.done()
    return pieces


def refusal(reader: BatchReader, data: bytes) -> PgError:
    """Why the bytes are no batch."""
    reader.feed(data)
    with pytest.raises(PgError) as caught:
        reader.read()
    return caught.value


def errors(reader: BatchReader) -> list[bytes]:
    """What the client gets in place of the server's errors."""
    return [owed.error for owed in reader.batch.owed if owed.error]
