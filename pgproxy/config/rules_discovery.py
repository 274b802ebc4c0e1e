"""What each way to find the servers needs."""

import re
from collections.abc import Iterator
from typing import Final

from pgproxy.config.environment import variable
from pgproxy.config.faults import Fault, unreadable
from pgproxy.config.topology import Discovery, Dns, Kubernetes, Patroni

# What a preset says of the role, except for the one whose pods carry none.
PRESETS_WITHOUT_ROLE: Final = frozenset({"", "bitnami-ha"})

# What names the backends.
_LISTS: Final = {
    "kubernetes": "the pods are",
    "patroni": "Patroni's members are",
    "dns": "the addresses are",
}


def discovery_faults(discovery: Discovery) -> Iterator[Fault]:
    """Who names the backends, and what that needs."""
    if discovery.mode != "static" and discovery.backends:
        yield Fault(
            "discovery.backends",
            f'is for mode = "static"; with "{discovery.mode}" {_LISTS[discovery.mode]} the list',
        )
    if discovery.mode == "kubernetes":
        yield from kubernetes_faults(discovery.kubernetes)
    if discovery.mode == "patroni":
        yield from _patroni(discovery.patroni)
    if discovery.mode == "dns":
        yield from _dns(discovery.dns)
    if discovery.mode == "static" and not discovery.backends:
        yield Fault(
            "discovery.backends",
            "names no PostgreSQL server; accepted: at least one [[discovery.backends]] with a "
            f'host, or {variable("discovery.backends")}=\'[{{"host": "…"}}]\'',
        )


def repeated_backends(discovery: Discovery) -> Iterator[Fault]:
    """A name or an address that two entries have."""
    seen: dict[str, int] = {}
    for position, entry in enumerate(discovery.backends):
        for what in {entry.label, f"{entry.host}:{entry.port}"}:
            if what in seen:
                yield Fault(
                    f"discovery.backends[{position}]", f"{what} is backends[{seen[what]}] already"
                )
            seen[what] = position


def kubernetes_faults(settings: Kubernetes) -> Iterator[Fault]:
    """Which pods are taken, and what tells their role."""
    key = "discovery.kubernetes"
    yield from _selector(settings, f"{key}.selector")
    if settings.preset and not settings.cluster and not settings.selector:
        yield Fault(
            f"{key}.cluster",
            f'preset = "{settings.preset}" needs the name of the cluster whose pods it selects',
        )
    if settings.cluster and settings.selector:
        yield Fault(f"{key}.cluster", "and selector both say which pods; keep one")
    elif settings.cluster and not settings.preset:
        yield Fault(f"{key}.cluster", "needs a preset, which says what label has it")
    elif not settings.preset and not settings.selector:
        yield Fault(
            f"{key}.preset",
            "says no more than selector which pods to take; accepted: a preset with a cluster, or"
            ' a selector such as "app=postgres,cluster=main"',
        )
    values = (*settings.primary_values, *settings.replica_values)
    if settings.role_label and settings.preset in PRESETS_WITHOUT_ROLE:
        for name in ("primary_values", "replica_values"):
            if not getattr(settings, name):
                yield Fault(f"{key}.{name}", "is needed beside role_label: the label's values")
    elif values and not settings.role_label and settings.preset in PRESETS_WITHOUT_ROLE:
        yield Fault(f"{key}.role_label", "is needed beside the values: the label that has them")
    both = sorted(set(settings.primary_values) & set(settings.replica_values))
    if both:
        yield Fault(f"{key}.replica_values", f'"{both[0]}" is one of primary_values too')
    if settings.kubeconfig is not None:
        yield from unreadable(f"{key}.kubeconfig", settings.kubeconfig)
    elif settings.context:
        yield Fault(f"{key}.context", "is one of a kubeconfig; set that too")


def _selector(settings: Kubernetes, key: str) -> Iterator[Fault]:
    if settings.selector and not settings.selector.strip():
        yield Fault(key, 'is blank, and would take every pod; accepted: one such as "app=postgres"')
    if settings.role_label and _is_selected_by(settings.selector, settings.role_label):
        yield Fault(
            key,
            f'has the role label "{settings.role_label}" in it: a pod that changes its role would'
            " be gone, instead of drained; accepted: labels that stay as they are",
        )


def _is_selected_by(selector: str, label: str) -> bool:
    """Whether the selector wants the label to have certain values."""
    return re.search(rf"(^|,)\s*{re.escape(label)}\s*(=|\sin\b)", selector) is not None


def _patroni(settings: Patroni) -> Iterator[Fault]:
    key = "discovery.patroni"
    if not settings.urls:
        yield Fault(
            f"{key}.urls",
            "names no member to ask; accepted: the REST API of one at least, such as"
            ' ["http://10.0.0.1:8008"]',
        )
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings, name)
        if path is not None:
            yield from unreadable(f"{key}.{name}", path)
    if settings.key_file is not None and settings.cert_file is None:
        yield Fault(f"{key}.key_file", "is the key of a certificate; set cert_file too")
    if settings.ca_file is not None and not settings.verify:
        yield Fault(f"{key}.ca_file", "is not looked at with verify = false; keep one")


def _dns(settings: Dns) -> Iterator[Fault]:
    key = "discovery.dns"
    if not settings.names:
        yield Fault(
            f"{key}.names",
            'says not whose addresses to take; accepted: one name at least, such as ["db.example.org"]',
        )
    if settings.max_ttl < settings.min_ttl:
        yield Fault(
            f"{key}.max_ttl", f"{settings.max_ttl:g} is less than min_ttl = {settings.min_ttl:g}"
        )
