"""PURE. Positions in the write-ahead log, as PostgreSQL writes them."""


def parse_lsn(text: str) -> int:
    """`16/B374D848` as the number of the byte; ValueError if it is no LSN."""
    high, slash, low = text.partition("/")
    if not slash or not 1 <= len(high) <= 8 or not 1 <= len(low) <= 8:
        raise ValueError(f"not an LSN: {text!r}")
    if not all(digit in "0123456789abcdefABCDEF" for digit in high + low):
        raise ValueError(f"not an LSN: {text!r}")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """As PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
