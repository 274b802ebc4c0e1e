"""A program's results, directly and through a proxy: section by section they must be the same.

Such a program uses one driver at its usual work. Its last arguments are a file of sessions
(tests/extra/drivers/sessions.sql) and the URL of a database that was made with `SCHEMA`, and it prints
a JSON object: what it got, by section. A section that it could not end is {"raised": why}.
"""

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pgproxy.embedded import Cluster, Server
from tests.support.neighbours import Neighbours
from tests.support.proxy import ProxyProcess
from tests.support.serving import without_libpq_settings

SESSIONS: Final = Path(__file__).parents[1] / "extra" / "drivers" / "sessions.sql"
ROLE: Final = "drivers_guest"

SCHEMA: Final = f"""
CREATE SCHEMA one;
CREATE TABLE one.t (id int PRIMARY KEY, name text);
INSERT INTO one.t VALUES (1, 'first of one'), (2, 'second of one');
CREATE TABLE one.notes (owner text, note text);
INSERT INTO one.notes VALUES ('alice', 'hers'), ('alice', 'hers too'), ('bob', 'his');
ALTER TABLE one.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON one.notes USING (owner = current_setting('app.who', true));
CREATE SCHEMA two;
CREATE TABLE two.t (id int PRIMARY KEY, name text);
INSERT INTO two.t VALUES (1, 'first of two');
CREATE TABLE two.later (id int, t int REFERENCES two.t DEFERRABLE INITIALLY DEFERRED);
CREATE SEQUENCE two.tickets START 100;
GRANT USAGE ON SCHEMA one, two TO {ROLE};
GRANT SELECT ON one.notes, two.t TO {ROLE};
"""

Results = dict[str, Any]


class Comparison:
    """What a program got both times."""

    def __init__(self, direct: Results, proxied: Results) -> None:
        """Of the one run and of the other."""
        self.direct: Final = direct
        self.proxied: Final = proxied

    def check(self, section: str) -> None:
        """Fail where that section differs, or did not come to its end directly."""
        direct, proxied = self.direct[section], self.proxied[section]
        assert not isinstance(direct, dict) or "raised" not in direct, direct
        if isinstance(direct, list) and isinstance(proxied, list):
            for place, (expected, got) in enumerate(zip(direct, proxied, strict=False)):
                assert got == expected, f"{section}[{place}]"
        assert proxied == direct


def run(command: Sequence[str], url: str, directory: Path) -> Results:
    """The results of a program."""
    done = subprocess.run(
        [*command, str(SESSIONS), url],
        check=False,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=250,
        env=without_libpq_settings(),
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    results = json.loads(done.stdout)
    assert isinstance(results, dict)
    return results


def compare(
    command: Sequence[str],
    cluster: Cluster,
    start_proxy: Callable[..., ProxyProcess],
    directory: Path,
    *,
    pool_size: int = 2,
) -> Comparison:
    """Run a program directly, and through a proxy with that many connections to each server.

    There it has 20 noisy neighbours. PGPROXY_NEIGHBOURS=modest lets them keep nothing in their
    sessions, =none sends them away: to see whether it is they. PGPROXY_COMPARE=direct compares
    with another direct run: to see whether the program's results are the same each time.
    """
    direct = in_new_database(command, cluster, cluster.primary, directory, neighbours="none")
    if os.environ.get("PGPROXY_COMPARE") == "direct":
        through: Server | ProxyProcess = cluster.primary
    else:
        # The programs read on one connection what they wrote on another.
        whole = {"read_your_writes": "global"}
        through = start_proxy(cluster.servers, pool={"size": pool_size}, consistency=whole)
    neighbours = os.environ.get("PGPROXY_NEIGHBOURS", "all")
    return Comparison(
        direct, in_new_database(command, cluster, through, directory, neighbours=neighbours)
    )


def in_new_database(
    command: Sequence[str],
    cluster: Cluster,
    through: Server | ProxyProcess,
    directory: Path,
    *,
    neighbours: str,
) -> Results:
    """Run a program there: with neighbours, or none."""
    name = f"drivers_{secrets.token_hex(4)}"
    cluster.primary.psql(f"CREATE DATABASE {name}")
    try:
        cluster.primary.psql(SCHEMA, name)
        cluster.wait_caught_up()
        if neighbours == "none":
            return run(command, through.dsn(db=name), directory)
        with Neighbours(through, name, role=ROLE, keep=neighbours != "modest", pause=0.15):
            return run(command, through.dsn(db=name), directory)
    finally:
        cluster.primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


def session_sections(*protocols: str) -> list[str]:
    """The names of the sections of `SESSIONS`, played in each of these protocols."""
    lines = SESSIONS.read_text(encoding="utf-8").splitlines()
    names = [line.removeprefix("== ") for line in lines if line.startswith("== ")]
    return [f"{name} {protocol}" for name in names for protocol in protocols]
