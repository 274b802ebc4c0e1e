"""What follows after each outcome, with a clock and chance of the test's own."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.topology.schedule import Outcome, RateLimit, Request, Schedule, Timing, Verb

TIMING = Timing()
STREAM_ERRORS = [one for one in Outcome if one not in {Outcome.OK, Outcome.GONE, Outcome.GARBLED}]
DOUBTED = [Outcome.UNREACHABLE, Outcome.UNAUTHORIZED, Outcome.TLS]
KEPT = [one for one in STREAM_ERRORS if one not in DOUBTED]


class Play:
    """A schedule with its clock. `chance` is what each draw gives."""

    def __init__(self, chance: float = 0.0, timing: Timing = TIMING) -> None:
        self.now = 1000.0
        self.schedule = Schedule(lambda: chance, timing)

    def next(self) -> Request:
        """The next request; the clock is at its time then."""
        request = self.schedule.next_request(self.now)
        self.now = request.at
        return request

    def listed(self, version: str = "7") -> None:
        assert self.next().verb is Verb.LIST
        self.schedule.after_list(self.now, Outcome.OK, resource_version=version)

    def list_fails(self, outcome: Outcome, retry_after: float = 0.0) -> float:
        """Seconds until the next request."""
        assert self.next().verb is Verb.LIST
        self.schedule.after_list(self.now, outcome, retry_after=retry_after)
        return self.schedule.next_request(self.now).at - self.now

    def watch_ends(self, outcome: Outcome, watched: float = 0.0, retry_after: float = 0.0) -> float:
        """Seconds until the next request."""
        assert self.next().verb is Verb.WATCH
        began = self.now
        self.now += watched
        self.schedule.after_watch(
            self.now, outcome, began=began, watched=watched, retry_after=retry_after
        )
        return self._peek().at - self.now

    def _peek(self) -> Request:
        # It says once that the client is to be renewed: not in a peek.
        renew = self.schedule._renew
        request = self.schedule.next_request(self.now)
        self.schedule._renew = renew
        return request


def test_first_a_list_then_a_watch_from_its_version() -> None:
    play = Play()
    assert play.next() == Request(Verb.LIST, 1000.0, reason="start")
    play.listed("42")
    assert play.next() == Request(
        Verb.WATCH, 1000.0, resource_version="42", timeout_seconds=TIMING.watch[0]
    )


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 25), (0.5, 30), (0.999999, 35)])
def test_the_length_of_a_watch_is_drawn(chance: float, seconds: int) -> None:
    play = Play(chance)
    play.listed()
    assert play.next().timeout_seconds == seconds


def test_a_watch_that_ended_by_itself_goes_on_at_once() -> None:
    play = Play()
    play.listed()
    assert play.watch_ends(Outcome.OK, watched=25) == 0
    assert play.next().resource_version == "7"


def test_watches_that_end_at_once_begin_one_second_apart() -> None:
    play = Play()
    play.listed()
    assert [play.watch_ends(Outcome.OK, watched=0.25) for _ in range(20)] == [0.75] * 20


def test_the_version_that_the_watch_has_come_to_is_the_next_one_s() -> None:
    play = Play()
    play.listed()
    play.schedule.resource_version = "opaque"
    play.watch_ends(Outcome.OK, watched=30)
    assert play.next().resource_version == "opaque"


@pytest.mark.parametrize("outcome", KEPT)
def test_a_failed_watch_keeps_its_version(outcome: Outcome) -> None:
    play = Play()
    play.listed()
    assert play.watch_ends(outcome) == pytest.approx(0.8)
    assert (play.next().verb, play.next().resource_version) == (Verb.WATCH, "7")


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.GARBLED])
def test_what_was_forgotten_or_not_understood_is_listed_anew(outcome: Outcome) -> None:
    play = Play()
    play.listed()
    assert play.watch_ends(outcome, watched=1) == pytest.approx(0.8)
    request = play.next()
    assert (request.verb, request.reason) == (Verb.LIST, outcome.value)


@pytest.mark.parametrize(
    ("chance", "waits"),
    [
        (0.0, [0.8, 1.6, 3.2, 6.4, 12.8, 15, 15, 15]),
        (0.5, [1.2, 2.4, 4.8, 9.6, 19.2, 22.5, 22.5, 22.5]),
    ],
)
def test_waiting_doubles_up_to_a_bound(chance: float, waits: list[float]) -> None:
    play = Play(chance)
    found = [play.list_fails(Outcome.UNREACHABLE) for _ in waits]
    assert found == pytest.approx(waits)
    for _ in range(2000):  # 2 to the power of it is not a float any more
        last = play.list_fails(Outcome.UNREACHABLE)
    assert last == pytest.approx(waits[-1])


def test_a_storm_of_410_waits_longer_and_longer() -> None:
    play = Play()
    waits = []
    for _ in range(6):
        play.listed()
        waits.append(play.watch_ends(Outcome.GONE, watched=0.01))
    assert waits == pytest.approx([0.8, 1.6, 3.2, 6.4, 12.8, 15])


def test_after_a_minute_of_watching_the_waiting_begins_anew() -> None:
    play = Play()
    play.listed()
    for _ in range(4):
        play.watch_ends(Outcome.SILENT)
    assert play.watch_ends(Outcome.SILENT, watched=59) == pytest.approx(12.8)
    assert play.watch_ends(Outcome.SILENT, watched=1) == pytest.approx(0.8)


def test_what_breaks_each_watch_after_a_while_does_not_add_up() -> None:
    """A load balancer that resets every 20 s: two thirds of a minute of waiting would be blind."""
    play = Play(timing=Timing(repair=(9999.0, 9999.0)))
    waits = []
    for _ in range(30):
        play.listed()
        waits.append(play.watch_ends(Outcome.UNREACHABLE, watched=20))
    assert max(waits) < 3.3


def test_the_wait_that_is_asked_for_is_kept_within_reason() -> None:
    play = Play()
    play.listed()
    assert play.watch_ends(Outcome.THROTTLED, retry_after=17) == 17
    assert play.watch_ends(Outcome.THROTTLED, retry_after=1) == pytest.approx(1.6)
    assert play.watch_ends(Outcome.THROTTLED, retry_after=86_400) == pytest.approx(60)
    assert Play().list_fails(Outcome.THROTTLED, retry_after=9) == 9


@pytest.mark.parametrize("outcome", [Outcome.UNAUTHORIZED, Outcome.TLS])
def test_with_a_new_token_or_authority_it_tries_again_at_once_but_once(outcome: Outcome) -> None:
    play = Play()
    play.listed()
    assert play.watch_ends(outcome) == 0
    assert play._peek().verb is Verb.LIST
    assert play.next().renew
    assert play.list_fails(outcome) == pytest.approx(0.8)
    assert play.list_fails(outcome) == pytest.approx(1.6)
    play.listed()
    play.watch_ends(Outcome.OK, watched=10)
    assert play.watch_ends(outcome) == 0  # the next rotation


@pytest.mark.parametrize("outcome", [Outcome.UNREACHABLE, Outcome.CREDENTIALS])
def test_the_client_is_made_anew(outcome: Outcome) -> None:
    play = Play()
    play.list_fails(outcome)
    play = Play()
    play.listed()
    play.watch_ends(outcome)
    assert play.next().renew
    assert not play.next().renew


@pytest.mark.parametrize("outcome", [Outcome.FORBIDDEN, Outcome.THROTTLED, Outcome.GONE])
def test_the_client_stays(outcome: Outcome) -> None:
    play = Play()
    play.listed()
    play.watch_ends(outcome)
    assert not play.next().renew


def test_every_few_minutes_the_pods_are_listed_all_the_same() -> None:
    play = Play()
    play.listed()
    while (request := play._peek()).verb is Verb.WATCH:
        play.watch_ends(Outcome.OK, watched=25)
    assert request.reason == "repair"
    assert 300 <= play.now - 1000 <= 325
    play.listed("3")  # the version went back: etcd is an older one
    assert play.next().resource_version == "3"


def test_a_repair_that_fails_leaves_the_watch_and_comes_again() -> None:
    play = Play()
    play.listed()
    play.now += 700
    assert play.list_fails(Outcome.ERROR) > 0
    assert (play.next().verb, play.next().resource_version) == (Verb.WATCH, "7")
    play.now += 60
    assert play.next().reason == "repair"


def test_a_version_that_the_server_refuses_again_and_again_is_given_up() -> None:
    """Such as 504 "Too large resource version", which no waiting heals after a restored backup."""
    play = Play()
    play.listed()
    play.watch_ends(Outcome.ERROR)
    play.watch_ends(Outcome.ERROR)
    assert play.next().verb is Verb.WATCH
    play.watch_ends(Outcome.ERROR)
    assert (play.next().verb, play.next().reason) == (Verb.LIST, "error")


@pytest.mark.parametrize("outcome", DOUBTED)
def test_a_server_that_was_away_may_be_another_with_another_history(outcome: Outcome) -> None:
    play = Play()
    play.listed()
    play.watch_ends(outcome, watched=3)
    request = play.next()
    assert (request.verb, request.reason) == (Verb.LIST, outcome.value)
    for _ in range(10):
        play.list_fails(outcome)
    assert play.next().reason == outcome.value
    play.listed("3")
    assert play.next().resource_version == "3"


@given(
    st.lists(st.floats(0, 3), max_size=40),
)
def test_no_more_than_two_requests_begin_in_any_second(wishes: list[float]) -> None:
    limit = RateLimit()
    now, begun = 50.0, []
    for wish in wishes:
        now = max(now + wish, limit.earliest(now + wish))
        limit.begin(now)
        begun.append(now)
    for earlier, later in zip(begun, begun[2:], strict=False):
        assert later - earlier >= 1 - 1e-9


def test_two_requests_need_not_wait_for_each_other() -> None:
    limit = RateLimit()
    assert limit.earliest(5.0) == 5.0
    limit.begin(5.0)
    assert limit.earliest(5.0) == 5.0
    limit.begin(5.0)
    assert limit.earliest(5.0) == 6.0


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Outcome)), st.floats(0, 40), st.floats(0, 100)), max_size=60
    ),
    st.floats(0, 0.999),
)
def test_whatever_happens_there_is_a_next_request_within_a_minute(
    endings: list[tuple[Outcome, float, float]], chance: float
) -> None:
    play = Play(chance)
    versions = (str(number) for number in itertools.count(1))
    for outcome, watched, retry_after in endings:
        asked = play.now
        request = play.next()
        assert 0 <= request.at - asked < 60.1
        assert (request.verb is Verb.WATCH) == bool(request.timeout_seconds)
        if request.verb is Verb.LIST:
            assert request.reason
            play.schedule.after_list(
                play.now, outcome, resource_version=next(versions), retry_after=retry_after
            )
        else:
            assert request.resource_version
            began = play.now
            play.now += watched
            play.schedule.after_watch(
                play.now, outcome, began=began, watched=watched, retry_after=retry_after
            )
