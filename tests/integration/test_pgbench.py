"""pgbench through the proxy: no errors, and the balances add up."""

import re
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from pgproxy.embedded import Cluster
from pgproxy.embedded.server import environment
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.once

CLIENTS: Final = 64
SIZE: Final = 20
MODES: Final = ("simple", "extended", "prepared")


@pytest.fixture(scope="module")
def pooled(cluster: Cluster) -> Iterator[ProxyProcess]:
    with ProxyProcess.start(cluster.servers, pool={"size": SIZE}) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def database(cluster: Cluster, pooled: ProxyProcess) -> Iterator[str]:
    name = "bench"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    cluster.wait_caught_up()
    # It drops, creates, fills by COPY, vacuums and adds keys.
    pgbench(cluster, pooled, name, "-i", "-s", "1", "-q")
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


def pgbench(cluster: Cluster, proxy: ProxyProcess, database: str, *arguments: str) -> str:
    """What it writes. It says there how many transactions failed; any complaint is an error."""
    command = [str(cluster.installation.tool("pgbench")), *arguments]
    command += ["-h", proxy.host, "-p", str(proxy.port), "-U", "postgres", database]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"error|fatal|aborted", done.stderr, re.IGNORECASE), done.stderr
    return done.stdout


def transactions(output: str) -> int:
    """How many there were, none of which has failed."""
    assert re.search(r"^number of failed transactions: 0 ", output, re.MULTILINE), output
    found = re.search(r"^number of transactions actually processed: (\d+)", output, re.MULTILINE)
    assert found, output
    return int(found[1])


@pytest.mark.parametrize("mode", MODES)
def test_balances_add_up(cluster: Cluster, pooled: ProxyProcess, database: str, mode: str) -> None:
    primary = cluster.primary
    before = int(primary.psql("SELECT count(*) FROM pgbench_history", database))
    options = ["-n", "-M", mode, "-c", str(CLIENTS), "-j", "2", "-T", "5"]
    done = transactions(pgbench(cluster, pooled, database, *options))
    assert done > 0
    # Each was carried out, and exactly once.
    count = int(primary.psql("SELECT count(*) FROM pgbench_history", database))
    assert count - before == done
    sums = primary.psql(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts),"
        " (SELECT sum(bbalance) FROM pgbench_branches),"
        " (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(delta) FROM pgbench_history)",
        database,
    )
    assert len(set(sums.split("|"))) == 1, sums
    pooled.check()


@pytest.mark.parametrize("mode", MODES)
def test_reads_are_spread_over_the_replicas(
    cluster: Cluster, pooled: ProxyProcess, database: str, mode: str
) -> None:
    def leases() -> dict[str, float]:
        metrics = pooled.get("/metrics")[1]
        found = re.findall(r'^pgproxy_leases_total\{backend="(.+)"\} (\S+)', metrics, re.MULTILINE)
        return {name: float(value) for name, value in found}

    before = leases()
    options = ["-n", "-S", "-M", mode, "-c", str(CLIENTS), "-j", "2", "-t", "40"]
    output = pgbench(cluster, pooled, database, *options)
    assert transactions(output) == CLIENTS * 40
    after = leases()
    given = {name: after[name] - before.get(name, 0) for name in after}
    assert given["replica-1"] + given["replica-2"] >= CLIENTS * 40
    assert min(given["replica-1"], given["replica-2"]) > 0
    pooled.check()
