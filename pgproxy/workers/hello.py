"""PURE. The configuration on its way to a worker: all have the one that the supervisor began with."""

from pathlib import Path
from typing import Any

from pgproxy.config import Config


def to_plain(config: Config) -> Any:
    """As JSON takes it, secrets included."""
    return _plain(config.model_dump())


def from_plain(plain: Any) -> Config:
    return Config.model_validate(plain)


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    reveal = getattr(value, "get_secret_value", None)
    return value if reveal is None else reveal()
