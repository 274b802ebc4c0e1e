import subprocess
import sys

import psutil  # type: ignore[import-untyped]

from benchmarks.accounting import cpu_time, family, resident_bytes

# Spends CPU in a child that has ended by the time it says so, holds memory, and waits for a line.
_PROGRAM = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "sum(range(4_000_000))"])
held = bytearray(b"x") * 30_000_000
print(flush=True)
sys.stdin.readline()
"""


def test_the_cpu_of_children_that_have_ended_is_counted_and_the_memory_of_the_living() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        process = psutil.Process(child.pid)
        begun = cpu_time([process])
        child.stdout.readline()
        spent = cpu_time([process]) - begun
        own = process.cpu_times()

        assert spent.total > own.children_user > 0
        assert resident_bytes(family(process)) > 30_000_000
        child.stdin.write(b"\n")
        child.stdin.flush()


def test_a_process_that_has_gone_costs_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = psutil.Process(child.pid)
    assert cpu_time([process]).total == 0.0
    assert resident_bytes([process]) == 0
