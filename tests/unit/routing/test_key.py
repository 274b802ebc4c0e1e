"""The lexical key: what it hides, what it keeps, and which texts have none."""

import pytest

from pgproxy.routing import key as key_module
from pgproxy.routing.key import NUMBER, STRING, lexical_key


def shown(sql: str) -> str | None:
    """The key with its own bytes made visible: # number, @ string, ~ comment, _ line comment."""
    key = lexical_key(sql.encode())
    return None if key is None else key.decode().translate({1: "#", 2: "@", 3: "~", 4: "_"})


@pytest.mark.parametrize(
    ("sql", "key"),
    [
        ("SELECT abalance FROM t WHERE aid = 123456;", "SELECT abalance FROM t WHERE aid = #;"),
        ("SELECT 1", "SELECT #"),
        ("SELECT 1,22 , 3.5,4.", "SELECT #,# , #,#"),
        ("SELECT -1, - 2, 3-4", "SELECT -#, - #, #-#"),
        ("SELECT .5, a.b", "SELECT .#, a.b"),
        ("SELECT 1::int, 1 ::int4", "SELECT #::int, # ::int4"),
        ("SELECT t1, t_2024_01, a1b2, é5", "SELECT t1, t_2024_01, a1b2, é5"),
        ("SELECT \"t 1\", \"a'1'\", \"\"\"2\"\"\", \"x\"\"3\"", "SELECT \"t 1\", \"a'1'\", \"\"\"2\"\"\", \"x\"\"3\""),
        ("SELECT 'a', '', 'it''s', '''', 'é'", "SELECT @, @, @, @, @"),
        ("SELECT 'a;b', 'a -- b', 'a /* b */', '$$', '1'", "SELECT @, @, @, @, @"),
        ("SELECT 'a'\n  'b'", "SELECT @\n  @"),
        ("SELECT 'a'::text||'b'", "SELECT @::text||@"),
        ("SELECT date '2020-01-01', interval '1 day'", "SELECT date @, interval @"),
        ("SELECT '\\x00', 'a\\b'", "SELECT @, @"),
        ("SELECT \"a\\\" FROM t", "SELECT \"a\\\" FROM t"),
        ("SELECT $1, $22::int, a$1, b$c$d", "SELECT $1, $22::int, a$1, b$c$d"),
        ("SELECT a[1], a[1:2], (1)", "SELECT a[#], a[#:#], (#)"),
        ("SELECT a/2, a / b, a - b", "SELECT a/#, a / b, a - b"),
        ("  \t\nselect 1 ", "  \t\nselect # "),
        ("(SELECT 1) UNION (SELECT 2)", "(SELECT #) UNION (SELECT #)"),
        ("select*from t", "select*from t"),
        ("values(1)", "values(#)"),
        ("VALUES (1, 'a')", "VALUES (#, @)"),
        ("TABLE t", "TABLE t"),
        ("WITH a AS (SELECT 1) SELECT 2", "WITH a AS (SELECT #) SELECT #"),
        ("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (#)"),
        ("Update t SET a=1", "Update t SET a=#"),
        ("DELETE FROM t WHERE a='1'", "DELETE FROM t WHERE a=@"),
        ("MERGE INTO t USING u ON a=1 WHEN MATCHED THEN DELETE", "MERGE INTO t USING u ON a=# WHEN MATCHED THEN DELETE"),
        ("SELECT 1;", "SELECT #;"),
        ("TABLE t; \n", "TABLE t;"),
        ("SELECT 1; -- x\n /* y */", "SELECT #;"),
        ("SELECT 1 -- x", "SELECT # _"),
        ("SELECT 1--1", "SELECT #_"),
        ("SELECT 1 -- 'x\n, 2", "SELECT # _\n, #"),
        ("SELECT 'a' --x\n'b'", "SELECT @ _\n@"),
        ("SELECT/**/1/* ' /* */ \" */, 2", "SELECT~#~, #"),
        ("SELECT 2 */* 3 */4", "SELECT # *~#"),
        ("SELECT a /* pgproxy: replica */", "SELECT a ~"),
        ("INSERT--x\nINTO t VALUES (1)", "INSERT_\nINTO t VALUES (#)"),
        ("SELECT", "SELECT"),
    ],
)  # fmt: skip
def test_literals_are_replaced_and_nothing_else(sql: str, key: str) -> None:
    assert shown(sql) == key


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " ",
        "SET a = 1",
        "SHOW a",
        "BEGIN",
        "EXPLAIN SELECT 1",
        "COPY t TO STDOUT",
        "SELECTS 1",
        "SELECT1",
        "SELECT_",
        "SELECTé",
        "INSERTS INTO t VALUES (1)",
        "WITHOUT",
        "tables",
        "1",
        "; SELECT 1",
        # comments that may be hints, and such as have no end
        "/* pgproxy: replica */ SELECT 1",
        "-- x\nSELECT 1",
        "SELECT 1 /* x",
        "SELECT 1 /* /* */",
        "SELECT 1; /* x",
        "SELECT E/**/'a\\'",
        # strings of other kinds
        "SELECT E'a'",
        "SELECT e'a'",
        "SELECT B'1', X'1f'",
        "SELECT N'a'",
        "SELECT U&'a'",
        'SELECT U&"a"',
        "SELECT u&'a' UESCAPE '!'",
        "SELECT date'2020-01-01'",
        "SELECT $$a$$",
        "SELECT $a$b$a$",
        "SELECT $",
        "SELECT $1a",
        # a string that ends elsewhere if standard_conforming_strings is off
        r"SELECT 'a\'",
        r"SELECT 'a\'' , f(1) --'",
        r"SELECT 'a\\'",
        # numbers of other kinds, and what is no number
        "SELECT 1e5",
        "SELECT 1.5e-3",
        "SELECT 0x1F",
        "SELECT 1_000",
        "SELECT 1a",
        "SELECT 1$1",
        "SELECT 1é",
        "SELECT 1..2",
        "SELECT 1.2.3",
        "SELECT .1.2",
        # several statements
        "SELECT 1; SET a = 1",
        "SELECT 1;;",
        # no end
        "SELECT 'a",
        "SELECT 'a''",
        'SELECT "a',
        # never SQL
        "SELECT \\ 1",
        "SELECT \x01",
        "SELECT \x02",
        "SELECT \x03",
        "SELECT \x04",
        "SELECT \x7f",
        "\ufeffSELECT 1",
    ],
)
def test_a_text_of_which_the_literals_may_decide_has_no_key(sql: str) -> None:
    assert lexical_key(sql.encode()) is None


def test_a_text_without_literals_is_its_own_key() -> None:
    sql = b"SELECT a FROM t WHERE b = $1"
    assert lexical_key(sql) is sql


def test_texts_that_differ_in_more_than_literals_have_different_keys() -> None:
    texts = [
        "SELECT 1",
        "SELECT '1'",
        "SELECT  1",
        "select 1",
        "SELECT f(1)",
        "SELECT f(1,2)",
        "SELECT f( 1)",
        "SELECT 1::int",
        "SELECT 1::mytype",
        "SELECT * FROM t_2024_01",
        "SELECT * FROM t_2024_02",
        "SELECT * FROM public.a",
        "SELECT * FROM pg_temp.a",
        'SELECT * FROM "A"',
        "SELECT * FROM A",
        "SELECT $1",
        "SELECT $2",
        "SELECT 1 'a'",
        "SELECT -1",
    ]
    assert len({lexical_key(text.encode()) for text in texts}) == len(texts)


def test_a_key_is_never_a_statement_that_postgresql_accepts() -> None:
    assert lexical_key(b"SELECT 1, 'a'") == b"SELECT " + NUMBER + b", " + STRING
    assert lexical_key(b"SELECT " + NUMBER) is None


def test_the_first_words_are_spelled_as_numbers() -> None:
    for word in ("select", "with", "values", "table", "insert", "update", "delete", "merge"):
        value = getattr(key_module, f"_{word.upper()}", None)
        # Compiled, a private constant is not an attribute of the module.
        assert value in {None, int.from_bytes(word.encode(), "big")}
        assert lexical_key(word.encode()) == word.encode()
