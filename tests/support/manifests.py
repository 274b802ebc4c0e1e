"""The manifests of deploy/, rendered: every kustomization, and the chart with its values.

An object is a dict, as the API server takes it. RuntimeError says what cannot be rendered.
"""

import copy
import json
import os
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.deploy_tools import go_programs

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
KUSTOMIZE: Final = DEPLOY / "kustomize"
CHART: Final = DEPLOY / "helm" / "pgproxy"
OVERLAYS: Final = sorted(path.parent for path in KUSTOMIZE.glob("overlays/*/kustomization.yaml"))
COMPONENTS: Final = sorted(
    path.parent for path in KUSTOMIZE.glob("components/*/kustomization.yaml")
)
EXAMPLES: Final = sorted(path.parent for path in DEPLOY.glob("examples/*/*/kustomization.yaml"))

NAMESPACE: Final = "databases"
"""That of the overlays."""

KUBERNETES: Final = "v1.36.0"
"""For which the chart is rendered."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """What came of one set of values."""

    objects: Sequence[Object]
    tests: Sequence[Object]
    notes: str
    complaints: Sequence[str]
    """Of `helm lint`, warnings included."""
    error: str = ""


def named(folder: Path) -> str:
    """A folder as people call it."""
    return str(folder.relative_to(DEPLOY))


@cache
def kustomizations() -> Mapping[str, list[Object]]:
    """The objects of the base, each overlay and each example, by `named`."""
    made = kustomized([KUSTOMIZE / "base", *OVERLAYS, *EXAMPLES])
    return {named(folder): objects for folder, objects in made.items()}


def kustomized(folders: Iterable[Path]) -> dict[Path, list[Object]]:
    """The objects of each folder."""
    texts = _render(["kustomize", *map(str, folders)])
    return {Path(folder): _objects(text) for folder, text in texts.items()}


def composed(folder: Path) -> dict[str, list[Object]]:
    """The base with each component, by the component's name. `folder` is made for it."""
    made = kustomized([_compose(folder / one.name, one) for one in COMPONENTS])
    return {one.name: objects for one, objects in made.items()}


def _compose(folder: Path, component: Path) -> Path:
    folder.mkdir(parents=True)
    content = {
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(KUSTOMIZE / "base", folder.resolve())],
        "components": [os.path.relpath(component, folder.resolve())],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def releases(values: Mapping[str, Mapping[str, Any]], name: str = "pgproxy") -> dict[str, Release]:
    """What the chart makes of each set of values, by the keys of `values`."""
    wanted = {
        key: {"name": name, "namespace": NAMESPACE, "kube": KUBERNETES, "values": value}
        for key, value in values.items()
    }
    return {
        key: _release(made)
        for key, made in _render(["helm", str(CHART)], json.dumps(wanted)).items()
    }


def operators() -> dict[str, dict[str, Any]]:
    """The values that the chart has for each operator."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in CHART.glob("operators/*.yaml")}


def find(objects: Iterable[Object], kind: str, name: str = "pgproxy") -> Object:
    """The one of that kind and name."""
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def container(objects: Iterable[Object]) -> Object:
    """pgproxy's own."""
    (found,) = find(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def configuration(objects: Iterable[Object]) -> str | None:
    """The text of pgproxy.toml, if there is a ConfigMap with it."""
    texts = [one["data"].get("pgproxy.toml") for one in objects if one["kind"] == "ConfigMap"]
    return next((text for text in texts if text is not None), None)


def preset(objects: Iterable[Object]) -> dict[str, Any]:
    """[discovery.kubernetes] of pgproxy.toml."""
    text = configuration(objects)
    assert text is not None
    found: dict[str, Any] = tomllib.loads(text)["discovery"]["kubernetes"]
    return found


def comparable(objects: Iterable[Object]) -> dict[tuple[str, str], Object]:
    """By kind and name, without what Kustomize and Helm do in ways of their own.

    That is the hash in the names of ConfigMaps or the checksum in an annotation, the labels about
    Helm, the namespace, and the order of `env`.
    """
    found = {}
    for one in copy.deepcopy(list(objects)):
        metadata = one["metadata"]
        metadata.pop("namespace", None)
        for label in ("app.kubernetes.io/managed-by", "helm.sh/chart"):
            metadata.get("labels", {}).pop(label, None)
        if one["kind"] == "ConfigMap" and "pgproxy.toml" in one["data"]:
            metadata["name"] = "pgproxy"
        if one["kind"] == "RoleBinding":
            for subject in one["subjects"]:
                subject.pop("namespace")
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            template["metadata"].pop("annotations", None)
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = "pgproxy"
            template["spec"]["volumes"].sort(key=lambda volume: str(volume["name"]))
            template["spec"]["containers"][0]["env"].sort(key=lambda entry: str(entry["name"]))
        found[one["kind"], metadata["name"]] = one
    return found


def with_proxy(places: Mapping[str, list[Object]]) -> Iterator[tuple[str, list[Object]]]:
    """Those places in which there is one."""
    for place, objects in places.items():
        if proxy_name(objects):
            yield place, objects


def proxy_name(objects: Sequence[Object]) -> str:
    """The name of pgproxy's own Deployment, "" if there is none."""
    names = [
        one["metadata"]["name"]
        for one in objects
        if one["kind"] == "Deployment"
        and one["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "proxy"
    ]
    return str(names[0]) if names else ""


def _release(made: Mapping[str, Any]) -> Release:
    if "error" in made:
        return Release((), (), "", (), made["error"])
    objects: list[Object] = []
    tests: list[Object] = []
    notes = ""
    for path, text in made["files"].items():
        if path.endswith("NOTES.txt"):
            notes = text
        elif path.endswith(".yaml"):
            (tests if "/tests/" in path else objects).extend(_objects(text))
    return Release(objects, tests, notes, made["lint"])


def _objects(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one]


def _render(arguments: list[str], given: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [go_programs() / "render", *arguments],
        check=False,
        input=given,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
