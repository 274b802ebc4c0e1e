"""Label selectors, as a query has them: `a=b,c!=d,e in (f,g),h notin (i),j,!k`."""

import re
from collections.abc import Callable, Mapping
from typing import Final

Selector = Callable[[Mapping[str, str]], bool]

_KEY: Final = r"[A-Za-z0-9._/-]+"
_REQUIREMENT: Final = re.compile(
    rf"\s*(?:(?P<not>!)\s*(?P<absent>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<operator>==?|!=)\s*(?P<value>[A-Za-z0-9._-]*)"
    rf"|\s(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)


def parse_selector(text: str) -> Selector:
    """Says of labels whether they match. Raises ValueError."""
    requirements: list[Selector] = []
    position = 0
    while position < len(text):
        found = _REQUIREMENT.match(text, position)
        if found is None:
            raise ValueError(f"no label selector: {text[position:]!r}")
        requirements.append(_requirement(found))
        position = found.end()
    return lambda labels: all(one(labels) for one in requirements)


def _requirement(found: re.Match[str]) -> Selector:
    if absent := found["absent"]:
        return lambda labels: absent not in labels
    key: str = found["key"]
    if found["operator"] is not None:
        values = {found["value"]}
    elif found["set"] is not None:
        values = {value.strip() for value in found["values"].split(",")}
    else:
        return lambda labels: key in labels
    # One without the label matches both negative forms.
    if found["operator"] == "!=" or found["set"] == "notin":
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values
