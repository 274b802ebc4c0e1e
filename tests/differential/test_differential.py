"""The same scripts, direct and through the proxy: every frame of every answer is the same.

Through the proxy they share its pools, of two connections for each user, with twenty neighbours
who change every setting, use the same names, fail, and disconnect in the middle of everything. At
each step of a script some of them act.
"""

from collections.abc import Iterator

import hypothesis
import pytest

from pgproxy.embedded import Cluster
from tests.differential.by_hand import SCRIPTS
from tests.differential.neighbours import Neighbours
from tests.differential.script import Script
from tests.differential.stage import OTHER, Stage
from tests.differential.strategies import scripts
from tests.support.proxy import ProxyProcess

EXAMPLES = hypothesis.settings().max_examples
AT_EACH_STEP = 3

# After these the proxy still keeps a session's connection until it leaves: twenty who do them would
# leave nobody a connection.
PINS_FOR_GOOD = ("prepare_in_sql", "block")


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with Stage(cluster) as stage:
        yield stage


@pytest.fixture(scope="module")
def shared_pool(cluster: Cluster, stage: Stage) -> Iterator[ProxyProcess]:
    """Before a replica is read from, it shows what was committed by whoever it was."""
    with ProxyProcess.start(
        cluster.servers,
        pool={"size": 2, "wait_timeout": 20},
        consistency={"read_your_writes": "global"},
    ) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def noise(shared_pool: ProxyProcess) -> Iterator[Neighbours]:
    with Neighbours(shared_pool, OTHER, without=PINS_FOR_GOOD) as neighbours:
        neighbours.act(40)
        neighbours.rest()
        yield neighbours
    assert not neighbours.troubles


@pytest.mark.parametrize("name", SCRIPTS)
def test_by_hand(stage: Stage, shared_pool: ProxyProcess, noise: Neighbours, name: str) -> None:
    stage.check(SCRIPTS[name], shared_pool, lambda: noise.act(AT_EACH_STEP))
    shared_pool.check()


@pytest.mark.timeout(600)  # what fails is made smaller
@hypothesis.settings(max_examples=EXAMPLES // 2)
@hypothesis.given(script=scripts())
def test_generated(
    stage: Stage, shared_pool: ProxyProcess, noise: Neighbours, script: Script
) -> None:
    stage.check(script, shared_pool, lambda: noise.act(AT_EACH_STEP))
    shared_pool.check()


def test_the_neighbours_did_what_neighbours_do(
    stage: Stage, shared_pool: ProxyProcess, noise: Neighbours
) -> None:
    """And are treated as one would wish: see `noise`. Nobody waited for a connection in vain."""
    noise.act(1000)
    noise.rest()
    assert "\npgproxy_wait_timeouts_total 0.0\n" in shared_pool.get("/metrics")[1]
    shared_pool.check()
