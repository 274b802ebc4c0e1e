"""PURE. What is counted of statements by their structure: their text without literals and comments.

The router gives each decision that it remembers the `Structure` of its text; the relay counts there
in passing. Nothing that a client has written as a literal is kept: of a text that was not parsed,
where quotes need not be what they seem, only the first word is.
"""

import hashlib
import heapq
import re
from typing import Final, final

from pglast.parser import ParseError, scan

from pgproxy.routing.classify import DATA_CHANGING_WORDS, READING_WORDS, SHORT
from pgproxy.routing.decision import Decision
from pgproxy.routing.key import COMMENT, LINE_COMMENT, NUMBER, STRING
from pgproxy.routing.lexer import first_word, is_one_statement
from pgproxy.routing.parsing import as_letters
from pgproxy.routing.reasons import Reason
from pgproxy.telemetry.counters import Structure

# Characters of a text that are kept, to be shown.
MAX_TEXT: Final = 500
NOT_PARSED: Final = "(not parsed)"

_LITERALS: Final = frozenset({"SCONST", "ICONST", "FCONST", "BCONST", "XCONST", "USCONST"})
_COMMENTS: Final = frozenset({"SQL_COMMENT", "C_COMMENT"})
_VALUE: Final = r"(?:\?|\$\d+)"
# Lists of values of any length are one structure, and so are lists of those.
_LIST: Final = re.compile(rf"({_VALUE})(?:\s*,\s*{_VALUE})+")
_ROWS: Final = re.compile(r"(\([^()]*\))(?:\s*,\s*\([^()]*\))+")
_VALUES_WORD: Final = re.compile(r"\bVALUES\s*", re.IGNORECASE)

_UNREAD: Final = frozenset(
    {
        Reason.UNPARSABLE,
        Reason.TOO_LONG,
        Reason.TOO_DEEP,
        Reason.AMBIGUOUS_QUOTING,
        Reason.UNSAFE_ENCODING,
    }
)


@final
class Structures:
    """Those that are known: `limit` of them at most. To make room, a quarter is forgotten: those that
    have been used least since room was made the last time."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 4)
        self._found: dict[str, Structure] = {}

    def __len__(self) -> int:
        return len(self._found)

    def of(self, sql: bytes, key: bytes | None, decision: Decision) -> Structure:
        """The structure of a text with that lexical key, which has been decided so."""
        text = text_of(sql, key, decision)
        id = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=5).hexdigest()
        found = self._found.get(id)
        if found is None:
            if len(self._found) >= self._limit:
                self._make_room()
            found = self._found[id] = Structure(id, shortened(text, MAX_TEXT))
        found.reason = decision.reason.value
        return found

    def heaviest(self, count: int) -> list[Structure]:
        """At most so many, in the order of their time: half of them are those that took most of
        it, the others those that ran most often."""
        used = [one for one in self._found.values() if one.primary + one.replica > 0]
        first = heapq.nlargest((count + 1) // 2, used, key=_by_time)
        chosen = {one.id: one for one in first}
        for one in heapq.nlargest(count, used, key=_by_calls):
            if len(chosen) < count:
                chosen[one.id] = one
        return sorted(chosen.values(), key=_by_time, reverse=True)

    def _make_room(self) -> None:
        ranked = sorted(self._found.values(), key=_by_use)
        for one in ranked[: self._limit // 4]:
            del self._found[one.id]
        for one in self._found.values():
            one.seen = one.calls


def _by_time(one: Structure) -> tuple[float, int, str]:
    return one.seconds, one.calls, one.id


def _by_calls(one: Structure) -> tuple[int, float, str]:
    return one.calls, one.seconds, one.id


def _by_use(one: Structure) -> tuple[int, str]:
    return one.calls - int(one.seen), one.id


def text_of(sql: bytes, key: bytes | None, decision: Decision) -> str:
    """The text without literals and comments, on one line."""
    word = first_word(sql)
    changes = word in DATA_CHANGING_WORDS
    if _is_unread(sql, decision) or (changes and len(sql) > SHORT):
        return f"{word.upper()} {NOT_PARSED}" if changes or word in READING_WORDS else NOT_PARSED
    text = _from_key(key) if key is not None else _from_tokens(sql)
    return _without_lists(" ".join(text.split()))


def _is_unread(sql: bytes, decision: Decision) -> bool:
    if decision.unparsed or decision.reason in _UNREAD:
        return True
    # With standard_conforming_strings off, \' does not end a string.
    return b"\\'" in sql and not is_one_statement(sql)


def _from_key(key: bytes) -> str:
    for mark, shown in ((NUMBER, b"?"), (STRING, b"?"), (COMMENT, b" "), (LINE_COMMENT, b" ")):
        key = key.replace(mark, shown)
    return key.decode("utf-8", "replace")


def _from_tokens(sql: bytes) -> str:
    """The same for a text that has no key."""
    text = as_letters(sql)
    try:
        tokens = scan(text)
    except ParseError:
        return NOT_PARSED
    parts: list[str] = []
    at = 0
    is_first = True  # of its statement
    in_set = False  # in one that sets what need not be quoted
    is_value = False
    for token in tokens:
        blank = " " if token.start > at else ""
        at = token.end + 1
        name = token.name
        if name in _COMMENTS:
            parts.append(" ")
            continue
        if name == "ASCII_59":
            is_first, in_set, is_value = True, False, False
            parts.append(";")
            continue
        if is_first:
            is_first, in_set = False, name == "SET"
        elif in_set and name in ("ASCII_61", "TO") and not is_value:
            is_value = True
            parts.append(f"{blank}{text[token.start : at]} ?")
            continue
        if not is_value:
            parts.append(blank + ("?" if name in _LITERALS else text[token.start : at]))
    return "".join(parts)


def _without_lists(text: str) -> str:
    text = _LIST.sub(r"\1, …", text)
    found = _VALUES_WORD.search(text)
    if found is None:
        return text
    return text[: found.end()] + _ROWS.sub(r"\1, …", text[found.end() :])


def shortened(text: str, length: int) -> str:
    """At most so many characters of it."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
