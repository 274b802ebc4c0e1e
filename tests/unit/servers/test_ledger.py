"""The ledger's promises one by one; tests/properties/test_ledger.py mixes them in any order."""

from typing import Final

import pytest

from pgproxy.protocol.settings import Settings
from pgproxy.servers.ledger import LOOKED_AT, SWITCH_AFTER, Ledger
from pgproxy.servers.slots import CLOSED, CLOSING, IDLE, LEASED, RESETTING, Profile, Slot, Waiter

A: Final = Profile([(b"application_name", b"a")])
B: Final = Profile([(b"application_name", b"b")])
FOREVER: Final = 1e9


def wait_for(
    ledger: Ledger, profile: Profile, now: float = 0.0, deadline: float = FOREVER
) -> Waiter:
    assert ledger.acquire(profile) is None
    waiter = Waiter()
    ledger.enqueue(waiter, profile, now, deadline)
    ledger.check()
    return waiter


def log_in(ledger: Ledger, now: float = 0.0) -> tuple[Slot, Waiter | None]:
    """The oldest log-in that the ledger wants succeeds."""
    slot = Slot(ledger.to_open.pop(0))
    waiter = ledger.opened(slot, now)
    ledger.check()
    return slot, waiter


def leased(ledger: Ledger, profile: Profile = A, count: int = 1) -> list[Slot]:
    """So many connections, each at work."""
    waiters = [wait_for(ledger, profile) for _ in range(count)]
    opened = [log_in(ledger) for _ in range(count)]
    assert [waiter for _, waiter in opened] == waiters
    return [slot for slot, _ in opened]


def idle(ledger: Ledger, profile: Profile = A, count: int = 1, now: float = 0.0) -> list[Slot]:
    slots = leased(ledger, profile, count)
    for slot in slots:
        assert ledger.release(slot, now) is None
    return slots


def test_a_released_connection_is_used_again() -> None:
    ledger = Ledger(2)
    (slot,) = idle(ledger)
    assert ledger.acquire(A) is slot
    assert slot.place == LEASED
    assert ledger.acquire(A) is None
    ledger.check()


def test_the_most_recently_used_is_taken_first() -> None:
    ledger = Ledger(3)
    first, second, third = idle(ledger, count=3)
    assert ledger.acquire(A) is third
    assert ledger.acquire(A) is second
    ledger.release(second, 0.0)
    assert ledger.acquire(A) is second
    assert ledger.acquire(A) is first


def test_an_idle_connection_is_not_counted_as_one_at_work() -> None:
    # Counting connections where idle ones were meant makes a pool believe that it has spares.
    ledger = Ledger(2)
    slots = leased(ledger, count=2)
    ledger.release(slots[0], 0.0)
    assert (len(ledger.idle), ledger.leased, ledger.total) == (1, 1, 2)


def test_the_size_is_never_exceeded() -> None:
    ledger = Ledger(2)
    for _ in range(5):
        wait_for(ledger, A)
    assert (ledger.opening, ledger.waiting) == (2, 5)
    assert ledger.to_open == [A, A]


def test_a_connection_of_another_profile_is_not_lent() -> None:
    ledger = Ledger(2)
    idle(ledger, A)
    assert ledger.acquire(B) is None


def test_first_come_first_served() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    first, second = wait_for(ledger, A), wait_for(ledger, A)
    assert ledger.release(slot, 0.0) is first
    assert ledger.release(slot, 0.0) is second
    assert ledger.release(slot, 0.0) is None


def test_a_waiter_that_is_cancelled_after_it_was_woken_gives_the_connection_on() -> None:
    # The connection is the woken one's until it is released; then the next one has it at once.
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    first, second = wait_for(ledger, A), wait_for(ledger, A)
    assert ledger.release(slot, 0.0) is first
    ledger.cancel(first)
    assert (ledger.waiting, ledger.leased) == (1, 1)
    assert ledger.release(slot, 0.0) is second


def test_a_cancelled_waiter_gets_nothing() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    first, second = wait_for(ledger, A), wait_for(ledger, A)
    ledger.cancel(first)
    ledger.cancel(first)
    assert ledger.waiting == 1
    assert ledger.release(slot, 0.0) is second


def test_a_log_in_that_nobody_waits_for_any_more_leaves_an_idle_connection() -> None:
    ledger = Ledger(1)
    waiter = wait_for(ledger, A)
    ledger.cancel(waiter)
    slot, served = log_in(ledger)
    assert served is None
    assert slot.place == IDLE


def test_every_profile_gets_its_log_in_while_there_is_room() -> None:
    ledger = Ledger(4)
    wait_for(ledger, A)
    wait_for(ledger, B)
    assert ledger.to_open == [A, B]


def test_the_longest_waiting_gets_the_next_log_in() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    wait_for(ledger, A, now=1.0)
    wait_for(ledger, B, now=2.0)
    wait_for(ledger, A, now=3.0)
    ledger.gone(slot, 4.0)
    assert ledger.to_open == [A]
    opened, _ = log_in(ledger, 4.0)
    ledger.gone(opened, 5.0)
    assert ledger.to_open == [B]


def test_an_idle_connection_makes_room_for_another_profile() -> None:
    ledger = Ledger(1)
    (slot,) = idle(ledger, A)
    waiter = wait_for(ledger, B)
    assert ledger.to_close == [slot]
    assert slot.place == CLOSING
    assert not ledger.to_open
    ledger.gone(slot, 0.0)
    assert log_in(ledger)[1] is waiter


def test_no_more_idle_connections_are_closed_than_are_needed() -> None:
    ledger = Ledger(3)
    idle(ledger, A, count=3)
    wait_for(ledger, B)
    assert (len(ledger.to_close), len(ledger.idle)) == (1, 2)


def test_a_freed_connection_serves_its_own_profile_for_a_moment_longer() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger, A)
    wait_for(ledger, B, now=10.0)
    mine = wait_for(ledger, A, now=10.01)
    assert ledger.release(slot, 10.0 + SWITCH_AFTER / 2) is mine


def test_a_profile_under_load_does_not_starve_another() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger, A)
    other = wait_for(ledger, B, now=10.0)
    wait_for(ledger, A, now=10.01)
    wait_for(ledger, A, now=10.02)
    assert ledger.release(slot, 10.0 + SWITCH_AFTER * 2) is None
    assert slot.place == CLOSING
    ledger.gone(slot, 11.0)
    assert ledger.to_open == [B]
    assert log_in(ledger)[1] is other


def test_one_connection_is_closed_for_one_waiter_of_another_profile() -> None:
    ledger = Ledger(3)
    slots = leased(ledger, A, count=3)
    wait_for(ledger, B, now=10.0)
    mine = [wait_for(ledger, A, now=10.01 + number) for number in range(3)]
    served = [ledger.release(slot, 20.0) for slot in slots]
    assert served == [None, mine[0], mine[1]]


def test_a_doomed_connection_is_closed_when_it_comes_back() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    waiter = wait_for(ledger, A)
    slot.doomed = True
    assert ledger.release(slot, 0.0) is None
    assert slot.place == CLOSING
    ledger.gone(slot, 0.0)
    assert log_in(ledger)[1] is waiter


def test_a_connection_comes_back_from_a_reset() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    ledger.reset(slot)
    assert (slot.place, ledger.leased, ledger.resetting) == (RESETTING, 0, 1)
    waiter = wait_for(ledger, A)
    assert ledger.release(slot, 0.0) is waiter


def test_only_what_is_leased_can_be_released() -> None:
    ledger = Ledger(1)
    (slot,) = idle(ledger)
    with pytest.raises(AssertionError):
        ledger.release(slot, 0.0)


def test_a_closing_connection_counts_until_its_socket_is_gone() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    ledger.discard(slot)
    wait_for(ledger, A)
    assert not ledger.to_open
    ledger.gone(slot, 0.0)
    assert slot.place == CLOSED
    assert ledger.to_open == [A]


def test_after_a_failed_log_in_the_next_is_a_matter_of_the_shell() -> None:
    ledger = Ledger(1)
    waiter = wait_for(ledger, A)
    ledger.open_failed(ledger.to_open.pop(), 0.0, retry=False)
    assert not ledger.to_open
    ledger.retry(1.0)
    assert log_in(ledger)[1] is waiter


def test_a_failed_log_in_can_be_tried_again_at_once() -> None:
    ledger = Ledger(1)
    wait_for(ledger, A)
    ledger.open_failed(ledger.to_open.pop(), 0.0, retry=True)
    assert ledger.to_open == [A]


def test_waiters_leave_at_their_deadline() -> None:
    ledger = Ledger(1)
    leased(ledger)
    early = wait_for(ledger, A, deadline=5.0)
    late = wait_for(ledger, A, deadline=6.0)
    assert ledger.expire(4.9) == []
    assert ledger.expire(5.0) == [early]
    assert ledger.expire(9.0) == [late]
    assert not ledger.queues


def test_idle_connections_retire_down_to_what_is_kept() -> None:
    ledger = Ledger(5, idle_timeout=10.0)
    slots = idle(ledger, count=4)
    ledger.retire(9.0, keep=1)
    assert not ledger.to_close
    ledger.retire(10.0, keep=1)
    assert ledger.to_close == slots[:3]
    assert ledger.idle == slots[3:]


def test_old_connections_retire_however_few_there_are() -> None:
    ledger = Ledger(5, lifetime=100.0)
    slots = idle(ledger, count=2, now=99.0)
    ledger.retire(100.0, keep=5)
    assert ledger.to_close == slots


def test_an_old_connection_is_not_used_again() -> None:
    ledger = Ledger(1, lifetime=100.0)
    (slot,) = leased(ledger)
    ledger.release(slot, 101.0)
    assert ledger.to_close == [slot]


def test_a_closed_ledger_takes_nothing_back() -> None:
    ledger = Ledger(3)
    first, second = leased(ledger, count=2)
    ledger.release(first, 0.0)
    wait_for(ledger, B)
    ledger.close()
    assert first.place == CLOSING
    ledger.release(second, 0.0)
    assert second.place == CLOSING
    third, served = log_in(ledger)
    assert served is None
    assert third.place == CLOSING
    for slot in (first, second, third):
        ledger.gone(slot, 0.0)
    assert ledger.total == 0


def test_evicted_waiters_wait_no_more() -> None:
    ledger = Ledger(1)
    leased(ledger)
    waiters = [wait_for(ledger, A), wait_for(ledger, B), wait_for(ledger, A)]
    assert set(ledger.evict_waiters()) == set(waiters)
    assert ledger.waiting == 0
    assert ledger.take_queue(A) == []


# --- settings that are not PostgreSQL's own

NONE: Final[frozenset[str]] = frozenset()
APP: Final = frozenset({"app.user"})


def spoilt(ledger: Ledger, count: int = 1, now: float = 0.0) -> list[Slot]:
    """Idle connections on which `APP` exists."""
    slots = leased(ledger, count=count)
    for slot in slots:
        slot.custom.update(APP)
        assert ledger.release(slot, now) is None
    return slots


def wait_with(ledger: Ledger, custom: frozenset[str], now: float = 0.0) -> Waiter:
    assert ledger.acquire(A, allowed=custom) is None
    waiter = Waiter()
    waiter.allowed = custom
    ledger.enqueue(waiter, A, now, FOREVER)
    ledger.check()
    return waiter


def test_where_other_settings_exist_only_those_are_served_who_have_them() -> None:
    ledger = Ledger(2)
    (slot,) = spoilt(ledger)
    assert ledger.acquire(A, allowed=NONE) is None
    assert ledger.acquire(A, allowed=APP) is slot


def test_nor_does_a_session_take_its_last_one_back_where_others_have_spoilt_it() -> None:
    ledger = Ledger(1)
    (slot,) = spoilt(ledger)
    assert not ledger.take_back(slot, NONE)
    assert ledger.take_back(slot, APP)
    ledger.check()


def test_a_spoilt_connection_is_kept_for_those_whom_it_can_serve() -> None:
    ledger = Ledger(2)
    clean, slot = idle(ledger, count=2)
    slot.custom.update(APP)
    ledger.idle.reverse()
    settings = Settings({"app.user": "x"})
    assert ledger.acquire(A, settings, APP) is slot
    assert ledger.acquire(A, allowed=NONE) is clean


def test_an_idle_spoilt_connection_makes_room_for_one_whom_it_cannot_serve() -> None:
    ledger = Ledger(1)
    (slot,) = spoilt(ledger)
    waiter = wait_with(ledger, NONE)
    assert ledger.to_close == [slot]
    ledger.gone(slot, 0.0)
    assert log_in(ledger)[1] is waiter


def test_a_spoilt_connection_passes_over_those_whom_it_cannot_serve() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    slot.custom.update(APP)
    first, second = wait_with(ledger, NONE), wait_with(ledger, APP)
    assert ledger.release(slot, 0.0) is second
    assert ledger.release(slot, 0.0) is None  # closed: nobody is left whom it could serve
    assert ledger.to_close == [slot]
    ledger.gone(slot, 0.0)
    assert log_in(ledger)[1] is first


def test_who_is_passed_over_for_long_gets_a_connection_of_its_own() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    slot.custom.update(APP)
    first = wait_with(ledger, NONE)
    wait_with(ledger, APP)
    assert ledger.release(slot, 2 * SWITCH_AFTER) is None
    ledger.check()
    ledger.gone(slot, 2 * SWITCH_AFTER)
    assert log_in(ledger, 2 * SWITCH_AFTER)[1] is first


def test_not_all_connections_are_closed_for_those_who_are_passed_over() -> None:
    ledger = Ledger(8)
    slots = leased(ledger, count=8)
    for _ in range(8):
        wait_with(ledger, NONE)
    served = [wait_with(ledger, APP) for _ in range(8)]
    for slot in slots:
        slot.custom.update(APP)
    late = 2 * SWITCH_AFTER
    assert [ledger.release(slot, late) for slot in slots] == [None, None, *served[:6]]
    assert ledger.closing == 2


def test_among_very_many_whom_it_cannot_serve_nobody_is_looked_for() -> None:
    ledger = Ledger(1)
    (slot,) = leased(ledger)
    slot.custom.update(APP)
    for _ in range(LOOKED_AT):
        wait_with(ledger, NONE)
    wait_with(ledger, APP)
    assert ledger.release(slot, 0.0) is None
    assert slot.place == CLOSING
    ledger.check()


def test_a_ledger_that_becomes_smaller_closes_the_idle_ones_and_others_as_they_come_back() -> None:
    ledger = Ledger(4)
    slots = leased(ledger, count=4)
    ledger.release(slots[0], 1.0)
    ledger.resize(2, 2.0)
    ledger.check()
    assert slots[0].place == CLOSING
    waiter = wait_for(ledger, A, now=3.0)
    assert ledger.release(slots[1], 4.0) is None  # although somebody waits
    assert slots[1].place == CLOSING
    assert ledger.release(slots[2], 5.0) is waiter  # there are two from here on
    for slot in slots[:2]:
        ledger.gone(slot, 6.0)
        ledger.check()
    assert ledger.total == 2
    assert not ledger.to_open


def test_a_ledger_that_becomes_larger_opens_for_those_who_wait() -> None:
    ledger = Ledger(3)
    ledger.resize(0, 0.0)
    waiters = [wait_for(ledger, A) for _ in range(3)]
    assert not ledger.to_open
    ledger.resize(2, 1.0)
    assert len(ledger.to_open) == 2
    assert [log_in(ledger)[1] for _ in range(2)] == waiters[:2]
    ledger.resize(3, 2.0)
    assert log_in(ledger)[1] is waiters[2]
