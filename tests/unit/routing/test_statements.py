"""What the relay must know of single statements beside their target."""

import pglast.ast
import pytest

from pgproxy.protocol.named import DEALLOCATES, DEALLOCATES_ALL, EXECUTES, PREPARES
from pgproxy.routing.classify import classify
from pgproxy.routing.ddl import DDL
from pgproxy.routing.decision import (
    BEGIN,
    CHAIN,
    END,
    PLAIN,
    PRIMARY,
    REPLICA,
    SET_MIN_LSN,
    SET_ROUTE,
    SHOW_CHANNELS,
    SHOW_LAST_ROUTE,
    SHOW_LSN,
    SHOW_MIN_LSN,
    SHOW_ROUTE,
    Decision,
)
from pgproxy.routing.pins import Pin
from pgproxy.routing.reads import DATA_CHANGES
from pgproxy.routing.statements import FIXED, LOCAL, LOOKING, PINNING, SPECIAL, decide_statement


def decide(sql: str) -> Decision:
    """The decision for a text."""
    return classify(sql.encode())


@pytest.mark.parametrize(
    ("sql", "tag", "read_only", "target"),
    [
        ("BEGIN", b"BEGIN", False, PRIMARY),
        ("begin work;", b"BEGIN", False, PRIMARY),
        ("START TRANSACTION", b"START TRANSACTION", False, PRIMARY),
        ("BEGIN READ ONLY", b"BEGIN", True, REPLICA),
        ("START TRANSACTION READ ONLY", b"START TRANSACTION", True, REPLICA),
        ("BEGIN READ ONLY READ WRITE", b"BEGIN", False, PRIMARY),
        ("BEGIN READ WRITE READ ONLY", b"BEGIN", True, PRIMARY),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", b"BEGIN", True, PRIMARY),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", b"BEGIN", False, PRIMARY),
    ],
)
def test_begin_says_its_tag_and_its_mode(
    sql: str, tag: bytes, read_only: bool, target: int
) -> None:
    decision = decide(sql)
    assert decision.kind == BEGIN
    assert (decision.tag, decision.read_only, decision.target) == (tag, read_only, target)
    assert decision.starts_transaction
    assert not decision.ends_transaction


@pytest.mark.parametrize(
    ("sql", "tag"),
    [
        ("COMMIT", b"COMMIT"),
        ("COMMIT WORK AND NO CHAIN", b"COMMIT"),
        ("END TRANSACTION", b"COMMIT"),
        ("ROLLBACK", b"ROLLBACK"),
        ("ABORT", b"ROLLBACK"),
    ],
)
def test_an_end_says_the_tag_that_postgresql_answers_with(sql: str, tag: bytes) -> None:
    decision = decide(sql)
    assert (decision.kind, decision.tag) == (END, tag)
    assert decision.ends_transaction
    assert not decision.starts_transaction


@pytest.mark.parametrize(
    ("sql", "starts", "ends"),
    [
        ("COMMIT AND CHAIN", True, True),
        ("ROLLBACK AND CHAIN", True, True),
        ("PREPARE TRANSACTION 'x'", False, True),
        ("COMMIT PREPARED 'x'", False, False),
        ("ROLLBACK PREPARED 'x'", False, False),
        ("SAVEPOINT a", False, False),
        ("ROLLBACK TO a", False, False),
        ("RELEASE a", False, False),
    ],
)
def test_other_transaction_commands_are_no_end_that_the_relay_may_answer(
    sql: str, starts: bool, ends: bool
) -> None:
    decision = decide(sql)
    assert decision.kind == (CHAIN if starts else PLAIN)
    assert (decision.starts_transaction, decision.ends_transaction) == (starts, ends)


@pytest.mark.parametrize(
    ("sql", "argument", "local"),
    [
        ("SET pgproxy.route = 'replica'", "replica", False),
        ("SET pgproxy.route TO 'PRIMARY'", "primary", False),
        ("SET pgproxy.route = auto", "auto", False),
        ("SET SESSION pgproxy.route = 'x y'", "x y", False),
        ("SET LOCAL pgproxy.route = 'replica'", "replica", True),
        ("SET pgproxy.route = 1", "1", False),
        ("SET pgproxy.route = 1.5", "1.5", False),
        ("SET pgproxy.route = on", "on", False),
        ("SET pgproxy.route = 'a', b", "a, b", False),
        ("SET pgproxy.route TO DEFAULT", "", False),
        ("SET LOCAL pgproxy.route TO DEFAULT", "", True),
        ("RESET pgproxy.route", "", False),
    ],
)
def test_the_route_setting_keeps_its_value_as_written(sql: str, argument: str, local: bool) -> None:
    decision = decide(sql)
    assert (decision.kind, decision.argument, decision.local) == (SET_ROUTE, argument, local)
    assert decision.pin is None


def test_show_of_our_own_settings_is_told_apart() -> None:
    assert decide("SHOW pgproxy.route").kind == SHOW_ROUTE
    assert decide('SHOW "pgproxy.Last_Route"').kind == SHOW_LAST_ROUTE
    assert decide("SHOW pgproxy.min_lsn").kind == SHOW_MIN_LSN
    assert decide("SHOW PgProxy.LSN").kind == SHOW_LSN


def test_the_position_to_be_seen_is_set_like_the_route() -> None:
    decision = decide("SET LOCAL pgproxy.min_lsn TO '0/3000060'")
    assert (decision.kind, decision.argument, decision.local) == (SET_MIN_LSN, "0/3000060", True)
    assert decide("RESET pgproxy.min_lsn").argument == ""
    assert decision.pin is None


def test_only_the_primary_tells_the_position_to_be_seen() -> None:
    decision = decide("SHOW pgproxy.lsn")
    assert decision.target == PRIMARY
    assert decision.known_write, "no hint sends it to a replica"
    assert not decision.may_write, "it makes no later read wait"


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


def test_set_local_says_so() -> None:
    assert decide("SET LOCAL work_mem = '1MB'").local
    assert not decide("SET work_mem = '1MB'").local


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
    ("sql", "value"),
    [
        ("SET work_mem = '1MB'", "1MB"),
        ("SET work_mem = 64", "64"),
        ("SET TIME ZONE -8", "-8"),
        ("SET seq_page_cost = 1.5", "1.5"),
        ("SET enable_seqscan = off", "off"),
        ("SET bytea_output TO hex", "hex"),
        ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", None),
        ("SET datestyle = iso, mdy", None),
        ("SET search_path = public", "public"),
        ("SET search_path = 'a', \"$user\", b_1", 'a, "$user", b_1'),
        ("SET search_path = ''", '""'),
        ("SET search_path = 'a, b'", None),
        ('SET search_path = "B"', None),
        ('SET search_path = "user"', None),
        ("SET search_path = 1", None),
        ("SET work_mem TO DEFAULT", None),
        ("SET SESSION AUTHORIZATION u", None),
        ("SET ROLE u", "u"),
        ("SET app.text = 'ü'", None),  # it may be another letter in the client's encoding
    ],
)
def test_what_a_setting_is_set_to(sql: str, value: str | None) -> None:
    (effect,) = classify(sql.encode()).effects
    assert effect.value == value


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
