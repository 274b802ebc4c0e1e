"""Where words, strings and comments of an SQL text begin and end, without parsing it. PURE, HOT.

What the lexical key, the hints and the long statements share: the classes of bytes, and answers to
a few questions that need no grammar. The rules are those of PostgreSQL's scan.l (section 4.1 of its
manual); a text whose strings end at a place that depends on a setting is refused, not guessed at.
"""

from typing import Final

from mypy_extensions import i64

# The lexical classes of bytes. Up to DOLLAR they continue an identifier.
LETTER: Final = 0  # A-Z a-z _ and every byte of a multi-byte character
DIGIT: Final = 1
DOLLAR: Final = 2
PLAIN: Final = 3  # white space, operators, punctuation
DOT: Final = 4
QUOTE: Final = 5
DOUBLE_QUOTE: Final = 6
DASH: Final = 7
SLASH: Final = 8
SEMICOLON: Final = 9
REFUSED: Final = 10  # backslash, and control characters, which no SQL holds outside quotes

NEWLINE_BYTE: Final = 10
DOUBLE_QUOTE_BYTE: Final = 34
DOLLAR_BYTE: Final = 36
AMPERSAND_BYTE: Final = 38
QUOTE_BYTE: Final = 39
OPEN_PARENTHESIS_BYTE: Final = 40
STAR_BYTE: Final = 42
DASH_BYTE: Final = 45
SLASH_BYTE: Final = 47
SEMICOLON_BYTE: Final = 59
BACKSLASH_BYTE: Final = 92


def _class_of(byte: int) -> int:
    char = chr(byte)
    if byte >= 0x80 or char.isalpha() or char == "_":
        return LETTER
    if char.isdigit():
        return DIGIT
    if char in " \t\n\r\f\v":
        return PLAIN
    if byte < 32 or byte in (127, BACKSLASH_BYTE):
        return REFUSED
    special = {
        "$": DOLLAR,
        ".": DOT,
        "'": QUOTE,
        '"': DOUBLE_QUOTE,
        "-": DASH,
        "/": SLASH,
        ";": SEMICOLON,
    }
    return special.get(char, PLAIN)


CLASSES: Final = bytes([_class_of(byte) for byte in range(256)])


def comment_end(sql: bytes, at: i64) -> i64:
    """The index after the comment that begins at `at`; `at` if none does; -1 if it has no end."""
    end: i64 = len(sql)
    if at + 1 >= end:
        return at
    if sql[at] == DASH_BYTE and sql[at + 1] == DASH_BYTE:
        at += 2
        while at < end and sql[at] != NEWLINE_BYTE and sql[at] != 13:
            at += 1
        return at
    if sql[at] != SLASH_BYTE or sql[at + 1] != STAR_BYTE:
        return at
    depth: i64 = 1
    at += 2
    while depth > 0:
        if at + 1 >= end:
            return -1
        if sql[at] == STAR_BYTE and sql[at + 1] == SLASH_BYTE:
            depth -= 1
            at += 2
        elif sql[at] == SLASH_BYTE and sql[at + 1] == STAR_BYTE:
            depth += 1
            at += 2
        else:
            at += 1
    return at


def _is_space(byte: i64) -> bool:
    return byte == 32 or 9 <= byte <= 13


def statement_start(sql: bytes) -> i64:
    """The index of the first byte that is no white space, comment or empty statement."""
    end: i64 = len(sql)
    at: i64 = 0
    while at < end:
        if _is_space(sql[at]) or sql[at] == SEMICOLON_BYTE:
            at += 1
            continue
        after = comment_end(sql, at)
        if after == at:
            return at
        if after < 0:
            return end
        at = after
    return at


def is_blank(sql: bytes, at: i64) -> bool:
    """Whether there is only white space, and comments that end, from `at` on."""
    end: i64 = len(sql)
    while at < end:
        if _is_space(sql[at]):
            at += 1
            continue
        after = comment_end(sql, at)
        if after <= at:
            return False
        at = after
    return True


def first_word(sql: bytes) -> str:
    """The first word of the first statement in lower case; "(" if a parenthesis stands there."""
    begun = statement_start(sql)
    end: i64 = len(sql)
    if begun < end and sql[begun] == OPEN_PARENTHESIS_BYTE:
        return "("
    at = begun
    while at < end and CLASSES[sql[at]] == LETTER:
        at += 1
    return sql[begun:at].decode("ascii", "replace").lower()


def is_one_statement(sql: bytes) -> bool:
    """Whether the text certainly holds one statement only, under whatever string settings."""
    classes = CLASSES
    end: i64 = len(sql)
    at: i64 = statement_start(sql)
    after: i64
    ended = False
    escapes: bool
    while at < end:
        kind: i64 = classes[sql[at]]
        if kind in (DASH, SLASH):
            after = comment_end(sql, at)
            if after < 0:
                return False
            if after > at:
                at = after
                continue
        if kind == SEMICOLON:
            ended = True
            at += 1
            continue
        if _is_space(sql[at]):
            at += 1
            continue
        if ended:
            return False
        if kind == LETTER:
            begun = at
            while at < end and classes[sql[at]] <= DOLLAR:
                at += 1
            if at >= end or sql[at] != QUOTE_BYTE:
                continue
            escapes = at - begun == 1 and (sql[begun] | 0x20) == 101  # E'…'
            at = _string_end(sql, at, escapes)
        elif kind == QUOTE:
            at = _string_end(sql, at, False)
        elif kind == DOUBLE_QUOTE:
            at += 1
            while at < end and sql[at] != DOUBLE_QUOTE_BYTE:
                at += 1
            at = at + 1 if at < end else -1
        elif kind == DOLLAR:
            at = _dollar_end(sql, at)
        else:
            at += 1
        if at < 0:
            return False
    return True


def _string_end(sql: bytes, at: i64, escapes: bool) -> i64:
    """The index after the string whose quote is at `at`, or -1: it has no (certain) end."""
    end: i64 = len(sql)
    at += 1
    while at < end:
        if sql[at] == BACKSLASH_BYTE:
            if escapes:
                at += 2
                continue
            if at + 1 < end and sql[at + 1] == QUOTE_BYTE:
                return -1
            at += 1
        elif sql[at] != QUOTE_BYTE:
            at += 1
        elif at + 1 < end and sql[at + 1] == QUOTE_BYTE:
            at += 2
        else:
            return at + 1
    return -1


def _dollar_end(sql: bytes, at: i64) -> i64:
    """The index after the parameter or dollar-quoted string that begins at `at`, or -1."""
    end: i64 = len(sql)
    begun = at
    at += 1
    if at < end and CLASSES[sql[at]] == DIGIT:
        while at < end and CLASSES[sql[at]] == DIGIT:
            at += 1
        return at
    while at < end and CLASSES[sql[at]] < DOLLAR:
        at += 1
    if at >= end or sql[at] != DOLLAR_BYTE:
        return at
    delimiter = sql[begun : at + 1]
    closing: i64 = sql.find(delimiter, at + 1)
    return closing + len(delimiter) if closing >= 0 else -1
