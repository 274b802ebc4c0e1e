"""The router corpus, each statement of it run for real on a primary and on its standby."""

import asyncio
import itertools
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import psycopg
import pytest

from pgproxy.embedded import Cluster, Server
from pgproxy.routing.catalogue import Catalogue
from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.lexer import first_word
from pgproxy.routing.lookup import FunctionLists
from pgproxy.routing.router import Memory
from pgproxy.routing.routers import DatabaseRouters
from tests.support.catalogue import session_of
from tests.support.corpus import DATABASES, DEFAULT_PATH, SCHEMAS, Entry, read_corpus
from tests.support.corpus_rules import is_varying, stays_for
from tests.support.proxy import ProxyProcess
from tests.support.trials import Answer, Trial, path_of

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]

# What must hold of the statements that a standby answers as the primary does.
SHARE_OF_REPLICAS: Final = 0.95
# What is sent through a proxy, where nothing is undone: queries, but for those which make or remove
# what another statement is about, or something of the server's.
QUERIES: Final = frozenset({"select", "with", "values", "table", "(", "explain", "show"})
LASTING: Final = re.compile(r"\bmade\b|\blo_|_slot|_origin|pg_reload_conf|pg_stat_reset|PREPARE")
# active_sql_transaction, invalid_transaction_termination: it has to be alone, so that what it does
# was not seen.
ALONE: Final = {"25001", "2D000"}

# What the proxy knows this function to be, once it has read the catalogue.
OF_USERS: Final = Entry("here", sql="SELECT volatile_reader(1)")
KNOWN_TO_BE: Final = "volatile_function"


@dataclass(frozen=True)
class Case:
    """A statement, what both servers made of it, and where it goes."""

    entry: Entry
    primary: Answer
    standby: Answer
    decision: Decision

    @property
    def goes_to_replica(self) -> bool:
        return self.decision.target == REPLICA

    @property
    def is_alike(self) -> bool:
        """Whether the standby answers what the primary does, as far as that is one answer."""
        if is_varying(self.entry.sql):
            return self.standby.is_like(self.primary)
        return self.standby.equals(self.primary)

    def __str__(self) -> str:
        return (
            f"{self.entry}\n    goes to a {target_of(self)}:"
            f" {self.decision.reason.value} {self.decision.detail}"
            f"\n    primary: {self.primary.state or 'fine'} {self.primary.message}"
            f"\n    standby: {self.standby.state or 'fine'} {self.standby.message}"
        )


def told(cases: list[Case]) -> str:
    """The cases as a message of failure."""
    return f"{len(cases)}:\n" + "\n".join(map(str, cases))


def name_of(database: str) -> str:
    return f"corpus_{database}"


@pytest.fixture(scope="module")
def databases(cluster: Cluster) -> Iterator[None]:
    """Those of the corpus, on the replicas too."""
    primary = cluster.primary
    primary.psql("CREATE ROLE corpus_clerk")
    made: list[str] = []
    for database in DATABASES:
        template = f" TEMPLATE {made[0]}" if made else ""
        primary.psql(f"CREATE DATABASE {name_of(database)}{template}")
        made.append(name_of(database))
        with psycopg.connect(primary.dsn(db=made[-1]), autocommit=True) as connection:
            connection.execute((SCHEMAS / f"{database}.sql").read_text())
    cluster.wait_caught_up()
    yield
    for name in made:
        primary.psql(f"DROP DATABASE {name} WITH (FORCE)")
    primary.psql("DROP ROLE corpus_clerk")


@pytest.fixture(scope="module")
def entries(cluster: Cluster) -> list[Entry]:
    """What this version of PostgreSQL knows of the corpus."""
    version = int(cluster.primary.psql("SHOW server_version_num")) // 10000
    return [entry for entry in read_corpus() if entry.since <= version]


def answers(server: Server, entries: list[Entry]) -> list[Answer]:
    """What the server makes of each, all undone."""
    found: dict[Entry, Answer] = {}
    for database in DATABASES:
        with Trial(server.dsn(db=name_of(database))) as trial:
            found |= {entry: trial.undone(entry) for entry in entries if entry.database == database}
    return [found[entry] for entry in entries]


async def routers_of(server: Server, database: str) -> DatabaseRouters:
    """Those of a proxy that has read the catalogue."""
    catalogue = Catalogue()
    async with session_of(server, name_of(database)) as session:
        await session.read(catalogue)
    routers = DatabaseRouters(Memory(), FunctionLists())
    routers.take(catalogue)
    return routers


def route(entry: Entry, routers: DatabaseRouters) -> Decision:
    """What is decided in a session with that search_path."""
    path = None if entry.path == DEFAULT_PATH else path_of(entry)
    user = dict(entry.settings).get("role", "postgres")
    return routers.choose(path, user).decide(entry.sql.encode())


@pytest.fixture(scope="module")
def cases(cluster: Cluster, databases: None, entries: list[Entry]) -> list[Case]:
    """The whole corpus, tried."""
    there = answers(cluster.primary, entries)
    cluster.wait_caught_up()
    here = answers(cluster.replicas[0], entries)
    routers = {name: asyncio.run(routers_of(cluster.primary, name)) for name in DATABASES}
    return [
        Case(entry, primary, standby, route(entry, routers[entry.database]))
        for entry, primary, standby in zip(entries, there, here, strict=True)
    ]


def test_the_corpus_is_what_it_says(cases: list[Case]) -> None:
    assert len({case.entry.sql for case in cases}) >= 1500
    assert sum(case.entry.target != "" for case in cases) >= 250
    wrong = [case for case in cases if case.primary.state != case.entry.error]
    assert not wrong, told(wrong)


def test_no_replica_refuses_what_it_gets(cases: list[Case]) -> None:
    wrong = [
        case for case in cases if case.goes_to_replica and case.standby.state != case.primary.state
    ]
    assert not wrong, told(wrong)


def test_nothing_that_writes_goes_to_a_replica(cases: list[Case]) -> None:
    wrong = [
        case
        for case in cases
        if case.goes_to_replica and (case.primary.wrote or case.primary.state in ALONE)
    ]
    assert not wrong, told(wrong)
    assert sum(case.primary.wrote for case in cases) > 500


def test_a_replica_answers_what_the_primary_answers(cases: list[Case]) -> None:
    wrong = [case for case in cases if case.goes_to_replica and not case.is_alike]
    assert not wrong, told(wrong)


@pytest.mark.parametrize(("target", "expected"), [("primary", PRIMARY), ("replica", REPLICA)])
def test_no_trap_catches(target: str, expected: int, cases: list[Case]) -> None:
    wrong = [
        case for case in cases if case.entry.target == target and case.decision.target != expected
    ]
    assert not wrong, told(wrong)


def test_most_of_what_a_replica_can_answer_goes_there(
    cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    able = [
        case
        for case in cases
        if case.is_alike and not case.primary.state and not case.primary.wrote
    ]
    expected = [case for case in able if not stays_for(case.entry.sql)]
    missed = [case for case in expected if not case.goes_to_replica]
    share = 1 - len(missed) / len(expected)
    lines = [
        f"{len(cases)} statements; {len(able)} that a standby answers as the primary does;"
        f" {len(expected)} of them are expected there, {share:.1%} go there"
    ]
    for reason, some in itertools.groupby(sorted(missed, key=_reason), key=_reason):
        lines.append(f"  not: {reason}: {'; '.join(case.entry.sql[:60] for case in some)}")
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, ""]))
    assert share >= SHARE_OF_REPLICAS


def _reason(case: Case) -> str:
    return case.decision.reason.value


@pytest.mark.once
@pytest.mark.parametrize("target", ["replica", "primary"])
def test_a_proxy_decides_so_and_no_client_is_refused(
    target: str, cluster: Cluster, cases: list[Case], start_proxy: Callable[..., ProxyProcess]
) -> None:
    proxy = start_proxy(
        cluster.servers, routing={"safety_net": False}, consistency={"read_your_writes": "off"}
    )
    wrong: list[Case] = []
    sent = [case for case in cases if is_sent(case.entry) and target == target_of(case)]
    for database in DATABASES:
        with Trial(proxy.dsn(db=name_of(database))) as trial:
            while trial.routed(OF_USERS)[2] != KNOWN_TO_BE:
                time.sleep(0.01)  # pytest's timeout ends it
            for case in sent:
                if case.entry.database != database:
                    continue
                answer, route, reason = trial.routed(case.entry)
                if answer.state != case.primary.state or route != target:
                    message = f"{answer.message} through the proxy, {route}: {reason}"
                    wrong.append(replace(case, standby=replace(answer, message=message)))
    assert not wrong, told(wrong)
    assert len(sent) > 400


def target_of(case: Case) -> str:
    return "replica" if case.goes_to_replica else "primary"


def is_sent(entry: Entry) -> bool:
    """Whether it can be sent through a proxy without being undone, and the proxy knows the path: to
    one with other names than plain ones it gives no meaning."""
    return (
        first_word(entry.sql.encode()).lower() in QUERIES
        and not LASTING.search(entry.sql)
        and (entry.path == DEFAULT_PATH or all(name.isidentifier() for name in entry.path))
    )
