import pytest

from pgproxy.telemetry.counters import BUCKETS, Counters, Histogram


@pytest.mark.parametrize("index", range(len(BUCKETS)))
def test_a_bound_belongs_to_its_bucket(index: int) -> None:
    histogram = Histogram()
    histogram.observe(BUCKETS[index])
    histogram.observe(BUCKETS[index] * 1.001)
    assert histogram.counts[index] == 1
    assert histogram.counts[index + 1] == 1


def test_the_buckets_rise_and_the_last_has_no_bound() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
    histogram = Histogram()
    histogram.observe(0.0)
    histogram.observe(1e9)
    assert (histogram.counts[0], histogram.counts[-1]) == (1, 1)
    assert len(histogram.counts) == len(BUCKETS) + 1
    assert histogram.total == 1e9


def test_counters_have_a_place_for_each_reason_and_target() -> None:
    counters = Counters(7)
    assert counters.routed == [0] * 14
    assert counters.pins == {}
