"""The samples of a run, and what a table and a picture make of them."""

import dataclasses
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

# Who has the healthy replicas alone, and whom all others are compared with.
ALONE: Final = "without the slow replica"
# What a phase begins with is the way there: seconds that its figures are without.
SETTLES: Final = 5.0

_COLOURS: Final = ("#9e9e9e", "#2f7d4f", "#7fbf9a", "#e45756", "#f2b447")


@dataclass(frozen=True, slots=True)
class Phase:
    """Of the slow replica. Times are seconds of the run."""

    name: str
    begin: float
    end: float


@dataclass(slots=True)
class Results:
    """A run. Points are a time and a value."""

    environment: dict[str, str]
    contenders: dict[str, str]  # by name: settings
    phases: list[Phase] = field(default_factory=list)
    tps: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    limits: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    def throughput(self, contender: str, phase: Phase) -> float:
        """Transactions per second in a phase, once it has settled."""
        begin = phase.begin + SETTLES
        points = [tps for at, tps in self.tps[contender] if begin < at <= phase.end]
        return statistics.fmean(points) if points else 0.0

    def part(self, contender: str, phase: Phase) -> float:
        """The same relative to who has the healthy replicas alone."""
        return self.throughput(contender, phase) / (self.throughput(ALONE, phase) or 1.0)


def markdown(results: Results, picture: str) -> str:
    """The whole report."""
    lines = ["# A replica that becomes slow", "", f"![throughput and limits]({picture})", ""]
    lines += [table(results), "", "## Contenders", ""]
    lines += [f"- **{name}**: {text}" for name, text in results.contenders.items()]
    lines += ["", "## Environment", ""]
    lines += [f"- {name}: {text}" for name, text in results.environment.items()]
    return "\n".join([*lines, ""])


def table(results: Results) -> str:
    """Throughput in each phase; in parentheses the part of what the healthy replicas give alone."""
    phases = results.phases
    lines = [
        f"Transactions per second, without the first {SETTLES:.0f} s of each phase:",
        "",
        f"| | {' | '.join(phase.name for phase in phases)} |",
        "|---" * (len(phases) + 1) + "|",
    ]
    for name in results.contenders:
        cells = [
            f"{results.throughput(name, phase):.0f} ({results.part(name, phase):.0%})"
            for phase in phases
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: Results, path: Path) -> None:
    """Throughput over time above, limits below."""
    figure = Figure(layout="constrained", figsize=(9.0, 6.0))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for colour, name in zip(_COLOURS, results.contenders, strict=False):
        points = results.tps[name]
        above.plot(*zip(*points, strict=True), color=colour, label=name, linewidth=1.6)
    for name, points in results.limits.items():
        below.step(*zip(*points, strict=True), label=name, where="post", linewidth=1.4)
    for phase in results.phases[1:2]:
        for axis in (above, below):
            axis.axvspan(phase.begin, phase.end, color="#e45756", alpha=0.08, linewidth=0)
        above.text(phase.begin + 0.5, above.get_ylim()[1] * 0.97, phase.name, fontsize=8, va="top")
    above.set_title("Transactions per second", fontsize=10)
    below.set_title("Limits that are learnt: statements in flight per backend", fontsize=10)
    below.set_xlabel("seconds", fontsize=9)
    for axis in (above, below):
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=110)
