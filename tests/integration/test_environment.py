"""A proxy that is configured by its environment alone, with its passwords in variables and Secrets."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgproxy.embedded import Cluster
from tests.support.place import cluster_parent
from tests.support.proxy import HOST, ProxyProcess
from tests.support.watch import eventually

pytestmark = pytest.mark.once

ROLES = {"app": "s3cret ü", "reports": "other'\"x", "monitor": "watch=er"}
HBA = ["host all postgres all trust", "host all all all scram-sha-256"]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    with Cluster.create(0, hba=HBA, directory=cluster_parent()) as cluster:
        for user, password in ROLES.items():
            literal = password.replace("'", "''")
            cluster.primary.psql(f"CREATE ROLE {user} LOGIN PASSWORD '{literal}'")
        yield cluster


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The folder of a mounted Secret."""
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "username").write_text("reports")
    (folder / "password").write_text(ROLES["reports"])
    return folder


def environment(cluster: Cluster, secret: Path, **more: str) -> dict[str, str]:
    server = cluster.primary
    return {
        "PGPROXY_LISTEN__HOST": HOST,
        "PGPROXY_LISTEN__PORT": "0",
        "PGPROXY_LISTEN__DRAIN_ACCEPT_SECONDS": "0",
        "PGPROXY_HTTP__HOST": HOST,
        "PGPROXY_HTTP__PORT": "0",
        "PGPROXY_LOG__FORMAT": "json",
        "PGPROXY_DISCOVERY__BACKENDS": json.dumps([{"host": server.host, "port": server.port}]),
        "PGPROXY_POOL__USERS": '{"reports": {"size": 2}}',
        "PGPROXY_AUTH__USERS_ENV": '["APP"]',
        "APP_USERNAME": "app",
        "APP_PASSWORD": ROLES["app"],
        "PGPROXY_AUTH__USERS_DIRS": json.dumps([str(secret)]),
        "PGPROXY_HEALTH__USER_ENV": "MONITOR",
        "MONITOR_USERNAME": "monitor",
        "MONITOR_PASSWORD": ROLES["monitor"],
    } | more


def who_is_there(proxy: ProxyProcess, user: str, password: str) -> str:
    with psycopg.connect(
        host=proxy.host, port=proxy.port, user=user, password=password, dbname="postgres"
    ) as connection:
        row = connection.execute("SELECT current_user, txid_current()").fetchone()
        assert row is not None
        return str(row[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_variables_are_all_it_needs(guarded: Cluster, secret: Path, workers: int) -> None:
    more = {"PGPROXY_LISTEN__WORKERS": str(workers)}
    proxy = ProxyProcess("", environment=environment(guarded, secret, **more))
    proxy.wait_started()
    with proxy:
        for user in ("app", "reports"):
            assert who_is_there(proxy, user, ROLES[user]) == user
            with pytest.raises(psycopg.OperationalError, match="authentication failed"):
                who_is_there(proxy, user, "wrong")
        # The monitor's own log-in must have worked, or there would be no primary.
        asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'monitor'"
        assert int(guarded.primary.psql(asked)) >= 1
        assert not any(password in proxy.stderr for password in ROLES.values())


async def test_a_secret_that_is_rotated_takes_effect(guarded: Cluster, secret: Path) -> None:
    guarded.primary.psql("CREATE ROLE rotated LOGIN PASSWORD 'one'")
    for name, text in (("username", "rotated\n"), ("password", "one\n")):
        (secret / name).write_text(text)
    proxy = ProxyProcess("", environment=environment(guarded, secret))
    proxy.wait_started()
    with proxy:
        assert who_is_there(proxy, "rotated", "one") == "rotated"
        guarded.primary.psql("ALTER ROLE rotated PASSWORD 'two'")
        (secret / "password.new").write_text("two\n")
        (secret / "password.new").rename(secret / "password")
        await eventually(lambda: len(proxy.events("users_read")) > 0)
        assert await asyncio.to_thread(who_is_there, proxy, "rotated", "two") == "rotated"
        (secret / "password").write_text("")
        await eventually(lambda: len(proxy.events("users_unusable")) > 0)
        assert who_is_there(proxy, "rotated", "two") == "rotated"


def test_half_a_pair_ends_it_with_a_line(guarded: Cluster, secret: Path) -> None:
    environ = environment(guarded, secret, APP_PASSWORD="")
    done = subprocess.run(
        [sys.executable, "-m", "pgproxy", "serve"],
        check=False,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "PGPROXY_AUTH__USERS_ENV: auth.users_env[0]: APP_PASSWORD is empty; accepted: APP_USERNAME"
        " and APP_PASSWORD with the name of a user and the password\n"
    )
