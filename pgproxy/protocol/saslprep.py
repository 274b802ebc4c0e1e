"""SASLprep of a password (RFC 4013), with PostgreSQL's way out where it does not apply. PURE.

Both sides of a SCRAM exchange must arrive at the same bytes, so this follows pg_saslprep to the
letter: ASCII stays as it is, and what is not UTF-8 or not allowed is used raw instead of refused.
"""

import stringprep
import unicodedata


def saslprep(password: bytes) -> bytes:
    """The bytes that PostgreSQL and libpq derive SCRAM keys from, for this password."""
    if password.isascii():
        return password
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        return password
    mapped = "".join([_map(character) for character in text])
    if not mapped or _is_prohibited(mapped) or _is_mixed_direction(mapped):
        return password
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")


def _map(character: str) -> str:
    # RFC 4013 2.1. U+200B is in both tables; PostgreSQL asks for spaces first.
    if stringprep.in_table_c12(character) or character == "\u200b":
        return " "
    if stringprep.in_table_b1(character):
        return ""
    return character


def _is_prohibited(text: str) -> bool:
    # RFC 4013 2.3 and 2.5. PostgreSQL looks at the mapped text before its normalization, where the
    # RFC means the result: we must agree with PostgreSQL.
    return any(
        stringprep.in_table_a1(character)
        or stringprep.in_table_c12(character)
        or stringprep.in_table_c21_c22(character)
        or stringprep.in_table_c3(character)
        or stringprep.in_table_c4(character)
        or stringprep.in_table_c5(character)
        or stringprep.in_table_c6(character)
        or stringprep.in_table_c7(character)
        or stringprep.in_table_c8(character)
        or stringprep.in_table_c9(character)
        for character in text
    )


def _is_mixed_direction(text: str) -> bool:
    """Whether the text breaks RFC 3454 section 6: right-to-left begins, ends and fills it."""
    if not any(stringprep.in_table_d1(character) for character in text):
        return False
    if any(stringprep.in_table_d2(character) for character in text):
        return True
    return not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
