"""A real kube-apiserver with its etcd, on loopback, in a temporary directory.

    with KubeServer.start() as server:
        server.url, server.ca, server.admin_token

No kubelet, scheduler or controller runs: tests write what those would. Everything here blocks.
"""

import base64
import csv
import json
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.support.kube import reserved_port
from tests.support.kube_assets import find_assets
from tests.support.place import cluster_parent
from tests.support.processes import Closing, Leash

_START_TIMEOUT: Final = 60.0  # seconds; it takes four on a quiet machine
_LEEWAY: Final = 60  # seconds for which a token is believed after it expired

# Requests of everybody but the administrator and the server itself are written down.
_AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["admin", "system:apiserver"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["pods"]}]},
        {"level": "None"},
    ],
}


class KubeServer(Closing):
    """See the module. Made by `start`; a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self.admin_token: Final = secrets.token_hex(16)
        """Of a user who may do everything."""
        self._bin: Final = find_assets()
        self._place: Final = reserved_port()
        self.port: Final[int] = self._place.getsockname()[1]
        self._etcd_place: Final = reserved_port()
        self._etcd_url: Final = f"http://127.0.0.1:{self._etcd_place.getsockname()[1]}"
        self._key: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        authority = trustme.CA()
        self.ca: Final = authority.cert_pem.bytes()
        self._tls: Final = ssl.create_default_context(cadata=self.ca.decode())
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(directory / "tls.pem")
        self._write_files()
        self._etcd: _Program | None = None
        self._apiserver: _Program | None = None
        self._leash = Leash(directory)

    @classmethod
    def start(cls) -> Self:
        """Both programs, ready. Raises MissingAssetsError, or RuntimeError with what they said."""
        find_assets()
        directory = Path(tempfile.mkdtemp(prefix="kube-", dir=cluster_parent()))
        server = cls(directory)
        try:
            server._start_etcd()
            server.start_apiserver()
        except BaseException:
            server.close()
            raise
        return server

    def close(self) -> None:
        self.stop_apiserver()
        self._stop_etcd()
        self._place.close()
        self._etcd_place.close()
        shutil.rmtree(self.directory)
        self._leash.release()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._apiserver is not None

    def start_apiserver(self) -> None:
        """Ready on return. It has no watch history yet: older versions get 410."""
        assert self._apiserver is None
        at = self.directory
        self._apiserver = _Program(
            [
                str(self._bin / "kube-apiserver"),
                f"--etcd-servers={self._etcd_url}",
                "--etcd-compaction-interval=0",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.port}",
                "--permit-port-sharing",  # with the socket that keeps the port for us
                f"--tls-cert-file={at / 'tls.pem'}",
                f"--tls-private-key-file={at / 'tls.pem'}",
                f"--cert-dir={at}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={at / 'sa.pem'}",
                f"--service-account-signing-key-file={at / 'sa.pem'}",
                f"--token-auth-file={at / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",  # nobody makes the default ones
                "--service-cluster-ip-range=10.0.0.0/24",
                "--endpoint-reconciler-type=none",
                f"--audit-policy-file={at / 'audit-policy.json'}",
                f"--audit-log-path={at / 'audit.log'}",
                "--audit-log-mode=blocking-strict",
            ],
            at / "kube-apiserver.log",
        )
        self._hold()
        self._wait_ready(self._apiserver, f"{self.url}/readyz")

    def stop_apiserver(self) -> None:
        """Kill it, frozen or not."""
        if self._apiserver is not None:
            self._apiserver.kill()
            self._apiserver = None

    def signal_apiserver(self, number: signal.Signals) -> None:
        assert self._apiserver is not None
        self._apiserver.process.send_signal(number)

    def lose_etcd(self) -> None:
        """Everything that was stored is gone, and revisions begin at 1. Stop the API server first."""
        assert self._apiserver is None
        self._stop_etcd()
        shutil.rmtree(self.directory / "etcd")
        self._start_etcd()

    def save_etcd(self) -> None:
        """Keep a copy of everything, for `restore_etcd`. Stop the API server first."""
        self._copy_etcd("etcd", "etcd-saved")

    def restore_etcd(self) -> None:
        """As it was at `save_etcd`, with the revisions of then. Stop the API server first."""
        self._copy_etcd("etcd-saved", "etcd")

    def compact_etcd(self) -> None:
        """Drop every revision but the last."""
        key = base64.b64encode(b"\0").decode()
        revision = self._ask_etcd("range", {"key": key})["header"]["revision"]
        self._ask_etcd("compaction", {"revision": revision, "physical": True})

    def audit_log(self) -> list[dict[str, Any]]:
        """The audit events of what everybody but the administrator asked of pods."""
        written = (self.directory / "audit.log").read_bytes()
        whole = written[: written.rfind(b"\n") + 1]  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines()]

    def resigned(self, token: str, lifetime: float) -> str:
        """The same token, but good for `lifetime` seconds from now.

        TokenRequest gives none for less than 10 minutes.
        """
        header, claims_part, _ = token.split(".")
        claims = json.loads(_unbase64(claims_part))
        claims["exp"] = int(claims["iat"] + lifetime - _LEEWAY)
        claims["iat"] -= 2 * _LEEWAY
        claims["nbf"] -= 2 * _LEEWAY
        signed = f"{header}.{_base64(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{_base64(signature)}"

    def _write_files(self) -> None:
        at = self.directory
        (at / "sa.pem").write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        with (at / "tokens.csv").open("w") as tokens:
            csv.writer(tokens).writerow([self.admin_token, "admin", "admin", "system:masters"])
        (at / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))

    def _start_etcd(self) -> None:
        self._etcd = _Program(
            [
                str(self._bin / "etcd"),
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={self._etcd_url}",
                f"--advertise-client-urls={self._etcd_url}",
                "--socket-reuse-port",
                "--listen-peer-urls=http://127.0.0.1:0",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            self.directory / "etcd.log",
        )
        self._hold()
        self._wait_ready(self._etcd, f"{self._etcd_url}/health")

    def _stop_etcd(self) -> None:
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd = None

    def _copy_etcd(self, source: str, target: str) -> None:
        assert self._apiserver is None
        self._stop_etcd()
        shutil.rmtree(self.directory / target, ignore_errors=True)
        shutil.copytree(self.directory / source, self.directory / target)
        self._start_etcd()

    def _hold(self) -> None:
        programs = [one for one in (self._etcd, self._apiserver) if one is not None]
        old, self._leash = (
            self._leash,
            Leash(self.directory, *(one.process.pid for one in programs)),
        )
        old.release()

    def _wait_ready(self, program: "_Program", url: str) -> None:
        request = urllib.request.Request(
            url, headers={"Authorization": f"Bearer {self.admin_token}"}
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5, context=self._tls) as answer:
                    if answer.status == 200:
                        return
            except OSError as error:  # URLError is one, refused or not ready yet
                if program.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{url}: {error}\n{program.said()}") from error
            time.sleep(0.05)

    def _ask_etcd(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._etcd_url}/v3/kv/{what}", data=json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            result: dict[str, Any] = json.load(answer)
            return result


class _Program:
    """One that runs, and what it says."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log: Final = log
        with log.open("ab") as output:
            self.process: Final = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")
