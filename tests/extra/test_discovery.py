"""Real failovers without Kubernetes: Patroni on etcd moves the primary, and two proxies follow.

One asks Patroni's REST API, the other a nameserver that tells addresses and nothing of roles. Both
have a load of their own. What happened when is printed (`-s` shows it, and a failure does).
"""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest

from tests.support.kube_assets import MissingAssetsError
from tests.support.ledger import INDEX, ROWS, TABLE, Audit, Books, Load
from tests.support.nameserver import MissingNameserverError, Nameserver
from tests.support.patroni import PatroniCluster
from tests.support.patroni_etcd import EtcdDcs, rest_discovery
from tests.support.patroni_member import Member
from tests.support.proxy import ProxyProcess
from tests.support.timeline import Timeline

pytestmark = pytest.mark.timeout(240)

_NAME: Final = "pg.test"
_CLIENTS: Final = 16
_IN_RECOVERY: Final = "SELECT pg_is_in_recovery()"
# Rows of one load begin here, those of the next a hundred million later.
_FIRST: Final = {"patroni": 1, "dns": 100_000_001}
# What a broken transaction's error may be: connection failure, or the server's own going down.
_CLEAR: Final = {"08006", "57P01", "57P02"}


@dataclass
class Stage:
    dcs: EtcdDcs
    patroni: PatroniCluster
    nameserver: Nameserver
    timeline: Timeline
    proxies: dict[str, ProxyProcess]

    def work(self) -> dict[str, Load]:
        """A load on each proxy, at work."""
        self.patroni.leader().sql(f"DROP TABLE IF EXISTS ledger; {TABLE}; {INDEX}")
        loads = {
            mode: Load(proxy.dsn(), _CLIENTS, first=_FIRST[mode])
            for mode, proxy in self.proxies.items()
        }
        for load in loads.values():
            load.start(writes=100)
        return loads

    def publish(self, *members: Member) -> None:
        """These are the records from now on."""
        self.nameserver.addresses(_NAME, *[member.host for member in members])

    def status(self, mode: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.proxies[mode].get("/status")[1])
        return found

    def nodes(self, mode: str) -> dict[str, str]:
        """Roles by address, the one thing that both modes know a server by."""
        return {node["host"]: node["role"] for node in self.status(mode)["topology"]}

    def wait_roles(self, primary: Member, *replicas: Member) -> None:
        """Wait until both proxies use exactly these."""
        wanted = {primary.host: "primary"} | {member.host: "replica" for member in replicas}

        def are_so() -> bool:
            used = [
                {host: role for host, role in self.nodes(mode).items() if role != "none"}
                for mode in self.proxies
            ]
            return used == [wanted] * len(used)

        self.patroni.wait(are_so, f"roles {wanted}")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with ExitStack() as ends:
        try:
            nameserver = ends.enter_context(Nameserver.start())
            dcs = ends.enter_context(EtcdDcs.start())
        except (MissingAssetsError, MissingNameserverError) as missing:
            pytest.fail(str(missing))
        patroni = ends.enter_context(PatroniCluster.start(dcs, synchronous_mode=True))
        nameserver.addresses(_NAME, *[member.host for member in patroni.members])
        # One member is enough to find the others: the one that will not be there in the end.
        sections: dict[str, dict[str, Any]] = {
            "patroni": rest_discovery(patroni.replicas()[:1]),
            "dns": {
                "listen": {"workers": 2},
                "discovery": {"mode": "dns"},
                "discovery.dns": {
                    "names": [_NAME],
                    "port": patroni.members[0].port,
                    "nameservers": [nameserver.address],
                },
            },
        }
        proxies = {
            mode: ends.enter_context(ProxyProcess.start([], **chosen))
            for mode, chosen in sections.items()
        }
        timeline = ends.enter_context(Timeline(None, patroni.members))
        yield Stage(dcs, patroni, nameserver, timeline, proxies)


def test_a_switchover_and_then_kill_9_of_the_primary(stage: Stage) -> None:
    patroni, timeline = stage.patroni, stage.timeline
    heir = patroni.replicas()[0]
    loads = stage.work()

    began = timeline.mark("switchover")
    patroni.switchover(heir)
    timeline.wait(heir.name, "sql", "primary")
    for load in loads.values():
        load.wait_writes(200)
    patroni.wait_healthy()
    stage.wait_roles(heir, *[one for one in patroni.members if one is not heir])
    assert stage.status("patroni")["discovery"]["roles_by"] == "leader"
    promoted = timeline.first(heir.name, "sql", "primary", began)

    kill = timeline.mark("kill -9")
    patroni.kill9(heir)
    killed = timeline.mark("killed")
    stage.dcs.expire(heir)
    new = patroni.wait_other_leader(heir)
    timeline.wait(new.name, "sql", "primary")
    third = next(one for one in patroni.members if one not in (heir, new))
    stage.publish(third, new)  # as the endpoints of a headless Service
    gone = [f"{heir.host}:{heir.port}"]
    patroni.wait(lambda: stage.status("dns")["discovery"]["leaving"] == gone, "follower of DNS")
    for load in loads.values():
        load.wait_writes(200)
    promoted_again = timeline.first(new.name, "sql", "primary", killed)

    timeline.mark("back")
    patroni.start_member(heir)
    patroni.wait_healthy()
    stage.publish(*patroni.members)
    stage.wait_roles(new, heir, third)
    for load in loads.values():
        load.wait_writes(100)
    books = {mode: load.stop() for mode, load in loads.items()}

    sys.stdout.write(f"\n{timeline.text(began)}\n")
    rows = [row[0] for row in new.sql(ROWS)]
    for mode, one in books.items():
        _show(mode, one, promoted, promoted_again)
        _assert_in_flight_alone(one, kill, killed)
        assert one.audit(_own(mode, rows)) == Audit(), mode


def test_a_dcs_that_is_away_takes_no_server_away(stage: Stage) -> None:
    """Patroni's members then answer nothing, and demote the primary, whom nobody may promote anew."""
    patroni = stage.patroni
    stage.dcs.freeze()
    try:
        patroni.wait(lambda: bool(stage.status("patroni")["discovery"]["failing"]), "silence")
        patroni.wait(lambda: all(_ask(one, _IN_RECOVERY) for one in patroni.members), "demotion")
        for mode, proxy in stage.proxies.items():
            assert stage.status(mode)["discovery"]["backends"] == 3
            assert _ask(proxy, _IN_RECOVERY) is True
    finally:
        stage.dcs.thaw()
    patroni.wait_healthy()
    stage.wait_roles(patroni.leader(), *patroni.replicas())
    for proxy in stage.proxies.values():
        assert _ask(proxy, f"{_IN_RECOVERY} FROM pg_class LIMIT 1 FOR UPDATE") is False


def _ask(one: Member | ProxyProcess, sql: str) -> object:
    """The value that a new session gets; None if there is none to be had."""
    try:
        with psycopg.connect(one.dsn(), autocommit=True, connect_timeout=5) as connection:
            row = connection.execute(sql.encode()).fetchone()
    except psycopg.OperationalError:
        return None
    assert row is not None
    return row[0]


def _own(mode: str, rows: list[int]) -> list[int]:
    first = _FIRST[mode]
    return [row for row in rows if first <= row < first + 100_000_000]


def _show(mode: str, books: Books, promoted: float, promoted_again: float) -> None:
    lines = [
        f"{mode}: {len(books.done)} units of work, {len(books.failures)} failed",
        *map(str, books.failures),
        f"first write {books.first_write_after(promoted):.3f} s after the promotion at the switchover,"
        f" {books.first_write_after(promoted_again):.3f} s after the one at kill -9",
        f"no write for {books.longest_write_outage():.3f} s",
    ]
    sys.stdout.write("\n".join(["", *lines, ""]))


def _assert_in_flight_alone(books: Books, kill: float, killed: float) -> None:
    """What failed was in flight at the kill; each client was told clearly, and went on.

    At the switchover nothing fails but, rarely, a commit that waits for its standby when PostgreSQL is
    stopped: it ends with a WARNING, and nobody knows more.
    """
    for failure in books.failures:
        assert failure.statement != "connect", failure
        assert not failure.client.startswith(("read", "idle")), failure
        assert failure.began < killed, failure
        assert failure.failed > kill or failure.at_commit, failure
        assert failure.sqlstate in _CLEAR, failure
        assert failure.detail, failure
    for client in {failure.client for failure in books.failures}:
        assert any(done.client == client and done.began > killed for done in books.done), client
