"""Which label each pod is to have, and the order of the patches."""

from dataclasses import replace

import pytest

from pgproxy.label.decisions import (
    STAMP,
    Labels,
    Pod,
    Step,
    Wish,
    is_silent,
    next_step,
    patch_of,
    pod_of,
    taken,
    wish,
)
from pgproxy.topology.fusion import fuse
from pgproxy.topology.model import Backend, Probe, Topology

LABELS = Labels("role", "primary", "replica")
KEEP = 30.0
PRIMARY = Probe(True, False, timeline=2, lsn=100, system_identifier=7)
REPLICA = Probe(True, True, timeline=2, lsn=90, system_identifier=7)
DEAD = Probe(False, error="refused")


def pods(**values: str) -> tuple[Pod, ...]:
    return tuple(Pod(name, f"uid-{name}", "1", value) for name, value in values.items())


def topology(previous: Topology | None = None, **probes: Probe) -> Topology:
    backends = [Backend(name, "10.0.0.1", uid=f"uid-{name}") for name in probes]
    return fuse(backends, probes, previous)


def wishes_of(
    found: tuple[Pod, ...], seen: Topology, silent: float = 0.0, labels: Labels = LABELS
) -> dict[str, Wish]:
    return {pod.name: wish(pod, seen, silent, labels, KEEP) for pod in found}


def course(
    found: tuple[Pod, ...], seen: Topology, silent: float = 0.0, labels: Labels = LABELS
) -> list[str]:
    """The steps as the API server would take them, each as `pod=value`, or `pod*` for a stamp."""
    steps = []
    while len(steps) < 20:
        step = next_step(found, wishes_of(found, seen, silent, labels), labels, "me")
        if step is None:
            return steps
        after = replace(step.pod, value=step.value, stamp=step.stamp or step.pod.stamp)
        found = tuple(after if pod is step.pod else pod for pod in found)
        same = step.value == step.pod.value
        steps.append(f"{step.pod.name}*" if same else f"{step.pod.name}={step.value}")
        assert same or step.reason
    raise AssertionError(steps)


def test_a_new_cluster_gets_its_labels_the_primary_once_all_others_are_stamped() -> None:
    seen = topology(a=PRIMARY, b=REPLICA, c=REPLICA)
    assert course(pods(a="", b="", c=""), seen) == ["b=replica", "c=replica", "a=primary"]


def test_what_is_right_is_left_alone() -> None:
    seen = topology(a=PRIMARY, b=REPLICA)
    assert course(pods(a="primary", b="replica"), seen) == []


def test_at_a_failover_the_old_one_loses_it_first() -> None:
    seen = topology(a=REPLICA, b=PRIMARY, c=REPLICA)
    assert course(pods(a="primary", b="replica", c="replica"), seen) == [
        "a=replica",
        "a*",
        "c*",
        "b=primary",
    ]


def test_a_replica_alone_needs_no_stamps() -> None:
    seen = topology(a=PRIMARY, b=REPLICA, c=REPLICA)
    assert course(pods(a="primary", b="replica", c=""), seen) == ["c=replica"]


def test_a_silent_server_keeps_its_label_for_a_while() -> None:
    before = topology(a=PRIMARY, b=REPLICA)
    found = pods(a="primary", b="replica")
    lone = topology(before, a=DEAD, b=REPLICA)
    assert course(found, lone, silent=29.9) == []
    assert course(found, lone, silent=30.0) == ["a="]
    mute = topology(before, a=PRIMARY, b=DEAD)
    assert course(found, mute, silent=29.9) == []
    assert course(found, mute, silent=30.0) == ["b="]


def test_labels_stay_while_nobody_at_all_answers() -> None:
    before = topology(a=PRIMARY, b=REPLICA)
    seen = topology(before, a=DEAD, b=DEAD)
    assert course(pods(a="primary", b="replica"), seen, silent=1e6) == []
    assert course(pods(a="primary", b="replica"), topology(), silent=1e6) == []


def test_a_silent_primary_loses_it_at_once_when_another_one_leads() -> None:
    before = topology(a=PRIMARY, b=REPLICA, c=REPLICA)
    seen = topology(before, a=DEAD, b=replace(PRIMARY, timeline=3), c=REPLICA)
    found = pods(a="primary", b="replica", c="replica")
    assert course(found, seen) == ["a=", "a*", "c*", "b=primary"]
    said = wish(found[0], seen, 0.0, LABELS, KEEP).reason
    assert said == "b is the primary, and this one does not answer: refused"


@pytest.mark.parametrize("value", ["", "standby"])
def test_of_two_primaries_the_one_with_the_lower_timeline_gets_the_value_for_it(value: str) -> None:
    labels = replace(LABELS, fenced=value)
    seen = topology(a=PRIMARY, b=replace(PRIMARY, timeline=3))
    found = pods(a="primary", b="replica")
    assert course(found, seen, labels=labels) == [f"a={value}", "a*", "b=primary"]
    assert "timeline 2" in wish(found[0], seen, 0.0, labels, KEEP).reason


def test_a_former_primary_gets_no_label_while_the_new_one_is_away() -> None:
    before = topology(a=replace(PRIMARY, timeline=3), b=DEAD)
    seen = topology(before, a=DEAD, b=PRIMARY)
    assert course(pods(a="primary", b=""), seen) == []


def test_a_pod_made_anew_is_another_one() -> None:
    seen = topology(a=PRIMARY, b=REPLICA)
    (old,) = pods(a="")
    new = replace(old, uid="uid-other")
    assert is_silent(new, seen)
    assert not is_silent(old, seen)
    # Its template may carry the label: the server of before is the primary as far as is known.
    assert wish(replace(new, value="primary"), seen, 0.0, LABELS, KEEP).value == ""
    assert wish(new, seen, 0.0, LABELS, KEEP).value is None


def test_a_pod_without_a_server_loses_its_label_in_time() -> None:
    found = pods(z="replica")
    assert course(found, topology(a=PRIMARY), silent=1.0) == []
    assert course(found, topology(a=PRIMARY), silent=31.0) == ["z="]


def test_a_value_of_somebody_elses_is_left_alone() -> None:
    seen = topology(a=PRIMARY, b=REPLICA)
    found = pods(a="data", b="data")
    assert course(found, seen) == []
    assert taken(found, LABELS) == {"a": "data", "b": "data"}
    assert taken(pods(a="primary", b=""), LABELS) == {}


def test_nothing_gets_it_while_one_keeps_it() -> None:
    found = pods(a="primary", b="replica")
    wishes = {"a": Wish(None, "silent"), "b": Wish("primary", "it leads")}
    assert next_step(found, wishes, LABELS, "me") is None


def test_a_pod_that_cannot_be_stamped_does_not_keep_others_from_what_is_not_the_primarys() -> None:
    found = pods(a="", b="", c="")
    wishes = {"a": Wish("primary", "x"), "b": Wish(None, "x"), "c": Wish("replica", "y")}
    assert next_step(found, wishes, LABELS, "me") == Step(found[1], "", "", "me")


def test_a_patch_is_for_this_pod_as_it_is() -> None:
    (pod,) = pods(a="primary")
    only = {"resourceVersion": "1"}
    assert patch_of(Step(pod, "replica", "x"), LABELS) == {
        "metadata": {**only, "labels": {"role": "replica"}}
    }
    assert patch_of(Step(pod, "", "x"), LABELS) == {"metadata": {**only, "labels": {"role": None}}}
    assert patch_of(Step(pod, "primary", "", "me"), LABELS) == {
        "metadata": {**only, "annotations": {STAMP: "me"}}
    }


def test_a_pod_as_the_api_server_has_it() -> None:
    pod = {
        "metadata": {
            "name": "a",
            "uid": "u",
            "resourceVersion": "9",
            "labels": {"role": "primary", "app": "db"},
            "annotations": {STAMP: "me"},
        }
    }
    assert pod_of(pod, LABELS) == Pod("a", "u", "9", "primary", "me")
    assert pod_of({"metadata": {"name": "a", "uid": "u", "labels": None}}, LABELS) == Pod(
        "a", "u", ""
    )
    assert pod_of({"metadata": {"name": "a"}}, LABELS) is None
    assert pod_of(None, LABELS) is None
