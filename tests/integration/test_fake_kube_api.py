"""The fake API server keeps the contract that the real one has shown, and its faults are as told."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.fakes.kube_api import FakeKubeApi
from tests.support.kube_contract import KubeContract


@pytest_asyncio.fixture
async def kube_api() -> AsyncIterator[FakeKubeApi]:
    async with FakeKubeApi() as api:
        yield api


class TestTheFake(KubeContract):
    pass
