"""Hints are comments before the first statement, and PgDog's also behind the last; nothing else is."""

import pytest

from pgproxy.routing.decision import NO_HINT, PRIMARY, REPLICA
from pgproxy.routing.hints import hint_of
from pgproxy.routing.key import lexical_key
from pgproxy.routing.router import Router


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("/* pgproxy: primary */ SELECT 1", PRIMARY),
        ("/* pgproxy: replica */ SELECT 1", REPLICA),
        ("/*pgproxy:replica*/SELECT 1", REPLICA),
        ("/*\n PGPROXY  :\tReplica\n*/ SELECT 1", REPLICA),
        ("/*NO LOAD BALANCE*/ SELECT 1", PRIMARY),
        ("/* no  load\nbalance */ SELECT 1", PRIMARY),
        (" ; -- x\n /* y */ /* pgproxy: replica */ /* z */ SELECT 1", REPLICA),
        ("/* pgproxy: replica */ /*NO LOAD BALANCE*/ SELECT 1", PRIMARY),
        ("/* pgproxy: primary */ /* pgproxy: replica */ SELECT 1", PRIMARY),
        ("/* pgproxy: replica */", REPLICA),
        ("SELECT 1", NO_HINT),
        ("SELECT /* pgproxy: replica */ 1", NO_HINT),
        ("SELECT 1 /* pgproxy: replica */", NO_HINT),
        ("-- pgproxy: replica\nSELECT 1", NO_HINT),
        ("-- /* pgproxy: replica */\nSELECT 1", NO_HINT),
        ("/* /* pgproxy: replica */ */ SELECT 1", NO_HINT),
        ("/* pgproxy: replica, please */ SELECT 1", NO_HINT),
        ("/* pgproxy: standby */ SELECT 1", NO_HINT),
        ("/*+ pgproxy: replica */ SELECT 1", NO_HINT),
        ("/* pgproxy: replica", NO_HINT),
        ("/* /* pgproxy: replica */", NO_HINT),
        ("'/* pgproxy: replica */'", NO_HINT),
        ("", NO_HINT),
        # PgDog's
        ("/* pgdog_role: primary */ SELECT 1", PRIMARY),
        ("/*pgdog_role:replica*/ SELECT 1", REPLICA),
        ("/* PgDog_Role: Replica */ SELECT 1", REPLICA),
        ("/* pgdog_role: prefer-primary */ SELECT 1", PRIMARY),
        ("/* pgdog_role: force-replica */ SELECT 1", REPLICA),
        ("/* pgdog_shard: 0 pgdog_role: replica */ SELECT 1", REPLICA),
        ("SELECT 1 /* pgdog_role: primary */", PRIMARY),
        ("SELECT 1; /* pgdog_role: replica */ ;\n", REPLICA),
        ("/* pgproxy: replica */ SELECT 1 /* pgdog_role: primary */", PRIMARY),
        ("/* pgproxy: primary */ SELECT 1 /* pgdog_role: replica */", PRIMARY),
        ("SELECT 1 /* pgdog_role: replica */ + 1", NO_HINT),
        ("SELECT 1 /* pgdog_role: replica */ /* x */", NO_HINT),
        ("SELECT '/* pgdog_role: replica */'", NO_HINT),
        ("SELECT 1 -- pgdog_role: replica", NO_HINT),
        ("/* pgdog_role: standby */ SELECT 1", NO_HINT),
        ("/* pgdog_role: replicas */ SELECT 1", NO_HINT),
        ("/* my_pgdog_role: replica */ SELECT 1", NO_HINT),
        # sqlcommenter's, in front and behind
        ("/*route='%2Fprimary',traceparent='00-5b-1e-01'*/ SELECT 1", NO_HINT),
        ("SELECT 1 /*controller='replica',db_driver='pgproxy: replica'*/", NO_HINT),
        ("/*traceparent='00-5b-1e-01'*/ /* pgproxy: replica */ SELECT 1", REPLICA),
        ("/* pgproxy: replica */ SELECT 1 /*route='NO LOAD BALANCE'*/", REPLICA),
    ],
)
def test_a_hint_is_read(sql: str, hint: int) -> None:
    assert hint_of(sql.encode()) == hint


def test_a_hint_at_the_end_is_not_shared_with_texts_without_it() -> None:
    router = Router()
    assert lexical_key(b"SELECT f(1) /* pgdog_role: replica */") is None
    assert router.decide(b"SELECT f(1) /* trace 1 */").target == PRIMARY
    assert router.decide(b"SELECT f(1) /* pgdog_role: replica */").target == REPLICA
    assert router.decide(b"SELECT f(1) /* trace 2 */").target == PRIMARY


@pytest.mark.parametrize("sql", ["DELETE FROM t", "SELECT 1 FOR UPDATE", "SELECT 1; DELETE FROM t"])
def test_no_hint_sends_a_known_write_to_a_replica(sql: str) -> None:
    for text in (f"/* pgdog_role: force-replica */ {sql}", f"{sql} /* pgdog_role: replica */"):
        assert Router().decide(text.encode()).target == PRIMARY
