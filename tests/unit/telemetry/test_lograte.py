"""How many lines of one kind the log gets in a period."""

from pgproxy.telemetry import lograte
from pgproxy.telemetry.lograte import LogRate

STORM = (30, "refused", "")
OTHER = (40, "failed", "replica-1")


def test_each_kind_has_its_lines_in_each_period() -> None:
    rate = LogRate(3, 10)
    assert [rate.admit(STORM, 100 + number) for number in range(5)] == [True] * 3 + [False] * 2
    assert rate.admit(OTHER, 105)
    assert rate.left_out(109.9) == {}
    assert rate.left_out(110) == {STORM: 2}
    assert rate.left_out(110) == {}
    assert rate.admit(STORM, 110)


def test_a_period_begins_with_its_first_line() -> None:
    rate = LogRate(1, 10)
    assert rate.admit(STORM, 100)
    assert rate.admit(STORM, 119)
    assert not rate.admit(STORM, 128)
    assert rate.left_out(129) == {STORM: 1}


def test_kinds_without_number_are_one_kind_of_each_level() -> None:
    rate = LogRate(1, 10)
    admitted = [rate.admit((30, f"event {number}", ""), 1) for number in range(1100)]
    assert sum(admitted) == lograte.MAX_KINDS + 1
    assert rate.admit((40, "another level", ""), 1)
    assert rate.admit((30, "event 7", ""), 1) is False
    assert rate.left_out(11) == {(30, lograte.OTHERS, ""): 99, (30, "event 7", ""): 1}
