"""Real failovers: Patroni moves the primary of three PostgreSQL servers under a mixed load.

Patroni's lock and labels live on a real kube-apiserver; pgproxy has nothing but the right to list
and watch pods. Every test prints what happened when (`-s` shows it, and a failure does).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.kube_server import KubeServer
from tests.support.ledger import INDEX, ROWS, TABLE, Audit, Books, Load
from tests.support.patroni import PatroniCluster
from tests.support.patroni_kubernetes import KubernetesDcs
from tests.support.patroni_member import Member
from tests.support.proxy import ProxyProcess
from tests.support.timeline import Timeline

pytestmark = pytest.mark.timeout(180)

_CLIENTS: Final = 32
# What a broken transaction's error may be: connection failure, or the server's own going down.
_CLEAR: Final = {"08006", "57P01", "57P02"}


@dataclass
class Stage:
    """All that a test needs."""

    patroni: PatroniCluster
    dcs: KubernetesDcs
    proxy: ProxyProcess
    timeline: Timeline
    load: Load

    def rows(self, member: Member) -> list[int]:
        """What that server has in the table."""
        return [row[0] for row in member.sql(ROWS)]

    def promoted(self, old: Member) -> tuple[Member, float]:
        """Who is primary in the place of `old`, and since when."""
        new = self.patroni.leader()
        assert new is not old
        return new, self.timeline.first(new.name, "sql", "primary")

    def show(self, books: Books, promotion: float) -> None:
        """Print what happened."""
        lines = [
            self.timeline.text(),
            f"{len(books.done)} units of work, {len(books.failures)} failed",
            *map(str, books.failures),
            f"first write {books.first_write_after(promotion):.3f} s after the promotion",
            f"no write for {books.longest_write_outage():.3f} s",
            f"longest read {books.longest_wait('read'):.3f} s",
        ]
        sys.stdout.write("\n".join(["", *lines, ""]))


Perform = Callable[..., Stage]


@pytest.fixture
def perform(kube: KubeServer, tmp_path: Path) -> Iterator[Perform]:
    """A healthy cluster, a proxy in front of its pods, and the load at work."""
    with ExitStack() as ends:

        def start(**settings: object) -> Stage:
            dcs = ends.enter_context(KubernetesDcs.create(kube.url, kube.ca, kube.admin_token))
            patroni = ends.enter_context(PatroniCluster.start(dcs, **settings))
            patroni.leader().sql(TABLE)
            patroni.leader().sql(INDEX)
            proxy = ends.enter_context(
                ProxyProcess.start([], **dcs.discovery(patroni.members[0].port, tmp_path))
            )
            timeline = ends.enter_context(Timeline(dcs, patroni.members))
            load = Load(proxy.dsn(), _CLIENTS)
            ends.callback(load.stop)
            load.start(writes=200)
            return Stage(patroni, dcs, proxy, timeline, load)

        yield start


@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
def test_switchover_fails_no_transaction(perform: Perform, synchronous: bool) -> None:
    stage = perform(synchronous_mode=synchronous)
    old, candidate = stage.patroni.leader(), stage.patroni.replicas()[0]

    began = stage.timeline.mark("switchover")
    stage.patroni.switchover(candidate)
    stage.timeline.wait(candidate.name, "sql", "primary")
    stage.load.wait_writes(500)
    stage.patroni.wait_healthy()
    stage.timeline.mark("healthy")
    stage.load.wait_writes(500)
    books = stage.load.stop()

    new, promotion = stage.promoted(old)
    stage.show(books, promotion)
    assert new is candidate
    # What there is to go by: the old primary's label outlives its sessions; no other comes before.
    order = [
        stage.timeline.first(old.name, "sql", "lost", began),
        stage.timeline.first(old.name, "label", "-", began),
        stage.timeline.first(new.name, "label", "primary", began),
        stage.timeline.first(old.name, "sql", "standby", began),
    ]
    assert order == sorted(order)
    # A commit that waits for its standby when PostgreSQL is stopped ends with a WARNING: it is done,
    # and may be on no other server. Whoever was in it, hardly ever anybody, cannot be told more.
    in_doubt = [
        failure
        for failure in books.failures
        if synchronous and failure.at_commit and failure.sqlstate == "08006"
    ]
    assert [failure for failure in books.failures if failure not in in_doubt] == []
    assert books.audit(stage.rows(new)) == Audit()


def test_kill_9_of_the_primary_fails_what_was_in_flight_alone(perform: Perform) -> None:
    stage = perform(synchronous_mode=True)
    old = stage.patroni.leader()

    stage.timeline.mark("kill -9")
    stage.patroni.kill9(old)
    killed = stage.timeline.mark("killed")
    stage.load.wait_writes(500)
    stage.timeline.mark("writes again")
    books = stage.load.stop()

    new, promotion = stage.promoted(old)
    stage.show(books, promotion)
    assert_in_flight_alone(books, killed)
    assert books.audit(stage.rows(new)) == Audit()
    # Writes resumed behind the promotion, and the pod that is gone kept its label.
    resumed = promotion + books.first_write_after(promotion)
    assert killed < stage.timeline.first(new.name, "label", "primary") < resumed
    assert stage.timeline.state(old.name, "label") == "primary"


@pytest.mark.parametrize("how", ["freezes and thaws", "loses its Patroni"])
def test_an_old_primary_that_answers_gets_no_write(perform: Perform, how: str) -> None:
    # Without synchronous_mode the one that thaws could acknowledge writes, if it were asked. With it
    # the one that never stopped cannot, once its standby has been promoted: so nothing gets lost.
    synchronous = how == "loses its Patroni"
    stage = perform(synchronous_mode=synchronous)
    old = stage.patroni.leader()

    stage.timeline.mark(how)
    if how == "freezes and thaws":
        stage.patroni.freeze(old)
    else:
        stage.patroni.kill9_patroni(old)
    frozen = stage.timeline.mark("done")
    new = stage.patroni.wait_other_leader(old)
    stage.timeline.wait(new.name, "sql", "primary")
    promotion = stage.timeline.first(new.name, "sql", "primary")
    stage.load.wait_writes(500)
    seen = stage.timeline.mark("writes go to the new primary")
    if how == "freezes and thaws":
        stage.patroni.thaw(old, patroni=False)
        stage.timeline.wait(old.name, "sql", "primary")  # it answers again, and believes to be it
    assert stage.timeline.state(old.name, "label") == "primary"
    assert old.sql("SELECT pg_is_in_recovery()") == [(False,)]
    stage.load.wait_writes(500)
    books = stage.load.stop()

    stage.show(books, promotion)
    assert_in_flight_alone(books, seen)
    audit = books.audit(stage.rows(new))
    assert (audit.doubled, audit.unexplained) == ((), ())
    # What no standby had yet is what asynchronous replication costs, whoever stands in front. A
    # client may read late that its write was acknowledged, but not once there is another primary.
    early = {
        row
        for done in books.done
        if done.began < frozen and done.acknowledged < promotion
        for row in done.rows
    }
    assert set(audit.lost) <= (set() if synchronous else early)
    later = {row for done in books.done if done.began > seen for row in done.rows}
    assert later
    assert later.isdisjoint(stage.rows(old))


def assert_in_flight_alone(books: Books, moment: float) -> None:
    """What failed had begun before `moment`; each client was told once, clearly, and went on."""
    for failure in books.failures:
        assert failure.statement != "connect", failure
        assert not failure.client.startswith(("read", "idle")), failure
        assert failure.began < moment, failure
        assert failure.sqlstate in _CLEAR, failure
        assert failure.detail, failure
    clients = [failure.client for failure in books.failures]
    assert len(clients) == len(set(clients)), clients
    for client in clients:
        assert any(done.client == client and done.began > moment for done in books.done), client
