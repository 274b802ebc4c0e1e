"""Rules of the configuration: which one fits, and what it may do."""

import pytest

from pgproxy.protocol.named import PREPARES
from pgproxy.protocol.session import AUTO, TO_PRIMARY, TO_REPLICA
from pgproxy.routing.classify import classify
from pgproxy.routing.decision import END, NO_HINT, NO_RULE, NOT_ASKED, PRIMARY, REPLICA, Decision
from pgproxy.routing.explain import explain
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import MAX_RULED, Memory, Router
from pgproxy.routing.rules import Rules, RuleSet, rule_set
from tests.unit.routing.corpus import Case, read_corpus

EVERYTHING = {"database": "", "user": "", "application_name": "", "statement": ""}


def rules(*entries: dict[str, str]) -> RuleSet:
    return rule_set([{**EVERYTHING, **entry} for entry in entries])


def for_texts(*entries: dict[str, str]) -> Rules:
    rule, found = rules(*entries).for_session("d", "u", "a")
    assert rule is None
    return found


def under(route: str, pattern: str, sql: str) -> Decision:
    base = Router()
    return base.under(for_texts({"statement": pattern, "route": route})).decide(sql.encode())


# --- sessions


@pytest.mark.parametrize(
    ("names", "number"),
    [
        (("sales", "ann", ""), 1),
        (("sales_2", "ann", "batch"), 2),
        (("other", "batch_7", ""), 3),
        (("other", "BATCH_7", ""), None),  # case counts
        (("other", "my_batch_7", ""), None),  # the whole name
        (("other", "ann", "report: monthly"), 4),
        (("sales", "bob", "report"), 1),
    ],
)
def test_the_first_rule_whose_patterns_all_fit_gives_the_route(
    names: tuple[str, str, str], number: int | None
) -> None:
    found = rules(
        {"database": "sales", "route": "primary"},
        {"database": "sales_.*", "application_name": "batch", "route": "replica"},
        {"user": "batch_[0-9]+", "route": "replica"},
        {"application_name": "report.*", "route": "replica"},
    )
    rule, statement_rules = found.for_session(*names)
    assert (None if rule is None else int(rule.number)) == number
    assert statement_rules == ()


def test_a_rule_without_a_statement_ends_the_list_for_its_sessions() -> None:
    found = rules(
        {"statement": "one", "route": "primary"},
        {"user": "other", "statement": "two", "route": "primary"},
        {"user": "u", "route": "replica"},
        {"statement": "three", "route": "primary"},
        {"route": "primary", "database": "d"},
    )
    rule, statement_rules = found.for_session("d", "u", "a")
    assert rule is not None
    assert (int(rule.number), int(rule.route)) == (3, TO_REPLICA)
    assert [int(one.number) for one in statement_rules] == [1]
    rule, statement_rules = found.for_session("d", "other", "a")
    assert rule is not None
    assert (int(rule.number), int(rule.route)) == (5, TO_PRIMARY)
    assert [int(one.number) for one in statement_rules] == [1, 2, 4]
    assert found.for_session("x", "y", "z")[0] is None


def test_a_route_may_be_auto() -> None:
    rule, _ = rules({"user": "u", "route": "auto"}).for_session("d", "u", "a")
    assert rule is not None
    assert rule.route == AUTO


# --- texts


def test_a_rule_sends_a_read_to_the_primary_and_says_so() -> None:
    decision = under("primary", "FROM balances", "SELECT * FROM balances WHERE id = 7")
    assert (decision.target, decision.reason) == (PRIMARY, Reason.RULE)
    assert decision.detail == 'rule 1: statement "FROM balances"'
    assert decision.may_write  # who says so may know better than the router


def test_a_rule_sends_to_a_replica_what_the_router_does_not_know() -> None:
    decision = under("replica", "report_", "SELECT report_monthly(1)")
    assert (decision.target, decision.reason) == (REPLICA, Reason.RULE)
    assert decision.may_write  # nobody has shown that it does not


def test_the_first_rule_that_fits_a_text_decides() -> None:
    router = Router().under(
        for_texts(
            {"statement": "exempt", "route": "auto"},
            {"statement": "FROM t", "route": "primary"},
        )
    )
    assert router.decide(b"SELECT * FROM t -- exempt").target == REPLICA
    assert router.decide(b"SELECT * FROM t").target == PRIMARY
    assert router.decide(b"SELECT * FROM u").target == REPLICA
    assert [
        int(router.decide(sql).rule)
        for sql in (b"SELECT * FROM t -- exempt", b"SELECT * FROM t", b"SELECT * FROM u")
    ] == [1, 2, NO_RULE]


def test_a_rule_that_changes_nothing_leaves_the_reason() -> None:
    assert under("replica", "FROM t", "SELECT * FROM t").reason is Reason.READ
    assert under("auto", ".", "SELECT f(1)").reason is Reason.UNKNOWN_FUNCTION


def test_a_pattern_may_look_at_literals_and_shares_nothing() -> None:
    router = Router().under(for_texts({"statement": "tenant = '42'", "route": "primary"}))
    for _ in range(2):
        assert router.decide(b"SELECT 1 FROM t WHERE tenant = '41'").target == REPLICA
        assert router.decide(b"SELECT 1 FROM t WHERE tenant = '42'").target == PRIMARY
        assert router.decide(b"SELECT 1 FROM t WHERE tenant = '43'").target == REPLICA


def test_rules_leave_the_router_below_as_it_was_and_parse_once() -> None:
    base = Router()
    router = base.under(for_texts({"statement": ".", "route": "primary"}))
    router.decide(b"SELECT 1")
    router.decide(b"SELECT 2")
    assert int(base.memory.misses) == 1
    assert base.decide(b"SELECT 1").target == REPLICA
    assert base.decide(b"SELECT 1").rule == NOT_ASKED


def test_routers_with_rules_are_few_and_go_with_the_one_below() -> None:
    memory = Memory()
    base = Router(memory)
    base.decide(b"SELECT base")
    for number in range(MAX_RULED):
        base.under(for_texts({"statement": str(number), "route": "primary"})).decide(b"SELECT a")
    assert len(memory) == 1 + MAX_RULED + 1  # the one below knows the text as well
    base.under(for_texts({"statement": "one more", "route": "primary"})).decide(b"SELECT a")
    assert len(memory) == 3
    memory.leave(base)
    assert len(memory) == 0


def test_the_same_rules_have_one_router() -> None:
    base = Router()
    some = for_texts({"statement": "a", "route": "primary"})
    assert base.under(some) is base.under(some)
    assert base.under(()) is base
    assert base.under(some).epoch != base.epoch


def test_the_clients_own_word_counts_more() -> None:
    assert under("primary", ".", "/* pgproxy: replica */ SELECT 1").target == REPLICA
    assert under("replica", ".", "/* pgproxy: primary */ SELECT f(1)").reason is not Reason.RULE


@pytest.mark.parametrize("case", read_corpus(), ids=str)
def test_no_rule_does_more_than_a_hint_may(case: Case) -> None:
    plain = classify(case.sql.encode())
    to_replica = under("replica", "$", case.sql)
    to_primary = under("primary", "$", case.sql)
    if plain.hint != NO_HINT:
        assert to_replica.target == to_primary.target == plain.target
        return
    assert to_replica.target == classify(b"/* pgproxy: replica */ " + case.sql.encode()).target
    if plain.known_write or plain.pin is not None:
        assert to_replica.target == plain.target
    assert to_primary.target == PRIMARY or plain.kind > END


def test_names_and_effects_are_kept() -> None:
    decision = under("primary", "FROM t", "PREPARE p AS SELECT * FROM t")
    assert decision.names is not None
    (use,) = decision.names.uses
    assert use.kind == PREPARES
    assert isinstance(use.decision, Decision)
    assert (use.decision.target, use.decision.reason) == (PRIMARY, Reason.RULE)
    assert use.sql == b"PREPARE p AS SELECT * FROM t"
    executed = under("primary", "EXECUTE p", "EXECUTE p(1)")
    assert executed.names is not None
    assert isinstance(executed.names.reads, Decision)
    assert executed.names.reads.target == PRIMARY
    plain = classify(b"SET work_mem = '1MB'")
    ruled = under("primary", "work_mem", "SET work_mem = '1MB'")
    assert [effect.fields() for effect in ruled.effects] == [
        effect.fields() for effect in plain.effects
    ]


def test_only_the_beginning_of_a_long_text_is_searched() -> None:
    base = Router(Memory(parse_limit=100))
    router = base.under(for_texts({"statement": "needle", "route": "replica"}))
    assert router.decide(b"SELECT 'needle', '" + b"x" * 100 + b"'").target == REPLICA
    assert router.decide(b"SELECT '" + b"x" * 100 + b"', 'needle'").target == PRIMARY
    assert router.decide_beginning(b"SELECT 'needle' " + b"x" * 100).target == PRIMARY  # it pins


# --- explained


def test_the_explanation_names_the_rule() -> None:
    rule, statement_rules = rules(
        {"statement": "FROM t", "route": "primary"}, {"user": "u", "route": "replica"}
    ).for_session("d", "u", "")
    told = explain("SELECT * FROM t", 1000, rule, statement_rules)
    assert (told.target, told.reason) == ("primary", "rule")
    assert 'rule     primary: rule 1: statement "FROM t"' in told.to_text().splitlines()
    assert told.to_dict()["rule"] == {"number": 1, "statement": "FROM t", "route": "primary"}
    told = explain("SELECT f(1)", 1000, rule, statement_rules)
    assert (told.target, told.reason) == ("replica", "rule")
    assert told.to_dict()["rule"] == {"number": 2, "user": "u", "route": "replica"}
    told = explain("DELETE FROM x", 1000, rule, statement_rules)
    assert (told.target, told.reason) == ("primary", "write")
    assert explain("SELECT 1").to_dict()["rule"] is None
