"""Words, strings and comments without a grammar."""

import pytest

from pgproxy.routing.lexer import comment_end, first_word, is_one_statement, statement_start


@pytest.mark.parametrize(
    ("sql", "end"),
    [
        ("-- a\nb", 4),
        ("-- a\rb", 4),
        ("-- a", 4),
        ("--", 2),
        ("/* a */b", 7),
        ("/**/b", 4),
        ("/* a /* b */ c */d", 17),
        ("/*/ a */", 8),
        ("/* a /* b */", -1),
        ("/*", -1),
        ("/*/", -1),
        ("- a", 0),
        ("/ a", 0),
        ("a", 0),
        ("", 0),
        ("-", 0),
    ],
)
def test_a_comment_ends_where_postgresql_ends_it(sql: str, end: int) -> None:
    assert comment_end(sql.encode(), 0) == end


@pytest.mark.parametrize(
    ("sql", "start"),
    [
        ("SELECT", 0),
        (" \t\r\n\f\v;SELECT", 7),
        ("-- a\n/* b */ SELECT", 13),
        ("/* a", 4),
        ("", 0),
        ("  ", 2),
    ],
)
def test_a_statement_starts_after_what_is_none(sql: str, start: int) -> None:
    assert statement_start(sql.encode()) == start


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT 1", "select"),
        ("  insert into", "insert"),
        ("/* c */(SELECT 1)", "("),
        ("VALUES(1)", "values"),
        ("select1", "select"),
        ("éa", "\ufffd\ufffda"),
        ("", ""),
        ("1", ""),
    ],
)
def test_the_first_word_is_what_the_statement_begins_with(sql: str, word: str) -> None:
    assert first_word(sql.encode()) == word


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT 1;",
        "SELECT 1; -- x\n ; /* ; y */ ;",
        "; SELECT ';'",
        "SELECT ';', ''';', \";\", \"\"\";\"",
        "SELECT E'\\';', e'\\\\'",
        "SELECT $$;$$, $a$;$$;$a$, $1, a$b;",
        "SELECT $é$;$é$",
        "SELECT /* ; */ 1 -- ;",
        "SELECT abcE';'",
        "SELECT U&';'",
        "SELECT 'a\\b', 'c'",
        "",
        "SELECT $ 1",
        "SELECT $a",
    ],
)
def test_one_statement_is_seen_as_one(sql: str) -> None:
    assert is_one_statement(sql.encode())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1;2",
        "SELECT 'a'; x",
        "SELECT E'\\\\'; x",
        "SELECT E'\\'; x",
        "SELECT 'a\\', '; x",
        "SELECT 'a",
        'SELECT "a',
        "SELECT $$a",
        "SELECT $a$ $A$",
        "SELECT /* a",
        "SELECT a$$;$$",
    ],
)
def test_what_may_be_several_or_has_no_end_is_not(sql: str) -> None:
    assert not is_one_statement(sql.encode())
