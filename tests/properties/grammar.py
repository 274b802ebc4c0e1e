"""Statements made by a grammar, with one place for a write anywhere in them.

A statement is built from the top down as a text in which exactly one *hole* is left; what fills it
is chosen afterwards, so that the same statement comes with a write in that place and without.
"""

import re
from typing import Final

from hypothesis import strategies as st

# The holes, by what fits there.
EXPRESSION: Final = "\1"
QUERY: Final = "\2"
RELATION: Final = "\3"
TAIL: Final = "\4"  # behind a query: a locking clause
INTO: Final = "\5"  # behind its list of results
STATEMENT: Final = "\6"
HOLES: Final = (EXPRESSION, QUERY, RELATION, TAIL, INTO, STATEMENT)

HARMLESS: Final = {
    EXPRESSION: ("1", "abs(1)", "(SELECT 1)", "reads(1)", "a.x", "'nextval(''s'')'", "'1'::mood"),
    QUERY: ("SELECT 1", "SELECT x FROM t", "VALUES (1)", "TABLE t", "WITH w AS (SELECT 1) TABLE w"),
    RELATION: ("t", "fine", "public.t", '"Order"', "reads(1) AS f", "generate_series(1, 2)"),
    TAIL: ("", "LIMIT 1", "OFFSET 2"),
    INTO: ("",),
    STATEMENT: ("SELECT 1", "SHOW work_mem", "EXPLAIN DELETE FROM t"),
}

# What is certain to write: no hint and no list sends it to a replica.
KNOWN_WRITES: Final = {
    EXPRESSION: (
        "nextval('s')", "pg_catalog.setval('s', 1)", "lo_create(0)", "pg_notify('a', 'b')",
        "U&\"\\006eextval\" ('s')", "(SELECT 1 FROM t FOR UPDATE)",
        "EXISTS (SELECT FROM t FOR KEY SHARE)", "ARRAY(SELECT 1 FROM t FOR SHARE SKIP LOCKED)",
        "txid_current()", "(WITH w AS (DELETE FROM t RETURNING 1) SELECT 1)",
        "pg_logical_emit_message(true, 'a', 'b')",
    ),
    QUERY: (
        "WITH w AS (DELETE FROM t RETURNING *) SELECT 1", "SELECT 1 FROM t FOR NO KEY UPDATE",
        "WITH w AS (INSERT INTO t DEFAULT VALUES) SELECT 1", "SELECT 1 INTO made",
        "WITH w AS (UPDATE t SET a = 1 RETURNING a) TABLE w", "SELECT nextval('s')",
        "WITH w AS (MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE) SELECT 1",
        "WITH v AS (WITH w AS (DELETE FROM t RETURNING 1) TABLE w) TABLE v",
    ),
    RELATION: (
        "(SELECT 1 FROM t FOR UPDATE) AS l", "nextval('s') AS n", "locking",
        "(WITH w AS (DELETE FROM t RETURNING 1) TABLE w) AS d", "numbering",
    ),
    TAIL: ("FOR UPDATE", "FOR SHARE OF t NOWAIT", "LIMIT 1 FOR KEY SHARE", "FOR NO KEY UPDATE"),
    INTO: ("INTO made", "INTO TEMP made", "INTO UNLOGGED TABLE made", "INTO pg_temp.made"),
    STATEMENT: (
        "INSERT INTO t VALUES (1)", "UPDATE t SET a = 1", "DELETE FROM t", "TRUNCATE t",
        "CREATE TABLE made (a int)", "CREATE TABLE made AS SELECT 1", "DROP TABLE t",
        "ALTER TABLE t ADD b int", "COPY t FROM STDIN", "COPY t TO '/x'", "LOCK TABLE t",
        "VACUUM t", "REFRESH MATERIALIZED VIEW v", "NOTIFY c", "LISTEN c", "GRANT SELECT ON t TO a",
        "CREATE INDEX ON t (a)", "COMMENT ON TABLE t IS 'x'", "REINDEX TABLE t",
        "EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN (ANALYZE, COSTS off) UPDATE t SET a = 1",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "PREPARE TRANSACTION 'x'",
        "PREPARE p AS DELETE FROM t", "EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$",
    ),
}  # fmt: skip

# What is not shown to be a read.
OTHER_WRITES: Final = {
    EXPRESSION: (
        "writes(1)", "public.writes(1)", "strange(1)", '"Strange"(1)', "1 @@@ 2", "1 OPERATOR(a.+) 2",
        "'1'::checked", "CAST('1' AS public.checked)", "checked '1'", "'1'::nobody", "mixed(1, 2)",
        "a.audited", "(a).audited", "audited(a)", "pg_temp.f(1)", "pg_advisory_lock(1)",
        "set_config('a.b', 'c', true)", "currval('s')", "my_aggregate(1)", "query_to_xml('x', true, true, '')",
        "(SELECT w FROM seen)", "writes(1) OVER ()", "count(*) FILTER (WHERE writes(1) > 0)",
        "percentile_cont(writes(1)) WITHIN GROUP (ORDER BY 1)", "reads(writes(1))", "dblink('x')",
    ),
    QUERY: (
        "SELECT * FROM seen", "TABLE outer_view", "SELECT writes(1)", "VALUES (writes(1))",
        "SELECT * FROM quick", "SELECT * FROM pg_temp.t", "SELECT * FROM guarded",
        "SELECT 1 LIMIT writes(1)", "SELECT 1 ORDER BY 1 USING OPERATOR(a.<)",
        "SELECT * FROM t TABLESAMPLE mine (1)",
    ),
    RELATION: (
        "seen", "public.outer_view", '"seen" AS t', "quick", "far", "counter", "guarded", "pg_temp.t",
        "writes(1) AS w", "ROWS FROM (reads(1), writes(2))", "strange(1) AS u (a int)",
        "LATERAL (SELECT writes(1)) AS l", "t TABLESAMPLE system (writes(1))", "pg_locks",
        "json_to_record('{}') AS r (a checked)",
    ),
    TAIL: ("LIMIT writes(1)", "OFFSET strange(1)", "ORDER BY writes(1)", "ORDER BY 1 USING @@@"),
    INTO: KNOWN_WRITES[INTO],
    STATEMENT: (
        "CALL p(1)", "DO $$ begin end $$", "EXECUTE strange", "SET a.b = 'c'",
        "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "BEGIN", "SAVEPOINT s", "CHECKPOINT",
        "DECLARE c CURSOR FOR SELECT writes(1)", "SELECT writes(1)", "TABLE seen", "RESET ALL",
        "EXPLAIN ANALYZE SELECT writes(1)", "EXPLAIN ANALYZE TABLE seen", "COPY quick TO STDOUT",
        "COPY (SELECT writes(1)) TO STDOUT", "PREPARE p AS SELECT writes(1)", "LOAD 'x'",
    ),
}  # fmt: skip

# Where a part may stand in a larger one: {e} an expression, {q} a query, {r} a relation.
EXPRESSIONS: Final = (
    "1", "'a'", "NULL", "a.x", '"Quoted"', "$1", "$$it's$$", "E'a\\\\--'", "U&'\\0041'", "count(*)",
    "CURRENT_DATE", "now()", "B'01'", "({e})", "{e} + {e}", "{e} || {e}", "- {e}", "NOT {e}",
    "{e} AND {e}", "lower({e})", "coalesce({e}, {e})", "greatest({e}, {e})", "nullif({e}, {e})",
    "reads({e})", "public.reads({e})", "'x'::text", "({e})::numeric(5, 2)", "CAST({e} AS mood)",
    "CASE WHEN {e} THEN {e} ELSE {e} END", "CASE {e} WHEN {e} THEN {e} END", "ARRAY[{e}, {e}]",
    "({e})[{e}]", "({e})[{e}:{e}]", "({e}).f", "ROW({e}, {e})", "({e}, {e}) = ({e}, {e})",
    "{e} IS NULL", "{e} IS DISTINCT FROM {e}", "{e} BETWEEN {e} AND {e}", "{e} IN ({e}, {e})",
    "{e} NOT IN ({q})", "{e} = ANY ({e})", "{e} > ALL ({q})", "{e} LIKE {e} ESCAPE 'x'",
    "{e} SIMILAR TO {e}", "EXISTS ({q})", "({q})", "ARRAY({q})", "{e} COLLATE \"C\"",
    "{e} AT TIME ZONE {e}", "extract(year FROM {e})", "substring({e} FROM {e} FOR {e})",
    "position({e} IN {e})", "overlay({e} PLACING {e} FROM {e})", "trim(both {e} FROM {e})",
    "sum({e}) FILTER (WHERE {e})", "string_agg({e}, ',' ORDER BY {e})", "{e} ### {e}",
    "mode() WITHIN GROUP (ORDER BY {e})", "percentile_cont({e}) WITHIN GROUP (ORDER BY {e})",
    "sum({e}) OVER (PARTITION BY {e} ORDER BY {e} ROWS BETWEEN {e} PRECEDING AND CURRENT ROW)",
    "lag({e}, {e}) OVER w", "make_interval(days => {e})", "format('%s', VARIADIC {e})",
    "JSON_OBJECT('a': {e})", "JSON_ARRAY({q})", "JSON_VALUE({e}, '$' PASSING {e} AS x)",
    "JSON_QUERY({e}, '$' DEFAULT {e} ON EMPTY)", "{e} IS JSON", "xmlelement(name a, {e})",
    "{e} OPERATOR(pg_catalog.+) {e}", "({e}, {e}) OVERLAPS ({e}, {e})",
)  # fmt: skip

RELATIONS: Final = (
    "t", "t AS a", "public.t a (x, y)", "ONLY t", '"Order" AS "a b"', "fine", "pg_class", "({q}) AS s",
    "LATERAL ({q}) AS l (x)", "generate_series({e}, {e}) AS g", "reads({e}) WITH ORDINALITY AS f",
    "ROWS FROM (unnest({e}), reads({e})) AS r", "t TABLESAMPLE bernoulli ({e}) REPEATABLE ({e})",
    "{r} JOIN {r} ON {e}", "{r} LEFT JOIN {r} USING (x)", "{r} CROSS JOIN {r}", "{r}, {r}",
    "{r} NATURAL FULL JOIN {r}", "({r} JOIN {r} ON {e}) AS j", "(VALUES ({e}, {e})) AS v (x, y)",
    "JSON_TABLE({e}, '$' COLUMNS (a int PATH '$.a')) AS jt",
    "XMLTABLE('/a' PASSING {e} COLUMNS b int PATH 'b' DEFAULT {e}) AS xt",
    "json_to_recordset({e}) AS rs (a int, b mood)",
)  # fmt: skip

QUERIES: Final = (
    "SELECT {e} {i} {t}", "SELECT ALL {e} AS one, {e} two {i} FROM {r} {t}", "SELECT * {i} FROM {r} {t}",
    "SELECT {e} FROM {r} WHERE {e} {t}", "SELECT DISTINCT ON ({e}) {e} FROM {r} {t}", "TABLE t",
    "SELECT {e} FROM {r} GROUP BY {e} HAVING {e} {t}", "VALUES ({e}, {e}), ({e}, {e})",
    "SELECT {e} FROM {r} GROUP BY ROLLUP ({e}), CUBE ({e}), GROUPING SETS (({e}), ()) {t}",
    "SELECT {e} FROM {r} WINDOW w AS (PARTITION BY {e} ORDER BY {e}) {t}",
    "SELECT {e} FROM {r} ORDER BY {e} DESC NULLS LAST, {e} FETCH FIRST ({e}) ROWS ONLY",
    "SELECT {e} LIMIT {e} OFFSET {e}", "({q})", "{q} UNION ALL {q}", "({q}) EXCEPT ({q})",
    "({q}) INTERSECT ALL ({q}) ORDER BY 1", "WITH a AS ({q}) SELECT {e} FROM a, {r}",
    "WITH a (x) AS MATERIALIZED ({q}), b AS NOT MATERIALIZED ({q}) SELECT {e} FROM a, b {t}",
    "WITH RECURSIVE a AS ({q} UNION ALL {q}) SELECT {e} FROM a",
    "WITH RECURSIVE a AS (SELECT 1 AS x UNION SELECT x + {e} FROM a) SEARCH DEPTH FIRST BY x SET o SELECT {e} FROM a",
)  # fmt: skip

# {q} is a query that is run, {s} any statement.
STATEMENTS: Final = (
    "{q}", "{q};", "EXPLAIN ANALYZE {q}", "EXPLAIN (ANALYZE on, COSTS off) {q}", "COPY ({q}) TO STDOUT",
    "COPY ({q}) TO STDOUT (FORMAT csv)", "PREPARE p AS {q}", "PREPARE p (int, text) AS {q}",
    "{q}; {q}", "{s}; {q}", "; {q}; {s};", "SELECT 1; {s}", "{s}; {s}; {s}",
)  # fmt: skip

_PLACES: Final = re.compile(r"\{(\w)\}")
_HOLE_OF: Final = {
    "e": EXPRESSION, "q": QUERY, "r": RELATION, "t": TAIL, "i": INTO, "s": STATEMENT,
}  # fmt: skip
_FRAMES: Final = {"e": EXPRESSIONS, "q": QUERIES, "r": RELATIONS}
_DEPTH: Final = 5


@st.composite
def statements(draw: st.DrawFn) -> str:
    """A text with exactly one hole."""
    frame = draw(st.sampled_from(STATEMENTS))
    return _filled(draw, frame, 0, has_hole=True)


def _part(draw: st.DrawFn, kind: str, depth: int, *, has_hole: bool) -> str:
    hole = _HOLE_OF[kind]
    if has_hole and (kind not in _FRAMES or depth >= _DEPTH or draw(st.integers(0, 3)) == 0):
        return hole
    if kind not in _FRAMES:
        return HARMLESS[hole][0]
    frames = _FRAMES[kind]
    if has_hole:
        frames = tuple(frame for frame in frames if _PLACES.search(frame))
    elif depth >= _DEPTH or draw(st.integers(0, depth + 1)) > 0:
        return draw(st.sampled_from(HARMLESS[hole]))
    return _filled(draw, draw(st.sampled_from(frames)), depth + 1, has_hole=has_hole)


def _filled(draw: st.DrawFn, frame: str, depth: int, *, has_hole: bool) -> str:
    places = _PLACES.findall(frame)
    chosen = draw(st.integers(0, len(places) - 1)) if has_hole else -1
    parts = iter(
        _part(draw, kind, depth, has_hole=number == chosen) for number, kind in enumerate(places)
    )
    return _PLACES.sub(lambda _place: next(parts), frame)


def hole_in(text: str) -> str:
    """Which it has."""
    return next(hole for hole in HOLES if hole in text)


# --- how it is written

_TOKENS: Final = re.compile(
    r"""[eE]'(?:\\.|[^'\\])*'|[uU]&'[^']*'|[uU]&"[^"]*"|[bBnNxX]?'(?:[^']|'')*'|"(?:[^"]|"")*"
        |\$\$.*?\$\$|\$\d+|\d+(?:\.\d+)?|\w+|::|=>|[-+*/<>=~!@\#%^&|?]+|[^\s]""",
    re.VERBOSE | re.DOTALL,
)
_SPACES: Final = (
    " ", "\n", "\t", "  ", "/**/", " /* it's */ ", " /* /* ; */ $$ */ ", " -- \"x\n", " --'\n",
    "/* FOR UPDATE */", "\r\n",
)  # fmt: skip


@st.composite
def disguised(draw: st.DrawFn, sql: str) -> str:
    """The same tokens with other white space, comments, and letters of the other case."""
    tokens = _TOKENS.findall(sql)
    spaces = draw(st.lists(st.sampled_from(_SPACES), min_size=1, max_size=6))
    cases = draw(
        st.lists(st.sampled_from((str, str.upper, str.lower, str.title)), min_size=1, max_size=5)
    )
    written = ""
    for number, token in enumerate(tokens):
        is_word = token[0].isalpha() and token.replace("_", "a").isalnum()
        written += cases[number % len(cases)](token) if is_word else token
        written += spaces[number % len(spaces)]
    return written
