"""Pods as the API server shows them under each operator, and what is to be made of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Fixture:
    """`role` is what its backend must have; None: the preset's selector must not take it."""

    labels: Mapping[str, str]
    role: str | None
    ports: tuple[tuple[str, int], ...] = (("postgresql", 5432),)
    port: int = 5432


def pod(
    name: str = "db-0",
    labels: Mapping[str, str] | None = None,
    *,
    uid: str = "9c1b6a9e-5d0a-4a55-9d8e-0c9f5a4b7c11",
    ip: str = "10.244.1.17",
    phase: str = "Running",
    ready: bool = True,
    ports: tuple[tuple[str, int], ...] = (("postgresql", 5432),),
) -> dict[str, Any]:
    """A pod with all the usual fields; a port without a name is declared without one."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "prod",
            "uid": uid,
            "resourceVersion": "81236",
            "creationTimestamp": "2026-03-01T09:00:00Z",
            "labels": {"statefulset.kubernetes.io/pod-name": name, **(labels or {})},
            "annotations": {"status": '{"role":"primary","state":"running","timeline":3}'},
            "ownerReferences": [{"kind": "StatefulSet", "name": "db", "controller": True}],
            "managedFields": [{"manager": "kubelet", "operation": "Update"}],
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {"name": "exporter", "image": "exporter:1", "ports": None},
                {
                    "name": "postgres",
                    "image": "postgres:18",
                    "ports": [
                        {"containerPort": number, "protocol": "TCP"}
                        | ({"name": label} if label else {})
                        for label, number in ports
                    ],
                },
            ],
            "initContainers": [{"name": "bootstrap", "image": "postgres:18"}],
        },
        "status": {
            "phase": phase,
            "podIP": ip,
            "podIPs": [{"ip": ip}, {"ip": "fd00::17"}],
            "hostIP": "192.168.0.7",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "ContainersReady", "status": "True"},
                {"type": "Ready", "status": "True" if ready else "False"},
            ],
            # As seen on real clusters; the official client's models refuse it.
            "containerStatuses": [{"name": "postgres", "ready": ready}],
        },
    }


def _labelled(common: Mapping[str, str], key: str, **roles: str) -> tuple[Fixture, ...]:
    """One pod for each value of the label, by the role that is to be made of it; and one without."""
    found = [Fixture({**common, key: value}, role) for role, value in roles.items()]
    return (*found, Fixture(common, "none"))


_CNPG: Final = {"cnpg.io/cluster": "main", "cnpg.io/podRole": "instance"}
_EDB: Final = {key.replace("cnpg.io", "k8s.enterprisedb.io"): value for key, value in _CNPG.items()}
_SPILO: Final = {"application": "spilo", "cluster-name": "main", "team": "a"}
_POOLER: Final = {"application": "db-connection-pooler", "cluster-name": "main"}
_PGO: Final = "postgres-operator.crunchydata.com"
_PGO_POD: Final = {
    f"{_PGO}/cluster": "main",
    f"{_PGO}/instance": "main-a-x7kq",
    f"{_PGO}/instance-set": "a",
    f"{_PGO}/patroni": "main-ha",
}
_STACKGRES: Final = {
    "app": "StackGresCluster",
    "stackgres.io/cluster-name": "main",
    "stackgres.io/cluster": "true",
}
_ENVOY: Final = (("pgport", 7432), ("pgreplication", 7433))
_DIRECT: Final = (("pool", 6432), ("direct", 5432))
_KUBEDB: Final = {
    "app.kubernetes.io/name": "postgreses.kubedb.com",
    "app.kubernetes.io/instance": "main",
}
_BITNAMI: Final = {
    "app.kubernetes.io/instance": "main",
    "app.kubernetes.io/name": "postgresql",
}
_BITNAMI_HA: Final = {
    "app.kubernetes.io/instance": "main",
    "app.kubernetes.io/name": "postgresql-ha",
}


def _crunchy(labels: Mapping[str, str], role: str) -> Fixture:
    return Fixture(labels, role, (("postgres", 5499),), 5499)


_CRUNCHY_FLEET: Final = (
    _crunchy({**_PGO_POD, f"{_PGO}/role": "master"}, "primary"),
    _crunchy({**_PGO_POD, f"{_PGO}/role": "primary"}, "primary"),
    _crunchy({**_PGO_POD, f"{_PGO}/role": "replica"}, "replica"),
    _crunchy({**_PGO_POD, f"{_PGO}/role": "promoted"}, "none"),
    _crunchy(_PGO_POD, "none"),
    Fixture({f"{_PGO}/cluster": "main", f"{_PGO}/role": "pgbouncer"}, None),
    Fixture({f"{_PGO}/cluster": "main", f"{_PGO}/pgbackrest-backup": "manual"}, None),
    Fixture({**_PGO_POD, f"{_PGO}/cluster": "other", f"{_PGO}/role": "master"}, None),
)

# By preset, for a cluster named main.
FLEETS: Final[Mapping[str, tuple[Fixture, ...]]] = {
    "cloudnativepg": (
        *_labelled(_CNPG, "cnpg.io/instanceRole", primary="primary", replica="replica"),
        Fixture({**_CNPG, "cnpg.io/instanceRole": "unhealthy"}, "none"),
        Fixture({**_CNPG, "cnpg.io/podRole": "pooler"}, None),
        Fixture({"cnpg.io/cluster": "main", "cnpg.io/jobRole": "join"}, None),
    ),
    "edb": (
        *_labelled(_EDB, "k8s.enterprisedb.io/instanceRole", primary="primary", replica="replica"),
        Fixture({**_EDB, "k8s.enterprisedb.io/podRole": "pooler"}, None),
    ),
    "zalando": (
        *_labelled(_SPILO, "spilo-role", primary="master", replica="replica"),
        Fixture({**_SPILO, "spilo-role": "standby_leader"}, "none"),
        Fixture({**_SPILO, "spilo-role": "uninitialized"}, "none"),
        Fixture({**_SPILO, "spilo-role": "master"}, "primary", (("", 8008), ("", 5432))),
        Fixture({**_POOLER, "spilo-role": "master"}, None),
        Fixture({**_POOLER, "spilo-role": "replica"}, None),
    ),
    "crunchy": _CRUNCHY_FLEET,
    "crunchy-v4": (
        *_labelled(
            {"pg-cluster": "main", "pgo-pg-database": "true"},
            "role",
            primary="master",
            replica="replica",
        ),
        Fixture({"pg-cluster": "main", "pgo-pg-database": "true", "role": "promoted"}, "none"),
        Fixture({"pg-cluster": "main", "crunchy-pgbouncer": "true"}, None),
    ),
    "percona": _CRUNCHY_FLEET,
    "stackgres": (
        Fixture({**_STACKGRES, "role": "primary"}, "primary", _ENVOY, 7433),
        Fixture({**_STACKGRES, "role": "master"}, "primary", _ENVOY, 7433),
        Fixture({**_STACKGRES, "role": "replica"}, "replica", _DIRECT, 5432),
        Fixture(_STACKGRES, "none", _ENVOY, 7433),
        Fixture(
            {"app": "StackGresCluster", "stackgres.io/cluster-name": "main", "role": "master"},
            None,
        ),
    ),
    "kubedb": (
        *_labelled(_KUBEDB, "kubedb.com/role", primary="primary", replica="standby"),
        Fixture({**_KUBEDB, "app.kubernetes.io/name": "pgbouncers.kubedb.com"}, None),
    ),
    "patroni": (
        *_labelled({"cluster-name": "main"}, "role", primary="primary", replica="replica"),
        Fixture({"cluster-name": "main", "role": "demoted"}, "none"),
        Fixture({"cluster-name": "main", "role": "master"}, "primary"),
        Fixture({"cluster-name": "other", "role": "primary"}, None),
    ),
    "patroni-3": (
        *_labelled({"cluster-name": "main"}, "role", primary="master", replica="replica"),
        Fixture({"cluster-name": "main", "role": "primary"}, "primary"),
        Fixture({"cluster-name": "main", "role": "promoted"}, "none"),
    ),
    "bitnami-ha": (
        Fixture(
            {**_BITNAMI_HA, "app.kubernetes.io/component": "postgresql", "role": "data"}, "auto"
        ),
        Fixture({**_BITNAMI_HA, "app.kubernetes.io/component": "pgpool"}, None),
    ),
    "bitnami": (
        *_labelled(_BITNAMI, "app.kubernetes.io/component", primary="primary", replica="read"),
        Fixture({**_BITNAMI, "app.kubernetes.io/component": "pg_dumpall"}, "none"),
    ),
    "kubeblocks": _labelled(
        {"app.kubernetes.io/instance": "main"},
        "kubeblocks.io/role",
        primary="primary",
        replica="secondary",
    ),
    "kubegres": _labelled({"app": "main"}, "replicationRole", primary="primary", replica="replica"),
    "opengauss": _labelled(
        {"opengauss.cluster": "main"}, "opengauss.role", primary="primary", replica="standby"
    ),
}
