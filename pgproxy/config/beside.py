"""Who works beside this proxy: the others of its service, [peers], and `pgproxy label`, [label]."""

from pgproxy.config.kinds import Interval, Positive, Seconds, Section, Text
from pgproxy.config.names import (
    LabelKey,
    LabelValue,
    NamespaceName,
    ObjectName,
    OptionalLabelValue,
    PortOrName,
)
from pgproxy.config.places import Addresses, OptionalAddress


class Peers(Section):
    """How the other proxies of the same service are found; at most one of the first three."""

    static: Addresses = ()
    dns: OptionalAddress = ""
    selector: Text = ""
    namespace: NamespaceName = ""
    port: PortOrName = ""
    interval: Interval = 1.0

    @property
    def are_known(self) -> bool:
        """There may be others."""
        return bool(self.static or self.dns or self.selector)


class Label(Section):
    """`pgproxy label`: which label it sets on the pods of [discovery.kubernetes]."""

    key: LabelKey = "role"
    primary: LabelValue = "primary"
    replica: LabelValue = "replica"
    fenced: OptionalLabelValue = ""
    keep_silent: Seconds = 30.0
    lease: ObjectName = "pgproxy-label"
    lease_duration: Positive = 15
    renew_deadline: Interval = 10.0
    retry_period: Interval = 2.0
