"""What the programs of this directory share: they print the results of their sections as JSON.

Their last arguments are the file of sessions and the database's URL.
"""

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FILE, URL = sys.argv[-2:]
COPIED = "".join(f"{n}\tcopied {n} \\\\ ä\n" for n in range(1000, 21000))
SLEEP = "DO $$ BEGIN PERFORM pg_sleep(600); END $$"
SLEEPING = (
    "/* pgproxy: primary */ SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %600%'"
    " AND state = 'active' AND datname = current_database()"
)
REPORTED = ("application_name", "client_encoding", "DateStyle", "TimeZone", "search_path")
REPORTING = (
    "SELECT 1",
    "SET application_name = 'own'; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'ISO, DMY'",
    "BEGIN; SET TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; ROLLBACK",
    "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; COMMIT",
    "SET search_path = one, two; SET TimeZone = 'Asia/Tokyo'; RESET TimeZone",
    "SET application_name = 'own'; RESET ALL",
)


def scripts() -> Iterator[tuple[str, list[str]]]:
    """The sections of the file, with their statements."""
    for part in Path(FILE).read_text(encoding="utf-8").split("\n== ")[1:]:
        name, _, script = part.partition("\n")
        yield name, [line for line in script.splitlines() if line]


def main(sections: dict[str, Callable[[], Any]]) -> None:
    """Run them one after the other."""
    results = {}
    for name, section in sections.items():
        print(name, file=sys.stderr)
        try:
            got = section()
            results[name] = asyncio.run(got) if asyncio.iscoroutine(got) else got
        except Exception as error:
            traceback.print_exc()
            results[name] = {"raised": f"{type(error).__name__}: {error}"}
    print(json.dumps(results, default=str))
