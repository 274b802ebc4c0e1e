"""What is wrong with a key: one line, with where the key is from and what is accepted."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from pgproxy.config.environment import variable
from pgproxy.config.keys import accepted_by, closest, did_you_mean, field_at, kind_of, model_at
from pgproxy.config.text import toml_text

_URL_OF_SOMEBODY: Final = re.compile(r"://[^/]*@")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a key, and what is accepted."""

    key: str
    text: str


def explain(item: Any) -> Fault:
    """One of pydantic's findings as a fault in our words."""
    loc: tuple[str | int, ...] = item["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)[1:]
    parts = [part for part in loc if isinstance(part, str)]
    if item["type"] == "extra_forbidden":
        siblings = list(model_at(parts[:-1]).model_fields)
        meant = closest(parts[-1], siblings)
        hint = did_you_mean(meant) or f"; accepted here: {', '.join(siblings)}"
        return Fault(key, f"is no key{hint}")
    field = field_at(parts)
    accepted = accepted_by(field) if field is not None else "a table"
    if item["type"] == "missing":
        return Fault(key, f"is missing; accepted: {accepted}")
    shown = "this value"
    if isinstance(item["input"], str | int | float) and kind_of(field) is not SecretStr:
        # A URL may have a password in it.
        shown = (
            "this URL" if _URL_OF_SOMEBODY.search(str(item["input"])) else toml_text(item["input"])
        )
    return Fault(key, f"{shown} is not accepted; accepted: {accepted}")


def line_of(fault: Fault, sources: Mapping[str, str], path: Path | None) -> str:
    """The line of a fault: origin, key, what is wrong."""
    origin = source_of(sources, fault.key).partition(" ")[2]
    if not origin:
        origin = str(path) if path is not None else variable(fault.key.partition("[")[0])
    return f"{origin}: {fault.key}: {fault.text}"


def source_of(sources: Mapping[str, str], key: str) -> str:
    """Who gave `key`: itself, or the list or table it came in."""
    while key:
        if key in sources:
            return sources[key]
        if key.count(".") > 1:  # one name of a table of names, whose keys were given
            for given, source in sources.items():
                if given.startswith(f"{key}."):
                    return source
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return ""


def unreadable(key: str, path: Path) -> Iterator[Fault]:
    """A file that is named and cannot be read."""
    try:
        with path.open("rb"):
            return
    except OSError as error:
        yield Fault(key, f"{path} cannot be read: {error.strerror}; accepted: a readable file")
