"""What keys there are, what kind of value each has, and what is accepted."""

import difflib
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pgproxy.config.model import Config


def given_keys(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of everything that is not a table; a list counts as one."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from given_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key that there is."""
    for name, field in model.model_fields.items():
        kind = kind_of(field)
        if is_model(kind):
            yield from known_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def field_at(parts: list[str]) -> FieldInfo | None:
    """The key that stands there, also inside a list of tables; None if there is none."""
    model: type[BaseModel] | None = Config
    field = None
    names = iter(parts)
    for part in names:
        field = model.model_fields.get(part) if model is not None else None
        kind = kind_of(field)
        if kind is dict:
            next(names, "")  # anybody's name
        model = kind if is_model(kind) else _item(field)
    return field


def model_at(parts: list[str]) -> type[BaseModel]:
    """The model whose keys stand at `parts`, also inside a list of tables."""
    model: type[BaseModel] = Config
    names = iter(parts)
    for part in names:
        field = model.model_fields[part]
        kind = kind_of(field)
        if kind is dict:
            next(names, "")  # anybody's name
        model = _item(field) or cast("type[BaseModel]", kind)
    return model


def kind_of(field: FieldInfo | None) -> Any:
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


def is_model(kind: Any) -> bool:
    """Whether the kind is a table of keys."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _item(field: FieldInfo | None) -> type[BaseModel] | None:
    """The model of what stands in a list of tables, or in a table of names."""
    arguments = get_args(field.annotation) if field is not None else ()
    return next((one for one in arguments if is_model(one)), None)


def accepted_by(field: FieldInfo) -> str:
    """What is accepted, in words."""
    kind = kind_of(field)
    if kind is Literal:
        values = get_args(_without_none(field.annotation))
        return ", ".join(f'"{value}"' for value in values)
    return "a table" if is_model(kind) else (_description(field) or "a text")


def _description(field: FieldInfo) -> str | None:
    """Its own, or that of an optional value."""
    if field.description is not None:
        return field.description
    infos = [
        info for one in get_args(field.annotation) for info in getattr(one, "__metadata__", ())
    ]
    return next((info.description for info in infos if isinstance(info, FieldInfo)), None)


def closest(word: str, known: list[str]) -> str:
    """What may have been meant, "" if nothing is like it."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), "")


def did_you_mean(meant: str) -> str:
    """The end of a fault's line."""
    return f"; did you mean {meant}?" if meant else ""
