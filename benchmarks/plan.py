"""Which cells a run measures, and in which order.

Rounds are the outer loop, cells the next, and the peers take turns within each cell, every time
beginning with another one: a slow minute of the machine, or a warm cache left behind, falls on
each of them in its turn.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, TypeVar

from benchmarks.bulk import BulkCell
from benchmarks.cells import Cell
from benchmarks.idle import IdleCell
from benchmarks.pgbench import Mode, PgbenchCell, Script

CLIENTS: Final = (1, 16, 64)
_MODES: Final[tuple[Mode, ...]] = ("simple", "extended", "prepared")
_SCRIPTS: Final[tuple[Script, ...]] = ("read-only", "tpcb")
_IDLE_CLIENTS = 5000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """One cell in one round, and the order of the peers for it (indexes)."""

    round: int
    cell: Cell
    order: tuple[int, ...]


def full(seconds: float) -> list[Cell]:
    """Everything."""
    return [
        *(
            PgbenchCell(script, mode, clients, seconds)
            for script, mode, clients in product(_SCRIPTS, _MODES, CLIENTS)
        ),
        PgbenchCell("read-only", "simple", 16, seconds, reconnect=True),
        BulkCell("select-million"),
        BulkCell("copy-out"),
        BulkCell("copy-in"),
        IdleCell(_IDLE_CLIENTS),
    ]


def quick(seconds: float) -> list[Cell]:
    """What tells within two minutes whether the hot path became cheaper or dearer."""
    return [PgbenchCell("read-only", mode, 16, seconds) for mode in ("simple", "extended")]


def only(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells in whose key one of the regular expressions is found; all, if there is none."""
    if not patterns:
        return list(cells)
    return [cell for cell in cells if any(re.search(each, cell.key) for each in patterns)]


def turns(cells: Sequence[Cell], rounds: int, peers: int) -> Iterator[Turn]:
    """Every turn of a run, in order."""
    for number in range(rounds):
        for index, cell in enumerate(cells):
            if cell.rounds is None or number < cell.rounds:
                yield Turn(number, cell, rotated(range(peers), number + index))


def rotated(items: Sequence[T], by: int) -> tuple[T, ...]:
    """The items in their order, beginning with another one."""
    by %= len(items) or 1
    return (*items[by:], *items[:by])
