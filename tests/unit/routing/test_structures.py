"""What a text is counted under, and what of it is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.routing.classify import SHORT
from pgproxy.routing.decision import Decision
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Memory, Router
from pgproxy.routing.structures import MAX_TEXT, Structures, shortened
from pgproxy.telemetry.counters import Structure
from tests.unit.routing.corpus import Case, read_corpus


def counting(limit: int = 100) -> tuple[Router, Structures]:
    structures = Structures(limit)
    return Router(Memory(structures=structures)), structures


def structure(sql: str | bytes, router: Router | None = None) -> Structure:
    text = sql.encode() if isinstance(sql, str) else sql
    found = (counting()[0] if router is None else router).decide(text).structure
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT * FROM t WHERE a = 7 AND b = 'x'", "SELECT * FROM t WHERE a = ? AND b = ?"),
        ("SELECT\n\t1 -- mine\n , 'it''s'", "SELECT ?, …"),
        ("SELECT a FROM t WHERE b = $1 /* trace 77 */", "SELECT a FROM t WHERE b = $1"),
        ("SELECT a FROM t WHERE b IN (1, 2,3)", "SELECT a FROM t WHERE b IN (?, …)"),
        ("SELECT a FROM t WHERE b IN ($1,$2)", "SELECT a FROM t WHERE b IN ($1, …)"),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO t VALUES (?, …), …"),
        ("INSERT INTO t (a) VALUES ($1)", "INSERT INTO t (a) VALUES ($1)"),
        # no lexical key
        ("/* pgproxy: primary */ SELECT 7", "SELECT ?"),
        ("SELECT E'a\\nb', B'1', X'1f', $$secret$$, 1.5e3, f(U&'a')", "SELECT ?, …, f(?)"),
        ("SET app.tenant = 'acme'", "SET app.tenant = ?"),
        ("SET LOCAL app.tenant TO acme", "SET LOCAL app.tenant TO ?"),
        ("SET search_path = acme, public", "SET search_path = ?"),
        ("SET a = acme; SELECT 'x'", "SET a = ?; SELECT ?"),
        ("NOTIFY c, 'secret'", "NOTIFY c, ?"),
        ("CREATE ROLE r PASSWORD 'secret'", "CREATE ROLE r PASSWORD ?"),
        ("DO $x$ BEGIN PERFORM secret(); END $x$", "DO ?"),
        ("SHOW work_mem", "SHOW work_mem"),
        ("COPY t FROM STDIN", "COPY t FROM STDIN"),
        ("PREPARE p AS SELECT 7", "PREPARE p AS SELECT ?"),
        ("EXECUTE p(7, 'x')", "EXECUTE p(?, …)"),
        ("", ""),
        # not parsed
        ("SELECT 'secret", "SELECT (not parsed)"),
        ("hunter2", "(not parsed)"),
        ("SELECT * FROM t WHERE name = 'O'Brien' AND x = '", "SELECT (not parsed)"),
        ("INSERT INTO t VALUES ('a\\', secret) --')", "INSERT (not parsed)"),
        ("SELECT '" + "x" * 40000 + "'", "SELECT (not parsed)"),
        ("INSERT INTO t VALUES ('" + "x" * SHORT + "')", "INSERT (not parsed)"),
    ],
)
def test_the_text_has_no_literals(sql: str, text: str) -> None:
    assert structure(sql).text == text


def test_bytes_that_are_no_utf8_are_shown_somehow() -> None:
    assert structure(b"SET app.x = '\xff'").text == "SET app.x = ?"
    assert "caf" in structure(b"SELECT caf\xe9 FROM t").text


SECRET = "xyzzy98765"


@pytest.mark.parametrize("case", read_corpus(), ids=str)
def test_no_literal_of_the_corpus_is_kept(case: Case) -> None:
    sql = case.sql.replace("'x'", f"'{SECRET}'").replace("'a'", f"'{SECRET}'")
    assert SECRET not in structure(sql).text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_whatever_is_in_quotes_is_not_kept(secret: str) -> None:
    literal = f"'{SECRET}{secret.replace(chr(39), chr(39) * 2)}'"
    for sql in (
        f"SELECT {literal}",
        f"SELECT E{literal}",
        f"SET app.x = {literal}",
        f"/* pgproxy: replica */ SELECT f({literal})",
        f"DO {literal}",
        f"SELECT 1; SELECT {literal}",
    ):
        assert SECRET not in structure(sql).text


def test_texts_that_differ_in_literals_are_counted_together() -> None:
    router, structures = counting()
    one = structure("SELECT a FROM t WHERE b = 1", router)
    assert structure("SELECT a FROM t WHERE b = 2", router) is one
    assert structure("SELECT  a\nFROM t WHERE b = '3'", router) is one
    assert structure("/* pgproxy: primary */ SELECT a FROM t WHERE b = 4", router) is one
    # where a literal decides, and where there is no key
    assert structure("SET app.x = '1'", router) is structure("SET app.x = '2'", router)
    first = structure("SELECT current_setting('work_mem')", router)
    assert structure("SELECT current_setting('in_hot_standby')", router) is first
    assert first.reason == Reason.SERVER_ROLE.value
    assert len(structures) == 3


def test_an_id_is_the_same_for_ever() -> None:
    assert structure("SELECT 1").id == structure("SELECT 2").id == "71177e8a0d"


def test_a_long_text_is_cut_and_told_apart_all_the_same() -> None:
    long = "SELECT " + " + ".join(["col"] * 200)
    router, _ = counting()
    one, other = structure(f"{long} + a", router), structure(f"{long} + b", router)
    assert one.text == other.text == shortened(f"{long} + a", MAX_TEXT)
    assert len(one.text) == MAX_TEXT
    assert one.id != other.id


def test_the_same_decision_is_shared_by_nobody() -> None:
    router, _ = counting()
    one, other = router.decide(b"SELECT a"), router.decide(b"SELECT b")
    assert one.fields() == other.fields()
    assert one.structure is not other.structure
    assert Router().decide(b"SELECT a").structure is None


def test_under_rules_texts_are_counted_as_without_them() -> None:
    router, _ = counting()
    assert router.under(()).decide(b"SELECT a").structure is router.decide(b"SELECT a").structure


def test_an_execute_is_counted_under_its_own_text() -> None:
    router, _ = counting()
    decision = router.decide(b"EXECUTE p(1)")
    assert decision.names is not None
    assert isinstance(decision.names.reads, Decision)
    assert decision.names.reads.structure is decision.structure
    assert structure("EXECUTE p(2)", router) is decision.structure


# --- how many


def test_no_more_than_the_limit_are_known_and_the_busy_ones_stay() -> None:
    router, structures = counting(8)
    busy = structure("SELECT busy", router)
    for number in range(100):
        busy.replica += 1
        structure(f"SELECT a{'x' * number} FROM t", router)
        assert len(structures) <= 8
    assert structures.heaviest(10) == [busy]


def test_what_is_used_no_more_goes_in_the_end_however_busy_it_was() -> None:
    router, structures = counting(8)
    structure("SELECT once", router).primary += 1000
    for number in range(100):
        structure(f"SELECT a{'x' * number} FROM t", router).replica += 1
    assert all(one.text != "SELECT once" for one in structures.heaviest(10))


def test_the_heaviest_are_those_of_most_time_and_of_most_calls() -> None:
    router, structures = counting()
    slow, often, both, little = (
        structure(f"SELECT {name}", router) for name in ("slow", "often", "both", "little")
    )
    slow.replica, slow.seconds = 1, 10.0
    often.primary, often.seconds = 500, 0.1
    both.replica, both.seconds = 400, 5.0
    little.replica, little.seconds = 2, 0.2
    structure("SELECT unused", router)
    assert structures.heaviest(0) == []
    assert structures.heaviest(1) == [slow]
    assert structures.heaviest(2) == [slow, often]
    assert structures.heaviest(3) == [slow, both, often]
    assert structures.heaviest(9) == [slow, both, little, often]
