"""`[pool] size` is `PGPROXY_POOL__SIZE` in the environment, where lists and tables are JSON."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pgproxy.config.keys import (
    accepted_by,
    closest,
    did_you_mean,
    field_at,
    given_keys,
    is_model,
    kind_of,
    known_keys,
)
from pgproxy.config.logins import pair_of
from pgproxy.config.model import Config

ENVIRONMENT_PREFIX: Final = "PGPROXY_"

# Kubernetes puts such variables into every pod of a namespace that has a Service named pgproxy
# or pgproxy-http; they are not ours, although PGPROXY_HTTP_PORT could look like it.
_SERVICE_LINK: Final = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)

_SERVICE_LINK_VALUE: Final = re.compile(r"^(tcp|udp|sctp)://")


def variable(key: str) -> str:
    """The environment variable of a dotted key."""
    return ENVIRONMENT_PREFIX + key.replace(".", "__").upper() if key else ""


def merge_environment(
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
                joined = {key.replace(".", "_"): key for key in known_keys()}
                meant = joined.get(closest(parts[0], list(joined)), "")
                faults[name] = (
                    f"{name}: is no key; section and key are divided by two underscores"
                    + did_you_mean(variable(meant))
                )
            continue
        key = ".".join(parts)
        field = field_at(parts)
        if field is None:
            meant = closest(key, list(known_keys()))
            faults[name] = f"{name}: {key}: is no key{did_you_mean(variable(meant))}"
            continue
        try:
            value = _from_text(field, environ[name])
        except ValueError:
            faults[name] = f"{name}: {key}: is not JSON; accepted: {accepted_by(field)}, as JSON"
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
        sources.update(dict.fromkeys(given_keys({key: value}), f"environment {name}"))
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
    kind = kind_of(field)
    if kind in (tuple, dict) or is_model(kind):
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
