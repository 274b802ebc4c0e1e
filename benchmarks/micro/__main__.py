"""Times single parts of the hot path, as loaded here: compiled or interpreted.

    python -m benchmarks.micro [NAME ...]                 those whose name contains one of these
    PGPROXY_INTERPRETED=1 python -m benchmarks.micro      the same from source

The number is the best of several repetitions: what the code costs when nothing disturbs it. The
call through Python's interpreter, some 30 ns, is in it.
"""

import sys
import timeit
from collections.abc import Callable, Iterator

from benchmarks.micro import parts
from pgproxy import _compiled

_REPETITIONS = 7
_SECONDS = 0.1  # of each repetition, about


def main() -> None:
    """Prints a line for each part."""
    wanted = sys.argv[1:]
    print(f"pgproxy is {_compiled.mode()}")
    for name, work in _all_parts():
        if not wanted or any(each in name for each in wanted):
            print(f"  {name:52} {_best(work) * 1e6:10.3f} us", flush=True)


def _all_parts() -> Iterator[tuple[str, Callable[[], object]]]:
    yield from parts.splitter()
    yield from parts.lexical_key()
    yield from parts.ledger()
    yield from parts.inflight()


def _best(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    timer = timeit.Timer(work)
    number = 1
    while (once := timer.timeit(number)) < _SECONDS:
        number = max(number + 1, int(number * 1.2 * _SECONDS / max(once, 1e-6)))
    return min(timer.repeat(_REPETITIONS, number)) / number


if __name__ == "__main__":
    main()
