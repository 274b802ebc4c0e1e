"""The lists of functions: complete, disjoint, and about PostgreSQL's own."""

import pytest

from pgproxy.routing.builtins import NON_VOLATILE, OPERATORS, TYPES, VOLATILE
from pgproxy.routing.functions import (
    NON_VOLATILE_ON_PRIMARY,
    PINS,
    READ_SAFE,
    READS,
    READS_OF_THE_PRIMARY,
    SESSION,
    WRITING,
    function_reason,
    is_temporary,
    is_view_of_the_primary,
    type_reason,
)
from pgproxy.routing.reasons import Reason


def test_a_function_is_volatile_or_not() -> None:
    assert not NON_VOLATILE & VOLATILE
    assert len(NON_VOLATILE) > 2000
    assert {"lower", "now", "count", "row_number", "to_tsvector"} <= NON_VOLATILE
    assert {"nextval", "random", "set_config", "setseed"} <= VOLATILE
    assert {"int4", "text", "_text", "jsonb", "timestamptz"} <= TYPES
    assert "pg_class" not in TYPES
    assert {"=", "||", "->>", "@>"} <= OPERATORS


def test_the_lists_by_hand_hold_built_in_names_only() -> None:
    by_hand = (
        NON_VOLATILE_ON_PRIMARY | READ_SAFE | READS_OF_THE_PRIMARY | WRITING | SESSION | set(PINS)
    )
    assert by_hand - NON_VOLATILE - VOLATILE == set()


def test_each_list_is_of_the_volatility_that_it_is_about() -> None:
    assert NON_VOLATILE_ON_PRIMARY <= NON_VOLATILE
    assert READ_SAFE <= VOLATILE
    assert READS_OF_THE_PRIMARY | SESSION <= VOLATILE
    assert WRITING - NON_VOLATILE_ON_PRIMARY <= VOLATILE


def test_what_writes_pins_or_belongs_to_the_primary_is_no_read() -> None:
    assert not READS & (WRITING | SESSION | READS_OF_THE_PRIMARY | NON_VOLATILE_ON_PRIMARY)
    assert not READS & set(PINS)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["lower"], None),
        (["pg_catalog", "lower"], None),
        (["random"], None),
        (["nextval"], Reason.WRITING_FUNCTION),
        (["txid_current"], Reason.WRITING_FUNCTION),
        (["pg_walfile_name"], Reason.PRIMARY_FUNCTION),
        (["currval"], Reason.PRIMARY_FUNCTION),
        (["set_config"], Reason.SESSION_STATE),
        (["pg_read_file"], Reason.VOLATILE_FUNCTION),
        (["Lower"], Reason.UNKNOWN_FUNCTION),
        (["public", "lower"], Reason.UNKNOWN_FUNCTION),
        (["d", "pg_catalog", "lower"], Reason.UNKNOWN_FUNCTION),
        (["pg_temp", "lower"], Reason.TEMP_TABLE),
        (["d", "pg_temp_1", "lower"], Reason.TEMP_TABLE),
    ],
)
def test_a_name_has_one_rule(names: list[str], reason: Reason | None) -> None:
    assert function_reason(names) is reason


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["int4"], None),
        (["pg_catalog", "_text"], None),
        (["information_schema", "sql_identifier"], None),
        (["mood"], Reason.UNKNOWN_TYPE),
        (["sql_identifier"], Reason.UNKNOWN_TYPE),
        (["public", "int4"], Reason.UNKNOWN_TYPE),
        (["d", "pg_catalog", "int4"], Reason.UNKNOWN_TYPE),
        (["pg_temp", "int4"], Reason.TEMP_TABLE),
        ([""], Reason.UNKNOWN_TYPE),
    ],
)
def test_a_type_has_one_rule(names: list[str], reason: Reason | None) -> None:
    assert type_reason(names) is reason


def test_only_postgresql_s_own_views_tell_what_the_primary_alone_knows() -> None:
    assert is_view_of_the_primary("pg_locks", "")
    assert is_view_of_the_primary("pg_prepared_xacts", "pg_catalog")
    assert not is_view_of_the_primary("pg_locks", "app")
    assert not is_view_of_the_primary("pg_class", "")


def test_temporary_schemas_are_known_by_their_names() -> None:
    assert is_temporary("pg_temp")
    assert is_temporary("pg_temp_12")
    assert is_temporary("pg_toast_temp_1")
    assert not is_temporary("public")
    assert not is_temporary("temp")
