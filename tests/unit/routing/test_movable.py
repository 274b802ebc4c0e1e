"""What may run on a replica in a transaction that goes on elsewhere: nothing that would show it."""

import pytest

from pgproxy.protocol.prepared import StatementRegistry
from pgproxy.routing.batchreader import BATCH, BatchReader
from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.classify import classify
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.namespace import Namespace
from pgproxy.routing.router import Router
from tests.support.wire import query


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT a FROM t WHERE b = 1",
        "SELECT current_user, session_user, current_schema, current_catalog, CURRENT_ROLE",
        "SELECT clock_timestamp(), statement_timestamp(), random()",
        "SELECT current_setting('work_mem')",
        "EXPLAIN SELECT now()",
        "EXPLAIN ANALYZE SELECT 1",
        "COPY t TO STDOUT",
        "SHOW work_mem",
        "SAVEPOINT a",
        "RELEASE a",
        'ROLLBACK TO SAVEPOINT "B ""c"',
        "SELECT 1; SELECT 2",
        "",
        "/* pgproxy: replica */ SELECT 1",
    ],
)
def test_movable(sql: str) -> None:
    assert classify(sql.encode()).movable


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT now()",
        "SELECT pg_catalog.transaction_timestamp()",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT current_date, 1",
        "SELECT 1 WHERE LOCALTIME(3) > '10:00'",
        "WITH t AS (SELECT current_time) SELECT * FROM t",
        "SELECT age('2020-01-01')",
        "SELECT pg_current_snapshot()",
        "SELECT txid_current_if_assigned()",
        "SELECT pg_backend_pid()",
        "SELECT inet_server_addr()",
        "SELECT pg_is_in_recovery()",
        "SELECT * FROM pg_stat_activity",
        "SELECT * FROM pg_catalog.pg_settings",
        "SELECT pg_stat_get_numscans(1)",
        "SELECT current_setting($1)",
        "SELECT current_setting('port')",
        "SHOW ALL",
        "SHOW port",
        "SHOW transaction_read_only",
        "EXPLAIN ANALYZE SELECT now()",
        "SELECT 1; SELECT now()",
        "SELECT 1; SAVEPOINT a",
        "SELECT nextval('s')",
        "SELECT a FROM t FOR UPDATE",
        "INSERT INTO t VALUES (1)",
        "SET LOCAL work_mem = '3MB'",
        "SELECT set_config('work_mem', '3MB', true)",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH c",
        "LISTEN c",
        "BEGIN",
        "COMMIT",
        "PREPARE a AS SELECT 1",
        "DEALLOCATE ALL",
        "SELECT pg_advisory_xact_lock(1)",
        'SAVEPOINT "ü"',
        "PREPARE TRANSACTION 'x'",
        "/* pgproxy: primary */ SELECT 1",
        "/* pgproxy: primary */ SAVEPOINT a",
        "nonsense",
    ],
)
def test_not_movable(sql: str) -> None:
    assert not classify(sql.encode()).movable


@pytest.mark.parametrize(
    ("prepared", "movable"), [("SELECT 1", True), ("SELECT now()", False), ("DELETE FROM t", False)]
)
def test_execute_is_as_movable_as_what_it_executes(prepared: str, movable: bool) -> None:
    reader = BatchReader(Router(), StatementRegistry())
    text = f"PREPARE a AS {prepared}".encode()
    decision = reader.statements.router.decide(text)
    assert decision.names is not None
    reader.statements.name_done(decision.names.uses[0])
    reader.feed(query("EXECUTE a"))
    assert reader.read() == BATCH
    assert reader.batch.movable is movable


def in_catalogue(sql: str) -> Decision:
    """With views and functions of the user's own."""
    made = Catalogue()
    made.function("public", "f", 0, 0, volatile=False, takes_row=False)
    made.function("app", "writes", 0, 0, volatile=True, takes_row=False)
    made.relation("public", "plain", "view", "SELECT a FROM public.t")
    made.relation("public", "clock", "view", "SELECT pg_catalog.now() AS a")
    made.relation("public", "outside", "view", "SELECT a FROM public.clock")
    made.relation("public", "both", "view", "SELECT a FROM public.clock")
    made.relation("app", "both", "view", "SELECT app.writes()")
    made.relation("public", "recent", "policy", "SELECT 1 WHERE made > CURRENT_TIMESTAMP")
    made.type("public", "lately", "SELECT NULL::pg_catalog.date WHERE value > CURRENT_DATE")
    return classify(sql.encode(), lookup=Namespace(made, ("public", "app"), FunctionLists()))


@pytest.mark.parametrize(
    ("sql", "movable"),
    [
        ("SELECT a FROM plain", True),
        ("SELECT f()", False),  # which may call now()
        ("SELECT a FROM clock", False),
        ("SELECT a FROM outside", False),
        ("SELECT a FROM recent", False),
        ("SELECT '2024-02-29'::lately", False),
    ],
)
def test_what_names_stand_for(sql: str, *, movable: bool) -> None:
    decision = in_catalogue(sql)
    assert decision.target == REPLICA
    assert decision.movable is movable


def test_the_worst_that_a_name_may_stand_for_counts() -> None:
    assert in_catalogue("SELECT a FROM both").target == PRIMARY
