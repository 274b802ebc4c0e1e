"""Positions in the write-ahead log, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.protocol.lsn import format_lsn, parse_lsn


@pytest.mark.parametrize(
    ("text", "number"),
    [("0/0", 0), ("16/B374D848", 0x16B374D848), ("FFFFFFFF/ffffffff", 2**64 - 1)],
)
def test_an_lsn_is_read(text: str, number: int) -> None:
    assert parse_lsn(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "/1", "1/", "1/2/3", "g/0", "-1/0", "0/123456789", "0/ 1"]
)
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        parse_lsn(text)


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_survives_being_written_and_read(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn
