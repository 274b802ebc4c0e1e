"""The samples of a run, and what a table and a picture make of them."""

import dataclasses
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from tests.support.ledger import Books

EVENTS: Final = {"switchover": "Switchover by Patroni", "kill -9": "kill -9 of the primary"}
_COLOURS: Final = {"pgproxy": "#2f7d4f", "HAProxy": "#4c78a8", "Pgpool-II": "#e45756"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the clients of one contender met with in one event. Times are in seconds."""

    event: str
    round: int
    contender: str
    units: int  # of work that were acknowledged
    failed: int  # transactions and single statements that ended in an error
    failed_reads: int  # of these
    failed_idle: int  # clients that found their connection gone when they asked at the end
    refused: int  # attempts to log in that failed
    outage: float  # the longest time without an acknowledged write
    first_write: float | None  # from the promotion to the first acknowledged write
    read_outage: float  # the longest time without an answered read
    lost: int
    doubled: int


def sample(
    event: str, round_number: int, contender: str, books: Books, promotion: float, rows: list[int]
) -> Sample:
    """Of the books of a contender's clients; `rows` are those in the table that are theirs."""
    audit = books.audit(rows)
    refused = [one for one in books.failures if one.statement == "connect"]
    failed = [one for one in books.failures if one.statement != "connect"]
    first = books.first_write_after(promotion)
    return Sample(
        event=event,
        round=round_number,
        contender=contender,
        units=len(books.done),
        failed=len(failed),
        failed_reads=sum(one.client.startswith("read") for one in failed),
        failed_idle=sum(one.client.startswith("idle") for one in failed),
        refused=len(refused),
        outage=books.longest_write_outage(),
        first_write=None if first == float("inf") else first,
        read_outage=books.longest_read_outage(),
        lost=len(audit.lost),
        doubled=len(audit.doubled),
    )


@dataclass(slots=True)
class Results:
    """A run."""

    environment: dict[str, str]
    contenders: dict[str, str]  # by name: version and settings, or why it is missing
    samples: list[Sample] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    def median(self, event: str, contender: str, metric: str) -> float | None:
        """Of all rounds; None if one of them has no value, or there is none."""
        values = [
            getattr(one, metric)
            for one in self.samples
            if (one.event, one.contender) == (event, contender)
        ]
        return None if not values or None in values else float(statistics.median(values))

    def total(self, event: str, contender: str, metric: str) -> int:
        """Of all rounds."""
        return sum(
            getattr(one, metric)
            for one in self.samples
            if (one.event, one.contender) == (event, contender)
        )

    def names(self) -> list[str]:
        """The contenders that were measured, in their order."""
        measured = {one.contender for one in self.samples}
        return [name for name in self.contenders if name in measured]


def markdown(results: Results, picture: str | None) -> str:
    """The whole report."""
    lines = ["# Failovers", ""]
    if picture:
        lines += [f"![the longest write outage and what failed]({picture})", ""]
    lines += [table(results), "", "## Contenders", ""]
    lines += [f"- **{name}**: {text}" for name, text in results.contenders.items()]
    lines += ["", "## Environment", ""]
    lines += [f"- {name}: {text}" for name, text in results.environment.items()]
    return "\n".join([*lines, ""])


def table(results: Results) -> str:
    """Medians of the rounds; lost and doubled writes are sums."""
    lines = []
    for event, title in EVENTS.items():
        rounds = len({one.round for one in results.samples if one.event == event})
        if not rounds:
            continue
        lines += [
            f"**{title}**, medians of {rounds}:",
            "",
            "| | failed transactions | of them reads | idle clients cut off | refused log-ins |"
            " longest write outage | promotion to first write | longest read outage |"
            " lost, doubled writes |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in results.names():
            cells = [
                *(
                    _number(results.median(event, name, metric))
                    for metric in ("failed", "failed_reads", "failed_idle", "refused")
                ),
                *(
                    _seconds(results.median(event, name, metric))
                    for metric in ("outage", "first_write", "read_outage")
                ),
                f"{results.total(event, name, 'lost')}, {results.total(event, name, 'doubled')}",
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def draw(results: Results, path: Path) -> bool:
    """Two panels for each event; False if there is nothing to show."""
    names = results.names()
    events = [event for event in EVENTS if any(one.event == event for one in results.samples)]
    if not names or not events:
        return False
    figure = Figure(layout="constrained", figsize=(9.0, 2.6 * len(events)))
    axes = figure.subplots(len(events), 2, squeeze=False)
    for row, event in zip(axes, events, strict=True):
        panels = [("failed", "failed transactions", "{:.0f}")]
        panels += [("first_write", "promotion to first write, s", "{:.2f}")]
        for axis, (metric, title, shape) in zip(row, panels, strict=True):
            values = [results.median(event, name, metric) for name in names]
            # Who never came to it has no bar: a short one would say the contrary.
            lengths = [value or 0.0 for value in values]
            labels = ["never" if value is None else shape.format(value) for value in values]
            bars = axis.barh(names, lengths, color=[_COLOURS.get(name) for name in names])
            axis.bar_label(bars, labels, padding=3, fontsize=8)
            axis.invert_yaxis()
            axis.margins(x=0.15)
            axis.set_title(f"{EVENTS[event]}: {title}", fontsize=9)
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Failovers under load (less is better)")
    figure.savefig(path, dpi=110)
    return True


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
