"""The rules of the Lease, one candidate at a time."""

import pytest

from pgproxy.label.election import NEVER, Election, Record, Terms, lease_with, record_of

TERMS = Terms(lease_duration=15, renew_deadline=10.0, retry_period=2.0)


def held(holder: str, renewed: str = "t1", seconds: int = 15, transitions: int = 3) -> Record:
    return Record(holder, seconds, "t0", renewed, transitions)


@pytest.fixture
def candidate() -> Election:
    return Election("a", TERMS)


def test_nobody_leads_who_has_written_nothing(candidate: Election) -> None:
    assert not candidate.leads(0.0)
    assert candidate.holder == ""
    assert candidate.give_back("t") is None


def test_a_lease_that_is_not_there_is_made(candidate: Election) -> None:
    candidate.saw(None, 100.0)
    assert candidate.may_take(100.0)
    assert candidate.claim("t2") == Record("a", 15, "t2", "t2", 0)


def test_one_that_is_held_is_taken_when_it_has_not_changed_for_its_duration(
    candidate: Election,
) -> None:
    candidate.saw(held("b"), 100.0)
    candidate.saw(held("b"), 114.9)
    assert not candidate.may_take(114.9)
    assert candidate.may_take(115.0)
    assert candidate.claim("t2") == Record("a", 15, "t2", "t2", 4)


def test_each_change_begins_its_duration_anew(candidate: Election) -> None:
    candidate.saw(held("b"), 100.0)
    candidate.saw(held("b", "t1.5"), 110.0)
    assert not candidate.may_take(124.9)
    assert candidate.may_take(125.0)


def test_the_duration_is_the_holders_own(candidate: Election) -> None:
    candidate.saw(held("b", seconds=60), 100.0)
    assert not candidate.may_take(159.9)
    candidate.saw(held("b", seconds=0), 200.0)
    assert not candidate.may_take(214.9)
    assert candidate.may_take(215.0)


def test_one_that_was_given_back_is_taken_at_once(candidate: Election) -> None:
    candidate.saw(held(""), 100.0)
    assert candidate.may_take(100.0)
    assert candidate.claim("t2").transitions == 4


def test_it_leads_from_the_moment_of_sending_until_the_deadline(candidate: Election) -> None:
    candidate.saw(None, 100.0)
    candidate.wrote(candidate.claim("t2"), 100.5, 103.0)
    assert candidate.leads(110.4)
    assert not candidate.leads(110.5)
    assert candidate.holder == "a"
    assert candidate.terms_won == 1


def test_renewing_keeps_when_it_was_acquired(candidate: Election) -> None:
    candidate.saw(None, 100.0)
    candidate.wrote(candidate.claim("t2"), 100.0, 100.1)
    record = candidate.claim("t3")
    assert record == Record("a", 15, "t2", "t3", 0)
    candidate.wrote(record, 102.0, 102.1)
    assert candidate.leads(111.9)
    assert candidate.terms_won == 1


def test_an_answer_that_comes_after_the_deadline_makes_no_leader(candidate: Election) -> None:
    candidate.saw(None, 100.0)
    candidate.wrote(candidate.claim("t2"), 100.0, 111.0)
    assert not candidate.leads(111.0)


def test_a_new_term_after_the_deadline_had_passed(candidate: Election) -> None:
    candidate.saw(None, 100.0)
    candidate.wrote(candidate.claim("t2"), 100.0, 100.0)
    candidate.wrote(candidate.claim("t3"), 112.0, 112.0)
    assert candidate.terms_won == 2


@pytest.mark.parametrize("seen", [None, held("b"), held("")])
def test_who_sees_it_with_another_or_gone_does_not_lead(
    candidate: Election, seen: Record | None
) -> None:
    candidate.saw(None, 100.0)
    candidate.wrote(candidate.claim("t2"), 100.0, 100.0)
    candidate.saw(seen, 101.0)
    assert not candidate.leads(101.0)
    assert candidate.leads_until == NEVER


def test_giving_back_ends_it_and_frees_the_lease(candidate: Election) -> None:
    candidate.saw(held(""), 99.0)
    candidate.wrote(candidate.claim("t2"), 100.0, 100.0)
    assert candidate.give_back("t3") == Record("", 1, "t3", "t3", 4)
    assert not candidate.leads(100.0)


@pytest.mark.parametrize(
    "lease",
    [
        None,
        [],
        {},
        {"spec": None},
        {"spec": {"holderIdentity": None, "leaseDurationSeconds": "15", "leaseTransitions": True}},
        {"spec": {"leaseDurationSeconds": -3, "renewTime": 7}},
    ],
)
def test_a_lease_of_any_shape_is_read(lease: object) -> None:
    assert record_of(lease) == Record()


def test_a_lease_keeps_what_is_not_the_elections() -> None:
    lease = {
        "metadata": {"name": "x", "labels": {"a": "b"}, "resourceVersion": "7"},
        "spec": {"holderIdentity": "b", "strategy": "OldestEmulationVersion"},
    }
    record = held("a")
    written = lease_with(lease, record)
    assert record_of(written) == record
    assert written["metadata"] == lease["metadata"]
    assert written["spec"]["strategy"] == "OldestEmulationVersion"
    assert record_of(lease) == Record("b")
    assert record_of(lease_with({"spec": None}, record)) == record
