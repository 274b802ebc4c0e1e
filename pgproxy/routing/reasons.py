"""The rules of the router by name, and what each says to a person. PURE."""

from enum import Enum
from typing import Final


class Reason(Enum):
    """Which rule decided. The values are stable: they are metric labels and what clients are shown."""

    # To a replica.
    READ = "read"
    SHOW = "show"
    EXPLAIN = "explain"
    COPY_OUT = "copy_out"
    EMPTY = "empty"
    BEGIN_READ_ONLY = "begin_read_only"
    # Known to write or to lock.
    WRITE = "write"
    LOCKING_CLAUSE = "locking_clause"
    LOCK = "lock"
    DDL = "ddl"
    MAINTENANCE = "maintenance"
    COPY_IN = "copy_in"
    COPY_FILE = "copy_file"
    NOTIFY = "notify"
    TWO_PHASE = "two_phase"
    WRITING_FUNCTION = "writing_function"
    # Not shown to be a read.
    VOLATILE_FUNCTION = "volatile_function"
    UNKNOWN_FUNCTION = "unknown_function"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_OPERATOR = "unknown_operator"
    UNKNOWN_SYNTAX = "unknown_syntax"
    CALL = "call"
    DO = "do"
    EXECUTE = "execute"
    UNPARSABLE = "unparsable"
    TOO_LONG = "too_long"
    TOO_DEEP = "too_deep"
    AMBIGUOUS_QUOTING = "ambiguous_quoting"
    UNSAFE_ENCODING = "unsafe_encoding"
    # Only the primary gives the answer that is meant.
    PRIMARY_FUNCTION = "primary_function"
    SERVER_ROLE = "server_role"
    TEMP_TABLE = "temp_table"
    UNLOGGED = "unlogged"
    FOREIGN_TABLE = "foreign_table"
    # Belongs to the session or the transaction.
    SESSION_STATE = "session_state"
    CURSOR = "cursor"
    TRANSACTION_CONTROL = "transaction_control"
    SERIALIZABLE = "serializable"
    MULTI_STATEMENT_WITH_WRITE = "multi_statement_with_write"
    # Told by the client, or by the operator.
    HINT = "hint"
    RULE = "rule"
    SET_ROUTE = "set_route"
    SHOW_ROUTE = "show_route"
    # Decided by the relay, which knows the session and the servers.
    FLUSH_BEFORE_SYNC = "flush_before_sync"
    BATCH_WITH_WRITE = "batch_with_write"
    IN_TRANSACTION = "in_transaction"
    FUNCTION_CALL = "function_call"
    UNKNOWN_STATEMENT = "unknown_statement"
    PINNED = "pinned"
    NO_REPLICA = "no_replica"
    NOT_FRESH = "not_fresh"
    SCHEMA_CHANGED = "schema_changed"
    READ_FROM_PRIMARY = "read_from_primary"
    # Learned from a replica that could not run it.
    LEARNED = "learned"
    RETRIED = "retried"


SENTENCES: Final = {
    Reason.READ: "It only reads: nothing in it can write, lock or change the session.",
    Reason.SHOW: "SHOW of a server setting is a read.",
    Reason.EXPLAIN: "EXPLAIN without ANALYZE does not run the statement.",
    Reason.COPY_OUT: "COPY of a table to the client is a read.",
    Reason.EMPTY: "There is no statement in it.",
    Reason.BEGIN_READ_ONLY: "A READ ONLY transaction cannot write.",
    Reason.WRITE: "It changes data.",
    Reason.LOCKING_CLAUSE: "FOR UPDATE, FOR SHARE and the like lock rows, which a standby refuses.",
    Reason.LOCK: "It locks a table.",
    Reason.DDL: "It changes the schema, roles or settings of the database.",
    Reason.MAINTENANCE: "Maintenance commands work on the primary.",
    Reason.COPY_IN: "COPY FROM writes.",
    Reason.COPY_FILE: "COPY to a file or program acts on the server's own machine.",
    Reason.NOTIFY: "Notifications are sent and received on the primary only.",
    Reason.TWO_PHASE: "Prepared transactions live on the primary.",
    Reason.WRITING_FUNCTION: "It calls a function that writes, locks or acts on the server.",
    Reason.VOLATILE_FUNCTION: "PostgreSQL calls this function volatile: it may write.",
    Reason.UNKNOWN_FUNCTION: "This function is not known: it may write.",
    Reason.UNKNOWN_TYPE: "This type is not known: its casts may call any function.",
    Reason.UNKNOWN_OPERATOR: "This operator is not known: it may call any function.",
    Reason.UNKNOWN_SYNTAX: "The router does not know this form as a read.",
    Reason.CALL: "A procedure may write.",
    Reason.DO: "A DO block may write.",
    Reason.EXECUTE: "It runs a prepared statement that the router cannot see.",
    Reason.UNPARSABLE: "PostgreSQL's grammar, as the router has it, does not accept it.",
    Reason.TOO_LONG: "It is longer than the router parses.",
    Reason.TOO_DEEP: "It is nested deeper than the router follows.",
    Reason.AMBIGUOUS_QUOTING: (
        "It holds a backslash before a quote: where the string ends depends on a setting."
    ),
    Reason.UNSAFE_ENCODING: (
        "In the client's encoding a character may hold the byte of a quote or a backslash."
    ),
    Reason.PRIMARY_FUNCTION: "Only the primary can run this function, or answer as it is meant.",
    Reason.SERVER_ROLE: "The question is whether the server takes writes: the primary answers.",
    Reason.TEMP_TABLE: "Temporary objects live on the primary, in this session.",
    Reason.UNLOGGED: "It reads an unlogged table, whose rows a standby does not have.",
    Reason.FOREIGN_TABLE: "It reads a foreign table: what happens elsewhere is not known.",
    Reason.SESSION_STATE: "It changes or depends on the state of the session.",
    Reason.CURSOR: "Cursors live in a transaction on the primary.",
    Reason.TRANSACTION_CONTROL: "Transactions run on the primary unless they are READ ONLY.",
    Reason.SERIALIZABLE: "SERIALIZABLE needs the primary: a standby does not offer it.",
    Reason.MULTI_STATEMENT_WITH_WRITE: "One of several statements has to go to the primary.",
    Reason.HINT: "A comment in it says so.",
    Reason.RULE: "A rule of the configuration says so.",
    Reason.SET_ROUTE: "The session's setting pgproxy.route says so.",
    Reason.SHOW_ROUTE: "The proxy answers this itself.",
    Reason.FLUSH_BEFORE_SYNC: "The batch was cut by Flush before it was known to only read.",
    Reason.BATCH_WITH_WRITE: "Another statement before the same Sync has to go to the primary.",
    Reason.IN_TRANSACTION: "It belongs to an open transaction and stays where that runs.",
    Reason.FUNCTION_CALL: "A function called by the protocol's own message may write.",
    Reason.UNKNOWN_STATEMENT: "It executes a statement that this session did not prepare.",
    Reason.PINNED: "The session keeps the server connection that holds its state.",
    Reason.NO_REPLICA: "It is a read, but no replica can serve it now.",
    Reason.SCHEMA_CHANGED: "The schema has just changed, and is being read again.",
    Reason.LEARNED: "A replica has refused it before: it writes.",
    Reason.RETRIED: "A replica has not been able to answer it, so it was run again on the primary.",
    Reason.NOT_FRESH: "It is a read, but no replica is as fresh as it must be.",
    Reason.READ_FROM_PRIMARY: "It is a read, and the primary serves reads like a replica.",
}


# Every reason has a small number, so that the data path counts without hashing.
REASONS: Final = tuple(Reason)
CODES: Final = {reason: code for code, reason in enumerate(REASONS)}
