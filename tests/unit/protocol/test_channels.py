"""What a client listens to, in PostgreSQL's terms of transactions and savepoints."""

import pytest

from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.protocol.channels import (
    COMMITS,
    LISTEN_TO,
    NOTIFIES,
    RELEASE,
    ROLLBACK_TO,
    ROLLS_BACK,
    SAVEPOINT,
    UNLISTEN_ALL,
    UNLISTEN_FROM,
    Act,
    Channels,
)

A: tuple[Act, ...] = ((LISTEN_TO, b"a"),)
B: tuple[Act, ...] = ((LISTEN_TO, b"b"),)
COMMIT: tuple[Act, ...] = ((COMMITS, b""),)
ROLLBACK: tuple[Act, ...] = ((ROLLS_BACK, b""),)
NOTIFY: tuple[Act, ...] = ((NOTIFIES, b""),)


@pytest.fixture
def channels() -> Channels:
    return Channels()


def test_a_listen_takes_effect_at_commit(channels: Channels) -> None:
    channels.act(A)
    assert not channels.hears(b"a")
    assert channels.wanted() == {b"a"}
    channels.end(committed=True)
    assert channels.hears(b"a")
    assert not channels.in_play


def test_and_not_at_all_at_rollback(channels: Channels) -> None:
    channels.act(A)
    channels.end(committed=False)
    assert channels.wanted() == set()


def test_a_rolled_back_unlisten_did_not_happen(channels: Channels) -> None:
    channels.act(A)
    channels.end(committed=True)
    channels.act(((UNLISTEN_ALL, b""),))
    assert channels.hears(b"a")
    channels.end(committed=False)
    assert channels.hears(b"a")
    channels.act(((UNLISTEN_FROM, b"a"),))
    channels.end(committed=True)
    assert list(channels.active) == []


def test_changes_count_in_their_order(channels: Channels) -> None:
    channels.act((*A, (UNLISTEN_ALL, b""), *B))
    channels.end(committed=True)
    assert list(channels.active) == [b"b"]


def test_savepoints_of_one_name_shadow_each_other(channels: Channels) -> None:
    channels.act(((SAVEPOINT, b"s"), *A, (SAVEPOINT, b"s"), *B))
    channels.act(((ROLLBACK_TO, b"s"),))
    assert channels.wanted() == {b"a"}
    channels.act(((RELEASE, b"s"), (ROLLBACK_TO, b"s")))
    assert channels.wanted() == set()
    channels.act(((ROLLBACK_TO, b"no such savepoint"), *B))
    channels.end(committed=True)
    assert list(channels.active) == [b"b"]


def test_one_may_go_back_to_a_savepoint_again(channels: Channels) -> None:
    channels.act(((SAVEPOINT, b"s"), *A, (ROLLBACK_TO, b"s"), *B, (ROLLBACK_TO, b"s")))
    assert channels.wanted() == set()


def test_a_servers_acts_count_when_it_is_ready(channels: Channels) -> None:
    channels.act(A)
    channels.sent(COMMIT, 2)  # two other batches are answered before
    channels.ready(STATUS_IN_TRANSACTION, STATUS_IN_TRANSACTION)
    channels.ready(STATUS_IN_TRANSACTION, STATUS_IN_TRANSACTION)
    assert b"a" not in channels.active
    assert channels.hears(b"a")  # perhaps: the COMMIT may be done
    channels.ready(STATUS_IDLE, STATUS_IN_TRANSACTION)
    assert list(channels.active) == [b"a"]


def test_an_error_concerns_the_oldest_batch(channels: Channels) -> None:
    channels.act(A)
    channels.end(committed=True)
    channels.sent(((UNLISTEN_ALL, b""),), 1)
    channels.failed()  # the batch before
    channels.ready(STATUS_IDLE, STATUS_IDLE)
    assert channels.hears(b"a")
    channels.failed()
    channels.ready(STATUS_IDLE, STATUS_IDLE)
    assert channels.hears(b"a")
    channels.sent(((UNLISTEN_ALL, b""),), 0)
    channels.ready(STATUS_IDLE, STATUS_IDLE)
    assert not channels.hears(b"a")


def test_commit_of_a_failed_transaction_rolls_back(channels: Channels) -> None:
    channels.act(A + NOTIFY)
    channels.sent(COMMIT, 0)
    channels.ready(STATUS_IDLE, STATUS_FAILED)
    assert channels.wanted() == set()
    assert not channels.notified


def test_a_commit_that_fails_rolls_back(channels: Channels) -> None:
    channels.act(A)
    channels.sent(COMMIT, 0)
    channels.failed()
    channels.ready(STATUS_IDLE, STATUS_IN_TRANSACTION)
    assert channels.wanted() == set()


def test_a_savepoint_saves_a_failed_transaction(channels: Channels) -> None:
    channels.sent(((SAVEPOINT, b"s"),), 0)
    channels.ready(STATUS_IN_TRANSACTION, STATUS_IN_TRANSACTION)
    channels.act(A)
    channels.sent(((ROLLBACK_TO, b"s"),), 0)
    channels.ready(STATUS_IN_TRANSACTION, STATUS_FAILED)
    channels.act(B)
    channels.sent(COMMIT, 0)
    channels.ready(STATUS_IDLE, STATUS_IN_TRANSACTION)
    assert list(channels.active) == [b"b"]


def test_what_a_server_listens_to_is_not_heard_here(channels: Channels) -> None:
    channels.act(A)
    channels.end(committed=True)
    channels.sent(A + B, 0)
    channels.ready(STATUS_IDLE, STATUS_IDLE)
    assert channels.wanted() == set()


def test_a_notify_is_known_once_it_is_committed(channels: Channels) -> None:
    channels.sent(NOTIFY, 0)
    channels.ready(STATUS_IN_TRANSACTION, STATUS_IN_TRANSACTION)
    assert not channels.notified
    channels.sent(COMMIT, 0)
    channels.ready(STATUS_IDLE, STATUS_IN_TRANSACTION)
    assert channels.notified
    channels.sent(NOTIFY, 0)
    channels.ready(STATUS_IN_TRANSACTION, STATUS_IN_TRANSACTION)
    channels.sent(ROLLBACK, 0)
    channels.ready(STATUS_IDLE, STATUS_IN_TRANSACTION)
    assert not channels.notified


def test_plain_transactions_leave_no_trace(channels: Channels) -> None:
    channels.sent(COMMIT, 0)
    assert not channels.in_play


def test_a_server_that_is_lost_takes_the_open_transaction_along(channels: Channels) -> None:
    channels.act(A)
    channels.sent(COMMIT, 0)
    channels.lost(ended=True)
    assert channels.wanted() == set()
    assert not channels.in_play
    channels.act(A)
    channels.sent(((UNLISTEN_ALL, b""),), 0)
    channels.lost(ended=False)
    assert channels.wanted() == {b"a"}
    channels.settled()
    channels.end(committed=True)
    assert channels.hears(b"a")
