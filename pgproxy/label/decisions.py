"""PURE. Which label each pod is to have, and in which order labels are changed.

What a server says of itself decides (fusion.py). One that says nothing keeps its label for a while,
and as long as no other one says anything either; but nobody keeps the primary's once another server is
the primary.

A Service that selects by the label must never have two primaries. So the old one loses the label
before the new one gets it; and since a request of this instance, or of one that led before it, may
still be under way, every other pod gets this leader's *stamp* in between. Each patch holds for one
version of its pod only: after the stamp no older one can succeed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from pgproxy.topology.model import Node, Role, Topology
from pgproxy.topology.pods import annotation_of, label_of, name_of, resource_version_of, uid_of

# An annotation: the leader whose patches the pod takes.
STAMP: Final = "pgproxy.io/labelled-by"


@final
@dataclass(frozen=True)
class Labels:
    """The label's key and its values; `fenced` is that of a server which takes writes and must get
    none. Empty: such a pod has no label."""

    key: str
    primary: str
    replica: str
    fenced: str = ""

    def are(self, value: str) -> bool:
        """Whether the value is ours to change."""
        return value in ("", self.primary, self.replica, self.fenced)


@final
@dataclass(frozen=True)
class Pod:
    """A pod as far as labels go; `value` is empty if it has none."""

    name: str
    uid: str
    resource_version: str
    value: str = ""
    stamp: str = ""


@final
@dataclass(frozen=True)
class Wish:
    """The value that a pod is to have, and why; None: whatever it has."""

    value: str | None
    reason: str


@final
@dataclass(frozen=True)
class Step:
    """One patch. `reason` is empty where only the stamp is new; `stamp` is empty if it stays."""

    pod: Pod
    value: str
    reason: str
    stamp: str = ""


def pod_of(pod: object, labels: Labels) -> Pod | None:
    """A pod of the API server's JSON; None if it has no name or no uid. Never raises."""
    name, uid = name_of(pod), uid_of(pod)
    if not name or not uid:
        return None
    value, stamp = label_of(pod, labels.key), annotation_of(pod, STAMP)
    return Pod(name, uid, resource_version_of(pod), value, stamp)


def patch_of(step: Step, labels: Labels) -> dict[str, object]:
    """A merge patch (RFC 7386) that the API server refuses (409) unless the pod is as it was."""
    pod = step.pod
    metadata: dict[str, object] = {"resourceVersion": pod.resource_version}
    if step.value != pod.value:
        metadata["labels"] = {labels.key: step.value or None}
    if step.stamp:
        metadata["annotations"] = {STAMP: step.stamp}
    return {"metadata": metadata}


def is_silent(pod: Pod, topology: Topology) -> bool:
    """Whether its server does not answer, or there is none."""
    node = _node(pod, topology)
    return node is None or not node.alive


def wish(
    pod: Pod, topology: Topology, silent_for: float, labels: Labels, keep_silent: float
) -> Wish:
    """The label that the pod is to have; it has been silent for so many seconds."""
    primary = topology.primary
    node = _node(pod, topology)
    if node is None or not node.alive:
        why = node.error if node is not None and node.error else "it has no server to ask"
        if pod.value == labels.primary and primary is not None:
            return Wish("", f"{primary.name} is the primary, and this one does not answer: {why}")
        if silent_for < keep_silent or not any(one.alive for one in topology.nodes):
            # If nobody answers, it may be due to who asks: its password, its network.
            return Wish(None, why)
        return Wish("", f"no answer for {keep_silent:g} s: {why}")
    if node.role is Role.PRIMARY:
        return Wish(labels.primary, f"it takes writes on timeline {node.timeline}")
    if node.role is Role.REPLICA:
        return Wish(labels.replica, "it is in recovery")
    return Wish(labels.fenced, node.error)


def next_step(
    pods: Sequence[Pod], wishes: Mapping[str, Wish], labels: Labels, stamp: str
) -> Step | None:
    """The next patch on the way to what is wished for (by the pods' names); None: all is done.

    One at a time: what comes after it depends on whether it has succeeded.
    """
    due = [one for one in pods if _is_due(one, wishes, labels)]
    for pod in due:
        if pod.value == labels.primary:
            return _step(pod, wishes, "")
    for pod in due:
        if wishes[pod.name].value != labels.primary:
            continue
        others = [other for other in pods if other.name != pod.name]
        if any(other.value == labels.primary for other in others):
            break  # it may not be taken away from it
        for other in others:
            if other.stamp != stamp:
                return _step(other, wishes if other in due else {}, stamp)
        return _step(pod, wishes, stamp)
    for pod in due:
        if wishes[pod.name].value != labels.primary:
            return _step(pod, wishes, "")
    return None


def taken(pods: Sequence[Pod], labels: Labels) -> dict[str, str]:
    """By pod, a value of the label that is somebody else's, which is left alone."""
    return {pod.name: pod.value for pod in pods if not labels.are(pod.value)}


def _is_due(pod: Pod, wishes: Mapping[str, Wish], labels: Labels) -> bool:
    value = wishes[pod.name].value
    return value is not None and value != pod.value and labels.are(pod.value)


def _step(pod: Pod, wishes: Mapping[str, Wish], stamp: str) -> Step:
    found = wishes.get(pod.name)
    if found is None or found.value is None:
        return Step(pod, pod.value, "", stamp)
    return Step(pod, found.value, found.reason, stamp)


def _node(pod: Pod, topology: Topology) -> Node | None:
    node = topology.node(pod.name)
    return node if node is not None and node.uid == pod.uid else None
