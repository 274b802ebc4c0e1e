"""These tests need more than PyPI gives: `make test-all`, with what .ci/run installs.

A program that is missing fails its test, with a word on what to install: nobody who asks for these
tests wants them left out in silence.
"""

import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from pgproxy.embedded import Cluster, Server
from tests.support.kube_admin import RealKubeApi
from tests.support.kube_assets import MissingAssetsError
from tests.support.kube_server import KubeServer
from tests.support.proxy import ProxyProcess
from tests.support.serving import without_libpq_settings

HERE: Final = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by the mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.extra)


Compare = Callable[..., dict[str, Any]]


@pytest.fixture
def same_results(
    cluster: Cluster, start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> Iterator[Compare]:
    """Runs a driver's program in a new database, directly and through a proxy.

    The proxy has `pool_size` connections to each server. The program gets the database's URL as its last
    argument and prints a JSON object, the results of its sections. They must be the same both
    times; returns them.
    """
    databases: list[str] = []

    def run(command: list[str], to: Server | ProxyProcess) -> dict[str, Any]:
        name = f"drivers_{secrets.token_hex(4)}"
        databases.append(name)
        cluster.primary.psql(f"CREATE DATABASE {name}")
        cluster.wait_caught_up()
        done = subprocess.run(
            [*command, to.dsn(db=name)],
            check=False,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=100,
            env=without_libpq_settings(),
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def compare(command: list[str], pool_size: int = 2) -> dict[str, Any]:
        direct = run(command, cluster.primary)
        # The programs read on one connection what they wrote on another.
        whole = {"read_your_writes": "global"}
        proxy = start_proxy(cluster.servers, pool={"size": pool_size}, consistency=whole)
        proxied = run(command, proxy)
        for section, result in direct.items():
            assert proxied[section] == result, section
        assert proxied == direct
        return direct

    yield compare
    for name in databases:
        cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


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
