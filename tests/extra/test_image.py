"""The image of deploy/Dockerfile: what is in it, and that it works as a pod would run it."""

import asyncio
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import psycopg
import pytest

import pgproxy
from pgproxy.embedded import Cluster
from tests.fakes.kube_api import FakeKubeApi
from tests.support.container import Container, command, status_of
from tests.support.image import MissingToolError, as_root, base_size, built, prepare, size_of
from tests.support.kube import mount
from tests.support.proxy import HOST
from tests.support.watch import eventually, has_a_reader

# The first to want the image has it built, by a compiler if nothing else has compiled.
pytestmark = pytest.mark.timeout(1200)

MIB: Final = 1 << 20
SITE: Final = "opt/pgproxy/lib/python3.11/site-packages"
NOT_WANTED: Final = "cc gcc g++ cpp ld as make pip pip3 git curl wget"
SERVICE_ACCOUNT: Final = "/run/secrets/kubernetes.io/serviceaccount"  # /var/run leads there


class Image:
    """Its files, and what it says of itself."""

    def __init__(self, root: Path, config: dict[str, Any]) -> None:
        self.root: Final = root
        self.config: Final = config

    def start(
        self, environment: dict[str, str], folders: dict[Path, str] | None = None
    ) -> Container:
        """`pgproxy serve` on ports that the system picks."""
        return Container.run(
            self.root,
            self.config,
            environment={
                "PGPROXY_LISTEN__HOST": HOST,
                "PGPROXY_LISTEN__PORT": "0",
                "PGPROXY_LISTEN__DRAIN_ACCEPT_SECONDS": "0",
                "PGPROXY_HTTP__HOST": HOST,
                "PGPROXY_HTTP__PORT": "0",
                "PGPROXY_LOG__FORMAT": "json",
            }
            | environment,
            folders=folders,
        )

    def say(self, *arguments: str) -> str:
        """What the entry point prints."""
        done = subprocess.run(
            command(self.root, self.config, arguments),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        return done.stdout

    def find(self, *expression: str) -> list[str]:
        """Paths in it."""
        done = subprocess.run(
            as_root("find", ".", "-xdev", *expression),
            check=True,
            cwd=self.root,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout.split("\n")[:-1]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    try:
        with built() as (store, tag), store.mounted(tag) as root:
            yield Image(root, store.config(tag))
    except MissingToolError as missing:
        pytest.fail(str(missing))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder that another user may read, to be mounted."""
    tmp_path.chmod(0o755)
    return tmp_path


def test_it_says_what_it_is(image: Image) -> None:
    config = image.config
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"]) == (["pgproxy"], ["serve"])
    assert sorted(config["ExposedPorts"]) == ["5432/tcp", "9930/tcp"]
    assert config["StopSignal"] == "SIGTERM"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == pgproxy.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.say("--version") == f"pgproxy {pgproxy.__version__} (compiled)\n"


def test_it_is_small(image: Image) -> None:
    own = size_of(image.root) - base_size()
    assert 50 * MIB < own < 300 * MIB, own


def test_what_built_it_has_stayed_behind(image: Image) -> None:
    (folders,) = [entry[5:] for entry in image.config["Env"] if entry.startswith("PATH=")]
    names = {
        path.name
        for folder in folders.split(":")
        for path in (image.root / folder.lstrip("/")).glob("*")
    }
    assert names & set(NOT_WANTED.split()) == set()
    assert {"pgproxy", "python3"} <= names
    packages = {path.name for path in (image.root / SITE).iterdir()}
    assert packages & {"pip", "setuptools", "mypy", "wheel", "pytest"} == set()


def test_nothing_in_it_gives_rights_or_can_be_changed(image: Image) -> None:
    assert image.find("-type", "f", "-perm", "/6000") == []
    assert image.find("!", "-user", "root", "-path", "./opt/*") == []
    assert image.find("-path", "./opt/*", "!", "-type", "l", "-perm", "/022") == []
    assert image.find("-path", "./opt/*", "!", "-type", "l", "!", "-perm", "-004") == []


def test_each_module_of_ours_is_there_as_byte_code(image: Image) -> None:
    """On a read-only root it would be compiled at each start otherwise."""
    for path in (image.root / SITE / "pgproxy").rglob("*.py"):
        assert list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc")), path


def test_licences_are_kept(image: Image) -> None:
    """Of pgproxy, and whatever a wheel has brought."""
    (ours,) = (image.root / SITE).glob("pgproxy-*.dist-info/licenses/LICENSE")
    assert "Apache License" in ours.read_text()
    distributions = {path.name for path in (image.root / SITE).glob("*.dist-info")}
    for wheel in (prepare() / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
        wanted = [
            name
            for name in names
            if name.parts[0] in distributions
            and name.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE"))
        ]
        assert [name for name in wanted if not (image.root / SITE / name).exists()] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_and_drains(image: Image, cluster: Cluster, secret: Path, workers: int) -> None:
    """With variables and a Secret, as nobody in particular, where nothing can be written."""
    (secret / "username").write_text("postgres\n")
    (secret / "password").write_text("through the proxy\n")
    backends = [{"host": server.host, "port": server.port} for server in cluster.servers]
    proxy = image.start(
        {
            "PGPROXY_LISTEN__WORKERS": str(workers),
            "PGPROXY_DISCOVERY__BACKENDS": json.dumps(backends),
            "PGPROXY_AUTH__USERS_DIRS": '["/etc/pgproxy/postgres"]',
        },
        {secret: "/etc/pgproxy/postgres"},
    )
    proxy.wait_started(60)
    with proxy:
        status = status_of(proxy.first.pid)
        assert status["Uid"].split() == ["10001"] * 4
        assert status["Groups"] == ""
        assert (status["NoNewPrivs"], int(status["CapEff"], 16)) == ("1", 0)
        with psycopg.connect(
            host=HOST, port=proxy.port, user="postgres", password="through the proxy"
        ) as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
            assert connection.execute("SELECT 1 + 1").fetchone() == (2,)
        assert proxy.wait_event("listening")["mode"] == "compiled"
    # It has been told by SIGTERM, and has ended with 0.


async def test_its_first_process_heeds_a_signal_before_it_serves(
    image: Image, secret: Path
) -> None:
    """A pipe that nobody writes to holds the start up where the users are read."""
    pipe = secret / "users.txt"
    os.mkfifo(pipe)
    proxy = image.start(
        {
            "PGPROXY_AUTH__USERS_FILE": "/etc/pgproxy/secret/users.txt",
            "PGPROXY_DISCOVERY__BACKENDS": f'[{{"host": "{HOST}"}}]',
        },
        {secret: "/etc/pgproxy/secret"},
    )
    try:
        await eventually(lambda: has_a_reader(pipe))
        proxy.terminate()
        await asyncio.to_thread(proxy.wait_end)
    finally:
        if proxy.process.returncode is None:
            proxy.kill9()


async def test_it_follows_pods(image: Image, cluster: Cluster, secret: Path) -> None:
    """With what is left of the Kubernetes client, and the service account of a pod."""
    async with FakeKubeApi() as api:
        await mount(api, secret)
        for server in cluster.servers:
            role = "primary" if server is cluster.primary else "replica"
            labels = {"app": "db", "role": role}
            await api.create_pod(server.name, labels, ip=server.host, port=server.port)
        host, _, port = api.url.removeprefix("https://").partition(":")
        proxy = image.start(
            {
                "KUBERNETES_SERVICE_HOST": host,
                "KUBERNETES_SERVICE_PORT": port,
                "PGPROXY_AUTH__METHOD": "trust",
                "PGPROXY_DISCOVERY__MODE": "kubernetes",
                "PGPROXY_DISCOVERY__KUBERNETES": json.dumps(
                    {
                        "selector": "app=db",
                        "role_label": "role",
                        "primary_values": ["primary"],
                        "replica_values": ["replica"],
                        "port": "postgresql",
                    }
                ),
            },
            {secret: SERVICE_ACCOUNT},
        )
        await asyncio.to_thread(proxy.wait_started, 60)
        try:
            told = json.loads((await asyncio.to_thread(proxy.get, "/status"))[1])
            roles = sorted(node["role"] for node in told["topology"])
            assert roles == ["primary", *["replica"] * len(cluster.replicas)]
        finally:
            await asyncio.to_thread(proxy.stop)
