"""Writes pgproxy/routing/builtins.py from the catalogues of real PostgreSQL servers.

    python tests/unit/routing/generate_builtins.py DSN [DSN …] > pgproxy/routing/builtins.py

One freshly initialised server for each major version the list shall hold for. A function counts as
non-volatile only if, in every version that has it, all its overloads are; what no SQL can call
(arguments of type internal, trigger functions) is left out. test_builtins.py runs this against the
embedded servers and compares.
"""

import sys
import textwrap
from collections.abc import Iterable
from typing import Final

import psycopg

HEADER: Final = '''"""What PostgreSQL itself brings: generated, do not edit.

Made by tests/unit/routing/generate_builtins.py from the catalogues of PostgreSQL {versions}.
Names of the schema pg_catalog, over all of these versions: functions of which every overload is
stable or immutable, functions of which one is volatile, types, operators.
"""

from typing import Final
'''

# Every overload counts for volatility, but a name is listed only if SQL can call one of them.
FUNCTIONS: Final = """
    select proname,
           bool_or(provolatile = 'v'),
           bool_or(prorettype not in ('internal'::regtype, 'trigger'::regtype,
                                      'event_trigger'::regtype, 'language_handler'::regtype)
                   and not 'internal'::regtype = any(proargtypes))
      from pg_catalog.pg_proc
     where pronamespace = 'pg_catalog'::regnamespace
     group by proname
"""

# Base, range, multirange and pseudo types, and their arrays; no row types, no domains.
TYPES: Final = """
    select typname
      from pg_catalog.pg_type
     where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm', 'p')
       and (typelem = 0 or (select e.typtype from pg_catalog.pg_type e
                             where e.oid = pg_type.typelem) in ('b', 'r', 'm', 'p'))
"""

OPERATORS: Final = """
    select oprname
      from pg_catalog.pg_operator o
     where oprnamespace = 'pg_catalog'::regnamespace
     group by oprname
    having not bool_or((select provolatile from pg_catalog.pg_proc p where p.oid = o.oprcode) = 'v')
"""


class Builtins:
    """The union over the servers asked so far."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.volatile: set[str] = set()
        self.callable: set[str] = set()
        self.types: set[str] = set()
        self.operators: set[str] = set()

    def ask(self, dsn: str) -> None:
        """Adds one server's catalogue. Raises psycopg.Error."""
        with psycopg.connect(dsn) as connection:
            version = connection.execute("show server_version").fetchone()
            assert version is not None
            self.versions.append(str(version[0]))
            for name, volatile, can_be_called in connection.execute(FUNCTIONS).fetchall():
                if volatile:
                    self.volatile.add(name)
                if can_be_called:
                    self.callable.add(name)
            self.types.update(row[0] for row in connection.execute(TYPES).fetchall())
            self.operators.update(row[0] for row in connection.execute(OPERATORS).fetchall())

    def module(self) -> str:
        """The text of builtins.py."""
        return "\n".join(
            [
                HEADER.format(versions=" and ".join(self.versions)),
                constant("NON_VOLATILE", self.callable - self.volatile),
                constant("VOLATILE", self.callable & self.volatile),
                constant("TYPES", self.types),
                constant("OPERATORS", self.operators),
            ]
        )


def constant(name: str, values: Iterable[str]) -> str:
    """One set of names as Python source. No name of PostgreSQL's own holds white space."""
    lines = textwrap.wrap(
        " ".join(sorted(values)), 96, break_long_words=False, break_on_hyphens=False
    )
    body = "\n".join(f"    {line}" for line in lines)
    return f'{name}: Final = frozenset(\n    r"""\n{body}\n    """.split()\n)\n'


def main(dsns: list[str]) -> None:
    """Prints the module for the servers at `dsns`."""
    builtins = Builtins()
    for dsn in dsns:
        builtins.ask(dsn)
    sys.stdout.write(builtins.module().rstrip("\n") + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
