"""The router corpus: the statements of tests/corpus.

A statement begins in the first column of its file; lines that begin with white space belong to the
one above them. `--` in the first column is a comment. What holds for a statement is said behind it
by ` --! …`, or for all that follow by a line `--! …`, as words:

    primary, replica   where the router has to send it (traps only), or
    auto               where it likes
    db=unnamed         the database, if it is not main: schemas/ says what each holds
    path=app,public    the search_path, if it is not the default
    set=name=value     another setting
    since=17           the first major version of PostgreSQL that knows it
    error=55000        the primary refuses it, with this SQLSTATE
    $=1|abc            its parameters, up to the end of the line
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent.parent / "corpus"

SCHEMAS: Final = HERE / "schemas"
DATABASES: Final = ("main", "overloaded", "unnamed")  # copies of the first, each with more in it

DEFAULT_PATH: Final = ("$user", "public")
_MARK: Final = "--!"


@dataclass(frozen=True)
class Entry:
    """One statement and what is said of it."""

    origin: str
    line: int = 0
    sql: str = ""
    target: str = ""
    database: str = "main"
    path: tuple[str, ...] = DEFAULT_PATH
    settings: tuple[tuple[str, str], ...] = ()
    since: int = 0
    error: str = ""
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.origin}:{self.line}: {self.sql}"


def read_corpus() -> list[Entry]:
    """Every statement of every file."""
    return [entry for path in sorted(HERE.glob("*.sql")) for entry in _read(path)]


def _read(path: Path) -> Iterator[Entry]:
    heading = Entry(path.stem)
    lines: list[str] = []
    begun = 0
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        if lines and line[:1].isspace():
            lines.append(line)
            continue
        if lines:
            yield _entry(heading, begun, "\n".join(lines))
            lines = []
        if line.startswith(_MARK):
            heading = _said(Entry(path.stem), line.removeprefix(_MARK))
        elif line and not line.startswith("--"):
            lines, begun = [line], number


def _entry(heading: Entry, number: int, text: str) -> Entry:
    sql, mark, words = text.rpartition(" " + _MARK)
    said = _said(heading, words) if mark else heading
    return replace(said, line=number, sql=sql if mark else text)


def _said(entry: Entry, words: str) -> Entry:
    words, mark, parameters = words.partition("$=")
    if mark:
        entry = replace(entry, parameters=tuple(parameters.split("|")))
    for word in shlex.split(words):
        key, _, value = word.partition("=")
        if key in {"primary", "replica", "auto"}:
            entry = replace(entry, target=key.removeprefix("auto"))
        elif key == "db":
            entry = replace(entry, database=value)
        elif key == "path":
            entry = replace(entry, path=tuple(value.split(",")))
        elif key == "set":
            name, _, setting = value.partition("=")
            entry = replace(entry, settings=(*entry.settings, (name, setting)))
        elif key == "since":
            entry = replace(entry, since=int(value))
        elif key == "error":
            entry = replace(entry, error=value)
        else:
            raise ValueError(f"{entry.origin}: what is {word!r}?")
    return entry
