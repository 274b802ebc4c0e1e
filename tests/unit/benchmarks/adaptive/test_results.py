import json
from pathlib import Path

import pytest

from benchmarks.adaptive.results import ALONE, SETTLES, Phase, Results, draw, markdown, table

WELL, SLOW, AGAIN = Phase("well", 0.0, 20.0), Phase("slow", 20.0, 40.0), Phase("again", 40.0, 60.0)


def _results() -> Results:
    """What a phase begins with does not count; "fixed" has a tenth while one is slow."""
    seconds = [float(second) for second in range(1, 61)]

    def tps(at: float, settled: float) -> float:
        return settled if (at - 1e-6) % 20.0 > SETTLES else 1.0

    return Results(
        {"kernel": "any"},
        {ALONE: "of the tree", "adaptive": "adaptive", "fixed": "not"},
        [WELL, SLOW, AGAIN],
        {
            ALONE: [(at, tps(at, 400.0)) for at in seconds],
            "adaptive": [(at, tps(at, 360.0)) for at in seconds],
            "fixed": [(at, tps(at, 40.0 if 20 < at <= 40 else 400.0)) for at in seconds],
        },
        {"replica-1 (slow)": [(at, 2.0 if 20 < at <= 40 else 16.0) for at in seconds]},
    )


def test_parts_are_of_what_the_healthy_ones_give_alone() -> None:
    results = _results()

    assert results.throughput(ALONE, SLOW) == 400.0
    assert results.part("adaptive", SLOW) == pytest.approx(0.9)
    assert results.part("fixed", SLOW) == pytest.approx(0.1)
    assert results.part("fixed", AGAIN) == pytest.approx(1.0)


def test_a_phase_without_points_has_no_throughput() -> None:
    results = _results()
    results.tps["fixed"] = []

    assert results.throughput("fixed", SLOW) == 0.0
    assert results.part("fixed", SLOW) == 0.0


def test_the_report_has_every_contender_and_phase() -> None:
    results = _results()

    assert "| fixed | 400 (100%) | 40 (10%) | 400 (100%) |" in table(results)
    report = markdown(results, "picture.png")
    assert "![throughput and limits](picture.png)" in report
    assert "- **adaptive**: adaptive" in report
    assert "- kernel: any" in report


def test_a_run_is_stored_and_drawn(tmp_path: Path) -> None:
    results = _results()
    results.save(tmp_path / "run.json")
    draw(results, tmp_path / "run.png")

    assert json.loads((tmp_path / "run.json").read_text())["phases"][1]["name"] == "slow"
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
