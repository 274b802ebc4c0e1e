"""What `pgproxy label` accepts."""

from pathlib import Path

import pytest

from pgproxy.config import label_contradictions, load
from pgproxy.errors import ConfigError

pytestmark = pytest.mark.once

SELECTOR = 'selector = "app=db"\n'
LABEL_HEAD = '[discovery]\nmode = "kubernetes"\n[discovery.kubernetes]\n'


def refused_label(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {}, label_contradictions)
    return [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_pgproxy_label_needs_no_users_and_has_defaults(path: Path) -> None:
    path.write_text(LABEL_HEAD + SELECTOR)
    label = load(path, {}, label_contradictions).label
    assert (label.key, label.primary, label.replica, label.fenced) == (
        "role",
        "primary",
        "replica",
        "",
    )
    assert (label.lease_duration, label.renew_deadline, label.retry_period) == (15, 10, 2)
    with pytest.raises(ConfigError, match=r"auth\.users_file"):
        load(path, {})


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            "",
            [
                'discovery.mode: "static" names no pods; accepted by pgproxy label: "kubernetes"',
            ],
        ),
        (
            LABEL_HEAD + 'preset = "zalando"\ncluster = "main"\n',
            [
                'discovery.kubernetes.preset: "zalando": the operator sets a role label itself;'
                ' accepted by pgproxy label: "bitnami-ha", or a selector without a preset'
            ],
        ),
        (
            LABEL_HEAD + 'preset = "bitnami-ha"\ncluster = "main"\n',
            [
                'label.key: the StatefulSet of bitnami\'s chart owns the pods by "role": a pod with'
                " another value would be lost to it; accepted: any other key such as"
                ' "pgproxy.io/role"'
            ],
        ),
        *(
            (
                LABEL_HEAD + f'selector = "app=db,{requirement}"\n',
                [
                    'label.key: discovery.kubernetes.selector has "role" in it: a pod would leave it as'
                    " its label changes; accepted: a label that the selector has not"
                ],
            )
            for requirement in (
                *("role in (a)", "role=a", " role == a", "role", "!role", "! role"),
                *("role!=primary", "role notin (primary)"),
            )
        ),
        (
            LABEL_HEAD + SELECTOR + '[label]\nfenced = "replica"\n',
            ["label.primary: replica and fenced need values of their own"],
        ),
        (
            LABEL_HEAD + SELECTOR + "[label]\nrenew_deadline = 15\nretry_period = 7.5\n",
            [
                "label.renew_deadline: 15 is not less than label.lease_duration = 15",
                "label.retry_period: 7.5 is not less than half of label.renew_deadline = 15",
            ],
        ),
        (
            LABEL_HEAD + SELECTOR + '[label]\nkey = "-a/b/c"\nprimary = ""\nlease = "Upper"\n',
            [
                'label.key: "-a/b/c" is not accepted; accepted: a label\'s key such as "role" or "example.com/role"',
                'label.primary: "" is not accepted; accepted: a label\'s value that is not empty',
                'label.lease: "Upper" is not accepted; accepted: the name of an object',
            ],
        ),
    ],
)
def test_what_pgproxy_label_refuses(path: Path, text: str, faults: list[str]) -> None:
    assert refused_label(path, text) == faults


def test_a_selector_may_have_the_label_s_key_as_a_value_or_in_another_key(path: Path) -> None:
    path.write_text(LABEL_HEAD + 'selector = "tier in (a, role),b=role,!s/role,role-b"\n')
    assert load(path, {}, label_contradictions).label.key == "role"


def test_a_lease_that_cannot_be_renewed_in_time_is_refused_by_everybody(path: Path) -> None:
    path.write_text(
        '[auth]\nmethod = "trust"\n' + LABEL_HEAD + SELECTOR + "[label]\nlease_duration = 5\n"
    )
    with pytest.raises(ConfigError, match=r"label\.renew_deadline: 10 is not less"):
        load(path, {})


def test_another_key_will_do_for_bitnami(path: Path) -> None:
    path.write_text(
        LABEL_HEAD + 'preset = "bitnami-ha"\ncluster = "main"\n[label]\nkey = "pgproxy.io/role"\n'
    )
    assert load(path, {}, label_contradictions).label.key == "pgproxy.io/role"
