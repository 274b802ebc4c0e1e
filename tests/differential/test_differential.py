"""The same scripts, direct and through the proxy: every frame of every answer is the same.

Through the proxy they share its pools, of two connections for each user, with twenty neighbours
who change every setting, use the same names, fail, and disconnect in the middle of everything. At
each step of a script some of them act.
"""

import re
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import Phase

from pgproxy.embedded import Cluster
from tests.differential.by_hand import SCRIPTS
from tests.differential.neighbours import Neighbours
from tests.differential.script import Script
from tests.differential.stage import OTHER, Stage
from tests.differential.strategies import scripts, transactions
from tests.support.proxy import ProxyProcess

EXAMPLES = hypothesis.settings().max_examples
# The usual run plays the same scripts each time; a deep one others.
IS_SAME = hypothesis.settings.get_current_profile_name() != "deep"
AT_EACH_STEP = 3

# Where others' use of the connection may make a difference, and why.
MAY_DIFFER: dict[str, str] = {
    "pins: sequences": "another session has written on the connection since (compatibility.md)",
}
NAMES = [
    pytest.param(name, marks=pytest.mark.xfail(reason=MAY_DIFFER[name], strict=False))
    if name in MAY_DIFFER
    else name
    for name in SCRIPTS
]

# What neighbours do not do, since the proxy still keeps the connection of a session that does it:
# twenty of them would leave nobody one.
PINS_FOR_GOOD: tuple[str, ...] = ("block",)


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with Stage(cluster) as stage:
        yield stage


@pytest.fixture(scope="module")
def pool_of_two(cluster: Cluster, stage: Stage) -> Iterator[ProxyProcess]:
    """Before a replica is read from, it shows what was committed by whoever it was."""
    with ProxyProcess.start(
        cluster.servers,
        pool={"size": 2, "wait_timeout": 20},
        consistency={"read_your_writes": "global"},
    ) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def roaming(cluster: Cluster, stage: Stage) -> Iterator[ProxyProcess]:
    """Transactions begin on a replica and go on on the primary."""
    with ProxyProcess.start(
        cluster.servers,
        pool={"size": 2, "wait_timeout": 20},
        routing={"transactions": "replica-until-write"},
        consistency={"read_your_writes": "global"},
    ) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def noise(pool_of_two: ProxyProcess) -> Iterator[Neighbours]:
    with Neighbours(pool_of_two, OTHER, without=PINS_FOR_GOOD) as neighbours:
        neighbours.act(40)
        neighbours.rest()
        yield neighbours
    assert neighbours.troubles == []


# --- alone: what differs here can be made small


@pytest.mark.parametrize("name", NAMES)
def test_by_hand_alone(stage: Stage, pool_of_two: ProxyProcess, name: str) -> None:
    stage.check(SCRIPTS[name], pool_of_two)


@pytest.mark.timeout(600)
@hypothesis.settings(max_examples=EXAMPLES // 5, derandomize=IS_SAME, database=None)
@hypothesis.given(script=scripts())
def test_generated_alone(stage: Stage, pool_of_two: ProxyProcess, script: Script) -> None:
    stage.check(script, pool_of_two)


# --- alone, and transactions roam


@pytest.mark.parametrize("name", NAMES)
def test_by_hand_roaming(stage: Stage, roaming: ProxyProcess, name: str) -> None:
    stage.check(SCRIPTS[name], roaming)


@pytest.mark.timeout(600)
@hypothesis.settings(max_examples=EXAMPLES // 3, derandomize=IS_SAME, database=None)
@hypothesis.given(script=transactions())
def test_generated_transactions(stage: Stage, roaming: ProxyProcess, script: Script) -> None:
    stage.check(script, roaming)


def test_transactions_move(stage: Stage, roaming: ProxyProcess) -> None:
    """Else the tests above show nothing. Some do not, where no replica is fresh enough."""
    before = _moved(roaming)
    for _ in range(20):
        stage.check(SCRIPTS["transactions: savepoints before the first write"], roaming)
        if _moved(roaming) > before:
            return
    pytest.fail("none has moved")


def _moved(proxy: ProxyProcess) -> int:
    found = re.search(
        r"^pgproxy_moved_transactions_total (\d+)", proxy.get("/metrics")[1], re.MULTILINE
    )
    assert found
    return int(found[1])


# --- among neighbours, who are never twice where they were: nothing is made smaller


@pytest.mark.parametrize("name", NAMES)
def test_by_hand(stage: Stage, pool_of_two: ProxyProcess, noise: Neighbours, name: str) -> None:
    stage.check(SCRIPTS[name], pool_of_two, lambda: noise.act(AT_EACH_STEP))


@pytest.mark.timeout(600)
@hypothesis.settings(
    max_examples=EXAMPLES // 3, phases=(Phase.generate,), derandomize=IS_SAME, database=None
)
@hypothesis.given(script=scripts())
def test_generated(
    stage: Stage, pool_of_two: ProxyProcess, noise: Neighbours, script: Script
) -> None:
    stage.check(script, pool_of_two, lambda: noise.act(AT_EACH_STEP))


def test_the_neighbours_wish_for_nothing(pool_of_two: ProxyProcess, noise: Neighbours) -> None:
    """Nobody has waited for a connection in vain; what else befell them, `noise` looks at."""
    noise.act(500)
    noise.rest()
    assert "\npgproxy_wait_timeouts_total 0.0\n" in pool_of_two.get("/metrics")[1]
    pool_of_two.check()
