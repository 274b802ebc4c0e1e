"""What the relay must know of single statements beside their target."""

import pglast.ast
import pytest

from pgproxy.protocol.named import DEALLOCATES, DEALLOCATES_ALL, EXECUTES, PREPARES
from pgproxy.routing.classify import classify
from pgproxy.routing.ddl import DDL
from pgproxy.routing.decision import PRIMARY, SHOW_CHANNELS, Decision
from pgproxy.routing.pins import Pin
from pgproxy.routing.reads import DATA_CHANGES
from pgproxy.routing.statements import FIXED, LOCAL, LOOKING, PINNING, SPECIAL, decide_statement


def decide(sql: str) -> Decision:
    """The decision for a text."""
    return classify(sql.encode())


@pytest.mark.parametrize(
    ("sql", "kind", "name"),
    [
        ("PREPARE p AS SELECT 1", PREPARES, b"p"),
        ("EXECUTE P(1)", EXECUTES, b"p"),
        ("EXPLAIN EXECUTE p", EXECUTES, b"p"),
        ("EXPLAIN ANALYZE EXECUTE p", EXECUTES, b"p"),
        ("CREATE TABLE a AS EXECUTE p", EXECUTES, b"p"),
        ("EXPLAIN CREATE TABLE a AS EXECUTE p", EXECUTES, b"p"),
        ("EXPLAIN ANALYZE CREATE TABLE a AS EXECUTE p", EXECUTES, b"p"),
        ("DEALLOCATE p", DEALLOCATES, b"p"),
        ('DEALLOCATE "P q"', DEALLOCATES, b"P q"),
        ('DEALLOCATE "all"', DEALLOCATES, b"all"),
        ("DEALLOCATE ALL", DEALLOCATES_ALL, b""),
        ("DEALLOCATE PREPARE ALL", DEALLOCATES_ALL, b""),
        ("DISCARD ALL", DEALLOCATES_ALL, b""),
    ],
)
def test_what_names_prepared_statements_says_which(sql: str, kind: int, name: bytes) -> None:
    names = decide(sql).names
    assert names is not None
    assert [(use.kind, use.name) for use in names.uses] == [(kind, name)]


@pytest.mark.parametrize("sql", ["DISCARD PLANS", "DISCARD TEMP", "PREPARE TRANSACTION 'p'"])
def test_what_does_nothing_to_prepared_statements_names_none(sql: str) -> None:
    assert decide(sql).names is None


def test_every_statement_of_the_grammar_has_a_line_in_one_table() -> None:
    inner = {
        "PLAssignStmt",  # PL/pgSQL
        "RawStmt",  # what holds a statement
        "ReplicaIdentityStmt",  # a part of ALTER TABLE
        "ReturnStmt",  # the body of a SQL function
        "SetOperationStmt",  # made by the analyzer
    }
    tables = [
        set(DDL),
        set(FIXED),
        set(LOCAL),
        set(PINNING),
        set(SPECIAL),
        set(LOOKING),
        set(DATA_CHANGES),
        {"SelectStmt"},
    ]
    known = set.union(*tables)
    assert sum(map(len, tables)) == len(known)
    grammar = {name for name in dir(pglast.ast) if name.endswith("Stmt")}
    assert known <= grammar
    others = {name for name in grammar - known if not name.startswith(("Alter", "Create", "Drop"))}
    assert others == inner


def test_a_statement_of_no_table_goes_to_the_primary() -> None:
    decision = decide_statement({"NewStmt": {}})
    assert (decision.target, decision.reason.value) == (PRIMARY, "unknown_syntax")
    assert decide_statement({}).target == PRIMARY


@pytest.mark.parametrize(
    ("sql", "is_own"),
    [
        ("SELECT pg_listening_channels()", True),
        ("SELECT * FROM pg_listening_channels()", True),
        ("SELECT * FROM pg_catalog.pg_listening_channels()", True),
        ("SELECT pg_listening_channels() AS c", False),
        ("SELECT * FROM pg_listening_channels() AS c", False),
        ("SELECT * FROM pg_listening_channels() WHERE true", False),
        ("SELECT count(*) FROM pg_listening_channels()", False),
        ("SELECT * FROM pg_listening_channels(), t", False),
    ],
)
def test_which_questions_for_channels_the_proxy_answers(sql: str, is_own: bool) -> None:
    assert (classify(sql.encode()).kind == SHOW_CHANNELS) == is_own


@pytest.mark.parametrize(
    "sql",
    [
        "CALL p(set_config('work_mem', '5MB', false))",
        "ALTER TABLE t ADD COLUMN x text DEFAULT set_config('work_mem', '5MB', false)",
        "DECLARE c CURSOR FOR SELECT set_config('work_mem', '5MB', false), nextval('s')",
        "DECLARE c CURSOR FOR SELECT set_config('work_mem', '5MB', false) FROM t FOR UPDATE",
    ],
)
def test_what_is_computed_on_the_way_may_set_something(sql: str) -> None:
    (effect,) = classify(sql.encode()).effects
    assert effect.names == ("work_mem",)


@pytest.mark.parametrize(
    ("sql", "pin"),
    [
        ("CALL p(pg_advisory_lock(1))", Pin.ADVISORY_LOCK),
        ("ALTER TABLE t ADD COLUMN x text DEFAULT pg_advisory_lock(1)", Pin.ADVISORY_LOCK),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT setseed(1)", Pin.SETSEED),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT nextval('s')", Pin.HOLD_CURSOR),
        ("SET app.\u00fc = 'a'", Pin.SET),
        (f"UPDATE pg_settings SET setting = '{'x' * 5000}'", Pin.SET),
        ("SELECT set_config('work_memory'::varchar(8), '5MB', false)", Pin.SET_CONFIG),
        ("SELECT set_config('work_mem'::name, '5MB', false)", Pin.SET_CONFIG),
        ("CALL p()", None),
    ],
)
def test_and_may_pin(sql: str, pin: Pin | None) -> None:
    assert classify(sql.encode()).pin is pin
