"""Fixtures of every test: real PostgreSQL servers, proxies in front, no process left behind.

HYPOTHESIS_PROFILE=deep tries ten times as many examples as the default, fast.
PGPROXY_PG_BIN names the PostgreSQL to test with (default: the wheel's version 18).
"""

import faulthandler
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import hypothesis
import psutil
import pytest

from pgproxy.embedded import Cluster
from tests.support.place import cluster_parent
from tests.support.processes import Leash, wait_ended
from tests.support.proxy import ProxyProcess, started_proxies

pytest.register_assert_rewrite(
    "tests.support.comparison", "tests.support.kube_contract", "tests.support.kube_trouble"
)

# In the environment of every process that a test starts, and so in that of what those start.
_MARK: Final = "PROCESS_OF_TEST_SESSION"

# Folders whose tests take longer than others'.
_LONG: Final = frozenset({"differential", "extra", "integration"})

for _profile, _examples in (("fast", 100), ("deep", 1000)):
    hypothesis.settings.register_profile(
        _profile,
        max_examples=_examples,
        deadline=None,  # no assertion on a time
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        print_blob=True,
    )


def pytest_configure() -> None:
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
    # `kill -USR1` shows where a run that seems to hang is.
    # What a shell has had its background jobs ignore, the processes of the tests would ignore as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: _LONG.isdisjoint(item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """At the end of the session, after every other fixture's, nothing that it started may live."""
    session = secrets.token_hex(8)
    os.environ[_MARK] = session
    yield
    del os.environ[_MARK]
    # What is just ending gets its time.
    alive = wait_ended(_started_by(session), timeout=10)
    assert not alive, f"left running: {[(one.pid, ' '.join(_arguments(one))) for one in alive]}"


def _started_by(session: str) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == session:
                found.append(process)
        except psutil.Error:
            continue  # it has ended, or belongs to somebody else
    return [process for process in set(found) if process.pid != os.getpid()]


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return [str(process)]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One primary and two streaming replicas, shared: leave every server as you found it."""
    with Cluster.create(2, directory=cluster_parent()) as shared:
        yield shared


@pytest.fixture
def private_cluster() -> Iterator[Cluster]:
    """The same for one test alone, which may kill, promote and reconfigure."""
    with Cluster.create(2, directory=cluster_parent()) as own:
        yield own


@pytest.fixture
def bare_directory() -> Iterator[Path]:
    """An empty directory with a short path that every user may enter; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="test-", dir=cluster_parent()))
    leash = Leash(directory)
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)
    leash.release()


@pytest.fixture
def fresh_database(cluster: Cluster) -> Iterator[str]:
    """The name of a new, empty database of the shared cluster, visible on the replicas too."""
    name = f"test_{secrets.token_hex(6)}"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def shared_proxy(cluster: Cluster) -> Iterator[ProxyProcess]:
    """A proxy in front of the shared cluster, with nothing configured but that."""
    with ProxyProcess.start(cluster.servers) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: ProxyProcess) -> Iterator[ProxyProcess]:
    """The shared proxy; a traceback fails the test that brought it about."""
    yield shared_proxy
    shared_proxy.check()


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., ProxyProcess]]:
    """`ProxyProcess.start`, stopped (and looked at) at the end of the test if it still runs."""
    with started_proxies() as start:
        yield start
