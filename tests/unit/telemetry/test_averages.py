"""Totals and averages as PgBouncer has them."""

from pgproxy.telemetry.averages import COUNTS, PERIOD, UNCOUNTED, Averages, add, numbers_of
from pgproxy.telemetry.counters import Traffic


def test_every_count_has_a_number_or_is_said_to_have_none() -> None:
    assert set(numbers_of(Traffic())) | UNCOUNTED == set(COUNTS)
    assert not set(numbers_of(Traffic())) & UNCOUNTED


def test_averages_are_per_second_and_times_per_transaction() -> None:
    traffic = {"a": Traffic()}
    averages = Averages(traffic, 100.0)
    traffic["a"].transactions += 40
    traffic["a"].busy += 0.08
    traffic["a"].leases += 20
    traffic["a"].waited += 0.01
    found = averages.averages(110.0)["a"]
    assert found["xact_count"] == 4
    assert found["xact_time"] == 2000
    assert found["wait_time"] == 500
    assert averages.average(110.0) == found


def test_they_begin_with_the_period_before_this_one() -> None:
    traffic = {"a": Traffic()}
    averages = Averages(traffic, 0.0)
    traffic["a"].queries = 600
    averages.look(PERIOD)
    assert averages.averages(PERIOD)["a"]["query_count"] == 10  # of the first period
    averages.look(PERIOD + 1)  # too early
    traffic["a"].queries += 120
    averages.look(2 * PERIOD)
    assert averages.averages(2 * PERIOD)["a"]["query_count"] == 2
    averages.look(3 * PERIOD)
    assert averages.averages(3 * PERIOD)["a"]["query_count"] == 0
    assert averages.totals()["a"]["query_count"] == 720


def test_a_database_that_is_new_begins_at_nothing() -> None:
    traffic: dict[str, Traffic] = {}
    averages = Averages(traffic, 0.0)
    averages.look(PERIOD)
    averages.look(2 * PERIOD)
    traffic["b"] = Traffic()
    traffic["b"].received = 6000
    assert averages.averages(3 * PERIOD)["b"]["client_bytes"] == 50
    traffic["a"] = Traffic()
    assert list(averages.totals()) == ["a", "b"]
    assert add(list(averages.totals().values()))["client_bytes"] == 6000


def test_no_time_no_average() -> None:
    traffic = {"a": Traffic()}
    traffic["a"].queries = 5
    assert Averages(traffic, 1.0).averages(1.0)["a"]["query_count"] == 0
