"""A configuration as text: every key with its value, as TOML has it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, SecretStr

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every dotted key with its value; a list or a table of names counts as one."""
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def toml_text(value: object) -> str:
    """A value as TOML shows it on one line; a secret as asterisks."""
    if isinstance(value, SecretStr):
        return '"********"' if value.get_secret_value() else '""'
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value).removesuffix(".0")
    if isinstance(value, BaseModel):
        return _inline({name: toml_text(item) for name, item in value if item is not None})
    if isinstance(value, dict):
        return _inline({_toml_key(name): toml_text(item) for name, item in value.items()})
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_text(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)


def _inline(pairs: Mapping[str, str]) -> str:
    if not pairs:
        return "{}"
    return "{ " + ", ".join(f"{name} = {text}" for name, text in pairs.items()) + " }"


def _toml_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)
