from pgproxy.protocol.prepared import Statement
from pgproxy.routing.classify import classify
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.naming import decisions_of
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Router


def prepared(sql: str) -> Statement:
    return Statement(1, sql.encode(), b"\0\0", classify(sql.encode()))


STATEMENTS = {
    b"read": prepared("SELECT 1"),
    b"write": prepared("INSERT INTO t VALUES (1)"),
    b"lock": prepared("SELECT pg_advisory_lock(1)"),
    b"call": prepared("SELECT f(1)"),
}


def decide(sql: str) -> list[Decision]:
    return decisions_of(classify(sql.encode()), STATEMENTS, Router())


def target(sql: str) -> int:
    return max(decide(sql), key=lambda one: one.target == PRIMARY).target


def test_execute_goes_where_its_statement_goes() -> None:
    assert target("EXECUTE read") == REPLICA
    assert target("EXECUTE write") == PRIMARY
    assert target("EXECUTE nobody") == PRIMARY
    assert decide("EXECUTE write")[-1].reason is Reason.WRITE


def test_and_where_its_arguments_go() -> None:
    assert target("EXECUTE read(1, now())") == REPLICA
    assert target("EXECUTE read(nextval('s'))") == PRIMARY


def test_what_is_executed_pins_and_what_is_explained_does_not() -> None:
    assert [one.pin for one in decide("EXECUTE lock")][-1] is Pin.ADVISORY_LOCK
    assert all(one.pin is None for one in decide("EXPLAIN EXECUTE lock"))
    assert not any(one.known_write for one in decide("EXPLAIN EXECUTE write"))
    assert any(one.known_write for one in decide("EXPLAIN ANALYZE EXECUTE write"))


def test_several_statements() -> None:
    assert target("EXECUTE read; SELECT 2; EXPLAIN EXECUTE read") == REPLICA
    assert target("EXECUTE read; EXECUTE write") == PRIMARY
    assert target("EXECUTE read; INSERT INTO t VALUES (1)") == PRIMARY
    assert target("PREPARE p AS SELECT 1; EXECUTE p") == REPLICA
    assert target("PREPARE p AS DELETE FROM t; EXECUTE p") == PRIMARY
    assert target("DEALLOCATE read; EXECUTE read") == PRIMARY
    assert target("DEALLOCATE ALL; EXECUTE read") == PRIMARY
    assert target("DEALLOCATE ALL; PREPARE read AS SELECT 1; EXECUTE read") == REPLICA
    assert target("DEALLOCATE read") == REPLICA


def test_what_it_makes_of_it_is_written() -> None:
    assert target("CREATE TABLE t AS EXECUTE read") == PRIMARY


def test_hints() -> None:
    assert target("/* pgproxy: primary */ EXECUTE read") == PRIMARY
    assert target("/* pgproxy: replica */ EXECUTE call") == REPLICA
    assert target("/* pgproxy: replica */ EXECUTE write") == PRIMARY
