"""Bytes of a statement -> the key its routing decision is cached under. PURE, HOT.

Two statements with one key have one decision, whatever their literals are. Plain numbers, plain
'…' strings and the comments after the first word (tracing tools put a number of their own there) are
replaced by one byte each that no valid SQL holds outside quotes, so a key can never be taken for a
statement; everything else stays as the client wrote it: identifiers, quoted or not, white space,
case, parameters. A text of which this cannot be said without parsing it (a comment may be a hint;
prefixes, and a backslash before a quote, change where a string ends; in utility statements the
literals decide) has no lexical key: `lexical_key` answers None, and its exact bytes are the key.

HOT: every statement that was not seen before byte for byte passes here. One pass over the input,
slices of it, one join. The lexical rules are those of PostgreSQL's scan.l; see section 4.1 of its
manual.
"""

from typing import Final

from mypy_extensions import i64

from pgproxy.routing.hints import TRAILING_HINT
from pgproxy.routing.lexer import (
    AMPERSAND_BYTE,
    BACKSLASH_BYTE,
    CLASSES,
    DASH,
    DIGIT,
    DOLLAR,
    DOT,
    DOUBLE_QUOTE,
    DOUBLE_QUOTE_BYTE,
    LETTER,
    OPEN_PARENTHESIS_BYTE,
    PLAIN,
    QUOTE,
    QUOTE_BYTE,
    SEMICOLON,
    SLASH,
    comment_end,
    is_blank,
)

# What stands for a literal or a comment in a key.
NUMBER: Final = b"\x01"
STRING: Final = b"\x02"
COMMENT: Final = b"\x03"
LINE_COMMENT: Final = b"\x04"  # strings on both sides of it are one string, as without it

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
    classes = CLASSES
    end: i64 = len(sql)
    at: i64 = 0
    while at < end and (sql[at] == 32 or 9 <= sql[at] <= 13):
        at += 1
    if at < end and sql[at] == OPEN_PARENTHESIS_BYTE:
        pass  # only a SELECT begins so
    else:
        word: i64 = 0
        first: i64 = at
        while at < end and at - first < 7 and classes[sql[at]] == LETTER:
            word = (word << 8) | (sql[at] | 0x20)
            at += 1
        if at < end and classes[sql[at]] <= DOLLAR:
            return None
        if word not in (_SELECT, _INSERT, _UPDATE, _WITH, _DELETE, _VALUES, _TABLE, _MERGE):
            return None

    pieces: list[bytes] = []
    copied: i64 = 0
    begun: i64
    after: i64
    while at < end:
        kind: i64 = classes[sql[at]]
        if kind in (PLAIN, DOT):
            at += 1
        elif kind == LETTER:
            at += 1
            while at < end and classes[sql[at]] <= DOLLAR:
                at += 1
            if at < end and sql[at] == QUOTE_BYTE:
                return None  # E'…' B'…' X'…' N'…', and date'…' with them
        elif kind == DIGIT:
            begun = at
            at += 1
            while at < end and classes[sql[at]] == DIGIT:
                at += 1
            if at < end and classes[sql[at]] == DOT:
                if classes[sql[begun - 1]] == DOT:
                    return None
                at += 1
                while at < end and classes[sql[at]] == DIGIT:
                    at += 1
            if at < end and (classes[sql[at]] <= DOLLAR or classes[sql[at]] == DOT):
                return None  # 1e5, 0x1F, 1_000, and what is no number at all
            pieces.append(sql[copied:begun])
            pieces.append(NUMBER)
            copied = at
        elif kind == QUOTE:
            if sql[at - 1] == AMPERSAND_BYTE:
                return None  # U&'…'
            begun = at
            at += 1
            while True:
                while at < end and sql[at] != QUOTE_BYTE:
                    at += 1
                if at >= end or sql[at - 1] == BACKSLASH_BYTE:
                    return None  # \' does not end it if standard_conforming_strings is off
                at += 1
                if at < end and sql[at] == QUOTE_BYTE:
                    at += 1  # two quotes are one quote in the string
                    continue
                break
            pieces.append(sql[copied:begun])
            pieces.append(STRING)
            copied = at
        elif kind == DOUBLE_QUOTE:
            if sql[at - 1] == AMPERSAND_BYTE:
                return None  # U&"…"
            at += 1
            while at < end and sql[at] != DOUBLE_QUOTE_BYTE:
                at += 1
            at += 1  # a doubled quote begins the identifier's next part: nothing differs for us
            if at > end:
                return None
        elif kind in (DASH, SLASH):
            after = comment_end(sql, at)
            if after < 0:
                return None
            if after == at:
                at += 1
                continue
            if _may_hint(sql[at:after]):
                return None
            pieces.append(sql[copied:at])
            pieces.append(LINE_COMMENT if kind == DASH else COMMENT)
            at = copied = after
        elif kind == DOLLAR:
            at += 1
            if at >= end or classes[sql[at]] != DIGIT:
                return None  # a dollar-quoted string
            while at < end and classes[sql[at]] == DIGIT:
                at += 1
            if at < end and classes[sql[at]] <= DOLLAR:
                return None
        elif kind == SEMICOLON:
            at += 1
            if at < end:
                if not is_blank(sql, at):
                    return None  # several statements, of which the others may be of any kind
                pieces.append(sql[copied:at])
                copied = at = end
        else:
            return None
    if copied == 0:
        return sql
    if copied < end:
        pieces.append(sql[copied:])
    return b"".join(pieces)


def _may_hint(comment: bytes) -> bool:
    return TRAILING_HINT in comment.lower()
