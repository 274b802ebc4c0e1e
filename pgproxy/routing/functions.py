"""Which functions a read may call: PostgreSQL's own list, and what was read into it by hand. PURE.

A function that is not PostgreSQL's own may write, so a read calls only built-ins: those that no
overload of is volatile (builtins.py, generated), without the few that still need a primary, and
those that PostgreSQL calls volatile for another reason than writing. tests/unit/routing runs both
lists on real standbys.
"""

from typing import Final

from pgproxy.routing.builtins import NON_VOLATILE, TYPES, VOLATILE
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason

# Not volatile, but refused by a standby or true on the primary only. The tests find the members of
# the first two lines by calling every non-volatile built-in on a primary and on a standby.
NON_VOLATILE_ON_PRIMARY: Final = frozenset(
    """
    txid_current pg_current_xact_id pg_walfile_name pg_walfile_name_offset
    pg_replication_origin_oid
    """.split()
)

# Not volatile, but what they run their arguments say, as texts or numbers: a query of a table or view,
# the input of a type, with the checks of a domain.
RUNNING_WHAT_THEY_ARE_TOLD: Final = frozenset(
    """
    database_to_xml database_to_xml_and_xmlschema schema_to_xml schema_to_xml_and_xmlschema
    table_to_xml table_to_xml_and_xmlschema
    array_in array_recv domain_in domain_recv multirange_in multirange_recv range_in range_recv
    record_in record_recv pg_input_error_info pg_input_is_valid
    """.split()
)

# Volatile because the answer differs from call to call, not because anything is written.
READ_SAFE: Final = frozenset(
    """
    array_sample array_shuffle clock_timestamp current_query gen_random_uuid pg_sleep pg_sleep_for
    pg_sleep_until random random_normal timeofday uuidv4 uuidv7

    pg_collation_actual_version pg_database_collation_actual_version pg_database_size
    pg_indexes_size pg_jit_available pg_partition_ancestors pg_partition_tree pg_relation_size
    pg_table_size pg_tablespace_size pg_total_relation_size

    pg_get_wal_replay_pause_state pg_is_in_recovery pg_is_wal_replay_paused pg_last_wal_receive_lsn
    pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
    """.split()
)

# The same of what comes with PostgreSQL as an extension. Any schema may hold a function of these
# names that writes, so the catalogue says which are the extension's.
READ_SAFE_OF_EXTENSIONS: Final = frozenset(
    {
        ("pgcrypto", "gen_random_bytes"),
        ("pgcrypto", "gen_random_uuid"),
        ("pgcrypto", "gen_salt"),
        ("pgcrypto", "pgp_pub_encrypt"),
        ("pgcrypto", "pgp_pub_encrypt_bytea"),
        ("pgcrypto", "pgp_sym_encrypt"),
        ("pgcrypto", "pgp_sym_encrypt_bytea"),
        ("tablefunc", "normal_rand"),
        ("uuid-ossp", "uuid_generate_v1"),
        ("uuid-ossp", "uuid_generate_v1mc"),
        ("uuid-ossp", "uuid_generate_v4"),
    }
)

# Volatile, no write, and yet meant for the primary: its position, its locks and transactions, the
# session's sequences, its large object descriptors, the processes whose numbers a client knows.
READS_OF_THE_PRIMARY: Final = frozenset(
    """
    pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_export_snapshot
    currval lastval pg_sequence_last_value pg_get_sequence_data
    lo_close lo_get lo_lseek lo_lseek64 lo_open lo_tell lo_tell64 loread
    pg_xact_status txid_status pg_xact_commit_timestamp pg_xact_commit_timestamp_origin
    pg_last_committed_xact pg_prepared_xact pg_lock_status pg_blocking_pids
    pg_safe_snapshot_blocking_pids pg_cancel_backend pg_terminate_backend
    pg_log_backend_memory_contexts pg_notification_queue_usage pg_show_replication_origin_status
    """.split()
)

# The views over such functions, and over what only a primary has. A test looks into all definitions.
VIEWS_OF_THE_PRIMARY: Final = frozenset(
    """
    pg_locks pg_prepared_xacts pg_replication_origin_status pg_replication_slots pg_sequences
    pg_stat_replication_slots
    """.split()
)

# Columns of a sequence. WAL brings its state ahead of time, so that a replica shows values which
# nextval has yet to give.
SEQUENCE_COLUMNS: Final = frozenset({"last_value", "log_cnt"})

# Certain to write, to lock, or to act on the server they run on: no hint sends these to a replica.
WRITING: Final = frozenset(
    """
    nextval setval pg_notify
    lo_creat lo_create lo_export lo_from_bytea lo_import lo_put lo_truncate lo_truncate64 lo_unlink
    lowrite
    pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all
    pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared
    pg_try_advisory_lock pg_try_advisory_lock_shared pg_try_advisory_xact_lock
    pg_try_advisory_xact_lock_shared
    brin_desummarize_range brin_summarize_new_values brin_summarize_range gin_clean_pending_list
    pg_clear_attribute_stats pg_clear_relation_stats pg_restore_attribute_stats
    pg_restore_relation_stats pg_create_restore_point pg_switch_wal pg_logical_emit_message
    pg_import_system_collations pg_nextoid pg_log_standby_snapshot
    pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot pg_drop_replication_slot
    pg_replication_slot_advance pg_logical_slot_get_changes pg_logical_slot_get_binary_changes
    pg_replication_origin_advance pg_replication_origin_create pg_replication_origin_drop
    pg_replication_origin_session_reset pg_replication_origin_session_setup
    pg_replication_origin_xact_reset pg_replication_origin_xact_setup
    txid_current pg_current_xact_id
    """.split()
)

# Change the session in a way that `SET` could.
SESSION: Final = frozenset({"set_config", "setseed"})

# What must keep the server connection once it was called. What set_config does, reads.py says.
PINS: Final = {
    "pg_advisory_lock": Pin.ADVISORY_LOCK,
    "pg_advisory_lock_shared": Pin.ADVISORY_LOCK,
    "pg_try_advisory_lock": Pin.ADVISORY_LOCK,
    "pg_try_advisory_lock_shared": Pin.ADVISORY_LOCK,
    "pg_backup_start": Pin.REPLICATION,
    "pg_copy_logical_replication_slot": Pin.REPLICATION,
    "pg_copy_physical_replication_slot": Pin.REPLICATION,
    "pg_create_logical_replication_slot": Pin.REPLICATION,
    "pg_create_physical_replication_slot": Pin.REPLICATION,
    "pg_replication_origin_session_setup": Pin.REPLICATION,
    "setseed": Pin.SETSEED,
}

# What they tell is what this session's own nextval, or serial column, gave last.
OF_OWN_SEQUENCES: Final = frozenset({"currval", "lastval"})
TO_OWN_SEQUENCES: Final = frozenset({"nextval", "setval"})

# What they tell is of the transaction, the server process or the server: in one transaction they must
# not be asked of two.
OF_THE_TRANSACTION: Final = frozenset(
    """
    age mxid_age now transaction_timestamp
    pg_current_snapshot pg_current_xact_id_if_assigned txid_current_if_assigned
    txid_current_snapshot
    inet_client_addr inet_client_port inet_server_addr inet_server_port pg_backend_pid
    pg_conf_load_time pg_postmaster_start_time pg_cursor pg_prepared_statement
    pg_show_all_settings
    pg_get_wal_replay_pause_state pg_is_in_recovery pg_is_wal_replay_paused
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
    """.split()
)
STATISTICS: Final = ("pg_stat_", "pg_statio_")  # each server has its own, by views and functions
VIEWS_OF_THE_TRANSACTION: Final = frozenset("pg_cursors pg_prepared_statements pg_settings".split())
# SQLValueFunction (nodes/primnodes.h) without those of time.
TIMELESS: Final = frozenset(
    """
    SVFOP_CURRENT_ROLE SVFOP_CURRENT_USER SVFOP_USER SVFOP_SESSION_USER SVFOP_CURRENT_CATALOG
    SVFOP_CURRENT_SCHEMA
    """.split()
)
# Settings that tell one server from another.
SERVER_SETTINGS: Final = frozenset(
    """
    all cluster_name config_file data_directory external_pid_file hba_file ident_file
    listen_addresses port primary_conninfo primary_slot_name unix_socket_directories
    """.split()
)

READS: Final = (NON_VOLATILE - NON_VOLATILE_ON_PRIMARY - RUNNING_WHAT_THEY_ARE_TOLD) | READ_SAFE

# The schema information_schema is as much PostgreSQL's own; drivers ask by its functions.
INFORMATION_SCHEMA_FUNCTIONS: Final = frozenset(
    """
    _pg_char_max_length _pg_char_octet_length _pg_datetime_precision _pg_expandarray
    _pg_index_position _pg_interval_type _pg_numeric_precision _pg_numeric_precision_radix
    _pg_numeric_scale _pg_truetypid _pg_truetypmod
    """.split()
)
INFORMATION_SCHEMA_TYPES: Final = frozenset(
    "cardinal_number character_data sql_identifier time_stamp yes_or_no".split()
)

# Settings by which a client asks whether this server takes writes, or how it treats a transaction:
# drivers look for a primary with them (target_session_attrs, targetServerType).
ROLE_SETTINGS: Final = frozenset(
    """
    in_hot_standby transaction_read_only default_transaction_read_only transaction_isolation
    default_transaction_isolation transaction_deferrable
    """.split()
)


def function_reason(names: list[str]) -> Reason | None:
    """Why a call of this function (schema, if any, and name) is no read, or None: it is one."""
    name = names[-1]
    if len(names) > 1 and (len(names) > 2 or names[0] != "pg_catalog"):
        if names[:-1] == ["information_schema"] and name in INFORMATION_SCHEMA_FUNCTIONS:
            return None
        return Reason.TEMP_TABLE if is_temporary(names[-2]) else Reason.UNKNOWN_FUNCTION
    if name in READS:
        return None
    if name in WRITING:
        return Reason.WRITING_FUNCTION
    if name in SESSION:
        return Reason.SESSION_STATE
    if name in READS_OF_THE_PRIMARY or name in NON_VOLATILE_ON_PRIMARY:
        return Reason.PRIMARY_FUNCTION
    if name in VOLATILE or name in RUNNING_WHAT_THEY_ARE_TOLD:
        return Reason.VOLATILE_FUNCTION
    return Reason.UNKNOWN_FUNCTION


def is_of_the_transaction(function: str) -> bool:
    """Whether what a built-in tells is of the transaction, or of where it runs."""
    return function in OF_THE_TRANSACTION or function.startswith(STATISTICS)


def is_view_of_the_transaction(relation: str) -> bool:
    """The same of a relation; one of the user's that has such a name may be meant."""
    return relation in VIEWS_OF_THE_TRANSACTION or relation.startswith(STATISTICS)


def is_view_of_the_primary(relation: str, schema: str) -> bool:
    """Whether a relation (schema: "" if none is said) shows what only the primary can tell."""
    return relation in VIEWS_OF_THE_PRIMARY and schema in ("", "pg_catalog")


def type_reason(names: list[str]) -> Reason | None:
    """Why a value of this type (schema, if any, and name) is not known to be read-only, or None."""
    name = names[-1]
    schema = names[:-1]
    if name in TYPES and schema in ([], ["pg_catalog"]):
        return None
    if name in INFORMATION_SCHEMA_TYPES and schema == ["information_schema"]:
        return None
    if schema and is_temporary(schema[-1]):
        return Reason.TEMP_TABLE
    return Reason.UNKNOWN_TYPE


def is_temporary(schema: str) -> bool:
    """Whether a schema's name means temporary objects: pg_temp, pg_temp_7, pg_toast_temp_7."""
    return schema.startswith(("pg_temp", "pg_toast_temp"))
