"""The source of backends that the configuration asks for."""

from collections.abc import Callable

from pgproxy.config import Discovery
from pgproxy.topology.dns import Dns
from pgproxy.topology.kubernetes import Kubernetes
from pgproxy.topology.model import Backend, Topology
from pgproxy.topology.patroni import Patroni
from pgproxy.topology.presets import describe_rules, rules_of
from pgproxy.topology.source import Source
from pgproxy.topology.static import Static


def source_of(
    settings: Discovery,
    on_backends: Callable[[tuple[Backend, ...]], None],
    topology: Callable[[], Topology],
) -> Source:
    """`on_backends` is called in the event loop with each list, `topology` is what is known."""
    match settings.mode:
        case "static":
            return Static(settings, on_backends)
        case "kubernetes":
            return Kubernetes(settings.kubernetes, on_backends)
        case "patroni":
            return Patroni(settings.patroni, on_backends, topology)
        case "dns":
            return Dns(settings.dns, on_backends, topology)


def describe(settings: Discovery) -> str:
    """What will be asked, in a line for people; empty where the list is the configuration's."""
    match settings.mode:
        case "static":
            return ""
        case "kubernetes":
            return f"pods: {describe_rules(rules_of(settings.kubernetes))}"
        case "patroni":
            patroni = settings.patroni
            return (
                f"members: GET /cluster of {' or '.join(patroni.urls)} and of whom that names,"
                f" every {patroni.interval:g} s"
            )
        case "dns":
            asked = settings.dns
            servers = " or ".join(asked.nameservers) or "the nameservers of /etc/resolv.conf"
            return f"addresses: {', '.join(asked.names)} of {servers}"
