"""The comparison itself: blind to what has to differ, and to nothing else."""

import asyncio
import dataclasses
from collections.abc import Iterator

import hypothesis
import pytest

from pgproxy.embedded import Cluster
from tests.differential.player import Answer, Transcript
from tests.differential.script import Script, ask
from tests.differential.stage import Stage, difference
from tests.differential.strategies import scripts

EXAMPLES = hypothesis.settings.default.max_examples if hypothesis.settings.default else 100


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with Stage(cluster) as stage:
        yield stage


@pytest.mark.timeout(600)  # what fails is made smaller
@hypothesis.settings(max_examples=EXAMPLES // 2)
@hypothesis.given(script=scripts())
def test_two_databases_say_the_same(cluster: Cluster, stage: Stage, script: Script) -> None:
    assert not stage.difference(script, cluster.primary)
