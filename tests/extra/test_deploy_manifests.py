"""What is in deploy/ renders, is what Kubernetes knows, and says the same in Kustomize and in Helm."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import pytest
import yaml

import pgproxy
from pgproxy import config
from pgproxy.topology.presets import PRESETS
from tests.support import deploy_tools, manifests
from tests.support.manifests import CHART, DEPLOY, Object

pytestmark = pytest.mark.timeout(300)  # a first run builds the tools

HERE = Path(__file__).parent / "deploy"
# Kinds of others, of which there are no schemas here.
FOREIGN = {"postgresql.cnpg.io/v1"}
OPERATOR = "monitoring.coreos.com/v1"
# The oldest that the chart allows, and the newest that there are schemas of.
VERSIONS = ["1.27", "1.37"]

ACCEPTED_BY_POLICY: Mapping[str, str] = {
    "CKV_K8S_11": "no limit of CPU: to be throttled is a latency that nobody can explain",
    "CKV_K8S_15": "IfNotPresent: a version names one image",
    "CKV_K8S_35": "operators' Secrets as variables: a pair of them is a user",
    "CKV_K8S_38": "the token is what lists the pods",
    "CKV_K8S_43": "no digest: who builds the image knows it, `images` in Kustomize takes one",
}


@pytest.fixture(scope="module")
def rendered() -> Mapping[str, list[Object]]:
    """Every kustomization: ours, and each component on the base."""
    return manifests.kustomizations()


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Object]]:
    """The base with each component, by the component's name."""
    return manifests.composed(tmp_path_factory.mktemp("composed"))


@pytest.fixture(scope="module")
def charted() -> Mapping[str, manifests.Release]:
    """The chart: as it comes, with monitoring, with everything else than that, for each operator."""
    others = yaml.safe_load((HERE / "values.yaml").read_text())
    cases = {"default": {}, "monitoring": {"monitoring": {"enabled": True}}, "others": others}
    return manifests.releases(cases | manifests.operators())


@pytest.fixture(scope="module")
def everything(
    rendered: Mapping[str, list[Object]],
    composed: Mapping[str, list[Object]],
    charted: Mapping[str, manifests.Release],
) -> dict[str, list[Object]]:
    """All objects, by where they come from."""
    charts = {
        f"helm/{name}": [*release.objects, *release.tests] for name, release in charted.items()
    }
    components = {f"components/{name}": objects for name, objects in composed.items()}
    return {**rendered, **components, **charts}


def run(program: str, *arguments: str | Path, given: str | None = None) -> None:
    """A program of the tools that is content with what it gets."""
    command = [deploy_tools.python_programs() / program, *arguments]
    done = subprocess.run(command, check=False, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_object_is_what_kubernetes_knows(
    everything: Mapping[str, list[Object]], tmp_path: Path
) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(_distinct([*everything.values()], without={OPERATOR, *FOREIGN}))
    for version in VERSIONS:
        run("kubernetes-validate", "--strict", "--quiet", "-k", version, path)


def _distinct(places: Sequence[Sequence[Object]], without: Set[str] = frozenset()) -> str:
    """Every object once, as YAML, but for those of some apiVersions. It is JSON: that is read fast."""
    objects = [one for objects in places for one in objects if one["apiVersion"] not in without]
    return "\n---\n".join({json.dumps(one, sort_keys=True): None for one in objects})


def test_each_object_is_what_the_prometheus_operator_knows(
    everything: Mapping[str, list[Object]],
) -> None:
    found = [
        one for objects in everything.values() for one in objects if one["apiVersion"] == OPERATOR
    ]
    assert {one["kind"] for one in found} == {"PodMonitor", "PrometheusRule"}
    done = _read_by_operator(found)
    assert done.returncode == 0, done.stdout
    found[0]["spec"]["selectors"] = {}
    assert _read_by_operator(found).returncode == 1


def _read_by_operator(objects: Sequence[Object]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [deploy_tools.go_programs() / "monitoring"],
        check=False,
        input="".join(json.dumps(one) + "\n" for one in objects),
        capture_output=True,
        text=True,
    )


def test_policies_are_kept(everything: Mapping[str, list[Object]], tmp_path: Path) -> None:
    """Those of checkov for our own objects, but for what is accepted above."""
    path = tmp_path / "all.yaml"
    # One is in nobody's namespace, the other without what can be left out.
    ours = [
        _ours(objects)
        for place, objects in everything.items()
        if place not in {"kustomize/base", "helm/others"}
    ]
    path.write_text(_distinct(ours))
    report = tmp_path / "report"
    arguments = ["--framework", "kubernetes", "--skip-download", "--compact", "--soft-fail"]
    arguments += ["--output", "json", "--output-file-path", str(report)]
    run("checkov", "--file", path, *arguments)
    results = json.loads((report / "results_json.json").read_text())["results"]
    assert len(results["passed_checks"]) > 100
    failed = {
        (one["check_id"], one["check_name"], one["resource"]) for one in results["failed_checks"]
    }
    assert {name for name, _, _ in failed} == ACCEPTED_BY_POLICY.keys(), sorted(failed)


def _ours(objects: Sequence[Object]) -> list[Object]:
    """What is not of the example's database."""
    label = "app.kubernetes.io/part-of"
    return [one for one in objects if one["metadata"].get("labels", {}).get(label) == "pgproxy"]


def test_yaml_is_tidy() -> None:
    files = [
        path
        for top in (DEPLOY, HERE)
        for path in sorted(top.rglob("*.yaml"))
        if CHART / "templates" not in path.parents
    ]
    run("yamllint", "--strict", "--config-file", HERE / "yamllint.yaml", *files)


def test_dockerfiles_are_tidy() -> None:
    files = sorted(DEPLOY.rglob("*Dockerfile"))
    if files:
        run("hadolint", "--failure-threshold", "style", *files)


@pytest.mark.parametrize("operator", ["default", *sorted(PRESETS)])
def test_helm_makes_what_kustomize_makes(
    operator: str,
    rendered: Mapping[str, list[Object]],
    charted: Mapping[str, manifests.Release],
) -> None:
    place = "kustomize/base" if operator == "default" else f"kustomize/overlays/{operator}"
    expected = manifests.comparable(rendered[place])
    assert manifests.comparable(charted[operator].objects) == expected


def test_helm_monitors_what_kustomize_monitors(
    composed: Mapping[str, list[Object]], charted: Mapping[str, manifests.Release]
) -> None:
    expected = manifests.comparable(composed["monitoring"])
    found = manifests.comparable(charted["monitoring"].objects)
    assert found.keys() == expected.keys()
    for key, one in found.items():
        if key[0] == "PodMonitor":
            # A release may have neighbours, whose pods are not its own.
            assert one["spec"]["selector"]["matchLabels"].pop("app.kubernetes.io/instance")
        for part in ("spec", "data"):
            assert one.get(part) == expected[key].get(part), key


def test_the_chart_is_tidy(charted: Mapping[str, manifests.Release]) -> None:
    for name, release in charted.items():
        assert release.error == "", name
        assert list(release.complaints) == [], name
        assert "5432" in release.notes, name
        (test,) = release.tests
        assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_every_value_of_the_chart_does_something() -> None:
    """tests/extra/deploy/values.yaml sets each to something else than its default."""
    defaults = dict(_leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    others = dict(_leaves(yaml.safe_load((HERE / "values.yaml").read_text())))
    assert others.keys() == defaults.keys()
    # What has an effect only if something else is so.
    needs: dict[str, dict[str, Any]] = {
        "replicas": {"autoscaling": {"enabled": False}},
        "monitoring.interval": {"monitoring": {"enabled": True}},
        "monitoring.labels": {"monitoring": {"enabled": True}},
        "serviceAccount.create": {"serviceAccount": {"name": "other"}},
    }
    cases: dict[str, dict[str, Any]] = {"": {}}
    for key, value in others.items():
        assert value != defaults[key], key
        if key in needs:
            cases[f"{key}: without"] = needs[key]
        cases[key] = _merged(needs.get(key, {}), _nested(key, value))
    made = manifests.releases(cases)
    for key in others:
        without = made[f"{key}: without" if key in needs else ""]
        assert made[key].error == "", key
        assert made[key].objects != without.objects, key


def _nested(key: str, value: object) -> dict[str, Any]:
    """From a dotted name to tables in tables."""
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What is set, by its dotted name; a table that people fill themselves counts as one."""
    whole = {"resources", "labels", "annotations", "podAnnotations", "podLabels"}
    whole |= {"nodeSelector", "affinity"}
    for key, value in values.items():
        is_table = isinstance(value, dict) and key not in whole and "matchLabels" not in value
        if is_table:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(first)
    for key, value in second.items():
        old = found.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        found[key] = _merged(old, value) if both else value
    return found


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"config": {"auth": {}}}, "at '/config': got object, want string"),
        ({"autoscaling": {"minReplicas": "two"}}, "got string, want integer"),
        ({"monitoring": {"interval": "15"}}, "does not match pattern"),
        ({"networkPolicy": {"database": []}}, "minItems"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed without"),
    ],
)
def test_values_that_are_none_are_refused(values: Mapping[str, Any], complaint: str) -> None:
    assert complaint in manifests.releases({"bad": values})["bad"].error


def test_releases_do_not_take_each_others_pods() -> None:
    selectors = []
    for name in ("orders", "reports"):
        objects = manifests.releases({"one": {}}, name)["one"].objects
        assert manifests.find(objects, "Service", f"{name}-pgproxy-peers")
        selectors.append(manifests.find(objects, "Service", f"{name}-pgproxy")["spec"]["selector"])
    assert selectors[0] != selectors[1]


def test_there_is_time_to_drain(everything: Mapping[str, list[Object]]) -> None:
    listen = config.Listen()
    least = listen.drain_accept_seconds + listen.drain_timeout + 10
    for place, objects in manifests.with_proxy(everything):
        deployment = manifests.find(objects, "Deployment", manifests.proxy_name(objects))
        grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > least, place


def test_probes_and_ports_are_those_of_the_program(everything: Mapping[str, list[Object]]) -> None:
    for place, objects in manifests.with_proxy(everything):
        deployment = manifests.find(objects, "Deployment", manifests.proxy_name(objects))
        (ours,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
        assert ports == {"postgresql": config.Listen().port, "metrics": config.Http().port}, place
        for probe, path in (
            ("startup", "startupz"),
            ("liveness", "livez"),
            ("readiness", "readyz"),
        ):
            asked = ours[f"{probe}Probe"]["httpGet"]
            assert asked == {"path": f"/{path}", "port": "metrics"}, place
        if place != "helm/others":
            assert ours["image"] == f"pgproxy:{pgproxy.__version__}", place
