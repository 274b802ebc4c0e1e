"""What the keys of `pgproxy label` need of each other."""

import re
from collections.abc import Iterator, Mapping

from pgproxy.config.beside import Label
from pgproxy.config.faults import Fault
from pgproxy.config.model import Config
from pgproxy.config.rules_discovery import PRESETS_WITHOUT_ROLE, kubernetes_faults
from pgproxy.config.rules_logins import own_login_faults


def label_contradictions(
    config: Config, sources: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[Fault]:
    """What no single key can tell `pgproxy label`, which has no clients, and to which the pods belong."""
    label, settings = config.label, config.discovery.kubernetes
    yield from own_login_faults(config.health, sources, environ)
    yield from election_faults(label)
    if config.discovery.mode != "kubernetes":
        yield Fault(
            "discovery.mode",
            f'"{config.discovery.mode}" names no pods; accepted by pgproxy label: "kubernetes"',
        )
        return
    yield from kubernetes_faults(settings)
    if settings.preset not in PRESETS_WITHOUT_ROLE:
        yield Fault(
            "discovery.kubernetes.preset",
            f'"{settings.preset}": the operator sets a role label itself; accepted by pgproxy label:'
            ' "bitnami-ha", or a selector without a preset',
        )
    if settings.preset == "bitnami-ha" and label.key == "role":
        # postgresql-ha/templates/postgresql/statefulset.yaml: spec.selector.matchLabels
        yield Fault(
            "label.key",
            'the StatefulSet of bitnami\'s chart owns the pods by "role": a pod with another value would'
            ' be lost to it; accepted: any other key such as "pgproxy.io/role"',
        )
    if label.key in _keys_of(settings.selector):
        yield Fault(
            "label.key",
            f'discovery.kubernetes.selector has "{label.key}" in it: a pod would leave it as its label'
            " changes; accepted: a label that the selector has not",
        )
    values = [value for value in (label.primary, label.replica, label.fenced) if value]
    if len(set(values)) < len(values):
        yield Fault("label.primary", "replica and fenced need values of their own")


def election_faults(label: Label) -> Iterator[Fault]:
    """As client-go asks for it: a leader has to stop before another one begins, and to try to renew
    more than once until then."""
    if label.renew_deadline >= label.lease_duration:
        yield Fault(
            "label.renew_deadline",
            f"{label.renew_deadline:g} is not less than label.lease_duration = {label.lease_duration}",
        )
    if 2 * label.retry_period >= label.renew_deadline:
        yield Fault(
            "label.retry_period",
            f"{label.retry_period:g} is not less than half of label.renew_deadline ="
            f" {label.renew_deadline:g}",
        )


def _keys_of(selector: str) -> frozenset[str]:
    """The labels that the selector asks for, or asks not to be there."""
    requirements = re.sub(r"\([^)]*\)", "", selector).split(",")
    return frozenset(
        re.split(r"[\s=!]", one.strip().lstrip("! "), maxsplit=1)[0] for one in requirements
    )
