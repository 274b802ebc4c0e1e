"""What the relay must know of SET and SHOW."""

import pytest

from pgproxy.routing.classify import classify
from pgproxy.routing.decision import (
    PRIMARY,
    SET_MIN_LSN,
    SET_ROUTE,
    SHOW_LAST_ROUTE,
    SHOW_LSN,
    SHOW_MIN_LSN,
    SHOW_ROUTE,
    Decision,
)


def decide(sql: str) -> Decision:
    """The decision for a text."""
    return classify(sql.encode())


@pytest.mark.parametrize(
    ("sql", "argument", "local"),
    [
        ("SET pgproxy.route = 'replica'", "replica", False),
        ("SET pgproxy.route TO 'PRIMARY'", "primary", False),
        ("SET pgproxy.route = auto", "auto", False),
        ("SET SESSION pgproxy.route = 'x y'", "x y", False),
        ("SET LOCAL pgproxy.route = 'replica'", "replica", True),
        ("SET pgproxy.route = 1", "1", False),
        ("SET pgproxy.route = 1.5", "1.5", False),
        ("SET pgproxy.route = on", "on", False),
        ("SET pgproxy.route = 'a', b", "a, b", False),
        ("SET pgproxy.route TO DEFAULT", "", False),
        ("SET LOCAL pgproxy.route TO DEFAULT", "", True),
        ("RESET pgproxy.route", "", False),
    ],
)
def test_the_route_setting_keeps_its_value_as_written(sql: str, argument: str, local: bool) -> None:
    decision = decide(sql)
    assert (decision.kind, decision.argument, decision.local) == (SET_ROUTE, argument, local)
    assert decision.pin is None


def test_show_of_our_own_settings_is_told_apart() -> None:
    assert decide("SHOW pgproxy.route").kind == SHOW_ROUTE
    assert decide('SHOW "pgproxy.Last_Route"').kind == SHOW_LAST_ROUTE
    assert decide("SHOW pgproxy.min_lsn").kind == SHOW_MIN_LSN
    assert decide("SHOW PgProxy.LSN").kind == SHOW_LSN


def test_the_position_to_be_seen_is_set_like_the_route() -> None:
    decision = decide("SET LOCAL pgproxy.min_lsn TO '0/3000060'")
    assert (decision.kind, decision.argument, decision.local) == (SET_MIN_LSN, "0/3000060", True)
    assert decide("RESET pgproxy.min_lsn").argument == ""
    assert decision.pin is None


def test_only_the_primary_tells_the_position_to_be_seen() -> None:
    decision = decide("SHOW pgproxy.lsn")
    assert decision.target == PRIMARY
    assert decision.known_write, "no hint sends it to a replica"
    assert not decision.may_write, "it makes no later read wait"


def test_set_local_says_so() -> None:
    assert decide("SET LOCAL work_mem = '1MB'").local
    assert not decide("SET work_mem = '1MB'").local


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SET work_mem = '1MB'", "1MB"),
        ("SET work_mem = 64", "64"),
        ("SET TIME ZONE -8", "-8"),
        ("SET seq_page_cost = 1.5", "1.5"),
        ("SET enable_seqscan = off", "off"),
        ("SET bytea_output TO hex", "hex"),
        ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", None),
        ("SET datestyle = iso, mdy", None),
        ("SET search_path = public", "public"),
        ("SET search_path = 'a', \"$user\", b_1", 'a, "$user", b_1'),
        ("SET search_path = ''", '""'),
        ("SET search_path = 'a, b'", None),
        ('SET search_path = "B"', None),
        ('SET search_path = "user"', None),
        ("SET search_path = 1", None),
        ("SET work_mem TO DEFAULT", None),
        ("SET SESSION AUTHORIZATION u", None),
        ("SET ROLE u", "u"),
        ("SET app.text = 'ü'", None),  # it may be another letter in the client's encoding
    ],
)
def test_what_a_setting_is_set_to(sql: str, value: str | None) -> None:
    (effect,) = classify(sql.encode()).effects
    assert effect.value == value
