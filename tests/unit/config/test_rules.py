"""Keys that need or exclude each other, those of [discovery.kubernetes] above all, as an operator
meets them."""

from pathlib import Path

import pytest

from pgproxy.config import (
    Config,
    Health,
    LimitEntry,
    Limits,
    Routing,
    label_contradictions,
    load,
    notices,
)
from pgproxy.config.places import nameserver
from pgproxy.errors import ConfigError

pytestmark = pytest.mark.once

HEAD = '[auth]\nmethod = "trust"\n[discovery]\nmode = "kubernetes"\n[discovery.kubernetes]\n'
SELECTOR = 'selector = "app=db"\n'
ROLE = 'role_label = "r"\nprimary_values = ["p"]\nreplica_values = ["s"]\n'
IN_SELECTOR = (
    'kubernetes.selector: has the role label "r" in it: a pod that changes its role would be gone, '
    "instead of drained; accepted: labels that stay as they are"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pgproxy.toml"


def refused(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return [fault.removeprefix(f"{path}: discovery.") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("size = 2\nmin_size = 3", ["pool.min_size: 3 is more than pool.size = 2"]),
        (
            "min_size = 3\nmax_backend_connections = 2\nguaranteed_size = 4",
            [
                "pool.min_size: 3 is more than pool.max_backend_connections = 2",
                "pool.guaranteed_size: 4 is more than pool.max_backend_connections = 2",
            ],
        ),
        ("max_user_connections = 3\nusers.u = { min_size = 2, max_connections = 0 }", []),
        (
            "min_size = 3\nusers.u = { max_connections = 2, size = 2 }",
            [
                "pool.users.u.size: 2 is less than pool.min_size = 3",
                "pool.users.u.max_connections: 2 is less than pool.min_size = 3",
            ],
        ),
        (
            "max_database_connections = 2\ndatabases.d = { guaranteed_size = 3 }",
            ["pool.databases.d.guaranteed_size: 3 is more than pool.max_database_connections = 2"],
        ),
    ],
)
def test_sizes_that_cannot_be_reached(path: Path, text: str, faults: list[str]) -> None:
    path.write_text(
        f'[auth]\nmethod = "trust"\n[discovery]\nbackends = [{{ host = "a" }}]\n[pool]\n{text}\n'
    )
    if not faults:
        load(path, {})
        return
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.faults == [f"{path}: {fault}" for fault in faults]


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


def test_the_safety_net_needs_what_is_kept() -> None:
    config = Config(health=Health(rerun_limit=0))
    assert any(told.startswith("routing.safety_net: ") for told in notices(config))
    off = Config(health=Health(rerun_limit=0), routing=Routing(safety_net=False))
    assert not any(told.startswith("routing.safety_net: ") for told in notices(off))


def test_limits_that_are_not_in_effect_are_told() -> None:
    def told(limits: Limits) -> list[str]:
        return [notice for notice in notices(Config(limits=limits)) if notice.startswith("limits.")]

    assert told(Limits(max_concurrent=8, max_concurrent_per_backend=4)) == []
    (said,) = told(Limits(max_concurrent=8, max_concurrent_per_backend=8))
    assert said.startswith("limits.max_concurrent_per_backend = 8: not in effect")
    weights = {"reports": LimitEntry(weight=2)}
    assert told(Limits(max_concurrent=8, users=weights)) == []
    (said,) = told(Limits(users=weights))
    assert "weights are not in effect" in said
    assert told(Limits(users={"reports": LimitEntry(max_clients=50)})) == []


def test_a_weight_is_of_both_user_and_database() -> None:
    limits = Limits(
        users={"reports": LimitEntry(weight=2)}, databases={"shop": LimitEntry(weight=3)}
    )
    pairs = [("shop", "reports"), ("shop", "web"), ("other", "reports"), ("other", "web")]
    assert [limits.weight(*pair) for pair in pairs] == [6, 3, 2, 1]


@pytest.mark.parametrize(
    ("text", "ceiling"),
    [
        ("[pool]\nsize = 7\n[limits]\n", 7),
        ("[limits]\nmax_concurrent = 9\n", 9),
        ("[limits]\nmax_concurrent_per_backend = 30\n", 30),
        ("[limits]\nmax_concurrent = 9\nmax_concurrent_per_backend = 8\n", 8),
        ("[limits]\nmax_concurrent = 9\nmax_concurrent_per_backend = 30\n", 9),
    ],
)
def test_the_floor_of_a_learnt_limit_is_no_more_than_its_cap(
    path: Path, text: str, ceiling: int
) -> None:
    # Variables for the backend and the log-in, so that the sections above stay the last ones.
    environ = {"PGPROXY_DISCOVERY__BACKENDS": '[{"host": "db"}]', "PGPROXY_AUTH__METHOD": "trust"}
    path.write_text(f"{text}adaptive = true\nadaptive_floor = {ceiling}\n")
    config = load(path, environ)
    assert config.max_running_per_backend == ceiling
    path.write_text(f"{text}adaptive = true\nadaptive_floor = {ceiling + 1}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    [fault] = caught.value.faults
    assert fault.startswith(f"{path}: limits.adaptive_floor: {ceiling + 1} is more than the ")
    assert fault.endswith(f"accepted: 1 to {ceiling}")
    path.write_text(f"{text}adaptive_floor = {ceiling + 1}\n")
    assert not load(path, environ).limits.adaptive


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
    path.write_text(HEAD + SELECTOR + "[label]\nlease_duration = 5\n")
    with pytest.raises(ConfigError, match=r"label\.renew_deadline: 10 is not less"):
        load(path, {})


def test_another_key_will_do_for_bitnami(path: Path) -> None:
    path.write_text(
        LABEL_HEAD + 'preset = "bitnami-ha"\ncluster = "main"\n[label]\nkey = "pgproxy.io/role"\n'
    )
    assert load(path, {}, label_contradictions).label.key == "pgproxy.io/role"


# Users and the monitor's own log-in, elsewhere than in the configuration

BACKEND = {"PGPROXY_DISCOVERY__BACKENDS": '[{"host": "db"}]'}
PAIR = {"APP_USERNAME": "app", "APP_PASSWORD": "hunter2"}
USERS_ENV = {"PGPROXY_AUTH__USERS_ENV": '["APP"]'}


def secret(folder: Path, user: str = "app") -> Path:
    folder.mkdir()
    (folder / "username").write_text(user)
    (folder / "password").write_text("hunter2")
    return folder


def refused_environment(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, BACKEND | environ)
    return caught.value.faults


def test_who_names_users_elsewhere_needs_no_file(path: Path) -> None:
    assert load(None, BACKEND | USERS_ENV | PAIR).auth.users_file is None
    secret(path.parent / "app")
    path.write_text('[auth]\nusers_dirs = ["app"]\n')
    config = load(path, BACKEND)
    assert config.auth.users_dirs == (path.parent / "app",)
    assert config.auth.users_file is None


def test_a_file_beside_them_is_read_if_it_is_named(path: Path) -> None:
    (path.parent / "users.txt").write_text("")
    path.write_text('[auth]\nusers_file = "users.txt"\n')
    config = load(path, BACKEND | USERS_ENV | PAIR)
    assert config.auth.users_file == path.parent / "users.txt"


@pytest.mark.parametrize("prefix", ["PGPROXY", "PGPROXY_AUTH", "PGPROXY__APP"])
def test_a_pair_may_begin_like_a_key(prefix: str) -> None:
    pair = {f"{prefix}_USERNAME": "app", f"{prefix}_PASSWORD": "hunter2"}
    users = {"PGPROXY_AUTH__USERS_ENV": f'["{prefix}"]'}
    health = {"PGPROXY_HEALTH__USER_ENV": prefix}
    config = load(None, BACKEND | users | health | pair)
    assert (config.auth.users_env, config.health.user_env) == ((prefix,), prefix)
    (line,) = refused_environment(**users, **pair, PGPROXY_HEALTH_USERNAME="me")
    assert line.startswith("PGPROXY_HEALTH_USERNAME: is no key")


def test_half_a_pair_is_refused() -> None:
    half = {"APP_PASSWORD": "hunter2"}
    assert refused_environment(**USERS_ENV, **half) == [
        "PGPROXY_AUTH__USERS_ENV: auth.users_env[0]: APP_USERNAME is not set; accepted: APP_USERNAME"
        " and APP_PASSWORD with the name of a user and the password"
    ]


def test_a_word_that_begins_no_variable_is_refused() -> None:
    for word in ("", "APP-1", "1APP", "A P"):
        assert refused_environment(PGPROXY_AUTH__USERS_ENV=f'["{word}"]') == [
            f'PGPROXY_AUTH__USERS_ENV: auth.users_env[0]: "{word}" is not accepted; accepted: '
            'a list of words such as ["APP"], for APP_USERNAME and APP_PASSWORD'
        ]


def test_a_folder_that_is_no_secret_is_refused(path: Path) -> None:
    path.write_text('[auth]\nusers_dirs = ["app"]\n')
    with pytest.raises(ConfigError) as caught:
        load(path, BACKEND)
    assert caught.value.faults == [
        f"{path}: auth.users_dirs[0]: {path.parent}/app/username cannot be read: No such file or "
        "directory; accepted: a folder with the files username and password"
    ]


def test_a_user_in_two_places_is_refused(path: Path) -> None:
    folder = secret(path.parent / "app")
    given = {"PGPROXY_AUTH__USERS_DIRS": f'["{folder}"]'}
    assert refused_environment(**USERS_ENV, **PAIR, **given) == [
        'PGPROXY_AUTH__USERS_DIRS: auth.users_dirs[0]: user "app" is in auth.users_env[0] too; '
        "accepted: each once"
    ]


def test_the_monitor_s_name_and_password_come_from_one_place(path: Path) -> None:
    folder = secret(path.parent / "monitor")
    auth = USERS_ENV | PAIR
    one = {"PGPROXY_HEALTH__USER_DIR": str(folder)}
    assert load(None, BACKEND | auth | one).health.user_dir == folder
    other = {"PGPROXY_HEALTH__USER_ENV": "APP"}
    assert load(None, BACKEND | auth | other).health.user_env == "APP"
    more = {"PGPROXY_HEALTH__USER": "me", "PGPROXY_HEALTH__PASSWORD": "x"}
    assert [line.partition(": ")[2] for line in refused_environment(**auth, **one, **other)] == [
        "health.user_dir: and health.user_env are both set; keep one"
    ]
    assert [line.partition(": ")[2] for line in refused_environment(**auth, **other, **more)] == [
        "health.user: and health.user_env are both set; keep one",
        "health.password: and health.user_env are both set; keep one",
    ]
    (line,) = refused_environment(**auth, PGPROXY_HEALTH__USER_ENV="MONITOR")
    assert line.startswith("PGPROXY_HEALTH__USER_ENV: health.user_env: MONITOR_USERNAME is not set")
    (folder / "password").write_text("")
    (line,) = refused_environment(**auth, **one)
    assert line.startswith(f"PGPROXY_HEALTH__USER_DIR: health.user_dir: {folder}/password is empty")


STATIC = '[peers]\nstatic = ["a:1"]\n'


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (STATIC, []),
        ('[peers]\ndns = "pgproxy-peers:9930"\n[pool]\ncluster_budget = true\n', []),
        ('[peers]\nselector = "app=pgproxy"\nnamespace = "n"\nport = "http"\n', []),
        (
            STATIC + 'dns = "b:2"\nselector = "app=p"',
            [
                "peers.dns: and static both say who the others are; keep one",
                "peers.selector: and static both say who the others are; keep one",
            ],
        ),
        (
            "[pool]\ncluster_budget = true",
            [
                "pool.cluster_budget: needs to know the other proxies; accepted with one of"
                " peers.selector, peers.dns, peers.static"
            ],
        ),
        (
            '[peers]\nselector = " "',
            ["peers.selector: is blank, and would take every pod; accepted: the proxy's own"],
        ),
        (
            '[peers]\nselector = "app=p"\n[http]\nport = 0',
            ["peers.port: is needed with http.port = 0: the others' is not known"],
        ),
        (
            STATIC + 'namespace = "n"\nport = 1',
            [
                "peers.namespace: is that of pods; set peers.selector too",
                "peers.port: is that of pods; set peers.selector too",
            ],
        ),
        (
            STATIC + "[listen]\nworkers = 2\nmax_clients = 60001",
            [
                "listen.max_clients: with [peers] and listen.workers above 1 cancel keys tell 60000"
                " clients of each worker apart; accepted: 1 to 60000"
            ],
        ),
        (
            '[peers]\nstatic = ["a"]',
            [
                'peers.static[0]: "a" is not accepted; accepted: a list of HOST:PORT, of another'
                " proxy's [http]; an IPv6 address in brackets"
            ],
        ),
        (
            '[peers]\nstatic = [""]',
            ['peers.static: "" is no address; accepted: a list of HOST:PORT'],
        ),
        (
            '[peers]\ndns = "fd00::1:5"',
            [
                'peers.dns: "fd00::1:5" is not accepted; accepted: "" for none, or HOST:PORT, of'
                " another proxy's [http]; an IPv6 address in brackets"
            ],
        ),
    ],
)
def test_who_the_other_proxies_are(path: Path, text: str, faults: list[str]) -> None:
    head = '[auth]\nmethod = "trust"\n[[discovery.backends]]\nhost = "db"\n'
    if not faults:
        path.write_text(head + text)
        assert load(path, {}).peers.are_known
        return
    assert refused(path, head + text) == [f"{path}: {fault}" for fault in faults]
