import pytest

from pgproxy.errors import PgError
from pgproxy.frames import read
from pgproxy.protocol.session import (
    AUTO,
    NOT_KNOWN,
    TO_PRIMARY,
    TO_REPLICA,
    Session,
    parse_min_lsn,
    parse_route,
)


def set_in_block(session: Session, value: str, *, local: bool = False) -> None:
    session.set_route(value, local=local, in_transaction=True)


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
    session.set_route("primary", local=False, in_transaction=False)
    assert session.route.value == TO_PRIMARY
    session.set_route("", local=False, in_transaction=False)
    assert session.route.value == TO_REPLICA


def test_an_impossible_value_changes_nothing() -> None:
    session = Session()
    with pytest.raises(PgError):
        session.set_route("nowhere", local=False, in_transaction=False)
    assert session.route.value == AUTO


def test_set_local_outside_a_transaction_has_no_effect() -> None:
    session = Session()
    session.set_route("primary", local=True, in_transaction=False)
    assert session.route.value == AUTO


@pytest.mark.parametrize("committed", [True, False])
def test_set_local_ends_with_the_transaction(committed: bool) -> None:
    session = Session()
    set_in_block(session, "primary", local=True)
    set_in_block(session, "replica", local=True)
    assert session.route.value == TO_REPLICA
    session.end(committed=committed)
    assert session.route.value == AUTO


def test_a_set_outlives_the_set_local_before_it() -> None:
    session = Session()
    set_in_block(session, "primary", local=True)
    set_in_block(session, "replica")
    session.end(committed=True)
    assert session.route.value == TO_REPLICA


def test_set_local_hides_the_set_before_it_until_commit() -> None:
    session = Session()
    set_in_block(session, "replica")
    set_in_block(session, "primary", local=True)
    assert session.route.value == TO_PRIMARY
    session.end(committed=True)
    assert session.route.value == TO_REPLICA


def test_a_rolled_back_set_did_not_happen() -> None:
    session = Session()
    session.set_route("primary", local=False, in_transaction=False)
    set_in_block(session, "replica")
    session.end(committed=False)
    assert session.route.value == TO_PRIMARY


def test_show_route() -> None:
    description, row = Session(TO_PRIMARY).show_route()
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
    session = Session(AUTO, 16)
    assert session.shown_as_of == NOT_KNOWN
    session.set_min_lsn("0/0", local=False, in_transaction=False)
    assert session.shown_as_of == 0.0
    session.set_min_lsn("", local=False, in_transaction=False)
    assert session.min_lsn.value == 16
    session.shown_as_of = 5.0
    session.set_min_lsn("0/20", local=False, in_transaction=False)
    assert session.shown_as_of == NOT_KNOWN


@pytest.mark.parametrize("committed", [True, False])
def test_a_position_set_in_a_transaction_that_is_rolled_back_was_not_set(committed: bool) -> None:
    session = Session()
    session.set_min_lsn("0/20", local=False, in_transaction=True)
    set_in_block(session, "primary")
    session.end(committed=committed)
    assert session.min_lsn.value == (0x20 if committed else 0)
    assert session.route.value == (TO_PRIMARY if committed else AUTO)
    assert session.shown_as_of == (NOT_KNOWN if committed else 0.0)


@pytest.mark.parametrize("value", ["nonsense", "0", "0/", "-1/0", "0/123456789", "now, 0/1"])
def test_what_is_no_position_is_refused_with_where_to_get_one(value: str) -> None:
    session = Session()
    with pytest.raises(PgError) as caught:
        session.set_min_lsn(value, local=False, in_transaction=True)
    assert caught.value.sqlstate == "22023"
    assert "SHOW pgproxy.lsn" in caught.value.hint
    assert not session.touched
    assert parse_min_lsn("FFFFFFFF/FFFFFFFF") == 2**64 - 1
