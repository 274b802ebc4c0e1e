"""What a container is to its processes: `python pod.py COMMAND...`, with a pipe as standard input.

Whatever the command starts stays in here, also what it leaves behind (Patroni's postmaster is an
orphan by design): it is reaped when it ends, and killed when the other end of the pipe closes,
because the pod is deleted or because the test run has died in whatever way. Ends when nothing is
left in it. No import but of what starts quickly: an unprivileged user runs a copy of this file.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def _main(command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_kill_at_end_of_input, daemon=True).start()
    with contextlib.suppress(ChildProcessError):  # nothing is left
        while True:
            pid, _ = os.waitpid(-1, 0)
            if pid == process.pid:
                process.returncode = 0  # it is reaped; subprocess need not look


def _kill_at_end_of_input() -> None:
    while os.read(0, 64):
        pass
    while True:  # until the last is gone, and with it this process
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
            parent = int(file.read().rpartition(b") ")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found[1:]


if __name__ == "__main__":
    _main(sys.argv[1:])
