from pgproxy.servers.backend import Backend


def backend() -> Backend:
    return Backend("r", "localhost", 5432, 1.0)


def test_the_first_reply_is_the_latency_and_those_that_follow_move_it() -> None:
    one = backend()
    assert one.latency == 0.0
    one.took(0.010)
    assert one.latency == 0.010
    for _ in range(300):
        one.took(0.002)
    assert 0.002 < one.latency < 0.0021


def test_one_long_statement_does_not_make_a_slow_server() -> None:
    one = backend()
    one.took(0.001)
    one.took(3600.0)
    assert one.latency < 0.0011


def test_a_server_that_has_become_slow_is_known_as_that_after_some_replies() -> None:
    one = backend()
    one.took(0.001)
    replies = 0
    while one.latency < 0.009:
        one.took(0.010)
        replies += 1
    assert 10 < replies < 100


def test_a_clock_that_stood_still_is_no_latency() -> None:
    one = backend()
    one.took(0.0)
    one.took(0.002)
    assert one.latency == 0.002


def test_what_it_shows() -> None:
    assert repr(backend()) == "<Backend r load=0>"
