"""The reflector comes through what the fake API server does to it in the way of the real one."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fakes.kube_api import FakeKubeApi
from tests.support.kube_trouble import KubeTrouble

pytestmark = pytest.mark.once


@pytest_asyncio.fixture
async def kube_api() -> AsyncIterator[FakeKubeApi]:
    async with FakeKubeApi() as api:
        yield api


class TestOnTheFake(KubeTrouble):
    pass
