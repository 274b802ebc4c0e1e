"""What those are told who wait, or would have to."""

from pgproxy.servers.backend import Backend
from pgproxy.servers.limiter import Limiter
from pgproxy.servers.words import holders, limit_of_seats, notice, queue_is_full, seat_timeout


def test_those_with_most_are_named() -> None:
    counts = [("d", "one", 1), ("d", "none", 0), ("d", "five", 5), ("e", "two", 2), ("e", "b", 1)]
    told = holders(counts)
    assert told == (
        'Most have: database "d", user "five" (5); database "e", user "two" (2);'
        ' database "d", user "one" (1).'
    )
    assert holders([("d", "none", 0)]) == ""


def test_the_limit_that_is_in_the_way_is_named() -> None:
    limiter = Limiter(2)
    backend = Backend("a", "h", 1, 1.0, max_concurrent=3)
    backend.running.used = 3
    assert limit_of_seats(limiter, backend) == ("limits.max_concurrent_per_backend", 3)
    limiter.total.used = 2
    assert limit_of_seats(limiter, backend) == ("limits.max_concurrent", 2)
    without = Backend("b", "h", 1, 1.0)
    limiter.total.used = 0
    assert limit_of_seats(limiter, without) == ("limits.max_concurrent", 2)


def test_errors_say_what_to_do() -> None:
    full = queue_is_full(5, "pool.size", 20, "")
    assert full.sqlstate == "53300"
    assert "limits.queue_size" in full.detail
    assert full.hint == "What they wait for is limited by pool.size = 20."
    late = seat_timeout(30.0, "limits.max_concurrent", 8, "Most have: nobody.")
    assert late.sqlstate == "53300"
    assert "limits.max_concurrent = 8" in late.detail
    assert "30 s (pool.wait_timeout)" in late.detail
    assert late.hint.endswith("Most have: nobody.")


def test_a_notice_tells_the_place() -> None:
    told = notice("a seat", 2, 7, 1.234)
    assert (told.severity, told.sqlstate) == ("NOTICE", "00000")
    assert told.detail == "Waited for 1.2 s so far; number 2 of 7 in line."
