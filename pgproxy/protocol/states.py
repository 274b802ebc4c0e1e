"""PURE. The state machines, as tables. The code runs on these tables and the pictures in
ARCHITECTURE.md are drawn from them, so the two cannot drift apart (tests/unit/protocol/test_states).

House rules: everything that decides whether a reply is in order lives here; a combination that is
not in a table is an error; nothing here knows sockets, clients or servers.

Two machines:

* the *replies owed* by a server: which answer may come while a message of ours is the oldest one
  not yet answered ("Message Flow" in the PostgreSQL manual);
* the *lease*: what one client holds of the pool.
"""

from typing import Final

from pgproxy.frames import codes

# --- replies owed -----------------------------------------------------------------------------

# What a server still has to answer. FLUSH has no answer and is never owed.
PARSE: Final = 1
BIND: Final = 2
DESCRIBE: Final = 3
EXECUTE: Final = 4
CLOSE: Final = 5
SYNC: Final = 6
QUERY: Final = 7
FUNCTION_CALL: Final = 8
COPY_END: Final = 9  # CopyDone or CopyFail: never answered by itself, ends copy-in mode
OWED_KINDS: Final = 10

OWED_NAMES: Final = {
    PARSE: "Parse",
    BIND: "Bind",
    DESCRIBE: "Describe",
    EXECUTE: "Execute",
    CLOSE: "Close",
    SYNC: "Sync",
    QUERY: "Query",
    FUNCTION_CALL: "FunctionCall",
}

# What a reply does to the oldest message owed.
OUT_OF_ORDER: Final = 0
STAYS: Final = 1  # part of the answer; more will come
ANSWERED: Final = 2
FAILED: Final = 3  # ErrorResponse: an extended-protocol message and all up to Sync are void
READY: Final = 4  # ReadyForQuery: answered, and the transaction status is known
COPY_IN: Final = 5  # the server reads copy data from now on

EFFECT_NAMES: Final = {
    STAYS: "stays owed",
    ANSWERED: "answered",
    FAILED: "failed",
    READY: "ready",
    COPY_IN: "copy-in begins",
}

_ROWS: Final = {codes.B_DATA_ROW: STAYS, codes.B_COPY_DATA: STAYS, codes.B_COPY_DONE: STAYS}

REPLIES: Final[dict[int, dict[int, int]]] = {
    PARSE: {codes.B_PARSE_COMPLETE: ANSWERED, codes.B_ERROR_RESPONSE: FAILED},
    BIND: {codes.B_BIND_COMPLETE: ANSWERED, codes.B_ERROR_RESPONSE: FAILED},
    DESCRIBE: {
        codes.B_PARAMETER_DESCRIPTION: STAYS,
        codes.B_ROW_DESCRIPTION: ANSWERED,
        codes.B_NO_DATA: ANSWERED,
        codes.B_ERROR_RESPONSE: FAILED,
    },
    EXECUTE: {
        **_ROWS,
        codes.B_COPY_IN_RESPONSE: COPY_IN,
        codes.B_COPY_OUT_RESPONSE: STAYS,
        codes.B_COMMAND_COMPLETE: ANSWERED,
        codes.B_EMPTY_QUERY_RESPONSE: ANSWERED,
        codes.B_PORTAL_SUSPENDED: ANSWERED,
        codes.B_ERROR_RESPONSE: FAILED,
    },
    CLOSE: {codes.B_CLOSE_COMPLETE: ANSWERED, codes.B_ERROR_RESPONSE: FAILED},
    # An error at Sync is that of the implicit commit; ReadyForQuery follows it.
    SYNC: {codes.B_ERROR_RESPONSE: STAYS, codes.B_READY_FOR_QUERY: READY},
    QUERY: {
        **_ROWS,
        codes.B_ROW_DESCRIPTION: STAYS,
        codes.B_COPY_IN_RESPONSE: COPY_IN,
        codes.B_COPY_OUT_RESPONSE: STAYS,
        codes.B_COMMAND_COMPLETE: STAYS,
        codes.B_EMPTY_QUERY_RESPONSE: STAYS,
        codes.B_ERROR_RESPONSE: STAYS,
        codes.B_READY_FOR_QUERY: READY,
    },
    FUNCTION_CALL: {
        codes.B_FUNCTION_CALL_RESPONSE: STAYS,
        codes.B_ERROR_RESPONSE: STAYS,
        codes.B_READY_FOR_QUERY: READY,
    },
}

# "Asynchronous Operations": these may come at any moment and answer nothing.
ASYNCHRONOUS: Final = (
    codes.B_NOTICE_RESPONSE,
    codes.B_PARAMETER_STATUS,
    codes.B_NOTIFICATION_RESPONSE,
)


def _reply_table() -> bytes:
    table = bytearray(OWED_KINDS * 256)
    for owed, replies in REPLIES.items():
        for reply, effect in replies.items():
            table[owed * 256 + reply] = effect
        for reply in ASYNCHRONOUS:
            table[owed * 256 + reply] = STAYS
    return bytes(table)


# REPLY_EFFECT[owed * 256 + reply], for the hot path.
REPLY_EFFECT: Final = _reply_table()

# --- the lease --------------------------------------------------------------------------------

# What one client holds of the pool.
FREE: Final = 0  # no server; between transactions, or a BEGIN is held back
WAITING: Final = 1  # for a server, or a seat for the one it keeps; input is held
LEASED: Final = 2  # one server works for this client alone
SETTLING: Final = 3  # leased, and the next statement must wait until all replies have come
GONE: Final = 4  # the client's connection is closed; nothing is held
PHASES: Final = 5

PHASE_NAMES: Final = {
    FREE: "free",
    WAITING: "waiting",
    LEASED: "leased",
    SETTLING: "settling",
    GONE: "gone",
}

LEASE_MOVES: Final[dict[tuple[int, int], str]] = {
    (FREE, LEASED): "a server was idle",
    (FREE, WAITING): "none was idle",
    (WAITING, LEASED): "granted",
    (WAITING, FREE): "refused: timeout, queue full, no primary",
    (LEASED, FREE): "released: idle, nothing owed, no pin",
    (LEASED, WAITING): "next transaction needs a seat",
    (LEASED, SETTLING): "next statement needs another server",
    (SETTLING, LEASED): "replies came: the transaction goes on here",
    (SETTLING, FREE): "replies came: released",
    (FREE, GONE): "client left",
    (WAITING, GONE): "client left",
    (LEASED, GONE): "client left, or the server was lost",
    (SETTLING, GONE): "client left, or the server was lost",
}


def _lease_table() -> bytes:
    table = bytearray(PHASES * PHASES)
    for old, new in LEASE_MOVES:
        table[old * PHASES + new] = 1
    return bytes(table)


# LEASE_MOVE[old * PHASES + new] is 1 where the move is legal.
LEASE_MOVE: Final = _lease_table()


# --- pictures ---------------------------------------------------------------------------------


def replies_markdown() -> str:
    """The replies-owed table as Markdown, one row for each message and reply."""
    names = {
        value: name[2:].replace("_", " ").title().replace(" ", "")
        for name, value in vars(codes).items()
        if name.startswith("B_")
    }
    lines = ["| oldest message owed | reply | effect |", "|---|---|---|"]
    for owed, replies in REPLIES.items():
        for reply, effect in replies.items():
            lines.append(f"| {OWED_NAMES[owed]} | {names[reply]} | {EFFECT_NAMES[effect]} |")
    lines.append("| any | NoticeResponse, ParameterStatus, NotificationResponse | stays owed |")
    return "\n".join(lines)


def lease_mermaid() -> str:
    """The lease machine as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> free"]
    for (old, new), why in LEASE_MOVES.items():
        lines.append(f"    {PHASE_NAMES[old]} --> {PHASE_NAMES[new]}: {why}")
    lines.append("    gone --> [*]")
    return "\n".join(lines)
