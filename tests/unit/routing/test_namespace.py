"""Names looked up in a catalogue: what is a read along which search_path, and why another is not."""

import pytest

from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.classify import classify
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.lookup import FunctionLists, Lookup
from pgproxy.routing.namespace import Namespace
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason


def filled() -> Catalogue:
    made = Catalogue()
    for schema in ("public", "app", "evil"):
        made.function(schema, "same", 1, 1, volatile=schema == "evil", takes_row=False)
    made.function("public", "total", 1, 3, volatile=False, takes_row=False)
    made.function("public", "sums", 1, -1, volatile=False, takes_row=False)
    made.function("public", "mixed", 1, 1, volatile=False, takes_row=False)
    made.function("public", "mixed", 2, 2, volatile=True, takes_row=False)
    made.function("public", "writes", 0, 0, volatile=True, takes_row=False)
    made.function("public", "audited", 1, 1, volatile=True, takes_row=True)
    made.function("evil", "lower", 1, 1, volatile=True, takes_row=False)
    made.operator("public", "###", volatile=False)
    made.operator("public", "@@@", volatile=True)
    made.operator("evil", "=", volatile=True)
    made.type("public", "mood", "")
    made.type("public", "checked", "SELECT NULL::pg_catalog.int4 WHERE public.writes() > 0")
    made.type("public", "harmless", "SELECT NULL::pg_catalog.int4 WHERE value > 0")
    made.type("public", "pair", "SELECT NULL::public.mood, NULL::public.checked")
    made.cast("pg_catalog", "int8", "cast from public.mood to bigint by function public.writes")
    made.relation("public", "fine", "view", "SELECT a, public.total(a) FROM public.t")
    made.relation("public", "seen", "view", "SELECT a FROM public.t, LATERAL public.writes() w")
    made.relation("public", "outer_view", "view", "SELECT a FROM public.seen")
    made.relation("public", "settings", "view", "SELECT set_config('app.x', 'y', false)")
    made.relation("public", "guarded", "policy", "SELECT 1 WHERE (public.audited(1) > 0)")
    made.relation("public", "open", "policy", "SELECT 1 WHERE (owner = CURRENT_USER)")
    made.relation("public", "quick", "unlogged", "")
    made.relation("public", "far", "foreign", "")
    made.relation("public", "counter", "sequence", "")
    made.relation("public", "round", "view", "SELECT * FROM public.round")
    made.relation("app", "shadow", "view", "SELECT public.writes()")
    return made


CATALOGUE = filled()
PUBLIC = Namespace(CATALOGUE, ("public",), FunctionLists())


def decide(sql: str, lookup: Lookup = PUBLIC) -> Decision:
    return classify(sql.encode(), lookup=lookup)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT same(1)",
        "SELECT public.same(1)",
        "SELECT total(1), total(1, 2), total(1, 2, 3)",
        "SELECT sums(1, 2, 3, 4, 5, 6, 7, 8, 9)",
        "SELECT mixed(1)",
        "SELECT 1 ### 2, 1 OPERATOR(public.###) 2",
        "SELECT 'happy'::mood, 'sad'::public.mood[], mood('happy')",
        "SELECT 5::harmless",
        "SELECT * FROM fine JOIN t USING (a)",
        'SELECT * FROM public."fine"',
        "SELECT * FROM open",
        "SELECT lower('A')",
        "SELECT t.same FROM t",
        "SELECT (t).same, (t).audits FROM t",
        "SELECT t.nextval FROM t",
        "SELECT jsonb_populate_record(NULL::mood, '{}')",
        "EXPLAIN TABLE fine",
        "EXPLAIN ANALYZE SELECT total(1)",
        "COPY fine TO STDOUT",
        "COPY (SELECT total(1)) TO STDOUT",
        "PREPARE p AS SELECT total($1)",
    ],
)
def test_what_is_known_not_to_write_goes_to_a_replica(sql: str) -> None:
    assert decide(sql).target == REPLICA, decide(sql)


@pytest.mark.parametrize(
    ("sql", "reason", "detail"),
    [
        ("SELECT mixed(1, 2)", "volatile_function", "function mixed"),
        ("SELECT total()", "unknown_function", "function total"),
        ("SELECT total(1, 2, 3, 4)", "unknown_function", "function total"),
        ("SELECT nobody(1)", "unknown_function", "function nobody"),
        ("SELECT evil.same(1)", "volatile_function", "function evil.same"),
        ("SELECT evil.lower('A')", "volatile_function", "function evil.lower"),
        ("SELECT 1 @@@ 2", "volatile_function", "operator public.@@@"),
        ("SELECT '1'::checked", "volatile_function", "type public.checked: function public.writes"),
        (
            "SELECT checked(1)",
            "unknown_function",
            "function checked",
        ),
        (
            "SELECT ROW(1, 2)::pair",
            "volatile_function",
            "type public.pair: type public.checked: function public.writes",
        ),
        (
            "SELECT 'happy'::mood::int8",
            "volatile_function",
            "cast from public.mood to bigint by function public.writes",
        ),
        ("SELECT * FROM seen", "volatile_function", "view public.seen: function public.writes"),
        (
            "WITH x AS (SELECT * FROM outer_view) SELECT * FROM x",
            "volatile_function",
            "view public.outer_view: view public.seen: function public.writes",
        ),
        (
            "SELECT * FROM guarded",
            "volatile_function",
            "row security of public.guarded: function public.audited",
        ),
        ("TABLE quick", "unlogged", "unlogged table public.quick"),
        ("SELECT * FROM far", "foreign_table", "foreign table public.far"),
        ("SELECT * FROM counter", "primary_function", "sequence public.counter"),
        ("SELECT * FROM round", "too_deep", "view public.round: view public.round"),
        ("SELECT t.audited FROM t", "volatile_function", "function audited, called on a row"),
        ("SELECT (t).audited FROM t", "volatile_function", "function audited"),
        ("SELECT (1).audited", "volatile_function", "function audited"),
        (
            "SELECT g.audited FROM same(1) AS g",
            "volatile_function",
            "function audited, called on a row",
        ),
        ("SELECT ('s').nextval", "writing_function", "function nextval"),
        ("SELECT n.nextval FROM unnest($1) AS n", "writing_function", "function nextval"),
        (
            "SELECT jsonb_populate_record(t, '{}') FROM t",
            "volatile_function",
            "function jsonb_populate_record, of a row as it is",
        ),
        ("EXPLAIN TABLE quick", "unlogged", "EXPLAIN: unlogged table public.quick"),
        (
            "EXPLAIN INSERT INTO t SELECT * FROM quick",
            "unlogged",
            "EXPLAIN: unlogged table public.quick",
        ),
        ("COPY seen TO STDOUT", "volatile_function", "view public.seen: function public.writes"),
        ("EXPLAIN ANALYZE TABLE quick", "unlogged", "unlogged table public.quick"),
    ],
)
def test_what_may_write_is_found_wherever_it_hides(sql: str, reason: str, detail: str) -> None:
    decision = decide(sql)
    assert (decision.target, decision.reason.value, decision.detail) == (PRIMARY, reason, detail)


def test_a_view_that_sets_something_pins() -> None:
    decision = decide("SELECT * FROM settings")
    assert (decision.target, decision.pin) == (PRIMARY, Pin.SET_CONFIG)


def test_names_are_looked_up_along_the_search_path() -> None:
    app = Namespace(CATALOGUE, ("app",), FunctionLists())
    assert decide("SELECT same(1)", app).target == REPLICA
    assert decide("SELECT total(1)", app).reason is Reason.UNKNOWN_FUNCTION
    assert decide("SELECT public.total(1)", app).target == REPLICA
    assert decide("SELECT * FROM shadow", app).reason is Reason.VOLATILE_FUNCTION
    assert decide("SELECT * FROM shadow", PUBLIC).target == REPLICA
    # A view means what it meant when it was made, whatever the path is now.
    assert decide("SELECT * FROM public.fine", app).target == REPLICA


def test_whatever_may_be_picked_counts() -> None:
    both = Namespace(CATALOGUE, ("public", "evil"), FunctionLists())
    assert decide("SELECT same(1)", both).reason is Reason.VOLATILE_FUNCTION
    assert decide("SELECT lower('A')", both).reason is Reason.VOLATILE_FUNCTION
    assert decide("SELECT upper('A')", both).target == REPLICA


def test_a_comparison_need_not_be_written_to_be_used() -> None:
    evil = Namespace(CATALOGUE, ("evil",), FunctionLists())
    assert decide("SELECT 1 = 2", evil).reason is Reason.VOLATILE_FUNCTION
    assert decide("SELECT * FROM t JOIN u USING (a)", evil).detail == "operator evil.="
    for sql in (
        "SELECT 1 IN (SELECT 2)",
        "SELECT CASE 1 WHEN 2 THEN 3 END",
        "SELECT * FROM pg_class NATURAL JOIN pg_type",
        "SELECT * FROM pg_class JOIN pg_type USING (oid)",
    ):
        assert decide(sql, evil).detail == "operator evil.=", sql
    assert decide("SELECT CASE WHEN true THEN 1 END, EXISTS (SELECT 1)", evil).target == REPLICA
    assert decide("SELECT 1", evil).target == REPLICA
    assert decide("SELECT * FROM pg_class", evil).target == REPLICA


def test_an_implicit_cast_may_be_anywhere() -> None:
    made = Catalogue()
    made.implicit("implicit cast from text to public.t by function public.f", "public.f")
    namespace = Namespace(made, (), FunctionLists())
    assert decide("SELECT * FROM t", namespace).reason is Reason.VOLATILE_FUNCTION
    assert decide("SELECT count(*) FROM pg_catalog.pg_class", namespace).target == REPLICA
    trusting = Namespace(made, (), FunctionLists([r"public\.f"]))
    assert decide("SELECT * FROM t", trusting).target == REPLICA


def test_where_the_path_is_not_known_any_schema_may_be_on_it() -> None:
    anywhere = Namespace(CATALOGUE, None, FunctionLists())
    assert decide("SELECT same(1)", anywhere).reason is Reason.VOLATILE_FUNCTION
    assert decide("SELECT 1 = 2", anywhere).reason is Reason.VOLATILE_FUNCTION
    assert decide("SELECT 1 ### 2", anywhere).target == REPLICA
    assert decide("SELECT * FROM shadow", anywhere).reason is Reason.VOLATILE_FUNCTION


def test_the_users_lists() -> None:
    lists = FunctionLists(["writes", "public\\.nobody", "pg_notify"], ["get_.*", "public\\.total"])
    listed = Namespace(CATALOGUE, ("public",), lists)
    assert decide("SELECT writes()", listed).target == REPLICA
    assert decide("SELECT public.nobody()", listed).target == REPLICA
    assert decide("SELECT nobody()", listed).reason is Reason.UNKNOWN_FUNCTION
    assert decide("SELECT get_x(1)", listed).reason is Reason.WRITING_FUNCTION
    assert decide("SELECT get_x(1)", listed).known_write
    assert decide("SELECT public.total(1)", listed).reason is Reason.WRITING_FUNCTION
    # No list makes a standby run what writes.
    assert decide("SELECT pg_notify('a', 'b')", listed).reason is Reason.WRITING_FUNCTION
    assert decide("SELECT * FROM seen", listed).target == REPLICA
