"""HOT, PURE. Which statements the proxy answers itself (routing/front.py), or asks otherwise."""

from typing import Final

from mypy_extensions import i64

from pgproxy.protocol.prepared import Statement
from pgproxy.routing.decision import (
    DEALLOCATE,
    LISTEN,
    PLAIN,
    SET_MIN_LSN,
    SET_ROUTE,
    SET_TRACE,
    SHOW_CHANNELS,
    SHOW_LAST_ROUTE,
    SHOW_MIN_LSN,
    SHOW_ROUTE,
    SHOW_TABLE,
    SHOW_TRACE,
    UNLISTEN,
    Decision,
)

OWN_KINDS: Final = (
    SET_ROUTE, SHOW_LAST_ROUTE, SHOW_ROUTE, SET_TRACE, SHOW_TRACE, SET_MIN_LSN, SHOW_MIN_LSN,
)  # fmt: skip
# And what it answers where listening is shared.
CHANNEL_KINDS: Final = (LISTEN, UNLISTEN, SHOW_CHANNELS)

# What the primary is asked where a client says SHOW pgproxy.lsn.
LSN_QUESTION: Final = b'SELECT pg_catalog.pg_current_wal_insert_lsn()::text AS "pgproxy.lsn"'


def own_kind(
    decision: Decision, prepared: dict[bytes, Statement], *, shares_listening: bool
) -> i64:
    """The statement's kind if the proxy answers it itself, else PLAIN. `prepared`: what the client
    has prepared, by name."""
    kind = decision.kind
    if kind in OWN_KINDS or kind >= SHOW_TABLE:
        return kind
    if kind in CHANNEL_KINDS and shares_listening:
        return kind
    # No server knows a statement by the name that its client gave it to the protocol.
    if kind == DEALLOCATE and decision.names is not None:
        name = decision.names.uses[0].name
        if not name and not any(one.by_sql for one in prepared.values()):
            return kind
        statement = prepared.get(name)
        if statement is not None and not statement.by_sql:
            return kind
    return PLAIN
