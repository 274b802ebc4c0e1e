"""What is measured: a cell is one kind of load, and every peer is put through every cell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.peers.base import Peer, Running
from benchmarks.servers import Servers


class CellFailed(Exception):
    """The load did not run to its end through this peer; the message says what it said."""


class NotApplicable(Exception):
    """This cell makes no sense for this peer; the message says why."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One peer, running, in front of the servers, and a folder for what the load writes."""

    peer: Peer
    running: Running
    servers: Servers
    scratch: Path


class Cell(Protocol):
    """One kind of load. `key` names it in results and for `--only`."""

    @property
    def key(self) -> str:
        """Like `read-only/simple/16`."""

    @property
    def rounds(self) -> int | None:
        """How often it is worth measuring, None for as often as the others."""

    def measure(self, lane: Lane, round_number: int) -> dict[str, float]:
        """The values by name. Raises CellFailed and NotApplicable."""
