"""A real etcd as Patroni's DCS, on loopback, with its data in a temporary directory.

    with EtcdDcs.start() as dcs, PatroniCluster.start(dcs) as patroni:
        ...

The program is that of the API server's tests (kube_assets.py).
"""

import base64
import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.support.kube import reserved_port
from tests.support.kube_assets import find_assets
from tests.support.patroni import SCOPE
from tests.support.patroni_member import Member
from tests.support.place import cluster_parent
from tests.support.processes import Closing, Leash

_START_TIMEOUT: Final = 60.0  # seconds


class EtcdDcs(Closing):
    """A context manager that leaves nothing behind; use `start`."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._place: Final = reserved_port()
        self._address: Final = f"127.0.0.1:{self._place.getsockname()[1]}"
        self._log: Final = directory / "etcd.log"
        with self._log.open("wb") as log:
            self._process: Final = subprocess.Popen(
                [
                    str(find_assets() / "etcd"),
                    f"--data-dir={directory / 'etcd'}",
                    f"--listen-client-urls=http://{self._address}",
                    f"--advertise-client-urls=http://{self._address}",
                    "--socket-reuse-port",
                    "--listen-peer-urls=http://127.0.0.1:0",
                    "--unsafe-no-fsync",
                    "--log-level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
            )
        self._leash: Final = Leash(directory, self._process.pid)

    @classmethod
    def start(cls) -> Self:
        """Ready on return. Raises MissingAssetsError, or RuntimeError with what etcd said."""
        find_assets()
        dcs = cls(Path(tempfile.mkdtemp(prefix="etcd-", dir=cluster_parent())))
        try:
            dcs._wait_ready()
        except BaseException:
            dcs.close()
            raise
        return dcs

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._place.close()
        shutil.rmtree(self._directory)
        self._leash.release()

    def freeze(self) -> None:
        """It answers nothing until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def expire(self, leader: Member) -> None:
        """What happens to the keys of a dead leader after Patroni's `ttl`, which is 20 s at least."""
        for key in ("leader", f"members/{leader.name}"):
            name = base64.b64encode(f"/service/{SCOPE}/{key}".encode()).decode()
            request = urllib.request.Request(
                f"http://{self._address}/v3/kv/deleterange", data=json.dumps({"key": name}).encode()
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert json.load(answer)["deleted"] == "1", key

    # --- what PatroniCluster asks (patroni.Dcs)

    def register(self, members: list[Member]) -> None:
        """Patroni makes all that it needs."""

    def config(self, member: Member) -> Mapping[str, object]:
        """Every member's is the same."""
        return {"etcd3": {"hosts": [self._address]}}

    def environment(self, member: Member) -> Mapping[str, str]:
        """None."""
        return {}

    def _wait_ready(self) -> None:
        url = f"http://{self._address}/health"
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError as error:  # URLError is one, refused or not ready yet
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = self._log.read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"{url}: {error}\n{said}") from error
            time.sleep(0.05)


def rest_discovery(members: Sequence[Member], **settings: object) -> dict[str, dict[str, object]]:
    """The sections of pgproxy's configuration that have it ask these members."""
    urls = [f"http://{member.host}:{member.rest_port}" for member in members]
    return {"discovery": {"mode": "patroni"}, "discovery.patroni": {"urls": urls, **settings}}
