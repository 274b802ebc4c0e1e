"""The comment by which a client says where a text goes. PURE.

    /* pgproxy: primary */ SELECT …        /* pgproxy: replica */ SELECT …
    /*NO LOAD BALANCE*/ SELECT …           as Pgpool-II has it: the primary
    /* pgdog_role: primary */ SELECT …     as PgDog has it; also at the end of the text

Case and white space do not matter. It stands at the beginning, among other comments perhaps; PgDog's
may stand at the end as well, and may have company in its comment. If several hints contradict each
other the primary wins.
"""

import re
from typing import Final

from mypy_extensions import i64

from pgproxy.routing.decision import NO_HINT, PRIMARY, REPLICA
from pgproxy.routing.lexer import SLASH_BYTE, comment_end, statement_start

_PRIMARY_HINTS: Final = ("pgproxy:primary", "no load balance")
_REPLICA_HINT: Final = "pgproxy:replica"

# What makes a comment at the end of a text a hint.
TRAILING_HINT: Final = b"pgdog_role"
_PGDOG: Final = re.compile(
    r"(?<![\w-])pgdog_role\s*:\s*[\"']?(?:prefer-|force-)?(primary|replica)(?![\w-])"
)


def hint_of(sql: bytes) -> i64:
    """PRIMARY, REPLICA or NO_HINT: what the comments around the text say."""
    hint = leading_hint(sql)
    if hint == PRIMARY or TRAILING_HINT not in sql.lower():
        return hint
    trailing = _trailing_hint(sql)
    return hint if trailing == NO_HINT else trailing


def leading_hint(sql: bytes) -> i64:
    """PRIMARY, REPLICA or NO_HINT: what the comments before the first statement say."""
    hint: i64 = NO_HINT
    end = statement_start(sql)
    at: i64 = 0
    while at < end:
        after = comment_end(sql, at)
        if after < 0:
            break
        if after == at:
            at += 1  # between comments
            continue
        if sql[at] == SLASH_BYTE:
            said = _said(sql[at + 2 : after - 2])
            if said == PRIMARY:
                return PRIMARY
            if said == REPLICA:
                hint = REPLICA
        at = after
    return hint


def _said(comment: bytes) -> i64:
    """What one comment says."""
    text = " ".join(comment.decode("utf-8", "replace").lower().split())
    exact = text.replace(" :", ":").replace(": ", ":")
    if exact in _PRIMARY_HINTS:
        return PRIMARY
    if exact == _REPLICA_HINT:
        return REPLICA
    return _pgdog(text)


def _pgdog(text: str) -> i64:
    roles = set(_PGDOG.findall(text))
    if not roles:
        return NO_HINT
    return PRIMARY if "primary" in roles else REPLICA


def _trailing_hint(sql: bytes) -> i64:
    # What ends so ends in a comment: no string does, and no operator may.
    text = sql.rstrip(b" \t\r\n\f\v;")
    begun: i64 = text.rfind(b"/*")
    if begun < 0 or not text.endswith(b"*/"):
        return NO_HINT
    return _pgdog(text[begun + 2 : -2].decode("utf-8", "replace").lower())
