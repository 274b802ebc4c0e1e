import pytest

from pgproxy.errors import PgError
from pgproxy.frames import read
from pgproxy.protocol.session import (
    AUTO,
    MIN_LSN,
    NOT_KNOWN,
    ROUTE,
    TO_PRIMARY,
    TO_REPLICA,
    TRACE,
    Session,
    parse_min_lsn,
    parse_own,
    parse_route,
)


def set_in_block(session: Session, value: str, *, local: bool = False) -> None:
    session.set(ROUTE, value, local=local, in_transaction=True)


def test_the_values_of_a_route() -> None:
    assert [parse_route(value) for value in ("auto", "primary", "replica")] == [
        AUTO,
        TO_PRIMARY,
        TO_REPLICA,
    ]


def test_an_impossible_route_is_refused_with_what_is_possible() -> None:
    with pytest.raises(PgError) as caught:
        parse_route("master")
    assert caught.value.sqlstate == "22023"
    assert caught.value.severity == "ERROR"
    assert "auto, primary, replica" in caught.value.hint


def test_set_holds_until_reset() -> None:
    session = Session(TO_REPLICA)
    session.set(ROUTE, "primary", local=False, in_transaction=False)
    assert session.route == TO_PRIMARY
    session.set(ROUTE, "", local=False, in_transaction=False)
    assert session.route == TO_REPLICA


def test_an_impossible_value_changes_nothing() -> None:
    session = Session()
    with pytest.raises(PgError):
        session.set(ROUTE, "nowhere", local=False, in_transaction=False)
    assert session.route == AUTO


def test_set_local_outside_a_transaction_has_no_effect() -> None:
    session = Session()
    session.set(ROUTE, "primary", local=True, in_transaction=False)
    assert session.route == AUTO


@pytest.mark.parametrize("committed", [True, False])
def test_set_local_ends_with_the_transaction(committed: bool) -> None:
    session = Session()
    set_in_block(session, "primary", local=True)
    set_in_block(session, "replica", local=True)
    assert session.route == TO_REPLICA
    session.end(committed=committed)
    assert session.route == AUTO


def test_a_set_outlives_the_set_local_before_it() -> None:
    session = Session()
    set_in_block(session, "primary", local=True)
    set_in_block(session, "replica")
    session.end(committed=True)
    assert session.route == TO_REPLICA


def test_set_local_hides_the_set_before_it_until_commit() -> None:
    session = Session()
    set_in_block(session, "replica")
    set_in_block(session, "primary", local=True)
    assert session.route == TO_PRIMARY
    session.end(committed=True)
    assert session.route == TO_REPLICA


def test_a_rolled_back_set_did_not_happen() -> None:
    session = Session()
    session.set(ROUTE, "primary", local=False, in_transaction=False)
    set_in_block(session, "replica")
    session.end(committed=False)
    assert session.route == TO_PRIMARY


def test_show_route() -> None:
    description, row = Session(TO_PRIMARY).show(ROUTE)
    assert b"pgproxy.route" in description
    assert row[0:1] == b"D"
    assert row.endswith(b"\x00\x00\x00\x07primary")


def test_show_last_route() -> None:
    session = Session()
    (description,) = session.show_last_route([])
    names = [b"target", b"reason", b"backend", b"detail"]
    assert all(name + b"\x00" in description for name in names)
    same, row = session.show_last_route(["replica", "read", "r1", ""])
    assert same == description
    assert read.int16(row, 5) == 4
    assert row.endswith(b"\x00\x00\x00\x02r1\x00\x00\x00\x00")


def test_a_position_to_be_seen_is_not_known_to_be_shown_until_somebody_finds_out() -> None:
    assert Session().shown_as_of == 0.0
    session = Session(min_lsn=16)
    assert session.shown_as_of == NOT_KNOWN
    session.set(MIN_LSN, "0/0", local=False, in_transaction=False)
    assert session.shown_as_of == 0.0
    session.set(MIN_LSN, "", local=False, in_transaction=False)
    assert session.min_lsn == 16
    session.shown_as_of = 5.0
    session.set(MIN_LSN, "0/20", local=False, in_transaction=False)
    assert session.shown_as_of == NOT_KNOWN


@pytest.mark.parametrize("committed", [True, False])
def test_a_position_set_in_a_transaction_that_is_rolled_back_was_not_set(committed: bool) -> None:
    session = Session()
    session.set(MIN_LSN, "0/20", local=False, in_transaction=True)
    set_in_block(session, "primary")
    session.end(committed=committed)
    assert session.min_lsn == (0x20 if committed else 0)
    assert session.route == (TO_PRIMARY if committed else AUTO)
    assert session.shown_as_of == (NOT_KNOWN if committed else 0.0)


@pytest.mark.parametrize("value", ["nonsense", "0", "0/", "-1/0", "0/123456789", "now, 0/1"])
def test_what_is_no_position_is_refused_with_where_to_get_one(value: str) -> None:
    session = Session()
    with pytest.raises(PgError) as caught:
        session.set(MIN_LSN, value, local=False, in_transaction=True)
    assert caught.value.sqlstate == "22023"
    assert "SHOW pgproxy.lsn" in caught.value.hint
    assert not session.touched
    assert parse_min_lsn("FFFFFFFF/FFFFFFFF") == 2**64 - 1


@pytest.mark.parametrize("text", ["on", "true", "t", "yes", "1"])
def test_a_switch_that_is_on(text: str) -> None:
    assert parse_own(TRACE, text) == 1


@pytest.mark.parametrize("text", ["off", "of", "false", "n", "0"])
def test_a_switch_that_is_off(text: str) -> None:
    assert parse_own(TRACE, text) == 0


@pytest.mark.parametrize("text", ["o", "2", "maybe", " on"])
def test_what_is_no_switch_is_refused(text: str) -> None:
    with pytest.raises(PgError) as caught:
        parse_own(TRACE, text)
    assert caught.value.sqlstate == "22023"


def test_trace_is_a_setting_as_the_route_is_and_they_do_not_touch_each_other() -> None:
    session = Session(trace=True)
    assert session.trace
    session.set(TRACE, "off", local=True, in_transaction=True)
    set_in_block(session, "primary")
    assert (session.trace, session.watched, session.route) == (False, False, TO_PRIMARY)
    assert session.show(TRACE)[1].endswith(b"off")
    session.end(committed=False)
    assert (session.trace, session.watched, session.route) == (True, True, AUTO)
    session.set(TRACE, "off", local=False, in_transaction=False)
    session.observe()
    assert (session.trace, session.watched) == (False, True)


def test_a_rollback_to_a_savepoint_brings_back_what_was_before_it() -> None:
    session = Session()
    set_in_block(session, "primary", local=True)
    session.savepoint(b"a")
    set_in_block(session, "replica", local=True)
    session.savepoint(b"b")
    set_in_block(session, "auto")
    session.leave_savepoint(b"b", goes_back=True)
    assert session.route == TO_REPLICA
    set_in_block(session, "auto")
    session.leave_savepoint(b"a", goes_back=True)
    assert session.route == TO_PRIMARY
    session.leave_savepoint(b"b", goes_back=True)  # gone
    assert session.route == TO_PRIMARY
    session.leave_savepoint(b"a", goes_back=True)  # still there
    session.end(committed=True)
    assert session.route == AUTO


def test_a_savepoint_before_the_first_set_counts_too() -> None:
    session = Session(TO_REPLICA)
    session.savepoint(b"a")
    set_in_block(session, "primary")
    session.leave_savepoint(b"a", goes_back=True)
    assert session.route == TO_REPLICA
    session.end(committed=True)
    assert session.route == TO_REPLICA


def test_a_released_savepoint_takes_nothing_back() -> None:
    session = Session()
    session.savepoint(b"a")
    set_in_block(session, "primary")
    session.leave_savepoint(b"a", goes_back=False)
    session.leave_savepoint(b"a", goes_back=True)  # refused by the server: it is gone
    session.end(committed=True)
    assert session.route == TO_PRIMARY


def test_reset_all_returns_to_the_beginning_unless_it_is_rolled_back() -> None:
    session = Session(TO_REPLICA)
    session.set(ROUTE, "primary", local=False, in_transaction=False)
    session.set(TRACE, "on", local=False, in_transaction=False)
    session.reset_all(in_transaction=True)
    assert (session.route, session.trace) == (TO_REPLICA, False)
    session.end(committed=False)
    assert (session.route, session.trace) == (TO_PRIMARY, True)
    session.reset_all(in_transaction=False)
    assert (session.route, session.trace) == (TO_REPLICA, False)


def test_a_rule_gives_the_route_where_the_session_has_not_said_one() -> None:
    session = Session()
    session.ruled(TO_PRIMARY, "rule 1")
    assert (session.route, session.by_rule) == (TO_PRIMARY, True)
    session.set(ROUTE, "auto", local=False, in_transaction=False)
    assert (session.route, session.by_rule) == (AUTO, False)
    session.ruled(TO_REPLICA, "rule 2")
    assert (session.route, session.by_rule) == (AUTO, False)
    session.set(ROUTE, "", local=False, in_transaction=False)
    assert (session.route, session.by_rule) == (TO_REPLICA, True)
    asked = Session(AUTO)
    asked.ruled(TO_PRIMARY, "rule 1")
    assert asked.route == AUTO
