"""PURE. A pod, as the API server's JSON has it, to a `Backend`.

Nothing is taken for granted: fields are missing while a pod is young, and any may be null. What
cannot be understood is no backend; `why_not` says what it lacks. Models would be stricter than
the API server (a container status without imageID is refused by the official client's).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from pgproxy.topology.model import Backend
from pgproxy.topology.presets import Rules

# Where Patroni writes what it knows of its server, in JSON (patroni/dcs/kubernetes.py).
PATRONI_STATUS: Final = "status"
# An annotation or a label: the pod's weight, as in [[discovery.backends]].
WEIGHT: Final = "pgproxy.io/weight"
LARGEST_WEIGHT: Final = 1000


class _NotABackend(Exception):
    """With the reason, for people."""


def backend_of(pod: object, rules: Rules) -> Backend | None:
    """The pod's PostgreSQL server; None while there is none to connect to. Never raises."""
    try:
        return _read(pod, rules)
    except _NotABackend:
        return None


def why_not(pod: object, rules: Rules) -> str:
    """Why the pod is no backend; empty if it is one. Never raises."""
    try:
        _read(pod, rules)
    except _NotABackend as reason:
        return str(reason)
    return ""


def ignored_weight(pod: object) -> str:
    """What is wrong with the weight that the pod has; empty if nothing is. Never raises."""
    metadata = _table(_table(pod).get("metadata"))
    wanted = _wanted_weight(metadata)
    if wanted is None or _weight(metadata) is not None:
        return ""
    return f"{WEIGHT}: {str(wanted)[:40]!r} is no whole number from 0 to {LARGEST_WEIGHT}"


def name_of(pod: object) -> str:
    """The pod's name; empty if it has none."""
    return _text(_table(_table(pod).get("metadata")).get("name"))


def uid_of(pod: object) -> str:
    """The pod's uid; empty if it has none."""
    return _text(_table(_table(pod).get("metadata")).get("uid"))


def label_of(pod: object, key: str) -> str:
    """The value of the pod's label; empty if it has none."""
    return _text(_table(_table(_table(pod).get("metadata")).get("labels")).get(key))


def annotation_of(pod: object, key: str) -> str:
    """The value of the pod's annotation; empty if it has none."""
    return _text(_table(_table(_table(pod).get("metadata")).get("annotations")).get(key))


def resource_version_of(thing: object) -> str:
    """Of an object or a list; empty if it has none. Opaque: good for equality only."""
    return _text(_table(_table(thing).get("metadata")).get("resourceVersion"))


def _read(pod: object, rules: Rules) -> Backend:
    whole = _table(pod)
    metadata, status = _table(whole.get("metadata")), _table(whole.get("status"))
    name, uid = _text(metadata.get("name")), _text(metadata.get("uid"))
    if not name or not uid:
        raise _NotABackend("it has no name or no uid")
    phase = _text(status.get("phase"))
    if phase in ("Succeeded", "Failed"):  # its address may be another pod's already
        raise _NotABackend(f"its phase is {phase}")
    host = _address(status)
    if not host:
        raise _NotABackend("it has no address yet")
    labels = {
        key: value
        for key, value in _table(metadata.get("labels")).items()
        if isinstance(key, str) and isinstance(value, str)
    }
    weight = _weight(metadata)
    return Backend(
        name=name,
        host=host,
        port=_port(_table(whole.get("spec")), rules),
        role=rules.role(labels),
        weight=1 if weight is None else weight,
        zone=labels.get(rules.zone_label, ""),
        uid=uid,
        hinted=bool(rules.role_label),
        ready=_is_ready(status),
        leaving=metadata.get("deletionTimestamp") is not None or phase != "Running",
        handing_over=_is_handing_over(
            _text(_table(metadata.get("annotations")).get(PATRONI_STATUS))
        ),
    )


def _wanted_weight(metadata: Mapping[Any, Any]) -> object:
    """As it is written; the annotation's, if there is a label too. None: nowhere."""
    for place in ("annotations", "labels"):
        wanted = _table(metadata.get(place)).get(WEIGHT)
        if wanted is not None:
            return wanted
    return None


def _weight(metadata: Mapping[Any, Any]) -> int | None:
    wanted = _text(_wanted_weight(metadata))
    if not 1 <= len(wanted) <= 4 or not (wanted.isascii() and wanted.isdigit()):
        return None
    weight = int(wanted)
    return weight if weight <= LARGEST_WEIGHT else None


def _is_handing_over(status: str) -> bool:
    """Patroni is at a long action on a running primary: it stops it, most likely.

    Of such a server it leaves out the timeline (Ha.touch_member). That is the only sign of a planned
    switchover that comes before the server's sessions end, by 20 to 100 ms.
    """
    if '"running"' not in status or "timeline" in status:
        return False
    try:
        told = _table(json.loads(status))
    except (ValueError, RecursionError):
        return False
    return told.get("state") == "running" and told.get("role") in ("primary", "master")


def _address(status: Mapping[Any, Any]) -> str:
    """`podIP`, which is the first of `podIPs`."""
    address = _text(status.get("podIP"))
    if address:
        return address
    for entry in _list(status.get("podIPs")):
        address = _text(_table(entry).get("ip"))
        if address:
            return address
    return ""


def _port(spec: Mapping[Any, Any], rules: Rules) -> int:
    """A number as it is; a name as one of the containers (also a sidecar, KEP-753) declares it."""
    for wanted in rules.ports:
        if isinstance(wanted, int):
            return wanted
        for containers in ("containers", "initContainers"):
            for container in _list(spec.get(containers)):
                for port in _list(_table(container).get("ports")):
                    entry = _table(port)
                    number = entry.get("containerPort")
                    if entry.get("name") == wanted and _is_port(number):
                        return int(number)  # type: ignore[arg-type]  # _is_port has seen to it
    names = " or ".join([str(name) for name in rules.ports])
    raise _NotABackend(f"none of its containers has a port named {names}")


def _is_port(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65536


def _is_ready(status: Mapping[Any, Any]) -> bool:
    for condition in _list(status.get("conditions")):
        entry = _table(condition)
        if entry.get("type") == "Ready":
            return entry.get("status") == "True"
    return False


def _table(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
