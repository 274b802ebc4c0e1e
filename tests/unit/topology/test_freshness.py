"""Freshness: what a replica shows, told from positions alone."""

import pytest

from pgproxy.topology.freshness import SAMPLES, Freshness


def test_a_replica_is_fresh_as_of_the_newest_position_it_has_replayed() -> None:
    freshness = Freshness()
    freshness.primary_at(1.0, 100)
    freshness.primary_at(2.0, 200)
    freshness.primary_at(3.0, 300)
    assert freshness.replica_at("a", 250) == 2.0
    assert freshness.replica_at("a", 300) == 3.0


def test_nothing_is_known_before_the_first_position_is_replayed() -> None:
    freshness = Freshness()
    assert freshness.replica_at("a", 10**9) == 0.0
    freshness.primary_at(1.0, 100)
    assert freshness.replica_at("b", 99) == 0.0


def test_an_idle_primary_makes_replicas_fresher_all_the_same() -> None:
    freshness = Freshness()
    freshness.primary_at(1.0, 100)
    freshness.primary_at(9.0, 100)
    assert freshness.replica_at("a", 100) == 9.0


def test_freshness_never_falls_on_one_timeline() -> None:
    freshness = Freshness()
    freshness.primary_at(5.0, 100)
    assert freshness.replica_at("a", 100) == 5.0
    assert freshness.replica_at("a", 50) == 5.0


def test_an_answer_that_comes_late_changes_nothing() -> None:
    freshness = Freshness()
    freshness.primary_at(2.0, 200)
    freshness.primary_at(1.0, 100)
    assert freshness.replica_at("a", 150) == 0.0


def test_a_primary_restored_to_an_older_state_is_believed() -> None:
    """On the same timeline, as from a snapshot of its volume."""
    freshness = Freshness()
    freshness.primary_at(1.0, 100)
    freshness.primary_at(2.0, 1000)
    freshness.primary_at(3.0, 150)
    assert freshness.replica_at("a", 149) == 1.0
    assert freshness.replica_at("b", 150) == 3.0


def test_a_new_timeline_starts_all_over() -> None:
    freshness = Freshness()
    freshness.primary_at(1.0, 100)
    freshness.replica_at("a", 100)
    freshness.reset()
    assert freshness.replica_at("a", 100) == 0.0


def test_a_replica_far_behind_is_never_called_fresher_than_it_is() -> None:
    freshness = Freshness()
    for second in range(SAMPLES * 2):
        freshness.primary_at(float(second + 1), second)
    assert freshness.replica_at("a", 3) == 0.0
    assert freshness.replica_at("a", SAMPLES + 10) == float(SAMPLES + 11)


@pytest.mark.parametrize("header", [24, 40])
def test_an_insert_position_behind_a_page_header_is_the_end_of_the_page_before(header: int) -> None:
    freshness = Freshness()
    freshness.primary_at(1.0, 3 * 8192 + header)
    assert freshness.replica_at("a", 3 * 8192) == 1.0
    assert freshness.replica_at("b", 3 * 8192 - 8) == 0.0


def test_another_server_under_the_same_name_starts_with_nothing() -> None:
    freshness = Freshness()
    freshness.primary_at(1.0, 100)
    assert freshness.replica_at("a", 100) == 1.0
    freshness.forget("a")
    assert freshness.replica_at("a", 50) == 0.0
    freshness.forget("never seen")
