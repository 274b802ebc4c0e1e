"""Properties of routing: no write reaches a replica, and equal keys mean equal decisions."""

import re
from typing import Final

from hypothesis import assume, example, given
from hypothesis import strategies as st
from pglast.parser import Error as ParserError
from pglast.parser import scan

from pgproxy.routing.classify import classify
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.key import lexical_key
from pgproxy.routing.router import Memory, Router
from tests.unit.routing.corpus import read_corpus

CORPUS: Final = [case.sql for case in read_corpus()]

# --- statements made of reads with a place for one thing that must not go to a replica

HOLE: Final = "\0"

reading_expressions = st.sampled_from(
    [
        "1", "'a'", "NULL", "t.a", "$1", "now()", "lower('A')", "random()", "ARRAY[1, 2]",
        "CURRENT_DATE", "current_setting('work_mem')", "1::int", "'x'::text[]", "count(*)", "-2.5", "b.*", "'a' || 'b'",
    ]
)  # fmt: skip

# Where an expression may stand inside a larger one.
expression_frames = st.sampled_from(
    [
        "({0})", "lower({0})", "coalesce(NULL, {0}, 1)", "{0} + 1", "NOT {0}", "({0}, 2)",
        "CASE WHEN {0} THEN 1 ELSE 2 END", "CASE {0} WHEN 1 THEN 2 END", "({0})::text",
        "CAST({0} AS numeric(10, 2))", "ARRAY[{0}]", "({0})[1]", "a[{0}]", "a[1:{0}]",
        "{0} IS NULL", "{0} BETWEEN 1 AND 2", "1 BETWEEN {0} AND 2", "{0} IN (1, 2)",
        "1 IN (2, {0})", "1 = ANY ({0})", "{0} LIKE 'a' ESCAPE 'b'", "sum({0}) FILTER (WHERE true)",
        "sum(1) FILTER (WHERE {0})", "sum({0}) OVER (PARTITION BY 1)", "rank() OVER (ORDER BY {0})",
        "rank() OVER (ROWS BETWEEN {0} PRECEDING AND CURRENT ROW)", "string_agg('a', 'b' ORDER BY {0})",
        "mode() WITHIN GROUP (ORDER BY {0})", "greatest(1, {0})", "nullif(1, {0})", "ROW({0})",
        "{0} COLLATE \"C\"", "{0} AT TIME ZONE 'UTC'", "extract(year FROM {0})", "({0}).f",
        "substring({0} FROM 1)", "position('a' IN {0})", "trim(both FROM {0})",
        "JSON_OBJECT('a': {0})", "JSON_ARRAY({0})", "JSON_VALUE({0}, '$')",
        "JSON_VALUE('{{}}', '$' PASSING {0} AS x)", "JSON_QUERY('{{}}', '$' DEFAULT {0} ON EMPTY)",
        "XMLELEMENT(NAME a, {0})", "format('%s', VARIADIC {0})", "make_interval(days => {0})",
        "{0} OPERATOR(pg_catalog.+) 1", "{0} IS DISTINCT FROM 1", "({0}) OVERLAPS (now(), now())",
        "(SELECT {0})", "EXISTS (SELECT {0})", "ARRAY(SELECT {0})", "1 > ALL (SELECT {0})",
        "(VALUES ({0}))", "{0} IS JSON", "GROUPING({0})",
    ]
)  # fmt: skip

# Where an expression may stand in a query.
query_frames = st.sampled_from(
    [
        "SELECT {0}", "SELECT DISTINCT ON ({0}) 1", "SELECT 1 FROM t WHERE {0}", "VALUES (1, {0})",
        "SELECT 1 FROM t GROUP BY {0}", "SELECT 1 FROM t GROUP BY ROLLUP ({0})",
        "SELECT 1 FROM t HAVING {0}", "SELECT 1 ORDER BY {0} DESC", "SELECT 1 LIMIT {0}",
        "SELECT 1 OFFSET {0}", "SELECT 1 FETCH FIRST ({0}) ROWS ONLY",
        "SELECT 1 FROM t JOIN u ON {0}", "SELECT 1 FROM lower({0}) AS f", "SELECT 1 FROM t, LATERAL (SELECT {0}) AS l",
        "SELECT 1 FROM ROWS FROM (lower({0}), upper('a')) WITH ORDINALITY",
        "SELECT rank() OVER w FROM t WINDOW w AS (PARTITION BY {0})",
        "SELECT 1 FROM t TABLESAMPLE SYSTEM ({0}) REPEATABLE (1)",
        "SELECT 1 FROM t TABLESAMPLE SYSTEM (1) REPEATABLE ({0})",
        "SELECT 1 FROM JSON_TABLE({0}, '$' COLUMNS (a int)) AS j",
        "SELECT 1 FROM XMLTABLE('a' PASSING {0} COLUMNS b int DEFAULT 1)",
        "SELECT 1 FROM XMLTABLE('a' PASSING b COLUMNS b int DEFAULT {0})",
    ]
)  # fmt: skip

# A query inside a larger one.
nesting_frames = st.sampled_from(
    [
        "{0}", "({0})", "SELECT * FROM ({0}) AS q", "WITH a AS ({0}) SELECT 1",
        "WITH a AS (SELECT 1), b AS MATERIALIZED ({0}) TABLE a", "SELECT 1 UNION ALL ({0})",
        "({0}) EXCEPT SELECT 1", "SELECT 1 WHERE EXISTS ({0})", "SELECT 1 FROM t JOIN ({0}) AS q ON true",
        "SELECT JSON_ARRAY({0})", "WITH RECURSIVE r AS (SELECT 1 UNION ({0})) SELECT * FROM r",
    ]
)  # fmt: skip

statement_frames = st.sampled_from(
    ["{0}", "{0};", "EXPLAIN ANALYZE {0}", "COPY ({0}) TO STDOUT", "SELECT 1; {0}", "{0}; SELECT 1"]
)

writing_expressions = st.sampled_from(
    [
        "nextval('s')", "setval('s', 1)", "pg_catalog.nextval('s')", "f(1)", "app.lower('a')",
        "set_config('a', 'b', false)", "set_config('a', 'b', true)", "pg_advisory_lock(1)",
        "currval('s')", "txid_current()", "lo_creat(-1)", "pg_notify('a', 'b')", "'a'::mood",
        "CAST('a' AS app.mood)", "1 OPERATOR(app.+) 2", "1 <+> 2", "pg_temp.f(1)", "dblink('a')",
        "(SELECT 1 FROM t FOR UPDATE)", "EXISTS (SELECT 1 FROM t FOR KEY SHARE)", "mood 'a'",
        "ARRAY(WITH a AS (SELECT 1 FROM t FOR SHARE) TABLE a)", "(SELECT 1 FROM pg_temp.t)",
        "pg_read_file('a')", "my_aggregate(1)", "(SELECT 1 FROM f(1))", "query_to_xml('a', true, true, '')",
    ]
)  # fmt: skip

writing_queries = st.sampled_from(
    [
        "SELECT 1 INTO a", "SELECT 1 FROM t FOR UPDATE", "SELECT 1 FROM t FOR NO KEY UPDATE OF t",
        "WITH a AS (DELETE FROM t RETURNING 1) SELECT 1", "SELECT * FROM pg_temp.t",
        "WITH a AS (INSERT INTO t VALUES (1)) SELECT 1", "SELECT * FROM f(1)",
        "WITH a AS (UPDATE t SET a = 1 RETURNING *) TABLE a", "SELECT * FROM lower('a') AS l (a mood)",
        "SELECT 1 FROM t TABLESAMPLE app.mine (1)", "SELECT 1 ORDER BY 1 USING OPERATOR(app.<)",
    ]
)  # fmt: skip


def _fill(frames: list[str], inner: str) -> str:
    for frame in frames:
        inner = frame.format(inner)
    return inner


@st.composite
def expressions(draw: st.DrawFn, core: st.SearchStrategy[str]) -> str:
    """An expression that holds one of `core` at some depth."""
    return _fill(draw(st.lists(expression_frames, max_size=4)), draw(core))


@st.composite
def statements(
    draw: st.DrawFn, core: st.SearchStrategy[str], queries: st.SearchStrategy[str] | None
) -> str:
    """A statement around one expression of `core`, or around one of `queries`."""
    if queries is not None and draw(st.booleans()):
        query = draw(queries)
    else:
        query = draw(query_frames).format(draw(expressions(core)))
    query = _fill(draw(st.lists(nesting_frames, max_size=3)), query)
    return draw(statement_frames).format(query)


@given(statements(reading_expressions, None))
def test_a_statement_made_of_reads_goes_to_a_replica(sql: str) -> None:
    decision = classify(sql.encode())
    assume(not decision.unparsed)
    assert decision.target == REPLICA, decision
    assert decision.pin is None


@given(statements(writing_expressions, writing_queries))
def test_a_statement_with_a_write_anywhere_never_goes_to_a_replica(sql: str) -> None:
    assert classify(sql.encode()).target == PRIMARY


@given(statements(writing_expressions, writing_queries), st.integers(0, 9))
def test_neither_does_it_from_the_memory_of_the_router(sql: str, number: int) -> None:
    router = Router()
    varied = re.sub(r"\b1\b", str(number), sql)
    assert router.decide(varied.encode()).target == PRIMARY
    assert router.decide(sql.encode()).target == PRIMARY


@given(statements(reading_expressions | writing_expressions, writing_queries), st.sampled_from(
    ["INSERT INTO t {0}", "CREATE TABLE a AS {0}", "DECLARE c CURSOR FOR {0}", "PREPARE p AS INSERT INTO t {0}",
     "CREATE VIEW a AS {0}", "COPY ({0}) TO '/x'", "EXPLAIN ANALYZE INSERT INTO t {0}"]
))  # fmt: skip
def test_no_read_makes_a_read_of_a_statement_that_is_none(query: str, frame: str) -> None:
    assert classify(frame.format(query).encode()).target == PRIMARY


# --- keys

# What the rules of the key are about, and what may stand between.
pieces = st.sampled_from(
    [
        "'", "''", '"', '""', "\\", "$", "$$", "$1", "$a$", "1", "23", ".", "1.5", "e", "E", "e5",
        "E'", "U&", "u&'", 'U&"', "B'", "N'", "x'", "_", "a", "t_1", "é", "--", "-", "/*", "*/", "/",
        ";", ",", "(", ")", "[", "]", ":", "::", " ", "\n", "\t", "=", "||", "&", "UESCAPE '!'",
        "0x1F", "1_000", "int", "FROM t", "WHERE", "date", "f(", "float(9)", "\x01", "\x02", "+", "%",
        "$$it's$$", "$a$'$a$", "; EXPLAIN (ANALYZE 1) DELETE FROM t", "; SELECT 'a'", "1::float(9)",
        "U&\"n!0065xtval\" UESCAPE '!' ('s')", "U&'!0041' UESCAPE '!'", "E'a\\'b'", "E'a'", "B'1'",
        "current_setting('a')", "set_config('a', 'b', true)", "'a' -- x\n 'b'", "'a'\n'b'", "SELECT",
        "/* a */", "/* ' */", "-- a\n", "--'\n", "'a' /* x */ \n 'b'", "--",
        "'it''s'", "'a'", "'b;'", "'--'", "'\\x00'", "a.b", ".5", "5.", "AS x", "AND", "NULL",
    ]
)  # fmt: skip
heads = st.sampled_from(["SELECT ", "select", " (SELECT ", "VALUES (", "INSERT INTO t ", "WITH a "])
texts = st.builds(
    lambda head, between, rest: head + between.join(rest),
    heads,
    st.sampled_from(["", " ", ", "]),
    st.lists(pieces, max_size=12),
)

numbers = st.sampled_from(["0", "7", "42", "3.14", "8.", "99999999999999999999"])
strings = st.sampled_from(
    [
        "''",
        "'x'",
        "'it''s'",
        "''''",
        "'; DELETE FROM t; --'",
        "'/*'",
        "'$$'",
        "'\"'",
        "'1'",
        "'a\nb'",
        "'in_hot_standby'",
    ]
)


comments = st.sampled_from(
    ["/**/", "/* ' */", "/* /* pgproxy: replica */ */", "/* pgproxy: primary */", "/*;--*/"]
)
line_comments = st.sampled_from(["--", "-- x", "-- ' \" ;", "--/*", "-- pgproxy: replica"])
VARIABLE: Final = {"\x01": numbers, "\x02": strings, "\x03": comments, "\x04": line_comments}


@st.composite
def pairs(draw: st.DrawFn, sqls: st.SearchStrategy[str]) -> tuple[str, str]:
    """Two texts with the same lexical key."""
    sql = draw(sqls)
    key = lexical_key(sql.encode())
    assume(key is not None)
    assert key is not None
    other = ""
    for char in key.decode():
        other += draw(VARIABLE[char]) if char in VARIABLE else char
    assume(lexical_key(other.encode()) == key)
    return sql, other


def tokens(sql: str) -> list[tuple[str, str]] | None:
    """PostgreSQL's own tokens, without the literals' values; None where it finds none."""
    try:
        found = scan(sql)
    except ParserError:
        return None
    said = []
    for token in found:
        value = sql[token.start : token.end + 1]
        if token.name in {"ICONST", "FCONST"}:
            said.append(("NUMBER", ""))
        elif token.name in {"C_COMMENT", "SQL_COMMENT"}:
            continue
        elif token.name == "SCONST":
            said.append(("STRING", ""))
        else:
            said.append((token.name, value))
    return said


@given(pairs(texts))
def test_texts_with_one_key_are_the_same_tokens_to_postgresql(pair: tuple[str, str]) -> None:
    one, other = pair
    assert tokens(one) == tokens(other)


corpus_texts = st.sampled_from(CORPUS)
made_texts = (
    statements(reading_expressions | writing_expressions, writing_queries) | corpus_texts | texts
)


@given(pairs(made_texts))
def test_texts_with_one_key_have_one_decision(pair: tuple[str, str]) -> None:
    one, other = (classify(sql.encode()) for sql in pair)
    # The grammar checks some numbers; and what it refuses, every server refuses.
    assume(not one.unparsed and not other.unparsed)
    assume(not one.exact)
    assert one.fields() == other.fields()


@given(pairs(made_texts))
def test_what_is_decided_by_a_literal_is_marked_whatever_the_literal(
    pair: tuple[str, str],
) -> None:
    one, other = (classify(sql.encode()) for sql in pair)
    assume(not one.unparsed and not other.unparsed)
    assert one.exact == other.exact


# --- the router as a whole


@example(("SELECT current_setting('work_mem')", "SELECT current_setting('in_hot_standby')"))
@example(("SELECT 1::float(99)", "SELECT 1::float(9)"))
@given(pairs(made_texts))
def test_a_decision_does_not_answer_for_another_text_that_it_does_not_hold_for(
    pair: tuple[str, str],
) -> None:
    one, other = (sql.encode() for sql in pair)
    router = Router()
    router.decide(one)
    made = classify(other)
    if not made.unparsed:
        assert router.decide(other).fields() == made.fields()


@st.composite
def sessions(draw: st.DrawFn) -> list[str]:
    """Texts of which some have one key."""
    texts_sent = draw(st.lists(made_texts, max_size=10))
    return texts_sent + [sql for _, sql in draw(st.lists(pairs(made_texts), max_size=10))]


@given(sessions())
def test_a_remembered_decision_is_the_one_that_would_be_made(sqls: list[str]) -> None:
    router = Router(Memory(cache_size=8))
    for sql in sqls + sqls:
        remembered = router.decide(sql.encode())
        made = classify(sql.encode())
        if not made.unparsed:
            assert remembered.fields() == made.fields()


@given(st.binary(max_size=200) | st.builds(lambda a, b: a + b, texts.map(str.encode), st.binary()))
def test_the_router_never_raises(sql: bytes) -> None:
    router = Router(Memory(parse_limit=100))
    first = router.decide(sql)
    assert router.decide(sql).fields() == first.fields()
    assert first.target in {PRIMARY, REPLICA}
    router.decide_beginning(sql)


@given(texts, texts)
def test_what_is_read_as_one_statement_has_no_second(one: str, other: str) -> None:
    # Long texts are not parsed: their pins rest on this.
    sql = f"{one};{other}".encode()
    decision = classify(sql, 0)
    if not decision.unparsed:
        assert "multi" not in classify(sql).reason.value


@given(sessions(), st.lists(made_texts, max_size=5))
def test_what_was_learned_never_goes_to_a_replica(sqls: list[str], others: list[str]) -> None:
    """Nor by a hint or a route that the client has set; and nothing else is learned with it."""
    router = Router(Memory(cache_size=8))
    texts_sent = [sql.encode() for sql in sqls if classify(sql.encode()).names is None]
    for sql in texts_sent:
        router.learn(sql)
    keys = {*texts_sent, *map(lexical_key, texts_sent)}
    for sql in texts_sent:
        decision = router.decide(sql)
        assert decision.target == PRIMARY
        assert decision.known_write
    for sql in map(str.encode, others):
        made = classify(sql)
        if not made.unparsed and keys.isdisjoint({sql, lexical_key(sql)} - {None}):
            assert router.decide(sql).fields() == made.fields()
