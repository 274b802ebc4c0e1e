"""Bodies of functions: which names are in them, and what is no read although its label says so."""

import pytest

from pgproxy.routing.bodies import LONGEST_BODY, LONGEST_WAY, words
from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.classify import classify
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.namespace import Namespace
from pgproxy.routing.reasons import Reason

PATH = ("public",)


def stable(made: Catalogue, name: str, body: str, schema: str = "public") -> None:
    made.function(schema, name, 1, 1, volatile=False, takes_row=name.startswith("of_row"))
    made.runs("function", schema, name, body)


def filled() -> Catalogue:
    made = Catalogue()
    for schema, name in (
        ("public", "writes"),
        ("app", "posts"),
        ("Odd Name", "Write Me"),
        ("app", "cash$out"),
        ("Odd Name", "posts"),
    ):
        made.function(schema, name, 1, 1, volatile=True, takes_row=False)
    made.function("public", "writes_two", 2, 2, volatile=True, takes_row=False)
    made.function("app", "lower", 1, 1, volatile=True, takes_row=False)
    made.operator("public", "@@@", volatile=True)
    made.operator("app", "=", volatile=True)
    made.operator("public", "###", volatile=False)
    made.runs("operator", "public", "###", "public.by_nextval(")
    made.type(
        "public", "checked", "SELECT NULL::pg_catalog.int4 WHERE public.by_nextval(value) > 0"
    )
    made.type("public", "coupon", "")
    made.runs("cast", "public", "coupon", "public.by_nextval(")
    made.relation("public", "quick", "unlogged", "")
    made.relation("app", "quicker", "unlogged", "")
    made.relation("Odd Name", "flash", "unlogged", "")
    made.relation("public", "counter", "sequence", "")
    made.relation("public", "seen", "view", "SELECT public.by_nextval(1)")
    made.relation("public", "fine", "view", "SELECT public.reads(a) FROM public.t")
    stable(made, "by_nextval", "BEGIN RETURN nextval('s'); END")
    stable(made, "reads", "SELECT count(*) FROM public.t WHERE a = $1")
    stable(made, "of_row_bad", "BEGIN RETURN writes(1); END")
    stable(made, "recursive", "BEGIN RETURN public.recursive($1 - 1); END")
    stable(made, "ping", "SELECT pong($1)")
    stable(made, "pong", "SELECT ping($1) + writes($1)")
    return made


def decide(body: str, sql: str = "SELECT f(1)", lists: FunctionLists | None = None) -> Decision:
    made = filled()
    stable(made, "f", body)
    return classify(sql.encode(), lookup=Namespace(made, PATH, lists or FunctionLists()))


@pytest.mark.parametrize(
    ("body", "inside"),
    [
        ("SELECT nextval('s')", "function nextval"),
        ('SELECT pg_catalog."nextval"($1)', "function nextval"),
        ("BEGIN PERFORM NEXTVAL ('s'); END", "function nextval"),
        ("SELECT ('s').nextval", "function nextval"),
        ("SELECT pg_advisory_xact_lock(1)", "function pg_advisory_xact_lock"),
        ("SELECT txid_current()", "function txid_current"),
        ("SELECT set_config('a.b', 'c', false)", "function set_config"),
        ("SELECT query_to_xml($1, true, true, '')", "function query_to_xml"),
        ("SELECT writes(1)", "function public.writes"),
        ("SELECT public . Writes /* now */ (1)", "function public.writes"),
        ("SELECT writes -- now\n (1)", "function public.writes"),
        ('SELECT "public"."writes"(1)', "function public.writes"),
        ("SELECT t.writes FROM t", "function public.writes"),
        ("EXECUTE 'SELECT public.' || 'writes($1)' USING $1", "function public.writes"),
        ("EXECUTE format('SELECT %I(1)', 'writes')", "function public.writes"),
        ("SELECT app.posts(1)", "function app.posts"),
        ('SELECT "Odd Name"."Write Me"(1)', "function Odd Name.Write Me"),
        ("EXECUTE $$SELECT public.writes$$ || '(1)'", "function public.writes"),
        ('SELECT "Odd Name".posts(1)', "function Odd Name.posts"),
        ("SELECT app.Cash$Out(1)", "function app.cash$out"),
        ("SELECT by_nextval(1)", "function nextval"),
        ("SELECT ping(1)", "function public.writes"),
        ("SELECT @@@ 1", "operator public.@@@"),
        ("SELECT 1 OPERATOR(app.=) 1", "operator app.="),
        ("SELECT 1 ### 2", "function nextval"),
        (
            "SELECT '1'::checked",
            "type public.checked: function public.by_nextval: function nextval",
        ),
        ("DECLARE c public.coupon := 1; BEGIN END", "function nextval"),
        ("SELECT count(*) FROM quick", "unlogged table public.quick"),
        ("SELECT count(*) FROM app.Quicker", "unlogged table app.quicker"),
        ('SELECT 1 FROM "Odd Name".flash', "unlogged table Odd Name.flash"),
        ("SELECT is_called FROM counter", "sequence public.counter"),
        ("EXECUTE 'SELECT last_value FROM ' || $1", "column last_value"),
        ("SELECT * FROM seen", "view public.seen: function public.by_nextval: function nextval"),
        ("SELECT count(*) FROM pg_locks", "view pg_locks"),
        ("SELECT pg_temp.f(1)", "schema pg_temp"),
        ("SELECT U&\"\\006eextval\"('s')", "names in Unicode escapes"),
        ("x" * (LONGEST_BODY + 1), f"{LONGEST_BODY + 1} characters"),
    ],
)
def test_what_a_body_does_counts_whatever_its_label_says(body: str, inside: str) -> None:
    decision = decide(body)
    assert (decision.target, decision.reason) == (PRIMARY, Reason.VOLATILE_FUNCTION)
    assert decision.detail == f"function f: {inside}"


@pytest.mark.parametrize(
    "body",
    [
        "SELECT lower(a) FROM t WHERE a = $1",
        "SELECT a AS writes, b AS nextval FROM t",
        "SELECT t.writes_two FROM t",
        "SELECT count(*) FROM quicker",
        "SELECT public.quicker FROM public.t",
        "SELECT last_value(a) OVER (ORDER BY a) FROM t",
        "SELECT reads(1), recursive(2), f($1 - 1)",
        "SELECT * FROM fine",
        "SELECT pg_catalog.lower(a), now(), random() FROM t",
        "SELECT public.posts(1)",
        "SELECT flash FROM flash",
    ],
)
def test_what_only_reads_goes_to_a_replica(body: str) -> None:
    assert decide(body).target == REPLICA, decide(body)


def test_every_function_of_a_circle_is_known_for_what_it_is() -> None:
    namespace = Namespace(filled(), PATH, FunctionLists())
    for name in ("ping", "pong", "ping"):
        decision = classify(f"SELECT {name}(1)".encode(), lookup=namespace)
        assert decision.detail == f"function {name}: function public.writes"
    assert classify(b"SELECT recursive(1)", lookup=namespace).target == REPLICA


def test_a_circle_through_a_view_is_not_shown_to_be_a_read() -> None:
    made = Catalogue()
    made.relation("public", "v", "view", "SELECT public.f(1)")
    stable(made, "f", "SELECT a FROM v")
    for sql in (b"SELECT f(1)", b"TABLE v"):
        for first in (b"SELECT f(1)", b"TABLE v"):
            namespace = Namespace(made, PATH, FunctionLists())
            classify(first, lookup=namespace)
            assert classify(sql, lookup=namespace).target == PRIMARY


def test_the_way_from_one_body_to_others_has_an_end() -> None:
    made = Catalogue()
    for number in range(100):
        stable(made, f"f{number}", f"SELECT f{number + 1}($1) {' ' * (LONGEST_WAY // 50)}")
    namespace = Namespace(made, PATH, FunctionLists())
    assert classify(b"SELECT f0(1)", lookup=namespace).target == PRIMARY
    assert classify(b"SELECT f99(1)", lookup=namespace).target == REPLICA
    assert classify(b"SELECT f90(1)", lookup=namespace).target == REPLICA


def test_names_alone_are_looked_up_along_every_path_there_may_be() -> None:
    made = filled()
    stable(made, "f", "SELECT quicker FROM quicker")
    sql = b"SELECT public.f(1)"
    assert classify(sql, lookup=Namespace(made, PATH, FunctionLists())).target == REPLICA
    assert classify(sql, lookup=Namespace(made, ("app",), FunctionLists())).target == PRIMARY
    assert classify(sql, lookup=Namespace(made, None, FunctionLists())).target == PRIMARY
    made.runs("path", "", "", "x, app")
    assert classify(sql, lookup=Namespace(made, PATH, FunctionLists())).target == PRIMARY


def test_a_functions_own_path_may_lead_to_its_owners_schema() -> None:
    made = filled()
    stable(made, "f", "SELECT quicker FROM quicker")
    made.runs("path", "", "", '"$user"')
    assert classify(b"SELECT f(1)", lookup=Namespace(made, PATH, FunctionLists())).target == PRIMARY


@pytest.mark.parametrize("pattern", ["f", "public\\.writes", "public\\..*"])
def test_the_users_list_of_reads_overrules(pattern: str) -> None:
    assert decide("SELECT writes(1)", lists=FunctionLists([pattern])).target == REPLICA


def test_the_users_list_of_writes_counts_inside() -> None:
    decision = decide("SELECT reads(1)", lists=FunctionLists(writes=["public\\.reads"]))
    assert decision.detail == "function f: function public.reads"


@pytest.mark.parametrize(
    ("sql", "detail"),
    [
        ("SELECT 1 ### 2", "operator public.###: function nextval"),
        ("SELECT 1::coupon", "cast to public.coupon: function nextval"),
        ("SELECT t.of_row_bad FROM t", "function of_row_bad: function public.writes"),
        ("SELECT f(1)", "function f: function nextval"),
    ],
)
def test_planning_runs_what_is_not_called_volatile(sql: str, detail: str) -> None:
    body = "SELECT nextval('s')"
    assert decide(body, sql).target == PRIMARY
    explained = decide(body, f"EXPLAIN {sql}")
    assert (explained.target, explained.reason) == (PRIMARY, Reason.VOLATILE_FUNCTION)
    assert explained.detail.startswith(f"EXPLAIN: {detail}")


def test_planning_runs_nothing_else() -> None:
    for sql in ("SELECT writes(1)", "DELETE FROM t WHERE a = reads(1)", "SELECT nextval('s')"):
        assert decide("SELECT 1", f"EXPLAIN {sql}").target == REPLICA, sql


def test_what_is_called_unseen_counts_for_everything() -> None:
    made = filled()
    made.runs("implicit", "", "implicit cast from a to b", "public.by_nextval(")
    decision = classify(b"SELECT * FROM t", lookup=Namespace(made, PATH, FunctionLists()))
    assert decision.detail == "implicit cast from a to b: function nextval"


def test_words() -> None:
    found = {
        (word.qualifier, word.name, word.is_called, word.is_member)
        for word in words('SELECT A.b(c) FROM "X Y".Z', ["X Y", "no one"])
    }
    assert ("A", "b", True, True) in found
    assert ("a", "b", True, True) in found
    assert ("", "c", False, False) in found
    assert ("Y", "Z", False, True) in found
    assert ("y", "z", False, True) in found
    assert ("", "X Y", True, True) in found
    assert not any(word[1] == "no one" for word in found)
