"""What is read of a database's catalogue: every kind of object, made for real, is reported."""

import asyncio
from collections.abc import Iterator
from typing import Final

import asyncpg
import pglast
import pytest

from pgproxy.config import Health
from pgproxy.embedded import Cluster, Server, find_installation
from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.decision import PRIMARY, REPLICA
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.namespace import Namespace
from pgproxy.routing.router import Router
from pgproxy.servers.catalogue_reader import CHUNK, LOCKED, NotPrimaryError
from tests.support.catalogue import Told, read, session_of
from tests.support.place import cluster_parent

pytestmark = pytest.mark.once

# `app` and not `public`: whatever is not qualified in a definition would be missed.
OBJECTS: Final = """
CREATE SCHEMA app; CREATE SCHEMA "Odd Name"; SET search_path = app;
CREATE TABLE plain (id int, name text);
CREATE SEQUENCE numbers;

CREATE FUNCTION vol(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION vol(int, text) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION bare() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION defaults(int, int DEFAULT 1, int DEFAULT 2) RETURNS int LANGUAGE sql STABLE
  AS 'SELECT 1';
CREATE FUNCTION many(text, VARIADIC int[]) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION many_any(VARIADIC "any") RETURNS int LANGUAGE internal AS 'pg_num_nulls';
CREATE FUNCTION "Odd Name"."Quoted""fn"() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION of_row(plain) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION of_row_and_more(plain, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION of_row_with_default(plain, int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION of_any(anyelement) RETURNS anyelement LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION of_rows(VARIADIC plain[]) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION of_array(plain[]) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION of_record(record) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1; END';
CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE PROCEDURE proc() LANGUAGE sql AS 'SELECT 1';

CREATE FUNCTION vol_step(int, int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION vol_end(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE AGGREGATE safe_sum(int) (SFUNC = int4pl, STYPE = int);
CREATE AGGREGATE step_sum(int) (SFUNC = vol_step, STYPE = int);
CREATE AGGREGATE end_sum(int) (SFUNC = int4pl, STYPE = int, FINALFUNC = vol_end);
CREATE AGGREGATE moving_sum(int) (SFUNC = int4pl, STYPE = int, MSTYPE = int, MSFUNC = int4pl,
  MINVFUNC = int4mi, MFINALFUNC = vol_end);
CREATE AGGREGATE ordered(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition,
  STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION rank_fn() RETURNS bigint LANGUAGE internal WINDOW IMMUTABLE AS 'window_row_number';

CREATE FUNCTION calls(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN app.vol(1); END';
CREATE FUNCTION calls_step(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = app, x
  AS 'BEGIN RETURN app.vol(1); END';
CREATE FUNCTION atomic(int) RETURNS int LANGUAGE sql STABLE
  BEGIN ATOMIC SELECT app.calls($1) FROM plain WHERE nextval('numbers') > 0; END;
CREATE FUNCTION atomic_default(int DEFAULT app.calls(1)) RETURNS int LANGUAGE sql STABLE
  BEGIN ATOMIC SELECT 1; END;
ALTER FUNCTION calls(int) SECURITY DEFINER;
CREATE AGGREGATE calls_sum(int) (SFUNC = calls_step, STYPE = int);
CREATE OPERATOR ##- (LEFTARG = int, RIGHTARG = int, FUNCTION = calls_step);

CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = vol_step);
CREATE OPERATOR ### (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int8pl);
CREATE OPERATOR ##+ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);

CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TYPE span AS RANGE (SUBTYPE = float8);
CREATE DOMAIN free AS text;
CREATE DOMAIN checked AS int CHECK (VALUE > 0) CHECK (app.vol(VALUE) = VALUE);
CREATE DOMAIN moody AS mood[] NOT NULL;
CREATE FUNCTION of_moody(moody[], plain) RETURNS int LANGUAGE internal STABLE AS 'array_ndims';
CREATE FUNCTION int_to_mood(int) RETURNS mood LANGUAGE sql IMMUTABLE AS 'SELECT NULL::app.mood';
CREATE CAST (int AS mood) WITH FUNCTION int_to_mood(int) AS IMPLICIT;
CREATE TYPE rowlike AS (a bigint, b text);
CREATE TYPE mixed AS (a bigint, b mood, c checked[]);
CREATE TYPE checked_span AS RANGE (SUBTYPE = checked);
CREATE TABLE typed (id bigint, state mood);
CREATE TYPE shell;
CREATE TYPE base;
CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, LIKE = int);
CREATE TYPE bad;
CREATE FUNCTION bad_in(cstring) RETURNS bad LANGUAGE internal VOLATILE STRICT AS 'int4in';
CREATE FUNCTION bad_out(bad) RETURNS cstring LANGUAGE internal VOLATILE STRICT AS 'int4out';
CREATE TYPE bad (INPUT = bad_in, OUTPUT = bad_out, LIKE = int);

CREATE FUNCTION mood_to_int(mood) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION mood_to_bool(mood) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION int_to_base(int) RETURNS base LANGUAGE sql VOLATILE AS 'SELECT NULL::app.base';
CREATE CAST (mood AS int) WITH FUNCTION mood_to_int(mood);
CREATE CAST (mood AS bool) WITH FUNCTION mood_to_bool(mood);
CREATE CAST (int AS base) WITH FUNCTION int_to_base(int) AS IMPLICIT;

CREATE FUNCTION base_lt(base, base) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
CREATE FUNCTION base_le(base, base) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4le';
CREATE FUNCTION base_eq(base, base) RETURNS bool LANGUAGE internal VOLATILE STRICT AS 'int4eq';
CREATE FUNCTION base_ge(base, base) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4ge';
CREATE FUNCTION base_gt(base, base) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4gt';
CREATE FUNCTION base_cmp(base, base) RETURNS int LANGUAGE internal VOLATILE STRICT AS 'btint4cmp';
CREATE OPERATOR < (LEFTARG = base, RIGHTARG = base, FUNCTION = base_lt);
CREATE OPERATOR <= (LEFTARG = base, RIGHTARG = base, FUNCTION = base_le);
CREATE OPERATOR = (LEFTARG = base, RIGHTARG = base, FUNCTION = base_eq);
CREATE OPERATOR >= (LEFTARG = base, RIGHTARG = base, FUNCTION = base_ge);
CREATE OPERATOR > (LEFTARG = base, RIGHTARG = base, FUNCTION = base_gt);
CREATE OPERATOR CLASS base_ops DEFAULT FOR TYPE base USING btree AS OPERATOR 1 <, OPERATOR 2 <=,
  OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 base_cmp(base, base);

CREATE VIEW calls AS SELECT vol(id) FROM plain WHERE id ### 2 > 0;
CREATE VIEW "Odd Name"."A View" AS SELECT * FROM calls;
CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one;
CREATE UNLOGGED TABLE fast (id int);
CREATE TABLE parent (id int);
CREATE UNLOGGED TABLE child () INHERITS (parent);
CREATE TABLE grandparent (id int);
CREATE TABLE middle () INHERITS (grandparent);
CREATE UNLOGGED TABLE grandchild () INHERITS (middle);
CREATE TABLE logged_child () INHERITS (middle);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE abroad (id int) SERVER elsewhere;
CREATE TABLE parts (id int) PARTITION BY RANGE (id);
CREATE TABLE part_here PARTITION OF parts FOR VALUES FROM (1) TO (10);
CREATE FOREIGN TABLE part_abroad PARTITION OF parts FOR VALUES FROM (10) TO (20) SERVER elsewhere;
CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON guarded FOR SELECT USING (vol(id) > 0);
CREATE POLICY everything ON guarded AS RESTRICTIVE USING (EXISTS (SELECT FROM plain p
  WHERE p.id = guarded.id));
CREATE POLICY writes ON guarded FOR INSERT WITH CHECK (vol_end(id) > 0);
CREATE TABLE guarded_for_writes (id int); ALTER TABLE guarded_for_writes ENABLE ROW LEVEL SECURITY;
CREATE POLICY writes ON guarded_for_writes FOR DELETE USING (vol(id) > 0);
CREATE TABLE unguarded (id int);
CREATE POLICY reads ON unguarded USING (vol(id) > 0);
CREATE UNLOGGED TABLE guarded_fast (id int); ALTER TABLE guarded_fast ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON guarded_fast USING (vol(id) > 0);
"""

DATABASE: Final = "catalogue"


@pytest.fixture(scope="module", params=[16, 18])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    installation = find_installation(request.param)
    with Cluster.create(0, installation=installation, directory=cluster_parent()) as cluster:
        cluster.primary.psql(f"CREATE DATABASE {DATABASE}")
        cluster.primary.psql(OBJECTS, DATABASE)
        yield cluster.primary


@pytest.fixture
async def told(server: Server) -> Told:
    return (await read(server, DATABASE))[0]


def test_functions(told: Told) -> None:
    by_name = {name.removeprefix("app."): found for name, found in told.functions.items()}
    assert sorted(by_name["vol"]) == [(1, 1, True, False), (2, 2, False, False)]
    assert by_name["bare"] == [(0, 0, False, False)]
    assert by_name["defaults"] == [(1, 3, False, False)]
    assert by_name["many"] == [(2, -1, False, False)]
    assert by_name["many_any"] == [(1, -1, True, True)]
    assert by_name["rank_fn"] == [(0, 0, False, False)]
    assert told.functions['Odd Name.Quoted"fn'] == [(0, 0, True, False)]
    assert "proc" not in by_name
    assert "on_change" not in by_name
    assert all(name.startswith(("app.", "Odd Name.")) for name in told.functions)


def test_functions_that_may_be_written_as_a_column(told: Told) -> None:
    rows = {name for name, found in told.functions.items() if any(one[3] for one in found)}
    expected = "of_row of_row_with_default of_any of_rows of_record many_any"
    assert rows == {f"app.{name}" for name in expected.split()}


def test_a_function_takes_as_a_row_what_rows_are_cast_to_without_a_word(server: Server) -> None:
    database = "rows"
    server.psql(f"CREATE DATABASE {database}")
    server.psql(
        "CREATE TYPE pair AS (a int); CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        " CREATE CAST (pair AS text) WITH INOUT AS IMPLICIT",
        database,
    )
    told, _ = asyncio.run(read(server, database))
    assert told.functions["public.f"] == [(1, 1, True, True)]


def test_an_aggregate_is_as_volatile_as_its_support_functions(told: Told) -> None:
    found = {name.removeprefix("app."): overloads for name, overloads in told.functions.items()}
    assert found["safe_sum"] == [(1, 1, False, False)]
    assert found["step_sum"] == [(1, 1, True, False)]
    assert found["end_sum"] == [(1, 1, True, False)]
    assert found["moving_sum"] == [(1, 1, True, False)]
    assert found["ordered"] == [(1, 2, False, False)]


def test_operators(told: Told) -> None:
    own = {name: volatile for name, volatile in told.operators.items() if name[-1] in "#+="}
    assert own == {
        "app.###": True,
        "app.##+": False,
        "app.=": True,
        "app.<=": False,
        "app.>=": False,
    }


def test_what_runs_inside(told: Told) -> None:
    bodies = {
        (kind, name.removeprefix("app.")): found for (kind, name), found in told.bodies.items()
    }
    assert bodies["function", "calls"] == {"BEGIN RETURN app.vol(1); END"}
    assert bodies["function", "defaults"] == {"SELECT 1"}
    texts = " ".join(bodies["function", "atomic"]).split(" ")
    assert {"app.calls(", "app.plain", "app.numbers", "pg_catalog.nextval("} <= set(texts)
    assert bodies["function", "atomic_default"] == {"app.calls("}
    assert bodies["function", "calls_sum"] == {"app.calls_step("}
    assert bodies["function", "of_moody"] == {"app.moody"}
    assert bodies["operator", "##-"] == {"app.calls_step("}
    assert bodies["cast", "mood"] == {"app.int_to_mood("}
    assert bodies["implicit", ".implicit cast from integer to app.mood"] == {"app.int_to_mood("}
    assert bodies["path", "."] == {"app, x", "postgres"}


def test_what_is_volatile_anyway_or_in_no_text_has_no_inside(told: Told) -> None:
    for name in ("many_any", "rank_fn", "vol_step", "base_lt"):
        assert ("function", f"app.{name}") not in told.bodies
    for name in ("###", "##+", "=", "<="):
        assert ("operator", f"app.{name}") not in told.bodies
    assert not any("app.mood_to_int" in text for texts in told.bodies.values() for text in texts)


def test_types(told: Told) -> None:
    types = {name.removeprefix("app."): definition for name, definition in told.types.items()}
    assert types["mood"] == types["base"] == types["rowlike"] == ""
    assert types["free"] == "SELECT NULL::text"
    assert types["moody"] == "SELECT NULL::app.mood[]"
    assert types["typed"] == "SELECT NULL::app.mood"
    assert types["checked_span"] == "SELECT NULL::app.checked"
    assert set(types["mixed"].removeprefix("SELECT ").split(", ")) == {
        "NULL::app.mood",
        "NULL::app.checked[]",
    }
    assert set(types["bad"].removeprefix("SELECT ").split(", ")) == {
        "app.bad_in(NULL)",
        "app.bad_out(NULL)",
    }
    assert "shell" not in types
    assert "_mood" not in types


def test_a_domain_runs_its_checks(told: Told) -> None:
    definition = told.types["app.checked"]
    assert definition.startswith("SELECT NULL::integer WHERE (")
    assert "app.vol(VALUE)" in definition
    assert "VALUE > 0" in definition


def test_multiranges(server: Server, told: Told) -> None:
    assert told.types["app.span_multirange"] == "SELECT NULL::app.span"
    assert told.types["app.span"] == "SELECT NULL::double precision"


def test_a_row_type_names_the_columns_that_a_volatile_cast_may_fill(told: Told) -> None:
    # int is what mood is cast to; the table has nothing else that is not PostgreSQL's own.
    assert told.types["app.plain"] == "SELECT NULL::integer"


def test_casts(told: Told) -> None:
    function = "by function app.mood_to_int"
    assert ("pg_catalog.int4", f"cast from app.mood to integer {function}") in told.casts
    assert [target for target, _ in told.casts] == ["pg_catalog.int4", "app.base"]


def test_what_runs_without_being_named(told: Told) -> None:
    assert set(told.implicits) == {
        "implicit cast from integer to app.base by function app.int_to_base",
        "output of type app.bad by function app.bad_out",
        "operator family base_ops by function app.base_cmp",
        "operator family base_ops by function app.base_eq",
    }


def test_relations(told: Told) -> None:
    kinds = {name.removeprefix("app."): kind for name, (kind, _) in told.relations.items()}
    assert kinds == {
        "calls": "view",
        "Odd Name.A View": "view",
        "numbers": "sequence",
        "guarded": "policy",
        **dict.fromkeys("abroad parts part_abroad".split(), "foreign"),
        **dict.fromkeys(
            "fast parent child grandparent middle grandchild guarded_fast".split(), "unlogged"
        ),
    }


def test_views_name_what_they_use(told: Told) -> None:
    definition = told.relations["app.calls"][1]
    assert "app.vol(" in definition
    assert "OPERATOR(app.###)" in definition
    assert "app.calls" in told.relations["Odd Name.A View"][1]


def test_policies_for_reads(told: Told) -> None:
    definition = told.relations["app.guarded"][1]
    assert definition.startswith("SELECT 1 WHERE (")
    assert "app.vol(" in definition
    assert "app.plain" in definition
    assert "vol_end" not in definition


def test_every_definition_is_sql(told: Told) -> None:
    definitions = [text for text in told.types.values() if text]
    definitions += [text for _, text in told.relations.values() if text]
    for text in definitions:
        (statement,) = pglast.parse_sql(text)
        assert isinstance(statement.stmt, pglast.ast.SelectStmt), text


def test_nothing_of_postgresql_s_own_is_reported(server: Server) -> None:
    told, _ = asyncio.run(read(server, "template1"))
    nothing = Told()
    nothing.search_path("", '"$user", public')
    assert vars(told) == vars(nothing)


ROUTES: Final = {
    "SELECT vol(1)": PRIMARY,
    "SELECT vol(1, 'a')": REPLICA,
    "SELECT defaults(1, 2)": REPLICA,
    "SELECT defaults(1, 2, 3, 4)": PRIMARY,
    "SELECT many('a', 1, 2, 3)": REPLICA,
    "SELECT safe_sum(id) FROM plain": REPLICA,
    "SELECT end_sum(id) FROM plain": PRIMARY,
    "SELECT ordered(0.5) WITHIN GROUP (ORDER BY name) FROM plain": REPLICA,
    "SELECT calls(1)": PRIMARY,
    "SELECT calls_sum(id) FROM plain": PRIMARY,
    "SELECT atomic(1)": PRIMARY,
    "SELECT atomic_default()": PRIMARY,
    "SELECT of_moody(NULL, NULL)": REPLICA,
    "SELECT 1 ##- 2": PRIMARY,
    "SELECT 1 ### 2": PRIMARY,
    "SELECT p.of_row_with_default FROM plain p": PRIMARY,
    "SELECT p.name FROM plain p": REPLICA,
    "SELECT NULL::mood": REPLICA,
    "SELECT '{}'::moody": REPLICA,
    "SELECT NULL::checked": PRIMARY,
    "SELECT NULL::checked_span": PRIMARY,
    "SELECT NULL::mixed": PRIMARY,
    "SELECT NULL::span": REPLICA,
    "SELECT NULL::bad": PRIMARY,
    "SELECT 'sad'::mood::int": PRIMARY,
    "SELECT * FROM plain": REPLICA,
    "SELECT * FROM kept": REPLICA,
    "SELECT * FROM calls": PRIMARY,
    'SELECT * FROM "Odd Name"."A View"': PRIMARY,
    "SELECT * FROM guarded": PRIMARY,
    "SELECT * FROM guarded_for_writes": REPLICA,
    "SELECT * FROM fast": PRIMARY,
    "SELECT * FROM grandparent": PRIMARY,
    "SELECT * FROM logged_child": REPLICA,
    "SELECT * FROM parts": PRIMARY,
    "SELECT * FROM part_here": REPLICA,
}


async def test_statements_go_where_what_was_read_says(server: Server) -> None:
    """But for what runs unnamed, which would send all of them to the primary."""
    database = "routes"
    server.psql(f"CREATE DATABASE {database} TEMPLATE {DATABASE}")
    server.psql(
        "DROP OPERATOR CLASS app.base_ops USING btree; DROP CAST (int AS app.base);"
        "DROP OPERATOR app.= (app.base, app.base); ALTER FUNCTION app.bad_out(app.bad) STABLE",
        database,
    )
    catalogue = Catalogue()
    async with session_of(server, database) as session:
        await session.read(catalogue)
    router = Router(lookup=Namespace(catalogue, ("app",), FunctionLists()))
    targets = {sql: router.decide(sql.encode()).target for sql in ROUTES}
    assert targets == ROUTES


@pytest.mark.parametrize("kind", ["TABLE one AS SELECT 1 AS id", "VIEW one AS SELECT 1"])
async def test_what_is_temporary_changes_nothing(server: Server, kind: str) -> None:
    told, before = await read(server, DATABASE)
    connection = await asyncpg.connect(server.dsn(DATABASE))
    try:
        await connection.execute(f"CREATE TEMP {kind}")
        await connection.execute("CREATE DOMAIN pg_temp.d AS int CHECK (VALUE > 0)")
        await connection.execute(
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
        told_again, after = await read(server, DATABASE)
    finally:
        await connection.close()
    assert after.fingerprint == before.fingerprint
    assert vars(told_again) == vars(told)


async def test_one_that_is_as_known_is_not_read(server: Server) -> None:
    _, known = await read(server, DATABASE)
    told = Told()
    async with session_of(server, DATABASE) as session:
        assert await session.read(told, known.fingerprint) is None
    assert vars(told) == vars(Told())


CHANGES: Final = """
CREATE FUNCTION new() RETURNS int LANGUAGE sql AS 'SELECT 1'
ALTER FUNCTION new() STABLE
CREATE OR REPLACE FUNCTION new() RETURNS int STABLE LANGUAGE sql AS 'SELECT 2'
ALTER FUNCTION new() SET search_path = app
ALTER FUNCTION new() RENAME TO newer
DROP FUNCTION newer()
ALTER FUNCTION app.vol_end(int) STABLE
CREATE OR REPLACE AGGREGATE app.safe_sum(int) (SFUNC = app.vol_step, STYPE = int)
CREATE OPERATOR app.##+ (LEFTARG = text, RIGHTARG = int, FUNCTION = app.f)
DROP OPERATOR app.##+ (text, int)
CREATE TABLE t (id int)
ALTER TABLE t RENAME TO u
ALTER TABLE u ADD COLUMN state app.mood
ALTER TABLE u ALTER COLUMN state TYPE text
ALTER TABLE u SET UNLOGGED
ALTER TABLE u SET LOGGED
ALTER TABLE u ENABLE ROW LEVEL SECURITY
CREATE POLICY p ON u USING (id > 0)
ALTER POLICY p ON u USING (id > 1)
DROP POLICY p ON u
ALTER TABLE u INHERIT app.inherited
ALTER TABLE u NO INHERIT app.inherited
DROP TABLE u
CREATE SEQUENCE s
ALTER SEQUENCE s SET SCHEMA app
CREATE VIEW v AS SELECT 1 AS one
CREATE OR REPLACE VIEW v AS SELECT 2 AS one
DROP VIEW v
CREATE TYPE color AS ENUM ('red')
CREATE DOMAIN d AS int
ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE > 0)
ALTER DOMAIN d DROP CONSTRAINT c
CREATE CAST (color AS int) WITH FUNCTION app.to_int(color)
DROP CAST (color AS int)
CREATE SCHEMA other
ALTER SCHEMA other RENAME TO another
ALTER FOREIGN TABLE app.abroad RENAME TO overseas
ALTER ROLE changing SET search_path = app
ALTER ROLE changing SET search_path = other
ALTER ROLE changing RENAME TO changed
DROP ROLE changed
"""


async def test_every_change_is_seen_and_nothing_else_is(server: Server) -> None:
    database = "changes"
    server.psql(f"CREATE DATABASE {database} TEMPLATE {DATABASE}")
    server.psql(
        "CREATE ROLE changing; CREATE TABLE app.inherited (id int);"
        "CREATE FUNCTION app.f(text, int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION app.to_int(anyenum) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        database,
    )
    statements = [line for line in CHANGES.splitlines() if line]
    _, before = await read(server, database)
    for statement in statements:
        casts_color = "CREATE CAST (color" in statement
        if casts_color:
            server.psql(
                "CREATE FUNCTION app.to_int(color) RETURNS int LANGUAGE sql AS 'SELECT 1'", database
            )
        server.psql(statement, database)
        _, after = await read(server, database)
        assert after.fingerprint != before.fingerprint, statement
        before = after
    for statement in (
        "TRUNCATE app.fast",
        "INSERT INTO app.plain SELECT generate_series(1, 1000)",
        "ANALYZE app.plain",
        "CREATE INDEX ON app.plain (id)",
        "VACUUM FULL app.fast",
        "GRANT SELECT ON app.plain TO public",
        "SELECT nextval('app.numbers')",
    ):
        server.psql(statement, database)
        _, after = await read(server, database)
        assert after.fingerprint == before.fingerprint, statement


async def test_search_paths_in_postgresql_s_order_of_precedence(server: Server) -> None:
    database = "paths"
    server.psql(f"CREATE DATABASE {database}; CREATE ROLE one; CREATE ROLE two; CREATE ROLE three;")
    try:
        server.psql(
            f"ALTER DATABASE {database} SET search_path = of_database;"
            "ALTER ROLE ALL SET search_path = of_all;"
            "ALTER ROLE one SET search_path = of_one;"
            'ALTER ROLE two SET search_path = of_two, "Odd Name", "$user";'
            f"ALTER ROLE one IN DATABASE {database} SET search_path = of_one_here;"
            f"ALTER ROLE three IN DATABASE {DATABASE} SET search_path = elsewhere;"
            "ALTER ROLE three SET work_mem = '8MB'"
        )
        paths = (await read(server, database))[0].paths
        assert paths == {
            "": "of_database",
            "one": "of_one_here",
            "two": 'of_two, "Odd Name", "$user"',
        }
        assert (await read(server, "template1"))[0].paths[""] == "of_all"
        server.psql("ALTER ROLE ALL RESET search_path")
        assert (await read(server, "template1"))[0].paths[""] == '"$user", public'
    finally:
        server.psql(
            f"ALTER ROLE ALL RESET search_path; DROP DATABASE {database};"
            "DROP ROLE one; DROP ROLE two; DROP ROLE three"
        )


async def test_the_servers_own_search_path(server: Server) -> None:
    _, before = await read(server, "template1")
    server.configure({"search_path": "app, public"})
    told, after = await read(server, "template1")
    assert told.paths[""] == "app, public"
    assert after.fingerprint != before.fingerprint
    server.configure({"search_path": ""})
    assert (await read(server, "template1"))[0].paths[""] == '""'
    server.configure({"search_path": '"$user", public'})


async def test_a_search_path_of_the_readers_own_role_hides_the_servers(server: Server) -> None:
    server.psql("CREATE ROLE reader LOGIN; ALTER ROLE reader SET search_path = app")
    try:
        told, _ = await read(server, "template1", Health(user="reader", timeout=30))
    finally:
        server.psql("DROP ROLE reader")
    assert told.paths == {"": "", "reader": "app"}


async def test_a_role_without_any_rights_can_read_it(server: Server, told: Told) -> None:
    server.psql("CREATE ROLE nobody LOGIN")
    told_nobody, _ = await read(server, DATABASE, Health(user="nobody", timeout=30))
    assert vars(told_nobody) == vars(told)


async def test_a_view_whose_table_is_locked_holds_nobody_up(server: Server) -> None:
    connection = await asyncpg.connect(server.dsn(DATABASE))
    try:
        async with connection.transaction():
            await connection.execute("LOCK app.plain IN ACCESS EXCLUSIVE MODE")
            told, reading = await read(server, DATABASE)
    finally:
        await connection.close()
    assert not reading.is_whole
    assert told.relations["app.calls"] == ("view", LOCKED)
    with pytest.raises(pglast.parser.ParseError):
        pglast.parse_sql(LOCKED)
    assert "SELECT" in told.relations["Odd Name.A View"][1]
    told, reading = await read(server, DATABASE)
    assert reading.is_whole
    assert "app.vol" in told.relations["app.calls"][1]


async def test_the_locks_of_views_are_given_back_at_once(server: Server) -> None:
    """The lock table has room for a few thousand."""
    database = "views"
    server.psql(f"CREATE DATABASE {database}")
    server.psql(
        "CREATE TABLE t (id int);"
        "DO $$BEGIN FOR n IN 1..120 LOOP"
        " EXECUTE format('CREATE VIEW v%s AS SELECT * FROM t', n); END LOOP; END$$",
        database,
    )
    locks = []

    def proceed() -> None:
        count = "SELECT count(*) FROM pg_locks JOIN pg_class ON relation = oid WHERE relname = 't'"
        locks.append(int(server.psql(count, database)))

    told, _ = await read(server, database, proceed=proceed)
    assert len(told.relations) == 120
    assert len(locks) > 120 / CHUNK + 2
    assert set(locks) == {0}


async def test_a_standby_is_not_asked(cluster: Cluster) -> None:
    with pytest.raises(NotPrimaryError):
        await read(cluster.replicas[0], "postgres")


async def test_nothing_of_the_database_runs(server: Server) -> None:
    """Whoever may create objects must not get the reader, often a superuser, to call them."""
    database = "trap"
    server.psql(f"CREATE DATABASE {database}")
    server.psql(
        "CREATE SCHEMA trap; CREATE TABLE trap.sprung (id int);"
        "CREATE FUNCTION trap.spring() RETURNS text LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''sprung''; END';"
        "CREATE VIEW trap.pg_settings AS SELECT trap.spring() AS name, trap.spring() AS setting,"
        " trap.spring() AS source;"
        "CREATE FUNCTION trap.eq(text, text) RETURNS bool LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''sprung''; END';"
        "CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);"
        f"ALTER DATABASE {database} SET search_path = trap, pg_catalog",
        database,
    )
    told, _ = await read(server, database)
    assert told.relations["trap.pg_settings"][0] == "view"
