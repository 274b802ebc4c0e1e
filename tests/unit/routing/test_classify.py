"""The corpus, and what classification does with a text as a whole."""

import pytest

from pgproxy.protocol.settings import AUTHORITY
from pgproxy.routing.classify import (
    DATA_CHANGING_WORDS,
    SESSION_STEMS,
    SHORT,
    classify,
    classify_beginning,
)
from pgproxy.routing.decision import (
    EMPTY,
    END,
    NO_HINT,
    PLAIN,
    PRIMARY,
    REPLICA,
    SET_ROUTE,
    Decision,
)
from pgproxy.routing.functions import PINS
from pgproxy.routing.parsing import parse, parse_with_places
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason
from tests.unit.routing.corpus import Case, read_corpus

CORPUS = read_corpus()


def outcome(decision: Decision) -> tuple[str, str, str]:
    """Target, reason and pin, as corpus.txt writes them."""
    return (
        "replica" if decision.target == REPLICA else "primary",
        decision.reason.value,
        "" if decision.pin is None else decision.pin.value,
    )


@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_a_statement_goes_where_the_corpus_says(case: Case) -> None:
    decision = classify(case.sql.encode())
    assert outcome(decision) == (case.target, case.reason, case.pin), decision.detail


def test_the_corpus_shows_every_rule_that_looks_at_a_statement() -> None:
    reasons = list(Reason)
    # The rest is decided by the relay, which alone knows the session and the servers.
    ours = set(reasons[: reasons.index(Reason.FLUSH_BEFORE_SYNC)]) - {
        Reason.UNSAFE_ENCODING,
        Reason.RULE,
    }
    elsewhere = {Reason.TOO_LONG, Reason.TOO_DEEP, Reason.UNKNOWN_SYNTAX}
    elsewhere |= {Reason.UNLOGGED, Reason.FOREIGN_TABLE}  # which the catalogue tells
    assert {Reason(case.reason) for case in CORPUS} == ours - elsewhere


@pytest.mark.parametrize(
    "case", [case for case in CORPUS if case.target == "replica"], ids=str
)  # fmt: skip
def test_what_goes_to_a_replica_pins_nothing_and_is_no_known_write(case: Case) -> None:
    decision = classify(case.sql.encode())
    assert decision.pin is None
    assert not decision.known_write
    assert not decision.unparsed
    assert not decision.discards


def test_a_plain_read_can_be_moved_and_the_hinted_one_cannot() -> None:
    assert classify(b"SELECT 1").movable
    assert classify(b"SELECT 1; SELECT 2").movable
    assert classify(b"COPY t TO STDOUT").movable
    assert not classify(b"/* pgproxy: replica */ SELECT f(1)").movable
    assert not classify(b"BEGIN READ ONLY").movable
    assert not classify(b"SELECT f(1)").movable


def test_the_detail_names_what_made_the_rule_fire() -> None:
    assert classify(b"SELECT pg_catalog.nextval('s')").detail == "function pg_catalog.nextval"
    assert classify(b"WITH a AS (DELETE FROM t) SELECT f(1) FROM a").detail == "DELETE"
    assert classify(b"SELECT f(1) FROM t FOR NO KEY UPDATE").detail == "FOR NO KEY UPDATE"
    assert classify(b"SELECT 1::app.mood").detail == "type app.mood"
    assert classify(b"SELECT a <=> b").detail == "operator <=>"
    assert classify(b"ALTER TABLE t ADD c int").detail == "ALTER TABLE"
    assert classify(b"SELECT 1; SELECT f(1); DROP TABLE t").detail == "statement 3: DROP TABLE"
    assert classify(b"SELEC 1").detail == 'syntax error at or near "SELEC"'


def test_several_statements_keep_what_each_of_them_does() -> None:
    decision = classify(b"BEGIN; DISCARD ALL; SET a.b = 1; LISTEN c; COMMIT")
    assert decision.kind == PLAIN
    assert decision.starts_transaction
    assert decision.ends_transaction
    assert decision.discards
    assert decision.known_write
    assert decision.pin is Pin.LISTEN
    assert [effect.names for effect in decision.effects] == [AUTHORITY, ("a.b",)]


def test_a_text_that_is_read_but_opens_a_transaction_stays_on_the_primary() -> None:
    decision = classify(b"BEGIN READ ONLY; SELECT 1")
    assert decision.target == PRIMARY
    assert decision.starts_transaction
    assert not decision.ends_transaction


def test_set_route_among_other_statements_is_a_setting_of_the_server() -> None:
    assert classify(b"SET pgproxy.route = 'replica'").pin is None
    assert classify(b"SET pgproxy.route = 'replica'; SELECT 1").pin is Pin.SET
    assert classify(b"RESET pgproxy.route; SELECT 1").pin is None
    assert classify(b"SET LOCAL pgproxy.route = 'replica'; SELECT 1").pin is None


@pytest.mark.parametrize(
    ("sql", "argument", "local"),
    [
        ("SET pgproxy.route TO primary", "primary", False),
        ("set pgproxy.route=Primary ;", "primary", False),
        ("SET LOCAL pgproxy.route = PRIMARY", "primary", True),
        ("SET SESSION pgproxy.route TO\nprimary", "primary", False),
    ],
)
def test_primary_need_not_be_quoted_though_it_is_a_reserved_word(
    sql: str, argument: str, local: bool
) -> None:
    decision = classify(sql.encode())
    assert (decision.kind, decision.argument, decision.local) == (SET_ROUTE, argument, local)


def test_a_text_without_statements_is_empty_under_a_hint_too() -> None:
    for sql in (b"", b" \n", b";;", b"-- x", b"/* pgproxy: primary */"):
        decision = classify(sql)
        assert (decision.kind, decision.target, decision.reason) == (EMPTY, REPLICA, Reason.EMPTY)


def test_a_hint_is_kept_also_where_it_changes_nothing() -> None:
    assert classify(b"SELECT 1").hint == NO_HINT
    assert classify(b"/* pgproxy: replica */ SELECT 1").hint == REPLICA
    assert classify(b"/* pgproxy: replica */ DELETE FROM t").hint == REPLICA
    assert classify(b"/* pgproxy: primary */ DELETE FROM t").hint == PRIMARY
    begin = classify(b"/* pgproxy: replica */ BEGIN")
    assert (begin.target, begin.hint, begin.tag) == (PRIMARY, REPLICA, b"BEGIN")


@pytest.mark.parametrize(
    "sql",
    [
        "SET a.b = 1",
        "SELECT set_config('a.b', 'c', false)",
        "SELECT currval('s')",
        "SELECT pg_advisory_lock(1)",
        "CREATE TEMP TABLE a (b int)",
        "LISTEN c",
        "COMMIT",
        "SELEC 1",
        "SELECT f(1); SELECT nextval('s')",
        "CALL p()",
        "EXECUTE p",
    ],
)
def test_a_replica_hint_overrules_neither_writes_nor_session_state(sql: str) -> None:
    assert classify(f"/* pgproxy: replica */ {sql}".encode()).target == PRIMARY


# --- encodings and quoting


def test_a_text_in_latin_1_is_understood_since_its_letters_do_not_matter() -> None:
    assert outcome(classify("SELECT 'é' AS ü".encode("latin-1"))) == ("replica", "read", "")
    decision = classify("INSERT INTO é VALUES ('ü')".encode("latin-1"))
    assert outcome(decision) == ("primary", "write", "")


def test_a_zero_byte_is_not_taken_for_the_end() -> None:
    decision = classify(b"SELECT 1\0; DELETE FROM t")
    assert (decision.target, decision.unparsed) == (PRIMARY, True)


def test_a_backslash_before_a_quote_is_ambiguous_only_in_a_plain_string() -> None:
    assert classify(rb"SELECT E'it\'s'").reason is Reason.READ
    assert classify(rb"SELECT E'a\\', 'b'").reason is Reason.READ
    assert classify(rb"SELECT 'a\b'").reason is Reason.READ
    assert classify(rb"SELECT 'a\'").reason is Reason.AMBIGUOUS_QUOTING
    assert classify(rb"/* pgproxy: replica */ SELECT 'a\'").target == REPLICA


# --- long and deep texts


def over(sql: str, length: int = 40000) -> bytes:
    """The statement, made longer than the parse limit by a literal where it says %s."""
    return (sql % ("'" + "x; " * (length // 3) + "'")).encode()


@pytest.mark.parametrize(
    ("sql", "known_write"),
    [
        ("INSERT INTO t VALUES (%s)", True),
        ("  /* c */ update t SET name = %s;", True),
        ("DELETE FROM t WHERE name = %s -- the end", True),
        ("MERGE INTO t USING v ON name = %s WHEN MATCHED THEN DELETE", True),
        ("SELECT %s", False),
        ("(SELECT %s)", False),
        ("VALUES (%s)", False),
        ("WITH a AS (SELECT %s) SELECT * FROM a", False),
        ("COPY (SELECT %s) TO STDOUT", False),
        ("SELECT %s, $x$ ; $x$, E' \\' ; ', \";\"", False),
    ],
)
def test_one_long_statement_goes_to_the_primary_and_leaves_the_session_free(
    sql: str, known_write: bool
) -> None:
    decision = classify(over(sql))
    assert outcome(decision) == ("primary", "too_long", "")
    assert decision.known_write == known_write
    assert not decision.unparsed


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT %s",
        "INSERT INTO t VALUES (%s); SET work_mem = '1MB'",
        "SELECT set_config('a.b', %s, false)",
        "INSERT INTO t SELECT Set_Config('a.b', %s, false)",
        'SELECT U&"s\\0065tseed"(1), %s',
        "SELECT %s INTO TEMP new",
        "SELECT %s INTO LOCAL TEMPORARY TABLE new",
        "SELECT %s INTO pg_temp.new",
        "SELECT pg_try_advisory_lock(1), %s",
        "SELECT currval(%s)",
        "SET a.b = %s",
        "DO %s",
        "CREATE TABLE t (a text DEFAULT %s)",
        "SELECT %s, '\\'",
        "SELECT %s, 'unterminated",
        "SELECT %s /* unterminated",
        "SELECT %s, $$ unterminated",
    ],
)
def test_a_long_text_pins_if_it_may_leave_something_in_the_session(sql: str) -> None:
    decision = classify(over(sql))
    assert outcome(decision) == ("primary", "too_long", "unparsed")
    assert decision.unparsed


def test_the_parse_limit_is_the_first_length_that_is_parsed() -> None:
    assert classify(b"SELECT 1", 8).reason is Reason.READ
    assert classify(b"SELECT 12", 8).reason is Reason.TOO_LONG


def test_a_replica_hint_holds_for_a_long_read_and_not_for_a_long_write() -> None:
    assert classify(over("/* pgproxy: replica */ SELECT %s")).target == REPLICA
    assert classify(over("/* pgproxy: replica */ DELETE FROM t WHERE a = %s")).target == PRIMARY
    assert classify(over("/* pgproxy: replica */ SELECT currval(%s)")).target == PRIMARY


def test_of_a_text_whose_end_is_not_known_anything_is_feared() -> None:
    decision = classify_beginning(b"INSERT INTO t VALUES ('xxx")
    assert outcome(decision) == ("primary", "too_long", "unparsed")
    assert decision.known_write
    assert not classify_beginning(b"SELECT 'xxx").known_write


@pytest.mark.parametrize("word", sorted(DATA_CHANGING_WORDS))
@pytest.mark.parametrize("hint", ["", "/* pgproxy: replica */ ", "/* pgproxy: primary */ "])
def test_a_longer_change_is_not_parsed_and_has_the_decision_of_a_short_one(
    word: str, hint: str
) -> None:
    rest = {
        "insert": "INTO t VALUES (1, %s)",
        "update": "t SET name = %s",
        "delete": "FROM t WHERE name = %s",
        "merge": "INTO t USING v ON name = %s WHEN MATCHED THEN DELETE",
    }[word]
    short = classify((f"{hint}{word} {rest}" % "'x'").encode())
    assert classify(over(f"{hint}{word} {rest}", SHORT)).fields() == short.fields()
    assert short.known_write


def test_a_longer_change_is_parsed_if_it_may_pin() -> None:
    decision = classify(over("INSERT INTO t SELECT setseed(0.1), %s", SHORT))
    assert outcome(decision) == ("primary", "write", "setseed")


def test_every_function_that_pins_is_found_by_its_stem() -> None:
    for name in PINS:
        assert any(stem in name.encode() for stem in SESSION_STEMS), name


def test_a_text_nested_too_deep_goes_to_the_primary_and_leaves_the_session_free() -> None:
    decision = classify(b"SELECT 1" + b"+1" * 4000)
    assert outcome(decision) == ("primary", "too_deep", "")


def test_what_the_parser_finds_too_deep_pins_only_if_postgresql_accepts_it() -> None:
    decision = classify(b"SELECT " + b"(" * 12000 + b"1" + b")" * 12000)
    assert outcome(decision) == ("primary", "unparsable", "unparsed")


# --- parsing


def test_each_statement_comes_with_its_own_text() -> None:
    parts = parse_with_places("SELECT 'é'; DELETE FROM ü ;SELECT 2".encode())
    assert [text.strip() for _, text in parts] == ["SELECT 'é'", "DELETE FROM ü", "SELECT 2"]
    assert [list(tree) for tree, _ in parts] == [["SelectStmt"], ["DeleteStmt"], ["SelectStmt"]]


def test_a_lone_end_of_transaction_is_told_from_one_among_others() -> None:
    assert classify(b"COMMIT").kind == END
    assert classify(b"SELECT 1; COMMIT").kind == PLAIN
    assert len(parse(b"SELECT 1; COMMIT")) == 2
