"""The image of deploy/Dockerfile, built by buildah without a registry.

    python -m tests.support.image

makes what takes long and does not depend on the tree, once, in a directory below
`$XDG_CACHE_HOME/pgproxy-tests`: Debian as its image has it (by debootstrap), the Python packages as
wheels, and an image whose layers the builds of the tests take theirs from. `built` makes the image
of this tree.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.cache import caches, locked, run

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
RELEASE: Final = "bookworm"
PYTHON: Final = "3.11"  # that release's
BASE: Final = f"docker.io/library/debian:{RELEASE}-slim"

_LOCKS: Final = ("build.txt", "runtime.txt")
# What makes Debian's images slim: debuerreotype's own settings.
_SLIM: Final = {
    "etc/dpkg/dpkg.cfg.d/docker": "path-exclude /usr/share/doc/*\n"
    "path-include /usr/share/doc/*/copyright\n"
    "path-exclude /usr/share/info/*\npath-exclude /usr/share/locale/*\n"
    "path-exclude /usr/share/man/*\n",
    "etc/apt/apt.conf.d/docker-clean": "DPkg::Post-Invoke"
    ' { "rm -f /var/cache/apt/archives/*.deb"; };\n'
    'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n',
}
_GONE: Final = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")
_WHEELS: Final = "/wheels"
_PIP: Final = f"[global]\nno-index = true\nfind-links = {_WHEELS}\n"


class MissingToolError(Exception):
    """A program that builds or runs images is not there; says what to install."""


class Store:
    """Where buildah keeps images: its own folder, above another whose images it only reads."""

    def __init__(self, folder: Path, wheels: Path, below: Path | None = None) -> None:
        self._folder: Final = folder
        self._wheels: Final = wheels
        above = () if below is None else ("--storage-opt", f"overlay.imagestore={below / 'root'}")
        self._options: Final = [
            *("--root", str(folder / "root"), "--runroot", str(folder / "run")),
            *("--storage-driver", "overlay"),
            *above,
        ]

    def build(self, tag: str, *options: str) -> None:
        """Run deploy/Dockerfile. Raises CommandError."""
        config = self._folder / "pip.conf"
        self._folder.mkdir(parents=True, exist_ok=True)
        config.write_text(_PIP)
        run(
            as_root(
                *("buildah", *self._options, "build", "--isolation", "chroot", "--layers"),
                *("--pull-never", "--tag", tag, "--file", str(DOCKERFILE)),
                *("--volume", f"{config}:/etc/pip.conf:ro"),
                *("--volume", f"{self._wheels}:{_WHEELS}:ro"),
                *(*options, str(ROOT)),
            ),
            timeout=900,
        )

    def take_base(self, folder: Path) -> None:
        """Make an image of a folder, which then is Debian's. Raises CommandError."""
        container = self._say("from", "scratch")
        # Packed first: buildah would ask for each file whether .dockerignore has it.
        archive = self._folder / "base.tar"
        run(as_root("tar", "-C", folder, "-cf", archive, "."))
        self._say("add", "--quiet", container, str(archive), "/")
        self._say("commit", "--quiet", "--rm", container, BASE)
        run(as_root("rm", archive))

    @contextlib.contextmanager
    def mounted(self, tag: str) -> Iterator[Path]:
        """The root of an image, as long as the block lasts."""
        container = self._say("from", "--pull-never", tag)
        try:
            root = Path(self._say("mount", container))
            above = [path for path in root.parents if self._folder in path.parents]
            run(as_root("chmod", "a+rx", *above))  # for whoever is not root
            yield root
        finally:
            self._say("rm", container)

    def config(self, tag: str) -> dict[str, Any]:
        """What the image says of itself, as OCI has it."""
        told: dict[str, Any] = json.loads(self._say("inspect", "--type", "image", tag))
        config: dict[str, Any] = told["OCIv1"]["config"]
        return config

    def remove(self) -> None:
        """It, and all images in it."""
        run(as_root("rm", "-rf", self._folder))

    def _say(self, *arguments: str) -> str:
        done = subprocess.run(
            as_root("buildah", *self._options, *arguments),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
        )
        return done.stdout.strip()


def as_root(*command: str | Path) -> list[str]:
    """The command, run by root."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    return [*prefix, *map(str, command)]


def prepare() -> Path:
    """Make what takes long, unless it is there; returns its folder.

    Raises MissingToolError, CommandError.
    """
    for name in ("buildah", "debootstrap", "unshare"):
        if shutil.which(name) is None:
            package = {"unshare": "util-linux"}.get(name, name)
            raise MissingToolError(f"{name} is missing: apt-get install {package}")
    ready = caches() / f"image-{_digest()}"
    if ready.exists():
        return ready
    with locked("image") as folder:
        if ready.exists():  # made by another who had the lock
            return ready
        for old in folder.glob("image-*"):
            if old.is_dir():
                run(as_root("rm", "-rf", old))
        making = folder / "image-making"
        making.mkdir()
        _download(making / "wheels")
        _debootstrap(making / "base")
        store = Store(making, making / "wheels")
        store.take_base(making / "base")
        store.build("pgproxy:interpreted", "--build-arg", "PGPROXY_COMPILE=0")
        making.rename(ready)
    return ready


@contextlib.contextmanager
def built() -> Iterator[tuple[Store, str]]:
    """A store, and the tag of this tree's image in it; both are gone after the block.

    mypyc's minutes are not spent twice: where this tree has been compiled for Debian's Python, on
    Debian, the compiled files go into the wheel that the Dockerfile makes without them.
    """
    ready = prepare()
    folder = Path(tempfile.mkdtemp(prefix="building-image-", dir=caches()))
    store = Store(folder / "store", ready / "wheels", below=ready)
    try:
        options = []
        if _is_compiled_alike():
            store.build("wheel", "--target", "wheel", "--build-arg", "PGPROXY_COMPILE=0")
            with store.mounted("wheel") as root:
                (wheel,) = root.glob("*.whl")
                _put_in(wheel, folder / "wheel")
            options = ["--build-context", f"wheel={folder / 'wheel'}"]
        store.build("pgproxy:tested", *options)
        yield store, "pgproxy:tested"
    finally:
        store.remove()
        shutil.rmtree(folder)


def base_size() -> int:
    """Bytes of the base image's files."""
    return int((prepare() / "base.size").read_text())


def size_of(folder: Path) -> int:
    """Bytes of all files below it, each counted once."""
    command = as_root("du", "--summarize", "--bytes", "--one-file-system", folder)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[0])


def _digest() -> str:
    """Of all that what is kept depends on."""
    digest = hashlib.sha256(repr((RELEASE, PYTHON, _SLIM, _GONE, _PIP)).encode())
    for path in (DOCKERFILE, *(ROOT / "requirements" / name for name in _LOCKS)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _download(folder: Path) -> None:
    """The locked packages as wheels. With the machine's own pip, which knows where from."""
    with tempfile.TemporaryDirectory() as tools:
        run([sys.executable, "-m", "venv", tools])
        for lock in _LOCKS:
            run(
                [
                    *(Path(tools) / "bin" / "pip", "download", "--quiet", "--require-hashes"),
                    *("--disable-pip-version-check", "--python-version", PYTHON),
                    *("--only-binary", ":all:", "--dest", folder),
                    *("--requirement", ROOT / "requirements" / lock),
                ]
            )


def _debootstrap(folder: Path) -> None:
    run(as_root("debootstrap", "--variant=minbase", RELEASE, folder), timeout=600)
    for gone in (*_GONE, "var/cache/apt/archives", "var/lib/apt/lists"):
        run(as_root("find", folder / gone, "-type", "f", "!", "-name", "copyright", "-delete"))
    for path, text in _SLIM.items():
        subprocess.run(
            as_root("tee", folder / path),
            check=True,
            input=text,
            stdout=subprocess.DEVNULL,
            text=True,
        )
    (folder.parent / "base.size").write_text(str(size_of(folder)))


def _is_compiled_alike() -> bool:
    """Whether this tree is compiled, by a Python and a C library that are the image's too."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if release != RELEASE or "{}.{}".format(*sys.version_info) != PYTHON:
        return False
    asked = "import pgproxy._compiled as c; print(c.mode())"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        check=True,
        cwd=ROOT,
        env=os.environ | {"PGPROXY_INTERPRETED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout == "compiled\n"


def _manifest() -> Path:
    suffix = sysconfig.get_config_var("EXT_SUFFIX").removesuffix(".so")
    return ROOT / "pgproxy" / f"_native{suffix}.manifest"


def _put_in(wheel: Path, folder: Path) -> None:
    """A copy of the wheel with the compiled files of this tree, below `folder`."""
    tool: Sequence[str | Path] = [sys.executable, "-m", "wheel"]
    with tempfile.TemporaryDirectory() as unpacked:
        run([*tool, "unpack", "--dest", unpacked, wheel])
        (manifest,) = Path(unpacked).rglob("*.manifest")
        for path in (
            _manifest(),
            *(ROOT / "pgproxy").rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"),
        ):
            shutil.copy(path, manifest.parent / path.relative_to(ROOT / "pgproxy"))
        folder.mkdir()
        run([*tool, "pack", "--dest-dir", folder, next(Path(unpacked).iterdir())])


def main() -> None:
    began = time.monotonic()
    print("== what images are made from: once, in some minutes ==", flush=True)
    print(f"{prepare()} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
