"""Hints are the comments before the first statement, and nothing else."""

import pytest

from pgproxy.routing.decision import NO_HINT, PRIMARY, REPLICA
from pgproxy.routing.hints import leading_hint


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
    ],
)
def test_a_hint_is_read(sql: str, hint: int) -> None:
    assert leading_hint(sql.encode()) == hint
