"""A write anywhere in a statement keeps it from every replica; without the write it goes to one."""

import re
from typing import Final

from hypothesis import assume, given
from hypothesis import strategies as st

from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.key import lexical_key
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.namespace import Namespace
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Router
from tests.properties.grammar import (
    HARMLESS,
    KNOWN_WRITES,
    OTHER_WRITES,
    disguised,
    hole_in,
    statements,
)


def _namespace() -> Namespace:
    """What the names in the grammar stand for."""
    made = Catalogue()
    made.function("public", "reads", 1, 1, volatile=False, takes_row=False)
    made.function("public", "writes", 1, 1, volatile=True, takes_row=False)
    made.function("public", "mixed", 1, 1, volatile=False, takes_row=False)
    made.function("public", "mixed", 2, 2, volatile=True, takes_row=False)
    made.function("public", "audited", 1, 1, volatile=True, takes_row=True)
    made.operator("public", "###", volatile=False)
    made.operator("public", "@@@", volatile=True)
    made.type("public", "mood", "")
    made.type("public", "checked", "SELECT NULL::pg_catalog.int4 WHERE public.writes(1) > 0")
    made.relation("public", "fine", "view", "SELECT a, public.reads(a) FROM public.t")
    made.relation("public", "seen", "view", "SELECT public.writes(1) AS w")
    made.relation("public", "outer_view", "view", "SELECT w FROM public.seen")
    made.relation("public", "locking", "view", "SELECT a FROM public.t FOR UPDATE")
    made.relation("public", "numbering", "view", "SELECT nextval('s')")
    made.relation("public", "guarded", "policy", "SELECT 1 WHERE public.writes(1) > 0")
    made.relation("public", "quick", "unlogged", "")
    made.relation("public", "far", "foreign", "")
    made.relation("public", "counter", "sequence", "")
    return Namespace(made, ("public",), FunctionLists())


LOOKUP: Final = _namespace()


def decide(sql: str) -> Decision:
    return Router(lookup=LOOKUP).decide(sql.encode())


@st.composite
def pairs(draw: st.DrawFn, writes: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    """A statement without a write and the same with one."""
    text = draw(statements())
    hole = hole_in(text)
    return tuple(
        draw(disguised(text.replace(hole, draw(st.sampled_from(fillings[hole])))))
        for fillings in (HARMLESS, writes)
    )  # type: ignore[return-value]


any_writes = st.one_of(pairs(KNOWN_WRITES), pairs(OTHER_WRITES))


@given(any_writes)
def test_with_a_write_it_goes_to_the_primary_and_without_to_a_replica(
    pair: tuple[str, str],
) -> None:
    harmless, writing = pair
    assert decide(writing).target == PRIMARY
    decision = decide(harmless)
    assume(not decision.unparsed)
    assert decision.target == REPLICA, decision


@given(pairs(KNOWN_WRITES))
def test_no_hint_sends_a_known_write_to_a_replica(pair: tuple[str, str]) -> None:
    harmless, writing = pair
    assert decide(f"/* pgproxy: replica */ {writing}").target == PRIMARY
    decision = decide(f"/* pgproxy: primary */ {harmless}")
    assert decision.target == PRIMARY
    assert decision.reason is Reason.HINT or decision.unparsed


@given(any_writes, st.integers(0, 9))
def test_what_is_remembered_of_one_does_not_answer_for_the_other(
    pair: tuple[str, str], number: int
) -> None:
    harmless, writing = pair
    router = Router(lookup=LOOKUP)
    varied = [re.sub(r"\b1\b", str(number), sql) for sql in pair]
    first = router.decide(harmless.encode())
    for sql in (writing, varied[1], writing):
        assert router.decide(sql.encode()).target == PRIMARY
    assume(not first.unparsed)
    for sql in (varied[0], harmless):
        again = router.decide(sql.encode())
        assert again.target == REPLICA or again.unparsed


@given(any_writes, st.text(st.characters(codec="utf-8", exclude_characters="'\\\0"), max_size=9))
def test_equal_keys_are_decided_alike(pair: tuple[str, str], text: str) -> None:
    for sql in pair:
        other = re.sub(r"'[^'\\]*'", f"'{text}'", sql)
        if lexical_key(sql.encode()) is None or lexical_key(other.encode()) is None:
            continue
        if lexical_key(sql.encode()) != lexical_key(other.encode()):
            continue
        one, two = decide(sql), decide(other)
        if not (one.unparsed or two.unparsed or one.exact):
            assert one.fields() == two.fields()
