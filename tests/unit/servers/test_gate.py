"""What is paused, and who is let in."""

import pytest

from pgproxy.errors import PgError
from pgproxy.servers.gate import Gate, paused_error


def test_one_database_is_paused_and_resumed() -> None:
    gate = Gate()
    gate.pause("a")
    assert (gate.holds("a"), gate.holds("b")) == (True, False)
    gate.resume("b")
    assert gate.holds("a")
    gate.resume("a")
    assert not gate.holds("a")


def test_all_are_paused_and_resumed() -> None:
    gate = Gate()
    gate.pause("")
    assert gate.holds("a")
    gate.resume("a")
    assert gate.holds("a")  # the whole proxy is paused, not this database
    gate.resume("")
    assert not gate.holds("a")


def test_resume_without_a_name_resumes_single_ones_too() -> None:
    gate = Gate()
    gate.pause("a")
    gate.resume("")
    assert not gate.holds("a")


def test_a_disabled_database_lets_nobody_in() -> None:
    gate = Gate()
    gate.let_in("a")
    gate.disabled.add("a")
    with pytest.raises(PgError, match='database "a" is disabled') as refused:
        gate.let_in("a")
    assert (refused.value.severity, refused.value.sqlstate) == ("FATAL", "57P03")


def test_who_waited_in_vain_is_told_why() -> None:
    error = paused_error("a", 30.0)
    assert (error.sqlstate, error.message) == ("57P03", 'database "a" is paused')
    assert error.detail == "Waited for 30 s (pool.wait_timeout)."


def test_what_is_paused_already() -> None:
    gate = Gate()
    gate.pause("a")
    assert (gate.has("a"), gate.has("b"), gate.has("")) == (True, False, False)
    gate.pause("")
    assert (gate.has("b"), gate.has("")) == (True, True)
