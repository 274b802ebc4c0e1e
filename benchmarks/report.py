"""The results as Markdown. A value is followed by its ratios to PgBouncer and to Pgpool-II."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.results import Results

_REFERENCES: Final = ("PgBouncer", "Pgpool-II")
_NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of a table: the stored value times `scale`, to `digits` decimals."""

    title: str
    metric: str
    scale: float = 1.0
    digits: int = 0
    with_ratios: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """The cells whose keys begin with `prefix`, in one table."""

    prefix: str
    title: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """CPU per transaction of pgproxy over that of `peer` in one cell, and how much it may be.
    `against`: the peer's cell, if it is another one."""

    cell: str
    peer: str
    limit: float
    against: str = ""


_CPU = Column("CPU us", "cpu_us", digits=1)
_USER = Column("of it user %", "cpu_user_share", scale=100, with_ratios=False)
_LATENCIES = (
    Column("p50 ms", "p50_us", scale=1e-3, digits=2),
    Column("p99 ms", "p99_us", scale=1e-3, digits=2),
)
_PER_TRANSACTION = (_CPU, _USER, Column("tps", "tps"), *_LATENCIES)
_SECTIONS: Final = (
    Section("read-only", "Read-only (pgbench -S), per transaction", _PER_TRANSACTION),
    Section("tpcb", "TPC-B-like, per transaction", _PER_TRANSACTION),
    Section("connect", "A connection for every transaction (pgbench -S -C)", _PER_TRANSACTION),
    Section(
        "bulk",
        "Many bytes through one connection",
        (
            Column("CPU ms per MB", "cpu_us_per_mb", scale=1e-3, digits=2),
            Column("MB", "megabytes", digits=1, with_ratios=False),
            Column("seconds", "seconds", digits=2),
        ),
    ),
    Section(
        "idle",
        "Clients that are logged in and idle",
        (
            Column("KiB per client", "kib_per_client", digits=1),
            Column("clients", "clients", with_ratios=False),
            Column("MiB before", "kib_before", scale=1 / 1024, digits=1, with_ratios=False),
            Column("MiB with them", "kib_after", scale=1 / 1024, digits=1, with_ratios=False),
        ),
    ),
)
_GOALS: Final = (
    Goal("read-only/simple/16", "PgBouncer", 1.7),
    Goal("read-only/extended/16", "PgBouncer", 1.7),
    Goal("read-only/simple/16", "Pgpool-II", 0.55),
    Goal("read-only/extended/16", "Pgpool-II", 0.3),
    Goal("read-only/simple/16", "Odyssey", 1.0),
    Goal("read-only/extended/16", "Odyssey", 1.0),
    # Statements with names, when clients share server connections, which have them already or not.
    Goal("read-only/prepared/64", "pgproxy", 1.15, against="read-only/extended/64"),
)


def markdown(results: Results, picture: str | None) -> str:
    """The whole report; `picture` is the name of the picture's file beside it."""
    parts = [
        "# pgproxy and its peers\n",
        "Each value is the median of the rounds; behind it, in brackets, its ratio to PgBouncer and"
        " to Pgpool-II, each the median of the ratios round by round. CPU is that of all the"
        " proxy's processes, user and system. Times and tps were taken on a shared machine and"
        " are worth something only beside the others of the same run; CPU is steadier, and still"
        " to be compared within a run.\n",
    ]
    if not results.complete:
        parts.append("**INTERRUPTED: not every cell was measured in every round.**\n")
    parts += [f"**{note}**\n" for note in results.notes]
    if picture is not None:
        parts.append(f"![CPU per transaction]({picture})\n")
    parts += [*_goals(results), *_peers(results)]
    for section in _SECTIONS:
        parts += _section(results, section)
    parts += _errors(results)
    facts = {**results.environment, **results.options}
    parts += ["## Environment\n", *(f"- {name}: {value}" for name, value in facts.items())]
    return "\n".join(parts) + "\n"


def summary(results: Results) -> str:
    """The tables of values alone, for the terminal."""
    parts = [*_goals(results)]
    for section in _SECTIONS:
        parts += _section(results, section)
    return "\n".join([*parts, *_errors(results)])


def _goals(results: Results) -> Iterable[str]:
    rows = []
    for goal in _GOALS:
        ratio = results.ratio(goal.cell, "pgproxy", goal.peer, "cpu_us", goal.against)
        if ratio is None:
            continue
        verdict = "met" if ratio <= goal.limit else "**missed**"
        peer = f"{goal.peer}, {goal.against}" if goal.against else goal.peer
        rows.append((goal.cell, peer, f"{ratio:.2f}", f"{goal.limit:g}", verdict))
    if not rows:
        return []
    head = ("load", "peer", "pgproxy's CPU / the peer's", "at most", "")
    return ["## Goals\n", *_table(head, rows)]


def _peers(results: Results) -> Iterable[str]:
    rows = []
    for peer in results.peers:
        if peer.missing:
            rows.append((peer.name, "**not measured**", peer.missing, ""))
            continue
        landed = ", ".join(f"{name} {count}" for name, count in peer.reads_by_server.items())
        rows.append((peer.name, peer.version or _NOTHING, peer.settings, landed))
    head = ("peer", "version", "settings", "where 60 reads of one connection went")
    return ["## Peers\n", *_table(head, rows)]


def _section(results: Results, section: Section) -> Iterable[str]:
    cells = [cell for cell in results.cells() if cell.startswith(section.prefix + "/")]
    if not cells:
        return []
    rows = []
    for cell in cells:
        for peer in results.measured():
            row = [_cell(results, cell, peer, column) for column in section.columns]
            if any(text != _NOTHING for text in row):
                rows.append((cell.removeprefix(section.prefix + "/"), peer, *row))
    head = ("load", "proxy", *(column.title for column in section.columns))
    return [f"## {section.title}\n", *_table(head, rows)]


def _cell(results: Results, cell: str, peer: str, column: Column) -> str:
    value = results.value(cell, peer, column.metric)
    if value is None:
        return "failed" if results.errors(cell, peer) else _NOTHING
    text = f"{value * column.scale:,.{column.digits}f}"
    if not column.with_ratios:
        return text
    ratios = [results.ratio(cell, peer, other, column.metric) for other in _REFERENCES]
    if all(ratio is None for ratio in ratios):
        return text
    return f"{text} ({' · '.join(_NOTHING if r is None else f'{r:.2f}' for r in ratios)})"


def _errors(results: Results) -> Iterable[str]:
    lines = [
        f"- {cell}, {peer}: {error}"
        for cell in results.cells()
        for peer in results.measured()
        for error in results.errors(cell, peer)
    ]
    return ["## What failed\n", *lines, ""] if lines else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Columns padded to equal width, so that it reads in a terminal too; an empty line ends it."""
    escaped = [[text.replace("|", "\\|") for text in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |"
        for row in escaped
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:], ""]
