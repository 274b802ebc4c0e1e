"""Who goes when, with a clock of the test's own."""

from dataclasses import replace

from pgproxy.topology.departures import LINGER, Departures
from pgproxy.topology.fusion import fuse
from pgproxy.topology.model import Backend, Probe, Topology

A, B, C = (Backend(name, f"10.0.0.{number}") for number, name in enumerate("abc"))
NOTHING = Topology(0, ())


def led_by(primary: Backend, *others: Backend) -> Topology:
    probes = {one.name: Probe(True, in_recovery=True, timeline=1) for one in others}
    return fuse([primary, *others], {primary.name: Probe(True, timeline=1), **probes})


def test_what_is_listed_is_as_it_is() -> None:
    departures = Departures()
    assert departures.follow([A, B], NOTHING, 0) == (A, B)
    assert departures.follow([B], NOTHING, 1)[0] == B
    assert departures.follow([A, C], NOTHING, 2)[:2] == (A, C)


def test_who_is_missing_is_drained_and_then_gone() -> None:
    departures = Departures()
    departures.follow([A, B], NOTHING, 100)
    gone = replace(B, leaving=True)
    assert departures.follow([A], NOTHING, 200) == (A, gone)
    assert departures.follow([A], NOTHING, 200 + LINGER - 1) == (A, gone)
    assert departures.follow([A], NOTHING, 200 + LINGER) == (A,)
    assert departures.follow([A], NOTHING, 300) == (A,)


def test_who_comes_back_stays_and_has_its_time_anew() -> None:
    departures = Departures()
    departures.follow([A, B], NOTHING, 0)
    departures.follow([A], NOTHING, 10)
    assert departures.follow([A, B], NOTHING, 20) == (A, B)
    assert departures.follow([A], NOTHING, 30) == (A, replace(B, leaving=True))
    assert len(departures.follow([A], NOTHING, 30 + LINGER - 1)) == 2


def test_the_primary_stays_for_as_long_as_it_is_one() -> None:
    departures = Departures()
    listed = replace(A, role="primary", hinted=True)
    departures.follow([listed, B], led_by(A, B), 0)
    auto = replace(listed, role="auto")
    for now in (10.0, 10 + LINGER, 1000.0):
        assert departures.follow([B], led_by(A, B), now) == (B, auto)
    # Another leads: it is drained from now on.
    leaving = replace(auto, leaving=True)
    assert departures.follow([B], led_by(B), 2000) == (B, leaving)
    assert departures.follow([B], led_by(B), 2000 + LINGER) == (B,)


def test_a_primary_of_another_identity_is_not_the_one_that_is_missing() -> None:
    departures = Departures()
    departures.follow([A, B], NOTHING, 0)
    elsewhere = led_by(replace(A, host="10.0.0.9"), B)
    assert departures.follow([B], elsewhere, 1) == (B, replace(A, leaving=True))


def test_who_was_missing_goes_although_there_is_no_further_list() -> None:
    departures = Departures()
    departures.follow([A, B], led_by(A, B), 0)
    assert departures.follow([B], led_by(A, B), 1) == (B, A)
    # It has crashed, and then nothing is listed that could be believed.
    crashed = fuse([B, A], {"b": Probe(True, in_recovery=True)}, led_by(A, B))
    leaving = replace(A, leaving=True)
    assert departures.go_on(crashed, 10) == (B, leaving)
    assert departures.go_on(crashed, 10 + LINGER - 1) == (B, leaving)
    assert departures.go_on(crashed, 10 + LINGER) == (B,)
    assert departures.go_on(crashed, 1000) == (B,)
