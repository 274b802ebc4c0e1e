"""Where a peer's program comes from, and how it is run without privileges.

setup.sh puts the newest versions into a folder that holds a small Debian system; they are run from
there by chroot (as root) or in a user namespace of their own (as an ordinary user). Where the
folder is missing, the machine's own packages serve as the second best, and the report says so.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.base import Missing

_NOBODY = 65534
_SEARCHED = ("usr/sbin", "usr/bin", "usr/local/bin")


@dataclass(frozen=True, slots=True)
class Program:
    """A program as seen from inside its own root folder (the machine's own is "/")."""

    root: Path
    path: str
    origin: str

    def command(self, *arguments: str) -> list[str]:
        """The words that run it in its root, as nobody, and that end it should we die."""
        leave = ["setpriv", "--pdeathsig", "TERM"]
        if os.geteuid() == 0:
            leave += ["--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups"]
        return [*self._enter(), *leave, "--", self.path, *arguments]

    def inside(self, path: Path) -> str:
        """A path under the root as the program sees it."""
        return "/" + str(path.relative_to(self.root))

    def version(self) -> str:
        """The first line of what the program says of itself."""
        answer = subprocess.run(
            self.command("--version"), capture_output=True, check=False, text=True
        )
        return (answer.stdout or answer.stderr).strip().split("\n")[0]

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that the program can write to, removed afterwards."""
        with tempfile.TemporaryDirectory(
            prefix="pgproxy-bench-", dir=self.root / "tmp", ignore_cleanup_errors=True
        ) as name:
            if os.geteuid() == 0:
                os.chown(name, _NOBODY, _NOBODY)
            yield Path(name)

    def _enter(self) -> list[str]:
        if self.root == Path("/"):
            return []
        if os.geteuid() == 0:
            return ["chroot", str(self.root)]
        return ["unshare", "--user", "--map-current-user", f"--root={self.root}", "--wd=/"]


def find(name: str) -> Program:
    """The newest program of that name on this machine. Raises Missing."""
    folders = list(_peer_folders())
    for root in folders:
        for place in _SEARCHED:
            if (root / place / name).exists():
                return Program(root, f"/{place}/{name}", f"chroot: {_suite(root)}")
    of_the_machine = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if of_the_machine is not None:
        return Program(Path("/"), of_the_machine, "this machine's own package")
    looked_in = ", ".join(map(str, folders))
    raise Missing(f"no {name} in {looked_in} nor on the PATH; see benchmarks/peers/setup.sh")


def _peer_folders() -> Iterator[Path]:
    """Where setup.sh may have put them: it runs as root, we perhaps as somebody else."""
    told = os.environ.get("PGPROXY_BENCH_PEERS")
    if told is not None:
        yield Path(told)
        return
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache is not None:
        yield Path(cache, "pgproxy-bench", "peers")
    yield Path("/var/cache/pgproxy-bench/peers")


def _suite(root: Path) -> str:
    for line in (root / "etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return "a Debian of unknown release"
