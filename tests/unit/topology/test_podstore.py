import json
from typing import Any

import pytest

from pgproxy.topology.pods import WEIGHT
from pgproxy.topology.podstore import (
    Event,
    Page,
    Store,
    error_event,
    message_of,
    read_page,
)
from pgproxy.topology.presets import Rules
from pgproxy.topology.schedule import Outcome
from tests.support.operators import pod

RULES = Rules("app=db", "role", ("primary",), ("replica",))
PRIMARY = {"role": "primary"}
REPLICA = {"role": "replica"}


def line(kind: str, thing: object) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def roles(store: Store) -> dict[str, str]:
    return {backend.name: backend.role for backend in store.snapshot()}


@pytest.fixture
def store() -> Store:
    store = Store(RULES)
    store.replace((pod("db-1", REPLICA, uid="u1"), pod("db-0", PRIMARY, uid="u0")))
    return store


def test_a_snapshot_is_in_the_order_of_names(store: Store) -> None:
    assert list(roles(store)) == ["db-0", "db-1"]


def weighed(weight: str, name: str = "db-1") -> dict[str, Any]:
    one = pod(name, REPLICA, uid="u1")
    one["metadata"]["annotations"][WEIGHT] = weight
    return one


def test_a_weight_that_is_none_is_remembered_while_it_is_there(store: Store) -> None:
    assert store.ignored == {}
    _, has_changed = store.take(line("MODIFIED", weighed("heavy")))
    assert not has_changed
    assert list(store.ignored) == ["db-1"]
    assert "'heavy'" in store.ignored["db-1"]
    _, has_changed = store.take(line("MODIFIED", weighed("7")))
    assert (has_changed, store.ignored) == (True, {})
    store.take(line("MODIFIED", weighed("heavy")))
    store.take(line("DELETED", weighed("heavy")))
    assert store.ignored == {}
    store.replace((weighed("heavy"),))
    assert list(store.ignored) == ["db-1"]
    store.replace(())
    assert store.ignored == {}


def test_a_list_replaces_everything(store: Store) -> None:
    """What was deleted while nobody watched is not on the list."""
    store.replace((pod("db-1", PRIMARY, uid="u1"), "nonsense", None))
    assert roles(store) == {"db-1": "primary"}
    store.replace(())
    assert store.snapshot() == ()


def test_a_label_that_changes(store: Store) -> None:
    event, has_changed = store.take(line("MODIFIED", pod("db-1", PRIMARY, uid="u1")))
    assert (event, has_changed) == (Event("modified", "81236"), True)
    assert roles(store) == {"db-0": "primary", "db-1": "primary"}


def test_what_does_not_concern_routing_is_no_change(store: Store) -> None:
    one = pod("db-0", PRIMARY, uid="u0")
    one["metadata"]["annotations"]["status"] = '{"xlog_location": 7}'
    one["metadata"]["resourceVersion"] = "90000"
    before = store.snapshot()
    assert store.take(line("MODIFIED", one)) == (Event("modified", "90000"), False)
    assert store.snapshot() == before


def test_a_pod_that_leaves_the_selector_still_has_its_old_labels(store: Store) -> None:
    assert store.take(line("DELETED", pod("db-0", PRIMARY, uid="u0"))) == (
        Event("deleted", "81236"),
        True,
    )
    assert roles(store) == {"db-1": "replica"}
    assert store.take(line("DELETED", pod("db-0", PRIMARY, uid="u0")))[1] is False


def test_a_pod_of_the_same_name_is_another_server(store: Store) -> None:
    store.take(line("DELETED", pod("db-0", PRIMARY, uid="u0")))
    store.take(line("ADDED", pod("db-0", REPLICA, uid="u9", ip="10.244.9.9")))
    found = {backend.name: (backend.uid, backend.host) for backend in store.snapshot()}
    assert found["db-0"] == ("u9", "10.244.9.9")
    # A late word on the one before does not take its successor away.
    assert store.take(line("DELETED", pod("db-0", PRIMARY, uid="u0")))[1] is False
    assert "db-0" in roles(store)


def test_why_a_pod_is_no_backend(store: Store) -> None:
    young = pod("db-2", REPLICA, uid="u2")
    young["status"] = {"phase": "Pending"}
    assert store.take(line("ADDED", young))[1] is False
    assert store.reasons == {"db-2": "it has no address yet"}
    assert (store.pods, len(store.snapshot())) == (3, 2)
    assert store.take(line("MODIFIED", pod("db-2", REPLICA, uid="u2")))[1] is True
    assert store.reasons == {}
    failed = pod("db-2", REPLICA, uid="u2", phase="Failed")
    assert store.take(line("MODIFIED", failed))[1] is True
    assert store.take(line("DELETED", failed))[1] is False
    assert (store.reasons, store.pods) == ({}, 2)


def test_a_bookmark_moves_the_version_alone(store: Store) -> None:
    before = store.snapshot()
    bookmark = {"kind": "Pod", "metadata": {"resourceVersion": "777"}, "spec": {"containers": None}}
    assert store.take(line("BOOKMARK", bookmark)) == (Event("bookmark", "777"), False)
    assert store.snapshot() == before


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\n", "invalid"),
        (b"{\n", "invalid"),
        (b"\xff\xfe\n", "invalid"),
        (b"[" * 100_000, "invalid"),
        (b"[]\n", "invalid"),
        (b"null\n", "invalid"),
        (b"{}\n", "unknown"),
        (line("SYNC", {}), "unknown"),
        (line("added", pod()), "unknown"),
        (json.dumps({"type": ["ADDED"]}).encode(), "unknown"),
        (line("ADDED", None), "invalid"),
        (line("DELETED", {"metadata": {}}), "invalid"),
    ],
)
def test_what_is_not_understood_is_listed_anew(store: Store, raw: bytes, kind: str) -> None:
    before = store.snapshot()
    event, has_changed = store.take(raw)
    assert (event.kind, event.outcome, has_changed) == (kind, Outcome.GARBLED, False)
    assert event.message
    assert store.snapshot() == before


@pytest.mark.parametrize(
    ("status", "outcome", "retry_after"),
    [
        ({"code": 410, "reason": "Expired"}, Outcome.GONE, 0),
        ({"code": 410}, Outcome.GONE, 0),
        ({"reason": "Gone"}, Outcome.GONE, 0),
        ({"code": 500}, Outcome.ERROR, 0),
        ({"code": 500, "reason": None}, Outcome.ERROR, 0),
        ({"code": 429, "details": {"retryAfterSeconds": 5}}, Outcome.THROTTLED, 5),
        ({"code": 500, "details": {"retryAfterSeconds": 10**400}}, Outcome.ERROR, 3600),
        ({"code": 500, "details": {"retryAfterSeconds": "5"}}, Outcome.ERROR, 0),
        ({"details": []}, Outcome.ERROR, 0),
        ({}, Outcome.ERROR, 0),
        (None, Outcome.ERROR, 0),
        ("gone", Outcome.ERROR, 0),
    ],
)
def test_an_error_within_a_watch(status: Any, outcome: Outcome, retry_after: float) -> None:
    event = error_event(status)
    assert (event.kind, event.outcome, event.retry_after) == ("error", outcome, retry_after)
    assert event.message
    assert Store(RULES).take(line("ERROR", status)) == (event, False)


def test_a_page_of_a_list() -> None:
    body = {
        "kind": "PodList",
        "metadata": {"resourceVersion": "9", "continue": "abc"},
        "items": [1],
    }
    assert read_page(json.dumps(body).encode()) == Page((1,), "9", "abc")


@pytest.mark.parametrize("items", [[], None])
def test_an_empty_list_is_a_list(items: object) -> None:
    body = {"metadata": {"resourceVersion": "9"}, "items": items}
    assert read_page(json.dumps(body).encode()) == Page((), "9", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"items": []}',
        b'{"items": [], "metadata": null}',
        b'{"items": [], "metadata": {"resourceVersion": 9}}',
        b'{"metadata": {"resourceVersion": "9"}}',
        b'{"metadata": {"resourceVersion": "9"}, "items": {}}',
    ],
)
def test_what_is_no_list_takes_no_pod_away(body: bytes) -> None:
    assert read_page(body) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"kind": "Status", "message": "pods is forbidden"}', "pods is forbidden"),
        (b'{"message": 7}', '{"message": 7}'),
        (b"<html>\n  bad   gateway", "<html> bad gateway"),
        (b"\xff" * 3, "\ufffd" * 3),
        (b"", ""),
        (b"x" * 5000, "x" * 200),
    ],
)
def test_what_a_refusal_says(body: bytes, message: str) -> None:
    assert message_of(body) == message
