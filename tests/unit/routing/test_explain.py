"""`pgproxy route`: the decision in words."""

import json

from pgproxy.routing.explain import explain


def test_a_read_is_explained_in_two_lines() -> None:
    assert explain("SELECT 1").to_text() == (
        "target   replica\n"
        "reason   read: It only reads: nothing in it can write, lock or change the session."
    )


def test_the_cause_the_hint_and_the_pin_are_told() -> None:
    text = explain("/* pgproxy: replica */ SELECT setseed(0.5)").to_text()
    assert text.splitlines() == [
        "target   primary",
        "reason   session_state: It changes or depends on the state of the session.",
        "because  function setseed",
        "hint     replica",
        "pins     the session keeps its server connection: setseed",
    ]


def test_a_text_that_does_not_parse_pins_only_if_postgresql_takes_it() -> None:
    lines = explain("SELEC").to_text().splitlines()
    assert lines[2] == 'because  syntax error at or near "SELEC"'
    assert lines[3].endswith(": unparsed, if PostgreSQL accepts it")


def test_each_of_several_statements_is_explained() -> None:
    explanation = explain("SELECT 'é';\n DELETE\n FROM t; SELECT 2")
    assert explanation.to_text().splitlines()[2:] == [
        "because  statement 2: DELETE",
        "  1. replica  read",
        "     SELECT 'é'",
        "  2. primary  write: DELETE",
        "     DELETE FROM t",
        "  3. replica  read",
        "     SELECT 2",
    ]


def test_the_json_says_the_same() -> None:
    said = json.loads(explain("SELECT 'é'; SELECT nextval('s')").to_json())
    assert said["target"] == "primary"
    assert said["reason"] == "multi_statement_with_write"
    assert said["detail"] == "statement 2: function nextval"
    assert said["pin"] is None
    assert [one["reason"] for one in said["statements"]] == ["read", "writing_function"]
    assert said["statements"][0]["sql"] == "SELECT 'é'"
    alone = json.loads(explain("LISTEN a").to_json())
    assert alone["pin"] == "listen"
    assert "statements" not in alone


def test_the_parse_limit_is_heeded() -> None:
    explanation = explain("SELECT 1; SELECT 2", parse_limit=5)
    assert explanation.reason == "too_long"
    assert explanation.statements == []


def test_bytes_of_another_encoding_are_explained_too() -> None:
    assert explain(b"SELECT '\xe9'".decode("utf-8", "surrogateescape")).target == "replica"
