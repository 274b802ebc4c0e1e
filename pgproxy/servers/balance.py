"""PURE. Which replica gets the next read."""

from mypy_extensions import i64

from pgproxy.servers.connection import Backend


def least_loaded(backends: list[Backend], turn: int) -> int:
    """Index of the backend with the fewest statements in flight relative to its weight.

    Equals take turns: `turn` counts up with each call. Backends of weight 0 are chosen only if
    there is no other. `backends` must not be empty.
    """
    count: i64 = len(backends)
    index: i64 = turn % len(backends)
    best: i64 = index
    best_cost = _cost(backends[index])
    step: i64 = 1
    while step < count:
        index += 1
        if index == count:
            index = 0
        cost = _cost(backends[index])
        if cost < best_cost:
            best = index
            best_cost = cost
        step += 1
    return best


def _cost(backend: Backend) -> float:
    if backend.weight <= 0:
        return float("inf")
    return float(backend.load + 1) / backend.weight


