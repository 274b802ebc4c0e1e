"""Results of the proxy's own as frames: typed columns, in text or in binary format. PURE.

Drivers ask for binary where they know how to read it (asyncpg always does), so every type that is
named here can be written both ways.
"""

from collections.abc import Sequence
from typing import Final, final

from pgproxy.frames import codes, write

# Types by their oid (pg_type.dat), and the sizes RowDescription tells.
INT8: Final = 20
INT4: Final = 23
TEXT: Final = 25
NUMERIC: Final = 1700
_SIZES: Final = {INT8: 8, INT4: 4}

# Formats of a column ("Message Formats", Bind).
AS_TEXT: Final = 0
AS_BINARY: Final = 1

Value = str | int | None


@final
class Columns:
    """Names with their types."""

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self.names: Final = [name for name, _ in columns]
        self.types: Final = [type for _, type in columns]

    def formats(self, asked: Sequence[int]) -> list[int]:
        """One for each column of what Bind asks for: none, one for all, or one for each."""
        if len(asked) == len(self.names):
            return list(asked)
        return [asked[0] if len(asked) == 1 else AS_TEXT] * len(self.names)

    def description(self, asked: Sequence[int] = ()) -> bytes:
        """RowDescription."""
        formats = self.formats(asked)
        parts = [write.int16(len(self.names))]
        for index, name in enumerate(self.names):
            oid = self.types[index]
            parts.append(name.encode() + b"\x00" + bytes(6) + write.int32(oid))
            parts.append(write.int16(_SIZES.get(oid, -1) & 0xFFFF))
            parts.append(write.int32(-1) + write.int16(formats[index]))
        return write.frame(codes.B_ROW_DESCRIPTION, b"".join(parts))

    def row(self, values: Sequence[Value], asked: Sequence[int] = ()) -> bytes:
        """DataRow."""
        assert len(values) == len(self.names), (self.names, values)
        formats = self.formats(asked)
        encoded: list[bytes | None] = []
        for index, value in enumerate(values):
            if value is None:
                encoded.append(None)
            elif formats[index] == AS_TEXT or isinstance(value, str):
                # A name may hold what came in as bytes that are no UTF-8.
                encoded.append(str(value).encode("utf-8", "replace"))
            else:
                encoded.append(_binary(value, self.types[index]))
        return write.data_row(encoded)


def _binary(value: int, oid: int) -> bytes:
    if oid == NUMERIC:
        return _numeric(value)
    return value.to_bytes(_SIZES[oid], "big", signed=True)


def _numeric(value: int) -> bytes:
    """As numeric_send: digits of base 10000 and the power of the first one."""
    digits: list[int] = []
    rest = abs(value)
    while rest:
        digits.append(rest % 10000)
        rest //= 10000
    weight = max(len(digits) - 1, 0)
    while digits and digits[0] == 0:
        del digits[0]
    digits.reverse()
    sign = 0x4000 if value < 0 else 0
    head = [len(digits), weight, sign, 0]
    return b"".join([write.int16(number) for number in head + digits])
