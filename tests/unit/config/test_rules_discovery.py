"""Keys that need or exclude each other, those of [discovery.kubernetes] above all, as an operator
meets them."""

from pathlib import Path

import pytest

from pgproxy.config import load, nameserver, notices
from pgproxy.errors import ConfigError

pytestmark = pytest.mark.once

HEAD = '[auth]\nmethod = "trust"\n[discovery]\nmode = "kubernetes"\n[discovery.kubernetes]\n'
SELECTOR = 'selector = "app=db"\n'
ROLE = 'role_label = "r"\nprimary_values = ["p"]\nreplica_values = ["s"]\n'
IN_SELECTOR = (
    'kubernetes.selector: has the role label "r" in it: a pod that changes its role would be gone, '
    "instead of drained; accepted: labels that stay as they are"
)


def refused(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return [fault.removeprefix(f"{path}: discovery.") for fault in caught.value.faults]


@pytest.mark.parametrize(
    "text",
    [
        'preset = "cloudnativepg"\ncluster = "main"\n',
        'preset = "patroni"\nselector = "app=db"\nport = 5433\n',
        'preset = "bitnami-ha"\ncluster = "main"\nnamespace = "prod"\nport = "pg"\n',
        'preset = "zalando"\ncluster = "a-b"\nprimary_values = ["boss"]\n',
        SELECTOR,
        SELECTOR + 'role_label = "r"\nprimary_values = ["p"]\nreplica_values = ["s", "a"]\n',
        'selector = "app=db,r notin (pooler),r!=x,s/r=1"\n' + ROLE,
    ],
)
def test_accepted(path: Path, text: str) -> None:
    path.write_text(HEAD + text)
    assert load(path, {}).discovery.mode == "kubernetes"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "",
            "kubernetes.preset: says no more than selector which pods to take; accepted: a preset "
            'with a cluster, or a selector such as "app=postgres,cluster=main"',
        ),
        (
            'preset = "zalando"\n',
            'kubernetes.cluster: preset = "zalando" needs the name of the cluster whose pods it '
            "selects",
        ),
        (
            'selector = " "\n',
            "kubernetes.selector: is blank, and would take every pod; accepted: one such as "
            '"app=postgres"',
        ),
        ('selector = "app=db, r = p"\n' + ROLE, IN_SELECTOR),
        ('selector = "r in (p, s)"\n' + ROLE, IN_SELECTOR),
        (
            SELECTOR + 'namespace = "Prod/.."\n',
            'kubernetes.namespace: "Prod/.." is not accepted; accepted: the name of a namespace, or '
            '"" for the proxy\'s own',
        ),
        ('cluster = "main"\n', "kubernetes.cluster: needs a preset, which says what label has it"),
        (
            'preset = "patroni"\ncluster = "main"\n' + SELECTOR,
            "kubernetes.cluster: and selector both say which pods; keep one",
        ),
        (
            SELECTOR + 'role_label = "role"\nprimary_values = ["p"]\n',
            "kubernetes.replica_values: is needed beside role_label: the label's values",
        ),
        (
            'preset = "bitnami-ha"\ncluster = "main"\nprimary_values = ["p"]\n',
            "kubernetes.role_label: is needed beside the values: the label that has them",
        ),
        (
            SELECTOR + 'role_label = "r"\nprimary_values = ["p", "b"]\nreplica_values = ["b"]\n',
            'kubernetes.replica_values: "b" is one of primary_values too',
        ),
        (SELECTOR + 'context = "c"\n', "kubernetes.context: is one of a kubeconfig; set that too"),
        (
            SELECTOR + "port = 0\n",
            "kubernetes.port: 0 is not accepted; accepted: a port, 1 to 65535, or the name of a "
            "container's port",
        ),
        (
            SELECTOR + 'port = "PG"\n',
            'kubernetes.port: "PG" is not accepted; accepted: a port, 1 to 65535, or the name of '
            "a container's port",
        ),
        (
            'preset = "zalando"\ncluster = "a,b"\n',
            'kubernetes.cluster: "a,b" is not accepted; accepted: the cluster\'s name, as its '
            "pods' label has it",
        ),
        (
            SELECTOR + '[[discovery.backends]]\nhost = "db1"\n',
            'backends: is for mode = "static"; with "kubernetes" the pods are the list',
        ),
    ],
)
def test_refused(path: Path, text: str, fault: str) -> None:
    assert refused(path, HEAD + text) == [fault]


@pytest.mark.parametrize("port", ["65536", "0", "01", "-1", "a" * 16, "a--b", "-a", "1-", "٣"])
def test_ports_that_are_none(path: Path, port: str) -> None:
    (fault,) = refused(path, HEAD + SELECTOR + f'port = "{port}"\n')
    assert "accepted: a port, 1 to 65535, or the name" in fault


def test_a_kubeconfig_that_is_not_there(path: Path) -> None:
    (fault,) = refused(path, HEAD + SELECTOR + 'kubeconfig = "nowhere"\n')
    assert fault.startswith(f"kubernetes.kubeconfig: {path.parent}/nowhere cannot be read:")


def test_an_unknown_preset_is_told_what_there_is(path: Path) -> None:
    (fault,) = refused(path, HEAD + 'preset = "cnpg"\ncluster = "main"\n')
    assert fault.startswith('kubernetes.preset: "cnpg" is not accepted; accepted: ')
    assert '"cloudnativepg"' in fault


@pytest.mark.parametrize(
    ("mode", "table"),
    [
        ("kubernetes", 'cluster = "main"'),
        ("patroni", 'urls = ["http://a:8008"]'),
        ("dns", 'names = ["pg"]'),
    ],
)
def test_a_source_that_nobody_asks_is_noticed(path: Path, mode: str, table: str) -> None:
    path.write_text(
        '[auth]\nmethod = "trust"\n[[discovery.backends]]\nhost = "db1"\n'
        f"[discovery.{mode}]\n{table}\n"
    )
    notice = f'discovery.{mode}: not in effect with discovery.mode = "static"'
    assert notice in notices(load(path, {}))


def discovery(mode: str, table: str) -> str:
    return f'[auth]\nmethod = "trust"\n[discovery]\nmode = "{mode}"\n[discovery.{mode}]\n{table}\n'


URLS = 'urls = ["https://a:8008"]\n'


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (
            "",
            "patroni.urls: names no member to ask; accepted: the REST API of one at least, such as "
            '["http://10.0.0.1:8008"]',
        ),
        *[
            (
                f"urls = {urls}",
                f"patroni.urls{place}: {shown} is not accepted; accepted: a list of URLs without a "
                'path or a user such as ["http://10.0.0.1:8008"]',
            )
            for urls, place, shown in (
                ('["a:8008"]', "[0]", '"a:8008"'),
                ('["http://a", "ftp://b"]', "[1]", '"ftp://b"'),
                ('["http://a/patroni"]', "[0]", '"http://a/patroni"'),
                ('["http://a:0"]', "[0]", '"http://a:0"'),
                ('["http://a:99999"]', "[0]", '"http://a:99999"'),
                *((f'["http://{who}@a"]', "[0]", "this URL") for who in ("me", "me:hunter2", ":2")),
                ('["http://"]', "[0]", '"http://"'),
                ('["http://[::1"]', "[0]", '"http://[::1"'),
            )
        ],
        (
            URLS + 'key_file = "pgproxy.toml"',
            "patroni.key_file: is the key of a certificate; set cert_file too",
        ),
        (
            URLS + 'ca_file = "pgproxy.toml"\nverify = false',
            "patroni.ca_file: is not looked at with verify = false; keep one",
        ),
        (
            URLS + "interval = 0",
            "patroni.interval: 0 is not accepted; accepted: seconds, 0.05 or more",
        ),
        (
            URLS + '[[discovery.backends]]\nhost = "a"',
            'backends: is for mode = "static"; with "patroni" Patroni\'s members are the list',
        ),
    ],
)
def test_patroni(path: Path, table: str, fault: str) -> None:
    assert refused(path, discovery("patroni", table)) == [fault]


def test_patroni_s_files_have_to_be_there(path: Path) -> None:
    files = 'ca_file = "no"\ncert_file = "no"\nkey_file = "no"'
    faults = refused(path, discovery("patroni", URLS + files))
    assert [fault.partition(":")[0] for fault in faults] == [
        f"patroni.{name}" for name in ("ca_file", "cert_file", "key_file")
    ]


_NAMES = 'a list of names such as ["db.example.org"], of which none is an address'
_NAMESERVERS = 'a list of addresses such as ["10.0.0.10", "10.0.0.11:5353", "[fd00::1]:53"]'


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (
            "",
            "dns.names: says not whose addresses to take; accepted: one name at least, such as "
            '["db.example.org"]',
        ),
        *[
            (f'names = ["{name}"]', f'dns.names[0]: "{name}" is not accepted; accepted: {_NAMES}')
            for name in ("", "10.0.0.1", "fd00::1", "a b", "a..b", "a:5432", "x" * 64, "a." * 128)
        ],
        *[
            (
                f'names = ["pg"]\nnameservers = ["{server}"]',
                f'dns.nameservers[0]: "{server}" is not accepted; accepted: {_NAMESERVERS}',
            )
            for server in ("dns.test", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:x", "[fd00::1", "")
        ],
        (
            'names = ["pg"]\nmin_ttl = 60',
            "dns.max_ttl: 30 is less than min_ttl = 60",
        ),
        (
            'names = ["pg"]\nfamily = "ipx"',
            'dns.family: "ipx" is not accepted; accepted: "any", "ipv4", "ipv6"',
        ),
        (
            'names = ["pg"]\n[[discovery.backends]]\nhost = "a"',
            'backends: is for mode = "static"; with "dns" the addresses are the list',
        ),
    ],
)
def test_dns(path: Path, table: str, fault: str) -> None:
    assert refused(path, discovery("dns", table)) == [fault]


@pytest.mark.parametrize("name", ["pg", "pg.db.svc.cluster.local.", "_postgresql._tcp.pg", "1a.2b"])
def test_names_that_can_be_asked_for(path: Path, name: str) -> None:
    path.write_text(discovery("dns", f'names = ["{name}"]'))
    assert load(path, {}).discovery.dns.names == (name,)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("10.0.0.1", ("10.0.0.1", 0)),
        ("10.0.0.1:5353", ("10.0.0.1", 5353)),
        ("fd00::1", ("fd00::1", 0)),
        ("[fd00::1]", ("fd00::1", 0)),
        ("[fd00::1]:5353", ("fd00::1", 5353)),
    ],
)
def test_nameservers(text: str, parts: tuple[str, int]) -> None:
    assert nameserver(text) == parts


def test_replication_goes_to_a_server_that_there_is(path: Path) -> None:
    head = '[auth]\nmethod = "trust"\n[[discovery.backends]]\nhost = "a"\nname = "one"\n'
    head += '[[discovery.backends]]\nhost = "b"\n[replication]\n'
    for named in ("", "one", "b:5432"):
        path.write_text(f'{head}backend = "{named}"\n')
        assert load(path, {}).replication.backend == named
    assert refused(path, head + 'backend = "a"\n') == [
        f'{path}: replication.backend: "a" is none of the backends; accepted: "" for the primary, '
        'or "one", "b:5432"'
    ]
    # Of pods nobody knows the names beforehand.
    path.write_text(HEAD + SELECTOR + '[replication]\nbackend = "main-2"\n')
    assert load(path, {}).replication.backend == "main-2"
