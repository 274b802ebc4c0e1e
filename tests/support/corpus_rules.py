"""What is not to be expected of an answer, or of a route, and why."""

import re
from typing import Final

from pgproxy.routing.lexer import first_word

# Statements of which two servers, or one at two times, have two right answers: the columns are
# compared, not the rows.
VARYING: Final = (
    r"clock_timestamp|timeofday|CURRENT_TIMESTAMP|\bnow\(\)",  # the time
    r"gen_random_uuid|random",
    r"\bEXPLAIN\b",  # how long it took, and the size of tables after what was undone
    r"\bxmax\b",  # of who locked a row, and was undone
    r"pg_stat_|pg_statio_|pg_backend_memory_contexts|pg_aios",  # what happened on that server
    r"pg_is_in_recovery|pg_last_|recovery|pg_postmaster_start_time",  # what it is
    r"pg_settings|SHOW ALL|pg_file_settings|pg_hba_file_rules",  # how it is configured
    r"pg_(database|relation|total_relation|table|indexes|tablespace)_size",  # its files
    r"snapshot|backend_pid",
)

# What begins with one of these belongs to the session or to its transaction, or is a command of
# which no text says that it does nothing: it stays where the session is.
OF_THE_SESSION: Final = frozenset(
    """
    abort begin call checkpoint close commit deallocate declare discard do end execute fetch listen
    load lock move notify prepare release reset rollback savepoint set start unlisten
    """.split()
)

# What a standby could do, and goes to the primary all the same.
ON_PURPOSE: Final = (
    (r"advisory", "an advisory lock excludes nobody unless all take it on one server"),
    (r"set_config|setseed", "it changes the session, which is where it was made"),
    (
        r"transaction_read_only|in_hot_standby|transaction.isolation",
        "it asks how this session's transactions are, which a standby knows of itself only",
    ),
    (r"pg_lock|pg_blocking_pids|lock_view", "the primary's locks are meant"),
    (r"pg_prepared_xacts|pg_xact_status|pg_notification_queue", "the primary's transactions are"),
    (r"pg_replication_slot|pg_create_physical", "the primary's slots are"),
    (r"pg_listening_channels", "the proxy knows, or the connection that listens"),
    (r"\blo_get|\blo_open|\bloread", "descriptors of large objects are the session's"),
    (r"last_value|pg_sequences|numbers\b", "a standby is ahead of nextval"),
    (r"volatile_reader", "it is declared VOLATILE: no text says that it does not write"),
    (
        r"pg_control_|pg_ls_|pg_read_file|pg_current_logfile|pg_reload_conf|pg_rotate_logfile"
        r"|pg_stat_reset|pg_stat_clear",
        "it is about one server's own files and processes",
    ),
    (r"ts_stat|ts_rewrite|_to_xml", "its argument is SQL, which may do anything"),
    (r"^COPY .* TO (PROGRAM|')", "it acts on the server's own machine"),
)


def is_varying(sql: str) -> bool:
    """Whether equal columns are all that can be asked of two answers."""
    return any(re.search(pattern, sql, re.IGNORECASE) for pattern in VARYING)


def stays_for(sql: str) -> str:
    """Why a statement that a standby can answer is not expected there; "" if it is."""
    if first_word(sql.encode()).lower() in OF_THE_SESSION:
        return "it is of the session or the transaction"
    for pattern, why in ON_PURPOSE:
        if re.search(pattern, sql, re.IGNORECASE):
            return why
    return ""
