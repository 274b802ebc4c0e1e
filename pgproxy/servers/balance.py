"""PURE. Which replica gets the next read."""

from typing import Final

from mypy_extensions import i64

from pgproxy.servers.connection import Backend

NONE: Final = -1


def least_loaded(backends: list[Backend], turn: i64, after: float) -> i64:
    """Index of the backend with the fewest statements in flight relative to its weight, among
    those that show everything committed before `after` (0.0: any); NONE if there is none.

    Equals take turns: `turn` counts up with each call. Backends of weight 0 are chosen only if
    there is no other.
    """
    count: i64 = len(backends)
    if count == 0:
        return NONE
    best: i64 = NONE
    best_cost = 0.0
    index = turn % count
    step: i64 = 0
    while step < count:
        backend = backends[index]
        if backend.fresh_as_of >= after:
            cost = _cost(backend)
            if best == NONE or cost < best_cost:
                best = index
                best_cost = cost
        index += 1
        if index == count:
            index = 0
        step += 1
    return best


def _cost(backend: Backend) -> float:
    if backend.weight <= 0:
        return float("inf")
    return float(backend.load + 1) / backend.weight
