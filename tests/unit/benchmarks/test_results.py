from pathlib import Path

import pytest

from benchmarks.report import markdown
from benchmarks.results import PeerRecord, Results, Sample, read


def _results() -> Results:
    cell = "read-only/simple/16"
    return Results(
        environment={"kernel": "any"},
        options={},
        peers=[
            PeerRecord("PgBouncer", "1.26", ""),
            PeerRecord("pgproxy", "0.1", ""),
            PeerRecord("Odyssey", "", "", missing="no odyssey | anywhere"),
        ],
        samples=[
            # A round in which the machine was slow for both, and one that pgproxy missed.
            Sample(cell, "PgBouncer", 0, {"cpu_us": 10.0}),
            Sample(cell, "pgproxy", 0, {"cpu_us": 12.0}),
            Sample(cell, "PgBouncer", 1, {"cpu_us": 30.0}),
            Sample(cell, "pgproxy", 1, {"cpu_us": 42.0}),
            Sample(cell, "PgBouncer", 2, {"cpu_us": 11.0}),
            Sample(cell, "pgproxy", 2, {}, "pgbench status 2"),
        ],
        complete=True,
    )


def test_a_ratio_is_the_median_over_rounds_that_both_took_part_in() -> None:
    assert _results().ratio("read-only/simple/16", "pgproxy", "PgBouncer", "cpu_us") == (
        pytest.approx(1.3)
    )


def test_a_ratio_to_a_peer_that_was_not_measured_is_none() -> None:
    assert _results().ratio("read-only/simple/16", "pgproxy", "Odyssey", "cpu_us") is None


def test_the_report_names_what_is_missing_and_what_failed() -> None:
    text = markdown(_results(), None)

    assert "**not measured** | no odyssey \\| anywhere" in text
    assert "- read-only/simple/16, pgproxy: pgbench status 2" in text
    assert "INTERRUPTED" not in text


def test_the_report_judges_the_goals() -> None:
    line = next(line for line in markdown(_results(), None).splitlines() if "| 1.7 " in line)

    assert "1.30" in line
    assert "| met" in line


def test_a_goal_may_compare_two_loads_of_one_proxy() -> None:
    results = _results()
    for turn, (named, unnamed) in enumerate([(22.0, 20.0), (30.0, 20.0), (21.0, 20.0)]):
        results.samples += [
            Sample("read-only/prepared/64", "pgproxy", turn, {"cpu_us": named}),
            Sample("read-only/extended/64", "pgproxy", turn, {"cpu_us": unnamed}),
        ]
    line = next(line for line in markdown(results, None).splitlines() if "| 1.15 " in line)

    assert "pgproxy, read-only/extended/64" in line
    assert "1.10" in line
    assert "| met" in line


def test_stored_results_come_back_as_they_were(tmp_path: Path) -> None:
    results = _results()
    results.save(tmp_path / "results.json")

    assert read(tmp_path / "results.json") == results
