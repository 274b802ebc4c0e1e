"""The checker of histories finds what is wrong in them, and nothing else."""

import pytest

from tests.support.history import (
    History,
    Read,
    Stale,
    Write,
    stale_reads,
    steps_back,
)

pytestmark = pytest.mark.once

MINE, YOURS = 1, 2
KEY, OTHER = 10, 11


def read(sent: int, version: int, *, session: int = MINE, key: int = KEY) -> Read:
    return Read(session, key, version, sent, on_replica=True)


def write(
    sent: int, acknowledged: int, version: int, *, session: int = MINE, key: int = KEY
) -> Write:
    return Write(session, key, version, sent, acknowledged)


def test_a_session_that_sees_less_than_it_wrote_is_found() -> None:
    stale = read(3, 4)
    history = History([write(1, 2, 5)], [stale, read(4, 5)])
    assert stale_reads(history, "session") == [Stale(stale, 5)]
    assert stale_reads(history, "global") == [Stale(stale, 5)]


def test_what_others_wrote_is_owed_to_all_in_global_mode_only() -> None:
    stale = read(3, 4)
    history = History([write(1, 2, 5, session=YOURS)], [stale])
    assert stale_reads(history, "session") == []
    assert stale_reads(history, "global") == [Stale(stale, 5)]


def test_more_than_is_owed_may_be_seen() -> None:
    history = History([write(1, 2, 5), write(4, 9, 6, session=YOURS)], [read(3, 7), read(5, 6)])
    assert stale_reads(history, "session") == []
    assert stale_reads(history, "global") == []


def test_another_key_owes_nothing() -> None:
    history = History([write(1, 2, 5, key=OTHER)], [read(3, 4)])
    assert stale_reads(history, "session") == []
    assert stale_reads(history, "global") == []


def test_what_was_acknowledged_when_the_read_was_on_its_way_is_owed_to_nobody_else() -> None:
    history = History([write(1, 4, 5, session=YOURS)], [read(3, 4)])
    assert stale_reads(history, "global") == []


def test_a_read_behind_a_write_in_one_pipeline_sees_it() -> None:
    stale = read(2, 4)
    history = History([write(1, 9, 5)], [stale])
    assert stale_reads(history, "session") == [Stale(stale, 5)]


def test_a_read_in_front_of_a_write_in_one_pipeline_does_not() -> None:
    history = History([write(2, 9, 5)], [read(1, 4)])
    assert stale_reads(history, "session") == []
    assert stale_reads(history, "global") == []


def test_the_highest_version_is_owed_whichever_was_acknowledged_last() -> None:
    stale = read(5, 6)
    history = History([write(1, 3, 7, session=YOURS), write(2, 4, 6)], [stale])
    assert stale_reads(history, "session") == []
    assert stale_reads(history, "global") == [Stale(stale, 7)]


def test_the_order_in_which_it_was_noted_is_of_no_account() -> None:
    first, second = read(3, 1), read(6, 2)
    history = History([write(4, 5, 3), write(1, 2, 2)], [second, first])
    assert stale_reads(history, "session") == [Stale(first, 2), Stale(second, 3)]


def test_a_step_back_is_told_apart_from_a_broken_promise() -> None:
    back = read(2, 4)
    history = History([], [read(1, 5), back, read(3, 5), read(4, 1, session=YOURS)])
    assert steps_back(history) == [Stale(back, 5)]
    assert stale_reads(history, "session") == []
    assert stale_reads(history, "global") == []


def test_shares() -> None:
    history = History([write(1, 2, 1)], [read(3, 1), Read(MINE, KEY, 1, 4, on_replica=False)])
    assert history.share_of_replicas == 0.5
    assert round(history.share_of_writes, 3) == 0.333
    assert (History().share_of_replicas, History().share_of_writes) == (0, 0)


def test_what_is_found_says_who_saw_what() -> None:
    assert str(Stale(read(3, 4), 5)) == (
        "at 3 session 1 was shown version 4 of key 10 by a replica, and was owed 5"
    )
