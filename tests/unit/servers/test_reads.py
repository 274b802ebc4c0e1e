"""The rules for reads, from the configuration's words."""

from pgproxy.servers.reads import (
    ALWAYS,
    FALLBACK,
    LONGEST_GAP,
    NEVER,
    SHORTEST_GAP,
    ReadRules,
    no_replica_error,
    position_gap,
)


def test_no_staleness_is_any() -> None:
    assert ReadRules().max_staleness == float("inf")
    assert ReadRules(max_staleness=1.5).max_staleness == 1.5


def test_where_reads_go_without_a_replica() -> None:
    told = [ReadRules(from_primary=value) for value in (NEVER, FALLBACK, ALWAYS)]
    assert [rules.never_from_primary for rules in told] == [True, False, False]
    assert [rules.always_from_primary for rules in told] == [False, False, True]


def test_backends_are_asked_seldom_where_that_is_soon_enough() -> None:
    assert position_gap(0.0) == SHORTEST_GAP
    assert position_gap(1.0) == 0.1
    assert position_gap(1e9) == LONGEST_GAP


def test_who_is_refused_is_told_which_key_does_it() -> None:
    error = no_replica_error(30.0)
    assert error.sqlstate == "57P03"
    assert "routing.read_from_primary" in error.detail
    assert "30 s" in error.detail
