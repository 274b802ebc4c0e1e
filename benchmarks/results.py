"""What one run of the benchmark found, raw, and how it is condensed.

A ratio between two peers is the median of their ratios round by round: within a round they ran one
after the other, so that what the machine's other users did bears on both alike.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """A peer as this run found it; `missing` says why it took no part, or is empty."""

    name: str
    version: str
    settings: str
    missing: str = ""
    reads_by_server: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One peer, one cell, one round: the values by name, or what went wrong."""

    cell: str
    peer: str
    round: int
    values: dict[str, float]
    error: str = ""


@dataclass(slots=True)
class Results:
    """Everything of one run."""

    environment: dict[str, str]
    options: dict[str, str]
    peers: list[PeerRecord] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = False

    def cells(self) -> list[str]:
        """The cells that were measured, in their order."""
        return list(dict.fromkeys(sample.cell for sample in self.samples))

    def measured(self) -> list[str]:
        """The names of the peers that took part, in their order."""
        return [peer.name for peer in self.peers if not peer.missing]

    def value(self, cell: str, peer: str, metric: str) -> float | None:
        """The median over the rounds, None where there is nothing."""
        values = self._by_round(cell, peer, metric).values()
        return median(values) if values else None

    def ratio(
        self, cell: str, peer: str, reference: str, metric: str, against: str = ""
    ) -> float | None:
        """The median of the ratios of the rounds in which both were measured; `against`: the
        reference's cell, if it is another one."""
        ours = self._by_round(cell, peer, metric)
        theirs = self._by_round(against or cell, reference, metric)
        ratios = [ours[turn] / theirs[turn] for turn in ours if theirs.get(turn)]
        return median(ratios) if ratios else None

    def errors(self, cell: str, peer: str) -> list[str]:
        """What went wrong there, each once."""
        return list(
            dict.fromkeys(
                sample.error
                for sample in self.samples
                if sample.error and (sample.cell, sample.peer) == (cell, peer)
            )
        )

    def save(self, path: Path) -> None:
        """Writes all of it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def _by_round(self, cell: str, peer: str, metric: str) -> dict[int, float]:
        return {
            sample.round: sample.values[metric]
            for sample in self.samples
            if (sample.cell, sample.peer) == (cell, peer) and metric in sample.values
        }


def read(path: Path) -> Results:
    """What `save` wrote."""
    content: dict[str, Any] = json.loads(path.read_text())
    content["peers"] = [PeerRecord(**peer) for peer in content["peers"]]
    content["samples"] = [Sample(**sample) for sample in content["samples"]]
    return Results(**content)
