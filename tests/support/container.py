"""A container without an engine: the root of an image, read-only, in namespaces of its own.

As Kubernetes runs one under the restricted Pod Security Standard: the image's own user, no
capability, nothing to write to, its process the first of its PID namespace. The network is the
machine's. It takes root, or somebody who may become it.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import psutil  # type: ignore[import-untyped]

from tests.support.image import as_root
from tests.support.proxy import ProxyProcess

# Arguments: the root; pairs of a folder and the place that it gets, without links; an empty word;
# the command.
_SCRIPT: Final = """
set -eu
root="$1"
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ -n "$1" ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done
shift
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"""


class Container(ProxyProcess):
    """The entry point of an image at work; `terminate` is what a kubelet does."""

    @classmethod
    def run(
        cls,
        root: Path,
        config: Mapping[str, Any],
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str],
        folders: Mapping[Path, str] | None = None,
    ) -> Self:
        """Begin; `folders` are mounted where they say. See `ProxyProcess` for what to wait for."""
        return cls(
            "",
            program=command(
                root, config, arguments, environment=environment, folders=folders or {}
            ),
        )

    @property
    def first(self) -> psutil.Process:
        """The first process of the container, as the machine knows it."""
        outer = psutil.Process(self.process.pid)
        return next(one for one in outer.children(recursive=True) if _is_first(one.pid))

    def terminate(self) -> None:
        self.first.terminate()

    def kill9(self) -> None:
        with contextlib.suppress(StopIteration):
            self.first.kill()
        super().kill9()


def command(
    root: Path,
    config: Mapping[str, Any],
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    folders: Mapping[Path, str] | None = None,
) -> list[str]:
    """Runs the entry point of the image with that OCI configuration, whose files are at `root`."""
    user, _, group = config["User"].partition(":")
    places = [str(word) for pair in (folders or {}).items() for word in pair]
    variables = [*config["Env"], *(f"{name}={text}" for name, text in (environment or {}).items())]
    return as_root(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("sh", "-c", _SCRIPT, "container", str(root), *places, ""),
        *("setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"),
        *("--pdeathsig", "keep"),  # that of --kill-child
        *("--inh-caps=-all", "--bounding-set=-all"),
        *("env", "--ignore-environment", "--chdir", config["WorkingDir"], *variables),
        *config["Entrypoint"],
        *(arguments or config["Cmd"]),
    )


def status_of(pid: int) -> dict[str, str]:
    """What /proc says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def _is_first(pid: int) -> bool:
    return len(ids := status_of(pid)["NSpid"].split()) > 1 and ids[-1] == "1"
