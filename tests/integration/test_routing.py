"""Routing against real servers: what goes to a replica runs there, and the lists are true."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster, find_installation
from pgproxy.routing.builtins import NON_VOLATILE
from pgproxy.routing.classify import classify
from pgproxy.routing.functions import (
    INFORMATION_SCHEMA_FUNCTIONS,
    INFORMATION_SCHEMA_TYPES,
    NON_VOLATILE_ON_PRIMARY,
    READ_SAFE,
    READS,
    VIEWS_OF_THE_PRIMARY,
)
from pgproxy.routing.reasons import Reason
from tests.support.place import cluster_parent
from tests.support.proxy import ProxyProcess
from tests.support.wire import Wire, errors, query, replies, rows
from tests.unit.routing.corpus import SCHEMA, Case, read_corpus
from tests.unit.routing.generate_builtins import Builtins

BUILTINS: Final = Path(__file__).parents[2] / "pgproxy" / "routing" / "builtins.py"
READ_ONLY: Final = "25006"
# undefined_function, undefined_object, syntax_error: newer than the server
MISSING: Final = {"42883", "42704", "42601"}

READ_CASES: Final = [case for case in read_corpus() if case.target == "replica"]

# A value of each type that a function may want; NULL of the type where there is none.
VALUES: Final = {
    "bool": "true",
    "float8": "0.5::float8",
    "int2": "1::int2",
    "int4": "1",
    "int8": "1::int8",
    "interval": "'0 s'::interval",
    "name": "'pg_class'::name",
    "numeric": "1.0",
    "oid": "1259::oid",
    "pg_lsn": "'0/1000000'::pg_lsn",
    "regclass": "'pg_class'::regclass",
    "regnamespace": "'pg_catalog'::regnamespace",
    "text": "'pg_class'",
    "timestamptz": "now()",
    "xid": "'750'::xid",
    "xid8": "'750'::xid8",
}


@pytest.fixture(scope="module")
def corpus_database(cluster: Cluster) -> Iterator[str]:
    """A database with the objects that the corpus is about, on the replicas too."""
    name = "corpus"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    with psycopg.connect(cluster.primary.dsn(db=name), autocommit=True) as connection:
        connection.execute(SCHEMA)
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


def is_older(cluster: Cluster) -> bool:
    """Whether the server is older than the grammar, which knows 18."""
    return int(cluster.primary.psql("SHOW server_version_num")) < 180000


@pytest.mark.parametrize("case", READ_CASES, ids=str)
async def test_what_goes_to_a_replica_runs_there(
    case: Case, cluster: Cluster, corpus_database: str
) -> None:
    frames = await replies(
        cluster.replicas[0], query(case.sql), user="postgres", database=corpus_database
    )
    failures = set(errors(frames))
    if "$1" in case.sql and "GENERIC_PLAN" not in case.sql and "PREPARE" not in case.sql:
        assert failures == {"42P02"}  # a parameter, in the simple protocol
    elif is_older(cluster):
        assert failures <= MISSING
    else:
        assert failures == set()


def signatures(connection: psycopg.Connection, names: frozenset[str]) -> list[str]:
    """A call of each overload of these built-ins that SQL can call."""
    rows = connection.execute(
        """
        select proname,
               array(select typname::text
                       from unnest(proargtypes) with ordinality as u (type, place)
                       join pg_catalog.pg_type t on t.oid = u.type
                      order by place)
          from pg_catalog.pg_proc
         where pronamespace = 'pg_catalog'::regnamespace
           and prokind = 'f'
           and proname = any(%s)
           and prorettype not in ('internal'::regtype, 'trigger'::regtype,
                                  'event_trigger'::regtype)
           and not 'internal'::regtype = any(proargtypes)
        """,
        [sorted(names)],
    ).fetchall()
    return [
        f'SELECT * FROM pg_catalog."{name}"({", ".join(map(value_of, types))})'
        for name, types in rows
    ]


def value_of(type_name: str) -> str:
    """An argument of the type."""
    if type_name.startswith("any"):
        return "NULL"
    return VALUES.get(type_name, f'NULL::pg_catalog."{type_name}"')


def outcomes(dsn: str, statements: list[str]) -> list[str]:
    """The SQLSTATE of each statement, "" where it succeeds."""
    found: list[str] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            try:
                connection.execute(statement)
                found.append("")
            except psycopg.Error as error:
                found.append(error.sqlstate or "the connection broke")
    return found


def test_every_function_that_reads_may_call_runs_on_a_standby_as_on_the_primary(
    cluster: Cluster,
) -> None:
    with psycopg.connect(cluster.primary.dsn()) as connection:
        calls = signatures(connection, READS)
    on_primary = outcomes(cluster.primary.dsn(), calls)
    on_standby = outcomes(cluster.replicas[0].dsn(), calls)
    different = {
        (call, there, here)
        for call, there, here in zip(calls, on_primary, on_standby, strict=True)
        if there != here
    }
    # Only a standby replays.
    assert {call.split('"')[1] for call, _, _ in different} == {
        "pg_get_wal_replay_pause_state",
        "pg_is_wal_replay_paused",
    }
    assert all(here == "" for _, _, here in different)
    assert len(calls) > 2000


def test_what_is_volatile_and_read_safe_succeeds_on_a_standby(cluster: Cluster) -> None:
    calls = {
        "array_sample": "array_sample(ARRAY[1, 2], 1)",
        "array_shuffle": "array_shuffle(ARRAY[1, 2])",
        "pg_collation_actual_version": "pg_collation_actual_version(100)",
        "pg_database_collation_actual_version": "pg_database_collation_actual_version(1)",
        "pg_database_size": "pg_database_size('postgres')",
        "pg_sleep": "pg_sleep(0)",
        "pg_sleep_for": "pg_sleep_for('0 s')",
        "pg_sleep_until": "pg_sleep_until(now())",
        "pg_tablespace_size": "pg_tablespace_size('pg_default')",
    }
    for name in ("pg_indexes_size", "pg_relation_size", "pg_table_size", "pg_total_relation_size"):
        calls[name] = f"{name}('pg_class')"
    for name in ("pg_partition_ancestors", "pg_partition_tree"):
        calls[name] = f"{name}('pg_class')"
    names = sorted(READ_SAFE)
    statements = [f"SELECT {calls.get(name, f'{name}()')}" for name in names]
    for name, state in zip(names, outcomes(cluster.replicas[0].dsn(), statements), strict=True):
        assert state == "" or (is_older(cluster) and state in MISSING), name


def test_what_is_kept_from_the_non_volatile_is_refused_by_a_standby(cluster: Cluster) -> None:
    assert NON_VOLATILE_ON_PRIMARY <= NON_VOLATILE
    with psycopg.connect(cluster.primary.dsn()) as connection:
        calls = signatures(connection, NON_VOLATILE_ON_PRIMARY)
    # object_not_in_prerequisite_state: "recovery is in progress"
    assert set(outcomes(cluster.replicas[0].dsn(), calls)) == {READ_ONLY, "55000"}


def test_the_views_of_the_primary_are_those_over_its_functions(cluster: Cluster) -> None:
    with psycopg.connect(cluster.primary.dsn()) as connection:
        definitions = connection.execute(
            "SELECT relname, pg_get_viewdef(oid) FROM pg_class"
            " WHERE relkind = 'v' AND relnamespace = 'pg_catalog'::regnamespace"
        ).fetchall()
    found = {
        name
        for name, definition in definitions
        if classify(definition.encode()).reason is Reason.PRIMARY_FUNCTION
    }
    # A standby may be asked for its own slots, but has those of the primary at most in part.
    assert found | {"pg_replication_slots"} == VIEWS_OF_THE_PRIMARY


async def test_a_sequence_is_read_where_nextval_runs(
    cluster: Cluster, fresh_database: str, start_proxy: Callable[..., ProxyProcess]
) -> None:
    sql = "SELECT last_value, is_called FROM s"
    cluster.primary.psql("CREATE SEQUENCE s; SELECT nextval('s')", fresh_database)
    cluster.wait_caught_up()
    assert cluster.replicas[0].psql(sql, fresh_database) == "33|t"  # what WAL has
    async with await Wire.connect(start_proxy(cluster.servers), database=fresh_database) as wire:
        assert rows(await wire.ask(query(sql))) == [[b"1", b"t"]]


def test_information_schema_brings_what_the_lists_say(cluster: Cluster) -> None:
    functions = cluster.primary.psql(
        "SELECT DISTINCT proname || ' ' || provolatile::text FROM pg_proc"
        " WHERE pronamespace = 'information_schema'::regnamespace"
    )
    volatility = dict(line.split() for line in functions.splitlines())
    assert set(volatility) == INFORMATION_SCHEMA_FUNCTIONS
    assert "v" not in volatility.values()
    types = cluster.primary.psql(
        "SELECT typname FROM pg_type"
        " WHERE typnamespace = 'information_schema'::regnamespace AND typtype = 'd'"
    )
    assert set(types.splitlines()) == INFORMATION_SCHEMA_TYPES


async def test_a_standby_refuses_most_of_what_is_known_to_write(
    cluster: Cluster, corpus_database: str
) -> None:
    # Not the proof that these are writes, which they are, but that the corpus says something.
    cases = [case for case in read_corpus() if case.reason in {"write", "locking_clause", "ddl"}]
    states: dict[str, list[str]] = {}
    for case in cases:
        if "ALTER SYSTEM" in case.sql:  # writes a file of the standby
            continue
        frames = await replies(
            cluster.replicas[1],
            query(case.sql),
            user="postgres",
            database=corpus_database,
        )
        for state in errors(frames):
            states.setdefault(state, []).append(case.sql)
    assert len(states[READ_ONLY]) > len(cases) / 2


@pytest.mark.timeout(120)
def test_the_list_of_built_ins_is_what_the_servers_say() -> None:
    builtins = Builtins()
    for version in (16, 18):
        installation = find_installation(version)
        with Cluster.create(0, installation=installation, directory=cluster_parent()) as cluster:
            builtins.ask(cluster.primary.dsn())
    assert builtins.module().rstrip("\n") + "\n" == BUILTINS.read_text()
