"""From a TOML file and the environment to a `Config`, or to one line per fault.

`[pool] size` is `PGPROXY_POOL__SIZE` in the environment, where lists and tables are JSON. The
environment wins over the file, the file over the defaults. Relative paths are relative to the
file's folder. A key whose feature is not built yet is refused unless it keeps a value that is
true already (`config.AVAILABLE_NOW`): nothing that was asked for is ignored in silence.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, Literal, cast, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from pgproxy.config.logins import pair_of
from pgproxy.config.model import AVAILABLE_NOW, Config
from pgproxy.config.rules import ENVIRONMENT_PREFIX, Fault, contradictions, variable
from pgproxy.errors import ConfigError

# Kubernetes puts such variables into every pod of a namespace that has a Service named pgproxy
# or pgproxy-http; they are not ours, although PGPROXY_HTTP_PORT could look like it.
_SERVICE_LINK: Final = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)
_SERVICE_LINK_VALUE: Final = re.compile(r"^(tcp|udp|sctp)://")


Rules = Callable[[Config, Mapping[str, str], Mapping[str, str]], Iterator[Fault]]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_URL_OF_SOMEBODY: Final = re.compile(r"://[^/]*@")


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


def _load(
    path: Path | None, environ: Mapping[str, str], rules: Rules = contradictions
) -> tuple[Config, dict[str, str]]:
    """The configuration and, per dotted key that was given, by whom: `file …`, `environment …`."""
    data = _read_file(path)
    sources = dict.fromkeys(_given(data), f"file {path}")
    lines = _merge_environment(data, sources, environ)
    _take_back_the_default_file(data)
    _resolve_paths(Config, data, path.parent.resolve() if path is not None else Path.cwd())

    faults: list[Fault] = []
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        faults = [_explain(item) for item in error.errors(include_url=False)]
    if config is not None and not lines:
        faults = [*_not_available(config), *rules(config, sources, environ)]
    lines += [_line(fault, sources, path) for fault in faults]
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


def _given(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of everything that is not a table; a list counts as one."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _given(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _merge_environment(
    data: dict[str, Any], sources: dict[str, str], environ: Mapping[str, str]
) -> list[str]:
    """Lay the environment over `data`; returns the lines of faults."""
    faults: dict[str, str] = {}  # by variable
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        parts = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if len(parts) == 1:
            if _looks_like_ours(name, parts[0], environ[name]):
                joined = {key.replace(".", "_"): key for key in _known_keys()}
                meant = joined.get(_closest(parts[0], list(joined)), "")
                faults[name] = (
                    f"{name}: is no key; section and key are divided by two underscores"
                    + _did_you_mean(variable(meant))
                )
            continue
        key = ".".join(parts)
        field = _field(parts)
        if field is None:
            meant = _closest(key, list(_known_keys()))
            faults[name] = f"{name}: {key}: is no key{_did_you_mean(variable(meant))}"
            continue
        try:
            value = _from_text(field, environ[name])
        except ValueError:
            faults[name] = f"{name}: {key}: is not JSON; accepted: {_accepted(field)}, as JSON"
            continue
        table: Any = data
        for part in parts[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            continue  # the file's own fault, at that section, is the one to report
        if isinstance(value, dict) and isinstance(table.get(parts[-1]), dict):
            table[parts[-1]].update(value)
        else:
            table[parts[-1]] = value
        sources.update(dict.fromkeys(_given({key: value}), f"environment {name}"))
    for name in _pairs_named_in(data):
        faults.pop(name, "")
    return list(faults.values())


def _pairs_named_in(data: Mapping[str, Any]) -> Iterator[str]:
    """The variables of users and of the monitor, which may begin like ours."""
    for section, key in (("auth", "users_env"), ("health", "user_env")):
        table = data.get(section)
        named = table.get(key, ()) if isinstance(table, dict) else ()
        for prefix in named if isinstance(named, list) else [named]:
            if isinstance(prefix, str) and prefix:
                yield from pair_of(prefix)


def _looks_like_ours(name: str, rest: str, value: str) -> bool:
    if _SERVICE_LINK.search(name) or _SERVICE_LINK_VALUE.match(value):
        return False
    return rest.partition("_")[0] in Config.model_fields


def _from_text(field: FieldInfo, text: str) -> object:
    """A variable's text as the field's kind of value; ValueError if it is not JSON but must be."""
    kind = _kind(field)
    if kind in (tuple, dict) or _is_model(kind):
        return json.loads(text)
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind is int or kind is float:
        try:
            return kind(text)
        except ValueError:
            return text  # the model says what is accepted
    # As in a pair of variables: a Secret made with `echo` ends so.
    return text.rstrip("\r\n") if kind is SecretStr else text


def _take_back_the_default_file(data: dict[str, Any]) -> None:
    """Who names users elsewhere need not say that there is no users file."""
    auth = data.get("auth")
    if isinstance(auth, dict) and (auth.get("users_env") or auth.get("users_dirs")):
        auth.setdefault("users_file", "")


def _resolve_paths(model: type[BaseModel], data: dict[str, Any], base: Path) -> None:
    """Make the paths of `data`, and those that are defaults, absolute."""
    for name, field in model.model_fields.items():
        kind = _kind(field)
        if _is_model(kind):
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


def _explain(item: Any) -> Fault:
    """One of pydantic's findings as a fault in our words."""
    loc: tuple[str | int, ...] = item["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)[1:]
    parts = [part for part in loc if isinstance(part, str)]
    if item["type"] == "extra_forbidden":
        siblings = list(_model_at(parts[:-1]).model_fields)
        meant = _closest(parts[-1], siblings)
        hint = _did_you_mean(meant) or f"; accepted here: {', '.join(siblings)}"
        return Fault(key, f"is no key{hint}")
    field = _field(parts)
    accepted = _accepted(field) if field is not None else "a table"
    if item["type"] == "missing":
        return Fault(key, f"is missing; accepted: {accepted}")
    shown = "this value"
    if isinstance(item["input"], str | int | float) and _kind(field) is not SecretStr:
        # A URL may have a password in it.
        shown = (
            "this URL" if _URL_OF_SOMEBODY.search(str(item["input"])) else toml_text(item["input"])
        )
    return Fault(key, f"{shown} is not accepted; accepted: {accepted}")


def _not_available(config: Config) -> Iterator[Fault]:
    values = dict(leaves(config))
    for key, now in AVAILABLE_NOW.items():
        if values[key] not in now:
            accepted = ", ".join(toml_text(value) for value in now)
            yield Fault(key, f"{toml_text(values[key])} is not available yet; now: {accepted}")


def _line(fault: Fault, sources: Mapping[str, str], path: Path | None) -> str:
    origin = _source(sources, fault.key).partition(" ")[2]
    if not origin:
        origin = str(path) if path is not None else variable(fault.key.partition("[")[0])
    return f"{origin}: {fault.key}: {fault.text}"


def _source(sources: Mapping[str, str], key: str) -> str:
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


def _origin(sources: Mapping[str, str], key: str) -> str:
    """Who gave a value: of a table of names there may be several."""
    inside = {source for given, source in sources.items() if given.startswith(f"{key}.")}
    return sources.get(key) or " and ".join(sorted(inside)) or "default"


def _did_you_mean(meant: str) -> str:
    return f"; did you mean {meant}?" if meant else ""


def _closest(word: str, known: list[str]) -> str:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), "")


def _kind(field: FieldInfo | None) -> Any:
    """int, float, str, Path, SecretStr, Literal, tuple, dict, or a model."""
    if field is None:
        return None
    annotation = _without_none(field.annotation)
    if get_origin(annotation) in (tuple, dict, Literal):
        return get_origin(annotation)
    return annotation


def _without_none(annotation: Any) -> Any:
    """What an optional value is if it is there."""
    kinds = [one for one in get_args(annotation) if one is not NoneType]
    if NoneType not in get_args(annotation) or len(kinds) != 1:
        return annotation
    return get_args(kinds[0])[0] if get_origin(kinds[0]) is Annotated else kinds[0]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _item(field: FieldInfo | None) -> type[BaseModel] | None:
    """The model of what stands in a list of tables, or in a table of names."""
    arguments = get_args(field.annotation) if field is not None else ()
    return next((one for one in arguments if _is_model(one)), None)


def _model_at(parts: list[str]) -> type[BaseModel]:
    """The model whose keys stand at `parts`, also inside a list of tables."""
    model: type[BaseModel] = Config
    names = iter(parts)
    for part in names:
        field = model.model_fields[part]
        kind = _kind(field)
        if kind is dict:
            next(names, "")  # anybody's name
        model = _item(field) or cast("type[BaseModel]", kind)
    return model


def _field(parts: list[str]) -> FieldInfo | None:
    model: type[BaseModel] | None = Config
    field = None
    names = iter(parts)
    for part in names:
        field = model.model_fields.get(part) if model is not None else None
        kind = _kind(field)
        if kind is dict:
            next(names, "")  # anybody's name
        model = kind if _is_model(kind) else _item(field)
    return field


def _accepted(field: FieldInfo) -> str:
    kind = _kind(field)
    if kind is Literal:
        values = get_args(_without_none(field.annotation))
        return ", ".join(f'"{value}"' for value in values)
    return "a table" if _is_model(kind) else (_description(field) or "a text")


def _description(field: FieldInfo) -> str | None:
    """Its own, or that of an optional value."""
    if field.description is not None:
        return field.description
    infos = [
        info for one in get_args(field.annotation) for info in getattr(one, "__metadata__", ())
    ]
    return next((info.description for info in infos if isinstance(info, FieldInfo)), None)


def _known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = _kind(field)
        if _is_model(kind):
            yield from _known_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
