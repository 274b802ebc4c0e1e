"""Which servers there are and what each is: [discovery] and [health]."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from pgproxy.config.kinds import (
    Count,
    Interval,
    Name,
    OptionalFile,
    OptionalFolder,
    OptionalVariables,
    Port,
    Positive,
    Seconds,
    Section,
    Switch,
    Text,
    Texts,
    Weight,
)
from pgproxy.config.names import ClusterName, NamespaceName, PortOrName, PresetName
from pgproxy.config.places import DnsNames, Nameservers, RestUrls


class Health(Section):
    """How the monitor asks each backend for its role."""

    interval: Interval = 1.0
    timeout: Interval = 2.0
    failures: Positive = 2
    user: Name = "postgres"
    password: Annotated[SecretStr, Field(description="a text")] = SecretStr("")
    password_file: OptionalFile = None
    user_env: OptionalVariables = ""
    user_dir: OptionalFolder = None
    database: Name = "postgres"
    failover_wait: Seconds = 30.0
    switchover_grace: Seconds = 10.0
    rerun_limit: Count = 65_536


class Backend(Section):
    """One `[[discovery.backends]]`."""

    host: Name
    port: Port = 5432
    role: Literal["auto", "primary", "replica"] = "auto"
    weight: Weight = 1
    zone: Text = ""
    name: Text = ""

    @property
    def label(self) -> str:
        """The configured name, or host:port."""
        if self.name:
            return self.name
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Kubernetes(Section):
    """Which pods are the cluster's and how they tell their role; topology/presets.py.

    With a preset, `selector`, `role_label`, the values and `port` overrule what is the preset's.
    """

    namespace: NamespaceName = ""
    preset: PresetName = ""
    cluster: ClusterName = ""
    selector: Text = ""
    role_label: Text = ""
    primary_values: Texts = ()
    replica_values: Texts = ()
    port: PortOrName = ""
    zone_label: Name = "topology.kubernetes.io/zone"
    kubeconfig: OptionalFile = None
    context: Text = ""


class Patroni(Section):
    """Who tells of Patroni's members, and how they are asked."""

    urls: RestUrls = ()
    scope: Text = ""
    interval: Interval = 2.0
    timeout: Interval = 2.0
    ca_file: OptionalFile = None
    cert_file: OptionalFile = None
    key_file: OptionalFile = None
    verify: Switch = True


class Dns(Section):
    """Under which names the servers' addresses are, and who is asked for them."""

    names: DnsNames = ()
    port: Port = 5432
    family: Literal["any", "ipv4", "ipv6"] = "any"
    nameservers: Nameservers = ()
    min_ttl: Interval = 1.0
    max_ttl: Interval = 30.0
    timeout: Interval = 2.0


class Discovery(Section):
    """Where the list of backends comes from."""

    mode: Literal["static", "kubernetes", "patroni", "dns"] = "static"
    backends: Annotated[
        tuple[Backend, ...],
        Field(description="a list of tables, each with at least a host"),
    ] = ()
    kubernetes: Kubernetes = Kubernetes()
    patroni: Patroni = Patroni()
    dns: Dns = Dns()
