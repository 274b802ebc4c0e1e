"""What follows from the answers of nameservers."""

import pytest

from pgproxy.config import Dns
from pgproxy.topology.model import Backend
from pgproxy.topology.records import (
    Outcome,
    Question,
    Records,
    Reply,
    is_failure,
    is_service,
    pause_after,
)

A, AAAA = Question("pg", "A"), Question("pg", "AAAA")
SERVICE = Question("_postgresql._tcp.pg", "SRV")
TROUBLE = [Outcome.REFUSED, Outcome.SILENT, Outcome.CONFIGURATION]


def ok(*addresses: str, ttl: float = 5.0) -> Reply:
    return Reply(Outcome.OK, tuple((address, 0) for address in addresses), ttl)


def names(records: Records) -> list[str]:
    return [backend.name for backend in records.backends()]


@pytest.mark.parametrize(
    ("family", "kinds"), [("any", ["A", "AAAA"]), ("ipv4", ["A"]), ("ipv6", ["AAAA"])]
)
def test_each_name_is_asked_for_its_addresses(family: str, kinds: list[str]) -> None:
    settings = Dns.model_validate({"names": ("pg", "other"), "family": family})
    asked = Records(settings).questions()
    assert asked == [Question(name, kind) for name in ("pg", "other") for kind in kinds]


def test_a_service_leads_to_further_questions_each_once() -> None:
    records = Records(Dns(names=("_postgresql._tcp.pg", "pg"), family="ipv4"))
    assert records.questions() == [A, SERVICE]
    assert records.further_questions() == []
    records.take(SERVICE, Reply(Outcome.OK, (("a", 6000), ("a", 6001), ("pg", 6002)), 5))
    assert records.further_questions() == [Question("a", "A")]
    records.take(Question("a", "A"), ok("10.0.0.1"))
    records.take(A, ok("10.0.0.2"))
    assert names(records) == ["10.0.0.1:6000", "10.0.0.1:6001", "10.0.0.2:5432", "10.0.0.2:6002"]
    # A target that has gone is not asked for again.
    records.take(SERVICE, Reply(Outcome.OK, (("pg", 6002),), 5))
    assert records.further_questions() == []
    assert names(records) == ["10.0.0.2:5432", "10.0.0.2:6002"]
    # Nor is what it had kept: it may come back elsewhere.
    records.forget_the_rest()
    records.take(SERVICE, Reply(Outcome.OK, (("a", 6000), ("pg", 6002)), 5))
    assert names(records) == ["10.0.0.2:5432", "10.0.0.2:6002"]


def test_addresses_of_both_kinds_once_and_in_order_whatever_the_answer_s() -> None:
    records = Records(Dns(names=("pg",), port=6000))
    records.take(AAAA, ok("fd00::1"))
    records.take(A, ok("10.0.0.2", "10.0.0.1", "10.0.0.2"))
    assert records.backends() == (
        Backend("10.0.0.1:6000", "10.0.0.1", 6000),
        Backend("10.0.0.2:6000", "10.0.0.2", 6000),
        Backend("[fd00::1]:6000", "fd00::1", 6000),
    )


@pytest.mark.parametrize("outcome", TROUBLE)
def test_trouble_leaves_the_last_answer_of_that_question_alone(outcome: Outcome) -> None:
    records = Records(Dns(names=("pg",)))
    records.take(A, ok("10.0.0.1"))
    records.take(AAAA, ok("fd00::1"))
    records.take(AAAA, Reply(outcome))
    records.take(A, ok("10.0.0.2"))
    assert names(records) == ["10.0.0.2:5432", "[fd00::1]:5432"]


@pytest.mark.parametrize("outcome", [Outcome.EMPTY, Outcome.NO_NAME])
def test_that_there_is_nothing_is_an_answer(outcome: Outcome) -> None:
    records = Records(Dns(names=("pg",)))
    records.take(A, ok("10.0.0.1"))
    records.take(A, Reply(outcome))
    assert records.backends() == ()


def test_gaps_are_names_without_any_address_of_which_something_is_not_known() -> None:
    records = Records(Dns(names=("pg", "other")))
    records.take(A, ok("10.0.0.1"))
    records.take(AAAA, Reply(Outcome.SILENT))
    assert records.has_gaps
    records.take(Question("other", "A"), Reply(Outcome.NO_NAME))
    records.take(Question("other", "AAAA"), Reply(Outcome.REFUSED))
    assert records.has_gaps
    records.take(Question("other", "AAAA"), Reply(Outcome.EMPTY))
    assert not records.has_gaps


def test_gaps_behind_a_service() -> None:
    records = Records(Dns(names=("_postgresql._tcp.pg",), family="ipv4"))
    assert records.has_gaps
    records.take(SERVICE, Reply(Outcome.OK, (("pg", 6000), ("other", 6000)), 5))
    records.take(A, ok("10.0.0.1"))
    assert records.has_gaps
    records.take(Question("other", "A"), ok("10.0.0.2"))
    assert not records.has_gaps


@pytest.mark.parametrize("outcome", Outcome)
def test_what_a_failure_is(outcome: Outcome) -> None:
    assert is_failure(Reply(outcome)) == (outcome in TROUBLE)


def test_what_a_service_is() -> None:
    assert is_service("_postgresql._tcp.pg")
    assert not is_service("pg")


@pytest.mark.parametrize(
    ("ttls", "failures", "pause"),
    [
        ([7.0, 20.0], 0, 7.0),
        ([0.0], 0, 1.0),
        ([3600.0], 0, 30.0),
        # One of two questions has failed: sooner, then more and more slowly.
        ([20.0], 1, 1.0),
        ([20.0], 3, 4.0),
        ([20.0], 10, 20.0),
        ([], 1, 1.0),
        ([], 4, 8.0),
        ([], 10_000, 30.0),
    ],
)
def test_when_it_is_asked_again(ttls: list[float], failures: int, pause: float) -> None:
    replies = [*[ok("10.0.0.1", ttl=ttl) for ttl in ttls], Reply(Outcome.EMPTY)]
    assert pause_after(replies, failures, 1.0, 30.0) == pause
