"""Failovers by Patroni under load, with pgproxy, HAProxy and Pgpool-II side by side: README.md."""

import argparse
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import environment
from benchmarks.failover.contenders import (
    Contender,
    Endpoints,
    Haproxy,
    PgpoolServices,
    Pgproxy,
    Place,
)
from benchmarks.failover.results import EVENTS, Results, draw, markdown, sample, table
from benchmarks.peers.base import Missing, NotServing
from tests.support.kube_assets import MissingAssetsError
from tests.support.kube_server import KubeServer
from tests.support.ledger import INDEX, ROWS, TABLE, Load
from tests.support.patroni import PatroniCluster
from tests.support.patroni_kubernetes import KubernetesDcs
from tests.support.patroni_member import Member
from tests.support.timeline import Timeline

RESULTS: Final = Path(__file__).parents[1] / "results"
_AFTERWARDS: Final = 15.0  # seconds in which the clients of each may find the new primary
_KUBELET: Final = 1.0  # seconds after which it has seen that a container has died
_ROWS_EACH: Final = 10_000_000  # numbers for the rows of each load


def main() -> None:
    """Exits with 0 if every contender was measured, 1 otherwise."""
    options = _options()
    with ExitStack() as stack:
        try:
            kube = stack.enter_context(KubeServer.start())
        except MissingAssetsError as missing:
            sys.exit(str(missing))
        dcs = stack.enter_context(KubernetesDcs.create(kube.url, kube.ca, kube.admin_token))
        patroni = stack.enter_context(
            PatroniCluster.start(dcs, synchronous_mode=not options.asynchronous)
        )
        patroni.leader().sql(TABLE)
        patroni.leader().sql(INDEX)
        place = Place(patroni, dcs, options.clients)
        about = environment.machine() | {
            "postgresql": f"{patroni.leader().sql('SHOW server_version')[0][0]}, three members",
            "patroni": patroni.version(),
            "kubernetes": dcs.request("GET", "/version")["gitVersion"],
            "replication": "asynchronous" if options.asynchronous else "synchronous_mode: true",
            "clients": f"{options.clients} of each contender, {options.pause * 1000:g} ms pauses",
        }
        results = Results(about, {})
        lanes = _start(stack, place, results)
        rounds = [(event, number) for number in range(options.rounds) for event in EVENTS]
        for index, (event, number) in enumerate(rounds):
            _say(f"[{index + 1}/{len(rounds)}] {event}, round {number + 1}")
            _measure(place, lanes, event, number, index, results, options.pause)
    name = f"failover-{datetime.now(UTC):%Y-%m-%d}" if options.rounds >= 3 else "partial.failover"
    _store(results, options.output / name)
    sys.exit(0 if len(results.names()) == len(results.contenders) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument(
        "--pause", type=float, default=0.1, help="seconds a client rests (default: %(default)s)"
    )
    parser.add_argument(
        "--asynchronous", action="store_true", help="without Patroni's synchronous_mode"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    return parser.parse_args()


def _start(stack: ExitStack, place: Place, results: Results) -> dict[str, Endpoints]:
    lanes = {}
    contenders: list[Contender] = [Pgproxy(), Haproxy(), PgpoolServices()]
    for contender in contenders:
        try:
            version = contender.version()
            lanes[contender.name] = stack.enter_context(contender.run(place))
        except (Missing, NotServing) as reason:
            results.contenders[contender.name] = f"NOT MEASURED: {reason}"
            _say(f"!!! {contender.name} is NOT MEASURED: {reason} !!!")
            continue
        results.contenders[contender.name] = f"{version}; {contender.settings}"
        _say(f"{contender.name} {version}")
    return lanes


def _measure(
    place: Place,
    lanes: dict[str, Endpoints],
    event: str,
    number: int,
    index: int,
    results: Results,
    pause: float,
) -> None:
    """One event, which the clients of all contenders live through at once."""
    patroni = place.patroni
    patroni.wait_healthy()
    old, candidate = patroni.leader(), patroni.replicas()[0]
    loads = {
        name: Load(
            endpoints.writes,
            place.clients,
            read_dsn=endpoints.reads,
            first=(index * len(lanes) + lane) * _ROWS_EACH + 1,
            pause=pause,
            pause_after_failure=pause,
        )
        for lane, (name, endpoints) in enumerate(lanes.items())
    }
    with Timeline(place.dcs, patroni.members) as timeline, ExitStack() as ends:
        for load in loads.values():
            ends.callback(load.stop)
            load.start(writes=50)
        timeline.mark(event)
        if event == "switchover":
            patroni.switchover(candidate)
        else:
            patroni.kill9(old)
            time.sleep(_KUBELET)
            _set_ready(place.dcs, old, ready=False)
        new = patroni.wait_other_leader(old)
        timeline.wait(new.name, "sql", "primary")
        time.sleep(_AFTERWARDS)  # the time in question, not a condition to wait for
        promotion = timeline.first(new.name, "sql", "primary")
    rows = [row[0] for row in new.sql(ROWS)]
    for lane, (name, load) in enumerate(loads.items()):
        first = (index * len(lanes) + lane) * _ROWS_EACH + 1
        theirs = [row for row in rows if first <= row < first + _ROWS_EACH]
        found = sample(event, number, name, load.books, promotion, theirs)
        results.samples.append(found)
        _say(f"  {found}")
    if event != "switchover":
        patroni.start_member(old)
        patroni.wait_healthy()
        _set_ready(place.dcs, old, ready=True)


def _set_ready(dcs: KubernetesDcs, member: Member, *, ready: bool) -> None:
    """As the kubelet does, which sees the container end, or passes on what its probe says."""
    dcs.set_status(member.name, {"conditions": [{"type": "Ready", "status": str(ready)}]})


def _store(results: Results, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawing = stem.with_name(f"{stem.name}.png")
    drawn = draw(results, drawing)
    text = markdown(results, drawing.name if drawn else None)
    stem.with_name(f"{stem.name}.md").write_text(text)
    results.save(stem.with_name(f"{stem.name}.json"))
    print(table(results))
    _say(f"stored as {stem}.json, .md{', .png' if drawn else ''}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
