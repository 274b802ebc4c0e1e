"""Freshness: what a replica shows, told from positions alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.topology.freshness import NEVER, PAGE_HEADERS, SAMPLES, WAL_PAGE, Freshness


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


def test_a_replica_that_shows_an_older_state_again_is_believed() -> None:
    """A standby that starts anew lets sessions in before it has replayed all it had."""
    freshness = Freshness()
    freshness.primary_at(1.0, 50)
    freshness.primary_at(5.0, 100)
    assert freshness.replica_at("a", 100) == 5.0
    assert freshness.replica_at("a", 60) == 1.0
    assert freshness.replica_at("a", 40) == 0.0


def test_a_replica_need_not_be_asked_again_to_be_fresh_as_of_later() -> None:
    freshness = Freshness()
    freshness.replica_at("a", 100)
    assert freshness.fresh_as_of("a") == 0.0
    freshness.primary_at(5.0, 100)
    assert freshness.fresh_as_of("a") == 5.0
    freshness.primary_at(6.0, 101)
    assert freshness.fresh_as_of("a") == 5.0
    assert freshness.fresh_as_of("never seen") == 0.0


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
    last = SAMPLES * 10
    for second in range(last):
        freshness.primary_at(float(second + 1), second)
    for position in range(last):
        name = str(position)
        assert freshness.replica_at(name, position) <= position + 1
        assert freshness.written_at(position) >= position + 1
    assert freshness.replica_at("recent", last - 10) == last - 9


def test_as_of_when_a_position_was_written() -> None:
    freshness = Freshness()
    assert freshness.written_at(1) == NEVER
    assert freshness.asked_at == 0.0
    freshness.primary_at(1.0, 100)
    freshness.primary_at(2.0, 100)
    freshness.primary_at(3.0, 200)
    assert freshness.written_at(50) == 1.0
    assert freshness.written_at(100) == 1.0
    assert freshness.written_at(101) == 3.0
    assert freshness.written_at(200) == 3.0
    assert freshness.written_at(201) == NEVER
    assert freshness.asked_at == 3.0
    freshness.reset()
    assert freshness.written_at(50) == NEVER


def test_a_position_behind_a_page_header_is_written_when_what_is_before_it_is() -> None:
    freshness = Freshness()
    freshness.primary_at(1.0, 3 * 8192 + 24)
    assert freshness.written_at(3 * 8192 + 24) == 1.0
    assert freshness.replica_at("a", 3 * 8192) == 1.0


@given(
    st.lists(st.tuples(st.sampled_from("pra"), st.integers(0, 50)), max_size=60),
    st.integers(0, 50),
)
def test_what_is_called_fresh_has_replayed_what_was_written_before(
    steps: list[tuple[str, int]], asked: int
) -> None:
    """Against the definition: fresh as of t, and the primary was at L at t or before."""
    freshness = Freshness()
    samples: list[tuple[float, int]] = []
    replayed: dict[str, int] = {}
    position = start = 8192 + 1000  # no page ends within what follows
    asked += start
    for time, (who, step) in enumerate(steps, 1):
        if who == "p":
            position += step
            samples.append((float(time), position))
            freshness.primary_at(float(time), position)
        else:
            replayed[who] = start + step * 3
            freshness.replica_at(who, replayed[who])
        for name, reached in replayed.items():
            fresh = freshness.fresh_as_of(name)
            assert all(written <= reached for at, written in samples if at <= fresh)
            if fresh >= freshness.written_at(asked):
                assert reached >= asked


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


def test_what_is_waited_for_is_the_next_position_not_the_newest() -> None:
    freshness = Freshness()
    assert freshness.awaited("a") is None
    freshness.primary_at(1.0, 100)
    assert freshness.awaited("a") is None, "nobody knows where it is"
    freshness.replica_at("a", 50)
    freshness.primary_at(2.0, 200)
    freshness.primary_at(3.0, 300)
    assert freshness.awaited("a") == 100
    freshness.replica_at("a", 100)
    assert freshness.awaited("a") == 200
    freshness.replica_at("a", 299)
    assert freshness.awaited("a") == 300
    freshness.replica_at("a", 300)
    assert freshness.awaited("a") is None
    freshness.forget("a")
    assert freshness.awaited("a") is None


def test_no_standby_is_waited_for_where_it_never_gets() -> None:
    """The header of the next page is reserved, and not yet written."""
    freshness = Freshness()
    freshness.replica_at("a", WAL_PAGE - 100)
    freshness.primary_at(1.0, WAL_PAGE + PAGE_HEADERS[0])
    assert freshness.awaited("a") == WAL_PAGE
