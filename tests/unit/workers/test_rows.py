"""SHOW of several workers as one proxy's."""

import pytest

from pgproxy.frames.table import Value
from pgproxy.telemetry.columns import COLUMNS
from pgproxy.workers.rows import LASTING, Rows, counted, lasting, merge


def row(table: str, **values: Value) -> list[Value]:
    """With 0 or "" for what is not named."""
    columns = COLUMNS[table]
    filled: dict[str, Value] = {
        name: "" if type == 25 else 0
        for name, type in zip(columns.names, columns.types, strict=True)
    }
    return list((filled | values).values())


def told(table: str, rows: Rows) -> list[dict[str, Value]]:
    return [dict(zip(COLUMNS[table].names, one, strict=True)) for one in rows]


@pytest.mark.parametrize("table", COLUMNS)
def test_one_alone_is_as_it_was_and_none_is_nothing(table: str) -> None:
    assert merge(table, []) == []
    assert merge(table, [[], []]) == []


def test_rows_of_connections_follow_each_other() -> None:
    assert merge("clients", [[["a"], ["b"]], [], [["a"]]]) == [["a"], ["b"], ["a"]]


def test_what_is_the_same_everywhere_is_told_once() -> None:
    assert merge("config", [[["a", "1"]], [["a", "1"]]]) == [["a", "1"]]


def test_pools_are_added_up_and_the_longest_wait_is_the_wait() -> None:
    one = row(
        "pools", database="d", user="u", cl_active=2, maxwait=1, maxwait_us=5, pool_mode="session"
    )
    two = row(
        "pools", database="d", user="u", cl_active=3, maxwait=0, maxwait_us=9, pool_mode="session"
    )
    other = row("pools", database="a", user="u", sv_idle=1)
    first, second = told("pools", merge("pools", [[one], [two, other]]))
    assert (first["database"], first["sv_idle"]) == ("a", 1)
    assert (second["cl_active"], second["maxwait"], second["maxwait_us"]) == (5, 1, 5)
    assert (second["pool_mode"], second["load_balance_hosts"]) == ("session", "")


def test_what_is_configured_is_not_added_up() -> None:
    one = row(
        "databases",
        name="d",
        port=5432,
        pool_size=20,
        current_connections=3,
        paused=0,
        force_user=None,
    )
    two = row(
        "databases",
        name="d",
        port=5432,
        pool_size=20,
        current_connections=4,
        paused=1,
        force_user=None,
    )
    [found] = told("databases", merge("databases", [[one], [two]]))
    assert (found["port"], found["pool_size"], found["current_connections"]) == (5432, 20, 7)
    assert (found["paused"], found["force_user"]) == (1, None)


@pytest.mark.parametrize("table", ["stats", "stats_averages"])
def test_averages_of_times_are_weighed_and_rates_added_up(table: str) -> None:
    prefix = "avg_" if table == "stats" else ""
    time, rate = f"{prefix}xact_time", f"{prefix}xact_count"
    one = row(table, database="d", **{time: 100, rate: 3})
    two = row(table, database="d", **{time: 500, rate: 1})
    [found] = told(table, merge(table, [[one], [two]]))
    assert (found[time], found[rate]) == (200, 4)
    idle = row(table, database="d", **{time: 100, rate: 0})
    assert told(table, merge(table, [[idle], [idle]]))[0][time] == 100


def test_totals_are_rows_of_names() -> None:
    one: Rows = [["total_xact_count", 3], ["total_query_time", None], ["avg_xact_count", 1]]
    two: Rows = [["total_xact_count", 4], ["total_query_time", None], ["avg_xact_count", 3]]
    one, two = [*one, ["avg_xact_time", 8]], [*two, ["avg_xact_time", 4]]
    found = {str(name): value for name, value in merge("totals", [one, two])}
    assert (found["total_xact_count"], found["total_query_time"]) == (7, None)
    assert (found["avg_xact_count"], found["avg_xact_time"]) == (4, 5)


def test_queries_are_in_the_order_of_their_time() -> None:
    one = row("queries", id="1", query="a", calls=1, timed_calls=2, total_time=10, reason="read")
    two = row("queries", id="2", query="b", calls=2, timed_calls=2, total_time=12)
    again = row("queries", id="1", query="a", calls=1, timed_calls=2, total_time=10)
    first, second = told("queries", merge("queries", [[two, one], [again]]))
    assert (first["id"], first["calls"], first["avg_time"], first["reason"]) == ("1", 2, 5, "read")
    assert second["avg_time"] == 6


def test_a_state_is_that_of_any() -> None:
    one: Rows = [["active", "yes"], ["paused", "no"], ["draining", "no"]]
    two: Rows = [["active", "no"], ["paused", "yes"], ["draining", "no"]]
    assert merge("state", [one, two]) == [["active", "no"], ["paused", "yes"], ["draining", "no"]]


def test_lists_count_different_rows() -> None:
    lists: Rows = [["databases", 4], ["used_clients", 7]]
    assert counted(lists, {"databases": 2}) == [["databases", 2], ["used_clients", 7]]


@pytest.mark.parametrize("table", LASTING)
def test_what_lasts_of_a_worker_has_no_averages(table: str) -> None:
    if table == "totals":
        rows: Rows = [["total_xact_count", 3], ["avg_xact_count", 3]]
        assert lasting(table, rows) == [["total_xact_count", 3], ["avg_xact_count", 0]]
        return
    numbers = {name: 5 for name in COLUMNS[table].names if name.startswith(("avg_", "total_"))}
    [found] = told(table, lasting(table, [row(table, **numbers)]))
    assert all(found[name] == (0 if name.startswith("avg_") else 5) for name in numbers)
