"""These tests need more than PyPI gives: `make test-all`, with what .ci/run installs.

A program that is missing fails its test, with a word on what to install: nobody who asks for these
tests wants them left out in silence.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from pgproxy.embedded import Cluster
from tests.support.comparison import ROLE, Comparison, compare
from tests.support.kube_admin import LABEL_ACCOUNT, LABEL_RBAC, RealKubeApi
from tests.support.kube_assets import MissingAssetsError
from tests.support.kube_server import KubeServer
from tests.support.proxy import started_proxies

HERE: Final = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by the mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.extra)


Compare = Callable[..., Comparison]


@pytest.fixture(scope="module")
def compared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compare]:
    """`comparison.compare`, which is done once for each command: a section is a test.

    One that failed as a whole fails for each of its sections, without being run again.
    """
    done: dict[str, Comparison | BaseException] = {}
    cluster.primary.psql(f"CREATE ROLE {ROLE}")

    def get(command: list[str], **options: Any) -> Comparison:
        key = repr((command, options))
        if key not in done:
            try:
                with started_proxies() as start:
                    directory = tmp_path_factory.mktemp("program")
                    done[key] = compare(command, cluster, start, directory, **options)
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - raised for each section
                done[key] = error
        result = done[key]
        if isinstance(result, BaseException):
            raise result
        return result

    yield get
    cluster.primary.psql(f"DROP ROLE {ROLE}")


@pytest.fixture(scope="session")
def kube() -> Iterator[KubeServer]:
    """A kube-apiserver with its etcd, shared: a test takes a namespace of it, `kube_api`."""
    try:
        server = KubeServer.start()
    except MissingAssetsError as missing:
        pytest.fail(str(missing))
    with server:
        yield server


@pytest_asyncio.fixture
async def kube_api(kube: KubeServer) -> AsyncIterator[RealKubeApi]:
    """A namespace with the ServiceAccount and Role of deploy/. A test may stop the server, and worse."""
    async with RealKubeApi(kube) as api:
        yield api
    if not kube.running:
        kube.start_apiserver()


@pytest_asyncio.fixture
async def label_api(kube: KubeServer) -> AsyncIterator[RealKubeApi]:
    """The same with the ServiceAccount and Role of `pgproxy label`."""
    async with RealKubeApi(kube, LABEL_RBAC.read_text(), LABEL_ACCOUNT) as api:
        yield api
    if not kube.running:
        kube.start_apiserver()
