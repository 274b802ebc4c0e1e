import subprocess
import sys
from pathlib import Path

import pytest

from pgproxy.topology import apiserver


def test_the_client_is_imported_by_those_who_need_it_alone() -> None:
    program = (
        "import sys, pgproxy.app, pgproxy.cli;"
        "print([name for name in sys.modules if name.partition('.')[0] == 'kubernetes'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("content", "namespace"),
    [(b"prod", "prod"), (b" prod\n", "prod"), (b"", "default"), (b"\xff", "default")],
)
def test_the_pod_s_own_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, namespace: str
) -> None:
    file = tmp_path / "namespace"
    file.write_bytes(content)
    monkeypatch.setattr(apiserver, "_NAMESPACE_FILE", file)
    assert apiserver.own_namespace() == namespace


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://10.96.0.1:443", "https://10.96.0.1:443"),
        ("https://user:secret@api.example:6443/k8s/a@b", "https://api.example:6443/k8s/a@b"),
        ("https://[fd00::1]:6443", "https://[fd00::1]:6443"),
    ],
)
def test_an_address_is_told_without_its_password(url: str, told: str) -> None:
    assert apiserver._without_password(url) == told


def test_outside_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apiserver, "_NAMESPACE_FILE", tmp_path / "nothing")
    assert apiserver.own_namespace() == "default"
