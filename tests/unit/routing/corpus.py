"""corpus.txt, read: statements and the decisions they must get."""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCHEMA = (HERE / "corpus.sql").read_text()


@dataclass(frozen=True)
class Case:
    """One statement and what holds for it; `pin` is "" where nothing pins."""

    line: int
    sql: str
    target: str
    reason: str
    pin: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.sql}"


def _unescaped(line: str) -> str:
    return line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")


def read_corpus() -> list[Case]:
    """Every statement of corpus.txt."""
    cases: list[Case] = []
    heading: list[str] = []
    for number, line in enumerate((HERE / "corpus.txt").read_text().splitlines(), 1):
        if line.startswith("["):
            heading = line.strip("[]").split()
        elif line.startswith("#") or (not line and heading[:2] != ["replica", "empty"]):
            continue
        else:
            pin = heading[2] if len(heading) > 2 else ""
            cases.append(Case(number, _unescaped(line), heading[0], heading[1], pin))
    return cases
