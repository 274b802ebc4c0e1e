import pytest

from pgproxy.errors import PgError
from pgproxy.frames import read
from pgproxy.protocol.session import AUTO, TO_PRIMARY, TO_REPLICA, Session, parse_route


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
    assert session.route == TO_PRIMARY
    session.set_route("", local=False, in_transaction=False)
    assert session.route == TO_REPLICA


def test_an_impossible_value_changes_nothing() -> None:
    session = Session()
    with pytest.raises(PgError):
        session.set_route("nowhere", local=False, in_transaction=False)
    assert session.route == AUTO


def test_set_local_outside_a_transaction_has_no_effect() -> None:
    session = Session()
    session.set_route("primary", local=True, in_transaction=False)
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
    session.set_route("primary", local=False, in_transaction=False)
    set_in_block(session, "replica")
    session.end(committed=False)
    assert session.route == TO_PRIMARY


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
