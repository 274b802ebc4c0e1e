"""Columns of the proxy's own, as a driver reads them."""

import struct
from decimal import Decimal

import pytest

from pgproxy.frames.table import AS_BINARY, INT4, INT8, NUMERIC, TEXT, Columns

COLUMNS = Columns([("name", TEXT), ("small", INT4), ("large", INT8), ("sum", NUMERIC)])


def fields(frame: bytes) -> list[bytes | None]:
    assert frame[:1] == b"D"
    assert int.from_bytes(frame[1:5], "big") == len(frame) - 1
    found: list[bytes | None] = []
    at = 7
    for _ in range(int.from_bytes(frame[5:7], "big")):
        size = int.from_bytes(frame[at : at + 4], "big", signed=True)
        at += 4
        found.append(None if size < 0 else frame[at : at + size])
        at += max(size, 0)
    assert at == len(frame)
    return found


def test_a_row_as_text() -> None:
    row = COLUMNS.row(["ä", -1, 1 << 40, 12345678])
    assert fields(row) == ["ä".encode(), b"-1", b"1099511627776", b"12345678"]


def test_a_row_in_binary() -> None:
    name, small, large, _ = fields(COLUMNS.row(["ä", -1, 1 << 40, 1], [AS_BINARY]))
    assert (name, small, large) == ("ä".encode(), b"\xff" * 4, (1 << 40).to_bytes(8, "big"))


def test_formats_column_by_column() -> None:
    row = COLUMNS.row(["a", 1, 2, 3], [0, 1, 0, 0])
    assert fields(row) == [b"a", b"\0\0\0\x01", b"2", b"3"]


def test_nothing_is_null() -> None:
    assert fields(COLUMNS.row([None, None, None, None], [AS_BINARY])) == [None] * 4


def test_bytes_that_were_no_text_do_no_harm() -> None:
    name = b"\xff".decode("utf-8", "surrogateescape")
    assert fields(COLUMNS.row([name, 1, 2, 3]))[0] == b"?"


@pytest.mark.parametrize(
    "number", [0, 1, 9999, 10000, 10001, 100000000, 123456789012345678, -5, -20000]
)
def test_a_number_of_any_size_in_binary(number: int) -> None:
    data = fields(COLUMNS.row(["", 0, 0, number], [AS_BINARY]))[3]
    assert data is not None
    count, weight, sign, scale = struct.unpack("!HhHH", data[:8])
    digits = struct.unpack(f"!{count}H", data[8:])
    value = sum(Decimal(digit) * 10000 ** (weight - place) for place, digit in enumerate(digits))
    assert (-value if sign else value) == number
    assert scale == 0
    assert all(digit < 10000 for digit in digits)


def test_a_description_tells_types_sizes_and_formats() -> None:
    frame = COLUMNS.description([1, 0, 1, 0])
    assert frame[:1] == b"T"
    at = 7
    found = []
    for _ in range(int.from_bytes(frame[5:7], "big")):
        end = frame.index(b"\0", at)
        table, attribute, oid, size, modifier, form = struct.unpack(
            "!ihihih", frame[end + 1 : end + 19]
        )
        assert (table, attribute, modifier) == (0, 0, -1)
        found.append((frame[at:end].decode(), oid, size, form))
        at = end + 19
    assert at == len(frame)
    assert found == [
        ("name", TEXT, -1, 1),
        ("small", INT4, 4, 0),
        ("large", INT8, 8, 1),
        ("sum", NUMERIC, -1, 0),
    ]
