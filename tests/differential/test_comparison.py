"""The comparison itself: blind to what has to differ, and to nothing else."""

import asyncio
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from pgproxy.embedded import Cluster
from tests.differential.by_hand import SCRIPTS
from tests.differential.player import Transcript, play, shown
from tests.differential.script import SYNC, Script, ask, connect, run, say
from tests.differential.stage import DIRECT, OTHER, Stage, difference
from tests.differential.strategies import scripts
from tests.support.wire import Address

EXAMPLES = hypothesis.settings().max_examples


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with Stage(cluster) as stage:
        yield stage


# --- what must not be found


@pytest.mark.timeout(600)  # what fails is made smaller
@hypothesis.settings(max_examples=EXAMPLES // 4)
@hypothesis.given(script=scripts())
def test_two_databases_say_the_same(cluster: Cluster, stage: Stage, script: Script) -> None:
    stage.check(script, cluster.primary)


@pytest.mark.parametrize("name", SCRIPTS)
def test_they_do_in_what_was_written_by_hand(cluster: Cluster, stage: Stage, name: str) -> None:
    stage.check(SCRIPTS[name], cluster.primary)
