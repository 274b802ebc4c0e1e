"""The white list of parse nodes: nothing of the grammar is missed, nothing unknown passes."""

import pglast.ast
import pytest

from pgproxy.routing.classify import classify
from pgproxy.routing.parsing import parse
from pgproxy.routing.pins import Pin
from pgproxy.routing.reads import PLAIN_NODES, Findings, is_about_temporary, strings
from pgproxy.routing.reasons import Reason


def look(sql: str) -> Findings:
    """What is found in the one statement of a text."""
    findings = Findings()
    findings.look(parse(sql.encode())[0])
    return findings


def test_every_node_of_the_white_list_is_one_of_the_grammar() -> None:
    # pglast makes a tuple of a List.
    assert {name for name in PLAIN_NODES if not hasattr(pglast.ast, name)} == {"List"}


def test_no_member_of_a_node_is_named_like_a_node() -> None:
    # The walk tells nodes from members by their first letter.
    for name in dir(pglast.ast):
        for member in _members(name):
            assert not member[0].isupper(), (name, member)


def test_every_member_whose_type_is_not_named_in_the_tree_is_one_the_walk_expects() -> None:
    # These stand in the tree under the member's name alone. Of them only a type, SELECT INTO and
    # a relation say something; `larg` and `rarg` are SELECTs whose parts have their own names.
    expected = {
        ("CTECycleClause", "cycle_clause"),
        ("CTESearchClause", "search_clause"),
        ("CollateClause", "collClause"),
        ("Alias", "alias"),
        ("Alias", "join_using_alias"),
        ("IntoClause", "intoClause"),
        ("RangeVar", "identitySequence"),
        ("SelectStmt", "larg"),
        ("SelectStmt", "rarg"),
        ("TypeName", "typeName"),
        ("WindowDef", "over"),
        ("WithClause", "withClause"),
    }
    found: set[tuple[str, str]] = set()
    for name in PLAIN_NODES | {"A_Expr", "FuncCall", "LockingClause", "RangeTableSample"}:
        for member, c_type in _members(name).items():
            held = c_type.removesuffix("*")
            if c_type.endswith("*") and held not in {"Node", "List", "char", "Expr", "Bitmapset"}:
                found.add((held, member))
    assert {pair for pair in found if not pair[0].startswith("Json")} == expected
    # SQL/JSON nests its own nodes; all of them are on the white list.
    assert {pair[0] for pair in found if pair[0].startswith("Json")} <= PLAIN_NODES


def _members(name: str) -> dict[str, str]:
    slots = getattr(getattr(pglast.ast, name, None), "__slots__", None)
    if not isinstance(slots, dict):
        return {}
    return {member: information.c_type for member, information in slots.items()}


def test_a_node_that_is_not_on_the_list_is_no_read() -> None:
    findings = Findings()
    findings.look({"SelectStmt": {"targetList": [{"ResTarget": {"val": {"NewExpr": {}}}}]}})
    assert findings.reason is Reason.UNKNOWN_SYNTAX
    assert findings.detail == "NewExpr"


def test_the_strongest_rule_is_kept_and_of_equals_the_first_in_the_text() -> None:
    assert look("SELECT f(1), g(2)").detail == "function f"
    assert look("SELECT f(1), nextval('s'), setval('s', 1)").detail == "function nextval"
    assert look("SELECT f(1), set_config('a', 'b', true)").reason is Reason.SESSION_STATE
    assert look("SELECT set_config('a', 'b', true) FOR UPDATE").reason is Reason.LOCKING_CLAUSE


def test_the_pin_is_found_whatever_the_rule() -> None:
    assert look("SELECT nextval('s'), setseed(1)").pin is Pin.SETSEED
    assert look("SELECT setseed(1) FROM t FOR UPDATE").pin is Pin.SETSEED


def test_what_the_session_s_own_sequences_gave() -> None:
    assert look("SELECT currval('s') FROM t FOR UPDATE").asks_sequence
    assert look("SELECT lastval()").asks_sequence
    assert not look("SELECT nextval('s'), app.lastval()").asks_sequence


def effects(sql: str) -> list[tuple[object, ...]]:
    return [effect.fields()[:1] + effect.fields()[3:5] for effect in look(sql).effects]


def test_only_the_keyword_true_makes_set_config_local() -> None:
    for last in ("true", "TRUE"):
        assert effects(f"SELECT set_config('a', 'b', {last})") == []
        # Afterwards there is such a setting, which there was not before.
        assert effects(f"SELECT set_config('A.b', 'c', {last})") == [(("a.b",), True, 0)]
    for last in ("false", "'t'", "$1", "NOT false", "'t'::bool", "1::bool", "is_local => true"):
        assert effects(f"SELECT set_config('a', 'b', {last})") == [(("a",), False, 0)]
    assert effects("SELECT app.set_config('a', 'b', false)") == []


def test_a_setting_whose_name_is_not_in_the_text_pins_unless_a_parameter_has_it() -> None:
    assert look("SELECT set_config(name, 'b', false) FROM t").pin is Pin.SET_CONFIG
    assert look("SELECT set_config(VARIADIC ARRAY[true])").pin is Pin.SET_CONFIG
    named = look("SELECT set_config($2::text, $1, false)")
    assert named.pin is None
    assert [effect.parameter for effect in named.effects] == [2]


def test_what_set_config_changes_with_it_and_what_it_cannot_change_for_good() -> None:
    both = ("session_authorization", "role")
    assert effects("SELECT set_config('session_authorization', 'u', false)") == [(both, False, 0)]
    assert effects("SELECT set_config('transaction_read_only', 'on', false)") == []
    assert look("SELECT set_config('seed', '0.5', false)").pin is Pin.SETSEED


def test_set_config_to_null_is_a_reset() -> None:
    (effect,) = look("SELECT set_config('work_mem', NULL, false)").effects
    assert effect.resets
    (effect,) = look("SELECT set_config('work_mem', 'NULL', false)").effects
    assert not effect.resets


@pytest.mark.parametrize(
    ("is_sure", "sql"),
    [
        (True, "SET app.x = 1"),
        (True, "SET LOCAL app.x TO DEFAULT"),
        (True, "RESET app.x"),
        (True, "SELECT pg_catalog.set_config('app.x', $1::text, true) AS x"),
        (True, "SELECT set_config($1, $2, $3)"),
        (True, "SELECT set_config('role', $1, true), set_config('app.x', 'a', true)"),
        (True, "EXPLAIN (ANALYZE off, ANALYZE) SELECT set_config('app.x', 'a', true)"),
        (False, "SET app.x = 1; SELECT 1"),
        (False, "BEGIN; SET app.x = 1"),
        (False, "SELECT set_config('app.x', 'a', true), set_config('role', $1, true)"),
        (False, "SELECT set_config('app.x', 'a', true), set_config($1, $2, true)"),
        (False, "SELECT set_config('app.x', current_setting('app.x', true), true)"),
        (False, "SELECT set_config('app.x', $1::int::text, true)"),
        (False, "SELECT set_config('app.x', 'a', true) WHERE $1"),
        (False, "SELECT set_config('app.x', 'a', true) LIMIT 0"),
        (False, "SELECT set_config('app.x', 'a', true), f(1)"),
        (False, "SELECT * FROM set_config('app.x', 'a', true)"),
        (False, "WITH a AS (SELECT set_config('app.x', 'a', true)) SELECT 1"),
        (False, "CREATE TABLE t AS SELECT set_config('app.x', 'a', true)"),
    ],
)
def test_which_statements_set_all_that_they_name_or_nothing(is_sure: bool, sql: str) -> None:
    effects = classify(sql.encode()).effects
    assert effects
    assert all(effect.surely for effect in effects) == is_sure


def test_what_only_sets_settings_may_stay_on_a_replica() -> None:
    assert look("SELECT set_config('a', 'b', true), id FROM t").is_read_but_for_settings
    assert not look("SELECT set_config('a', 'b', true), f(1)").is_read_but_for_settings
    assert not look("SELECT 1").is_read_but_for_settings


def test_current_setting_is_decided_for_one_text_only() -> None:
    assert look("SELECT current_setting('work_mem')").exact
    assert look("SELECT current_setting($1)").exact
    assert look("SELECT current_setting()").exact
    assert not look("SELECT app.current_setting('work_mem')").exact
    assert not look("SELECT set_config('a', 'b', true)").exact


def test_temporary_objects_are_found_in_any_tree() -> None:
    def about(sql: str) -> bool:
        return is_about_temporary(parse(sql.encode())[0])

    assert about("CREATE TEMP TABLE a (b int)")
    assert about("EXPLAIN SELECT * FROM pg_temp.a")
    assert about("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS ''")
    assert not about("CREATE TABLE a (b int)")
    assert not about("SELECT * FROM temp.pg_a")


def test_the_parts_of_a_name_are_its_strings() -> None:
    assert strings([{"String": {"sval": "a"}}, {"A_Star": {}}, {"String": {}}]) == ["a", ""]
