"""Whatever stands in the API server's JSON: no exception, and no backend without an address."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.topology.model import Backend
from pgproxy.topology.pods import backend_of, ignored_weight, why_not
from pgproxy.topology.podstore import Store, read_page
from pgproxy.topology.presets import Rules
from tests.support.operators import pod

RULES = (
    Rules("app=db", "role", ("primary",), ("replica",)),
    Rules("app=db", ports=("postgresql",)),
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            found += places(item, (*path, position))
    return found


PLACES = [path for path in places(pod(labels={"role": "primary"})) if path]


def _keys(place: dict[Any, Any] | list[Any]) -> set[Any]:
    return set(place) if isinstance(place, dict) else set(range(len(place)))


@st.composite
def mangled(draw: st.DrawFn) -> Any:
    """The usual pod with some of its fields replaced or taken away."""
    found = copy.deepcopy(pod(labels={"role": "primary"}))
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=4)):
        place: Any = found
        for key in path[:-1]:
            try:
                place = place[key]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(place, dict) and draw(st.booleans()):
                place.pop(path[-1], None)
            elif isinstance(place, dict | list) and path[-1] in _keys(place):
                place[path[-1]] = draw(anything)
    return found


def is_sound(backend: Backend) -> bool:
    return (
        all(isinstance(text, str) for text in (backend.name, backend.host, backend.uid))
        and bool(backend.name and backend.host and backend.uid)
        and 0 < backend.port < 65536
        and backend.role in {"auto", "primary", "replica", "none"}
        and isinstance(backend.zone, str)
        and 0 <= backend.weight <= 1000
        and backend.ready in {True, False}
    )


@given(mangled() | anything)
def test_a_pod_is_a_sound_backend_or_there_is_a_reason(one: Any) -> None:
    for rules in RULES:
        backend = backend_of(one, rules)
        assert (backend is None) == bool(why_not(one, rules))
        assert backend is None or is_sound(backend)
        assert isinstance(ignored_weight(one), str)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]),
            mangled() | anything,
        ),
        max_size=6,
    )
)
def test_a_watch_of_such_pods_is_taken(events: list[tuple[str, Any]]) -> None:
    store = Store(RULES[0])
    for kind, thing in events:
        before = store.snapshot()
        event, has_changed = store.take(json.dumps({"type": kind, "object": thing}).encode())
        assert has_changed == (store.snapshot() != before)
        assert event.kind in {"added", "modified", "deleted", "bookmark", "error", "invalid"}
        assert isinstance(event.retry_after, float)
    names = [backend.name for backend in store.snapshot()]
    assert names == sorted(set(names))


@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_line_and_any_list_is_taken(line: bytes) -> None:
    store = Store(RULES[0])
    event, has_changed = store.take(line)
    assert event.outcome is not None or event.kind == "bookmark"
    assert not has_changed
    page = read_page(line)
    assert page is None or page.resource_version
