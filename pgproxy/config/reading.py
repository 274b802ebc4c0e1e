"""From a TOML file and the environment to a `Config`, or to one line per fault.

The environment wins over the file, the file over the defaults. Relative paths are relative to the
file's folder. A key whose feature is not built yet is refused unless it keeps a value that is
true already (`available.AVAILABLE_NOW`): nothing that was asked for is ignored in silence.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pgproxy.config.available import not_available
from pgproxy.config.environment import merge_environment
from pgproxy.config.faults import Fault, explain, line_of
from pgproxy.config.keys import given_keys, is_model, kind_of
from pgproxy.config.model import Config
from pgproxy.config.rules import contradictions
from pgproxy.config.text import leaves, toml_text
from pgproxy.errors import ConfigError

Rules = Callable[[Config, Mapping[str, str], Mapping[str, str]], Iterator[Fault]]


@dataclass(frozen=True)
class Setting:
    """One effective value: dotted key, TOML text (secrets masked), and where it came from."""

    key: str
    value: str
    origin: str


def load(path: Path | None, environ: Mapping[str, str], rules: Rules = contradictions) -> Config:
    """Read and check the configuration; raises ConfigError with one line per fault.

    `rules` say what concerns several keys: what they are depends on what the configuration is for.
    """
    return _load(path, environ, rules)[0]


def origins(path: Path | None, environ: Mapping[str, str]) -> tuple[Setting, ...]:
    """Every effective value with its origin: default, file PATH, or environment NAME.

    Raises ConfigError as `load` does.
    """
    config, sources = _load(path, environ)
    return tuple(
        Setting(key, toml_text(value), _origin(sources, key)) for key, value in leaves(config)
    )


def _load(
    path: Path | None, environ: Mapping[str, str], rules: Rules = contradictions
) -> tuple[Config, dict[str, str]]:
    """The configuration and, per dotted key that was given, by whom: `file …`, `environment …`."""
    data = _read_file(path)
    sources = dict.fromkeys(given_keys(data), f"file {path}")
    lines = merge_environment(data, sources, environ)
    _take_back_the_default_file(data)
    _resolve_paths(Config, data, path.parent.resolve() if path is not None else Path.cwd())

    faults: list[Fault] = []
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        faults = [explain(item) for item in error.errors(include_url=False)]
    if config is not None and not lines:
        faults = [*not_available(config), *rules(config, sources, environ)]
    lines += [line_of(fault, sources, path) for fault in faults]
    if lines or config is None:
        raise ConfigError(lines)
    return config, sources


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text, as TOML must be"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from error


def _take_back_the_default_file(data: dict[str, Any]) -> None:
    """Who names users elsewhere need not say that there is no users file."""
    auth = data.get("auth")
    if isinstance(auth, dict) and (auth.get("users_env") or auth.get("users_dirs")):
        auth.setdefault("users_file", "")


def _resolve_paths(model: type[BaseModel], data: dict[str, Any], base: Path) -> None:
    """Make the paths of `data`, and those that are defaults, absolute."""
    for name, field in model.model_fields.items():
        kind = kind_of(field)
        if is_model(kind):
            table = data.setdefault(name, {})
            if isinstance(table, dict):
                _resolve_paths(kind, table, base)
        elif kind is Path:
            value = data.get(name, field.default)
            if value is not None and value != "" and isinstance(value, str | Path):
                data[name] = str(base / value)
        elif kind is tuple and get_args(field.annotation)[0] is Path:
            given = data.get(name)
            if isinstance(given, list):
                data[name] = [str(base / one) if isinstance(one, str) else one for one in given]


def _origin(sources: Mapping[str, str], key: str) -> str:
    """Who gave a value: of a table of names there may be several."""
    inside = {source for given, source in sources.items() if given.startswith(f"{key}.")}
    return sources.get(key) or " and ".join(sorted(inside)) or "default"
