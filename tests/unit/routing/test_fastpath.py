"""Function calls by OID."""

from pgproxy.routing.batchreader import BatchReader
from pgproxy.routing.decision import PRIMARY
from pgproxy.routing.pins import Pin
from tests.support.batches import read
from tests.support.wire import function_call


def test_a_function_call_may_write(reader: BatchReader) -> None:
    read(reader, function_call(1))
    assert reader.batch.pin is Pin.UNPARSED
    read(reader, function_call(952))
    assert reader.batch.pin is None
    assert (reader.batch.target, reader.batch.known_write) == (PRIMARY, True)
