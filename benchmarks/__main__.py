"""Measures pgproxy beside its peers, prints what it found and stores it: see README.md."""

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from benchmarks import environment, picture, plan, report
from benchmarks.balance import reads_by_server
from benchmarks.cells import Cell, CellFailed, Lane, NotApplicable
from benchmarks.peers.base import Missing, NotServing, Peer
from benchmarks.peers.direct import Direct
from benchmarks.peers.odyssey import Odyssey
from benchmarks.peers.pgbouncer import PgBouncer
from benchmarks.peers.pgpool import Pgpool
from benchmarks.peers.pgproxy import Pgproxy
from benchmarks.pgbench import PgbenchCell
from benchmarks.results import PeerRecord, Results, Sample
from benchmarks.servers import Servers, running_servers

RESULTS: Final = Path(__file__).parent / "results"
_WARM_UP = PgbenchCell("read-only", "simple", 16, seconds=1)


def main() -> None:
    """Exits with 0 if every peer was measured in every cell, 1 otherwise."""
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    seconds = options.seconds or (3 if options.quick else 5)
    cells = plan.quick(seconds) if options.quick else plan.full(seconds)
    cells = plan.only(cells, options.only)
    peers = _wanted_peers(options.peers)
    if not cells:
        sys.exit("no cell has such a key: see --only")
    with tempfile.TemporaryDirectory(prefix="pgproxy-bench-") as scratch, ExitStack() as stack:
        servers = stack.enter_context(running_servers(options.scale, _say))
        results = Results(
            environment=environment.describe(servers),
            options={
                "rounds": str(options.rounds),
                "seconds per pgbench run": f"{seconds:g}",
                "scale": str(options.scale),
                "cells": "quick" if options.quick else " ".join(options.only) or "all",
            },
        )
        try:
            lanes = _start(stack, servers, peers, results, Path(scratch))
            _measure(cells, lanes, options.rounds, results)
            results.complete = True
        except KeyboardInterrupt:
            _say("interrupted: what was measured so far is kept")
    whole = results.complete and not (options.quick or options.only or options.peers)
    _store(results, options.output, datetime.now(UTC).strftime("%Y-%m-%d") if whole else "partial")
    unmeasured = any(sample.error for sample in results.samples) or any(
        peer.missing for peer in results.peers
    )
    sys.exit(1 if unmeasured or not results.complete else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="16 clients, read-only, simple and extended, 3 s each"
    )
    parser.add_argument("--seconds", type=float, help="of each pgbench run (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--scale", type=int, default=10, help="pgbench's (default: %(default)s)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="REGEX",
        help="cells by key, like read-only/simple/16, connect, bulk/copy-in, idle; may be repeated",
    )
    parser.add_argument(
        "--peers",
        metavar="NAMES",
        help="by the beginnings of their names, separated by commas, like pgproxy,pgb",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    return parser.parse_args()


def _wanted_peers(names: str | None) -> list[Peer]:
    """All, or those whose names begin like one of the names given; exits where none does."""
    peers: list[Peer] = [Direct(), PgBouncer(), Pgpool(), Odyssey(), Pgproxy()]
    if names is None:
        return peers
    beginnings = tuple(names.lower().split(","))
    for each in beginnings:
        if not any(peer.name.lower().startswith(each) for peer in peers):
            sys.exit(f"no peer is called {each}: {', '.join(peer.name for peer in peers)}")
    return [peer for peer in peers if peer.name.lower().startswith(beginnings)]


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM ends us as Ctrl-C does: in order, and with everything that we started."""
    raise KeyboardInterrupt


def _start(
    stack: ExitStack, servers: Servers, peers: list[Peer], results: Results, scratch: Path
) -> list[Lane]:
    """Runs every peer that is there, and shows that reads pass through each."""
    lanes = []
    for peer in peers:
        version = ""
        try:
            version = peer.version()
            running = stack.enter_context(peer.run(servers, max(plan.CLIENTS)))
            lane = Lane(peer, running, servers, scratch)
            landed = reads_by_server(servers, running)
            _WARM_UP.measure(lane, 0)
        except (Missing, NotServing, CellFailed) as reason:
            why = " ".join(str(reason).split())
            results.peers.append(PeerRecord(peer.name, version, peer.settings, why))
            _say(f"!!! {peer.name} is NOT MEASURED: {why} !!!")
            continue
        lanes.append(lane)
        results.peers.append(PeerRecord(peer.name, version, peer.settings, "", landed))
        _say(f"{peer.name} {version}: reads went to {landed}")
        if peer.name == "pgproxy" and "interpreted" in version:
            note = "pgproxy ran INTERPRETED: its numbers are not those of the compiled hot path"
            results.notes.append(note)
            _say(f"!!! {note} !!!")
    return lanes


def _measure(cells: list[Cell], lanes: list[Lane], rounds: int, results: Results) -> None:
    turns = list(plan.turns(cells, rounds, len(lanes)))
    began = time.monotonic()
    for number, turn in enumerate(turns):
        for index in turn.order:
            lane = lanes[index]
            values: dict[str, float] = {}
            error = ""
            try:
                values = turn.cell.measure(lane, turn.round)
            except NotApplicable:
                continue
            except (CellFailed, NotServing) as reason:
                error = str(reason)
            results.samples.append(Sample(turn.cell.key, lane.peer.name, turn.round, values, error))
            _say(f"  {lane.peer.name:10} {error or _in_words(values)}")
        left = (time.monotonic() - began) / (number + 1) * (len(turns) - number - 1)
        _say(
            f"[{number + 1}/{len(turns)}] {turn.cell.key}, round {turn.round + 1}:"
            f" done, about {left / 60:.0f} min left"
        )


def _in_words(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:,.4g}" for name, value in values.items())


def _store(results: Results, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / name
    drawing = stem.with_suffix(".png")
    drawn = picture.draw(results, drawing)
    stem.with_suffix(".md").write_text(report.markdown(results, drawing.name if drawn else None))
    results.save(stem.with_suffix(".json"))
    print(report.summary(results))
    _say(f"stored as {stem}.json, .md{', .png' if drawn else ''}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
