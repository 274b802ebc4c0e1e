"""Bytes of a statement -> the key its routing decision is cached under. PURE, HOT.

Two statements with one key have one decision, whatever their literals are. Plain numbers and plain
'…' strings are replaced by one byte each that no valid SQL holds outside quotes, so a key can never
be taken for a statement; everything else stays as the client wrote it: identifiers, quoted or not,
white space, case, parameters. A text of which this cannot be said without parsing it (comments
carry hints; prefixes, and a backslash before a quote, change where a string ends; in utility
statements the literals decide) has no lexical key: `lexical_key` answers None, and its exact bytes
are the key.

HOT: every statement that was not seen before byte for byte passes here. One pass over the input,
slices of it, one join. The lexical rules are those of PostgreSQL's scan.l; see section 4.1 of its
manual.
"""

from typing import Final

from mypy_extensions import i64

# What stands for a literal in a key.
NUMBER: Final = b"\x01"
STRING: Final = b"\x02"

# The lexical classes of bytes. Up to _DOLLAR they continue an identifier.
_LETTER: Final = 0  # A-Z a-z _ and every byte of a multi-byte character
_DIGIT: Final = 1
_DOLLAR: Final = 2
_PLAIN: Final = 3  # white space, operators, punctuation
_DOT: Final = 4
_QUOTE: Final = 5
_DOUBLE_QUOTE: Final = 6
_DASH: Final = 7
_SLASH: Final = 8
_SEMICOLON: Final = 9
_REFUSED: Final = 10  # backslash, and control characters, which no SQL holds outside quotes

_BACKSLASH_BYTE: Final = 92
_QUOTE_BYTE: Final = 39
_DOUBLE_QUOTE_BYTE: Final = 34
_AMPERSAND_BYTE: Final = 38
_STAR_BYTE: Final = 42
_OPEN_PARENTHESIS_BYTE: Final = 40


def _class_of(byte: int) -> int:
    char = chr(byte)
    if byte >= 0x80 or char.isalpha() or char == "_":
        return _LETTER
    if char.isdigit():
        return _DIGIT
    if char in " \t\n\r\f\v":
        return _PLAIN
    if byte < 0x20 or byte == 0x7F or byte == _BACKSLASH_BYTE:
        return _REFUSED
    special = {
        "$": _DOLLAR,
        ".": _DOT,
        "'": _QUOTE,
        '"': _DOUBLE_QUOTE,
        "-": _DASH,
        "/": _SLASH,
        ";": _SEMICOLON,
    }
    return special.get(char, _PLAIN)


_CLASSES: Final = bytes([_class_of(byte) for byte in range(256)])

# The first words whose statements have a lexical key: their lower-case letters as one big-endian
# number. No other statement begins with them.
_SELECT: Final = 0x73656C656374
_WITH: Final = 0x77697468
_VALUES: Final = 0x76616C756573
_TABLE: Final = 0x7461626C65
_INSERT: Final = 0x696E73657274
_UPDATE: Final = 0x757064617465
_DELETE: Final = 0x64656C657465
_MERGE: Final = 0x6D65726765


def lexical_key(sql: bytes) -> bytes | None:
    """The text with its literals replaced (the text itself if it has none), or None: no such key."""
    classes = _CLASSES
    end: i64 = len(sql)
    at: i64 = 0
    while at < end and (sql[at] == 32 or 9 <= sql[at] <= 13):
        at += 1
    if at < end and sql[at] == _OPEN_PARENTHESIS_BYTE:
        pass  # only a SELECT begins so
    else:
        word: i64 = 0
        first: i64 = at
        while at < end and at - first < 7 and classes[sql[at]] == _LETTER:
            word = (word << 8) | (sql[at] | 0x20)
            at += 1
        if at < end and classes[sql[at]] <= _DOLLAR:
            return None
        if not (
            word == _SELECT
            or word == _INSERT
            or word == _UPDATE
            or word == _WITH
            or word == _DELETE
            or word == _VALUES
            or word == _TABLE
            or word == _MERGE
        ):
            return None

    pieces: list[bytes] = []
    copied: i64 = 0
    begun: i64
    while at < end:
        kind: i64 = classes[sql[at]]
        if kind == _PLAIN or kind == _DOT:
            at += 1
        elif kind == _LETTER:
            at += 1
            while at < end and classes[sql[at]] <= _DOLLAR:
                at += 1
            if at < end and sql[at] == _QUOTE_BYTE:
                return None  # E'…' B'…' X'…' N'…', and date'…' with them
        elif kind == _DIGIT:
            begun = at
            at += 1
            while at < end and classes[sql[at]] == _DIGIT:
                at += 1
            if at < end and classes[sql[at]] == _DOT:
                if classes[sql[begun - 1]] == _DOT:
                    return None
                at += 1
                while at < end and classes[sql[at]] == _DIGIT:
                    at += 1
            if at < end and (classes[sql[at]] <= _DOLLAR or classes[sql[at]] == _DOT):
                return None  # 1e5, 0x1F, 1_000, and what is no number at all
            pieces.append(sql[copied:begun])
            pieces.append(NUMBER)
            copied = at
        elif kind == _QUOTE:
            if sql[at - 1] == _AMPERSAND_BYTE:
                return None  # U&'…'
            begun = at
            at += 1
            while True:
                while at < end and sql[at] != _QUOTE_BYTE:
                    at += 1
                if at >= end or sql[at - 1] == _BACKSLASH_BYTE:
                    return None  # \' does not end it if standard_conforming_strings is off
                at += 1
                if at < end and sql[at] == _QUOTE_BYTE:
                    at += 1  # two quotes are one quote in the string
                    continue
                break
            pieces.append(sql[copied:begun])
            pieces.append(STRING)
            copied = at
        elif kind == _DOUBLE_QUOTE:
            if sql[at - 1] == _AMPERSAND_BYTE:
                return None  # U&"…"
            at += 1
            while at < end and sql[at] != _DOUBLE_QUOTE_BYTE:
                at += 1
            at += 1  # a doubled quote begins the identifier's next part: nothing differs for us
            if at > end:
                return None
        elif kind == _DASH:
            at += 1
            if at < end and classes[sql[at]] == _DASH:
                return None  # a comment
        elif kind == _SLASH:
            at += 1
            if at < end and sql[at] == _STAR_BYTE:
                return None  # a comment
        elif kind == _DOLLAR:
            at += 1
            if at >= end or classes[sql[at]] != _DIGIT:
                return None  # a dollar-quoted string
            while at < end and classes[sql[at]] == _DIGIT:
                at += 1
            if at < end and classes[sql[at]] <= _DOLLAR:
                return None
        elif kind == _SEMICOLON:
            at += 1
            while at < end and (sql[at] == 32 or 9 <= sql[at] <= 13):
                at += 1
            if at < end:
                return None  # several statements, of which the others may be of any kind
        else:
            return None
    if copied == 0:
        return sql
    if copied < end:
        pieces.append(sql[copied:])
    return b"".join(pieces)
