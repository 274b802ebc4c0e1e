"""What names stand for by PostgreSQL's own lists and the user's."""

import pytest

from pgproxy.routing.lookup import BUILT_IN, FunctionLists, Lookup, Verdict, is_of_postgresql
from pgproxy.routing.reasons import Reason


def reason(verdict: Verdict | None) -> Reason | None:
    return None if verdict is None else verdict.reason


def test_what_is_postgresqls_own_is_known() -> None:
    assert BUILT_IN.function(["lower"], 1) is None
    assert BUILT_IN.function(["pg_catalog", "lower"], 1) is None
    assert reason(BUILT_IN.function(["public", "lower"], 1)) is Reason.UNKNOWN_FUNCTION
    assert reason(BUILT_IN.function(["nextval"], 1)) is Reason.WRITING_FUNCTION
    assert BUILT_IN.operator(["="]) is None
    assert reason(BUILT_IN.operator(["public", "="])) is Reason.UNKNOWN_OPERATOR
    assert BUILT_IN.type(["pg_catalog", "int4"]) is None
    assert reason(BUILT_IN.type(["mood"])) is Reason.UNKNOWN_TYPE
    assert BUILT_IN.relation("", "t") is None
    assert reason(BUILT_IN.relation("pg_catalog", "pg_locks")) is Reason.PRIMARY_FUNCTION
    assert BUILT_IN.attribute("f") is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["report"], None),
        (["app", "report"], None),
        (["app", "sum_up"], None),
        (["sum_up"], Reason.UNKNOWN_FUNCTION),
        (["reports"], Reason.UNKNOWN_FUNCTION),
        (["get_lock"], Reason.WRITING_FUNCTION),
        (["lower"], Reason.WRITING_FUNCTION),
        (["setval"], Reason.WRITING_FUNCTION),  # whatever the list of reads says
        (["set_config"], Reason.SESSION_STATE),
    ],
)
def test_the_users_lists_match_whole_names(names: list[str], expected: Reason | None) -> None:
    lists = FunctionLists(["report", r"app\.sum_.*", "setval", "set_config"], ["get_.*", "lower"])
    assert reason(Lookup(lists).function(names, 1)) is expected


def test_which_relations_are_most_likely_postgresqls_own() -> None:
    assert is_of_postgresql("", "pg_class")
    assert is_of_postgresql("information_schema", "tables")
    assert not is_of_postgresql("public", "pg_class")
    assert not is_of_postgresql("", "orders")
