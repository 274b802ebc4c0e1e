"""SQLAlchemy's own tests do through the proxy, among noisy neighbours, what they do directly.

Through a pool of a few connections for each server, in transaction mode, which twenty others use
too. What passes directly passes through the proxy, what is skipped directly is skipped, and every
exception is named in sqlalchemy/exceptions.toml, of which docs/compatibility.md tells the reasons.

PGPROXY_SUITE=whole runs all of the suite's tests in place of `PART`. The servers are the system's:
the suite wants PostgreSQL's contributed extensions, which the wheel does not have.
"""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from tests.extra.system import system_installation
from tests.support.neighbours import NeighbourError, Neighbours
from tests.support.place import cluster_parent
from tests.support.proxy import ProxyProcess
from tests.support.sqlalchemy_suite import CONTENTS, DRIVERS, Outcome, Suite, exemptions
from tests.support.wire import Address

WHOLE: Final = os.environ.get("PGPROXY_SUITE") == "whole"
# What is closest to the database; the rest is mostly the ORM's way of using the same.
PART: Final = (
    "test/engine",
    "test/dialect/test_suite.py",
    "test/dialect/postgresql/test_dialect.py",
    "test/dialect/postgresql/test_query.py",
    "test/dialect/postgresql/test_reflection.py",
    "test/dialect/postgresql/test_on_conflict.py",
    "test/dialect/postgresql/test_async_pg.py",
    "test/sql/test_types.py",
    "test/sql/test_sequences.py",
    "test/sql/test_returning.py",
    "test/orm/test_transaction.py",
)
# It collects garbage at each step, which takes its time where all the other tests are loaded too.
ALONE: Final = "test/ext/asyncio/test_cancellation.py"
CHOSEN: Final = (("test", f"--ignore={ALONE}"), (ALONE,)) if WHOLE else (PART,)
POOL_SIZE: Final = 8
ROLE: Final = "neighbour"

pytestmark = pytest.mark.timeout(1700 if WHOLE else 500)

Outcomes = dict[str, Outcome]


class Runs:
    """Both drivers' runs of the suite, directly or through one proxy, each in a database of its own."""

    def __init__(self, suite: Suite, cluster: Cluster, proxy: ProxyProcess, place: Path) -> None:
        self._suite: Final = suite
        self._cluster: Final = cluster
        self._proxy: Final = proxy
        self._place: Final = place
        self.disturbed: Final[list[str]] = []  # what neighbours saw that was not theirs
        self.rounds = 0  # that the neighbours have made

    def directly(self, driver: str, only: list[str]) -> Outcomes:
        """How these tests end without a proxy."""
        return self._run(driver, self._cluster.primary, self._database(), only)

    def proxied(self, driver: str, only: list[str] | None = None) -> Outcomes:
        """How these tests (without `only`, all that are chosen) end through it, among others."""
        database = self._database()
        outcomes: Outcomes = {}
        neighbours = Neighbours(self._proxy, database, role=ROLE, count=20, pause=0.3)
        began = time.monotonic()
        try:
            with neighbours:
                outcomes = self._run(driver, self._proxy, database, only)
        except NeighbourError as error:
            self.disturbed.append(f"{driver}: {error}")
        took = time.monotonic() - began
        sys.stdout.write(f"{driver}: {len(outcomes)} tests in {took:.0f} s, ")
        sys.stdout.write(f"{neighbours.rounds} rounds of the neighbours\n")
        self.rounds += neighbours.rounds
        return outcomes

    def _run(
        self, driver: str, address: Address, database: str, only: list[str] | None
    ) -> Outcomes:
        chosen = CHOSEN if only is None else (sorted({test.partition("::")[0] for test in only}),)
        outcomes: Outcomes = {}
        for select in chosen:
            outcomes |= self._suite.run(
                driver,
                address,
                database,
                directory=self._place / secrets.token_hex(4),
                select=select,
                only=only,
            )
        return outcomes

    def _database(self) -> str:
        name = f"suite_{secrets.token_hex(4)}"
        self._cluster.primary.psql(f"CREATE DATABASE {name}")
        for statement in CONTENTS:
            self._cluster.primary.psql(statement, db=name)
        self._cluster.wait_caught_up()
        return name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    suite = Suite.installed()
    with Cluster.create(
        2,
        installation=system_installation(),
        settings={"max_prepared_transactions": "10"},
        directory=cluster_parent(),
    ) as cluster:
        cluster.primary.psql(f"CREATE ROLE {ROLE}")
        with ProxyProcess.start(
            cluster.servers,
            pool={"size": POOL_SIZE},
            # The suite reads on one connection what it wrote on another.
            consistency={"read_your_writes": "global"},
        ) as proxy:
            yield Runs(suite, cluster, proxy, tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def proxied(runs: Runs) -> dict[str, Outcomes]:
    """Of each driver; they run side by side."""
    with ThreadPoolExecutor(len(DRIVERS)) as threads:
        return dict(zip(DRIVERS, threads.map(runs.proxied, DRIVERS), strict=True))


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_suite_passes_through_the_proxy(
    runs: Runs, proxied: dict[str, Outcomes], driver: str
) -> None:
    outcomes = proxied[driver]
    passed = [test for test, one in outcomes.items() if one.outcome == "passed"]
    assert len(passed) > (13_000 if WHOLE else 2_000)

    odd = [test for test, one in outcomes.items() if one.outcome != "passed"]
    direct = runs.directly(driver, odd) if odd else {}
    assert direct.keys() == set(odd)
    different = {test for test in odd if direct[test].outcome != outcomes[test].outcome}
    exempt = [one for one in exemptions() if driver in one.drivers]
    excused = {test for test in different if any(one.covers(driver, test) for one in exempt)}

    # No second chance: what a session must not see of others depends on what came before, and does
    # not show when a test runs alone.
    for test in different - excused:
        sys.stdout.write(f"{test}, directly {direct[test].outcome}: {outcomes[test]}\n")
    assert different - excused == set()
    # No exception outlives its reason.
    needless = [
        one.tests
        for one in exempt
        if not one.sometimes
        and any(one.covers(driver, test) for test in outcomes)
        and not any(one.covers(driver, test) for test in excused)
    ]
    assert needless == []


def test_the_neighbours_see_nothing_of_it(runs: Runs, proxied: dict[str, Outcomes]) -> None:
    assert proxied
    assert runs.rounds > 500
    assert runs.disturbed == []
