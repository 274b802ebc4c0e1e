"""The comment at the beginning of a text by which a client says where it goes. PURE.

    /* pgproxy: primary */ SELECT …        /* pgproxy: replica */ SELECT …
    /*NO LOAD BALANCE*/ SELECT …           as Pgpool-II has it: the primary

Case and white space do not matter. Other comments may stand before it, and it must be alone in its
comment. If several hints contradict each other the primary wins.
"""

from typing import Final

from mypy_extensions import i64

from pgproxy.routing.decision import NO_HINT, PRIMARY, REPLICA
from pgproxy.routing.lexer import SLASH_BYTE, comment_end, statement_start

_PRIMARY_HINTS: Final = ("pgproxy:primary", "no load balance")
_REPLICA_HINT: Final = "pgproxy:replica"


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
            text = " ".join(sql[at + 2 : after - 2].decode("utf-8", "replace").lower().split())
            text = text.replace(" :", ":").replace(": ", ":")
            if text in _PRIMARY_HINTS:
                return PRIMARY
            if text == _REPLICA_HINT:
                hint = REPLICA
        at = after
    return hint
