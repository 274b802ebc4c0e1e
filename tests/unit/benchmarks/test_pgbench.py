from pathlib import Path

import pytest

from benchmarks.cells import CellFailed
from benchmarks.pgbench import percentile, take_latencies


def test_latencies_of_all_threads_are_read_and_their_logs_removed(tmp_path: Path) -> None:
    (tmp_path / "log.77").write_text("0 1 250 0 1700000000 1\n3 2 9000 0 1700000000 2\n")
    (tmp_path / "log.77.1").write_text("1 1 300 0 1700000000 1\n1 2 failed 0 1700000000 2\n")

    assert sorted(take_latencies(tmp_path / "log")) == [250, 300, 9000]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(
    share: float, expected: float
) -> None:
    assert percentile(list(range(1, 101)), share) == expected


def test_no_latency_at_all_is_a_failure() -> None:
    with pytest.raises(CellFailed):
        percentile([], 0.5)
