"""Each overlay and example is for what it says, and its configuration is one that the proxy takes."""

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import pgproxy
from pgproxy import config
from pgproxy.topology.presets import PRESETS, rules_of
from tests.support import manifests
from tests.support.manifests import DEPLOY, EXAMPLES, OVERLAYS, Object

pytestmark = pytest.mark.timeout(300)  # a first run builds the tools


@pytest.fixture(scope="module")
def rendered() -> Mapping[str, list[Object]]:
    """Every kustomization."""
    return manifests.kustomizations()


def test_every_preset_has_an_overlay_and_values() -> None:
    assert {path.name for path in OVERLAYS} == set(PRESETS)
    assert set(manifests.operators()) == set(PRESETS)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.name))
def test_an_overlay_is_for_its_operator(
    overlay: Path, rendered: Mapping[str, list[Object]]
) -> None:
    objects = rendered[manifests.named(overlay)]
    settings = manifests.preset(objects)
    assert settings["preset"] == overlay.name
    # The NetworkPolicy lets out to the pods that the preset selects.
    rules = rules_of(config.Kubernetes(**settings))
    policy = manifests.find(objects, "NetworkPolicy")
    way = policy["spec"]["egress"][0]
    (selector,) = (peer["podSelector"]["matchExpressions"] for peer in way["to"])
    assert ",".join(_as_text(one) for one in selector) == rules.selector
    numbers = {port["port"] for port in way["ports"]}
    assert {port for port in rules.ports if isinstance(port, int)} <= numbers
    assert {one["metadata"]["namespace"] for one in objects} == {manifests.NAMESPACE}


def _as_text(expression: Mapping[str, Any]) -> str:
    if expression["operator"] == "Exists":
        return str(expression["key"])
    (value,) = expression["values"]
    return f"{expression['key']}={value}"


@pytest.mark.parametrize(
    "place",
    ["kustomize/base", *map(manifests.named, OVERLAYS)]
    + [manifests.named(path) for path in EXAMPLES if path.name == "after"],
)
def test_the_configuration_is_accepted(
    place: str, rendered: Mapping[str, list[Object]], tmp_path: Path
) -> None:
    """As in the pod: with its variables, and its files where they are mounted."""
    objects = rendered[place]
    text = manifests.configuration(objects)
    ours = manifests.container(objects)
    environ = {entry["name"]: _value(entry) for entry in ours["env"]}
    path = None
    if text is not None:
        mounts = {mount["name"]: mount["mountPath"] for mount in ours["volumeMounts"]}
        assert f"{mounts['config']}/pgproxy.toml" in ours["args"]
        for name in _secret_files(objects):
            (tmp_path / name).write_text('"app" "secret"\n')
        path = tmp_path / "pgproxy.toml"
        path.write_text(text.replace(mounts["secrets"], str(tmp_path)))
    else:
        assert ours["args"] == ["serve"]
    found = config.load(path, environ)
    assert config.notices(found) == config.notices(config.Config())
    assert found.auth.method == "scram-sha-256"


def _value(entry: Mapping[str, Any]) -> str:
    """What a Secret has is not known here; a pod has no zone by default."""
    if "valueFrom" not in entry:
        return str(entry["value"])
    return str(entry["name"]) if "secretKeyRef" in entry["valueFrom"] else ""


def _secret_files(objects: Sequence[Object]) -> list[str]:
    """The files that the volume of secrets has."""
    spec = manifests.find(objects, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (one["secret"] for one in spec["volumes"] if one["name"] == "secrets")
    items = volume.get("items")
    return [item["path"] for item in items] if items else ["users.txt", "health-password"]


def test_the_overlay_of_the_documentation_is_one(tmp_path: Path) -> None:
    text = (DEPLOY.parent / "docs" / "kubernetes.md").read_text()
    found = re.search(r"```yaml\n(.*?apiVersion: kustomize.*?)```", text, re.DOTALL)
    assert found is not None
    way = os.path.relpath(DEPLOY, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(
        textwrap.dedent(found[1]).replace("../../deploy", way)
    )
    (objects,) = manifests.kustomized([tmp_path]).values()
    assert {one["metadata"]["namespace"] for one in objects} == {"shop"}
    (subject,) = manifests.find(objects, "RoleBinding")["subjects"]
    assert subject["namespace"] == "shop"
    assert manifests.container(objects)["image"] == f"REGISTRY/pgproxy:{pgproxy.__version__}"
    assert manifests.find(objects, "PodMonitor")


def test_after_takes_the_name_that_applications_know(
    rendered: Mapping[str, list[Object]],
) -> None:
    known = {"statefulset": ["pgpool"], "patroni": ["haproxy"]}
    known["role-labels"] = ["postgres-primary", "postgres-replica"]
    for example, names in known.items():
        before, after = (rendered[f"examples/{example}/{when}"] for when in ("before", "after"))
        for name in names:
            ports = [
                [port["port"] for port in manifests.find(one, "Service", name)["spec"]["ports"]]
                for one in (before, after)
            ]
            assert ports[0] == ports[1]
            selector = manifests.find(after, "Service", name)["spec"]["selector"]
            assert selector == manifests.find(after, "Service")["spec"]["selector"]


def test_pgproxy_is_not_one_of_the_databases_pods(rendered: Mapping[str, list[Object]]) -> None:
    for place, objects in manifests.with_proxy(rendered):
        labels = manifests.find(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
        (peer,) = manifests.find(objects, "NetworkPolicy")["spec"]["egress"][0]["to"]
        for expression in peer["podSelector"]["matchExpressions"]:
            values = expression.get("values", [labels.get(expression["key"])])
            if labels.get(expression["key"]) not in values:
                break
        else:
            pytest.fail(f"{place}: {labels}")
