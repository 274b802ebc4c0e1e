"""What a tree of processes has cost: CPU seconds and resident memory.

CPU is the measure this benchmark rests on: on a shared machine transactions per second follow the
neighbours, while the CPU a proxy spends on one transaction moves little. The total comes from each
process's own CPU clock (nanoseconds, every thread, dead ones included); its division into user and
system time from the kernel's tick counters, which are coarser and used for that division alone.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

_CPUCLOCK_SCHED = 2  # the clock that counts all CPU time of a process (clock_getcpuclockid(3))


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of CPU: `total` is exact; `user` and `system` are rounded to the kernel's tick."""

    total: float
    user: float
    system: float

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        return CpuTime(
            self.total - earlier.total, self.user - earlier.user, self.system - earlier.system
        )


def family(root: psutil.Process) -> list[psutil.Process]:
    """The process and everything under it."""
    return [root, *root.children(recursive=True)]


def cpu_time(processes: Iterable[psutil.Process]) -> CpuTime:
    """CPU spent so far by the processes and by the children they have already waited for.

    A child that ends between two calls moves from its own account to its parent's, so that the
    difference of two calls misses nothing.
    """
    total = user = system = 0.0
    for process in processes:
        try:
            ticks = process.cpu_times()
            own = time.clock_gettime((~process.pid << 3) | _CPUCLOCK_SCHED)
        except (psutil.NoSuchProcess, OSError):
            continue
        total += own + ticks.children_user + ticks.children_system
        user += ticks.user + ticks.children_user
        system += ticks.system + ticks.children_system
    return CpuTime(total, user, system)


def resident_bytes(processes: Iterable[psutil.Process]) -> int:
    """Resident memory, where a page shared by n processes counts as a n-th for each (PSS)."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
