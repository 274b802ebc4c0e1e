import errno
import json
import re
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import pgproxy
from pgproxy import _compiled
from pgproxy.cli import cli
from pgproxy.config import Config
from pgproxy.errors import ConfigError

pytestmark = pytest.mark.once

BACKENDS = '[auth]\nmethod = "trust"\n[[discovery.backends]]\nhost = "db1"\n'
Serve = Callable[[BaseException | None], list[Config]]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pgproxy.toml"
    path.write_text(BACKENDS)
    return path


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Puts an application in place that ends as told, and returns what it was given."""

    def place(end: BaseException | None) -> list[Config]:
        given: list[Config] = []

        async def serve(config: Config) -> None:
            given.append(config)
            if end is not None:
                raise end

        stub = types.SimpleNamespace(serve=serve)
        monkeypatch.setitem(sys.modules, "pgproxy.app", stub)  # type: ignore[arg-type]
        monkeypatch.setattr("pgproxy.telemetry.logs.configure", lambda *_, **__: None)
        return given

    return place


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """What `serve` does with a signal holds for its process, which here is that of the tests."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


# --version


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("compiled", "compiled"),
        ("interpreted (not compiled)", "interpreted: not compiled"),
        ("interpreted (relay.py (old) differs)", "interpreted: relay.py (old) differs"),
    ],
)
def test_the_version_says_whether_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch, mode: str, shown: str
) -> None:
    monkeypatch.setattr(_compiled, "mode", lambda: mode)
    result = run("--version")
    assert result.output == f"pgproxy {pgproxy.__version__} ({shown})\n"
    assert result.exit_code == 0


def test_the_module_runs_as_the_command_and_the_version_loads_little() -> None:
    code = (
        "import sys; sys.argv = ['pgproxy', '--version']\n"
        "import runpy\n"
        "try: runpy.run_module('pgproxy', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    version, loaded = done.stdout.splitlines()
    assert re.fullmatch(r"pgproxy [0-9.]+ \((compiled|interpreted: .+)\)", version)
    assert not {"pydantic", "asyncpg", "aiohttp", "uvloop", "pglast"} & set(loaded.split())


# check


def test_check_shows_each_value_with_its_origin(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPROXY_POOL__SIZE", "9")
    result = run("check", "--config", path)
    assert result.exit_code == 0, result.output
    lines = [re.sub(r" +# ", " # ", line) for line in result.stdout.splitlines()]
    assert "pool.size = 9 # environment PGPROXY_POOL__SIZE" in lines
    assert f'auth.method = "trust" # file {path}' in lines
    assert "pool.lifetime = 3600 # default" in lines


def test_check_shows_what_a_preset_comes_to(path: Path) -> None:
    path.write_text(
        '[auth]\nmethod = "trust"\n[discovery]\nmode = "kubernetes"\n'
        '[discovery.kubernetes]\npreset = "zalando"\ncluster = "main"\n'
    )
    result = run("check", "--config", path)
    assert result.exit_code == 0, result.output
    assert (
        "# pods: application=spilo,cluster-name=main; port 5432; spilo-role=master is the primary,"
        " =replica a replica" in result.stdout.splitlines()
    )
    assert run("route", "--config", path, "SELECT 1").exit_code == 0


@pytest.mark.parametrize(
    ("mode", "table", "line"),
    [
        (
            "patroni",
            'urls = ["http://a:8008", "http://b:8008/"]',
            "# members: GET /cluster of http://a:8008 or http://b:8008 and of whom that names, every "
            "2 s",
        ),
        (
            "dns",
            'names = ["pg", "_pg._tcp.db"]',
            "# addresses: pg, _pg._tcp.db of the nameservers of /etc/resolv.conf",
        ),
        (
            "dns",
            'names = ["pg"]\nnameservers = ["10.0.0.1", "10.0.0.2:53"]',
            "# addresses: pg of 10.0.0.1 or 10.0.0.2:53",
        ),
    ],
)
def test_check_shows_who_will_be_asked(path: Path, mode: str, table: str, line: str) -> None:
    path.write_text(
        f'[auth]\nmethod = "trust"\n[discovery]\nmode = "{mode}"\n[discovery.{mode}]\n{table}\n'
    )
    result = run("check", "--config", path)
    assert result.exit_code == 0, result.output
    assert line in result.stdout.splitlines()
    assert run("route", "--config", path, "SELECT 1").exit_code == 0


def test_check_prints_a_line_for_each_fault_and_exits_with_2(path: Path) -> None:
    path.write_text(BACKENDS + "[pool]\nsise = 5\nmode = 'fast'\n")
    result = run("check", "--config", path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sorted(line.split(" ")[1] for line in result.stderr.splitlines()) == [
        "pool.mode:",
        "pool.sise:",
    ]


def test_check_reads_the_file_of_users_too(path: Path) -> None:
    users = path.parent / "users.txt"
    users.write_text('"alice" "secret"\n"bob\n')
    result = run("check", "--config", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{users}: line 2: ")
    users.write_bytes(b'"\xff" "x"\n')
    assert run("check", "--config", path).stderr == f"{users}: is not UTF-8 text\n"
    users.write_text('"alice" "secret"\n')
    assert run("check", "--config", path).exit_code == 0


def test_check_says_where_users_are_from_and_no_password(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "users.txt").write_text('"one" "hunter2"\n"two" "hunter2"\n')
    folder = path.parent / "reports"
    folder.mkdir()
    (folder / "username").write_text("reports\n")
    (folder / "password").write_text("hunter2\n")
    path.write_text(
        BACKENDS.replace(
            "[[", 'users_file = "users.txt"\nusers_env = ["APP"]\nusers_dirs = ["reports"]\n[['
        )
    )
    monkeypatch.setenv("APP_USERNAME", "app")
    monkeypatch.setenv("APP_PASSWORD", "hunter2")
    result = run("check", "--config", path)
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if line.startswith("# user")] == [
        f"# users: 2 of file {path.parent / 'users.txt'}",
        '# user "app" (plain password): environment APP_USERNAME, APP_PASSWORD',
        f'# user "reports" (plain password): folder {folder}',
    ]
    assert "hunter2" not in result.output
    monkeypatch.setenv("APP_USERNAME", "two")
    result = run("check", "--config", path)
    assert result.exit_code == 2
    assert result.stderr.startswith('auth.users_env[0]: user "two" is in file ')


def test_the_environment_can_name_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPROXY_CONFIG", str(path))
    assert f"# file {path}" in run("check").stdout


def test_a_file_that_is_not_there_is_a_line_and_no_usage(tmp_path: Path) -> None:
    result = run("serve", "--config", tmp_path / "nothing.toml")
    assert result.exit_code == 2
    expected = f"{tmp_path / 'nothing.toml'}: cannot be read: No such file or directory\n"
    assert result.stderr == expected


# label


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_label_hands_the_configuration_to_its_application(
    path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    given = []

    async def label(config: Config, *, dry_run: bool) -> None:
        given.append((config.discovery.kubernetes.selector, dry_run))

    stub = types.SimpleNamespace(label=label)
    monkeypatch.setitem(sys.modules, "pgproxy.label.app", stub)  # type: ignore[arg-type]
    monkeypatch.setattr("pgproxy.telemetry.logs.configure", lambda *_, **__: None)
    path.write_text(
        '[discovery]\nmode = "kubernetes"\n[discovery.kubernetes]\nselector = "app=db"\n'
    )
    result = run("label", "--config", path, *options)
    assert result.exit_code == 0, result.output
    assert given == [("app=db", bool(options))]


def test_label_says_what_it_needs(path: Path) -> None:
    result = run("label", "--config", path)
    assert result.exit_code == 2
    assert 'discovery.mode: "static" names no pods' in result.stderr


# serve


def test_serve_hands_the_configuration_to_the_application(path: Path, serving: Serve) -> None:
    given = serving(None)
    result = run("serve", "--config", path)
    assert result.exit_code == 0, result.output
    assert [config.discovery.backends[0].host for config in given] == ["db1"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.EADDRINUSE, "port 5432: address already in use"),
            "pgproxy: cannot listen: port 5432: address already in use; another program has",
        ),
        (
            PermissionError(errno.EACCES, "port 80: permission denied"),
            "pgproxy: cannot listen: port 80: permission denied; ports below 1024 are",
        ),
        (
            OSError(errno.EADDRNOTAVAIL, "10.9.9.9: cannot assign requested address"),
            "pgproxy: cannot listen: 10.9.9.9: cannot assign requested address; listen.host and",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "pgproxy: cannot listen: Name or service not known; listen.host or http.host is",
        ),
    ],
)
@pytest.mark.parametrize("depth", [0, 2])
def test_a_port_that_cannot_be_had_is_one_line_of_advice(
    path: Path, serving: Serve, error: OSError, line: str, depth: int
) -> None:
    end: Exception = error
    for _ in range(depth):
        end = ExceptionGroup("unhandled errors in a TaskGroup", [end])
    serving(end)
    result = run("serve", "--config", path)
    assert result.exit_code == 1
    (told,) = result.stderr.splitlines()
    assert told.startswith(line)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_fault_found_while_starting_is_told_as_one_of_the_configuration(
    path: Path, serving: Serve, depth: int
) -> None:
    end: Exception = ConfigError(["users.txt: line 2: no"])
    serving(ExceptionGroup("x", [end]) if depth else end)
    result = run("serve", "--config", path)
    assert (result.exit_code, result.stderr) == (2, "users.txt: line 2: no\n")


@pytest.mark.parametrize(
    "bug",
    [
        ZeroDivisionError("a bug"),
        OSError(errno.EBADF, "a bug"),
        ExceptionGroup("x", [ValueError(), OSError()]),
    ],
)
def test_a_bug_of_ours_is_not_dressed_up(path: Path, serving: Serve, bug: Exception) -> None:
    serving(bug)
    assert run("serve", "--config", path).exception is bug


# route and demo


def test_route_explains_without_any_configuration() -> None:
    result = run("route", "SELECT 1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["target", "replica"]
    assert json.loads(run("route", "--json", "DROP TABLE t").stdout)["target"] == "primary"


def test_route_heeds_the_rules_of_a_configuration(path: Path) -> None:
    path.write_text(
        BACKENDS + '[[routing.rules]]\nstatement = "FROM t"\nroute = "primary"\n'
        '[[routing.rules]]\nuser = "batch"\napplication_name = "night.*"\nroute = "replica"\n'
    )
    told = run("route", "--config", path, "SELECT * FROM t").stdout
    assert 'rule     primary: rule 1: statement "FROM t"' in told
    options = ("--user", "batch", "--application-name", "nightly", "--database", "d")
    found = json.loads(run("route", "--config", path, "--json", *options, "SELECT f(1)").stdout)
    assert (found["target"], found["reason"]) == ("replica", "rule")
    assert found["rule"]["number"] == 2
    found = json.loads(run("route", "--config", path, "--json", "SELECT f(1)").stdout)
    assert (found["target"], found["rule"]) == ("primary", None)


def test_route_obeys_the_limits_of_a_configuration(path: Path) -> None:
    path.write_text(BACKENDS + "[routing]\nparse_limit = 5\n")
    found = json.loads(run("route", "--config", path, "--json", "SELECT 1").stdout)
    assert found["target"] == "primary"


def test_demo_says_what_is_missing_instead_of_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgproxy.embedded import EmbeddedError

    def run_demo(replicas: int, port: int) -> None:
        raise EmbeddedError(f"no PostgreSQL for {replicas} replicas on {port}")

    stub = types.SimpleNamespace(run_demo=run_demo)
    monkeypatch.setitem(sys.modules, "pgproxy.demo", stub)  # type: ignore[arg-type]
    result = run("demo", "--replicas", 3, "--port", 7000)
    assert result.exit_code == 1
    assert result.stderr == "pgproxy: no PostgreSQL for 3 replicas on 7000\n"


def test_demo_on_a_port_that_is_taken_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_demo(_replicas: int, _port: int) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    stub = types.SimpleNamespace(run_demo=run_demo)
    monkeypatch.setitem(sys.modules, "pgproxy.demo", stub)  # type: ignore[arg-type]
    result = run("demo", "--port", 7000)
    assert result.exit_code == 1
    assert result.stderr.startswith("pgproxy: cannot listen: Address already in use; choose")


def test_only_commands_that_exist_are_offered() -> None:
    offered = [name for name, command in cli.commands.items() if not command.hidden]
    assert sorted(offered) == ["check", "demo", "label", "route", "serve"]
