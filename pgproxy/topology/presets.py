"""PURE. How each operator marks the pods of a cluster and the role of each.

A `Preset` is what an operator does by default; `rules_of` makes of it, and of the keys that
overrule it, the `Rules` by which the pods are read (pods.py).

What every selector keeps to: the role is never in it (a pod that leaves the selector is reported
as deleted, with the labels it had before), and poolers, back-ups and jobs are outside. Zalando's
poolers carry the cluster's name and a role as well, CloudNativePG's the cluster's name.

A label's value that is neither a primary's nor a replica's, such as `unhealthy`, `demoted` or
`promoted`, means that the server is to be left alone, and so does a label that is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from pgproxy.config import Kubernetes

POSTGRESQL_PORT: Final = 5432
# Recent versions of Kubernetes copy it from the node to each pod (KEP-4742).
ZONE: Final = "topology.kubernetes.io/zone"


@final
@dataclass(frozen=True)
class Preset:
    """`selector` has `{cluster}` where the cluster's name goes; no `role_label`: ask the server.

    A port that is a text is the name of a container's port; of several the first that a pod has.
    """

    selector: str
    role_label: str = ""
    primary_values: tuple[str, ...] = ()
    replica_values: tuple[str, ...] = ()
    ports: tuple[int | str, ...] = (POSTGRESQL_PORT,)


@final
@dataclass(frozen=True)
class Rules:
    """Which pods are the cluster's, where they listen, and what their labels say of role and zone."""

    selector: str
    role_label: str = ""
    primary_values: tuple[str, ...] = ()
    replica_values: tuple[str, ...] = ()
    ports: tuple[int | str, ...] = (POSTGRESQL_PORT,)
    zone_label: str = ZONE

    def role(self, labels: Mapping[str, str]) -> str:
        """`auto`, `primary`, `replica` or `none`, as in `Backend`."""
        if not self.role_label:
            return "auto"
        value = labels.get(self.role_label)
        if value in self.primary_values:
            return "primary"
        return "replica" if value in self.replica_values else "none"


# With Patroni 4 the leader's label became `primary`; its operators moved at different times.
_EITHER: Final = ("primary", "master")
_CRUNCHY: Final = "postgres-operator.crunchydata.com"
_CRUNCHY_V5: Final = Preset(
    f"{_CRUNCHY}/cluster={{cluster}},{_CRUNCHY}/instance",
    f"{_CRUNCHY}/role",
    _EITHER,
    ("replica",),
    ("postgres",),  # spec.port may be any
)

PRESETS: Final[Mapping[str, Preset]] = {
    "cloudnativepg": Preset(
        "cnpg.io/cluster={cluster},cnpg.io/podRole=instance",
        "cnpg.io/instanceRole",
        ("primary",),
        ("replica",),
    ),
    "edb": Preset(
        "k8s.enterprisedb.io/cluster={cluster},k8s.enterprisedb.io/podRole=instance",
        "k8s.enterprisedb.io/instanceRole",
        ("primary",),
        ("replica",),
    ),
    "zalando": Preset(
        "application=spilo,cluster-name={cluster}", "spilo-role", ("master",), ("replica",)
    ),
    "crunchy": _CRUNCHY_V5,
    "crunchy-v4": Preset(
        "pg-cluster={cluster},pgo-pg-database=true", "role", ("master",), ("replica",)
    ),
    "percona": _CRUNCHY_V5,
    "stackgres": Preset(
        "app=StackGresCluster,stackgres.io/cluster-name={cluster},stackgres.io/cluster=true",
        "role",
        _EITHER,
        ("replica",),
        # PostgreSQL itself, not its PgBouncer: through Envoy, or without it.
        ("pgreplication", "direct"),
    ),
    "kubedb": Preset(
        "app.kubernetes.io/name=postgreses.kubedb.com,app.kubernetes.io/instance={cluster}",
        "kubedb.com/role",
        ("primary",),
        ("standby",),
    ),
    # Patroni 3 says master, 4 primary; during an upgrade a cluster has both.
    "patroni": Preset("cluster-name={cluster}", "role", _EITHER, ("replica",)),
    "patroni-3": Preset("cluster-name={cluster}", "role", _EITHER, ("replica",)),
    # repmgr sets no label: every pod has `role: data`.
    "bitnami-ha": Preset(
        "app.kubernetes.io/instance={cluster},app.kubernetes.io/component=postgresql"
    ),
    "bitnami": Preset(
        "app.kubernetes.io/instance={cluster},app.kubernetes.io/name=postgresql",
        "app.kubernetes.io/component",
        ("primary",),
        ("read",),
    ),
    "kubeblocks": Preset(
        "app.kubernetes.io/instance={cluster}", "kubeblocks.io/role", ("primary",), ("secondary",)
    ),
    "kubegres": Preset("app={cluster}", "replicationRole", ("primary",), ("replica",)),
    "opengauss": Preset(
        "opengauss.cluster={cluster}", "opengauss.role", ("primary",), ("standby",)
    ),
}


def rules_of(settings: Kubernetes) -> Rules:
    """The preset's rules, each overruled by the key of its name where that is given.

    KeyError for a preset that there is not; the configuration's check leaves none.
    """
    preset = PRESETS[settings.preset] if settings.preset else Preset("")
    port = settings.port
    return Rules(
        selector=settings.selector or preset.selector.format(cluster=settings.cluster),
        role_label=settings.role_label or preset.role_label,
        primary_values=settings.primary_values or preset.primary_values,
        replica_values=settings.replica_values or preset.replica_values,
        ports=((int(port) if port.isdigit() else port),) if port else preset.ports,
        zone_label=settings.zone_label,
    )


def describe_rules(rules: Rules) -> str:
    """One line for people: what a preset and the keys that overrule it come to."""
    role = "the server alone tells its role"
    if rules.role_label:
        primary, replica = "|".join(rules.primary_values), "|".join(rules.replica_values)
        role = f"{rules.role_label}={primary} is the primary, ={replica} a replica"
    ports = " or ".join([str(port) for port in rules.ports])
    return f"{rules.selector}; port {ports}; {role}"
