from pgproxy.protocol.named import (
    DEALLOCATES,
    DEALLOCATES_ALL,
    EXECUTES,
    PREPARES,
    Names,
    NameUse,
    Need,
    add_need,
    add_needs,
)
from pgproxy.protocol.prepared import Statement

ONE = Statement(1, b"PREPARE a AS SELECT 1", b"", None)
OTHER = Statement(2, b"SELECT 2", b"\0\0", None)


def needs_of(*uses: NameUse) -> dict[bytes, tuple[Statement | None, bool]]:
    needs: dict[bytes, Need] = {}
    add_needs(needs, uses, {b"a": ONE, b"b": OTHER})
    return {name: (need.statement, need.exact) for name, need in needs.items()}


def test_a_statement_that_sql_has_prepared_has_no_number_of_parameters() -> None:
    assert ONE.by_sql
    assert not OTHER.by_sql


def test_what_is_executed_must_be_the_clients_own() -> None:
    assert needs_of(NameUse(EXECUTES, b"a")) == {b"a": (ONE, True)}
    assert needs_of(NameUse(EXECUTES, b"c")) == {b"c": (None, True)}


def test_what_is_in_the_way_or_goes_may_be_any() -> None:
    uses = NameUse(PREPARES, b"a"), NameUse(DEALLOCATES, b"b"), NameUse(PREPARES, b"c")
    assert needs_of(*uses) == {b"a": (ONE, False), b"b": (OTHER, False), b"c": (None, False)}


def test_the_first_use_of_a_name_decides() -> None:
    uses = NameUse(DEALLOCATES, b"a"), NameUse(PREPARES, b"a"), NameUse(EXECUTES, b"c")
    assert needs_of(*uses) == {b"a": (ONE, False), b"c": (None, True)}


def test_behind_deallocate_all_nothing_is_needed() -> None:
    uses = NameUse(EXECUTES, b"a"), NameUse(DEALLOCATES_ALL), NameUse(EXECUTES, b"b")
    assert needs_of(*uses) == {b"a": (ONE, True)}


def test_a_need_of_the_same_statement_may_become_exact() -> None:
    needs: dict[bytes, Need] = {}
    add_need(needs, Need(b"a", ONE, exact=False))
    add_need(needs, Need(b"a", OTHER, exact=True))
    assert needs[b"a"].statement is ONE
    assert not needs[b"a"].exact
    add_need(needs, Need(b"a", ONE, exact=True))
    assert needs[b"a"].exact


def test_names_tell_what_changes_and_what_is_ours() -> None:
    names = Names((NameUse(EXECUTES, b"a"), NameUse(DEALLOCATES, b"pgproxy_1")), None)
    assert names.changes is not None
    assert [use.name for use in names.changes] == [b"pgproxy_1"]
    assert names.reserved == b"pgproxy_1"
    assert Names((NameUse(EXECUTES, b"a"),), None).changes is None
    assert Names((NameUse(EXECUTES, b"a"),), None).reserved == b""
