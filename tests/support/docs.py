"""The parts of the documentation that are made from the code. `make docs` writes them anew.

A generated part stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`;
tests/unit/test_docs.py fails when one is not what the code says.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from pgproxy.protocol import states
from pgproxy.routing.reasons import SENTENCES
from pgproxy.telemetry import catalogue, labelling
from pgproxy.topology.presets import PRESETS
from tests.support.sqlalchemy_suite import exemptions

ROOT: Final = Path(__file__).resolve().parents[2]

_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """Every Markdown file of the project that people read."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/README.md"])


def render(text: str) -> str:
    """The text with its generated parts as they should be. KeyError for one nobody makes."""
    return _PART.sub(lambda found: found[1] + PARTS[found[2]]() + "\n" + found[3], text)


def names(text: str) -> list[str]:
    """The generated parts that a text has."""
    return [found[2] for found in _PART.finditer(text)]


def _lease() -> str:
    return f"```mermaid\n{states.lease_mermaid()}\n```"


def _metrics(catalogue: Iterable[tuple[str, str, str, str]]) -> str:
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for name, kind, labels, meaning in catalogue:
        shown = f"{name}_info" if kind == "info" else name
        lines.append(f"| `{shown}` | {kind} | {labels} | {meaning} |")
    return "\n".join(lines)


def _reasons() -> str:
    lines = ["| reason | why |", "|---|---|"]
    lines += [f"| `{reason.value}` | {sentence} |" for reason, sentence in SENTENCES.items()]
    return "\n".join(lines)


def _presets() -> str:
    lines = [
        "| preset | selector | role label | primary | replica | port |",
        "|---|---|---|---|---|---|",
    ]
    for name, preset in PRESETS.items():
        selector = preset.selector.replace("{cluster}", "CLUSTER")
        label = f"`{preset.role_label}`" if preset.role_label else "none: the server is asked"
        primary, replica = map(_codes, (preset.primary_values, preset.replica_values))
        ports = _codes(preset.ports)
        lines.append(f"| `{name}` | `{selector}` | {label} | {primary} | {replica} | {ports} |")
    return "\n".join(lines)


def _sqlalchemy() -> str:
    listed = exemptions()
    lines = ["| test | driver | why |", "|---|---|---|"]
    lines += [f"| `{one.tests}` | {', '.join(one.drivers)} | {one.reason} |" for one in listed]
    return "\n".join(lines) if listed else "There are no exceptions."


def _codes(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "replies": states.replies_markdown,
    "lease": _lease,
    "label_metrics": lambda: _metrics(labelling.CATALOGUE),
    "metrics": lambda: _metrics(catalogue.CATALOGUE),
    "presets": _presets,
    "reasons": _reasons,
    "sqlalchemy": _sqlalchemy,
}


def main() -> None:
    """Write every document's generated parts."""
    for path in documents():
        old = path.read_text(encoding="utf-8")
        new = render(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} written")  # noqa: T201 - what `make docs` shows


if __name__ == "__main__":
    main()
