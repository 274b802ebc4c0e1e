import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pgproxy.config import Backend, Config, leaves, load, origins, toml_text
from pgproxy.config.environment import variable
from pgproxy.errors import ConfigError

pytestmark = pytest.mark.once

EXAMPLE = Path(__file__).parents[3] / "config" / "pgproxy.toml"
BACKENDS = """
[auth]
method = "trust"
[[discovery.backends]]
host = "db1"
"""
ENVIRONMENT = {
    "PGPROXY_AUTH__METHOD": "trust",
    "PGPROXY_DISCOVERY__BACKENDS": '[{"host": "db1"}]',
}


def faults(path: Path | None, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return caught.value.faults


def loaded(path: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    path.write_text(BACKENDS + text)
    return load(path, environ or {})


def refused(path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    path.write_text(BACKENDS + text)
    return faults(path, environ)


# The example


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def test_the_example_holds_every_key_with_its_default() -> None:
    example = flat(tomllib.loads(EXAMPLE.read_text()))
    backends = example.pop("discovery.backends")
    default = flat(Config().model_dump())
    del default["discovery.backends"]
    assert {key: toml_text(value) for key, value in example.items()} == {
        key: toml_text(value) for key, value in default.items()
    }
    assert isinstance(backends, list)
    assert backends[0] == Backend(host=backends[0]["host"]).model_dump()


def test_the_example_loads(path: Path) -> None:
    path.write_text(EXAMPLE.read_text())
    (path.parent / "users.txt").write_text('"alice" "secret"\n')
    config = load(path, {})
    assert [backend.host for backend in config.discovery.backends] == ["10.0.0.1", "10.0.0.2"]


# Layers


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(path: Path) -> None:
    config = loaded(path, "[pool]\nsize = 7\nidle_timeout = 8\n", {"PGPROXY_POOL__SIZE": "9"})
    assert (config.pool.size, config.pool.idle_timeout, config.pool.lifetime) == (9, 8, 3600)


def test_a_switch_can_be_set_by_the_environment(path: Path) -> None:
    for text, on in (("true", True), ("false", False)):
        found = loaded(path, "[replication]\nallow = true\n", {"PGPROXY_REPLICATION__ALLOW": text})
        assert found.replication.allow is on


def test_the_environment_alone_is_enough() -> None:
    config = load(
        None,
        ENVIRONMENT
        | {
            "PGPROXY_LISTEN__PORT": "0",
            "PGPROXY_HEALTH__INTERVAL": "0.5",
            "PGPROXY_DISCOVERY__BACKENDS": '[{"host": "a"}, {"host": "b", "port": 6000}]',
        },
    )
    assert config.listen.port == 0
    assert config.health.interval == 0.5
    assert config.discovery.backends == (Backend(host="a"), Backend(host="b", port=6000))


def as_text(value: object) -> str:
    """As a variable has it: JSON, or what stands for itself."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | dict | bool) else str(value)


def test_each_key_can_be_given_by_the_environment_alone(path: Path) -> None:
    """The default of each, so that all together are accepted."""
    (path.parent / "users.txt").write_text("")
    environ = {
        variable(key): as_text(value)
        for key, value in flat(tomllib.loads(EXAMPLE.read_text())).items()
    }
    for name in ("pool.databases", "pool.users", "limits.users", "timeouts.databases"):
        environ[variable(name)] = "{}"
    environ["PGPROXY_AUTH__USERS_FILE"] = str(path.parent / "users.txt")
    found = {item.key: item.origin for item in origins(None, environ)}
    assert {key for key, origin in found.items() if origin == "default"} <= {
        "limits.databases",
        "pool.databases",
        "pool.users",
        "limits.users",
        "timeouts.databases",
        "timeouts.users",
    }
    path.write_text(EXAMPLE.read_text())
    assert load(None, environ) == load(path, {})


def test_the_tables_of_names_and_lists_of_tables_are_json_in_the_environment() -> None:
    config = load(
        None,
        ENVIRONMENT
        | {
            "PGPROXY_POOL__DATABASES": '{"reports": {"mode": "session", "size": 2}}',
            "PGPROXY_POOL__DATABASES__SHOP": '{"size": 3}',
            "PGPROXY_TIMEOUTS__USERS__APP__QUERY": "5",
            "PGPROXY_ROUTING__RULES": '[{"user": "etl", "route": "primary"}]',
        },
    )
    databases = config.pool.databases
    assert (databases["reports"].mode, databases["reports"].size) == ("session", 2)
    assert databases["shop"].size == 3
    assert config.timeouts.users["app"].query == 5
    assert [rule.user for rule in config.routing.rules] == ["etl"]


def test_a_table_can_come_as_json_and_key_by_key_from_the_environment(path: Path) -> None:
    config = loaded(
        path,
        '[discovery.kubernetes]\ncluster = "main"\n',
        {
            "PGPROXY_DISCOVERY__KUBERNETES": '{"namespace": "prod", "primary_values": ["x"]}',
            "PGPROXY_DISCOVERY__KUBERNETES__PORT": "6000",
        },
    )
    kubernetes = config.discovery.kubernetes
    assert (kubernetes.cluster, kubernetes.namespace) == ("main", "prod")
    assert (kubernetes.primary_values, kubernetes.port) == (("x",), "6000")


def test_exceptions_for_databases_and_users(path: Path) -> None:
    config = loaded(
        path,
        '[pool.databases]\nreports = { mode = "session" }\n"My db" = { mode = "statement" }\n',
        {
            "PGPROXY_POOL__USERS": '{"batch": {"mode": "statement"}}',
            "PGPROXY_POOL__DATABASES__SHOP__MODE": "transaction",
            "PGPROXY_POOL__DATABASES__SHOP__MAX_CONNECTIONS": "7",
        },
    )
    assert config.pool.databases["shop"].max_connections == 7
    assert {name: entry.mode for name, entry in config.pool.databases.items()} == {
        "reports": "session",
        "My db": "statement",
        "shop": "transaction",
    }
    assert config.pool.users["batch"].mode == "statement"


def test_time_limits_of_databases_and_users(path: Path) -> None:
    config = loaded(
        path,
        "[timeouts]\nquery = 30\n[timeouts.databases.reports]\nquery = 600\nclient_idle = 0.5\n",
        {
            "PGPROXY_TIMEOUTS__USERS": '{"batch": {"query": 0}}',
            "PGPROXY_TIMEOUTS__DATABASES__REPORTS__TRANSACTION": "900",
        },
    )
    assert config.timeouts.query == 30
    reports = config.timeouts.databases["reports"]
    assert (reports.query, reports.client_idle, reports.transaction) == (600, 0.5, 900)
    assert (reports.idle_in_transaction, reports.client_login) == (None, None)
    assert config.timeouts.users["batch"].query == 0
    assert dict(leaves(config))["timeouts.users"] is config.timeouts.users
    assert toml_text(config.timeouts.users) == "{ batch = { query = 0 } }"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[timeouts.users]\na = { query = -1 }",
            "timeouts.users.a.query: -1 is not accepted; accepted: seconds, or 0 for no limit",
        ),
        (
            '[timeouts.databases]\na = { query = "5" }',
            'timeouts.databases.a.query: "5" is not accepted; accepted: seconds, or 0 for no limit',
        ),
        (
            "[timeouts.databases]\na = { client_idel = 5 }",
            "timeouts.databases.a.client_idel: is no key; did you mean client_idle?",
        ),
        (
            "[timeouts.databases]\npgbouncer = { query = 5 }",
            "timeouts.databases.pgbouncer: is the admin console, which has none of them",
        ),
        (
            "[listen]\ntcp_keepalive_count = 128",
            "listen.tcp_keepalive_count: 128 is not accepted; "
            "accepted: a whole number up to 127, or 0 for the system's default",
        ),
        (
            "[server]\ntcp_keepalive_idle = 0.5",
            "server.tcp_keepalive_idle: 0.5 is not accepted; "
            "accepted: a whole number of seconds up to 32767, or 0 for the system's default",
        ),
    ],
)
def test_a_fault_in_a_time_limit(path: Path, text: str, fault: str) -> None:
    path.write_text(f"{BACKENDS}{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert f"{path}: {fault}" in caught.value.faults


def test_exceptions_have_their_origins(path: Path) -> None:
    path.write_text(BACKENDS + '[pool.databases]\n"My db" = { mode = "statement" }\n')
    environment = {"PGPROXY_POOL__DATABASES": '{"shop": {"mode": "session"}}'}
    (shown,) = [one for one in origins(path, environment) if one.key == "pool.databases"]
    assert shown.value == '{ "My db" = { mode = "statement" }, shop = { mode = "session" } }'
    assert shown.origin == f"environment PGPROXY_POOL__DATABASES and file {path}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            'a = { mode = "sesion" }',
            'a.mode: "sesion" is not accepted; accepted: "transaction", "session", "statement"',
        ),
        ("a = { size = 0 }", "a.size: 0 is not accepted; accepted: a whole number, 1 or more"),
        ("a = { min_size = 21 }", "a.min_size: 21 is more than pool.size = 20"),
        ("a = { size = 3, min_size = 4 }", "a.min_size: 4 is more than pool.databases.a.size = 3"),
        (
            "a = { max_connections = 2, guaranteed_size = 3 }",
            "a.guaranteed_size: 3 is more than pool.databases.a.max_connections = 2",
        ),
        ('a = { mod = "session" }\n', "a.mod: is no key; did you mean mode?"),
        (
            'a = "session"',
            'a: "session" is not accepted; accepted: a table for each name such as '
            '{ reports = { mode = "session" } }',
        ),
        ('pgproxy = { mode = "session" }', "pgproxy: is the admin console, which has no pool"),
    ],
)
def test_a_fault_in_an_exception(path: Path, text: str, fault: str) -> None:
    path.write_text(f"{BACKENDS}[pool.databases]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert f"{path}: pool.databases.{fault}" in caught.value.faults


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGPROXY_SERVICE_HOST", "10.96.0.7"),
        ("PGPROXY_SERVICE_PORT_POSTGRES", "5432"),
        ("PGPROXY_PORT", "tcp://10.96.0.7:5432"),
        ("PGPROXY_PORT_5432_TCP_ADDR", "10.96.0.7"),
        ("PGPROXY_HTTP_PORT", "tcp://10.96.0.8:9930"),
        ("PGPROXY_HTTP_SERVICE_HOST", "10.96.0.8"),
        ("PGPROXY_HTTP_PORT_9930_TCP", "tcp://10.96.0.8:9930"),
        ("PGPROXY_INTERPRETED", "1"),
        ("POOL__SIZE", "7"),
    ],
)
def test_variables_that_are_not_configuration_are_left_alone(name: str, value: str) -> None:
    assert load(None, ENVIRONMENT | {name: value}) == load(None, ENVIRONMENT)


# Paths


def test_relative_paths_are_relative_to_the_file(path: Path) -> None:
    (path.parent / "people").write_text("")
    path.write_text(BACKENDS.replace("[auth]", '[auth]\nusers_file = "people"'))
    assert load(path, {}).auth.users_file == path.parent / "people"
    path.write_text(BACKENDS)
    assert load(path, {}).auth.users_file == path.parent / "users.txt"


def test_an_absolute_path_stays_and_an_empty_one_is_none(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    environ = {"PGPROXY_HEALTH__PASSWORD_FILE": str(secret), "PGPROXY_AUTH__USERS_FILE": ""}
    config = loaded(path, "", environ)
    assert config.health.password_file == secret
    assert config.auth.users_file is None


# Faults: one line each, with the origin, the key and what is accepted


def test_every_fault_is_told_at_once_with_its_own_origin(path: Path) -> None:
    lines = refused(
        path,
        '[pool]\nsize = 0\nmode = "fast"\n[listen]\nport = "5432"\n',
        {"PGPROXY_POOL__WAIT_TIMEOUT": "soon"},
    )
    assert set(lines) == {
        'PGPROXY_POOL__WAIT_TIMEOUT: pool.wait_timeout: "soon" is not accepted; '
        "accepted: seconds, or 0 for no limit",
        f'{path}: listen.port: "5432" is not accepted; '
        "accepted: a port, 1 to 65535, or 0: the system picks",
        f'{path}: pool.mode: "fast" is not accepted; '
        'accepted: "transaction", "session", "statement"',
        f"{path}: pool.size: 0 is not accepted; accepted: a whole number, 1 or more",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[pool]\nsise = 5\n", "pool.sise: is no key; did you mean size?"),
        ("[poll]\nsize = 5\n", "poll: is no key; did you mean pool?"),
        ("[log]\nzzz = 5\n", "log.zzz: is no key; accepted here: level, format, rate"),
        ("pool = 5\n", "pool: 5 is not accepted; accepted: a table"),
        (
            "[[discovery.backends]]\nhots = 'a'\nhost = 'b'\n",
            "discovery.backends[1].hots: is no key; did you mean host?",
        ),
        (
            "[[discovery.backends]]\nport = 6000\n",
            "discovery.backends[1].host: is missing; accepted: a text that is not empty",
        ),
        (
            "[[discovery.backends]]\nhost = 'a'\nrole = 'boss'\n",
            'discovery.backends[1].role: "boss" is not accepted; '
            'accepted: "auto", "primary", "replica"',
        ),
        (
            "[[discovery.backends]]\nhost = 'db1'\n",
            "discovery.backends[1]: db1:5432 is backends[0] already",
        ),
    ],
)
def test_a_fault_in_the_file(path: Path, text: str, line: str) -> None:
    path.write_text(text + BACKENDS if text.startswith("pool =") else BACKENDS + text)
    assert faults(path) == [f"{path}: {line}"]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "PGPROXY_POOL__SISE",
            "5",
            "pool.sise: is no key; did you mean PGPROXY_POOL__SIZE?",
        ),
        (
            "PGPROXY_POOL_SIZE",
            "5",
            "is no key; section and key are divided by two underscores; "
            "did you mean PGPROXY_POOL__SIZE?",
        ),
        (
            "PGPROXY_REPLICATION__ALLOW",
            "yes",
            'replication.allow: "yes" is not accepted; accepted: true or false',
        ),
        (
            "PGPROXY_AUTH__ADMIN_USERS",
            "alice",
            'auth.admin_users: is not JSON; accepted: a list of texts such as ["alice", "bob"], '
            "as JSON",
        ),
        (
            "PGPROXY_DISCOVERY__BACKENDS",
            '[{"host": "a", "port": "x"}]',
            'discovery.backends[0].port: "x" is not accepted; accepted: a port, 1 to 65535',
        ),
        (
            "PGPROXY_LISTEN__WORKERS",
            "400",
            "listen.workers: 400 is not accepted; accepted: a whole number from 1 to 64",
        ),
    ],
)
def test_a_fault_in_the_environment(name: str, value: str, line: str) -> None:
    assert faults(None, ENVIRONMENT | {name: value}) == [f"{name}: {line}"]


def test_a_file_that_is_missing_or_no_toml_is_one_fault(path: Path) -> None:
    assert faults(path) == [f"{path}: cannot be read: No such file or directory"]
    path.write_text("[pool\n")
    (line,) = faults(path)
    assert line.startswith(f"{path}: is not TOML: ")
    assert "line 1" in line
    path.write_bytes(b"\xff")
    assert faults(path) == [f"{path}: is not UTF-8 text, as TOML must be"]


def test_no_backend_is_a_fault_that_says_how_to_name_one() -> None:
    (line,) = faults(None, {"PGPROXY_AUTH__METHOD": "trust"})
    assert line.startswith("PGPROXY_DISCOVERY__BACKENDS: discovery.backends: names no PostgreSQL")


def test_log_in_by_password_needs_the_file_of_users(path: Path) -> None:
    path.write_text(BACKENDS.replace("trust", "md5"))
    assert faults(path) == [
        f"{path}: auth.users_file: {path.parent / 'users.txt'} cannot be read: "
        "No such file or directory; accepted: a readable file"
    ]
    (line,) = faults(path, {"PGPROXY_AUTH__USERS_FILE": ""})
    assert line.startswith('PGPROXY_AUTH__USERS_FILE: auth.users_file: auth.method = "md5" needs')


def test_a_file_of_users_that_is_named_must_be_there_also_with_trust(path: Path) -> None:
    (line,) = refused(path, "", {"PGPROXY_AUTH__USERS_FILE": "nobody.txt"})
    assert line.startswith("PGPROXY_AUTH__USERS_FILE: auth.users_file: ")


def test_one_port_cannot_serve_both_protocols(path: Path) -> None:
    (line,) = refused(path, "[listen]\nport = 7000\n[http]\nport = 7000\n")
    assert line == f"{path}: http.port: 7000 is listen.port too; choose another"
    assert loaded(path, "[listen]\nport = 0\n[http]\nport = 0\n").http.port == 0


def test_two_passwords_for_the_monitor_are_one_too_many(path: Path) -> None:
    (path.parent / "secret").write_text("x")
    (line,) = refused(path, '[health]\npassword = "hunter2"\npassword_file = "secret"\n')
    assert line.startswith(f"{path}: health.password: ")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_in_a_variable_is_without_the_end_of_its_line(path: Path, end: str) -> None:
    path.write_text(BACKENDS)
    health = load(path, {"PGPROXY_HEALTH__PASSWORD": f" hunter2 {end}"}).health
    assert health.password.get_secret_value() == " hunter2 "


def test_a_secret_is_not_shown_in_a_fault(path: Path) -> None:
    (line,) = refused(path, "[health]\npassword = 1234567\n")
    assert "1234567" not in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '[auth]\nmethod = "trust"\nquery = "SELECT 1"\n',
            'auth.query: "SELECT 1" is not available yet; now: ""',
        ),
    ],
)
def test_what_is_not_built_yet_is_refused_and_not_ignored(path: Path, text: str, line: str) -> None:
    backends = '\n[[discovery.backends]]\nhost = "db1"\n'
    path.write_text(text + backends)
    assert faults(path) == [f"{path}: {line}"]


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('[listen]\ntls_mode = "require"\n', "listen.tls_cert_file", "needs one"),
        ('[listen]\ntls_key_file = "{file}"\n', "listen.tls_key_file", "needs listen.tls_cert"),
        ('[listen]\ntls_ca_file = "{file}"\n', "listen.tls_ca_file", "is not used with"),
        (
            '[listen]\ntls_mode = "verify-ca"\ntls_cert_file = "{file}"\n',
            "listen.tls_ca_file",
            "needs one",
        ),
        ('[listen]\ntls_cert_file = "nowhere.pem"\n', "listen.tls_cert_file", "nowhere.pem"),
        (
            '[server]\ntls_mode = "verify-ca"\ntls_ca_file = "nowhere.pem"\n',
            "server.tls_ca_file",
            "nowhere.pem",
        ),
        ('[server]\ntls_mode = "verify-ca"\n', "server.tls_ca_file", "needs one"),
        ('[server]\ntls_ca_file = "{file}"\n', "server.tls_ca_file", "is not used with"),
        ('[server]\ntls_server_name = "db"\n', "server.tls_server_name", "is not used with"),
        ('[server]\ntls_key_file = "{file}"\n', "server.tls_key_file", "needs server.tls_cert"),
        ('[server]\ntls_mode = "always"\n', "server.tls_mode", '"verify-full"'),
    ],
)
def test_what_tls_needs(path: Path, text: str, key: str, words: str) -> None:
    backends = '[auth]\nmethod = "trust"\n[[discovery.backends]]\nhost = "db1"\n'
    path.write_text(text.format(file=path) + backends)
    [line] = faults(path)
    assert line.startswith(f"{path}: {key}: ")
    assert words in line


def test_log_in_by_certificate_needs_certificates(path: Path) -> None:
    path.write_text('[auth]\nmethod = "cert"\n[[discovery.backends]]\nhost = "db1"\n')
    [line] = faults(path)
    assert line.startswith(f'{path}: auth.method: "cert" needs certificates')


# Origins


def test_every_value_has_its_origin_and_secrets_are_masked(path: Path) -> None:
    path.write_text(BACKENDS + '[health]\npassword = "hunter2"\n')
    environ = {"PGPROXY_POOL__SIZE": "9", "PGPROXY_DISCOVERY__KUBERNETES": '{"cluster": "c"}'}
    found = {item.key: (item.value, item.origin) for item in origins(path, environ)}
    assert found["pool.size"] == ("9", "environment PGPROXY_POOL__SIZE")
    assert found["pool.min_size"] == ("0", "default")
    assert found["pool.lifetime"] == ("3600", "default")
    assert found["auth.method"] == ('"trust"', f"file {path}")
    assert found["health.password"] == ('"********"', f"file {path}")
    assert found["discovery.kubernetes.cluster"] == (
        '"c"',
        "environment PGPROXY_DISCOVERY__KUBERNETES",
    )
    assert found["discovery.kubernetes.port"] == ('""', "default")
    assert found["discovery.backends"][0].startswith('[{ host = "db1", port = 5432, ')


def test_the_effective_values_are_toml(path: Path) -> None:
    path.write_text(BACKENDS)
    lines = [f"{item.key} = {item.value}" for item in origins(path, {})]
    assert tomllib.loads("\n".join(lines))["discovery"]["backends"][0]["host"] == "db1"


# Rules of routing


def test_rules_are_read_in_their_order(path: Path) -> None:
    config = loaded(
        path,
        '[[routing.rules]]\nuser = "batch_.*"\nroute = "replica"\n'
        '[[routing.rules]]\nstatement = "(?i)from balances"\nroute = "primary"\n',
    )
    assert [(rule.user, rule.statement, rule.route) for rule in config.routing.rules] == [
        ("batch_.*", "", "replica"),
        ("", "(?i)from balances", "primary"),
    ]


def test_rules_can_come_from_the_environment(path: Path) -> None:
    config = loaded(path, "", {"PGPROXY_ROUTING__RULES": '[{"database": "d", "route": "replica"}]'})
    assert config.routing.rules[0].database == "d"


@pytest.mark.parametrize(
    ("rule", "key", "accepted"),
    [
        ('user = "("', "routing.rules[0].user", '"(" is no regular expression: missing )'),
        ('statement = "*"', "routing.rules[0].statement", "is no regular expression: nothing to"),
        ("", "routing.rules[0]", "accepted: at least one of database, user, application_name, st"),
        ('usr = "a"', "routing.rules[0].usr", "is no key; did you mean user?"),
    ],
)
def test_a_faulty_rule_is_refused(path: Path, rule: str, key: str, accepted: str) -> None:
    (line,) = refused(path, f'[[routing.rules]]\nroute = "primary"\n{rule}\n')
    assert line.startswith(f"{path}: {key}: ")
    assert accepted in line


def test_a_rule_needs_a_route_that_there_is(path: Path) -> None:
    (line,) = refused(path, '[[routing.rules]]\nuser = "a"\n')
    assert (
        line
        == f'{path}: routing.rules[0].route: is missing; accepted: "auto", "primary", "replica"'
    )
    (line,) = refused(path, '[[routing.rules]]\nuser = "a"\nroute = "standby"\n')
    assert 'routing.rules[0].route: "standby" is not accepted' in line
